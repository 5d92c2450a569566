//! A shared port for QUIC: whoever comes is taken to the tunnel whose name is in the hello of their first packets, and stays there.
//!
//! The hello is encrypted, with keys that anybody can reckon; it may come in several packets, which are held until it is whole and then go on untouched, in
//! their order. From there on a client is known by address, and by the ids that its server gives the connection ([`spawnpoint_core::pin`]). Nothing is
//! answered here: a client that nobody wants hears nothing, so a made-up address hears nothing either.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use spawnpoint_core::pin::{MAX_ID, Pins};
use spawnpoint_core::route::PublicPort;
use spawnpoint_net::PacketSocket;
use spawnpoint_proto::{Dialect, Time};
use spawnpoint_sniff::quic::{self, Initials, LongHeader};
use tokio::sync::watch;

use crate::context::Context;
use crate::registry::Routes;
use crate::udp::UdpTunnel;

/// Clients that are known at once.
const MAX_CLIENTS: usize = 65_536;

/// Clients whose hello is not whole yet. The oldest makes way: the rest of a hello follows within milliseconds.
const MAX_PENDING: usize = 512;

/// How long the rest of a hello may take.
const PENDING: Duration = Duration::from_secs(3);

/// Who is where on a shared port; clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Clients(Arc<Mutex<Pins<PublicPort>>>);

impl Clients {
    pub fn new(idle: Duration) -> Self {
        Self(Arc::new(Mutex::new(Pins::new(MAX_CLIENTS, idle))))
    }

    /// A server has sent `packet` to `client`.
    pub fn on_reply(&self, client: SocketAddr, packet: &[u8]) {
        if let Some(header) = LongHeader::decode(packet) {
            self.pins().learn(client, header.source);
        }
    }

    /// Goes on with a client who was there in the process before.
    #[cfg(unix)]
    pub fn restore(&self, now: Time, client: SocketAddr, target: PublicPort) {
        self.pins().pin(now, client, target);
    }

    fn pins(&self) -> MutexGuard<'_, Pins<PublicPort>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes the packets of a shared port to their tunnels.
pub(crate) struct Concierge {
    pub context: Arc<Context>,
    pub routes: watch::Receiver<Routes>,
    pub via: Via,
    pub clients: Clients,
    pending: HashMap<SocketAddr, Pending>,
    /// Whose hello is not whole, the oldest first.
    order: VecDeque<(SocketAddr, Time)>,
}

/// A public socket through which flows are answered.
#[derive(Clone, Debug)]
pub(crate) struct Via {
    pub socket: Arc<PacketSocket>,
    /// Who is where, when the socket is shared.
    pub clients: Option<Clients>,
    /// The port, when it is shared.
    pub port: Option<u16>,
}

/// A client whose hello is not whole.
struct Pending {
    since: Time,
    initials: Initials,
    packets: Vec<Bytes>,
}

impl Concierge {
    pub fn new(context: Arc<Context>, routes: watch::Receiver<Routes>, via: Via, clients: Clients) -> Self {
        Self {
            context,
            routes,
            via,
            clients,
            pending: HashMap::new(),
            order: VecDeque::new(),
        }
    }

    /// A packet; never waits.
    pub fn on_packet(&mut self, client: SocketAddr, local: Option<IpAddr>, packet: &[u8]) {
        let now = self.context.clock.now();
        let header = LongHeader::decode(packet);
        let known = {
            let mut pins = self.clients.pins();
            // A client that begins another connection on the same socket may want another server.
            let is_new = header.as_ref().is_some_and(|header| {
                header.is_initial && quic::is_supported(header.version) && !pins.has(client, header.destination)
            });
            pins.get(now, client).filter(|_| !is_new)
        };
        if let Some(target) = known {
            self.forward(target, client, local, packet);
            return;
        }
        match header {
            Some(header) if header.is_initial && quic::is_supported(header.version) => {
                self.on_initial(now, client, local, packet, header.destination);
            }
            Some(header) => self.on_stray(now, client, local, packet, header.destination),
            None => {
                let longest = packet.len().saturating_sub(1).min(MAX_ID);
                let id = quic::short_destination(packet, longest).unwrap_or_default();
                self.on_stray(now, client, local, packet, id);
            }
        }
    }

    /// A packet of a connection that has begun, from where nobody is known.
    fn on_stray(&mut self, now: Time, client: SocketAddr, local: Option<IpAddr>, packet: &[u8], id: &[u8]) {
        let moved = self.clients.pins().follow(now, client, id);
        let Some((from, target)) = moved else {
            return self.context.metrics.denied("unknown_connection");
        };
        if let Some(udp) = self.tunnel(target) {
            udp.move_player(from, client);
        }
        self.forward(target, client, local, packet);
    }

    fn on_initial(&mut self, now: Time, client: SocketAddr, local: Option<IpAddr>, packet: &[u8], id: &[u8]) {
        while let Some((oldest, since)) = self.order.front().copied() {
            let is_over = now.since(since) > PENDING || self.order.len() > MAX_PENDING;
            if !is_over {
                break;
            }
            self.order.pop_front();
            if self.pending.get(&oldest).is_some_and(|pending| pending.since == since) {
                self.pending.remove(&oldest);
            }
        }
        // Most hellos are whole at once: only what is not is kept.
        let mut pending = self.pending.remove(&client).unwrap_or_else(|| Pending {
            since: now,
            initials: Initials::new(),
            packets: Vec::new(),
        });
        let hello = match pending.initials.on_datagram(packet) {
            Ok(Some(hello)) => hello,
            Ok(None) => {
                if pending.packets.is_empty() {
                    self.order.push_back((client, pending.since));
                }
                pending.packets.push(Bytes::copy_from_slice(packet));
                self.pending.insert(client, pending);
                return;
            }
            Err(violation) => {
                tracing::debug!(%client, reason = violation.as_str(), "a packet is no beginning of a connection");
                // What came before it may still be one.
                if !pending.packets.is_empty() {
                    self.pending.insert(client, pending);
                }
                return self.context.metrics.denied("bad_hello");
            }
        };
        let target = self.find(hello.server_name.as_deref());
        let Some(target) = target else {
            return self.context.metrics.denied("unknown_name");
        };
        let mut is_in = false;
        for packet in pending.packets {
            is_in |= self.forward(target, client, local, &packet);
        }
        is_in |= self.forward(target, client, local, packet);
        // Nothing is kept for an address before it was admitted.
        if is_in {
            let mut pins = self.clients.pins();
            match pins.pin(now, client, target) {
                true => pins.learn(client, id),
                false => self.context.metrics.denied("players_of_relay"),
            }
        }
    }

    /// The tunnel that a client wants who named `name`.
    fn find(&self, name: Option<&str>) -> Option<PublicPort> {
        let default = self.context.default_route();
        let default = default.as_ref().map(|(host, tunnel)| (*host, tunnel));
        self.routes.borrow().find(Dialect::Quic, name, default)
    }

    /// Hands a packet to its tunnel; returns whether the client is in.
    fn forward(&self, target: PublicPort, client: SocketAddr, local: Option<IpAddr>, packet: &[u8]) -> bool {
        let Some(udp) = self.tunnel(target) else {
            self.context.metrics.denied("no_agent");
            return false;
        };
        udp.on_player_packet(client, local, packet, &self.via)
    }

    fn tunnel(&self, target: PublicPort) -> Option<Arc<UdpTunnel>> {
        let routes = self.routes.borrow();
        let (link, id) = routes.get(target)?.target.as_ref()?;
        link.tunnel(*id)?.udp.clone()
    }
}
