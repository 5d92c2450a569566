//! The game server: one TCP port and one UDP port that do what the players' loads need.
//!
//! A TCP player's first byte says which game is played ([`BYTE`], [`UPLOAD`], [`DOWNLOAD`], [`ENDLESS`], [`PINGPONG`]); UDP
//! packets of [`REQUEST`] bytes are answered, others come back as they are. What the server itself finds wrong is kept until [`Origin::take_fault`].

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::fault::Fault;
use crate::{pattern, ports, stalled};

/// One byte back, then silence until the player leaves.
pub const BYTE: u8 = b'1';
/// What [`BYTE`] is answered with.
pub const BYTE_ANSWER: u8 = b'!';
/// `offset: u64`, then a pattern to its end; answered with how many bytes there were.
pub const UPLOAD: u8 = b'u';
/// `offset: u64, millis: u64`; answered with a pattern for that long, to which the player says how many bytes there were.
pub const DOWNLOAD: u8 = b'd';
/// `offset: u64`; answered with a pattern until the player leaves.
pub const ENDLESS: u8 = b'e';
/// Requests of [`REQUEST`] bytes, each answered with [`REPLY`].
pub const PINGPONG: u8 = b'p';

/// What a player's input is like.
pub const REQUEST: usize = 30;
/// What a world's update is like.
pub const REPLY: usize = 1024;
/// What it is like in a UDP packet, which should fit into any line's.
pub const PACKET_REPLY: usize = 1000;

/// A player's last word is on the way no longer than this.
const CONFIRM_DEADLINE: Duration = Duration::from_secs(2);

/// Room in the kernel for packets that come faster than they are looked at; it gives what it allows.
pub const SOCKET_BUFFER: usize = 4 * 1024 * 1024;

/// A running game server; it ends when it is dropped.
#[derive(Debug)]
pub struct Origin {
    /// Where both protocols are served.
    pub address: SocketAddr,
    book: Arc<Book>,
    _tasks: JoinSet<()>,
}

/// What the server has to say about its players.
#[derive(Debug, Default)]
struct Book {
    faults: Mutex<Vec<Fault>>,
    /// Downloads of which no player has confirmed the right size yet. One that was cut short without an error is told by nothing else.
    unconfirmed: AtomicU32,
    /// Bytes of all endless answers so far.
    endless: AtomicU64,
}

impl Origin {
    /// Starts on a free port of `address`.
    ///
    /// # Errors
    /// When the kernel gives no sockets.
    pub async fn start(address: IpAddr) -> Result<Self, Fault> {
        Self::start_at(SocketAddr::new(address, ports::free()?)).await
    }

    /// Starts at `address`.
    ///
    /// # Errors
    /// When the kernel gives no sockets.
    pub async fn start_at(address: SocketAddr) -> Result<Self, Fault> {
        let listener = TcpListener::bind(address).await?;
        let socket = packet_socket(address).await?;
        let book = Arc::<Book>::default();
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, book.clone()));
        tasks.spawn(answer(socket));
        Ok(Self {
            address,
            book,
            _tasks: tasks,
        })
    }

    /// What the server found wrong and has not told yet, if anything.
    pub fn take_fault(&self) -> Option<Fault> {
        self.book.faults.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    /// Bytes of all [`ENDLESS`] answers that the kernel has taken so far.
    pub fn endless(&self) -> u64 {
        self.book.endless.load(Ordering::Relaxed)
    }

    /// Waits until players have confirmed all downloads.
    ///
    /// # Errors
    /// [`Fault::Mismatch`] when they do not.
    pub async fn confirmed(&self) -> Result<(), Fault> {
        let until = Instant::now() + CONFIRM_DEADLINE;
        while Instant::now() < until {
            if self.book.unconfirmed.load(Ordering::Acquire) == 0 {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Err(Fault::Mismatch("a download ended before it was complete".to_owned()))
    }
}

/// A UDP socket with room for many packets.
///
/// # Errors
/// When the kernel gives none.
pub async fn packet_socket(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(address).await?;
    let options = socket2::SockRef::from(&socket);
    // The kernel's own size will do where it refuses.
    let _ = options.set_recv_buffer_size(SOCKET_BUFFER);
    let _ = options.set_send_buffer_size(SOCKET_BUFFER);
    Ok(socket)
}

async fn accept(listener: TcpListener, book: Arc<Book>) {
    let mut players = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                let book = book.clone();
                players.spawn(async move {
                    // A player who breaks off notices it as well; only wrong data would go unseen.
                    if let Err(fault @ Fault::Mismatch(_)) = serve(stream, &book).await {
                        book.faults.lock().unwrap_or_else(PoisonError::into_inner).push(fault);
                    }
                });
            }
            Some(_) = players.join_next() => {}
        }
    }
}

async fn serve(mut stream: TcpStream, book: &Book) -> Result<(), Fault> {
    stream.set_nodelay(true)?;
    match stream.read_u8().await? {
        BYTE => {
            stream.write_u8(BYTE_ANSWER).await?;
            match stream.read_u8().await {
                Err(_) => Ok(()),
                Ok(byte) => Err(Fault::Mismatch(format!("byte {byte} from a player who sent none"))),
            }
        }
        UPLOAD => {
            let offset = stream.read_u64().await?;
            let received = pattern::read_to_end(&mut stream, offset).await?;
            stream.write_u64(received).await?;
            Ok(stream.shutdown().await?)
        }
        DOWNLOAD => {
            book.unconfirmed.fetch_add(1, Ordering::AcqRel);
            let (offset, millis) = (stream.read_u64().await?, stream.read_u64().await?);
            let until = Instant::now() + Duration::from_millis(millis);
            let sent = pattern::write_until(&mut stream, offset, until).await?;
            let received = stream.read_u64().await?;
            if received != sent {
                let text = format!("of {sent} bytes down {received} arrived before a tidy end");
                return Err(Fault::Mismatch(text));
            }
            book.unconfirmed.fetch_sub(1, Ordering::AcqRel);
            Ok(())
        }
        ENDLESS => {
            socket2::SockRef::from(&stream).set_send_buffer_size(stalled::ORIGIN_BUFFER)?;
            let mut offset = stream.read_u64().await?;
            // It ends with an error when the player leaves.
            loop {
                let taken = stream.write(pattern::piece(offset, pattern::MAX_PIECE)).await?;
                offset += taken as u64;
                book.endless.fetch_add(taken as u64, Ordering::Relaxed);
            }
        }
        PINGPONG => pingpong(&mut stream).await,
        other => Err(Fault::Mismatch(format!("a game {other} that nobody plays"))),
    }
}

async fn pingpong(stream: &mut TcpStream) -> Result<(), Fault> {
    let mut request = [0; REQUEST];
    while stream.read_exact(&mut request).await.is_ok() {
        stream.write_all(&reply(&request)).await?;
    }
    Ok(())
}

/// The answer to `request`: itself, then noise that depends on it.
pub fn reply(request: &[u8; REQUEST]) -> [u8; REPLY] {
    let mut reply = [0; REPLY];
    let (head, rest) = reply.split_at_mut(REQUEST);
    head.copy_from_slice(request);
    let seed = request
        .iter()
        .fold(0_u64, |sum, byte| sum * 31 % 1_000_003 + u64::from(*byte));
    rest.copy_from_slice(pattern::piece(seed, REPLY - REQUEST));
    reply
}

async fn answer(socket: UdpSocket) {
    let mut buffer = vec![0; 65_536];
    loop {
        // Either may report what became of an earlier packet, such as a player who left.
        if let Ok((length, player)) = socket.recv_from(&mut buffer).await {
            let packet = &buffer[..length];
            let _ = match packet.try_into() {
                Ok(request) => socket.send_to(&reply(request)[..PACKET_REPLY], player).await,
                Err(_) => socket.send_to(packet, player).await,
            };
        }
    }
}
