//! One TCP player, from the relay's stream to the game server.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use spawnpoint_net::{
    Ends, Halves, LocalSocket, Meter, Opening, PlayerStream, Session, SessionEnd, Sessions, StreamError, read_header,
};
use spawnpoint_ops::{Event, Events};
use spawnpoint_proto::stream::{Purpose, StreamHeader};
use spawnpoint_proto::{Dialect, ResetCode, SessionId};
use spawnpoint_sniff::Progress;
use spawnpoint_sniff::minecraft::login;

use crate::guests::{Guest, Guests};
use crate::tunnels::{OpenTunnel, OpenTunnels};

/// A server answers within this what the relay asks for the server list.
const LIST_DEADLINE: Duration = Duration::from_secs(15);

/// A relay sends the header with the stream's first packet.
const HEADER_DEADLINE: Duration = Duration::from_secs(10);

/// What a player who comes meets.
pub(crate) struct Visitors {
    pub tunnels: OpenTunnels,
    pub sessions: Arc<Sessions>,
    pub hall: Hall,
    /// The carrier that the player came on.
    pub epoch: u64,
}

/// Takes a stream of the relay: a new player, who holds `place` as long as they stay, or one who goes on.
pub(crate) async fn meet(visitors: Visitors, mut stream: PlayerStream, place: Arc<()>) {
    let header = tokio::time::timeout(HEADER_DEADLINE, read_header(stream.incoming())).await;
    let opening = match header {
        Ok(Ok(StreamHeader::Open {
            tunnel,
            session,
            player,
            local,
            purpose,
        })) => Opening {
            session,
            tunnel,
            player,
            local,
            purpose,
        },
        Ok(Ok(StreamHeader::Resume { session, from, taken })) => return visitors.go_on(stream, session, from, taken),
        Ok(Err(StreamError::Ended(_))) => return,
        Ok(Err(StreamError::Violation(violation))) => {
            tracing::warn!(
                reason = violation.as_str(),
                "the relay opened a stream that makes no sense"
            );
            return stream.cut(ResetCode::BadHeader);
        }
        Err(_) => return stream.cut(ResetCode::BadHeader),
    };
    let Some(tunnel) = visitors.tunnels.expect(opening.tunnel).await else {
        return stream.cut(ResetCode::UnknownTunnel);
    };
    // A carrier that was lost meanwhile brings the player again on the next one.
    let Some(session) = visitors.sessions.join(opening, visitors.epoch) else {
        return;
    };
    // Cannot fail: everything begins at the start.
    let _ = session.offer(stream, visitors.epoch, 0);
    let scope = tunnel.scope.clone();
    // Outside the task, which a tunnel that closes may never let begin.
    let entry = Entry {
        sessions: visitors.sessions,
        session,
    };
    scope.spawn(async move {
        play(&tunnel, &visitors.hall, entry).await;
        drop(place);
    });
}

impl Visitors {
    /// Gives a session its stream on this carrier.
    fn go_on(&self, stream: PlayerStream, session: SessionId, from: u64, taken: u64) {
        if self.sessions.epoch() != self.epoch {
            // What an older carrier says of it does not count any more.
            return;
        }
        let Some(session) = self.sessions.get(session) else {
            return stream.cut(ResetCode::UnknownSession);
        };
        if session.taken() != from || session.offer(stream, self.epoch, taken).is_err() {
            tracing::warn!(session = %session.id(), "a session cannot go on: the relay is not where it said");
            session.end(SessionEnd::RemoteReset(ResetCode::UnknownSession));
        }
    }
}

/// A session's place in its link's table, for as long as anything of it is left here.
pub(crate) struct Entry {
    pub sessions: Arc<Sessions>,
    pub session: Arc<Session>,
}

impl Entry {
    /// Sees the session to its end whose socket is closed, and whose relay does not know everything yet.
    #[cfg(unix)]
    pub async fn settle(self) {
        self.session.settle(SessionEnd::Finished, &mut Halves::default()).await;
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.session.cut(ResetCode::TunnelClosed);
        self.sessions.remove(&self.session);
    }
}

async fn play(tunnel: &OpenTunnel, hall: &Hall, entry: Entry) {
    let Opening {
        player, local, purpose, ..
    } = entry.session.opening;
    match tunnel.origin.connect(player, local, purpose).await {
        Ok(socket) => carry(tunnel, hall, entry, LocalSocket::new(socket), None).await,
        Err(code) => entry.session.cut(code),
    }
}

/// Carries a player whose game server has been reached, until the session ends; `name` is theirs, if they said it to another process.
pub(crate) async fn carry(tunnel: &OpenTunnel, hall: &Hall, entry: Entry, socket: LocalSocket, name: Option<String>) {
    let Opening {
        session,
        player,
        purpose,
        ..
    } = entry.session.opening;
    entry.session.set_socket(socket.get());
    // A relay that asks for the server's entry in the server list is no guest.
    let visit = (purpose == Purpose::Play).then(|| Visit::begin(hall, tunnel, session.to_string(), player));
    if let (Some(visit), Ok(source)) = (&visit, socket.get().local_addr()) {
        visit.is_seen_as(source.ip());
    }
    if let (Some(visit), Some(name)) = (&visit, name) {
        visit.guest.is_named(name);
    }
    let _awake = visit.as_ref().map(|_| tunnel.origin.enter());
    let traffic = visit
        .as_ref()
        .map_or_else(Default::default, |visit| visit.traffic.clone());
    let [up, down] = &*traffic;
    let is_named = tunnel.tunnel.dialect == Some(Dialect::Minecraft);
    let ear = visit.as_ref().filter(|_| is_named).map(|visit| Ear::new(visit, up));
    let ends = Ends {
        socket: socket.get(),
        outgoing: down,
        incoming: ear.as_ref().map_or(up as &dyn Meter, |ear| ear),
        head: None,
    };
    let mut halves = Halves::default();
    let playing = entry.session.play(ends, &mut halves);
    let end = match purpose {
        Purpose::Play => playing.await,
        // An entry is one short answer; nobody plays under that name.
        Purpose::List => match tokio::time::timeout(LIST_DEADLINE, playing).await {
            Ok(end) => end,
            Err(_) => SessionEnd::Expired,
        },
    };
    match end {
        SessionEnd::Finished => socket.finish(),
        _ => drop(socket),
    }
    visit.into_iter().for_each(|visit| visit.end(end.as_str()));
    entry.session.settle(end, &mut halves).await;
}

/// Counts what comes from a player, and listens until they have said their name.
struct Ear<'a> {
    up: &'a AtomicU64,
    guest: &'a Guest,
    /// What they have said; nothing more is to be heard when it is gone.
    head: Mutex<Option<Vec<u8>>>,
}

impl<'a> Ear<'a> {
    fn new(visit: &'a Visit, up: &'a AtomicU64) -> Self {
        Self {
            up,
            guest: &visit.guest,
            head: Mutex::new(Some(Vec::new())),
        }
    }
}

impl Meter for Ear<'_> {
    fn add(&self, bytes: u64) {
        self.up.add(bytes);
    }

    fn total(&self) -> u64 {
        self.up.total()
    }

    fn hear(&self, offset: u64, bytes: &[u8]) {
        let mut kept = self.head.lock().unwrap_or_else(PoisonError::into_inner);
        // A gap, or a beginning that another process has heard, leaves nothing to understand.
        let Some(mut head) = kept.take().filter(|head| head.len() as u64 == offset) else {
            return;
        };
        head.extend_from_slice(bytes);
        match login::name_in(&head) {
            Ok(Progress::NeedMore) => *kept = Some(head),
            Ok(Progress::Done { value: Some(name), .. }) if is_name(&name) => {
                self.guest.is_named(name);
            }
            Ok(Progress::Done { .. }) | Err(_) => {}
        }
    }
}

/// Whether somebody can have this name in the game, where bridges from other games put a dot before it: nothing that could be taken for an address, or for
/// anything else than a name.
fn is_name(name: &str) -> bool {
    let name = name.strip_prefix('.').unwrap_or(name);
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Where the players of one link are in.
#[derive(Clone, Debug)]
pub(crate) struct Hall {
    pub events: Events,
    pub guests: Guests,
    /// The round trip to the relay, in microseconds.
    pub round_trip: Arc<AtomicU64>,
}

/// A player who is in; dropping it reports that they left.
#[derive(Debug)]
pub(crate) struct Visit {
    events: Events,
    tunnel: String,
    protocol: &'static str,
    session: String,
    started: tokio::time::Instant,
    end: &'static str,
    guest: Guest,
    /// Bytes from and to the player.
    pub traffic: Arc<[AtomicU64; 2]>,
}

impl Visit {
    /// Reports that `player` is in.
    pub fn begin(hall: &Hall, tunnel: &OpenTunnel, session: String, player: SocketAddr) -> Self {
        let events = hall.events.clone();
        let (name, protocol) = (tunnel.tunnel.name.to_string(), tunnel.tunnel.protocol.as_str());
        tracing::info!(tunnel = name, session, "player joined");
        tracing::debug!(session, %player, "player address");
        events.emit(Event::PlayerJoined {
            host: None,
            tunnel: name.clone(),
            protocol,
            session: session.clone(),
            player,
        });
        let traffic = Arc::default();
        let guest = hall
            .guests
            .enter(&tunnel.tunnel.name, protocol, player, &traffic, &hall.round_trip);
        Self {
            events,
            tunnel: name,
            protocol,
            session,
            started: tokio::time::Instant::now(),
            end: "tunnel_closed",
            guest,
            traffic,
        }
    }

    /// Notes the address that the game server sees, if it is the player's own.
    pub fn is_seen_as(&self, source: IpAddr) {
        if source.is_loopback() && source != IpAddr::from(Ipv4Addr::LOCALHOST) && source.is_ipv4() {
            self.guest.is_seen_as(source);
        }
    }

    /// Notes how it ended; dropping reports it.
    pub fn end(mut self, end: &'static str) {
        self.end = end;
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let [up, down] = [0, 1].map(|at: usize| self.traffic[at].load(Ordering::Relaxed));
        tracing::info!(
            tunnel = self.tunnel,
            session = self.session,
            session.up = up,
            session.down = down,
            reason = self.end,
            "player left"
        );
        self.events.emit(Event::PlayerLeft {
            host: None,
            tunnel: self.tunnel.clone(),
            protocol: self.protocol,
            session: self.session.clone(),
            reason: self.end,
            up,
            down,
            lasted_ms: self.started.elapsed().as_millis() as u64,
            player: None,
        });
    }
}
