//! The book of links, tunnels and ports, and who makes way for whom in it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use spawnpoint_proto::{Dialect, LinkId, Protocol, Time, TunnelId, TunnelName};

use super::{HostNumber, PublicPort, Route, RouteTable, TunnelSpec};
use crate::hostname::Pattern;

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
