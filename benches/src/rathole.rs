//! What rathole encrypts with: the part of its configuration that differs between its subjects, and the keys that it names.

use std::path::Path;
use std::process::Command;

use crate::fault::Fault;
use crate::knock::START_DEADLINE;
use crate::process;
use crate::subject::Subject;

/// Whom the certificate is for; the client asks for it by this name, whatever the server's address is.
const HOST: &str = "localhost";

/// What the server's key is locked with.
const PASSWORD: &str = "bench";

/// The end of both configuration files.
#[derive(Debug, Default)]
pub struct Transport {
    /// Of the server's.
    pub server: String,
    /// Of the client's.
    pub client: String,
}

/// Makes keys for `subject` in `directory`; plain rathole needs none.
///
/// # Errors
/// When `program` makes no keys, or the `openssl` command no certificate.
pub async fn transport(subject: Subject, program: &Path, directory: &Path) -> Result<Transport, Fault> {
    match subject {
        Subject::RatholeNoise => noise(program).await,
        Subject::RatholeTls => tls(directory).await,
        _ => Ok(Transport::default()),
    }
}

async fn noise(program: &Path) -> Result<Transport, Fault> {
    let mut generate = Command::new(program);
    generate.arg("--genkey");
    let text = process::output(generate, START_DEADLINE).await?.stdout;
    let key = |title: &str| {
        let key = text.lines().skip_while(|line| line.trim() != title).nth(1);
        key.map(str::trim)
            .ok_or_else(|| Fault::Failed(format!("rathole --genkey prints no {title}")))
    };
    let (private, public) = (key("Private Key:")?, key("Public Key:")?);
    let section = |side: &str, key: &str| {
        format!(
            "[{side}.transport]\ntype = \"noise\"\n\
             [{side}.transport.noise]\npattern = \"Noise_NK_25519_ChaChaPoly_BLAKE2s\"\n{key}\n"
        )
    };
    Ok(Transport {
        server: section("server", &format!("local_private_key = \"{private}\"")),
        client: section("client", &format!("remote_public_key = \"{public}\"")),
    })
}

async fn tls(directory: &Path) -> Result<Transport, Fault> {
    let [key, certificate, identity] = ["key.pem", "certificate.pem", "identity.p12"].map(|name| directory.join(name));
    let mut make = Command::new("openssl");
    // A curve rather than RSA, which rathole's own example has: signing costs the server less.
    make.args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
    ]);
    make.args(["-nodes", "-days", "30", "-subj", &format!("/CN={HOST}")]);
    make.args(["-addext", &format!("subjectAltName=DNS:{HOST}")]);
    make.arg("-keyout").arg(&key).arg("-out").arg(&certificate);
    process::output(make, START_DEADLINE).await?;
    let mut pack = Command::new("openssl");
    pack.args(["pkcs12", "-export", "-passout", &format!("pass:{PASSWORD}")]);
    pack.arg("-inkey").arg(&key).arg("-in").arg(&certificate);
    pack.arg("-out").arg(&identity);
    process::output(pack, START_DEADLINE).await?;
    Ok(Transport {
        server: format!(
            "[server.transport]\ntype = \"tls\"\n\
             [server.transport.tls]\npkcs12 = {identity:?}\npkcs12_password = \"{PASSWORD}\"\n"
        ),
        client: format!(
            "[client.transport]\ntype = \"tls\"\n\
             [client.transport.tls]\ntrusted_root = {certificate:?}\nhostname = \"{HOST}\"\n"
        ),
    })
}
