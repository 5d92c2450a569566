//! The channel over which a process hands its sockets and its state to its successor during an upgrade in place.
//!
//! The old process opens a [`Channel::pair`], starts the new binary with the other end as its standard input ([`spawn_successor`]), and the new one
//! takes it from there ([`Channel::inherited`]). What a message means is its sender's business; this file moves bytes and descriptors, whole and in
//! order. It holds no state of its own and decides neither what is handed over nor when.
//!
//! A message on the wire, numbers big-endian:
//! ```text
//! ->  u32 length | u32 descriptors | body | one mark for every 128 descriptors, which travel with that very byte
//! <-  one acknowledgement for each mark
//! ```
//! The receiver reads a mark by itself and no read goes past one: the kernel closes descriptors that a plain read runs into, and ends the read early,
//! which tokio would take for an empty socket. The kernel counts a user's descriptors in flight against the limit of open files (`ETOOMANYREFS`), so no
//! more than [`WINDOW`] marks wait to be acknowledged.

use std::ffi::OsString;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

/// Set in the environment of a process that takes over from another.
const VARIABLE: &str = "SPAWNPOINT_HANDOVER";

/// Its value in the successor.
const SUCCESSOR: &str = "1";

/// Its value in the process that starts the successor.
const BETWEEN: &str = "0";

/// A process that only starts another takes no longer.
const BETWEEN_DEADLINE: Duration = Duration::from_secs(10);

/// Descriptors that travel together. Linux takes 253 at most, other systems fewer bytes of them.
const BATCH: usize = 128;

/// Batches in flight: one is on its way while the one before is taken, and even a limit of 1,024 open files has room for both.
const WINDOW: usize = 2;

/// Descriptors of one message: more than a process can usefully have open, and a bound on what is believed.
const MAX_DESCRIPTORS: usize = 100_000;

/// The byte that carries a batch.
const MARK: u8 = b'D';

/// The byte that says a batch was taken.
const TAKEN: u8 = b'K';

/// What is believed of a length before the bytes are there.
const FIRST_ROOM: usize = 64 * 1024;

/// Why a message did not come or go. The channel is of no further use then.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// The other process closed its end between two messages.
    #[error("the other process closed the hand-over channel")]
    Closed,
    /// The other process ended, or gave up, in the middle of a message.
    #[error("the other process went away in the middle of a hand-over message")]
    Cut,
    /// The body is longer than its receiver, or the wire, allows.
    #[error("a hand-over message of {length} bytes exceeds the limit of {limit}")]
    TooLong {
        /// Its length in bytes.
        length: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// More descriptors than a message may carry.
    #[error("a hand-over message of {count} descriptors exceeds the limit of {MAX_DESCRIPTORS}")]
    TooManyDescriptors {
        /// Their number.
        count: usize,
    },
    /// The kernel dropped descriptors, which it does when the receiver has too many files open.
    #[error(
        "{got} of {sent} descriptors arrived: raise the limit of open files (`ulimit -n`, or LimitNOFILE= in a systemd unit)"
    )]
    DescriptorsLost {
        /// How many of the batch the sender sent.
        sent: usize,
        /// How many of it arrived.
        got: usize,
    },
    /// Something else than what was due: another program, or both ends sent at once.
    #[error("the other process broke the hand-over protocol: are both of them Spawnpoint?")]
    OutOfTurn,
    /// The kernel refused.
    #[error("the hand-over channel failed")]
    Io(#[source] io::Error),
}

impl From<io::Error> for ChannelError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Self::Cut,
            _ => Self::Io(error),
        }
    }
}

/// One end of the channel. The ends take turns: while one sends, the other receives.
#[derive(Debug)]
pub struct Channel {
    stream: UnixStream,
}

impl Channel {
    /// Opens a channel: our end, and the one that becomes the standard input of the successor.
    ///
    /// # Errors
    /// When the kernel refuses.
    ///
    /// # Panics
    /// Outside a tokio runtime with I/O.
    pub fn pair() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = StdUnixStream::pair()?;
        Ok((Self::from_std(ours)?, theirs.into()))
    }

    /// The channel whose one end is `end`.
    ///
    /// # Errors
    /// When the kernel refuses.
    ///
    /// # Panics
    /// Outside a tokio runtime with I/O.
    pub fn of(end: OwnedFd) -> io::Result<Self> {
        Self::from_std(StdUnixStream::from(end))
    }

    /// Takes the channel over that this process was given as its standard input, which is `/dev/null` from then on. Called once, before anything reads
    /// standard input.
    ///
    /// # Errors
    /// When standard input is not a Unix socket, which names the remedy, or the kernel refuses.
    ///
    /// # Panics
    /// Outside a tokio runtime with I/O.
    pub fn inherited() -> io::Result<Self> {
        let stream = StdUnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        // Any socket and any file would do for a `UnixStream`; only a Unix socket has a Unix address.
        stream.local_addr().map_err(|source| {
            io::Error::new(
                source.kind(),
                format!("standard input is not a hand-over channel ({source}): unset {VARIABLE} to start afresh"),
            )
        })?;
        rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
        Self::from_std(stream)
    }

    fn from_std(stream: StdUnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream: UnixStream::from_std(stream)?,
        })
    }

    /// Sends `body` with `descriptors`, which stay open here. When it returns the receiver has all descriptors; a message without any may still be on its
    /// way. Not cancel-safe: a message cut in the middle ends the channel, so the caller awaits it to the end or drops the channel.
    ///
    /// # Errors
    /// See [`ChannelError`]; [`ChannelError::TooLong`] and [`ChannelError::TooManyDescriptors`] before anything is sent.
    pub async fn send(&mut self, body: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<(), ChannelError> {
        let length = u32::try_from(body.len()).map_err(|_| ChannelError::TooLong {
            length: body.len(),
            limit: u32::MAX as usize,
        })?;
        let count = descriptors.len();
        let wire_count = u32::try_from(check_count(count)?).map_err(|_| ChannelError::TooManyDescriptors { count })?;

        let mut header = [0; 8];
        header[..4].copy_from_slice(&length.to_be_bytes());
        header[4..].copy_from_slice(&wire_count.to_be_bytes());
        self.stream.write_all(&header).await?;
        self.stream.write_all(body).await?;

        let mut in_flight = 0;
        for batch in descriptors.chunks(BATCH) {
            if in_flight == WINDOW {
                self.await_taken().await?;
                in_flight -= 1;
            }
            self.stream
                .async_io(Interest::WRITABLE, || send_batch(&self.stream, batch))
                .await?;
            in_flight += 1;
        }
        for _ in 0..in_flight {
            self.await_taken().await?;
        }
        Ok(())
    }

    /// Receives the next message: its body of at most `limit` bytes, and its descriptors in the order in which they were sent, all close-on-exec. Not
    /// cancel-safe: a message that was begun is lost.
    ///
    /// # Errors
    /// See [`ChannelError`]; [`ChannelError::Closed`] when no message follows.
    pub async fn receive(&mut self, limit: usize) -> Result<(Vec<u8>, Vec<OwnedFd>), ChannelError> {
        let mut header = [0; 8];
        let first = self.stream.read(&mut header).await?;
        if first == 0 {
            return Err(ChannelError::Closed);
        }
        self.stream.read_exact(&mut header[first..]).await?;
        let [length, count] = [&header[..4], &header[4..]].map(number);
        if length > limit {
            return Err(ChannelError::TooLong { length, limit });
        }
        check_count(count)?;

        let mut body = Vec::with_capacity(length.min(FIRST_ROOM));
        (&mut self.stream).take(length as u64).read_to_end(&mut body).await?;
        if body.len() < length {
            return Err(ChannelError::Cut);
        }

        let mut descriptors = Vec::new();
        while descriptors.len() < count {
            let sent = BATCH.min(count - descriptors.len());
            let batch = self
                .stream
                .async_io(Interest::READABLE, || receive_batch(&self.stream))
                .await?;
            descriptors.extend(batch.check(sent)?);
            self.stream.write_all(&[TAKEN]).await?;
        }
        Ok((body, descriptors))
    }

    async fn await_taken(&mut self) -> Result<(), ChannelError> {
        match self.stream.read_u8().await? {
            TAKEN => Ok(()),
            _ => Err(ChannelError::OutOfTurn),
        }
    }
}

/// What came with one mark.
struct Batch {
    mark: Option<u8>,
    truncated: bool,
    descriptors: Vec<OwnedFd>,
}

impl Batch {
    fn check(self, sent: usize) -> Result<Vec<OwnedFd>, ChannelError> {
        let got = self.descriptors.len();
        match self.mark {
            None => Err(ChannelError::Cut),
            Some(MARK) if self.truncated || got < sent => Err(ChannelError::DescriptorsLost { sent, got }),
            Some(MARK) if got == sent => Ok(self.descriptors),
            Some(_) => Err(ChannelError::OutOfTurn),
        }
    }
}

fn check_count(count: usize) -> Result<usize, ChannelError> {
    if count > MAX_DESCRIPTORS {
        return Err(ChannelError::TooManyDescriptors { count });
    }
    Ok(count)
}

fn number(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |number, &byte| (number << 8) | usize::from(byte))
}

/// Sends a mark, one byte and so never half of it, with its descriptors.
fn send_batch(stream: &UnixStream, batch: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(
        control.push(SendAncillaryMessage::ScmRights(batch)),
        "the space is made for a whole batch"
    );
    // A vanished peer is an error and no signal: the standard library has SIGPIPE ignored.
    sendmsg(stream, &[IoSlice::new(&[MARK])], &mut control, SendFlags::empty())?;
    Ok(())
}

/// Receives a mark with what came along. What is not taken from here is closed.
fn receive_batch(stream: &UnixStream) -> io::Result<Batch> {
    // Not every system can receive descriptors close-on-exec; the others are told right after.
    #[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
    let flags = RecvFlags::CMSG_CLOEXEC;
    #[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
    let flags = RecvFlags::empty();

    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = recvmsg(stream, &mut [IoSliceMut::new(&mut byte)], &mut control, flags)?;
    let mut descriptors = Vec::new();
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = part {
            descriptors.extend(rights);
        }
    }
    if flags.is_empty() {
        for descriptor in &descriptors {
            rustix::io::fcntl_setfd(descriptor, rustix::io::FdFlags::CLOEXEC)?;
        }
    }
    Ok(Batch {
        mark: (message.bytes > 0).then_some(byte[0]),
        truncated: message.flags.contains(ReturnFlags::CTRUNC),
        descriptors,
    })
}

/// Starts `program` with `arguments` as the successor of this process: the channel is its standard input, standard output and standard error are ours,
/// and [`is_successor`] is true in it.
///
/// It is started by a process in between that ends at once ([`pass_on`]), so that it is nobody's child but the service manager's: one that is told of
/// a new main process waits for its own children only. It lives on when this process ends.
///
/// # Errors
/// When the program cannot be started.
///
/// # Panics
/// Outside a tokio runtime with I/O.
pub async fn spawn_successor(program: &Path, arguments: &[OsString], channel_end: OwnedFd) -> io::Result<()> {
    let mut between = spawn(program, arguments, channel_end, BETWEEN)?;
    match tokio::time::timeout(BETWEEN_DEADLINE, between.wait()).await {
        Ok(ended) => match ended?.success() {
            true => Ok(()),
            false => Err(io::Error::other("it ended at once: its own words above say why")),
        },
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

fn spawn(program: &Path, arguments: &[OsString], channel_end: OwnedFd, role: &str) -> io::Result<Child> {
    Command::new(program)
        .args(arguments)
        .env(VARIABLE, role)
        .stdin(Stdio::from(channel_end))
        .stdout(Stdio::inherit())
        .stderr(Stdio::inherit())
        .spawn()
}

/// The process in between: starts the successor with what this one was given. The first thing that a program does when [`is_between`] is true, and the last.
///
/// # Errors
/// When the program cannot be started.
pub fn pass_on() -> io::Result<()> {
    std::process::Command::new(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env(VARIABLE, SUCCESSOR)
        .spawn()
        .map(drop)
}

/// Whether this process only starts a successor.
pub fn is_between() -> bool {
    std::env::var_os(VARIABLE).is_some_and(|value| value == BETWEEN)
}

/// Whether this process was started by [`spawn_successor`], and so has a channel to take over. Its own children inherit the variable.
pub fn is_successor() -> bool {
    std::env::var_os(VARIABLE).is_some_and(|value| value == SUCCESSOR)
}

#[cfg(test)]
mod tests;
