//! One measured number.

/// What one load on one subject said about one thing.
#[derive(Clone, Copy, Debug)]
pub struct Figure {
    /// What is measured, with its unit.
    pub name: &'static str,
    /// Which way is better.
    pub better: Better,
    /// The number.
    pub value: f64,
}

/// Which way is better.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Better {
    /// More of it.
    Higher,
    /// Less of it.
    Lower,
}

impl Better {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Higher => "higher",
            Self::Lower => "lower",
        }
    }

    /// Ours as a multiple of somebody else's, with `+` when ours is better by more than a tenth and `!` when it is worse; empty for no multiple.
    pub fn ratio(self, ratio: Option<f64>) -> String {
        let Some(ratio) = ratio else {
            return String::new();
        };
        let gain = match self {
            Self::Higher => ratio,
            Self::Lower => 1.0 / ratio,
        };
        let sign = match gain {
            1.1.. => "+",
            gain if gain < 1.0 / 1.1 => "!",
            _ => " ",
        };
        format!("x{ratio:.2} {sign}")
    }

    /// The best of `values`.
    pub fn best(self, values: impl Iterator<Item = f64>) -> Option<f64> {
        match self {
            Self::Higher => values.reduce(f64::max),
            Self::Lower => values.reduce(f64::min),
        }
    }
}

/// More is better.
pub const fn higher(name: &'static str, value: f64) -> Figure {
    Figure {
        name,
        better: Better::Higher,
        value,
    }
}

/// Less is better.
pub const fn lower(name: &'static str, value: f64) -> Figure {
    Figure {
        name,
        better: Better::Lower,
        value,
    }
}
