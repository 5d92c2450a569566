//! What was sent, by whom, to whom, and what became of it: the shadow of the whole path.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use spawnpoint_proto::datagram::MAX_PACKET;
use spawnpoint_proto::fragment::MAX_AGE;
use spawnpoint_proto::{FlowId, Time, TunnelId};

use crate::sim::seed::Dice;

/// The number under which the ledger knows a packet.
pub type PacketNumber = usize;

/// From where to where.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// From a player to the origin.
    Up,
    /// From the origin to a player.
    Down,
}

/// What may happen to a packet, or to a part of it, on its way; all of these are counted somewhere.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Fate {
    /// The gate or the table said no.
    Refused,
    /// It never left its queue, or not all of it.
    LeftBehind,
    /// The line lost it, or a part of it.
    LostOnTheLine,
    /// Nobody had its flow any more, or yet.
    UnknownFlow,
    /// The mirror had no room for its flow.
    NoRoom,
    /// There was no memory to join its parts.
    ReassemblyFull,
    /// A part came that had come before, or came very late.
    Duplicate,
    /// Parts of it arrived.
    Begun,
}

/// Whose packet it is; what arrives must have come from the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ends {
    pub way: Way,
    pub tunnel: TunnelId,
    pub player: SocketAddr,
}

#[derive(Debug)]
struct Record {
    ends: Ends,
    flow: Option<FlowId>,
    was_announced: bool,
    length: usize,
    /// How often it may arrive: once, and once more for each datagram that the line repeated.
    copies: u32,
    arrived: u32,
    fates: BTreeSet<Fate>,
}

/// Every packet of a simulation.
#[derive(Debug)]
pub struct Ledger {
    /// What packets are cut from.
    noise: Vec<u8>,
    records: Vec<Record>,
    pub joining: [Joining; 2],
}

impl Ledger {
    pub fn new(dice: &mut Dice) -> Self {
        Self {
            noise: (0..MAX_PACKET + 4096).map(|_| dice.number() as u8).collect(),
            records: Vec::new(),
            joining: [Joining::default(), Joining::default()],
        }
    }

    /// Enters a packet and returns its number and content, which is like that of no other of some length.
    pub fn on_sent(&mut self, ends: Ends, length: usize) -> (PacketNumber, Vec<u8>) {
        self.records.push(Record {
            ends,
            flow: None,
            was_announced: false,
            length,
            copies: 1,
            arrived: 0,
            fates: BTreeSet::new(),
        });
        let number = self.records.len() - 1;
        (number, self.content(number))
    }

    fn content(&self, number: PacketNumber) -> Vec<u8> {
        let length = self.records[number].length;
        let start = number * 31 % 4096;
        let mut content = self.noise[start..start + length].to_vec();
        let stamp = (number as u64).to_be_bytes();
        let stamped = length.min(stamp.len());
        content[..stamped].copy_from_slice(&stamp[stamp.len() - stamped..]);
        content
    }

    /// The packet travels in `flow`.
    pub fn on_flow(&mut self, number: PacketNumber, flow: FlowId, was_announced: bool) {
        let record = &mut self.records[number];
        (record.flow, record.was_announced) = (Some(flow), was_announced);
    }

    /// Notes what happened to a packet.
    pub fn note(&mut self, packet: Option<PacketNumber>, fate: Fate) {
        if let Some(number) = packet {
            self.records[number].fates.insert(fate);
        }
    }

    /// The line repeats a datagram of a packet.
    pub fn allow_copy(&mut self, packet: Option<PacketNumber>) {
        if let Some(number) = packet {
            self.records[number].copies += 1;
        }
    }

    /// A part of a packet arrived, which is not whole yet.
    pub fn on_part(&mut self, now: Time, packet: Option<PacketNumber>, flow: FlowId) {
        let number = packet.expect("a part of a packet that nobody sent");
        self.note(packet, Fate::Begun);
        let way = self.records[number].ends.way;
        self.joining[way as usize].on_part(now, flow, number);
    }

    /// A packet left the tunnel at the other end.
    pub fn on_arrived(&mut self, packet: Option<PacketNumber>, flow: FlowId, ends: Ends, bytes: &[u8]) {
        let number = packet.expect("a packet arrived that nobody sent");
        let expected = self.content(number);
        let record = &mut self.records[number];
        assert_eq!(
            (record.ends, record.flow),
            (ends, Some(flow)),
            "packet {number} went astray"
        );
        assert!(bytes == expected, "packet {number} was changed on its way");
        record.arrived += 1;
        assert!(record.arrived <= record.copies, "packet {number} arrived too often");
        self.joining[ends.way as usize].on_whole(flow, number);
    }

    pub fn check_arrived(&self, number: PacketNumber, otherwise: &str) {
        let record = &self.records[number];
        assert!(record.arrived > 0, "{otherwise}: {record:?}");
    }

    pub fn check_unannounced(&self, number: PacketNumber) {
        let record = &self.records[number];
        assert!(!record.was_announced, "a confirmed flow is still announced: {record:?}");
    }

    /// Every packet has arrived, or it is known why not.
    pub fn check_nothing_vanished(&self) {
        for (number, record) in self.records.iter().enumerate() {
            assert!(
                record.arrived > 0 || !record.fates.is_empty(),
                "packet {number} vanished without a reason: {record:?}"
            );
        }
    }
}

/// The packets of one way that are being joined, and how often one was begun and finished.
#[derive(Debug, Default)]
pub struct Joining {
    open: BTreeMap<FlowId, BTreeMap<PacketNumber, Time>>,
    begun: u64,
    finished: u64,
}

impl Joining {
    fn on_part(&mut self, now: Time, flow: FlowId, number: PacketNumber) {
        let packets = self.open.entry(flow).or_default();
        let is_young = |started: &Time| now.since(*started) < MAX_AGE;
        if !packets.get(&number).is_some_and(is_young) {
            packets.insert(number, now);
            self.begun += 1;
        }
    }

    fn on_whole(&mut self, flow: FlowId, number: PacketNumber) {
        let packets = self.open.get_mut(&flow);
        if packets.and_then(|packets| packets.remove(&number)).is_some() {
            self.finished += 1;
        }
    }

    /// A flow ended, and the parts that waited in it.
    pub fn on_flow_ended(&mut self, flow: FlowId) {
        self.open.remove(&flow);
    }

    /// How many packets were begun and never finished; another count must agree.
    pub const fn given_up(&self) -> u64 {
        self.begun - self.finished
    }
}
