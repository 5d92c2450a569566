//! How much is spent against loss.

/// What is done for the small writes of a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Policy {
    /// Nothing.
    #[default]
    Off,
    /// Each is covered by a repair.
    Cover {
        /// Writes that a repair covers, from 1 (a plain copy) to 8.
        writes: u8,
    },
}

/// What is known of the path and of what it carries.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Path {
    /// The share of packets that were lost lately, from 0 to 1.
    pub loss: f64,
    /// Bytes a second of small writes, lately.
    pub interactive: u64,
    /// Bytes a second that the path takes, where that is known.
    pub line: Option<u64>,
    /// Whether bulk fills the line, so that each byte spent here is one less for it.
    pub is_busy: bool,
}

/// A path that loses this much is repaired.
const ON: f64 = 0.003;

/// A path that is repaired is so until it loses less than this.
const OFF: f64 = 0.001;

/// Of a busy line one part in this many is spent, that is 2.5 %.
const SHARE: u64 = 40;

/// On an idle line so much may always be spent, in bytes a second: the first players of an evening come before their rate is known.
const SLACK: u64 = 16 * 1024;

/// Most writes of a repair.
const MOST: u64 = 8;

/// The policy for a path that has had `current` so far, and the budget in bytes a second.
///
/// A path that loses next to nothing is left alone. On an idle line each write is copied: that repairs most and costs what nobody else wants. On a busy
/// one as few writes share a repair as 2.5 % of it can pay; when even eight would cost more there are none, since a budget that runs out leaves it to
/// chance who is repaired. What a busy line takes may be unknown; then eight share one.
pub fn choose(current: Policy, path: Path) -> (Policy, u64) {
    let threshold = if current == Policy::Off { ON } else { OFF };
    let (writes, budget) = match (path.is_busy, path.line) {
        (false, _) => (Some(1), path.interactive.saturating_mul(2).saturating_add(SLACK)),
        (true, Some(line)) => (affordable(path.interactive, line / SHARE), line / SHARE),
        (true, None) => (Some(MOST as u8), cost(path.interactive).div_ceil(MOST) + SLACK / MOST),
    };
    let policy = match writes {
        Some(writes) if path.loss >= threshold => Policy::Cover { writes },
        _ => Policy::Off,
    };
    (policy, budget)
}

/// How many writes must share a repair so that all of them cost no more than `share`; `None` when no number is enough.
fn affordable(interactive: u64, share: u64) -> Option<u8> {
    let writes = if share > 0 {
        cost(interactive).div_ceil(share)
    } else {
        u64::MAX
    };
    (writes <= MOST).then_some(writes.max(2) as u8)
}

/// What plain copies would cost: a repair is as long as the longest of its writes and has headers, so half as much again as the mean write.
const fn cost(interactive: u64) -> u64 {
    interactive.saturating_add(interactive / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: Path = Path {
        loss: 0.01,
        interactive: 10_000,
        line: Some(1_000_000),
        is_busy: false,
    };

    const BUSY: Path = Path { is_busy: true, ..QUIET };

    const COVER: Policy = Policy::Cover { writes: 1 };

    fn policy(current: Policy, loss: f64) -> Policy {
        choose(current, Path { loss, ..QUIET }).0
    }

    #[test]
    fn a_path_that_loses_nothing_is_left_alone_and_one_at_the_edge_does_not_flap() {
        let losses = [0.0, 0.001, 0.0029, 0.003, 0.0011, 0.001, 0.0009, 0.002];
        let mut current = Policy::Off;
        let seen = losses.map(|loss| {
            current = policy(current, loss);
            current == COVER
        });
        assert_eq!(seen, [false, false, false, true, true, true, false, false]);
        assert_eq!(policy(COVER, f64::NAN), Policy::Off);
    }

    #[test]
    fn on_an_idle_line_each_write_is_copied_whatever_the_line_takes() {
        for line in [None, Some(0), Some(1_000)] {
            let (policy, budget) = choose(Policy::Off, Path { line, ..QUIET });
            assert_eq!((policy, budget), (COVER, 20_000 + SLACK));
        }
    }

    #[test]
    fn on_a_busy_line_repairs_cost_a_fortieth_at_most() {
        // 25,000 bytes a second are to be had.
        for (interactive, writes) in [(0, 2), (10_000, 2), (40_000, 3), (100_000, 6), (130_000, 8)] {
            let expected = Policy::Cover { writes };
            assert_eq!(choose(Policy::Off, Path { interactive, ..BUSY }), (expected, 25_000));
        }
        for interactive in [140_000, u64::MAX] {
            assert_eq!(choose(COVER, Path { interactive, ..BUSY }), (Policy::Off, 25_000));
        }
    }

    #[test]
    fn a_busy_line_of_unknown_speed_is_treated_with_care() {
        let (policy, budget) = choose(Policy::Off, Path { line: None, ..BUSY });
        assert_eq!(policy, Policy::Cover { writes: 8 });
        assert!((2_000..4_000).contains(&budget), "{budget}");
    }

    #[test]
    fn no_numbers_make_it_panic() {
        for interactive in [0, 1, u64::MAX] {
            for line in [None, Some(0), Some(39), Some(u64::MAX)] {
                for is_busy in [false, true] {
                    let path = Path {
                        loss: 1.0,
                        interactive,
                        line,
                        is_busy,
                    };
                    let (policy, _) = choose(Policy::Off, path);
                    assert!(matches!(policy, Policy::Off | Policy::Cover { writes: 1..=8 }));
                }
            }
        }
    }
}
