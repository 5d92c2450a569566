//! A player: what an unmodified game does when it fills its server list and when it joins, with a stopwatch.
//!
//! It knows nothing of tunnels and is given nothing but an address and the name a person would type. So what it measures is what a player feels, and
//! where it fails, a player would. Every wait ends at the caller's deadline.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use spawnpoint_sniff::Progress;
use spawnpoint_sniff::minecraft::{Handshake, Listing, Next, Violation, login, status};
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

/// The protocol number of Minecraft 1.21.4.
const PROTOCOL: i32 = 769;

/// Why a player did not get what they came for.
#[derive(Debug, Error)]
pub enum PlayerError {
    /// There is no way to the server, or nothing listens there.
    #[error("failed to connect to {addr}")]
    Connect {
        /// Where to.
        addr: SocketAddr,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The connection broke.
    #[error("lost the connection while {step}")]
    Lost {
        /// What the player was doing.
        step: Doing,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The server ended the connection in good order, but too early.
    #[error("the server closed the connection while {step}")]
    Closed {
        /// What the player was doing.
        step: Doing,
    },
    /// The deadline passed.
    #[error("no answer within {deadline:?} while {step}")]
    Deadline {
        /// What the player was doing.
        step: Doing,
        /// How long the player waited.
        deadline: Duration,
    },
    /// The server does not speak as a Minecraft server does, or the name is not one it would read.
    #[error("not understood while {step}")]
    Violation {
        /// What the player was doing.
        step: Doing,
        /// The offence.
        #[source]
        source: Violation,
    },
    /// The answer belongs to another question.
    #[error("the server mixed up its answers while {step}")]
    WrongAnswer {
        /// What the player was doing.
        step: Doing,
    },
    /// The server let the player in, where a farewell was asked for.
    #[error("the server let the player in (packet {packet:#04x}) and gave no farewell to show")]
    LetIn {
        /// The id of the packet that said so.
        packet: i32,
    },
}

/// What a player is doing when something happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    /// Waiting for the connection.
    Connecting,
    /// Waiting for the entry of the server list.
    Listing,
    /// Waiting for a pong.
    Pinging,
    /// Waiting for the answer to a login.
    LoggingIn,
}

impl Doing {
    /// The name of this step, in words that follow "while".
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Listing => "asking for the list entry",
            Self::Pinging => "pinging",
            Self::LoggingIn => "logging in",
        }
    }
}

impl std::fmt::Display for Doing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a player saw and felt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The message of the day, as the server sent it.
    pub motd: String,
    /// The name of the server's version.
    pub version: String,
    /// Players that are on.
    pub players_online: u32,
    /// Players that fit.
    pub players_max: u32,
    /// From each ping to its pong, in the order they were made.
    pub samples: Vec<Duration>,
    /// What the first connection took to be made.
    pub connect: Duration,
    /// How many connections the rounds took: 1, or one per round where the server closes after each pong, as the game's own does.
    pub connections: usize,
}

impl Report {
    /// The middle sample, the later of two; `None` when there was no round.
    #[must_use]
    pub fn median(&self) -> Option<Duration> {
        let mut sorted = self.samples.clone();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied()
    }

    /// The shortest sample.
    #[must_use]
    pub fn fastest(&self) -> Option<Duration> {
        self.samples.iter().min().copied()
    }

    /// The longest sample.
    #[must_use]
    pub fn slowest(&self) -> Option<Duration> {
        self.samples.iter().max().copied()
    }
}

/// Asks the server at `addr` for its entry as one who typed `hostname`, and pings it `rounds` times; no single wait is longer than `deadline`.
///
/// The rounds share a connection as long as the server lets them. A server that closes after a pong gets a new connection, with all that a player says
/// before a ping, for each further round; a sample never includes that.
///
/// # Errors
/// [`PlayerError`]; a connection that ends before its first pong is always one.
pub async fn ping(addr: SocketAddr, hostname: &str, rounds: usize, deadline: Duration) -> Result<Report, PlayerError> {
    let began = Instant::now();
    let mut talk = Talk::connect(addr, deadline).await?;
    let connect = began.elapsed();
    let entry = talk.list(addr, hostname).await?;
    let mut report = Report {
        motd: entry.motd,
        version: entry.version,
        players_online: entry.online,
        players_max: entry.max,
        samples: Vec::new(),
        connect,
        connections: 1,
    };
    let mut fresh = true;
    for round in 0..rounds {
        let sample = match talk.ping(round as i64).await {
            Err(PlayerError::Closed { .. } | PlayerError::Lost { .. }) if !fresh => {
                talk = Talk::connect(addr, deadline).await?;
                talk.list(addr, hostname).await?;
                report.connections += 1;
                talk.ping(round as i64).await?
            }
            sample => sample?,
        };
        fresh = false;
        report.samples.push(sample);
    }
    Ok(report)
}

/// Logs in to the server at `addr` as `name`, as one who typed `hostname`, and returns the words it sends the player away with; no single wait is longer
/// than `deadline`.
///
/// # Errors
/// [`PlayerError`]; [`PlayerError::LetIn`] when the server has no objection.
pub async fn login(addr: SocketAddr, hostname: &str, name: &str, deadline: Duration) -> Result<String, PlayerError> {
    let step = Doing::LoggingIn;
    let mut talk = Talk::connect(addr, deadline).await?;
    let mut out = BytesMut::new();
    handshake(addr, hostname, Next::Login)
        .encode(&mut out)
        .and_then(|()| login::Start { name: name.to_owned() }.encode(PROTOCOL, &mut out))
        .map_err(|source| PlayerError::Violation { step, source })?;
    talk.write(&out, step).await?;
    match talk.next(step, login::Reply::decode).await? {
        login::Reply::Disconnect(words) => Ok(words),
        login::Reply::Other(packet) => Err(PlayerError::LetIn { packet }),
    }
}

fn handshake(addr: SocketAddr, hostname: &str, next: Next) -> Handshake {
    Handshake {
        protocol: PROTOCOL,
        host: hostname.to_owned(),
        port: addr.port(),
        next,
    }
}

/// One connection to a server, with what is read of it and not yet understood.
struct Talk {
    stream: TcpStream,
    held: BytesMut,
    deadline: Duration,
}

impl Talk {
    async fn connect(addr: SocketAddr, deadline: Duration) -> Result<Self, PlayerError> {
        let step = Doing::Connecting;
        let stream = timeout(deadline, TcpStream::connect(addr))
            .await
            .map_err(|_| PlayerError::Deadline { step, deadline })?
            .and_then(|stream| {
                // The game sends its packets at once; without this a ping may wait for an acknowledgement.
                stream.set_nodelay(true)?;
                Ok(stream)
            })
            .map_err(|source| PlayerError::Connect { addr, source })?;
        Ok(Self {
            stream,
            held: BytesMut::new(),
            deadline,
        })
    }

    /// Says hello and asks for the entry.
    async fn list(&mut self, addr: SocketAddr, hostname: &str) -> Result<Listing, PlayerError> {
        let step = Doing::Listing;
        let mut out = BytesMut::new();
        handshake(addr, hostname, Next::Status)
            .encode(&mut out)
            .map_err(|source| PlayerError::Violation { step, source })?;
        status::Query::Request.encode(&mut out);
        self.write(&out, step).await?;
        match self.next(step, status::Reply::decode).await? {
            status::Reply::Listing(entry) => Ok(entry),
            status::Reply::Pong(_) => Err(PlayerError::WrongAnswer { step }),
        }
    }

    /// Sends `number` and returns how long it took to come back.
    async fn ping(&mut self, number: i64) -> Result<Duration, PlayerError> {
        let step = Doing::Pinging;
        let mut out = BytesMut::new();
        status::Query::Ping(number).encode(&mut out);
        let began = Instant::now();
        self.write(&out, step).await?;
        let reply = self.next(step, status::Reply::decode).await?;
        let took = began.elapsed();
        if reply == status::Reply::Pong(number) {
            Ok(took)
        } else {
            Err(PlayerError::WrongAnswer { step })
        }
    }

    async fn write(&mut self, bytes: &[u8], step: Doing) -> Result<(), PlayerError> {
        let deadline = self.deadline;
        timeout(deadline, self.stream.write_all(bytes))
            .await
            .map_err(|_| PlayerError::Deadline { step, deadline })?
            .map_err(|source| PlayerError::Lost { step, source })
    }

    /// Reads the next packet; the deadline is for the whole of it, however many pieces it comes in.
    async fn next<T>(
        &mut self,
        step: Doing,
        decode: impl Fn(&[u8]) -> Result<Progress<T>, Violation>,
    ) -> Result<T, PlayerError> {
        let deadline = self.deadline;
        let packet = async {
            loop {
                match decode(&self.held) {
                    Ok(Progress::NeedMore) => {}
                    Ok(Progress::Done { value, consumed }) => {
                        self.held.advance(consumed);
                        return Ok(value);
                    }
                    Err(source) => return Err(PlayerError::Violation { step, source }),
                }
                match self.stream.read_buf(&mut self.held).await {
                    Ok(0) => return Err(PlayerError::Closed { step }),
                    Ok(_) => {}
                    Err(source) => return Err(PlayerError::Lost { step, source }),
                }
            }
        };
        timeout(deadline, packet)
            .await
            .map_err(|_| PlayerError::Deadline { step, deadline })?
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use spawnpoint_sniff::minecraft::Refusal;
    use tokio::net::TcpListener;
    use tokio::time::sleep;

    const SHORT: Duration = Duration::from_secs(5);

    /// Runs `talk` beside a server that gives each connection to `serve`, one after the other.
    async fn beside<T>(serve: impl AsyncFn(TcpStream), talk: impl AsyncFnOnce(SocketAddr) -> T) -> T {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let serving = async {
            loop {
                serve(listener.accept().await.unwrap().0).await;
            }
        };
        tokio::select! {
            () = serving => unreachable!("it serves for ever"),
            result = talk(addr) => result,
        }
    }

    /// Refuses in the game's words, which for a status ping means closing after the first pong, as the game's own server does.
    async fn refuse(mut stream: TcpStream) {
        let mut refusal = Refusal::new("asleep");
        let mut bytes = [0; 512];
        while let Ok(size @ 1..) = stream.read(&mut bytes).await {
            let step = refusal.on_bytes(&bytes[..size]);
            stream.write_all(&step.reply).await.unwrap();
            if matches!(step.then, spawnpoint_sniff::minecraft::Then::End(_)) {
                return;
            }
        }
    }

    #[tokio::test]
    async fn a_server_that_closes_after_each_pong_gets_a_connection_per_round() {
        let report = beside(refuse, async |addr| ping(addr, "h", 4, SHORT).await)
            .await
            .unwrap();
        assert_eq!(
            (report.motd.as_str(), report.samples.len(), report.connections),
            ("asleep", 4, 4)
        );
    }

    #[tokio::test]
    async fn a_refused_player_reads_the_reason() {
        let words = beside(refuse, async |addr| login(addr, "h", "Ada", SHORT).await).await;
        assert_eq!(words.unwrap(), "asleep");
    }

    #[tokio::test]
    async fn a_server_that_hangs_up_is_told_from_one_that_is_silent() {
        let result = beside(
            async |stream| drop(stream),
            async |addr| ping(addr, "h", 1, SHORT).await,
        )
        .await;
        let step = Doing::Listing;
        assert!(
            matches!(result, Err(PlayerError::Closed { .. } | PlayerError::Lost { .. })),
            "{result:?}"
        );

        let silent = async |stream| {
            sleep(SHORT).await;
            drop(stream);
        };
        let deadline = Duration::from_millis(20);
        let result = beside(silent, async |addr| ping(addr, "h", 1, deadline).await).await;
        assert!(
            matches!(result, Err(PlayerError::Deadline { step: s, .. }) if s == step),
            "{result:?}"
        );
    }

    #[tokio::test]
    async fn a_server_that_speaks_something_else_is_named() {
        let other = async |mut stream: TcpStream| {
            stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n").await.unwrap();
            sleep(SHORT).await;
        };
        let result = beside(other, async |addr| ping(addr, "h", 1, SHORT).await).await;
        let source = Violation::UnexpectedPacket;
        assert!(
            matches!(result, Err(PlayerError::Violation { source: s, .. }) if s == source),
            "{result:?}"
        );
    }

    #[tokio::test]
    async fn a_server_that_lets_the_player_in_is_not_taken_for_a_refusal() {
        // Set Compression, the first word of a server in offline mode.
        let welcoming = async |mut stream: TcpStream| {
            stream.write_all(&[3, 3, 0x80, 2]).await.unwrap();
            sleep(SHORT).await;
        };
        let result = beside(welcoming, async |addr| login(addr, "h", "Ada", SHORT).await).await;
        assert!(matches!(result, Err(PlayerError::LetIn { packet: 3 })), "{result:?}");
    }

    #[tokio::test]
    async fn a_closed_port_is_a_failure_to_connect() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let addr = listener.local_addr().unwrap();
        drop(listener);
        let result = ping(addr, "h", 1, SHORT).await;
        assert!(matches!(result, Err(PlayerError::Connect { .. })), "{result:?}");
    }

    #[test]
    fn the_median_is_not_moved_by_one_slow_sample() {
        let millis = [3, 1, 900, 2, 4].map(Duration::from_millis);
        let mut report = Report {
            motd: String::new(),
            version: String::new(),
            players_online: 0,
            players_max: 0,
            samples: millis.to_vec(),
            connect: Duration::ZERO,
            connections: 1,
        };
        assert_eq!(report.median(), Some(Duration::from_millis(3)));
        assert_eq!((report.fastest(), report.slowest()), (Some(millis[1]), Some(millis[2])));
        report.samples.clear();
        assert_eq!(report.median(), None);
    }
}
