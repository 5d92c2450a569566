//! What can go wrong in a bench, told apart by whose fault it can be.

use std::fmt;
use std::io;

/// Why a load has no figures.
#[derive(Debug)]
pub enum Fault {
    /// Bytes, sizes or counts differ from what was sent. Fails the bench, whoever did it.
    Mismatch(String),
    /// It could not be carried out: refused, reset, too late. Fails the bench unless a peer did it.
    Failed(String),
}

impl Fault {
    /// `doing` did not work.
    pub fn failed(doing: &str, error: impl fmt::Display) -> Self {
        Self::Failed(format!("{doing}: {error}"))
    }

    /// The fault with more about its circumstances.
    #[must_use]
    pub fn with(self, story: &str) -> Self {
        match self {
            Self::Mismatch(text) => Self::Mismatch(text + story),
            Self::Failed(text) => Self::Failed(text + story),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mismatch(text) => write!(f, "wrong data: {text}"),
            Self::Failed(text) => f.write_str(text),
        }
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}
