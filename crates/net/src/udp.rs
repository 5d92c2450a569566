//! UDP in batches: a public socket that many players speak to, which answers from the address they spoke to, and what leaves in one call on any socket.
//!
//! Whoever reads a public socket can leave it alone for a moment so that packets, however many, wake nobody: under a flood it is being woken for each that costs the most.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use crate::burst::Packets;

/// Room for the largest packet, or for many small ones that the kernel hands over as one.
const BUFFER: usize = 64 * 1024;

/// A UDP socket that receives many packets at a time.
#[derive(Debug)]
pub struct PacketSocket {
    socket: std::net::UdpSocket,
    state: UdpSocketState,
    /// Packets in a row that the kernel takes. That one network does not take them says nothing of the others.
    most: usize,
    is_ipv6: bool,
}

/// The one who reads a socket, and the memory for it. Untouched pages cost nothing.
pub struct PacketReader {
    socket: Arc<PacketSocket>,
    /// The socket as the runtime watches it, by a descriptor of its own; while it rests, only that.
    watched: Option<UdpSocket>,
    resting: Option<std::net::UdpSocket>,
    memory: Vec<u8>,
    metas: [RecvMeta; BATCH_SIZE],
}

impl PacketSocket {
    /// Takes an open socket over.
    ///
    /// # Errors
    /// When the runtime or the kernel refuses it.
    pub fn new(socket: std::net::UdpSocket) -> io::Result<Self> {
        let is_ipv6 = socket.local_addr()?.is_ipv6();
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        let most = state.max_gso_segments();
        let_fragment(&socket);
        // To read and to send is never to wait.
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket,
            state,
            most,
            is_ipv6,
        })
    }

    /// A reader of the socket; there is one at a time.
    pub fn reader(self: &Arc<Self>) -> PacketReader {
        PacketReader {
            socket: self.clone(),
            watched: None,
            resting: None,
            memory: vec![0; BUFFER * BATCH_SIZE],
            metas: [RecvMeta::default(); BATCH_SIZE],
        }
    }

    /// The address that the socket is bound to.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Sends one packet to `player`, from `local` where the machine has several addresses; never waits.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when the kernel's buffer is full, and what else the kernel says.
    pub fn try_send(&self, player: SocketAddr, local: Option<IpAddr>, packet: &[u8]) -> io::Result<()> {
        self.transmit(player, local, packet, None)
    }

    /// Sends packets in a row to `player`, as [`PacketSocket::try_send`] does; those that the kernel does not take are lost.
    pub fn try_send_all(&self, player: SocketAddr, local: Option<IpAddr>, packets: Packets<'_>) -> Sent {
        if 1 < packets.count && packets.count <= self.most {
            match self.transmit(player, local, packets.contents, Some(packets.size)) {
                Ok(()) => return Sent::all(packets),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Sent::none(packets),
                // Not every network takes them together.
                Err(_) => {}
            }
        }
        Sent::each(packets, |packet| self.transmit(player, local, packet, None))
    }

    fn transmit(
        &self,
        player: SocketAddr,
        local: Option<IpAddr>,
        contents: &[u8],
        segment_size: Option<usize>,
    ) -> io::Result<()> {
        let destination = match player {
            SocketAddr::V4(v4) if self.is_ipv6 => SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port()),
            other => other,
        };
        let transmit = Transmit {
            destination,
            ecn: None,
            contents,
            segment_size,
            src_ip: local,
        };
        self.state.try_send(UdpSockRef::from(&self.socket), &transmit)
    }
}

/// What became of packets in a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sent {
    /// Bytes that left.
    pub bytes: usize,
    /// Packets that did not.
    pub lost: usize,
}

impl Sent {
    const fn all(packets: Packets<'_>) -> Self {
        Self {
            bytes: packets.contents.len(),
            lost: 0,
        }
    }

    const fn none(packets: Packets<'_>) -> Self {
        Self {
            bytes: 0,
            lost: packets.count,
        }
    }

    /// Sends each by itself.
    fn each(packets: Packets<'_>, send: impl Fn(&[u8]) -> io::Result<()>) -> Self {
        packets.each().fold(Self::default(), |sent, packet| match send(packet) {
            Ok(()) => Self {
                bytes: sent.bytes + packet.len(),
                ..sent
            },
            Err(_) => Self {
                lost: sent.lost + 1,
                ..sent
            },
        })
    }
}

/// Sends packets in a row in one call on connected sockets, where the kernel can: so many at once.
#[derive(Debug)]
pub struct Segmenter(Option<(UdpSocketState, usize)>);

impl Segmenter {
    /// What this machine's kernel can.
    pub fn new() -> Self {
        // It is about the kernel, and needs a socket only to ask. Elsewhere a connected socket takes no address with a packet.
        let ask = || -> io::Result<(UdpSocketState, usize)> {
            let socket = std::net::UdpSocket::bind((std::net::Ipv4Addr::LOCALHOST, 0))?;
            let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
            let most = state.max_gso_segments();
            Ok((state, most))
        };
        Self(ask().ok().filter(|_| cfg!(target_os = "linux")))
    }

    /// Whether it is worth trying.
    pub fn takes(&self, packets: Packets<'_>) -> bool {
        let most = self.0.as_ref().map_or(1, |(_, most)| *most);
        1 < packets.count && packets.count <= most
    }

    /// Sends packets in a row to `server`, to which `socket` is connected: all of them, or none.
    ///
    /// # Errors
    /// What the kernel says, which may be about an earlier packet, or that this network does not take them together.
    pub fn try_send(&self, socket: &UdpSocket, server: SocketAddr, packets: Packets<'_>) -> io::Result<()> {
        let (state, _) = self.0.as_ref().ok_or(io::ErrorKind::Unsupported)?;
        let transmit = Transmit {
            destination: server,
            ecn: None,
            contents: packets.contents,
            segment_size: Some(packets.size),
            src_ip: None,
        };
        socket.try_io(Interest::WRITABLE, || {
            state.try_send(UdpSockRef::from(socket), &transmit)
        })
    }
}

impl Default for Segmenter {
    fn default() -> Self {
        Self::new()
    }
}

impl PacketReader {
    /// Waits for packets and hands each to `take` with its sender and the local address it came to. Cancel-safe.
    ///
    /// # Errors
    /// Errors of the socket itself, and that there is no descriptor to watch it by; those that earlier packets caused are passed over.
    pub async fn receive(&mut self, mut take: impl FnMut(SocketAddr, Option<IpAddr>, &[u8])) -> io::Result<()> {
        let Self {
            socket,
            watched,
            resting,
            memory,
            metas,
        } = self;
        let watched = match watched {
            Some(watched) => watched,
            None => {
                let rested = resting.take().map_or_else(|| socket.socket.try_clone(), Ok)?;
                watched.insert(UdpSocket::from_std(rested)?)
            }
        };
        let count = loop {
            watched.readable().await?;
            let mut slices = memory.chunks_exact_mut(BUFFER).map(IoSliceMut::new);
            let mut slices: [IoSliceMut<'_>; BATCH_SIZE] =
                std::array::from_fn(|_| slices.next().unwrap_or_else(|| IoSliceMut::new(&mut [])));
            let receive = || socket.state.recv(UdpSockRef::from(&*watched), &mut slices, metas);
            match watched.try_io(Interest::READABLE, receive) {
                Ok(count) => break count,
                Err(error) if is_transient(&error) => {}
                Err(error) => return Err(error),
            }
        };
        for (meta, memory) in metas[..count].iter().zip(memory.chunks_exact(BUFFER)) {
            let sender = crate::canonical(meta.addr);
            if sender.port() == 0 {
                // Nobody can be answered there, so nobody is there.
                continue;
            }
            if meta.len == 0 {
                take(sender, meta.dst_ip, &[]);
            }
            for packet in memory[..meta.len].chunks(meta.stride.max(1)) {
                take(sender, meta.dst_ip, packet);
            }
        }
        Ok(())
    }

    /// Leaves the socket alone for so long: packets wait in the kernel, as far as they have room there, and wake nobody.
    pub async fn rest(&mut self, pause: Duration) {
        self.resting = self.watched.take().and_then(|watched| watched.into_std().ok());
        tokio::time::sleep(pause).await;
    }
}

#[cfg(unix)]
impl std::os::fd::AsFd for PacketSocket {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Packets that a path does not take whole are cut up, as they are for any other game server. QUIC, for which the socket was set up, forbids it. A kernel that
/// does not know an option has not been told to forbid anything either.
#[cfg(target_os = "linux")]
fn let_fragment(socket: &std::net::UdpSocket) {
    use nix::sys::socket::{setsockopt, sockopt::Ipv6DontFrag};
    use rustix::net::sockopt;

    let _ = sockopt::set_ip_mtu_discover(socket, sockopt::Ipv4PathMtuDiscovery::WANT);
    let _ = sockopt::set_ipv6_mtu_discover(socket, sockopt::Ipv6PathMtuDiscovery::WANT);
    let _ = setsockopt(socket, Ipv6DontFrag, &false);
}

#[cfg(not(target_os = "linux"))]
const fn let_fragment(_: &std::net::UdpSocket) {}

/// Errors that a peer's machine caused by what it answered to an earlier packet.
fn is_transient(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::WouldBlock
            | Kind::Interrupted
            | Kind::ConnectionReset
            | Kind::ConnectionRefused
            | Kind::HostUnreachable
            | Kind::NetworkUnreachable
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn packets_of_every_size_come_and_go_whole() {
        let ours = Arc::new(PacketSocket::new(crate::bind_udp("[::]:0".parse().unwrap()).unwrap()).unwrap());
        let port = ours.local_addr().unwrap().port();
        let player = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        player.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let sizes = [0, 1, 1200, 9000, 65_507];
        let (mut reader, mut seen) = (ours.reader(), Vec::new());
        for size in sizes {
            player.send_to(&vec![7; size], ("127.0.0.1", port)).unwrap();
            let receive = reader.receive(|from, local, packet| {
                assert_eq!(from, player.local_addr().unwrap());
                ours.try_send(from, local, packet).unwrap();
                seen.push(packet.len());
            });
            tokio::time::timeout(Duration::from_secs(5), receive)
                .await
                .unwrap()
                .unwrap();
            assert_eq!(player.recv(&mut vec![0; 65_535]).unwrap(), size);
        }
        assert_eq!(seen, sizes);
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn packets_that_a_path_does_not_take_whole_are_cut_up() {
        use nix::sys::socket::{getsockopt, sockopt::Ipv6DontFrag};
        use rustix::net::sockopt::{Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery, ip_mtu_discover, ipv6_mtu_discover};

        let socket = PacketSocket::new(crate::bind_udp("[::]:0".parse().unwrap()).unwrap()).unwrap();
        assert_eq!(ip_mtu_discover(&socket).unwrap(), Ipv4PathMtuDiscovery::WANT);
        if socket.is_ipv6 {
            assert_eq!(ipv6_mtu_discover(&socket).unwrap(), Ipv6PathMtuDiscovery::WANT);
            assert!(!getsockopt(&socket, Ipv6DontFrag).unwrap());
        }
    }

    #[tokio::test]
    async fn packets_in_a_row_arrive_one_by_one() {
        let ours = PacketSocket::new(crate::bind_udp("[::]:0".parse().unwrap()).unwrap()).unwrap();
        let player = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        player.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let address = player.local_addr().unwrap();
        let lengths = || [(); 4].map(|()| player.recv(&mut [0; 2048]).unwrap());
        let contents = [7; 3000];
        let packets = Packets {
            contents: &contents,
            size: 900,
            count: 4,
        };
        let sent = ours.try_send_all(address, None, packets);
        assert_eq!(sent, Sent { bytes: 3000, lost: 0 });
        assert_eq!(lengths(), [900, 900, 900, 300]);
        let connected = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        connected.connect(address).await.unwrap();
        connected.writable().await.unwrap();
        let segmenter = Segmenter::new();
        if segmenter.takes(packets) {
            segmenter.try_send(&connected, address, packets).unwrap();
            assert_eq!(lengths(), [900, 900, 900, 300]);
        }
    }

    #[tokio::test]
    async fn what_comes_while_the_reader_rests_is_there_when_it_is_back() {
        let ours = Arc::new(PacketSocket::new(crate::bind_udp("127.0.0.1:0".parse().unwrap()).unwrap()).unwrap());
        let player = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        player.connect(ours.local_addr().unwrap()).unwrap();
        let (mut reader, mut heard) = (ours.reader(), Vec::new());
        for round in 0..3u8 {
            player.send(&[round]).unwrap();
            let early = reader.receive(|_, _, packet| heard.push(packet[0]));
            tokio::time::timeout(Duration::from_secs(5), early)
                .await
                .unwrap()
                .unwrap();
            let rest = reader.rest(Duration::from_millis(5));
            player.send(&[round + 10]).unwrap();
            rest.await;
            let late = reader.receive(|_, _, packet| heard.push(packet[0]));
            tokio::time::timeout(Duration::from_secs(5), late)
                .await
                .unwrap()
                .unwrap();
        }
        assert_eq!(heard, [0, 10, 1, 11, 2, 12]);
    }
}
