//! TLS for the link: version 1.3 only, post-quantum key exchange first, and a relay that is always verified.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use spawnpoint_proto::{ALPN, CertificateHash, Trust};

use crate::identity::{Identity, certificate_hash};

/// The cryptography of every link: aws-lc-rs with X25519MLKEM768 before the classical groups. AES-128 comes before AES-256, since it costs less
/// and 128 bits are plenty for game traffic, and before ChaCha20 where the processor knows AES.
///
/// Relays take the agent's first choice, so an agent without AES in its processor is spared its cost.
fn provider() -> Arc<CryptoProvider> {
    use aws_lc_rs::cipher_suite::{TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256};
    let mut cipher_suites = vec![
        TLS13_AES_128_GCM_SHA256,
        TLS13_AES_256_GCM_SHA384,
        TLS13_CHACHA20_POLY1305_SHA256,
    ];
    if !knows_aes() {
        cipher_suites.rotate_right(1);
    }
    Arc::new(CryptoProvider {
        cipher_suites,
        ..aws_lc_rs::default_provider()
    })
}

/// Whether the processor has instructions for AES; without, ChaCha20 costs a fraction of it.
fn knows_aes() -> bool {
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    return std::arch::is_x86_feature_detected!("aes");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("aes");
    #[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
    return false;
}

/// The certificate that a relay shows; it can be replaced while the relay runs.
#[derive(Debug)]
pub struct ShownCertificate(RwLock<Arc<CertifiedKey>>);

impl ShownCertificate {
    /// Shows `identity`.
    ///
    /// # Errors
    /// When the key does not fit the certificate or is of an unknown kind.
    pub fn new(identity: Identity) -> Result<Self, Error> {
        Ok(Self(RwLock::new(Arc::new(certified(identity)?))))
    }

    /// Shows `identity` from the next handshake on.
    ///
    /// # Errors
    /// As [`ShownCertificate::new`]; what was shown before stays then.
    pub fn replace(&self, identity: Identity) -> Result<(), Error> {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(certified(identity)?);
        Ok(())
    }
}

fn certified(identity: Identity) -> Result<CertifiedKey, Error> {
    let key = CertifiedKey::from_der(identity.chain, identity.key, &provider())?;
    key.keys_match()?;
    Ok(key)
}

impl ResolvesServerCert for ShownCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

/// The relay's TLS settings.
///
/// # Errors
/// Never in this build: the provider has TLS 1.3.
pub fn relay(shown: Arc<ShownCertificate>) -> Result<rustls::ServerConfig, Error> {
    let mut config = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_cert_resolver(shown);
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(config)
}

/// Why a relay's certificate was not accepted.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Distrust {
    /// It is not the one that the invite names.
    #[error(
        "the relay shows another certificate than the invite names (shown {shown}, expected {expected}): either the relay was set up anew, and you need a new invite, or somebody stands between you and it"
    )]
    OtherCertificate {
        /// What the relay showed.
        shown: CertificateHash,
        /// What the invite names.
        expected: CertificateHash,
    },
    /// The machine's authorities do not vouch for it.
    #[error("the relay's certificate is not trusted for this host name: {0}")]
    NotTrusted(String),
}

/// The agent's TLS settings, and where to look when a relay was not trusted.
///
/// # Errors
/// When the machine has no trusted authorities although the invite needs them.
pub fn agent(trust: Trust) -> Result<(rustls::ClientConfig, Arc<Verifier>), Error> {
    let provider = provider();
    let rule = match trust {
        Trust::Pin(hash) => Rule::Pin(hash, provider.clone()),
        Trust::Name => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
                .build()
                .map_err(|error| {
                    Error::General(format!("no trusted certificate authorities on this machine: {error}"))
                })?;
            Rule::Authorities(verifier)
        }
    };
    let verifier = Arc::new(Verifier {
        rule,
        distrust: Mutex::new(None),
    });
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier.clone())
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok((config, verifier))
}

/// Verifies a relay by pin or by the machine's authorities, and remembers why it did not.
pub struct Verifier {
    rule: Rule,
    distrust: Mutex<Option<Distrust>>,
}

enum Rule {
    Pin(CertificateHash, Arc<CryptoProvider>),
    Authorities(Arc<WebPkiServerVerifier>),
}

impl Verifier {
    /// Why the last relay was not trusted, if it was not.
    pub fn take_distrust(&self) -> Option<Distrust> {
        self.distrust.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn refuse(&self, distrust: Distrust, error: Error) -> Error {
        *self.distrust.lock().unwrap_or_else(PoisonError::into_inner) = Some(distrust);
        error
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier")
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match &self.rule {
            // The pin replaces name, date and authority: it says more than all of them.
            Rule::Pin(expected, _) => {
                let shown = certificate_hash(end_entity);
                if shown == *expected {
                    return Ok(ServerCertVerified::assertion());
                }
                let error = Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure);
                Err(self.refuse(
                    Distrust::OtherCertificate {
                        shown,
                        expected: *expected,
                    },
                    error,
                ))
            }
            Rule::Authorities(verifier) => verifier
                .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
                .map_err(|error| self.refuse(Distrust::NotTrusted(error.to_string()), error)),
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken here".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match &self.rule {
            Rule::Pin(_, provider) => rustls::crypto::verify_tls13_signature(
                message,
                certificate,
                signature,
                &provider.signature_verification_algorithms,
            ),
            Rule::Authorities(verifier) => verifier.verify_tls13_signature(message, certificate, signature),
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        match &self.rule {
            Rule::Pin(_, provider) => provider.signature_verification_algorithms.supported_schemes(),
            Rule::Authorities(verifier) => verifier.supported_verify_schemes(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_post_quantum_group_comes_first() {
        let first = provider().kx_groups[0].name();
        assert_eq!(first, rustls::NamedGroup::X25519MLKEM768);
    }
}
