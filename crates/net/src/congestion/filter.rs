//! Extremes over a sliding window: the most that a path has given lately, the least that it has taken.

use std::collections::VecDeque;

/// The largest of the values that are no older than a window; ages are whatever the caller counts in.
#[derive(Clone, Debug)]
pub(super) struct Max {
    window: u64,
    /// Falling values, each older than the next: only what may still become the largest is kept.
    kept: VecDeque<(u64, f64)>,
}

impl Max {
    /// Keeps values for `window` of the caller's units.
    pub const fn new(window: u64) -> Self {
        Self {
            window,
            kept: VecDeque::new(),
        }
    }

    /// Adds a value that was seen at `at`, which never goes back.
    pub fn add(&mut self, at: u64, value: f64) {
        while self.kept.back().is_some_and(|(_, last)| *last <= value) {
            self.kept.pop_back();
        }
        self.kept.push_back((at, value));
        while self.kept.front().is_some_and(|(seen, _)| at - seen >= self.window) {
            self.kept.pop_front();
        }
    }

    /// The largest; 0 when there is none.
    pub fn get(&self) -> f64 {
        self.kept.front().map_or(0.0, |(_, value)| *value)
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.kept.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_counts_until_it_is_too_old() {
        let mut max = Max::new(3);
        max.add(1, 5.0);
        max.add(2, 3.0);
        max.add(3, 4.0);
        assert_eq!(max.get(), 5.0);
        max.add(4, 1.0);
        assert_eq!(max.get(), 4.0);
        max.add(6, 1.0);
        assert_eq!(max.get(), 1.0);
    }
}
