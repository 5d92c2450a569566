//! A session's local socket: what it has is read in one call, and its end is said the way it was meant.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Memory that the reads of one thread share; a read takes its piece off the front.
const BLOCK: usize = 128 * 1024;

/// A read is not started with less room than this, or it would need several calls.
const MIN_READ: usize = 16 * 1024;

/// Pieces that one system call takes.
pub(crate) const MAX_PIECES: usize = 32;

thread_local! {
    static ARENA: RefCell<BytesMut> = RefCell::new(BytesMut::new());
}

/// Ends a local socket the hard way once it is closed, so that its peer sees a reset instead of a tidy end that never was.
pub fn abort(socket: &TcpStream) {
    // Fails only on a socket that is already gone.
    let _ = socket2::SockRef::from(socket).set_linger(Some(Duration::ZERO));
}

/// A local socket that is reset when it is dropped, unless its session was finished.
#[derive(Debug)]
pub struct LocalSocket {
    socket: Arc<TcpStream>,
    is_finished: bool,
    /// Whether it is this process's to reset, when another one shares it.
    armed: Option<Arc<AtomicBool>>,
}

impl LocalSocket {
    /// Takes a socket over.
    pub fn new(socket: TcpStream) -> Self {
        Self {
            socket: Arc::new(socket),
            is_finished: false,
            armed: None,
        }
    }

    /// Takes a socket over that another process still has, and may go on with until `armed` is true: a reset would be for both.
    pub fn handed(socket: TcpStream, armed: Arc<AtomicBool>) -> Self {
        let mut handed = Self::new(socket);
        handed.armed = Some(armed);
        handed
    }

    /// The socket, to use.
    pub const fn get(&self) -> &Arc<TcpStream> {
        &self.socket
    }

    /// Closes the socket tidily.
    pub fn finish(mut self) {
        self.is_finished = true;
    }

    /// The socket, to be closed as the caller likes; `None` when somebody else still uses it.
    pub fn into_inner(mut self) -> Option<TcpStream> {
        self.is_finished = true;
        let socket = self.socket.clone();
        drop(self);
        Arc::into_inner(socket)
    }
}

impl Drop for LocalSocket {
    fn drop(&mut self) {
        let is_ours = self.armed.as_ref().is_none_or(|armed| armed.load(Ordering::Relaxed));
        if !self.is_finished && is_ours {
            abort(&self.socket);
        }
    }
}

/// Waits until the socket is reset.
pub(crate) async fn is_reset(socket: &TcpStream) {
    if socket.ready(Interest::ERROR).await.is_err() {
        std::future::pending().await
    }
}

/// Takes what the socket has right now; empty at its end.
pub(crate) fn try_read(socket: &TcpStream, most: usize) -> io::Result<Bytes> {
    ARENA.with_borrow_mut(|arena| {
        if arena.capacity() < MIN_READ && !arena.try_reclaim(MIN_READ) {
            *arena = BytesMut::with_capacity(BLOCK);
        }
        socket.try_read_buf(&mut arena.limit(most))?;
        Ok(arena.split().freeze())
    })
}

/// Writes as many of `pieces` as the socket takes in one call; returns the bytes written.
pub(crate) fn try_write<'a>(socket: &TcpStream, pieces: impl Iterator<Item = &'a Bytes>) -> io::Result<usize> {
    let mut slices = [IoSlice::new(&[]); MAX_PIECES];
    let mut count = 0;
    for (slice, piece) in slices.iter_mut().zip(pieces) {
        *slice = IoSlice::new(piece);
        count += 1;
    }
    socket.try_write_vectored(&slices[..count])
}
