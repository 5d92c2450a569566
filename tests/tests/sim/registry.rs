//! The book of routes under links that come, go, vanish and take over; the shadow is a plain list that is searched from the start each time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use spawnpoint_core::hostname::Pattern;
use spawnpoint_core::route::{HostNumber, OpenError, Opened, PublicPort, Registry, Return, TunnelSpec};
use spawnpoint_proto::{Dialect, LinkId, Protocol, Time, TunnelId, TunnelName};

use crate::sim::seed::Dice;

const STEPS: usize = 3_000;
const LINGER: Duration = Duration::from_secs(30);

/// Random events; after each of them the book and the shadow must say the same.
pub fn simulate(dice: &mut Dice) {
    let mut world = World::new(dice);
    for step in 0..STEPS {
        world.step(dice);
        // A crowded book is long: to read all of it after every step would take most of the time of all simulations.
        if !world.crowded || step % 64 == 0 {
            world.registry.check_invariants();
            world.check();
        }
    }
    world.check();
}

/// A link as its handle: who it is, so that routes can be compared.
type Handle = LinkId;

struct World {
    registry: Registry<Handle>,
    shadow: Shadow,
    now: Time,
    crowded: bool,
    names: Vec<TunnelName>,
    ports: u64,
    links_made: u64,
}

#[derive(Default)]
struct Shadow {
    links: BTreeMap<LinkId, HostNumber>,
    tunnels: Vec<Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    host: HostNumber,
    name: TunnelName,
    port: PublicPort,
    game: Option<String>,
    dialect: Option<Dialect>,
    names: Vec<Pattern>,
    holder: Result<(LinkId, TunnelId), Time>,
}

impl World {
    fn new(dice: &mut Dice) -> Self {
        // Now and then so many tunnels that a link runs out of lanes.
        let crowded = dice.chance(125);
        let names = if crowded { 300 } else { 6 };
        Self {
            registry: Registry::new(LINGER),
            shadow: Shadow::default(),
            now: Time::ZERO,
            crowded,
            names: (0..names).map(|number| format!("t{number}").parse().unwrap()).collect(),
            ports: if crowded { 2_000 } else { 12 },
            links_made: 0,
        }
    }

    fn step(&mut self, dice: &mut Dice) {
        match dice.below(100) {
            0..=11 if !self.crowded || self.shadow.links.is_empty() => self.attach(dice),
            0..=59 => self.open(dice),
            60..=71 => self.close(dice),
            72..=79 if !self.crowded || dice.chance(20) => self.detach(dice),
            80..=97 => self.let_time_pass(dice),
            _ => {}
        }
    }

    fn attach(&mut self, dice: &mut Dice) {
        self.links_made += 1;
        let link = link(self.links_made);
        let host = HostNumber(dice.below(if self.crowded { 1 } else { 3 }) as i64);
        self.registry.attach(link, host, link);
        self.shadow.links.insert(link, host);
    }

    /// A link that is there, or sometimes one that has gone.
    fn some_link(&self, dice: &mut Dice) -> LinkId {
        let there: Vec<_> = self.shadow.links.keys().copied().collect();
        if there.is_empty() || dice.chance(30) {
            link(dice.below(self.links_made + 1))
        } else {
            *dice.pick(&there)
        }
    }

    fn open(&mut self, dice: &mut Dice) {
        let link = self.some_link(dice);
        let patterns = ["a.example.org", "b.example.org", "*.example.org", "*.b.example.org"];
        // In a crowd nearly every name would be taken, and it would not become one.
        let chance = if self.crowded { 0 } else { 150 };
        let names = patterns.iter().filter(|_| dice.chance(chance));
        let names = names.map(|name| name.parse().unwrap()).collect();
        let spec = TunnelSpec {
            name: dice.pick(&self.names).clone(),
            protocol: *dice.pick(&Protocol::ALL),
            port: dice.within(1, self.ports) as u16,
            game: dice.chance(300).then(|| "minecraft".to_owned()),
            dialect: *dice.pick(&[None, Some(Dialect::Minecraft), Some(Dialect::Tls)]),
            names,
            is_lasting: false,
        };
        let foretold = self.shadow.may_open(link, &spec);
        match (self.registry.open(link, spec.clone()), foretold) {
            (Ok(opened), Ok(())) => self.shadow.on_opened(link, spec, opened),
            (answer, foretold) => assert_eq!(answer.map(drop), foretold, "{spec:?} of {link}"),
        }
    }

    fn close(&mut self, dice: &mut Dice) {
        let link = self.some_link(dice);
        let name = dice.pick(&self.names).clone();
        let held = self.shadow.held_by(link).find(|(entry, _)| entry.name == name);
        let foretold = held.map(|(_, id)| id);
        assert_eq!(self.registry.close(link, &name), foretold, "closing {name} of {link}");
        if let Some(id) = foretold {
            self.shadow.tunnels.retain(|entry| entry.holder != Ok((link, id)));
        }
    }

    fn detach(&mut self, dice: &mut Dice) {
        let (link, expected_back) = (self.some_link(dice), dice.chance(700));
        let back = match expected_back {
            true => Return::Soon,
            false => *dice.pick(&[Return::Perhaps, Return::Never]),
        };
        self.registry.detach(self.now, link, back);
        self.shadow
            .on_detached(link, expected_back.then_some(self.now + LINGER));
    }

    fn let_time_pass(&mut self, dice: &mut Dice) {
        let due = self.registry.poll_timeout().filter(|_| dice.chance(300));
        self.now = due.unwrap_or(self.now + dice.duration(Duration::from_secs(12)));
        if self.registry.poll_timeout().is_some_and(|due| due <= self.now) {
            self.registry.handle_timeout(self.now);
        }
        let now = self.now;
        self.shadow
            .tunnels
            .retain(|entry| entry.holder.map_or_else(|until| until > now, |_| true));
    }

    fn check(&self) {
        let due = self.shadow.tunnels.iter().filter_map(|entry| entry.holder.err()).min();
        assert_eq!(self.registry.poll_timeout(), due, "the next port to close");
        let ports: BTreeSet<PublicPort> = self.shadow.tunnels.iter().map(|entry| entry.port).collect();
        assert_eq!(ports.len(), self.shadow.tunnels.len(), "two tunnels share a port");
        let routes = self.registry.routes();
        assert_eq!(routes.ports().collect::<BTreeSet<_>>(), ports, "open ports");
        for entry in &self.shadow.tunnels {
            let route = routes.get(entry.port).unwrap();
            assert_eq!(
                (route.host, &route.name, &route.game, route.target),
                (entry.host, &entry.name, &entry.game, entry.holder.ok()),
                "where {:?} leads",
                entry.port
            );
            assert_eq!(self.registry.port(entry.host, &entry.name), Some(entry.port));
            if let Some(dialect) = entry.dialect {
                for name in entry.names.iter().filter(|name| matches!(name, Pattern::Exact(_))) {
                    let found = routes.by_name(dialect, name.name().as_str()).map(|route| &route.name);
                    assert_eq!(found, Some(&entry.name), "where {name} leads");
                }
            }
            let at_port = self.registry.name_at(entry.host, entry.port);
            assert_eq!(at_port, entry.holder.is_ok().then_some(&entry.name));
        }
        self.check_links();
    }

    fn check_links(&self) {
        let all: BTreeSet<LinkId> = self.registry.links().map(|(id, _)| id).collect();
        assert!(all.iter().eq(self.shadow.links.keys()), "links differ");
        for host in (0..3).map(HostNumber) {
            let seen: Vec<LinkId> = self.registry.links_of(host).into_iter().map(|(id, _)| id).collect();
            let of_host = |&id: &LinkId| self.shadow.links.get(&id) == Some(&host);
            let oldest_first: Vec<LinkId> = (1..=self.links_made).map(link).filter(of_host).collect();
            assert_eq!(seen, oldest_first, "the links of {host:?}");
            let count = self.shadow.tunnels.iter().filter(|entry| entry.host == host).count();
            assert_eq!(self.registry.tunnels_of(host), count, "the tunnels of {host:?}");
        }
    }
}

impl Entry {
    /// Whether it is a tunnel of `host` whose agent is away.
    fn is_absent_of(&self, host: HostNumber) -> bool {
        self.host == host && self.holder.is_err()
    }
}

impl Shadow {
    fn may_open(&self, link: LinkId, spec: &TunnelSpec) -> Result<(), OpenError> {
        let host = *self.links.get(&link).ok_or(OpenError::UnknownLink)?;
        let port = (spec.protocol, spec.port);
        let is_in_the_way = |entry: &&Entry| {
            let is_same = (entry.host, &entry.name) == (host, &spec.name);
            entry.port == port && !is_same && !entry.is_absent_of(host)
        };
        if self.tunnels.iter().any(|entry| is_in_the_way(&entry)) {
            return Err(OpenError::PortTaken);
        }
        let others = self.tunnels.iter().filter(|entry| {
            entry.dialect == spec.dialect
                && (entry.host, &entry.name) != (host, &spec.name)
                && !entry.is_absent_of(host)
        });
        let taken: Vec<_> = others.flat_map(|entry| &entry.names).collect();
        if let Some(name) = spec.names.iter().find(|name| taken.contains(name)) {
            return Err(OpenError::NameTaken(name.clone()));
        }
        if self.held_by(link).count() > usize::from(u8::MAX) {
            return Err(OpenError::TooManyTunnels);
        }
        Ok(())
    }

    fn on_opened(&mut self, link: LinkId, spec: TunnelSpec, opened: Opened) {
        let host = self.links[&link];
        let lane_is_free = self.held_by(link).all(|(_, id)| id.lane() != opened.id.lane());
        assert!(lane_is_free, "lane {} of {link} is taken", opened.id.lane());
        let (key, port) = ((host, &spec.name), (spec.protocol, spec.port));
        for entry in &mut self.tunnels {
            if entry.is_absent_of(host) && entry.dialect == spec.dialect && (entry.host, &entry.name) != key {
                entry.names.retain(|name| !spec.names.contains(name));
            }
        }
        self.tunnels
            .retain(|entry| entry.port != port || (entry.host, &entry.name) == key || !entry.is_absent_of(host));
        let before = self
            .tunnels
            .iter()
            .position(|entry| (entry.host, &entry.name) == key)
            .map(|at| self.tunnels.swap_remove(at));
        let taken_from = before.and_then(|entry| entry.holder.ok());
        assert_eq!(opened.taken_from, taken_from, "who had {} before", spec.name);
        let emptied = taken_from.is_some_and(|(old, _)| old != link && self.held_by(old).next().is_none());
        assert_eq!(opened.emptied, emptied, "whether the old link has anything left");
        self.tunnels.push(Entry {
            host,
            name: spec.name,
            port: (spec.protocol, spec.port),
            game: spec.game,
            dialect: spec.dialect,
            names: spec.names,
            holder: Ok((link, opened.id)),
        });
    }

    /// The ports of `link` stay open until a moment, or close.
    fn on_detached(&mut self, link: LinkId, until: Option<Time>) {
        self.links.remove(&link);
        self.tunnels.retain_mut(|entry| match (entry.holder, until) {
            (Ok((holder, _)), Some(until)) if holder == link => {
                entry.holder = Err(until);
                true
            }
            (Ok((holder, _)), None) => holder != link,
            _ => true,
        });
    }

    fn held_by(&self, link: LinkId) -> impl Iterator<Item = (&Entry, TunnelId)> {
        self.tunnels.iter().filter_map(move |entry| match entry.holder {
            Ok((holder, id)) if holder == link => Some((entry, id)),
            _ => None,
        })
    }
}

fn link(number: u64) -> LinkId {
    LinkId(u128::from(number).to_le_bytes())
}
