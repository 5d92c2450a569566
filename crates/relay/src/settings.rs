//! The configuration with everything that it names read, as one value that is replaced whenever the file changes.

use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use spawnpoint_config::relay::RelayConfig;
use spawnpoint_ops::RelayMetrics;

use crate::access::Borders;
use crate::context::MAX_HEARING;
use crate::dnsbl::Blocklists;
use crate::start::RelayError;

/// Bytes of a picture that still fits into an entry of the server list.
const MAX_ICON: usize = 12 * 1024;

/// Open files that are not players: the directory, the log, listeners for agents and askers.
const OTHER_FILES: u64 = 128;

/// A listener for TCP, a socket for UDP, and that once more to be watched by.
const SOCKETS_OF_PORT: u64 = 3;

/// The configuration, with what it names read.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub config: RelayConfig,
    /// The picture of servers that have shown none, as a `data:` URL.
    pub icon: Option<String>,
    /// From where players may come.
    pub borders: Borders,
    /// Players who may be heard at the same time, before it is known whom they want.
    pub hearing: u32,
    /// Which lists are asked about them.
    pub blocklists: Option<Arc<Blocklists>>,
}

impl Deref for Settings {
    type Target = RelayConfig;

    fn deref(&self) -> &RelayConfig {
        &self.config
    }
}

impl Settings {
    /// Reads what `config` names. Lists that are the same as those of `before` keep what they know.
    ///
    /// # Errors
    /// [`RelayError`], when something cannot be read.
    pub fn load(mut config: RelayConfig, metrics: &RelayMetrics, before: Option<&Self>) -> Result<Self, RelayError> {
        let icon = config.away.icon.as_deref().map(load_icon).transpose()?;
        let borders = Borders::load(&config.guard)?;
        let asked = config.players.total.players;
        let files = spawnpoint_net::open_files_limit().unwrap_or(u64::MAX);
        let Room { players, hearing } = Room::within(files, config.players.ports.len() as u64);
        if asked > players {
            tracing::warn!(
                asked,
                players,
                files,
                "players.max_players is more than fit into the limit of open files, which counts instead: raise that (`ulimit -n`, or LimitNOFILE= in a systemd unit)"
            );
            config.players.total.players = players;
        }
        let known = before.and_then(|before| before.blocklists.clone());
        let blocklists = match known.filter(|lists| *lists.settings() == config.dnsbl) {
            Some(lists) => Some(lists),
            None => Blocklists::open(&config.dnsbl, metrics)
                .map_err(RelayError::Dnsbl)?
                .map(Arc::new),
        };
        Ok(Self {
            config,
            icon,
            borders,
            hearing,
            blocklists,
        })
    }
}

/// Players for whom there are open files, so that it is a limit with a name that turns somebody away, and not the kernel, who lets them wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Room {
    players: u32,
    hearing: u32,
}

impl Room {
    /// With `files` open files, some of which are the sockets of `ports`.
    fn within(files: u64, ports: u64) -> Self {
        let left = files.saturating_sub(OTHER_FILES + ports * SOCKETS_OF_PORT);
        let hearing = (left / 16).clamp(1, u64::from(MAX_HEARING));
        let players = left.saturating_sub(hearing).clamp(1, u64::from(u32::MAX));
        Self {
            players: players as u32,
            hearing: hearing as u32,
        }
    }
}

/// Reads the picture for servers that are away.
fn load_icon(path: &Path) -> Result<String, RelayError> {
    let fail = |why: &str| RelayError::Icon {
        path: path.to_owned(),
        why: why.to_owned(),
    };
    let png = std::fs::read(path).map_err(|error| fail(&error.to_string()))?;
    // Signature, length and type of the first chunk, then width and height.
    let is_png = png.starts_with(b"\x89PNG\r\n\x1a\n") && png.get(12..16) == Some(b"IHDR");
    match png.get(16..24) {
        _ if !is_png => Err(fail("it is no PNG")),
        Some([0, 0, 0, 64, 0, 0, 0, 64]) if png.len() <= MAX_ICON => {
            Ok(format!("data:image/png;base64,{}", BASE64.encode(png)))
        }
        Some([0, 0, 0, 64, 0, 0, 0, 64]) => Err(fail("it is too large")),
        _ => Err(fail("it has another size")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_never_more_players_than_open_files() {
        for (files, ports) in [
            (0, 0),
            (100, 101),
            (256, 101),
            (1_024, 101),
            (20_000, 101),
            (1 << 20, 4_000),
            (u64::MAX, 1),
        ] {
            let Room { players, hearing } = Room::within(files, ports);
            let all = u64::from(players) + u64::from(hearing) + ports + OTHER_FILES;
            assert!(
                all <= files.max(OTHER_FILES + ports + 2),
                "{files} files, {players} players"
            );
            assert!(players >= 1 && (1..=MAX_HEARING).contains(&hearing));
        }
        assert_eq!(Room::within(u64::MAX, 101).hearing, MAX_HEARING);
        assert!(Room::within(20_000, 101).players > 18_000);
    }
}
