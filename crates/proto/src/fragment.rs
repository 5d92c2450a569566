//! Packets that are larger than a datagram: cut here, joined again at the other end.
//!
//! [`split`] cuts a packet to the size that the path takes right now. A [`Reassembler`] belongs to one direction of one flow. It has several slots, so
//! parts of neighbouring packets may arrive mixed and in any order; a slot is given up when its packet is too old, or when a newer packet needs it.
//! A packet is delivered whole or not at all, and every loss is told to the caller by reason.

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::datagram::{Announcement, Fragment, Header, Kind, MAX_HEADER, MAX_PACKET};
use crate::{FlowId, Time, Violation};

/// Packets of one flow that can be incomplete at the same time.
pub const SLOTS: usize = 8;

/// After this long an incomplete packet is given up: the rest would have come within a round trip or two, and games have moved on.
pub const MAX_AGE: Duration = Duration::from_secs(2);

/// The smallest datagram that a path can be asked to take; QUIC guarantees far more.
pub const MIN_DATAGRAM: usize = MAX_HEADER + MAX_PACKET.div_ceil(256);

/// The datagrams that carry `packet`: one when it fits into `max` bytes with its header, else its fragments under the number `id`.
///
/// An announced flow is announced in every part, since parts may arrive in any order. A `max` below [`MIN_DATAGRAM`] is taken as that.
pub fn split(
    flow: FlowId,
    announced: Option<Announcement>,
    packet: &[u8],
    id: u16,
    max: usize,
) -> impl Iterator<Item = Bytes> + '_ {
    cut(flow, announced, packet, id, max, false)
}

/// As [`split`], but a packet that fits into one datagram has its number too, as its only fragment: when it is sent a second time, the receiver can tell.
pub fn split_numbered(
    flow: FlowId,
    announced: Option<Announcement>,
    packet: &[u8],
    id: u16,
    max: usize,
) -> impl Iterator<Item = Bytes> + '_ {
    cut(flow, announced, packet, id, max, true)
}

fn cut(
    flow: FlowId,
    announced: Option<Announcement>,
    packet: &[u8],
    id: u16,
    max: usize,
    is_numbered: bool,
) -> impl Iterator<Item = Bytes> + '_ {
    let whole = Header {
        flow,
        kind: Kind::Packet {
            announced,
            fragment: None,
        },
    };
    let is_whole = !is_numbered && whole.encoded_len() + packet.len() <= max;
    let part = max.max(MIN_DATAGRAM) - whole.encoded_len() - if is_whole { 0 } else { 3 };
    let count = packet.len().div_ceil(part).max(1);
    (0..count).map(move |index| {
        let payload = &packet[index * part..packet.len().min((index + 1) * part)];
        let fragment = (!is_whole).then_some(Fragment {
            packet: id,
            index: index as u8,
            last: index + 1 == count,
        });
        let header = Header {
            flow,
            kind: Kind::Packet { announced, fragment },
        };
        let mut out = BytesMut::with_capacity(header.encoded_len() + payload.len());
        header.encode(&mut out);
        out.extend_from_slice(payload);
        out.freeze()
    })
}

/// What became of a fragment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Joined {
    /// Its packet is not complete yet.
    Waiting,
    /// Its packet is complete.
    Packet(Bytes),
    /// It was there already.
    Duplicate,
}

/// Joins the fragments of one direction of one flow.
#[derive(Debug, Default)]
pub struct Reassembler {
    slots: Vec<Slot>,
    abandoned: u64,
}

#[derive(Debug)]
struct Slot {
    packet: u16,
    started: Time,
    /// The parts by index; empty ones are missing.
    parts: Vec<Option<Bytes>>,
    /// How many parts there are, once the last one is there.
    count: Option<usize>,
    present: usize,
    bytes: usize,
}

impl Reassembler {
    /// Takes one fragment, and returns its packet if that is complete now.
    ///
    /// # Errors
    /// [`Violation::FragmentMismatch`] for a part beyond the last or a second last part, [`Violation::OversizePacket`] for a packet beyond
    /// [`MAX_PACKET`]. The packet is dropped then; later fragments start afresh.
    pub fn on_fragment(&mut self, now: Time, fragment: Fragment, payload: Bytes) -> Result<Joined, Violation> {
        self.handle_timeout(now);
        let at = match self.slots.iter().position(|slot| slot.packet == fragment.packet) {
            Some(at) => at,
            None => self.open(now, fragment.packet),
        };
        match self.slots[at].put(fragment, payload) {
            Ok(Joined::Packet(packet)) => {
                self.slots.swap_remove(at);
                Ok(Joined::Packet(packet))
            }
            Err(violation) => {
                self.slots.swap_remove(at);
                Err(violation)
            }
            waiting => waiting,
        }
    }

    /// Gives up packets older than [`MAX_AGE`].
    pub fn handle_timeout(&mut self, now: Time) {
        let before = self.slots.len();
        self.slots.retain(|slot| now.since(slot.started) < MAX_AGE);
        self.abandoned += (before - self.slots.len()) as u64;
    }

    /// Bytes held in incomplete packets.
    pub fn buffered(&self) -> usize {
        self.slots.iter().map(|slot| slot.bytes).sum()
    }

    /// When [`Reassembler::handle_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Option<Time> {
        self.slots.iter().map(|slot| slot.started + MAX_AGE).min()
    }

    /// Packets that are incomplete.
    pub const fn incomplete(&self) -> usize {
        self.slots.len()
    }

    /// How many packets were given up since the last call.
    pub fn take_abandoned(&mut self) -> u64 {
        std::mem::take(&mut self.abandoned)
    }

    fn open(&mut self, now: Time, packet: u16) -> usize {
        if self.slots.len() == SLOTS
            && let Some(oldest) = (0..SLOTS).min_by_key(|&at| self.slots[at].started)
        {
            self.slots.swap_remove(oldest);
            self.abandoned += 1;
        }
        self.slots.push(Slot {
            packet,
            started: now,
            parts: Vec::new(),
            count: None,
            present: 0,
            bytes: 0,
        });
        self.slots.len() - 1
    }
}

impl Slot {
    fn put(&mut self, fragment: Fragment, payload: Bytes) -> Result<Joined, Violation> {
        let index = usize::from(fragment.index);
        if self.parts.get(index).is_some_and(Option::is_some) {
            return Ok(Joined::Duplicate);
        }
        let beyond_last = self.count.is_some_and(|count| index >= count);
        let last_before_others = fragment.last && self.parts.len() > index + 1;
        if beyond_last || last_before_others || (fragment.last && self.count.is_some()) {
            return Err(Violation::FragmentMismatch);
        }
        self.bytes += payload.len();
        if self.bytes > MAX_PACKET {
            return Err(Violation::OversizePacket);
        }
        if fragment.last {
            self.count = Some(index + 1);
        }
        if self.parts.len() <= index {
            self.parts.resize(index + 1, None);
        }
        // A slice would keep the whole batch alive that it arrived in.
        self.parts[index] = Some(Bytes::copy_from_slice(&payload));
        self.present += 1;
        if self.count != Some(self.present) {
            return Ok(Joined::Waiting);
        }
        let mut packet = BytesMut::with_capacity(self.bytes);
        self.parts
            .iter()
            .flatten()
            .for_each(|part| packet.extend_from_slice(part));
        Ok(Joined::Packet(packet.freeze()))
    }
}

#[cfg(test)]
mod tests;
