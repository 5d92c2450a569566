//! Tunnels whose agents are gone: answered since before this process began, and no longer than they are anybody's.

use std::collections::HashSet;
use std::sync::Arc;

use spawnpoint_core::route::{HostNumber, TunnelSpec};
use spawnpoint_ops::describe;
use spawnpoint_proto::TunnelName;
use spawnpoint_store::{Entry, StoreError};

use crate::context::Context;
use crate::registry::{Registry, Supervisor};

/// Enters every tunnel that the directory remembers and no link has.
pub(crate) async fn recall(context: &Context, supervisor: &mut Supervisor) -> Result<(), StoreError> {
    let entries = context.hosts.entries().await?;
    let gone = entries.into_iter().map(|entry| (HostNumber(entry.host.0), spec(entry)));
    supervisor.remember(gone);
    Ok(())
}

/// Keeps to what the directory says: a tunnel whose host was revoked, or whose port was given up, is not answered any more.
pub(crate) async fn follow(context: Arc<Context>, registry: Registry) {
    let mut changes = context.hosts.changes();
    changes.mark_changed();
    while changes.changed().await.is_ok() {
        match context.hosts.entries().await {
            Ok(entries) => {
                let kept: HashSet<(HostNumber, TunnelName)> = entries
                    .into_iter()
                    .map(|entry| (HostNumber(entry.host.0), entry.tunnel))
                    .collect();
                context
                    .lists
                    .retain(|host, tunnel| kept.contains(&(host, tunnel.clone())));
                registry.keep_gone(kept).await;
            }
            Err(error) => tracing::error!(error = %describe(&error), "the directory could not be read"),
        }
        if let Some((host, _)) = &context.config().shared.default {
            match context.hosts.by_name(host.clone()).await {
                Ok(host) => context.set_default_host(host.map(|host| HostNumber(host.id.0))),
                Err(error) => tracing::error!(error = %describe(&error), "the directory could not be read"),
            }
        }
    }
}

fn spec(entry: Entry) -> TunnelSpec {
    TunnelSpec {
        name: entry.tunnel,
        protocol: entry.protocol,
        port: entry.port,
        game: Some(entry.game),
        dialect: entry.dialect,
        names: entry.names,
        is_lasting: true,
    }
}
