//! The supervisor of links, tunnels and public sockets.
//!
//! One task owns the book (`spawnpoint_core::route`) and the open public ports, and keeps the second in step with the first. Everybody else asks it through
//! a bounded queue, or reads the routes that it publishes without asking. It never waits for a peer.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use spawnpoint_config::relay::RelayConfig;
use spawnpoint_core::admission::{Circle, network_of};
use spawnpoint_core::hostname::Pattern;
use spawnpoint_core::pace::Pace;
use spawnpoint_core::route::{self, HostNumber, OpenError, PublicPort, Return, RouteTable, TunnelSpec};
use spawnpoint_net::BindError;
use spawnpoint_ops::Event;
use spawnpoint_proto::{CloseCode, Dialect, LinkId, Protocol, TunnelId, TunnelName};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::allowance::Allowance;
use crate::context::Context;
use crate::exposure::Exposure;
#[cfg(unix)]
use crate::handover::{Gathered, state::HandedPort};
use crate::hearing::Door;
#[cfg(unix)]
use crate::link::Rested;
use crate::link::{Command as LinkCommand, Link};
#[cfg(unix)]
use crate::quic::Via;
use crate::rates::HostSpeeds;

/// Requests that may wait; each is answered in microseconds, or the milliseconds of a bind.
const REQUESTS: usize = 256;

/// Links of one host at once: a few machines, and the ghosts of agents that were restarted.
const MAX_LINKS_PER_HOST: usize = 8;

/// Changes of a host's bans in a second, and at once.
const BAN_CHANGES: (u32, u32) = (1, 120);

/// Links remembered that another agent took over; their agents come back within a resume window or not at all.
const MAX_BURIED: usize = 256;

/// The routes as players' tasks read them.
pub(crate) type Routes = Arc<RouteTable<Arc<Link>>>;

/// What all links of one host share.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    /// A place for each player.
    pub players: Arc<Circle>,
    /// How fast they may be.
    pub speeds: Arc<HostSpeeds>,
    /// A place for each link.
    pub links: Arc<Semaphore>,
    /// How often its bans may change, over whichever link.
    pub bans: Arc<Mutex<Pace>>,
}

/// A tunnel that was opened.
#[derive(Debug)]
pub(crate) struct Opened {
    pub id: TunnelId,
    /// Whether the tunnel carries packets.
    pub has_packets: bool,
}

/// Why a tunnel was not opened.
#[derive(Debug)]
pub(crate) enum OpenFailure {
    /// Its port cannot be bound.
    PortBusy(BindError),
    /// The relay goes down.
    Draining,
    /// The host has as many tunnels as it may have.
    TooMany,
    /// Another tunnel has this name.
    NameTaken(Pattern),
    /// The book does not allow it.
    Refused,
}

impl From<OpenError> for OpenFailure {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::NameTaken(name) => Self::NameTaken(name),
            _ => Self::Refused,
        }
    }
}

enum Request {
    Attach(Arc<Link>),
    Detach {
        link: LinkId,
        back: Return,
    },
    Open {
        link: LinkId,
        spec: TunnelSpec,
        reply: oneshot::Sender<Result<Opened, OpenFailure>>,
    },
    Close {
        link: LinkId,
        name: TunnelName,
        done: oneshot::Sender<()>,
    },
    Rename {
        link: LinkId,
        name: TunnelName,
        names: Vec<Pattern>,
        reply: oneshot::Sender<Result<(), OpenFailure>>,
    },
    PortOf {
        host: HostNumber,
        name: TunnelName,
        reply: oneshot::Sender<Option<u16>>,
    },
    Places {
        host: HostNumber,
        allowance: Allowance,
        reply: oneshot::Sender<Places>,
    },
    NameAt {
        host: HostNumber,
        port: PublicPort,
        reply: oneshot::Sender<Option<TunnelName>>,
    },
    IsLinked {
        host: HostNumber,
        reply: oneshot::Sender<bool>,
    },
    Find {
        link: LinkId,
        reply: oneshot::Sender<Found>,
    },
    Bury(LinkId),
    KeepGone(HashSet<(HostNumber, TunnelName)>),
    #[cfg(unix)]
    Rest {
        go_on: CancellationToken,
        reply: oneshot::Sender<Vec<oneshot::Receiver<Rested>>>,
    },
    #[cfg(unix)]
    HandPorts(oneshot::Sender<Gathered>),
    TakePlayers,
    CloseCarriers(CloseCode, oneshot::Sender<()>),
    Drain(Duration),
    CloseAll(CloseCode),
}

/// What the supervisor knows of a link that an agent wants to take up again.
#[derive(Debug)]
pub(crate) enum Found {
    /// It is here.
    Here(Arc<Link>),
    /// Another agent has taken everything it had.
    TakenOver,
    /// Nothing.
    Unknown,
}

/// Asks the supervisor; clones ask the same one.
#[derive(Clone, Debug)]
pub(crate) struct Registry {
    requests: mpsc::Sender<Request>,
}

/// The supervisor's own state.
pub(crate) struct Supervisor {
    context: Arc<Context>,
    requests: mpsc::Receiver<Request>,
    book: route::Registry<Arc<Link>>,
    routes: watch::Sender<Routes>,
    open: HashMap<PublicPort, Exposure>,
    /// The ports that lead to many tunnels.
    shared: HashMap<PublicPort, Exposure>,
    places: HashMap<HostNumber, Places>,
    /// Links that ended because another agent took over, oldest first.
    buried: VecDeque<LinkId>,
    draining: bool,
    /// Nobody is let in for now, since a successor takes over.
    resting: bool,
    stop: CancellationToken,
}

impl Registry {
    /// Links enter the book before their tunnels.
    pub async fn attach(&self, link: Arc<Link>) {
        self.tell(Request::Attach(link)).await;
    }

    pub async fn detach(&self, link: LinkId, back: Return) {
        self.tell(Request::Detach { link, back }).await;
    }

    /// Of the tunnels whose agents are gone, only these are answered from here on.
    pub async fn keep_gone(&self, kept: HashSet<(HostNumber, TunnelName)>) {
        self.tell(Request::KeepGone(kept)).await;
    }

    pub async fn open(&self, link: LinkId, spec: TunnelSpec) -> Result<Opened, OpenFailure> {
        self.ask(|reply| Request::Open { link, spec, reply })
            .await
            .unwrap_or(Err(OpenFailure::Draining))
    }

    /// Gives an open tunnel other names.
    pub async fn rename(&self, link: LinkId, name: TunnelName, names: Vec<Pattern>) -> Result<(), OpenFailure> {
        let rename = |reply| Request::Rename {
            link,
            name,
            names,
            reply,
        };
        self.ask(rename).await.unwrap_or(Err(OpenFailure::Draining))
    }

    pub async fn close(&self, link: LinkId, name: TunnelName) {
        self.ask(|done| Request::Close { link, name, done }).await;
    }

    /// The public port of an open tunnel.
    pub async fn port_of(&self, host: HostNumber, name: &TunnelName) -> Option<u16> {
        let name = name.clone();
        self.ask(|reply| Request::PortOf { host, name, reply }).await.flatten()
    }

    /// The tunnel of this host that is open at a public port.
    pub async fn name_at(&self, host: HostNumber, port: PublicPort) -> Option<TunnelName> {
        self.ask(|reply| Request::NameAt { host, port, reply }).await.flatten()
    }

    /// Whether a host has a link.
    pub async fn is_linked(&self, host: HostNumber) -> bool {
        self.ask(|reply| Request::IsLinked { host, reply })
            .await
            .unwrap_or(false)
    }

    /// The places of a host; `None` when the relay is going down.
    pub async fn places(&self, host: HostNumber, allowance: Allowance) -> Option<Places> {
        self.ask(|reply| Request::Places { host, allowance, reply }).await
    }

    /// A link by its id.
    pub async fn find(&self, link: LinkId) -> Found {
        self.ask(|reply| Request::Find { link, reply })
            .await
            .unwrap_or(Found::Unknown)
    }

    /// Remembers that a link ended because another agent took over, so that the first does not come back and take over in turn.
    pub async fn bury(&self, link: LinkId) {
        self.tell(Request::Bury(link)).await;
    }

    /// Takes no more players and asks every link to rest, until `go_on` is cancelled and [`Registry::go_on`] is called; each link answers by itself. `None`
    /// when the relay is going down.
    #[cfg(unix)]
    pub async fn rest(&self, go_on: &CancellationToken) -> Option<Vec<oneshot::Receiver<Rested>>> {
        let go_on = go_on.clone();
        self.ask(|reply| Request::Rest { go_on, reply }).await
    }

    /// The public ports for a successor, once every link rests.
    #[cfg(unix)]
    pub async fn hand_ports(&self) -> Option<Gathered> {
        self.ask(Request::HandPorts).await
    }

    /// Takes players again.
    pub async fn go_on(&self) {
        self.tell(Request::TakePlayers).await;
    }

    /// Closes the connections of all links, whose agents come back to go on.
    pub async fn close_carriers(&self, code: CloseCode) {
        self.ask(|done| Request::CloseCarriers(code, done)).await;
    }

    /// Lets nobody in any more and asks the agents to leave within `deadline`.
    pub async fn drain(&self, deadline: Duration) {
        self.tell(Request::Drain(deadline)).await;
    }

    /// Ends every link.
    pub async fn close_all(&self, code: CloseCode) {
        self.tell(Request::CloseAll(code)).await;
    }

    async fn tell(&self, request: Request) {
        // Without a supervisor the relay is going down, and there is nothing left to tell.
        let _ = self.requests.send(request).await;
    }

    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.tell(request(reply)).await;
        answer.await.ok()
    }
}

impl Supervisor {
    /// A supervisor and the handle by which it is asked.
    pub fn new(context: &Arc<Context>, stop: CancellationToken) -> (Self, Registry) {
        let (sender, requests) = mpsc::channel(REQUESTS);
        let supervisor = Self {
            context: context.clone(),
            requests,
            book: route::Registry::new(context.config().links.resume_window),
            routes: watch::Sender::default(),
            open: HashMap::new(),
            shared: HashMap::new(),
            places: HashMap::new(),
            buried: VecDeque::new(),
            draining: false,
            resting: false,
            stop,
        };
        (supervisor, Registry { requests: sender })
    }

    /// Answers until the relay stops.
    pub async fn run(mut self) {
        let stop = self.stop.clone();
        loop {
            let clock = self.context.clock;
            let next = self.book.poll_timeout();
            let expiry = async {
                match next {
                    Some(time) => tokio::time::sleep_until(clock.instant(time)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = expiry => {
                    self.book.handle_timeout(clock.now());
                    self.publish();
                }
                request = self.requests.recv() => match request {
                    #[cfg(unix)]
                    Some(Request::Rest { go_on, reply }) => drop(reply.send(self.rest(&go_on).await)),
                    Some(request) => self.handle(request),
                    None => return,
                }
            }
        }
    }

    fn handle(&mut self, request: Request) {
        match request {
            Request::Attach(link) => {
                self.notice_clone(&link);
                self.book.attach(link.id, link.host, link);
            }
            Request::Detach { link, back } => {
                let back = match back {
                    Return::Soon if self.draining => Return::Perhaps,
                    back => back,
                };
                self.book.detach(self.context.clock.now(), link, back);
                self.publish();
            }
            Request::KeepGone(kept) => {
                // A link that holds a tunnel keeps it, and its list, by itself.
                self.book
                    .retain_gone(|host, tunnel| kept.contains(&(host, tunnel.clone())));
                self.publish();
            }
            Request::Open { link, spec, reply } => {
                let opened = self.open(link, spec);
                self.publish();
                // A link that ended meanwhile detaches, which closes the port again.
                let _ = reply.send(opened);
            }
            Request::Close { link, name, done } => {
                self.book.close(link, &name);
                self.publish();
                let _ = done.send(());
            }
            Request::Rename {
                link,
                name,
                names,
                reply,
            } => {
                let renamed = self.book.rename(link, &name, names).map_err(OpenFailure::from);
                self.publish();
                let _ = reply.send(renamed);
            }
            Request::PortOf { host, name, reply } => {
                let _ = reply.send(self.book.port(host, &name).map(|(_, port)| port));
            }
            Request::Places { host, allowance, reply } => {
                let _ = reply.send(self.places_of(host, allowance));
            }
            Request::NameAt { host, port, reply } => {
                let _ = reply.send(self.book.name_at(host, port).cloned());
            }
            Request::IsLinked { host, reply } => {
                let _ = reply.send(!self.book.links_of(host).is_empty());
            }
            Request::Find { link, reply } => {
                let here = self.book.links().find(|(id, _)| *id == link);
                let found = match here {
                    Some((_, here)) => Found::Here(here.clone()),
                    None if self.buried.contains(&link) => Found::TakenOver,
                    None => Found::Unknown,
                };
                let _ = reply.send(found);
            }
            Request::Bury(link) => {
                if self.buried.len() >= MAX_BURIED {
                    self.buried.pop_front();
                }
                self.buried.push_back(link);
            }
            #[cfg(unix)]
            Request::Rest { .. } => unreachable!("it waits, and so has its place in the loop"),
            Request::TakePlayers => {
                self.resting = false;
                self.exposures().for_each(Exposure::take_players);
            }
            Request::CloseCarriers(code, done) => {
                self.book.links().for_each(|(_, link)| link.close_carrier(code));
                let _ = done.send(());
            }
            #[cfg(unix)]
            Request::HandPorts(reply) => drop(reply.send(self.hand_ports())),
            Request::Drain(deadline) => {
                self.draining = true;
                self.book
                    .links()
                    .for_each(|(_, link)| link.command(LinkCommand::GoAway(deadline)));
            }
            Request::CloseAll(code) => self
                .book
                .links()
                .for_each(|(_, link)| link.command(LinkCommand::Close(code))),
        }
        self.context.metrics.set_links(self.book.links().count());
    }

    fn open(&mut self, link: LinkId, spec: TunnelSpec) -> Result<Opened, OpenFailure> {
        if self.draining {
            return Err(OpenFailure::Draining);
        }
        let host = self
            .book
            .links()
            .find(|(id, _)| *id == link)
            .map(|(_, link)| link.host)
            .ok_or(OpenFailure::Refused)?;
        let most = self.context.config().links.max_tunnels_per_host as usize;
        if self.book.tunnels_of(host) >= most && self.book.port(host, &spec.name).is_none() {
            return Err(OpenFailure::TooMany);
        }
        let port = (spec.protocol, spec.port);
        self.open_port(port).map_err(OpenFailure::PortBusy)?;
        let name = spec.name.clone();
        let opened = self.book.open(link, spec)?;
        if let Some((old, id)) = opened.taken_from.filter(|(old, _)| *old != link)
            && let Some((_, old)) = self.book.links().find(|(id, _)| *id == old)
        {
            tracing::info!(host = old.host_name, tunnel = %name, "another agent of the host takes the tunnel over");
            old.command(LinkCommand::TunnelTaken(name, id));
        }
        let has_packets = port.0 == Protocol::Udp;
        Ok(Opened {
            id: opened.id,
            has_packets,
        })
    }

    fn open_port(&mut self, port: PublicPort) -> Result<(), BindError> {
        if self.open.contains_key(&port) {
            return Ok(());
        }
        let door = Door::Own(port);
        let mut exposure = Exposure::open(&self.context, port, door, self.routes.subscribe(), &self.stop)?;
        if !self.resting {
            exposure.take_players();
        }
        self.open.insert(port, exposure);
        Ok(())
    }

    /// Opens the shared ports that are not open yet, if the relay has a domain.
    pub fn open_shared(&mut self) -> Result<(), BindError> {
        for (port, dialect) in shared_ports(&self.context.config()) {
            if self.shared.contains_key(&port) {
                continue;
            }
            let door = Door::Shared(dialect);
            let mut exposure = Exposure::open(&self.context, port, door, self.routes.subscribe(), &self.stop)?;
            if !self.resting {
                exposure.take_players();
            }
            self.shared.insert(port, exposure);
        }
        Ok(())
    }

    /// Answers for tunnels whose agents were gone before this process began.
    pub fn remember(&mut self, gone: impl IntoIterator<Item = (HostNumber, TunnelSpec)>) {
        for (host, spec) in gone {
            self.remember_one(host, spec);
        }
        // Only now: a port that was handed over leads nowhere until its tunnel is remembered, and would be closed.
        self.publish();
    }

    fn remember_one(&mut self, host: HostNumber, spec: TunnelSpec) {
        let (port, name) = ((spec.protocol, spec.port), spec.name.clone());
        let is_shared = self.shared.contains_key(&port);
        if is_shared || !self.book.remember(host, spec) {
            return;
        }
        if let Err(error) = self.open_port(port) {
            let error = spawnpoint_ops::describe(&error);
            tracing::warn!(tunnel = %name, error, "nobody answers for this tunnel until its agent is back");
            self.book.retain_gone(|owner, tunnel| (owner, tunnel) != (host, &name));
        }
    }

    fn exposures(&mut self) -> impl Iterator<Item = &mut Exposure> {
        self.open.values_mut().chain(self.shared.values_mut())
    }

    /// Stops taking players and asks every link to rest. Links may be asking for something meanwhile, so nobody waits for them here.
    #[cfg(unix)]
    async fn rest(&mut self, go_on: &CancellationToken) -> Vec<oneshot::Receiver<Rested>> {
        self.resting = true;
        for exposure in self.exposures() {
            exposure.pause().await;
        }
        let ask = |link: &Arc<Link>| {
            let (reply, resting) = oneshot::channel();
            let go_on = go_on.clone();
            link.command(LinkCommand::Rest { go_on, reply });
            resting
        };
        self.book.links().map(|(_, link)| ask(link)).collect()
    }

    #[cfg(unix)]
    fn hand_ports(&self) -> Gathered {
        let mut gathered = Gathered {
            buried: self.buried.iter().copied().collect(),
            ..Gathered::default()
        };
        for (&(protocol, port), exposure) in self.open.iter().chain(&self.shared) {
            let socket = gathered.descriptors.add(exposure.descriptor());
            gathered.ports.push(HandedPort { protocol, port, socket });
        }
        gathered
    }

    /// Enters a port that another process has opened.
    #[cfg(unix)]
    pub fn adopt_port(&mut self, port: PublicPort, descriptor: std::os::fd::OwnedFd) -> std::io::Result<()> {
        let dialect =
            shared_ports(&self.context.config()).find_map(|(shared, dialect)| (shared == port).then_some(dialect));
        let door = dialect.map_or(Door::Own(port), Door::Shared);
        let exposure = Exposure::adopt(
            &self.context,
            port,
            door,
            self.routes.subscribe(),
            &self.stop,
            descriptor,
        )?;
        match door {
            Door::Own(_) => self.open.insert(port, exposure),
            Door::Shared(_) => self.shared.insert(port, exposure),
        };
        Ok(())
    }

    /// Remembers again which agents must not come back.
    #[cfg(unix)]
    pub fn adopt_buried(&mut self, buried: Vec<LinkId>) {
        self.buried = buried.into();
    }

    /// The public socket of a port that carries packets, of one tunnel or shared.
    #[cfg(unix)]
    pub fn via(&self, port: PublicPort) -> Option<Via> {
        self.open
            .get(&port)
            .or_else(|| self.shared.get(&port))
            .and_then(Exposure::via)
    }

    /// Enters a link that another process had, with its tunnels.
    #[cfg(unix)]
    pub fn adopt_link(&mut self, link: &Arc<Link>, tunnels: Vec<(TunnelSpec, TunnelId)>) {
        self.book.attach(link.id, link.host, link.clone());
        for (spec, id) in tunnels {
            let name = spec.name.clone();
            if self.book.restore(link.id, spec, id).is_err() {
                tracing::error!(host = link.host_name, tunnel = %name, "a tunnel could not be taken over: its port leads elsewhere");
            }
        }
    }

    /// Every link of the predecessor is entered: ports that lead nowhere close.
    #[cfg(unix)]
    pub fn adopted(&mut self) {
        self.publish();
    }

    /// Tells when a host has agents in different networks at once: the same invite is in two places.
    fn notice_clone(&self, link: &Arc<Link>) {
        let (Some(here), Some((agent, _))) = (link.peer(), link.agent()) else {
            return;
        };
        for (_, other) in self.book.links_of(link.host) {
            // The same process comes again when its network changes.
            let is_another = other.agent().is_some_and(|(other, _)| other != agent);
            if let Some(there) = other.peer()
                && is_another
                && network_of(here.ip()) != network_of(there.ip())
            {
                tracing::warn!(host = link.host_name, %here, %there, "two agents with the same invite are here from different networks: if that is not meant so, `spawnpoint host rotate` ends both");
                self.context.metrics.shared_token();
                self.context.events.emit(Event::SharedToken {
                    host: link.host_name.clone(),
                    peers: [there, here],
                });
                return;
            }
        }
    }

    /// The places of a host.
    pub fn places_of(&mut self, host: HostNumber, allowance: Allowance) -> Places {
        let new = || Places {
            players: Arc::new(Circle::of_host(allowance.bounds)),
            speeds: Arc::new(HostSpeeds::new(allowance.rates)),
            links: Arc::new(Semaphore::new(MAX_LINKS_PER_HOST)),
            bans: Arc::new(Mutex::new(Pace::new(BAN_CHANGES.0, BAN_CHANGES.1))),
        };
        let places = self.places.entry(host).or_insert_with(new);
        places.players.set_bounds(allowance.bounds);
        places.speeds.own.set(allowance.rates);
        places.clone()
    }

    /// Publishes the book and closes the ports that lead nowhere.
    fn publish(&mut self) {
        let routes = self.book.routes();
        self.open.retain(|port, _| routes.get(*port).is_some());
        self.routes.send_replace(Arc::new(routes));
    }
}

/// The ports that lead to many tunnels, and what is spoken there.
pub(crate) fn shared_ports(config: &RelayConfig) -> impl Iterator<Item = (PublicPort, Dialect)> + '_ {
    let ports = |dialect: Dialect| {
        let ports = config.shared.ports(dialect).iter();
        ports.map(move |port| ((dialect.protocol(), port), dialect))
    };
    let has_domain = config.domain.is_some();
    Dialect::ALL.into_iter().filter(move |_| has_domain).flat_map(ports)
}
