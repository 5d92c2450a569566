//! Reaching a relay by name: resolved afresh, both address families, the quickest wins.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::{Connection, ConnectionError, Endpoint};
use spawnpoint_core::tuning::Tuning;
use spawnpoint_proto::{Invite, Trust};
use tokio::task::JoinSet;

use crate::endpoint::{agent_endpoint, client_config};
use crate::listen::bind_udp;
use crate::mtu::largest_towards;
use crate::tls::{self, Distrust};

/// The next address is tried when the one before has not answered for this long (RFC 8305 recommends 250 ms).
const STAGGER: Duration = Duration::from_millis(250);

/// A machine without a working resolver must not hold up a try for longer.
const RESOLVE_DEADLINE: Duration = Duration::from_secs(3);

/// A relay that has not finished its handshake by then is not there.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(4);

/// The TLS alert of a peer that speaks another application protocol.
const NO_APPLICATION_PROTOCOL: u8 = 120;

/// Why a relay was not reached.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// Its name could not be resolved.
    #[error("cannot resolve `{host}`")]
    Resolve {
        /// The name.
        host: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No socket could be opened, or the settings are impossible.
    #[error("cannot open a socket to the relay")]
    Local(#[source] io::Error),
    /// It cannot be verified on this machine.
    #[error("the relay cannot be verified on this machine: {0}")]
    Settings(String),
    /// Its certificate is not the right one.
    #[error(transparent)]
    Distrust(Distrust),
    /// It does not speak our protocol.
    #[error("{relay} answers, but it is not a Spawnpoint relay of this version: check address and versions")]
    Foreign {
        /// Its address.
        relay: SocketAddr,
    },
    /// It did not answer.
    #[error("no link to {relay} (is the relay running, and is its UDP port open in every firewall?)")]
    Silent {
        /// Its address.
        relay: SocketAddr,
        /// Why.
        #[source]
        source: ConnectionError,
    },
    /// It did not answer in time.
    #[error("no answer from the relay: is it running, and is its UDP port open in its firewall?")]
    Timeout,
}

impl DialError {
    /// Whether nobody answered at all, so that it is worth asking whether anybody is back.
    pub const fn is_silence(&self) -> bool {
        matches!(
            self,
            Self::Timeout
                | Self::Silent {
                    source: ConnectionError::TimedOut,
                    ..
                }
        )
    }

    /// Whether trying again later can succeed without anybody changing anything.
    pub const fn can_heal(&self) -> bool {
        !matches!(self, Self::Distrust(_) | Self::Foreign { .. } | Self::Settings(_))
    }
}

/// A relay that was reached.
#[derive(Debug)]
pub struct Dialed {
    /// The connection.
    pub connection: Connection,
    /// The endpoint that carries it, which must be kept as long.
    pub endpoint: Endpoint,
}

/// Moves an agent's endpoint to a fresh socket, and its connections with it: the old one may be bound to an address that is gone. Each connection says
/// at once where it is now.
///
/// # Errors
/// When the machine gives no socket.
pub fn move_socket(endpoint: &Endpoint) -> io::Result<()> {
    let socket = bind_udp(SocketAddr::from(([0u16; 8], 0))).map_err(|error| error.source)?;
    endpoint.rebind(socket)
}

/// Resolves the relay of an invite.
///
/// # Errors
/// [`DialError::Resolve`].
async fn resolve(invite: &Invite) -> Result<Vec<SocketAddr>, DialError> {
    let fail = |source| DialError::Resolve {
        host: invite.host.clone(),
        source,
    };
    // An IPv6 address may stand in brackets.
    let host = invite.host.trim_matches(['[', ']']);
    let lookup = tokio::time::timeout(RESOLVE_DEADLINE, tokio::net::lookup_host((host, invite.port)));
    let found: Vec<SocketAddr> = lookup
        .await
        .map_err(|_| fail(io::ErrorKind::TimedOut.into()))?
        .map_err(fail)?
        .collect();
    let (six, four): (Vec<_>, Vec<_>) = found.into_iter().partition(SocketAddr::is_ipv6);
    let mut ordered = Vec::with_capacity(six.len() + four.len());
    let (mut six, mut four) = (six.into_iter(), four.into_iter());
    loop {
        let pair = [six.next(), four.next()];
        if pair == [None, None] {
            break;
        }
        ordered.extend(pair.into_iter().flatten());
    }
    if ordered.is_empty() {
        Err(fail(io::ErrorKind::NotFound.into()))
    } else {
        Ok(ordered)
    }
}

/// Connects to the relay of `invite`, trying each of its addresses, a quarter of a second apart, until one has answered.
///
/// `addresses` takes the addresses that were found, so that the caller can go on asking them.
///
/// # Errors
/// The last [`DialError`]; one that cannot heal is returned at once.
pub async fn dial(
    invite: &Invite,
    tuning: &Tuning,
    deadline: Duration,
    addresses: &mut Vec<SocketAddr>,
) -> Result<Dialed, DialError> {
    let found = resolve(invite).await?;
    addresses.clone_from(&found);
    race(invite, tuning, found, deadline).await
}

async fn race(
    invite: &Invite,
    tuning: &Tuning,
    found: Vec<SocketAddr>,
    deadline: Duration,
) -> Result<Dialed, DialError> {
    let any = SocketAddr::from(([0u16; 8], 0));
    let socket = bind_udp(any).map_err(|error| DialError::Local(error.source))?;
    let runtime = Arc::new(quinn::TokioRuntime);
    let largest = found.iter().copied().map(largest_towards).max().unwrap_or_default();
    let config = agent_endpoint(largest).map_err(DialError::Local)?;
    let endpoint = Endpoint::new(config, None, socket, runtime).map_err(DialError::Local)?;
    let mut tries = JoinSet::new();
    let mut waiting = found.into_iter();
    let mut last = Last(None);
    let deadline = tokio::time::sleep(deadline);
    tokio::pin!(deadline);
    loop {
        if let Some(relay) = waiting.next() {
            match attempt(invite, tuning, &endpoint, relay) {
                Ok(attempt) => drop(tries.spawn(attempt)),
                Err(error) => last.note(error),
            }
        }
        tokio::select! {
            Some(result) = tries.join_next() => match result {
                Ok(Ok(connection)) => return Ok(Dialed { connection, endpoint }),
                Ok(Err(error)) => last.note(error),
                Err(error) => last.note(DialError::Local(io::Error::other(error))),
            },
            () = tokio::time::sleep(STAGGER), if waiting.len() > 0 => {}
            () = &mut deadline => return Err(last.0.unwrap_or(DialError::Timeout)),
            else => {}
        }
        if tries.is_empty() && waiting.len() == 0 {
            return Err(last.0.unwrap_or(DialError::Timeout));
        }
    }
}

/// Why nothing came of the tries so far. One address of several may be stale or somebody else's, so all are tried; what cannot heal says most.
struct Last(Option<DialError>);

impl Last {
    fn note(&mut self, error: DialError) {
        if self.0.as_ref().is_none_or(DialError::can_heal) {
            self.0 = Some(error);
        }
    }
}

fn attempt(
    invite: &Invite,
    tuning: &Tuning,
    endpoint: &Endpoint,
    relay: SocketAddr,
) -> Result<impl Future<Output = Result<Connection, DialError>> + use<>, DialError> {
    let (tls, verifier) = tls::agent(invite.trust).map_err(|error| DialError::Settings(error.to_string()))?;
    let config = client_config(tls, tuning, largest_towards(relay)).map_err(DialError::Local)?;
    // A pin needs no name, and a bare address is none to ask for.
    let name = match invite.trust {
        Trust::Pin(_) => "spawnpoint",
        Trust::Name => invite.host.trim_matches(['[', ']']),
    };
    let connecting = endpoint
        .connect_with(config, relay, name)
        .map_err(|error| match error {
            quinn::ConnectError::InvalidServerName(name) => {
                DialError::Settings(format!("`{name}` is no name for a certificate"))
            }
            error => DialError::Local(io::Error::other(error)),
        })?;
    Ok(async move {
        let connected = tokio::time::timeout(HANDSHAKE_DEADLINE, connecting).await;
        connected
            .unwrap_or(Err(ConnectionError::TimedOut))
            .map_err(|error| match verifier.take_distrust() {
                Some(distrust) => DialError::Distrust(distrust),
                None if is_foreign(&error) => DialError::Foreign { relay },
                None => DialError::Silent { relay, source: error },
            })
    })
}

fn is_foreign(error: &ConnectionError) -> bool {
    match error {
        ConnectionError::VersionMismatch => true,
        ConnectionError::TransportError(error) => {
            error.code == quinn::TransportErrorCode::crypto(NO_APPLICATION_PROTOCOL)
        }
        ConnectionError::ConnectionClosed(close) => {
            close.error_code == quinn::TransportErrorCode::crypto(NO_APPLICATION_PROTOCOL)
        }
        _ => false,
    }
}
