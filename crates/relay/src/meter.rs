//! Bytes of a session, counted for the session and for its tunnel at once.

use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::metrics::counter::Counter;
use spawnpoint_net::Meter;

/// One direction of one session.
#[derive(Debug)]
pub(crate) struct SessionMeter {
    session: AtomicU64,
    tunnel: Counter,
}

impl SessionMeter {
    /// Counts on from what the session has moved before, which the tunnel does not count again.
    pub const fn new(tunnel: Counter, before: u64) -> Self {
        Self {
            session: AtomicU64::new(before),
            tunnel,
        }
    }
}

impl Meter for SessionMeter {
    fn add(&self, bytes: u64) {
        self.session.fetch_add(bytes, Ordering::Relaxed);
        self.tunnel.inc_by(bytes);
    }

    fn total(&self) -> u64 {
        self.session.load(Ordering::Relaxed)
    }
}
