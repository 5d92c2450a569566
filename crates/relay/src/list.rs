//! The server list: what each server shows there, asked of it once in a while however many players ask.
//!
//! A list ping is answered here, from the server's last answer while that is fresh. When it is not, one question is on its way to the server at a time, and
//! whoever asks meanwhile waits for its answer, within a deadline. So a flood of pings never reaches a host's line. What is kept for a server is bounded,
//! whatever protocol numbers players make up. The last answer of all outlives the server's absence, and the relay's: see [`crate::away`].

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use spawnpoint_core::grant::UnixTime;
use spawnpoint_core::route::HostNumber;
use spawnpoint_net::{Opening, PlayerStream};
use spawnpoint_ops::{TunnelLabels, describe};
use spawnpoint_proto::stream::Purpose;
use spawnpoint_proto::{Protocol, ResetCode, TunnelName};
use spawnpoint_sniff::Progress;
use spawnpoint_sniff::minecraft::{Listing, status};
use spawnpoint_store::{Entry, HostId};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::away::{Known, Presence};
use crate::context::Context;
use crate::link::Link;
use crate::tcp::open_stream;
use crate::tunnel::Tunnel;

/// Answers that are kept for one server, each for another protocol number.
const MAX_FRESH: usize = 8;

/// A server that has not answered by then does not count as running.
const ASK_DEADLINE: Duration = Duration::from_secs(3);

/// The most that a server's answer may have.
const MAX_ANSWER: usize = 64 * 1024;

/// How often the directory is told what a server shows, if that has changed.
const NOTE_EVERY: Duration = Duration::from_secs(60);

/// Whether the players of `game` see a server list that we know how to answer.
pub(crate) fn is_listed(game: Option<&str>) -> bool {
    matches!(game, Some("minecraft" | "bedrock"))
}

/// Which tunnel of which host.
type Key = (HostNumber, TunnelName);

/// What every server shows.
#[derive(Debug, Default)]
pub(crate) struct Lists(Mutex<HashMap<Key, Arc<List>>>);

/// What one server shows.
#[derive(Debug, Default)]
pub(crate) struct List(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    known: Known,
    /// When its host was here last.
    seen: Option<UnixTime>,
    fresh: Vec<Fresh>,
    /// Why the last question was not answered, and when.
    silence: Option<(Presence, Instant)>,
    /// Ends when the answer to the question that is on its way is there.
    asking: Option<watch::Receiver<()>>,
    noted: Option<Instant>,
    /// What the directory was not told yet.
    unnoted: Option<Arc<str>>,
    /// The last pong's text, of a server that is pinged in packets.
    pong: Option<Arc<str>>,
}

#[derive(Debug)]
struct Fresh {
    protocol: i32,
    answer: Arc<str>,
    at: Instant,
}

/// A list ping.
pub(crate) struct Question<'a> {
    pub tunnel: &'a Arc<Tunnel>,
    pub link: &'a Arc<Link>,
    /// The protocol number of the player's game.
    pub protocol: i32,
    /// The player's handshake, as it came.
    pub hello: &'a Bytes,
    pub player: SocketAddr,
    pub local: SocketAddr,
}

impl Lists {
    /// The list of a tunnel.
    pub fn of(&self, host: HostNumber, tunnel: &TunnelName) -> Arc<List> {
        self.all().entry((host, tunnel.clone())).or_default().clone()
    }

    /// Takes over what the directory knows.
    pub fn load(&self, entry: &Entry) {
        let list = self.of(HostNumber(entry.host.0), &entry.tunnel);
        let mut state = list.state();
        state.known.away.clone_from(&entry.away);
        state.seen = entry.seen;
        if entry.protocol == Protocol::Udp {
            state.pong = entry.listing.as_deref().map(Arc::from);
            return;
        }
        let listing = entry.listing.as_deref().and_then(|json| Listing::from_json(json).ok());
        state.known.listing = listing.or(state.known.listing.take());
    }

    /// Forgets a tunnel that is nobody's any more.
    pub fn forget(&self, host: HostNumber, tunnel: &TunnelName) {
        self.all().remove(&(host, tunnel.clone()));
    }

    /// Forgets the tunnels that are neither open nor to be kept.
    pub fn retain(&self, is_kept: impl Fn(HostNumber, &TunnelName) -> bool) {
        // One that is open may not be in the directory yet, or not any more.
        self.all()
            .retain(|(host, tunnel), list| Arc::strong_count(list) > 1 || is_kept(*host, tunnel));
    }

    fn all(&self) -> MutexGuard<'_, HashMap<Key, Arc<List>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What to do about a question.
enum Next {
    Tell(Arc<str>),
    Silence(Presence),
    /// Wait until this ends, and look again.
    Wait(watch::Receiver<()>),
    /// Ask, and drop this when done.
    Ask(watch::Sender<()>),
}

impl List {
    /// What is known for the case that the server is away.
    pub fn known(&self) -> Known {
        self.state().known.clone()
    }

    /// When its host was here last.
    pub fn seen(&self) -> Option<UnixTime> {
        self.state().seen
    }

    /// Its host is here now, with these words for when it is not.
    pub fn open(&self, away: Option<&String>) {
        let mut state = self.state();
        state.known.away = away.cloned();
        // Another server may have taken the place of the one that was asked.
        (state.fresh, state.silence) = (Vec::new(), None);
    }

    /// Its host has gone; returns what the server showed if the directory does not know that yet.
    pub fn gone(&self, now: UnixTime) -> Option<Arc<str>> {
        let mut state = self.state();
        state.seen = Some(now);
        state.fresh = Vec::new();
        state.unnoted.take()
    }

    /// What the server has answered last to a ping in a packet.
    pub fn pong(&self) -> Option<String> {
        self.state().pong.as_deref().map(str::to_owned)
    }

    /// The server has answered a ping in a packet.
    pub fn learn_pong(&self, id: &str) {
        let mut state = self.state();
        if state.pong.as_deref() != Some(id) {
            let id: Arc<str> = id.into();
            state.unnoted = Some(id.clone());
            state.pong = Some(id);
        }
    }

    /// A player has got in, or could not: the next ping is for the server again.
    pub fn is_stale(&self) {
        self.state().silence = None;
    }

    /// The server's entry, as it wrote it.
    ///
    /// # Errors
    /// Why the server does not answer.
    pub async fn entry(self: &Arc<Self>, question: &Question<'_>) -> Result<Arc<str>, Presence> {
        let deadline = Instant::now() + ASK_DEADLINE + ASK_DEADLINE / 2;
        loop {
            match self.next(question) {
                Next::Tell(answer) => return Ok(answer),
                Next::Silence(presence) => return Err(presence),
                Next::Wait(mut asked) => {
                    // It never changes: it ends.
                    if tokio::time::timeout_at(deadline, asked.changed()).await.is_err() {
                        return Err(Presence::Down);
                    }
                }
                // A tunnel that is closing asks nobody any more.
                Next::Ask(_) if question.tunnel.scope.token().is_cancelled() => return Err(Presence::Reconnecting),
                Next::Ask(asking) => self.ask(question, asking),
            }
        }
    }

    fn next(&self, question: &Question<'_>) -> Next {
        let life = question.tunnel.context.config().players.list_cache;
        let mut state = self.state();
        state.fresh.retain(|fresh| fresh.at.elapsed() < life);
        let own = state.fresh.iter().find(|fresh| fresh.protocol == question.protocol);
        // Whoever makes numbers up gets what another game was told.
        let any = || state.fresh.last().filter(|_| state.fresh.len() >= MAX_FRESH);
        if let Some(fresh) = own.or_else(any) {
            return Next::Tell(fresh.answer.clone());
        }
        if let Some((presence, at)) = state.silence
            && at.elapsed() < life
        {
            return Next::Silence(presence);
        }
        if let Some(asking) = state.asking.clone().filter(|asking| asking.has_changed().is_ok()) {
            return Next::Wait(asking);
        }
        let (sender, receiver) = watch::channel(());
        state.asking = Some(receiver);
        Next::Ask(sender)
    }

    /// Asks the server, in the scope of its tunnel.
    fn ask(self: &Arc<Self>, question: &Question<'_>, asking: watch::Sender<()>) {
        let (list, tunnel, link) = (self.clone(), question.tunnel.clone(), question.link.clone());
        let (protocol, hello) = (question.protocol, question.hello.clone());
        let opening = Opening {
            session: tunnel.context.next_session(),
            tunnel: tunnel.id,
            player: question.player,
            local: question.local,
            purpose: Purpose::List,
        };
        question.tunnel.scope.spawn(async move {
            let fetched = tokio::time::timeout(ASK_DEADLINE, fetch(&link, opening, &hello)).await;
            let outcome = fetched.unwrap_or(Err(Presence::Down));
            tunnel.context.metrics.list_asked(match &outcome {
                Ok(_) => "answered",
                Err(presence) => presence.as_str(),
            });
            list.learn(protocol, outcome, &tunnel, link.host);
            drop(asking);
        });
    }

    fn learn(&self, protocol: i32, outcome: Result<String, Presence>, tunnel: &Tunnel, host: HostNumber) {
        let now = Instant::now();
        let mut state = self.state();
        let json = match outcome {
            Ok(json) => json,
            Err(presence) => {
                // Whatever game asks next is told the same.
                state.fresh = Vec::new();
                state.silence = Some((presence, now));
                return;
            }
        };
        let Ok(listing) = Listing::from_json(&json) else {
            state.silence = Some((Presence::Down, now));
            return;
        };
        state.silence = None;
        state.fresh.retain(|fresh| fresh.protocol != protocol);
        let answer: Arc<str> = json.into();
        state.fresh.push(Fresh {
            protocol,
            answer: answer.clone(),
            at: now,
        });
        let looks = |listing: &Listing| (listing.motd.clone(), listing.icon.clone(), listing.max);
        let is_new = state.known.listing.as_ref().map(looks) != Some(looks(&listing));
        state.known.listing = Some(listing);
        if is_new {
            state.unnoted = Some(answer);
        }
        if state.noted.is_none_or(|noted| noted.elapsed() > NOTE_EVERY)
            && let Some(answer) = state.unnoted.take()
        {
            state.noted = Some(now);
            drop(state);
            let context = tunnel.context.clone();
            let labels = tunnel.labels.clone();
            tunnel
                .scope
                .spawn(async move { note(&context, host, &labels, answer).await });
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Has the directory remember what a server shows.
pub(crate) async fn note(context: &Context, host: HostNumber, tunnel: &TunnelLabels, listing: Arc<str>) {
    let (Ok(name), Ok(protocol)) = (tunnel.tunnel.parse::<TunnelName>(), tunnel.protocol.parse()) else {
        return;
    };
    let noted = context
        .hosts
        .note_listing(HostId(host.0), name, protocol, listing)
        .await;
    if let Err(error) = noted {
        tracing::error!(error = %describe(&error), "the directory could not note what a server shows");
    }
}

/// Asks a server for its entry, as a player who said `hello` does.
async fn fetch(link: &Link, opening: Opening, hello: &Bytes) -> Result<String, Presence> {
    let Some((connection, _)) = link.connection() else {
        return Err(Presence::Reconnecting);
    };
    let stream = open_stream(&connection, &opening.header()).await;
    let mut stream = stream.ok_or(Presence::Reconnecting)?;
    let mut request = BytesMut::from(&hello[..]);
    status::Query::Request.encode(&mut request);
    if stream.outgoing().write_chunk(request.freeze()).await.is_err() {
        return Err(Presence::Down);
    }
    let answer = read(&mut stream).await;
    stream.cut(ResetCode::PeerReset);
    answer
}

async fn read(stream: &mut PlayerStream) -> Result<String, Presence> {
    let mut answer = BytesMut::new();
    loop {
        match stream.incoming().read_chunk(MAX_ANSWER, true).await {
            Ok(Some(chunk)) => answer.put(chunk.bytes),
            Err(quinn::ReadError::Reset(code)) => {
                let code = ResetCode::from_number(code.into_inner());
                return Err(Presence::of_reset(code).unwrap_or(Presence::Down));
            }
            Ok(None) => return Err(Presence::Down),
            Err(_) => return Err(Presence::Reconnecting),
        }
        match status::decode_json(&answer) {
            Ok(Progress::Done { value, .. }) => return Ok(value),
            Ok(Progress::NeedMore) if answer.len() < MAX_ANSWER => {}
            _ => return Err(Presence::Down),
        }
    }
}
