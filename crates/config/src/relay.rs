//! `relay.toml`: the public side.

mod guard;

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use spawnpoint_core::admission::Bounds;
use spawnpoint_core::grant::Rates;
use spawnpoint_core::hostname::Hostname;
use spawnpoint_core::port::PortSet;
use spawnpoint_proto::control::MAX_AWAY;
use spawnpoint_proto::{Dialect, HostName, Protocol, TunnelName};

use crate::ConfigError;
use crate::audit::AuditLog;
use crate::document::{self, Document};
use crate::link::{self, Transport};
use crate::log::Log;
use crate::tunnel::is_host;

pub use guard::{Country, Dnsbl, Guard};

/// Speeds that can be asked for, in bytes a second: from 64 kbit/s to 100 Gbit/s.
const SPEED: RangeInclusive<u64> = 8_000..=12_500_000_000;

/// No shared port.
const OFF: &str = "off";

/// Everything that `relay.toml` can say; `Default` is a relay without any file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RelayConfig {
    /// The UDP address on which agents are awaited. `[::]` means IPv6 and IPv4, or IPv4 alone where the machine has no IPv6.
    pub listen: SocketAddr,
    /// The name or address, without port and brackets, that invites and agents show; found out when absent.
    pub public_host: Option<String>,
    /// Where hosts, reserved ports and the relay's own certificate are kept; the system's usual place when absent.
    pub data_dir: Option<PathBuf>,
    /// The name under which every tunnel has a name of its own, and the shared ports with it.
    pub domain: Option<Hostname>,
    /// Beyond this many bytes of memory nobody new is let in; most of the machine's when absent.
    pub memory_limit: Option<u64>,
    /// The players' side.
    pub players: Players,
    /// How fast players may be.
    pub bandwidth: Bandwidth,
    /// From where players may come.
    pub guard: Guard,
    /// Which lists are asked about players' addresses.
    pub dnsbl: Dnsbl,
    /// Public ports that lead to many hosts by name.
    pub shared: Shared,
    /// What players read while a server is away.
    pub away: Away,
    /// The agents' side.
    pub links: Links,
    /// What the relay shows to agents.
    pub certificate: Certificate,
    /// Where health, metrics and the admin pages are served; nowhere when absent.
    pub admin: Option<SocketAddr>,
    /// What is logged.
    pub log: Log,
    /// What is written down.
    pub audit: AuditLog,
    /// How long a relay that goes down waits for its players to leave.
    pub drain_deadline: Duration,
}

/// `[players]`: public ports and what is allowed on them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Players {
    /// The address on which public ports listen.
    pub bind: IpAddr,
    /// The pool of public ports.
    pub ports: PortSet,
    /// What the whole relay takes.
    pub total: Bounds,
    /// What each host takes, unless its grant says otherwise.
    pub per_host: Bounds,
    /// What each tunnel takes, unless the grant of its host says otherwise.
    pub per_tunnel: Bounds,
    /// What each address (IPv4 /32, IPv6 /64) may bring.
    pub per_address: Bounds,
    /// How long a UDP player may be silent before its flow is forgotten.
    pub udp_idle: Duration,
    /// How long a player who logs in waits for an agent that is reconnecting.
    pub hold: Duration,
    /// How long a player may take to say whom they want, where that has to be known.
    pub hello_timeout: Duration,
    /// For how long a server's entry for the server list is told again, instead of asking the server.
    pub list_cache: Duration,
    /// From where connections begin with the PROXY protocol.
    pub proxy_from: Vec<IpNet>,
}

/// `[bandwidth]`: how fast players may be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bandwidth {
    /// All players of the relay.
    pub total: Rates,
    /// Those of each host, unless its grant says otherwise.
    pub per_host: Rates,
    /// Those of each tunnel, unless the grant of its host says otherwise.
    pub per_tunnel: Rates,
    /// Those of each address (IPv4 /32, IPv6 /64).
    pub per_address: Rates,
    /// Bytes that the relay carries in a month of the calendar, both ways together.
    pub quota: Option<u64>,
    /// Bytes of each host in a month, unless its grant says otherwise.
    pub quota_per_host: Option<u64>,
    /// How fast those who are in may still be when a quota is used up, in bytes a second.
    pub after_quota: u64,
}

/// `[shared]`: public ports that lead to many hosts, told apart by the name that players ask for. They are open when the relay has a `domain`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shared {
    /// For Minecraft: Java Edition.
    pub minecraft: PortSet,
    /// For TLS.
    pub tls: PortSet,
    /// For HTTP/1.
    pub http: PortSet,
    /// For QUIC.
    pub quic: PortSet,
    /// Who gets players that ask for no name, or for one that nobody has: host and tunnel.
    pub default: Option<(HostName, TunnelName)>,
}

/// `[away]`: what players of a game read that we know, while its server is away.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Away {
    /// The agent was here a moment ago.
    pub reconnecting: String,
    /// The server is being started.
    pub starting: String,
    /// The server sleeps, and starts when somebody joins.
    pub asleep: String,
    /// The agent is here, the server is not.
    pub down: String,
    /// Neither is; `{ago}` is how long.
    pub offline: String,
    /// Nobody has the name that was asked for.
    pub unknown: String,
    /// The label in place of the player count.
    pub version: String,
    /// A picture of 64 by 64 pixels, PNG, for servers that have shown none.
    pub icon: Option<PathBuf>,
}

/// `[links]`: the connections to agents.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Links {
    /// How long sessions and public ports wait for an agent that is away.
    pub resume_window: Duration,
    /// Agents at once.
    pub max_links: u32,
    /// Tunnels of one host at once; 8 bits number the UDP ones in every packet, hence at most 255.
    pub max_tunnels_per_host: u32,
    /// How long a connecting agent may take until its hello is complete.
    pub handshake_timeout: Duration,
    /// How their connections are treated.
    pub transport: Transport,
}

/// `[certificate]`: how agents know that this is their relay.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Certificate {
    /// The operator's own certificate; the relay makes one and keeps it in its data directory when absent.
    pub files: Option<CertificateFiles>,
    /// How new invites tell agents to verify it.
    pub verify: Verify,
}

/// A certificate that the operator brings.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CertificateFiles {
    /// The chain, PEM, the relay's own certificate first.
    pub cert: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
}

/// How agents verify the relay's certificate.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Verify {
    /// It must be exactly this certificate, whoever signed it.
    #[default]
    Pin,
    /// It must be valid for the relay's name by the authorities that the agent's machine trusts; it may be renewed.
    Name,
}

impl Verify {
    /// Both ways.
    pub const ALL: [Self; 2] = [Self::Pin, Self::Name];

    /// The word used in configuration and settings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pin => "pin",
            Self::Name => "name",
        }
    }
}

impl Default for RelayConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), spawnpoint_proto::DEFAULT_PORT),
            public_host: None,
            data_dir: None,
            memory_limit: None,
            domain: None,
            players: Players::default(),
            bandwidth: Bandwidth::default(),
            guard: Guard::default(),
            dnsbl: Dnsbl::default(),
            shared: Shared::default(),
            away: Away::default(),
            links: Links::default(),
            certificate: Certificate::default(),
            admin: Some(SocketAddr::from(([127, 0, 0, 1], 7844))),
            log: Log::default(),
            audit: AuditLog::default(),
            drain_deadline: Duration::from_secs(30),
        }
    }
}

impl Default for Players {
    fn default() -> Self {
        Self {
            bind: Ipv6Addr::UNSPECIFIED.into(),
            // Bedrock's own port, and a hundred from Minecraft Java's own on.
            ports: PortSet::range(19132..=19132).and(25565..=25664),
            total: bounds(10_000, 4_096, 2_000),
            per_host: bounds(1_000, 1_024, 500),
            per_tunnel: bounds(1_000, 512, 200),
            per_address: Bounds {
                burst: 40,
                ..bounds(64, 32, 10)
            },
            udp_idle: Duration::from_secs(60),
            hold: Duration::from_secs(20),
            hello_timeout: Duration::from_secs(5),
            list_cache: Duration::from_secs(5),
            proxy_from: Vec::new(),
        }
    }
}

impl Default for Bandwidth {
    fn default() -> Self {
        Self {
            total: Rates::default(),
            per_host: Rates::default(),
            per_tunnel: Rates::default(),
            per_address: Rates {
                packets: Some(20_000),
                ..Rates::default()
            },
            quota: None,
            quota_per_host: None,
            after_quota: 64_000,
        }
    }
}

impl Default for Shared {
    fn default() -> Self {
        let port = Dialect::Minecraft.default_port();
        Self {
            minecraft: PortSet::range(port..=port),
            tls: PortSet::default(),
            http: PortSet::default(),
            quic: PortSet::default(),
            default: None,
        }
    }
}

impl Shared {
    /// The ports for a dialect.
    pub const fn ports(&self, dialect: Dialect) -> &PortSet {
        match dialect {
            Dialect::Minecraft => &self.minecraft,
            Dialect::Tls => &self.tls,
            Dialect::Http => &self.http,
            Dialect::Quic => &self.quic,
        }
    }

    /// The dialect of a shared port.
    pub fn dialect_at(&self, protocol: Protocol, port: u16) -> Option<Dialect> {
        let mut all = Dialect::ALL.into_iter();
        all.find(|dialect| dialect.protocol() == protocol && self.ports(*dialect).contains(port))
    }
}

impl Default for Away {
    fn default() -> Self {
        Self {
            reconnecting: "This server is reconnecting. Try again in a moment.".to_owned(),
            starting: "This server is starting. Join again in a moment.".to_owned(),
            asleep: "This server is asleep. Join to wake it.".to_owned(),
            down: "This server is not running right now. Try again later.".to_owned(),
            offline: "This server is offline, last seen {ago} ago.".to_owned(),
            unknown: "There is no server of this name here. Check the address.".to_owned(),
            version: "Offline".to_owned(),
            icon: None,
        }
    }
}

impl Default for Links {
    fn default() -> Self {
        Self {
            resume_window: Duration::from_secs(30),
            max_links: 1_024,
            max_tunnels_per_host: 32,
            handshake_timeout: Duration::from_secs(5),
            transport: Transport::default(),
        }
    }
}

impl RelayConfig {
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
    /// [`ConfigError::Read`], and those of [`RelayConfig::parse`].
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::parse(&document::load(path)?, path)
    }

    pub(crate) fn read(document: &mut Document<'_>) -> Self {
        let default = Self::default();
        let mut top = document.top();
        let rule = "an address and a port such as \"[::]:7843\" or \"203.0.113.5:7843\"";
        let listen = top
            .text("listen", Some("\"[::]:7843\""), rule, plain::<SocketAddr>)
            .unwrap_or(default.listen);
        let public_host = top.text(
            "public_host",
            None,
            "a host name or an address, without port",
            public_host,
        );
        let data_dir = top.path("data_dir");
        let memory_limit = top.amount("memory_limit");
        let rule = "a host name such as \"play.example.org\"";
        let domain = top.text("domain", None, rule, |text| {
            text.parse::<Hostname>().map_err(|error| error.to_string())
        });
        Self {
            domain,
            shared: Shared::read(document),
            away: Away::read(document),
            listen,
            public_host,
            data_dir,
            memory_limit,
            players: Players::read(document),
            bandwidth: Bandwidth::read(document),
            guard: Guard::read(document),
            dnsbl: Dnsbl::read(document),
            links: Links::read(document),
            certificate: Certificate::read(document),
            admin: admin(document, default.admin),
            log: Log::read(document),
            audit: AuditLog::read(document),
            drain_deadline: {
                let longest = Duration::from_secs(3_600);
                document
                    .section("drain")
                    .duration("deadline", default.drain_deadline, Duration::ZERO..=longest)
            },
        }
    }
}

impl Players {
    fn read(document: &mut Document<'_>) -> Self {
        let default = Self::default();
        let mut players = document.section("players");
        let mut circle = |suffix: &str, default: Bounds| {
            const MOST: u32 = 1_000_000;
            let key = |name: &str| format!("{name}{suffix}");
            bounds(
                players.count(&key("max_players"), default.players, 1..=MOST),
                players.count(&key("max_half_open"), default.half_open, 1..=MOST),
                players.rate(&key("new_players"), default.rate, 1..=MOST),
            )
        };
        let total = circle("", default.total);
        let per_host = circle("_per_host", default.per_host);
        let per_tunnel = circle("_per_tunnel", default.per_tunnel);
        let per_address = circle("_per_address", default.per_address);
        let per_address = Bounds {
            burst: players.count("new_players_burst", default.per_address.burst, 1..=1_000_000),
            ..per_address
        };
        let bind = players.text(
            "bind",
            Some("\"::\""),
            "an address of this machine, \"::\" or \"0.0.0.0\"",
            plain::<IpAddr>,
        );
        let rule = "ports and ranges such as \"25565-25664\" or \"25565,30000-30010\"";
        let ports = players.text("ports", Some("\"19132,25565-25664\""), rule, |text| {
            text.parse::<PortSet>().map_err(|error| error.to_string())
        });
        Self {
            bind: bind.unwrap_or(default.bind),
            ports: ports.unwrap_or(default.ports),
            total,
            per_host,
            per_tunnel,
            per_address,
            udp_idle: players.duration(
                "udp_idle",
                default.udp_idle,
                Duration::from_secs(5)..=Duration::from_secs(3_600),
            ),
            hold: players.duration("hold", default.hold, Duration::ZERO..=Duration::from_secs(60)),
            hello_timeout: players.duration(
                "hello_timeout",
                default.hello_timeout,
                Duration::from_millis(500)..=Duration::from_secs(60),
            ),
            list_cache: players.duration(
                "list_cache",
                default.list_cache,
                Duration::ZERO..=Duration::from_secs(300),
            ),
            proxy_from: players
                .list(
                    "proxy_from",
                    "prefixes such as [\"10.0.0.0/8\", \"2001:db8::/32\"]",
                    |text| {
                        let one = text.parse::<IpAddr>().map(IpNet::from);
                        one.or_else(|_| text.parse())
                            .map_err(|_| format!("`{text}` is no prefix"))
                    },
                )
                .unwrap_or_default(),
        }
    }
}

impl Bandwidth {
    fn read(document: &mut Document<'_>) -> Self {
        let default = Self::default();
        let mut bandwidth = document.section("bandwidth");
        let mut rates = |suffix: &str, default: Rates| Rates {
            up: bandwidth.speed(&format!("up{suffix}"), SPEED),
            down: bandwidth.speed(&format!("down{suffix}"), SPEED),
            packets: bandwidth.optional_rate(&format!("packets{suffix}"), default.packets, 1..=100_000_000),
        };
        Self {
            total: rates("", default.total),
            per_host: rates("_per_host", default.per_host),
            per_tunnel: rates("_per_tunnel", default.per_tunnel),
            per_address: rates("_per_address", default.per_address),
            quota: bandwidth.amount("quota"),
            quota_per_host: bandwidth.amount("quota_per_host"),
            after_quota: bandwidth.speed_or("after_quota", default.after_quota, SPEED),
        }
    }
}

impl Shared {
    fn read(document: &mut Document<'_>) -> Self {
        let default = Self::default();
        let mut shared = document.section("shared");
        let mut ports = |dialect: Dialect| {
            let shown = match default.ports(dialect) {
                ports if ports.is_empty() => format!("{OFF:?}"),
                ports => format!("\"{ports}\""),
            };
            let rule = "ports such as \"443\" or \"25565,25575\", or \"off\"";
            let read = shared.text(dialect.as_str(), Some(&shown), rule, |text| match text.trim() {
                OFF => Ok(PortSet::default()),
                ports => ports.parse::<PortSet>().map_err(|error| error.to_string()),
            });
            read.unwrap_or_else(|| default.ports(dialect).clone())
        };
        let [minecraft, tls, http, quic] = Dialect::ALL.map(&mut ports);
        let sets = [&minecraft, &tls, &http];
        let doubled = sets.iter().enumerate().find_map(|(at, set)| {
            let mut others = sets[..at].iter().flat_map(|set| set.iter());
            others.find(|port| set.contains(*port))
        });
        if let Some(port) = doubled {
            shared.mistake(
                "",
                &format!("port {port} is shared twice: it can only speak one of minecraft, tls and http"),
            );
        }
        let rule = "a host and a tunnel of it, such as \"desk/minecraft\"";
        let default = shared.text("default", None, rule, |text| {
            let (host, tunnel) = text.split_once('/').ok_or_else(String::new)?;
            let host = host.parse::<HostName>().map_err(|error| error.to_string())?;
            Ok((host, tunnel.parse::<TunnelName>().map_err(|error| error.to_string())?))
        });
        Self {
            minecraft,
            tls,
            http,
            quic,
            default,
        }
    }
}

impl Away {
    fn read(document: &mut Document<'_>) -> Self {
        let default = Self::default();
        let mut away = document.section("away");
        let mut text = |key: &str, default: String| {
            let rule = format!("a line or two of text, at most {MAX_AWAY} bytes");
            let read = away.text(key, Some(&format!("{default:?}")), &rule, |text| match text.len() {
                ..=MAX_AWAY => Ok(text.to_owned()),
                _ => Err(String::new()),
            });
            read.unwrap_or(default)
        };
        Self {
            reconnecting: text("reconnecting", default.reconnecting),
            starting: text("starting", default.starting),
            asleep: text("asleep", default.asleep),
            down: text("down", default.down),
            offline: text("offline", default.offline),
            unknown: text("unknown", default.unknown),
            version: text("version", default.version),
            icon: away.path("icon"),
        }
    }
}

impl Links {
    fn read(document: &mut Document<'_>) -> Self {
        const SECS: fn(u64) -> Duration = Duration::from_secs;
        let default = Self::default();
        let mut links = document.section("links");
        Self {
            resume_window: links.duration("resume_window", default.resume_window, Duration::ZERO..=SECS(600)),
            max_links: links.count("max_links", default.max_links, 1..=65_535),
            max_tunnels_per_host: links.count("max_tunnels_per_host", default.max_tunnels_per_host, 1..=255),
            handshake_timeout: links.duration(
                "handshake_timeout",
                default.handshake_timeout,
                Duration::from_millis(500)..=SECS(60),
            ),
            transport: link::read(&mut links),
        }
    }
}

impl Certificate {
    fn read(document: &mut Document<'_>) -> Self {
        let mut certificate = document.section("certificate");
        let files = match (certificate.path("cert"), certificate.path("key")) {
            (Some(cert), Some(key)) => Some(CertificateFiles { cert, key }),
            _ => None,
        };
        for (one, other) in [("cert", "key"), ("key", "cert")] {
            if certificate.has(one) && !certificate.has(other) {
                let text = format!(
                    "`certificate.{one}` needs `certificate.{other}` beside it, or leave both out for the relay's own"
                );
                certificate.mistake(one, &text);
            }
        }
        let default = if certificate.has("cert") {
            Verify::Name
        } else {
            Verify::Pin
        };
        let verify = certificate.word("verify", default, &Verify::ALL, Verify::as_str);
        if verify == Verify::Name && !certificate.has("cert") {
            let text = "`certificate.verify = \"name\"` needs `certificate.cert` and `certificate.key`: no authority knows the certificate that a \
                        relay makes for itself, so agents can only pin it";
            certificate.mistake("verify", text);
        }
        Self { files, verify }
    }
}

/// So many at once, so many of them unanswered, and so many new ones a second; two seconds' worth of them may come at once.
const fn bounds(players: u32, half_open: u32, rate: u32) -> Bounds {
    Bounds {
        players,
        half_open,
        rate,
        burst: rate.saturating_mul(2),
    }
}

fn admin(document: &mut Document<'_>, default: Option<SocketAddr>) -> Option<SocketAddr> {
    let mut admin = document.section("admin");
    let rule = "an address and a port such as \"127.0.0.1:7844\"";
    let listen = admin
        .text("listen", Some("\"127.0.0.1:7844\""), rule, plain::<SocketAddr>)
        .or(default);
    listen.filter(|_| admin.flag("enabled", true))
}

fn plain<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.trim().parse().map_err(|_| String::new())
}

/// Reads a public host: a name or an address, with or without brackets, without port.
///
/// # Errors
/// A sentence with what is allowed.
pub fn parse_public_host(text: &str) -> Result<String, String> {
    public_host(text).map_err(|_| {
        format!("`{text}` is no host name or address: write for example relay.example.org or 203.0.113.5, without port")
    })
}

fn public_host(text: &str) -> Result<String, String> {
    let text = text.trim();
    let host = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(text);
    if is_host(host) {
        Ok(host.to_ascii_lowercase())
    } else {
        Err(String::new())
    }
}

#[cfg(test)]
mod tests;
