//! The configuration file while the agent runs.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use spawnpoint_config::FileStamp;
use spawnpoint_config::agent::AgentConfig;
use spawnpoint_config::tunnel::Tunnel;
use spawnpoint_ops::describe;
use tokio::sync::{Notify, watch};

/// How often the file is looked at; a person who saves it waits about this long.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Publishes the tunnels of the file at `path` whenever it changes or `again` is notified, as long as it is polled.
///
/// A file with mistakes changes nothing: they are logged, and the tunnels stay as they were.
pub async fn follow_file(path: PathBuf, again: Arc<Notify>, tunnels: watch::Sender<Vec<Tunnel>>) {
    let mut pace = tokio::time::interval(LOOK_EVERY);
    let mut last = FileStamp::of(&[&path]);
    loop {
        let forced = tokio::select! {
            _ = pace.tick() => false,
            () = again.notified() => true,
        };
        let stamp = FileStamp::of(&[&path]);
        if stamp == last && !forced {
            continue;
        }
        last = stamp;
        match AgentConfig::load(&path) {
            Ok(config) => {
                let changed = tunnels.send_if_modified(|tunnels| {
                    let changed = *tunnels != config.tunnels;
                    tunnels.clone_from(&config.tunnels);
                    changed
                });
                tracing::info!(path = %path.display(), changed, "configuration read again; only tunnels change while the agent runs");
            }
            Err(error) => {
                tracing::error!(path = %path.display(), error = describe(&error), "the changed configuration has mistakes, everything stays as it was");
            }
        }
    }
}
