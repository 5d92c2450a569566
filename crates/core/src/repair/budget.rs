//! How many bytes a second may be spent.

use std::time::Duration;

use spawnpoint_proto::Time;

/// What was not spent for this long may be spent at once: servers speak to all their players in the same moment, twenty times a second.
const BURST: Duration = Duration::from_millis(250);

/// A bucket that holds what was spent and leaks at the allowed rate.
#[derive(Debug, Default)]
pub(super) struct Budget {
    bytes_per_second: u64,
    spent: f64,
    last: Time,
}

impl Budget {
    /// Changes the rate; at first it is zero.
    pub const fn set(&mut self, bytes_per_second: u64) {
        self.bytes_per_second = bytes_per_second;
    }

    /// Spends `bytes`, if they are there.
    pub fn try_spend(&mut self, now: Time, bytes: usize) -> bool {
        let rate = self.bytes_per_second as f64;
        self.spent = (self.spent - rate * now.since(self.last).as_secs_f64()).max(0.0);
        self.last = now.max(self.last);
        let spent = self.spent + bytes as f64;
        // With a rate that is less than one datagram for a burst, one at a time still passes.
        let is_within = spent <= rate * BURST.as_secs_f64() || self.spent == 0.0;
        if rate == 0.0 || !is_within {
            return false;
        }
        self.spent = spent;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spend(budget: &mut Budget, each: Duration, seconds: u32, bytes: usize) -> usize {
        let mut spent = 0;
        let mut now = Duration::ZERO;
        while now < Duration::from_secs(seconds.into()) {
            spent += usize::from(budget.try_spend(Time::new(now), bytes)) * bytes;
            now += each;
        }
        spent
    }

    #[test]
    fn over_time_no_more_is_spent_than_the_rate_however_often_it_is_asked() {
        for micros in [10, 1_000, 100_000] {
            let mut budget = Budget::default();
            budget.set(3_000);
            let spent = spend(&mut budget, Duration::from_micros(micros), 10, 300);
            assert!((27_000..31_000).contains(&spent), "{spent} at {micros} us");
        }
    }

    #[test]
    fn a_slow_line_still_takes_one_datagram_at_a_time() {
        let mut budget = Budget::default();
        budget.set(100);
        let spent = spend(&mut budget, Duration::from_millis(10), 60, 1_200);
        assert_eq!(spent, 5 * 1_200);
    }

    #[test]
    fn nothing_is_spent_at_no_rate() {
        assert!(!Budget::default().try_spend(Time::ZERO, 1));
    }
}
