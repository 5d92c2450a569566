//! The conversation in which a process hands everything that it has to its successor: the same for a relay and for an agent.
//!
//! ```text
//! predecessor                         successor
//!                            <-----   greeting: what it reads, or why it cannot even begin
//! everything comes to rest
//! state, with descriptors    ----->   restores it, still at rest
//!                            <-----   verdict: ready, or why not
//! go                         ----->   goes on
//! ```
//! Until "go" the predecessor can go on as if nothing had happened; it says "stay" then. What the state is, and what comes to rest how, is the
//! business of whoever hands over. Every step has a deadline.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use minicbor::{Decode, Encode};

use crate::LocalSocket;
use crate::handover::{Channel, ChannelError};

/// A successor reads its configuration and opens what it needs; a predecessor brings everything to rest.
const PREPARE: Duration = Duration::from_secs(30);

/// Everything is at rest, and players wait.
const STEP: Duration = Duration::from_secs(10);

/// A successor that is not needed is told in no time, or finds out.
const STAY_DEADLINE: Duration = Duration::from_secs(1);

/// A greeting or a verdict is a few words.
const MAX_WORDS: usize = 64 * 1024;

/// Sessions times their windows, and more than any machine has.
const MAX_STATE: usize = 2 << 30;

const GO: &[u8] = b"go";

/// Said instead of [`GO`] by a process that goes on itself.
const STAY: &[u8] = b"stay";

/// Why one process did not follow another. Whoever was there before goes on.
#[derive(Debug, thiserror::Error)]
pub enum SuccessionError {
    /// The other process is gone.
    #[error("the other process went away during the hand-over: its own words above say why; the old one goes on")]
    Channel(#[from] ChannelError),
    /// It took too long.
    #[error("the other process took longer than {} s, so the old one goes on", .0.as_secs())]
    Timeout(Duration),
    /// The successor says that it cannot.
    #[error("the new process cannot take over, so the old one goes on: {0}")]
    Refused(String),
    /// The successor does not read what the predecessor writes.
    #[error("the new process ({software}) does not understand the hand-over of the old one: restart it instead")]
    Format {
        /// Its version.
        software: String,
    },
    /// What the other one said makes no sense.
    #[error("the other process said something that makes no sense, so the old one goes on")]
    Nonsense(#[source] minicbor::decode::Error),
    /// The predecessor goes on after all.
    #[error("the old process goes on after all")]
    Stayed,
    /// The machine gave no descriptor, or not everything came to rest.
    #[error("nothing can be handed over right now: {0}")]
    Here(String),
}

impl From<io::Error> for SuccessionError {
    fn from(error: io::Error) -> Self {
        Self::Here(error.to_string())
    }
}

/// The successor's first word. Field numbers are never used again: it is read by other versions of this program.
#[derive(Debug, Encode, Decode)]
#[cbor(map)]
struct Greeting {
    /// The formats of state that it reads.
    #[n(0)]
    formats: Vec<u32>,
    /// Its version, for the log.
    #[n(1)]
    software: String,
    /// Why it cannot even begin; absent when it can.
    #[n(2)]
    failure: Option<String>,
    /// Its process number.
    #[n(3)]
    pid: u32,
}

/// The successor's last word before it is told to go.
#[derive(Debug, Encode, Decode)]
#[cbor(map)]
struct Verdict {
    /// Why it cannot take over; absent when it is ready.
    #[n(0)]
    failure: Option<String>,
}

/// Descriptors to hand over, by the places that they have in a message.
#[derive(Default)]
pub struct Descriptors(Vec<Arc<dyn AsFd + Send + Sync>>);

impl Descriptors {
    /// Adds a descriptor that others use too, without another one of its own; returns its place.
    pub fn add(&mut self, descriptor: Arc<dyn AsFd + Send + Sync>) -> u32 {
        self.0.push(descriptor);
        self.0.len() as u32 - 1
    }

    /// Adds a duplicate of a descriptor that is not shared.
    ///
    /// # Errors
    /// When the kernel has none to give.
    pub fn add_duplicate(&mut self, descriptor: impl AsFd) -> io::Result<u32> {
        Ok(self.add(Arc::new(descriptor.as_fd().try_clone_to_owned()?)))
    }
}

impl std::fmt::Debug for Descriptors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Descriptors({})", self.0.len())
    }
}

/// The side that hands over.
#[derive(Debug)]
pub struct Predecessor<'c> {
    channel: &'c mut Channel,
    /// The successor's process number.
    pub pid: u32,
}

impl<'c> Predecessor<'c> {
    /// Waits for a successor that reads `format`.
    ///
    /// # Errors
    /// [`SuccessionError`].
    pub async fn meet(channel: &'c mut Channel, format: u32) -> Result<Self, SuccessionError> {
        let greeting: Greeting = hear(channel, PREPARE).await?;
        if let Some(failure) = greeting.failure {
            return Err(SuccessionError::Refused(failure));
        }
        if !greeting.formats.contains(&format) {
            let software = greeting.software;
            return Err(SuccessionError::Format { software });
        }
        let pid = greeting.pid;
        tracing::info!(successor = greeting.software, pid, "handing over");
        Ok(Self { channel, pid })
    }

    /// Hands `state` over and waits until the successor has restored it.
    ///
    /// # Errors
    /// [`SuccessionError`].
    pub async fn hand(&mut self, state: &impl Encode<()>, descriptors: &Descriptors) -> Result<(), SuccessionError> {
        let descriptors: Vec<BorrowedFd<'_>> = descriptors.0.iter().map(|descriptor| descriptor.as_fd()).collect();
        within(STEP, self.channel.send(&encode(state)?, &descriptors)).await?;
        let verdict: Verdict = hear(self.channel, STEP).await?;
        match verdict.failure {
            Some(failure) => Err(SuccessionError::Refused(failure)),
            None => Ok(()),
        }
    }

    /// Lets the successor go on. This process must not touch what it has handed over any more.
    ///
    /// # Errors
    /// [`SuccessionError`].
    pub async fn let_go(&mut self) -> Result<(), SuccessionError> {
        within(STEP, self.channel.send(GO, &[])).await
    }

    /// Says that this process goes on. To be awaited before anything moves again, so that no byte is ever taken twice.
    pub async fn stay(self) {
        // A successor that is gone already need not be told.
        let _ = tokio::time::timeout(STAY_DEADLINE, self.channel.send(STAY, &[])).await;
    }
}

/// The side that takes over.
#[derive(Debug)]
pub struct Successor<'c> {
    channel: &'c mut Channel,
    /// Whether sockets that were handed over are ours to reset.
    armed: Arc<AtomicBool>,
}

impl<'c> Successor<'c> {
    /// Introduces this process, which calls itself `software` and reads `formats`, or says why it cannot even begin.
    ///
    /// # Errors
    /// [`SuccessionError`].
    pub async fn meet(
        channel: &'c mut Channel,
        formats: &[u32],
        software: &str,
        failure: Option<String>,
    ) -> Result<Self, SuccessionError> {
        let greeting = Greeting {
            formats: formats.to_vec(),
            software: software.to_owned(),
            failure,
            pid: std::process::id(),
        };
        say(channel, &greeting).await?;
        let armed = Arc::new(AtomicBool::new(false));
        Ok(Self { channel, armed })
    }

    /// Takes the state and the sockets that belong to it.
    ///
    /// # Errors
    /// [`SuccessionError`].
    pub async fn take<T: for<'b> Decode<'b, ()>>(&mut self) -> Result<(T, Sockets), SuccessionError> {
        let (body, descriptors) = within(PREPARE, self.channel.receive(MAX_STATE)).await?;
        let state = minicbor::decode(&body).map_err(SuccessionError::Nonsense)?;
        let sockets = Sockets {
            descriptors: descriptors.into_iter().map(Some).collect(),
            armed: self.armed.clone(),
        };
        Ok((state, sockets))
    }

    /// Says that everything is restored, or why not, and waits until the predecessor lets go; from then on the sockets are this process's alone.
    ///
    /// # Errors
    /// [`SuccessionError`], which is [`SuccessionError::Refused`] when `failure` is given.
    pub async fn go(self, failure: Option<String>) -> Result<(), SuccessionError> {
        let verdict = Verdict { failure };
        say(self.channel, &verdict).await?;
        if let Some(failure) = verdict.failure {
            return Err(SuccessionError::Refused(failure));
        }
        match within(PREPARE, self.channel.receive(MAX_WORDS)).await {
            Ok((word, _)) if word == GO => {}
            // A predecessor that is gone has let us go, too.
            Err(SuccessionError::Channel(ChannelError::Closed)) => {}
            Ok(_) => return Err(SuccessionError::Stayed),
            Err(error) => return Err(error),
        }
        self.armed.store(true, Ordering::Relaxed);
        Ok(())
    }
}

/// What was handed over, by places.
#[derive(Debug)]
pub struct Sockets {
    descriptors: Vec<Option<OwnedFd>>,
    armed: Arc<AtomicBool>,
}

impl Sockets {
    /// The descriptor at a place; `None` when there is none, or it was taken before.
    pub fn take(&mut self, at: u32) -> Option<OwnedFd> {
        self.descriptors.get_mut(at as usize)?.take()
    }

    /// A session's local socket, which is reset when it is dropped only once the predecessor has let go.
    ///
    /// # Errors
    /// When the runtime or the kernel refuses it.
    pub fn take_local(&mut self, at: u32) -> io::Result<Option<LocalSocket>> {
        let Some(descriptor) = self.take(at) else {
            return Ok(None);
        };
        let socket = std::net::TcpStream::from(descriptor);
        socket.set_nonblocking(true)?;
        let socket = tokio::net::TcpStream::from_std(socket)?;
        Ok(Some(LocalSocket::handed(socket, self.armed.clone())))
    }
}

fn encode(words: &impl Encode<()>) -> Result<Vec<u8>, SuccessionError> {
    minicbor::to_vec(words).map_err(|error| SuccessionError::Here(error.to_string()))
}

async fn say(channel: &mut Channel, words: &impl Encode<()>) -> Result<(), SuccessionError> {
    within(STEP, channel.send(&encode(words)?, &[])).await
}

async fn hear<T: for<'b> Decode<'b, ()>>(channel: &mut Channel, deadline: Duration) -> Result<T, SuccessionError> {
    let (body, _) = within(deadline, channel.receive(MAX_WORDS)).await?;
    minicbor::decode(&body).map_err(SuccessionError::Nonsense)
}

async fn within<T>(
    deadline: Duration,
    step: impl Future<Output = Result<T, ChannelError>>,
) -> Result<T, SuccessionError> {
    match tokio::time::timeout(deadline, step).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(SuccessionError::Timeout(deadline)),
    }
}
