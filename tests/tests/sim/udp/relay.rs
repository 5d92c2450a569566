//! The public side: the real gate, tables and queues, driven as `relay::udp` drives them, and a shadow of every flow.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use spawnpoint_core::admission::{self, Bounds, Circle, Gate, Permit};
use spawnpoint_core::flow::{DropReason, Ended, FlowTable, Limits};
use spawnpoint_core::outbox;
use spawnpoint_proto::datagram::{Announcement, Header, Kind};
use spawnpoint_proto::fragment::split;
use spawnpoint_proto::{FlowId, Time, TunnelId};

use super::IDLE;
use super::ledger::{Ends, Fate, Ledger, PacketNumber, Way};
use super::line::Parcel;
use super::queues::WatchedOutbox;
use crate::sim::seed::Dice;

/// The tunnels and the host of each; two of them share one.
const TUNNELS: [(TunnelId, usize); 3] = [(TunnelId(4), 0), (TunnelId(5), 0), (TunnelId(0x0107), 1)];

/// A flow that the origin never answers ends after this long.
const UNANSWERED: Duration = Duration::from_secs(10);

pub struct Relay {
    gate: Gate,
    hosts: Vec<Arc<Circle>>,
    tunnels: Vec<Tunnel>,
    pub outbox: WatchedOutbox,
    pub max_datagram: usize,
    pub given_up: u64,
}

struct Tunnel {
    id: TunnelId,
    host: usize,
    table: FlowTable<Permit>,
    flows: BTreeMap<FlowId, Seen>,
}

/// What the shadow knows of a flow.
struct Seen {
    player: SocketAddr,
    opened: Time,
    last: Time,
    answered: bool,
    up: u64,
    down: u64,
}

impl Seen {
    fn ends(&self) -> Time {
        if self.answered {
            self.last + IDLE
        } else {
            self.opened + UNANSWERED
        }
    }
}

impl Relay {
    pub fn new(dice: &mut Dice, queues: outbox::Limits) -> Self {
        let admitted = admission::Limits {
            relay: Bounds::of_players(dice.within(15, 60) as u32),
            prefix: Bounds {
                players: 6,
                half_open: 6,
                rate: 5,
                burst: 6,
            },
            prefixes: dice.within(8, 200) as usize,
            siege: 50,
        };
        let flows = dice.within(8, 30) as usize;
        let limits = Limits {
            idle: IDLE,
            unanswered: UNANSWERED,
            flows,
        };
        let tunnel = |(id, host): (TunnelId, usize)| Tunnel {
            id,
            host,
            table: FlowTable::new(limits, id.lane()),
            flows: BTreeMap::new(),
        };
        Self {
            gate: Gate::new(admitted),
            hosts: [40, 12]
                .map(|players| Arc::new(Circle::of_host(Bounds::of_players(players))))
                .into(),
            tunnels: TUNNELS.into_iter().map(tunnel).collect(),
            outbox: WatchedOutbox::new(queues),
            max_datagram: 1_200,
            given_up: 0,
        }
    }

    /// A player sends a packet; the ledger knows from here on what became of it.
    pub fn on_player_packet(
        &mut self,
        now: Time,
        ledger: &mut Ledger,
        at: usize,
        player: SocketAddr,
        length: usize,
    ) -> PacketNumber {
        let tunnel = &mut self.tunnels[at];
        let ends = Ends {
            way: Way::Up,
            tunnel: tunnel.id,
            player,
        };
        let (number, content) = ledger.on_sent(ends, length);
        let known = match tunnel.table.on_player_packet(now, player, length) {
            Some(known) => known,
            None => {
                let permit = self.gate.admit(now, player.ip(), &self.hosts[tunnel.host]);
                let opened = permit.map(|permit| tunnel.open(now, player, permit));
                let Ok(Ok(())) = opened else {
                    ledger.note(Some(number), Fate::Refused);
                    return number;
                };
                let known = tunnel.table.on_player_packet(now, player, length).unwrap();
                assert!(!known.confirmed, "a new flow is confirmed before anybody saw it");
                known
            }
        };
        tunnel.on_up(now, known.flow, player, length);
        ledger.on_flow(number, known.flow, !known.confirmed);
        let announced = (!known.confirmed).then_some(Announcement {
            tunnel: tunnel.id,
            player,
        });
        let datagrams: Vec<Bytes> = split(known.flow, announced, &content, known.packet, self.max_datagram).collect();
        self.outbox.push(now, known.flow, Some(number), datagrams);
        number
    }

    /// A datagram from the agent.
    pub fn on_datagram(&mut self, now: Time, ledger: &mut Ledger, parcel: Parcel) {
        let mut payload = parcel.datagram;
        let Header { flow, kind } = Header::decode(&mut payload).unwrap();
        let lane = |tunnel: &&mut Tunnel| tunnel.id.lane() == flow.lane();
        let tunnel = self.tunnels.iter_mut().find(lane).expect("a datagram of no tunnel");
        match kind {
            Kind::Packet { fragment: None, .. } => {
                let reply = tunnel.table.on_origin_packet(now, flow, payload.len());
                let reply = reply.map(|(player, _)| Some((player, payload)));
                self.settle(now, ledger, parcel.packet, flow, reply);
            }
            Kind::Packet {
                fragment: Some(fragment),
                ..
            } => {
                let whole = tunnel.table.on_origin_fragment(now, flow, fragment, payload);
                let whole = whole.map(|whole| whole.map(|(player, _, packet)| (player, packet)));
                self.settle(now, ledger, parcel.packet, flow, whole);
            }
            Kind::Confirm => tunnel.table.on_confirm(flow),
            Kind::Unknown => tunnel.on_unknown(flow, ledger),
            Kind::Close => {
                let ended = tunnel.table.close(now, flow);
                ended.into_iter().for_each(|ended| tunnel.on_ended(now, ledger, ended));
            }
        }
    }

    fn settle(
        &mut self,
        now: Time,
        ledger: &mut Ledger,
        packet: Option<PacketNumber>,
        flow: FlowId,
        reply: Result<Option<(SocketAddr, Bytes)>, DropReason>,
    ) {
        let lane = |tunnel: &&mut Tunnel| tunnel.id.lane() == flow.lane();
        let tunnel = self.tunnels.iter_mut().find(lane).unwrap();
        match reply {
            Ok(whole) => {
                let seen = tunnel
                    .flows
                    .get_mut(&flow)
                    .expect("a flow that has ended took a packet");
                (seen.last, seen.answered) = (now, true);
                let Some((player, bytes)) = whole else {
                    return ledger.on_part(now, packet, flow);
                };
                seen.down += bytes.len() as u64;
                let ends = Ends {
                    way: Way::Down,
                    tunnel: tunnel.id,
                    player,
                };
                ledger.on_arrived(packet, flow, ends, &bytes);
            }
            Err(DropReason::UnknownFlow) => {
                assert!(!tunnel.flows.contains_key(&flow), "an open flow is not known");
                ledger.note(packet, Fate::UnknownFlow);
                self.tell(now, flow, Kind::Close);
            }
            Err(reason @ (DropReason::ReassemblyFull | DropReason::Duplicate)) => {
                let seen = tunnel.flows.get_mut(&flow).unwrap();
                (seen.last, seen.answered) = (now, true);
                let is_full = reason == DropReason::ReassemblyFull;
                ledger.note(packet, if is_full { Fate::ReassemblyFull } else { Fate::Duplicate });
            }
            Err(reason) => panic!("an honest agent is accused of {reason}"),
        }
    }

    /// Ends what has been idle for too long, and nothing else.
    pub fn expire(&mut self, now: Time, ledger: &mut Ledger) {
        let mut told = Vec::new();
        for tunnel in &mut self.tunnels {
            if tunnel.table.poll_timeout().is_some_and(|due| due <= now) {
                for ended in tunnel.table.handle_timeout(now) {
                    let due = tunnel.flows[&ended.flow].ends();
                    assert!(due <= now, "a flow ended at {now:?} instead of {due:?}");
                    told.push(ended.flow);
                    tunnel.on_ended(now, ledger, ended);
                }
            }
            let due = tunnel.table.poll_timeout();
            assert!(due.is_none_or(|due| due > now), "what was due is due again");
            let is_live = |seen: &Seen| seen.ends() > now;
            assert!(tunnel.flows.values().all(is_live), "a flow outlived its player");
        }
        told.into_iter().for_each(|flow| self.tell(now, flow, Kind::Close));
    }

    /// When the next flow or part is due.
    pub fn next_timeout(&self) -> Option<Time> {
        let due = |tunnel: &Tunnel| tunnel.table.poll_timeout();
        self.tunnels.iter().filter_map(due).min()
    }

    /// The tunnel closes, and all its flows at once.
    pub fn close_tunnel(&mut self, now: Time, ledger: &mut Ledger, at: usize) -> TunnelId {
        let tunnel = &mut self.tunnels[at];
        for ended in tunnel.table.close_all(now) {
            tunnel.on_ended(now, ledger, ended);
        }
        assert!(tunnel.flows.is_empty() && tunnel.table.is_empty());
        tunnel.id
    }

    /// Every open flow: tunnel, player, id.
    pub fn open_flows(&self) -> Vec<(usize, SocketAddr, FlowId)> {
        let flows = |(at, tunnel): (usize, &Tunnel)| {
            let seen = tunnel.flows.iter();
            seen.map(move |(flow, seen)| (at, seen.player, *flow))
                .collect::<Vec<_>>()
        };
        self.tunnels.iter().enumerate().flat_map(flows).collect()
    }

    pub fn is_open(&self, at: usize, flow: FlowId) -> bool {
        self.tunnels[at].flows.contains_key(&flow)
    }

    pub const fn tunnels(&self) -> usize {
        TUNNELS.len()
    }

    fn tell(&mut self, now: Time, flow: FlowId, kind: Kind) {
        self.outbox.push(now, flow, None, vec![word(flow, kind)]);
    }

    pub fn check(&mut self) {
        let mut places = [0; 2];
        for tunnel in &mut self.tunnels {
            tunnel.table.check_invariants();
            assert_eq!(tunnel.table.len(), tunnel.flows.len(), "flows differ");
            self.given_up += tunnel.table.take_abandoned();
            places[tunnel.host] += tunnel.table.len();
        }
        assert_eq!(
            self.gate.active() as usize,
            places.iter().sum::<usize>(),
            "a permit without a flow"
        );
        for (places, host) in places.into_iter().zip(&self.hosts) {
            assert_eq!(host.active() as usize, places, "a place without a flow");
        }
    }

    pub fn check_nobody_is_left(&self) {
        assert_eq!(self.gate.active(), 0, "a permit outlived every flow");
    }
}

impl Tunnel {
    fn open(&mut self, now: Time, player: SocketAddr, permit: Permit) -> Result<(), DropReason> {
        let flow = self.table.open(now, player, permit)?;
        let seen = Seen {
            player,
            opened: now,
            last: now,
            answered: false,
            up: 0,
            down: 0,
        };
        let before = self.flows.insert(flow, seen);
        assert!(before.is_none(), "the id of an open flow was given out again");
        Ok(())
    }

    fn on_up(&mut self, now: Time, flow: FlowId, player: SocketAddr, length: usize) {
        let seen = self.flows.get_mut(&flow).expect("a packet in a flow that has ended");
        assert_eq!(seen.player, player, "a packet in the flow of another player");
        seen.last = now;
        seen.up += length as u64;
    }

    fn on_unknown(&mut self, flow: FlowId, ledger: &mut Ledger) {
        self.table.on_unknown(flow);
        // The agent numbers its packets afresh, so parts from before cannot be joined with what comes now.
        ledger.joining[Way::Down as usize].on_flow_ended(flow);
    }

    fn on_ended(&mut self, now: Time, ledger: &mut Ledger, ended: Ended<Permit>) {
        let seen = self.flows.remove(&ended.flow).expect("a flow ended twice");
        assert_eq!(
            (ended.player, ended.up, ended.down, ended.lasted),
            (seen.player, seen.up, seen.down, now.since(seen.opened)),
            "the account of {}",
            ended.flow
        );
        ledger.joining[Way::Down as usize].on_flow_ended(ended.flow);
    }
}

/// A datagram that is only a header.
pub fn word(flow: FlowId, kind: Kind) -> Bytes {
    let mut datagram = BytesMut::with_capacity(8);
    Header { flow, kind }.encode(&mut datagram);
    datagram.freeze()
}
