//! The outbox under watch: the shadow holds on to every datagram that went in, and so knows each one that came out or never did.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use spawnpoint_core::outbox::{Limits, Outbox, Turn};
use spawnpoint_proto::{FlowId, Time};

use super::ledger::{Fate, Ledger, PacketNumber};
use super::line::Parcel;

/// An outbox and what must be true of it.
#[derive(Debug)]
pub struct WatchedOutbox {
    outbox: Outbox,
    limits: Limits,
    waiting: BTreeMap<FlowId, Waiting>,
    /// The flow of each datagram that came out, in order.
    served: Vec<FlowId>,
    pushes: u64,
    /// Packets of which a part never came out, by the number of their push.
    left_behind: BTreeSet<u64>,
    /// How many by lane, as the shadow sees it and as the outbox says.
    shadow_dropped: BTreeMap<u8, u64>,
    told_dropped: BTreeMap<u8, u64>,
}

#[derive(Debug, Default)]
struct Waiting {
    entries: VecDeque<Entry>,
    /// How many datagrams of all flows had come out when this flow was last served.
    last_turn: usize,
}

#[derive(Debug)]
struct Entry {
    datagram: Bytes,
    packet: Option<PacketNumber>,
    push: u64,
    is_first: bool,
    queued: Time,
    /// How many datagrams of all flows had come out when it went in.
    served_before: usize,
}

impl WatchedOutbox {
    pub fn new(limits: Limits) -> Self {
        Self {
            outbox: Outbox::new(limits),
            limits,
            waiting: BTreeMap::new(),
            served: Vec::new(),
            pushes: 0,
            left_behind: BTreeSet::new(),
            shadow_dropped: BTreeMap::new(),
            told_dropped: BTreeMap::new(),
        }
    }

    pub fn push(&mut self, now: Time, flow: FlowId, packet: Option<PacketNumber>, datagrams: Vec<Bytes>) {
        self.pushes += 1;
        let queue = self.waiting.entry(flow).or_default();
        for (at, datagram) in datagrams.iter().enumerate() {
            queue.entries.push_back(Entry {
                datagram: datagram.clone(),
                packet,
                push: self.pushes,
                is_first: at == 0,
                queued: now,
                served_before: self.served.len(),
            });
        }
        self.outbox.push(now, flow, datagrams.into_iter());
        assert!(
            self.outbox.bytes() <= self.limits.total_bytes,
            "more bytes wait than allowed"
        );
    }

    pub fn pop(&mut self, now: Time, ledger: &mut Ledger) -> Option<Parcel> {
        let Some(Turn {
            flow: named, datagram, ..
        }) = self.outbox.pop(now)
        else {
            self.on_empty(ledger);
            return None;
        };
        let flow = flow_of(&datagram);
        assert_eq!(named, flow, "a datagram came out under the name of another flow");
        let entry = self.take(flow, &datagram, ledger);
        assert!(
            !self.left_behind.contains(&entry.push),
            "a part of a packet was sent after another part was dropped"
        );
        assert!(
            !entry.is_first || now.since(entry.queued) <= self.limits.max_age,
            "a packet was sent too late"
        );
        self.check_turn(flow, entry.served_before);
        self.served.push(flow);
        self.waiting.entry(flow).or_default().last_turn = self.served.len();
        Some(Parcel {
            datagram,
            packet: entry.packet,
        })
    }

    /// Finds the datagram itself; those before it in its flow were dropped, since a flow keeps its order.
    fn take(&mut self, flow: FlowId, datagram: &Bytes, ledger: &mut Ledger) -> Entry {
        loop {
            let queue = self.waiting.get_mut(&flow);
            let entry = queue.and_then(|queue| queue.entries.pop_front());
            let entry = entry.expect("a datagram came out that did not go in");
            if entry.datagram.as_ptr() == datagram.as_ptr() && entry.datagram == *datagram {
                return entry;
            }
            self.leave_behind(flow, &entry, ledger);
        }
    }

    fn leave_behind(&mut self, flow: FlowId, entry: &Entry, ledger: &mut Ledger) {
        if self.left_behind.insert(entry.push) {
            *self.shadow_dropped.entry(flow.lane()).or_default() += 1;
            ledger.note(entry.packet, Fate::LeftBehind);
        }
    }

    /// While a datagram waited at the front of its flow, no other flow was served twice.
    fn check_turn(&self, flow: FlowId, served_before: usize) {
        let last_turn = self.waiting.get(&flow).map_or(0, |queue| queue.last_turn);
        let mut others = BTreeSet::new();
        for other in &self.served[served_before.max(last_turn)..] {
            assert!(others.insert(other), "flow {other} had two turns while {flow} waited");
        }
    }

    /// Nothing waits any more: what the shadow still holds was dropped, and the outbox must have counted just that.
    fn on_empty(&mut self, ledger: &mut Ledger) {
        for (flow, queue) in std::mem::take(&mut self.waiting) {
            for entry in queue.entries {
                self.leave_behind(flow, &entry, ledger);
            }
        }
        for (lane, dropped) in self.outbox.take_dropped() {
            *self.told_dropped.entry(lane).or_default() += dropped.full + dropped.aged;
        }
        assert_eq!(self.outbox.bytes(), 0, "an empty outbox holds bytes");
        assert_eq!(self.told_dropped, self.shadow_dropped, "dropped packets by lane");
    }
}

fn flow_of(datagram: &[u8]) -> FlowId {
    let id = datagram[1..].first_chunk().expect("every header names its flow");
    FlowId(u32::from_be_bytes(*id))
}
