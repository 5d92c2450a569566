//! A path between agent and relay that misbehaves on request: delay, loss, blackouts, packets that are too large, and a NAT that changes its mind.
//!
//! It is a UDP proxy in the test's process. The agent dials [`Path::address`] instead of the relay; each socket that it sends from gets a **way**, a socket
//! of its own towards the relay, as a NAT gives each a port of its own. Nothing here waits with a lock held, every queue has a size, and what does not
//! fit is lost, as on any path.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use spawnpoint_net::TaskScope;
use spawnpoint_proto::Invite;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Packets that are on a delayed path at once.
const IN_FLIGHT: usize = 8192;

/// Sockets of agents that are remembered. An agent opens one for each try, and uses one.
const MAX_WAYS: usize = 64;

/// What a QUIC packet needs at most.
const MAX_PACKET: usize = 2048;

/// Bytes of the largest packet that a path takes unless it is told otherwise.
const ETHERNET: usize = 1472;

/// A running path; it ends when it is dropped.
#[derive(Debug)]
pub struct Path {
    /// What the agent dials.
    pub address: SocketAddr,
    shared: Arc<Shared>,
    _scope: TaskScope,
}

#[derive(Debug)]
struct Shared {
    relay: SocketAddr,
    listener: Arc<UdpSocket>,
    state: Mutex<State>,
    line: mpsc::Sender<Parcel>,
}

#[derive(Debug)]
struct State {
    ways: HashMap<SocketAddr, Way>,
    delay: Duration,
    /// Of 2^32.
    loss: u64,
    is_dark: bool,
    /// Larger packets are lost without a word.
    max_packet: usize,
    dice: u64,
    /// Packets that were not lost, and that were.
    carried: u64,
    lost: u64,
    /// The last byte of the NAT's address.
    nat: u8,
}

/// One socket of the agent as the relay sees it.
#[derive(Debug)]
struct Way {
    socket: Arc<UdpSocket>,
    used: Instant,
    /// It leads nowhere any more, in either direction.
    is_dead: bool,
    /// Ends the replies.
    _scope: TaskScope,
}

/// A packet that arrives later.
#[derive(Debug)]
struct Parcel {
    due: Instant,
    socket: Arc<UdpSocket>,
    to: SocketAddr,
    packet: Bytes,
}

impl Path {
    /// A path to `relay` that does no harm yet. `seed` decides which packets are lost when some are to be.
    ///
    /// # Errors
    /// When there is no free port.
    pub async fn start(relay: SocketAddr, seed: u64) -> io::Result<Self> {
        let listener = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?);
        let (line, parcels) = mpsc::channel(IN_FLIGHT);
        let state = State {
            ways: HashMap::new(),
            delay: Duration::ZERO,
            loss: 0,
            is_dark: false,
            max_packet: ETHERNET,
            dice: seed.wrapping_mul(2).wrapping_add(1),
            carried: 0,
            lost: 0,
            nat: 1,
        };
        let shared = Arc::new(Shared {
            relay,
            listener,
            state: Mutex::new(state),
            line,
        });
        let scope = TaskScope::new(&CancellationToken::new());
        scope.spawn(deliver(parcels));
        scope.spawn(shared.clone().forward());
        Ok(Self {
            address: shared.listener.local_addr()?,
            shared,
            _scope: scope,
        })
    }

    /// The invite for an agent that takes this path.
    pub fn invite(&self, invite: &Invite) -> Invite {
        Invite {
            host: self.address.ip().to_string(),
            port: self.address.port(),
            ..invite.clone()
        }
    }

    /// Each packet takes this long, each way.
    pub fn set_delay(&self, delay: Duration) {
        self.shared.lock().delay = delay;
    }

    /// This share of packets is lost, each way; 0.01 is one in a hundred.
    pub fn set_loss(&self, share: f64) {
        self.shared.lock().loss = (share.clamp(0.0, 1.0) * 2f64.powi(32)) as u64;
    }

    /// Loses packets of more bytes than that, and tells nobody.
    pub fn set_max_packet(&self, bytes: usize) {
        self.shared.lock().max_packet = bytes;
    }

    /// Loses everything, or nothing of it any more.
    pub fn set_dark(&self, is_dark: bool) {
        self.shared.lock().is_dark = is_dark;
    }

    /// Packets that it has carried, both ways together.
    pub fn carried(&self) -> u64 {
        self.shared.lock().carried
    }

    /// Packets that it has lost, both ways together.
    pub fn lost(&self) -> u64 {
        self.shared.lock().lost
    }

    /// The NAT forgets its mappings: the relay sees other ports from now on, and what it sends to the old ones is lost.
    ///
    /// # Errors
    /// When there is no free port.
    pub fn rebind(&self) -> io::Result<()> {
        let mut state = self.shared.lock();
        let clients: Vec<SocketAddr> = state.ways.keys().copied().collect();
        for client in clients {
            let (is_dead, way) = (state.ways[&client].is_dead, self.shared.way(client, state.nat)?);
            state.ways.insert(client, Way { is_dead, ..way });
        }
        Ok(())
    }

    /// The NAT gets another address; what was open goes on from there.
    ///
    /// # Errors
    /// When there is no free port.
    pub fn readdress(&self) -> io::Result<()> {
        self.shared.lock().move_nat();
        self.rebind()
    }

    /// The NAT gets another address, and everything that was open leads nowhere for good: only a new socket gets through.
    pub fn abandon(&self) {
        let mut state = self.shared.lock();
        state.move_nat();
        state.ways.values_mut().for_each(|way| way.is_dead = true);
    }
}

impl State {
    fn move_nat(&mut self) {
        self.nat = self.nat % 250 + 1;
    }

    /// How long the next packet from or to `client` takes; none when it is lost.
    fn delay_of(&mut self, client: SocketAddr, length: usize) -> Option<Duration> {
        let is_lost = self.loses() || length > self.max_packet || self.ways.get(&client)?.is_dead;
        *if is_lost { &mut self.lost } else { &mut self.carried } += 1;
        (!is_lost).then_some(self.delay)
    }

    fn loses(&mut self) -> bool {
        // xorshift64*
        self.dice ^= self.dice >> 12;
        self.dice ^= self.dice << 25;
        self.dice ^= self.dice >> 27;
        self.is_dark || self.dice.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32 < self.loss
    }
}

impl Shared {
    async fn forward(self: Arc<Self>) {
        let mut buffer = [0; MAX_PACKET];
        loop {
            // An agent's closed socket shows as an error of the next call.
            let Ok((length, client)) = self.listener.recv_from(&mut buffer).await else {
                continue;
            };
            if let Some((socket, delay)) = self.route(client, length) {
                self.send(socket, self.relay, &buffer[..length], delay);
            }
        }
    }

    async fn reply(self: Arc<Self>, socket: Arc<UdpSocket>, client: SocketAddr) {
        let mut buffer = [0; MAX_PACKET];
        loop {
            let Ok((length, from)) = socket.recv_from(&mut buffer).await else {
                continue;
            };
            let delay = self.lock().delay_of(client, length);
            if let Some(delay) = delay.filter(|_| from == self.relay) {
                self.send(self.listener.clone(), client, &buffer[..length], delay);
            }
        }
    }

    /// The way of a packet from `client` and how long it takes; none when it is lost.
    fn route(self: &Arc<Self>, client: SocketAddr, length: usize) -> Option<(Arc<UdpSocket>, Duration)> {
        let mut state = self.lock();
        if !state.ways.contains_key(&client) {
            if state.ways.len() >= MAX_WAYS {
                let oldest = state.ways.iter().min_by_key(|(_, way)| way.used);
                let oldest = oldest.map(|(client, _)| *client)?;
                state.ways.remove(&oldest);
            }
            let way = self.way(client, state.nat).ok()?;
            state.ways.insert(client, way);
        }
        let delay = state.delay_of(client, length)?;
        let way = state.ways.get_mut(&client)?;
        way.used = Instant::now();
        Some((way.socket.clone(), delay))
    }

    fn way(self: &Arc<Self>, client: SocketAddr, nat: u8) -> io::Result<Way> {
        let socket = std::net::UdpSocket::bind((IpAddr::from([127, 0, 0, nat]), 0))?;
        socket.set_nonblocking(true)?;
        let socket = Arc::new(UdpSocket::from_std(socket)?);
        let scope = TaskScope::new(&CancellationToken::new());
        scope.spawn(self.clone().reply(socket.clone(), client));
        Ok(Way {
            socket,
            used: Instant::now(),
            is_dead: false,
            _scope: scope,
        })
    }

    fn send(&self, socket: Arc<UdpSocket>, to: SocketAddr, packet: &[u8], delay: Duration) {
        if delay.is_zero() {
            // A full socket loses it.
            put(&socket, packet, to);
            return;
        }
        // So does a full path.
        let _ = self.line.try_send(Parcel {
            due: Instant::now() + delay,
            socket,
            to,
            packet: Bytes::copy_from_slice(packet),
        });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

/// One task for all parcels: they were sent in the order in which they are due, but around a change of the delay.
async fn deliver(mut parcels: mpsc::Receiver<Parcel>) {
    while let Some(parcel) = parcels.recv().await {
        tokio::time::sleep_until(parcel.due).await;
        put(&parcel.socket, &parcel.packet, parcel.to);
    }
}

/// Sends a packet past the runtime, which would refuse the first one of a fresh socket: it has not heard yet that the socket can send.
fn put(socket: &UdpSocket, packet: &[u8], to: SocketAddr) {
    let _ = socket2::SockRef::from(socket).send_to(packet, &to.into());
}
