//! A link on its way from one process to the next.

use std::sync::Arc;
use std::time::Duration;

use spawnpoint_core::hostname::Pattern;
use spawnpoint_core::route::{HostNumber, PublicPort};
use spawnpoint_core::token::SecretHash;
use spawnpoint_net::{Descriptors, Meter, Opening, Session, Sockets};
use spawnpoint_proto::{Protocol, TunnelId};
use spawnpoint_store::Host;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::wishes::spec;
use super::{Link, LinkTask};
use crate::allowance::Allowance;
use crate::context::Context;
use crate::handover::state::{HandedLink, HandedSession, HandedTunnel};
use crate::registry::{Registry, Supervisor};
use crate::tcp::{self, Entry, Visitor};
use crate::tunnel::Seat;

/// A link at rest.
#[derive(Debug)]
pub(crate) struct Rested {
    link: Arc<Link>,
    window: Option<u32>,
    tunnels: Vec<HandedTunnel>,
}

impl LinkTask {
    /// Lets no byte of any session move until `go_on` is cancelled, and says what there is.
    pub(super) async fn rest(&mut self, go_on: &CancellationToken, reply: oneshot::Sender<Rested>) {
        tokio::select! {
            () = self.link.sessions.rest() => {}
            () = go_on.cancelled() => return self.link.sessions.go_on(),
            () = self.scope.token().cancelled() => return,
        }
        let mut tunnels = Vec::with_capacity(self.requests.len());
        for (request, id) in self.requests.values() {
            let Some(tunnel) = self.link.tunnel(*id) else { continue };
            let (next_serial, flows) = tunnel.udp.as_ref().map_or_else(Default::default, |udp| udp.hand());
            tunnels.push(HandedTunnel {
                id: *id,
                request: request.clone(),
                port: tunnel.port,
                next_serial,
                flows,
                names: tunnel.names().iter().map(ToString::to_string).collect(),
            });
        }
        let rested = Rested {
            link: self.link.clone(),
            window: self.link.sessions.window(),
            tunnels,
        };
        if reply.send(rested).is_ok() {
            tokio::select! {
                () = go_on.cancelled() => {}
                () = self.scope.token().cancelled() => {}
            }
        }
        self.link.sessions.go_on();
    }
}

impl Rested {
    /// What a successor needs to go on with the link; `None` for one that its agent could not take up again.
    pub fn gather(self, descriptors: &mut Descriptors) -> Option<HandedLink> {
        let Self { link, window, tunnels } = self;
        window?;
        let sessions = link.sessions.all();
        let sessions = sessions.iter().filter_map(|session| hand(&link, session, descriptors));
        Some(HandedLink {
            link: link.id,
            host: link.host.0,
            ticket: *link.ticket.as_bytes(),
            window,
            tunnels,
            sessions: sessions.collect(),
        })
    }
}

/// One session; `None` for a player who is only being told why they cannot play.
fn hand(link: &Link, session: &Session, descriptors: &mut Descriptors) -> Option<HandedSession> {
    let (stream, socket) = session.snapshot();
    if socket.is_none() && !session.has_ended() {
        return None;
    }
    let seat = link.seats().get(&session.id()).cloned();
    let [up, down] = seat
        .as_ref()
        .map_or([0; 2], |seat| [seat.meters[0].total(), seat.meters[1].total()]);
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
        age_ms: seat.map_or(0, |seat| seat.since.elapsed().as_millis() as u64),
        up,
        down,
    })
}

/// Goes on with a link that another process had. Its sessions rest until they are let go; the returned task waits for the agent.
pub(crate) fn restore(
    context: &Arc<Context>,
    registry: &Registry,
    supervisor: &mut Supervisor,
    host: Host,
    handed: HandedLink,
    sockets: &mut Sockets,
    parent: &CancellationToken,
) -> Option<LinkTask> {
    let allowance = Allowance::of_host(context, &host);
    let places = supervisor.places_of(HostNumber(host.id.0), allowance);
    // The successor may allow less than its predecessor did.
    let own = places.links.clone().try_acquire_owned().ok()?;
    let place = context.links.clone().try_acquire_owned().ok()?;
    let identity = (handed.link, SecretHash::from_bytes(handed.ticket));
    let mut task = LinkTask::new(context, registry, host, (places, [own, place]), identity, parent);
    task.is_resumable = true;
    task.link.sessions.freeze();
    task.link.sessions.set_window(handed.window);
    task.link.sessions.begin_at_rest();
    let mut specs = Vec::new();
    for tunnel in handed.tunnels {
        let spec = spec(&tunnel.request, tunnel.port, names(&tunnel));
        let own = (spec.protocol, spec.port);
        specs.push((spec, tunnel.id));
        task.restore_tunnel(tunnel, own, supervisor);
    }
    supervisor.adopt_link(&task.link, specs);
    for session in handed.sessions {
        task.restore_session(session, sockets);
    }
    Some(task)
}

/// The names of a tunnel that was handed over.
fn names(tunnel: &HandedTunnel) -> Vec<Pattern> {
    tunnel.names.iter().filter_map(|name| name.parse().ok()).collect()
}

impl LinkTask {
    fn restore_tunnel(&mut self, handed: HandedTunnel, own: PublicPort, supervisor: &Supervisor) {
        let names = names(&handed);
        let HandedTunnel {
            id,
            request,
            port,
            next_serial,
            flows,
            ..
        } = handed;
        let has_packets = own.0 == Protocol::Udp;
        let tunnel = self.enter_tunnel(&request, id, port, has_packets, names);
        let Some(udp) = &tunnel.udp else { return };
        let now = self.context.clock.now();
        for flow in &flows {
            let clients = flow.via.and_then(|port| supervisor.via((own.0, port))?.clients);
            clients
                .iter()
                .for_each(|clients| clients.restore(now, flow.flow.player, own));
        }
        udp.restore(next_serial, &flows, |shared| {
            supervisor.via((own.0, shared.unwrap_or(own.1)))
        });
    }

    fn restore_session(&self, handed: HandedSession, sockets: &mut Sockets) {
        let Some(tunnel) = self.link.tunnel(handed.tunnel) else {
            return;
        };
        let session = self.link.sessions.restore(handed.opening(), handed.stream);
        let entry = Entry::restore(self.link.clone(), session);
        let socket = match handed.socket.map_or(Ok(None), |at| sockets.take_local(at)) {
            Ok(Some(socket)) => socket,
            Ok(None) => return tunnel.scope.spawn(entry.settle()),
            Err(error) => {
                return tracing::error!(%error, "a player's socket could not be taken over");
            }
        };
        entry.session.set_socket(socket.get());
        let now = self.context.clock.now();
        let permit = self.context.players.readmit(now, handed.player.ip(), &tunnel.circle);
        let age = Duration::from_millis(handed.age_ms);
        let seat = Seat::restore(
            &self.context,
            (&tunnel.labels, &tunnel.book),
            (handed.session, handed.player),
            permit,
            age,
        );
        let before = [handed.up, handed.down];
        let game = self.game_of(tunnel.id);
        let inner = tunnel.clone();
        let visitor = Visitor::silent(socket, handed.player);
        tunnel.scope.spawn(async move {
            tcp::carry_on(&inner, entry, visitor, game.as_deref(), seat, before).await;
        });
    }

    fn game_of(&self, id: TunnelId) -> Option<String> {
        let (request, _) = self.requests.values().find(|(_, open)| *open == id)?;
        request.game.clone()
    }
}
