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
