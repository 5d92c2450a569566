//! How fast a path delivers, measured packet by packet.
//!
//! Each transmission notes how much had been delivered when it left. When it is acknowledged, the difference over the time between is the rate at which
//! the path delivered meanwhile. The time is the longer of the one that sending took and the one that acknowledgements took, so that neither a burst that
//! left at once nor acknowledgements that came at once pass for a fast path.
//!
//! Source: "Delivery Rate Estimation", draft-cheng-iccrg-delivery-rate-estimation.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Transmissions that are remembered; a path with more on the way is measured by the later ones.
const MAX_NOTES: usize = 16 * 1024;

/// What is known of a transmission.
#[derive(Clone, Copy, Debug)]
struct Note {
    sent: Instant,
    /// Delivered bytes when it left, and when the last of them was.
    delivered: u64,
    delivered_at: Instant,
    /// When the transmission left whose acknowledgement was the last one then.
    first_sent: Instant,
    /// There was nothing more to send.
    is_limited: bool,
}

/// What the newest acknowledged transmission says.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Sample {
    /// Bytes a second.
    pub rate: f64,
    /// Bytes that had been delivered when it left.
    pub delivered_before: u64,
    /// The path could perhaps have delivered more, had there been more to send.
    pub is_limited: bool,
}

/// Measures.
#[derive(Clone, Debug)]
pub(super) struct Meter {
    notes: VecDeque<Note>,
    delivered: u64,
    delivered_at: Instant,
    first_sent: Instant,
    /// What leaves before this much is delivered leaves with too little behind it.
    limited_until: u64,
    newest: Option<Note>,
}

impl Meter {
    /// Nothing was sent yet.
    pub const fn new(now: Instant) -> Self {
        Self {
            notes: VecDeque::new(),
            delivered: 0,
            delivered_at: now,
            first_sent: now,
            limited_until: 0,
            newest: None,
        }
    }

    /// Bytes that were delivered so far.
    pub const fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Something left; `is_first` when nothing else was on the way.
    pub fn on_sent(&mut self, now: Instant, is_first: bool) {
        if is_first {
            (self.delivered_at, self.first_sent) = (now, now);
        }
        if self.notes.back().is_some_and(|note| note.sent == now) {
            return;
        }
        if self.notes.len() == MAX_NOTES {
            self.notes.pop_front();
        }
        self.notes.push_back(Note {
            sent: now,
            delivered: self.delivered,
            delivered_at: self.delivered_at,
            first_sent: self.first_sent,
            is_limited: self.delivered < self.limited_until,
        });
    }

    /// Something that had left at `sent` was delivered.
    pub fn on_delivered(&mut self, now: Instant, sent: Instant, bytes: u64) {
        self.delivered += bytes;
        self.delivered_at = now;
        if self.newest.is_some_and(|newest| newest.sent >= sent) {
            return;
        }
        let after = self.notes.partition_point(|note| note.sent <= sent);
        self.newest = after.checked_sub(1).map(|at| self.notes[at]);
    }

    /// There is nothing more to send, and `in_flight` bytes are on the way.
    pub const fn on_limited(&mut self, in_flight: u64) {
        self.limited_until = self.delivered + in_flight + 1;
    }

    /// What the acknowledgements since the last call say together.
    pub fn take_sample(&mut self, now: Instant) -> Option<Sample> {
        let note = self.newest.take()?;
        self.first_sent = note.sent;
        while self.notes.front().is_some_and(|old| old.sent < note.sent) {
            self.notes.pop_front();
        }
        let took = now.saturating_duration_since(note.delivered_at);
        let took = took.max(note.sent.saturating_duration_since(note.first_sent));
        let bytes = self.delivered - note.delivered;
        (took > Duration::ZERO).then(|| Sample {
            rate: bytes as f64 / took.as_secs_f64(),
            delivered_before: note.delivered,
            is_limited: note.is_limited,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_steady_stream_is_measured_as_what_it_is() {
        let start = Instant::now();
        let mut meter = Meter::new(start);
        // 1,000 bytes a millisecond over a path of 10 ms.
        for tick in 0..100_u32 {
            let now = start + MS * tick;
            if tick >= 10 {
                meter.on_delivered(now, now - MS * 10, 1000);
                let sample = meter.take_sample(now);
                if tick > 30 {
                    assert_eq!(sample.unwrap().rate, 1_000_000.0);
                }
            }
            meter.on_sent(now, tick == 0);
        }
    }

    #[test]
    fn acknowledgements_that_come_at_once_do_not_pass_for_a_fast_path() {
        let start = Instant::now();
        let mut meter = Meter::new(start);
        for tick in 0..20_u32 {
            meter.on_sent(start + MS * tick, tick == 0);
        }
        let now = start + MS * 30;
        for tick in 0..20_u32 {
            meter.on_delivered(now, start + MS * tick, 1000);
        }
        // 20,000 bytes in the 30 ms since the first of them left.
        assert!(meter.take_sample(now).unwrap().rate < 700_000.0);
    }

    #[test]
    fn what_leaves_with_nothing_behind_it_is_marked() {
        let start = Instant::now();
        let mut meter = Meter::new(start);
        meter.on_limited(0);
        meter.on_sent(start, true);
        meter.on_delivered(start + MS, start, 100);
        assert!(meter.take_sample(start + MS).unwrap().is_limited);
        meter.on_sent(start + MS * 2, true);
        meter.on_delivered(start + MS * 3, start + MS * 2, 100);
        assert!(!meter.take_sample(start + MS * 3).unwrap().is_limited);
    }
}
