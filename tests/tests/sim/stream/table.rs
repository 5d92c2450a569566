//! One side of the link: its sessions, and how they go from carrier to carrier.

use std::collections::{BTreeMap, VecDeque};

use spawnpoint_proto::SessionId;
use spawnpoint_proto::control::Delivered;

use super::carrier::Id;
use super::end::End;

/// The sessions of one side.
#[derive(Debug)]
pub struct Table {
    pub ends: BTreeMap<Id, End>,
    /// Which carrier counts here, counted from the first.
    pub epoch: u64,
    /// The number of the carrier that this side believes in.
    pub carrier: Option<u64>,
    /// The newest that it has ever had; a hello on an older one comes too late.
    pub newest: Option<u64>,
    /// The receive window of this side, and what it knows of the peer's.
    pub window: u32,
    pub peers_window: u32,
    /// Ends that were taken over, which the peer is told without delay.
    pub news: Vec<Delivered>,
    /// Of the relay: sessions that get a stream on the new carrier one after the other, and how far the agent is; nothing when it does not know them.
    pub reopening: VecDeque<(Id, Option<u64>)>,
}

impl Table {
    pub const fn new(window: u32, peers_window: u32) -> Self {
        Self {
            ends: BTreeMap::new(),
            epoch: 0,
            carrier: None,
            newest: None,
            window,
            peers_window,
            news: Vec::new(),
            reopening: VecDeque::new(),
        }
    }

    /// From here on only a carrier that is yet to come counts.
    pub fn freeze(&mut self) -> Vec<Delivered> {
        self.epoch += 1;
        let mut standing = Vec::new();
        for (id, end) in &mut self.ends {
            end.epoch = self.epoch;
            let _ = end.stream.incoming.take_news();
            standing.push(delivered(*id, end.stream.incoming.offset()));
        }
        standing
    }

    /// The peer on the present carrier has this window.
    pub fn set_window(&mut self, window: u32) {
        self.peers_window = window;
        self.ends.values_mut().for_each(|end| end.set_window(window));
    }

    /// How far the sessions are of which the peer does not know yet.
    pub fn take_news(&mut self) -> Vec<Delivered> {
        let lazy = self.ends.iter_mut().filter_map(|(id, end)| {
            let offset = end.stream.incoming.take_news()?;
            Some(delivered(*id, offset))
        });
        lazy.collect()
    }

    /// How far the sessions are of which the peer waits to hear.
    pub fn take_due_news(&mut self) -> Vec<Delivered> {
        let due = self.ends.iter_mut().filter_map(|(id, end)| {
            let offset = end.stream.incoming.take_due_news()?;
            Some(delivered(*id, offset))
        });
        due.collect()
    }

    /// The peer has told how far it is with a session; one that is over here is nobody's business.
    pub fn on_delivered(&mut self, told: Delivered) {
        if let Some(end) = self.ends.get_mut(&told.session.0) {
            let noted = end.stream.outgoing.on_delivered(told.offset);
            assert!(noted.is_ok(), "{told:?} of an honest peer is an offence to {end:?}");
        }
    }
}

pub const fn delivered(id: Id, offset: u64) -> Delivered {
    Delivered {
        session: SessionId(id),
        offset,
    }
}
