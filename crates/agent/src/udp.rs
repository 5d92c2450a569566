//! The UDP players of one link: a socket of its own for each, so that the game server tells them apart and nobody else can answer.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use spawnpoint_core::flow::{DropReason, FlowMirror, Limits, Received};
#[cfg(unix)]
use spawnpoint_net::Descriptors;
use spawnpoint_net::{Burst, Clock, DatagramOutbox, Packets, Segmenter, Sessions, TaskScope, receive_datagrams};
use spawnpoint_ops::Event;
use spawnpoint_proto::datagram::{Announcement, Header, Kind};
use spawnpoint_proto::repair::is_repair;
use spawnpoint_proto::{FlowId, Violation};
use spawnpoint_sniff::raknet;
use tokio::net::UdpSocket;
use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, DropGuard};

#[cfg(unix)]
use crate::handover::state::HandedFlow;
use crate::origin::{Introduction, Origin};
use crate::tcp::{Hall, Visit};
use crate::tunnels::{OpenTunnel, OpenTunnels};
use crate::wake::Awake;

/// Players of one link at once; the relay's own limits are lower.
const MAX_FLOWS: usize = 65_536;

/// A flow lives this much longer here than at the relay, which tells us when it ends one.
const GRACE: Duration = Duration::from_secs(10);

/// A flow's idle time until the relay has told its own.
const DEFAULT_IDLE: Duration = Duration::from_secs(60);

/// Packets of a new player that wait until its socket is open, and their bytes.
const MAX_WAITING: (usize, usize) = (64, 256 * 1024);

/// A packet that has waited this long, a fifth of a game's tick, was late because of the line.
const NOTICEABLE: Duration = Duration::from_millis(10);

/// Drop counters are reported this often.
const REPORT_EVERY: Duration = Duration::from_secs(10);

std::thread_local! {
    /// Where packets of game servers are read to before they are cut; one a thread, whatever the number of players.
    static SCRATCH: std::cell::RefCell<Vec<u8>> = std::cell::RefCell::new(vec![0; 65_536]);
}

/// The flows of one link.
pub(crate) struct Flows {
    clock: Clock,
    hall: Hall,
    tunnels: OpenTunnels,
    outbox: DatagramOutbox,
    segmenter: Segmenter,
    mirror: Mutex<FlowMirror<Flow>>,
    opened: Notify,
    /// Cancelled when the flows' sockets are another process's to read.
    hold: CancellationToken,
    drops: [AtomicU64; DropReason::ALL.len()],
}

/// Who takes the datagrams of a carrier that are not packets of players.
pub(crate) struct Repairs {
    pub sessions: Arc<Sessions>,
    /// The carrier that they come on.
    pub epoch: u64,
}

/// What a flow holds; dropping it ends its task and reports that its player left.
struct Flow {
    player: SocketAddr,
    pipe: Arc<Pipe>,
    tunnel: Arc<OpenTunnel>,
    visit: Visit,
    _task: DropGuard,
}

/// One player's way to the game server.
#[derive(Debug)]
struct Pipe {
    origin: Arc<Origin>,
    state: Mutex<PipeState>,
    /// How the server is told who the player is, once the socket is open.
    introduction: Mutex<Introduction>,
    /// Keeps a server that sleeps from being stopped, once the player does more than look.
    awake: OnceLock<Option<Awake>>,
    /// Bytes from and to the player.
    traffic: Arc<[AtomicU64; 2]>,
}

#[derive(Debug)]
enum PipeState {
    /// The socket is being opened.
    Waiting(VecDeque<Bytes>),
    Open(Arc<UdpSocket>),
}

impl Flows {
    pub fn new(
        hall: Hall,
        tunnels: OpenTunnels,
        outbox: DatagramOutbox,
        clock: Clock,
        hold: CancellationToken,
    ) -> Self {
        let idle = DEFAULT_IDLE + GRACE;
        let limits = Limits {
            idle,
            unanswered: idle,
            flows: MAX_FLOWS,
        };
        Self {
            clock,
            hall,
            tunnels,
            outbox,
            segmenter: Segmenter::new(),
            mirror: Mutex::new(FlowMirror::new(limits)),
            opened: Notify::new(),
            hold,
            drops: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }

    /// Flows opened from here on live as long as the relay says it keeps them, and a little longer.
    pub fn set_idle(&self, idle: Duration) {
        self.mirror().set_idle(idle + GRACE);
    }

    /// Takes datagrams until the connection is gone.
    pub async fn receive(self: Arc<Self>, connection: quinn::Connection, scope: Arc<TaskScope>, repairs: Repairs) {
        let mut burst = Burst::default();
        while receive_datagrams(&connection, |mut datagram| {
            if is_repair(&datagram) {
                if repairs.sessions.on_repair(repairs.epoch, datagram).is_err() {
                    self.drop_packet(DropReason::Violation);
                }
                return;
            }
            match Header::decode(&mut datagram) {
                Ok(header) => self.on_datagram(header, datagram, &scope, &mut burst),
                Err(_) => self.drop_packet(DropReason::Violation),
            }
        })
        .await
        .is_ok()
        {
            burst.send(|pipe, packets| pipe.send(packets, &self.segmenter, |reason| self.drop_packet(reason)));
        }
    }

    fn on_datagram(self: &Arc<Self>, header: Header, payload: Bytes, scope: &TaskScope, burst: &mut Burst<Arc<Pipe>>) {
        let Header { flow, kind } = header;
        let (announced, fragment) = match kind {
            Kind::Packet { announced, fragment } => (announced, fragment),
            Kind::Close => {
                let closed = self.mirror().close(flow);
                return closed.into_iter().for_each(|flow| end(flow, "idle"));
            }
            // Only an agent confirms, and only an agent does not know.
            Kind::Confirm | Kind::Unknown => {
                tracing::debug!(
                    reason = Violation::MalformedDatagram.as_str(),
                    "the relay sent an agent's datagram"
                );
                return self.drop_packet(DropReason::Violation);
            }
        };
        let now = self.clock.now();
        let mut mirror = self.mirror();
        if let Some(announced) = announced
            && mirror.get(flow).is_some_and(|known| known.player != announced.player)
        {
            // A relay that lost its count gave the id to another player, who must not meet the socket of the first.
            mirror.close(flow).into_iter().for_each(|flow| end(flow, "replaced"));
        }
        let mut received = mirror.on_relay_packet(now, flow, announced, fragment, payload);
        if let Ok(Received::New(announcement, payload)) = received {
            let Some(tunnel) = self.tunnels.get(announcement.tunnel) else {
                return self.drop_packet(DropReason::UnknownTunnel);
            };
            if tunnel.origin.sleeps_through(&payload) {
                // Whoever only looks wakes nobody.
                return self.drop_packet(DropReason::OriginRefused);
            }
            let entry = self.enter(flow, announcement, tunnel, None, scope);
            if let Err(reason) = mirror.open(now, flow, entry) {
                return self.drop_packet(reason);
            }
            self.opened.notify_one();
            received = mirror.on_relay_packet(now, flow, announced, fragment, payload);
        }
        let forward = match received {
            Ok(Received::Packet(entry, packet)) => Ok(Some((entry.pipe.clone(), packet))),
            Ok(Received::Part | Received::New(..)) => Ok(None),
            Ok(Received::Unknown) => Err(DropReason::UnknownFlow),
            Err(reason) => Err(reason),
        };
        drop(mirror);
        match forward {
            Ok(forward) => {
                if announced.is_some() {
                    self.tell(flow, Kind::Confirm);
                }
                if let Some((pipe, packet)) = forward {
                    burst.push(pipe, packet, Arc::ptr_eq);
                }
            }
            Err(reason) => {
                if reason == DropReason::UnknownFlow {
                    self.tell(flow, Kind::Unknown);
                }
                self.drop_packet(reason);
            }
        }
    }

    /// A flow with its task; `socket` is the one it already has.
    fn enter(
        self: &Arc<Self>,
        id: FlowId,
        announced: Announcement,
        tunnel: Arc<OpenTunnel>,
        socket: Option<Arc<UdpSocket>>,
        scope: &TaskScope,
    ) -> Flow {
        let visit = Visit::begin(&self.hall, &tunnel, format!("udp-{id}"), announced.player);
        let pipe = Arc::new(Pipe {
            origin: tunnel.origin.clone(),
            state: Mutex::new(PipeState::Waiting(VecDeque::new())),
            introduction: Mutex::new(Introduction::None),
            awake: OnceLock::new(),
            traffic: visit.traffic.clone(),
        });
        let token = CancellationToken::new();
        let (flows, served, stopped) = (self.clone(), (tunnel.clone(), pipe.clone()), token.clone());
        let player = announced.player;
        scope.spawn(async move {
            let (tunnel, pipe) = served;
            tokio::select! {
                biased; // a closed flow sends nothing more
                () = stopped.cancelled() => {}
                () = flows.hold.cancelled() => {}
                () = flows.serve(id, player, &tunnel, &pipe, socket) => {}
            }
        });
        Flow {
            player: announced.player,
            pipe,
            visit,
            tunnel,
            _task: token.drop_guard(),
        }
    }

    /// The flows as a successor needs them.
    #[cfg(unix)]
    pub fn hand(&self, tunnels: &OpenTunnels, descriptors: &mut Descriptors) -> Vec<HandedFlow> {
        let mut hand = |(id, last_packet, flow): (FlowId, u16, &Flow)| {
            // A flow whose socket is still being opened is announced again by the relay.
            let PipeState::Open(socket) = &*flow.pipe.state() else {
                return None;
            };
            let (tunnel, _) = tunnels.find(&flow.tunnel.tunnel.name)?;
            Some(HandedFlow {
                flow: id,
                tunnel,
                player: flow.player,
                socket: descriptors.add(socket.clone()),
                up: flow.pipe.traffic[0].load(Ordering::Relaxed),
                down: flow.pipe.traffic[1].load(Ordering::Relaxed),
                last_packet: Some(last_packet),
            })
        };
        self.mirror().iter().filter_map(&mut hand).collect()
    }

    /// Goes on with a flow that another process had.
    #[cfg(unix)]
    pub fn restore(
        self: &Arc<Self>,
        handed: &HandedFlow,
        tunnel: Arc<OpenTunnel>,
        socket: std::os::fd::OwnedFd,
        scope: &TaskScope,
    ) -> io::Result<()> {
        let socket = std::net::UdpSocket::from(socket);
        socket.set_nonblocking(true)?;
        let socket = Arc::new(UdpSocket::from_std(socket)?);
        let announced = Announcement {
            tunnel: handed.tunnel,
            player: handed.player,
        };
        let entry = self.enter(handed.flow, announced, tunnel, Some(socket), scope);
        entry.pipe.traffic[0].store(handed.up, Ordering::Relaxed);
        entry.pipe.traffic[1].store(handed.down, Ordering::Relaxed);
        // More than the table holds were never open.
        let last_packet = handed.last_packet.unwrap_or(0);
        let _ = self.mirror().restore(self.clock.now(), handed.flow, last_packet, entry);
        self.opened.notify_one();
        Ok(())
    }

    /// Opens the flow's socket, hands over what has waited for it, then carries the server's packets back.
    async fn serve(
        &self,
        id: FlowId,
        player: SocketAddr,
        tunnel: &OpenTunnel,
        pipe: &Pipe,
        socket: Option<Arc<UdpSocket>>,
    ) {
        let opened = match socket {
            // Whoever had it before has introduced the player.
            Some(socket) => {
                let server = socket.peer_addr().unwrap_or(player);
                let again = tunnel.origin.introduction(player, server).again();
                socket.writable().await.map(|()| (socket, again))
            }
            None => {
                let opened = tunnel.origin.open_udp(player).await;
                opened.map(|(socket, introduction)| (Arc::new(socket), introduction))
            }
        };
        let (socket, introduction) = match opened {
            Ok(opened) => opened,
            Err(_) => {
                self.drop_packet(DropReason::OriginRefused);
                self.tell(id, Kind::Close);
                let closed = self.mirror().close(id);
                return closed.into_iter().for_each(|flow| end(flow, "origin_unreachable"));
            }
        };
        if let Ok(source) = socket.local_addr()
            && let Some(flow) = self.mirror().get(id)
        {
            flow.visit.is_seen_as(source.ip());
        }
        pipe.open(socket.clone(), introduction)
            .into_iter()
            .for_each(|reason| self.drop_packet(reason));
        let outbox = self.outbox.with_redundancy(tunnel.tunnel.redundancy);
        loop {
            match receive(&socket, |packet| self.on_origin_packet(id, &outbox, packet)).await {
                Ok(length) => {
                    tunnel.origin.is_up();
                    pipe.traffic[1].fetch_add(length as u64, Ordering::Relaxed);
                }
                // The server's machine says that nobody listens on the port: this player's packets are lost until somebody does.
                Err(error) if is_refusal(&error) => {
                    tunnel.origin.is_down(&error);
                    self.drop_packet(DropReason::OriginRefused);
                }
                Err(error) => {
                    tracing::warn!(tunnel = %tunnel.tunnel.name, %error, "a player's socket failed");
                    self.tell(id, Kind::Close);
                    let closed = self.mirror().close(id);
                    return closed.into_iter().for_each(|flow| end(flow, "local_reset"));
                }
            }
        }
    }

    fn on_origin_packet(&self, id: FlowId, outbox: &DatagramOutbox, packet: &[u8]) {
        let number = self.mirror().on_origin_packet(self.clock.now(), id);
        match number {
            Some(number) => outbox.push_packet(id, None, packet, number),
            None => self.drop_packet(DropReason::UnknownFlow),
        }
    }

    /// Lets flows expire and reports drops, as long as it is polled.
    pub async fn keep(self: Arc<Self>) {
        let mut report = tokio::time::interval(REPORT_EVERY);
        loop {
            let next = self.mirror().poll_timeout();
            let expiry = async {
                match next {
                    Some(time) => tokio::time::sleep_until(self.clock.instant(time)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = expiry => {
                    let ended = self.mirror().handle_timeout(self.clock.now());
                    for (id, flow) in ended {
                        self.tell(id, Kind::Close);
                        end(flow, "idle");
                    }
                }
                () = self.opened.notified() => {}
                _ = report.tick() => self.report(),
            }
        }
    }

    /// Whether any player has a flow.
    pub fn has_players(&self) -> bool {
        !self.mirror().is_empty()
    }

    /// Ends the flows of a tunnel that was closed.
    pub fn close_tunnel(&self, tunnel: &Arc<OpenTunnel>) {
        let closed = self
            .mirror()
            .close_if(|_, flow| Arc::ptr_eq(&flow.tunnel.scope, &tunnel.scope));
        closed.into_iter().for_each(|(_, flow)| end(flow, "tunnel_closed"));
    }

    /// Ends every flow, with the link.
    pub fn close(&self, reason: &'static str) {
        let closed = self.mirror().close_if(|_, _| true);
        closed.into_iter().for_each(|(_, flow)| end(flow, reason));
        self.report();
    }

    fn report(&self) {
        let abandoned = self.mirror().take_abandoned();
        self.count(DropReason::Incomplete, abandoned);
        for dropped in self.outbox.take_dropped().values() {
            self.count(DropReason::QueueFull, dropped.full);
            self.count(DropReason::TooOld, dropped.aged);
            self.count(DropReason::PathShrank, dropped.oversize);
        }
        let longest_wait = self.outbox.take_longest_wait();
        if longest_wait >= NOTICEABLE {
            let longest_ms = longest_wait.as_millis() as u64;
            tracing::debug!(longest_ms, "packets to the relay had to wait for the line");
        }
        for reason in DropReason::ALL {
            let count = self.drops[reason as usize].swap(0, Ordering::Relaxed);
            if count > 0 {
                tracing::debug!(reason = reason.as_str(), count, "datagrams dropped");
                self.hall.events.emit(Event::DatagramsDropped {
                    reason: reason.as_str(),
                    count,
                });
            }
        }
    }

    fn tell(&self, flow: FlowId, kind: Kind) {
        let mut datagram = BytesMut::with_capacity(8);
        Header { flow, kind }.encode(&mut datagram);
        self.outbox.push(flow, std::iter::once(datagram.freeze()));
    }

    fn drop_packet(&self, reason: DropReason) {
        // Of two the other one has arrived: that is what redundancy is for.
        if reason != DropReason::Duplicate {
            self.count(reason, 1);
        }
    }

    fn count(&self, reason: DropReason, count: u64) {
        self.drops[reason as usize].fetch_add(count, Ordering::Relaxed);
    }

    fn mirror(&self) -> MutexGuard<'_, FlowMirror<Flow>> {
        self.mirror.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pipe {
    /// Sends packets in a row; `lost` hears why any of them was not sent.
    fn send(&self, packets: Packets<'_>, segmenter: &Segmenter, mut lost: impl FnMut(DropReason)) {
        let socket = match &mut *self.state() {
            PipeState::Waiting(waiting) => {
                return packets.each().for_each(|packet| match is_full(waiting) {
                    true => lost(DropReason::QueueFull),
                    false => waiting.push_back(Bytes::copy_from_slice(packet)),
                });
            }
            PipeState::Open(socket) => socket.clone(),
        };
        if segmenter.takes(packets) {
            match self.send_together(&socket, packets, segmenter) {
                Ok(()) => return,
                // This only tells what became of an earlier packet, and nobody else hears it again.
                Err(error) if is_refusal(&error) => {
                    self.origin.is_down(&error);
                    lost(DropReason::OriginRefused);
                }
                Err(_) => {}
            }
        }
        packets
            .each()
            .filter_map(|packet| self.send_on(&socket, packet).err())
            .for_each(lost);
    }

    /// Sends packets in one call: all of them, or none.
    fn send_together(&self, socket: &UdpSocket, packets: Packets<'_>, segmenter: &Segmenter) -> io::Result<()> {
        if self.introduction().is_in_packet() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        segmenter.try_send(socket, socket.peer_addr()?, packets)?;
        if packets.each().any(|packet| !raknet::is_offline(packet)) {
            self.awake.get_or_init(|| self.origin.enter());
        }
        self.traffic[0].fetch_add(packets.contents.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    fn send_on(&self, socket: &UdpSocket, packet: &[u8]) -> Result<(), DropReason> {
        if !raknet::is_offline(packet) {
            self.awake.get_or_init(|| self.origin.enter());
        }
        let header = {
            let mut introduction = self.introduction();
            match &*introduction {
                Introduction::None | Introduction::Apart(_) => None,
                Introduction::Every(header) => Some(header.clone()),
                Introduction::First(_) => match std::mem::replace(&mut *introduction, Introduction::None) {
                    Introduction::First(header) => Some(header),
                    _ => None,
                },
            }
        };
        match header {
            Some(header) => self.send_plain(socket, &[&header[..], packet].concat()),
            None => self.send_plain(socket, packet),
        }
    }

    fn send_plain(&self, socket: &UdpSocket, packet: &[u8]) -> Result<(), DropReason> {
        let mut sent = socket.try_send(packet);
        let mut earlier = Ok(());
        if let Err(error) = &sent
            && is_refusal(error)
        {
            // This only tells what became of an earlier packet: the server's machine says that nobody listens on the port.
            self.origin.is_down(error);
            earlier = Err(DropReason::OriginRefused);
            sent = socket.try_send(packet);
        }
        match sent {
            Ok(_) => {
                self.traffic[0].fetch_add(packet.len() as u64, Ordering::Relaxed);
                earlier
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(DropReason::SocketFull),
            Err(_) => Err(DropReason::OriginRefused),
        }
    }

    /// Sends what has waited, in order, and lets further packets pass; returns what could not be sent.
    fn open(&self, socket: Arc<UdpSocket>, introduction: Introduction) -> Vec<DropReason> {
        let mut state = self.state();
        let mut waiting = match &mut *state {
            PipeState::Waiting(packets) => std::mem::take(packets),
            PipeState::Open(_) => VecDeque::new(),
        };
        if let Introduction::Apart(header) = &introduction {
            waiting.push_front(header.clone());
        }
        *self.introduction() = introduction;
        let failed = waiting
            .iter()
            .filter_map(|packet| self.send_on(&socket, packet).err())
            .collect();
        *state = PipeState::Open(socket);
        failed
    }

    fn introduction(&self) -> MutexGuard<'_, Introduction> {
        self.introduction.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, PipeState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn end(flow: Flow, reason: &'static str) {
    flow.visit.end(reason);
}

fn is_full(waiting: &VecDeque<Bytes>) -> bool {
    waiting.len() >= MAX_WAITING.0 || waiting.iter().map(Bytes::len).sum::<usize>() >= MAX_WAITING.1
}

fn is_refusal(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::ConnectionRefused | Kind::ConnectionReset | Kind::HostUnreachable | Kind::NetworkUnreachable
    )
}

/// Waits for one packet and hands it over; returns its length.
async fn receive(socket: &UdpSocket, take: impl Fn(&[u8])) -> io::Result<usize> {
    loop {
        socket.readable().await?;
        let received = SCRATCH.with_borrow_mut(|scratch| {
            let length = socket.try_recv(scratch)?;
            take(&scratch[..length]);
            Ok(length)
        });
        match received {
            Err(error) if io::Error::kind(&error) == io::ErrorKind::WouldBlock => {}
            result => return result,
        }
    }
}
