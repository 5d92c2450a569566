//! A link on its way from one process to the next.

use std::sync::Arc;
use std::time::Duration;

use spawnpoint_net::{Descriptors, Opening, Session, Sessions, Sockets, TaskScope};
use spawnpoint_proto::control::Welcome;
use spawnpoint_proto::{LinkId, Ticket};

use super::{Link, Surroundings};
use crate::guests::Guests;
use crate::handover::state::{HandedLink, HandedSession, HandedTunnel};
use crate::tcp::{self, Entry};
use crate::tunnels::{OpenTunnel, OpenTunnels};
use crate::udp::Flows;

/// A link as whoever hands it over sees it.
pub(crate) struct LinkHandle {
    pub sessions: Arc<Sessions>,
    relay: String,
    id: LinkId,
    host: String,
    ticket: Option<Ticket>,
    window: Duration,
    open: OpenTunnels,
    flows: Arc<Flows>,
    guests: Guests,
}

impl Link {
    /// The link as whoever hands it over sees it.
    pub(super) fn handle(&self) -> LinkHandle {
        LinkHandle {
            sessions: self.sessions.clone(),
            relay: self.settings.relay(),
            id: self.id,
            host: self.host.clone(),
            ticket: self.ticket.clone(),
            window: self.window,
            open: self.open.clone(),
            flows: self.flows.clone(),
            guests: self.hall.guests.clone(),
        }
    }

    /// Goes on with a link that another process had. Its sessions rest until [`Link::go_on`].
    pub(crate) fn restore(around: &Surroundings, handed: HandedLink, sockets: &mut Sockets) -> std::io::Result<Self> {
        let welcome = Welcome {
            version: 0,
            link: handed.link,
            ticket: Some(handed.ticket),
            resume_window_ms: handed.resume_window_ms,
            tunnels: Vec::new(),
            software: String::new(),
            host: handed.host,
            window: handed.window,
            lost: None,
            repairs: None,
        };
        let mut link = Self::begin(around, &welcome);
        link.sessions.begin_at_rest();
        link.wanted.clone_from(&around.tunnels.borrow());
        for HandedTunnel { id, name } in handed.tunnels {
            // One that is not in the configuration any more is closed when the relay is reached, and its players are gone.
            let Some(tunnel) = link.wanted.iter().find(|tunnel| tunnel.name == name).cloned() else {
                continue;
            };
            let origin = link.origin(&tunnel);
            let scope = Arc::new(TaskScope::new(link.scope.token()));
            link.open.insert(id, OpenTunnel { tunnel, origin, scope });
        }
        for session in handed.sessions {
            link.restore_session(session, sockets)?;
        }
        for flow in handed.flows {
            if let (Some(tunnel), Some(socket)) = (link.open.get(flow.tunnel), sockets.take(flow.socket)) {
                link.flows.restore(&flow, tunnel, socket, &link.scope)?;
            }
        }
        link.park();
        Ok(link)
    }

    fn restore_session(&self, handed: HandedSession, sockets: &mut Sockets) -> std::io::Result<()> {
        let Some(tunnel) = self.open.get(handed.tunnel) else {
            return Ok(());
        };
        let (opening, name) = (handed.opening(), handed.name);
        let session = self.sessions.restore(opening, handed.stream);
        let entry = Entry {
            sessions: self.sessions.clone(),
            session,
        };
        let (scope, hall, place) = (tunnel.scope.clone(), self.hall.clone(), self.players.clone());
        let Some(socket) = handed.socket.map_or(Ok(None), |at| sockets.take_local(at))? else {
            scope.spawn(entry.settle());
            return Ok(());
        };
        scope.spawn(async move {
            tcp::carry(&tunnel, &hall, entry, socket, name).await;
            drop(place);
        });
        Ok(())
    }

    /// Lets the sessions go on.
    pub(crate) fn go_on(&self) {
        self.sessions.go_on();
    }
}

impl LinkHandle {
    /// What a successor needs to go on with the link, whose sessions rest; `None` for one that the relay does not keep.
    pub(crate) fn hand(&self, descriptors: &mut Descriptors) -> Option<HandedLink> {
        let ticket = self.ticket.clone()?;
        let sessions = self.sessions.all();
        let sessions = sessions
            .iter()
            .filter_map(|session| hand(session, &self.guests, descriptors))
            .collect();
        Some(HandedLink {
            link: self.id,
            host: self.host.clone(),
            ticket,
            resume_window_ms: self.window.as_millis() as u32,
            window: self.sessions.window(),
            tunnels: self.open.ids(),
            sessions,
            flows: self.flows.hand(&self.open, descriptors),
            relay: self.relay.clone(),
        })
    }
}

/// One session; `None` for one whose game server is still being dialled: nothing was taken over, so the relay brings the player anew.
fn hand(session: &Session, guests: &Guests, descriptors: &mut Descriptors) -> Option<HandedSession> {
    let (stream, socket) = session.snapshot();
    if socket.is_none() && !session.has_ended() {
        return None;
    }
    let Opening {
        session,
        tunnel,
        player,
        local,
        ..
    } = session.opening;
    Some(HandedSession {
        session,
        tunnel,
        player,
        local,
        stream,
        socket: socket.map(|socket| descriptors.add(socket)),
        name: guests.name_of(player),
    })
}
