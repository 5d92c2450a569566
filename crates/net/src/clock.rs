//! The machine's clocks, read for the pure crates.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use spawnpoint_core::grant::UnixTime;
use spawnpoint_proto::Time;

/// A monotonic clock that starts when it is made; copies tell the same time.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Default for Clock {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Clock {
    /// The time now.
    pub fn now(&self) -> Time {
        Time::new(self.0.elapsed())
    }

    /// The runtime's name for `time`, for its timers.
    pub fn instant(&self, time: Time) -> tokio::time::Instant {
        tokio::time::Instant::from_std(self.0 + time.since_start())
    }
}

/// Sleep shorter than this does not count; nor does a calendar that is corrected by less.
const NAP: Duration = Duration::from_secs(2);

/// Notices that the machine was asleep: the monotonic clock may stand still then, and the calendar does not.
#[derive(Clone, Copy, Debug)]
pub struct SleepWatch {
    looked: Instant,
    calendar: SystemTime,
}

impl Default for SleepWatch {
    fn default() -> Self {
        Self {
            looked: Instant::now(),
            calendar: SystemTime::now(),
        }
    }
}

impl SleepWatch {
    /// Whether it was since the last look.
    pub fn was_asleep(&mut self) -> bool {
        self.look(Self::default())
    }

    fn look(&mut self, now: Self) -> bool {
        let before = std::mem::replace(self, now);
        let passed = now.calendar.duration_since(before.calendar).unwrap_or_default();
        passed > now.looked.saturating_duration_since(before.looked) + NAP
    }
}

/// The calendar now.
pub fn unix_now() -> UnixTime {
    UnixTime(
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_stood_still_beside_the_calendar_was_asleep() {
        let mut watch = SleepWatch::default();
        let after = |watch: SleepWatch, looked: u64, calendar: u64| SleepWatch {
            looked: watch.looked + Duration::from_secs(looked),
            calendar: watch.calendar + Duration::from_secs(calendar),
        };
        assert!(!watch.look(after(watch, 1, 1)));
        assert!(!watch.look(after(watch, 600, 601)), "somebody held the process up");
        assert!(watch.look(after(watch, 1, 600)));
        assert!(!watch.look(after(watch, 1, 0)), "the calendar was set back");
    }
}
