//! Whether the relay is under attack from many addresses.

use std::time::Duration;

use spawnpoint_proto::Time;

/// How long an attack counts as going on after its last sign.
const LASTS: Duration = Duration::from_secs(10);

/// Notices attacks.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Siege {
    /// The second that is counted, and the refusals in it.
    second: Time,
    refused: u32,
    until: Time,
}

impl Siege {
    /// Somebody was refused although they kept to their own address's bounds.
    pub fn on_refused(&mut self, now: Time, most: u32) {
        if now.since(self.second) >= Duration::from_secs(1) {
            (self.second, self.refused) = (now, 0);
        }
        self.refused = self.refused.saturating_add(1);
        if self.refused >= most {
            self.begin(now);
        }
    }

    /// There is an attack.
    pub fn begin(&mut self, now: Time) {
        self.until = now + LASTS;
    }

    pub fn is_on(&self, now: Time) -> bool {
        now < self.until
    }
}
