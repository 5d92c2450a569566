//! How long to wait before the next try: full jitter, so that many agents of one relay do not come back at the same moment.

use std::time::Duration;

/// A growing wait with full jitter: each is drawn evenly between nothing and a cap that doubles from `first` to `max`.
///
/// Source: "Exponential Backoff And Jitter", AWS Architecture Blog.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    first: Duration,
    max: Duration,
    tries: u32,
}

impl Backoff {
    /// A backoff whose cap starts at `first` and ends at `max`.
    pub const fn new(first: Duration, max: Duration) -> Self {
        Self { first, max, tries: 0 }
    }

    /// The next wait, placed below its cap by `random` (0 to 1, from the caller's source).
    pub fn next_wait(&mut self, random: f64) -> Duration {
        let cap = self.first.saturating_mul(2u32.saturating_pow(self.tries)).min(self.max);
        self.tries = self.tries.saturating_add(1);
        cap.mul_f64(random.clamp(0.0, 1.0))
    }

    /// Starts again at the first cap, after a success.
    pub fn reset(&mut self) {
        self.tries = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backoff() -> Backoff {
        Backoff::new(Duration::from_millis(250), Duration::from_secs(15))
    }

    #[test]
    fn the_cap_doubles_up_to_its_maximum() {
        let mut backoff = backoff();
        let waits: Vec<u64> = (0..9).map(|_| backoff.next_wait(1.0).as_millis() as u64).collect();
        assert_eq!(waits, [250, 500, 1000, 2000, 4000, 8000, 15_000, 15_000, 15_000]);
    }

    #[test]
    fn waits_are_spread_over_the_whole_range() {
        let mut backoff = backoff();
        assert_eq!(backoff.next_wait(0.0), Duration::ZERO);
        assert_eq!(backoff.next_wait(0.5), Duration::from_millis(250));
    }

    #[test]
    fn a_success_starts_it_again() {
        let mut backoff = backoff();
        for _ in 0..100 {
            backoff.next_wait(1.0);
        }
        backoff.reset();
        assert_eq!(backoff.next_wait(1.0), Duration::from_millis(250));
    }
}
