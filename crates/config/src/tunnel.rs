//! Tunnels as people write them: a `[[tunnel]]` of `agent.toml`, or one word on a command line.
//!
//! ```text
//! [NAME=]PRESET[:[HOST:]PORT][@PUBLICPORT]      minecraft   creative=minecraft:25566   bedrock:192.168.1.20:19132
//! [NAME=]tcp:[HOST:]PORT[@PUBLICPORT]           tcp:25565   web=tcp:[::1]:8100@25600
//! [NAME=]udp:[HOST:]PORT[@PUBLICPORT]           voice=udp:24454
//! ```

use std::collections::HashSet;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use spawnpoint_proto::control::MAX_TUNNELS;
use spawnpoint_proto::{NameError, Protocol, TunnelName};

use crate::document::Section;
use crate::report::nearest;

/// Where a game server is looked for unless another host is named.
const LOCAL: &str = "127.0.0.1";

/// One thing to expose.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tunnel {
    /// Its name, unique within the host.
    pub name: TunnelName,
    /// What it carries.
    pub protocol: Protocol,
    /// The game server.
    pub origin: Origin,
    /// The public port to ask for; the relay chooses one and keeps to it when absent.
    pub public_port: Option<u16>,
    /// The game behind it, as far as the preset says.
    pub game: Option<Game>,
    /// Whether each UDP packet is sent a second time a moment later.
    pub redundancy: bool,
}

/// A game whose players can be answered even when its server is away.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Game {
    /// Minecraft: Java Edition.
    MinecraftJava,
    /// Minecraft: Bedrock Edition.
    Bedrock,
}

/// A game server's socket, as the agent dials it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Origin {
    /// A host name or address, in lower case and without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
}

/// Why a text, or a list of tunnels, is none.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TunnelError {
    /// Neither a preset nor a protocol.
    #[error(
        "unknown preset `{given}`: {}presets are minecraft and bedrock, anything else is tcp:PORT or udp:PORT",
        nearest.map(|name| format!("did you mean `{name}`? ")).unwrap_or_default()
    )]
    UnknownPreset {
        /// What was given, cut to a readable length.
        given: String,
        /// What it was probably meant to be.
        nearest: Option<&'static str>,
    },
    /// A protocol without the game server's port.
    #[error("`{0}` alone is no tunnel: add the game server's port, for example {0}:25565")]
    NoOrigin(Protocol),
    /// The part before `=`.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The game server.
    #[error(transparent)]
    Origin(#[from] OriginError),
    /// The part after `@`.
    #[error("`{0}` is no public port: it is a number from 1 to 65535")]
    PublicPort(String),
    /// More tunnels than one agent can have.
    #[error("{0} tunnels are too many: an agent has at most {MAX_TUNNELS}")]
    TooMany(usize),
    /// Two tunnels with one name.
    #[error("two tunnels are named `{0}`: give one of them another name")]
    DuplicateName(TunnelName),
    /// Two tunnels that ask for one port.
    #[error("two tunnels ask for public {protocol} port {port}")]
    DuplicatePort {
        /// The protocol of both.
        protocol: Protocol,
        /// The port that both want.
        port: u16,
    },
}

/// Why a text is not a game server's socket.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum OriginError {
    /// The port is missing or none.
    #[error("`{0}` has no port: write PORT, HOST:PORT or [IPV6]:PORT with a port from 1 to 65535")]
    Port(String),
    /// An IPv6 address whose end cannot be told from the port.
    #[error("`{0}` needs brackets around its IPv6 address: [ADDRESS]:PORT")]
    Brackets(String),
    /// Not a host name or address.
    #[error("`{0}` is no host name or address")]
    Host(String),
}

impl Game {
    /// Every game with a preset.
    pub const ALL: [Self; 2] = [Self::MinecraftJava, Self::Bedrock];

    /// The preset's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MinecraftJava => "minecraft",
            Self::Bedrock => "bedrock",
        }
    }

    /// What the game speaks.
    pub const fn protocol(self) -> Protocol {
        match self {
            Self::MinecraftJava => Protocol::Tcp,
            Self::Bedrock => Protocol::Udp,
        }
    }

    /// The port of its server unless the server is told otherwise.
    pub const fn default_port(self) -> u16 {
        match self {
            Self::MinecraftJava => 25565,
            Self::Bedrock => 19132,
        }
    }

    fn default_origin(self) -> Origin {
        Origin {
            host: LOCAL.to_owned(),
            port: self.default_port(),
        }
    }
}

impl Tunnel {
    /// Checks that no two tunnels have one name or ask for one public port.
    ///
    /// # Errors
    /// [`TunnelError::DuplicateName`] or [`TunnelError::DuplicatePort`].
    pub fn check_distinct(tunnels: &[Self]) -> Result<(), TunnelError> {
        if tunnels.len() > MAX_TUNNELS {
            return Err(TunnelError::TooMany(tunnels.len()));
        }
        let (mut names, mut ports) = (HashSet::new(), HashSet::new());
        tunnels.iter().try_for_each(|tunnel| {
            if !names.insert(&tunnel.name) {
                return Err(TunnelError::DuplicateName(tunnel.name.clone()));
            }
            match tunnel.public_port {
                Some(port) if !ports.insert((tunnel.protocol, port)) => Err(TunnelError::DuplicatePort {
                    protocol: tunnel.protocol,
                    port,
                }),
                _ => Ok(()),
            }
        })
    }

    fn new(name: Option<TunnelName>, kind: Kind, origin: Origin, public_port: Option<u16>) -> Self {
        let (protocol, game) = match kind {
            Kind::Game(game) => (game.protocol(), Some(game)),
            Kind::Protocol(protocol) => (protocol, None),
        };
        let name = name.unwrap_or_else(|| default_name(protocol, game, origin.port));
        Self {
            name,
            protocol,
            origin,
            public_port,
            game,
            redundancy: false,
        }
    }

    /// Reads one `[[tunnel]]`; what is wrong with it has been reported when there is none.
    pub(crate) fn read(section: &mut Section<'_, '_>) -> Option<Self> {
        let rule = "1 to 32 of a-z, 0-9 and `-`, with a letter or digit at both ends";
        let name = section.text("name", None, rule, |text| {
            text.parse::<TunnelName>().map_err(|_| String::new())
        });
        let game = section.optional_word("preset", None, &Game::ALL, Game::as_str);
        let protocol = section.optional_word("protocol", None, &Protocol::ALL, Protocol::as_str);
        let rule = "PORT, \"HOST:PORT\" or \"[IPV6]:PORT\"";
        let origin = section.read("origin", None, rule, |value| {
            let text = value
                .as_str()
                .or(value.as_integer().map(|number| number.as_str()))
                .ok_or_else(String::new)?;
            text.parse::<Origin>().map_err(|error| error.to_string())
        });
        let public_port = section.port("public_port");
        let redundancy = section.flag("redundancy", false);
        let has = |key| section.has(key);
        let kind = match (has("preset"), has("protocol"), has("origin")) {
            (true, true, _) => {
                section.mistake(
                    "protocol",
                    "`tunnel.preset` says the protocol already: leave `tunnel.protocol` out",
                );
                return None;
            }
            (false, false, _) => {
                section.mistake(
                    "",
                    "a tunnel needs `preset` (\"minecraft\" or \"bedrock\"), or `protocol` and `origin`",
                );
                return None;
            }
            (false, true, false) => {
                section.mistake(
                    "",
                    "a tunnel with `protocol` needs `origin`, the game server's port or \"HOST:PORT\"",
                );
                return None;
            }
            (true, false, _) => Kind::Game(game?),
            (false, true, true) => Kind::Protocol(protocol?),
        };
        let origin = match kind {
            Kind::Game(game) if !has("origin") => game.default_origin(),
            _ => origin?,
        };
        let mut tunnel = Self::new(name, kind, origin, public_port);
        if redundancy && tunnel.protocol != Protocol::Udp {
            section.mistake(
                "redundancy",
                "`tunnel.redundancy` is for UDP: what is lost of TCP is repaired without it",
            );
            return None;
        }
        tunnel.redundancy = redundancy;
        Some(tunnel)
    }
}

/// What stands before the first colon.
#[derive(Clone, Copy)]
enum Kind {
    Game(Game),
    Protocol(Protocol),
}

impl FromStr for Kind {
    type Err = TunnelError;

    fn from_str(text: &str) -> Result<Self, TunnelError> {
        let game = Game::ALL.into_iter().find(|game| game.as_str() == text).map(Self::Game);
        let protocol = || {
            Protocol::ALL
                .into_iter()
                .find(|protocol| protocol.as_str() == text)
                .map(Self::Protocol)
        };
        game.or_else(protocol).ok_or_else(|| TunnelError::UnknownPreset {
            given: text.chars().take(32).collect(),
            nearest: nearest(
                text,
                Game::ALL
                    .into_iter()
                    .map(Game::as_str)
                    .chain(Protocol::ALL.into_iter().map(Protocol::as_str)),
            ),
        })
    }
}

impl FromStr for Tunnel {
    type Err = TunnelError;

    fn from_str(text: &str) -> Result<Self, TunnelError> {
        let (name, rest) = match text.split_once('=') {
            Some((name, rest)) => (Some(name.parse()?), rest),
            None => (None, text),
        };
        let (rest, public_port) = match rest.rsplit_once('@') {
            Some((rest, port)) => (
                rest,
                Some(parse_port(port).ok_or_else(|| TunnelError::PublicPort(port.to_owned()))?),
            ),
            None => (rest, None),
        };
        let (kind, origin) = match rest.split_once(':') {
            Some((kind, origin)) => (kind.parse()?, Some(origin.parse()?)),
            None => (rest.parse()?, None),
        };
        let origin = match (kind, origin) {
            (_, Some(origin)) => origin,
            (Kind::Game(game), None) => game.default_origin(),
            (Kind::Protocol(protocol), None) => return Err(TunnelError::NoOrigin(protocol)),
        };
        Ok(Self::new(name, kind, origin, public_port))
    }
}

impl fmt::Display for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name != default_name(self.protocol, self.game, self.origin.port) {
            write!(f, "{}=", self.name)?;
        }
        match self.game {
            Some(game) => f.write_str(game.as_str())?,
            None => f.write_str(self.protocol.as_str())?,
        }
        match self.game {
            Some(game) if self.origin == game.default_origin() => {}
            _ if self.origin.host == LOCAL => write!(f, ":{}", self.origin.port)?,
            _ => write!(f, ":{}", self.origin)?,
        }
        self.public_port.map_or(Ok(()), |port| write!(f, "@{port}"))
    }
}

impl FromStr for Origin {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Self, OriginError> {
        let text = text.trim();
        let (host, port) = text.rsplit_once(':').unwrap_or((LOCAL, text));
        let shown = || text.chars().take(64).collect();
        let port = parse_port(port).ok_or_else(|| OriginError::Port(shown()))?;
        let host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(inner) => inner
                .parse::<std::net::Ipv6Addr>()
                .map_err(|_| OriginError::Host(shown()))?
                .to_string(),
            None if host.contains(':') => return Err(OriginError::Brackets(shown())),
            None if host.is_empty() => LOCAL.to_owned(),
            None if is_host(host) => host.to_ascii_lowercase(),
            None => return Err(OriginError::Host(shown())),
        };
        Ok(Self { host, port })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// Whether `text` is an address or can be a name in DNS or in `/etc/hosts`; container names may have underscores.
pub(crate) fn is_host(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let name = text.strip_suffix('.').unwrap_or(text);
    // A name whose last label is a number would be taken for an address by everything that dials it.
    let numeric = name
        .rsplit('.')
        .next()
        .is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    text.parse::<IpAddr>().is_ok() || (name.len() <= 253 && !numeric && name.split('.').all(is_label))
}

fn default_name(protocol: Protocol, game: Option<Game>, port: u16) -> TunnelName {
    let text = game.map_or_else(|| format!("{protocol}-{port}"), |game| game.as_str().to_owned());
    text.parse()
        .expect("presets, and a protocol with a port, are short lower-case labels")
}

fn parse_port(text: &str) -> Option<u16> {
    // `u16::from_str` takes a plus sign.
    text.parse()
        .ok()
        .filter(|&port| port != 0 && text.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests;
