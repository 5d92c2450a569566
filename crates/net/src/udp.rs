//! A public UDP socket: packets in batches, replies from the address that the player spoke to.
//!
//! Whoever reads it can leave it alone for a moment so that packets, however many, wake nobody: under a flood it is being woken for each that costs the most.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// Room for the largest packet, or for many small ones that the kernel hands over as one.
const BUFFER: usize = 64 * 1024;

/// A UDP socket that receives many packets at a time.
#[derive(Debug)]
pub struct PacketSocket {
    socket: std::net::UdpSocket,
    state: UdpSocketState,
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
        // To read and to send is never to wait.
        socket.set_nonblocking(true)?;
        Ok(Self { socket, state, is_ipv6 })
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
        let destination = match player {
            SocketAddr::V4(v4) if self.is_ipv6 => SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port()),
            other => other,
        };
        let transmit = Transmit {
            destination,
            ecn: None,
            contents: packet,
            segment_size: None,
            src_ip: local,
        };
        self.state.try_send(UdpSockRef::from(&self.socket), &transmit)
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
