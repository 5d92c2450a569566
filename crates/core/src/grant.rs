//! What a host may expose, decided in one place.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use spawnpoint_proto::{Protocol, RefusalCode, TunnelName};

use crate::access::Lists;
use crate::admission::Bounds;
use crate::hostname::{Hostname, Pattern};
use crate::port::PortSet;

/// A moment of the calendar, in seconds since 1970-01-01 UTC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct UnixTime(pub u64);

/// Which protocols a host may expose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProtocolSet {
    /// Streams.
    pub tcp: bool,
    /// Packets.
    pub udp: bool,
}

impl ProtocolSet {
    /// Both protocols.
    pub const ALL: Self = Self { tcp: true, udp: true };

    /// Whether `protocol` is in the set.
    pub const fn contains(self, protocol: Protocol) -> bool {
        match protocol {
            Protocol::Tcp => self.tcp,
            Protocol::Udp => self.udp,
        }
    }

    /// The protocols of the set.
    pub fn iter(self) -> impl Iterator<Item = Protocol> {
        Protocol::ALL
            .into_iter()
            .filter(move |&protocol| self.contains(protocol))
    }
}

impl FromIterator<Protocol> for ProtocolSet {
    fn from_iter<I: IntoIterator<Item = Protocol>>(protocols: I) -> Self {
        protocols
            .into_iter()
            .fold(Self { tcp: false, udp: false }, |set, protocol| match protocol {
                Protocol::Tcp => Self { tcp: true, ..set },
                Protocol::Udp => Self { udp: true, ..set },
            })
    }
}

/// Which public ports a host may have.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PortRule {
    /// Any port of the relay's pool, asked for or handed out.
    Pool,
    /// These ports only, in or outside the pool.
    Only(PortSet),
}

/// How much of the relay a host or a tunnel may use; what is `None` is as the relay's configuration says.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Caps {
    /// Players at once.
    pub players: Option<NonZeroU32>,
    /// Players at once whom no server has answered yet.
    pub half_open: Option<NonZeroU32>,
    /// New players a second.
    pub new_players: Option<NonZeroU32>,
    /// How fast what they say and hear may be.
    pub rates: Rates,
    /// Bytes in a month of the calendar (UTC), both ways together.
    pub quota: Option<u64>,
}

/// How fast the players of a circle may be; `None` is no limit.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Rates {
    /// Bytes a second from players.
    pub up: Option<u64>,
    /// Bytes a second to players.
    pub down: Option<u64>,
    /// UDP packets a second from players.
    pub packets: Option<u32>,
}

impl Rates {
    /// What is said here, and `usual` where nothing is.
    pub fn or(self, usual: Self) -> Self {
        Self {
            up: self.up.or(usual.up),
            down: self.down.or(usual.down),
            packets: self.packets.or(usual.packets),
        }
    }
}

impl Caps {
    /// The `usual` bounds with what is said here instead.
    pub fn bounds(&self, usual: Bounds) -> Bounds {
        let or = |own: Option<NonZeroU32>, usual| own.map_or(usual, NonZeroU32::get);
        let players = or(self.players, usual.players);
        Bounds {
            players,
            half_open: or(self.half_open, usual.half_open),
            rate: or(self.new_players, usual.rate),
            burst: self
                .new_players
                .map_or(usual.burst, |rate| rate.get().saturating_mul(2)),
        }
    }

    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What a host may expose.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Grant {
    /// Protocols of its tunnels.
    pub protocols: ProtocolSet,
    /// Public ports of its tunnels.
    pub ports: PortRule,
    /// Host names it may claim on shared ports; `*.example.org` allows every name under it.
    pub hostnames: Vec<Pattern>,
    /// How much all its tunnels together may use.
    pub caps: Caps,
    /// How much some tunnels may use, each for itself.
    pub tunnel_caps: BTreeMap<TunnelName, Caps>,
    /// From where its players may come.
    pub lists: Lists,
    /// From where those of some tunnels may come, within that.
    pub tunnel_lists: BTreeMap<TunnelName, Lists>,
    /// When the grant ends by itself.
    pub expires: Option<UnixTime>,
}

impl Default for Grant {
    /// Both protocols, any port of the pool, no end.
    fn default() -> Self {
        Self {
            protocols: ProtocolSet::ALL,
            ports: PortRule::Pool,
            hostnames: Vec::new(),
            caps: Caps::default(),
            tunnel_caps: BTreeMap::new(),
            lists: Lists::default(),
            tunnel_lists: BTreeMap::new(),
            expires: None,
        }
    }
}

impl Grant {
    /// Whether the grant has ended at `now`.
    pub fn is_expired(&self, now: UnixTime) -> bool {
        self.expires.is_some_and(|end| end <= now)
    }

    /// How much a tunnel may use by itself.
    pub fn caps_of(&self, tunnel: &TunnelName) -> Caps {
        self.tunnel_caps.get(tunnel).copied().unwrap_or_default()
    }

    /// The ports from which a tunnel of this host is served on a relay with this `pool`.
    pub fn ports<'a>(&'a self, pool: &'a PortSet) -> &'a PortSet {
        match &self.ports {
            PortRule::Pool => pool,
            PortRule::Only(ports) => ports,
        }
    }

    /// Whether a tunnel of this host may have `name`, beside what every tunnel has of the relay's own domain.
    pub fn allows_name(&self, name: &Pattern) -> bool {
        self.hostnames.iter().any(|granted| granted.covers(name))
    }

    /// Whether a tunnel of this host may have `name`, which may lie under the relay's own `domain`: what allows that must lie there itself, since a name
    /// around it says nothing of the hosts in it.
    pub fn allows_name_within(&self, name: &Pattern, domain: &Hostname) -> bool {
        let is_inside = |pattern: &Pattern| pattern.name().is_within(domain);
        let mut granted = self.hostnames.iter().filter(|granted| granted.covers(name));
        granted.any(|granted| !is_inside(name) || is_inside(granted))
    }

    /// Checks a tunnel with this `protocol` and, when it asks for a certain one, this public `port`.
    ///
    /// # Errors
    /// [`RefusalCode::ProtocolNotGranted`] or [`RefusalCode::PortNotGranted`].
    pub fn check(&self, protocol: Protocol, port: Option<u16>, pool: &PortSet) -> Result<(), RefusalCode> {
        if !self.protocols.contains(protocol) {
            return Err(RefusalCode::ProtocolNotGranted);
        }
        match port {
            Some(port) if !self.ports(pool).contains(port) => Err(RefusalCode::PortNotGranted),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn pool() -> PortSet {
        PortSet::range(25565..=25664)
    }

    #[test]
    fn the_default_grant_allows_the_pool_and_nothing_else() {
        let grant = Grant::default();
        assert_eq!(grant.check(Protocol::Udp, None, &pool()), Ok(()));
        assert_eq!(grant.check(Protocol::Tcp, Some(25600), &pool()), Ok(()));
        assert_eq!(
            grant.check(Protocol::Tcp, Some(22), &pool()),
            Err(RefusalCode::PortNotGranted)
        );
    }

    #[test]
    fn named_ports_replace_the_pool() {
        let grant = Grant {
            ports: PortRule::Only("19132".parse().unwrap()),
            ..Grant::default()
        };
        assert_eq!(grant.check(Protocol::Udp, Some(19132), &pool()), Ok(()));
        assert_eq!(
            grant.check(Protocol::Udp, Some(25565), &pool()),
            Err(RefusalCode::PortNotGranted)
        );
    }

    #[test]
    fn a_protocol_outside_the_grant_is_refused_first() {
        let grant = Grant {
            protocols: [Protocol::Udp].into_iter().collect(),
            ..Grant::default()
        };
        assert_eq!(
            grant.check(Protocol::Tcp, Some(22), &pool()),
            Err(RefusalCode::ProtocolNotGranted)
        );
    }

    #[test]
    fn what_a_grant_says_of_players_replaces_what_is_usual() {
        let usual = Bounds {
            players: 1000,
            half_open: 500,
            rate: 200,
            burst: 400,
        };
        assert_eq!(Caps::default().bounds(usual), usual);
        let caps = Caps {
            players: NonZeroU32::new(5000),
            new_players: NonZeroU32::new(7),
            ..Caps::default()
        };
        let bounds = caps.bounds(usual);
        assert_eq!(
            (bounds.players, bounds.half_open, bounds.rate, bounds.burst),
            (5000, 500, 7, 14)
        );
    }

    #[test]
    fn a_grant_ends_at_its_second() {
        let grant = Grant {
            expires: Some(UnixTime(100)),
            ..Grant::default()
        };
        assert!(!grant.is_expired(UnixTime(99)));
        assert!(grant.is_expired(UnixTime(100)));
    }
}
