//! What a link goes through from carrier to carrier: begun, parked with its sessions, taken up again, given up.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use spawnpoint_net::{Clock, DatagramOutbox, FIRST_PLAYERS, SessionEnd, Sessions, TaskScope};
use spawnpoint_ops::Event;
use spawnpoint_proto::control::{ResumeLink, Welcome};
use spawnpoint_proto::{ResetCode, TunnelName};
use tokio_util::sync::CancellationToken;

use super::{Link, LinkEnd, MAX_WINDOW, Surroundings};
use crate::tcp::Hall;
use crate::tunnels::OpenTunnels;
use crate::udp::Flows;

impl Link {
    /// The link that the relay has just welcomed.
    pub(super) fn begin(around: &Surroundings, welcome: &Welcome) -> Self {
        let scope = Arc::new(TaskScope::new(&around.parent));
        let (clock, open) = (Clock::default(), OpenTunnels::default());
        let sessions = Arc::new(Sessions::default());
        let outbox = DatagramOutbox::new(clock, &sessions);
        let hall = Hall {
            events: around.events.clone(),
            guests: around.guests.clone(),
            round_trip: Arc::default(),
        };
        let flows = Arc::new(Flows::new(
            hall.clone(),
            open.clone(),
            outbox.clone(),
            clock,
            around.hold.clone(),
        ));
        scope.spawn(flows.clone().keep());
        sessions.freeze();
        sessions.set_window(around.settings.window(welcome));
        Self {
            settings: around.settings.clone(),
            hall,
            sources: around.sources.clone(),
            sleepers: around.sleepers.clone(),
            inquiries: around.inquiries.clone(),
            id: welcome.link,
            host: welcome.host.clone(),
            ticket: welcome.ticket.clone(),
            window: Duration::from_millis(welcome.resume_window_ms.into()).min(MAX_WINDOW),
            sessions,
            wanted: Vec::new(),
            refused: HashMap::new(),
            open,
            flows,
            outbox,
            players: Arc::new(()),
            room: FIRST_PLAYERS,
            scope,
            parked: None,
        }
    }

    /// What asks the relay for this link again. From here on nothing that an earlier carrier still brings is taken over.
    pub(super) fn ask_to_resume(&self) -> Option<ResumeLink> {
        let ticket = self.ticket.clone()?;
        let (_, sessions) = self.sessions.freeze();
        Some(ResumeLink {
            link: self.id,
            ticket,
            sessions,
            more: None,
        })
    }

    /// The relay goes on with the link on a new carrier.
    pub(super) fn resumed(mut self, welcome: &Welcome) -> Self {
        self.sessions.set_window(self.settings.window(welcome));
        for id in welcome.lost.iter().flatten() {
            if let Some(session) = self.sessions.get(*id) {
                session.end(SessionEnd::RemoteReset(ResetCode::UnknownSession));
            }
        }
        let pause = self.parked.take().map_or(Duration::ZERO, |(since, _)| since.elapsed());
        let (sessions, pause_ms) = (self.sessions.len(), pause.as_millis() as u64);
        tracing::info!(host = self.host, link = %self.id, sessions, pause_ms, "link resumed");
        self.hall.events.emit(Event::Resumed {
            host: self.host.clone(),
            link: self.id.to_string(),
            sessions,
            pause_ms,
        });
        // A tunnel that the relay does not mention was closed there.
        let kept: Vec<&TunnelName> = welcome.tunnels.iter().map(|reply| &reply.name).collect();
        for name in self.open.names() {
            if !kept.contains(&&name)
                && let Some((_, closed)) = self.open.remove(&name)
            {
                self.flows.close_tunnel(&closed);
            }
        }
        self
    }

    /// Waits for another carrier, with all sessions, as long as the relay does.
    pub(super) fn park(&mut self) {
        let (sessions, window_ms) = (self.sessions.len(), self.window.as_millis() as u64);
        tracing::info!(host = self.host, link = %self.id, sessions, window_ms, "link parked");
        self.hall.events.emit(Event::Parked {
            host: self.host.clone(),
            link: self.id.to_string(),
            sessions,
            window_ms,
        });
        let back = CancellationToken::new();
        let since = tokio::time::Instant::now();
        let (table, flows, events) = (self.sessions.clone(), self.flows.clone(), self.hall.events.clone());
        let (host, link, window, watched) = (self.host.clone(), self.id, self.window, back.clone());
        self.scope.spawn(async move {
            tokio::select! {
                () = watched.cancelled() => return,
                () = tokio::time::sleep(window) => {}
            }
            let sessions = table.len();
            tracing::info!(host, %link, sessions, "link expired, the relay was not reached in time");
            table.end_all(SessionEnd::Expired);
            flows.close("expired");
            let link = link.to_string();
            events.emit(Event::Expired { host, link, sessions });
        });
        self.parked = Some((since, back.drop_guard()));
    }

    /// Whether the sessions were given up meanwhile.
    pub(super) fn is_expired(&self) -> bool {
        self.parked
            .as_ref()
            .is_some_and(|(since, _)| since.elapsed() >= self.window)
    }

    /// Ends the link and its players.
    pub(crate) async fn finish(mut self, end: SessionEnd) {
        self.parked = None;
        self.sessions.end_all(end);
        self.flows.close(end.as_str());
        // So that each reports its own end; what is left ends with the scope.
        let _ = tokio::time::timeout(Duration::from_millis(500), self.sessions.emptied()).await;
        self.scope.close(Duration::from_secs(1)).await;
    }

    /// Reports that a carrier is down.
    pub(super) fn report_down(&self, end: &LinkEnd) {
        let reason = match end {
            LinkEnd::Left => "shutdown".to_owned(),
            LinkEnd::GaveUp(reason) => reason.to_string(),
            LinkEnd::Lost { reason, .. } => reason.clone(),
        };
        let (host, link) = (self.host.clone(), self.id.to_string());
        tracing::info!(host, link, reason, "link down");
        self.hall.events.emit(Event::LinkDown { host, link, reason });
    }
}
