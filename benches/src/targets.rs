//! What we promise of the tunnel on loopback, held against what a run has measured.

use serde_json::{Value, json};
use spawnpoint_core::tuning::Tuning;

use crate::report::Report;
use crate::subject::Subject;

/// A difference that is none: the same players on the same processes differ by so much from one time to the next.
const NOISE: f64 = 1.2;

/// One promise.
#[derive(Clone, Copy, Debug)]
struct Target {
    /// The loads it is about, by how their names begin.
    load: &'static str,
    figure: &'static str,
    bound: Bound,
    /// Whose figure the bound is a multiple of; without one it is a bound on the figure itself.
    of: Option<Subject>,
}

#[derive(Clone, Copy, Debug)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

/// What became of a promise.
#[derive(Clone, PartialEq, Debug)]
pub struct Verdict {
    /// What was promised.
    pub target: String,
    /// The figure, or how many times the other's it is.
    pub measured: f64,
    /// Ours, and the other's if there is one.
    pub figures: (f64, Option<f64>),
    /// Whether it holds.
    pub is_met: bool,
}

fn targets() -> Vec<Target> {
    use Bound::{AtLeast, AtMost};
    let target = |load, figure, bound, of| Target {
        load,
        figure,
        bound,
        of,
    };
    // A stalled player may fill the window of its own stream at each end, and nothing else.
    let window = AtMost(f64::from(Tuning::default().stream_window));
    vec![
        target("bulk", "MB/s", AtLeast(1.25), Some(Subject::RatholeNoise)),
        target("bulk", "MB/s", AtLeast(0.8), Some(Subject::RatholeTls)),
        target("bulk", "CPU s/GB", AtMost(1.1), Some(Subject::Quinn)),
        target("small-beside-bulk", "p99 ms", AtMost(0.4), Some(Subject::Rathole)),
        target("connects", "players/s", AtLeast(1.3), Some(Subject::Rathole)),
        target("connects", "players/s", AtLeast(6.0), Some(Subject::RatholeTls)),
        target("udp", "echoes/s", AtLeast(3.0), Some(Subject::Rathole)),
        target("udp", "echoes/s", AtLeast(1.2), Some(Subject::Nginx)),
        target("memory", "B/player, relay", AtMost(0.4), Some(Subject::Rathole)),
        target("memory", "B/player, agent", AtMost(0.4), Some(Subject::Rathole)),
        target("stalled", "p50 beside/without", AtMost(NOISE), None),
        target("stalled", "p99 beside/without", AtMost(NOISE), None),
        target("stalled", "B/stalled, relay", window, None),
        target("stalled", "B/stalled, agent", window, None),
    ]
}

/// A verdict on each promise of which the run has all figures.
pub fn verdicts(report: &Report) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for target in targets() {
        let is_about = |load: &str, figure: &str| load.starts_with(target.load) && figure == target.figure;
        for row in report.rows.iter().filter(|row| is_about(row.load, row.figure)) {
            let other = target.of.map(|of| row.median(of));
            let (Some(ours), Some(other)) = (
                row.median(Subject::Spawnpoint),
                other.map_or(Some(None), |of| of.map(Some)),
            ) else {
                continue;
            };
            verdicts.push(target.verdict(row.load, ours, other));
        }
    }
    verdicts
}

impl Target {
    fn verdict(&self, load: &str, ours: f64, other: Option<f64>) -> Verdict {
        let measured = ours / other.unwrap_or(1.0);
        let (words, bound, is_met) = match self.bound {
            Bound::AtLeast(bound) => ("at least", bound, measured >= bound),
            Bound::AtMost(bound) => ("at most", bound, measured <= bound),
        };
        let of = self.of.map_or(String::new(), |of| format!(" x {}", of.as_str()));
        Verdict {
            target: format!("{load}, {}: {words} {bound}{of}", self.figure),
            measured,
            figures: (ours, other),
            is_met,
        }
    }
}

impl Verdict {
    /// The words for it.
    pub const fn as_str(&self) -> &'static str {
        if self.is_met { "met" } else { "NOT met" }
    }

    /// Everything, for programs.
    pub fn to_json(&self) -> Value {
        json!({
            "target": self.target,
            "measured": self.measured,
            "ours": self.figures.0,
            "other": self.figures.1,
            "met": self.is_met,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Load;

    #[test]
    fn each_is_about_a_load_and_somebody_who_is_asked_for_it() {
        for target in targets() {
            let mut loads = Load::ALL.into_iter().filter(|load| load.name.starts_with(target.load));
            let is_asked = |load: Load| {
                target
                    .of
                    .is_none_or(|of| load.suits(of) && Subject::TARGETED.contains(&of))
            };
            assert!(loads.any(is_asked), "{target:?}");
        }
    }

    #[test]
    fn a_multiple_is_of_the_other() {
        let target = Target {
            load: "bulk",
            figure: "MB/s",
            bound: Bound::AtLeast(1.25),
            of: Some(Subject::RatholeNoise),
        };
        let verdict = target.verdict("bulk-1-up", 500.0, Some(400.0));
        assert_eq!(verdict.target, "bulk-1-up, MB/s: at least 1.25 x rathole-noise");
        assert!(verdict.is_met);
        assert!(!target.verdict("bulk-1-up", 499.0, Some(400.0)).is_met);
        assert!(!target.verdict("bulk-1-up", f64::NAN, Some(400.0)).is_met);
    }
}
