//! One public port: it accepts players and looks up where they go.
//!
//! The accept loop asks admission and hands the player to a task of its tunnel; it waits for nothing but the next player.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use spawnpoint_core::admission::{Bounds, Circle, DenyReason, Permit};
use spawnpoint_core::flow::DropReason;
use spawnpoint_core::route::{PublicPort, Route};
use spawnpoint_net::{BindError, LocalSocket, PacketSocket, TaskScope, bind_tcp, bind_udp, canonical, unix_now};
use spawnpoint_ops::TunnelLabels;
use spawnpoint_proto::{Dialect, Protocol};
use spawnpoint_sniff::raknet;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::away::Presence;
use crate::context::Context;
use crate::dnsbl::Standing;
use crate::hearing::{Door, Lobby};
use crate::link::Link;
use crate::list::is_listed;
use crate::pong::Pings;
use crate::quic::{Clients, Concierge, Via};
use crate::registry::Routes;
use crate::tcp::{self, Visitor};
use crate::tunnel::Tunnel;
use crate::udp::UdpTunnel;

/// A pause after an accept that failed for want of descriptors or memory, so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(250);

/// So many are refused in a row before others get their turn.
const MAX_REFUSED: u32 = 16;

/// So many packets are taken before others get their turn: the runtime by itself would let a flood go on for milliseconds.
const MAX_PACKETS: u32 = 32;

/// A port that is flooded is left alone for so long, and no longer than the kernel's buffer lasts: what comes one by one costs more than what has come together, and it is others who
/// would pay for it.
const FLOOD_PAUSE: Duration = Duration::from_millis(1);

/// A task that takes players ends at its next wait.
const PAUSE_DEADLINE: Duration = Duration::from_secs(1);

/// An open public port; it closes when it is dropped.
#[derive(Debug)]
pub(crate) struct Exposure {
    context: Arc<Context>,
    port: PublicPort,
    door: Door,
    routes: watch::Receiver<Routes>,
    socket: PublicSocket,
    /// Who is where, on a shared port for packets.
    clients: Clients,
    /// Places for players who are heard.
    circle: Arc<Circle>,
    /// Players who are heard, or told why they cannot enter.
    talking: Arc<TaskScope>,
    /// The task that takes players, while it may.
    taking: Option<TaskScope>,
}

/// The socket of a public port.
#[derive(Clone, Debug)]
enum PublicSocket {
    Tcp(Arc<TcpListener>),
    Udp(Arc<PacketSocket>),
}

impl Exposure {
    /// Opens `port`; [`Exposure::take_players`] starts it.
    pub fn open(
        context: &Arc<Context>,
        port: PublicPort,
        door: Door,
        routes: watch::Receiver<Routes>,
        parent: &CancellationToken,
    ) -> Result<Self, BindError> {
        let address = SocketAddr::new(context.config().players.bind, port.1);
        let socket = match port.0 {
            Protocol::Tcp => PublicSocket::Tcp(Arc::new(bind_tcp(address)?)),
            Protocol::Udp => PublicSocket::udp(bind_udp(address)?).map_err(|source| BindError {
                protocol: "udp",
                address,
                source,
            })?,
        };
        Ok(Self::new(context, port, door, routes, parent, socket))
    }

    /// Goes on with a socket that another process has opened.
    #[cfg(unix)]
    pub fn adopt(
        context: &Arc<Context>,
        port: PublicPort,
        door: Door,
        routes: watch::Receiver<Routes>,
        parent: &CancellationToken,
        descriptor: std::os::fd::OwnedFd,
    ) -> std::io::Result<Self> {
        let socket = match port.0 {
            Protocol::Tcp => {
                let listener = std::net::TcpListener::from(descriptor);
                listener.set_nonblocking(true)?;
                PublicSocket::Tcp(Arc::new(TcpListener::from_std(listener)?))
            }
            Protocol::Udp => {
                let socket = std::net::UdpSocket::from(descriptor);
                socket.set_nonblocking(true)?;
                PublicSocket::udp(socket)?
            }
        };
        Ok(Self::new(context, port, door, routes, parent, socket))
    }

    fn new(
        context: &Arc<Context>,
        port: PublicPort,
        door: Door,
        routes: watch::Receiver<Routes>,
        parent: &CancellationToken,
        socket: PublicSocket,
    ) -> Self {
        Self {
            context: context.clone(),
            port,
            door,
            routes,
            socket,
            clients: Clients::new(context.config().players.udp_idle),
            circle: Arc::new(Circle::of_host(Bounds::of_players(match door {
                Door::Own(_) => context.config().hearing_at_own_port(),
                Door::Shared(_) => context.config().hearing_at_shared_port(),
            }))),
            talking: Arc::new(TaskScope::new(parent)),
            taking: None,
        }
    }

    /// Starts to take players, or goes on with it.
    pub fn take_players(&mut self) {
        let scope = TaskScope::new(self.talking.token());
        let (context, port, routes) = (self.context.clone(), self.port, self.routes.clone());
        match self.socket.clone() {
            PublicSocket::Tcp(listener) => {
                tcp::prepare_listener(&listener);
                let lobby = Lobby {
                    context,
                    routes,
                    door: self.door,
                    scope: Arc::downgrade(&self.talking),
                    circle: self.circle.clone(),
                };
                scope.spawn(Doorman(Arc::new(lobby)).accept(listener));
            }
            PublicSocket::Udp(_) if let Some(via) = self.via() => match self.door {
                Door::Own(_) => {
                    let mut routes = routes;
                    // The first packet is one to look at them.
                    routes.mark_changed();
                    let receiver = Receiver {
                        context,
                        port,
                        routes,
                        via,
                        target: None,
                        pings: None,
                    };
                    scope.spawn(receiver.receive());
                }
                Door::Shared(_) => {
                    let concierge = Concierge::new(context, routes, via, self.clients.clone());
                    scope.spawn(receive_shared(concierge, port.1));
                }
            },
            PublicSocket::Udp(_) => {}
        }
        self.taking = Some(scope);
    }

    /// Takes nobody for now; whoever comes waits in the kernel.
    pub async fn pause(&mut self) {
        if let Some(scope) = self.taking.take() {
            scope.close(PAUSE_DEADLINE).await;
        }
    }

    /// The socket, when the port carries packets.
    pub fn via(&self) -> Option<Via> {
        let PublicSocket::Udp(socket) = &self.socket else {
            return None;
        };
        let is_shared = matches!(self.door, Door::Shared(_));
        Some(Via {
            socket: socket.clone(),
            clients: is_shared.then(|| self.clients.clone()),
            port: is_shared.then_some(self.port.1),
        })
    }

    /// The port's socket, to hand over.
    #[cfg(unix)]
    pub fn descriptor(&self) -> Arc<dyn std::os::fd::AsFd + Send + Sync> {
        match self.socket.clone() {
            PublicSocket::Tcp(listener) => listener,
            PublicSocket::Udp(socket) => socket,
        }
    }
}

impl PublicSocket {
    fn udp(socket: std::net::UdpSocket) -> std::io::Result<Self> {
        Ok(Self::Udp(Arc::new(PacketSocket::new(socket)?)))
    }
}

/// Accepts the TCP players of one port.
struct Doorman(Arc<Lobby>);

impl Doorman {
    async fn accept(self, listener: Arc<TcpListener>) {
        let mut refused = 0;
        loop {
            let (socket, player) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    // A player who is gone before being accepted is nobody's trouble; anything else is the machine's.
                    if error.kind() != std::io::ErrorKind::ConnectionAborted {
                        tracing::warn!(port = listener.local_addr().map_or(0, |address| address.port()), %error, "a player could not be accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                    continue;
                }
            };
            let is_refused = !self.let_in(LocalSocket::new(socket), canonical(player));
            refused = if is_refused { refused + 1 } else { 0 };
            if refused >= MAX_REFUSED {
                // Others have waited for as long as that took.
                refused = 0;
                tokio::task::yield_now().await;
            }
        }
    }

    /// Takes a player to their tunnel, or has them heard first; returns whether they are not refused here.
    fn let_in(&self, socket: LocalSocket, player: SocketAddr) -> bool {
        let Lobby {
            context, routes, door, ..
        } = &*self.0;
        let routes = routes.borrow().clone();
        let route = match *door {
            Door::Shared(_) => None,
            Door::Own(port) => match routes.get(port) {
                Some(route) => Some(route),
                None => return false,
            },
        };
        // A proxy brings everybody from one address: whom it brings is admitted once that is known.
        let is_proxy = context.is_proxy(player.ip());
        if !is_proxy && let Err(reason) = context.access().check(player.ip(), unix_now()) {
            context.metrics.denied(reason.as_str());
            return false;
        }
        let is_heard = is_proxy || route.is_none_or(|route| route.dialect == Some(Dialect::Minecraft));
        if !is_heard && let Some(route) = route {
            return match enter(context, route, player.ip()) {
                Ok((link, tunnel, permit)) => {
                    let standing = context.standing(player.ip());
                    if matches!(standing, Standing::Listed) {
                        context.deny(player.ip(), DenyReason::Listed);
                        return false;
                    }
                    tcp::prepare(socket.get());
                    let (inner, game) = (tunnel.clone(), route.game.clone());
                    let visitor = Visitor::silent(socket, player);
                    tunnel.scope.spawn(async move {
                        if let Standing::Asked(question) = standing {
                            // What has changed while the lists were asked counts too.
                            let barred = match question.answer().await {
                                true => Err(DenyReason::Listed),
                                false => inner.check(&link, player.ip()),
                            };
                            if let Err(reason) = barred {
                                return inner.context.deny(player.ip(), reason);
                            }
                        }
                        tcp::carry(&inner, link, visitor, game.as_deref(), permit).await;
                    });
                    true
                }
                Err(reason) => {
                    context.deny(player.ip(), reason);
                    tracing::debug!(%player, tunnel = %route.name, reason = reason.as_str(), "player denied");
                    false
                }
            };
        }
        self.0.hear(socket, player, is_proxy)
    }
}

/// The tunnel of `route` and a place for a player from `ip` in it, or why not.
pub(crate) fn enter(
    context: &Context,
    route: &Route<Arc<Link>>,
    ip: IpAddr,
) -> Result<(Arc<Link>, Arc<Tunnel>, Permit), DenyReason> {
    let (link, id) = route.target.as_ref().ok_or(DenyReason::NoAgent)?;
    let tunnel = link.tunnel(*id).ok_or(DenyReason::NoAgent)?;
    if link.is_away() {
        return Err(DenyReason::NoAgent);
    }
    tunnel.check(link, ip)?;
    context.check_quota(route.host, &route.name)?;
    let permit = context.players.admit(context.clock.now(), ip, &tunnel.circle)?;
    Ok((link.clone(), tunnel, permit))
}

/// Receives the packets of one port.
struct Receiver {
    context: Arc<Context>,
    port: PublicPort,
    routes: watch::Receiver<Routes>,
    via: Via,
    /// The tunnel that the port led to when the routes were last read.
    target: Option<Arc<UdpTunnel>>,
    /// The list pings of a game that has such.
    pings: Option<Pings>,
}

impl Receiver {
    async fn receive(mut self) {
        let via = self.via.clone();
        let mut reader = via.socket.reader();
        let (mut packets, mut refused) = (0, 0);
        loop {
            let is_flooded = refused >= MAX_PACKETS;
            let received = reader.receive(|player, local, packet| {
                packets += 1;
                let target = self.target().cloned();
                if self.is_answered((player, local, packet)) {
                    return;
                }
                match target {
                    Some(udp) if udp.on_player_packet(player, local, packet, &via) => {}
                    Some(_) => refused += 1,
                    None => self.drop_packet(),
                }
            });
            let received = tokio::select! {
                biased; // a flood is taken as far as it has come before it is left alone for a moment
                received = received => Some(received),
                () = std::future::ready(()), if is_flooded => None,
            };
            match received {
                Some(Ok(())) => {}
                Some(Err(error)) => {
                    tracing::warn!(port = self.port.1, %error, "packets could not be received");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
                None => {
                    refused = 0;
                    reader.rest(FLOOD_PAUSE).await;
                }
            }
            if packets >= MAX_PACKETS {
                packets = 0;
                tokio::task::yield_now().await;
            }
        }
    }

    fn target(&mut self) -> Option<&Arc<UdpTunnel>> {
        let is_changed = self.routes.has_changed().unwrap_or(false);
        if !is_changed && self.target.is_some() {
            return self.target.as_ref();
        }
        let routes = self.routes.borrow_and_update().clone();
        let route = routes.get(self.port);
        // A link may have its tunnel a moment after the routes know it.
        self.target = route.and_then(|route| {
            let (link, id) = route.target.as_ref()?;
            link.tunnel(*id)?.udp.clone()
        });
        if is_changed {
            let pinged = route.filter(|route| is_listed(route.game.as_deref()));
            match pinged {
                Some(route) => {
                    let list = self.context.lists.of(route.host, &route.name);
                    if !self.pings.as_ref().is_some_and(|pings| pings.are_of(&list)) {
                        self.pings = Some(Pings::new(list));
                    }
                }
                None => self.pings = None,
            }
        }
        self.target.as_ref()
    }

    /// Whether a packet is a list ping that is answered here.
    fn is_answered(&mut self, packet: (SocketAddr, Option<IpAddr>, &[u8])) -> bool {
        let Some(pings) = self.pings.as_mut().filter(|_| raknet::is_offline(packet.2)) else {
            return false;
        };
        let presence = {
            let routes = self.routes.borrow();
            let Some(route) = routes.get(self.port) else {
                return false;
            };
            let is_here = route
                .target
                .as_ref()
                .is_some_and(|(link, _)| link.connection().is_some());
            match is_here {
                true => self.target.as_ref().and_then(|udp| udp.silence()),
                false => Some(presence_of(&self.context, route)),
            }
        };
        pings.answer(&self.context, presence, packet, &self.via)
    }

    fn drop_packet(&self) {
        let labels = |route: &Route<Arc<Link>>| {
            let host = route
                .target
                .as_ref()
                .map_or_else(String::new, |(link, _)| link.host_name.clone());
            TunnelLabels {
                host,
                tunnel: route.name.to_string(),
                protocol: Protocol::Udp.as_str(),
            }
        };
        if let Some(labels) = self.routes.borrow().get(self.port).map(labels) {
            self.context.metrics.dropped(&labels, DropReason::NoAgent.as_str(), 1);
        }
    }
}

/// Why the server of `route` does not answer, when its agent is not here.
pub(crate) fn presence_of(context: &Context, route: &Route<Arc<Link>>) -> Presence {
    match route.is_gone {
        true => Presence::Offline(context.lists.of(route.host, &route.name).seen()),
        false => Presence::Reconnecting,
    }
}

/// Receives the packets of a port that many tunnels share.
async fn receive_shared(mut concierge: Concierge, port: u16) {
    let mut reader = concierge.via.socket.reader();
    let mut packets = 0;
    loop {
        let received = reader.receive(|client, local, packet| {
            packets += 1;
            concierge.on_packet(client, local, packet);
        });
        if let Err(error) = received.await {
            tracing::warn!(port, %error, "packets could not be received");
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
        if packets >= MAX_PACKETS {
            packets = 0;
            tokio::task::yield_now().await;
        }
    }
}
