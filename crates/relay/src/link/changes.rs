//! What may change under an open link: how much its host may use, who may come, what its grant allows. Whoever complies is not touched.

use std::sync::Arc;

use spawnpoint_net::{ControlWriter, Opening, SessionEnd};
use spawnpoint_ops::describe;
use spawnpoint_proto::RefusalCode;
use spawnpoint_proto::control::{Message, Refusal, TunnelReply};

use super::LinkTask;
use super::end::End;
use crate::allowance::Allowance;
use crate::tunnel::Tunnel;

impl LinkTask {
    /// How many players the host and its tunnels take, and how fast they may be, is as grant and configuration say now.
    pub(super) fn apply_allowance(&self) {
        let Allowance { bounds, rates } = Allowance::of_host(&self.context, &self.host);
        self.link.circle.set_bounds(bounds);
        self.link.speeds.own.set(rates);
        for (request, id) in self.requests.values() {
            if let Some(tunnel) = self.link.tunnel(*id) {
                let Allowance { bounds, rates } = Allowance::of_tunnel(&self.context, &self.host, request);
                tunnel.circle.set_bounds(bounds);
                tunnel.way.own.set(rates);
            }
        }
    }

    /// Ends the sessions of players from where nobody may come any more.
    pub(super) fn evict(&self) {
        let access = self.context.access();
        let tunnels: Vec<Arc<Tunnel>> = self.link.tunnels().values().cloned().collect();
        for udp in tunnels.iter().filter_map(|tunnel| tunnel.udp.as_ref()) {
            udp.evict(&access);
        }
        for session in self.link.sessions.all() {
            let Opening { tunnel, player, .. } = session.opening;
            let barred = |tunnel: Arc<Tunnel>| tunnel.check(&self.link, player.ip()).is_err();
            if self.link.tunnel(tunnel).is_some_and(barred) {
                session.end(SessionEnd::Banned);
            }
        }
    }

    /// The operator may have changed this host's grant; that it may not be here at all is seen to by [`guard`].
    pub(super) async fn on_directory_change(&mut self, writer: &mut ControlWriter) -> Result<(), End> {
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
        self.apply_allowance();
        let pool = &self.context.config().players.ports;
        let mut gone = Vec::new();
        for (name, (request, _)) in &self.requests {
            let port = self.registry.port_of(self.link.host, name).await;
            if let Err(code) = self
                .host
                .grant
                .check(request.protocol, port.or(request.public_port), pool)
            {
                gone.push((name.clone(), self.grant_text(code, request)));
            } else if let Err((RefusalCode::NameNotGranted, text)) = self.settle(request).await {
                gone.push((name.clone(), text));
            }
        }
        // A port that lies beside one that moves moves with it, and after it.
        for (name, (request, _)) in &self.requests {
            let leader = request.beside.as_ref().map(|beside| &beside.tunnel);
            let is_moved = gone.iter().any(|(moved, _)| Some(moved) == leader);
            if is_moved && !gone.iter().any(|(moved, _)| moved == name) {
                gone.push((
                    name.clone(),
                    "the port beside which it lies is granted no more".to_owned(),
                ));
            }
        }
        gone.sort_by_key(|(name, _)| {
            self.requests
                .get(name)
                .is_some_and(|(request, _)| request.beside.is_some())
        });
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
}
