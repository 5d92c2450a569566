//! The guard of one link: it sees to it that a host who may not be here any more is out at once, whatever the link task is busy with.

use std::sync::Arc;
use std::time::Duration;

use spawnpoint_net::unix_now;
use spawnpoint_ops::describe;
use spawnpoint_proto::CloseCode;
use spawnpoint_store::Host;

use super::Link;
use crate::context::Context;

/// How long a directory that could not be read is left alone.
const RETRY_PAUSE: Duration = Duration::from_millis(250);

/// Ends the link when its host may not be here any more, whatever the link task is doing.
pub(super) async fn guard(link: Arc<Link>, context: Arc<Context>, mut host: Host) {
    let mut changes = context.hosts.changes();
    changes.mark_changed();
    let mut retry = false;
    loop {
        let left = host
            .grant
            .expires
            .map(|end| Duration::from_secs(end.0.saturating_sub(unix_now().0)));
        let expiry = async {
            match left {
                Some(left) => tokio::time::sleep(left).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = changes.changed() => {}
            () = expiry => {}
            () = tokio::time::sleep(RETRY_PAUSE), if retry => {}
        }
        let now = match context.hosts.host(host.id).await {
            Ok(now) => now,
            Err(error) => {
                tracing::error!(error = %describe(&error), "the directory could not be read, trying again");
                retry = true;
                continue;
            }
        };
        retry = false;
        match now.filter(|now| now.is_welcome(unix_now()) && now.token == host.token) {
            Some(now) => host = now,
            None => return link.close(CloseCode::Revoked),
        }
    }
}
