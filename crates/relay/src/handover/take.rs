//! The successor's side of an upgrade in place.

use std::net::SocketAddr;
use std::path::Path;

use spawnpoint_config::relay::RelayConfig;
use spawnpoint_net::{Channel, Sockets, SuccessionError, Successor, unix_now};
use spawnpoint_ops::{Admin, Events, describe};
use spawnpoint_store::{DataDir, Host, HostId};

use super::state::{FORMATS, Handed, HandedLink};
use crate::link::{self, LinkTask};
use crate::remember;
use crate::start::{Assembled, Prepared, Relay, RelayError, check};
use crate::welcome::SOFTWARE;

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
        let failure = prepared.as_ref().err().map(|error| describe(error));
        let mut succession = Successor::meet(channel, FORMATS, SOFTWARE, failure).await?;
        let prepared = prepared?;
        let (handed, sockets) = succession.take().await?;
        let restored = Box::pin(restore(prepared, handed, sockets, events)).await;
        let failure = restored.as_ref().err().map(|error| describe(error));
        succession.go(failure).await?;
        let Restored { mut relay, tasks } = restored?;
        relay.go_on().await;
        for task in tasks {
            task.link.sessions.go_on();
            relay.run_link(task);
        }
        relay.registry.go_on().await;
        Ok(relay)
    }
}

/// A relay that has everything, at rest.
struct Restored {
    relay: Relay,
    tasks: Vec<LinkTask>,
}

/// Everything that was handed over.
async fn restore(
    prepared: Prepared,
    handed: Handed,
    mut sockets: Sockets,
    events: Events,
) -> Result<Restored, RelayError> {
    tracing::info!(predecessor = handed.software, links = handed.links.len(), "taking over");
    let mut take = |at| sockets.take(at).ok_or_else(|| lost("a socket is missing"));
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
    for link in handed.links {
        if let Some(host) = host_of(&assembled, &link).await? {
            tasks.extend(assembled.restore_link(host, link, &mut sockets));
        }
    }
    if let Err(error) = assembled.supervisor.open_shared() {
        tracing::error!(
            error = describe(&error),
            "a shared port cannot be opened, players do not get in there"
        );
    }
    remember::recall(&assembled.context, &mut assembled.supervisor).await?;
    assembled.supervisor.adopted();
    let relay = assembled.run_silently(agents)?;
    Ok(Restored { relay, tasks })
}

/// The host of a link, if it may still be here.
async fn host_of(assembled: &Assembled, link: &HandedLink) -> Result<Option<Host>, RelayError> {
    let host = assembled.context.hosts.host(HostId(link.host)).await?;
    Ok(host.filter(|host| host.is_welcome(unix_now())))
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

fn lost(why: &str) -> RelayError {
    RelayError::TakeOver(why.to_owned())
}

impl From<SuccessionError> for RelayError {
    fn from(error: SuccessionError) -> Self {
        lost(&describe(&error))
    }
}
