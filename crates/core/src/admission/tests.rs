#![allow(clippy::unwrap_used)]
use super::*;

const ADDRESS: Bounds = Bounds {
    players: 10,
    half_open: 10,
    rate: 2,
    burst: 4,
};

const LIMITS: Limits = Limits {
    relay: Bounds::of_players(100),
    prefix: ADDRESS,
    prefixes: 50,
    siege: 1_000_000,
};

const fn full(whose: Whose, full: Full) -> DenyReason {
    DenyReason::Full(whose, full)
}

const TOO_FAST: DenyReason = full(Whose::Address, Full::Rate);

fn at(millis: u64) -> Time {
    Time::new(Duration::from_millis(millis))
}

fn host() -> Arc<Circle> {
    host_of(1000)
}

fn host_of(players: u32) -> Arc<Circle> {
    Arc::new(Circle::of_host(Bounds::of_players(players)))
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn a_burst_enters_and_then_the_rate_counts() {
    let (gate, host) = (Gate::new(LIMITS), host());
    let from = ip("203.0.113.1");
    let permits: Vec<_> = (0..4).map(|_| gate.admit(at(0), from, &host).unwrap()).collect();
    assert_eq!(gate.admit(at(0), from, &host).unwrap_err(), TOO_FAST);
    assert_eq!(gate.admit(at(499), from, &host).unwrap_err(), TOO_FAST);
    assert!(gate.admit(at(500), from, &host).is_ok());
    drop(permits);
}

#[test]
fn one_address_does_not_use_up_another_ones_rate() {
    let (gate, host) = (Gate::new(LIMITS), host());
    while gate.admit(at(0), ip("203.0.113.1"), &host).is_ok() {}
    assert!(gate.admit(at(0), ip("203.0.113.2"), &host).is_ok());
}

#[test]
fn all_addresses_of_one_ipv6_network_count_together() {
    let (gate, host) = (Gate::new(LIMITS), host());
    for last in 0..4 {
        gate.admit(at(0), ip(&format!("2001:db8::{last}")), &host).unwrap();
    }
    assert_eq!(gate.admit(at(0), ip("2001:db8::ffff"), &host).unwrap_err(), TOO_FAST);
    assert!(gate.admit(at(0), ip("2001:db8:0:1::1"), &host).is_ok());
}

#[test]
fn an_ipv4_address_in_ipv6_clothes_is_the_same_player() {
    let (gate, host) = (Gate::new(LIMITS), host());
    while gate.admit(at(0), ip("203.0.113.1"), &host).is_ok() {}
    assert_eq!(
        gate.admit(at(0), ip("::ffff:203.0.113.1"), &host).unwrap_err(),
        TOO_FAST
    );
}

#[test]
fn a_dropped_permit_gives_every_place_back() {
    let (gate, host) = (
        Gate::new(Limits {
            prefix: Bounds { players: 1, ..ADDRESS },
            ..LIMITS
        }),
        host_of(1),
    );
    let permit = gate.admit(at(0), ip("203.0.113.1"), &host).unwrap();
    assert_eq!((gate.active(), host.active()), (1, 1));
    assert_eq!(
        gate.admit(at(0), ip("203.0.113.1"), &host).unwrap_err(),
        full(Whose::Address, Full::Players)
    );
    assert_eq!(
        gate.admit(at(0), ip("203.0.113.2"), &host).unwrap_err(),
        full(Whose::Host, Full::Players)
    );
    drop(permit);
    assert_eq!((gate.active(), host.active()), (0, 0));
    assert!(gate.admit(at(0), ip("203.0.113.2"), &host).is_ok());
}

#[test]
fn a_full_host_does_not_fill_the_relay() {
    let (gate, crowded, other) = (Gate::new(LIMITS), host_of(0), host());
    assert_eq!(
        gate.admit(at(0), ip("203.0.113.1"), &crowded).unwrap_err(),
        full(Whose::Host, Full::Players)
    );
    assert_eq!(gate.active(), 0);
    assert!(gate.admit(at(0), ip("203.0.113.1"), &other).is_ok());
}

#[test]
fn a_flood_at_a_full_host_takes_no_room_from_the_players_of_others() {
    let (gate, crowded) = (Gate::new(LIMITS), host_of(0));
    for number in 0..10_000u32 {
        gate.admit(at(0), IpAddr::from(number.to_be_bytes()), &crowded)
            .unwrap_err();
    }
    assert_eq!(gate.prefixes(), 0);
}

#[test]
fn a_flood_of_prefixes_neither_grows_the_table_nor_washes_it_away() {
    let (gate, host) = (Gate::new(LIMITS), host());
    let culprit = ip("198.51.100.1");
    while gate.admit(at(0), culprit, &host).is_ok() {}
    for number in 0..10_000u32 {
        let _ = gate.admit(at(1), IpAddr::from((number + (10 << 24)).to_be_bytes()), &host);
    }
    assert!(gate.prefixes() <= LIMITS.prefixes + 1, "{}", gate.prefixes());
    assert_eq!(gate.admit(at(1), culprit, &host).unwrap_err(), TOO_FAST);
}

#[test]
fn prefixes_that_no_longer_matter_make_room() {
    let (gate, host) = (Gate::new(LIMITS), host());
    for number in 0..50u32 {
        gate.admit(at(0), IpAddr::from((number << 8).to_be_bytes()), &host)
            .unwrap();
    }
    assert!(gate.prefixes() + 1 >= LIMITS.prefixes);
    gate.admit(at(60_000), ip("203.0.113.1"), &host).unwrap();
    assert_eq!(gate.prefixes(), 1);
}

#[test]
fn under_a_ceiling_newcomers_wait_for_others_to_leave() {
    let (gate, host) = (Gate::new(LIMITS), host());
    let enter = |last: u8| gate.admit(at(0), IpAddr::from([203, 0, 113, last]), &host);
    let mut inside = vec![enter(1).unwrap(), enter(2).unwrap()];
    gate.set_ceiling(Some(1));
    assert_eq!((enter(3).unwrap_err(), gate.active()), (DenyReason::Memory, 2));
    inside.clear();
    inside.push(enter(3).unwrap());
    assert_eq!(enter(4).unwrap_err(), DenyReason::Memory);
    gate.set_ceiling(None);
    assert!(enter(4).is_ok());
}

#[test]
fn a_draining_gate_lets_nobody_in() {
    let (gate, host) = (Gate::new(LIMITS), host());
    gate.drain();
    assert_eq!(
        gate.admit(at(0), ip("203.0.113.1"), &host).unwrap_err(),
        DenyReason::Draining
    );
}

#[test]
fn whoever_is_not_answered_counts_as_half_open_until_a_server_answers() {
    let (gate, host) = (
        Gate::new(Limits {
            prefix: Bounds {
                half_open: 2,
                burst: 100,
                ..ADDRESS
            },
            ..LIMITS
        }),
        host(),
    );
    let from = ip("203.0.113.1");
    let first = gate.admit(at(0), from, &host).unwrap();
    let second = gate.admit(at(0), from, &host).unwrap();
    let refused = full(Whose::Address, Full::HalfOpen);
    assert_eq!(gate.admit(at(0), from, &host).unwrap_err(), refused);
    first.settle();
    first.settle();
    assert_eq!((gate.half_open(), gate.active()), (1, 2));
    let third = gate.admit(at(0), from, &host).unwrap();
    drop((first, second, third));
    assert_eq!((gate.half_open(), gate.active(), host.half_open()), (0, 0, 0));
}

#[test]
fn each_circle_has_bounds_of_its_own_and_the_innermost_is_asked_first() {
    let gate = Gate::new(LIMITS);
    let host = host_of(3);
    let tunnel = |players| Arc::new(Circle::of_tunnel(Bounds::of_players(players), &host));
    let (small, large) = (tunnel(1), tunnel(10));
    let enter = |last: u8, circle| gate.admit(at(0), IpAddr::from([203, 0, 113, last]), circle);
    let _first = enter(1, &small).unwrap();
    assert_eq!(enter(2, &small).unwrap_err(), full(Whose::Tunnel, Full::Players));
    let _others = [enter(2, &large).unwrap(), enter(3, &large).unwrap()];
    assert_eq!(enter(4, &large).unwrap_err(), full(Whose::Host, Full::Players));
    assert_eq!((small.active(), large.active(), host.active()), (1, 2, 3));
}

#[test]
fn a_tunnel_whose_rate_is_used_up_leaves_the_other_its_own() {
    let gate = Gate::new(LIMITS);
    let host = host();
    let bounds = Bounds {
        rate: 5,
        burst: 5,
        ..Bounds::NONE
    };
    let tunnels = [(); 2].map(|()| Arc::new(Circle::of_tunnel(bounds, &host)));
    let come = |now, number: u32, tunnel| gate.admit(at(now), IpAddr::from((number << 8).to_be_bytes()), tunnel);
    let admitted = (0..40).filter(|number| come(0, *number, &tunnels[0]).is_ok()).count();
    assert_eq!(admitted, 5);
    assert_eq!(come(0, 99, &tunnels[0]).unwrap_err(), full(Whose::Tunnel, Full::Rate));
    assert!(come(0, 99, &tunnels[1]).is_ok());
    assert!(come(200, 99, &tunnels[0]).is_ok());
}

/// A relay whose tunnel is flooded from all addresses of a network.
fn besieged() -> (Gate, Arc<Circle>, Arc<Circle>) {
    let gate = Gate::new(Limits {
        siege: 100,
        prefixes: 100_000,
        ..LIMITS
    });
    let host = host();
    let bounds = Bounds {
        rate: 50,
        burst: 50,
        ..Bounds::NONE
    };
    let flooded = Arc::new(Circle::of_tunnel(bounds, &host));
    for last in 0..=255u8 {
        let _ = gate.admit(at(0), IpAddr::from([198, 51, 100, last]), &flooded);
    }
    (gate, flooded, host)
}

#[test]
fn under_siege_the_addresses_of_a_network_count_together() {
    let (gate, _, other) = besieged();
    assert!(gate.is_besieged(at(0)));
    let admitted = (0..=255u8)
        .filter(|last| gate.admit(at(1), IpAddr::from([198, 51, 100, *last]), &other).is_ok())
        .count();
    assert_eq!(admitted as u32, ADDRESS.burst * NETWORK);
    assert_eq!(
        gate.admit(at(1), ip("198.51.100.7"), &other).unwrap_err(),
        full(Whose::Network, Full::Rate)
    );
    assert!(
        gate.admit(at(1), ip("203.0.113.1"), &other).is_ok(),
        "other networks have their own"
    );
    assert!(!gate.is_besieged(at(20_000)), "an attack that is over is over");
    assert!(gate.admit(at(20_000), ip("198.51.100.7"), &other).is_ok());
}

#[test]
fn under_siege_an_address_whose_players_were_answered_keeps_its_own_bounds() {
    let (gate, _, other) = besieged();
    let known = ip("198.51.100.99");
    let player = gate.admit(at(20_000), known, &other).unwrap();
    player.settle();
    let flooded = Arc::new(Circle::of_tunnel(Bounds::of_players(0), &other));
    for last in 0..=255u8 {
        let _ = gate.admit(at(21_000), IpAddr::from([198, 51, 100, last]), &flooded);
    }
    assert!(gate.is_besieged(at(21_000)));
    while gate.admit(at(21_000), ip("198.51.100.7"), &other).is_ok() {}
    for last in 0..50 {
        let _ = gate.admit(at(21_000), IpAddr::from([198, 51, 100, last]), &other);
    }
    assert!(gate.admit(at(21_000), known, &other).is_ok());
}

#[test]
fn changed_limits_count_from_the_next_player_on_and_nobody_leaves() {
    let (gate, host) = (Gate::new(LIMITS), host());
    let from = ip("203.0.113.1");
    let _inside: Vec<_> = (0..4).map(|_| gate.admit(at(0), from, &host).unwrap()).collect();
    gate.set_limits(Limits {
        prefix: Bounds { players: 2, ..ADDRESS },
        ..LIMITS
    });
    assert_eq!(gate.active(), 4);
    assert_eq!(
        gate.admit(at(60_000), from, &host).unwrap_err(),
        full(Whose::Address, Full::Players)
    );
}

#[test]
fn a_network_is_known_by_anybody_in_it_whom_a_server_has_answered() {
    let (gate, circle) = (Gate::new(LIMITS), host());
    let player = gate.admit(at(0), ip("2001:db8:7:1::1"), &circle).unwrap();
    assert!(!gate.is_network_known(ip("2001:db8:7:2::1")), "nobody has answered yet");
    player.settle();
    assert!(gate.is_network_known(ip("2001:db8:7:2::1")));
    assert!(!gate.is_network_known(ip("2001:db8:8:2::1")));
}
