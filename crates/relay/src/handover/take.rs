//! The successor's side of an upgrade in place.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use spawnpoint_config::relay::RelayConfig;
use spawnpoint_core::grant::UnixTime;
use spawnpoint_net::{Channel, ChannelError, LocalSocket, unix_now};
use spawnpoint_ops::{Admin, Events, describe};
use spawnpoint_store::{DataDir, Host, HostId};

use super::state::{FORMATS, Greeting, Handed, HandedLink, Verdict};
use super::{GO, MAX_STATE, MAX_WORDS};
use crate::link::{self, LinkTask};
use crate::start::{Assembled, Prepared, Relay, RelayError, check};
use crate::welcome::SOFTWARE;

/// The old relay brings its players to rest.
const STATE_DEADLINE: Duration = Duration::from_secs(30);

/// The old relay takes its leave of the agents.
const GO_DEADLINE: Duration = Duration::from_secs(30);

impl Relay {
    /// Follows the relay at the other end of `channel`: takes its sockets and sessions over, and goes on with them.
    ///
    /// # Errors
    /// [`RelayError`]; the old relay was told why, and goes on.
    pub async fn take_over(
        config: RelayConfig,
        data_dir: &Path,
        events: Events,
        channel: &mut Channel,
    ) -> Result<Self, RelayError> {
        let prepared = check(&config).and_then(|()| Prepared::load(config, data_dir));
        let greeting = Greeting {
            formats: FORMATS.to_vec(),
            software: SOFTWARE.to_owned(),
            failure: prepared.as_ref().err().map(|error| describe(error)),
            pid: std::process::id(),
        };
        say(channel, &greeting).await?;
        let prepared = prepared?;
        let received = tokio::time::timeout(STATE_DEADLINE, channel.receive(MAX_STATE)).await;
        let (body, descriptors) = received
            .map_err(|_| lost("it did not hand over in time"))?
            .map_err(|error| lost(&describe(&error)))?;
        let restored = restore(prepared, &body, descriptors, events).await;
        let verdict = Verdict {
            failure: restored.as_ref().err().map(|error| describe(error)),
        };
        say(channel, &verdict).await?;
        let mut restored = restored?;
        match tokio::time::timeout(GO_DEADLINE, channel.receive(MAX_WORDS)).await {
            Ok(Ok((word, _))) if word == GO => {}
            // An old relay that is gone has let us go, too.
            Ok(Err(ChannelError::Closed)) => {}
            Ok(_) => return Err(lost("it changed its mind")),
            Err(_) => return Err(lost("it did not let go in time")),
        }
        restored.armed.store(true, Ordering::Relaxed);
        restored.relay.go_on().await;
        for task in restored.tasks {
            task.link.sessions.go_on();
            restored.relay.run_link(task);
        }
        restored.relay.registry.go_on().await;
        Ok(restored.relay)
    }
}

/// A relay that has everything, at rest.
struct Restored {
    relay: Relay,
    tasks: Vec<LinkTask>,
    /// Whether the players' sockets are ours to reset.
    armed: Arc<AtomicBool>,
}

/// Everything that was handed over.
async fn restore(
    prepared: Prepared,
    body: &[u8],
    descriptors: Vec<OwnedFd>,
    events: Events,
) -> Result<Restored, RelayError> {
    let handed: Handed = minicbor::decode(body).map_err(|error| lost(&format!("its state makes no sense: {error}")))?;
    if !FORMATS.contains(&handed.format) {
        return Err(lost(&format!(
            "its state has the format {}, restart instead",
            handed.format
        )));
    }
    tracing::info!(predecessor = handed.software, links = handed.links.len(), "taking over");
    let mut descriptors: Vec<Option<OwnedFd>> = descriptors.into_iter().map(Some).collect();
    let mut take = |at: u32| {
        let taken = descriptors.get_mut(at as usize).and_then(Option::take);
        taken.ok_or_else(|| lost("a socket is missing"))
    };
    let lock = DataDir::adopt(prepared.data_dir(), take(handed.lock)?);
    let agents = std::net::UdpSocket::from(take(handed.agents)?);
    let listen = agents.local_addr().map_err(|error| lost(&error.to_string()))?;
    prepared.check_listen(listen)?;
    let listener = handed
        .admin
        .map(&mut take)
        .transpose()?
        .map(std::net::TcpListener::from);
    let ports = handed
        .ports
        .iter()
        .map(|port| Ok(((port.protocol, port.port), take(port.socket)?)))
        .collect::<Result<Vec<_>, RelayError>>()?;
    let admin = async |address: SocketAddr, metrics, ready| match listener {
        Some(listener) if is_same(&listener, address) => Admin::adopt(listener, metrics, ready),
        _ => Admin::bind(address, metrics, ready).await,
    };
    let mut assembled = prepared.assemble(lock, listen, admin, events).await?;
    assembled.context.set_next_session(handed.next_session);
    for (port, socket) in ports {
        let adopted = assembled.supervisor.adopt_port(port, socket);
        adopted.map_err(|error| lost(&format!("public port {} cannot be used: {error}", port.1)))?;
    }
    assembled.supervisor.adopt_buried(handed.buried);
    let mut tasks = Vec::with_capacity(handed.links.len());
    let armed = Arc::new(AtomicBool::new(false));
    let mut sockets = Sockets {
        descriptors,
        armed: armed.clone(),
    };
    for link in handed.links {
        if let Some(host) = host_of(&assembled, &link).await? {
            tasks.extend(assembled.restore_link(host, link, &mut sockets));
        }
    }
    assembled.supervisor.adopted();
    let relay = assembled.run_silently(agents)?;
    Ok(Restored { relay, tasks, armed })
}

/// The players' sockets on their way into sessions.
pub(crate) struct Sockets {
    descriptors: Vec<Option<OwnedFd>>,
    armed: Arc<AtomicBool>,
}

impl Sockets {
    /// The socket at this place, which is reset when it is dropped only once it is ours.
    pub fn take(&mut self, at: u32) -> Option<std::io::Result<LocalSocket>> {
        let descriptor = self.descriptors.get_mut(at as usize)?.take()?;
        Some(self.open(descriptor))
    }

    fn open(&self, descriptor: OwnedFd) -> std::io::Result<LocalSocket> {
        let socket = std::net::TcpStream::from(descriptor);
        socket.set_nonblocking(true)?;
        let socket = tokio::net::TcpStream::from_std(socket)?;
        Ok(LocalSocket::handed(socket, self.armed.clone()))
    }
}

/// The host of a link, if it may still be here.
async fn host_of(assembled: &Assembled, link: &HandedLink) -> Result<Option<Host>, RelayError> {
    let now: UnixTime = unix_now();
    let host = assembled.context.hosts.host(HostId(link.host)).await?;
    Ok(host.filter(|host| host.revoked.is_none() && !host.grant.is_expired(now)))
}

fn is_same(listener: &std::net::TcpListener, address: SocketAddr) -> bool {
    let port_is_any = address.port() == 0;
    listener
        .local_addr()
        .is_ok_and(|own| own.ip() == address.ip() && (port_is_any || own.port() == address.port()))
}

impl Assembled {
    fn restore_link(&mut self, host: Host, link: HandedLink, sockets: &mut Sockets) -> Option<LinkTask> {
        let (context, registry, stop) = (self.context.clone(), self.registry.clone(), self.scope.token().clone());
        link::restore(&context, &registry, &mut self.supervisor, host, link, sockets, &stop)
    }
}

async fn say<T: minicbor::Encode<()>>(channel: &mut Channel, words: &T) -> Result<(), RelayError> {
    let body = minicbor::to_vec(words).map_err(|error| lost(&error.to_string()))?;
    channel.send(&body, &[]).await.map_err(|error| lost(&describe(&error)))
}

fn lost(why: &str) -> RelayError {
    RelayError::TakeOver(why.to_owned())
}
