//! Bytes of a session, counted for the session and for its tunnel at once.

use std::sync::Weak;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::metrics::counter::Counter;
use spawnpoint_core::admission::Permit;
use spawnpoint_net::{Meter, Toll};

/// One direction of one session.
#[derive(Debug)]
pub(crate) struct SessionMeter {
    session: AtomicU64,
    tunnel: Counter,
    /// The place of the player whom the first byte answers.
    place: Weak<Permit>,
    toll: Toll,
}

impl SessionMeter {
    /// Counts on from what the session has moved before, which the tunnel does not count again.
    pub fn new(tunnel: Counter, before: u64, toll: Toll) -> Self {
        Self {
            session: AtomicU64::new(before),
            tunnel,
            place: Weak::new(),
            toll,
        }
    }

    /// The first byte answers the player who has this place.
    pub fn settling(self, place: Weak<Permit>) -> Self {
        Self { place, ..self }
    }
}

impl Meter for SessionMeter {
    fn add(&self, bytes: u64) {
        let before = self.session.fetch_add(bytes, Ordering::Relaxed);
        if before == 0
            && bytes > 0
            && let Some(place) = self.place.upgrade()
        {
            place.settle();
        }
        self.tunnel.inc_by(bytes);
        self.toll.charge(bytes);
    }

    fn total(&self) -> u64 {
        self.session.load(Ordering::Relaxed)
    }

    fn toll(&self) -> Option<&Toll> {
        Some(&self.toll)
    }
}
