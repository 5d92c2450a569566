//! Syslog by RFC 5424: over UDP (RFC 5426), over TCP with octet counting (RFC 6587) and over TLS (RFC 5425).
//!
//! The message is the JSON object; the event's name is the MSGID, so that collectors can sort without looking into it.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::{AuditError, Destination, Line, stamp};

/// How long a collector may take for anything.
const DEADLINE: Duration = Duration::from_secs(5);

/// How long a collector that is away is left alone.
const PAUSE: Duration = Duration::from_secs(1);

/// Lines that are kept for a collector that is away; the oldest go.
const KEPT: usize = 10_000;

/// Security and authorization messages.
const FACILITY: u8 = 10;

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
    /// The certificate authority that vouches for it, PEM; those of the machine when absent.
    pub authority: Option<PathBuf>,
}

/// A connection to it.
enum Connection {
    Udp(UdpSocket),
    Tcp(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// A collector as it is reached.
pub(super) struct Syslog {
    collector: Collector,
    tls: Option<Arc<ClientConfig>>,
    host_name: String,
    connection: Option<Connection>,
    waiting: VecDeque<String>,
    failed: Option<Instant>,
}

impl Syslog {
    pub fn new(collector: &Collector) -> Result<Self, AuditError> {
        let tls = match collector.way {
            Way::Tls => Some(tls(collector.authority.as_deref())?),
            Way::Udp | Way::Tcp => None,
        };
        Ok(Self {
            collector: collector.clone(),
            tls,
            host_name: host_name(),
            connection: None,
            waiting: VecDeque::new(),
            failed: None,
        })
    }

    fn send(&mut self) -> io::Result<()> {
        while let Some(message) = self.waiting.front() {
            let connection = match &mut self.connection {
                Some(connection) => connection,
                None => self.connection.insert(connect(&self.collector, self.tls.as_ref())?),
            };
            let framed = || format!("{} {message}", message.len());
            match connection {
                Connection::Udp(socket) => socket.send(message.as_bytes()).map(drop)?,
                Connection::Tcp(socket) => socket.write_all(framed().as_bytes())?,
                Connection::Tls(stream) => {
                    stream.write_all(framed().as_bytes())?;
                    stream.flush()?;
                }
            }
            self.waiting.pop_front();
        }
        Ok(())
    }

    /// Sends what waits, unless the collector was away just now.
    fn try_send(&mut self) {
        if self.failed.is_some_and(|failed| failed.elapsed() < PAUSE) {
            return;
        }
        match self.send() {
            Ok(()) => self.failed = None,
            Err(error) => {
                if self.failed.is_none() {
                    tracing::warn!(collector = self.collector.host, %error, "the audit log's collector is away, its lines wait");
                }
                (self.connection, self.failed) = (None, Some(Instant::now()));
            }
        }
    }
}

impl Destination for Syslog {
    /// Sends a line, after those that wait. An error says that one was given up.
    fn write(&mut self, line: &Line) -> io::Result<()> {
        let mut lost = None;
        if self.waiting.len() >= KEPT {
            self.waiting.pop_front();
            lost = Some(io::Error::other(format!(
                "the collector {} is away",
                self.collector.host
            )));
        }
        self.waiting.push_back(message(line, &self.host_name));
        self.try_send();
        lost.map_or(Ok(()), Err)
    }

    fn idle(&mut self) {
        if !self.waiting.is_empty() {
            self.try_send();
        }
    }

    fn finish(&mut self) -> usize {
        self.idle();
        self.waiting.len()
    }
}

/// `<PRI>1 TIME HOST APP PID MSGID - MESSAGE`.
fn message(line: &Line, host_name: &str) -> String {
    let severity = if line.is_warning { 4 } else { 6 };
    let name: String = line.name.chars().filter(char::is_ascii_graphic).take(32).collect();
    let name = if name.is_empty() { "-" } else { &name };
    format!(
        "<{}>1 {} {host_name} spawnpoint {} {name} - {}",
        FACILITY * 8 + severity,
        stamp(line.time),
        std::process::id(),
        line.json
    )
}

fn host_name() -> String {
    let name =
        std::fs::read_to_string("/proc/sys/kernel/hostname").or_else(|_| std::fs::read_to_string("/etc/hostname"));
    let name: String = name
        .unwrap_or_default()
        .trim()
        .chars()
        .filter(char::is_ascii_graphic)
        .take(255)
        .collect();
    if name.is_empty() { "-".to_owned() } else { name }
}

fn connect(collector: &Collector, tls: Option<&Arc<ClientConfig>>) -> io::Result<Connection> {
    let mut last = io::Error::other("the name has no address");
    for address in (collector.host.as_str(), collector.port).to_socket_addrs()? {
        match connect_to(address, collector, tls) {
            Ok(connection) => return Ok(connection),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn connect_to(address: SocketAddr, collector: &Collector, tls: Option<&Arc<ClientConfig>>) -> io::Result<Connection> {
    if collector.way == Way::Udp {
        let any: std::net::IpAddr = if address.is_ipv4() {
            std::net::Ipv4Addr::UNSPECIFIED.into()
        } else {
            std::net::Ipv6Addr::UNSPECIFIED.into()
        };
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect(address)?;
        return Ok(Connection::Udp(socket));
    }
    let socket = TcpStream::connect_timeout(&address, DEADLINE)?;
    socket.set_write_timeout(Some(DEADLINE))?;
    socket.set_read_timeout(Some(DEADLINE))?;
    let Some(tls) = tls else {
        return Ok(Connection::Tcp(socket));
    };
    let name = ServerName::try_from(collector.host.clone()).map_err(io::Error::other)?;
    let client = ClientConnection::new(tls.clone(), name).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(client, socket);
    stream.conn.complete_io(&mut stream.sock)?;
    Ok(Connection::Tls(Box::new(stream)))
}

fn tls(authority: Option<&Path>) -> Result<Arc<ClientConfig>, AuditError> {
    let mut roots = RootCertStore::empty();
    match authority {
        Some(path) => {
            let fail = |why: String| AuditError::Authority {
                path: path.to_owned(),
                why,
            };
            let certificates = CertificateDer::pem_file_iter(path).map_err(|error| fail(error.to_string()))?;
            for certificate in certificates {
                let certificate = certificate.map_err(|error| fail(error.to_string()))?;
                roots.add(certificate).map_err(|error| fail(error.to_string()))?;
            }
        }
        // Those that cannot be read vouch for nobody.
        None => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| AuditError::Authority {
            path: authority.unwrap_or(Path::new("-")).to_owned(),
            why: error.to_string(),
        })?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_message_is_what_rfc_5424_says() {
        let line = Line {
            name: "link_up".to_owned(),
            json: r#"{"event":"link_up"}"#.to_owned(),
            time: time::OffsetDateTime::UNIX_EPOCH,
            is_warning: false,
        };
        let message = message(&line, "relay1");
        let wanted = format!(
            r#"<86>1 1970-01-01T00:00:00.000Z relay1 spawnpoint {} link_up - {{"event":"link_up"}}"#,
            std::process::id()
        );
        assert_eq!(message, wanted);
    }

    #[test]
    fn what_a_collector_missed_comes_when_it_is_there() {
        use std::io::Read;
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let mut syslog = Syslog::new(&Collector {
            way: Way::Tcp,
            host: address.ip().to_string(),
            port: address.port(),
            authority: None,
        })
        .unwrap();
        let line = |number: u32| Line {
            name: "banned".to_owned(),
            json: format!("{{\"number\":{number}}}"),
            time: time::OffsetDateTime::UNIX_EPOCH,
            is_warning: true,
        };
        syslog.write(&line(1)).unwrap();
        let listener = std::net::TcpListener::bind(address).unwrap();
        // The collector that was away is left alone for a moment.
        syslog.failed = None;
        // It takes no further line for the first to be sent.
        syslog.idle();
        assert_eq!(syslog.waiting.len(), 0);
        syslog.write(&line(2)).unwrap();
        assert_eq!(syslog.finish(), 0);
        let (mut socket, _) = listener.accept().unwrap();
        drop(syslog);
        let mut text = String::new();
        socket.read_to_string(&mut text).unwrap();
        let (first, second) = (
            text.find("{\"number\":1}").unwrap(),
            text.find("{\"number\":2}").unwrap(),
        );
        assert!(first < second);
        let (length, rest) = text.split_once(' ').unwrap();
        assert!(
            rest[..length.parse::<usize>().unwrap()].ends_with("{\"number\":1}"),
            "{text}"
        );
    }
}
