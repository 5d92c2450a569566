//! Datagrams on their way into the link: a small queue for each flow, served in turn.
//!
//! The connection below drops the *oldest* datagram of *all* flows when its own buffer is full, so one flooding player would push out everybody
//! else's packets. Here every flow has a bounded queue of its own, a turn sends one datagram, and what has waited too long is dropped, since a late
//! game packet is worse than none. A packet in fragments is dropped as a whole: its remaining parts would only waste the line.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use spawnpoint_proto::{FlowId, Time};

/// What the queues hold at most.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of one flow.
    pub flow_bytes: usize,
    /// Bytes of all flows.
    pub total_bytes: usize,
    /// After this long in the queue a packet is dropped.
    pub max_age: Duration,
}

impl Default for Limits {
    /// 256 KiB a flow (three of the largest packets), 16 MiB in all, 250 ms.
    fn default() -> Self {
        Self {
            flow_bytes: 256 * 1024,
            total_bytes: 16 * 1024 * 1024,
            max_age: Duration::from_millis(250),
        }
    }
}

/// Packets that never left, since the last look.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Dropped {
    /// Because their flow's queue, or all queues together, were full.
    pub full: u64,
    /// Because they had waited too long.
    pub aged: u64,
    /// Because the path took less than when they were cut.
    pub oversize: u64,
}

/// A datagram whose turn it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Turn {
    /// Its flow.
    pub flow: FlowId,
    /// The datagram.
    pub datagram: Bytes,
    /// It is to be sent a second time, a moment later.
    pub is_doubled: bool,
}

/// What a datagram costs in the queues besides its bytes, so that empty packets are bounded too.
const OVERHEAD: usize = 64;

/// The queues of one link and direction.
#[derive(Debug)]
pub struct Outbox {
    limits: Limits,
    flows: HashMap<FlowId, Queue>,
    /// Flows with something to send, in the order of their turns.
    turns: VecDeque<FlowId>,
    bytes: usize,
    /// By lane, that is by tunnel.
    dropped: BTreeMap<u8, Dropped>,
    /// The longest that a datagram whose turn came had waited.
    longest_wait: Duration,
}

#[derive(Debug, Default)]
struct Queue {
    items: VecDeque<Item>,
    bytes: usize,
}

#[derive(Debug)]
struct Item {
    datagram: Bytes,
    queued: Time,
    /// Whether this is a later part of the packet before it.
    continues: bool,
    is_doubled: bool,
}

impl Item {
    fn cost(&self) -> usize {
        self.datagram.len() + OVERHEAD
    }
}

impl Queue {
    /// Drops the packet at the front, with all its parts; returns its bytes.
    fn drop_front(&mut self) -> usize {
        let first = self.items.pop_front().map_or(0, |item| item.cost());
        self.bytes -= first;
        first + self.drop_rest()
    }

    /// Drops the remaining parts of a packet that has begun; returns their bytes.
    fn drop_rest(&mut self) -> usize {
        let before = self.bytes;
        while self.items.front().is_some_and(|item| item.continues) {
            self.bytes -= self.items.pop_front().map_or(0, |item| item.cost());
        }
        before - self.bytes
    }
}

impl Outbox {
    /// Empty queues.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            flows: HashMap::new(),
            turns: VecDeque::new(),
            bytes: 0,
            dropped: BTreeMap::new(),
            longest_wait: Duration::ZERO,
        }
    }

    /// Queues the datagrams of one packet of `flow`. Where the flow's queue is full, its oldest packets go.
    pub fn push(&mut self, now: Time, flow: FlowId, packet: impl Iterator<Item = Bytes>) {
        self.add(now, flow, packet, false);
    }

    /// As [`Outbox::push`], for a packet that is to be sent twice: its copy is due when it has left, or it would overtake what waits here.
    pub fn push_twice(&mut self, now: Time, flow: FlowId, packet: impl Iterator<Item = Bytes>) {
        self.add(now, flow, packet, true);
    }

    fn add(&mut self, now: Time, flow: FlowId, packet: impl Iterator<Item = Bytes>, is_doubled: bool) {
        let queue = self.flows.entry(flow).or_insert_with(|| {
            self.turns.push_back(flow);
            Queue::default()
        });
        let mut added = 0;
        for (at, datagram) in packet.enumerate() {
            added += datagram.len() + OVERHEAD;
            queue.items.push_back(Item {
                datagram,
                queued: now,
                continues: at > 0,
                is_doubled,
            });
        }
        queue.bytes += added;
        self.bytes += added;
        while queue.bytes > self.limits.flow_bytes || self.bytes > self.limits.total_bytes {
            // The total is shared: who adds to it pays for it, so no flow can push out another's packets.
            self.bytes -= queue.drop_front();
            self.dropped.entry(flow.lane()).or_default().full += 1;
            if queue.items.is_empty() {
                break;
            }
        }
    }

    /// The datagram whose turn it is; `None` when nothing waits.
    pub fn pop(&mut self, now: Time) -> Option<Turn> {
        while let Some(flow) = self.turns.pop_front() {
            let Some(queue) = self.flows.get_mut(&flow) else {
                continue;
            };
            if let Some(oldest) = queue.items.front() {
                self.longest_wait = self.longest_wait.max(now.since(oldest.queued));
            }
            while let Some(item) = queue.items.front()
                && !item.continues
                && now.since(item.queued) > self.limits.max_age
            {
                self.bytes -= queue.drop_front();
                self.dropped.entry(flow.lane()).or_default().aged += 1;
            }
            let Some(item) = queue.items.pop_front() else {
                self.flows.remove(&flow);
                continue;
            };
            queue.bytes -= item.cost();
            self.bytes -= item.cost();
            if queue.items.is_empty() {
                self.flows.remove(&flow);
            } else {
                self.turns.push_back(flow);
            }
            return Some(Turn {
                flow,
                datagram: item.datagram,
                is_doubled: item.is_doubled,
            });
        }
        None
    }

    /// The datagram of `flow` that was popped last is too large for the path: what is left of its packet is dropped with it.
    pub fn on_oversize(&mut self, flow: FlowId) {
        if let Some(queue) = self.flows.get_mut(&flow) {
            self.bytes -= queue.drop_rest();
        }
        self.dropped.entry(flow.lane()).or_default().oversize += 1;
    }

    /// Bytes that wait, with what each datagram costs.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The longest that a datagram has waited for its turn, of those whose turn came since the last call and of those that wait now; not more than what
    /// makes it too old.
    pub fn take_longest_wait(&mut self, now: Time) -> Duration {
        let fronts = self.flows.values().filter_map(|queue| queue.items.front());
        let waiting = fronts.map(|oldest| now.since(oldest.queued)).max().unwrap_or_default();
        std::mem::take(&mut self.longest_wait)
            .max(waiting)
            .min(self.limits.max_age)
    }

    /// Packets that were dropped since the last call, by the lane of their flow.
    pub fn take_dropped(&mut self) -> BTreeMap<u8, Dropped> {
        std::mem::take(&mut self.dropped)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    /// Room for two small datagrams of one flow, and for two larger ones of all.
    const LIMITS: Limits = Limits {
        flow_bytes: 2 * (OVERHEAD + 6),
        total_bytes: 2 * (OVERHEAD + 12) + OVERHEAD,
        max_age: Duration::from_millis(100),
    };

    fn at(millis: u64) -> Time {
        Time::new(Duration::from_millis(millis))
    }

    fn push(outbox: &mut Outbox, now: u64, flow: u32, packet: &[&'static str]) {
        outbox.push(
            at(now),
            FlowId(flow),
            packet.iter().map(|part| Bytes::from_static(part.as_bytes())),
        );
    }

    fn drain(outbox: &mut Outbox, now: u64) -> String {
        let mut out = Vec::new();
        while let Some(turn) = outbox.pop(at(now)) {
            out.push(String::from_utf8(turn.datagram.to_vec()).unwrap());
        }
        out.join(" ")
    }

    #[test]
    fn flows_take_turns() {
        let mut outbox = Outbox::new(Limits::default());
        push(&mut outbox, 0, 1, &["a1"]);
        push(&mut outbox, 0, 1, &["a2"]);
        push(&mut outbox, 0, 1, &["a3"]);
        push(&mut outbox, 0, 2, &["b1"]);
        assert_eq!(drain(&mut outbox, 0), "a1 b1 a2 a3");
    }

    #[test]
    fn a_flooding_flow_pushes_out_only_its_own_oldest_packets() {
        let mut outbox = Outbox::new(LIMITS);
        push(&mut outbox, 0, 2, &["bbbb"]);
        for _ in 0..5 {
            push(&mut outbox, 0, 1, &["aaaa"]);
        }
        push(&mut outbox, 0, 1, &["last"]);
        assert_eq!(drain(&mut outbox, 0), "bbbb aaaa last");
        assert_eq!(
            outbox.take_dropped()[&0],
            Dropped {
                full: 4,
                ..Dropped::default()
            }
        );
    }

    #[test]
    fn a_full_outbox_costs_the_one_who_adds() {
        let mut outbox = Outbox::new(LIMITS);
        push(&mut outbox, 0, 1, &["aaaaaaaaaa"]);
        push(&mut outbox, 0, 2, &["bbbbbbbbbb"]);
        push(&mut outbox, 0, 3, &["cccccc"]);
        assert_eq!(drain(&mut outbox, 0), "aaaaaaaaaa bbbbbbbbbb");
    }

    #[test]
    fn a_late_packet_is_dropped_with_all_its_parts() {
        let mut outbox = Outbox::new(Limits {
            max_age: LIMITS.max_age,
            ..Limits::default()
        });
        push(&mut outbox, 0, 1, &["x1", "x2", "x3"]);
        push(&mut outbox, 90, 1, &["y"]);
        assert_eq!(drain(&mut outbox, 101), "y");
        assert_eq!(
            outbox.take_dropped()[&0],
            Dropped {
                aged: 1,
                ..Dropped::default()
            }
        );
    }

    #[test]
    fn the_age_of_the_queue_is_that_of_what_waited_longest() {
        let mut outbox = Outbox::new(Limits::default());
        push(&mut outbox, 0, 1, &["a1"]);
        push(&mut outbox, 20, 1, &["a2"]);
        push(&mut outbox, 20, 2, &["b1"]);
        drain(&mut outbox, 30);
        let mut longest = |now: u64| outbox.take_longest_wait(at(now)).as_millis();
        assert_eq!([longest(30), longest(30)], [30, 0]);
        push(&mut outbox, 40, 1, &["a3"]);
        push(&mut outbox, 45, 1, &["a4"]);
        let mut longest = |now: u64| outbox.take_longest_wait(at(now)).as_millis();
        assert_eq!([longest(50), longest(60)], [10, 20], "those that still wait count too");
        assert_eq!(drain(&mut outbox, 900), "");
        let too_old = Limits::default().max_age;
        assert_eq!(
            outbox.take_longest_wait(at(900)),
            too_old,
            "a link without a carrier has no queue"
        );
    }

    #[test]
    fn a_packet_that_has_begun_is_finished() {
        let mut outbox = Outbox::new(LIMITS);
        push(&mut outbox, 0, 1, &["x1", "x2"]);
        assert_eq!(outbox.pop(at(100)).unwrap().datagram, "x1");
        assert_eq!(drain(&mut outbox, 200), "x2");
    }

    #[test]
    fn a_packet_cut_too_large_for_the_path_is_given_up_whole() {
        let mut outbox = Outbox::new(Limits::default());
        push(&mut outbox, 0, 1, &["x1", "x2", "x3"]);
        push(&mut outbox, 0, 1, &["y"]);
        let turn = outbox.pop(at(0)).unwrap();
        outbox.on_oversize(turn.flow);
        assert_eq!(drain(&mut outbox, 0), "y");
        assert_eq!(outbox.take_dropped()[&0].oversize, 1);
        assert_eq!(outbox.bytes(), 0);
    }

    #[test]
    fn every_part_of_a_packet_that_is_sent_twice_says_so_and_no_other() {
        let mut outbox = Outbox::new(Limits::default());
        push(&mut outbox, 0, 1, &["once"]);
        outbox.push_twice(at(0), FlowId(1), ["x1", "x2"].map(Bytes::from).into_iter());
        push(&mut outbox, 0, 1, &["once"]);
        let turns = std::iter::from_fn(|| outbox.pop(at(0)).map(|turn| turn.is_doubled));
        assert_eq!(turns.collect::<Vec<_>>(), [false, true, true, false]);
    }

    #[test]
    fn empty_packets_are_bounded_too() {
        let mut outbox = Outbox::new(Limits::default());
        for _ in 0..100_000 {
            push(&mut outbox, 0, 1, &[""]);
        }
        assert!(outbox.flows[&FlowId(1)].items.len() <= 4096);
    }

    proptest! {
        #[test]
        fn bytes_are_accounted_for_and_bounded(steps in proptest::collection::vec((0u32..4, 1usize..4, 0usize..9, 0u64..40, any::<bool>()), 0..200)) {
            let mut outbox = Outbox::new(LIMITS);
            let mut now = 0;
            for (flow, parts, size, step, pop) in steps {
                now += step;
                if pop {
                    outbox.pop(at(now));
                } else {
                    outbox.push(at(now), FlowId(flow), (0..parts).map(|_| Bytes::from(vec![0; size])));
                }
                let held: usize = outbox.flows.values().flat_map(|queue| &queue.items).map(Item::cost).sum();
                prop_assert_eq!(held, outbox.bytes());
                prop_assert!(outbox.bytes() <= LIMITS.total_bytes);
                prop_assert!(outbox.flows.len() <= outbox.turns.len());
            }
            while outbox.pop(at(now)).is_some() {}
            prop_assert_eq!((outbox.bytes(), outbox.flows.len()), (0, 0));
        }
    }
}
