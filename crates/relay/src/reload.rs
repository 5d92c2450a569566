//! The configuration while the relay runs: what can change under players changes, the rest is named and waits.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use spawnpoint_config::relay::{Links, Players, RelayConfig};
use spawnpoint_config::{ConfigError, FileStamp};
use spawnpoint_ops::{Event, describe};
use tokio::sync::Notify;

use crate::access::Borders;
use crate::context::Context;
use crate::settings::Settings;
use crate::start::{Relay, RelayError};

/// How often the file is looked at; a person who saves it waits about this long.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Reads the configuration anew.
pub type Load = Box<dyn Fn() -> Result<RelayConfig, ConfigError> + Send + Sync>;

/// What became of a changed configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reloaded {
    /// What is different and takes `spawnpoint relay upgrade`, or a restart, to be live.
    pub waits: Vec<&'static str>,
}

impl Relay {
    /// Takes a changed configuration up. Players, agents and public ports stay.
    ///
    /// # Errors
    /// [`RelayError`], when something that it names cannot be read; everything stays as it was then.
    pub fn reload(&self, config: RelayConfig) -> Result<Reloaded, RelayError> {
        reload(&self.context, config)
    }

    /// Looks at the file at `path` and takes it up whenever it changes, or `again` is notified. A file with mistakes changes nothing.
    pub fn follow_file(&self, path: PathBuf, again: Arc<Notify>, load: Load) {
        self.spawn(follow_file(self.context.clone(), path, again, load));
    }
}

fn reload(context: &Context, config: RelayConfig) -> Result<Reloaded, RelayError> {
    let old = context.config();
    let (config, waits) = merge(&old, config);
    context.reconfigure(Settings::load(config, &context.metrics, Some(&old))?);
    Ok(Reloaded { waits })
}

/// The `new` configuration as far as it can be live, and what of it cannot.
fn merge(old: &RelayConfig, new: RelayConfig) -> (RelayConfig, Vec<&'static str>) {
    let live = RelayConfig {
        listen: old.listen,
        public_host: old.public_host.clone(),
        data_dir: old.data_dir.clone(),
        domain: old.domain.clone(),
        shared: old.shared.clone(),
        players: Players {
            bind: old.players.bind,
            udp_idle: old.players.udp_idle,
            ..new.players.clone()
        },
        links: Links {
            handshake_timeout: new.links.handshake_timeout,
            max_tunnels_per_host: new.links.max_tunnels_per_host,
            ..old.links.clone()
        },
        certificate: old.certificate.clone(),
        admin: old.admin,
        log: old.log.clone(),
        audit: old.audit.clone(),
        ..new.clone()
    };
    let fixed = [
        ("listen", old.listen == new.listen),
        ("public_host", old.public_host == new.public_host),
        ("data_dir", old.data_dir == new.data_dir),
        ("domain", old.domain == new.domain),
        ("shared", old.shared == new.shared),
        ("players.bind", live.players.bind == new.players.bind),
        ("players.udp_idle", live.players.udp_idle == new.players.udp_idle),
        ("links", live.links == new.links),
        ("certificate", old.certificate == new.certificate),
        ("admin", old.admin == new.admin),
        ("log", old.log == new.log),
        ("audit", old.audit == new.audit),
    ];
    let waits = fixed.into_iter().filter(|(_, is_same)| !is_same);
    (live, waits.map(|(name, _)| name).collect())
}

async fn follow_file(context: Arc<Context>, path: PathBuf, again: Arc<Notify>, load: Load) {
    let mut pace = tokio::time::interval(LOOK_EVERY);
    let stamp_of = |context: &Context| {
        let named = Borders::files(&context.config().guard);
        let all: Vec<&Path> = std::iter::once(&path).chain(&named).map(PathBuf::as_path).collect();
        FileStamp::of(&all)
    };
    let mut last = stamp_of(&context);
    loop {
        let is_forced = tokio::select! {
            _ = pace.tick() => false,
            () = again.notified() => true,
        };
        let (named, stamp) = (Borders::files(&context.config().guard), stamp_of(&context));
        if stamp == last && !is_forced {
            continue;
        }
        let path = path.display();
        let reloaded = load()
            .map_err(|error| describe(&error))
            .and_then(|config| reload(&context, config).map_err(|error| describe(&error)));
        let (waits, error) = match reloaded {
            Ok(Reloaded { waits }) => (waits, None),
            Err(error) => (Vec::new(), Some(error)),
        };
        match &error {
            None if waits.is_empty() => tracing::info!(%path, "configuration read again"),
            None => {
                let waits = waits.join(", ");
                tracing::warn!(%path, waits, "configuration read again; what waits takes `spawnpoint relay upgrade`, or a restart where that says so");
            }
            Some(error) => {
                tracing::error!(%path, error, "the changed configuration has mistakes, everything stays as it was");
            }
        }
        context.events.emit(Event::Configured { waits, error });
        // Other files may be named now.
        last = match Borders::files(&context.config().guard) == named {
            true => stamp,
            false => stamp_of(&context),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_change_under_players_waits_and_is_named() {
        let old = RelayConfig::default();
        let mut new = RelayConfig {
            admin: None,
            ..RelayConfig::default()
        };
        new.players.per_address.players = 7;
        new.links.max_links = 9;
        let (live, waits) = merge(&old, new);
        assert_eq!(waits, ["links", "admin"]);
        assert_eq!(live.players.per_address.players, 7);
        assert_eq!((live.links.max_links, live.admin), (old.links.max_links, old.admin));
        assert_eq!(merge(&live, live.clone()).1, [""; 0]);
    }
}
