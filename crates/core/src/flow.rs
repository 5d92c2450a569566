//! UDP flows: who talks to whom, for how long.
//!
//! A flow is one player address talking to one origin. UDP has no connection, so the relay's [`FlowTable`] invents one: it opens a flow for an admitted
//! player, announces it until the agent has confirmed it, and forgets it after `idle` without a packet. The agent's [`FlowMirror`] follows: it opens
//! what the relay announces and asks again for what it does not know. Flow ids count up, so a late packet of an ended flow finds nobody.
//!
//! A packet may have a number: one that is cut, and one that is sent a second time because its tunnel asks for it. What has been delivered under a
//! number is not delivered again; a packet without one is delivered as it comes.
//!
//! Nothing here reads a clock or a socket: callers pass `now` and act on what is returned. `relay::udp` and `agent::udp` are the shells around it.

mod mirror;
mod table;
mod window;

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use spawnpoint_proto::Time;
use spawnpoint_proto::datagram::Fragment;
use spawnpoint_proto::fragment::{Joined, Reassembler};

pub use mirror::{FlowMirror, Received};
pub use table::{Ended, FlowSnapshot, FlowTable, Known};

use window::Window;

/// Incomplete packets of one table, in bytes; beyond this further fragments are dropped.
pub const MAX_REASSEMBLY: usize = 8 * 1024 * 1024;

/// Numbers that a successor leaves to its predecessor, which goes on sending between saying where it is and letting go. To the peer it is a leap ahead,
/// half as far as one can be told from a step back.
const LEAP: u16 = 0x4000;

/// What a table holds at most.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// A flow ends after this long without a packet in either direction.
    pub idle: Duration,
    /// A flow that the origin has never answered ends after this long: its player's address may be made up.
    pub unanswered: Duration,
    /// Flows at once.
    pub flows: usize,
}

/// Why a datagram went no further.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum DropReason {
    /// The table is full.
    TableFull,
    /// Admission said no.
    Denied,
    /// Nobody has this flow (any more).
    UnknownFlow,
    /// The link is away.
    NoAgent,
    /// Its player, tunnel or host is too fast.
    OverRate,
    /// Its flow's queue was full.
    QueueFull,
    /// It had waited too long.
    TooOld,
    /// The path took less than when it was cut.
    PathShrank,
    /// The local socket could not take it.
    SocketFull,
    /// Fragments of it were lost.
    Incomplete,
    /// It was sent twice and has come before, or it is so late that nobody knows. Expected where a tunnel asks for it, and so not told as a loss.
    Duplicate,
    /// Too many incomplete packets.
    ReassemblyFull,
    /// The peer broke the protocol.
    Violation,
    /// The origin's machine said that nobody listens there.
    OriginRefused,
    /// The tunnel is not known here.
    UnknownTunnel,
}

impl DropReason {
    /// Every reason.
    pub const ALL: [Self; 15] = [
        Self::TableFull,
        Self::Denied,
        Self::UnknownFlow,
        Self::NoAgent,
        Self::OverRate,
        Self::QueueFull,
        Self::TooOld,
        Self::PathShrank,
        Self::SocketFull,
        Self::Incomplete,
        Self::Duplicate,
        Self::ReassemblyFull,
        Self::Violation,
        Self::OriginRefused,
        Self::UnknownTunnel,
    ];

    /// The word used in logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TableFull => "table_full",
            Self::Denied => "denied",
            Self::UnknownFlow => "unknown_flow",
            Self::NoAgent => "no_agent",
            Self::OverRate => "over_rate",
            Self::QueueFull => "queue_full",
            Self::TooOld => "too_old",
            Self::PathShrank => "path_shrank",
            Self::SocketFull => "socket_full",
            Self::Incomplete => "incomplete",
            Self::Duplicate => "duplicate",
            Self::ReassemblyFull => "reassembly_full",
            Self::Violation => "violation",
            Self::OriginRefused => "origin_refused",
            Self::UnknownTunnel => "unknown_tunnel",
        }
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The numbered packets of one direction of one flow: what is incomplete, within the memory of all flows of a table, and what has been delivered.
#[derive(Debug, Default)]
struct Joiner {
    parts: Option<Box<Reassembler>>,
    delivered: Window,
}

/// What became of a fragment, and how many packets were given up meanwhile.
struct JoinedFragment {
    packet: Result<Option<Bytes>, DropReason>,
    abandoned: u64,
}

impl Joiner {
    /// Takes a fragment; `held` is the sum of incomplete bytes over the table.
    fn on_fragment(&mut self, now: Time, held: &mut usize, fragment: Fragment, payload: Bytes) -> JoinedFragment {
        let is_all = fragment.index == 0 && fragment.last;
        let joined = if !self.delivered.is_new(now, fragment.packet) {
            JoinedFragment {
                packet: Err(DropReason::Duplicate),
                abandoned: 0,
            }
        } else if is_all {
            JoinedFragment {
                packet: Ok(Some(payload)),
                abandoned: 0,
            }
        } else {
            self.join(now, held, fragment, payload)
        };
        if let Ok(Some(_)) = joined.packet {
            self.delivered.insert(now, fragment.packet);
        }
        joined
    }

    fn join(&mut self, now: Time, held: &mut usize, fragment: Fragment, payload: Bytes) -> JoinedFragment {
        let joiner = self.parts.get_or_insert_default();
        let before = joiner.buffered();
        let packet = if *held + payload.len() > MAX_REASSEMBLY {
            joiner.handle_timeout(now);
            Err(DropReason::ReassemblyFull)
        } else {
            match joiner.on_fragment(now, fragment, payload) {
                Ok(Joined::Packet(packet)) => Ok(Some(packet)),
                Ok(Joined::Waiting | Joined::Duplicate) => Ok(None),
                Err(_) => Err(DropReason::Violation),
            }
        };
        *held = *held + joiner.buffered() - before;
        let abandoned = joiner.take_abandoned();
        if joiner.incomplete() == 0 {
            self.parts = None;
        }
        JoinedFragment { packet, abandoned }
    }

    /// When [`Joiner::handle_timeout`] has something to do.
    fn poll_timeout(&self) -> Option<Time> {
        self.parts.as_ref().and_then(|joiner| joiner.poll_timeout())
    }

    /// Gives up everything, since the peer numbers its packets anew; returns how many were incomplete.
    fn give_up(&mut self, held: &mut usize) -> u64 {
        self.delivered = Window::default();
        let Some(joiner) = self.parts.take() else { return 0 };
        *held -= joiner.buffered();
        joiner.incomplete() as u64
    }

    /// Bytes of incomplete packets.
    fn buffered(&self) -> usize {
        self.parts.as_ref().map_or(0, |joiner| joiner.buffered())
    }

    /// Gives up old packets; returns how many.
    fn handle_timeout(&mut self, now: Time, held: &mut usize) -> u64 {
        let Some(joiner) = &mut self.parts else { return 0 };
        let before = joiner.buffered();
        joiner.handle_timeout(now);
        *held = *held + joiner.buffered() - before;
        let abandoned = joiner.take_abandoned();
        if joiner.incomplete() == 0 {
            self.parts = None;
        }
        abandoned
    }
}

#[cfg(test)]
mod tests;
