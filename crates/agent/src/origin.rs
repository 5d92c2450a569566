//! One game server: dialling it, and saying once that it is down and once that it is back.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use spawnpoint_config::tunnel::Origin as Address;
use spawnpoint_ops::{Event, Events};
use spawnpoint_proto::{ResetCode, TunnelName};
use tokio::net::{TcpStream, UdpSocket};

/// A game server as the configuration names it. There is no other way to an address here than this one.
#[derive(Debug)]
pub(crate) struct Origin {
    tunnel: TunnelName,
    address: Address,
    timeout: Duration,
    is_down: AtomicBool,
    events: Events,
}

impl Origin {
    pub fn new(tunnel: TunnelName, address: Address, timeout: Duration, events: Events) -> Self {
        Self {
            tunnel,
            address,
            timeout,
            is_down: AtomicBool::new(false),
            events,
        }
    }

    /// Connects to the server; its name is resolved afresh.
    ///
    /// # Errors
    /// What the player's stream is reset with. Every player tries again.
    pub async fn connect(&self) -> Result<TcpStream, ResetCode> {
        let connect = TcpStream::connect((self.address.host.as_str(), self.address.port));
        let error = match tokio::time::timeout(self.timeout, connect).await {
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

    /// Opens a socket that speaks with the server and hears nobody else.
    ///
    /// # Errors
    /// When the name cannot be resolved or the machine gives no socket.
    pub async fn open_udp(&self) -> io::Result<UdpSocket> {
        let open = async {
            let mut found = tokio::net::lookup_host((self.address.host.as_str(), self.address.port)).await?;
            let server = found.next().ok_or(io::ErrorKind::NotFound)?;
            let any: SocketAddr = if server.is_ipv4() {
                ([0, 0, 0, 0], 0).into()
            } else {
                ([0u16; 8], 0).into()
            };
            let socket = UdpSocket::bind(any).await?;
            socket.connect(server).await?;
            // The runtime learns only from its first event that a new socket can send; until then it would refuse, and lose the player's first packet.
            socket.writable().await?;
            Ok(socket)
        };
        let opened = tokio::time::timeout(self.timeout, open)
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        opened.inspect_err(|error| self.is_down(error))
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
