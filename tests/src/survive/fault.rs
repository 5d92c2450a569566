//! What keeps the show from going on.

use std::fmt;

/// A sentence about what failed; it stands alone in the report.
#[derive(Clone, Debug)]
pub struct Fault(pub String);

impl Fault {
    /// `what` failed for a reason.
    pub fn new(what: impl fmt::Display, why: impl fmt::Display) -> Self {
        Self(format!("{what}: {why}"))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Fault {}

impl From<spawnpoint_benches::fault::Fault> for Fault {
    fn from(fault: spawnpoint_benches::fault::Fault) -> Self {
        Self(fault.to_string())
    }
}
