//! Who gets which port, case by case and against a model.

#![allow(clippy::unwrap_used)]

use std::collections::{HashMap, HashSet};

use super::*;

#[test]
fn a_tunnel_keeps_its_port_over_a_reopen() {
    let (dir, store) = open();
    let id = host(&store, "lobby", 1);
    let first = reserve(&store, id, "one").unwrap();
    let second = reserve(&store, id, "two").unwrap();
    assert_eq!(
        (first, second),
        (103, 102),
        "from the top: known ports are at the bottom"
    );
    drop(store);
    let store = SqliteDirectory::open(dir.path()).unwrap();
    assert_eq!(reserve(&store, id, "two").unwrap(), second);
    assert_eq!(reserve(&store, id, "one").unwrap(), first);
    let expected = |tunnel: &str, port| Reservation {
        host: id,
        tunnel: tunnel.parse().unwrap(),
        protocol: Protocol::Tcp,
        port,
    };
    assert_eq!(
        store.reservations(id).unwrap(),
        [expected("one", first), expected("two", second)]
    );
}

#[test]
fn the_same_port_number_serves_both_protocols() {
    let (_dir, store) = open();
    let id = host(&store, "lobby", 1);
    for protocol in Protocol::ALL {
        assert_eq!(
            ask(&store, id, "mc", protocol, Some(100), None, "100-103", &[]).unwrap(),
            100
        );
    }
}

#[test]
fn a_preferred_port_is_given_when_it_is_free_and_allowed() {
    let (_dir, store) = open();
    let id = host(&store, "lobby", 1);
    let prefer = |tunnel, port| ask(&store, id, tunnel, Protocol::Tcp, None, Some(port), "100-103", &[]).unwrap();
    assert_eq!(prefer("one", 102), 102);
    assert_eq!(prefer("two", 102), 103, "not free");
    assert_eq!(prefer("three", 99), 101, "not allowed");
    assert_eq!(prefer("one", 100), 102, "a preference does not move a tunnel");
}

#[test]
fn a_wanted_port_moves_the_tunnel() {
    let (_dir, store) = open();
    let id = host(&store, "lobby", 1);
    reserve(&store, id, "mc").unwrap();
    assert_eq!(want(&store, id, "mc", 102).unwrap(), 102);
    assert_eq!(reserve(&store, id, "mc").unwrap(), 102);
    assert_eq!(reserve(&store, id, "other").unwrap(), 103, "the port it left is free");
}

#[test]
fn a_wanted_port_of_a_live_host_is_refused_and_of_a_revoked_one_taken_over() {
    let (_dir, store) = open();
    let (old, new) = (host(&store, "old", 1), host(&store, "new", 2));
    want(&store, old, "mc", 102).unwrap();
    assert!(matches!(
        want(&store, new, "mc", 102),
        Err(ReserveError::Taken { port: 102 })
    ));
    assert_eq!(store.reservations(new).unwrap(), []);
    store.revoke(&name("old"), NOW).unwrap();
    assert_eq!(want(&store, new, "mc", 102).unwrap(), 102);
    assert_eq!(store.reservations(old).unwrap(), []);
}

#[test]
fn a_renamed_tunnel_takes_its_port_along() {
    let (_dir, store) = open();
    let id = host(&store, "lobby", 1);
    want(&store, id, "mc", 102).unwrap();
    assert_eq!(want(&store, id, "survival", 102).unwrap(), 102);
    assert_eq!(store.reservations(id).unwrap().len(), 1);
}

#[test]
fn a_wanted_port_outside_the_allowed_ones_is_refused_even_if_it_was_ours() {
    let (_dir, store) = open();
    let id = host(&store, "lobby", 1);
    assert!(matches!(
        want(&store, id, "mc", 22),
        Err(ReserveError::NotAllowed { port: 22 })
    ));
}

#[test]
fn a_tunnel_moves_when_its_port_is_not_allowed_any_more() {
    let (_dir, store) = open();
    let id = host(&store, "lobby", 1);
    reserve(&store, id, "mc").unwrap();
    assert_eq!(
        ask(&store, id, "mc", Protocol::Tcp, None, None, "200-201", &[]).unwrap(),
        201
    );
    assert_eq!(store.reservations(id).unwrap().len(), 1);
}

#[test]
fn busy_ports_are_passed_over_unless_one_is_wanted() {
    let (_dir, store) = open();
    let id = host(&store, "lobby", 1);
    let busy = [103, 102];
    assert_eq!(
        ask(&store, id, "one", Protocol::Tcp, None, Some(102), "100-103", &busy).unwrap(),
        101
    );
    assert_eq!(
        ask(&store, id, "two", Protocol::Tcp, Some(103), None, "100-103", &busy).unwrap(),
        103
    );
    assert_eq!(
        ask(&store, id, "one", Protocol::Tcp, None, None, "100-103", &[101]).unwrap(),
        102,
        "its own port is busy now"
    );
}

#[test]
fn an_exhausted_pool_is_refused_until_a_port_is_released() {
    let (_dir, store) = open();
    let (one, two) = (host(&store, "one", 1), host(&store, "two", 2));
    for tunnel in ["a", "b", "c", "d"] {
        reserve(&store, one, tunnel).unwrap();
    }
    assert!(matches!(reserve(&store, two, "mc"), Err(ReserveError::Exhausted)));
    assert!(store.release(one, &"c".parse().unwrap(), Protocol::Tcp).unwrap());
    assert!(!store.release(one, &"c".parse().unwrap(), Protocol::Tcp).unwrap());
    assert_eq!(reserve(&store, two, "mc").unwrap(), 101);
}

#[test]
fn ports_of_revoked_hosts_are_handed_out_last() {
    let (_dir, store) = open();
    let (old, new) = (host(&store, "old", 1), host(&store, "new", 2));
    reserve(&store, old, "mc").unwrap();
    store.revoke(&name("old"), NOW).unwrap();
    let given: Vec<_> = ["a", "b", "c", "d"]
        .map(|tunnel| reserve(&store, new, tunnel).unwrap())
        .into();
    assert_eq!(given, [102, 101, 100, 103]);
}

#[test]
fn random_reservations_agree_with_a_plain_model() {
    let seed = std::env::var("SPAWNPOINT_STORE_SEED")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(clock_seed);
    println!("replay with SPAWNPOINT_STORE_SEED={seed}");
    let mut random = Random(seed);
    let (_dir, store) = open();
    let hosts: Vec<_> = (0..4)
        .map(|at| (format!("host-{at}"), host(&store, &format!("host-{at}"), at)))
        .collect();
    let mut revoked = HashSet::new();
    let mut model: HashMap<(HostId, u64, Protocol), u16> = HashMap::new();
    for step in 0..600 {
        let (name_text, id) = &hosts[random.below(4) as usize];
        let protocol = Protocol::ALL[random.below(2) as usize];
        let tunnel_number = random.below(5);
        let tunnel: TunnelName = format!("t{tunnel_number}").parse().unwrap();
        let key = (*id, tunnel_number, protocol);
        match random.below(20) {
            0 => {
                store.revoke(&name(name_text), NOW).unwrap();
                revoked.insert(*id);
            }
            1 if revoked.remove(id) => drop(
                store
                    .create_host(&name(name_text), &hash(step as u8), &Grant::default(), NOW)
                    .unwrap(),
            ),
            2 => assert_eq!(
                store.release(*id, &tunnel, protocol).unwrap(),
                model.remove(&key).is_some(),
                "step {step}"
            ),
            _ => {
                let low = 100 + random.below(4) as u16;
                let allowed = PortSet::range(low..=low + 7);
                let pick = |random: &mut Random| (random.below(3) == 0).then(|| 100 + random.below(11) as u16);
                let (wanted, preferred, busy) = (pick(&mut random), pick(&mut random), pick(&mut random));
                let avoid = |port| Some(port) == busy;
                let got = store.reserve(*id, &tunnel, protocol, wanted, preferred, &allowed, &avoid, &[]);
                let holder = |port: u16| {
                    model
                        .iter()
                        .find(|&(key, &held)| key.2 == protocol && held == port)
                        .map(|(key, _)| *key)
                };
                let open = |port: u16| allowed.contains(port) && !avoid(port);
                match got {
                    Ok(port) => {
                        assert!(allowed.contains(port), "step {step}: {port} is not allowed");
                        assert!(
                            wanted.is_none_or(|wanted| wanted == port),
                            "step {step}: wanted {wanted:?}, got {port}"
                        );
                        let old = model.get(&key).copied().filter(|&old| open(old));
                        assert!(
                            wanted.is_some() || old.is_none_or(|old| old == port),
                            "step {step}: moved from {old:?} to {port}"
                        );
                        assert!(wanted.is_some() || !avoid(port), "step {step}: {port} is busy");
                        if let Some(before) = holder(port) {
                            assert!(
                                before.0 == *id || revoked.contains(&before.0),
                                "step {step}: {port} stolen from {before:?}"
                            );
                            model.remove(&before);
                        }
                        model.insert(key, port);
                    }
                    Err(ReserveError::NotAllowed { port }) => assert!(!allowed.contains(port), "step {step}"),
                    Err(ReserveError::Taken { port }) => {
                        let holder = holder(port).unwrap().0;
                        assert!(
                            holder != *id && !revoked.contains(&holder),
                            "step {step}: {port} was not another's"
                        );
                    }
                    Err(ReserveError::Exhausted) => {
                        let usable = |port| open(port) && holder(port).is_none_or(|held| revoked.contains(&held.0));
                        assert_eq!(
                            allowed.iter().find(|&port| usable(port)),
                            None,
                            "step {step}: there was a port"
                        );
                    }
                    Err(ReserveError::Store(error)) => panic!("step {step}: {error}"),
                }
            }
        }
        let stored: HashMap<_, _> = hosts
            .iter()
            .flat_map(|(_, id)| store.reservations(*id).unwrap())
            .map(|entry| {
                (
                    (entry.host, entry.tunnel.as_str()[1..].parse().unwrap(), entry.protocol),
                    entry.port,
                )
            })
            .collect();
        assert_eq!(stored, model, "step {step}");
    }
}

fn clock_seed() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_nanos() as u64
}

/// SplitMix64: enough to walk through the cases, and the same walk from the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }
}

#[test]
fn a_port_has_room_beside_it_for_those_that_follow() {
    let (_dir, store) = open();
    let (desk, attic) = (host(&store, "desk", 1), host(&store, "attic", 2));
    let ask = |host: HostId, tunnel: &str, wanted: Option<u16>, needs: &[(Protocol, i32)]| {
        let (tunnel, allowed) = (tunnel.parse().unwrap(), ports("100-105"));
        store.reserve(host, &tunnel, Protocol::Udp, wanted, None, &allowed, &|_| false, needs)
    };
    ask(attic, "a", Some(104), &[]).unwrap();
    // 105 has nothing above it, 103 a neighbour of somebody else.
    let game = ask(desk, "game", None, &[(Protocol::Udp, 1)]).unwrap();
    assert_eq!(game, 102);
    assert_eq!(ask(desk, "query", Some(103), &[]).unwrap(), 103);
    // It is kept although what it needs is taken by now, by its own follower.
    assert_eq!(ask(desk, "game", None, &[(Protocol::Udp, 1)]).unwrap(), 102);
    // The other protocol counts by itself.
    assert_eq!(ask(desk, "both", None, &[(Protocol::Tcp, 0)]).unwrap(), 105);
    assert!(matches!(
        ask(desk, "far", None, &[(Protocol::Tcp, 9)]),
        Err(ReserveError::Exhausted)
    ));
}

#[test]
fn a_name_is_one_hosts_until_it_is_given_up() {
    let (_dir, store) = open();
    let (desk, attic) = (host(&store, "desk", 1), host(&store, "attic", 2));
    let (mc, web) = ("mc".parse().unwrap(), "web".parse().unwrap());
    for (host, tunnel, port) in [(desk, &mc, 100), (attic, &mc, 101), (desk, &web, 102)] {
        let allowed = ports("100-102");
        store
            .reserve(host, tunnel, Protocol::Tcp, Some(port), None, &allowed, &|_| false, &[])
            .unwrap();
    }
    let pattern = |text: &str| text.parse::<Pattern>().unwrap();
    let claim = |host, tunnel, dialect, wanted: &[&str], offered: &[&str]| {
        let read = |names: &[&str]| names.iter().map(|name| pattern(name)).collect::<Vec<_>>();
        store.claim(
            host,
            (tunnel, Protocol::Tcp),
            Some(dialect),
            &read(wanted),
            &read(offered),
        )
    };
    let java = Dialect::Minecraft;
    assert_eq!(
        claim(desk, &mc, java, &["a.org"], &["desk.x", "mc.desk.x"])
            .unwrap()
            .len(),
        3
    );
    // What is only offered stays with the tunnel that had it first; another dialect is another matter.
    assert_eq!(
        claim(desk, &web, java, &[], &["desk.x", "web.desk.x"]).unwrap(),
        [pattern("web.desk.x")]
    );
    assert_eq!(
        claim(desk, &web, Dialect::Tls, &["a.org"], &[]).unwrap(),
        [pattern("a.org")]
    );
    let taken = claim(attic, &mc, Dialect::Tls, &["a.org"], &[]);
    assert!(matches!(taken, Err(ClaimError::Taken { .. })), "in whatever dialect");
    // So does one whose grant allows the name no more; what it has without a grant stays.
    let narrow = Grant {
        hostnames: vec![pattern("*.b.org")],
        ..Grant::default()
    };
    store.set_grant(&name("desk"), &narrow).unwrap();
    assert_eq!(
        claim(attic, &mc, Dialect::Tls, &["a.org"], &[]).unwrap(),
        [pattern("a.org")]
    );
    assert!(claim(attic, &mc, Dialect::Http, &["desk.x"], &[]).is_err());
    // A revoked host gives way, in every dialect.
    store.revoke(&name("desk"), UnixTime(9)).unwrap();
    assert_eq!(claim(attic, &mc, java, &["desk.x"], &[]).unwrap(), [pattern("desk.x")]);
    // What a tunnel had in the dialect that it spoke before is free.
    let cave = host(&store, "cave", 3);
    let allowed = ports("103");
    store
        .reserve(cave, &mc, Protocol::Tcp, None, None, &allowed, &|_| false, &[])
        .unwrap();
    assert_eq!(claim(cave, &mc, java, &["a.org"], &[]).unwrap(), [pattern("a.org")]);
    let none = store.claim(cave, (&mc, Protocol::Tcp), None, &[], &[pattern("cave.x")]);
    assert_eq!(none.unwrap(), []);
    assert_eq!(
        claim(attic, &mc, java, &["a.org", "desk.x"], &[]).unwrap().len(),
        2,
        "one that speaks nothing has no names"
    );
    assert_eq!(claim(attic, &mc, java, &["desk.x"], &[]).unwrap(), [pattern("desk.x")]);
    let mine = |host| {
        store
            .entries()
            .unwrap()
            .into_iter()
            .filter(|entry| entry.host == host)
            .count()
    };
    store
        .keep_entry(attic, &mc, Protocol::Tcp, "minecraft", Some(java), Some("back soon"))
        .unwrap();
    store.note_listing(attic, &mc, Protocol::Tcp, "{}").unwrap();
    let entry = store.entries().unwrap().remove(0);
    assert_eq!((entry.port, entry.names), (101, vec![pattern("desk.x")]));
    assert_eq!(
        (entry.away.as_deref(), entry.listing.as_deref()),
        (Some("back soon"), Some("{}"))
    );
    assert_eq!((mine(desk), mine(attic)), (0, 1));
    // With its port a tunnel gives everything up.
    store.release(attic, &mc, Protocol::Tcp).unwrap();
    assert_eq!(store.entries().unwrap(), []);
    assert_eq!(claim(attic, &mc, java, &[], &[]).unwrap(), []);
}
