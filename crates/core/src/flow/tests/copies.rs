//! Packets that are sent twice.

use spawnpoint_proto::datagram::{Header, Kind};
use spawnpoint_proto::fragment::{split, split_numbered};

use super::*;

const FLOW: FlowId = FlowId(1);

/// A datagram's fragment, if it is one, and its payload.
fn open(mut datagram: Bytes) -> (Option<Fragment>, Bytes) {
    match Header::decode(&mut datagram).unwrap().kind {
        Kind::Packet { fragment, .. } => (fragment, datagram),
        other => panic!("{other:?} is no packet"),
    }
}

/// The relay's end of a flow.
struct Relay {
    table: FlowTable<()>,
    flow: FlowId,
}

impl Relay {
    fn new() -> Self {
        let mut table = FlowTable::new(LIMITS, 0);
        let flow = table.open(at(0), player(1), ()).unwrap();
        Self { table, flow }
    }

    fn take(&mut self, now: Time, datagram: Bytes) -> Result<Option<Bytes>, DropReason> {
        let taken = match open(datagram) {
            (None, payload) => {
                let known = self.table.on_origin_packet(now, self.flow, payload.len());
                known.map(|_| Some(payload))
            }
            (Some(fragment), payload) => {
                let whole = self.table.on_origin_fragment(now, self.flow, fragment, payload);
                whole.map(|whole| whole.map(|(_, _, packet)| packet))
            }
        };
        self.table.check_invariants();
        taken
    }
}

/// The agent's end of a flow.
fn agent() -> FlowMirror<&'static str> {
    let mut mirror = FlowMirror::new(LIMITS);
    mirror.open(at(0), FLOW, "socket").unwrap();
    mirror
}

fn give(mirror: &mut FlowMirror<&'static str>, now: Time, datagram: Bytes) -> Result<Option<Bytes>, DropReason> {
    let (fragment, payload) = open(datagram);
    let received = mirror.on_relay_packet(now, FLOW, None, fragment, payload)?;
    let packet = match received {
        Received::Packet(_, packet) => Some(packet),
        Received::Part => None,
        other => panic!("{other:?}"),
    };
    mirror.check_invariants();
    Ok(packet)
}

fn numbered(packet: &'static [u8], number: u16) -> Vec<Bytes> {
    split_numbered(FLOW, None, packet, number, 1_200).collect()
}

fn plain(packet: &'static [u8], number: u16) -> Vec<Bytes> {
    split(FLOW, None, packet, number, 1_200).collect()
}

static LARGE: [u8; 3_000] = [7; 3_000];

#[test]
fn the_second_of_two_copies_is_dropped_at_either_end() {
    let (mut relay, mut mirror) = (Relay::new(), agent());
    for number in [1, 2, 4, 3] {
        let datagram = numbered(b"hi", number).remove(0);
        let whole = Ok(Some(Bytes::from_static(b"hi")));
        assert_eq!(relay.take(at(0), datagram.clone()), whole);
        assert_eq!(relay.take(at(0), datagram.clone()), Err(DropReason::Duplicate));
        assert_eq!(give(&mut mirror, at(0), datagram.clone()), whole);
        assert_eq!(give(&mut mirror, at(0), datagram), Err(DropReason::Duplicate));
    }
    let ended = relay.table.close(at(1), relay.flow).unwrap();
    assert_eq!(ended.down, 8);
}

#[test]
fn a_copy_stands_in_for_a_packet_that_was_lost() {
    let mut relay = Relay::new();
    relay.take(at(0), numbered(b"after", 2).remove(0)).unwrap();
    let copy = relay.take(at(0), numbered(b"lost", 1).remove(0));
    assert_eq!(copy, Ok(Some(Bytes::from_static(b"lost"))));
}

#[test]
fn the_copies_of_a_cut_packets_parts_neither_deliver_it_again_nor_stay() {
    let (mut relay, mut mirror) = (Relay::new(), agent());
    let parts = numbered(&LARGE, 1);
    let (mut up, mut down) = (Vec::new(), Vec::new());
    for part in parts.iter().chain(&parts) {
        up.push(give(&mut mirror, at(0), part.clone()));
        down.push(relay.take(at(0), part.clone()));
    }
    assert_eq!(up, down);
    let duplicate = Err(DropReason::Duplicate);
    let whole = Ok(Some(Bytes::from_static(&LARGE)));
    assert_eq!(
        up,
        [
            Ok(None),
            Ok(None),
            whole,
            duplicate.clone(),
            duplicate.clone(),
            duplicate
        ]
    );
    mirror.handle_timeout(at(3));
    relay.table.handle_timeout(at(3));
    assert_eq!((mirror.take_abandoned(), relay.table.take_abandoned()), (0, 0));
}

#[test]
fn a_cut_packet_is_completed_by_copies_of_the_parts_that_were_lost() {
    let mut mirror = agent();
    let parts = numbered(&LARGE, 1);
    let arrivals = [&parts[0], &parts[2], &parts[0], &parts[1], &parts[2]];
    let taken = arrivals.map(|part| give(&mut mirror, at(0), part.clone()));
    let whole = Ok(Some(Bytes::from_static(&LARGE)));
    assert_eq!(taken, [Ok(None), Ok(None), Ok(None), whole, Err(DropReason::Duplicate)]);
    assert_eq!(mirror.take_abandoned(), 0);
}

#[test]
fn copies_may_begin_and_end_within_a_flow() {
    let mut mirror = agent();
    let mut deliver = |datagrams: Vec<Bytes>| {
        let taken = datagrams.into_iter().map(|datagram| give(&mut mirror, at(0), datagram));
        taken.filter(|taken| matches!(taken, Ok(Some(_)))).count()
    };
    assert_eq!(deliver(plain(b"1", 1)), 1);
    assert_eq!(deliver([numbered(b"2", 2), numbered(b"2", 2)].concat()), 1);
    // Nothing tells such a one from its copy, and none is sent.
    assert_eq!(deliver([plain(b"3", 3), plain(b"4", 4)].concat()), 2);
    assert_eq!(deliver(plain(&LARGE, 5)), 1);
    assert_eq!(
        deliver([numbered(b"6", 6), numbered(b"2", 2), numbered(b"6", 6)].concat()),
        1
    );
}

#[test]
fn what_a_packet_was_called_in_one_flow_says_nothing_in_another() {
    let mut mirror = agent();
    mirror.open(at(0), FlowId(2), "other").unwrap();
    let (fragment, payload) = open(numbered(b"hi", 1).remove(0));
    for flow in [FLOW, FlowId(2)] {
        let received = mirror.on_relay_packet(at(0), flow, None, fragment, payload.clone());
        assert!(matches!(received, Ok(Received::Packet(..))));
    }
}

#[test]
fn each_flow_of_a_mirror_counts_its_own_packets() {
    let mut mirror = agent();
    mirror.open(at(0), FlowId(2), "busy").unwrap();
    let first = mirror.on_origin_packet(at(0), FLOW).unwrap();
    for _ in 0..40_000 {
        mirror.on_origin_packet(at(0), FlowId(2)).unwrap();
    }
    assert_eq!(mirror.on_origin_packet(at(0), FLOW), Some(first + 1));
}

#[test]
fn an_agent_that_opens_the_flow_anew_is_not_taken_for_an_echo() {
    let mut relay = Relay::new();
    relay.take(at(0), numbered(b"old", 1).remove(0)).unwrap();
    relay.table.on_unknown(relay.flow);
    assert!(relay.take(at(0), numbered(b"new", 1).remove(0)).is_ok());
}

#[test]
fn a_mirror_that_follows_another_numbers_its_packets_beyond_those_that_the_relay_knows() {
    let mut relay = Relay::new();
    let mut before = agent();
    for _ in 0..100 {
        let number = before.on_origin_packet(at(0), FLOW).unwrap();
        assert!(relay.take(at(0), numbered(b"hi", number).remove(0)).is_ok());
    }
    let handed: Vec<_> = before.iter().map(|(flow, number, _)| (flow, number)).collect();
    assert_eq!(handed, [(FLOW, 100)]);
    // What it still sends until it lets go.
    for _ in 0..50 {
        let number = before.on_origin_packet(at(0), FLOW).unwrap();
        assert!(relay.take(at(0), numbered(b"hi", number).remove(0)).is_ok());
    }
    let mut after = FlowMirror::new(LIMITS);
    after.restore(at(0), FLOW, 100, "socket").unwrap();
    let number = after.on_origin_packet(at(0), FLOW).unwrap();
    assert!(relay.take(at(0), numbered(b"hi", number).remove(0)).is_ok());
    assert!(relay.take(at(0), numbered(b"hi", number).remove(0)).is_err());
}

#[test]
fn a_flow_that_was_handed_over_is_heard_and_hears() {
    let (mut relay, mut mirror) = (Relay::new(), agent());
    let up = |relay: &mut Relay, mirror: &mut FlowMirror<&'static str>| {
        let number = relay.table.on_player_packet(at(20), player(1), 2).unwrap().packet;
        give(mirror, at(20), numbered(b"up", number).remove(0))
    };
    for number in 10..30 {
        up(&mut relay, &mut mirror).unwrap();
        relay.take(at(20), numbered(b"down", number).remove(0)).unwrap();
    }
    let (_, flows) = relay.table.snapshot(at(20));
    let snapshot = flows[0].0.clone();
    // What it still sends until it lets go.
    (0..50).for_each(|_| drop(up(&mut relay, &mut mirror).unwrap()));
    relay.table = FlowTable::new(LIMITS, 0);
    relay.table.restore(at(20), &snapshot, ()).unwrap();
    // What came before may come again once; what is new comes once.
    for number in [28, 29] {
        let datagram = numbered(b"down", number).remove(0);
        assert!(relay.take(at(20), datagram.clone()).is_ok());
        assert_eq!(relay.take(at(20), datagram), Err(DropReason::Duplicate));
    }
    (0..100).for_each(|_| drop(up(&mut relay, &mut mirror).unwrap()));
}
