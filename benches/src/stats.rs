//! Medians and percentiles.

use std::time::Duration;

use crate::figure::{Figure, lower};

/// The middle of `values`; the mean of the middle two when their number is even.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        even if even % 2 == 0 => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
        _ => Some(sorted[middle]),
    }
}

/// The 50th and 99th percentile of round trips, in milliseconds.
pub fn round_trips(times: Vec<Duration>) -> [Figure; 2] {
    let [p50, p99] = percentiles(times);
    [lower("p50 ms", p50), lower("p99 ms", p99)]
}

/// The 50th and 99th percentile, in milliseconds; not a number when there are no `times`.
pub fn percentiles(mut times: Vec<Duration>) -> [f64; 2] {
    times.sort_unstable();
    [50, 99].map(|percent| percentile(&times, percent).unwrap_or(f64::NAN))
}

/// The `percent`th percentile of `sorted` times, in milliseconds; none when there are none.
pub fn percentile(sorted: &[Duration], percent: usize) -> Option<f64> {
    let index = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(index).map(|time| time.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0]), Some(2.5));
    }

    #[test]
    fn the_99th_of_a_hundred_is_the_second_worst() {
        let times = (1..=100).map(Duration::from_millis).collect();
        assert_eq!(round_trips(times).map(|figure| figure.value), [50.0, 99.0]);
    }
}
