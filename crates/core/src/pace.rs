//! How often something may happen: so many at once, and then so many a second.

use std::time::Duration;

use spawnpoint_proto::Time;

/// A rate with a burst, kept as the moment when the whole burst is free again (the generic cell rate algorithm).
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    step: Duration,
    burst: u32,
    free_at: Time,
}

impl Pace {
    /// `rate` a second over time, and `burst` at once; at least one of each.
    pub fn new(rate: u32, burst: u32) -> Self {
        Self {
            step: Duration::from_secs(1) / rate.max(1),
            burst: burst.max(1),
            free_at: Time::ZERO,
        }
    }

    /// Whether one more may happen at `now`; it counts if so.
    pub fn allows(&mut self, now: Time) -> bool {
        let free_at = self.free_at.max(now) + self.step;
        let is_allowed = free_at.since(now) <= self.step * self.burst;
        if is_allowed {
            self.free_at = free_at;
        }
        is_allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Time {
        Time::new(Duration::from_millis(millis))
    }

    #[test]
    fn a_burst_is_followed_by_the_rate() {
        let mut pace = Pace::new(10, 5);
        let allowed = |pace: &mut Pace, millis, tries| (0..tries).filter(|_| pace.allows(at(millis))).count();
        assert_eq!(allowed(&mut pace, 1000, 100), 5);
        assert_eq!(allowed(&mut pace, 1100, 100), 1);
        assert_eq!(allowed(&mut pace, 1150, 100), 0, "what was refused does not count");
        assert_eq!(allowed(&mut pace, 1200, 100), 1);
        assert_eq!(allowed(&mut pace, 9000, 100), 5);
    }
}
