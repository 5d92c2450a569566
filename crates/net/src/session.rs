//! One end of a TCP session: its state, and the pumps that move bytes between the local socket and whatever carrier there is.
//!
//! Each direction runs by itself and ends by itself: FIN travels as FIN, RST as RST. Nothing is copied on the way in (what the socket gives is handed to
//! QUIC as it is) and on the way out many pieces leave in one system call. A player who does not read holds only the window of its own stream. An
//! idle player holds no buffer at all.
//!
//! A pump whose carrier dies waits for the next one and goes on there, as `spawnpoint_core::stream` says; meanwhile the socket is read until a window is
//! full. Every future here may be dropped at any wait without losing a byte, which is how a process pauses its sessions to hand them to its successor.

mod inward;
mod outward;
mod table;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Buf, Bytes};
use spawnpoint_core::repair::Mended;
use spawnpoint_core::stream::{Ending, Outgoing, Snapshot, Stream};
use spawnpoint_core::urgency::{Appetite, Players, Urgency};
use spawnpoint_proto::stream::{Purpose, StreamHeader};
use spawnpoint_proto::{ResetCode, SessionId, TunnelId, Violation};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::Clock;
use crate::carrier::{PlayerStream, RecvHalf, SendHalf};
use crate::repair::Repairs;
use crate::shape::Toll;
use inward::Inward;
use outward::Outward;

use table::News;
pub use table::Sessions;

/// What a peer said before its reset arrives within this, or its reader does not want it.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Bytes that a pump moves before others have their turn: whoever loads always has more.
const TURN: usize = 128 * 1024;

/// A peer that has not taken what a finished session still has for it after this long on a carrier does not want it.
const SETTLE: Duration = Duration::from_secs(60);

/// Counts the bytes of one direction, for as many books as its owner keeps.
pub trait Meter: Sync {
    /// `bytes` more have passed.
    fn add(&self, bytes: u64);

    /// All that have passed.
    fn total(&self) -> u64;

    /// What they have to pay, where rates are limited.
    fn toll(&self) -> Option<&Toll> {
        None
    }

    /// Sees what came from the peer at `offset`, for the first few kilobytes. What was repaired on the way may be missing.
    fn hear(&self, _offset: u64, _bytes: &[u8]) {}
}

/// Bytes from the start of a session of which a meter hears: the longest words with which a game begins.
pub(crate) const HEARD: u64 = 6 * 1024;

impl Meter for AtomicU64 {
    fn add(&self, bytes: u64) {
        self.fetch_add(bytes, Ordering::Relaxed);
    }

    fn total(&self) -> u64 {
        self.load(Ordering::Relaxed)
    }
}

/// How a session ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SessionEnd {
    /// Both directions were finished by their senders.
    Finished,
    /// The local socket was reset.
    LocalReset,
    /// The other side cut the stream.
    RemoteReset(ResetCode),
    /// The link was lost, and with it the session.
    LinkLost,
    /// No carrier came within the resume window.
    Expired,
    /// The player may not be here any more.
    Banned,
}

impl SessionEnd {
    /// The word used in logs, events and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::LocalReset => "local_reset",
            Self::RemoteReset(code) => code.as_str(),
            Self::LinkLost => "link_lost",
            Self::Expired => "expired",
            Self::Banned => "banned",
        }
    }
}

/// A session's local end, and which counters it feeds.
pub struct Ends<'a> {
    /// The local socket.
    pub socket: &'a Arc<TcpStream>,
    /// Counts what goes from the socket to the peer.
    pub outgoing: &'a dyn Meter,
    /// Counts what goes from the peer to the socket.
    pub incoming: &'a dyn Meter,
    /// Takes a copy of the first bytes from the socket, up to its capacity, until the peer has answered.
    pub head: Option<&'a mut Vec<u8>>,
}

/// Who plays where.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Opening {
    /// The session's id in its link.
    pub session: SessionId,
    /// The tunnel that the player entered.
    pub tunnel: TunnelId,
    /// The player's address.
    pub player: SocketAddr,
    /// The relay's address that the player spoke to.
    pub local: SocketAddr,
    /// What it is for.
    pub purpose: Purpose,
}

impl Opening {
    /// The header of the session's first stream.
    pub const fn header(self) -> StreamHeader {
        let Self {
            session,
            tunnel,
            player,
            local,
            purpose,
        } = self;
        StreamHeader::Open {
            tunnel,
            session,
            player,
            local,
            purpose,
        }
    }
}

/// A session, shared by the task that runs it and the link that carries it.
pub struct Session {
    /// Who plays where.
    pub opening: Opening,
    state: Mutex<State>,
    /// Something new for the pump towards the peer.
    out: Notify,
    /// Something new for the pump from the peer.
    into: Notify,
    /// Something new for the session as a whole.
    whole: Notify,
    shared: Shared,
}

/// What the sessions of a link share.
#[derive(Clone, Debug, Default)]
struct Shared {
    news: Arc<News>,
    /// A session has come to rest.
    rested: Arc<Notify>,
    repairs: Arc<Repairs>,
    company: Arc<Company>,
}

/// Who plays on a link, and who loads.
#[derive(Debug, Default)]
pub(crate) struct Company {
    /// What one session notes about the time is for others to read.
    clock: Clock,
    players: Mutex<Players>,
}

impl Company {
    /// Somebody plays in packets.
    pub fn on_packets(&self) {
        self.players().on_played(self.clock.now(), None);
    }

    fn on_played(&self, session: SessionId) {
        self.players().on_played(self.clock.now(), Some(session));
    }

    /// A session that loads has sent `bytes`; how long it waits before it sends more.
    fn on_loaded(&self, session: SessionId, bytes: usize) -> Option<Duration> {
        self.players().on_loaded(self.clock.now(), session, bytes)
    }

    fn players(&self) -> MutexGuard<'_, Players> {
        self.players.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct State {
    stream: Stream,
    /// What the local socket has given lately.
    appetite: Appetite,
    urgency: Urgency,
    /// The carrier that counts; halves on others are stale.
    epoch: u64,
    /// The last carrier that the session had a stream on.
    carried_on: Option<u64>,
    /// Halves on a new carrier, for the pumps to take.
    send: Option<SendHalf>,
    recv: Option<RecvHalf>,
    /// The peer has said that its end will be a reset, once what it said before has come.
    peer_is_reset: bool,
    /// Why it is over, when that comes from outside.
    end: Option<SessionEnd>,
    socket: Option<Arc<TcpStream>>,
    /// A task moves its bytes.
    is_running: bool,
    /// No byte may move until further notice.
    is_asked_to_rest: bool,
    /// The task that moves its bytes has stopped doing so.
    is_resting: bool,
}

impl Session {
    fn new(opening: Opening, stream: Stream, epoch: u64, shared: &Shared) -> Self {
        let state = State {
            stream,
            appetite: Appetite::default(),
            urgency: Urgency::default(),
            epoch,
            carried_on: None,
            send: None,
            recv: None,
            peer_is_reset: false,
            end: None,
            socket: None,
            is_running: false,
            is_asked_to_rest: false,
            is_resting: false,
        };
        Self {
            opening,
            state: Mutex::new(state),
            out: Notify::new(),
            into: Notify::new(),
            whole: Notify::new(),
            shared: shared.clone(),
        }
    }

    /// Its id in the link.
    pub const fn id(&self) -> SessionId {
        self.opening.session
    }

    /// Gives the session a stream on the carrier of `epoch`, whose peer has everything before `offset`; cuts it when another carrier has come meanwhile, or
    /// the session has one there.
    ///
    /// # Errors
    /// [`Violation::OffsetOutOfRange`]; the stream is cut then.
    pub fn offer(&self, stream: PlayerStream, epoch: u64, offset: u64) -> Result<(), Violation> {
        let mut state = self.state();
        if state.epoch != epoch || state.carried_on == Some(epoch) {
            return Ok(());
        }
        let cursor = match state.stream.outgoing.resume(offset) {
            Ok(cursor) => cursor,
            Err(violation) => {
                stream.cut(ResetCode::UnknownSession);
                return Err(violation);
            }
        };
        if let Some((send, recv)) = stream.split(epoch, cursor, state.stream.incoming.taken()) {
            (state.send, state.recv) = (Some(send), Some(recv));
            state.carried_on = Some(epoch);
        }
        drop(state);
        self.out.notify_one();
        self.into.notify_one();
        Ok(())
    }

    /// Takes over a write that a repair on the carrier of `epoch` gave back, as far as nothing before it is missing.
    fn mend(&self, epoch: u64, mended: Mended) {
        let mut state = self.state();
        // On a carrier that has brought no stream yet both ends are still telling each other how far they are.
        if state.epoch != epoch || state.carried_on != Some(epoch) || state.stream.incoming.ending().is_some() {
            return;
        }
        let Mended { offset, mut bytes, .. } = mended;
        let had = state.stream.incoming.taken();
        if (offset..offset + bytes.len() as u64).contains(&had) {
            bytes.advance((had - offset) as usize);
            // It may be a slice of a much larger block.
            state.stream.incoming.push(Bytes::copy_from_slice(&bytes));
            drop(state);
            self.into.notify_one();
        }
    }

    /// Takes `bytes` as the first that the local socket has given, before any task moves its bytes.
    pub fn begin_with(&self, bytes: Bytes) {
        self.state().stream.outgoing.push(bytes);
        self.out.notify_one();
    }

    /// Ends the session from outside.
    pub fn end(&self, end: SessionEnd) {
        self.state().end.get_or_insert(end);
        self.whole.notify_one();
        self.out.notify_one();
    }

    /// Cuts the stream that nobody has taken up yet, for a session that never began here.
    pub fn cut(&self, code: ResetCode) {
        let (send, recv) = {
            let mut state = self.state();
            (state.send.take(), state.recv.take())
        };
        send.into_iter().for_each(|mut half| half.cut(code));
        recv.into_iter().for_each(|mut half| half.cut(code));
    }

    /// Whether the local socket has nothing more to give.
    pub fn has_ended(&self) -> bool {
        self.state().stream.outgoing.ending().is_some()
    }

    /// Whether the peer may never have heard of it.
    pub fn is_fresh(&self) -> bool {
        self.state().stream.is_fresh()
    }

    /// How much was taken over from the peer.
    pub fn taken(&self) -> u64 {
        self.state().stream.incoming.offset()
    }

    /// The local socket, for whoever hands the session over to another process.
    pub fn set_socket(&self, socket: &Arc<TcpStream>) {
        self.state().socket = Some(socket.clone());
    }

    /// Waits until the session has a stream on some carrier, or is over.
    pub async fn carried(&self) {
        let is_so = || {
            let state = self.state();
            state.send.is_some() || state.end.is_some()
        };
        while !is_so() {
            self.out.notified().await;
        }
        // For the pump, which has not begun.
        self.out.notify_one();
    }

    /// Moves bytes until the local socket has nothing more to give or to take; the socket is left to the caller, who resets it unless the session is
    /// finished. Afterwards comes [`Session::settle`].
    ///
    /// Dropping the future cuts the stream with [`ResetCode::TunnelClosed`].
    pub async fn play(&self, ends: Ends<'_>, halves: &mut Halves) -> SessionEnd {
        let _running = self.run();
        let end = match self.rest().await {
            Some(end) => end,
            None => self.exchange(ends, halves).await,
        };
        let mut state = self.state();
        state.socket = None;
        match end {
            SessionEnd::Finished => {}
            SessionEnd::LocalReset => state.stream.outgoing.finish(Ending::Reset),
            SessionEnd::RemoteReset(_) | SessionEnd::LinkLost | SessionEnd::Expired | SessionEnd::Banned => {
                drop(state);
                halves.cut();
                self.cut(ResetCode::TunnelClosed);
            }
        }
        end
    }

    async fn exchange(&self, ends: Ends<'_>, halves: &mut Halves) -> SessionEnd {
        let Ends {
            socket,
            outgoing,
            incoming,
            mut head,
        } = ends;
        let Halves { send, recv } = halves;
        let mut inward_done = false;
        let mut last_words = None;
        loop {
            let deadline = async {
                match last_words {
                    Some(deadline) => Box::pin(tokio::time::sleep_until(deadline)).await,
                    None => std::future::pending().await,
                }
            };
            // Whoever is done speaking may still reset, which nobody would read.
            let reset = async {
                match !inward_done && self.has_ended() {
                    true => Box::pin(crate::socket::is_reset(socket)).await,
                    false => std::future::pending().await,
                }
            };
            let is_new_end = {
                let out = self.pump_out(Some(socket), send, outgoing, incoming, &mut head);
                let into = self.pump_in(socket, recv, incoming);
                tokio::pin!(out, into);
                tokio::select! {
                    biased; // that the stream was stopped must be seen before that it is finished
                    out = &mut out => match out {
                        Outward::SocketEnded => true,
                        Outward::PeerReset => {
                            last_words = Some(tokio::time::Instant::now() + LAST_WORDS);
                            false
                        }
                        Outward::Over(end) => return end,
                    },
                    into = &mut into, if !inward_done => match into {
                        Inward::Finished => {
                            inward_done = true;
                            true
                        }
                        Inward::Over(end) => return end,
                    },
                    () = reset => return SessionEnd::LocalReset,
                    () = self.whole.notified() => false,
                    () = deadline => return SessionEnd::RemoteReset(ResetCode::PeerReset),
                }
            };
            if let Some(end) = self.rest().await {
                return end;
            }
            if is_new_end && inward_done && self.has_ended() {
                return SessionEnd::Finished;
            }
        }
    }

    /// Sees to it that the peer learns how the session ended, with everything that was said before, on as many carriers as it takes. To be awaited after
    /// [`Session::play`], whose end is `end`; the local socket is not needed any more.
    pub async fn settle(&self, end: SessionEnd, halves: &mut Halves) {
        if !matches!(end, SessionEnd::Finished | SessionEnd::LocalReset) {
            return;
        }
        let _running = self.run();
        if self.rest().await.is_some() {
            return;
        }
        let nothing = AtomicU64::new(0);
        if end == SessionEnd::LocalReset {
            if self.state().stream.incoming.ending().is_some() {
                // The peer is done speaking, so stopping it tells nothing: only a reset of our own half does, at the price of what is still on its way.
                return halves.send.iter_mut().for_each(|half| half.cut(ResetCode::PeerReset));
            }
            if let Some(recv) = &mut halves.recv {
                // Before the other direction is finished, so that the peer learns that this end is a reset.
                recv.cut(ResetCode::PeerReset);
            }
        }
        let (mut head, mut spent) = (None, Duration::ZERO);
        loop {
            {
                let state = self.state();
                if state.end.is_some() || is_settled(&state.stream.outgoing, halves) {
                    break;
                }
            }
            let since = tokio::time::Instant::now();
            let over = tokio::select! {
                biased; // as in `exchange`
                _ = self.pump_out(None, &mut halves.send, &nothing, &nothing, &mut head) => true,
                () = self.whole.notified() => false,
                () = tokio::time::sleep(SETTLE.saturating_sub(spent)) => false,
            };
            // Without a carrier the peer can take nothing, which is the link's to end.
            if halves.send.is_some() {
                spent += since.elapsed();
            }
            let over = over || spent >= SETTLE;
            if over || self.rest().await.is_some() {
                break;
            }
        }
    }

    /// Whether the session is over from outside; rests before that as long as it is asked to.
    async fn rest(&self) -> Option<SessionEnd> {
        loop {
            {
                let mut state = self.state();
                if state.end.is_some() {
                    return state.end;
                }
                state.is_resting = state.is_asked_to_rest;
                if !state.is_resting {
                    return None;
                }
            }
            self.shared.rested.notify_waiters();
            self.whole.notified().await;
        }
    }

    /// Waits as long as no byte may move.
    pub async fn hold(&self) {
        // What has ended is nobody's to take over.
        let _ = self.rest().await;
    }

    /// Notes that the session runs, until the value is dropped.
    fn run(&self) -> Running<'_> {
        self.state().is_running = true;
        Running(self)
    }

    fn ask_to_rest(&self, rests: bool) {
        self.state().is_asked_to_rest = rests;
        self.whole.notify_one();
    }

    fn is_at_rest(&self) -> bool {
        let state = self.state();
        state.is_resting || !state.is_running
    }

    /// The state as values and the local socket, if there still is one. The session must be at rest.
    pub fn snapshot(&self) -> (Snapshot, Option<Arc<TcpStream>>) {
        let state = self.state();
        (state.stream.snapshot(), state.socket.clone())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Session({})", self.id())
    }
}

/// The halves of a session's stream on its present carrier, kept between [`Session::play`] and [`Session::settle`].
#[derive(Default)]
pub struct Halves {
    send: Option<SendHalf>,
    recv: Option<RecvHalf>,
}

impl Halves {
    fn cut(&mut self) {
        (self.send, self.recv) = (None, None);
    }
}

/// Whether the peer knows all that there is to know.
fn is_settled(outgoing: &Outgoing, halves: &Halves) -> bool {
    // A peer that takes up no session again tells nothing: what QUIC has accepted must do.
    let is_sent = || halves.send.as_ref().is_some_and(|half| half.is_finished);
    outgoing.is_settled() || (!outgoing.is_resumable() && is_sent())
}

struct Running<'a>(&'a Session);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        (state.is_running, state.is_resting) = (false, false);
        drop(state);
        self.0.shared.rested.notify_waiters();
    }
}
