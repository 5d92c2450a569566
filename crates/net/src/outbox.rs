//! The fair queues in front of a connection's datagrams.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use spawnpoint_core::outbox::{Dropped, Limits, Outbox, Turn};
use spawnpoint_proto::FlowId;
use spawnpoint_proto::datagram::Announcement;
use spawnpoint_proto::fragment::{MIN_DATAGRAM, split, split_numbered};
use tokio::sync::Notify;

use crate::repair::Repairs;
use crate::session::Company;
use crate::{Clock, Sessions};

/// After this many datagrams the size that the path takes is looked up again.
const LOOK_EVERY: u32 = 32;

/// Queues datagrams for one link; clones are the same queues.
#[derive(Clone, Debug)]
pub struct DatagramOutbox {
    clock: Clock,
    queues: Arc<Mutex<Outbox>>,
    filled: Arc<Notify>,
    max_datagram: Arc<AtomicUsize>,
    repairs: Arc<Repairs>,
    company: Arc<Company>,
    /// Packets are sent a second time.
    is_redundant: bool,
}

impl DatagramOutbox {
    /// Empty queues of the link of `sessions`, whose repairs send what is to be sent twice.
    pub fn new(clock: Clock, sessions: &Sessions) -> Self {
        Self {
            clock,
            queues: Arc::new(Mutex::new(Outbox::new(Limits::default()))),
            filled: Arc::new(Notify::new()),
            max_datagram: Arc::new(AtomicUsize::new(MIN_DATAGRAM)),
            repairs: sessions.repairs(),
            company: sessions.company(),
            is_redundant: false,
        }
    }

    /// Queues the datagrams of one packet; never waits.
    pub fn push(&self, flow: FlowId, packet: impl Iterator<Item = Bytes>) {
        self.queues().push(self.clock.now(), flow, packet);
        self.filled.notify_one();
    }

    /// The same queues for packets that are sent a second time, or not.
    pub fn with_redundancy(&self, is_redundant: bool) -> Self {
        let same = self.clone();
        Self { is_redundant, ..same }
    }

    /// Whether the peer can tell a copy from another packet.
    pub fn takes_copies(&self) -> bool {
        self.repairs.is_wanted()
    }

    /// Queues a packet, cut as the path wants it; where that is wanted each part is sent again, a moment after it has left. Never waits. `number` tells it from the
    /// recent ones of its flow.
    pub fn push_packet(&self, flow: FlowId, announced: Option<Announcement>, packet: &[u8], number: u16) {
        let max = self.max_datagram();
        // A peer who takes no repairs would take a copy for another packet.
        if self.is_redundant && self.takes_copies() {
            let parts = split_numbered(flow, announced, packet, number, max);
            self.queues().push_twice(self.clock.now(), flow, parts);
            self.filled.notify_one();
        } else {
            self.push(flow, split(flow, announced, packet, number, max));
        }
    }

    /// The size that a datagram may have on the path right now.
    fn max_datagram(&self) -> usize {
        self.max_datagram.load(Ordering::Relaxed)
    }

    /// Sends what is queued, in turn, as fast as the connection takes it; returns when the connection is gone.
    pub async fn run(&self, connection: &quinn::Connection) {
        let mut since_look = LOOK_EVERY;
        loop {
            if since_look >= LOOK_EVERY {
                // Asking takes the connection's lock, so not for every packet.
                let max = connection.max_datagram_size().unwrap_or(MIN_DATAGRAM);
                self.max_datagram.store(max, Ordering::Relaxed);
                since_look = 0;
                self.company.on_packets();
            }
            let next = self.queues().pop(self.clock.now());
            let Some(Turn {
                flow,
                datagram,
                is_doubled,
            }) = next
            else {
                self.filled.notified().await;
                self.company.on_packets();
                since_look += 1;
                continue;
            };
            since_look += 1;
            // The peer of this carrier may be older than the one for whom it was queued.
            let copy = (is_doubled && self.takes_copies()).then(|| datagram.clone());
            match connection.send_datagram_wait(datagram).await {
                Ok(()) => copy.into_iter().for_each(|copy| self.repairs.delay_copy(copy)),
                // The path takes less than a moment ago: this packet is lost, the next is cut smaller.
                Err(quinn::SendDatagramError::TooLarge) => {
                    self.queues().on_oversize(flow);
                    since_look = LOOK_EVERY;
                }
                Err(_) => return,
            }
        }
    }

    /// The longest that a packet has waited here, of those whose turn came since the last call and of those that wait now.
    pub fn take_longest_wait(&self) -> Duration {
        self.queues().take_longest_wait(self.clock.now())
    }

    /// Packets that were dropped here since the last call, by the lane of their flow.
    pub fn take_dropped(&self) -> BTreeMap<u8, Dropped> {
        self.queues().take_dropped()
    }

    fn queues(&self) -> MutexGuard<'_, Outbox> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
