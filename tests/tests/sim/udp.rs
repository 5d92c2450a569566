//! The whole UDP path: players, relay, a bad line, agent, origin, and the way back.
//!
//! ```text
//! players, floods, spoofed addresses -> relay (gate, tables, queues) -> line -> agent (mirror) -> origin
//!                               players <- relay (tables) <- line <- agent (queues) <-----------'
//! ```
//! The ledger knows every packet that was sent. Each one that comes out is compared with it, each one that does not has a reason, and the reasons
//! agree with what the real types have counted. Half of the seeds have an orderly line that only loses, where the accounts must be exact.

mod agent;
mod ledger;
mod line;
mod queues;
mod relay;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::BytesMut;
use spawnpoint_core::outbox;
use spawnpoint_proto::datagram::{Header, MAX_PACKET};
use spawnpoint_proto::fragment::MAX_AGE;
use spawnpoint_proto::{FlowId, Time};

use super::seed::Dice;
use agent::Agent;
use ledger::{Fate, Ledger, PacketNumber, Way};
use line::{Line, Parcel, Weather};
use relay::Relay;

const STEPS: usize = 3_000;

/// A flow ends after this long without a packet.
const IDLE: Duration = Duration::from_secs(30);

/// Random steps, each of them checked; then everybody leaves, and the books are closed.
pub fn simulate(dice: &mut Dice) {
    let mut world = World::new(dice.clone());
    for _ in 0..STEPS {
        world.step();
        world.check();
    }
    world.finish();
}

struct World {
    dice: Dice,
    now: Time,
    players: Vec<SocketAddr>,
    relay: Relay,
    agent: Agent,
    to_agent: Line,
    to_relay: Line,
    ledger: Ledger,
    is_orderly: bool,
    /// Every packet is large, so that parts compete for queues and slots.
    is_heavy: bool,
    /// Datagrams that leave each queue in one step, at most.
    speed: u64,
}

impl World {
    fn new(mut dice: Dice) -> Self {
        let (is_orderly, is_heavy) = (dice.chance(500), dice.chance(150));
        let weather = if is_orderly { Weather::orderly } else { Weather::wild };
        let queues = if dice.chance(500) {
            outbox::Limits::default()
        } else {
            outbox::Limits {
                flow_bytes: 90_000,
                total_bytes: 200_000,
                max_age: Duration::from_millis(dice.within(5, 250)),
            }
        };
        let flows = if dice.chance(700) {
            65_536
        } else {
            dice.within(1, 30) as usize
        };
        Self {
            now: Time::ZERO,
            players: (0..16).map(|number| player(&mut dice, number)).collect(),
            relay: Relay::new(&mut dice, queues),
            agent: Agent::new(queues, flows),
            to_agent: Line::new(weather(&mut dice)),
            to_relay: Line::new(weather(&mut dice)),
            ledger: Ledger::new(&mut dice),
            is_orderly,
            is_heavy,
            speed: if is_heavy { 1_500 } else { dice.within(2, 100) },
            dice,
        }
    }

    fn step(&mut self) {
        match self.dice.below(1000) {
            0..=49 if self.is_heavy => self.everybody_sends(),
            0..=449 => self.a_player_sends(),
            450..=479 => self.a_player_floods(),
            480..=539 => self.a_spoofed_address_sends(),
            540..=549 => self.somebody_invents_a_flow(),
            550..=649 => self.the_origin_speaks_first(),
            650..=664 => self.the_path_changes(),
            665..=674 => self.the_origin_is_gone_for_a_player(),
            675..=677 => self.a_tunnel_closes(),
            678..=682 => self.the_agent_restarts(),
            683..=685 => self.a_forgotten_flow_is_announced_again(),
            686..=694 => self.players_pause(),
            _ => {}
        }
        self.leave_queues(self.speed);
        self.pass(Duration::from_millis(20));
    }

    fn check(&mut self) {
        self.relay.check();
        self.agent.check();
    }

    fn a_player_sends(&mut self) {
        let player = *self.dice.pick(&self.players);
        self.send(player);
    }

    fn everybody_sends(&mut self) {
        for at in 0..self.players.len() {
            self.send(self.players[at]);
        }
    }

    /// One player sends much more than the line takes.
    fn a_player_floods(&mut self) {
        let player = *self.dice.pick(&self.players);
        let at = self.dice.index(self.relay.tunnels());
        for _ in 0..self.dice.below(150) {
            self.send_to(at, player);
        }
    }

    /// Packets whose sender will never hear an answer.
    fn a_spoofed_address_sends(&mut self) {
        let ip = IpAddr::from((self.dice.number() as u32).to_be_bytes());
        let player = SocketAddr::new(ip, self.dice.number() as u16);
        for _ in 0..self.dice.within(1, 3) {
            self.send(player);
        }
    }

    fn send(&mut self, player: SocketAddr) {
        let at = self.dice.index(self.relay.tunnels());
        self.send_to(at, player);
    }

    fn send_to(&mut self, at: usize, player: SocketAddr) {
        let length = self.length();
        self.relay
            .on_player_packet(self.now, &mut self.ledger, at, player, length);
    }

    /// Datagrams of flows that no relay has opened yet; nobody may get them.
    fn somebody_invents_a_flow(&mut self) {
        let flow = FlowId::new(*self.dice.pick(&[4, 5, 7]), FlowId::SERIALS - 1);
        let mut datagram = BytesMut::new();
        Header::packet(flow).encode(&mut datagram);
        datagram.extend_from_slice(b"for nobody");
        let parcel = Parcel {
            datagram: datagram.freeze(),
            packet: None,
        };
        self.to_agent
            .send(&mut self.dice, self.now, &mut self.ledger, parcel.clone());
        self.to_relay.send(&mut self.dice, self.now, &mut self.ledger, parcel);
    }

    fn the_origin_speaks_first(&mut self) {
        let flows = self.agent.open_flows();
        if !flows.is_empty() {
            let flow = *self.dice.pick(&flows);
            self.answer(flow);
        }
    }

    fn answer(&mut self, flow: FlowId) {
        let length = self.length();
        self.agent.on_origin_packet(self.now, &mut self.ledger, flow, length);
    }

    /// The lengths of game packets: mostly small, sometimes as large as UDP allows.
    fn length(&mut self) -> usize {
        let (first, last) = match self.dice.below(1000) {
            _ if self.is_heavy => (30_000, MAX_PACKET),
            0..=19 => (0, 0),
            20..=699 => (1, 200),
            700..=919 => (200, 1_500),
            920..=984 => (1_500, 9_000),
            985..=998 => (9_000, 40_000),
            _ => (MAX_PACKET, MAX_PACKET),
        };
        self.dice.within(first as u64, last as u64) as usize
    }

    fn the_path_changes(&mut self) {
        let size = |dice: &mut Dice| *dice.pick(&[0, 300, 1_162, 1_200, 1_350, 1_452, 8_900]);
        self.relay.max_datagram = size(&mut self.dice);
        self.agent.max_datagram = size(&mut self.dice);
    }

    fn the_origin_is_gone_for_a_player(&mut self) {
        let flows = self.agent.open_flows();
        if !flows.is_empty() {
            let flow = *self.dice.pick(&flows);
            self.agent.give_up(self.now, &mut self.ledger, flow);
        }
    }

    fn a_tunnel_closes(&mut self) {
        let at = self.dice.index(self.relay.tunnels());
        let id = self.relay.close_tunnel(self.now, &mut self.ledger, at);
        self.agent.close_tunnel(&mut self.ledger, id);
    }

    /// The agent loses all flows, and the old connection what was on its way or queued for it.
    fn the_agent_restarts(&mut self) {
        while let Some(parcel) = self.relay.outbox.pop(self.now, &mut self.ledger) {
            self.ledger.note(parcel.packet, Fate::LostOnTheLine);
        }
        self.to_agent.lose_all(&mut self.ledger);
        self.to_relay.lose_all(&mut self.ledger);
        self.agent.restart(self.now, &mut self.ledger);
    }

    /// Nobody sends for a while, sometimes for longer than a flow lives.
    fn players_pause(&mut self) {
        self.settle();
        let longest = *self.dice.pick(&[2, 10, 50]);
        self.pass(Duration::from_secs(longest));
        self.settle();
        if let Some(due) = self.relay.next_timeout() {
            self.now = due;
            self.pass(Duration::ZERO);
            self.settle();
        }
        self.now = self.now + MAX_AGE;
        self.pass(Duration::ZERO);
        self.check();
        self.check_incomplete();
    }

    /// On a good line a restarted agent costs each player the packets of one round trip, and no more.
    fn a_forgotten_flow_is_announced_again(&mut self) {
        if !self.agent.is_roomy() {
            return;
        }
        let weather = (self.to_agent.weather, self.to_relay.weather);
        self.settle();
        (self.to_agent.weather, self.to_relay.weather) = (Weather::CALM, Weather::CALM);
        self.the_agent_restarts();
        for (at, player, flow) in self.relay.open_flows() {
            if !self.relay.is_open(at, flow) {
                continue;
            }
            self.speak(at, player);
            let second = self.speak(at, player);
            let third = self.speak(at, player);
            let reply = self.agent.on_origin_packet(self.now, &mut self.ledger, flow, 80);
            self.settle();
            // A flow that nobody had answered may have ended in these few round trips.
            if self.relay.is_open(at, flow) {
                self.ledger
                    .check_arrived(second, "a forgotten flow is not announced again");
                self.ledger.check_unannounced(third);
                self.ledger
                    .check_arrived(reply.unwrap(), "a flow that is announced again has no way back");
            }
        }
        (self.to_agent.weather, self.to_relay.weather) = weather;
    }

    fn speak(&mut self, at: usize, player: SocketAddr) -> PacketNumber {
        let packet = self.relay.on_player_packet(self.now, &mut self.ledger, at, player, 100);
        self.settle();
        packet
    }

    /// Sends up to `most` datagrams each way.
    fn leave_queues(&mut self, most: u64) {
        for _ in 0..self.dice.below(most + 1) {
            let Some(parcel) = self.relay.outbox.pop(self.now, &mut self.ledger) else {
                break;
            };
            self.to_agent.send(&mut self.dice, self.now, &mut self.ledger, parcel);
        }
        for _ in 0..self.dice.below(most + 1) {
            let Some(parcel) = self.agent.outbox.pop(self.now, &mut self.ledger) else {
                break;
            };
            self.to_relay.send(&mut self.dice, self.now, &mut self.ledger, parcel);
        }
    }

    /// Lets some time pass, and what is due happen.
    fn pass(&mut self, longest: Duration) {
        self.now = self.now + self.dice.duration(longest);
        self.arrive();
        self.relay.expire(self.now, &mut self.ledger);
        self.agent.expire(self.now, &mut self.ledger);
    }

    fn arrive(&mut self) {
        while let Some(parcel) = self.to_agent.arrival(self.now) {
            let served = self.agent.on_datagram(self.now, &mut self.ledger, parcel);
            if let Some(flow) = served
                && self.dice.chance(600)
            {
                self.answer(flow);
            }
        }
        while let Some(parcel) = self.to_relay.arrival(self.now) {
            self.relay.on_datagram(self.now, &mut self.ledger, parcel);
        }
    }

    /// Waits until nothing is queued and nothing is on its way.
    fn settle(&mut self) {
        loop {
            self.leave_queues(u64::MAX - 1);
            let last = self.to_agent.last_arrival().max(self.to_relay.last_arrival());
            match last {
                Some(last) => self.now = self.now.max(last),
                None => break,
            }
            self.pass(Duration::ZERO);
        }
    }

    /// Everybody leaves: no permit, socket or byte stays, and every packet is accounted for.
    fn finish(mut self) {
        self.settle();
        for _ in 0..3 {
            self.now = self.now + IDLE + IDLE;
            self.pass(Duration::ZERO);
            self.settle();
        }
        self.check();
        self.relay.check_nobody_is_left();
        assert!(self.agent.open_flows().is_empty(), "a socket outlived every player");
        self.ledger.check_nothing_vanished();
        self.check_incomplete();
    }

    /// Packets of which only parts came are given up after a while and counted, each once where nothing overtakes or comes twice.
    fn check_incomplete(&self) {
        for (way, counted) in [(Way::Up, self.agent.given_up), (Way::Down, self.relay.given_up)] {
            let begun = self.ledger.joining[way as usize].given_up();
            if self.is_orderly {
                assert_eq!(counted, begun, "incomplete packets, {way:?}");
            } else {
                assert!(counted >= begun, "{counted} incomplete packets of {begun}, {way:?}");
            }
        }
    }
}

/// Players of a few networks, some of them at the same address.
fn player(dice: &mut Dice, number: u16) -> SocketAddr {
    let network = dice.below(6) as u8;
    let ip = if network < 4 {
        IpAddr::from([203, 0, 113, network])
    } else {
        IpAddr::from([0x2001, 0xdb8, 0, network.into(), 0, 0, 0, dice.number() as u16])
    };
    SocketAddr::new(ip, 40_000 + number)
}
