//! The congestion controller: how much may be on the way, so that the line is full and its queue nearly empty.
//!
//! Everything that players of a host feel goes through one connection, so this decides what they feel. It models the path by two numbers, the rate that
//! it delivers and the round trip it takes when nothing queues, and lets `rate x (round trip + a few milliseconds)` be on the way. The milliseconds are
//! the standing queue: enough that the line never idles between acknowledgements, little enough that nobody notices. In that state a line that becomes
//! faster shows by an empty queue, and one that becomes slower by a longer one, both within a round trip.
//!
//! ```text
//!              queue grows, or rate does not             every 10 s, or when a queue does not go
//!  Startup ------------------------------------> Cruise ------------------------------------------------> Drain
//!  doubles a round                               rate x (base + target), probes upwards     <------------  75 % for a round, to see the empty path
//! ```
//!
//! - **Loss** by itself says nothing: radio loses packets at any rate. The share that is lost is made good for in the rate. Only loss far beyond what the
//!   path loses anyway (measured in the rounds that lose least) reduces what may be on the way, and only as long as that helps.
//! - **A queue that stays** although ours was drained is somebody else's, or the path has become longer. Both are accepted as the new base, so that a
//!   neighbour who fills the queue does not push us out, and what we ask for is then a share beside them.
//! - **Too little to send**, the normal state of games, says nothing about the path: rates count then only if they are higher than what is known.
//!
//! Nothing here reads a clock. The pacer of QUIC below sends the window in 4/5 of a smoothed round trip, which suits this: what limits is the window, and
//! acknowledgements space what it lets out.
//!
//! Sources: rate samples, rounds and the maximum filter from BBR (draft-ietf-ccwg-bbr); the target in milliseconds of queue and the test whether a queue
//! ever empties from Copa (NSDI 2018) and FAST TCP; leaving the doubling when round trips grow from HyStart++ (RFC 9406); measuring a path's own loss
//! where little is sent, after PCC Vivace's separation of the two kinds.

use std::time::{Duration, Instant};

use super::filter::Max;
use super::rate::{Meter, Sample};

/// What may be on the way before anything is known; more than a page of a game's login, less than any home line's queue.
const INITIAL_PACKETS: u64 = 32;

/// Enough that acknowledgements keep coming, however bad the path.
const MIN_PACKETS: u64 = 6;

/// Rounds over which the largest rate counts. Shorter follows a slower line sooner, longer bridges rounds that were measured badly.
const RATE_ROUNDS: u64 = 6;

/// How often the queue is drained, to see the path without it.
const BASE_LASTS: Duration = Duration::from_secs(10);

/// The path is drained for the first time so many rounds after [`Phase::Startup`], when its rate is known well.
const SETTLING_ROUNDS: u64 = 16;

/// After this long a longer round trip is the path's own, not a neighbour's queue.
const FLOOR_LASTS: Duration = Duration::from_secs(60);

/// The standing queue: a tenth of the base round trip within these.
const MIN_TARGET: Duration = Duration::from_micros(500);
const MAX_TARGET: Duration = Duration::from_millis(3);

/// The standing queue is at least so many packets, or a slow line would idle between acknowledgements.
const TARGET_PACKETS: u64 = 5;

/// What may be on the way while draining, as a share of what the path holds.
const DRAINED: f64 = 0.75;

/// Rounds in which the queue stays beyond twice its target before it is asked whose it is.
const STUCK_ROUNDS: u32 = 4;

/// Loss beyond the path's own that means a full queue or a policer.
const EXCESS_LOSS: f64 = 0.03;

/// Loss beyond this is too much, whatever the path loses by itself.
const TOO_MUCH_LOSS: f64 = 0.15;

/// So often less is sent against loss that does not become less: then it is not ours.
const MAX_IN_VAIN: u32 = 2;

/// Packets over which a share of loss means something.
const LOSS_PACKETS: u64 = 400;

/// Stretches of [`LOSS_PACKETS`] of which the better half is the path's own loss.
const LOSS_STRETCHES: usize = 8;

/// Round trips of which the least tells whether a queue grows.
const RECENT: usize = 8;

/// Jitter beyond this, or beyond half of the base round trip, is taken for a queue.
const MAX_SPREAD: Duration = Duration::from_millis(40);

/// Rounds over which a neighbour's queue is watched: they come and go with its losses.
const SWELL_ROUNDS: u64 = 48;

/// How much of the swell is followed: all of it would push the neighbour out, nothing ourselves.
const SWELL_SHARE: f64 = 0.7;

/// What [`Control::roof`] rises by each round.
const ROOF_RISES: f64 = 1.01;

/// The most that one round may add to the window when the queue stays empty.
const MAX_GROWTH: f64 = 1.25;

/// After this long with too little to send, what is known of the path's rate is halved before it is used.
const STALE: Duration = Duration::from_secs(60);

/// The rate at which a described path begins at most, in bytes a second, 100 Mbit/s: a description may be wrong, or a lie.
const MAX_FAST_START: f64 = 12.5e6;

/// Of what a line is said to take, so much is for packets; the rest is their addresses and ports, and no line takes all that is sold.
const HINT_SHARE: f64 = 0.95;

/// A line that was full is busy for so long: bulk pauses now and then.
const BUSY_LASTS: Duration = Duration::from_millis(200);

/// What the controller does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// Looks for the rate of the path, doubling each round.
    Startup,
    /// Keeps the line full and the queue short.
    Cruise,
    /// Empties the queue, to see the path without it.
    Drain,
}

/// The base round trip.
#[derive(Clone, Copy, Debug)]
struct Base {
    rtt: Duration,
    seen: Instant,
}

/// Round trips of a path without a queue of ours.
#[derive(Clone, Copy, Debug, Default)]
struct Drained {
    least: Option<Duration>,
    sum: Duration,
    count: u32,
}

/// What one round has shown so far.
#[derive(Clone, Copy, Debug, Default)]
struct Round {
    number: u64,
    /// It ends when something is acknowledged that left after this much was delivered.
    ends_at: u64,
    min_rtt: Option<Duration>,
    /// All round trips, and how many there were.
    sum: Duration,
    count: u32,
    /// The window was what limited.
    is_full: bool,
}

/// The path's own loss.
#[derive(Clone, Debug, Default)]
struct Loss {
    packets: u64,
    acked: u64,
    lost: u64,
    /// Shares of recent stretches.
    shares: [f64; LOSS_STRETCHES],
    count: usize,
    /// The share at which less was sent last, and how often that has not helped.
    cut_at: f64,
    in_vain: u32,
}

/// The controller of one path.
#[derive(Clone, Debug)]
pub(super) struct Control {
    mtu: u64,
    phase: Phase,
    window: f64,
    in_flight: u64,
    meter: Meter,
    rate: Max,
    /// The latest rate, which may be lower, and is less likely to be too high.
    last_rate: f64,
    base: Option<Base>,
    round: Round,
    loss: Loss,
    /// How much longer than the least the mean round trip is when nothing queues: jitter, and acknowledgements that waited for others.
    spread: Duration,
    /// The latest round trips, of which the least shows a queue that grows.
    recent: [Duration; RECENT],
    /// The newest round trip of the present batch of acknowledgements, and when its packet left.
    newest: Option<(Instant, Duration)>,
    /// Rounds in a row whose queue was empty though the window was full.
    empty_rounds: u32,
    /// Rounds in a row whose queue was too long.
    stuck_rounds: u32,
    /// Rounds in a row whose rate did not grow, in [`Phase::Startup`].
    flat_rounds: u32,
    best_rate: f64,
    /// The round in which draining ends, and what was seen of the drained path.
    drain_until: u64,
    drained: Drained,
    /// When the path was last drained.
    drained_at: Option<Instant>,
    /// The round from which on its rate is known well.
    settled_in: u64,
    /// The base when draining began.
    base_before: Duration,
    /// No growth before this round.
    hold_until: u64,
    /// The least round trip for longer: where the base is beyond it, somebody else keeps a queue at the bottleneck.
    floor: Option<Base>,
    /// How long that queue was lately, beyond the base.
    swell: Max,
    /// Bytes a second that the line takes, as its owner says.
    hint: Option<f64>,
    /// What may be on the way at most since more was too much; rises slowly.
    roof: f64,
    /// The last time at which the window was full.
    last_full: Instant,
}

impl Control {
    /// A path of which nothing is known.
    pub fn new(now: Instant, mtu: u16) -> Self {
        let mtu = u64::from(mtu);
        Self {
            mtu,
            phase: Phase::Startup,
            window: (INITIAL_PACKETS * mtu) as f64,
            in_flight: 0,
            meter: Meter::new(now),
            rate: Max::new(RATE_ROUNDS),
            last_rate: 0.0,
            base: None,
            round: Round::default(),
            loss: Loss::default(),
            spread: Duration::ZERO,
            recent: [Duration::ZERO; RECENT],
            newest: None,
            empty_rounds: 0,
            stuck_rounds: 0,
            flat_rounds: 0,
            best_rate: 0.0,
            drain_until: 0,
            drained: Drained::default(),
            drained_at: None,
            settled_in: 0,
            base_before: Duration::ZERO,
            hold_until: 0,
            floor: None,
            swell: Max::new(SWELL_ROUNDS),
            hint: None,
            roof: f64::INFINITY,
            last_full: now,
        }
    }

    /// Bytes that may be on the way.
    pub fn window(&self) -> u64 {
        self.window as u64
    }

    /// The line takes `rate` bytes a second, says its owner: that is where a new path begins, and what is never exceeded.
    pub fn set_hint(&mut self, rate: f64) {
        self.hint = Some(rate * HINT_SHARE);
    }

    /// What it does.
    #[cfg(test)]
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    /// Bytes a second that the path delivers, once that is known.
    pub fn rate(&self) -> Option<f64> {
        let rate = self.rate.get();
        (rate > 0.0 && self.phase != Phase::Startup).then_some(rate)
    }

    /// The round trip without a queue, once that is known.
    #[cfg(test)]
    pub fn base_rtt(&self) -> Option<Duration> {
        self.base.map(|base| base.rtt)
    }

    /// The share of packets that the path has lost lately.
    pub fn loss(&self) -> f64 {
        self.loss.lately()
    }

    /// Whether the line was full a moment ago.
    pub fn is_busy(&self, now: Instant) -> bool {
        self.phase != Phase::Startup && now.saturating_duration_since(self.last_full) < BUSY_LASTS
    }

    /// Packets have another size from here on.
    pub fn set_mtu(&mut self, mtu: u16) {
        self.mtu = u64::from(mtu);
        self.window = self.window.max(self.min_window());
    }

    /// `bytes` left.
    pub fn on_sent(&mut self, now: Instant, bytes: u64) {
        self.meter.on_sent(now, self.in_flight == 0);
        self.in_flight += bytes;
        if (self.in_flight + 2 * self.mtu) as f64 >= self.window {
            self.round.is_full = true;
            if now.saturating_duration_since(self.last_full) > STALE && self.phase == Phase::Cruise {
                self.begin_again(now, self.window / 2.0);
            }
            self.last_full = now;
        }
    }

    /// A packet of `bytes` that left at `sent` was acknowledged.
    pub fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64) {
        self.meter.on_delivered(now, sent, bytes);
        self.loss.acked += bytes;
        self.loss.packets += 1;
        if self.newest.is_none_or(|(newest, _)| sent >= newest) {
            self.newest = Some((sent, now.saturating_duration_since(sent)));
        }
        if self.phase == Phase::Startup && self.round.is_full {
            self.window += bytes as f64;
        }
    }

    /// All acknowledgements of a batch were told; `in_flight` bytes are on the way, and there is nothing more to send if `is_limited`.
    pub fn on_end_acks(&mut self, now: Instant, in_flight: u64, is_limited: bool) {
        self.in_flight = in_flight;
        if is_limited {
            self.meter.on_limited(in_flight);
        }
        if let Some((_, rtt)) = self.newest.take() {
            self.on_round_trip(now, rtt);
        }
        if let (Phase::Startup, Some(hint), Some(_)) = (self.phase, self.hint, self.base) {
            self.rate.add(self.round.number, hint.min(MAX_FAST_START));
            self.leave_startup();
        }
        let Some(sample) = self.meter.take_sample(now) else {
            return;
        };
        self.on_sample(sample);
        if sample.delivered_before >= self.round.ends_at {
            self.end_round(now);
        } else if self.phase == Phase::Startup && self.queue_grows() {
            self.leave_startup();
        }
    }

    /// Whether the last few packets all met a queue. Waiting for the round to end would double it.
    fn queue_grows(&self) -> bool {
        let least = self.recent.iter().min().copied().unwrap_or_default();
        let limit = self.target().max(Duration::from_millis(4));
        let is_beyond = |base: Base| least > base.rtt + limit;
        self.is_near() && self.round.count as usize >= RECENT && self.base.is_some_and(is_beyond)
    }

    /// Packets with `bytes` in all were lost; `is_persistent` when nothing came through for a long time.
    pub fn on_lost(&mut self, now: Instant, bytes: u64, is_persistent: bool) {
        self.in_flight = self.in_flight.saturating_sub(bytes);
        self.loss.lost += bytes;
        if is_persistent {
            // The path was away. It may be another one now, or the same again: half of what it held is soon one or the other.
            let half = self
                .base
                .map_or(0.0, |base| self.rate.get() * base.rtt.as_secs_f64() / 2.0);
            self.rate.clear();
            self.loss = Loss::default();
            self.begin_again(now, half.min(self.window / 2.0));
        }
    }

    /// The path marked packets instead of dropping them: its queue is longer than it likes.
    pub fn on_marked(&mut self) {
        if self.round.number < self.hold_until {
            return;
        }
        if self.phase == Phase::Startup {
            self.leave_startup();
        }
        self.window = (self.window * 0.85).max(self.min_window());
        self.hold_until = self.round.number + 2;
    }

    fn on_round_trip(&mut self, now: Instant, rtt: Duration) {
        let here = Base { rtt, seen: now };
        if self.base.is_none_or(|base| rtt <= base.rtt) {
            self.base = Some(here);
        }
        let is_over = |floor: Base| rtt <= floor.rtt || now.saturating_duration_since(floor.seen) > FLOOR_LASTS;
        if self.floor.is_none_or(is_over) {
            self.floor = self.base;
        }
        let least = |seen: Option<Duration>| Some(seen.map_or(rtt, |seen| seen.min(rtt)));
        self.round.min_rtt = least(self.round.min_rtt);
        self.recent[self.round.count as usize % RECENT] = rtt;
        self.round.sum += rtt;
        self.round.count += 1;
        if self.phase == Phase::Drain && self.round.number + 1 >= self.drain_until {
            self.drained.least = least(self.drained.least);
            self.drained.sum += rtt;
            self.drained.count += 1;
        }
    }

    fn on_sample(&mut self, sample: Sample) {
        if !sample.is_limited || sample.rate > self.rate.get() {
            self.rate.add(self.round.number, sample.rate);
            self.last_rate = sample.rate;
        }
    }

    fn end_round(&mut self, now: Instant) {
        let round = Round {
            number: self.round.number + 1,
            ends_at: self.meter.delivered(),
            is_full: (self.in_flight + 2 * self.mtu) as f64 >= self.window,
            ..Round::default()
        };
        let round = std::mem::replace(&mut self.round, round);
        let (Some(base), Some(rtt)) = (self.base, round.min_rtt) else {
            return;
        };
        if round.is_full && round.count > 0 && self.drained_at.is_none() {
            let spread = self.most_spread((round.sum / round.count).saturating_sub(rtt));
            self.spread = (self.spread * 3 + spread) / 4;
        }
        if self.round.number >= self.hold_until {
            self.roof *= ROOF_RISES;
        }
        let share = self.loss.end_round();
        let queue = rtt.saturating_sub(base.rtt);
        if let Some(share) = share
            && round.is_full
            && self.loss.calls_for_less(share)
        {
            self.on_congestion(base.rtt);
            return;
        }
        match self.phase {
            Phase::Startup => self.check_startup(queue, round.is_full),
            Phase::Cruise if round.is_full => self.cruise(now, base, queue),
            Phase::Cruise => (self.empty_rounds, self.stuck_rounds) = (0, 0),
            Phase::Drain if self.round.number >= self.drain_until => self.end_drain(now, base),
            Phase::Drain => {}
        }
    }

    /// Whether so much is on the way that a queue may well be ours. Something else than the window may limit it, such as a slow reader, but a game with
    /// a first window is never to blame.
    fn is_near(&self) -> bool {
        let has_grown = self.window > (2 * INITIAL_PACKETS * self.mtu) as f64;
        self.round.is_full || (has_grown && self.in_flight * 2 >= self.window as u64)
    }

    fn check_startup(&mut self, queue: Duration, is_full: bool) {
        if !is_full {
            return;
        }
        let rate = self.rate.get();
        if rate > self.best_rate * 1.2 {
            (self.best_rate, self.flat_rounds) = (rate, 0);
        } else {
            self.flat_rounds += 1;
        }
        if queue > self.target() * 2 || self.flat_rounds >= 3 {
            self.leave_startup();
        }
    }

    fn leave_startup(&mut self) {
        self.phase = Phase::Cruise;
        (self.flat_rounds, self.empty_rounds, self.stuck_rounds) = (0, 0, 0);
        self.settled_in = self.round.number + SETTLING_ROUNDS;
        self.window = self.ideal().unwrap_or(self.window).max(self.min_window());
    }

    fn cruise(&mut self, now: Instant, base: Base, queue: Duration) {
        let target = self.target();
        let Some(ideal) = self.ideal() else { return };
        self.swell.add(self.round.number, queue.as_secs_f64());
        if queue > target * 2 {
            self.stuck_rounds += 1;
        } else {
            self.stuck_rounds = 0;
        }
        self.empty_rounds = if queue < target / 3 { self.empty_rounds + 1 } else { 0 };
        // Rates and jitter are measured with errors that add up, so without a queue nothing is taken back.
        let mut window = if queue < target { ideal.max(self.window) } else { ideal };
        if self.empty_rounds >= 2 && self.round.number >= self.hold_until {
            // The line takes more than is known of it: each round that stays empty dares more.
            let dare = (1.0 + 0.03 * f64::from(self.empty_rounds)).min(MAX_GROWTH);
            window = window.max(self.window * dare);
        }
        if let Some(hint) = self.hint {
            window = window.min(hint * (base.rtt + self.spread + target).as_secs_f64());
        }
        self.window = window.min(self.roof).max(self.min_window());
        let is_due = match self.drained_at {
            Some(at) => now.saturating_duration_since(at) > BASE_LASTS,
            None => self.round.number >= self.settled_in,
        };
        if self.stuck_rounds >= STUCK_ROUNDS || is_due {
            self.drain(base);
        }
    }

    fn drain(&mut self, base: Base) {
        self.phase = Phase::Drain;
        (self.drained, self.base_before) = (Drained::default(), base.rtt);
        // One round until less is on the way, one to see what that did.
        self.drain_until = self.round.number + 2;
        let holds = self.rate.get().min(self.last_rate) * base.rtt.as_secs_f64();
        self.window = (holds * DRAINED).min(self.window * DRAINED).max(self.min_window());
    }

    fn end_drain(&mut self, now: Instant, base: Base) {
        if base.rtt + self.target() < self.base_before {
            // It was a queue all along, and there may be more of it.
            return self.drain(base);
        }
        self.phase = Phase::Cruise;
        (self.empty_rounds, self.stuck_rounds) = (0, 0);
        self.drained_at = Some(now);
        if let Some(rtt) = self.drained.least {
            let is_ours = rtt <= base.rtt + self.target();
            let is_old = now.saturating_duration_since(base.seen) > BASE_LASTS;
            if !is_ours || is_old {
                // What did not go away is not our queue.
                self.base = Some(Base { rtt, seen: now });
                self.swell.clear();
            }
            // Without a queue of ours, what is longer than the least is jitter, and acknowledgements that waited for others.
            let mean = self.drained.sum / self.drained.count;
            self.spread = self.most_spread(mean.saturating_sub(self.base.map_or(rtt, |base| base.rtt)));
        }
        self.window = self.ideal().unwrap_or(self.window).max(self.min_window());
    }

    fn on_congestion(&mut self, base: Duration) {
        let holds = self.rate.get() * base.as_secs_f64();
        self.phase = Phase::Cruise;
        (self.empty_rounds, self.stuck_rounds) = (0, 0);
        self.settled_in = self.round.number + SETTLING_ROUNDS;
        self.roof = (self.window * 0.85).max(self.min_window());
        self.window = self.roof.min(holds * 0.9).max(self.min_window());
        self.rate.clear();
        self.hold_until = self.round.number + 8;
    }

    fn begin_again(&mut self, now: Instant, window: f64) {
        self.phase = Phase::Startup;
        (self.flat_rounds, self.best_rate, self.roof) = (0, 0.0, f64::INFINITY);
        self.window = window.max((INITIAL_PACKETS * self.mtu) as f64);
        self.last_full = now;
    }

    /// What should be on the way by what is known.
    fn ideal(&self) -> Option<f64> {
        let rate = self.hint.map_or(self.rate.get(), |hint| self.rate.get().min(hint));
        let base = self.base?;
        let queue = (rate * self.target().as_secs_f64()).max((TARGET_PACKETS * self.mtu) as f64);
        // Lost packets are on the way too, until their loss is noticed, and nobody counts them as delivered.
        let lost = 1.0 + self.loss.own();
        let rtt = (base.rtt + self.spread).as_secs_f64();
        (rate > 0.0).then_some((rate * lost * rtt + queue).min(self.roof))
    }

    /// How long the queue should be.
    fn target(&self) -> Duration {
        let tenth = self.base.map_or(Duration::ZERO, |base| base.rtt / 10);
        let packets = match self.rate.get() {
            rate if rate > 0.0 => Duration::from_secs_f64((TARGET_PACKETS * self.mtu) as f64 / rate),
            _ => Duration::ZERO,
        };
        let alone = tenth.clamp(MIN_TARGET, MAX_TARGET).max(packets);
        if !self.has_neighbour(alone) {
            return alone;
        }
        // Whoever gives way whenever a neighbour's queue swells is pushed out by it.
        (alone * 2).max(Duration::from_secs_f64(self.swell.get() * SWELL_SHARE))
    }

    fn has_neighbour(&self, alone: Duration) -> bool {
        let both = self.base.zip(self.floor);
        both.is_some_and(|(base, floor)| base.rtt > floor.rtt + 2 * alone)
    }

    fn most_spread(&self, spread: Duration) -> Duration {
        let base = self.base.map_or(Duration::ZERO, |base| base.rtt);
        spread.min((base / 2).clamp(MIN_TARGET, MAX_SPREAD))
    }

    const fn min_window(&self) -> f64 {
        (MIN_PACKETS * self.mtu) as f64
    }
}

impl Loss {
    /// A round is over; the share that was lost of the last packets, when there were enough of them.
    fn end_round(&mut self) -> Option<f64> {
        if self.packets < LOSS_PACKETS {
            return None;
        }
        let share = self.lost as f64 / (self.acked + self.lost) as f64;
        self.shares[self.count % LOSS_STRETCHES] = share;
        self.count += 1;
        (self.packets, self.acked, self.lost) = (0, 0, 0);
        Some(share)
    }

    /// What the path has lost lately.
    fn lately(&self) -> f64 {
        let known = &self.shares[..self.count.min(LOSS_STRETCHES)];
        known.iter().fold(0.0, |sum, share| sum + share) / known.len().max(1) as f64
    }

    /// What the path loses however little is sent.
    fn own(&self) -> f64 {
        let count = self.count.min(LOSS_STRETCHES);
        let mut known = self.shares;
        known[..count].sort_by(f64::total_cmp);
        let half = &known[..count.div_ceil(2)];
        (half.iter().sum::<f64>() / half.len().max(1) as f64).min(0.1)
    }

    /// Whether less should be on the way, since `share` was lost: more than the path's own, unless sending less has not helped.
    fn calls_for_less(&mut self, share: f64) -> bool {
        let is_excess = share > TOO_MUCH_LOSS || (self.count > 1 && share > 1.5 * self.own() + EXCESS_LOSS);
        if !is_excess {
            self.in_vain = 0;
            return false;
        }
        let has_helped = share < 0.8 * self.cut_at;
        self.in_vain = if has_helped { 1 } else { self.in_vain + 1 };
        self.cut_at = share;
        self.in_vain <= MAX_IN_VAIN
    }
}
