//! One welcomed agent: its control messages, its datagrams, its tunnels.
//!
//! The link task owns the control stream. Players' tasks see the link only through [`Link`]: the connection to open streams on, and the tunnels by id.

mod guard;
mod opening;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use spawnpoint_core::admission::HostPlaces;
use spawnpoint_core::flow::DropReason;
use spawnpoint_core::route::HostNumber;
use spawnpoint_net::{ControlError, ControlReader, ControlWriter, DatagramOutbox, TaskScope, unix_now, var};
use spawnpoint_ops::{Event, describe};
use spawnpoint_proto::control::{GoAway, Message, Refusal, TunnelReply, TunnelRequest, Unsupported};
use spawnpoint_proto::datagram::Header;
use spawnpoint_proto::{CloseCode, LinkId, RefusalCode, TunnelId, TunnelName, Violation};
use spawnpoint_store::Host;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::registry::Registry;
use crate::tunnel::Tunnel;

/// An agent that does not take a control message for this long is stuck.
const WRITE_DEADLINE: Duration = Duration::from_secs(5);

/// How often round trips and drop counters are looked at.
const COUNT_EVERY: Duration = Duration::from_secs(5);

/// How often it is noted that a host is here.
const TOUCH_EVERY: Duration = Duration::from_secs(60);

/// Commands that may wait for the link task.
const COMMANDS: usize = 256;

/// A link as the rest of the relay sees it.
#[derive(Debug)]
pub(crate) struct Link {
    pub id: LinkId,
    pub host: HostNumber,
    pub host_name: String,
    pub connection: quinn::Connection,
    pub places: Arc<HostPlaces>,
    outbox: DatagramOutbox,
    /// By lane, which no two open tunnels share.
    tunnels: Mutex<HashMap<u8, Arc<Tunnel>>>,
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
        self.by_lane(id.lane()).filter(|tunnel| tunnel.id == id)
    }

    fn by_lane(&self, lane: u8) -> Option<Arc<Tunnel>> {
        self.tunnels().get(&lane).cloned()
    }

    fn tunnels(&self) -> MutexGuard<'_, HashMap<u8, Arc<Tunnel>>> {
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

    /// Closes a tunnel that the agent has, with its players.
    async fn close(&mut self, name: &TunnelName) {
        if let Some((_, id)) = self.requests.remove(name) {
            self.registry.close(self.link.id, name.clone()).await;
            self.end_tunnel(id, "tunnel_closed");
        }
    }

    fn end_tunnel(&self, id: TunnelId, reason: &'static str) {
        let Some(tunnel) = self.link.tunnel(id) else { return };
        self.link.tunnels().remove(&id.lane());
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
        let peer = spawnpoint_net::canonical(link.connection.remote_address());
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
            .spawn(guard::guard(link.clone(), context.clone(), self.host.clone()));
        self.touch().await;
        let end = self.serve(&mut reader, &mut writer).await;
        self.finish(end).await;
    }

    /// Notes that the host is here.
    async fn touch(&self) {
        if let Err(error) = self.context.hosts.touch(self.host.id, unix_now()).await {
            tracing::error!(error = %describe(&error), "the directory could not note the host's visit");
        }
    }

    async fn serve(&mut self, reader: &mut ControlReader, writer: &mut ControlWriter) -> End {
        let mut changes = self.context.hosts.changes();
        changes.mark_changed();
        let mut count = tokio::time::interval(COUNT_EVERY);
        let mut touch = tokio::time::interval_at(tokio::time::Instant::now() + TOUCH_EVERY, TOUCH_EVERY);
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
                _ = touch.tick() => {
                    self.touch().await;
                    Ok(())
                }
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
                tracing::error!(error = %describe(&error), "the directory could not be read, a changed grant is not live yet");
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
            let request = self.requests.get(&name).map(|(request, _)| request.clone());
            self.close(&name).await;
            let reply = match request {
                // A tunnel without a wish goes on at a port that is allowed.
                Some(request) if request.public_port.is_none() => self.open(&request).await,
                _ => TunnelReply {
                    name,
                    opened: None,
                    refused: Some(Refusal::new(RefusalCode::GrantChanged, &text)),
                },
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
        self.touch().await;
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
        let ids: Vec<TunnelId> = link.tunnels().values().map(|tunnel| tunnel.id).collect();
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
