//! Tunnels as people write them: a `[[tunnel]]` of `agent.toml`, or one word on a command line.
//!
//! ```text
//! [NAME=]PRESET[:[HOST:]PORT][@PUBLICPORT]      minecraft   creative=minecraft:25566   bedrock:192.168.1.20:19132
//! [NAME=]tcp:[HOST:]PORT[-LAST][@PUBLICPORT]    tcp:25565   web=tcp:[::1]:8100@25600
//! [NAME=]udp:[HOST:]PORT[-LAST][@PUBLICPORT]    voice=udp:24454   udp:2456-2458
//! ```
//! One text may stand for several ports, of a preset or of a range: [`Tunnel::expand`] makes a tunnel of each.

mod limits;
mod wake;

use std::collections::HashSet;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use spawnpoint_core::hostname::Pattern;
use spawnpoint_proto::control::{MAX_AWAY, MAX_NAMES, MAX_TUNNELS};
use spawnpoint_proto::{Dialect, NameError, Protocol, TunnelName};

use crate::document::Section;
use crate::preset::{PRESETS, Place, Preset};
use crate::report::nearest;

pub use limits::Limits;
pub use wake::Wake;

/// Where a game server is looked for unless another host is named.
const LOCAL: &str = "127.0.0.1";

/// Prefixes of all tunnels, so that they fit into what may follow a hello.
const MAX_PREFIXES_OF_ALL: usize = 16 * 1024;

/// The most ports that one range may have.
const MAX_RANGE: u16 = 64;

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
    /// How many ports in a row it stands for, the origin's and the public one being the first.
    pub count: u16,
    /// What it was made of.
    pub preset: Option<&'static Preset>,
    /// The game behind it, as a relay knows it.
    pub game: Option<&'static str>,
    /// What its players' first bytes are written in, so that it is reached by name on a shared port.
    pub dialect: Option<Dialect>,
    /// Host names of the host's own by which it is reached there, too.
    pub names: Vec<Pattern>,
    /// How the game server gets to know its players' addresses.
    pub real_ip: RealIp,
    /// What the server list shows while the server is away.
    pub away: Option<String>,
    /// Whether each UDP packet is sent a second time a moment later.
    pub redundancy: bool,
    /// How the server is started when somebody joins, and stopped when nobody is there.
    pub wake: Option<Wake>,
    /// Who may come, how many, and how fast.
    pub limits: Limits,
    /// The tunnel by whose public port it must lie.
    pub beside: Option<Beside>,
    /// The ports that must be free beside its own, for the tunnels that follow it.
    pub needs: Vec<(Protocol, i32)>,
}

/// Where a public port lies that is reckoned from another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Beside {
    /// The tunnel with the other port.
    pub tunnel: TunnelName,
    /// What is added to that.
    pub offset: i32,
}

/// How a game server gets to know its players' addresses.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum RealIp {
    /// Not at all: everybody comes from the agent's address.
    #[default]
    Off,
    /// Each player has an address of their own in 127.0.0.0/8, always the same one, in TCP and UDP: for a server that knows nothing of tunnels, on the agent's
    /// machine. Where that cannot be had, as [`RealIp::Off`].
    Loopback,
    /// The text form of the PROXY protocol before the first byte; TCP only.
    ProxyV1,
    /// The binary form of the PROXY protocol before the first byte, or in the first packet of a UDP player.
    ProxyV2,
    /// As [`RealIp::ProxyV2`], in every packet; UDP only.
    ProxyV2Every,
    /// As [`RealIp::ProxyV2`], in a packet of its own before the first; UDP only.
    ProxyV2Apart,
}

impl RealIp {
    /// Every way.
    pub const ALL: [Self; 6] = [
        Self::Off,
        Self::Loopback,
        Self::ProxyV1,
        Self::ProxyV2,
        Self::ProxyV2Every,
        Self::ProxyV2Apart,
    ];

    /// The word used in configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Loopback => "loopback",
            Self::ProxyV1 => "proxy-v1",
            Self::ProxyV2 => "proxy-v2",
            Self::ProxyV2Every => "proxy-v2-every",
            Self::ProxyV2Apart => "proxy-v2-apart",
        }
    }

    /// Whether it is for `protocol`.
    pub const fn is_for(self, protocol: Protocol) -> bool {
        match self {
            Self::Off | Self::Loopback | Self::ProxyV2 => true,
            Self::ProxyV1 => matches!(protocol, Protocol::Tcp),
            Self::ProxyV2Every | Self::ProxyV2Apart => matches!(protocol, Protocol::Udp),
        }
    }
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
        "unknown preset `{given}`: {}`spawnpoint presets` lists them, anything else is tcp:PORT or udp:PORT",
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
    /// A range of ports that is none.
    #[error("`{0}` is no range of ports: write FIRST-LAST with at most {MAX_RANGE} ports, for tcp or udp")]
    Range(String),
    /// The part after `@`.
    #[error("`{0}` is no public port: it is a number from 1 to 65535")]
    PublicPort(String),
    /// More tunnels than one agent can have.
    #[error("{0} tunnels are too many: an agent has at most {MAX_TUNNELS}")]
    TooMany(usize),
    /// More prefixes than an agent can say.
    #[error(
        "{0} addresses and prefixes of all tunnels, each port counted, are too many: an agent has at most {MAX_PREFIXES_OF_ALL}"
    )]
    TooManyPrefixes(usize),
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

impl Tunnel {
    /// Checks that no two tunnels have one name or ask for one public port.
    ///
    /// # Errors
    /// [`TunnelError::DuplicateName`] or [`TunnelError::DuplicatePort`].
    pub fn check_distinct(tunnels: &[Self]) -> Result<(), TunnelError> {
        let tunnels: Vec<Self> = tunnels.iter().flat_map(Self::expand).collect();
        if tunnels.len() > MAX_TUNNELS {
            return Err(TunnelError::TooMany(tunnels.len()));
        }
        let prefixes = |tunnel: &Self| tunnel.limits.lists.allow.len() + tunnel.limits.lists.deny.len();
        let prefixes = tunnels.iter().map(prefixes).sum();
        if prefixes > MAX_PREFIXES_OF_ALL {
            return Err(TunnelError::TooManyPrefixes(prefixes));
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

    fn new(name: Option<TunnelName>, kind: Kind, origin: Origin, count: u16, public_port: Option<u16>) -> Self {
        let (protocol, preset) = match kind {
            Kind::Preset(preset) => (preset.first().protocol, Some(preset)),
            Kind::Protocol(protocol) => (protocol, None),
        };
        let name = name.unwrap_or_else(|| default_name(protocol, preset, origin.port));
        Self {
            name,
            protocol,
            origin,
            public_port,
            count,
            preset,
            game: preset.and_then(|preset| preset.first().game),
            dialect: preset.and_then(|preset| preset.first().dialect),
            names: Vec::new(),
            real_ip: preset.map_or(RealIp::Off, |preset| preset.real_ip),
            away: None,
            redundancy: false,
            wake: None,
            limits: Limits::default(),
            beside: None,
            needs: Vec::new(),
        }
    }

    /// A tunnel for each port that this one stands for, itself the first.
    pub fn expand(&self) -> Vec<Self> {
        let mut all = vec![Self {
            count: 1,
            ..self.clone()
        }];
        for more in 1..self.count {
            let suffix = (u32::from(more) + 1).to_string();
            all.push(self.follower(&suffix, self.protocol, i32::from(more)));
        }
        let further = self.preset.map_or(&[][..], |preset| &preset.ports[1..]);
        for port in further {
            let first = self.preset.map_or(0, |preset| i32::from(preset.first().port));
            for more in 0..port.count {
                let suffix = match more {
                    0 => port.suffix.to_owned(),
                    _ => format!("{}-{}", port.suffix, more + 1),
                };
                let offset = i32::from(port.port) - first + i32::from(more);
                let mut follower = self.follower(&suffix, port.protocol, offset);
                (follower.dialect, follower.game) = (port.dialect, port.game);
                if port.place == Place::Own {
                    // Such a port is what it is, wherever the first one was moved.
                    follower.origin.port = port.port + more;
                    follower.beside = None;
                }
                all.push(follower);
            }
        }
        let beside = all
            .iter()
            .filter_map(|tunnel| Some((tunnel.protocol, tunnel.beside.as_ref()?.offset)));
        all[0].needs = beside.collect();
        all
    }

    /// A further port of the same server.
    fn follower(&self, suffix: &str, protocol: Protocol, offset: i32) -> Self {
        let port = u16::try_from(i32::from(self.origin.port) + offset).unwrap_or(self.origin.port);
        let name = format!("{}-{suffix}", self.name);
        Self {
            // A name so long that nothing fits behind it is found when tunnels are checked to be distinct.
            name: name.parse().unwrap_or_else(|_| self.name.clone()),
            protocol,
            origin: Origin {
                port,
                ..self.origin.clone()
            },
            public_port: None,
            count: 1,
            preset: None,
            game: None,
            dialect: None,
            names: Vec::new(),
            real_ip: if self.real_ip.is_for(protocol) {
                self.real_ip
            } else {
                RealIp::Off
            },
            away: None,
            redundancy: self.redundancy && protocol == Protocol::Udp,
            wake: None,
            limits: self.limits.clone(),
            beside: Some(Beside {
                tunnel: self.name.clone(),
                offset,
            }),
            needs: Vec::new(),
        }
    }

    /// The last port of the game server that it stands for.
    pub const fn last_port(&self) -> u16 {
        self.origin.port.saturating_add(self.count.saturating_sub(1))
    }

    /// The public port that is asked for when nobody asks for another: the one that players need not type.
    pub fn preferred_port(&self) -> u16 {
        self.preset.map_or(self.origin.port, |preset| preset.first().port)
    }

    /// Reads one `[[tunnel]]`; what is wrong with it has been reported when there is none.
    pub(crate) fn read(section: &mut Section<'_, '_>) -> Option<Self> {
        let rule = "1 to 32 of a-z, 0-9 and `-`, with a letter or digit at both ends";
        let name = section.text("name", None, rule, |text| {
            text.parse::<TunnelName>().map_err(|_| String::new())
        });
        let preset = section.text("preset", None, "a word that `spawnpoint presets` lists", |word| {
            let meant = nearest(word, PRESETS.iter().map(|preset| preset.word));
            Preset::find(word).ok_or_else(|| meant.map(|word| format!("did you mean {word:?}?")).unwrap_or_default())
        });
        let protocol = section.optional_word("protocol", None, &Protocol::ALL, Protocol::as_str);
        let rule = "PORT, \"HOST:PORT\" or \"[IPV6]:PORT\", for a range \"HOST:FIRST-LAST\"";
        let origin = section.read("origin", None, rule, |value| {
            let text = value
                .as_str()
                .or(value.as_integer().map(|number| number.as_str()))
                .ok_or_else(String::new)?;
            parse_origin(text).map_err(|error| error.to_string())
        });
        let public_port = section.port("public_port");
        let redundancy = section.flag("redundancy", false);
        let speaks = section.optional_word("speaks", None, &Dialect::ALL, Dialect::as_str);
        let names = section.list(
            "names",
            "host names such as [\"mc.example.org\", \"*.mc.example.org\"]",
            |text| text.parse::<Pattern>().map_err(|error| error.to_string()),
        );
        let real_ip = section.optional_word("real_ip", None, &RealIp::ALL, RealIp::as_str);
        let rule = "a line or two of text";
        let away = section.text("away", None, rule, |text| match text.len() <= MAX_AWAY {
            true => Ok(text.to_owned()),
            false => Err(format!("it is longer than {MAX_AWAY} bytes")),
        });
        let wake = Wake::read(section);
        let limits = Limits::read(section);
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
                    "a tunnel needs `preset` (such as \"minecraft\"), or `protocol` and `origin`",
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
            (true, false, _) => Kind::Preset(preset?),
            (false, true, true) => Kind::Protocol(protocol?),
        };
        let (origin, count) = match kind {
            Kind::Preset(preset) if !has("origin") => (default_origin(preset), 1),
            _ => origin?,
        };
        if count > 1 && matches!(kind, Kind::Preset(_)) {
            section.mistake(
                "origin",
                "a range of ports is for `protocol`: a preset knows how many it has",
            );
            return None;
        }
        let mut tunnel = Self::new(name, kind, origin, count, public_port);
        tunnel.dialect = speaks.or(tunnel.dialect);
        tunnel.names = names.unwrap_or_default();
        tunnel.real_ip = real_ip.unwrap_or(tunnel.real_ip);
        tunnel.away = away;
        tunnel.redundancy = redundancy;
        tunnel.wake = wake;
        tunnel.limits = limits;
        match tunnel.contradiction() {
            Some((key, text)) => {
                section.mistake(key, &text);
                None
            }
            None => Some(tunnel),
        }
    }

    /// What of it cannot be together: the key, and a sentence.
    fn contradiction(&self) -> Option<(&'static str, String)> {
        let protocol = self.protocol;
        if self.redundancy && protocol != Protocol::Udp {
            let text = "`tunnel.redundancy` is for UDP: what is lost of TCP is repaired without it";
            return Some(("redundancy", text.to_owned()));
        }
        if let Some(dialect) = self.dialect.filter(|dialect| dialect.protocol() != protocol) {
            let text = format!(
                "`tunnel.speaks = \"{dialect}\"` is for {}, not {protocol}",
                dialect.protocol()
            );
            return Some(("speaks", text));
        }
        if !self.real_ip.is_for(protocol) {
            let text = format!("`tunnel.real_ip = \"{}\"` is not for {protocol}", self.real_ip.as_str());
            return Some(("real_ip", text));
        }
        if !self.names.is_empty() && self.dialect.is_none() {
            let text = "`tunnel.names` needs `tunnel.speaks`, or a preset that players ask for by name: minecraft, https, http, hytale";
            return Some(("names", text.to_owned()));
        }
        if self.names.len() > MAX_NAMES {
            return Some(("names", format!("a tunnel has at most {MAX_NAMES} names")));
        }
        if self.count > 1 && self.dialect.is_some() {
            return Some(("speaks", "`tunnel.speaks` is for one port, not for a range".to_owned()));
        }
        None
    }
}

/// What stands before the first colon.
#[derive(Clone, Copy)]
enum Kind {
    Preset(&'static Preset),
    Protocol(Protocol),
}

impl FromStr for Kind {
    type Err = TunnelError;

    fn from_str(text: &str) -> Result<Self, TunnelError> {
        let protocol = || text.parse().ok().map(Self::Protocol);
        let kind = Preset::find(text).map(Self::Preset).or_else(protocol);
        kind.ok_or_else(|| TunnelError::UnknownPreset {
            given: text.chars().take(32).collect(),
            nearest: nearest(
                text,
                PRESETS
                    .iter()
                    .map(|preset| preset.word)
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
            Some((kind, origin)) => (kind.parse()?, Some(parse_origin(origin)?)),
            None => (rest.parse()?, None),
        };
        let (origin, count) = match (kind, origin) {
            (Kind::Preset(_), Some((origin, count))) if count > 1 => {
                return Err(TunnelError::Range(format!(
                    "{}-{}",
                    origin.port,
                    origin.port + count - 1
                )));
            }
            (_, Some(origin)) => origin,
            (Kind::Preset(preset), None) => (default_origin(preset), 1),
            (Kind::Protocol(protocol), None) => return Err(TunnelError::NoOrigin(protocol)),
        };
        Ok(Self::new(name, kind, origin, count, public_port))
    }
}

impl fmt::Display for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name != default_name(self.protocol, self.preset, self.origin.port) {
            write!(f, "{}=", self.name)?;
        }
        match self.preset {
            Some(preset) => f.write_str(preset.word)?,
            None => f.write_str(self.protocol.as_str())?,
        }
        match self.preset {
            Some(preset) if self.origin == default_origin(preset) => {}
            _ if self.origin.host == LOCAL => write!(f, ":{}", self.origin.port)?,
            _ => write!(f, ":{}", self.origin)?,
        }
        if self.count > 1 {
            write!(f, "-{}", self.last_port())?;
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

fn default_origin(preset: &Preset) -> Origin {
    Origin {
        host: LOCAL.to_owned(),
        port: preset.first().port,
    }
}

/// Reads an origin, and how many ports in a row it has.
fn parse_origin(text: &str) -> Result<(Origin, u16), TunnelError> {
    let range = text
        .rsplit_once('-')
        .and_then(|(first, last)| Some((first, parse_port(last)?)));
    let Some((first, last)) = range else {
        return Ok((text.parse()?, 1));
    };
    let shown = || text.chars().take(64).collect();
    let origin: Origin = first.parse()?;
    let count = last.checked_sub(origin.port).map(|more| more.saturating_add(1));
    match count {
        Some(count) if count <= MAX_RANGE => Ok((origin, count)),
        _ => Err(TunnelError::Range(shown())),
    }
}

fn default_name(protocol: Protocol, preset: Option<&Preset>, port: u16) -> TunnelName {
    let text = preset.map_or_else(|| format!("{protocol}-{port}"), |preset| preset.word.to_owned());
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
