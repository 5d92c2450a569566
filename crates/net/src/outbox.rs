//! The fair queues in front of a connection's datagrams.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use spawnpoint_core::outbox::{Dropped, Limits, Outbox};
use spawnpoint_proto::FlowId;
use tokio::sync::Notify;

use crate::Clock;

/// Queues datagrams for one link; clones are the same queues.
#[derive(Clone, Debug)]
pub struct DatagramOutbox {
    clock: Clock,
    queues: Arc<Mutex<Outbox>>,
    filled: Arc<Notify>,
}

impl DatagramOutbox {
    /// Empty queues.
    pub fn new(clock: Clock) -> Self {
        Self {
            clock,
            queues: Arc::new(Mutex::new(Outbox::new(Limits::default()))),
            filled: Arc::new(Notify::new()),
        }
    }

    /// Queues the datagrams of one packet; never waits.
    pub fn push(&self, flow: FlowId, packet: impl Iterator<Item = Bytes>) {
        self.queues().push(self.clock.now(), flow, packet);
        self.filled.notify_one();
    }

    /// Sends what is queued, in turn, as fast as the connection takes it; returns when the connection is gone.
    pub async fn run(&self, connection: &quinn::Connection) {
        loop {
            let next = self.queues().pop(self.clock.now());
            let Some(datagram) = next else {
                self.filled.notified().await;
                continue;
            };
            match connection.send_datagram_wait(datagram).await {
                // A datagram cut for a larger path than there is now: its packet is lost, the next is cut smaller.
                Ok(()) | Err(quinn::SendDatagramError::TooLarge) => {}
                Err(_) => return,
            }
        }
    }

    /// Packets that were dropped here since the last call.
    pub fn take_dropped(&self) -> Dropped {
        self.queues().take_dropped()
    }

    fn queues(&self) -> MutexGuard<'_, Outbox> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
