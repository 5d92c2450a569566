//! Where a player goes: from a public port, or a name on a shared one, to a tunnel of a link.
//!
//! The [`Registry`] is the book of one relay: which links there are, which tunnels they hold, which public port leads to which of them. It decides
//! takeovers: a tunnel has one link at a time, and the newest that opens its name has it. What players' tasks read is a [`RouteTable`], an unchanging
//! copy of the book. A tunnel whose players can be answered without it stays in the book when its agent is gone, so that they are.
//!
//! A link is whatever the caller says (`L`), ports come claimed from the directory, and sockets are opened by `relay::registry` to follow this book.

mod registry;

use std::collections::HashMap;

use spawnpoint_proto::{Dialect, Protocol, TunnelId, TunnelName};

use crate::hostname::{Hostname, Pattern, parents};

pub use registry::{OpenError, Opened, Registry, Return};

/// The number of a host in the directory.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct HostNumber(pub i64);

/// A public port.
pub type PublicPort = (Protocol, u16);

/// What a link opens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TunnelSpec {
    /// Its name within the host.
    pub name: TunnelName,
    /// What it carries.
    pub protocol: Protocol,
    /// The public port that the directory has reserved for it.
    pub port: u16,
    /// The game behind it, for the words of a refusal.
    pub game: Option<String>,
    /// What its players' first bytes are written in, when that is known.
    pub dialect: Option<Dialect>,
    /// Its names on the shared ports of that dialect.
    pub names: Vec<Pattern>,
    /// Whether its players are answered as long as it is anybody's, and so its port stays open.
    pub is_lasting: bool,
}

/// Where one public port leads.
#[derive(Clone, Debug)]
pub struct Route<L> {
    /// The host that owns it.
    pub host: HostNumber,
    /// The tunnel's name.
    pub name: TunnelName,
    /// The game behind it.
    pub game: Option<String>,
    /// What its players' first bytes are written in.
    pub dialect: Option<Dialect>,
    /// The link that serves it now and the tunnel's id there; `None` while the agent is away.
    pub target: Option<(L, TunnelId)>,
    /// Whether the agent is not expected back any moment.
    pub is_gone: bool,
}

/// Every public port and where it leads, and which names lead there too.
#[derive(Clone, Debug)]
pub struct RouteTable<L> {
    ports: HashMap<PublicPort, Route<L>>,
    exact: HashMap<Dialect, HashMap<Box<str>, PublicPort>>,
    under: HashMap<Dialect, HashMap<Box<str>, PublicPort>>,
}

impl<L> Default for RouteTable<L> {
    fn default() -> Self {
        Self {
            ports: HashMap::new(),
            exact: HashMap::new(),
            under: HashMap::new(),
        }
    }
}

impl<L> RouteTable<L> {
    /// Where `port` leads.
    pub fn get(&self, port: PublicPort) -> Option<&Route<L>> {
        self.ports.get(&port)
    }

    /// Where `name`, in the form of a [`Hostname`], leads on a shared port: the tunnel with just this name, else the one with
    /// the longest `*.NAME` that it is under.
    pub fn by_name(&self, dialect: Dialect, name: &str) -> Option<&Route<L>> {
        self.ports.get(&self.port_by_name(dialect, name)?)
    }

    /// The public port of the tunnel to which a player goes who asks for `name`, or for none; whoever finds nobody gets the `default`, a host's tunnel, if
    /// that speaks the same.
    pub fn find(
        &self,
        dialect: Dialect,
        name: Option<&str>,
        default: Option<(HostNumber, &TunnelName)>,
    ) -> Option<PublicPort> {
        let name = name.and_then(|name| name.parse::<Hostname>().ok());
        let named = name.and_then(|name| self.port_by_name(dialect, name.as_str()));
        named.or_else(|| {
            let (host, tunnel) = default?;
            let is_default =
                |route: &Route<L>| route.host == host && route.name == *tunnel && route.dialect == Some(dialect);
            let mut ports = self.ports.iter();
            ports.find(|(_, route)| is_default(route)).map(|(port, _)| *port)
        })
    }

    fn port_by_name(&self, dialect: Dialect, name: &str) -> Option<PublicPort> {
        let exact = self.exact.get(&dialect).and_then(|names| names.get(name));
        let under = || {
            let names = self.under.get(&dialect)?;
            parents(name).find_map(|parent| names.get(parent))
        };
        exact.or_else(under).copied()
    }

    /// The public ports.
    pub fn ports(&self) -> impl Iterator<Item = PublicPort> + '_ {
        self.ports.keys().copied()
    }
}

#[cfg(test)]
mod tests;
