//! `[audit]`: what is written down, and where.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::document::Document;

/// What is written down of what happens, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AuditLog {
    /// Whether anything is.
    pub enabled: bool,
    /// The file; `audit.jsonl` in the data directory when absent.
    pub file: Option<PathBuf>,
    /// After this many bytes a new file is begun; each day one is, too.
    pub max_size: u32,
    /// How many older files are kept.
    pub keep: u32,
    /// Players' sessions are written down as well.
    pub sessions: bool,
    /// Addresses in files are whole for this long, and then shortened to their networks.
    pub addresses: Duration,
    /// A syslog collector that gets every line.
    pub syslog: Option<Collector>,
    /// Who vouches for its certificate.
    pub syslog_ca: Option<PathBuf>,
    /// Whether journald gets every line.
    pub journald: bool,
}

impl Default for AuditLog {
    fn default() -> Self {
        Self {
            enabled: true,
            file: None,
            max_size: 16 << 20,
            keep: 30,
            sessions: false,
            addresses: Duration::from_secs(14 * 24 * 3_600),
            syslog: None,
            syslog_ca: None,
            journald: false,
        }
    }
}

impl AuditLog {
    pub(crate) fn read(document: &mut Document<'_>) -> Self {
        let default = Self::default();
        let mut audit = document.section("audit");
        let read = Self {
            enabled: audit.flag("enabled", default.enabled),
            file: audit.path("file"),
            max_size: audit.size("max_size", default.max_size, 64 << 10..=1 << 30),
            keep: audit.count("keep", default.keep, 0..=10_000),
            sessions: audit.flag("sessions", default.sessions),
            addresses: audit.duration(
                "addresses",
                default.addresses,
                Duration::ZERO..=Duration::from_secs(3_650 * 24 * 3_600),
            ),
            syslog: audit.text(
                "syslog",
                None,
                "udp://HOST:PORT, tcp://HOST:PORT or tls://HOST:PORT",
                str::parse,
            ),
            syslog_ca: audit.path("syslog_ca"),
            journald: audit.flag("journald", default.journald),
        };
        if read.syslog_ca.is_some() && read.syslog.as_ref().is_none_or(|syslog| syslog.way != Way::Tls) {
            audit.mistake(
                "syslog_ca",
                "`audit.syslog_ca` needs `audit.syslog = \"tls://HOST:PORT\"`",
            );
        }
        read
    }
}

/// How a collector is spoken to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// RFC 5426.
    Udp,
    /// RFC 6587, with octet counting.
    Tcp,
    /// RFC 5425.
    Tls,
}

/// A syslog collector.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Collector {
    /// How it is spoken to.
    pub way: Way,
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
}

impl FromStr for Collector {
    type Err = String;

    /// Reads `udp://HOST:PORT`, `tcp://HOST:PORT` or `tls://HOST:PORT`; the port may be left out.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no collector: write udp://HOST:PORT, tcp://HOST:PORT or tls://HOST:PORT");
        let (way, rest) = text.split_once("://").ok_or_else(wrong)?;
        let (way, usual) = match way {
            "udp" => (Way::Udp, 514),
            "tcp" => (Way::Tcp, 601),
            "tls" => (Way::Tls, 6514),
            _ => return Err(wrong()),
        };
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
                (host, port.parse().map_err(|_| wrong())?)
            }
            _ => (rest, usual),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() || host.contains('/') {
            return Err(wrong());
        }
        Ok(Self {
            way,
            host: host.to_owned(),
            port,
        })
    }
}

impl fmt::Display for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let way = match self.way {
            Way::Udp => "udp",
            Way::Tcp => "tcp",
            Way::Tls => "tls",
        };
        write!(f, "{way}://{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_collector_is_read_as_people_write_it() {
        for (text, shown) in [
            ("udp://logs.example.org", "udp://logs.example.org:514"),
            ("tcp://10.0.0.1:5140", "tcp://10.0.0.1:5140"),
            ("tls://logs.example.org", "tls://logs.example.org:6514"),
            ("tcp://[2001:db8::1]:601", "tcp://2001:db8::1:601"),
        ] {
            assert_eq!(text.parse::<Collector>().unwrap().to_string(), shown);
        }
        for wrong in ["logs.example.org", "http://x", "udp://", "tcp://x:y", "tcp://x/y"] {
            assert!(wrong.parse::<Collector>().is_err(), "{wrong}");
        }
    }
}
