//! The configuration with everything that it names read, as one value that is replaced whenever the file changes.

use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use spawnpoint_config::relay::RelayConfig;
use spawnpoint_ops::RelayMetrics;

use crate::access::Borders;
use crate::context::{MAX_HEARING, REFUSALS};
use crate::dnsbl::{Blocklists, MAX_ASKED};
use crate::start::RelayError;

/// Bytes of a picture that still fits into an entry of the server list.
const MAX_ICON: usize = 12 * 1024;

/// Open files that are not players: the directory, the log, listeners, askers, and players who are told why they cannot enter.
const OTHER_FILES: u64 = 128 + 64 + REFUSALS as u64;

/// A listener for TCP, a socket for UDP, and that once more to be watched by.
const SOCKETS_OF_PORT: u64 = 3;

/// Each question is asked twice at most, by a socket of its own.
const SOCKETS_OF_LIST: u64 = 2 * MAX_ASKED as u64;

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

/// The share of those who are heard that one port may have, one in `shares`: a crowd at it leaves the others theirs, and it is one that a few players fit into.
const fn share(hearing: u32, shares: u32) -> u32 {
    let (few, half, share) = (64, hearing.div_ceil(2), hearing / shares);
    let few = if half < few { half } else { few };
    if share > few { share } else { few }
}

impl Settings {
    /// Players who may be heard at the same time at the port of one tunnel.
    pub const fn hearing_at_own_port(&self) -> u32 {
        share(self.hearing, 8)
    }

    /// Players who may be heard at the same time at a port that hosts share.
    pub const fn hearing_at_shared_port(&self) -> u32 {
        share(self.hearing, 2)
    }

    /// Reads what `config` names. Lists that are the same as those of `before` keep what they know.
    ///
    /// # Errors
    /// [`RelayError`], when something cannot be read.
    pub fn load(mut config: RelayConfig, metrics: &RelayMetrics, before: Option<&Self>) -> Result<Self, RelayError> {
        let icon = config.away.icon.as_deref().map(load_icon).transpose()?;
        let borders = Borders::load(&config.guard)?;
        let asked = config.players.total.players;
        let files = spawnpoint_net::open_files_limit().unwrap_or(u64::MAX);
        let Room { players, hearing } = Room::within(
            files,
            config.players.ports.len() as u64,
            config.dnsbl.lists.len() as u64,
        );
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
    /// With `files` open files, some of which are the sockets of `ports`, and some those by which `lists` are asked. Few of a large pool's ports are ever open at
    /// once, and a port that cannot be opened is refused by name.
    fn within(files: u64, ports: u64, lists: u64) -> Self {
        let others = OTHER_FILES.min(files / 4);
        let part = files / 8;
        let left = files - others - part.min(ports * SOCKETS_OF_PORT) - part.min(lists * SOCKETS_OF_LIST);
        let hearing = (left / 4).clamp(1, u64::from(MAX_HEARING));
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
    fn there_are_never_more_players_than_open_files_and_never_hardly_any() {
        for (files, ports, lists) in [
            (64, 0, 0),
            (256, 101, 0),
            (1_024, 101, 8),
            (1_024, 10_000, 0),
            (20_000, 101, 0),
            (1 << 20, 4_000, 8),
        ] {
            let Room { players, hearing } = Room::within(files, ports, lists);
            assert!(
                u64::from(players) + u64::from(hearing) < files,
                "{files} files, {players} players"
            );
            assert!(
                u64::from(players) >= files / 3 && (1..=MAX_HEARING).contains(&hearing),
                "{files} files, {players} players"
            );
        }
        assert_eq!(Room::within(u64::MAX, 101, 1).hearing, MAX_HEARING);
        // So that the usual 10,000 players fit, and a port's share of those who are heard is the usual one.
        let Room { players, hearing } = Room::within(20_000, 101, 0);
        assert!(
            players > 15_000 && share(hearing, 8) == MAX_HEARING / 8,
            "{players}, {hearing}"
        );
        assert_eq!([1, 40, 160, 4_096].map(|hearing| share(hearing, 8)), [1, 20, 64, 512]);
    }
}
