//! The agent's view of the flows that its relay has opened.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use bytes::Bytes;
use spawnpoint_proto::datagram::{Announcement, Fragment};
use spawnpoint_proto::{FlowId, Time};

use super::{DropReason, Joiner, LEAP, Limits, MAX_REASSEMBLY};

/// The flows of one link; each holds a socket `S`, which is dropped when the flow ends.
#[derive(Debug)]
pub struct FlowMirror<S> {
    limits: Limits,
    flows: HashMap<FlowId, Flow<S>>,
    checks: BTreeSet<(Time, FlowId)>,
    /// Where the next flow begins to number its packets. It moves on with those of all flows: a flow that is opened again must not repeat numbers that
    /// the relay still knows.
    packets: u16,
    reassembly: usize,
    abandoned: u64,
}

#[derive(Debug)]
struct Flow<S> {
    socket: S,
    last: Time,
    check: Time,
    /// Its own number: the relay tells copies by the nearest ones.
    last_packet: u16,
    joiner: Joiner,
}

/// What to do with a packet from the relay.
#[derive(Debug, PartialEq, Eq)]
pub enum Received<'a, S> {
    /// Hand it to the flow's socket. When it came announced, the relay waits for a confirmation.
    Packet(&'a S, Bytes),
    /// A part of a packet that is not whole yet.
    Part,
    /// A flow of a player who is new here: open it with [`FlowMirror::open`], then pass the packet again.
    New(Announcement, Bytes),
    /// The relay must announce the flow again.
    Unknown,
}

impl<S> FlowMirror<S> {
    /// No flows yet.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            flows: HashMap::new(),
            checks: BTreeSet::new(),
            packets: 0,
            reassembly: 0,
            abandoned: 0,
        }
    }

    /// Changes after how long without a packet a flow ends; those that are open notice when they are next looked at.
    pub fn set_idle(&mut self, idle: Duration) {
        self.limits.idle = idle;
    }

    /// Takes a packet, or a part of one, from the relay.
    ///
    /// # Errors
    /// [`DropReason::Duplicate`] for what has come before, [`DropReason::ReassemblyFull`], or [`DropReason::Violation`] for parts that do not fit
    /// together.
    pub fn on_relay_packet(
        &mut self,
        now: Time,
        id: FlowId,
        announced: Option<Announcement>,
        fragment: Option<Fragment>,
        payload: Bytes,
    ) -> Result<Received<'_, S>, DropReason> {
        let Some(flow) = self.flows.get_mut(&id) else {
            return Ok(match announced {
                Some(announcement) => Received::New(announcement, payload),
                None => Received::Unknown,
            });
        };
        flow.last = now;
        let Some(fragment) = fragment else {
            return Ok(Received::Packet(&flow.socket, payload));
        };
        let joined = flow.joiner.on_fragment(now, &mut self.reassembly, fragment, payload);
        self.abandoned += joined.abandoned;
        // Parts are given up long before an idle flow is looked at, or what a few players lost would take the memory of all.
        if let Some(due) = flow.joiner.poll_timeout()
            && due < flow.check
        {
            self.checks.remove(&(flow.check, id));
            flow.check = due;
            self.checks.insert((due, id));
        }
        Ok(match joined.packet? {
            Some(packet) => Received::Packet(&flow.socket, packet),
            None => Received::Part,
        })
    }

    /// Opens a flow that the relay announced.
    ///
    /// # Errors
    /// [`DropReason::TableFull`] when as many flows as allowed are open.
    pub fn open(&mut self, now: Time, id: FlowId, socket: S) -> Result<(), DropReason> {
        if self.flows.len() >= self.limits.flows {
            return Err(DropReason::TableFull);
        }
        self.close(id);
        let check = now + self.limits.idle;
        self.flows.insert(
            id,
            Flow {
                socket,
                last: now,
                check,
                last_packet: self.packets,
                joiner: Joiner::default(),
            },
        );
        self.checks.insert((check, id));
        Ok(())
    }

    /// Opens a flow that another process had; it numbers its packets well beyond `last_packet`, so that the relay takes none for a copy.
    ///
    /// # Errors
    /// Those of [`FlowMirror::open`].
    pub fn restore(&mut self, now: Time, id: FlowId, last_packet: u16, socket: S) -> Result<(), DropReason> {
        self.open(now, id, socket)?;
        if let Some(flow) = self.flows.get_mut(&id) {
            flow.last_packet = last_packet.wrapping_add(LEAP);
        }
        Ok(())
    }

    /// A packet from the origin: a number for it if it must be cut or is sent twice; `None` when the flow has ended.
    pub fn on_origin_packet(&mut self, now: Time, id: FlowId) -> Option<u16> {
        let flow = self.flows.get_mut(&id)?;
        flow.last = now;
        self.packets = self.packets.wrapping_add(1);
        flow.last_packet = flow.last_packet.wrapping_add(1);
        Some(flow.last_packet)
    }

    /// What a flow holds.
    pub fn get(&self, id: FlowId) -> Option<&S> {
        self.flows.get(&id).map(|flow| &flow.socket)
    }

    /// Every open flow, with the number of its last packet.
    pub fn iter(&self) -> impl Iterator<Item = (FlowId, u16, &S)> {
        self.flows
            .iter()
            .map(|(id, flow)| (*id, flow.last_packet, &flow.socket))
    }

    /// Ends a flow and returns its socket.
    pub fn close(&mut self, id: FlowId) -> Option<S> {
        let mut flow = self.flows.remove(&id)?;
        self.checks.remove(&(flow.check, id));
        self.abandoned += flow.joiner.give_up(&mut self.reassembly);
        Some(flow.socket)
    }

    /// Ends every flow for which `ended` says so and returns them.
    pub fn close_if(&mut self, mut ended: impl FnMut(FlowId, &S) -> bool) -> Vec<(FlowId, S)> {
        let ids: Vec<FlowId> = self
            .flows
            .iter()
            .filter(|(id, flow)| ended(**id, &flow.socket))
            .map(|(id, _)| *id)
            .collect();
        ids.into_iter()
            .filter_map(|id| self.close(id).map(|socket| (id, socket)))
            .collect()
    }

    /// When [`FlowMirror::handle_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Option<Time> {
        self.checks.first().map(|&(check, _)| check)
    }

    /// Ends the flows that were idle for too long and returns their sockets.
    pub fn handle_timeout(&mut self, now: Time) -> Vec<(FlowId, S)> {
        let mut ended = Vec::new();
        while let Some(&(check, id)) = self.checks.first()
            && check <= now
        {
            let Some(flow) = self.flows.get_mut(&id) else { break };
            self.abandoned += flow.joiner.handle_timeout(now, &mut self.reassembly);
            let expires = flow.last + self.limits.idle;
            if expires <= now {
                ended.extend(self.close(id).map(|socket| (id, socket)));
            } else {
                self.checks.remove(&(check, id));
                flow.check = flow.joiner.poll_timeout().map_or(expires, |due| due.min(expires));
                self.checks.insert((flow.check, id));
            }
        }
        ended
    }

    /// Open flows.
    pub fn len(&self) -> usize {
        self.flows.len()
    }

    /// Whether no flow is open.
    pub fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    /// How many packets were given up for want of fragments since the last call.
    pub fn take_abandoned(&mut self) -> u64 {
        std::mem::take(&mut self.abandoned)
    }

    /// Checks that the indices agree with each other.
    ///
    /// # Panics
    /// When they do not; simulations call it after every step.
    pub fn check_invariants(&self) {
        assert!(self.flows.len() <= self.limits.flows, "more flows than allowed");
        assert_eq!(self.checks.len(), self.flows.len(), "checks and flows differ");
        let held: usize = self.flows.values().map(|flow| flow.joiner.buffered()).sum();
        assert_eq!(held, self.reassembly, "incomplete bytes are counted wrong");
        assert!(held <= MAX_REASSEMBLY, "more incomplete bytes than allowed");
        for flow in self.flows.values() {
            let due = flow.joiner.poll_timeout();
            assert!(
                due.is_none_or(|due| flow.check <= due),
                "old parts are looked at too late"
            );
        }
    }
}
