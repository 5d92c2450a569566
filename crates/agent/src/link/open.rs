//! The tunnels of a link: what the configuration wants, what the relay makes of it, and how the one follows the other.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use spawnpoint_config::tunnel::Tunnel;
use spawnpoint_net::{ControlWriter, TaskScope};
use spawnpoint_ops::Event;
use spawnpoint_proto::control::{MAX_ADDRESS, Message, OpenedTunnel, TunnelRemove, TunnelReply};
use spawnpoint_proto::{RefusalCode, TunnelName, host_port, plain};

use super::requests::{is_same_for_relay, request};
use super::{Link, LinkEnd, MAX_IDLE, send};
use crate::connect::GiveUp;
use crate::origin::Origin;
use crate::tunnels::OpenTunnel;

impl Link {
    /// Notes what became of a tunnel that was asked for, or was open.
    pub(super) fn on_reply(&mut self, reply: TunnelReply) {
        let Some(tunnel) = self.wanted.iter().find(|tunnel| tunnel.name == reply.name).cloned() else {
            return;
        };
        match (reply.opened, reply.refused) {
            (Some(opened), refusal) => {
                let name = tunnel.name.clone();
                self.opened(tunnel, &opened);
                // What is open stays so; a change of it was refused, perhaps for now.
                if let Some(refusal) = refusal {
                    let (reason, text) = (refusal.code.as_str(), plain(&refusal.text));
                    tracing::warn!(tunnel = %name, reason, text, "the tunnel stays as it was");
                    self.refused.insert(name, (refusal.code, text));
                }
            }
            (None, refusal) => {
                if let Some((_, open)) = self.open.remove(&tunnel.name) {
                    self.flows.close_tunnel(&open);
                }
                let (code, text) = refusal.map_or((RefusalCode::Unknown, String::new()), |refusal| {
                    (refusal.code, plain(&refusal.text))
                });
                tracing::warn!(tunnel = %tunnel.name, reason = code.as_str(), text, "tunnel refused");
                self.hall.events.emit(Event::TunnelRefused {
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
        if !tunnel.limits.is_empty() && opened.limited != Some(true) {
            tracing::warn!(tunnel = %tunnel.name, "allow, deny, max_players, up and down are not kept: the relay is too old for them");
        }
        self.flows
            .set_idle(Duration::from_millis(opened.idle_ms.into()).min(MAX_IDLE));
        if self.open.find(&tunnel.name).is_some_and(|(id, _)| id == opened.id) {
            // It was open before the carrier changed, and still is; only its game server may have moved meanwhile.
            return self.move_origin(tunnel);
        }
        if let Some((_, old)) = self.open.remove(&tunnel.name) {
            self.flows.close_tunnel(&old);
        }
        if tunnel.redundancy && !self.outbox.takes_copies() {
            tracing::warn!(tunnel = %tunnel.name, "no packet is sent a second time: links.repair is off here or at the relay, or the relay is too old");
        }
        let (name, protocol, to) = (tunnel.name.clone(), tunnel.protocol, tunnel.origin.to_string());
        let origin = self.origin(&tunnel);
        let scope = Arc::new(TaskScope::new(self.scope.token()));
        self.open.insert(opened.id, OpenTunnel { tunnel, origin, scope });
        // Only now: whoever hears it may send the first packet at once.
        let public = host_port(&plain(&opened.public_host), opened.public_port);
        tracing::info!(tunnel = %name, public, origin = to, "tunnel open");
        self.hall.events.emit(Event::Tunnel {
            host: None,
            tunnel: name.to_string(),
            protocol: protocol.as_str(),
            public,
            address: opened.address.clone().filter(|address| is_typable(address)),
            origin: Some(to),
        });
    }

    /// Whether nothing is open and nothing can be.
    pub(super) fn is_hopeless(&self) -> Option<LinkEnd> {
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
    pub(super) async fn change(&mut self, wanted: Vec<Tunnel>, writer: &mut ControlWriter) -> Result<(), LinkEnd> {
        let old = std::mem::replace(&mut self.wanted, wanted);
        self.sleepers.retain(&self.wanted);
        let is_moved = |tunnel: &Tunnel| {
            let before = old.iter().find(|old| old.name == tunnel.name);
            before.is_some_and(|before| !is_same_for_relay(before, tunnel))
        };
        let moved: HashSet<TunnelName> = self
            .wanted
            .iter()
            .filter(|tunnel| is_moved(tunnel))
            .map(|tunnel| tunnel.name.clone())
            .collect();
        // A port that lies beside one that moves moves with it.
        let follows = |tunnel: &Tunnel| {
            tunnel
                .beside
                .as_ref()
                .is_some_and(|beside| moved.contains(&beside.tunnel))
        };
        for tunnel in &old {
            let new = self.wanted.iter().find(|new| new.name == tunnel.name);
            if new.is_some_and(|new| is_same_for_relay(new, tunnel) && !follows(new)) {
                continue;
            }
            self.refused.remove(&tunnel.name);
            if let Some((_, open)) = self.open.remove(&tunnel.name) {
                self.flows.close_tunnel(&open);
            }
            tracing::info!(tunnel = %tunnel.name, "tunnel closed");
            self.hall.events.emit(Event::TunnelClosed {
                host: None,
                tunnel: tunnel.name.to_string(),
            });
            let name = tunnel.name.clone();
            send(writer, &Message::TunnelRemove(TunnelRemove { name })).await?;
        }
        for tunnel in self.wanted.clone() {
            let before = old
                .iter()
                .find(|old| old.name == tunnel.name && is_same_for_relay(old, &tunnel) && !follows(&tunnel));
            match before {
                Some(before) if *before == tunnel => {}
                Some(before) if request(before) != request(&tunnel) => {
                    send(writer, &Message::TunnelAdd(request(&tunnel))).await?;
                }
                Some(_) => self.move_origin(tunnel),
                None => send(writer, &Message::TunnelAdd(request(&tunnel))).await?,
            }
        }
        Ok(())
    }

    /// Sends new players of a tunnel to another game server.
    fn move_origin(&self, tunnel: Tunnel) {
        let Some((id, open)) = self.open.find(&tunnel.name) else {
            return;
        };
        if open.tunnel == tunnel {
            return;
        }
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

    pub(super) async fn retry(&self, writer: &mut ControlWriter) -> Result<(), LinkEnd> {
        let again: Vec<Message> = self
            .wanted
            .iter()
            .filter(|tunnel| self.refused.get(&tunnel.name).is_some_and(|(code, _)| code.can_heal()))
            .map(|tunnel| Message::TunnelAdd(request(tunnel)))
            .collect();
        for message in again {
            send(writer, &message).await?;
        }
        Ok(())
    }

    pub(super) fn origin(&self, tunnel: &Tunnel) -> Arc<Origin> {
        let (name, address) = (tunnel.name.clone(), tunnel.origin.clone());
        Arc::new(Origin::new(
            name,
            address,
            self.settings.origin_timeout,
            tunnel.real_ip,
            self.sources.clone(),
            self.sleepers.of(tunnel),
            self.hall.events.clone(),
        ))
    }
}

/// Whether what a relay says players can type is fit to be printed.
fn is_typable(address: &str) -> bool {
    address.len() <= MAX_ADDRESS && address.bytes().all(|byte| byte.is_ascii_graphic())
}
