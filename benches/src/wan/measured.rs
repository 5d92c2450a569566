//! The figures of one load on one subject, as they travel from the players' process to the report.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::fault::Fault;
use crate::stats::{median, percentile};

/// Figures of one round, or medians over rounds.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Measured {
    /// Percentiles of round trips, in milliseconds.
    pub p50: f64,
    /// See `p50`.
    pub p90: f64,
    /// See `p50`.
    pub p99: f64,
    /// The slowest.
    pub max: f64,
    /// Round trips that were measured.
    pub samples: f64,
    /// Megabytes a second that the download beside them got.
    pub bulk: Option<f64>,
    /// Megabytes a second that a neighbour's download got.
    pub neighbour: Option<f64>,
    /// Per cent of UDP requests without an answer in time.
    pub loss: Option<f64>,
}

/// What a process of players says at its end.
#[derive(Debug, Serialize, Deserialize)]
pub enum Outcome {
    /// It went well.
    Measured(Measured),
    /// [`Fault::Mismatch`].
    Mismatch(String),
    /// [`Fault::Failed`].
    Failed(String),
}

impl Measured {
    /// From round trips; none when there are none.
    pub fn from_times(
        mut times: Vec<Duration>,
        [bulk, neighbour]: [Option<f64>; 2],
        loss: Option<f64>,
    ) -> Option<Self> {
        times.sort_unstable();
        Some(Self {
            p50: percentile(&times, 50)?,
            p90: percentile(&times, 90)?,
            p99: percentile(&times, 99)?,
            max: percentile(&times, 100)?,
            samples: times.len() as f64,
            bulk,
            neighbour,
            loss,
        })
    }

    /// Whether no reply was in time.
    pub fn is_all_lost(&self) -> bool {
        self.loss.is_some_and(|loss| loss >= 100.0)
    }

    /// The median of each figure; none of no rounds.
    pub fn median(rounds: &[Self]) -> Option<Self> {
        let of = |figure: fn(&Self) -> Option<f64>| {
            let values: Vec<f64> = rounds.iter().filter_map(figure).collect();
            median(&values)
        };
        Some(Self {
            p50: of(|round| Some(round.p50))?,
            p90: of(|round| Some(round.p90))?,
            p99: of(|round| Some(round.p99))?,
            max: of(|round| Some(round.max))?,
            samples: of(|round| Some(round.samples))?,
            bulk: of(|round| round.bulk),
            neighbour: of(|round| round.neighbour),
            loss: of(|round| round.loss),
        })
    }
}

impl From<Result<Measured, Fault>> for Outcome {
    fn from(result: Result<Measured, Fault>) -> Self {
        match result {
            Ok(measured) => Self::Measured(measured),
            Err(Fault::Mismatch(text)) => Self::Mismatch(text),
            Err(Fault::Failed(text)) => Self::Failed(text),
        }
    }
}

impl From<Outcome> for Result<Measured, Fault> {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Measured(measured) => Ok(measured),
            Outcome::Mismatch(text) => Err(Fault::Mismatch(text)),
            Outcome::Failed(text) => Err(Fault::Failed(text)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_figure_has_a_median_of_its_own() {
        let round = |millis: u64, bulk| {
            let times = vec![Duration::from_millis(millis); 3];
            Measured::from_times(times, [bulk, None], None).unwrap()
        };
        let rounds = [round(30, Some(1.0)), round(10, Some(3.0)), round(20, Some(2.0))];
        assert_eq!(Measured::median(&rounds), Some(round(20, Some(2.0))));
        assert_eq!(Measured::median(&[]), None);
        assert_eq!(Measured::from_times(Vec::new(), [None; 2], None), None);
    }
}
