//! The gate under players, floods and a clock that jumps; the shadow keeps every admission it has seen and counts from scratch.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use spawnpoint_core::admission::{Bounds, Circle, DenyReason, Full, Gate, Limits, NETWORK, Permit, Whose};
use spawnpoint_proto::Time;

use crate::sim::seed::Dice;

const STEPS: usize = 3_000;
const HOSTS: usize = 3;

/// A table with room for every prefix that comes: each answer of the gate is foretold, with its reason.
pub fn simulate_roomy(dice: &mut Dice) {
    let mut town = Town::new(dice, 1_000_000);
    for _ in 0..STEPS {
        town.step(dice, Town::try_foretold);
        town.check();
        assert!(
            town.gate.prefixes() <= town.admitted.len(),
            "a prefix of which nobody was let in takes room in the table"
        );
    }
    town.leave();
}

/// A table with room for a few prefixes: whoever comes through which entry, everything stays within what one entry allows and the one that all share.
pub fn simulate_cramped(dice: &mut Dice) {
    let room = dice.within(1, 12) as usize;
    let mut town = Town::new(dice, room);
    for _ in 0..STEPS {
        town.step(dice, Town::try_bounded);
        town.check();
        assert!(
            town.gate.prefixes() <= room + 1,
            "the table of prefixes outgrew its room"
        );
    }
    town.leave();
}

/// What the shadow tells players apart by: an IPv4 address, or the network of an IPv6 one.
type Prefix = (bool, u64);

struct Town {
    gate: Gate,
    limits: Limits,
    hosts: Vec<(Arc<Circle>, Bounds)>,
    now: Time,
    /// Addresses that come again and again.
    regulars: Vec<IpAddr>,
    inside: Vec<Visitor>,
    /// When players of each prefix were let in, all of them.
    admitted: BTreeMap<Prefix, Vec<Time>>,
    draining: bool,
}

struct Visitor {
    permit: Permit,
    prefix: Prefix,
    host: usize,
    is_answered: bool,
}

impl Town {
    fn new(dice: &mut Dice, prefixes: usize) -> Self {
        let limits = Limits {
            relay: Bounds {
                half_open: dice.within(5, 60) as u32,
                ..Bounds::of_players(dice.within(5, 60) as u32)
            },
            prefix: Bounds {
                players: dice.within(1, 12) as u32,
                half_open: dice.within(1, 12) as u32,
                rate: dice.within(1, 20) as u32,
                burst: dice.within(1, 15) as u32,
            },
            prefixes,
            // What is foretold is without a siege.
            siege: u32::MAX,
        };
        let hosts = (0..HOSTS).map(|_| host_bounds(dice));
        Self {
            gate: Gate::new(limits),
            limits,
            hosts: hosts
                .map(|bounds| (Arc::new(Circle::of_host(bounds)), bounds))
                .collect(),
            now: Time::ZERO,
            regulars: (0..8).map(|_| address(dice)).collect(),
            inside: Vec::new(),
            admitted: BTreeMap::new(),
            draining: false,
        }
    }

    fn step(&mut self, dice: &mut Dice, come: fn(&mut Self, IpAddr, usize)) {
        match dice.below(100) {
            0..=44 => {
                let regular = *dice.pick(&self.regulars);
                come(self, neighbour(dice, regular), dice.index(HOSTS));
            }
            45..=49 => self.flood(dice, come),
            50..=69 => self.let_go(dice),
            70..=79 => self.answer(dice),
            80..=94 => self.now = self.now + dice.duration(Duration::from_millis(400)),
            95..=97 => self.now = self.now + dice.duration(Duration::from_secs(30)),
            98 => self.resize_host(dice),
            _ if dice.chance(20) => {
                self.gate.drain();
                self.draining = true;
            }
            _ => {}
        }
    }

    /// Many addresses that come once, on one host.
    fn flood(&mut self, dice: &mut Dice, come: fn(&mut Self, IpAddr, usize)) {
        let host = dice.index(HOSTS);
        for _ in 0..dice.within(1, 40) {
            come(self, address(dice), host);
        }
    }

    fn let_go(&mut self, dice: &mut Dice) {
        if !self.inside.is_empty() {
            let at = dice.index(self.inside.len());
            drop(self.inside.swap_remove(at).permit);
        }
    }

    fn answer(&mut self, dice: &mut Dice) {
        if !self.inside.is_empty() {
            let at = dice.index(self.inside.len());
            self.inside[at].permit.settle();
            self.inside[at].is_answered = true;
        }
    }

    fn resize_host(&mut self, dice: &mut Dice) {
        let bounds = host_bounds(dice);
        let host = dice.pick(&self.hosts).0.clone();
        host.set_bounds(bounds);
        let entry = self
            .hosts
            .iter_mut()
            .find(|(circle, _)| Arc::ptr_eq(circle, &host))
            .unwrap();
        entry.1 = bounds;
    }

    fn try_foretold(&mut self, ip: IpAddr, host: usize) {
        let foretold = self.foretell(prefix_of(ip), host);
        let answer = self.gate.admit(self.now, ip, &self.hosts[host].0);
        assert_eq!(
            answer.as_ref().map(drop).map_err(|&reason| reason),
            foretold,
            "{ip} at host {host}"
        );
        answer.into_iter().for_each(|permit| self.enter(permit, ip, host));
    }

    fn foretell(&self, prefix: Prefix, host: usize) -> Result<(), DenyReason> {
        if self.draining {
            Err(DenyReason::Draining)
        } else {
            let own = self.count(|visitor| visitor.prefix == prefix);
            let is_too_fast = self.is_too_fast(prefix, 1);
            full((Whose::Address, own), self.limits.prefix, is_too_fast)?;
            let hosts = self.count(|visitor| visitor.host == host);
            full((Whose::Host, hosts), self.hosts[host].1, false)?;
            full((Whose::Relay, self.count(|_| true)), self.limits.relay, false)
        }
    }

    fn try_bounded(&mut self, ip: IpAddr, host: usize) {
        let prefix = prefix_of(ip);
        let Ok(permit) = self.gate.admit(self.now, ip, &self.hosts[host].0) else {
            return;
        };
        // A prefix may have come in both by an entry of its own and by the one that all without room share.
        assert!(
            !self.is_too_fast(prefix, 1 + NETWORK),
            "{ip} came in faster than both entries allow"
        );
        self.enter(permit, ip, host);
        assert!(
            self.count(|visitor| visitor.prefix == prefix).0 <= (1 + NETWORK) * self.limits.prefix.players,
            "too many of {ip} are in"
        );
    }

    fn enter(&mut self, permit: Permit, ip: IpAddr, host: usize) {
        let prefix = prefix_of(ip);
        self.admitted.entry(prefix).or_default().push(self.now);
        self.inside.push(Visitor {
            permit,
            prefix,
            host,
            is_answered: false,
        });
    }

    /// Whether one more of `prefix` now would make more than `entries` times (burst + rate * time) in some window that ends now.
    fn is_too_fast(&self, prefix: Prefix, entries: u32) -> bool {
        let step = Duration::from_secs(1) / self.limits.prefix.rate;
        let times = self.admitted.get(&prefix).map_or(&[][..], Vec::as_slice);
        // Earlier admissions cannot matter: in a minute even one player a second makes good for the largest burst.
        let recent = times
            .iter()
            .rev()
            .take_while(|&&time| self.now.since(time) < Duration::from_secs(60));
        let windows = std::iter::once(self.now).chain(recent.copied()).zip(1u32..);
        windows
            .into_iter()
            .any(|(start, count)| step * count > entries * (step * self.limits.prefix.burst + self.now.since(start)))
    }

    /// How many are in for whom `is_counted`, and how many of them are not answered.
    fn count(&self, is_counted: impl Fn(&Visitor) -> bool) -> (u32, u32) {
        let counted = self.inside.iter().filter(|visitor| is_counted(visitor));
        counted.fold((0, 0), |(active, half_open), visitor| {
            (active + 1, half_open + u32::from(!visitor.is_answered))
        })
    }

    fn check(&self) {
        assert_eq!(
            (self.gate.active(), self.gate.half_open()),
            self.count(|_| true),
            "the gate lost count of all players"
        );
        assert!(
            self.gate.active() <= self.limits.relay.players,
            "more players than the relay takes"
        );
        for (host, (circle, _)) in self.hosts.iter().enumerate() {
            assert_eq!(
                (circle.active(), circle.half_open()),
                self.count(|visitor| visitor.host == host),
                "the gate lost count of host {host}"
            );
        }
    }

    fn leave(mut self) {
        self.inside.clear();
        self.check();
        let distinct: BTreeSet<_> = self.admitted.keys().collect();
        assert!(
            !distinct.is_empty()
                || self
                    .hosts
                    .iter()
                    .all(|(_, bounds)| bounds.players == 0 || bounds.half_open == 0)
                || self.draining
        );
    }
}

fn host_bounds(dice: &mut Dice) -> Bounds {
    Bounds {
        half_open: dice.within(0, 30) as u32,
        ..Bounds::of_players(dice.within(0, 30) as u32)
    }
}

/// What a circle with so many players, and so many of them not answered, says to one more.
fn full(
    (whose, (active, half_open)): (Whose, (u32, u32)),
    bounds: Bounds,
    is_too_fast: bool,
) -> Result<(), DenyReason> {
    let full = match () {
        () if active >= bounds.players => Full::Players,
        () if half_open >= bounds.half_open => Full::HalfOpen,
        () if is_too_fast => Full::Rate,
        () => return Ok(()),
    };
    Err(DenyReason::Full(whose, full))
}

fn address(dice: &mut Dice) -> IpAddr {
    if dice.chance(500) {
        IpAddr::from((dice.number() as u32).to_be_bytes())
    } else {
        IpAddr::from(((0x2001_0db8 << 96) | (u128::from(dice.number() as u32) << 64)).to_be_bytes())
    }
}

/// Another address that counts as the same player: elsewhere in an IPv6 network, or IPv4 in IPv6 clothes.
fn neighbour(dice: &mut Dice, ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(ip) if dice.chance(300) => IpAddr::V6(ip.to_ipv6_mapped()),
        IpAddr::V4(_) => ip,
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() | u128::from(dice.number()))),
    }
}

fn prefix_of(ip: IpAddr) -> Prefix {
    match ip.to_canonical() {
        IpAddr::V4(ip) => (false, ip.to_bits().into()),
        IpAddr::V6(ip) => (true, (ip.to_bits() >> 64) as u64),
    }
}
