//! One welcomed agent: its control messages, its datagrams, its tunnels.
//!
//! The link task owns the control stream. Players' tasks see the link only through [`Link`]: the connection to open streams on, and the tunnels by id.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use spawnpoint_core::admission::HostPlaces;
use spawnpoint_core::flow::DropReason;
use spawnpoint_core::route::{HostNumber, TunnelSpec};
use spawnpoint_net::{ControlError, ControlReader, ControlWriter, DatagramOutbox, TaskScope, unix_now, var};
use spawnpoint_ops::{Event, TunnelLabels};
use spawnpoint_proto::control::{GoAway, Message, OpenedTunnel, Refusal, TunnelReply, TunnelRequest, Unsupported};
use spawnpoint_proto::datagram::Header;
use spawnpoint_proto::{CloseCode, LinkId, Protocol, RefusalCode, TunnelId, TunnelName, Violation};
use spawnpoint_store::{Host, Reservation, ReserveError, StoreError};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::directory::chain;
use crate::registry::{OpenFailure, Registry};
use crate::tunnel::Tunnel;
use crate::udp::UdpTunnel;

/// An agent that does not take a control message for this long is stuck.
const WRITE_DEADLINE: Duration = Duration::from_secs(5);

/// How often round trips and drop counters are looked at.
const COUNT_EVERY: Duration = Duration::from_secs(5);

/// Commands that may wait for the link task.
const COMMANDS: usize = 256;

/// How long a directory that could not be read is left alone.
const RETRY_PAUSE: Duration = Duration::from_millis(250);

/// How long our own socket may take to close before the port counts as another program's, in steps.
const CLOSING_PAUSE: Duration = Duration::from_millis(20);

/// Ports tried before the pool counts as taken by other programs.
const MAX_BUSY_PORTS: usize = 64;

/// A link as the rest of the relay sees it.
#[derive(Debug)]
pub(crate) struct Link {
    pub id: LinkId,
    pub host: HostNumber,
    pub host_name: String,
    pub connection: quinn::Connection,
    pub places: Arc<HostPlaces>,
    outbox: DatagramOutbox,
    tunnels: Mutex<HashMap<TunnelId, Arc<Tunnel>>>,
    commands: mpsc::Sender<Command>,
    /// Why it was closed from outside its task.
    closing: OnceLock<CloseCode>,
}

/// What the rest of the relay asks of a link.
#[derive(Clone, Debug)]
pub(crate) enum Command {
    /// Another link of the host has this tunnel now.
    TunnelTaken(TunnelName, TunnelId),
    /// The relay goes down.
    GoAway(Duration),
    /// End now.
    Close(CloseCode),
}

/// How a link ended.
#[derive(Debug)]
enum End {
    /// The connection is gone.
    Lost(quinn::ConnectionError),
    /// We end it.
    Close(CloseCode),
    /// The agent broke the protocol.
    Violation(Violation),
}

impl Link {
    /// Asks the link task for something; a link so busy that it cannot even be asked is closed.
    pub fn command(&self, command: Command) {
        if self.commands.try_send(command).is_err() {
            self.close(CloseCode::Busy);
        }
    }

    /// Ends the link at once, for `code`.
    pub fn close(&self, code: CloseCode) {
        let code = *self.closing.get_or_init(|| code);
        self.connection.close(var(code.number()), code.as_str().as_bytes());
    }

    /// The open tunnel with this id.
    pub fn tunnel(&self, id: TunnelId) -> Option<Arc<Tunnel>> {
        self.tunnels().get(&id).cloned()
    }

    fn by_lane(&self, lane: u8) -> Option<Arc<Tunnel>> {
        self.tunnels().values().find(|tunnel| tunnel.id.lane() == lane).cloned()
    }

    fn tunnels(&self) -> MutexGuard<'_, HashMap<TunnelId, Arc<Tunnel>>> {
        self.tunnels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The link task's own state.
#[derive(Debug)]
pub(crate) struct LinkTask {
    pub link: Arc<Link>,
    context: Arc<Context>,
    registry: Registry,
    host: Host,
    scope: TaskScope,
    commands: mpsc::Receiver<Command>,
    /// What the agent asked for and has.
    requests: HashMap<TunnelName, (TunnelRequest, TunnelId)>,
}

impl LinkTask {
    /// A link of `host` over `connection`; it is in no book yet.
    pub fn new(
        context: &Arc<Context>,
        registry: &Registry,
        host: Host,
        places: Arc<HostPlaces>,
        connection: quinn::Connection,
        parent: &CancellationToken,
    ) -> Self {
        let (commands, receiver) = mpsc::channel(COMMANDS);
        let link = Arc::new(Link {
            id: LinkId(spawnpoint_net::random_bytes()),
            host: HostNumber(host.id.0),
            host_name: host.name.to_string(),
            connection,
            places,
            outbox: DatagramOutbox::new(context.clock),
            tunnels: Mutex::default(),
            commands,
            closing: OnceLock::new(),
        });
        Self {
            link,
            context: context.clone(),
            registry: registry.clone(),
            host,
            scope: TaskScope::new(parent),
            commands: receiver,
            requests: HashMap::new(),
        }
    }

    /// Opens the tunnels of the hello, in its order.
    pub async fn open_all(&mut self, requests: &[TunnelRequest]) -> Vec<TunnelReply> {
        let mut replies = Vec::with_capacity(requests.len());
        let mut names = HashSet::new();
        for request in requests {
            let reply = match names.insert(&request.name) {
                true => self.open(request).await,
                false => refused(
                    request,
                    RefusalCode::DuplicateName,
                    "two tunnels of this agent have the same name",
                ),
            };
            replies.push(reply);
        }
        replies
    }

    /// Opens one tunnel: grant, port, socket.
    async fn open(&mut self, request: &TunnelRequest) -> TunnelReply {
        let context = self.context.clone();
        let config = &context.config;
        let pool = &config.players.ports;
        if let Err(code) = self.host.grant.check(request.protocol, request.public_port, pool) {
            let text = self.grant_text(code, request);
            return self.refuse(request, code, &text);
        }
        if let Some(port) = request.public_port
            && let Some(other) = self.registry.name_at(self.link.host, (request.protocol, port)).await
            && other != request.name
        {
            // Another agent of this host, or its ghost, may have it; that passes.
            let code = if self.requests.contains_key(&other) {
                RefusalCode::PortTaken
            } else {
                RefusalCode::PortBusy
            };
            let text = format!(
                "public {} port {port} is open for the tunnel `{other}` of this host: give one of them another",
                request.protocol
            );
            return self.refuse(request, code, &text);
        }
        self.close(&request.name).await;
        if let Err(reply) = self.make_room(request).await {
            return reply;
        }
        let allowed = self.host.grant.ports(pool).clone();
        let mut busy = HashSet::new();
        let owned = match self.context.hosts.reserved(self.host.id, request).await {
            Ok(owned) => owned,
            Err(error) => return self.refuse_port(request, &ReserveError::Store(error), &busy),
        };
        let mut patience = 10;
        loop {
            let reserved = self
                .context
                .hosts
                .reserve(self.host.id, request, allowed.clone(), busy.clone())
                .await;
            let port = match reserved {
                Ok(port) => port,
                Err(error) => return self.refuse_port(request, &error, &busy),
            };
            let spec = TunnelSpec {
                name: request.name.clone(),
                protocol: request.protocol,
                port,
                game: request.game.clone(),
            };
            match self.registry.open(self.link.id, spec).await {
                Ok(opened) => return self.opened(request, port, opened.id, opened.socket),
                Err(OpenFailure::PortBusy(error)) => {
                    tracing::warn!(host = self.link.host_name, tunnel = %request.name, port, error = %chain(&error), "public port is taken by another program");
                    // An address that players know is waited for, not replaced; a fresh one can be any.
                    let is_known = request.public_port.is_some() || owned == Some(port);
                    if owned == Some(port) && error.is_taken() && patience > 0 {
                        // Our own socket for the tunnel's last opening may still be closing.
                        patience -= 1;
                        tokio::time::sleep(CLOSING_PAUSE).await;
                        continue;
                    }
                    if is_known || busy.len() >= MAX_BUSY_PORTS || !error.is_taken() {
                        self.give_back(request, owned).await;
                        let text = format!(
                            "{} port {port} of the relay's machine cannot be opened: {}",
                            request.protocol, error.source
                        );
                        return self.refuse(request, RefusalCode::PortBusy, &text);
                    }
                    self.give_back(request, owned).await;
                    busy.insert(port);
                }
                Err(OpenFailure::Draining) => {
                    self.give_back(request, owned).await;
                    return self.refuse(request, RefusalCode::Draining, "the relay is going down");
                }
                Err(OpenFailure::TooMany) => {
                    self.give_back(request, owned).await;
                    let most = config.links.max_tunnels_per_host;
                    return self.refuse(
                        request,
                        RefusalCode::TooManyTunnels,
                        &format!("this relay gives a host at most {most} tunnels"),
                    );
                }
                Err(OpenFailure::Refused) => {
                    self.give_back(request, owned).await;
                    return self.refuse(
                        request,
                        RefusalCode::Internal,
                        "the relay's book of ports does not allow it",
                    );
                }
            }
        }
    }

    /// Sees to it that a new tunnel does not add to the ports of a host without bound: names that are open nowhere give theirs up.
    async fn make_room(&self, request: &TunnelRequest) -> Result<(), TunnelReply> {
        let failed = |error: StoreError| self.refuse_port(request, &ReserveError::Store(error), &HashSet::new());
        let mut reservations = self.context.hosts.reservations(self.host.id).await.map_err(failed)?;
        let is_own = |own: &Reservation| own.tunnel == request.name && own.protocol == request.protocol;
        let most = self.context.config.links.max_tunnels_per_host as usize;
        if reservations.iter().any(is_own) {
            return Ok(());
        }
        while reservations.len() >= most {
            let mut idle = None;
            for (at, own) in reservations.iter().enumerate() {
                if self.registry.port_of(self.link.host, &own.tunnel).await.is_none() {
                    idle = Some(at);
                    break;
                }
            }
            let Some(at) = idle else {
                let text = format!("this relay gives a host at most {most} tunnels");
                return Err(self.refuse(request, RefusalCode::TooManyTunnels, &text));
            };
            let own = reservations.remove(at);
            tracing::info!(host = self.link.host_name, tunnel = %own.tunnel, port = own.port, "the port of a tunnel that is not open is free again");
            self.context
                .hosts
                .release(self.host.id, own.tunnel.clone(), own.protocol)
                .await
                .map_err(failed)?;
            self.context.metrics.forget_tunnel(&TunnelLabels {
                host: self.link.host_name.clone(),
                tunnel: own.tunnel.to_string(),
                protocol: own.protocol.as_str(),
            });
        }
        Ok(())
    }

    /// Undoes a reservation that nothing came of: the tunnel has again what it `owned`.
    async fn give_back(&self, request: &TunnelRequest, owned: Option<u16>) {
        let hosts = &self.context.hosts;
        let undone = match owned {
            Some(port) => {
                let before = TunnelRequest {
                    public_port: Some(port),
                    ..request.clone()
                };
                let allowed = self.host.grant.ports(&self.context.config.players.ports).clone();
                hosts
                    .reserve(self.host.id, &before, allowed, HashSet::new())
                    .await
                    .map(drop)
                    .map_err(|error| chain(&error))
            }
            None => {
                let released = hosts
                    .release(self.host.id, request.name.clone(), request.protocol)
                    .await;
                released.map(drop).map_err(|error| chain(&error))
            }
        };
        if let Err(error) = undone {
            tracing::error!(error, "a reserved port could not be given back");
        }
    }

    fn opened(
        &mut self,
        request: &TunnelRequest,
        port: u16,
        id: TunnelId,
        socket: Option<Arc<spawnpoint_net::PacketSocket>>,
    ) -> TunnelReply {
        let labels = TunnelLabels {
            host: self.link.host_name.clone(),
            tunnel: request.name.to_string(),
            protocol: request.protocol.as_str(),
        };
        let (context, places, bytes) = (&self.context, &self.link.places, self.context.metrics.bytes(&labels));
        let scope = TaskScope::new(self.scope.token());
        let udp = socket.map(|socket| {
            let outbox = self.link.outbox.clone();
            let udp = Arc::new(UdpTunnel::new(context, id, &labels, places, &bytes, socket, outbox));
            let keeper = udp.clone();
            scope.spawn(async move { keeper.keep().await });
            udp
        });
        let public_host = self.context.public_host.clone();
        tracing::info!(
            host = labels.host,
            tunnel = labels.tunnel,
            protocol = labels.protocol,
            port,
            "tunnel open"
        );
        self.context.events.emit(Event::Tunnel {
            host: Some(labels.host.clone()),
            tunnel: labels.tunnel.clone(),
            protocol: labels.protocol,
            public: public_address(&public_host, port),
            origin: None,
        });
        let tunnel = Tunnel {
            context: context.clone(),
            id,
            labels,
            places: places.clone(),
            bytes,
            scope,
            udp,
        };
        self.link.tunnels().insert(id, Arc::new(tunnel));
        self.requests.insert(request.name.clone(), (request.clone(), id));
        let idle_ms = self.context.config.players.udp_idle.as_millis() as u32;
        let opened = OpenedTunnel {
            id,
            public_host,
            public_port: port,
            idle_ms,
        };
        TunnelReply {
            name: request.name.clone(),
            opened: Some(opened),
            refused: None,
        }
    }

    /// Closes a tunnel that the agent has, with its players.
    async fn close(&mut self, name: &TunnelName) {
        if let Some((_, id)) = self.requests.remove(name) {
            self.registry.close(self.link.id, name.clone()).await;
            self.end_tunnel(id, "tunnel_closed");
        }
    }

    fn end_tunnel(&self, id: TunnelId, reason: &'static str) {
        let Some(tunnel) = self.link.tunnels().remove(&id) else {
            return;
        };
        tunnel.scope.cancel();
        if let Some(udp) = &tunnel.udp {
            udp.close(reason);
        }
        self.context.events.emit(Event::TunnelClosed {
            host: Some(tunnel.labels.host.clone()),
            tunnel: tunnel.labels.tunnel.clone(),
        });
    }

    /// Runs the link until it ends.
    pub async fn run(mut self, mut reader: ControlReader, mut writer: ControlWriter) {
        let (link, context) = (self.link.clone(), self.context.clone());
        let peer = link.connection.remote_address();
        tracing::info!(host = link.host_name, link = %link.id, %peer, "link up");
        context.events.emit(Event::LinkUp {
            host: link.host_name.clone(),
            link: link.id.to_string(),
            peer,
        });
        let carrier = link.clone();
        self.scope
            .spawn(async move { carrier.outbox.run(&carrier.connection).await });
        self.scope.spawn(read_datagrams(link.clone(), context.clone()));

        self.scope
            .spawn(guard(link.clone(), context.clone(), self.host.clone()));
        if let Err(error) = context.hosts.touch(self.host.id, unix_now()).await {
            tracing::error!(error = %chain(&error), "the directory could not note the host's visit");
        }
        let end = self.serve(&mut reader, &mut writer).await;
        self.finish(end).await;
    }

    async fn serve(&mut self, reader: &mut ControlReader, writer: &mut ControlWriter) -> End {
        let mut changes = self.context.hosts.changes();
        changes.mark_changed();
        let mut count = tokio::time::interval(COUNT_EVERY);
        let stop = self.scope.token().clone();
        loop {
            let result = tokio::select! {
                () = stop.cancelled() => return End::Close(CloseCode::Shutdown),
                message = reader.message() => match message {
                    Ok(message) => self.on_message(message, writer).await,
                    Err(error) => Err(error.into()),
                },
                Some(command) = self.commands.recv() => self.on_command(command, writer).await,
                Ok(()) = changes.changed() => self.on_directory_change(writer).await,
                _ = count.tick() => {
                    self.count();
                    Ok(())
                }
            };
            if let Err(end) = result {
                return end;
            }
        }
    }

    async fn on_message(&mut self, message: Message, writer: &mut ControlWriter) -> Result<(), End> {
        match message {
            Message::TunnelAdd(request) => {
                let reply = self.open(&request).await;
                self.send(writer, &Message::TunnelReply(reply)).await
            }
            Message::TunnelRemove(remove) => {
                self.close(&remove.name).await;
                Ok(())
            }
            Message::Unknown(kind) => self.send(writer, &Message::Unsupported(Unsupported { kind })).await,
            // Offsets matter to a session that is taken up again, which this relay does not offer (its welcome has no ticket).
            Message::Delivered(_) | Message::Unsupported(_) => Ok(()),
            _ => Err(End::Violation(Violation::UnexpectedMessage)),
        }
    }

    async fn on_command(&mut self, command: Command, writer: &mut ControlWriter) -> Result<(), End> {
        match command {
            Command::TunnelTaken(name, id) => {
                if self.requests.get(&name).is_none_or(|(_, open)| *open != id) {
                    // The agent has closed or reopened it meanwhile.
                    return Ok(());
                }
                self.requests.remove(&name);
                self.end_tunnel(id, "taken_over");
                if self.requests.is_empty() {
                    return Err(End::Close(CloseCode::TakenOver));
                }
                let text = "another agent with the same invite has opened a tunnel of this name";
                let reply = TunnelReply {
                    name,
                    opened: None,
                    refused: Some(Refusal::new(RefusalCode::TakenOver, text)),
                };
                self.send(writer, &Message::TunnelReply(reply)).await
            }
            Command::GoAway(deadline) => {
                let deadline_ms = deadline.as_millis() as u32;
                self.send(writer, &Message::GoAway(GoAway { deadline_ms })).await
            }
            Command::Close(code) => Err(End::Close(code)),
        }
    }

    /// The operator may have changed this host's grant; that it may not be here at all is seen to by [`guard`].
    async fn on_directory_change(&mut self, writer: &mut ControlWriter) -> Result<(), End> {
        let host = match self.context.hosts.host(self.host.id).await {
            Ok(Some(host)) => host,
            Ok(None) => return Ok(()),
            Err(error) => {
                tracing::error!(error = %chain(&error), "the directory could not be read, a changed grant is not live yet");
                return Ok(());
            }
        };
        if host.grant == self.host.grant {
            return Ok(());
        }
        self.host = host;
        self.link.places.set_max(max_players(&self.context, &self.host));
        let pool = &self.context.config.players.ports;
        let mut gone = Vec::new();
        for (name, (request, _)) in &self.requests {
            let port = self.registry.port_of(self.link.host, name).await;
            if let Err(code) = self
                .host
                .grant
                .check(request.protocol, port.or(request.public_port), pool)
            {
                gone.push((name.clone(), self.grant_text(code, request)));
            }
        }
        for (name, text) in gone {
            self.close(&name).await;
            let reply = TunnelReply {
                name,
                opened: None,
                refused: Some(Refusal::new(RefusalCode::GrantChanged, &text)),
            };
            self.send(writer, &Message::TunnelReply(reply)).await?;
        }
        Ok(())
    }

    async fn send(&self, writer: &mut ControlWriter, message: &Message) -> Result<(), End> {
        match tokio::time::timeout(WRITE_DEADLINE, writer.message(message)).await {
            Ok(sent) => Ok(sent?),
            Err(_) => Err(End::Close(CloseCode::Timeout)),
        }
    }

    fn count(&self) {
        self.context
            .metrics
            .set_link_rtt(&self.link.host_name, self.link.connection.rtt().as_secs_f64());
        for (lane, dropped) in self.link.outbox.take_dropped() {
            if let Some(tunnel) = self.link.by_lane(lane) {
                let counts = [
                    (DropReason::QueueFull, dropped.full),
                    (DropReason::TooOld, dropped.aged),
                    (DropReason::PathShrank, dropped.oversize),
                ];
                for (reason, count) in counts {
                    self.context.metrics.dropped(&tunnel.labels, reason.as_str(), count);
                }
            }
        }
    }

    async fn finish(self, end: End) {
        let (link, context) = (&self.link, &self.context);
        self.count();
        let (reason, code, expected_back) = match &end {
            End::Lost(_) if let Some(code) = link.closing.get() => (code.as_str(), None, *code == CloseCode::Busy),
            End::Lost(error) => (lost_reason(error), None, !said_goodbye(error)),
            End::Close(code) => (
                code.as_str(),
                Some(*code),
                matches!(code, CloseCode::Timeout | CloseCode::Internal),
            ),
            End::Violation(violation) => {
                context.metrics.violation(violation.as_str());
                (violation.as_str(), Some(CloseCode::Violation), true)
            }
        };
        if let Some(code) = code {
            link.connection.close(var(code.number()), reason.as_bytes());
        }
        let ids: Vec<TunnelId> = link.tunnels().keys().copied().collect();
        ids.into_iter().for_each(|id| self.end_tunnel(id, "link_lost"));
        self.registry.detach(link.id, expected_back).await;
        if !self.registry.is_linked(link.host).await {
            context.metrics.forget_link(&link.host_name);
        }
        tracing::info!(host = link.host_name, link = %link.id, reason, "link down");
        context.events.emit(Event::LinkDown {
            host: link.host_name.clone(),
            link: link.id.to_string(),
            reason: reason.to_owned(),
        });
        self.scope.close(Duration::from_secs(5)).await;
    }

    fn refuse_port(&self, request: &TunnelRequest, error: &ReserveError, busy: &HashSet<u16>) -> TunnelReply {
        let code = match error {
            ReserveError::Taken { .. } => RefusalCode::PortTaken,
            ReserveError::NotAllowed { .. } => RefusalCode::PortNotGranted,
            ReserveError::Exhausted => RefusalCode::PoolExhausted,
            _ => RefusalCode::Internal,
        };
        let text = match (code, busy.is_empty()) {
            (RefusalCode::Internal, _) => "the relay could not read or write its directory".to_owned(),
            (RefusalCode::PoolExhausted, false) => format!("{error} ({} are taken by other programs)", busy.len()),
            _ => error.to_string(),
        };
        if code == RefusalCode::Internal {
            tracing::error!(error = %chain(error), "a port could not be reserved");
        }
        self.refuse(request, code, &text)
    }

    fn refuse(&self, request: &TunnelRequest, code: RefusalCode, text: &str) -> TunnelReply {
        tracing::warn!(host = self.link.host_name, tunnel = %request.name, reason = code.as_str(), "tunnel refused");
        self.context.events.emit(Event::TunnelRefused {
            host: Some(self.link.host_name.clone()),
            tunnel: request.name.to_string(),
            reason: code.as_str(),
            text: text.to_owned(),
        });
        refused(request, code, text)
    }

    fn grant_text(&self, code: RefusalCode, request: &TunnelRequest) -> String {
        let grant = &self.host.grant;
        match code {
            RefusalCode::ProtocolNotGranted => {
                let allowed: Vec<&str> = grant.protocols.iter().map(Protocol::as_str).collect();
                format!(
                    "the grant of host `{}` allows {} only, not {}",
                    self.host.name,
                    allowed.join(" and "),
                    request.protocol
                )
            }
            _ => {
                let ports = grant.ports(&self.context.config.players.ports);
                let port = request
                    .public_port
                    .map_or_else(|| "its public port".to_owned(), |port| format!("public port {port}"));
                format!(
                    "the grant of host `{}` allows the public ports {ports}, not {port}: ask for one of these, or the relay's operator for `spawnpoint host grant {} --ports ...`",
                    self.host.name, self.host.name
                )
            }
        }
    }
}

impl From<ControlError> for End {
    fn from(error: ControlError) -> Self {
        match error {
            ControlError::Violation(violation) => Self::Violation(violation),
            ControlError::Lost(error) => Self::Lost(error),
            ControlError::Cut => Self::Violation(Violation::ControlEnded),
        }
    }
}

/// Ends the link when its host may not be here any more, whatever the link task is doing.
async fn guard(link: Arc<Link>, context: Arc<Context>, mut host: Host) {
    let mut changes = context.hosts.changes();
    changes.mark_changed();
    let mut retry = false;
    loop {
        let left = host
            .grant
            .expires
            .map(|end| Duration::from_secs(end.0.saturating_sub(unix_now().0)));
        let expiry = async {
            match left {
                Some(left) => tokio::time::sleep(left).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = changes.changed() => {}
            () = expiry => {}
            () = tokio::time::sleep(RETRY_PAUSE), if retry => {}
        }
        let now = match context.hosts.host(host.id).await {
            Ok(now) => now,
            Err(error) => {
                tracing::error!(error = %chain(&error), "the directory could not be read, trying again");
                retry = true;
                continue;
            }
        };
        retry = false;
        match now.filter(|now| now.revoked.is_none() && now.token == host.token && !now.grant.is_expired(unix_now())) {
            Some(now) => host = now,
            None => return link.close(CloseCode::Revoked),
        }
    }
}

async fn read_datagrams(link: Arc<Link>, context: Arc<Context>) {
    while let Ok(mut datagram) = link.connection.read_datagram().await {
        let header = match Header::decode(&mut datagram) {
            Ok(header) => header,
            Err(violation) => {
                context.metrics.violation(violation.as_str());
                continue;
            }
        };
        // A late packet of a tunnel that was closed meanwhile belongs to nobody.
        if let Some(udp) = link.by_lane(header.flow.lane()).and_then(|tunnel| tunnel.udp.clone()) {
            udp.on_agent_datagram(header, datagram);
        }
    }
}

/// Players that a host may have: its grant's number, or the relay's.
pub(crate) fn max_players(context: &Context, host: &Host) -> u32 {
    let most = context.config.players.max_players_per_host;
    host.grant.max_players.map_or(most, |granted| granted.get().min(most))
}

/// `HOST:PORT` as players type it.
pub(crate) fn public_address(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

fn refused(request: &TunnelRequest, code: RefusalCode, text: &str) -> TunnelReply {
    TunnelReply {
        name: request.name.clone(),
        opened: None,
        refused: Some(Refusal::new(code, text)),
    }
}

fn said_goodbye(error: &quinn::ConnectionError) -> bool {
    match error {
        quinn::ConnectionError::ApplicationClosed(close) => {
            CloseCode::from_number(close.error_code.into_inner()) == CloseCode::Shutdown
        }
        _ => false,
    }
}

fn lost_reason(error: &quinn::ConnectionError) -> &'static str {
    use quinn::ConnectionError as Error;
    match error {
        Error::ApplicationClosed(close) => CloseCode::from_number(close.error_code.into_inner()).as_str(),
        Error::TimedOut => "timed_out",
        Error::Reset => "reset",
        Error::LocallyClosed => "closed_here",
        _ => "transport_error",
    }
}
