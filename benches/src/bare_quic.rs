//! The QUIC library that ours is built on as a tunnel of its own, as small as can be: what QUIC itself costs.
//!
//! One process accepts TCP players and opens a stream for each, the other accepts streams and dials the origin; both copy. Its transport is as it comes but
//! for the windows, which are ours, or else bulk would be compared at different ones. No sessions, no datagrams, no limits, no resumption. Both roles are
//! this same program: the bench starts it with `--role NAME ...` instead of flags.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use quinn::{ClientConfig, Connection, Endpoint, EndpointConfig, ServerConfig, TokioRuntime, TransportConfig, VarInt};
use rustls::RootCertStore;
use rustls::pki_types::PrivatePkcs8KeyDer;
use spawnpoint_core::tuning::Tuning;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::fault::Fault;
use crate::origin;

/// Whom the certificate is for.
const HOST: &str = "localhost";

/// Bytes on the way to one peer at once, as ours allows.
const SEND_WINDOW: u64 = 64 * 1024 * 1024;

/// Players at once; more than any load has.
const PLAYERS: u32 = 2048;

/// The connection stays while others have their turn.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// What is copied at once; a smaller buffer costs more.
const BUFFER: usize = 64 * 1024;

/// Which half a process plays.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Role {
    /// Where players connect. Writes its certificate to a file, then says so.
    Relay {
        /// Where it awaits the agent.
        control: SocketAddr,
        /// Where it awaits players.
        players: SocketAddr,
        /// The file to write.
        certificate: PathBuf,
    },
    /// What dials the origin.
    Agent {
        /// Where the relay is.
        control: SocketAddr,
        /// Where the origin is.
        origin: SocketAddr,
        /// The file to read.
        certificate: PathBuf,
    },
}

impl Role {
    /// The role that the words after the program's name ask for; none when they are flags of the bench itself.
    pub fn parse(words: &[String]) -> Option<Self> {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let ["--role", name, control, far, certificate] = words[..] else {
            return None;
        };
        let (control, far) = (control.parse().ok()?, far.parse().ok()?);
        let certificate = certificate.into();
        match name {
            "bare-relay" => Some(Self::Relay {
                control,
                players: far,
                certificate,
            }),
            "bare-agent" => Some(Self::Agent {
                control,
                origin: far,
                certificate,
            }),
            _ => None,
        }
    }

    /// The words that ask for it.
    pub fn words(&self) -> [String; 5] {
        let (name, control, far, certificate) = match self {
            Self::Relay {
                control,
                players,
                certificate,
            } => ("bare-relay", control, players, certificate),
            Self::Agent {
                control,
                origin,
                certificate,
            } => ("bare-agent", control, origin, certificate),
        };
        let (control, far, certificate) = (control.to_string(), far.to_string(), certificate.display().to_string());
        ["--role".to_owned(), name.to_owned(), control, far, certificate]
    }

    /// Plays it until the process is killed or the connection breaks.
    pub fn play(self) -> ExitCode {
        let work = || {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            runtime.block_on(async {
                match self {
                    Self::Relay {
                        control,
                        players,
                        certificate,
                    } => relay(control, players, &certificate).await,
                    Self::Agent {
                        control,
                        origin,
                        certificate,
                    } => agent(control, origin, &certificate).await,
                }
            })
        };
        match work() {
            Ok(()) => ExitCode::SUCCESS,
            Err(fault) => {
                eprintln!("{fault}");
                ExitCode::FAILURE
            }
        }
    }
}

async fn relay(control: SocketAddr, players: SocketAddr, certificate: &Path) -> Result<(), Fault> {
    let made = rcgen::generate_simple_self_signed([HOST.to_owned()]);
    let made = made.map_err(|error| Fault::failed("making a certificate", error))?;
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let config = ServerConfig::with_single_cert(vec![made.cert.der().clone()], key.into());
    let mut config = config.map_err(|error| Fault::failed("taking the certificate", error))?;
    config.transport_config(transport());
    let endpoint = endpoint(control, Some(config)).await?;
    std::fs::write(certificate, made.cert.der())?;
    println!("ready");
    let coming = endpoint.accept().await;
    let coming = coming.ok_or_else(|| Fault::Failed("the endpoint is closed".to_owned()))?;
    let connection = coming.await.map_err(|error| Fault::failed("the agent", error))?;
    let listener = TcpListener::bind(players).await?;
    let mut carried = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (player, _) = accepted?;
                carried.spawn(outward(player, connection.clone()));
            }
            Some(_) = carried.join_next() => {}
            reason = connection.closed() => return Err(Fault::failed("the connection", reason)),
        }
    }
}

async fn agent(control: SocketAddr, origin: SocketAddr, certificate: &Path) -> Result<(), Fault> {
    let mut roots = RootCertStore::empty();
    let added = roots.add(std::fs::read(certificate)?.into());
    added.map_err(|error| Fault::failed("trusting the certificate", error))?;
    let config = ClientConfig::with_root_certificates(Arc::new(roots));
    let mut config = config.map_err(|error| Fault::failed("trusting the certificate", error))?;
    config.transport_config(transport());
    let endpoint = endpoint((Ipv4Addr::UNSPECIFIED, 0).into(), None).await?;
    let connecting = endpoint.connect_with(config, control, HOST);
    let connecting = connecting.map_err(|error| Fault::failed("connecting", error))?;
    let connection = connecting.await.map_err(|error| Fault::failed("connecting", error))?;
    let mut carried = JoinSet::new();
    loop {
        tokio::select! {
            accepted = connection.accept_bi() => {
                let (send, receive) = accepted.map_err(|error| Fault::failed("the connection", error))?;
                carried.spawn(async move { carry(TcpStream::connect(origin).await?, send, receive).await });
            }
            Some(_) = carried.join_next() => {}
        }
    }
}

async fn outward(player: TcpStream, connection: Connection) -> Result<(), Fault> {
    let opened = connection.open_bi().await;
    let (send, receive) = opened.map_err(|error| Fault::failed("a stream", error))?;
    carry(player, send, receive).await
}

/// Copies both ways until both have ended; who breaks off is noticed by both ends, and the bench sees it there.
async fn carry(mut local: TcpStream, send: quinn::SendStream, receive: quinn::RecvStream) -> Result<(), Fault> {
    local.set_nodelay(true)?;
    let mut remote = tokio::io::join(receive, send);
    tokio::io::copy_bidirectional_with_sizes(&mut local, &mut remote, BUFFER, BUFFER).await?;
    Ok(())
}

/// With as much room in the kernel as ours asks for.
async fn endpoint(address: SocketAddr, server: Option<ServerConfig>) -> Result<Endpoint, Fault> {
    let socket = origin::packet_socket(address).await?.into_std()?;
    let runtime = Arc::new(TokioRuntime);
    Ok(Endpoint::new(EndpointConfig::default(), server, socket, runtime)?)
}

fn transport() -> Arc<TransportConfig> {
    let mut config = TransportConfig::default();
    config
        .stream_receive_window(VarInt::from_u32(Tuning::default().stream_window))
        .receive_window(VarInt::MAX)
        .send_window(SEND_WINDOW)
        .max_concurrent_bidi_streams(VarInt::from_u32(PLAYERS))
        .keep_alive_interval(Some(KEEP_ALIVE));
    Arc::new(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_survives_the_command_line() {
        let (control, far) = (([127, 0, 0, 1], 4433).into(), ([127, 0, 0, 1], 25_565).into());
        let certificate = PathBuf::from("/tmp/a certificate");
        let relay = Role::Relay {
            control,
            players: far,
            certificate: certificate.clone(),
        };
        let agent = Role::Agent {
            control,
            origin: far,
            certificate,
        };
        for role in [relay, agent] {
            assert_eq!(Role::parse(&role.words()), Some(role));
        }
        assert_eq!(Role::parse(&["--quick".to_owned()]), None);
    }
}
