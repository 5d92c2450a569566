//! One game server: dialling it from the right address, and saying once that it is down and once that it is back.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use spawnpoint_config::tunnel::{Origin as Address, RealIp};
use spawnpoint_core::loopback;
use spawnpoint_ops::{Event, Events};
use spawnpoint_proto::stream::Purpose;
use spawnpoint_proto::{ResetCode, TunnelName};
use spawnpoint_sniff::proxy::{self, Addresses, Transport};
use spawnpoint_sniff::raknet;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream, UdpSocket};

use crate::wake::{Awake, Sleeper};

/// The loopback addresses of all players of an agent; clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Sources(Arc<Mutex<loopback::Sources>>);

impl Sources {
    pub fn new(key: [u8; 32]) -> Self {
        Self(Arc::new(Mutex::new(loopback::Sources::new(key))))
    }

    fn of(&self, player: IpAddr) -> Ipv4Addr {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).of(player)
    }
}

/// A game server as the configuration names it. There is no other way to an address here than this one.
#[derive(Debug)]
pub(crate) struct Origin {
    tunnel: TunnelName,
    address: Address,
    timeout: Duration,
    real_ip: RealIp,
    sources: Sources,
    /// It is started when somebody joins.
    sleeper: Option<Arc<Sleeper>>,
    is_down: AtomicBool,
    /// It was said that players share an address although they should not.
    is_shared: AtomicBool,
    events: Events,
}

/// How a UDP player's true address is said to the server.
#[derive(Debug)]
pub(crate) enum Introduction {
    /// Not, or by the source address.
    None,
    /// Before the first packet's bytes.
    First(Bytes),
    /// Before every packet's bytes.
    Every(Bytes),
    /// In a packet before the first.
    Apart(Bytes),
}

impl Introduction {
    /// What is left of it for a player who has been introduced.
    pub fn again(self) -> Self {
        match self {
            Self::Every(header) => Self::Every(header),
            _ => Self::None,
        }
    }

    /// Whether it changes the next packet.
    pub const fn is_in_packet(&self) -> bool {
        matches!(self, Self::First(_) | Self::Every(_))
    }
}

impl Origin {
    pub fn new(
        tunnel: TunnelName,
        address: Address,
        timeout: Duration,
        real_ip: RealIp,
        sources: Sources,
        sleeper: Option<Arc<Sleeper>>,
        events: Events,
    ) -> Self {
        Self {
            tunnel,
            address,
            timeout,
            real_ip,
            sources,
            sleeper,
            is_down: AtomicBool::new(false),
            is_shared: AtomicBool::new(false),
            events,
        }
    }

    /// Connects to the server for `player`, who spoke to `local`, and starts it if it sleeps and they want to play.
    ///
    /// # Errors
    /// What the player's stream is reset with. Every player tries again.
    pub async fn connect(
        &self,
        player: SocketAddr,
        local: SocketAddr,
        purpose: Purpose,
    ) -> Result<TcpStream, ResetCode> {
        let (refused, sleeper) = match (self.try_connect(player, local).await, &self.sleeper) {
            (Ok(socket), sleeper) => {
                sleeper.iter().for_each(|sleeper| sleeper.is_up());
                return Ok(socket);
            }
            (Err(code), None) => return Err(code),
            (Err(code), Some(sleeper)) => (code, sleeper),
        };
        match (refused, purpose) {
            (ResetCode::OriginRefused | ResetCode::OriginTimeout | ResetCode::OriginUnreachable, Purpose::Play) => {
                sleeper.wake().await?;
                self.try_connect(player, local).await
            }
            _ => Err(sleeper.code()),
        }
    }

    /// Whether the server may sleep, and what would start it is only somebody's look at the server list.
    pub fn sleeps_through(&self, packet: &[u8]) -> bool {
        let may_sleep = self.sleeper.as_ref().is_some_and(|sleeper| !sleeper.is_known_up());
        may_sleep && raknet::is_offline(packet)
    }

    /// Why the server does not answer, when it is known not to.
    pub fn silence(&self) -> Option<ResetCode> {
        match self.sleeper.as_ref().filter(|sleeper| !sleeper.is_known_up()) {
            Some(sleeper) => Some(sleeper.code()),
            None => self.is_down.load(Ordering::Relaxed).then_some(ResetCode::OriginRefused),
        }
    }

    /// Keeps a server that sleeps when nobody is there awake for a player.
    pub fn enter(&self) -> Option<Awake> {
        self.sleeper.as_ref().map(Sleeper::enter)
    }

    /// Connects to the server once; its name is resolved afresh.
    async fn try_connect(&self, player: SocketAddr, local: SocketAddr) -> Result<TcpStream, ResetCode> {
        let dialled = tokio::time::timeout(self.timeout, self.dial(player, local)).await;
        let error = match dialled {
            Ok(Ok(socket)) => {
                self.is_up();
                // Fails only on a socket that is already reset, which the first read then tells.
                let _ = socket.set_nodelay(true);
                return Ok(socket);
            }
            Ok(Err(error)) => error,
            Err(_) => io::ErrorKind::TimedOut.into(),
        };
        self.is_down(&error);
        Err(match error.kind() {
            io::ErrorKind::ConnectionRefused => ResetCode::OriginRefused,
            io::ErrorKind::TimedOut => ResetCode::OriginTimeout,
            _ => ResetCode::OriginUnreachable,
        })
    }

    async fn dial(&self, player: SocketAddr, local: SocketAddr) -> io::Result<TcpStream> {
        let mut last = io::ErrorKind::NotFound.into();
        for server in self.resolve().await? {
            let connected = match self.source(server, player) {
                Some(source) => {
                    let socket = TcpSocket::new_v4()?;
                    match socket.bind(SocketAddr::new(source.into(), 0)) {
                        Ok(()) => socket.connect(server).await,
                        Err(error) => {
                            self.is_shared(&error);
                            TcpStream::connect(server).await
                        }
                    }
                }
                None => TcpStream::connect(server).await,
            };
            match connected {
                Ok(mut socket) => {
                    let addresses = Addresses {
                        source: player,
                        destination: local,
                    };
                    match self.real_ip {
                        RealIp::ProxyV1 => socket.write_all(&proxy::encode_v1(&addresses)).await?,
                        RealIp::ProxyV2 => {
                            let header = proxy::encode_v2(&addresses, Transport::Stream);
                            socket.write_all(&header).await?;
                        }
                        _ => {}
                    }
                    return Ok(socket);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Opens a socket that speaks with the server for `player`, and hears nobody else.
    ///
    /// # Errors
    /// When the name cannot be resolved or the machine gives no socket.
    pub async fn open_udp(&self, player: SocketAddr) -> io::Result<(UdpSocket, Introduction)> {
        if let Some(sleeper) = self.sleeper.as_ref().filter(|sleeper| !sleeper.is_known_up()) {
            // What the player sends meanwhile waits, and is sent again by the game when that was too long.
            sleeper.wake().await.map_err(|_| io::ErrorKind::ConnectionRefused)?;
        }
        let open = async {
            let mut found = self.resolve().await?.into_iter();
            let server = found.next().ok_or(io::ErrorKind::NotFound)?;
            let any: SocketAddr = if server.is_ipv4() {
                ([0, 0, 0, 0], 0).into()
            } else {
                ([0u16; 8], 0).into()
            };
            let socket = match self.source(server, player) {
                Some(source) => match UdpSocket::bind(SocketAddr::new(source.into(), 0)).await {
                    Ok(socket) => socket,
                    Err(error) => {
                        self.is_shared(&error);
                        UdpSocket::bind(any).await?
                    }
                },
                None => UdpSocket::bind(any).await?,
            };
            socket.connect(server).await?;
            // The runtime learns only from its first event that a new socket can send; until then it would refuse, and lose the player's first packet.
            socket.writable().await?;
            Ok((socket, self.introduction(player, server)))
        };
        let opened = tokio::time::timeout(self.timeout, open)
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        opened.inspect_err(|error| self.is_down(error))
    }

    /// How the server is told who `player` is.
    pub fn introduction(&self, player: SocketAddr, server: SocketAddr) -> Introduction {
        let header = || {
            let addresses = Addresses {
                source: player,
                destination: server,
            };
            proxy::encode_v2(&addresses, Transport::Datagram)
        };
        match self.real_ip {
            RealIp::Off | RealIp::Loopback | RealIp::ProxyV1 => Introduction::None,
            RealIp::ProxyV2 => Introduction::First(header()),
            RealIp::ProxyV2Every => Introduction::Every(header()),
            RealIp::ProxyV2Apart => Introduction::Apart(header()),
        }
    }

    async fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        let found = tokio::net::lookup_host((self.address.host.as_str(), self.address.port)).await?;
        let mut found: Vec<SocketAddr> = found.collect();
        if self.real_ip == RealIp::Loopback {
            // Only IPv4 has addresses to spare.
            found.sort_by_key(|server| !is_loopback_v4(server));
        }
        Ok(found)
    }

    /// The address of the player's own from which `server` is dialled.
    fn source(&self, server: SocketAddr, player: SocketAddr) -> Option<Ipv4Addr> {
        let is_own = self.real_ip == RealIp::Loopback && is_loopback_v4(&server);
        is_own.then(|| self.sources.of(player.ip()))
    }

    /// This machine does not give players addresses of their own.
    fn is_shared(&self, error: &io::Error) {
        if !self.is_shared.swap(true, Ordering::Relaxed) {
            tracing::warn!(tunnel = %self.tunnel, %error, "the game server sees all players at one address: this machine gives them none of their own in 127.0.0.0/8");
        }
    }

    /// The server has answered.
    pub fn is_up(&self) {
        if self.is_down.load(Ordering::Relaxed) && self.is_down.swap(false, Ordering::Relaxed) {
            tracing::info!(tunnel = %self.tunnel, origin = %self.address, "the game server takes players again");
            let (tunnel, origin) = (self.tunnel.to_string(), self.address.to_string());
            self.events.emit(Event::OriginUp { tunnel, origin });
        }
    }

    /// The server does not take players; said once until it does again.
    pub fn is_down(&self, error: &io::Error) {
        self.sleeper.iter().for_each(|sleeper| sleeper.is_silent());
        if !self.is_down.swap(true, Ordering::Relaxed) {
            tracing::warn!(tunnel = %self.tunnel, origin = %self.address, %error, "the game server does not take players: is it running?");
            let (tunnel, origin) = (self.tunnel.to_string(), self.address.to_string());
            self.events.emit(Event::OriginDown {
                tunnel,
                origin,
                reason: error.to_string(),
            });
        }
    }
}

fn is_loopback_v4(address: &SocketAddr) -> bool {
    matches!(address.ip(), IpAddr::V4(ip) if ip.is_loopback())
}
