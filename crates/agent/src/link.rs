//! The agent's link, which outlives the connections that carry it: hello, and what is said on the control stream after it.

mod end;
#[cfg(unix)]
mod handover;
mod open;
mod requests;
mod resume;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use quinn::Connection;
use spawnpoint_config::tunnel::Tunnel;
use spawnpoint_core::token::prove;
use spawnpoint_net::{
    ControlError, ControlReader, ControlWriter, DatagramOutbox, Dialed, FIRST_PLAYERS, PlayerStream, Pulse, SessionEnd,
    Sessions, Silence, TaskScope, hint_rate, var,
};
use spawnpoint_ops::{Event, Events};
use spawnpoint_proto::control::{BanRequest, Delivered, Hello, Message, OriginState, Ping, Unsupported, Welcome};
use spawnpoint_proto::frame::MAX_FRAME;
use spawnpoint_proto::handshake::{Answer, Introduced};
use spawnpoint_proto::{
    AgentId, CloseCode, LinkId, RefusalCode, ResetCode, Ticket, TunnelId, TunnelName, VERSIONS, Violation, plain,
};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::AgentSettings;
use crate::connect::GiveUp;
use crate::guests::Guests;
use crate::inquiry::Inquiries;
use crate::origin::Sources;
use crate::path::PathWatch;
use crate::tcp::{self, Hall};
use crate::tunnels::OpenTunnels;
use crate::udp::{Flows, Repairs};
use crate::wake::Sleepers;

use end::closed;
pub(crate) use end::{LinkEnd, RelayState};
use requests::{expand, request};

/// A relay answers a hello as fast as it can open sockets.
const WELCOME_DEADLINE: Duration = Duration::from_secs(10);

/// A relay that does not take a control message for this long is stuck.
const WRITE_DEADLINE: Duration = Duration::from_secs(5);

/// What may heal is asked for again this often.
const RETRY_EVERY: Duration = Duration::from_secs(5);

/// How often the relay is told how far busy sessions are.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// The longest that a relay may have us keep UDP players who are silent.
const MAX_IDLE: Duration = Duration::from_secs(3_600);

/// The longest that a relay may have us keep sessions without a carrier.
const MAX_WINDOW: Duration = Duration::from_secs(600);

/// TCP players of one link at most.
const MAX_PLAYERS: u32 = 16_384;

#[cfg(unix)]
pub(crate) use handover::LinkHandle;

/// What this software calls itself to its peers.
pub(crate) const SOFTWARE: &str = concat!("spawnpoint/", env!("CARGO_PKG_VERSION"));

/// What an agent works with while it is linked.
pub(crate) struct Surroundings {
    pub settings: AgentSettings,
    pub tunnels: watch::Receiver<Vec<Tunnel>>,
    pub events: Events,
    pub guests: Guests,
    pub sources: Sources,
    pub sleepers: Sleepers,
    /// What the person at the agent asks of the relay.
    pub inquiries: Inquiries,
    /// This process, for the relay's log.
    pub agent: AgentId,
    /// Cancelled to ask for a tidy end.
    pub leave: CancellationToken,
    /// Every link's tasks end with it.
    pub parent: CancellationToken,
    /// Cancelled when a successor has the link.
    pub hold: CancellationToken,
    /// The link right now, for whoever hands it over.
    #[cfg(unix)]
    pub link: watch::Sender<Option<Arc<LinkHandle>>>,
}

/// A link, with everything that outlives its carriers.
pub(crate) struct Link {
    settings: AgentSettings,
    hall: Hall,
    sources: Sources,
    sleepers: Sleepers,
    inquiries: Inquiries,
    id: LinkId,
    host: String,
    /// What takes the link up again; `None` when the relay keeps no links.
    ticket: Option<Ticket>,
    /// How long the relay keeps it.
    window: Duration,
    sessions: Arc<Sessions>,
    /// What we want open, as the relay was last told.
    wanted: Vec<Tunnel>,
    /// Why a wanted tunnel is not open.
    refused: HashMap<TunnelName, (RefusalCode, String)>,
    open: OpenTunnels,
    flows: Arc<Flows>,
    outbox: DatagramOutbox,
    /// Held by each TCP player's task; the number of holders is the number of players.
    players: Arc<()>,
    /// TCP players that the relay may have here at once.
    room: u32,
    scope: Arc<TaskScope>,
    /// While no carrier is up: drops with it what ends the sessions in time.
    parked: Option<(tokio::time::Instant, DropGuard)>,
}

/// What was said of game servers: why one does not answer.
type Silences = HashMap<TunnelId, Option<ResetCode>>;

/// A connection that carries the link, with its control stream.
struct Carriage {
    connection: Connection,
    reader: ControlReader,
    writer: ControlWriter,
    /// Which of the link's connections it is.
    epoch: u64,
}

/// Introduces the agent on a fresh connection and serves the link on it until it ends; `link` is the one to take up again, and what is left of it after.
pub(crate) async fn run(around: &Surroundings, link: &mut Option<Link>, dialed: Dialed) -> LinkEnd {
    let Dialed { connection, endpoint } = dialed;
    let mut tunnels = around.tunnels.clone();
    let wanted = expand(&tunnels.borrow_and_update());
    if link.as_ref().is_some_and(Link::is_expired) {
        *link = None;
    }
    let pulse = Pulse::new(connection.clone(), &around.settings.transport);
    let introduce = introduce(around, link.as_ref(), &connection, &wanted);
    let greeted = tokio::select! {
        () = around.leave.cancelled() => return LinkEnd::Left,
        greeted = introduce => greeted,
        () = unwelcome(&pulse, around.settings.transport.idle_timeout) => {
            Err(LinkEnd::silent("the relay did not answer the agent's hello in time"))
        }
    };
    let (welcome, mut carriage) = match greeted {
        Ok(greeted) => greeted,
        Err(end) => return end,
    };
    let mut here = match link.take() {
        Some(old) if old.id == welcome.link => old.resumed(&welcome),
        old => {
            if let Some(old) = old {
                tracing::info!("the relay does not have the old link any more, its players are gone");
                old.finish(SessionEnd::LinkLost).await;
            }
            Link::begin(around, &welcome)
        }
    };
    here.wanted = wanted;
    #[cfg(unix)]
    around.link.send_replace(Some(Arc::new(here.handle())));
    carriage.epoch = here.sessions.epoch();
    let peer = spawnpoint_net::canonical(connection.remote_address());
    tracing::info!(relay = around.settings.relay(), host = here.host, link = %here.id, "link up");
    around.events.emit(Event::LinkUp {
        host: here.host.clone(),
        link: here.id.to_string(),
        peer,
    });
    let path = PathWatch::new(connection.clone(), endpoint.clone(), pulse);
    let end = here.carry(*welcome, carriage, path, &mut tunnels, &around.leave).await;
    here.report_down(&end);
    around.inquiries.give_up();
    let code = match &end {
        LinkEnd::Left | LinkEnd::GaveUp(_) => CloseCode::Shutdown,
        LinkEnd::Lost { .. } => CloseCode::Internal,
    };
    connection.close(var(code.number()), code.as_str().as_bytes());
    match &end {
        LinkEnd::Lost { relay, .. } if here.ticket.is_some() && *relay != RelayState::Stopped => {
            here.park();
            *link = Some(here);
        }
        _ => {
            #[cfg(unix)]
            around.link.send_replace(None);
            here.finish(SessionEnd::LinkLost).await;
            // The farewell must leave before the socket closes.
            let _ = tokio::time::timeout(Duration::from_millis(500), endpoint.wait_idle()).await;
        }
    }
    end
}

/// Waits until there is no hope that a relay answers the hello which is on its way: it does not even acknowledge it, or it has had time enough.
async fn unwelcome(pulse: &Pulse, idle_timeout: Duration) {
    let (before, patience) = (pulse.heard(), idle_timeout.min(WELCOME_DEADLINE));
    tokio::time::sleep(patience).await;
    if pulse.heard() > before {
        tokio::time::sleep(WELCOME_DEADLINE - patience).await;
    }
}

async fn introduce(
    around: &Surroundings,
    link: Option<&Link>,
    connection: &Connection,
    wanted: &[Tunnel],
) -> Result<(Box<Welcome>, Carriage), LinkEnd> {
    let (send, recv) = connection.open_bi().await.map_err(|error| closed(&error))?;
    let (mut reader, mut writer) = (ControlReader::new(recv, MAX_FRAME), ControlWriter::new(send));
    let binding = spawnpoint_net::binding(connection).map_err(|error| LinkEnd::lost(error.to_string()))?;
    let hello = Hello {
        versions: VERSIONS.to_vec(),
        token: None,
        proof: Some(prove(&around.settings.invite.token, &binding)),
        agent: around.agent,
        software: SOFTWARE.to_owned(),
        tunnels: wanted.iter().map(request).collect(),
        resume: link.and_then(Link::ask_to_resume),
        window: Some(around.settings.transport.stream_window),
        repairs: Some(around.settings.transport.repair),
        downlink: around.settings.line.downlink,
        more: None,
    };
    let (messages, introduced) = Introduced::new(hello);
    let answer = {
        let (say, hear) = (writer.messages(&messages), reader.frame());
        tokio::pin!(hear);
        // Who is turned away cannot say more than the hello.
        tokio::select! {
            biased;
            answer = &mut hear => answer?,
            said = say => {
                said?;
                hear.await?
            }
        }
    };
    let answer = introduced.on_frame(&answer);
    match answer.map_err(|violation| LinkEnd::from(ControlError::from(violation)))? {
        Answer::Welcome(welcome) => {
            let connection = connection.clone();
            let carriage = Carriage {
                connection,
                reader,
                writer,
                epoch: 0,
            };
            Ok((welcome, carriage))
        }
        Answer::Rejected(reject) if reject.code.can_heal() => Err(LinkEnd::lost(plain(&reject.text))),
        Answer::Rejected(reject) => Err(LinkEnd::GaveUp(GiveUp::Rejected {
            code: reject.code,
            text: plain(&reject.text),
        })),
    }
}

impl Link {
    /// Serves the link on one carrier until that ends.
    async fn carry(
        &mut self,
        welcome: Welcome,
        carriage: Carriage,
        mut path: PathWatch,
        tunnels: &mut watch::Receiver<Vec<Tunnel>>,
        leave: &CancellationToken,
    ) -> LinkEnd {
        let Carriage {
            connection,
            mut reader,
            mut writer,
            epoch,
        } = carriage;
        let scope = TaskScope::new(self.scope.token());
        let (outbox, sending) = (self.outbox.clone(), connection.clone());
        scope.spawn(async move { outbox.run(&sending).await });
        let (sessions, sending) = (self.sessions.clone(), connection.clone());
        sessions.set_repairs(self.settings.transport.repair && welcome.repairs == Some(true));
        scope.spawn(async move { sessions.run_repairs(&sending).await });
        if let Some(rate) = self.settings.line.uplink {
            hint_rate(&connection, rate);
        }
        let repairs = Repairs {
            sessions: self.sessions.clone(),
            epoch,
        };
        scope.spawn(
            self.flows
                .clone()
                .receive(connection.clone(), self.scope.clone(), repairs),
        );
        if self.room > FIRST_PLAYERS {
            connection.set_max_concurrent_bi_streams(self.room.into());
        }
        for reply in welcome.tunnels {
            self.on_reply(reply);
        }
        if let Some(end) = self.is_hopeless() {
            return end;
        }
        self.hall.events.emit(Event::Ready {
            role: "agent",
            pid: Some(std::process::id()),
            listen: None,
            admin: None,
            relay: self.settings.relay(),
            ports: None,
        });
        let mut retry = tokio::time::interval_at(tokio::time::Instant::now() + RETRY_EVERY, RETRY_EVERY);
        let mut tell = tokio::time::interval(TELL_EVERY);
        let (sessions, inquiries) = (self.sessions.clone(), self.inquiries.clone());
        let pulse = path.pulse().clone();
        let stuck = path.stuck();
        let left_behind = tokio::time::sleep(self.window);
        let (company, flows) = (self.sessions.clone(), self.flows.clone());
        let is_busy = || !company.is_empty() || flows.has_players();
        let silence = pulse.silence(is_busy);
        tokio::pin!(stuck, left_behind, silence);
        let mut is_complete = false;
        let mut silences = HashMap::new();
        loop {
            let result = tokio::select! {
                () = leave.cancelled() => return LinkEnd::Left,
                stream = connection.accept_bi() => match stream {
                    Ok((send, recv)) => {
                        self.make_room(&connection);
                        self.on_stream(PlayerStream::new(send, recv), epoch);
                        Ok(())
                    }
                    Err(error) => Err(closed(&error)),
                },
                message = reader.message() => match message {
                    Ok(message) => self.on_message(message, &mut writer).await,
                    Err(error) => Err(error.into()),
                },
                what = &mut silence => {
                    silence.set(pulse.silence(is_busy));
                    match what {
                        Silence::Ask => send(&mut writer, &Message::Ping(Ping {})).await,
                        Silence::Dead => Err(closed(&quinn::ConnectionError::TimedOut)),
                    }
                }
                due = sessions.due() => self.tell(due, &mut writer).await,
                _ = tell.tick() => {
                    self.hall.round_trip.store(connection.rtt().as_micros() as u64, Ordering::Relaxed);
                    match self.tell(sessions.take_news(), &mut writer).await {
                        Ok(()) => self.tell_silence(&mut silences, &mut writer).await,
                        lost => lost,
                    }
                }
                Ok(()) = tunnels.changed() => {
                    let wanted = expand(&tunnels.borrow_and_update());
                    self.change(wanted, &mut writer).await
                }
                _ = retry.tick() => self.retry(&mut writer).await,
                asked = inquiries.due() => self.ask(asked, &mut writer).await,
                () = &mut left_behind, if !is_complete => {
                    is_complete = true;
                    sessions.end_left_behind(epoch);
                    Ok(())
                }
                () = &mut stuck => Err(LinkEnd::Lost {
                    reason: "the path to the relay has changed".to_owned(),
                    relay: RelayState::Here,
                }),
            };
            if let Err(end) = result {
                return end;
            }
        }
    }

    fn on_stream(&self, stream: PlayerStream, epoch: u64) {
        let visitors = tcp::Visitors {
            tunnels: self.open.clone(),
            sessions: self.sessions.clone(),
            hall: self.hall.clone(),
            epoch,
        };
        self.scope.spawn(tcp::meet(visitors, stream, self.players.clone()));
    }

    /// Tells the relay how far sessions are.
    async fn tell(&self, news: Vec<Delivered>, writer: &mut ControlWriter) -> Result<(), LinkEnd> {
        if self.ticket.is_none() || news.is_empty() {
            return Ok(());
        }
        let messages: Vec<Message> = news.into_iter().map(Message::Delivered).collect();
        match tokio::time::timeout(WRITE_DEADLINE, writer.messages(&messages)).await {
            Ok(sent) => Ok(sent?),
            Err(_) => Err(LinkEnd::silent("the relay does not take messages any more")),
        }
    }

    /// Tells the relay which game servers have fallen silent or answer again since it was `told`, and of each once on every carrier.
    async fn tell_silence(&self, told: &mut Silences, writer: &mut ControlWriter) -> Result<(), LinkEnd> {
        let silences = self.open.silences();
        for (&tunnel, &silence) in &silences {
            if told.get(&tunnel) != Some(&silence) {
                send(writer, &Message::OriginState(OriginState { tunnel, silence })).await?;
            }
        }
        *told = silences;
        Ok(())
    }

    /// Asks the relay what the person here wants to know or have done.
    async fn ask(&self, asked: Vec<BanRequest>, writer: &mut ControlWriter) -> Result<(), LinkEnd> {
        for request in asked {
            send(writer, &Message::BanRequest(request)).await?;
        }
        Ok(())
    }

    /// Lets the relay open more streams before it runs out of them.
    fn make_room(&mut self, connection: &Connection) {
        if Arc::strong_count(&self.players) * 2 > self.room as usize && self.room < MAX_PLAYERS {
            self.room *= 2;
            connection.set_max_concurrent_bi_streams(self.room.into());
        }
    }

    async fn on_message(&mut self, message: Message, writer: &mut ControlWriter) -> Result<(), LinkEnd> {
        match message {
            Message::TunnelReply(reply) => {
                self.on_reply(reply);
                self.is_hopeless().map_or(Ok(()), Err)
            }
            Message::GoAway(away) => {
                tracing::warn!(
                    deadline_ms = away.deadline_ms,
                    "the relay is going down, players may stay until its deadline"
                );
                let deadline_ms = away.deadline_ms.into();
                self.hall.events.emit(Event::Draining {
                    players: 0,
                    deadline_ms,
                });
                Ok(())
            }
            Message::BanReply(reply) => {
                self.inquiries.answer(reply);
                Ok(())
            }
            Message::Notice(notice) => {
                let text = plain(&notice.text);
                tracing::warn!(text, "the relay says");
                self.hall.events.emit(Event::Notice { text });
                Ok(())
            }
            Message::Unknown(kind) => send(writer, &Message::Unsupported(Unsupported { kind })).await,
            Message::Delivered(delivered) => {
                let noted = self.sessions.on_delivered(delivered);
                noted.map_err(|violation| ControlError::from(violation).into())
            }
            Message::Ping(_) => Ok(()),
            Message::Unsupported(unsupported) => {
                if unsupported.kind == BanRequest::KIND {
                    self.inquiries.give_up();
                }
                Ok(())
            }
            _ => Err(ControlError::from(Violation::UnexpectedMessage).into()),
        }
    }
}

async fn send(writer: &mut ControlWriter, message: &Message) -> Result<(), LinkEnd> {
    match tokio::time::timeout(WRITE_DEADLINE, writer.message(message)).await {
        Ok(sent) => Ok(sent?),
        Err(_) => Err(LinkEnd::silent("the relay does not take messages any more")),
    }
}
