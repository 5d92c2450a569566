//! The pumps between a local TCP socket and a player's stream.
//!
//! Each direction runs by itself and ends by itself: FIN travels as FIN, RST as RST. Nothing is copied on the way in (what the socket gives is handed to
//! QUIC as it is) and on the way out many chunks leave in one system call. A player who does not read holds only the window of its own stream. An
//! idle player holds no buffer at all.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use quinn::{ReadError, RecvStream, SendStream, WriteError};
use spawnpoint_proto::ResetCode;
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::TcpStream;

use crate::var;

/// Memory that the reads of one thread share; a read takes its piece off the front.
const BLOCK: usize = 128 * 1024;

/// A read is not started with less room than this, or it would need several calls.
const MIN_READ: usize = 16 * 1024;

/// Chunks that one system call takes.
const MAX_CHUNKS: usize = 32;

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

/// One session's two ends, and which counters they feed.
pub struct Splice<'a> {
    /// The local socket.
    pub socket: &'a mut TcpStream,
    /// The stream's outgoing half.
    pub send: SendStream,
    /// The stream's incoming half.
    pub recv: RecvStream,
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
    pub async fn run(self) -> SessionEnd {
        let Self {
            socket,
            send,
            recv,
            outgoing,
            incoming,
            head,
        } = self;
        let mut send = CutOnDrop {
            stream: send,
            done: false,
        };
        let mut recv = StopOnDrop {
            stream: recv,
            done: false,
        };
        let (reader, mut writer) = socket.split();
        let out = async {
            let end = pump_out(reader.as_ref(), &mut send.stream, outgoing, incoming, head).await;
            send.done |= end.is_ok();
            end
        };
        let into = async {
            let end = pump_in(&mut writer, &mut recv.stream, incoming).await;
            recv.done |= end.is_ok();
            end
        };
        let end = tokio::try_join!(out, into);
        match end {
            Ok(_) => SessionEnd::Finished,
            Err(end) => {
                let code = match end {
                    SessionEnd::LocalReset => ResetCode::PeerReset,
                    _ => ResetCode::TunnelClosed,
                };
                send.cut(code);
                recv.stop(code);
                end
            }
        }
    }
}

/// Ends a local socket the hard way, so that its peer sees a reset instead of a tidy end that never was.
pub fn abort(socket: TcpStream) {
    // Fails only on a socket that is already gone.
    let _ = socket2::SockRef::from(&socket).set_linger(Some(std::time::Duration::ZERO));
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

/// quinn finishes a stream that is dropped, which would look like a tidy end.
struct CutOnDrop {
    stream: SendStream,
    done: bool,
}

impl CutOnDrop {
    fn cut(&mut self, code: ResetCode) {
        if !self.done {
            self.done = true;
            let _ = self.stream.reset(var(code.number()));
        }
    }
}

impl Drop for CutOnDrop {
    fn drop(&mut self) {
        self.cut(ResetCode::TunnelClosed);
    }
}

struct StopOnDrop {
    stream: RecvStream,
    done: bool,
}

impl StopOnDrop {
    fn stop(&mut self, code: ResetCode) {
        if !self.done {
            self.done = true;
            let _ = self.stream.stop(var(code.number()));
        }
    }
}

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.stop(ResetCode::TunnelClosed);
    }
}

async fn pump_out(
    socket: &TcpStream,
    stream: &mut SendStream,
    moved: &dyn Meter,
    answered: &dyn Meter,
    mut head: Option<&mut Vec<u8>>,
) -> Result<(), SessionEnd> {
    loop {
        let chunk = match try_read(socket) {
            Ok(chunk) => chunk,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                socket
                    .ready(Interest::READABLE)
                    .await
                    .map_err(|_| SessionEnd::LocalReset)?;
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
        stream.write_chunk(chunk).await.map_err(|error| match error {
            WriteError::Stopped(code) => SessionEnd::RemoteReset(ResetCode::from_number(code.into_inner())),
            _ => SessionEnd::LinkLost,
        })?;
    }
}

async fn pump_in(
    socket: &mut tokio::net::tcp::WriteHalf<'_>,
    stream: &mut RecvStream,
    moved: &dyn Meter,
) -> Result<(), SessionEnd> {
    let mut chunks: [Bytes; MAX_CHUNKS] = std::array::from_fn(|_| Bytes::new());
    loop {
        let count = match stream.read_chunks(&mut chunks).await {
            Ok(Some(count)) => count,
            Ok(None) => {
                // A socket that is already reset cannot be shut down; the other pump reports that.
                let _ = socket.shutdown().await;
                return Ok(());
            }
            Err(ReadError::Reset(code)) => {
                return Err(SessionEnd::RemoteReset(ResetCode::from_number(code.into_inner())));
            }
            Err(_) => return Err(SessionEnd::LinkLost),
        };
        let written = write_all(socket.as_ref(), &mut chunks[..count])
            .await
            .map_err(|_| SessionEnd::LocalReset)?;
        moved.add(written);
        chunks[..count].fill(Bytes::new());
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
async fn write_all(socket: &TcpStream, chunks: &mut [Bytes]) -> io::Result<u64> {
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
                    chunks[first].split_to(written).clear();
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                socket.ready(Interest::WRITABLE).await?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(total)
}
