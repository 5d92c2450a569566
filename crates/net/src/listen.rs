//! Opening sockets: both address families where the machine has them, and errors that name the address.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Once;

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that may wait for our accept loop; the kernel caps it at its own limit.
const BACKLOG: i32 = 1024;

/// Bytes that the kernel should hold for a UDP socket, each way: about 20 ms of a gigabit.
const UDP_BUFFER: usize = 2 * 1024 * 1024;

/// A socket could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("failed to bind {protocol} {address}")]
pub struct BindError {
    /// `tcp` or `udp`.
    pub protocol: &'static str,
    /// The address.
    pub address: SocketAddr,
    /// Why.
    #[source]
    pub source: io::Error,
}

impl BindError {
    pub(crate) const fn new(protocol: &'static str, address: SocketAddr, source: io::Error) -> Self {
        Self {
            protocol,
            address,
            source,
        }
    }

    /// Whether another program has the address.
    pub fn is_taken(&self) -> bool {
        self.source.kind() == io::ErrorKind::AddrInUse
    }
}

/// Opens a TCP listener; `[::]` listens for IPv4 too, and falls back to it on machines without IPv6.
///
/// # Errors
/// [`BindError`].
pub fn bind_tcp(address: SocketAddr) -> Result<tokio::net::TcpListener, BindError> {
    let open = |address: SocketAddr| -> io::Result<tokio::net::TcpListener> {
        let socket = open(address, Type::STREAM, Protocol::TCP)?;
        // A restarted relay must not wait for the last connections of its predecessor. On Windows the option means something else.
        #[cfg(unix)]
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        tokio::net::TcpListener::from_std(socket.into())
    };
    with_fallback(address, open).map_err(|source| BindError::new("tcp", address, source))
}

/// Opens a UDP socket; `[::]` receives IPv4 too, and falls back to it on machines without IPv6.
///
/// # Errors
/// [`BindError`].
pub fn bind_udp(address: SocketAddr) -> Result<std::net::UdpSocket, BindError> {
    let open = |address: SocketAddr| -> io::Result<std::net::UdpSocket> {
        let socket = open(address, Type::DGRAM, Protocol::UDP)?;
        // The kernel gives what it may; less is slower under bursts, never wrong.
        let _ = socket.set_recv_buffer_size(UDP_BUFFER);
        let _ = socket.set_send_buffer_size(UDP_BUFFER);
        tell_once_if_small(&socket);
        socket.bind(&address.into())?;
        Ok(socket.into())
    };
    with_fallback(address, open).map_err(|source| BindError::new("udp", address, source))
}

/// Whether a host name or address leads to this machine alone.
pub fn is_local_name(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

/// An address as people know it: IPv4 that came through an IPv6 socket is IPv4.
pub fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Says once a process that bursts may be lost in the kernel, with the remedy.
fn tell_once_if_small(socket: &Socket) {
    static TOLD: Once = Once::new();
    // Linux counts its own bookkeeping and so reports twice what it gives.
    let given = socket.recv_buffer_size().unwrap_or(UDP_BUFFER) / if cfg!(target_os = "linux") { 2 } else { 1 };
    if given < UDP_BUFFER {
        TOLD.call_once(|| {
            tracing::info!(
                given_kib = given / 1024,
                asked_kib = UDP_BUFFER / 1024,
                "the kernel gives UDP sockets little room, so bursts may lose packets; as root, sysctl -w net.core.rmem_max=4194304 net.core.wmem_max=4194304 gives more"
            );
        });
    }
}

fn open(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn with_fallback<T>(address: SocketAddr, open: impl Fn(SocketAddr) -> io::Result<T>) -> io::Result<T> {
    match open(address) {
        Err(error)
            if address.ip().is_unspecified() && address.is_ipv6() && error.kind() != io::ErrorKind::AddrInUse =>
        {
            open(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port()))
        }
        result => result,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn a_taken_port_is_named_with_its_cause() {
        let first = bind_tcp("127.0.0.1:0".parse().unwrap()).unwrap();
        let error = bind_tcp(first.local_addr().unwrap()).unwrap_err();
        assert!(error.is_taken());
        assert_eq!(
            error.to_string(),
            format!("failed to bind tcp {}", first.local_addr().unwrap())
        );
    }

    #[tokio::test]
    async fn the_unspecified_address_takes_both_families() {
        let socket = bind_udp("[::]:0".parse().unwrap()).unwrap();
        let port = socket.local_addr().unwrap().port();
        let client = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        client.send_to(b"x", ("127.0.0.1", port)).unwrap();
        socket.set_nonblocking(false).unwrap();
        socket
            .set_read_timeout(Some(std::time::Duration::from_secs(5)))
            .unwrap();
        assert_eq!(socket.recv(&mut [0; 8]).unwrap(), 1);
    }
}
