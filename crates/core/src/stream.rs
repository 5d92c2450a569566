//! TCP sessions that outlive the connection which carries them.
//!
//! Each end of a session keeps a [`Stream`]: what it has taken from its local socket and its peer may still ask for again, and how much it has taken over
//! from its peer. QUIC's flow control tells that all but the last `window` bytes were taken; a busy end tells more, every quarter of what it has, so that
//! its peer reads ahead only as far as somebody takes it.
//! When a carrier dies both ends say how far they are, and go on there with the next one, byte for byte. The end of a direction (a FIN or a reset)
//! counts as one more byte, so that it is neither lost nor told twice.
//!
//! ```text
//!               acked          cursor of a carrier      end
//! outgoing  ------|----- replay -----|---- unsent -------|--(ending)
//! incoming  ----- written to the local socket ----|-- pending --| taken --(ending)
//! ```
//! Nothing here knows a socket or a connection; bytes are kept, never looked at. `spawnpoint_net::session` is the shell around it.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};
use spawnpoint_proto::Violation;

mod snapshot;

pub use snapshot::Snapshot;

/// With this many pieces the small ones are joined: a player who sends single bytes must not cost a piece of bookkeeping for each.
const JOIN_FROM: usize = 64;

/// A piece below this is small.
const SMALL: usize = 4 * 1024;

/// A piece below this is copied.
const TINY: usize = 1024;

/// Small pieces are joined up to this size.
const JOINED: usize = 16 * 1024;

/// What may be on the way to a peer of whom nothing was heard yet, in bytes.
const FIRST_ALLOWANCE: u64 = 64 * 1024;

/// After so many bytes the peer is told how far this end is, whatever it has taken before.
const MAX_UNTOLD: u64 = 256 * 1024;

/// How one direction ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// Tidily, by a FIN.
    Finished,
    /// By a reset.
    Reset,
}

/// One end of one session.
#[derive(Debug)]
pub struct Stream {
    /// From the local socket to the peer.
    pub outgoing: Outgoing,
    /// From the peer to the local socket.
    pub incoming: Incoming,
}

/// What goes from the local socket to the peer.
#[derive(Debug)]
pub struct Outgoing {
    /// Bytes that the peer can have left untaken on one carrier; `None` for a peer that takes up no session again.
    window: Option<u32>,
    acked: u64,
    /// As far as the present carrier has accepted: what is not there yet the peer cannot have.
    accepted: u64,
    /// The bytes that the peer has by its word, which may come before the word that the carrier accepted them.
    delivered: u64,
    end: u64,
    ending: Option<Ending>,
    /// The peer knows of the ending.
    is_settled: bool,
    /// The bytes from `acked` to `end`.
    replay: VecDeque<Bytes>,
    join_at: usize,
}

/// What comes from the peer for the local socket.
#[derive(Debug, Default)]
pub struct Incoming {
    taken: u64,
    ending: Option<Ending>,
    /// Taken, but not yet written to the local socket.
    pending: VecDeque<Bytes>,
    told: u64,
}

impl Stream {
    /// A session that nothing has passed through yet; `window` is the peer's.
    pub fn new(window: Option<u32>) -> Self {
        Self {
            outgoing: Outgoing {
                window,
                acked: 0,
                accepted: 0,
                delivered: 0,
                end: 0,
                ending: None,
                is_settled: false,
                replay: VecDeque::new(),
                join_at: JOIN_FROM,
            },
            incoming: Incoming::default(),
        }
    }

    /// Whether the peer may never have heard of the session, and would still want to.
    pub const fn is_fresh(&self) -> bool {
        let is_reset = matches!(self.outgoing.ending, Some(Ending::Reset));
        self.outgoing.acked == 0 && self.incoming.offset() == 0 && !is_reset
    }
}

impl Outgoing {
    /// Whether the peer takes up a session again.
    pub const fn is_resumable(&self) -> bool {
        self.window.is_some()
    }

    /// The peer has another window from here on.
    pub const fn set_window(&mut self, window: Option<u32>) {
        self.window = window;
    }

    /// Whether more may be read from the local socket: as much again as the peer is known to have taken, within its window. So a reader who never reads
    /// costs both ends little, and one who does is fast within a few round trips.
    pub fn has_room(&self) -> bool {
        self.ending.is_none() && self.kept() as u64 <= self.allowance()
    }

    fn allowance(&self) -> u64 {
        let window = u64::from(self.window.unwrap_or(0));
        // The peer tells late by up to a quarter.
        self.acked.max(FIRST_ALLOWANCE).min(window + window / 4)
    }

    /// Keeps bytes that were read from the local socket.
    pub fn push(&mut self, bytes: Bytes) {
        self.end += bytes.len() as u64;
        // A few bytes must not hold on to the large block that they are a slice of.
        self.replay.push_back(match bytes.len() {
            ..TINY => Bytes::copy_from_slice(&bytes),
            _ => bytes,
        });
        if self.replay.len() >= self.join_at {
            self.join();
        }
    }

    /// Notes how the local socket ended; the first ending counts, and a reset more than a FIN.
    pub fn finish(&mut self, ending: Ending) {
        if self.ending != Some(Ending::Reset) {
            self.ending = Some(ending);
        }
    }

    /// How the local socket ended.
    pub const fn ending(&self) -> Option<Ending> {
        self.ending
    }

    /// The offset after the last byte from the local socket.
    pub const fn end(&self) -> u64 {
        self.end
    }

    /// Bytes that are kept for the peer.
    pub const fn kept(&self) -> usize {
        (self.end - self.acked) as usize
    }

    /// Fills `pieces` with what follows `cursor`; returns how many were filled.
    ///
    /// # Panics
    /// When `cursor` is not between what the peer has and the end.
    pub fn read(&self, cursor: u64, pieces: &mut [Bytes]) -> usize {
        assert!((self.acked..=self.end).contains(&cursor), "a carrier's cursor is lost");
        // A carrier is nearly always at the last piece.
        let (mut index, mut start) = (self.replay.len(), self.end);
        while start > cursor {
            index -= 1;
            start -= self.replay[index].len() as u64;
        }
        let mut skip = (cursor - start) as usize;
        let mut filled = 0;
        for (piece, kept) in pieces.iter_mut().zip(self.replay.range(index..)) {
            *piece = kept.slice(skip..);
            skip = 0;
            filled += 1;
        }
        filled
    }

    /// A carrier has accepted everything before `cursor`, so its flow control has shown that the peer took all but the last window of it.
    pub fn on_accepted(&mut self, cursor: u64) {
        self.accepted = self.accepted.max(cursor);
        self.trim_to_known();
    }

    fn trim_to_known(&mut self) {
        let by_flow_control = self.accepted.saturating_sub(self.window.unwrap_or(0).into());
        let taken = by_flow_control.max(self.delivered.min(self.accepted));
        if taken > self.acked {
            self.trim(taken);
        }
    }

    /// The peer has told how far it is; what its carrier has not accepted yet is kept, whatever it says.
    ///
    /// # Errors
    /// [`Violation::OffsetOutOfRange`] for an offset beyond what was ever there. One that is behind what is known is merely late.
    pub fn on_delivered(&mut self, offset: u64) -> Result<(), Violation> {
        self.is_settled |= self.within(offset)? < offset;
        self.delivered = self.delivered.max(offset.min(self.end));
        self.trim_to_known();
        Ok(())
    }

    /// The bytes that the peer has by its word.
    fn within(&self, offset: u64) -> Result<u64, Violation> {
        if offset > self.end + u64::from(self.ending.is_some()) {
            return Err(Violation::OffsetOutOfRange);
        }
        Ok(offset.min(self.end))
    }

    /// A new carrier: the peer has everything before `offset` and needs the rest; returns where to go on.
    ///
    /// # Errors
    /// [`Violation::OffsetOutOfRange`] for an offset beyond what was ever there, or before what the peer had let us give up.
    pub fn resume(&mut self, offset: u64) -> Result<u64, Violation> {
        if offset < self.acked {
            return Err(Violation::OffsetOutOfRange);
        }
        let cursor = self.within(offset)?;
        // The new carrier begins there, and what was said on the old one counts no more.
        (self.accepted, self.delivered) = (cursor, 0);
        self.on_delivered(offset)?;
        Ok(cursor)
    }

    /// Whether the direction has ended and the peer knows.
    pub const fn is_settled(&self) -> bool {
        self.is_settled
    }

    fn trim(&mut self, to: u64) {
        let mut rest = (to - self.acked) as usize;
        self.acked = to;
        while rest > 0
            && let Some(first) = self.replay.front_mut()
        {
            if first.len() > rest {
                first.advance(rest);
                break;
            }
            rest -= first.len();
            self.replay.pop_front();
        }
        if self.replay.is_empty() {
            // An idle player holds nothing.
            self.replay = VecDeque::new();
            self.join_at = JOIN_FROM;
        }
    }

    /// Joins small pieces, which also lets go of the larger blocks that they are slices of.
    fn join(&mut self) {
        let mut joined = VecDeque::with_capacity(self.replay.len() / 2);
        let mut small = BytesMut::new();
        for piece in self.replay.drain(..) {
            if piece.len() >= SMALL || small.len() + piece.len() > JOINED {
                if !small.is_empty() {
                    joined.push_back(small.split().freeze());
                }
                if piece.len() >= SMALL {
                    joined.push_back(piece);
                    continue;
                }
            }
            if small.capacity() - small.len() < piece.len() {
                small.reserve(JOINED);
            }
            small.extend_from_slice(&piece);
        }
        if !small.is_empty() {
            joined.push_back(small.freeze());
        }
        self.replay = joined;
        self.join_at = JOIN_FROM.max(2 * self.replay.len());
    }
}

impl Incoming {
    /// Takes bytes over from the peer; they go to the local socket when that takes them.
    pub fn push(&mut self, bytes: Bytes) {
        self.taken += bytes.len() as u64;
        self.pending.push_back(bytes);
    }

    /// Takes over bytes that the local socket has taken at once.
    pub const fn pass(&mut self, bytes: usize) {
        self.taken += bytes as u64;
    }

    /// Takes over that the peer's direction has ended, after everything before it.
    pub fn finish(&mut self, ending: Ending) {
        self.ending = Some(ending);
    }

    /// How the peer's direction ended, once that was taken over.
    pub const fn ending(&self) -> Option<Ending> {
        self.ending
    }

    /// What was taken over, without the ending.
    pub const fn taken(&self) -> u64 {
        self.taken
    }

    /// What waits for the local socket.
    pub const fn pending(&self) -> &VecDeque<Bytes> {
        &self.pending
    }

    /// The local socket has taken `bytes` of what waits.
    pub fn on_written(&mut self, mut bytes: usize) {
        while bytes > 0
            && let Some(first) = self.pending.front_mut()
        {
            if first.len() > bytes {
                first.advance(bytes);
                return;
            }
            bytes -= first.len();
            self.pending.pop_front();
        }
        if self.pending.is_empty() {
            self.pending = VecDeque::new();
        }
    }

    /// What was taken over, with one more for the ending.
    pub const fn offset(&self) -> u64 {
        self.taken + self.ending.is_some() as u64
    }

    /// How far this end is, if the peer waits to hear it: it goes on as far again as it was told.
    pub fn take_due_news(&mut self) -> Option<u64> {
        let due = (self.taken / 4).clamp(FIRST_ALLOWANCE / 4, MAX_UNTOLD);
        (self.taken >= self.told + due).then(|| self.take_news()).flatten()
    }

    /// How far this end is, if the peer has not been told yet; it counts as told then.
    pub fn take_news(&mut self) -> Option<u64> {
        let offset = self.offset();
        (std::mem::replace(&mut self.told, offset) != offset).then_some(offset)
    }
}

#[cfg(test)]
mod tests;
