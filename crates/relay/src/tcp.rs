//! One TCP player, from the accepted socket to the last byte.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use socket2::SockRef;
use spawnpoint_core::admission::{DenyReason, Full, Permit, Whose};
use spawnpoint_net::{Ends, Halves, LocalSocket, Meter, Opening, PlayerStream, Session, SessionEnd, canonical};
use spawnpoint_proto::stream::{Purpose, StreamHeader};
use spawnpoint_proto::{Protocol, ResetCode};
use spawnpoint_sniff::minecraft::Refusal;
use tokio::net::{TcpListener, TcpStream};

use crate::away::{Presence, words_for_denied};
use crate::hearing::Again;
use crate::link::{Link, SeatRecord};
use crate::meter::SessionMeter;
use crate::refuse;
use crate::tunnel::{Seat, Tunnel};

/// What a player says before the server answers, as far as a refusal needs it.
const HEAD: usize = 1024;

/// An agent that has no stream to give for this long is full.
pub(crate) const OPEN_DEADLINE: Duration = Duration::from_secs(5);

/// A player whose machine vanished is noticed after two minutes of silence by the kernel's probes.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// A player at the tunnel's door, or in. Dropping one ends them: in a reset, unless the server has not said a word yet and they can be heard once more, as when
/// the link is lost, or the tunnel closes under the task that carries them.
pub(crate) struct Visitor {
    socket: Option<LocalSocket>,
    player: SocketAddr,
    /// What the player had said before it was known where they go.
    said: Bytes,
    /// The first that the player has said in all, until the server answers.
    head: Vec<u8>,
    purpose: Purpose,
    again: Option<Again>,
    /// Bytes from and to the player, once they are in.
    meters: Option<Arc<[SessionMeter; 2]>>,
}

impl Visitor {
    /// A player who has said nothing that was read.
    pub fn silent(socket: LocalSocket, player: SocketAddr) -> Box<Self> {
        // In a room of its own, since a future that hands it on would have room for it twice.
        Box::new(Self {
            socket: Some(socket),
            player,
            said: Bytes::new(),
            head: Vec::new(),
            purpose: Purpose::Play,
            again: None,
            meters: None,
        })
    }

    /// A player who has `said` something, and whom that allows to be heard `again`.
    pub fn heard(
        socket: LocalSocket,
        player: SocketAddr,
        said: Bytes,
        purpose: Purpose,
        again: Option<Again>,
    ) -> Box<Self> {
        let mut visitor = Self::silent(socket, player);
        (visitor.said, visitor.purpose, visitor.again) = (said, purpose, again);
        visitor
    }

    /// The socket, for as long as nobody has taken it out.
    fn socket(&self) -> Option<Arc<TcpStream>> {
        self.socket.as_ref().map(LocalSocket::get).cloned()
    }

    /// Takes the socket out: from here on the caller ends it.
    fn take(&mut self) -> Option<LocalSocket> {
        self.socket.take()
    }

    /// Whether the server has said nothing, and the player nothing more than is known here.
    fn is_unanswered(&self) -> bool {
        let said = self.head.len() as u64;
        let is_silent = |meters: &Arc<[SessionMeter; 2]>| (meters[0].total(), meters[1].total()) == (said, 0);
        self.meters.as_ref().is_none_or(is_silent)
    }
}

impl Drop for Visitor {
    fn drop(&mut self) {
        if self.is_unanswered()
            && let (Some(socket), Some(again)) = (self.socket.take(), self.again.take())
        {
            let said = match self.meters {
                Some(_) => std::mem::take(&mut self.head).into(),
                None => self.said.clone(),
            };
            again.hear(socket, self.player, said);
        }
    }
}

/// Carries one new player until the session ends.
pub(crate) async fn carry(
    tunnel: &Tunnel,
    link: Arc<Link>,
    mut visitor: Box<Visitor>,
    game: Option<&str>,
    permit: Permit,
) {
    let Some(socket) = visitor.socket() else { return };
    let player = visitor.player;
    let seat = Seat::take(&tunnel.context, (&tunnel.labels, &tunnel.book), player, permit);
    tracing::debug!(session = %seat.session, %player, tunnel = tunnel.labels.tunnel, "player entered");
    let opening = Opening {
        session: seat.session,
        tunnel: tunnel.id,
        player,
        local: canonical(socket.local_addr().unwrap_or(player)),
        purpose: visitor.purpose,
    };
    let entry = Entry::begin(link, opening);
    entry.session.set_socket(&socket);
    drop(socket);
    if !visitor.said.is_empty() {
        entry.session.begin_with(visitor.said.clone());
    }
    let opened = tokio::time::timeout(entry.link.patience, open(&entry)).await;
    if !matches!(opened, Ok(Ok(()))) {
        // A successor may be taking the player over right now.
        entry.session.hold().await;
        let code = match entry.link.connection() {
            Some(_) => ResetCode::TooManySessions,
            None => {
                tunnel.context.metrics.denied(DenyReason::NoAgent.as_str());
                ResetCode::TunnelClosed
            }
        };
        drop(entry);
        seat.leave(code.as_str(), 0, 0);
        if let Some(socket) = visitor.take() {
            // Few need it, and everybody's task would have room for it.
            Box::pin(refuse(tunnel, socket, game, refusal(tunnel, code), &visitor.said)).await;
        }
        return;
    }
    let before = [visitor.said.len() as u64, 0];
    tunnel.bytes[0].inc_by(before[0]);
    carry_on(tunnel, entry, visitor, game, seat, before).await;
}

/// Carries a player whose session has begun, and has moved as many bytes as `before` says, from and to the player.
pub(crate) async fn carry_on(
    tunnel: &Tunnel,
    entry: Entry,
    mut visitor: Box<Visitor>,
    game: Option<&str>,
    mut seat: Seat,
    before: [u64; 2],
) {
    let Some(socket) = visitor.socket() else { return };
    let [up, down] = tunnel.bytes.clone();
    let tolls = tunnel.way.tolls(
        visitor.player.ip(),
        Protocol::Tcp,
        &tunnel.context.addresses,
        &tunnel.context.config(),
    );
    let meters = Arc::new([
        SessionMeter::new(up, before[0], tolls.up),
        SessionMeter::new(down, before[1], tolls.down).settling(seat.place()),
    ]);
    seat.watch(meters.clone());
    visitor.meters = Some(meters.clone());
    entry.note(&seat, &meters);
    let [up, down] = &*meters;
    if entry.session.is_fresh() && (refuse::has_words(game) || visitor.again.is_some()) {
        visitor.head.reserve_exact(visitor.said.len() + HEAD);
        visitor.head.extend_from_slice(&visitor.said);
    }
    visitor.said = Bytes::new();
    let head = &mut visitor.head;
    let ends = Ends {
        socket: &socket,
        outgoing: up,
        incoming: down,
        head: (head.capacity() > 0).then_some(head),
    };
    let mut halves = Halves::default();
    let end = entry.session.play(ends, &mut halves).await;
    drop(socket);
    let is_unanswered = down.total() == 0 && entry.session.taken() == 0;
    // The place is free from here on; what follows are only words.
    seat.leave(end.as_str(), up.total(), down.total());
    match end {
        // The visitor sees to it.
        SessionEnd::LinkLost
        | SessionEnd::Expired
        | SessionEnd::RemoteReset(ResetCode::TunnelClosed | ResetCode::UnknownTunnel)
            if visitor.again.is_some() && visitor.is_unanswered() => {}
        SessionEnd::Finished => visitor.take().into_iter().for_each(LocalSocket::finish),
        SessionEnd::RemoteReset(code) if is_unanswered => {
            if let Some(socket) = visitor.take() {
                // Few need it, and everybody's task would have room for it.
                Box::pin(refuse(tunnel, socket, game, refusal(tunnel, code), &visitor.head)).await;
            }
        }
        _ => drop(visitor.take()),
    }
    drop(visitor);
    entry.session.settle(end, &mut halves).await;
}

/// A session's place in its link's table, for as long as anything of it is left here.
pub(crate) struct Entry {
    link: Arc<Link>,
    pub session: Arc<Session>,
}

impl Entry {
    /// Enters a new session.
    pub fn begin(link: Arc<Link>, opening: Opening) -> Self {
        let session = link.sessions.begin(opening);
        Self { link, session }
    }

    /// Goes on with a session that another process had.
    #[cfg(unix)]
    pub const fn restore(link: Arc<Link>, session: Arc<Session>) -> Self {
        Self { link, session }
    }

    /// Sees the session to its end whose socket is closed, and whose peer does not know everything yet.
    #[cfg(unix)]
    pub async fn settle(self) {
        let end = SessionEnd::Finished;
        self.session.settle(end, &mut Halves::default()).await;
    }

    fn note(&self, seat: &Seat, meters: &Arc<[SessionMeter; 2]>) {
        let now = tokio::time::Instant::now();
        let record = SeatRecord {
            since: now.checked_sub(seat.lasted()).unwrap_or(now),
            meters: meters.clone(),
        };
        self.link.seats().insert(self.session.id(), record);
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.link.seats().remove(&self.session.id());
        self.link.sessions.remove(&self.session);
    }
}

/// The agent has no stream to give.
struct IsFull;

/// Opens the session's first stream, or waits until the link does, when it has no carrier right now.
async fn open(entry: &Entry) -> Result<(), IsFull> {
    let session = &entry.session;
    if let Some((connection, epoch)) = entry.link.connection() {
        let header = session.opening.header();
        match tokio::time::timeout(OPEN_DEADLINE, open_stream(&connection, &header)).await {
            // Fails only when another carrier has come meanwhile, whose link opens it anew.
            Ok(Some(stream)) => drop(session.offer(stream, epoch, 0)),
            Err(_) if connection.close_reason().is_none() => return Err(IsFull),
            Ok(None) | Err(_) => {}
        }
    }
    session.carried().await;
    Ok(())
}

/// Opens a stream that begins with `header`; `None` when the connection is gone.
pub(crate) async fn open_stream(connection: &quinn::Connection, header: &StreamHeader) -> Option<PlayerStream> {
    let (send, recv) = connection.open_bi().await.ok()?;
    let mut stream = PlayerStream::new(send, recv);
    stream.outgoing().write_chunk(header.encode()).await.ok()?;
    Some(stream)
}

/// What a player of a tunnel is told whose stream was cut for `code`.
fn refusal(tunnel: &Tunnel, code: ResetCode) -> Refusal {
    let presence = match (code, Presence::of_reset(code)) {
        (_, Some(presence)) => presence,
        (ResetCode::TooManySessions, _) => {
            return Refusal::new(words_for_denied(DenyReason::Full(Whose::Host, Full::Players)));
        }
        _ => Presence::Reconnecting,
    };
    let known = tunnel.list.as_ref().map(|list| list.known());
    tunnel.context.refusal(presence, &known.unwrap_or_default())
}

/// Tells a player why they are not let in, where the game has words for it and there is a place.
async fn refuse(tunnel: &Tunnel, socket: LocalSocket, game: Option<&str>, refusal: Refusal, head: &[u8]) {
    if refuse::has_words(game)
        && let Ok(_place) = tunnel.context.refusals.clone().try_acquire_owned()
        && let Some(socket) = socket.into_inner()
    {
        refuse::tell(socket, refusal, head).await;
    }
}

/// Sets a player's socket up, as far as the one that accepted it has not passed its options on: one call instead of four for nearly everybody.
pub(crate) fn prepare(socket: &TcpStream) {
    // It may have been accepted before its listener had them, or by a kernel that passes nothing on.
    if !socket.nodelay().unwrap_or(false) {
        set_options(SockRef::from(socket));
    }
}

/// Sets a socket up that accepts players.
pub(crate) fn prepare_listener(listener: &TcpListener) {
    set_options(SockRef::from(listener));
}

/// Fails only on a socket that is already reset, which the first read then tells. No delay comes last: who has that has the rest.
fn set_options(socket: SockRef<'_>) {
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(KEEPALIVE)
        .with_interval(KEEPALIVE / 4);
    let _ = socket.set_tcp_keepalive(&keepalive);
    let _ = socket.set_tcp_nodelay(true);
}
