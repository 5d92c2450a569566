//! What is open right now, by the relay's ids.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use spawnpoint_config::tunnel::Tunnel;
use spawnpoint_net::TaskScope;
use spawnpoint_proto::{Protocol, ResetCode, TunnelId, TunnelName};
use tokio::sync::watch;

#[cfg(unix)]
use crate::handover::state::HandedTunnel;
use crate::origin::Origin;

/// Streams and control messages travel independently: a player may arrive before the message that announces the tunnel, never by much.
const ANNOUNCE_DEADLINE: Duration = Duration::from_secs(2);

/// One open tunnel.
#[derive(Clone, Debug)]
pub(crate) struct OpenTunnel {
    pub tunnel: Tunnel,
    pub origin: Arc<Origin>,
    /// The players; it ends with the tunnel, not with a change of its origin.
    pub scope: Arc<TaskScope>,
}

/// The open tunnels of one link; clones see the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct OpenTunnels(watch::Sender<HashMap<TunnelId, Arc<OpenTunnel>>>);

impl OpenTunnels {
    /// Adds a tunnel, or replaces what its id meant.
    pub fn insert(&self, id: TunnelId, tunnel: OpenTunnel) {
        self.0.send_modify(|open| drop(open.insert(id, Arc::new(tunnel))));
    }

    /// Takes the tunnel with this name out and ends its players.
    pub fn remove(&self, name: &TunnelName) -> Option<(TunnelId, Arc<OpenTunnel>)> {
        let (id, tunnel) = self.find(name)?;
        self.0.send_modify(|open| drop(open.remove(&id)));
        tunnel.scope.cancel();
        Some((id, tunnel))
    }

    /// The tunnel with this name.
    pub fn find(&self, name: &TunnelName) -> Option<(TunnelId, Arc<OpenTunnel>)> {
        let open = self.0.borrow();
        open.iter()
            .find(|(_, open)| open.tunnel.name == *name)
            .map(|(id, open)| (*id, open.clone()))
    }

    /// The tunnel with this id.
    pub fn get(&self, id: TunnelId) -> Option<Arc<OpenTunnel>> {
        self.0.borrow().get(&id).cloned()
    }

    /// The tunnel with this id, which may be announced any moment.
    pub async fn expect(&self, id: TunnelId) -> Option<Arc<OpenTunnel>> {
        let mut watch = self.0.subscribe();
        let announced = watch.wait_for(|open| open.contains_key(&id));
        let open = tokio::time::timeout(ANNOUNCE_DEADLINE, announced).await.ok()?.ok()?;
        open.get(&id).cloned()
    }

    /// The names of all that are open.
    pub fn names(&self) -> Vec<TunnelName> {
        self.0.borrow().values().map(|open| open.tunnel.name.clone()).collect()
    }

    /// All that are open, by id and name.
    #[cfg(unix)]
    pub fn ids(&self) -> Vec<HandedTunnel> {
        let open = self.0.borrow();
        open.iter()
            .map(|(id, open)| HandedTunnel {
                id: *id,
                name: open.tunnel.name.clone(),
            })
            .collect()
    }

    /// Of each that carries packets, why its game server does not answer, when it is known not to.
    pub fn silences(&self) -> HashMap<TunnelId, Option<ResetCode>> {
        let open = self.0.borrow();
        open.iter()
            .filter(|(_, open)| open.tunnel.protocol == Protocol::Udp)
            .map(|(id, open)| (*id, open.origin.silence()))
            .collect()
    }

    /// How many are open.
    pub fn len(&self) -> usize {
        self.0.borrow().len()
    }
}
