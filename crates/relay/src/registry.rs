//! The supervisor of links, tunnels and public sockets.
//!
//! One task owns the book (`spawnpoint_core::route`) and the open public ports, and keeps the second in step with the first. Everybody else asks it through
//! a bounded queue, or reads the routes that it publishes without asking. It never waits for a peer.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use spawnpoint_core::admission::HostPlaces;
use spawnpoint_core::route::{self, HostNumber, PublicPort, RouteTable, TunnelSpec};
use spawnpoint_net::{BindError, PacketSocket};
use spawnpoint_proto::{CloseCode, LinkId, TunnelId, TunnelName};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::exposure::Exposure;
use crate::link::{Command as LinkCommand, Link};

/// Requests that may wait; each is answered in microseconds, or the milliseconds of a bind.
const REQUESTS: usize = 256;

/// Links of one host at once: a few machines, and the ghosts of agents that were restarted.
const MAX_LINKS_PER_HOST: usize = 8;

/// The routes as players' tasks read them.
pub(crate) type Routes = Arc<RouteTable<Arc<Link>>>;

/// What all links of one host share.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    /// A place for each player.
    pub players: Arc<HostPlaces>,
    /// A place for each link.
    pub links: Arc<Semaphore>,
}

/// A tunnel that was opened.
#[derive(Debug)]
pub(crate) struct Opened {
    pub id: TunnelId,
    /// The public socket, when the tunnel carries packets.
    pub socket: Option<Arc<PacketSocket>>,
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
    /// The book does not allow it.
    Refused,
}

enum Request {
    Attach(Arc<Link>),
    Detach {
        link: LinkId,
        expected_back: bool,
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
    PortOf {
        host: HostNumber,
        name: TunnelName,
        reply: oneshot::Sender<Option<u16>>,
    },
    Places {
        host: HostNumber,
        max: u32,
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
    Drain(Duration),
    CloseAll(CloseCode),
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
    places: HashMap<HostNumber, Places>,
    draining: bool,
    stop: CancellationToken,
}

impl Registry {
    /// Links enter the book before their tunnels.
    pub async fn attach(&self, link: Arc<Link>) {
        self.tell(Request::Attach(link)).await;
    }

    pub async fn detach(&self, link: LinkId, expected_back: bool) {
        self.tell(Request::Detach { link, expected_back }).await;
    }

    pub async fn open(&self, link: LinkId, spec: TunnelSpec) -> Result<Opened, OpenFailure> {
        self.ask(|reply| Request::Open { link, spec, reply })
            .await
            .unwrap_or(Err(OpenFailure::Draining))
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
    pub async fn places(&self, host: HostNumber, max: u32) -> Option<Places> {
        self.ask(|reply| Request::Places { host, max, reply }).await
    }

    /// Closes the public listeners and asks the agents to leave within `deadline`.
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
            book: route::Registry::new(context.config.links.resume_window),
            routes: watch::Sender::default(),
            open: HashMap::new(),
            places: HashMap::new(),
            draining: false,
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
                    Some(request) => self.handle(request),
                    None => return,
                }
            }
        }
    }

    fn handle(&mut self, request: Request) {
        match request {
            Request::Attach(link) => {
                self.book.attach(link.id, link.host, link);
            }
            Request::Detach { link, expected_back } => {
                self.book
                    .detach(self.context.clock.now(), link, expected_back && !self.draining);
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
            Request::PortOf { host, name, reply } => {
                let _ = reply.send(self.book.port(host, &name).map(|(_, port)| port));
            }
            Request::Places { host, max, reply } => {
                let new = || Places {
                    players: Arc::new(HostPlaces::new(max)),
                    links: Arc::new(Semaphore::new(MAX_LINKS_PER_HOST)),
                };
                let places = self.places.entry(host).or_insert_with(new);
                places.players.set_max(max);
                let _ = reply.send(places.clone());
            }
            Request::NameAt { host, port, reply } => {
                let _ = reply.send(self.book.name_at(host, port).cloned());
            }
            Request::IsLinked { host, reply } => {
                let _ = reply.send(!self.book.links_of(host).is_empty());
            }
            Request::Drain(deadline) => {
                self.draining = true;
                self.open.values_mut().for_each(Exposure::stop_accepting);
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
        let most = self.context.config.links.max_tunnels_per_host as usize;
        if self.book.tunnels_of(host) >= most && self.book.port(host, &spec.name).is_none() {
            return Err(OpenFailure::TooMany);
        }
        let port = (spec.protocol, spec.port);
        if !self.open.contains_key(&port) {
            let exposure = Exposure::open(&self.context, port, self.routes.subscribe(), &self.stop);
            self.open.insert(port, exposure.map_err(OpenFailure::PortBusy)?);
        }
        let name = spec.name.clone();
        let opened = self.book.open(link, spec).map_err(|_| OpenFailure::Refused)?;
        if let Some((old, id)) = opened.taken_from.filter(|(old, _)| *old != link)
            && let Some((_, old)) = self.book.links().find(|(id, _)| *id == old)
        {
            tracing::info!(host = old.host_name, tunnel = %name, "another agent of the host takes the tunnel over");
            old.command(LinkCommand::TunnelTaken(name, id));
        }
        let socket = self.open.get(&port).and_then(Exposure::packets);
        Ok(Opened { id: opened.id, socket })
    }

    /// Publishes the book and closes the ports that lead nowhere.
    fn publish(&mut self) {
        let routes = self.book.routes();
        self.open.retain(|port, _| routes.get(*port).is_some());
        self.routes.send_replace(Arc::new(routes));
    }
}
