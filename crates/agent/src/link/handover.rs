//! A link on its way from one process to the next.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use spawnpoint_net::{Descriptors, LocalSocket, Sessions, TaskScope};
use spawnpoint_proto::control::Welcome;
use spawnpoint_proto::{LinkId, Ticket};

use super::{Link, Surroundings};
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
        }
    }

    /// Goes on with a link that another process had. Its sessions rest until [`Link::go_on`], and their sockets are not reset unless `armed`.
    pub(crate) fn restore(
        around: &Surroundings,
        handed: HandedLink,
        descriptors: &mut [Option<OwnedFd>],
        armed: &Arc<AtomicBool>,
    ) -> std::io::Result<Self> {
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
            link.restore_session(session, descriptors, armed)?;
        }
        for flow in handed.flows {
            let socket = descriptors.get_mut(flow.socket as usize).and_then(Option::take);
            if let (Some(tunnel), Some(socket)) = (link.open.get(flow.tunnel), socket) {
                link.flows.restore(&flow, tunnel, socket, &link.scope)?;
            }
        }
        link.park();
        Ok(link)
    }

    fn restore_session(
        &self,
        handed: HandedSession,
        descriptors: &mut [Option<OwnedFd>],
        armed: &Arc<AtomicBool>,
    ) -> std::io::Result<()> {
        let Some(tunnel) = self.open.get(handed.tunnel) else {
            return Ok(());
        };
        let session = self.sessions.restore(handed.opening(), handed.stream);
        let entry = Entry {
            sessions: self.sessions.clone(),
            session,
        };
        let (scope, events, place) = (tunnel.scope.clone(), self.events.clone(), self.players.clone());
        let descriptor = handed.socket.and_then(|at| descriptors.get_mut(at as usize)?.take());
        let Some(descriptor) = descriptor else {
            scope.spawn(entry.settle());
            return Ok(());
        };
        let socket = std::net::TcpStream::from(descriptor);
        socket.set_nonblocking(true)?;
        let socket = LocalSocket::handed(tokio::net::TcpStream::from_std(socket)?, armed.clone());
        scope.spawn(async move {
            tcp::carry(&tunnel, events, entry, socket).await;
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
    pub(crate) fn hand(&self, descriptors: &mut Descriptors) -> std::io::Result<Option<HandedLink>> {
        let Some(ticket) = self.ticket.clone() else {
            return Ok(None);
        };
        let mut sessions = Vec::new();
        for session in self.sessions.all() {
            let (stream, socket) = session.snapshot();
            if socket.is_none() && !session.has_ended() {
                // Its game server is still being dialled, so nothing was taken over: the relay brings the player anew.
                continue;
            }
            let opening = session.opening;
            sessions.push(HandedSession {
                session: opening.session,
                tunnel: opening.tunnel,
                player: opening.player,
                local: opening.local,
                stream,
                socket: match &socket {
                    Some(socket) => Some(descriptors.add(socket)?),
                    None => None,
                },
            });
        }
        Ok(Some(HandedLink {
            link: self.id,
            host: self.host.clone(),
            ticket,
            resume_window_ms: self.window.as_millis() as u32,
            window: self.sessions.window(),
            tunnels: self.open.ids(),
            sessions,
            flows: self.flows.hand(&self.open, descriptors)?,
            relay: self.relay.clone(),
        }))
    }
}
