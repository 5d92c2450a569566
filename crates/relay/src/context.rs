//! What every task of a relay shares.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use spawnpoint_config::relay::RelayConfig;
use spawnpoint_core::admission::Gate;
use spawnpoint_net::Clock;
use spawnpoint_ops::{Events, RelayMetrics};
use spawnpoint_proto::SessionId;
use tokio::sync::{Notify, Semaphore};

use crate::directory::Hosts;

/// Players who are told at the same time why they cannot enter; further ones are cut off without words.
const REFUSALS: usize = 256;

/// Shared, unchanging surroundings, and the few counters that belong to the relay as a whole.
#[derive(Debug)]
pub(crate) struct Context {
    pub clock: Clock,
    pub config: RelayConfig,
    /// What players type before the port.
    pub public_host: String,
    pub hosts: Hosts,
    pub metrics: RelayMetrics,
    pub events: Events,
    /// Admission of players.
    pub players: Gate,
    /// Admission of agents up to their welcome.
    pub handshakes: Gate,
    /// A place for each link.
    pub links: Arc<Semaphore>,
    /// A place for each player who is being told why they cannot enter.
    pub refusals: Arc<Semaphore>,
    /// Somebody left; a drain looks again.
    pub left: Notify,
    next_session: AtomicU64,
}

impl Context {
    #[expect(clippy::too_many_arguments, reason = "called once; each is a thing of its own")]
    pub fn new(
        clock: Clock,
        config: RelayConfig,
        public_host: String,
        hosts: Hosts,
        metrics: RelayMetrics,
        events: Events,
        players: Gate,
        handshakes: Gate,
    ) -> Self {
        let links = Arc::new(Semaphore::new(config.links.max_links as usize));
        Self {
            clock,
            config,
            public_host,
            hosts,
            metrics,
            events,
            players,
            handshakes,
            links,
            refusals: Arc::new(Semaphore::new(REFUSALS)),
            left: Notify::new(),
            next_session: AtomicU64::new(1),
        }
    }

    /// Goes on with the numbers of another process.
    #[cfg(unix)]
    pub fn set_next_session(&self, next: u64) {
        self.next_session.store(next, Ordering::Relaxed);
    }

    /// A number that no session of this relay had before.
    pub fn next_session(&self) -> SessionId {
        SessionId(self.next_session.fetch_add(1, Ordering::Relaxed))
    }
}
