//! Reaching a relay by name: resolved afresh, both address families, the quickest wins.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::{Connection, ConnectionError, Endpoint, TransportConfig};
use spawnpoint_proto::Invite;
use tokio::task::JoinSet;

use crate::endpoint::client_config;
use crate::listen::bind_udp;
use crate::tls::{self, Distrust};

/// The next address is tried when the one before has not answered for this long (RFC 8305 recommends 250 ms).
const STAGGER: Duration = Duration::from_millis(250);

/// A machine without a working resolver must not hold up a try for longer.
const RESOLVE_DEADLINE: Duration = Duration::from_secs(3);

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
    #[error("no answer from {relay}")]
    Silent {
        /// Its address.
        relay: SocketAddr,
        /// Why.
        #[source]
        source: ConnectionError,
    },
    /// It did not answer in time.
    #[error("no answer from the relay within {} s", .0.as_secs())]
    Timeout(Duration),
}

impl DialError {
    /// Whether trying again later can succeed without anybody changing anything.
    pub const fn can_heal(&self) -> bool {
        !matches!(self, Self::Distrust(_) | Self::Foreign { .. })
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
    transport: Arc<TransportConfig>,
    deadline: Duration,
    addresses: &mut Vec<SocketAddr>,
) -> Result<Dialed, DialError> {
    let found = resolve(invite).await?;
    addresses.clone_from(&found);
    let race = race(invite, transport, found);
    tokio::time::timeout(deadline, race)
        .await
        .map_err(|_| DialError::Timeout(deadline))?
}

async fn race(invite: &Invite, transport: Arc<TransportConfig>, found: Vec<SocketAddr>) -> Result<Dialed, DialError> {
    let any = SocketAddr::from(([0u16; 8], 0));
    let socket = bind_udp(any).map_err(|error| DialError::Local(error.source))?;
    let endpoint = Endpoint::new(
        quinn::EndpointConfig::default(),
        None,
        socket,
        Arc::new(quinn::TokioRuntime),
    )
    .map_err(DialError::Local)?;
    // A bare address is no name to ask for, and a pin needs none.
    let name = if invite.host.parse::<std::net::IpAddr>().is_ok() || invite.host.contains(':') {
        "spawnpoint"
    } else {
        &invite.host
    };
    let mut tries = JoinSet::new();
    let mut waiting = found.into_iter();
    let mut last = None;
    loop {
        if let Some(relay) = waiting.next() {
            let (tls, verifier) =
                tls::agent(invite.trust).map_err(|error| DialError::Local(io::Error::other(error)))?;
            let config = client_config(tls, transport.clone()).map_err(DialError::Local)?;
            match endpoint.connect_with(config, relay, name) {
                Ok(connecting) => drop(tries.spawn(async move {
                    connecting.await.map_err(|error| match verifier.take_distrust() {
                        Some(distrust) => DialError::Distrust(distrust),
                        None if is_foreign(&error) => DialError::Foreign { relay },
                        None => DialError::Silent { relay, source: error },
                    })
                })),
                Err(error) => last = Some(DialError::Local(io::Error::other(error))),
            }
        }
        let next = tokio::time::sleep(STAGGER);
        tokio::select! {
            Some(result) = tries.join_next() => match result {
                Ok(Ok(connection)) => return Ok(Dialed { connection, endpoint }),
                Ok(Err(error)) if error.can_heal() => last = Some(error),
                Ok(Err(error)) => return Err(error),
                Err(error) => last = Some(DialError::Local(io::Error::other(error))),
            },
            () = next, if waiting.len() > 0 => {}
            else => {}
        }
        if tries.is_empty() && waiting.len() == 0 {
            return Err(last.unwrap_or_else(|| DialError::Local(io::ErrorKind::NotFound.into())));
        }
    }
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
