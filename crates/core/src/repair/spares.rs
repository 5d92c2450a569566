//! What is sent a second time.
//!
//! A repair is of use when at most one of its writes is missing, and two things make that likely here. The writes of one group are of different
//! sessions, because a session's bytes are had in order: with the first of two missing, the second is as good as missing too (`Draft` sees to it). And
//! they do not share a packet, because one loss would take both: the carrier packs what is written in the same moment, so a write joins a group only
//! some time or a packet's worth of bytes after the last one that did. Several groups are open at once for the writes between. So a burst to many
//! players is repaired by plain copies, whatever the policy would like, and the budget has the last word.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use spawnpoint_proto::repair::{Draft, MAX_WRITES};
use spawnpoint_proto::{SessionId, Time};

use super::budget::Budget;
use super::delayed::{Delayed, Kind, OVERHEAD};
use super::policy::Policy;

/// A group is closed this long after its first write: a repair that comes later is hardly faster than the retransmission.
const MAX_WAIT: Duration = Duration::from_millis(8);

/// So much later than what it repairs a datagram leaves, or they would share a packet and its fate.
const GAP: Duration = Duration::from_millis(2);

/// Writes this far apart do not share a packet: the carrier waits for nothing.
const APART: Duration = Duration::from_millis(1);

/// Groups that are open at once.
const GROUPS: usize = 8;

/// Datagrams are cut from blocks of this size, or each would cost an allocation.
const BLOCK: usize = 16 * 1024;

/// What became of writes and copies since the last look.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Spent {
    /// Repairs that were sent.
    pub repairs: u64,
    /// Copies of flows' packets that were sent.
    pub copies: u64,
    /// Bytes of both.
    pub bytes: u64,
    /// Repairs that the budget did not allow.
    pub over_budget: u64,
    /// Datagrams of both kinds that were dropped because nobody fetched them.
    pub crowded_out: u64,
}

impl Spent {
    /// Each number of datagrams with the word by which metrics know it.
    pub const fn by_name(&self) -> [(&'static str, u64); 4] {
        [
            ("sent", self.repairs),
            ("copies", self.copies),
            ("over_budget", self.over_budget),
            ("crowded_out", self.crowded_out),
        ]
    }
}

/// Repairs and copies of one link and direction, on their way out.
#[derive(Debug)]
pub struct Spares {
    policy: Policy,
    max_datagram: usize,
    groups: [Group; GROUPS],
    /// Bytes of all writes that were noted, by which a packet's worth is measured.
    noted: u64,
    delayed: Delayed,
    budget: Budget,
    block: BytesMut,
    spent: Spent,
}

/// Writes that are covered together; an empty one is free.
#[derive(Debug, Default)]
struct Group {
    draft: Draft,
    first: Time,
    last: Time,
    /// What was noted up to its last write.
    noted: u64,
}

impl Group {
    /// When it is closed, and when what it becomes is due.
    fn ends(&self) -> Option<(Time, Time)> {
        (!self.draft.is_empty()).then(|| (self.first + MAX_WAIT, self.last + GAP))
    }
}

impl Spares {
    /// Sends nothing until it has a policy and a budget; datagrams have `max_datagram` bytes at most.
    pub fn new(max_datagram: usize) -> Self {
        Self {
            policy: Policy::Off,
            max_datagram,
            groups: std::array::from_fn(|_| Group::default()),
            noted: 0,
            delayed: Delayed::default(),
            budget: Budget::default(),
            block: BytesMut::new(),
            spent: Spent::default(),
        }
    }

    /// The path takes datagrams of another size from here on; those that are under way may be larger.
    pub const fn set_max_datagram(&mut self, max_datagram: usize) {
        self.max_datagram = max_datagram;
    }

    /// Changes what is covered; [`Policy::Off`] drops the repairs that wait. Copies of packets go on: their tunnel asks for them.
    pub fn set_policy(&mut self, policy: Policy) {
        self.policy = policy;
        if policy == Policy::Off {
            self.groups.iter_mut().for_each(|group| group.draft.clear());
            self.delayed.drop_all(Kind::Repair);
        }
    }

    /// Drops everything that waits: it was for a carrier that is gone, and on another it comes too late. A peer that has given way to its successor
    /// would take a copy for a new packet.
    pub fn drop_waiting(&mut self) {
        self.groups.iter_mut().for_each(|group| group.draft.clear());
        self.delayed = Delayed::default();
    }

    /// Changes how much may be spent on repairs, with what their packets cost; at first nothing. Copies of packets are not limited by it.
    pub const fn set_budget(&mut self, bytes_per_second: u64) {
        self.budget.set(bytes_per_second);
    }

    /// Notes a small write that the carrier has just accepted; one that is empty or beyond `MAX_WRITE` is not covered.
    pub fn on_write(&mut self, now: Time, session: SessionId, offset: u64, bytes: &[u8]) {
        let Policy::Cover { writes } = self.policy else { return };
        self.close_old(now);
        let placed = self.place(now, session, offset, bytes);
        self.noted += bytes.len() as u64;
        let Some(at) = placed else { return };
        let group = &mut self.groups[at];
        (group.last, group.noted) = (now, self.noted);
        if group.draft.writes().len() >= usize::from(writes).clamp(1, MAX_WRITES) {
            self.close(now, at);
        }
    }

    /// Keeps a copy of a flow's datagram, to be sent a little later.
    pub fn delay_copy(&mut self, now: Time, datagram: Bytes) {
        self.delay(now, now + GAP, Kind::Copy, datagram);
    }

    /// When [`Spares::poll_datagram`] has something to give.
    pub fn poll_timeout(&self) -> Option<Time> {
        let groups = self.groups.iter().filter_map(Group::ends);
        groups
            .map(|(closed, due)| closed.max(due))
            .chain(self.delayed.poll_timeout())
            .min()
    }

    /// The next datagram that is due.
    pub fn poll_datagram(&mut self, now: Time) -> Option<Bytes> {
        self.close_old(now);
        let (kind, datagram) = self.delayed.pop(now)?;
        match kind {
            Kind::Repair => self.spent.repairs += 1,
            Kind::Copy => self.spent.copies += 1,
        }
        self.spent.bytes += datagram.len() as u64;
        Some(datagram)
    }

    /// What was sent and dropped since the last call.
    pub fn take_spent(&mut self) -> Spent {
        std::mem::take(&mut self.spent)
    }

    /// Covers a write in the first group that may have it; `None` when it is of no size to be covered.
    fn place(&mut self, now: Time, session: SessionId, offset: u64, bytes: &[u8]) -> Option<usize> {
        let (noted, packet) = (self.noted, self.max_datagram as u64);
        let may_join = |group: &Group| {
            let is_its_own = group.draft.writes().iter().any(|write| write.session == session);
            let is_apart = now.since(group.last) >= APART || noted - group.noted >= packet;
            !group.draft.is_empty() && (is_its_own || is_apart)
        };
        let max = self.max_datagram;
        for at in 0..GROUPS {
            if may_join(&self.groups[at]) && self.groups[at].draft.try_add(session, offset, bytes, max) {
                return Some(at);
            }
        }
        let free = match self.groups.iter().position(|group| group.draft.is_empty()) {
            Some(free) => free,
            None => {
                let oldest = (0..GROUPS).min_by_key(|&at| self.groups[at].first)?;
                self.close(now, oldest);
                oldest
            }
        };
        self.groups[free].first = now;
        self.groups[free]
            .draft
            .try_add(session, offset, bytes, max)
            .then_some(free)
    }

    /// Closes the groups that have waited long enough.
    fn close_old(&mut self, now: Time) {
        for at in 0..GROUPS {
            if self.groups[at].ends().is_some_and(|(closed, _)| closed <= now) {
                self.close(now, at);
            }
        }
    }

    fn close(&mut self, now: Time, at: usize) {
        let group = &mut self.groups[at];
        let (due, length) = (group.last + GAP, group.draft.encoded_len());
        if self.block.capacity() < length {
            self.block.reserve(BLOCK);
        }
        group.draft.encode(&mut self.block);
        group.draft.clear();
        let datagram = self.block.split().freeze();
        self.delay(now, due, Kind::Repair, datagram);
    }

    fn delay(&mut self, now: Time, due: Time, kind: Kind, datagram: Bytes) {
        // Who asks for copies of packets gets them, and pays with the share of their own line.
        if kind == Kind::Copy || self.budget.try_spend(now, datagram.len() + OVERHEAD) {
            self.spent.crowded_out += self.delayed.push(due, kind, datagram);
        } else {
            self.spent.over_budget += 1;
        }
    }
}

#[cfg(test)]
mod tests;
