//! One agent's link, which outlives the connections that carry it: its control messages, its datagrams, its tunnels, its sessions.
//!
//! The link task owns the control stream of the present carrier. Players' tasks see the link only through [`Link`]: the carrier to open streams on, the
//! sessions, and the tunnels by id. When a carrier dies the link is parked, see [`resume`].

mod bans;
mod changes;
mod count;
mod datagrams;
mod end;
mod guard;
#[cfg(unix)]
mod handover;
mod opening;
mod resume;
mod wishes;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use spawnpoint_core::admission::Circle;
use spawnpoint_core::pace::Pace;
use spawnpoint_core::route::HostNumber;
use spawnpoint_core::token::SecretHash;
use spawnpoint_net::{
    ControlReader, ControlWriter, DatagramOutbox, Pulse, Sessions, Silence, TaskScope, hint_rate, unix_now, var,
};
use spawnpoint_ops::{Event, describe};
use spawnpoint_proto::control::{
    Delivered, GoAway, Hello, Message, Notice, Ping, Refusal, TunnelReply, TunnelRequest, Unsupported,
};
use spawnpoint_proto::{AgentId, CloseCode, LinkId, RefusalCode, SessionId, TunnelId, TunnelName, Violation};
use spawnpoint_store::Host;
#[cfg(unix)]
use tokio::sync::oneshot;
use tokio::sync::{Notify, OwnedSemaphorePermit, mpsc};
use tokio_util::sync::CancellationToken;

use crate::away::Presence;
use crate::context::Context;
use crate::meter::SessionMeter;
use crate::rates::HostSpeeds;
use crate::registry::{Places, Registry};
use crate::tunnel::Tunnel;

use end::End;
#[cfg(unix)]
pub(crate) use handover::{Rested, restore};
pub(crate) use resume::Arrival;

/// An agent that does not take a control message for this long is stuck.
const WRITE_DEADLINE: Duration = Duration::from_secs(5);

/// How often round trips and drop counters are looked at.
const COUNT_EVERY: Duration = Duration::from_secs(5);

/// How often it is noted that a host is here.
const TOUCH_EVERY: Duration = Duration::from_secs(60);

/// How often the agent is told how far busy sessions are.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// Requests of an agent in a second, and at once: twice the tunnels that a host may have.
const ASKS: (u32, u32) = (10, 512);

/// Commands that may wait for the link task.
const COMMANDS: usize = 256;

/// An agent that does not come back for so much longer than it may take to notice that its way is dead is away.
const PATIENCE: Duration = Duration::from_secs(3);

/// A link as the rest of the relay sees it.
#[derive(Debug)]
pub(crate) struct Link {
    pub id: LinkId,
    pub host: HostNumber,
    pub host_name: String,
    /// Its host's players.
    pub circle: Arc<Circle>,
    /// How fast they may be.
    pub speeds: Arc<HostSpeeds>,
    /// How often its host's bans may change.
    bans: Arc<Mutex<Pace>>,
    pub sessions: Sessions,
    /// What its agent shows to take it up again.
    pub ticket: SecretHash,
    /// Which agent it is, and the hash of the token that it has shown; nothing of one that another process had.
    agent: Mutex<Option<(AgentId, SecretHash)>>,
    /// How long a new player waits for the agent, before being told that it is away.
    pub patience: Duration,
    carrier: Mutex<Carrier>,
    /// Since when TCP players are in, and what they have moved.
    seats: Mutex<HashMap<SessionId, SeatRecord>>,
    outbox: DatagramOutbox,
    /// By lane, which no two open tunnels share.
    tunnels: Mutex<HashMap<u8, Arc<Tunnel>>>,
    commands: mpsc::Sender<Command>,
    /// A carrier has come.
    arrived: Notify,
    /// Why it was closed from outside its task.
    closing: OnceLock<CloseCode>,
    closed: CancellationToken,
}

/// What is known of a TCP player who is in.
#[derive(Clone, Debug)]
pub(crate) struct SeatRecord {
    pub since: tokio::time::Instant,
    /// From and to the player.
    pub meters: Arc<[SessionMeter; 2]>,
}

/// What carries a link right now.
#[derive(Clone, Debug)]
enum Carrier {
    /// A connection, and which of the link's connections it is.
    Up(quinn::Connection, u64),
    /// Nothing, since this moment.
    Parked(tokio::time::Instant),
}

/// A connection with its control stream.
pub(crate) struct Carriage {
    pub connection: quinn::Connection,
    pub reader: ControlReader,
    pub writer: ControlWriter,
}

/// What the rest of the relay asks of a link.
#[derive(Debug)]
pub(crate) enum Command {
    /// Another link of the host has this tunnel now.
    TunnelTaken(TunnelName, TunnelId),
    /// The relay goes down.
    GoAway(Duration),
    /// Words for the host.
    Notice(String),
    /// End now.
    Close(CloseCode),
    /// The link's agent has come on a new connection.
    Arrive(Box<Arrival>),
    /// Let no byte move until `go_on` is cancelled, and say what there is.
    #[cfg(unix)]
    Rest {
        go_on: CancellationToken,
        reply: oneshot::Sender<Rested>,
    },
}

impl Link {
    /// This agent is at the other end, and has shown the token with this hash.
    pub fn set_agent(&self, agent: AgentId, token: SecretHash) {
        *self.agent.lock().unwrap_or_else(PoisonError::into_inner) = Some((agent, token));
    }

    /// Which agent is at the other end, and the hash of the token that it has shown.
    pub fn agent(&self) -> Option<(AgentId, SecretHash)> {
        *self.agent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where its agent is, if it is here.
    pub fn peer(&self) -> Option<SocketAddr> {
        let (connection, _) = self.connection()?;
        let is_here = connection.close_reason().is_none();
        is_here.then(|| spawnpoint_net::canonical(connection.remote_address()))
    }

    /// Asks the link task for something; a link so busy that it cannot even be asked is closed.
    pub fn command(&self, command: Command) {
        if self.commands.try_send(command).is_err() {
            self.close(CloseCode::Busy);
        }
    }

    /// Hands an agent's new connection to the link; gives it back when the link has ended meanwhile.
    pub fn arrive(&self, arrival: Box<Arrival>) -> Result<(), Box<Arrival>> {
        self.commands
            .try_send(Command::Arrive(arrival))
            .map_err(|error| match error.into_inner() {
                Command::Arrive(arrival) => arrival,
                _ => unreachable!("what was sent comes back"),
            })
    }

    /// Ends the link at once, for `code`.
    pub fn close(&self, code: CloseCode) {
        let code = *self.closing.get_or_init(|| code);
        if let Carrier::Up(connection, _) = &*self.carrier() {
            connection.close(var(code.number()), code.as_str().as_bytes());
        }
        self.closed.cancel();
    }

    /// Closes the connection that carries the link now; the link waits for another.
    pub fn close_carrier(&self, code: CloseCode) {
        if let Carrier::Up(connection, _) = &*self.carrier() {
            connection.close(var(code.number()), code.as_str().as_bytes());
        }
    }

    /// The connection that carries the link now, and which of its connections that is.
    pub fn connection(&self) -> Option<(quinn::Connection, u64)> {
        match &*self.carrier() {
            Carrier::Up(connection, epoch) => Some((connection.clone(), *epoch)),
            Carrier::Parked(_) => None,
        }
    }

    /// Waits until the link has a carrier.
    pub async fn carried(&self) {
        let arrived = self.arrived.notified();
        tokio::pin!(arrived);
        // Before the look, so that none comes unnoticed in between.
        arrived.as_mut().enable();
        let is_here = |(connection, _): (quinn::Connection, u64)| connection.close_reason().is_none();
        if !self.connection().is_some_and(is_here) {
            arrived.await;
        }
    }

    /// Whether the agent has been away for longer than a new player is kept waiting.
    pub fn is_away(&self) -> bool {
        matches!(&*self.carrier(), Carrier::Parked(since) if since.elapsed() > self.patience)
    }

    /// Whether anybody plays.
    fn is_busy(&self) -> bool {
        let plays = |tunnel: &Arc<Tunnel>| tunnel.udp.as_ref().is_some_and(|udp| udp.has_players());
        !self.sessions.is_empty() || self.tunnels().values().any(plays)
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

    /// The books of the TCP players who are in.
    pub fn seats(&self) -> MutexGuard<'_, HashMap<SessionId, SeatRecord>> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn carrier(&self) -> MutexGuard<'_, Carrier> {
        self.carrier.lock().unwrap_or_else(PoisonError::into_inner)
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
    /// How often the agent may ask for something.
    asks: Pace,
    /// What the agent is to be told when it is back.
    notice: Option<String>,
    /// Whether the agent can take the link up again.
    is_resumable: bool,
    /// The link's places at its host and at the relay.
    _places: [OwnedSemaphorePermit; 2],
}

impl LinkTask {
    /// The link `id` of `host`; it has no carrier and is in no book yet. `ticket` is the hash of what takes it up again.
    pub fn new(
        context: &Arc<Context>,
        registry: &Registry,
        host: Host,
        (shared, places): (Places, [OwnedSemaphorePermit; 2]),
        (id, ticket): (LinkId, SecretHash),
        parent: &CancellationToken,
    ) -> Self {
        let (commands, receiver) = mpsc::channel(COMMANDS);
        let (sessions, links) = (Sessions::default(), &context.config().links);
        let outbox = DatagramOutbox::new(context.clock, &sessions);
        let link = Arc::new(Link {
            id,
            host: HostNumber(host.id.0),
            host_name: host.name.to_string(),
            circle: shared.players,
            speeds: shared.speeds,
            bans: shared.bans,
            sessions,
            ticket,
            agent: Mutex::default(),
            patience: (links.transport.quiet_keep_alive + PATIENCE).min(links.resume_window / 2),
            carrier: Mutex::new(Carrier::Parked(tokio::time::Instant::now())),
            seats: Mutex::default(),
            outbox,
            tunnels: Mutex::default(),
            commands,
            arrived: Notify::new(),
            closing: OnceLock::new(),
            closed: CancellationToken::new(),
        });
        Self {
            link,
            context: context.clone(),
            registry: registry.clone(),
            host,
            scope: TaskScope::new(parent),
            commands: receiver,
            requests: HashMap::new(),
            asks: Pace::new(ASKS.0, ASKS.1),
            notice: None,
            is_resumable: false,
            _places: places,
        }
    }

    /// The agent's window, if it can take up sessions again at a price that we pay: a session may keep that many bytes for it.
    pub fn window_of(&self, hello: &Hello) -> Option<u32> {
        let links = &self.context.config().links;
        let most = links.transport.stream_window.saturating_mul(2);
        let window = hello.window.filter(|_| !links.resume_window.is_zero())?;
        if window > most {
            tracing::warn!(
                host = self.link.host_name,
                window,
                most,
                "the agent's stream_window is more than twice the relay's: its sessions end with their connection"
            );
            return None;
        }
        Some(window)
    }

    /// The link is carried by `connection` from here on, to an agent who said `hello` and whose window is `window`; returns the number of the carrier.
    pub fn attach(&mut self, connection: &quinn::Connection, window: Option<u32>, hello: &Hello) -> u64 {
        self.is_resumable = window.is_some();
        let (epoch, _) = self.link.sessions.freeze();
        self.link.sessions.set_window(window);
        let are_wanted = self.context.config().links.transport.repair && hello.repairs == Some(true);
        self.link.sessions.set_repairs(are_wanted);
        if let Some(rate) = hello.downlink {
            hint_rate(connection, rate);
        }
        *self.link.carrier() = Carrier::Up(connection.clone(), epoch);
        self.link.arrived.notify_waiters();
        epoch
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

    /// Runs the link until it ends, on `carriage` first.
    pub async fn run(self, carriage: Carriage) {
        self.guard();
        self.keep(Ok(carriage)).await;
    }

    /// Runs a link that waits for its agent.
    #[cfg(unix)]
    pub async fn run_parked(mut self) {
        self.guard();
        let first = self.wait_for_agent().await;
        self.keep(first).await;
    }

    fn guard(&self) {
        let (link, context) = (self.link.clone(), self.context.clone());
        self.scope.spawn(guard::guard(link, context, self.host.clone()));
    }

    async fn keep(mut self, mut next: Result<Carriage, End>) {
        self.touch().await;
        let mut last = None;
        let end = loop {
            let mut carriage = match next {
                Ok(carriage) => carriage,
                Err(end) => break end,
            };
            self.up(&carriage.connection);
            let end = self.carry(&mut carriage).await;
            self.count();
            next = self.next_carriage(end, &carriage.connection).await;
            last = Some(carriage.connection);
        };
        self.finish(end, last.as_ref()).await;
    }

    /// Reports that a carrier is up.
    fn up(&self, connection: &quinn::Connection) {
        let (link, peer) = (&self.link, spawnpoint_net::canonical(connection.remote_address()));
        tracing::info!(host = link.host_name, link = %link.id, %peer, "link up");
        self.context.events.emit(Event::LinkUp {
            host: link.host_name.clone(),
            link: link.id.to_string(),
            peer,
        });
    }

    /// Reports that a carrier is down.
    fn down(&self, reason: &str) {
        let link = &self.link;
        tracing::info!(host = link.host_name, link = %link.id, reason, "link down");
        self.context.events.emit(Event::LinkDown {
            host: link.host_name.clone(),
            link: link.id.to_string(),
            reason: reason.to_owned(),
        });
    }

    /// Serves one carrier until it ends.
    async fn carry(&mut self, carriage: &mut Carriage) -> End {
        let scope = TaskScope::new(self.scope.token());
        let (link, connection) = (self.link.clone(), carriage.connection.clone());
        scope.spawn(async move { link.outbox.run(&connection).await });
        let connection = carriage.connection.clone();
        scope.spawn(datagrams::read(self.link.clone(), connection, self.context.clone()));
        let (link, connection) = (self.link.clone(), carriage.connection.clone());
        scope.spawn(async move { link.sessions.run_repairs(&connection).await });
        let pulse = Pulse::new(carriage.connection.clone(), &self.context.config().links.transport);
        self.serve(&pulse, &mut carriage.reader, &mut carriage.writer).await
    }

    /// Notes that the host is here, and from where.
    async fn touch(&self) {
        if let Some(peer) = self.link.peer() {
            self.context.door.welcome(self.context.clock.now(), peer.ip());
        }
        if let Err(error) = self.context.hosts.touch(self.host.id, unix_now()).await {
            tracing::error!(error = %describe(&error), "the directory could not note the host's visit");
        }
    }

    async fn serve(&mut self, pulse: &Pulse, reader: &mut ControlReader, writer: &mut ControlWriter) -> End {
        let mut changes = self.context.hosts.changes();
        changes.mark_changed();
        let mut config = self.context.config_changes();
        let mut quotas = self.context.books.changes();
        quotas.mark_changed();
        let mut access = self.context.access_changes();
        // It may have changed while nobody listened.
        access.mark_changed();
        let mut count = tokio::time::interval(COUNT_EVERY);
        let mut touch = tokio::time::interval_at(tokio::time::Instant::now() + TOUCH_EVERY, TOUCH_EVERY);
        let mut tell = tokio::time::interval(TELL_EVERY);
        let (stop, link) = (self.scope.token().clone(), self.link.clone());
        let is_busy = || link.is_busy();
        let silence = pulse.silence(is_busy);
        tokio::pin!(silence);
        if let Some(text) = self.notice.take() {
            link.command(Command::Notice(text));
        }
        loop {
            let result = tokio::select! {
                () = stop.cancelled() => return End::Close(CloseCode::Shutdown),
                () = link.closed.cancelled() => return End::Close(self.closing()),
                what = &mut silence => {
                    silence.set(pulse.silence(is_busy));
                    match what {
                        Silence::Ask => self.send(writer, &Message::Ping(Ping {})).await,
                        Silence::Dead => {
                            link.close_carrier(CloseCode::Timeout);
                            Err(End::Lost(quinn::ConnectionError::TimedOut))
                        }
                    }
                }
                due = link.sessions.due() => self.tell(due, writer).await,
                _ = tell.tick() => self.tell(link.sessions.take_news(), writer).await,
                message = reader.message() => match message {
                    Ok(message) => self.on_message(message, writer).await,
                    Err(error) => Err(error.into()),
                },
                Some(command) = self.commands.recv() => self.on_command(command, writer).await,
                Ok(()) = changes.changed() => self.on_directory_change(writer).await,
                Ok(()) = access.changed() => {
                    self.evict();
                    Ok(())
                }
                Ok(()) = quotas.changed() => {
                    self.apply_allowance();
                    Ok(())
                }
                Ok(()) = config.changed() => {
                    self.apply_allowance();
                    Ok(())
                }
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
        // Each costs writes to the directory, which all hosts share.
        let is_asking = !matches!(
            message,
            Message::Delivered(_) | Message::OriginState(_) | Message::Ping(_)
        );
        if is_asking && !self.asks.allows(self.context.clock.now()) {
            return Err(End::Violation(Violation::MessageFlood));
        }
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
            Message::Delivered(delivered) => self.link.sessions.on_delivered(delivered).map_err(End::Violation),
            Message::OriginState(state) => {
                // One that was closed meanwhile is nobody's.
                if let Some(udp) = self.link.tunnel(state.tunnel).and_then(|tunnel| tunnel.udp.clone()) {
                    udp.set_silence(
                        state
                            .silence
                            .map(|code| Presence::of_reset(code).unwrap_or(Presence::Down)),
                    );
                }
                Ok(())
            }
            Message::BanRequest(request) => {
                let reply = self.on_ban(request).await;
                self.send(writer, &Message::BanReply(reply)).await
            }
            Message::Ping(_) | Message::Unsupported(_) => Ok(()),
            _ => Err(End::Violation(Violation::UnexpectedMessage)),
        }
    }

    async fn on_command(&mut self, command: Command, writer: &mut ControlWriter) -> Result<(), End> {
        match command {
            Command::TunnelTaken(name, id) => {
                if !self.forget_taken(&name, id) {
                    return Ok(());
                }
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
            Command::Notice(text) => self.send(writer, &Message::Notice(Notice { text })).await,
            Command::Close(code) => Err(End::Close(code)),
            Command::Arrive(arrival) if arrival.is_here() => Err(End::Superseded(arrival)),
            Command::Arrive(_) => Ok(()),
            #[cfg(unix)]
            Command::Rest { go_on, reply } => {
                self.rest(&go_on, reply).await;
                Ok(())
            }
        }
    }

    /// Ends a tunnel that another link has taken; `false` when the agent has closed or reopened it meanwhile.
    fn forget_taken(&mut self, name: &TunnelName, id: TunnelId) -> bool {
        if self.requests.get(name).is_none_or(|(_, open)| *open != id) {
            return false;
        }
        self.requests.remove(name);
        self.end_tunnel(id, "taken_over");
        true
    }

    /// Tells the agent how far sessions are.
    async fn tell(&self, news: Vec<Delivered>, writer: &mut ControlWriter) -> Result<(), End> {
        if !self.is_resumable || news.is_empty() {
            return Ok(());
        }
        let messages: Vec<Message> = news.into_iter().map(Message::Delivered).collect();
        match tokio::time::timeout(WRITE_DEADLINE, writer.messages(&messages)).await {
            Ok(sent) => Ok(sent?),
            Err(_) => Err(End::Close(CloseCode::Timeout)),
        }
    }

    fn closing(&self) -> CloseCode {
        self.link.closing.get().copied().unwrap_or(CloseCode::Internal)
    }

    async fn send(&self, writer: &mut ControlWriter, message: &Message) -> Result<(), End> {
        match tokio::time::timeout(WRITE_DEADLINE, writer.message(message)).await {
            Ok(sent) => Ok(sent?),
            Err(_) => Err(End::Close(CloseCode::Timeout)),
        }
    }
}
