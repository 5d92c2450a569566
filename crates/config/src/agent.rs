//! `agent.toml`: the side next to the game server.

use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use spawnpoint_proto::Invite;

use crate::ConfigError;
use crate::document::{self, Document};
use crate::link::{self, Line, Transport};
use crate::log::Log;
use crate::tunnel::{Tunnel, TunnelError};

/// Everything that `agent.toml` can say; `Default` is an agent without any file.
///
/// `Debug` shows no secret: an invite prints its token as such.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// Relay and token.
    pub invite: Option<Invite>,
    /// A file that holds the invite instead; only its owner should be able to read it (mode 0600). Never set together with `invite`.
    pub invite_file: Option<PathBuf>,
    /// Further relays, where the same tunnels are open at the same time.
    pub further: Vec<Invite>,
    /// How long a game server may take to accept a connection.
    pub origin_timeout: Duration,
    /// The connection to the relay.
    pub links: Links,
    /// What is logged.
    pub log: Log,
    /// What is exposed, with distinct names and public ports.
    pub tunnels: Vec<Tunnel>,
}

/// `[links]`: the connection to the relay.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Links {
    /// How the connection is treated.
    pub transport: Transport,
    /// What the line takes, as far as its owner says.
    pub line: Line,
    /// The longest wait before the first new try; it doubles with every further one.
    pub backoff_min: Duration,
    /// What it doubles up to.
    pub backoff_max: Duration,
}

impl Default for AgentConfig {
    fn default() -> Self {
        Self {
            invite: None,
            invite_file: None,
            further: Vec::new(),
            origin_timeout: Duration::from_secs(5),
            links: Links::default(),
            log: Log::default(),
            tunnels: Vec::new(),
        }
    }
}

impl Default for Links {
    fn default() -> Self {
        Self {
            transport: Transport::default(),
            line: Line::default(),
            backoff_min: Duration::from_millis(250),
            backoff_max: Duration::from_secs(15),
        }
    }
}

impl AgentConfig {
    /// Reads `text`, which came from `path`; the path is for messages, and relative paths in the text start at its directory.
    ///
    /// # Errors
    /// [`ConfigError::Syntax`] or [`ConfigError::Invalid`] with every mistake.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let mut document = Document::parse(text, path)?;
        let config = Self::read(&mut document);
        document.finish(config)
    }

    /// Reads the file at `path`.
    ///
    /// # Errors
    /// [`ConfigError::Read`], and those of [`AgentConfig::parse`].
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::parse(&document::load(path)?, path)
    }

    /// The invite, read from its file when the configuration names one.
    ///
    /// # Errors
    /// [`ConfigError::ReadInvite`] or [`ConfigError::Invite`].
    pub fn resolve_invite(&self) -> Result<Option<Invite>, ConfigError> {
        match &self.invite_file {
            Some(path) => read_invite(path).map(Some),
            None => Ok(self.invite.clone()),
        }
    }

    pub(crate) fn read(document: &mut Document<'_>) -> Self {
        let default = Self::default();
        let mut top = document.top();
        let invite = top.secret("invite", |text| {
            text.parse::<Invite>().map_err(|error| error.to_string())
        });
        let invite_file = top.path("invite_file");
        if top.has("invite") && top.has("invite_file") {
            top.mistake(
                "invite_file",
                "`invite` and `invite_file` are both given: keep one of them",
            );
        }
        let millis = Duration::from_millis;
        let origin_timeout = top.duration("origin_timeout", default.origin_timeout, millis(100)..=millis(60_000));
        let links = Links::read(document);
        Self {
            invite,
            invite_file,
            further: document.elements("relay", |mut relay| {
                relay.secret("invite", |text| {
                    text.parse::<Invite>().map_err(|error| error.to_string())
                })
            }),
            origin_timeout,
            links,
            log: Log::read(document),
            tunnels: tunnels(document),
        }
    }
}

/// What a line may be said to take, in bytes a second: 100 kbit/s to 100 Gbit/s.
const SPEEDS: RangeInclusive<u64> = 12_500..=12_500_000_000;

impl Links {
    fn read(document: &mut Document<'_>) -> Self {
        const MS: fn(u64) -> Duration = Duration::from_millis;
        let default = Self::default();
        let mut links = document.section("links");
        let backoff_min = links.duration("backoff_min", default.backoff_min, MS(10)..=MS(60_000));
        let backoff_max = links.duration("backoff_max", default.backoff_max, MS(100)..=MS(600_000));
        if backoff_min > backoff_max {
            let key = if links.has("backoff_min") {
                "backoff_min"
            } else {
                "backoff_max"
            };
            links.mistake(key, "`links.backoff_min` must not be longer than `links.backoff_max`");
        }
        Self {
            transport: link::read(&mut links),
            line: Line {
                uplink: links.speed("uplink", SPEEDS),
                downlink: links.speed("downlink", SPEEDS),
            },
            backoff_min,
            backoff_max,
        }
    }
}

/// Reads the invite from a file that holds nothing else.
///
/// # Errors
/// [`ConfigError::ReadInvite`] or [`ConfigError::Invite`].
pub fn read_invite(path: &Path) -> Result<Invite, ConfigError> {
    let text = fs::read_to_string(path).map_err(|source| ConfigError::ReadInvite {
        path: path.to_owned(),
        source,
    })?;
    text.parse().map_err(|source| ConfigError::Invite {
        path: path.to_owned(),
        source,
    })
}

fn tunnels(document: &mut Document<'_>) -> Vec<Tunnel> {
    let mut tunnels: Vec<Tunnel> = Vec::new();
    document.elements("tunnel", |mut section| {
        let tunnel = Tunnel::read(&mut section)?;
        tunnels.push(tunnel);
        // One by one, so that the mistake is found at the line of the second of two.
        if let Err(error) = Tunnel::check_distinct(&tunnels) {
            let key = if matches!(error, TunnelError::DuplicateName(_)) {
                "name"
            } else {
                "public_port"
            };
            section.mistake(key, &error.to_string());
            tunnels.pop();
        }
        Some(())
    });
    tunnels
}

#[cfg(test)]
mod tests;
