//! The pumps between a local TCP socket and a player's stream.
//!
//! Each direction runs by itself and ends by itself: FIN travels as FIN, RST as RST. Nothing is copied on the way in (what the socket gives is handed to
//! QUIC as it is) and on the way out many chunks leave in one system call. A player who does not read holds only the window of its own stream. An
//! idle player holds no buffer at all.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use quinn::{ReadError, RecvStream, SendStream, WriteError};
use spawnpoint_proto::ResetCode;
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::var;

/// Memory that the reads of one thread share; a read takes its piece off the front.
const BLOCK: usize = 128 * 1024;

/// A read is not started with less room than this, or it would need several calls.
const MIN_READ: usize = 16 * 1024;

/// Chunks that one system call takes.
const MAX_CHUNKS: usize = 32;

/// What a peer said before its reset arrives within this, or its reader does not want it.
const LAST_WORDS: Duration = Duration::from_secs(2);

thread_local! {
    static ARENA: RefCell<BytesMut> = RefCell::new(BytesMut::new());
}

/// Counts the bytes of one direction, for as many books as its owner keeps.
pub trait Meter: Sync {
    /// `bytes` more have passed.
    fn add(&self, bytes: u64);

    /// All that have passed.
    fn total(&self) -> u64;
}

impl Meter for AtomicU64 {
    fn add(&self, bytes: u64) {
        self.fetch_add(bytes, Ordering::Relaxed);
    }

    fn total(&self) -> u64 {
        self.load(Ordering::Relaxed)
    }
}

/// How a session ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SessionEnd {
    /// Both directions were finished by their senders.
    Finished,
    /// The local socket was reset.
    LocalReset,
    /// The other side cut the stream.
    RemoteReset(ResetCode),
    /// The link was lost.
    LinkLost,
}

impl SessionEnd {
    /// The word used in logs, events and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::LocalReset => "local_reset",
            Self::RemoteReset(code) => code.as_str(),
            Self::LinkLost => "link_lost",
        }
    }
}

/// A player's stream that is cut, not tidily finished as QUIC would, when it is dropped before its end.
#[derive(Debug)]
pub struct PlayerStream {
    send: SendStream,
    recv: RecvStream,
    /// The outgoing half has its end.
    sent: bool,
    /// The incoming half has its end.
    received: bool,
}

impl PlayerStream {
    /// Takes a stream over.
    pub const fn new(send: SendStream, recv: RecvStream) -> Self {
        Self {
            send,
            recv,
            sent: false,
            received: false,
        }
    }

    /// The incoming half, to read a header from.
    pub const fn incoming(&mut self) -> &mut RecvStream {
        &mut self.recv
    }

    /// The outgoing half, to write a header to.
    pub const fn outgoing(&mut self) -> &mut SendStream {
        &mut self.send
    }

    /// Cuts both halves for a reason. Nothing happens to a half that has its end.
    pub fn cut(&mut self, code: ResetCode) {
        // Both fail only on a stream that the peer has ended already.
        if !std::mem::replace(&mut self.sent, true) {
            let _ = self.send.reset(var(code.number()));
        }
        if !std::mem::replace(&mut self.received, true) {
            let _ = self.recv.stop(var(code.number()));
        }
    }

    /// Tells the peer of a reset, after everything that was said before it.
    ///
    /// A reset of our half would throw away what is still on its way, and with it a server's last words. So our half is finished, and stopping the
    /// other half tells that this end is a reset.
    fn relay_reset(&mut self) {
        if self.received {
            return self.cut(ResetCode::PeerReset);
        }
        // In this order, so that the peer learns that it is a reset before it sees the end.
        self.received = true;
        let _ = self.recv.stop(var(ResetCode::PeerReset.number()));
        if !std::mem::replace(&mut self.sent, true) {
            let _ = self.send.finish();
        }
    }
}

impl Drop for PlayerStream {
    fn drop(&mut self) {
        self.cut(ResetCode::TunnelClosed);
    }
}

/// One session's two ends, and which counters they feed.
pub struct Splice<'a> {
    /// The local socket.
    pub socket: &'a mut TcpStream,
    /// The player's stream.
    pub stream: PlayerStream,
    /// Counts what goes from the socket into the stream.
    pub outgoing: &'a dyn Meter,
    /// Counts what goes from the stream into the socket.
    pub incoming: &'a dyn Meter,
    /// Takes a copy of the first bytes from the socket, up to its capacity, until the stream has answered.
    pub head: Option<&'a mut Vec<u8>>,
}

impl Splice<'_> {
    /// Moves bytes until the session ends. The socket is left to the caller, who resets it unless the session is finished.
    ///
    /// Dropping the future cuts the stream with [`ResetCode::TunnelClosed`].
    pub async fn run(mut self) -> SessionEnd {
        let end = self.exchange().await;
        match end {
            SessionEnd::Finished => {}
            SessionEnd::LocalReset => self.stream.relay_reset(),
            SessionEnd::RemoteReset(_) | SessionEnd::LinkLost => self.stream.cut(ResetCode::TunnelClosed),
        }
        end
    }

    async fn exchange(&mut self) -> SessionEnd {
        let PlayerStream {
            send,
            recv,
            sent,
            received,
        } = &mut self.stream;
        let socket = &*self.socket;
        let out = pump_out(socket, send, self.outgoing, self.incoming, self.head.take());
        let into = pump_in(socket, recv, self.incoming);
        tokio::pin!(out, into);
        loop {
            tokio::select! {
                biased; // that the stream was stopped must be seen before that it is finished, see `relay_reset`
                result = &mut out, if !*sent => match result {
                    Ok(()) => *sent = true,
                    Err(end) => {
                        if end == SessionEnd::RemoteReset(ResetCode::PeerReset) && !*received {
                            // What was said before the reset is still coming.
                            let _ = tokio::time::timeout(LAST_WORDS, &mut into).await;
                        }
                        return end;
                    }
                },
                result = &mut into, if !*received => match result {
                    Ok(()) => {
                        *received = true;
                        // A socket that is already reset cannot be shut down; the other pump reports that.
                        let _ = socket2::SockRef::from(socket).shutdown(Shutdown::Write);
                    }
                    Err(end) => return end,
                },
                // Whoever is done speaking may still reset, which nobody would read.
                () = is_reset(socket), if *sent && !*received => return SessionEnd::LocalReset,
                else => return SessionEnd::Finished,
            }
        }
    }
}

/// Ends a local socket the hard way, so that its peer sees a reset instead of a tidy end that never was.
pub fn abort(socket: TcpStream) {
    // Fails only on a socket that is already gone.
    let _ = socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO));
}

/// A local socket that is reset when it is dropped, unless its session was finished.
#[derive(Debug)]
pub struct LocalSocket(Option<TcpStream>);

impl LocalSocket {
    /// Takes a socket over.
    pub const fn new(socket: TcpStream) -> Self {
        Self(Some(socket))
    }

    /// The socket, to be closed as the caller likes.
    pub fn into_inner(mut self) -> Option<TcpStream> {
        self.0.take()
    }

    /// The socket, to use.
    ///
    /// # Panics
    /// Never: only [`LocalSocket::into_inner`] takes the socket out, and it takes the whole value.
    pub fn get(&mut self) -> &mut TcpStream {
        self.0
            .as_mut()
            .expect("the socket is there until the value is consumed")
    }
}

impl Drop for LocalSocket {
    fn drop(&mut self) {
        if let Some(socket) = self.0.take() {
            abort(socket);
        }
    }
}

async fn pump_out(
    socket: &TcpStream,
    stream: &mut SendStream,
    moved: &dyn Meter,
    answered: &dyn Meter,
    mut head: Option<&mut Vec<u8>>,
) -> Result<(), SessionEnd> {
    let stopped = stream.stopped();
    tokio::pin!(stopped);
    loop {
        let chunk = match try_read(socket) {
            Ok(chunk) => chunk,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                tokio::select! {
                    stopped = &mut stopped => return Err(match stopped {
                        Ok(Some(code)) => SessionEnd::RemoteReset(ResetCode::from_number(code.into_inner())),
                        _ => SessionEnd::LinkLost,
                    }),
                    ready = socket.ready(Interest::READABLE) => drop(ready.map_err(|_| SessionEnd::LocalReset)?),
                }
                continue;
            }
            Err(_) => return Err(SessionEnd::LocalReset),
        };
        if chunk.is_empty() {
            // A stream that the peer has stopped was answered by a reset, which the other pump reports.
            let _ = stream.finish();
            return Ok(());
        }
        moved.add(chunk.len() as u64);
        if let Some(kept) = head.take() {
            if answered.total() == 0 {
                let room = kept.capacity() - kept.len();
                kept.extend_from_slice(&chunk[..chunk.len().min(room)]);
                head = Some(kept);
            } else {
                *kept = Vec::new();
            }
        }
        let written = tokio::select! {
            biased; // nearly always there is room at once
            written = stream.write_chunk(chunk) => written,
            // A far reader who has fallen behind must not hide that this end is gone.
            () = is_reset(socket) => return Err(SessionEnd::LocalReset),
        };
        written.map_err(|error| match error {
            WriteError::Stopped(code) => SessionEnd::RemoteReset(ResetCode::from_number(code.into_inner())),
            _ => SessionEnd::LinkLost,
        })?;
    }
}

async fn pump_in(socket: &TcpStream, stream: &mut RecvStream, moved: &dyn Meter) -> Result<(), SessionEnd> {
    let mut chunks: [Bytes; MAX_CHUNKS] = std::array::from_fn(|_| Bytes::new());
    loop {
        let count = match stream.read_chunks(&mut chunks).await {
            Ok(Some(count)) => count,
            Ok(None) => return Ok(()),
            Err(ReadError::Reset(code)) => {
                return Err(SessionEnd::RemoteReset(ResetCode::from_number(code.into_inner())));
            }
            Err(_) => return Err(SessionEnd::LinkLost),
        };
        let written = write_all(socket, stream, &mut chunks[..count]).await?;
        moved.add(written);
        chunks[..count].fill(Bytes::new());
    }
}

/// Waits until the socket is reset.
async fn is_reset(socket: &TcpStream) {
    if socket.ready(Interest::ERROR).await.is_err() {
        std::future::pending().await
    }
}

/// Takes what the socket has right now; empty at its end.
fn try_read(socket: &TcpStream) -> io::Result<Bytes> {
    ARENA.with_borrow_mut(|arena| {
        if arena.capacity() < MIN_READ && !arena.try_reclaim(MIN_READ) {
            *arena = BytesMut::with_capacity(BLOCK);
        }
        socket.try_read_buf(arena)?;
        Ok(arena.split().freeze())
    })
}

/// Writes all chunks with as few system calls as the socket allows; returns the bytes written.
async fn write_all(socket: &TcpStream, stream: &mut RecvStream, chunks: &mut [Bytes]) -> Result<u64, SessionEnd> {
    let (mut first, mut total) = (0, 0);
    while first < chunks.len() {
        let mut slices = [IoSlice::new(&[]); MAX_CHUNKS];
        let rest = &chunks[first..];
        slices
            .iter_mut()
            .zip(rest)
            .for_each(|(slice, chunk)| *slice = IoSlice::new(chunk));
        match socket.try_write_vectored(&slices[..rest.len()]) {
            Ok(mut written) => {
                total += written as u64;
                while first < chunks.len() && written >= chunks[first].len() {
                    written -= chunks[first].len();
                    first += 1;
                }
                if written > 0 {
                    chunks[first].advance(written);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => writable(socket, stream).await?,
            Err(_) => return Err(SessionEnd::LocalReset),
        }
    }
    Ok(total)
}

/// Waits until a reader who has fallen behind takes more, or the stream is cut meanwhile.
async fn writable(socket: &TcpStream, stream: &mut RecvStream) -> Result<(), SessionEnd> {
    let writable = async {
        socket
            .ready(Interest::WRITABLE)
            .await
            .map(drop)
            .map_err(|_| SessionEnd::LocalReset)
    };
    tokio::pin!(writable);
    tokio::select! {
        result = &mut writable => result,
        reset = stream.received_reset() => match reset {
            Ok(Some(code)) => Err(SessionEnd::RemoteReset(ResetCode::from_number(code.into_inner()))),
            // All of the stream is here: no reset can follow.
            Ok(None) => writable.await,
            Err(_) => Err(SessionEnd::LinkLost),
        }
    }
}
