#![allow(clippy::unwrap_used)]
use std::time::Duration;

use spawnpoint_proto::{LinkId, Time};

use super::*;

const HOST: HostNumber = HostNumber(1);
const OLD: LinkId = LinkId([1; 16]);
const NEW: LinkId = LinkId([2; 16]);

fn at(secs: u64) -> Time {
    Time::new(Duration::from_secs(secs))
}

fn tcp(name: &str, port: u16) -> TunnelSpec {
    TunnelSpec {
        name: name.parse().unwrap(),
        protocol: Protocol::Tcp,
        port,
        game: None,
        dialect: None,
        names: Vec::new(),
        is_lasting: false,
    }
}

fn minecraft(name: &str, port: u16, names: &[&str]) -> TunnelSpec {
    TunnelSpec {
        dialect: Some(Dialect::Minecraft),
        names: names.iter().map(|name| name.parse().unwrap()).collect(),
        is_lasting: true,
        ..tcp(name, port)
    }
}

fn registry() -> Registry<&'static str> {
    let mut registry = Registry::new(Duration::from_secs(30));
    registry.attach(OLD, HOST, "old");
    registry
}

fn target(registry: &Registry<&'static str>, port: u16) -> Option<&'static str> {
    registry.check_invariants();
    registry
        .routes()
        .get((Protocol::Tcp, port))?
        .target
        .map(|(link, _)| link)
}

#[test]
fn a_restarted_agent_takes_over_from_its_own_ghost_at_once() {
    let mut registry = registry();
    registry.open(OLD, tcp("mc", 25565)).unwrap();
    registry.attach(NEW, HOST, "new");
    let opened = registry.open(NEW, tcp("mc", 25565)).unwrap();
    assert_eq!((opened.taken_from, opened.emptied), (Some((OLD, TunnelId(0))), true));
    assert_eq!(target(&registry, 25565), Some("new"));
    registry.detach(at(0), OLD, Return::Soon);
    assert_eq!(target(&registry, 25565), Some("new"));
}

#[test]
fn a_second_agent_with_other_tunnels_disturbs_nobody() {
    let mut registry = registry();
    registry.open(OLD, tcp("mc", 25565)).unwrap();
    registry.attach(NEW, HOST, "new");
    let opened = registry.open(NEW, tcp("web", 8080)).unwrap();
    assert_eq!((opened.taken_from, opened.emptied), (None, false));
    assert_eq!(
        (target(&registry, 25565), target(&registry, 8080)),
        (Some("old"), Some("new"))
    );
}

#[test]
fn a_port_waits_for_its_agent_and_then_closes() {
    let mut registry = registry();
    registry.open(OLD, tcp("mc", 25565)).unwrap();
    registry.detach(at(0), OLD, Return::Soon);
    assert!(registry.routes().get((Protocol::Tcp, 25565)).unwrap().target.is_none());
    assert_eq!(registry.poll_timeout(), Some(at(30)));
    registry.handle_timeout(at(30));
    assert!(registry.routes().get((Protocol::Tcp, 25565)).is_none());
}

#[test]
fn an_agent_that_says_goodbye_leaves_no_open_port() {
    let mut registry = registry();
    registry.open(OLD, tcp("mc", 25565)).unwrap();
    registry.detach(at(0), OLD, Return::Perhaps);
    assert_eq!(registry.routes().ports().count(), 0);
}

#[test]
fn one_port_never_leads_to_two_tunnels() {
    let mut registry = registry();
    registry.open(OLD, tcp("a", 25565)).unwrap();
    assert_eq!(registry.open(OLD, tcp("b", 25565)), Err(OpenError::PortTaken));
    let udp = TunnelSpec {
        protocol: Protocol::Udp,
        ..tcp("b", 25565)
    };
    assert!(registry.open(OLD, udp).is_ok());
    registry.check_invariants();
}

#[test]
fn a_renamed_tunnel_takes_the_port_of_its_absent_old_name() {
    let mut registry = registry();
    registry.open(OLD, tcp("old-name", 25565)).unwrap();
    registry.detach(at(0), OLD, Return::Soon);
    registry.attach(NEW, HOST, "new");
    registry.open(NEW, tcp("new-name", 25565)).unwrap();
    assert_eq!(target(&registry, 25565), Some("new"));
    assert_eq!(registry.tunnels_of(HOST), 1);
    assert_eq!(
        registry.name_at(HOST, (Protocol::Tcp, 25565)).unwrap().as_str(),
        "new-name"
    );
}

#[test]
fn the_links_of_a_host_come_oldest_first() {
    let mut registry = registry();
    registry.attach(NEW, HOST, "new");
    let order: Vec<&str> = registry.links_of(HOST).into_iter().map(|(_, link)| *link).collect();
    assert_eq!(order, ["old", "new"]);
}

#[test]
fn lanes_are_used_again_but_never_by_two_at_once() {
    let mut registry = registry();
    registry.open(OLD, tcp("stays", 1)).unwrap();
    for port in 2..1000 {
        registry.open(OLD, tcp("comes-and-goes", port)).unwrap();
        registry.check_invariants();
        registry.close(OLD, &"comes-and-goes".parse().unwrap()).unwrap();
    }
    for port in 1000..1255 {
        registry.open(OLD, tcp(&format!("t{port}"), port)).unwrap();
    }
    registry.check_invariants();
    assert_eq!(
        registry.open(OLD, tcp("one-too-many", 2000)),
        Err(OpenError::TooManyTunnels)
    );
}

#[test]
fn a_link_cannot_close_what_another_has_taken_over() {
    let mut registry = registry();
    registry.open(OLD, tcp("mc", 25565)).unwrap();
    registry.attach(NEW, HOST, "new");
    registry.open(NEW, tcp("mc", 25565)).unwrap();
    assert_eq!(registry.close(OLD, &"mc".parse().unwrap()), None);
    assert_eq!(target(&registry, 25565), Some("new"));
}

fn named<'a>(routes: &'a RouteTable<&'static str>, name: &str) -> Option<&'a str> {
    routes
        .by_name(Dialect::Minecraft, name)
        .map(|route| route.name.as_str())
}

#[test]
fn a_name_leads_to_the_tunnel_that_says_most_of_it() {
    let mut registry = registry();
    registry.open(OLD, minecraft("any", 1, &["*.example.org"])).unwrap();
    registry.open(OLD, minecraft("deep", 2, &["*.a.example.org"])).unwrap();
    registry
        .open(OLD, minecraft("one", 3, &["b.a.example.org", "example.org"]))
        .unwrap();
    registry.check_invariants();
    let routes = registry.routes();
    for (name, tunnel) in [
        ("x.example.org", Some("any")),
        ("c.a.example.org", Some("deep")),
        ("b.a.example.org", Some("one")),
        ("x.b.a.example.org", Some("deep")),
        ("example.org", Some("one")),
        ("org", None),
        ("", None),
    ] {
        assert_eq!(named(&routes, name), tunnel, "{name}");
    }
    assert!(routes.by_name(Dialect::Tls, "example.org").is_none());
}

#[test]
fn a_name_never_leads_to_two_tunnels() {
    let mut registry = registry();
    registry.open(OLD, minecraft("a", 1, &["a.example.org"])).unwrap();
    let taken = registry.open(OLD, minecraft("b", 2, &["b.example.org", "a.example.org"]));
    assert_eq!(taken, Err(OpenError::NameTaken("a.example.org".parse().unwrap())));
    assert!(registry.routes().get((Protocol::Tcp, 2)).is_none());
    registry.detach(at(0), OLD, Return::Perhaps);
    registry.attach(NEW, HostNumber(2), "new");
    registry.open(NEW, minecraft("c", 3, &["a.example.org"])).unwrap();
    assert_eq!(named(&registry.routes(), "a.example.org"), Some("c"));
    registry.check_invariants();
}

#[test]
fn a_tunnel_gets_other_names_and_nobody_notices() {
    let mut registry = registry();
    let id = registry.open(OLD, minecraft("a", 1, &["a.example.org"])).unwrap().id;
    registry.open(OLD, minecraft("b", 2, &["b.example.org"])).unwrap();
    let names = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect();
    let a = "a".parse().unwrap();
    assert_eq!(
        registry.rename(OLD, &a, names(&["c.example.org", "b.example.org"])),
        Err(OpenError::NameTaken("b.example.org".parse().unwrap()))
    );
    assert_eq!(named(&registry.routes(), "a.example.org"), Some("a"));
    registry.rename(OLD, &a, names(&["c.example.org"])).unwrap();
    let routes = registry.routes();
    assert_eq!(
        (named(&routes, "a.example.org"), named(&routes, "c.example.org")),
        (None, Some("a"))
    );
    assert_eq!(routes.get((Protocol::Tcp, 1)).unwrap().target, Some(("old", id)));
    registry.attach(NEW, HOST, "new");
    assert_eq!(registry.rename(NEW, &a, Vec::new()), Err(OpenError::UnknownLink));
}

#[test]
fn a_lasting_tunnel_is_answered_until_its_host_may_not_come_back() {
    for (back, is_lasting) in [(Return::Soon, true), (Return::Perhaps, true), (Return::Never, false)] {
        let mut registry = registry();
        registry.open(OLD, minecraft("mc", 25565, &["mc.example.org"])).unwrap();
        registry.detach(at(0), OLD, back);
        registry.handle_timeout(at(30));
        let routes = registry.routes();
        let route = routes.get((Protocol::Tcp, 25565));
        assert_eq!(route.is_some_and(|route| route.is_gone), is_lasting, "{back:?}");
        assert_eq!(named(&routes, "mc.example.org").is_some(), is_lasting);
        assert_eq!((registry.tunnels_of(HOST), registry.poll_timeout()), (0, None));
    }
}

#[test]
fn a_port_that_was_given_to_another_host_leaves_the_one_that_is_gone() {
    let mut registry = registry();
    registry.open(OLD, minecraft("mc", 25565, &[])).unwrap();
    registry.detach(at(0), OLD, Return::Perhaps);
    registry.attach(NEW, HostNumber(2), "new");
    registry.open(NEW, tcp("web", 25565)).unwrap();
    assert_eq!(target(&registry, 25565), Some("new"));
}

#[test]
fn what_was_gone_before_the_relay_began_is_answered_and_comes_back() {
    let mut registry = registry();
    assert!(registry.remember(HOST, minecraft("mc", 25565, &["mc.example.org"])));
    assert!(!registry.remember(HOST, minecraft("other", 25565, &[])));
    assert!(registry.routes().get((Protocol::Tcp, 25565)).unwrap().is_gone);
    registry.open(OLD, minecraft("mc", 25565, &["mc.example.org"])).unwrap();
    assert_eq!(target(&registry, 25565), Some("old"));
    registry.retain_gone(|_, _| false);
    assert_eq!(target(&registry, 25565), Some("old"));
}
