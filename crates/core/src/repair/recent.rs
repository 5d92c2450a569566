//! The small pieces that streams have brought lately.
//!
//! A repair speaks of writes, a stream of whatever pieces the carrier made of them, so a write is put together again from the pieces that touch it. The
//! bytes are in one ring: after its first minute a link allocates nothing here.

use std::collections::VecDeque;
use std::time::Duration;

use spawnpoint_proto::repair::MAX_WRITE;
use spawnpoint_proto::{SessionId, Time};

/// Pieces that are kept at most.
pub(super) const MAX_PIECES: usize = 128;

/// Bytes that are kept at most.
pub(super) const MAX_BYTES: usize = 96 * 1024;

/// A piece is kept this long: a repair that comes later repairs nothing.
const MAX_AGE: Duration = Duration::from_millis(500);

/// Recent pieces, oldest first.
#[derive(Debug, Default)]
pub(super) struct Recent {
    pieces: VecDeque<Piece>,
    /// Of all pieces, one after the other.
    bytes: VecDeque<u8>,
}

#[derive(Debug)]
struct Piece {
    session: SessionId,
    offset: u64,
    length: usize,
    taken: Time,
}

/// Where a stretch of a write lies.
struct Stretch {
    /// In the write.
    at: usize,
    /// In the bytes that are kept.
    from: usize,
    length: usize,
}

impl Recent {
    /// Keeps a copy of a piece, unless it is a large one: those are bulk, which no repair covers.
    pub fn push(&mut self, now: Time, session: SessionId, offset: u64, bytes: &[u8]) {
        while let Some(first) = self.pieces.front()
            && now.since(first.taken) > MAX_AGE
        {
            self.pop();
        }
        if bytes.is_empty() || bytes.len() > MAX_WRITE {
            return;
        }
        while self.pieces.len() >= MAX_PIECES || self.bytes.len() + bytes.len() > MAX_BYTES {
            self.pop();
        }
        self.bytes.extend(bytes);
        self.pieces.push_back(Piece {
            session,
            offset,
            length: bytes.len(),
            taken: now,
        });
    }

    /// Keeps nothing any more, and no memory.
    pub fn clear(&mut self) {
        if self.bytes.capacity() > 0 {
            *self = Self::default();
        }
    }

    /// Whether all `length` bytes of a session from `offset` on are here.
    pub fn has(&self, session: SessionId, offset: u64, length: usize) -> bool {
        self.visit(session, offset, length, |_| {})
    }

    /// XORs the `length` bytes of a session from `offset` on into the front of `parity`; what is not here is left out.
    pub fn xor(&self, session: SessionId, offset: u64, length: usize, parity: &mut [u8]) {
        self.visit(session, offset, length, |stretch| {
            let bytes = self.bytes.range(stretch.from..stretch.from + stretch.length);
            let into = parity.iter_mut().skip(stretch.at);
            into.zip(bytes).for_each(|(into, byte)| *into ^= byte);
        });
    }

    /// Bytes that are kept.
    #[cfg(test)]
    pub fn len(&self) -> (usize, usize) {
        (self.pieces.len(), self.bytes.len())
    }

    /// Visits the stretches of a write in order, each byte once; returns whether that was all of it. A session's pieces are in order too.
    fn visit(&self, session: SessionId, offset: u64, length: usize, mut each: impl FnMut(Stretch)) -> bool {
        let (mut at, mut start) = (0, 0);
        for piece in &self.pieces {
            let skip = offset.saturating_add(at as u64).checked_sub(piece.offset);
            if let Some(skip) = skip
                && skip < piece.length as u64
                && piece.session == session
                && at < length
            {
                let skip = skip as usize;
                let stretch = Stretch {
                    at,
                    from: start + skip,
                    length: (piece.length - skip).min(length - at),
                };
                at += stretch.length;
                each(stretch);
            }
            start += piece.length;
        }
        at == length
    }

    fn pop(&mut self) {
        if let Some(piece) = self.pieces.pop_front() {
            self.bytes.drain(..piece.length);
        }
    }
}
