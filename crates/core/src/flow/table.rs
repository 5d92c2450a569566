//! The relay's flows of one UDP tunnel.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use minicbor::{Decode, Encode};
use spawnpoint_proto::datagram::Fragment;
use spawnpoint_proto::{FlowId, Time};

use super::{DropReason, Joiner, LEAP, Limits, MAX_REASSEMBLY};

/// The flows of one tunnel; each holds a permit `P`, which is dropped when the flow ends.
#[derive(Debug)]
pub struct FlowTable<P> {
    limits: Limits,
    lane: u8,
    next_serial: u32,
    by_player: HashMap<SocketAddr, FlowId>,
    flows: HashMap<FlowId, Flow<P>>,
    /// One entry a flow: when to look at it next, not later than it can expire.
    checks: BTreeSet<(Time, FlowId)>,
    reassembly: usize,
    abandoned: u64,
    /// Flows that the origin has never answered.
    unanswered: usize,
}

#[derive(Debug)]
struct Flow<P> {
    player: SocketAddr,
    permit: P,
    opened: Time,
    last: Time,
    check: Time,
    confirmed: bool,
    answered: bool,
    last_packet: u16,
    joiner: Joiner,
    up: u64,
    down: u64,
}

/// A flow that is already open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Known {
    /// Its id.
    pub flow: FlowId,
    /// Whether the agent knows it, so that it need not be announced.
    pub confirmed: bool,
    /// A number for this packet if it must be cut or is sent twice.
    pub packet: u16,
}

/// A flow that has ended.
#[derive(Debug)]
pub struct Ended<P> {
    /// Its id.
    pub flow: FlowId,
    /// Its player.
    pub player: SocketAddr,
    /// What it held.
    pub permit: P,
    /// How long it was open.
    pub lasted: Duration,
    /// Bytes from the player.
    pub up: u64,
    /// Bytes to the player.
    pub down: u64,
}

/// A flow as one process hands it to its successor; fields are read by other versions of this program.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct FlowSnapshot {
    /// Its id.
    #[n(0)]
    pub flow: FlowId,
    /// Its player.
    #[n(1)]
    pub player: SocketAddr,
    /// How long it has been open, in milliseconds.
    #[n(2)]
    pub age_ms: u64,
    /// How long ago its last packet was, in milliseconds.
    #[n(3)]
    pub idle_ms: u64,
    /// Whether the origin has answered.
    #[n(4)]
    pub is_answered: bool,
    /// Bytes from the player.
    #[n(5)]
    pub up: u64,
    /// Bytes to the player.
    #[n(6)]
    pub down: u64,
    /// The number of the last packet from the player.
    #[n(7)]
    pub last_packet: Option<u16>,
}

impl<P> FlowTable<P> {
    /// The open flows as values, with what each holds, and the serial number of the next one.
    pub fn snapshot(&self, now: Time) -> (u32, Vec<(FlowSnapshot, &P)>) {
        let flows = self.flows.iter().map(|(id, flow)| {
            let snapshot = FlowSnapshot {
                flow: *id,
                player: flow.player,
                age_ms: now.since(flow.opened).as_millis() as u64,
                idle_ms: now.since(flow.last).as_millis() as u64,
                is_answered: flow.answered,
                up: flow.up,
                down: flow.down,
                last_packet: Some(flow.last_packet),
            };
            (snapshot, &flow.permit)
        });
        (self.next_serial, flows.collect())
    }

    /// Goes on with the numbers of the table that another process had.
    pub fn set_next_serial(&mut self, serial: u32) {
        self.next_serial = serial % FlowId::SERIALS;
    }

    /// Opens a flow again that another process had; it is announced until the agent confirms it. The permit comes back when the flow cannot be: its id is
    /// of another lane, or in use.
    pub fn restore(&mut self, now: Time, snapshot: &FlowSnapshot, permit: P) -> Result<(), P> {
        let id = snapshot.flow;
        if id.lane() != self.lane || self.flows.contains_key(&id) || self.by_player.contains_key(&snapshot.player) {
            return Err(permit);
        }
        let (opened, last) = (
            now - Duration::from_millis(snapshot.age_ms),
            now - Duration::from_millis(snapshot.idle_ms),
        );
        self.unanswered += usize::from(!snapshot.is_answered);
        let flow = Flow {
            player: snapshot.player,
            permit,
            opened,
            last,
            // Looked at soon, whatever is left of its time.
            check: now,
            confirmed: false,
            answered: snapshot.is_answered,
            // Where a predecessor does not say it, any number will do: the mirror takes a jump for another count, unless it is a short one back.
            last_packet: snapshot
                .last_packet
                .map_or(snapshot.age_ms as u16, |number| number.wrapping_add(LEAP)),
            joiner: Joiner::default(),
            up: snapshot.up,
            down: snapshot.down,
        };
        self.flows.insert(id, flow);
        self.by_player.insert(snapshot.player, id);
        self.checks.insert((now, id));
        Ok(())
    }

    /// An empty table that gives out the ids of `lane`.
    pub fn new(limits: Limits, lane: u8) -> Self {
        Self {
            limits,
            lane,
            next_serial: 0,
            by_player: HashMap::new(),
            flows: HashMap::new(),
            checks: BTreeSet::new(),
            reassembly: 0,
            abandoned: 0,
            unanswered: 0,
        }
    }

    /// A packet of `length` bytes from `player`: the flow it belongs to, if there is one.
    pub fn on_player_packet(&mut self, now: Time, player: SocketAddr, length: usize) -> Option<Known> {
        let id = *self.by_player.get(&player)?;
        let flow = self.flows.get_mut(&id)?;
        flow.last = now;
        flow.up += length as u64;
        flow.last_packet = flow.last_packet.wrapping_add(1);
        Some(Known {
            flow: id,
            confirmed: flow.confirmed,
            packet: flow.last_packet,
        })
    }

    /// What the flow of `player` holds.
    pub fn permit_of(&self, player: SocketAddr) -> Option<&P> {
        self.flows.get(self.by_player.get(&player)?).map(|flow| &flow.permit)
    }

    /// The player of a flow has come to another address; `false` when there is no such flow, or somebody else there.
    pub fn move_player(&mut self, from: SocketAddr, to: SocketAddr) -> bool {
        if self.by_player.contains_key(&to) {
            return false;
        }
        let Some(id) = self.by_player.remove(&from) else {
            return false;
        };
        self.by_player.insert(to, id);
        if let Some(flow) = self.flows.get_mut(&id) {
            flow.player = to;
        }
        true
    }

    /// Opens a flow for an admitted `player`; it holds `permit` until it ends.
    ///
    /// # Errors
    /// [`DropReason::TableFull`] when as many flows as allowed are open, or half as many that were never answered; the permit is dropped then, and so
    /// released.
    pub fn open(&mut self, now: Time, player: SocketAddr, permit: P) -> Result<FlowId, DropReason> {
        let most = self.limits.flows.min(FlowId::SERIALS as usize / 2);
        // Made-up addresses can fill half of the table, never all of it.
        if self.flows.len() >= most || self.unanswered >= most.div_ceil(2).max(1) {
            return Err(DropReason::TableFull);
        }
        let id = loop {
            let id = FlowId::new(self.lane, self.next_serial);
            self.next_serial = (self.next_serial + 1) % FlowId::SERIALS;
            if !self.flows.contains_key(&id) {
                break id;
            }
        };
        let check = now + self.limits.unanswered.min(self.limits.idle);
        self.unanswered += 1;
        let flow = Flow {
            player,
            permit,
            opened: now,
            last: now,
            check,
            confirmed: false,
            answered: false,
            last_packet: 0,
            joiner: Joiner::default(),
            up: 0,
            down: 0,
        };
        self.flows.insert(id, flow);
        self.by_player.insert(player, id);
        self.checks.insert((check, id));
        Ok(id)
    }

    /// The agent knows the flow: it is announced no more.
    pub fn on_confirm(&mut self, flow: FlowId) {
        if let Some(flow) = self.flows.get_mut(&flow) {
            flow.confirmed = true;
        }
    }

    /// The agent does not know the flow: it is announced again.
    pub fn on_unknown(&mut self, flow: FlowId) {
        if let Some(flow) = self.flows.get_mut(&flow) {
            flow.confirmed = false;
            // An agent that opens the flow anew numbers its packets anew: parts from before must not meet parts of theirs, nor be taken for copies.
            self.abandoned += flow.joiner.give_up(&mut self.reassembly);
        }
    }

    /// A whole packet of `length` bytes from the origin: the player to send it to, with what its flow holds.
    ///
    /// # Errors
    /// [`DropReason::UnknownFlow`] when the flow has ended.
    pub fn on_origin_packet(&mut self, now: Time, flow: FlowId, length: usize) -> Result<(SocketAddr, &P), DropReason> {
        let flow = self.flows.get_mut(&flow).ok_or(DropReason::UnknownFlow)?;
        // Only an agent that knows the flow can send on it.
        flow.confirmed = true;
        flow.last = now;
        if !std::mem::replace(&mut flow.answered, true) {
            self.unanswered -= 1;
        }
        flow.down += length as u64;
        Ok((flow.player, &flow.permit))
    }

    /// A part of a packet from the origin, or a whole one that has a number: the player, what its flow holds, and the packet once it is whole.
    ///
    /// # Errors
    /// [`DropReason::UnknownFlow`], [`DropReason::Duplicate`] for what has come before, [`DropReason::ReassemblyFull`], or [`DropReason::Violation`] for
    /// parts that do not fit together.
    pub fn on_origin_fragment(
        &mut self,
        now: Time,
        flow: FlowId,
        fragment: Fragment,
        payload: Bytes,
    ) -> Result<Option<(SocketAddr, &P, Bytes)>, DropReason> {
        let state = self.flows.get_mut(&flow).ok_or(DropReason::UnknownFlow)?;
        state.confirmed = true;
        state.last = now;
        if !std::mem::replace(&mut state.answered, true) {
            self.unanswered -= 1;
        }
        let joined = state.joiner.on_fragment(now, &mut self.reassembly, fragment, payload);
        self.abandoned += joined.abandoned;
        // Parts are given up long before an idle flow is looked at, or what a few players lost would take the memory of all.
        if let Some(due) = state.joiner.poll_timeout()
            && due < state.check
        {
            self.checks.remove(&(state.check, flow));
            state.check = due;
            self.checks.insert((due, flow));
        }
        let Some(packet) = joined.packet? else { return Ok(None) };
        state.down += packet.len() as u64;
        Ok(Some((state.player, &state.permit, packet)))
    }

    /// Ends a flow; `None` if it has ended before.
    pub fn close(&mut self, now: Time, id: FlowId) -> Option<Ended<P>> {
        let mut flow = self.flows.remove(&id)?;
        self.by_player.remove(&flow.player);
        self.checks.remove(&(flow.check, id));
        self.abandoned += flow.joiner.give_up(&mut self.reassembly);
        self.unanswered -= usize::from(!flow.answered);
        let Flow {
            player,
            permit,
            opened,
            up,
            down,
            ..
        } = flow;
        Some(Ended {
            flow: id,
            player,
            permit,
            lasted: now.since(opened),
            up,
            down,
        })
    }

    /// Ends the flow of `player`; `None` when there is none.
    pub fn close_player(&mut self, now: Time, player: SocketAddr) -> Option<Ended<P>> {
        let id = *self.by_player.get(&player)?;
        self.close(now, id)
    }

    /// When [`FlowTable::handle_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Option<Time> {
        self.checks.first().map(|&(check, _)| check)
    }

    /// Ends the flows that were idle for too long.
    pub fn handle_timeout(&mut self, now: Time) -> Vec<Ended<P>> {
        let mut ended = Vec::new();
        while let Some(&(check, id)) = self.checks.first()
            && check <= now
        {
            let Some(flow) = self.flows.get_mut(&id) else { break };
            self.abandoned += flow.joiner.handle_timeout(now, &mut self.reassembly);
            let expires = match flow.answered {
                true => flow.last + self.limits.idle,
                // From the first packet on: repeating it proves nothing.
                false => flow.opened + self.limits.unanswered.min(self.limits.idle),
            };
            if expires <= now {
                ended.extend(self.close(now, id));
            } else {
                self.checks.remove(&(check, id));
                flow.check = flow.joiner.poll_timeout().map_or(expires, |due| due.min(expires));
                self.checks.insert((flow.check, id));
            }
        }
        ended
    }

    /// Ends every flow.
    pub fn close_all(&mut self, now: Time) -> Vec<Ended<P>> {
        self.close_where(now, |_| true)
    }

    /// Ends the flows of those players for whom `is_closed`.
    pub fn close_where(&mut self, now: Time, is_closed: impl Fn(SocketAddr) -> bool) -> Vec<Ended<P>> {
        let closed = self.by_player.iter().filter(|(player, _)| is_closed(**player));
        let ids: Vec<FlowId> = closed.map(|(_, id)| *id).collect();
        ids.into_iter().filter_map(|id| self.close(now, id)).collect()
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
        assert_eq!(self.by_player.len(), self.flows.len(), "players and flows differ");
        assert_eq!(self.checks.len(), self.flows.len(), "checks and flows differ");
        for (id, flow) in &self.flows {
            assert_eq!(
                self.by_player.get(&flow.player),
                Some(id),
                "a player's entry leads elsewhere"
            );
            assert!(self.checks.contains(&(flow.check, *id)), "a flow has no check");
            assert!(flow.check <= flow.last + self.limits.idle, "a flow is checked too late");
            assert_eq!(id.lane(), self.lane, "a flow of another lane");
        }
        let unanswered = self.flows.values().filter(|flow| !flow.answered).count();
        assert_eq!(unanswered, self.unanswered, "unanswered flows are counted wrong");
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
