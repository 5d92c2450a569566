//! The machine's clocks, read for the pure crates.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

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

/// The calendar now.
pub fn unix_now() -> UnixTime {
    UnixTime(
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs()),
    )
}
