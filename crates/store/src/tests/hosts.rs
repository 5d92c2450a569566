//! Hosts, grants, settings, and what counts as a change.

#![allow(clippy::unwrap_used)]

use std::num::NonZeroU32;

use spawnpoint_core::access::{Lists, parse_prefix};
use spawnpoint_core::grant::{Caps, PortRule, Rates};

use super::*;

#[test]
fn a_host_is_found_by_token_number_and_name_with_all_it_was_given() {
    let (_dir, store) = open();
    let grant = Grant {
        protocols: [Protocol::Udp].into_iter().collect(),
        ports: PortRule::Only(ports("19132,30000-30010")),
        hostnames: vec!["a.example.org".parse().unwrap(), "*.b.example.org".parse().unwrap()],
        caps: Caps {
            players: NonZeroU32::new(20),
            half_open: NonZeroU32::new(7),
            quota: Some(1 << 40),
            ..Caps::default()
        },
        tunnel_caps: [(
            "minecraft".parse().unwrap(),
            Caps {
                new_players: NonZeroU32::new(3),
                rates: Rates {
                    up: Some(1_000_000),
                    down: None,
                    packets: Some(500),
                },
                ..Caps::default()
            },
        )]
        .into(),
        lists: Lists {
            allow: vec!["10.0.0.0/8".parse().unwrap()],
            deny: vec!["2001:db8::/32".parse().unwrap()],
        },
        tunnel_lists: [(
            "minecraft".parse().unwrap(),
            Lists {
                allow: Vec::new(),
                deny: vec!["10.1.0.0/16".parse().unwrap()],
            },
        )]
        .into(),
        expires: Some(UnixTime(NOW.0 + 60)),
    };
    let id = store.create_host(&name("lobby"), &hash(1), &grant, NOW).unwrap();
    let host = by_token(&store, &hash(1)).unwrap();
    assert_eq!(
        host,
        Host {
            id,
            name: name("lobby"),
            grant,
            token: hash(1),
            old_token: None,
            created: NOW,
            revoked: None,
            last_seen: None
        }
    );
    assert_eq!(store.host(id).unwrap().as_ref(), Some(&host));
    assert_eq!(store.host_by_name(&name("lobby")).unwrap().as_ref(), Some(&host));
    assert_eq!(by_token(&store, &hash(2)), None);
    assert_eq!(store.host(HostId(99)).unwrap(), None);
}

#[test]
fn the_default_grant_and_an_empty_one_come_back_as_they_were() {
    let (_dir, store) = open();
    let nothing = Grant {
        protocols: [].into_iter().collect(),
        ports: PortRule::Only(PortSet::default()),
        ..Grant::default()
    };
    for (text, grant) in [("all", Grant::default()), ("nothing", nothing)] {
        store.create_host(&name(text), &hash(1), &grant, NOW).unwrap();
        assert_eq!(store.host_by_name(&name(text)).unwrap().unwrap().grant, grant);
    }
}

#[test]
fn two_hashes_with_the_same_prefix_are_two_tokens() {
    let (_dir, store) = open();
    let mut other = *hash(1).as_bytes();
    other[31] ^= 1;
    let other = SecretHash::from_bytes(other);
    let first = host(&store, "first", 1);
    assert_eq!(by_token(&store, &other), None);
    let second = store
        .create_host(&name("second"), &other, &Grant::default(), NOW)
        .unwrap();
    assert_eq!(by_token(&store, &hash(1)).unwrap().id, first);
    assert_eq!(by_token(&store, &other).unwrap().id, second);
}

#[test]
fn hosts_are_listed_by_name() {
    let (_dir, store) = open();
    for (at, text) in ["c", "a", "b"].into_iter().enumerate() {
        host(&store, text, at as u8);
    }
    let names: Vec<_> = store
        .hosts()
        .unwrap()
        .into_iter()
        .map(|host| host.name.to_string())
        .collect();
    assert_eq!(names, ["a", "b", "c"]);
}

#[test]
fn the_name_of_a_live_host_is_taken_and_the_remedy_is_named() {
    let (_dir, store) = open();
    host(&store, "lobby", 1);
    let error = store
        .create_host(&name("lobby"), &hash(2), &Grant::default(), NOW)
        .unwrap_err();
    assert!(matches!(error, StoreError::HostExists { .. }));
    assert_eq!(
        error.to_string(),
        "host `lobby` exists already: `spawnpoint host rotate lobby` gives it a new invite"
    );
    assert!(by_token(&store, &hash(1)).is_some(), "the old token still works");
}

#[test]
fn a_revoked_host_is_reinstated_with_its_number_and_ports() {
    let (_dir, store) = open();
    let id = host(&store, "lobby", 1);
    let port = reserve(&store, id, "mc").unwrap();
    store.revoke(&name("lobby"), NOW).unwrap();
    store.revoke(&name("lobby"), UnixTime(NOW.0 + 9)).unwrap();
    let revoked = by_token(&store, &hash(1)).unwrap();
    assert_eq!(revoked.revoked, Some(NOW), "known, and revoked at the first time");

    let capped = Grant {
        caps: Caps {
            players: NonZeroU32::new(5),
            ..Caps::default()
        },
        ..Grant::default()
    };
    assert_eq!(
        store
            .create_host(&name("lobby"), &hash(2), &capped, UnixTime(NOW.0 + 10))
            .unwrap(),
        id
    );
    let host = store.host(id).unwrap().unwrap();
    assert_eq!(
        (host.revoked, host.token, host.grant, host.created),
        (None, hash(2), capped, NOW)
    );
    assert_eq!(by_token(&store, &hash(1)), None, "the revoked token stays out");
    assert_eq!(reserve(&store, id, "mc").unwrap(), port);
}

#[test]
fn a_rotated_token_replaces_the_old_one() {
    let (_dir, store) = open();
    let id = host(&store, "lobby", 1);
    store.rotate(&name("lobby"), &hash(2), None).unwrap();
    assert_eq!(by_token(&store, &hash(1)), None);
    assert_eq!(by_token(&store, &hash(2)).unwrap().id, id);
}

#[test]
fn unknown_and_revoked_hosts_cannot_be_changed_and_say_so() {
    let (_dir, store) = open();
    let unknown = "there is no host `ghost`: `spawnpoint host list` shows all";
    assert_eq!(store.revoke(&name("ghost"), NOW).unwrap_err().to_string(), unknown);
    assert_eq!(
        store.rotate(&name("ghost"), &hash(2), None).unwrap_err().to_string(),
        unknown
    );
    assert_eq!(
        store
            .set_grant(&name("ghost"), &Grant::default())
            .unwrap_err()
            .to_string(),
        unknown
    );
    host(&store, "old", 1);
    store.revoke(&name("old"), NOW).unwrap();
    assert!(matches!(
        store.rotate(&name("old"), &hash(2), None),
        Err(StoreError::HostRevoked { .. })
    ));
    assert!(matches!(
        store.set_grant(&name("old"), &Grant::default()),
        Err(StoreError::HostRevoked { .. })
    ));
}

#[test]
fn a_grant_is_replaced_as_a_whole() {
    let (_dir, store) = open();
    let id = host(&store, "lobby", 1);
    let grant = Grant {
        ports: PortRule::Only(ports("7000")),
        expires: Some(NOW),
        ..Grant::default()
    };
    store.set_grant(&name("lobby"), &grant).unwrap();
    assert_eq!(store.host(id).unwrap().unwrap().grant, grant);
}

#[test]
fn last_seen_never_goes_back() {
    let (_dir, store) = open();
    let id = host(&store, "lobby", 1);
    store.touch(id, UnixTime(50)).unwrap();
    store.touch(id, UnixTime(40)).unwrap();
    store.touch(HostId(99), NOW).unwrap();
    assert_eq!(store.host(id).unwrap().unwrap().last_seen, Some(UnixTime(50)));
}

#[test]
fn settings_are_kept_and_replaced() {
    let (dir, store) = open();
    assert_eq!(store.setting("public_host").unwrap(), None);
    store.set_setting("public_host", "old.example.org").unwrap();
    store.set_setting("public_host", "play.example.org").unwrap();
    let other = SqliteDirectory::open(dir.path()).unwrap();
    assert_eq!(
        other.setting("public_host").unwrap().as_deref(),
        Some("play.example.org")
    );
}

#[test]
fn the_version_moves_with_hosts_and_with_others_but_not_with_routine() {
    let (dir, store) = open();
    let other = SqliteDirectory::open(dir.path()).unwrap();
    let start = store.version().unwrap();
    assert_eq!(store.version().unwrap(), start);

    let id = host(&store, "mine", 1);
    let own = store.version().unwrap();
    assert!(own > start, "an own change of a host");
    store.touch(id, NOW).unwrap();
    reserve(&store, id, "mc").unwrap();
    store.set_setting("a", "b").unwrap();
    assert_eq!(store.version().unwrap(), own, "own routine writes");

    other.revoke(&name("mine"), NOW).unwrap();
    let foreign = store.version().unwrap();
    assert!(foreign > own, "a change by another process");
    assert_eq!(store.version().unwrap(), foreign);
    assert!(store.revoke(&name("ghost"), NOW).is_err());
    assert_eq!(store.version().unwrap(), foreign, "a change that failed");
}

#[test]
fn bans_are_kept_by_host_and_prefix_until_they_end_or_are_lifted() {
    let (_dir, store) = open();
    let desk = host(&store, "desk", 1);
    let ban = |host, prefix: &str, until: Option<u64>| Ban {
        host,
        prefix: parse_prefix(prefix).unwrap(),
        until: until.map(UnixTime),
        created: NOW,
        by: if host.is_some() {
            BannedBy::Host
        } else {
            BannedBy::Operator
        },
        reason: "griefing".to_owned(),
    };
    let before = store.version().unwrap();
    let all = [
        ban(None, "198.51.100.0/24", None),
        ban(Some(desk), "198.51.100.0/24", Some(NOW.0 + 60)),
        ban(Some(desk), "2001:db8::/64", None),
    ];
    all.iter().for_each(|ban| store.ban(ban, NOW).unwrap());
    assert!(store.version().unwrap() > before);
    let mut found = store.bans().unwrap();
    found.sort_by_key(|ban| (ban.host, ban.prefix));
    assert_eq!(found, all);
    // The same prefix anew replaces what was there.
    store.ban(&ban(None, "198.51.100.77/24", Some(NOW.0 + 5)), NOW).unwrap();
    assert_eq!(store.bans().unwrap().len(), 3);
    assert!(store.lift(Some(desk), &parse_prefix("2001:db8::/64").unwrap()).unwrap());
    assert!(!store.lift(Some(desk), &parse_prefix("2001:db8::/64").unwrap()).unwrap());
    // What has ended goes with the next one.
    store
        .ban(&ban(Some(desk), "192.0.2.1", None), UnixTime(NOW.0 + 100))
        .unwrap();
    assert_eq!(store.bans().unwrap().len(), 1);
}

#[test]
fn a_host_cannot_fill_the_directory_with_bans() {
    let (_dir, store) = open();
    let desk = host(&store, "desk", 1);
    let ban = |host, number: u32| Ban {
        host,
        prefix: std::net::IpAddr::from(number.to_be_bytes()).into(),
        until: None,
        created: NOW,
        by: BannedBy::Host,
        reason: String::new(),
    };
    rusqlite::Connection::open(store.path())
        .unwrap()
        .execute_batch(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000)
             INSERT INTO bans SELECT 1, '10.0.' || (i / 256) || '.' || (i % 256) || '/32', NULL, 1, 'host', '' FROM n;",
        )
        .unwrap();
    assert!(matches!(
        store.ban(&ban(Some(desk), 7), NOW),
        Err(StoreError::TooManyBans)
    ));
    store.ban(&ban(None, 7), NOW).unwrap();
}

#[test]
fn the_relays_own_bans_stand_in_no_operators_way() {
    let (_dir, store) = open();
    let ban = |number: u32, by, until: Option<u64>| Ban {
        host: None,
        prefix: std::net::IpAddr::from(number.to_be_bytes()).into(),
        until: until.map(UnixTime),
        created: NOW,
        by,
        reason: String::new(),
    };
    let (by_hand, short) = (
        ban(7, BannedBy::Operator, None),
        ban(7, BannedBy::Relay, Some(NOW.0 + 60)),
    );
    store.ban(&by_hand, NOW).unwrap();
    store.ban(&short, NOW).unwrap();
    assert_eq!(store.bans().unwrap(), [by_hand], "it is not taken back");
    let first = ban(8, BannedBy::Relay, Some(NOW.0 + 60));
    let longer = ban(8, BannedBy::Relay, Some(NOW.0 + 120));
    store.ban(&first, NOW).unwrap();
    store.ban(&longer, NOW).unwrap();
    assert!(store.bans().unwrap().contains(&longer));
    rusqlite::Connection::open(store.path())
        .unwrap()
        .execute_batch(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000)
             INSERT INTO bans SELECT 0, '10.0.' || (i / 256) || '.' || (i % 256) || '/32', NULL, 1, 'relay', '' FROM n;",
        )
        .unwrap();
    let full = store.ban(&ban(9, BannedBy::Relay, None), NOW);
    assert!(matches!(full, Err(StoreError::TooManyBans)));
    store.ban(&ban(9, BannedBy::Operator, None), NOW).unwrap();
}

#[test]
fn a_replaced_token_works_until_it_is_not_kept_any_more() {
    let (_dir, store) = open();
    let id = host(&store, "desk", 1);
    let tokens = |now| -> Vec<_> {
        let host = store.host(id).unwrap().unwrap();
        host.tokens(UnixTime(now))
            .map(|(token, until)| (token.id(), until))
            .collect()
    };
    store.rotate(&name("desk"), &hash(2), Some(UnixTime(2_000))).unwrap();
    let (old, new) = ((hash(1).id(), Some(UnixTime(2_000))), (hash(2).id(), None));
    assert_eq!(tokens(1_999), [new, old]);
    assert_eq!(tokens(2_000), [new]);
    for id_of in [hash(1), hash(2)] {
        assert_eq!(store.hosts_by_token(id_of.id()).unwrap()[0].id, id);
    }
    // The next one replaces both.
    store.rotate(&name("desk"), &hash(3), None).unwrap();
    assert_eq!(tokens(0), [(hash(3).id(), None)]);
    assert!(store.hosts_by_token(hash(1).id()).unwrap().is_empty());
    // A reinstated host has only its new one.
    store.rotate(&name("desk"), &hash(4), Some(UnixTime(u64::MAX))).unwrap();
    store.revoke(&name("desk"), NOW).unwrap();
    store
        .create_host(&name("desk"), &hash(5), &Grant::default(), NOW)
        .unwrap();
    assert_eq!(tokens(0), [(hash(5).id(), None)]);
}

#[test]
fn usage_adds_up_by_day_and_its_peak_is_the_highest() {
    let (_dir, store) = open();
    let desk = host(&store, "desk", 1);
    let used = |host, day, peak| Usage {
        host,
        tunnel: "minecraft".parse().unwrap(),
        protocol: Protocol::Tcp,
        day: Day(day),
        sessions: 2,
        peak,
        up: 100,
        down: 1_000,
    };
    let before = store.version().unwrap();
    store
        .add_usage(&[used(desk, 10, 3), used(desk, 11, 1), used(HostId(999), 10, 1)])
        .unwrap();
    store.add_usage(&[used(desk, 10, 2)]).unwrap();
    assert_eq!(store.version().unwrap(), before);
    let found = store.usage(Day(10), Day(11)).unwrap();
    assert_eq!(found.len(), 2);
    assert_eq!(
        (found[0].sessions, found[0].peak, found[0].up, found[0].down),
        (4, 3, 200, 2_000)
    );
    assert_eq!(store.usage(Day(12), Day(99)).unwrap(), []);
    store.add_usage(&[used(desk, 741, 1)]).unwrap();
    let kept: Vec<Day> = store
        .usage(Day(0), Day(999))
        .unwrap()
        .iter()
        .map(|used| used.day)
        .collect();
    assert_eq!(kept, [Day(11), Day(741)], "two years are kept");
}

#[test]
fn notes_are_taken_once_in_their_order() {
    let (_dir, store) = open();
    assert_eq!(store.take_notes().unwrap(), []);
    store.leave_note(UnixTime(2), "second in time").unwrap();
    store.leave_note(UnixTime(1), "first in time").unwrap();
    let taken = store.take_notes().unwrap();
    assert_eq!(
        taken,
        [
            (UnixTime(2), "second in time".into()),
            (UnixTime(1), "first in time".into())
        ]
    );
    assert_eq!(store.take_notes().unwrap(), []);
}
