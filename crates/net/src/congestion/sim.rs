//! A simulated bottleneck: the controller on lines that lose, change, and are shared, on a virtual clock.
//!
//! What stands around the controller behaves as quinn does: its pacer, its loss detection by three packets, its acknowledgements. A neighbour is a TCP flow
//! by CUBIC. All dice are seeded; a failing claim prints its seed, and `SPAWNPOINT_SIM_SEED` replays one.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::{Duration, Instant};

use super::control::{Control, Phase};

const PACKET: u64 = 1450;

/// Acknowledgements are sent after so many packets, or so long, or at once where packets are missing.
const ACK_PACKETS: u32 = 10;
const ACK_DELAY: u64 = 3_000_000;

/// A line, each way: nanoseconds, bytes.
#[derive(Clone, Copy, Debug)]
struct Line {
    /// Bytes a second.
    rate: f64,
    delay: u64,
    /// Nanoseconds of queue.
    queue: u64,
    loss: f64,
    jitter: u64,
    /// Packets that meet a longer queue are marked.
    marks: u64,
}

const fn mbit(rate: f64) -> f64 {
    rate * 1e6 / 8.0
}

const fn ms(millis: u64) -> u64 {
    millis * 1_000_000
}

impl Default for Line {
    /// 50 Mbit/s, 40 ms round trip, 100 ms of queue.
    fn default() -> Self {
        Self {
            rate: mbit(50.0),
            delay: ms(20),
            queue: ms(100),
            loss: 0.0,
            jitter: 0,
            marks: u64::MAX,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Event {
    Arrive { flow: usize, number: u64 },
    AckDue { flow: usize, since: u64 },
    Ack { flow: usize, ack: usize },
    Send { flow: usize },
    Write { flow: usize },
}

/// How a sender decides.
enum Rules {
    Ours(Box<Control>),
    Cubic {
        window: f64,
        max: f64,
        epoch: u64,
        threshold: f64,
        recovered: u64,
    },
}

/// What a flow has to send.
#[derive(Clone, Copy, Debug)]
enum Load {
    Bulk,
    /// Bytes, every so many nanoseconds.
    Ticks(u64, u64),
}

struct Flow {
    rules: Rules,
    load: Load,
    waiting: u64,
    next: u64,
    /// Number to time sent and bytes.
    sent: BTreeMap<u64, (u64, u64)>,
    in_flight: u64,
    largest_acked: u64,
    srtt: f64,
    tokens: f64,
    filled: u64,
    is_limited: bool,
    wake: u64,
    // the receiver
    unacked: Vec<u64>,
    unacked_since: u64,
    expected: u64,
    acks: Vec<Vec<u64>>,
    /// Bytes received by milliseconds, and the queue that packets met.
    received: BTreeMap<u64, u64>,
    met: Vec<(u64, u64)>,
    dropped: u64,
    is_marked: bool,
}

struct World {
    start: Instant,
    now: u64,
    line: Line,
    busy_until: u64,
    flows: Vec<Flow>,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    sequence: u64,
    dice: u64,
    last_arrival: u64,
}

fn seed() -> u64 {
    std::env::var("SPAWNPOINT_SIM_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(7)
}

impl World {
    fn new(line: Line) -> Self {
        println!("SPAWNPOINT_SIM_SEED={}", seed());
        Self {
            start: Instant::now(),
            now: 0,
            line,
            busy_until: 0,
            flows: Vec::new(),
            events: BinaryHeap::new(),
            sequence: 0,
            dice: seed().wrapping_mul(2).wrapping_add(1),
            last_arrival: 0,
        }
    }

    fn at(&self, time: u64) -> Instant {
        self.start + Duration::from_nanos(time)
    }

    fn ours(&mut self, load: Load) -> usize {
        let control = Control::new(self.at(self.now), PACKET as u16);
        self.join(Rules::Ours(Box::new(control)), load)
    }

    fn cubic(&mut self) -> usize {
        let rules = Rules::Cubic {
            window: 10.0 * PACKET as f64,
            max: 0.0,
            epoch: 0,
            threshold: f64::MAX,
            recovered: 0,
        };
        self.join(rules, Load::Bulk)
    }

    fn join(&mut self, rules: Rules, load: Load) -> usize {
        let flow = self.flows.len();
        self.flows.push(Flow {
            rules,
            load,
            waiting: 0,
            next: 0,
            sent: BTreeMap::new(),
            in_flight: 0,
            largest_acked: 0,
            srtt: 111e6,
            tokens: 0.0,
            filled: self.now,
            is_limited: false,
            wake: 0,
            unacked: Vec::new(),
            unacked_since: 0,
            expected: 0,
            acks: Vec::new(),
            received: BTreeMap::new(),
            met: Vec::new(),
            dropped: 0,
            is_marked: false,
        });
        self.post(self.now, Event::Write { flow });
        flow
    }

    fn post(&mut self, time: u64, event: Event) {
        self.sequence += 1;
        self.events.push(Reverse((time, self.sequence, event)));
    }

    fn roll(&mut self) -> f64 {
        self.dice ^= self.dice >> 12;
        self.dice ^= self.dice << 25;
        self.dice ^= self.dice >> 27;
        (self.dice.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn run(&mut self, millis: u64) {
        let until = self.now + ms(millis);
        while let Some(Reverse((time, _, event))) = self.events.peek().copied() {
            if time > until {
                break;
            }
            self.events.pop();
            self.now = time;
            match event {
                Event::Write { flow } => self.write(flow),
                Event::Send { flow } => {
                    if self.flows[flow].wake <= self.now {
                        self.flows[flow].wake = u64::MAX;
                        self.send(flow);
                    }
                }
                Event::Arrive { flow, number } => self.arrive(flow, number),
                Event::AckDue { flow, since } => {
                    if self.flows[flow].unacked_since == since && !self.flows[flow].unacked.is_empty() {
                        self.acknowledge(flow);
                    }
                }
                Event::Ack { flow, ack } => self.on_ack(flow, ack),
            }
        }
        self.now = until;
    }

    fn write(&mut self, flow: usize) {
        match self.flows[flow].load {
            Load::Bulk => self.flows[flow].waiting = u64::MAX / 2,
            Load::Ticks(bytes, every) => {
                self.flows[flow].waiting += bytes;
                self.post(self.now + every, Event::Write { flow });
            }
        }
        self.send(flow);
    }

    fn send(&mut self, flow: usize) {
        let now = self.now;
        loop {
            let at = self.at(now);
            let state = &mut self.flows[flow];
            let window = match &state.rules {
                Rules::Ours(control) => control.window() as f64,
                Rules::Cubic { window, .. } => *window,
            };
            if state.waiting == 0 {
                state.is_limited = true;
                return;
            }
            state.is_limited = false;
            let bytes = state.waiting.min(PACKET);
            if (state.in_flight + PACKET) as f64 >= window {
                return;
            }
            // quinn's pacer
            if matches!(state.rules, Rules::Ours(_)) {
                let capacity = (window * 2e6 / state.srtt).clamp((10 * PACKET) as f64, (256 * PACKET) as f64);
                if state.tokens < PACKET as f64 {
                    let elapsed = (now - state.filled) as f64 / state.srtt;
                    state.tokens = (state.tokens + window * 1.25 * elapsed).min(capacity);
                    state.filled = now;
                }
                if state.tokens < PACKET as f64 {
                    let wait = state.srtt * (capacity - state.tokens) / window * 0.8;
                    state.wake = now + wait as u64 + 1;
                    let wake = state.wake;
                    self.post(wake, Event::Send { flow });
                    return;
                }
                state.tokens -= bytes as f64;
            }
            state.waiting -= bytes;
            state.in_flight += bytes;
            let number = state.next;
            state.next += 1;
            state.sent.insert(number, (now, bytes));
            if let Rules::Ours(control) = &mut state.rules {
                control.on_sent(at, bytes);
            }
            self.transmit(flow, number, bytes);
        }
    }

    fn transmit(&mut self, flow: usize, number: u64, bytes: u64) {
        let backlog = self.busy_until.saturating_sub(self.now);
        let is_lost = self.roll() < self.line.loss;
        if backlog > self.line.queue {
            self.flows[flow].dropped += 1;
            return;
        }
        self.flows[flow].met.push((self.now, backlog));
        self.flows[flow].is_marked |= backlog > self.line.marks;
        let took = (bytes as f64 / self.line.rate * 1e9) as u64;
        self.busy_until = self.now.max(self.busy_until) + took;
        if is_lost {
            return;
        }
        let jitter = (self.roll() * self.line.jitter as f64) as u64;
        let arrival = (self.busy_until + self.line.delay + jitter).max(self.last_arrival);
        self.last_arrival = arrival;
        self.post(arrival, Event::Arrive { flow, number });
    }

    fn arrive(&mut self, flow: usize, number: u64) {
        let now = self.now;
        let state = &mut self.flows[flow];
        let Some((_, bytes)) = state.sent.get(&number).copied() else {
            return;
        };
        *state.received.entry(now / 1_000_000).or_default() += bytes;
        let has_gap = number > state.expected;
        state.expected = state.expected.max(number + 1);
        if state.unacked.is_empty() {
            state.unacked_since = now;
            self.post(now + ACK_DELAY, Event::AckDue { flow, since: now });
        }
        let state = &mut self.flows[flow];
        state.unacked.push(number);
        let enough = match state.rules {
            Rules::Ours(_) => ACK_PACKETS,
            Rules::Cubic { .. } => 2,
        };
        if has_gap || state.unacked.len() as u32 >= enough {
            self.acknowledge(flow);
        }
    }

    fn acknowledge(&mut self, flow: usize) {
        let state = &mut self.flows[flow];
        let acked = std::mem::take(&mut state.unacked);
        state.acks.push(acked);
        let ack = state.acks.len() - 1;
        let arrival = self.now + self.line.delay;
        self.post(arrival, Event::Ack { flow, ack });
    }

    fn on_ack(&mut self, flow: usize, ack: usize) {
        let (now, at, start) = (self.now, self.at(self.now), self.start);
        let state = &mut self.flows[flow];
        let acked = std::mem::take(&mut state.acks[ack]);
        let mut acked_bytes = 0;
        let mut newest = None;
        for number in acked {
            let Some((sent, bytes)) = state.sent.remove(&number) else {
                continue;
            };
            state.in_flight -= bytes;
            acked_bytes += bytes;
            state.largest_acked = state.largest_acked.max(number);
            newest = Some(sent);
            if let Rules::Ours(control) = &mut state.rules {
                control.on_ack(at, start + Duration::from_nanos(sent), bytes);
            }
        }
        let rtt = newest.map_or(state.srtt, |sent| (now - sent) as f64);
        state.srtt = if state.srtt == 111e6 {
            rtt
        } else {
            state.srtt * 0.875 + rtt * 0.125
        };
        let is_marked = std::mem::take(&mut state.is_marked);
        if let Rules::Ours(control) = &mut state.rules {
            if is_marked {
                control.on_marked();
            }
            control.on_end_acks(at, state.in_flight, state.is_limited);
        }
        let lost: Vec<u64> = state
            .sent
            .range(..state.largest_acked.saturating_sub(2))
            .map(|(number, _)| *number)
            .collect();
        let mut lost_bytes = 0;
        let mut last_lost = 0;
        for number in lost {
            if let Some((sent, bytes)) = state.sent.remove(&number) {
                state.in_flight -= bytes;
                lost_bytes += bytes;
                last_lost = sent;
                if matches!(state.load, Load::Ticks(..)) {
                    state.waiting += bytes;
                }
            }
        }
        let srtt = state.srtt;
        match &mut state.rules {
            Rules::Ours(control) => {
                if lost_bytes > 0 {
                    control.on_lost(at, lost_bytes, false);
                }
            }
            Rules::Cubic {
                window,
                max,
                epoch,
                threshold,
                recovered,
            } => {
                if lost_bytes > 0 && last_lost >= *recovered {
                    *max = *window;
                    *window = (*window * 0.7).max(2.0 * PACKET as f64);
                    *threshold = *window;
                    *recovered = now;
                    *epoch = now;
                } else if *window < *threshold {
                    *window += acked_bytes as f64;
                } else {
                    let (t, k) = (
                        (now - *epoch) as f64 / 1e9 + srtt / 1e9,
                        (*max / PACKET as f64 * 0.3 / 0.4).cbrt(),
                    );
                    let target = (0.4 * (t - k).powi(3) + *max / PACKET as f64) * PACKET as f64;
                    let step = (target - *window).max(0.0) / *window * acked_bytes as f64;
                    // Never slower than Reno would be.
                    *window += step.clamp(
                        0.3 * acked_bytes as f64 * PACKET as f64 / *window,
                        acked_bytes as f64 / 2.0,
                    );
                }
            }
        }
        self.send(flow);
    }

    /// Bytes a second received from `from` to `to`, in milliseconds.
    fn goodput(&self, flow: usize, from: u64, to: u64) -> f64 {
        let bytes: u64 = self.flows[flow].received.range(from..to).map(|(_, bytes)| bytes).sum();
        bytes as f64 / (to - from) as f64 * 1e3
    }

    /// Milliseconds of queue that the packets of a flow met: the middle, and the 99th of a hundred.
    fn queue(&self, flow: usize, from: u64, to: u64) -> [f64; 2] {
        let met = self.flows[flow]
            .met
            .iter()
            .filter(|(time, _)| (ms(from)..ms(to)).contains(time));
        let mut met: Vec<u64> = met.map(|(_, queue)| *queue).collect();
        met.sort_unstable();
        [50, 99].map(|percent| {
            met.get(met.len() * percent / 100)
                .map_or(f64::NAN, |queue| *queue as f64 / 1e6)
        })
    }

    fn tell(&self, name: &str, flow: usize, from: u64, to: u64) -> (f64, [f64; 2]) {
        let share = self.goodput(flow, from, to) / self.line.rate;
        let queue = self.queue(flow, from, to);
        if let Rules::Ours(control) = &self.flows[flow].rules {
            println!(
                "{name}: {:.1} % of the line, queue {:.1}/{:.1} ms, dropped {}, window {} base {:?} {:?}",
                share * 100.0,
                queue[0],
                queue[1],
                self.flows[flow].dropped,
                control.window(),
                control.base_rtt(),
                control.phase()
            );
        } else {
            println!("{name}: {:.1} % of the line", share * 100.0);
        }
        (share, queue)
    }
}

#[test]
fn a_clean_line_is_filled_with_a_queue_of_milliseconds() {
    for (rate, delay) in [(50.0, 20), (10.0, 20), (10.0, 10), (50.0, 75), (200.0, 5), (2.0, 30)] {
        let line = Line {
            rate: mbit(rate),
            delay: ms(delay),
            ..Line::default()
        };
        let mut world = World::new(line);
        let flow = world.ours(Load::Bulk);
        world.run(30_000);
        let (share, queue) = world.tell(&format!("{rate} Mbit/s {delay} ms"), flow, 3000, 30_000);
        let packets = PACKET as f64 * 8.0 / (rate * 1e3) * 12.0;
        assert!(share > 0.95, "{share}");
        assert!(queue[0] < 6.0 + packets && queue[1] < 12.0 + 2.0 * packets, "{queue:?}");
    }
}

#[test]
fn random_loss_costs_about_itself() {
    for loss in [0.01, 0.03, 0.05, 0.1] {
        for (rate, delay) in [(50.0, 20), (10.0, 20), (50.0, 75)] {
            let mut world = World::new(Line {
                rate: mbit(rate),
                delay: ms(delay),
                loss,
                ..Line::default()
            });
            let flow = world.ours(Load::Bulk);
            world.run(30_000);
            let (share, queue) = world.tell(&format!("{loss} {rate} Mbit/s {delay} ms"), flow, 3000, 30_000);
            assert!(share > 1.0 - loss - 0.07, "{share}");
            assert!(queue[0] < 8.0 + PACKET as f64 * 8.0 / (rate * 1e3) * 12.0, "{queue:?}");
        }
    }
}

#[test]
fn loss_that_nobody_should_have_does_not_stop_everything() {
    let mut world = World::new(Line {
        loss: 0.2,
        ..Line::default()
    });
    let flow = world.ours(Load::Bulk);
    world.run(30_000);
    let (share, queue) = world.tell("20 % loss", flow, 3000, 30_000);
    assert!(share > 0.4 && queue[0] < 10.0, "{share} {queue:?}");
}

#[test]
fn a_new_path_is_filled_within_half_a_second() {
    let mut world = World::new(Line::default());
    let flow = world.ours(Load::Bulk);
    world.run(3_000);
    let (share, queue) = world.tell("first half second after the first", flow, 500, 1000);
    assert!(share > 0.9, "{share}");
    assert!(queue[1] < 40.0, "{queue:?}");
    world.tell("first half second", flow, 0, 500);
}

#[test]
fn a_path_that_its_owner_describes_is_filled_at_once() {
    let line = Line {
        rate: mbit(10.0),
        ..Line::default()
    };
    let mut world = World::new(line);
    let flow = world.ours(Load::Bulk);
    if let Rules::Ours(control) = &mut world.flows[flow].rules {
        control.set_hint(line.rate);
    }
    world.run(10_000);
    let (share, queue) = world.tell("hinted, from the start", flow, 100, 1000);
    assert!(share > 0.9 && queue[1] < 20.0, "{share} {queue:?}");
    let (share, queue) = world.tell("hinted", flow, 1000, 10_000);
    assert!(share > 0.9 && queue[0] < 8.0, "{share} {queue:?}");
}

#[test]
fn a_line_that_halves_or_doubles_is_followed() {
    let mut world = World::new(Line {
        rate: mbit(25.0),
        ..Line::default()
    });
    let flow = world.ours(Load::Bulk);
    world.run(5_000);
    world.line.rate = mbit(50.0);
    world.run(5_000);
    let (share, _) = world.tell("doubled", flow, 6_500, 10_000);
    assert!(share > 0.9, "{share}");
    world.line.rate = mbit(12.5);
    world.run(5_000);
    let (share, queue) = world.tell("quartered", flow, 11_000, 15_000);
    assert!(share > 0.95 && queue[0] < 12.0, "{share} {queue:?}");
    world.line.rate = mbit(50.0);
    world.run(5_000);
    let (share, _) = world.tell("back", flow, 17_000, 20_000);
    assert!(share > 0.9, "{share}");
}

#[test]
fn a_path_that_becomes_longer_is_not_a_queue_for_ever() {
    let mut world = World::new(Line::default());
    let flow = world.ours(Load::Bulk);
    world.run(5_000);
    world.line.delay = ms(60);
    world.run(10_000);
    let (share, queue) = world.tell("longer", flow, 7_000, 15_000);
    assert!(share > 0.9 && queue[0] < 20.0, "{share} {queue:?}");
    world.line.delay = ms(20);
    world.run(5_000);
    let (share, queue) = world.tell("shorter again", flow, 16_000, 20_000);
    assert!(share > 0.9 && queue[0] < 8.0, "{share} {queue:?}");
}

#[test]
fn jitter_does_not_starve() {
    for jitter in [5, 10, 20] {
        let mut world = World::new(Line {
            jitter: ms(jitter),
            ..Line::default()
        });
        let flow = world.ours(Load::Bulk);
        world.run(30_000);
        let (share, _) = world.tell(&format!("jitter {jitter}"), flow, 3000, 30_000);
        assert!(share > 0.7, "{share}");
    }
}

#[test]
fn a_game_that_sends_little_keeps_no_window_small() {
    let mut world = World::new(Line {
        loss: 0.01,
        ..Line::default()
    });
    let flow = world.ours(Load::Ticks(20 * 1100, ms(50)));
    world.run(20_000);
    let (_, queue) = world.tell("ticks", flow, 1000, 20_000);
    assert!(queue[1] < 5.0, "{queue:?}");
    world.flows[flow].load = Load::Bulk;
    world.run(5_000);
    let (share, _) = world.tell("then bulk", flow, 21_000, 25_000);
    assert!(share > 0.92, "{share}");
}

#[test]
fn a_shallow_queue_that_overflows_is_not_hammered() {
    let mut world = World::new(Line {
        queue: ms(10),
        ..Line::default()
    });
    let flow = world.ours(Load::Bulk);
    world.run(30_000);
    let (share, _) = world.tell("shallow", flow, 3000, 30_000);
    let sent = world.flows[flow].next;
    let lost = world.flows[flow].dropped as f64 / sent as f64;
    println!("lost {lost}");
    assert!(share > 0.8 && lost < 0.06, "{share} {lost}");
}

#[test]
fn a_neighbour_by_cubic_leaves_a_third_of_the_fair_share() {
    for queue in [50, 100, 200] {
        let mut world = World::new(Line {
            queue: ms(queue),
            ..Line::default()
        });
        let ours = world.ours(Load::Bulk);
        world.run(3_000);
        let other = world.cubic();
        world.run(57_000);
        let (share, _) = world.tell(&format!("ours beside cubic, {queue} ms"), ours, 10_000, 60_000);
        let (theirs, _) = world.tell("cubic", other, 10_000, 60_000);
        assert!(share > 0.17 && theirs > 0.17, "{share} {theirs}");
    }
}

#[test]
fn a_queue_that_marks_packets_is_kept_below_its_mark() {
    // The mark of a queue that serves others too, below what we would keep by ourselves.
    let line = Line {
        marks: ms(2),
        ..Line::default()
    };
    let mut world = World::new(line);
    let flow = world.ours(Load::Bulk);
    world.run(30_000);
    let (share, queue) = world.tell("marked", flow, 3000, 30_000);
    assert!(share > 0.85 && queue[0] < 2.5, "{share} {queue:?}");
}

#[test]
fn two_of_ours_share() {
    let mut world = World::new(Line::default());
    let first = world.ours(Load::Bulk);
    world.run(5_000);
    let second = world.ours(Load::Bulk);
    world.run(55_000);
    let (a, queue) = world.tell("first", first, 10_000, 60_000);
    let (b, _) = world.tell("second", second, 10_000, 60_000);
    assert!(
        a > 0.2 && b > 0.2 && a + b > 0.93 && queue[0] < 20.0,
        "{a} {b} {queue:?}"
    );
}

#[test]
fn the_phases_are_left_again() {
    let mut world = World::new(Line::default());
    let flow = world.ours(Load::Bulk);
    let mut seen = [0; 3];
    for _ in 0..600 {
        world.run(50);
        if let Rules::Ours(control) = &world.flows[flow].rules {
            seen[match control.phase() {
                Phase::Startup => 0,
                Phase::Cruise => 1,
                Phase::Drain => 2,
            }] += 1;
        }
    }
    println!("{seen:?}");
    assert!(seen[1] > 550 && seen[2] >= 1, "{seen:?}");
}
