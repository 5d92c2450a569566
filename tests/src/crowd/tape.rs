//! What happened to one player: arrivals, pauses, wrong bytes, its end.

use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// Shorter gaps between two arrivals of a 20 Hz game are the machine's.
const LEAST_PAUSE: Duration = Duration::from_millis(120);

/// More pauses since one mark are not kept; the first ones tell enough.
const MAX_PAUSES: usize = 1024;

/// The same for sentences.
const MAX_FAULTS: usize = 4;

/// What a player is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// TCP at 20 Hz.
    Tick,
    /// A TCP download.
    Bulk,
    /// UDP at 20 Hz.
    Flow,
}

/// One player's notes. Locked for moments only.
#[derive(Debug)]
pub struct Tape {
    /// Unique over all crowds of a run.
    pub id: u64,
    /// What the player is.
    pub kind: Kind,
    started: Instant,
    inner: Mutex<Inner>,
}

/// A time without arrivals.
#[derive(Clone, Copy, Debug)]
pub struct Pause {
    /// The arrival before it.
    pub from: Instant,
    /// The arrival after it, or the look at the tape.
    pub to: Instant,
}

#[derive(Debug)]
struct Inner {
    notes: Notes,
    last: Instant,
    mark: Instant,
    first_since: Option<Instant>,
    pauses: Vec<Pause>,
}

/// What adds up.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Notes {
    /// Reads of a stream, or packets.
    pub arrivals: u64,
    /// Bytes or packets that left.
    pub sent: u64,
    /// Bytes or packets that arrived.
    pub received: u64,
    /// Bytes that should have been others.
    pub wrong: u64,
    /// Packets that arrived again.
    pub repeated: u64,
    /// What was wrong, the first few.
    pub faults: Vec<String>,
    /// When and why it was cut off before it wanted to leave.
    pub disconnect: Option<String>,
    /// It left as it wished and heard everything to the end.
    pub finished: bool,
}

impl Tape {
    /// A tape that starts now.
    pub fn new(id: u64, kind: Kind) -> Self {
        let now = Instant::now();
        Self {
            id,
            kind,
            started: now,
            inner: Mutex::new(Inner {
                notes: Notes::default(),
                last: now,
                mark: now,
                first_since: None,
                pauses: Vec::new(),
            }),
        }
    }

    /// `count` bytes of a stream, or one packet, arrived.
    pub fn arrived(&self, count: u64) {
        let now = Instant::now();
        let mut inner = self.lock();
        inner.notes.arrivals += 1;
        inner.notes.received += count;
        let pause = Pause {
            from: inner.last,
            to: now,
        };
        if now - inner.last >= LEAST_PAUSE && inner.pauses.len() < MAX_PAUSES {
            inner.pauses.push(pause);
        }
        inner.last = now;
        inner.first_since.get_or_insert(now);
    }

    /// `count` bytes, or one packet, left.
    pub fn sent(&self, count: u64) {
        self.lock().notes.sent += count;
    }

    /// A packet arrived that had arrived before.
    pub fn repeated(&self) {
        self.lock().notes.repeated += 1;
    }

    /// `count` bytes are not what they should be.
    pub fn wrong(&self, count: u64, what: impl FnOnce() -> String) {
        let mut inner = self.lock();
        inner.notes.wrong += count;
        if inner.notes.faults.len() < MAX_FAULTS {
            let text = format!("{:?} {} after {:.1} s: {}", self.kind, self.id, self.age(), what());
            inner.notes.faults.push(text);
        }
    }

    /// The player was cut off. Only the first reason counts.
    pub fn disconnected(&self, why: &str) {
        let text = format!("{:?} {} after {:.1} s: {why}", self.kind, self.id, self.age());
        self.lock().notes.disconnect.get_or_insert(text);
    }

    /// The player left and heard everything to the end.
    pub fn finished(&self) {
        self.lock().notes.finished = true;
    }

    /// Forgets pauses and counts them from now on.
    pub fn mark(&self, now: Instant) {
        let mut inner = self.lock();
        inner.mark = now;
        inner.first_since = None;
        inner.pauses.clear();
    }

    /// What adds up so far.
    pub fn notes(&self) -> Notes {
        self.lock().notes.clone()
    }

    /// From the mark to the first arrival after it; none while there was none.
    pub fn back_after(&self) -> Option<Duration> {
        let inner = self.lock();
        inner.first_since.map(|first| first.duration_since(inner.mark))
    }

    /// The longest pause that overlaps the time from the mark to `within` later; the one that is not over yet counts.
    pub fn longest_pause(&self, within: Duration) -> Duration {
        let inner = self.lock();
        let open = Pause {
            from: inner.last,
            to: Instant::now(),
        };
        let overlaps = |pause: &&Pause| pause.to > inner.mark && pause.from < inner.mark + within;
        let pauses = inner.pauses.iter().chain([&open]).filter(overlaps);
        let lengths = pauses.map(|pause| pause.to - pause.from);
        lengths.max().unwrap_or_default()
    }

    fn age(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_pause_is_seen_from_the_mark_and_as_a_whole() {
        let tape = Tape::new(1, Kind::Tick);
        tape.arrived(1);
        tokio::time::sleep(Duration::from_millis(150)).await;
        tape.mark(Instant::now());
        assert!(tape.back_after().is_none());
        tokio::time::sleep(Duration::from_millis(50)).await;
        tape.arrived(1);
        let (back, whole) = (tape.back_after().unwrap(), tape.longest_pause(Duration::from_secs(10)));
        assert!(
            back >= Duration::from_millis(50) && whole >= back + Duration::from_millis(150),
            "{back:?} {whole:?}"
        );
        // Later pauses are other events'.
        assert!(tape.longest_pause(Duration::ZERO) >= whole);
    }
}
