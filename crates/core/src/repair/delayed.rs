//! Datagrams that leave a little later.
//!
//! They are few and short-lived, so what is bounded is their sum. Where that is full the oldest goes: it is the one that nobody came to fetch.

use std::collections::VecDeque;

use bytes::Bytes;
use spawnpoint_proto::Time;

/// Bytes that wait at most, each datagram with [`OVERHEAD`]: what a full server says to its players in one moment, twice over.
pub(super) const MAX_BYTES: usize = 128 * 1024;

/// What a datagram costs besides its bytes, in memory as on the line, where it often has a packet of its own.
pub(super) const OVERHEAD: usize = 64;

/// What a datagram is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// A repair of stream writes.
    Repair,
    /// A copy of a flow's packet.
    Copy,
}

/// Datagrams in the order in which they are due.
#[derive(Debug, Default)]
pub(super) struct Delayed {
    items: VecDeque<(Time, Kind, Bytes)>,
    bytes: usize,
}

impl Delayed {
    /// Adds a datagram; returns how many had to go.
    pub fn push(&mut self, due: Time, kind: Kind, datagram: Bytes) -> u64 {
        self.bytes += datagram.len() + OVERHEAD;
        // Nearly always the last.
        let at = self.items.iter().rposition(|item| item.0 <= due).map_or(0, |at| at + 1);
        self.items.insert(at, (due, kind, datagram));
        let mut crowded_out = 0;
        while self.bytes > MAX_BYTES && self.pop_front().is_some() {
            crowded_out += 1;
        }
        crowded_out
    }

    /// When the next one is due.
    pub fn poll_timeout(&self) -> Option<Time> {
        self.items.front().map(|item| item.0)
    }

    /// The next one that is due.
    pub fn pop(&mut self, now: Time) -> Option<(Kind, Bytes)> {
        self.poll_timeout().filter(|due| *due <= now)?;
        self.pop_front()
    }

    /// Drops all of a kind.
    pub fn drop_all(&mut self, kind: Kind) {
        self.items.retain(|item| item.1 != kind);
        self.bytes = self.items.iter().map(|item| item.2.len() + OVERHEAD).sum();
    }

    /// Bytes that wait, with what each datagram costs.
    #[cfg(test)]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    fn pop_front(&mut self) -> Option<(Kind, Bytes)> {
        let (_, kind, datagram) = self.items.pop_front()?;
        self.bytes -= datagram.len() + OVERHEAD;
        Some((kind, datagram))
    }
}
