//! One TCP player, from the accepted socket to the last byte.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use spawnpoint_core::admission::{DenyReason, Permit};
use spawnpoint_net::{Ends, Halves, LocalSocket, Meter, Opening, PlayerStream, Session, SessionEnd, canonical};
use spawnpoint_proto::ResetCode;
use spawnpoint_proto::stream::StreamHeader;
use tokio::net::TcpStream;

use crate::link::{Link, SeatRecord};
use crate::meter::SessionMeter;
use crate::refuse;
use crate::tunnel::{Seat, Tunnel};

/// What a player says before the server answers, as far as a refusal needs it.
const HEAD: usize = 1024;

/// A player whose machine vanished is noticed after two minutes of silence by the kernel's probes.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Carries one new player until the session ends.
pub(crate) async fn carry(
    tunnel: &Tunnel,
    link: Arc<Link>,
    socket: TcpStream,
    player: SocketAddr,
    game: Option<&str>,
    permit: Permit,
) {
    prepare(&socket);
    let seat = Seat::take(&tunnel.context, &tunnel.labels, player, permit);
    tracing::debug!(session = %seat.session, %player, tunnel = tunnel.labels.tunnel, "player entered");
    let opening = Opening {
        session: seat.session,
        tunnel: tunnel.id,
        player,
        local: canonical(socket.local_addr().unwrap_or(player)),
    };
    let entry = Entry::begin(link, opening);
    // A tunnel that closes drops this task wherever it waits, and the player must see a reset then.
    let socket = LocalSocket::new(socket);
    entry.session.set_socket(socket.get());
    if tokio::time::timeout(entry.link.patience, open(&entry)).await.is_err() {
        // A successor may be taking the player over right now.
        entry.session.hold().await;
        let (words, reason) = match entry.link.connection() {
            Some(_) => (
                refuse::words_for(ResetCode::TooManySessions),
                ResetCode::TooManySessions.as_str(),
            ),
            None => {
                tunnel.context.metrics.denied(DenyReason::NoAgent.as_str());
                (
                    refuse::words_for_denied(DenyReason::NoAgent),
                    DenyReason::NoAgent.as_str(),
                )
            }
        };
        drop(entry);
        seat.leave(reason, 0, 0);
        return refuse(tunnel, socket, game, words, &[]).await;
    }
    carry_on(tunnel, entry, socket, game, seat, [0; 2]).await;
}

/// Carries a player whose session has begun, and has moved as many bytes as `before` says, from and to the player.
pub(crate) async fn carry_on(
    tunnel: &Tunnel,
    entry: Entry,
    socket: LocalSocket,
    game: Option<&str>,
    mut seat: Seat,
    before: [u64; 2],
) {
    let [up, down] = tunnel.bytes.clone();
    let meters = Arc::new([SessionMeter::new(up, before[0]), SessionMeter::new(down, before[1])]);
    seat.watch(meters.clone());
    entry.note(&seat, &meters);
    let [up, down] = &*meters;
    let mut head = Vec::new();
    if refuse::has_words(game) && entry.session.is_fresh() {
        head.reserve_exact(HEAD);
    }
    let ends = Ends {
        socket: socket.get(),
        outgoing: up,
        incoming: down,
        head: (head.capacity() > 0).then_some(&mut head),
    };
    let mut halves = Halves::default();
    let end = entry.session.play(ends, &mut halves).await;
    let is_unanswered = down.total() == 0 && entry.session.taken() == 0;
    // The place is free from here on; what follows are only words.
    seat.leave(end.as_str(), up.total(), down.total());
    match end {
        SessionEnd::Finished => socket.finish(),
        SessionEnd::RemoteReset(code) if is_unanswered => {
            refuse(tunnel, socket, game, refuse::words_for(code), &head).await;
        }
        _ => drop(socket),
    }
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

/// Opens the session's first stream, or waits until the link does, when it has no carrier right now.
async fn open(entry: &Entry) {
    let session = &entry.session;
    if let Some((connection, epoch)) = entry.link.connection()
        && let Some(stream) = open_stream(&connection, &session.opening.header()).await
    {
        // Fails only when another carrier has come meanwhile, whose link opens it anew.
        let _ = session.offer(stream, epoch, 0);
    }
    session.carried().await;
}

/// Opens a stream that begins with `header`; `None` when the connection is gone.
pub(crate) async fn open_stream(connection: &quinn::Connection, header: &StreamHeader) -> Option<PlayerStream> {
    let (send, recv) = connection.open_bi().await.ok()?;
    let mut stream = PlayerStream::new(send, recv);
    stream.outgoing().write_chunk(header.encode()).await.ok()?;
    Some(stream)
}

/// Tells a player why they are not let in, where the game has words for it and there is a place.
async fn refuse(tunnel: &Tunnel, socket: LocalSocket, game: Option<&str>, words: &str, head: &[u8]) {
    if refuse::has_words(game)
        && let Ok(_place) = tunnel.context.refusals.clone().try_acquire_owned()
        && let Some(socket) = socket.into_inner()
    {
        refuse::tell(socket, words, head).await;
    }
}

fn prepare(socket: &TcpStream) {
    // Fails only on a socket that is already reset, which the first read then tells.
    let _ = socket.set_nodelay(true);
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(KEEPALIVE)
        .with_interval(KEEPALIVE / 4);
    let _ = socket2::SockRef::from(socket).set_tcp_keepalive(&keepalive);
}
