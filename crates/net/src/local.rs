//! The socket at which a running process can be asked for something by its owner, on the same machine: a file in its data directory.
//!
//! Whoever may open the file may ask, so it has mode 0600 and lies in a directory of the same owner. One connection is one request:
//! ```text
//! ->  REQUEST
//! <-  say TEXT        as often as there is something to say
//! <-  ok TEXT         or `fail TEXT`, or `unknown`: the last line
//! ```
//! Lines end with a newline; a newline inside is written `\n`, a backslash `\\`. What requests there are is the caller's business: this file carries
//! them, bounded in size, number and time.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Requests that are read or answered at once.
const PLACES: usize = 8;

/// A request in bytes, with its newline.
const MAX_REQUEST: usize = 1024;

/// A line of an answer in bytes, with its newline: more than a person reads.
const MAX_ANSWER: usize = 64 * 1024;

/// A program sends its request at once, and takes a line at once.
const PATIENCE: Duration = Duration::from_secs(5);

/// A machine without free descriptors is asked again after this.
const PAUSE: Duration = Duration::from_millis(100);

/// The longest path of a socket in bytes: `sun_path` without its end.
const MAX_PATH: usize = if cfg!(any(target_os = "linux", target_os = "android")) {
    107
} else {
    103
};

/// Appended while the socket is being made.
const UNFINISHED: &str = ".new";

/// Why there is no socket, or no answer.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// The path does not fit into the address of a socket.
    #[error("the path {path} is too long for a socket (more than {limit} bytes): choose a data directory with a shorter path", path = path.display())]
    PathTooLong {
        /// The path.
        path: PathBuf,
        /// The longest that is possible.
        limit: usize,
    },
    /// Another process answers there.
    #[error("another process answers at {path}: two cannot share a data directory", path = path.display())]
    InUse {
        /// The path.
        path: PathBuf,
    },
    /// There is something else than a socket.
    #[error("{path} is in the way and no socket: move it elsewhere", path = path.display())]
    Obstructed {
        /// The path.
        path: PathBuf,
    },
    /// The socket could not be made.
    #[error("failed to make the socket {path}", path = path.display())]
    Bind {
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Nobody listens there.
    #[error("nothing answers at {path}: nobody runs with this data directory, or only an older version that cannot be asked", path = path.display())]
    Nobody {
        /// The path.
        path: PathBuf,
    },
    /// The socket is somebody else's.
    #[error("{path} belongs to somebody else: ask as the user whose process runs there, or as root", path = path.display())]
    Denied {
        /// The path.
        path: PathBuf,
    },
    /// The process does not know the request.
    #[error("the running process does not know `{request}`: it is of another version, so restart it")]
    Unknown {
        /// The request.
        request: String,
    },
    /// The process understood and said no.
    #[error("{0}")]
    Refused(String),
    /// There was no answer in time.
    #[error("no answer within {seconds} s")]
    Silent {
        /// The patience in seconds.
        seconds: u64,
    },
    /// The process ended before it had answered, or what answers is something else.
    #[error("the running process broke off before it had answered: see its log")]
    Cut,
    /// The request is longer than a request may be.
    #[error("a request of {length} bytes exceeds the limit of {MAX_REQUEST}")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// The connection failed.
    #[error("failed to ask at {path}", path = path.display())]
    Io {
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Listens for requests.
#[derive(Debug)]
pub struct LocalServer {
    listener: UnixListener,
    path: PathBuf,
    /// Device and number of the socket file: a successor's file has others.
    file: (u64, u64),
    places: Arc<Semaphore>,
    /// Requests that are being read; they end with the server.
    readers: JoinSet<Option<LocalRequest>>,
}

/// Something a person, or a person's program, asks for.
#[derive(Debug)]
pub struct LocalRequest {
    /// The request as it was sent.
    pub line: String,
    /// Where the answer goes.
    pub reply: LocalReply,
}

/// The way back to who asked. Dropped without an answer it tells [`LocalError::Cut`].
#[derive(Debug)]
pub struct LocalReply {
    /// Gone once the asker has gone.
    stream: Option<UnixStream>,
    _place: OwnedSemaphorePermit,
}

impl LocalServer {
    /// Listens at `path`, and takes the file of a process that has ended without removing it. The caller holds a lock that keeps others from binding there
    /// at the same time.
    ///
    /// # Errors
    /// [`LocalError::PathTooLong`], [`LocalError::InUse`], [`LocalError::Obstructed`] or [`LocalError::Bind`].
    ///
    /// # Panics
    /// Outside a tokio runtime with I/O.
    pub fn bind(path: &Path) -> Result<Self, LocalError> {
        if is_socket(path)? && answers(path) {
            return Err(LocalError::InUse { path: path.to_owned() });
        }
        Self::take_over(path)
    }

    /// Listens at `path` in place of whoever listens there: for a successor whose predecessor has gone on. At no time does nobody answer. The predecessor
    /// still gets the requests that reached it before, and leaves the new file alone when it ends.
    ///
    /// # Errors
    /// [`LocalError::PathTooLong`], [`LocalError::Obstructed`] or [`LocalError::Bind`].
    ///
    /// # Panics
    /// Outside a tokio runtime with I/O.
    pub fn take_over(path: &Path) -> Result<Self, LocalError> {
        is_socket(path)?;
        let mut unfinished = path.as_os_str().to_owned();
        unfinished.push(UNFINISHED);
        if unfinished.len() > MAX_PATH {
            return Err(LocalError::PathTooLong {
                path: path.to_owned(),
                limit: MAX_PATH - UNFINISHED.len(),
            });
        }
        let (listener, file) = make(Path::new(&unfinished), path).map_err(|source| LocalError::Bind {
            path: path.to_owned(),
            source,
        })?;
        Ok(Self {
            listener,
            path: path.to_owned(),
            file,
            places: Arc::new(Semaphore::new(PLACES)),
            readers: JoinSet::new(),
        })
    }

    /// The next request. Cancel-safe: one that is being read goes on being read. Askers that are slow, too many or too wordy are dealt with here.
    pub async fn accept(&mut self) -> LocalRequest {
        loop {
            tokio::select! {
                Some(read) = self.readers.join_next() => {
                    if let Ok(Some(request)) = read {
                        return request;
                    }
                }
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => self.admit(stream),
                    Err(error) => {
                        tracing::warn!(%error, "a local request could not be accepted");
                        tokio::time::sleep(PAUSE).await;
                    }
                },
            }
        }
    }

    fn admit(&mut self, stream: UnixStream) {
        if let Ok(place) = self.places.clone().try_acquire_owned() {
            let reply = LocalReply {
                stream: Some(stream),
                _place: place,
            };
            self.readers.spawn(read(reply));
        } else {
            // A fresh socket has room for a line, which tokio does not know yet and so would wait to be told.
            let _ = stream.into_std().and_then(|mut stream| {
                io::Write::write_all(&mut stream, b"fail too many requests at once: try again\n")
            });
        }
    }
}

impl Drop for LocalServer {
    fn drop(&mut self) {
        // A successor's file is not ours to remove. Ours cannot have its number, which the open listener keeps in use.
        if fs::symlink_metadata(&self.path).is_ok_and(|file| (file.dev(), file.ino()) == self.file) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl LocalReply {
    /// Tells who asked how far things are.
    pub async fn say(&mut self, text: &str) {
        self.line("say", text).await;
    }

    /// Answers, and so ends the conversation.
    pub async fn finish(mut self, result: Result<String, String>) {
        match result {
            Ok(text) => self.line("ok", &text).await,
            Err(text) => self.line("fail", &text).await,
        }
    }

    /// Answers that there is no such request in this version.
    pub async fn unknown(mut self) {
        self.line("unknown", "").await;
    }

    /// Sends a line. An asker who has gone, or does not read, hears no more; the work goes on.
    async fn line(&mut self, verb: &str, text: &str) {
        let Some(stream) = &mut self.stream else { return };
        let line = format!("{verb} {}\n", escape(text));
        if !matches!(timeout(PATIENCE, stream.write_all(line.as_bytes())).await, Ok(Ok(()))) {
            self.stream = None;
        }
    }
}

/// Reads a request; none when there is nothing to answer.
async fn read(mut reply: LocalReply) -> Option<LocalRequest> {
    let line = timeout(
        PATIENCE,
        read_line(&mut BufReader::new(reply.stream.as_mut()?), MAX_REQUEST),
    )
    .await;
    match line {
        Ok(Ok(line)) => Some(LocalRequest {
            line: unescape(&line?),
            reply,
        }),
        Ok(Err(_)) => {
            reply
                .finish(Err(format!(
                    "a request is a line of text of at most {MAX_REQUEST} bytes"
                )))
                .await;
            None
        }
        Err(_) => {
            reply
                .finish(Err(format!("no request within {} s", PATIENCE.as_secs())))
                .await;
            None
        }
    }
}

/// Asks the process that listens at `path`, waits for its answer for `deadline` in all and returns it; what it says meanwhile goes to `progress`.
///
/// # Errors
/// [`LocalError::Nobody`], [`LocalError::Denied`], [`LocalError::Unknown`], [`LocalError::Refused`], [`LocalError::Silent`], [`LocalError::Cut`],
/// [`LocalError::TooLong`] or [`LocalError::Io`].
pub async fn ask(
    path: &Path,
    line: &str,
    deadline: Duration,
    progress: impl FnMut(&str),
) -> Result<String, LocalError> {
    match timeout(deadline, converse(path, line, progress)).await {
        Ok(answer) => answer,
        Err(_) => Err(LocalError::Silent {
            seconds: deadline.as_secs(),
        }),
    }
}

async fn converse(path: &Path, request: &str, mut progress: impl FnMut(&str)) -> Result<String, LocalError> {
    let wire = format!("{}\n", escape(request));
    if wire.len() > MAX_REQUEST {
        return Err(LocalError::TooLong { length: wire.len() });
    }
    let failed = |source| no_connection(path, source);
    let mut stream = UnixStream::connect(path).await.map_err(failed)?;
    // A process that has no place for the request answers without reading it.
    let _ = stream.write_all(wire.as_bytes()).await;
    let mut stream = BufReader::new(stream);
    loop {
        let line = read_line(&mut stream, MAX_ANSWER).await;
        let Ok(Some(line)) = line else {
            return Err(LocalError::Cut);
        };
        let (verb, text) = line.split_once(' ').unwrap_or((&line, ""));
        let text = unescape(text);
        match verb {
            "say" => progress(&text),
            "ok" => return Ok(text),
            "fail" => return Err(LocalError::Refused(text)),
            "unknown" => {
                return Err(LocalError::Unknown {
                    request: request.to_owned(),
                });
            }
            _ => return Err(LocalError::Cut),
        }
    }
}

fn no_connection(path: &Path, source: io::Error) -> LocalError {
    let path = path.to_owned();
    match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => LocalError::Nobody { path },
        io::ErrorKind::PermissionDenied => LocalError::Denied { path },
        io::ErrorKind::InvalidInput => LocalError::PathTooLong { path, limit: MAX_PATH },
        _ => LocalError::Io { path, source },
    }
}

/// Whether there is a socket at `path`, alive or not.
fn is_socket(path: &Path) -> Result<bool, LocalError> {
    match fs::symlink_metadata(path) {
        Ok(file) if file.file_type().is_socket() => Ok(true),
        Ok(_) => Err(LocalError::Obstructed { path: path.to_owned() }),
        // Whatever else is the matter, binding will tell.
        Err(_) => Ok(false),
    }
}

/// Whether somebody listens at `path`. Never waits.
fn answers(path: &Path) -> bool {
    let connect = || -> io::Result<()> {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.connect(&SockAddr::unix(path)?)
    };
    match connect() {
        Ok(()) => true,
        // Somebody with a full queue is somebody.
        Err(error) => error.kind() == io::ErrorKind::WouldBlock,
    }
}

/// Makes the socket where nobody looks yet, and moves it to `path` once it is ours alone.
fn make(unfinished: &Path, path: &Path) -> io::Result<(UnixListener, (u64, u64))> {
    // Left behind by a process that was killed in these lines.
    let _ = fs::remove_file(unfinished);
    let listener = UnixListener::bind(unfinished)?;
    let publish = || {
        fs::set_permissions(unfinished, fs::Permissions::from_mode(0o600))?;
        let file = fs::symlink_metadata(unfinished)?;
        fs::rename(unfinished, path)?;
        Ok((file.dev(), file.ino()))
    };
    match publish() {
        Ok(file) => Ok((listener, file)),
        Err(error) => {
            let _ = fs::remove_file(unfinished);
            Err(error)
        }
    }
}

/// Reads a line of at most `limit` bytes; none at the end.
async fn read_line(stream: &mut (impl AsyncBufRead + Unpin), limit: usize) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    stream.take(limit as u64).read_until(b'\n', &mut line).await?;
    if line.is_empty() {
        return Ok(None);
    }
    if line.pop() != Some(b'\n') {
        return Err(io::ErrorKind::InvalidData.into());
    }
    String::from_utf8(line)
        .map(Some)
        .map_err(|_| io::ErrorKind::InvalidData.into())
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\n', "\\n")
}

fn unescape(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some('n') => text.push('\n'),
                other => text.extend(other),
            },
            _ => text.push(character),
        }
    }
    text
}

#[cfg(test)]
mod tests;
