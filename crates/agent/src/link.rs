//! One link: hello, control messages, and tunnels that follow the configuration.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use quinn::Connection;
use spawnpoint_config::tunnel::Tunnel;
use spawnpoint_net::{
    Clock, ControlError, ControlReader, ControlWriter, DatagramOutbox, Dialed, FIRST_PLAYERS, PlayerStream, TaskScope,
    var,
};
use spawnpoint_ops::{Event, Events, describe};
use spawnpoint_proto::control::{
    Hello, Message, OpenedTunnel, TunnelRemove, TunnelReply, TunnelRequest, Unsupported, Welcome,
};
use spawnpoint_proto::frame::MAX_FRAME;
use spawnpoint_proto::handshake::{Answer, Introduced};
use spawnpoint_proto::{
    AgentId, CloseCode, LinkId, RefusalCode, RejectCode, TunnelName, VERSIONS, Violation, host_port,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::AgentSettings;
use crate::connect::GiveUp;
use crate::origin::Origin;
use crate::tcp;
use crate::tunnels::{OpenTunnel, OpenTunnels};
use crate::udp::Flows;

/// A relay answers a hello as fast as it can open sockets.
const WELCOME_DEADLINE: Duration = Duration::from_secs(10);

/// A relay that does not take a control message for this long is stuck.
const WRITE_DEADLINE: Duration = Duration::from_secs(5);

/// What may heal is asked for again this often.
const RETRY_EVERY: Duration = Duration::from_secs(5);

/// TCP players of one link at most; the relay's own limits are lower.
const MAX_PLAYERS: u32 = 65_536;

const SOFTWARE: &str = concat!("spawnpoint/", env!("CARGO_PKG_VERSION"));

/// How a link ended.
pub(crate) enum LinkEnd {
    /// We were asked to leave.
    Left,
    /// There is no point in trying again.
    GaveUp(GiveUp),
    /// It was lost; trying again is right.
    Lost {
        /// Why, in words.
        reason: String,
        /// Whether the relay fell silent or started anew, so that it is worth asking whether it is back.
        is_silence: bool,
    },
}

impl LinkEnd {
    /// Lost for a reason that a relay which is there has given.
    fn lost(reason: impl Into<String>) -> Self {
        Self::Lost {
            reason: reason.into(),
            is_silence: false,
        }
    }
}

impl From<ControlError> for LinkEnd {
    fn from(error: ControlError) -> Self {
        match error {
            ControlError::Lost(error) => closed(&error),
            error => Self::lost(describe(&error)),
        }
    }
}

struct Link<'a> {
    settings: &'a AgentSettings,
    events: &'a Events,
    connection: Connection,
    writer: ControlWriter,
    /// What we want open, as the relay was last told.
    wanted: Vec<Tunnel>,
    /// Why a wanted tunnel is not open.
    refused: HashMap<TunnelName, (RefusalCode, String)>,
    open: OpenTunnels,
    flows: Arc<Flows>,
    /// Held by each TCP player's task; the number of holders is the number of players.
    players: Arc<()>,
    /// TCP players that the relay may have here at once.
    room: u32,
    scope: Arc<TaskScope>,
}

/// Introduces the agent on a fresh connection and runs the link until it ends.
pub(crate) async fn run(
    settings: &AgentSettings,
    tunnels: &watch::Receiver<Vec<Tunnel>>,
    events: &Events,
    agent: AgentId,
    dialed: Dialed,
    leave: &CancellationToken,
    parent: &CancellationToken,
) -> LinkEnd {
    let Dialed { connection, endpoint } = dialed;
    let mut tunnels = tunnels.clone();
    let wanted = tunnels.borrow_and_update().clone();
    let introduce = introduce(settings, &connection, agent, &wanted);
    let greeted = tokio::select! {
        () = leave.cancelled() => return LinkEnd::Left,
        greeted = tokio::time::timeout(WELCOME_DEADLINE, introduce) => greeted,
    };
    let (welcome, reader, writer) = match greeted {
        Ok(Ok(greeted)) => greeted,
        Ok(Err(end)) => return end,
        Err(_) => return LinkEnd::lost("the relay did not answer the agent's hello in time"),
    };
    let scope = Arc::new(TaskScope::new(parent));
    let (clock, open) = (Clock::default(), OpenTunnels::default());
    let outbox = DatagramOutbox::new(clock);
    let flows = Arc::new(Flows::new(events.clone(), open.clone(), outbox.clone(), clock));
    let sending = connection.clone();
    scope.spawn(async move { outbox.run(&sending).await });
    scope.spawn(flows.clone().receive(connection.clone(), scope.clone()));
    scope.spawn(flows.clone().keep());

    let (id, host) = (welcome.link, welcome.host.clone());
    let mut link = Link {
        settings,
        events,
        connection: connection.clone(),
        writer,
        wanted,
        refused: HashMap::new(),
        open,
        flows,
        players: Arc::new(()),
        room: FIRST_PLAYERS,
        scope: scope.clone(),
    };
    tracing::info!(relay = settings.relay(), host, link = %id, "link up");
    events.emit(Event::LinkUp {
        host: host.clone(),
        link: id.to_string(),
        peer: spawnpoint_net::canonical(connection.remote_address()),
    });
    let end = link.serve(*welcome, reader, &mut tunnels, leave).await;
    link.flows.close();
    let code = match &end {
        LinkEnd::Left | LinkEnd::GaveUp(_) => CloseCode::Shutdown,
        LinkEnd::Lost { .. } => CloseCode::Internal,
    };
    connection.close(var(code.number()), code.as_str().as_bytes());
    report_down(events, &host, id, &end);
    scope.close(Duration::from_secs(1)).await;
    // The farewell must leave before the socket closes.
    let _ = tokio::time::timeout(Duration::from_millis(500), endpoint.wait_idle()).await;
    end
}

fn report_down(events: &Events, host: &str, link: LinkId, end: &LinkEnd) {
    let reason = match end {
        LinkEnd::Left => "shutdown".to_owned(),
        LinkEnd::GaveUp(reason) => reason.to_string(),
        LinkEnd::Lost { reason, .. } => reason.clone(),
    };
    tracing::info!(host, %link, reason, "link down");
    events.emit(Event::LinkDown {
        host: host.to_owned(),
        link: link.to_string(),
        reason,
    });
}

async fn introduce(
    settings: &AgentSettings,
    connection: &Connection,
    agent: AgentId,
    wanted: &[Tunnel],
) -> Result<(Box<Welcome>, ControlReader, ControlWriter), LinkEnd> {
    let (send, recv) = connection.open_bi().await.map_err(|error| closed(&error))?;
    let (mut reader, mut writer) = (ControlReader::new(recv, MAX_FRAME), ControlWriter::new(send));
    let hello = Hello {
        versions: VERSIONS.to_vec(),
        token: settings.invite.token.clone(),
        agent,
        software: SOFTWARE.to_owned(),
        tunnels: wanted.iter().map(request).collect(),
        resume: None,
    };
    let (frame, introduced) = Introduced::new(hello);
    writer.frame(&frame).await?;
    let answer = introduced.on_frame(&reader.frame().await?);
    match answer.map_err(|violation| LinkEnd::from(ControlError::from(violation)))? {
        Answer::Welcome(welcome) => Ok((welcome, reader, writer)),
        Answer::Rejected(reject) if reject.code.can_heal() => Err(LinkEnd::lost(reject.text)),
        Answer::Rejected(reject) => Err(LinkEnd::GaveUp(GiveUp::Rejected {
            code: reject.code,
            text: reject.text,
        })),
    }
}

impl Link<'_> {
    async fn serve(
        &mut self,
        welcome: Welcome,
        mut reader: ControlReader,
        tunnels: &mut watch::Receiver<Vec<Tunnel>>,
        leave: &CancellationToken,
    ) -> LinkEnd {
        for reply in welcome.tunnels {
            self.on_reply(reply);
        }
        if let Some(end) = self.is_hopeless() {
            return end;
        }
        self.events.emit(Event::Ready {
            role: "agent",
            listen: None,
            admin: None,
            relay: self.settings.relay(),
            ports: None,
        });
        let mut retry = tokio::time::interval_at(tokio::time::Instant::now() + RETRY_EVERY, RETRY_EVERY);
        loop {
            let result = tokio::select! {
                () = leave.cancelled() => return LinkEnd::Left,
                stream = self.connection.accept_bi() => match stream {
                    Ok((send, recv)) => {
                        let stream = PlayerStream::new(send, recv);
                        self.make_room();
                        self.scope.spawn(tcp::carry(self.open.clone(), self.events.clone(), stream, self.players.clone()));
                        Ok(())
                    }
                    Err(error) => Err(closed(&error)),
                },
                message = reader.message() => match message {
                    Ok(message) => self.on_message(message).await,
                    Err(error) => Err(error.into()),
                },
                Ok(()) = tunnels.changed() => {
                    let wanted = tunnels.borrow_and_update().clone();
                    self.change(wanted).await
                }
                _ = retry.tick() => self.retry().await,
            };
            if let Err(end) = result {
                return end;
            }
        }
    }

    /// Lets the relay open more streams before it runs out of them.
    fn make_room(&mut self) {
        if Arc::strong_count(&self.players) * 2 > self.room as usize && self.room < MAX_PLAYERS {
            self.room *= 2;
            self.connection.set_max_concurrent_bi_streams(self.room.into());
        }
    }

    async fn on_message(&mut self, message: Message) -> Result<(), LinkEnd> {
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
                self.events.emit(Event::Draining {
                    players: 0,
                    deadline_ms,
                });
                Ok(())
            }
            Message::Notice(notice) => {
                tracing::info!(text = notice.text, "the relay says");
                Ok(())
            }
            Message::Unknown(kind) => self.send(&Message::Unsupported(Unsupported { kind })).await,
            // Offsets matter to a session that is taken up again, which this agent does not ask for.
            Message::Delivered(_) | Message::Unsupported(_) => Ok(()),
            _ => Err(ControlError::from(Violation::UnexpectedMessage).into()),
        }
    }

    /// Notes what became of a tunnel that was asked for, or was open.
    fn on_reply(&mut self, reply: TunnelReply) {
        let Some(tunnel) = self.wanted.iter().find(|tunnel| tunnel.name == reply.name).cloned() else {
            return;
        };
        match (reply.opened, reply.refused) {
            (Some(opened), _) => self.opened(tunnel, &opened),
            (None, refusal) => {
                if let Some((_, open)) = self.open.remove(&tunnel.name) {
                    self.flows.close_tunnel(&open);
                }
                let (code, text) = refusal.map_or((RefusalCode::Unknown, String::new()), |refusal| {
                    (refusal.code, refusal.text)
                });
                tracing::warn!(tunnel = %tunnel.name, reason = code.as_str(), text, "tunnel refused");
                self.events.emit(Event::TunnelRefused {
                    host: None,
                    tunnel: tunnel.name.to_string(),
                    reason: code.as_str(),
                    text: text.clone(),
                });
                self.refused.insert(tunnel.name, (code, text));
            }
        }
    }

    fn opened(&mut self, tunnel: Tunnel, opened: &OpenedTunnel) {
        self.refused.remove(&tunnel.name);
        if let Some((_, old)) = self.open.remove(&tunnel.name) {
            self.flows.close_tunnel(&old);
        }
        let public = host_port(&opened.public_host, opened.public_port);
        tracing::info!(tunnel = %tunnel.name, public, origin = %tunnel.origin, "tunnel open");
        self.events.emit(Event::Tunnel {
            host: None,
            tunnel: tunnel.name.to_string(),
            protocol: tunnel.protocol.as_str(),
            public,
            origin: Some(tunnel.origin.to_string()),
        });
        self.flows.set_idle(Duration::from_millis(opened.idle_ms.into()));
        let origin = self.origin(&tunnel);
        let scope = Arc::new(TaskScope::new(self.scope.token()));
        self.open.insert(opened.id, OpenTunnel { tunnel, origin, scope });
    }

    /// Whether nothing is open and nothing can be.
    fn is_hopeless(&self) -> Option<LinkEnd> {
        let hopeless = |tunnel: &Tunnel| self.refused.get(&tunnel.name).filter(|(code, _)| !code.can_heal());
        if self.wanted.is_empty() || self.open.len() > 0 {
            return None;
        }
        let reasons: Option<Vec<_>> = self.wanted.iter().map(hopeless).collect();
        let reasons = reasons?;
        if reasons.iter().all(|(code, _)| *code == RefusalCode::TakenOver) {
            return Some(LinkEnd::GaveUp(GiveUp::TakenOver));
        }
        let texts: Vec<&str> = reasons.iter().map(|(_, text)| text.as_str()).collect();
        Some(LinkEnd::GaveUp(GiveUp::Refused(texts.join("; "))))
    }

    /// Follows a changed configuration; players of tunnels that stay are not touched.
    async fn change(&mut self, wanted: Vec<Tunnel>) -> Result<(), LinkEnd> {
        let old = std::mem::replace(&mut self.wanted, wanted);
        for tunnel in &old {
            let new = self.wanted.iter().find(|new| new.name == tunnel.name);
            if new.is_some_and(|new| is_same_for_relay(new, tunnel)) {
                continue;
            }
            self.refused.remove(&tunnel.name);
            if let Some((_, open)) = self.open.remove(&tunnel.name) {
                self.flows.close_tunnel(&open);
            }
            tracing::info!(tunnel = %tunnel.name, "tunnel closed");
            self.events.emit(Event::TunnelClosed {
                host: None,
                tunnel: tunnel.name.to_string(),
            });
            self.send(&Message::TunnelRemove(TunnelRemove {
                name: tunnel.name.clone(),
            }))
            .await?;
        }
        for tunnel in self.wanted.clone() {
            let before = old
                .iter()
                .find(|old| old.name == tunnel.name && is_same_for_relay(old, &tunnel));
            match before {
                Some(before) if *before == tunnel => {}
                Some(_) => self.move_origin(tunnel),
                None => self.send(&Message::TunnelAdd(request(&tunnel))).await?,
            }
        }
        Ok(())
    }

    /// Sends new players of a tunnel to another game server.
    fn move_origin(&self, tunnel: Tunnel) {
        let Some((id, open)) = self.open.find(&tunnel.name) else {
            return;
        };
        tracing::info!(tunnel = %tunnel.name, origin = %tunnel.origin, "new players go to another game server");
        let origin = self.origin(&tunnel);
        self.open.insert(
            id,
            OpenTunnel {
                tunnel,
                origin,
                scope: open.scope.clone(),
            },
        );
    }

    async fn retry(&mut self) -> Result<(), LinkEnd> {
        let again: Vec<Message> = self
            .wanted
            .iter()
            .filter(|tunnel| self.refused.get(&tunnel.name).is_some_and(|(code, _)| code.can_heal()))
            .map(|tunnel| Message::TunnelAdd(request(tunnel)))
            .collect();
        for message in again {
            self.send(&message).await?;
        }
        Ok(())
    }

    fn origin(&self, tunnel: &Tunnel) -> Arc<Origin> {
        let (name, address) = (tunnel.name.clone(), tunnel.origin.clone());
        Arc::new(Origin::new(
            name,
            address,
            self.settings.origin_timeout,
            self.events.clone(),
        ))
    }

    async fn send(&mut self, message: &Message) -> Result<(), LinkEnd> {
        match tokio::time::timeout(WRITE_DEADLINE, self.writer.message(message)).await {
            Ok(sent) => Ok(sent?),
            Err(_) => Err(LinkEnd::lost("the relay does not take messages any more")),
        }
    }
}

fn request(tunnel: &Tunnel) -> TunnelRequest {
    TunnelRequest {
        name: tunnel.name.clone(),
        protocol: tunnel.protocol,
        public_port: tunnel.public_port,
        // A port that players know from the game need not be typed.
        preferred_port: Some(tunnel.game.map_or(tunnel.origin.port, |game| game.default_port())),
        game: tunnel.game.map(|game| game.as_str().to_owned()),
    }
}

/// Whether a changed tunnel is the same to the relay, which does not know the game server.
fn is_same_for_relay(one: &Tunnel, other: &Tunnel) -> bool {
    one.protocol == other.protocol && one.public_port == other.public_port && one.game == other.game
}

fn closed(error: &quinn::ConnectionError) -> LinkEnd {
    let silent = |reason: &str| LinkEnd::Lost {
        reason: reason.to_owned(),
        is_silence: true,
    };
    let quinn::ConnectionError::ApplicationClosed(close) = error else {
        return match error {
            quinn::ConnectionError::TimedOut => silent("the relay does not answer any more"),
            quinn::ConnectionError::Reset => silent("the relay was restarted"),
            other => LinkEnd::lost(other.to_string()),
        };
    };
    match CloseCode::from_number(close.error_code.into_inner()) {
        CloseCode::Shutdown => silent("the relay was stopped"),
        CloseCode::TakenOver => LinkEnd::GaveUp(GiveUp::TakenOver),
        CloseCode::Revoked => LinkEnd::GaveUp(GiveUp::Rejected {
            code: RejectCode::Revoked,
            text: "the relay's operator has revoked or replaced the invite, or it has expired; ask for a new one"
                .to_owned(),
        }),
        code => LinkEnd::lost(format!("the relay closed the link ({code})")),
    }
}
