//! The side next to the game server: the real mirror and queues, driven as `agent::udp` drives them, with a made-up origin behind.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use spawnpoint_core::flow::{DropReason, FlowMirror, Limits, Received};
use spawnpoint_core::outbox;
use spawnpoint_proto::datagram::{Header, Kind};
use spawnpoint_proto::fragment::split;
use spawnpoint_proto::{FlowId, Time, TunnelId};

use super::IDLE;
use super::ledger::{Ends, Fate, Ledger, PacketNumber, Way};
use super::line::Parcel;
use super::queues::WatchedOutbox;
use super::relay::word;

/// A flow lives this much longer here than at the relay.
const KEPT: Duration = IDLE.saturating_add(Duration::from_secs(10));

pub struct Agent {
    mirror: FlowMirror<Socket>,
    limits: Limits,
    /// When each flow had its last packet.
    flows: BTreeMap<FlowId, Seen>,
    /// Held by every open socket, so that one that is not closed shows.
    sockets: Rc<()>,
    pub outbox: WatchedOutbox,
    pub max_datagram: usize,
    pub given_up: u64,
}

#[derive(Clone, Copy)]
struct Seen {
    tunnel: TunnelId,
    player: SocketAddr,
    last: Time,
}

/// One player as the origin sees it.
struct Socket {
    tunnel: TunnelId,
    player: SocketAddr,
    _open: Rc<()>,
}

impl Agent {
    pub fn new(queues: outbox::Limits, flows: usize) -> Self {
        let limits = Limits {
            idle: KEPT,
            unanswered: KEPT,
            flows,
        };
        Self {
            mirror: FlowMirror::new(limits),
            limits,
            flows: BTreeMap::new(),
            sockets: Rc::new(()),
            outbox: WatchedOutbox::new(queues),
            max_datagram: 1_200,
            given_up: 0,
        }
    }

    /// Forgets everything, as a process does that is started again.
    pub fn restart(&mut self, now: Time, ledger: &mut Ledger) {
        while let Some(parcel) = self.outbox.pop(now, ledger) {
            ledger.note(parcel.packet, Fate::LostOnTheLine);
        }
        let closed = self.mirror.close_if(|_, _| true);
        closed.into_iter().for_each(|(flow, _)| self.on_ended(ledger, flow));
        self.check();
        self.mirror = FlowMirror::new(self.limits);
    }

    /// A datagram from the relay; returns the flow whose packet the origin has got.
    pub fn on_datagram(&mut self, now: Time, ledger: &mut Ledger, parcel: Parcel) -> Option<FlowId> {
        let mut payload = parcel.datagram;
        let Header { flow, kind } = Header::decode(&mut payload).unwrap();
        let (announced, fragment) = match kind {
            Kind::Packet { announced, fragment } => (announced, fragment),
            Kind::Close => {
                self.close(ledger, flow);
                return None;
            }
            Kind::Confirm | Kind::Unknown => panic!("the relay sent an agent's datagram"),
        };
        let mut received = self.mirror.on_relay_packet(now, flow, announced, fragment, payload);
        if let Ok(Received::New(announcement, payload)) = received {
            let socket = Socket {
                tunnel: announcement.tunnel,
                player: announcement.player,
                _open: self.sockets.clone(),
            };
            if let Err(reason) = self.mirror.open(now, flow, socket) {
                assert_eq!((reason, self.mirror.len()), (DropReason::TableFull, self.limits.flows));
                ledger.note(parcel.packet, Fate::NoRoom);
                return None;
            }
            let seen = Seen {
                tunnel: announcement.tunnel,
                player: announcement.player,
                last: now,
            };
            assert!(self.flows.insert(flow, seen).is_none(), "an open flow was opened again");
            received = self.mirror.on_relay_packet(now, flow, announced, fragment, payload);
        }
        let received = match received {
            Ok(Received::Packet(socket, packet)) => Ok(Some((socket.tunnel, socket.player, packet))),
            Ok(Received::Part) => Ok(None),
            Ok(Received::New(..)) => panic!("a flow is new right after it was opened"),
            Ok(Received::Unknown) => {
                assert!(!self.flows.contains_key(&flow), "an open flow is not known");
                ledger.note(parcel.packet, Fate::UnknownFlow);
                self.tell(now, flow, Kind::Unknown);
                return None;
            }
            Err(reason) => Err(reason),
        };
        self.settle(now, ledger, parcel.packet, flow, announced.is_some(), received)
    }

    fn settle(
        &mut self,
        now: Time,
        ledger: &mut Ledger,
        packet: Option<PacketNumber>,
        flow: FlowId,
        was_announced: bool,
        received: Result<Option<(TunnelId, SocketAddr, Bytes)>, DropReason>,
    ) -> Option<FlowId> {
        self.flows
            .get_mut(&flow)
            .expect("a flow that has ended took a packet")
            .last = now;
        if was_announced && received.is_ok() {
            self.tell(now, flow, Kind::Confirm);
        }
        match received {
            Ok(Some((tunnel, player, bytes))) => {
                let ends = Ends {
                    way: Way::Up,
                    tunnel,
                    player,
                };
                ledger.on_arrived(packet, flow, ends, &bytes);
                return Some(flow);
            }
            Ok(None) => ledger.on_part(now, packet, flow),
            Err(DropReason::ReassemblyFull) => ledger.note(packet, Fate::ReassemblyFull),
            Err(DropReason::Duplicate) => ledger.note(packet, Fate::Duplicate),
            Err(reason) => panic!("an honest relay is accused of {reason}"),
        }
        None
    }

    /// The origin sends a packet to one of its players; nothing happens when the flow has ended.
    pub fn on_origin_packet(
        &mut self,
        now: Time,
        ledger: &mut Ledger,
        flow: FlowId,
        length: usize,
    ) -> Option<PacketNumber> {
        let number = self.mirror.on_origin_packet(now, flow);
        assert_eq!(number.is_some(), self.flows.contains_key(&flow), "flows differ");
        let seen = self.flows.get_mut(&flow)?;
        seen.last = now;
        let ends = Ends {
            way: Way::Down,
            tunnel: seen.tunnel,
            player: seen.player,
        };
        let (packet, content) = ledger.on_sent(ends, length);
        ledger.on_flow(packet, flow, false);
        let datagrams: Vec<Bytes> = split(flow, None, &content, number?, self.max_datagram).collect();
        self.outbox.push(now, flow, Some(packet), datagrams);
        Some(packet)
    }

    /// The origin is gone for one player.
    pub fn give_up(&mut self, now: Time, ledger: &mut Ledger, flow: FlowId) {
        self.tell(now, flow, Kind::Close);
        self.close(ledger, flow);
    }

    /// The tunnel closes, and its flows with it.
    pub fn close_tunnel(&mut self, ledger: &mut Ledger, tunnel: TunnelId) {
        let closed = self.mirror.close_if(|_, socket| socket.tunnel == tunnel);
        closed.into_iter().for_each(|(flow, _)| self.on_ended(ledger, flow));
        assert!(self.flows.values().all(|seen| seen.tunnel != tunnel));
    }

    fn close(&mut self, ledger: &mut Ledger, flow: FlowId) {
        let closed = self.mirror.close(flow);
        assert_eq!(closed.is_some(), self.flows.contains_key(&flow), "flows differ");
        if closed.is_some() {
            self.on_ended(ledger, flow);
        }
    }

    /// Ends what has been idle for too long, and nothing else.
    pub fn expire(&mut self, now: Time, ledger: &mut Ledger) {
        if self.mirror.poll_timeout().is_some_and(|due| due <= now) {
            for (flow, _) in self.mirror.handle_timeout(now) {
                let idle = now.since(self.flows[&flow].last);
                assert!(idle >= KEPT, "a flow ended after {idle:?} without a packet");
                self.on_ended(ledger, flow);
                self.tell(now, flow, Kind::Close);
            }
        }
        let due = self.mirror.poll_timeout();
        assert!(due.is_none_or(|due| due > now), "what was due is due again");
        let is_live = |seen: &Seen| now.since(seen.last) < KEPT;
        assert!(self.flows.values().all(is_live), "a flow outlived its player");
    }

    /// The flows that the origin can send on.
    pub fn open_flows(&self) -> Vec<FlowId> {
        self.flows.keys().copied().collect()
    }

    /// Whether every flow of a relay finds room here.
    pub const fn is_roomy(&self) -> bool {
        self.limits.flows > 1_000
    }

    fn on_ended(&mut self, ledger: &mut Ledger, flow: FlowId) {
        self.flows.remove(&flow).expect("a flow ended twice");
        ledger.joining[Way::Up as usize].on_flow_ended(flow);
    }

    fn tell(&mut self, now: Time, flow: FlowId, kind: Kind) {
        self.outbox.push(now, flow, None, vec![word(flow, kind)]);
    }

    pub fn check(&mut self) {
        self.mirror.check_invariants();
        self.given_up += self.mirror.take_abandoned();
        assert_eq!(self.mirror.len(), self.flows.len(), "flows differ");
        assert_eq!(
            Rc::strong_count(&self.sockets),
            self.flows.len() + 1,
            "a socket without a flow"
        );
    }
}
