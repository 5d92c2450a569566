//! How long bytes of bulk gather before they are moved on: many streams that load at once would else be moved in small pieces, each with its own price.
//!
//! Every piece that is written to a player or server costs a system call and wakes its reader. On a fast link each stream of many has only a packet or
//! two in a batch, and those prices become most of the work. So whoever moves a stream leaves it alone for a moment after a small read, when the
//! stream's rate promises that the next read is worth it: it is neither a game's nor a home line's, nor so fast that its reads are large anyway.
//! No game comes near such rates, and after a download a game waits a few times at most.

use std::time::Duration;

use spawnpoint_proto::Time;

/// How long they gather.
const PAUSE: Duration = Duration::from_millis(1);

/// Bytes that are worth to be moved by themselves.
const ENOUGH: usize = 64 * 1024;

/// Bytes over which a rate is measured: longer than any burst of a game.
const MEASURED: usize = 256 * 1024;

/// Slower than this, in bytes a second, too little gathers; faster, enough is there already.
const SLOW: f64 = 16e6;
const FAST: f64 = 120e6;

/// A stream that pauses for so long is no bulk any more, whatever it was.
const FORGOTTEN: Duration = Duration::from_millis(10);

/// One direction of one stream.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gather {
    /// When the measured stretch began, and its bytes.
    since: Time,
    bytes: usize,
    last: Time,
    /// Whether the stretch before had a rate at which waiting is worth it.
    is_worth_it: bool,
}

impl Gather {
    /// Notes that `bytes` were moved; returns how long to leave the stream alone if that was all there was.
    pub fn on_moved(&mut self, now: Time, bytes: usize) -> Option<Duration> {
        if now.since(self.last) > FORGOTTEN {
            *self = Self {
                since: now,
                ..Self::default()
            };
        }
        self.last = now;
        self.bytes += bytes;
        if self.bytes >= MEASURED {
            let rate = self.bytes as f64 / now.since(self.since).as_secs_f64();
            self.is_worth_it = (SLOW..FAST).contains(&rate);
            (self.since, self.bytes) = (now, 0);
        }
        (self.is_worth_it && bytes < ENOUGH).then_some(PAUSE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads every `micros`, `rate` bytes a second, for half a second; whether the last one was followed by a pause.
    fn pauses(gather: &mut Gather, from: Duration, micros: u64, rate: f64) -> bool {
        let step = Duration::from_micros(micros);
        let bytes = (rate * step.as_secs_f64()) as usize;
        let reads = (0..500_000 / micros as u32).map(|read| gather.on_moved(Time::new(from + step * read), bytes));
        reads.last().flatten().is_some()
    }

    #[test]
    fn one_of_many_fast_streams_gathers() {
        assert!(pauses(&mut Gather::default(), Duration::from_secs(1), 200, 40e6));
    }

    #[test]
    fn a_stream_that_is_fast_by_itself_never_waits() {
        assert!(!pauses(&mut Gather::default(), Duration::from_secs(1), 200, 600e6));
        assert!(
            !pauses(&mut Gather::default(), Duration::from_secs(1), 2_000, 100e6),
            "reads are large"
        );
    }

    #[test]
    fn neither_a_game_nor_a_home_line_waits() {
        assert!(
            !pauses(&mut Gather::default(), Duration::from_secs(1), 1_000, 12e6),
            "100 Mbit/s"
        );
        assert!(!pauses(&mut Gather::default(), Duration::from_secs(1), 50_000, 60e3));
    }

    #[test]
    fn who_plays_after_a_download_waits_no_more() {
        let mut gather = Gather::default();
        assert!(pauses(&mut gather, Duration::from_secs(1), 200, 40e6));
        let later = Time::new(Duration::from_millis(1_550));
        assert_eq!(gather.on_moved(later, 200), None);
        assert_eq!(gather.on_moved(later + Duration::from_millis(1), 200), None);
    }
}
