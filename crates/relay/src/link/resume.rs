//! What a link goes through between two carriers: it is parked with its sessions, and taken up again by its own agent or given up.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use spawnpoint_core::token::SecretHash;
use spawnpoint_net::{Session, SessionEnd, var};
use spawnpoint_ops::Event;
use spawnpoint_proto::control::{MAX_LOST, TunnelReply, TunnelRequest, Welcome};
use spawnpoint_proto::handshake::Offered;
use spawnpoint_proto::stream::StreamHeader;
use spawnpoint_proto::{CloseCode, ResetCode, SessionId, TunnelName};
use spawnpoint_store::Host;

use super::end::{End, lost_reason, said_goodbye};
use super::{Carriage, Carrier, Command, Link, LinkTask};
use crate::tcp::{OPEN_DEADLINE, open_stream};
use crate::welcome::{SOFTWARE, WELCOME_DEADLINE};

/// A link's own agent on a new connection, which has shown token and ticket.
pub(crate) struct Arrival {
    pub offered: Offered,
    pub version: u16,
    pub host: Host,
    /// The hash of the token that it has shown.
    pub token: SecretHash,
    pub carriage: Carriage,
}

impl Arrival {
    /// Whether its connection still is one; an agent that waited too long has begun another.
    pub fn is_here(&self) -> bool {
        self.carriage.connection.close_reason().is_none()
    }
}

impl std::fmt::Debug for Arrival {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Arrival({})", self.carriage.connection.remote_address())
    }
}

impl LinkTask {
    /// The carrier after the one that ended with `end`.
    ///
    /// # Errors
    /// How the link itself ended.
    pub(super) async fn next_carriage(&mut self, end: End, old: &quinn::Connection) -> Result<Carriage, End> {
        let since = tokio::time::Instant::now();
        let arrival = match end {
            End::Superseded(arrival) => arrival,
            end => {
                let reason = self.parks_for(&end).ok_or(end)?;
                // An agent that is alive after all is to hear of it.
                let code = CloseCode::Timeout;
                old.close(var(code.number()), code.as_str().as_bytes());
                self.park(reason, since).await?
            }
        };
        let code = CloseCode::Superseded;
        old.close(var(code.number()), code.as_str().as_bytes());
        self.resume_on(arrival, since).await
    }

    /// The first carrier of a link that another process had: its agent comes back at once, or not at all.
    #[cfg(unix)]
    pub(super) async fn wait_for_agent(&mut self) -> Result<Carriage, End> {
        let since = tokio::time::Instant::now();
        let arrival = self.park(CloseCode::Upgrade.as_str(), since).await?;
        self.resume_on(arrival, since).await
    }

    async fn resume_on(&mut self, mut arrival: Box<Arrival>, since: tokio::time::Instant) -> Result<Carriage, End> {
        loop {
            match self.resume(*arrival, since).await {
                Ok(carriage) => return Ok(carriage),
                // A new connection that fails at once is no worse than none.
                Err(end) => arrival = self.park(self.parks_for(&end).ok_or(end)?, since).await?,
            }
        }
    }

    /// Why the sessions wait for another carrier after `end`; `None` when the link is over.
    fn parks_for(&self, end: &End) -> Option<&'static str> {
        let window = self.context.config().links.resume_window;
        if !self.is_resumable || window.is_zero() || self.link.closing.get().is_some() {
            return None;
        }
        match end {
            End::Lost(error) if !said_goodbye(error) => Some(lost_reason(error)),
            End::Close(code @ CloseCode::Timeout) => Some(code.as_str()),
            _ => None,
        }
    }

    /// Waits for the agent to come back.
    async fn park(&mut self, reason: &'static str, since: tokio::time::Instant) -> Result<Box<Arrival>, End> {
        let (link, window) = (self.link.clone(), self.context.config().links.resume_window);
        *link.carrier() = Carrier::Parked(since);
        let sessions = link.sessions.len();
        self.down(reason);
        tracing::info!(host = link.host_name, link = %link.id, sessions, window_ms = window.as_millis() as u64, "link parked");
        self.context.events.emit(Event::Parked {
            host: link.host_name.clone(),
            link: link.id.to_string(),
            sessions,
            window_ms: window.as_millis() as u64,
        });
        self.context.metrics.link_parked(1);
        let end = self.wait_for_arrival(since + window).await;
        self.context.metrics.link_parked(-1);
        if matches!(end, Err(End::Expired)) {
            let (sessions, kept) = (link.sessions.len(), link.sessions.kept());
            tracing::info!(host = link.host_name, link = %link.id, sessions, kept, "link expired, its agent did not come back");
            self.context.metrics.sessions_expired(sessions);
            self.context.events.emit(Event::Expired {
                host: link.host_name.clone(),
                link: link.id.to_string(),
                sessions,
            });
        }
        end
    }

    async fn wait_for_arrival(&mut self, deadline: tokio::time::Instant) -> Result<Box<Arrival>, End> {
        let (stop, link) = (self.scope.token().clone(), self.link.clone());
        loop {
            let command = tokio::select! {
                () = stop.cancelled() => return Err(End::Close(CloseCode::Shutdown)),
                () = link.closed.cancelled() => return Err(End::Close(self.closing())),
                () = tokio::time::sleep_until(deadline) => return Err(End::Expired),
                Some(command) = self.commands.recv() => command,
            };
            match command {
                Command::Arrive(arrival) if arrival.is_here() => return Ok(arrival),
                Command::Arrive(_) => {}
                Command::Close(code) => return Err(End::Close(code)),
                Command::TunnelTaken(name, id) => {
                    if self.forget_taken(&name, id) && self.requests.is_empty() {
                        return Err(End::Close(CloseCode::TakenOver));
                    }
                }
                Command::Notice(text) => self.notice = Some(text),
                // Its agent finds out when it comes back, and the players are told meanwhile.
                Command::GoAway(_) => {}
                #[cfg(unix)]
                Command::Rest { go_on, reply } => self.rest(&go_on, reply).await,
            }
        }
    }

    /// Goes on with the link on the connection of `arrival`.
    async fn resume(&mut self, arrival: Arrival, since: tokio::time::Instant) -> Result<Carriage, End> {
        let Arrival {
            offered,
            version,
            host,
            token,
            mut carriage,
        } = arrival;
        self.link.set_agent(offered.hello().agent, token);
        self.host = host;
        self.apply_allowance();
        let hello = offered.hello();
        let theirs = hello.resume.iter().flat_map(|resume| &resume.sessions);
        let theirs: HashMap<SessionId, u64> = theirs.map(|delivered| (delivered.session, delivered.offset)).collect();
        let epoch = self.attach(&carriage.connection, self.window_of(hello), hello);
        let mut lost: Vec<SessionId> = theirs
            .keys()
            .copied()
            .filter(|id| self.link.sessions.get(*id).is_none())
            .collect();
        lost.truncate(MAX_LOST);
        let mut goes_on = Vec::new();
        for session in self.link.sessions.all() {
            match theirs.get(&session.id()) {
                Some(offset) => goes_on.push((session, Some(*offset))),
                // Its first stream may never have arrived.
                None if session.is_fresh() => goes_on.push((session, None)),
                None => session.end(SessionEnd::RemoteReset(ResetCode::UnknownSession)),
            }
        }
        let tunnels = self.answer(&offered.hello().tunnels).await;
        let welcome = Welcome {
            version,
            link: self.link.id,
            // The one it has is still right.
            ticket: None,
            resume_window_ms: self.context.config().links.resume_window.as_millis() as u32,
            tunnels,
            software: SOFTWARE.to_owned(),
            host: self.link.host_name.clone(),
            window: Some(self.context.config().links.transport.stream_window),
            lost: Some(lost),
            repairs: Some(self.context.config().links.transport.repair),
        };
        let (frame, _) = offered.accept(welcome);
        match tokio::time::timeout(WELCOME_DEADLINE, carriage.writer.frame(&frame)).await {
            Ok(sent) => sent?,
            Err(_) => return Err(End::Close(CloseCode::Timeout)),
        }
        let (sessions, pause) = (goes_on.len(), since.elapsed());
        let (link, connection) = (self.link.clone(), carriage.connection.clone());
        self.scope.spawn(reopen(link, connection, epoch, goes_on));
        self.resumed(sessions, pause);
        Ok(carriage)
    }

    fn resumed(&self, sessions: usize, pause: Duration) {
        let link = &self.link;
        let pause_ms = pause.as_millis() as u64;
        tracing::info!(host = link.host_name, link = %link.id, sessions, pause_ms, "link resumed");
        self.context.metrics.handshake("resumed");
        self.context.metrics.sessions_resumed(sessions, pause.as_secs_f64());
        self.context.events.emit(Event::Resumed {
            host: link.host_name.clone(),
            link: link.id.to_string(),
            sessions,
            pause_ms,
        });
    }

    /// What becomes of the tunnels in the hello of an agent that is back: what it had it still has.
    async fn answer(&mut self, requests: &[TunnelRequest]) -> Vec<TunnelReply> {
        let gone: Vec<TunnelName> = self
            .requests
            .keys()
            .filter(|name| !requests.iter().any(|request| request.name == **name))
            .cloned()
            .collect();
        for name in gone {
            self.close(&name).await;
        }
        self.open_all(requests).await
    }
}

/// Opens a stream on the new carrier for each session that goes on; those without an offset begin anew.
async fn reopen(
    link: Arc<Link>,
    connection: quinn::Connection,
    epoch: u64,
    sessions: Vec<(Arc<Session>, Option<u64>)>,
) {
    for (session, offset) in sessions {
        let header = match offset {
            Some(offset) => StreamHeader::Resume {
                session: session.id(),
                from: offset,
                taken: session.taken(),
            },
            None => session.opening.header(),
        };
        match tokio::time::timeout(OPEN_DEADLINE, open_stream(&connection, &header)).await {
            Ok(Some(stream)) => {
                if session.offer(stream, epoch, offset.unwrap_or(0)).is_err() {
                    tracing::warn!(host = link.host_name, link = %link.id, session = %session.id(), "a session cannot go on: the agent is not where it said");
                    session.end(SessionEnd::RemoteReset(ResetCode::UnknownSession));
                }
            }
            // The next carrier takes up what this one could not.
            Ok(None) => return,
            Err(_) => session.end(SessionEnd::RemoteReset(ResetCode::TooManySessions)),
        }
    }
}
