#![allow(clippy::unwrap_used)]
use super::*;
use spawnpoint_proto::datagram::Announcement;
use spawnpoint_proto::{FlowId, TunnelId};
use std::net::SocketAddr;
use std::rc::Rc;

mod copies;

const LIMITS: Limits = Limits {
    idle: Duration::from_secs(30),
    unanswered: Duration::from_secs(30),
    flows: 6,
};

fn at(secs: u64) -> Time {
    Time::new(Duration::from_secs(secs))
}

fn player(number: u8) -> SocketAddr {
    SocketAddr::from(([203, 0, 113, number], 50_000))
}

#[test]
fn a_late_reply_does_not_reach_the_next_player() {
    let mut table = FlowTable::new(Limits { flows: 1, ..LIMITS }, 0);
    let alice = table.open(at(0), player(1), ()).unwrap();
    assert_eq!(table.handle_timeout(at(31)).len(), 1);
    let bob = table.open(at(32), player(2), ()).unwrap();
    assert_eq!(table.on_origin_packet(at(33), alice, 1), Err(DropReason::UnknownFlow));
    assert_eq!(table.on_origin_packet(at(33), bob, 1), Ok((player(2), &())));
}

#[test]
fn a_flow_is_announced_until_the_agent_confirms_it_and_again_when_it_forgot() {
    let mut table = FlowTable::new(LIMITS, 4);
    assert_eq!(table.on_player_packet(at(0), player(1), 10), None);
    let flow = table.open(at(0), player(1), ()).unwrap();
    assert_eq!(flow.lane(), 4);
    let confirmed = |table: &mut FlowTable<()>| table.on_player_packet(at(1), player(1), 10).unwrap().confirmed;
    assert!(!confirmed(&mut table));
    table.on_confirm(flow);
    assert!(confirmed(&mut table));
    table.on_unknown(flow);
    assert!(!confirmed(&mut table));
    table.on_origin_packet(at(1), flow, 1).unwrap();
    assert!(confirmed(&mut table));
}

#[test]
fn traffic_in_either_direction_keeps_a_flow() {
    let mut table = FlowTable::new(LIMITS, 0);
    let flow = table.open(at(0), player(1), ()).unwrap();
    table.on_origin_packet(at(0), flow, 0).unwrap();
    table.on_player_packet(at(20), player(1), 5);
    assert!(table.handle_timeout(at(30)).is_empty());
    table.on_origin_packet(at(45), flow, 7).unwrap();
    assert!(table.handle_timeout(at(74)).is_empty());
    assert_eq!(table.poll_timeout(), Some(at(75)));
    let ended = table.handle_timeout(at(75)).remove(0);
    assert_eq!(
        (ended.player, ended.up, ended.down, ended.lasted),
        (player(1), 5, 7, Duration::from_secs(75))
    );
    table.check_invariants();
}

#[test]
fn a_full_table_releases_the_permit_of_who_does_not_fit() {
    let mut table = FlowTable::new(LIMITS, 0);
    let permit = Rc::new(());
    for number in 0..3 {
        table.open(at(0), player(number), permit.clone()).unwrap();
    }
    assert_eq!(
        table.open(at(0), player(9), permit.clone()).unwrap_err(),
        DropReason::TableFull
    );
    assert_eq!(Rc::strong_count(&permit), 4);
    drop(table.close_all(at(1)));
    assert_eq!(Rc::strong_count(&permit), 1);
    table.check_invariants();
}

#[test]
fn incomplete_packets_of_all_flows_together_are_bounded() {
    let mut table = FlowTable::new(Limits { flows: 1000, ..LIMITS }, 0);
    let mut full = 0;
    for number in 0..1000u32 {
        let address = SocketAddr::from((number.to_be_bytes(), 1));
        let flow = table.open(at(0), address, ()).unwrap();
        let part = Fragment {
            packet: 1,
            index: 0,
            last: false,
        };
        let payload = Bytes::from(vec![0; 60_000]);
        full += u32::from(table.on_origin_fragment(at(0), flow, part, payload) == Err(DropReason::ReassemblyFull));
        table.check_invariants();
    }
    assert!(full > 800, "{full}");
    table.close_all(at(0));
    table.check_invariants();
}

#[test]
fn the_mirror_opens_what_is_announced_and_asks_for_what_is_not() {
    let mut mirror = FlowMirror::new(LIMITS);
    let flow = FlowId(7);
    let announcement = Announcement {
        tunnel: TunnelId(1),
        player: player(1),
    };
    let packet = Bytes::from_static(b"hi");
    assert_eq!(
        mirror.on_relay_packet(at(0), flow, None, None, packet.clone()),
        Ok(Received::Unknown)
    );
    let new = mirror.on_relay_packet(at(0), flow, Some(announcement), None, packet.clone());
    assert_eq!(new, Ok(Received::New(announcement, packet.clone())));
    mirror.open(at(0), flow, "socket").unwrap();
    assert_eq!(
        mirror.on_relay_packet(at(1), flow, None, None, packet.clone()),
        Ok(Received::Packet(&"socket", packet))
    );
    assert_eq!(mirror.on_origin_packet(at(2), flow), Some(1));
    assert_eq!(mirror.handle_timeout(at(31)), []);
    assert_eq!(mirror.handle_timeout(at(32)), [(flow, "socket")]);
    mirror.check_invariants();
}

#[test]
fn the_mirror_of_a_removed_tunnel_closes_only_its_flows() {
    let mut mirror = FlowMirror::new(LIMITS);
    mirror.open(at(0), FlowId(1), "old").unwrap();
    mirror.open(at(0), FlowId(2), "kept").unwrap();
    assert_eq!(mirror.close_if(|_, socket| *socket == "old"), [(FlowId(1), "old")]);
    assert_eq!(mirror.len(), 1);
    mirror.check_invariants();
}

#[test]
fn a_player_whom_nobody_answers_is_forgotten_early_however_often_it_asks() {
    let mut table = FlowTable::new(
        Limits {
            unanswered: Duration::from_secs(10),
            ..LIMITS
        },
        0,
    );
    let silent = table.open(at(0), player(1), ()).unwrap();
    let served = table.open(at(0), player(2), ()).unwrap();
    table.on_origin_packet(at(1), served, 1).unwrap();
    table.on_player_packet(at(9), player(1), 1);
    let ended: Vec<FlowId> = table.handle_timeout(at(10)).iter().map(|ended| ended.flow).collect();
    assert_eq!(ended, [silent]);
    assert!(table.handle_timeout(at(30)).is_empty());
    assert_eq!(table.handle_timeout(at(31)).len(), 1);
    table.check_invariants();
}

#[test]
fn made_up_addresses_leave_half_of_the_table_to_real_players() {
    let mut table = FlowTable::new(LIMITS, 0);
    for number in 0..3 {
        table.open(at(0), player(number), ()).unwrap();
    }
    assert_eq!(table.open(at(0), player(9), ()).unwrap_err(), DropReason::TableFull);
    let real = table.on_player_packet(at(0), player(0), 1).unwrap().flow;
    table.on_origin_packet(at(0), real, 1).unwrap();
    assert!(table.open(at(0), player(9), ()).is_ok());
    table.check_invariants();
}

fn part_of(packet: u16, index: u8) -> Fragment {
    Fragment {
        packet,
        index,
        last: false,
    }
}

#[test]
fn what_some_players_lost_does_not_take_the_memory_of_the_others() {
    let mut mirror = FlowMirror::new(Limits { flows: 100, ..LIMITS });
    for flow in 0..20 {
        mirror.open(at(0), FlowId(flow), ()).unwrap();
        for packet in 0..8 {
            let _ = mirror.on_relay_packet(
                at(0),
                FlowId(flow),
                None,
                Some(part_of(packet, 0)),
                Bytes::from(vec![0; 60_000]),
            );
        }
    }
    mirror.open(at(3), FlowId(99), ()).unwrap();
    mirror.handle_timeout(at(3));
    let part = mirror.on_relay_packet(
        at(3),
        FlowId(99),
        None,
        Some(part_of(1, 0)),
        Bytes::from(vec![0; 1_000]),
    );
    assert_eq!(part, Ok(Received::Part));
    mirror.check_invariants();
}

#[test]
fn parts_that_end_with_their_flow_are_counted() {
    let mut mirror = FlowMirror::new(LIMITS);
    mirror.open(at(0), FlowId(1), ()).unwrap();
    mirror
        .on_relay_packet(at(0), FlowId(1), None, Some(part_of(1, 0)), Bytes::from_static(b"x"))
        .unwrap();
    mirror.close(FlowId(1));
    assert_eq!(mirror.take_abandoned(), 1);
}

#[test]
fn a_restarted_agent_does_not_complete_a_packet_of_its_former_life() {
    let mut table = FlowTable::new(LIMITS, 0);
    let flow = table.open(at(0), player(1), ()).unwrap();
    table
        .on_origin_fragment(at(0), flow, part_of(1, 0), Bytes::from_static(b"old "))
        .unwrap();
    table.on_unknown(flow);
    let last = Fragment {
        packet: 1,
        index: 1,
        last: true,
    };
    assert_eq!(
        table.on_origin_fragment(at(1), flow, last, Bytes::from_static(b"new")),
        Ok(None)
    );
    assert_eq!(table.take_abandoned(), 1);
    table.check_invariants();
}

#[test]
fn a_flow_that_is_opened_again_does_not_repeat_its_numbers() {
    let mut mirror = FlowMirror::new(LIMITS);
    mirror.open(at(0), FlowId(1), ()).unwrap();
    let before = mirror.on_origin_packet(at(0), FlowId(1));
    mirror.close(FlowId(1));
    mirror.open(at(0), FlowId(1), ()).unwrap();
    assert_ne!(mirror.on_origin_packet(at(0), FlowId(1)), before);
}

#[test]
fn every_reason_has_a_word_of_its_own() {
    let words: std::collections::HashSet<&str> = DropReason::ALL.iter().map(|reason| reason.as_str()).collect();
    assert_eq!(words.len(), DropReason::ALL.len());
    let last = DropReason::ALL.iter().map(|reason| *reason as usize).max();
    assert_eq!(last, Some(DropReason::ALL.len() - 1));
}
