//! Twenty ticks a second, and times that travel inside messages.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// What most game servers do.
pub const TICK: Duration = Duration::from_millis(50);

static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The time, for a message to carry.
pub fn stamp() -> [u8; 8] {
    (EPOCH.elapsed().as_nanos() as u64).to_be_bytes()
}

/// How long ago `stamp` was made.
pub fn since(stamp: &[u8]) -> Duration {
    let nanos = stamp.iter().fold(0, |nanos, byte| nanos << 8 | u64::from(*byte));
    EPOCH.elapsed().saturating_sub(Duration::from_nanos(nanos))
}

/// How many ticks there are in `time`.
pub const fn within(time: Duration) -> u32 {
    (time.as_millis() / TICK.as_millis()) as u32
}
