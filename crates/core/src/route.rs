//! Where a player goes: from a public port, or a name on a shared one, to a tunnel of a link.
//!
//! The [`Registry`] is the book of one relay: which links there are, which tunnels they hold, which public port leads to which of them. It decides
//! takeovers: a tunnel has one link at a time, and the newest that opens its name has it. What players' tasks read is a [`RouteTable`], an unchanging
//! copy of the book. A tunnel whose players can be answered without it stays in the book when its agent is gone, so that they are.
//!
//! A link is whatever the caller says (`L`), ports come claimed from the directory, and sockets are opened by `relay::registry` to follow this book.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use spawnpoint_proto::{Dialect, LinkId, Protocol, Time, TunnelId, TunnelName};

use crate::hostname::{Hostname, Pattern, parents};

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

/// The book of one relay.
#[derive(Debug)]
pub struct Registry<L> {
    /// A port stays open this long for an agent that went away without saying so.
    linger: Duration,
    links: HashMap<LinkId, Link<L>>,
    next_link: u64,
    /// In a tree, so that a simulation meets them in the same order each time.
    tunnels: BTreeMap<(HostNumber, TunnelName), Tunnel>,
}

#[derive(Debug)]
struct Link<L> {
    /// Which of all links it was, counted from the first.
    number: u64,
    host: HostNumber,
    handle: L,
    next_tunnel: u32,
}

#[derive(Debug)]
struct Tunnel {
    protocol: Protocol,
    port: u16,
    game: Option<String>,
    dialect: Option<Dialect>,
    names: Vec<Pattern>,
    is_lasting: bool,
    holder: Holder,
}

#[derive(Clone, Copy, Debug)]
enum Holder {
    Link(LinkId, TunnelId),
    /// Nobody; at this moment the port closes, or stays open for words only.
    Nobody(Time),
    /// Nobody, and nobody is expected.
    Gone,
}

/// Whether an agent that goes comes back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Return {
    /// Any moment: it has not said goodbye.
    Soon,
    /// Some day.
    Perhaps,
    /// It may not.
    Never,
}

/// What opening a tunnel has changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Opened {
    /// The tunnel's id in its link.
    pub id: TunnelId,
    /// The link that had it before, and the tunnel's id there.
    pub taken_from: Option<(LinkId, TunnelId)>,
    /// Whether that link has no tunnel left.
    pub emptied: bool,
}

/// Why a tunnel is not opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum OpenError {
    /// The link is not in the book (any more).
    UnknownLink,
    /// The link already holds as many tunnels as there are lanes.
    TooManyTunnels,
    /// The port leads to another tunnel.
    PortTaken,
    /// The name leads to another tunnel.
    NameTaken(Pattern),
}

impl<L: Clone> Registry<L> {
    /// An empty book.
    pub fn new(linger: Duration) -> Self {
        Self {
            linger,
            links: HashMap::new(),
            next_link: 0,
            tunnels: BTreeMap::new(),
        }
    }

    /// Enters a link.
    pub fn attach(&mut self, id: LinkId, host: HostNumber, handle: L) {
        let number = self.next_link;
        self.next_link += 1;
        self.links.insert(
            id,
            Link {
                number,
                host,
                handle,
                next_tunnel: 0,
            },
        );
    }

    /// Opens a tunnel for a link, taking it over from whichever link of the same host had it.
    ///
    /// # Errors
    /// See [`OpenError`]; the book is unchanged then.
    pub fn open(&mut self, link: LinkId, spec: TunnelSpec) -> Result<Opened, OpenError> {
        let host = self.links.get(&link).ok_or(OpenError::UnknownLink)?.host;
        let key = (host, spec.name.clone());
        if let Some((other, tunnel)) = self.at_port((spec.protocol, spec.port))
            && *other != key
        {
            // A renamed tunnel need not wait until the place of its old name is given up, nor anybody for one that is gone: the port is theirs now.
            if !tunnel.yields_to(other.0 == host) {
                return Err(OpenError::PortTaken);
            }
        }
        if let Some(name) = self.taken_name(&key, &spec.names, spec.dialect) {
            return Err(OpenError::NameTaken(name.clone()));
        }
        let taken_from = match self.tunnels.get(&key).map(|tunnel| tunnel.holder) {
            Some(Holder::Link(holder, id)) => Some((holder, id)),
            _ => None,
        };
        let lanes: HashSet<u8> = self.held_by(link).map(TunnelId::lane).collect();
        if lanes.len() > usize::from(u8::MAX) {
            return Err(OpenError::TooManyTunnels);
        }
        if let Some((other, _)) = self.at_port((spec.protocol, spec.port))
            && *other != key
        {
            let other = other.clone();
            self.tunnels.remove(&other);
        }
        self.take_names(&key, &spec.names, spec.dialect);
        let entry = self.links.get_mut(&link).ok_or(OpenError::UnknownLink)?;
        let id = loop {
            let id = TunnelId(entry.next_tunnel);
            entry.next_tunnel = entry.next_tunnel.wrapping_add(1);
            if !lanes.contains(&id.lane()) {
                break id;
            }
        };
        let spec = TunnelSpec {
            name: key.1.clone(),
            ..spec
        };
        self.tunnels.insert(key, Tunnel::new(spec, Holder::Link(link, id)));
        let emptied = taken_from.is_some_and(|(old, _)| old != link && self.held_by(old).next().is_none());
        Ok(Opened {
            id,
            taken_from,
            emptied,
        })
    }

    /// Enters a tunnel that `link` held in the process that this one follows, under the id that it had there.
    ///
    /// # Errors
    /// [`OpenError::UnknownLink`] or [`OpenError::PortTaken`]; the book is unchanged then.
    pub fn restore(&mut self, link: LinkId, spec: TunnelSpec, id: TunnelId) -> Result<(), OpenError> {
        if self.at_port((spec.protocol, spec.port)).is_some() {
            return Err(OpenError::PortTaken);
        }
        let entry = self.links.get_mut(&link).ok_or(OpenError::UnknownLink)?;
        entry.next_tunnel = entry.next_tunnel.max(id.0.wrapping_add(1));
        let key = (entry.host, spec.name.clone());
        self.tunnels.insert(key, Tunnel::new(spec, Holder::Link(link, id)));
        Ok(())
    }

    /// Enters a lasting tunnel whose agent was gone before this process began; returns whether there was a place for it.
    pub fn remember(&mut self, host: HostNumber, spec: TunnelSpec) -> bool {
        let key = (host, spec.name.clone());
        let is_free = self.at_port((spec.protocol, spec.port)).is_none()
            && !self.tunnels.contains_key(&key)
            && self.taken_name(&key, &spec.names, spec.dialect).is_none();
        if is_free {
            self.tunnels.insert(key, Tunnel::new(spec, Holder::Gone));
        }
        is_free
    }

    /// Takes out the tunnels that are gone and not to be kept.
    pub fn retain_gone(&mut self, is_kept: impl Fn(HostNumber, &TunnelName) -> bool) {
        self.tunnels
            .retain(|(host, name), tunnel| !tunnel.is_gone() || is_kept(*host, name));
    }

    /// The first of `names` that leads to another tunnel which does not give it up.
    fn taken_name<'a>(
        &self,
        key: &(HostNumber, TunnelName),
        names: &'a [Pattern],
        dialect: Option<Dialect>,
    ) -> Option<&'a Pattern> {
        let others: Vec<_> = self
            .tunnels
            .iter()
            .filter(|(other, tunnel)| *other != key && tunnel.dialect == dialect && !tunnel.yields_to(other.0 == key.0))
            .flat_map(|(_, tunnel)| &tunnel.names)
            .collect();
        names.iter().find(|name| others.contains(name))
    }

    /// Gives a tunnel that `link` holds other names; its players do not notice.
    ///
    /// # Errors
    /// [`OpenError::NameTaken`], or [`OpenError::UnknownLink`] when it does not hold such a tunnel; the book is unchanged then.
    pub fn rename(&mut self, link: LinkId, name: &TunnelName, names: Vec<Pattern>) -> Result<(), OpenError> {
        let host = self.links.get(&link).ok_or(OpenError::UnknownLink)?.host;
        let key = (host, name.clone());
        let dialect = match self.tunnels.get(&key) {
            Some(tunnel) if matches!(tunnel.holder, Holder::Link(holder, _) if holder == link) => tunnel.dialect,
            _ => return Err(OpenError::UnknownLink),
        };
        if let Some(name) = self.taken_name(&key, &names, dialect) {
            return Err(OpenError::NameTaken(name.clone()));
        }
        self.take_names(&key, &names, dialect);
        if let Some(tunnel) = self.tunnels.get_mut(&key) {
            tunnel.names = names;
        }
        Ok(())
    }

    /// Takes `names` from the tunnels that give them up.
    fn take_names(&mut self, key: &(HostNumber, TunnelName), names: &[Pattern], dialect: Option<Dialect>) {
        for (other, tunnel) in &mut self.tunnels {
            if other != key && tunnel.dialect == dialect && tunnel.yields_to(other.0 == key.0) {
                tunnel.names.retain(|name| !names.contains(name));
            }
        }
    }

    /// Closes a tunnel that `link` holds and frees its port at once; returns the tunnel's id.
    pub fn close(&mut self, link: LinkId, name: &TunnelName) -> Option<TunnelId> {
        let key = (self.links.get(&link)?.host, name.clone());
        match self.tunnels.get(&key)?.holder {
            Holder::Link(holder, id) if holder == link => {
                self.tunnels.remove(&key);
                Some(id)
            }
            _ => None,
        }
    }

    /// The public port of a host's tunnel, if that is open.
    pub fn port(&self, host: HostNumber, name: &TunnelName) -> Option<PublicPort> {
        self.tunnels
            .get(&(host, name.clone()))
            .filter(|tunnel| !tunnel.is_gone())
            .map(|tunnel| (tunnel.protocol, tunnel.port))
    }

    /// The tunnel of `host` that is open at a public port right now.
    pub fn name_at(&self, host: HostNumber, port: PublicPort) -> Option<&TunnelName> {
        let ((owner, name), tunnel) = self.at_port(port)?;
        (*owner == host && matches!(tunnel.holder, Holder::Link(..))).then_some(name)
    }

    /// How many tunnels of a host are open or awaited.
    pub fn tunnels_of(&self, host: HostNumber) -> usize {
        let is_counted =
            |((owner, _), tunnel): &(&(HostNumber, TunnelName), &Tunnel)| *owner == host && !tunnel.is_gone();
        self.tunnels.iter().filter(is_counted).count()
    }

    fn at_port(&self, (protocol, port): PublicPort) -> Option<(&(HostNumber, TunnelName), &Tunnel)> {
        self.tunnels
            .iter()
            .find(|(_, tunnel)| tunnel.protocol == protocol && tunnel.port == port)
    }

    /// Takes a link out. Its ports stay open for a while if it is back soon; otherwise they close at once, but for lasting ones if it may ever be.
    pub fn detach(&mut self, now: Time, link: LinkId, back: Return) {
        self.links.remove(&link);
        let until = now + self.linger;
        self.tunnels.retain(|_, tunnel| match (tunnel.holder, back) {
            (Holder::Link(holder, _), _) if holder != link => true,
            (Holder::Nobody(_) | Holder::Gone, _) => true,
            (_, Return::Soon) => {
                tunnel.holder = Holder::Nobody(until);
                true
            }
            (_, Return::Perhaps) => {
                tunnel.holder = Holder::Gone;
                tunnel.is_lasting
            }
            (_, Return::Never) => false,
        });
    }

    /// When [`Registry::handle_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Option<Time> {
        self.tunnels.values().filter_map(|tunnel| tunnel.until()).min()
    }

    /// Gives up the agents that were waited for long enough, and closes the ports that are no use without them.
    pub fn handle_timeout(&mut self, now: Time) {
        self.tunnels.retain(|_, tunnel| {
            if tunnel.until().is_none_or(|until| until > now) {
                return true;
            }
            tunnel.holder = Holder::Gone;
            tunnel.is_lasting
        });
    }

    /// The links of a host, oldest first.
    pub fn links_of(&self, host: HostNumber) -> Vec<(LinkId, &L)> {
        let mut links: Vec<_> = self.links.iter().filter(|(_, link)| link.host == host).collect();
        links.sort_by_key(|(_, link)| link.number);
        links.into_iter().map(|(id, link)| (*id, &link.handle)).collect()
    }

    /// Every link.
    pub fn links(&self) -> impl Iterator<Item = (LinkId, &L)> {
        self.links.iter().map(|(id, link)| (*id, &link.handle))
    }

    /// The book as players' tasks read it.
    pub fn routes(&self) -> RouteTable<L> {
        let route = |((host, name), tunnel): (&(HostNumber, TunnelName), &Tunnel)| {
            let target = match tunnel.holder {
                Holder::Link(link, id) => self.links.get(&link).map(|link| (link.handle.clone(), id)),
                Holder::Nobody(_) | Holder::Gone => None,
            };
            let route = Route {
                host: *host,
                name: name.clone(),
                game: tunnel.game.clone(),
                dialect: tunnel.dialect,
                target,
                is_gone: tunnel.is_gone(),
            };
            ((tunnel.protocol, tunnel.port), route)
        };
        let mut table = RouteTable {
            ports: self.tunnels.iter().map(route).collect(),
            ..RouteTable::default()
        };
        for tunnel in self.tunnels.values() {
            let Some(dialect) = tunnel.dialect else { continue };
            for name in &tunnel.names {
                let names = match name {
                    Pattern::Exact(_) => &mut table.exact,
                    Pattern::Under(_) => &mut table.under,
                };
                let text = name.name().as_str().into();
                names
                    .entry(dialect)
                    .or_default()
                    .insert(text, (tunnel.protocol, tunnel.port));
            }
        }
        table
    }

    fn held_by(&self, link: LinkId) -> impl Iterator<Item = TunnelId> + '_ {
        self.tunnels.values().filter_map(move |tunnel| match tunnel.holder {
            Holder::Link(holder, id) if holder == link => Some(id),
            _ => None,
        })
    }

    /// Checks that the book agrees with itself.
    ///
    /// # Panics
    /// When it does not; simulations call it after every step.
    pub fn check_invariants(&self) {
        let mut ports = HashSet::new();
        let mut lanes = HashSet::new();
        let mut names = HashSet::new();
        for ((host, _), tunnel) in &self.tunnels {
            for name in &tunnel.names {
                assert!(names.insert((tunnel.dialect, name)), "one name leads to two tunnels");
            }
            assert!(ports.insert((tunnel.protocol, tunnel.port)), "two tunnels on one port");
            if let Holder::Link(link, id) = tunnel.holder {
                assert_eq!(
                    self.links.get(&link).map(|link| link.host),
                    Some(*host),
                    "a tunnel held by a link of another host"
                );
                assert!(lanes.insert((link, id.lane())), "two tunnels of a link share a lane");
            }
        }
    }
}

impl Tunnel {
    fn new(spec: TunnelSpec, holder: Holder) -> Self {
        Self {
            protocol: spec.protocol,
            port: spec.port,
            game: spec.game,
            dialect: spec.dialect,
            names: spec.names,
            is_lasting: spec.is_lasting,
            holder,
        }
    }

    /// Whether it makes way for another tunnel, of its own host or not.
    const fn yields_to(&self, is_own: bool) -> bool {
        match self.holder {
            Holder::Link(..) => false,
            Holder::Nobody(_) => is_own,
            Holder::Gone => true,
        }
    }

    const fn is_gone(&self) -> bool {
        matches!(self.holder, Holder::Gone)
    }

    /// When the port closes, if nobody holds it.
    const fn until(&self) -> Option<Time> {
        match self.holder {
            Holder::Link(..) | Holder::Gone => None,
            Holder::Nobody(until) => Some(until),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
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
}
