//! Starting and stopping a relay, phase by phase.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use spawnpoint_config::relay::{RelayConfig, Verify};
use spawnpoint_core::drain::{Drain, Phase};
use spawnpoint_core::port::PortSet;
use spawnpoint_net::identity::{IdentityError, load_or_make_secret};
use spawnpoint_net::tls::{self, ShownCertificate};
use spawnpoint_net::{BindError, Clock, RelayEndpoint, RelayKeys, TaskScope, bind_udp, source_towards, var};
#[cfg(unix)]
use spawnpoint_ops::describe;
use spawnpoint_ops::{Admin, AdminError, AuditError, Event, Events, RelayMetrics};
use spawnpoint_proto::{CertificateHash, CloseCode, Protocol, host_port};
use spawnpoint_store::{Ban, DataDir, DataDirLock, SqliteDirectory, StoreError};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::access;
use crate::audit;
use crate::certificate;
use crate::context::Context;
use crate::directory::Hosts;
#[cfg(unix)]
use crate::link::LinkTask;
use crate::memory;
use crate::offend::{self, Book};
use crate::office::{AGENT_PORT, CERTIFICATE_HASH, PUBLIC_HOST, VERIFY};
use crate::registry::{Registry, Supervisor, shared_ports};
use crate::remember;
use crate::settings::Settings;
use crate::usage;
use crate::welcome::Reception;

/// How long closing connections may take to reach their agents.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);

/// Why a relay does not start.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// Something with the data directory or the directory of hosts.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Something with the certificate.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The certificate and the key are not usable.
    #[error("the certificate and its key cannot be used")]
    Tls(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The port for agents cannot be opened.
    #[error("cannot await agents there, choose another address with --listen ADDR:PORT")]
    Listen(#[source] BindError),
    /// Agents are told to verify a name, but there is none.
    #[error(
        "certificate.verify = \"name\" needs the name: set public_host, or --public-host NAME, to the one in the certificate"
    )]
    NoName,
    /// The relay that was to be followed handed over nothing that can be used.
    #[error("cannot take over from the running relay: {0}")]
    TakeOver(String),
    /// A shared port cannot be opened.
    #[error("a shared port cannot be opened: let `shared` in the configuration name another, or \"off\"")]
    Shared(#[source] BindError),
    /// The picture for servers that are away.
    #[error("away.icon {} cannot be used: {why}; it takes a PNG of 64 by 64 pixels and at most 12 kB", path.display())]
    Icon {
        /// The file.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// Lists that are to be asked through DNS.
    #[error("dnsbl.lists cannot be asked: {0}; set dnsbl.server to the address of a name server")]
    Dnsbl(String),
    /// A list, or a database of countries.
    #[error("the list {} cannot be used: {why}", path.display())]
    List {
        /// The file.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// A task that everything depends on has ended.
    #[error("the relay has failed: this is a mistake in it, its log says where")]
    Crashed,
    /// The audit log cannot be opened.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The admin port cannot be opened.
    #[error(transparent)]
    Admin(#[from] AdminError),
}

/// What a running relay is.
#[derive(Clone, Debug)]
pub struct RelayInfo {
    /// Where agents are awaited.
    pub listen: SocketAddr,
    /// Where health and metrics are.
    pub admin: Option<SocketAddr>,
    /// What invites show before the port.
    pub public_host: String,
    /// Whether that was found out rather than configured.
    pub guessed: bool,
    /// The pool of public ports.
    pub ports: String,
    /// The ports that many hosts share, by protocol.
    pub shared: Vec<(Protocol, PortSet)>,
    /// The hash of its certificate.
    pub certificate: CertificateHash,
    /// Where it keeps its data.
    pub data_dir: PathBuf,
}

/// A running relay. Dropping it ends everything without grace; [`Relay::stop`] ends it with.
pub struct Relay {
    info: RelayInfo,
    pub(crate) context: Arc<Context>,
    pub(crate) registry: Registry,
    pub(crate) agents: RelayEndpoint,
    /// The admin listener, to hand over.
    #[cfg(unix)]
    pub(crate) admin: Option<Arc<std::os::fd::OwnedFd>>,
    ready: Arc<AtomicBool>,
    /// Cancelled when the supervisor has ended unasked.
    crashed: CancellationToken,
    scope: TaskScope,
    #[cfg_attr(not(unix), expect(dead_code, reason = "held, never read"))]
    pub(crate) lock: DataDirLock,
}

/// What a relay reads before it opens anything.
pub(crate) struct Prepared {
    config: RelayConfig,
    data_dir: PathBuf,
    directory: SqliteDirectory,
    keys: RelayKeys,
    certificate: CertificateHash,
    shown: Arc<ShownCertificate>,
    tls: rustls::ServerConfig,
}

/// A relay that is put together, but does not listen yet.
pub(crate) struct Assembled {
    info: RelayInfo,
    pub(crate) context: Arc<Context>,
    pub(crate) registry: Registry,
    pub(crate) supervisor: Supervisor,
    bans: mpsc::Receiver<Ban>,
    pub(crate) scope: TaskScope,
    ready: Arc<AtomicBool>,
    admin: Option<Admin>,
    keys: RelayKeys,
    shown: Arc<ShownCertificate>,
    tls: rustls::ServerConfig,
    lock: DataDirLock,
}

impl Prepared {
    /// Reads directory, certificate and keys. Nothing here disturbs another relay on the same data.
    pub(crate) fn load(config: RelayConfig, data_dir: &Path) -> Result<Self, RelayError> {
        let directory = SqliteDirectory::open(data_dir)?;
        let identity = certificate::load(&config, data_dir)?;
        let keys = RelayKeys(load_or_make_secret(&data_dir.join("reset.key"))?);
        let certificate = identity.hash();
        let shown = Arc::new(ShownCertificate::new(identity).map_err(|error| RelayError::Tls(error.into()))?);
        let tls = tls::relay(shown.clone()).map_err(|error| RelayError::Tls(error.into()))?;
        Ok(Self {
            config,
            data_dir: data_dir.to_owned(),
            directory,
            keys,
            certificate,
            shown,
            tls,
        })
    }

    /// The data directory.
    #[cfg(unix)]
    pub(crate) fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Whether agents may be awaited at `listen`, where another relay has awaited them.
    #[cfg(unix)]
    pub(crate) fn check_listen(&self, listen: SocketAddr) -> Result<(), RelayError> {
        let wanted = self.config.listen.port();
        if wanted == 0 || wanted == listen.port() {
            return Ok(());
        }
        Err(RelayError::TakeOver(format!(
            "it awaits agents at port {}, and the configuration now says {wanted}: restart it instead",
            listen.port()
        )))
    }

    /// Puts the relay together that awaits agents at `listen`.
    pub(crate) async fn assemble(
        self,
        lock: DataDirLock,
        listen: SocketAddr,
        admin: impl AsyncFnOnce(SocketAddr, RelayMetrics, Arc<AtomicBool>) -> Result<Admin, AdminError>,
        events: Events,
    ) -> Result<Assembled, RelayError> {
        let Self {
            config,
            data_dir,
            directory,
            keys,
            certificate,
            shown,
            tls,
        } = self;
        let metrics = RelayMetrics::default();
        let ready = Arc::new(AtomicBool::new(false));
        let admin = match config.admin {
            Some(address) => Some(admin(address, metrics.clone(), ready.clone()).await?),
            None => None,
        };
        let (public_host, guessed) = match &config.public_host {
            Some(host) => (host.clone(), false),
            None => (guess_public_host(config.listen.ip()), true),
        };
        let info = RelayInfo {
            listen,
            admin: admin.as_ref().map(Admin::address),
            public_host: public_host.clone(),
            guessed,
            ports: config.players.ports.to_string(),
            shared: shared(&config),
            certificate,
            data_dir: data_dir.clone(),
        };
        let settings = Settings::load(config, &metrics, None)?;
        let (book, bans) = Book::new();
        let (audit, events) = audit::open(&settings.audit, &data_dir, events)?;
        let hosts = Hosts::new(Arc::new(directory));
        let context = Context::new(
            Clock::default(),
            settings,
            public_host,
            hosts,
            metrics,
            (events, audit),
            book,
        );
        context
            .hosts
            .entries()
            .await?
            .iter()
            .for_each(|entry| context.lists.load(entry));
        let access = access::read(&context).await?;
        context.set_access(access);
        let context = Arc::new(context);
        let scope = TaskScope::new(&CancellationToken::new());
        let (supervisor, registry) = Supervisor::new(&context, scope.token().clone());
        Ok(Assembled {
            info,
            context,
            registry,
            supervisor,
            bans,
            scope,
            ready,
            admin,
            keys,
            shown,
            tls,
            lock,
        })
    }
}

impl Assembled {
    /// Listens on `socket`: agents can come.
    pub(crate) async fn run(mut self, socket: std::net::UdpSocket) -> Result<Relay, RelayError> {
        tell_invites(&self.context, &self.info).await?;
        self.lock.sign()?;
        self.supervisor.open_shared().map_err(RelayError::Shared)?;
        remember::recall(&self.context, &mut self.supervisor).await?;
        let relay = self.run_on(socket, false)?;
        relay.announce();
        Ok(relay)
    }

    /// Runs on the socket of a predecessor, which still listens there: [`Relay::go_on`] follows.
    #[cfg(unix)]
    pub(crate) fn run_silently(self, socket: std::net::UdpSocket) -> Result<Relay, RelayError> {
        self.run_on(socket, true)
    }

    fn run_on(self, socket: std::net::UdpSocket, is_silent: bool) -> Result<Relay, RelayError> {
        let config = self.context.config();
        let tuning = &config.links.transport;
        let agents =
            RelayEndpoint::open(socket, self.tls.clone(), tuning, &self.keys, is_silent).map_err(RelayError::Listen)?;
        let Self {
            info,
            context,
            registry,
            supervisor,
            bans,
            scope,
            ready,
            admin,
            shown,
            lock,
            ..
        } = self;
        let supervised = scope.token().clone();
        let crashed = CancellationToken::new();
        let crash = crashed.clone().drop_guard();
        scope.spawn_graceful(async move {
            supervisor.run().await;
            if supervised.is_cancelled() {
                crash.disarm();
            }
        });
        let watched = context.clone();
        scope.spawn(async move { watched.hosts.watch().await });
        scope.spawn(remember::follow(context.clone(), registry.clone()));
        scope.spawn(access::follow(context.clone()));
        scope.spawn(usage::keep(context.clone()));
        scope.spawn(audit::keep(context.clone()));
        scope.spawn(memory::keep(context.clone()));
        scope.spawn(offend::write(context.clone(), bans));
        if let Some(files) = context.config().certificate.files.clone() {
            scope.spawn(certificate::follow(files, shown, context.hosts.clone()));
        }
        #[cfg(unix)]
        let admin_descriptor = match &admin {
            Some(admin) => std::os::fd::AsFd::as_fd(admin.listener()).try_clone_to_owned().ok(),
            None => None,
        }
        .map(Arc::new);
        if let Some(admin) = admin {
            scope.spawn(admin.serve(scope.token().clone()));
        }
        let reception = Reception {
            acceptor: agents.acceptor().clone(),
            context: context.clone(),
            registry: registry.clone(),
            stop: scope.token().clone(),
        };
        let meeting = TaskScope::new(scope.token());
        scope.spawn(meet_agents(agents.endpoint.clone(), reception, meeting));
        Ok(Relay {
            info,
            context,
            registry,
            agents,
            #[cfg(unix)]
            admin: admin_descriptor,
            ready,
            crashed,
            scope,
            lock,
        })
    }
}

impl Relay {
    /// Starts a relay on `data_dir`; when this returns, agents can come.
    ///
    /// # Errors
    /// [`RelayError`], with the remedy.
    pub async fn start(config: RelayConfig, data_dir: &Path, events: Events) -> Result<Self, RelayError> {
        check(&config)?;
        // The lock first, so that nothing below happens beside another relay.
        let lock = DataDir::lock(data_dir)?;
        let prepared = Prepared::load(config, data_dir)?;
        let socket = bind_udp(prepared.config.listen).map_err(RelayError::Listen)?;
        let listen = socket.local_addr().unwrap_or(prepared.config.listen);
        let admin = async |address, metrics, ready| Admin::bind(address, metrics, ready).await;
        // In a room of its own: whoever starts a relay would have room for all of it.
        let assembled = Box::pin(prepared.assemble(lock, listen, admin, events)).await?;
        Box::pin(assembled.run(socket)).await
    }

    /// Goes on in place of a predecessor that has let go.
    #[cfg(unix)]
    pub(crate) async fn go_on(&mut self) {
        self.agents.listen_again();
        // What is told here is the same as before, as a rule; players are not sent away for it.
        if let Err(error) = tell_invites(&self.context, &self.info).await {
            tracing::error!(error = describe(&error), "invites could not be told where the relay is");
        }
        if let Err(error) = self.lock.sign() {
            tracing::error!(
                error = describe(&error),
                "the lock of the data directory could not be signed"
            );
        }
        self.announce();
    }

    /// Says that agents can come.
    fn announce(&self) {
        let info = &self.info;
        self.ready.store(true, Ordering::Relaxed);
        self.context.events.emit(Event::Ready {
            role: "relay",
            pid: Some(std::process::id()),
            listen: Some(info.listen),
            admin: info.admin,
            relay: host_port(&info.public_host, info.listen.port()),
            ports: Some(info.ports.clone()),
        });
    }

    /// Runs a link that waits for its agent.
    #[cfg(unix)]
    pub(crate) fn run_link(&self, task: LinkTask) {
        self.scope.spawn_graceful(task.run_parked());
    }

    /// Runs a task that ends with the relay.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.scope.spawn(task);
    }

    /// How long players may stay when it stops, as the configuration says now.
    pub fn patience(&self) -> Duration {
        self.context.config().drain_deadline
    }

    /// What runs.
    pub const fn info(&self) -> &RelayInfo {
        &self.info
    }

    /// Waits until the relay has failed beyond repair, which only a new start mends.
    pub async fn failed(&self) -> RelayError {
        self.crashed.cancelled().await;
        RelayError::Crashed
    }

    /// What it counts.
    pub fn metrics(&self) -> &RelayMetrics {
        &self.context.metrics
    }

    /// Players who are in.
    pub fn players(&self) -> u32 {
        self.context.players.active()
    }

    /// Stops with grace: its ports are free when this returns. Nobody new, agents are told, players may stay for `patience`, or until `hurry` is done.
    pub async fn stop(self, patience: Duration, hurry: impl Future<Output = ()>) {
        let context = &self.context;
        let mut drain = Drain::default();
        drain.on_stop(context.clock.now(), patience);
        self.ready.store(false, Ordering::Relaxed);
        context.players.drain();
        self.registry.drain(patience).await;
        let players = self.players();
        tracing::info!(players, deadline_ms = patience.as_millis() as u64, "draining");
        context.events.emit(Event::Draining {
            players,
            deadline_ms: patience.as_millis() as u64,
        });
        tokio::pin!(hurry);
        loop {
            // Taken before the look, so that nobody can leave unnoticed in between.
            let left = context.left.notified();
            let Phase::Draining { deadline } = drain.poll(context.clock.now(), self.players()) else {
                break;
            };
            tokio::select! {
                () = left => {}
                () = tokio::time::sleep_until(context.clock.instant(deadline)) => {}
                () = &mut hurry => {
                    drain.on_stop(context.clock.now(), patience);
                }
            }
        }
        self.registry.close_all(CloseCode::Shutdown).await;
        usage::take_over(context).await;
        self.agents.endpoint.set_server_config(None);
        // Links close themselves with their words; whoever is left is closed with the endpoint.
        let _ = tokio::time::timeout(CLOSE_DEADLINE / 4, self.agents.endpoint.wait_idle()).await;
        self.agents
            .endpoint
            .close(var(CloseCode::Shutdown.number()), b"shutdown");
        let _ = tokio::time::timeout(CLOSE_DEADLINE, self.agents.endpoint.wait_idle()).await;
        self.scope.close(CLOSE_DEADLINE).await;
        let _ = tokio::time::timeout(CLOSE_DEADLINE, self.agents.release()).await;
        context.events.emit(Event::Stopped {
            reason: "stopped on request".to_owned(),
        });
        let audit = context.audit.clone();
        // It has a deadline of its own.
        let _ = tokio::task::spawn_blocking(move || audit.finish()).await;
    }
}

/// The ports that many hosts share, by protocol.
fn shared(config: &RelayConfig) -> Vec<(Protocol, PortSet)> {
    let ports = |protocol: Protocol| {
        let of_protocol = shared_ports(config).filter(|((own, _), _)| *own == protocol);
        of_protocol.fold(PortSet::default(), |set, ((_, port), _)| set.and(port..=port))
    };
    let all = Protocol::ALL.map(|protocol| (protocol, ports(protocol)));
    all.into_iter().filter(|(_, ports)| !ports.is_empty()).collect()
}

/// What the configuration alone cannot tell.
pub(crate) fn check(config: &RelayConfig) -> Result<(), RelayError> {
    if config.certificate.verify == Verify::Name && config.public_host.is_none() {
        return Err(RelayError::NoName);
    }
    Ok(())
}

/// Tells invites what they are to show.
async fn tell_invites(context: &Context, info: &RelayInfo) -> Result<(), StoreError> {
    let settings = [
        (PUBLIC_HOST, info.public_host.clone()),
        (AGENT_PORT, info.listen.port().to_string()),
        (CERTIFICATE_HASH, info.certificate.to_string()),
        (VERIFY, context.config().certificate.verify.as_str().to_owned()),
    ];
    for (key, value) in settings {
        context.hosts.set_setting(key, value).await?;
    }
    Ok(())
}

async fn meet_agents(endpoint: quinn::Endpoint, reception: Reception, scope: TaskScope) {
    while let Some(incoming) = endpoint.accept().await {
        if let Some((incoming, permit)) = reception.admit(incoming) {
            scope.spawn_graceful(reception.clone().meet(incoming, permit));
        }
    }
}

/// The address under which this machine is probably reached: the one that its route to the Internet uses.
fn guess_public_host(listen: IpAddr) -> String {
    if !listen.is_unspecified() {
        return listen.to_string();
    }
    // Addresses that are reserved for documentation, so nobody's network is next to them.
    let far: [IpAddr; 2] = [
        Ipv4Addr::new(192, 0, 2, 1).into(),
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
    ];
    let is_usable = |ip: &IpAddr| !ip.is_unspecified() && !ip.is_loopback();
    let found = far.into_iter().filter_map(source_towards).find(is_usable);
    found.unwrap_or(Ipv4Addr::LOCALHOST.into()).to_string()
}
