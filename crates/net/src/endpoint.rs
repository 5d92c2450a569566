//! QUIC endpoints and the settings of their connections.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use quinn::congestion::{BbrConfig, CubicConfig};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AckFrequencyConfig, EndpointConfig, IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt};
use quinn::{AsyncUdpSocket, Connecting, ConnectionError, Incoming, Runtime, ServerConfig, UdpPoller};
use quinn_proto::HashedConnectionIdGenerator;
use spawnpoint_core::tuning::{Congestion, Tuning};
use spawnpoint_proto::frame::MAX_HELLO;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::congestion::PathControl;
use crate::listen::BindError;
use crate::mtu::{LARGEST, USUAL, largest_towards};

/// Datagrams that may wait inside QUIC; what waits longer waits in our own fair queues. Two dozen packets cover the pacing of a fast line.
const DATAGRAM_SEND_BUFFER: usize = 32 * 1024;

/// Received datagrams that may wait for our reader, which never waits for anything itself.
const DATAGRAM_RECEIVE_BUFFER: usize = 1024 * 1024;

/// Bytes on the way to one peer at once: 100 Mbit/s over 5 s, or the full windows of thirty bulk streams.
const MAX_UNACKNOWLEDGED: u64 = 64 * 1024 * 1024;

/// Bytes that an agent may send before it is known: a hello with its length.
const STRANGER_WINDOW: u32 = MAX_HELLO as u32 + 4;

/// Packets that the peer need not acknowledge at once, while there are more of them.
const PACKETS_UNACKNOWLEDGED: u32 = 4;

/// The peer acknowledges within this in any case: two milliseconds of a thin line's packets.
const MAX_ACK_DELAY: Duration = Duration::from_millis(3);

/// Streams that a relay may open to an agent at the same time, at first; each is one player.
///
/// QUIC here keeps a slot for each stream that may be open and fills all of them over time, some 550 bytes each, so the agent raises it when players come.
pub const FIRST_PLAYERS: u32 = 1024;

/// Connections whose handshake has not been looked at yet; beyond it QUIC refuses more.
const MAX_INCOMING: usize = 512;

/// Bytes that are kept of a connection whose handshake has not been looked at yet, and of all of them: a hello with a post-quantum key is two packets.
const INCOMING_BUFFER: u64 = 16 * 1024;
const INCOMING_BUFFERS: u64 = 2 * 1024 * 1024;

/// The settings of a relay's connections with packets of up to `largest` bytes: its agents may open their control stream, and say little until they are
/// welcomed.
///
/// Whoever welcomes an agent raises the connection's receive window to its maximum.
fn relay_settings(tuning: &Tuning, largest: u16) -> Arc<TransportConfig> {
    let mut config = settings(tuning, largest);
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(1))
        .receive_window(VarInt::from_u32(STRANGER_WINDOW));
    Arc::new(config)
}

/// The settings of an agent's connection with packets of up to `largest` bytes: its relay opens a stream for each player.
fn agent_settings(tuning: &Tuning, largest: u16) -> Arc<TransportConfig> {
    let mut config = settings(tuning, largest);
    config.max_concurrent_bidi_streams(VarInt::from_u32(FIRST_PLAYERS));
    Arc::new(config)
}

/// When a connection ends that nobody watches; on the others `Pulse` asks, and gives up, before.
fn longest_silence(tuning: &Tuning) -> IdleTimeout {
    let longest = tuning.quiet_keep_alive + 2 * tuning.idle_timeout;
    IdleTimeout::try_from(longest).unwrap_or_else(|_| IdleTimeout::from(VarInt::MAX))
}

fn settings(tuning: &Tuning, largest: u16) -> TransportConfig {
    let mut config = TransportConfig::default();
    let mut discovery = MtuDiscoveryConfig::default();
    discovery.upper_bound(largest);
    config
        .max_idle_timeout(Some(longest_silence(tuning)))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(tuning.stream_window))
        // A finite window over all streams lets a few stalled players stop everybody; memory is bounded by streams times their own window.
        .receive_window(VarInt::MAX)
        // Stalled players do not count here, since their bytes are acknowledged: it bounds what a peer that grants credit without end and acknowledges
        // nothing can make us hold.
        .send_window(MAX_UNACKNOWLEDGED)
        .datagram_send_buffer_size(DATAGRAM_SEND_BUFFER)
        .datagram_receive_buffer_size(Some(DATAGRAM_RECEIVE_BUFFER))
        // Looking soon saves fragments.
        .mtu_discovery_config(Some(discovery))
        // Home links are rarely further than this; the first retransmission of a handshake then comes after a third of the usual second.
        .initial_rtt(Duration::from_millis(111));
    // One for every few packets of a bulk load, and soon enough for a lone packet that its loss is noticed by the next ones.
    let mut acknowledgements = AckFrequencyConfig::default();
    acknowledgements
        .ack_eliciting_threshold(VarInt::from_u32(PACKETS_UNACKNOWLEDGED))
        .max_ack_delay(Some(MAX_ACK_DELAY));
    config.ack_frequency_config(Some(acknowledgements));
    match tuning.congestion {
        Congestion::Spawnpoint => config.congestion_controller_factory(Arc::new(PathControl)),
        Congestion::Bbr => config.congestion_controller_factory(Arc::new(BbrConfig::default())),
        Congestion::Cubic => config.congestion_controller_factory(Arc::new(CubicConfig::default())),
    };
    config
}

/// What a relay must keep over a restart so that agents notice it in one round trip.
#[derive(Clone, Copy)]
pub struct RelayKeys(pub [u8; 64]);

/// The relay's endpoint.
///
/// Its socket can be handed to a successor: it is silenced then, so that packets wait in the kernel for whoever listens next.
#[derive(Debug)]
pub struct RelayEndpoint {
    /// The endpoint.
    pub endpoint: quinn::Endpoint,
    acceptor: Acceptor,
    /// Another descriptor of the same socket.
    socket: std::net::UdpSocket,
    deafness: Arc<Deafness>,
    /// Cancelled when QUIC has let go of the socket.
    released: CancellationToken,
}

/// Begins connections of agents, each with the settings for the network it comes over.
#[derive(Clone, Debug)]
pub struct Acceptor {
    /// For those over networks that take larger packets than usual.
    spacious: Arc<ServerConfig>,
}

impl Acceptor {
    /// Goes on with the handshake of `incoming`.
    ///
    /// # Errors
    /// When its first packet is none of QUIC after all.
    pub fn accept(&self, incoming: Incoming) -> Result<Connecting, ConnectionError> {
        match largest_towards(incoming.remote_address()) {
            ..=USUAL => incoming.accept(),
            _ => incoming.accept_with(self.spacious.clone()),
        }
    }
}

/// Whether a socket is deaf, and who waits for it to hear again.
#[derive(Debug, Default)]
struct Deafness {
    is_deaf: AtomicBool,
    waiting: Mutex<Option<Waker>>,
}

impl RelayEndpoint {
    /// Opens the endpoint on an open socket; agents can come at once, unless `is_silent`.
    ///
    /// # Errors
    /// [`BindError`] naming the socket's address.
    pub fn open(
        socket: std::net::UdpSocket,
        tls: rustls::ServerConfig,
        tuning: &Tuning,
        keys: &RelayKeys,
        is_silent: bool,
    ) -> Result<Self, BindError> {
        let address = socket.local_addr().unwrap_or_else(|_| ([0, 0, 0, 0], 0).into());
        let failed = |error| BindError::new("udp", address, error);
        let crypto = QuicServerConfig::try_from(tls).map_err(|error| failed(io::Error::other(error)))?;
        let mut server = ServerConfig::with_crypto(Arc::new(crypto));
        server
            .transport_config(relay_settings(tuning, USUAL))
            .max_incoming(MAX_INCOMING)
            .incoming_buffer_size(INCOMING_BUFFER)
            .incoming_buffer_size_total(INCOMING_BUFFERS)
            .migration(true);
        let mut spacious = server.clone();
        spacious.transport_config(relay_settings(tuning, LARGEST));
        // With the key kept, the new process can tell agents of the old one that their connection is gone, instead of leaving them to time out.
        let reset_key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &keys.0);
        let mut config = EndpointConfig::new(Arc::new(reset_key));
        // The new process must also recognise the old one's connection ids as its own kind, or it drops such packets without an answer.
        let id_key = keys.0.first_chunk().map_or(0, |chunk| u64::from_le_bytes(*chunk));
        config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(id_key)));
        config
            .max_udp_payload_size(LARGEST)
            .map_err(|error| failed(io::Error::other(error)))?;
        let deafness = Arc::new(Deafness::default());
        deafness.is_deaf.store(is_silent, Ordering::Relaxed);
        let runtime = Arc::new(quinn::TokioRuntime);
        let released = CancellationToken::new();
        let wrapped = Arc::new(SilentSocket {
            socket: runtime
                .wrap_udp_socket(socket.try_clone().map_err(failed)?)
                .map_err(failed)?,
            deafness: deafness.clone(),
            _released: released.clone().drop_guard(),
        });
        let endpoint =
            quinn::Endpoint::new_with_abstract_socket(config, Some(server), wrapped, runtime).map_err(failed)?;
        Ok(Self {
            endpoint,
            acceptor: Acceptor {
                spacious: Arc::new(spacious),
            },
            socket,
            deafness,
            released,
        })
    }

    /// What begins the connections that come.
    pub const fn acceptor(&self) -> &Acceptor {
        &self.acceptor
    }

    /// The socket, to hand over.
    pub const fn socket(&self) -> &std::net::UdpSocket {
        &self.socket
    }

    /// Lets go of the socket; its port is free when this returns. QUIC keeps it until every connection is gone, nobody has the endpoint any more, and its
    /// task has noticed.
    pub async fn release(self) {
        let Self {
            endpoint,
            socket,
            released,
            ..
        } = self;
        drop((endpoint, socket));
        released.cancelled().await;
    }

    /// Takes nothing from the socket any more; what is said here still leaves by it.
    pub fn silence(&self) {
        self.deafness.is_deaf.store(true, Ordering::SeqCst);
    }

    /// Listens again after [`RelayEndpoint::silence`].
    pub fn listen_again(&self) {
        self.deafness.is_deaf.store(false, Ordering::SeqCst);
        let waiting = self
            .deafness
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        waiting.into_iter().for_each(Waker::wake);
    }
}

/// A UDP socket that can be made deaf.
#[derive(Debug)]
struct SilentSocket {
    socket: Arc<dyn AsyncUdpSocket>,
    deafness: Arc<Deafness>,
    _released: DropGuard,
}

impl AsyncUdpSocket for SilentSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.socket.clone().create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.socket.try_send(transmit)
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        if self.deafness.is_deaf.load(Ordering::Relaxed) {
            *self.deafness.waiting.lock().unwrap_or_else(PoisonError::into_inner) = Some(context.waker().clone());
            // It may hear again since.
            if self.deafness.is_deaf.load(Ordering::SeqCst) {
                return Poll::Pending;
            }
        }
        self.socket.poll_recv(context, buffers, metas)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.socket.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        // The kernel hands over no more than this at once, and QUIC sets memory aside for as many of the largest packets.
        let most = usize::from(u16::MAX).div_ceil(LARGEST.into());
        self.socket.max_receive_segments().min(most)
    }

    fn may_fragment(&self) -> bool {
        self.socket.may_fragment()
    }
}

/// The settings of an agent's endpoint whose packets have up to `largest` bytes.
///
/// # Errors
/// When that is no size for packets.
pub(crate) fn agent_endpoint(largest: u16) -> io::Result<EndpointConfig> {
    let mut config = EndpointConfig::default();
    // Never less than others take: the machine may come to another network.
    config
        .max_udp_payload_size(largest.max(USUAL))
        .map_err(io::Error::other)?;
    Ok(config)
}

/// The agent's settings for one connection, with packets of up to `largest` bytes.
///
/// # Errors
/// When the TLS settings lack what QUIC needs.
pub(crate) fn client_config(
    tls: rustls::ClientConfig,
    tuning: &Tuning,
    largest: u16,
) -> io::Result<quinn::ClientConfig> {
    let crypto = QuicClientConfig::try_from(tls).map_err(io::Error::other)?;
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    config.transport_config(agent_settings(tuning, largest));
    Ok(config)
}
