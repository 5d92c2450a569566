//! A small game server: it speaks just enough Minecraft to be found in a server list and to greet who joins.
//!
//! It stands where a real server would, behind the agent, so that the demo needs nothing installed. There is no world: whoever logs in is told that the
//! tunnel works and sent home. Every wait has a deadline, what a player may send is capped by the decoders, and every connection lives in the scope of
//! [`Origin::serve`].

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use spawnpoint_sniff::Progress;
use spawnpoint_sniff::minecraft::{First, Handshake, LEGACY_PAUSE, Listing, Next, Violation, legacy, login, status};
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::debug;

/// Connections at a time; further ones wait in the listener's queue.
const MAX_CONNECTIONS: usize = 64;

/// Longer than a slow phone needs between two packets.
const READ_DEADLINE: Duration = Duration::from_secs(5);

/// Longer than a peer that reads at all needs to take a few hundred bytes.
const WRITE_DEADLINE: Duration = Duration::from_secs(5);

/// What a connection may last in all, so that slow talkers cannot hold the places for good. A long ping series fits.
const CONNECTION_DEADLINE: Duration = Duration::from_secs(120);

/// Time for a player to read the last words and close before we do: a socket closed with bytes unread resets, and the words may be lost with it.
const LINGER: Duration = Duration::from_secs(1);

/// Pause after the system refused to accept, mostly for want of file descriptors, which time may bring back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The message of the day.
pub const MOTD: &str = "Spawnpoint demo: it works!";

const VERSION: &str = "Spawnpoint demo";

/// The demo's game server.
#[derive(Debug)]
pub struct Origin {
    listener: TcpListener,
    local: SocketAddr,
}

impl Origin {
    /// Listens on `addr`; port 0 takes a free one.
    ///
    /// # Errors
    /// What the system says when it will not let us listen there.
    pub async fn bind(addr: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(addr).await?;
        let local = listener.local_addr()?;
        Ok(Self { listener, local })
    }

    /// The address it listens on.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Serves players until `stop` is cancelled. No connection outlives this call.
    pub async fn serve(self, stop: CancellationToken) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                // Stopping comes first, so that a queue of players cannot keep us.
                biased;
                () = stop.cancelled() => break,
                Some(_) = connections.join_next(), if !connections.is_empty() => {}
                accepted = self.listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                    Ok((stream, player)) => {
                        connections.spawn(greet(stream, player));
                    }
                    Err(error) => {
                        debug!(%error, "demo origin failed to accept");
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        connections.shutdown().await;
    }
}

/// Why a conversation ended before its time.
#[derive(Debug, Error)]
enum Ended {
    #[error("the player left")]
    Left,
    #[error("the player was silent for too long")]
    Deadline,
    #[error("the player's bytes are not Minecraft's")]
    Violation(#[from] Violation),
    #[error("the connection failed")]
    Io(#[from] io::Error),
}

async fn greet(stream: TcpStream, player: SocketAddr) {
    match timeout(CONNECTION_DEADLINE, Player::new(stream).converse()).await {
        Ok(Ok(())) => debug!(%player, "demo player served"),
        Ok(Err(ended)) => debug!(%player, reason = %ended, "demo player left early"),
        Err(_) => debug!(%player, reason = "connection_deadline", "demo player left early"),
    }
}

/// One player's connection, with what is read of it and not yet understood.
struct Player {
    stream: TcpStream,
    held: BytesMut,
}

impl Player {
    fn new(stream: TcpStream) -> Self {
        // Without it a pong may wait for an acknowledgement, and the demo would measure that.
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "demo origin keeps delaying small packets");
        }
        Self {
            stream,
            held: BytesMut::new(),
        }
    }

    async fn converse(mut self) -> Result<(), Ended> {
        match self.first().await? {
            First::Legacy(ping) => self.list_legacy(&ping).await?,
            First::Handshake(handshake) => match handshake.next {
                Next::Status => return self.list(&handshake).await,
                Next::Login | Next::Transfer => self.send_home().await?,
            },
        }
        self.close().await
    }

    /// Reads the first packet, giving a lone legacy ping a moment to become something longer.
    async fn first(&mut self) -> Result<First, Ended> {
        loop {
            let (value, consumed) = match First::decode(&self.held)? {
                Progress::NeedMore => {
                    self.read(READ_DEADLINE).await?;
                    continue;
                }
                Progress::Done { value, consumed } => (value, consumed),
            };
            if !value.is_settled() {
                match self.read(LEGACY_PAUSE).await {
                    Ok(()) => continue,
                    Err(Ended::Deadline | Ended::Left) => {}
                    Err(ended) => return Err(ended),
                }
            }
            self.held.advance(consumed);
            return Ok(value);
        }
    }

    /// Answers requests and pings until the player leaves. The game itself closes after one pong; staying lets one connection measure many.
    async fn list(&mut self, handshake: &Handshake) -> Result<(), Ended> {
        loop {
            let query = match self.next(status::Query::decode).await {
                Ok(query) => query,
                Err(Ended::Left) => return Ok(()),
                Err(ended) => return Err(ended),
            };
            let reply = match query {
                status::Query::Request => status::Reply::Listing(entry(handshake.protocol)),
                status::Query::Ping(number) => status::Reply::Pong(number),
            };
            let mut out = BytesMut::new();
            reply.encode(&mut out);
            self.write(&out).await?;
        }
    }

    async fn list_legacy(&mut self, ping: &legacy::Ping) -> Result<(), Ended> {
        let mut out = BytesMut::new();
        legacy::encode_reply(&entry(ping.protocol()), ping, &mut out);
        self.write(&out).await
    }

    async fn send_home(&mut self) -> Result<(), Ended> {
        let login::Start { name } = self.next(login::Start::decode).await?;
        let mut out = BytesMut::new();
        login::encode_disconnect(&goodbye(&name), &mut out);
        self.write(&out).await
    }

    /// Reads the next packet.
    async fn next<T>(&mut self, decode: impl Fn(&[u8]) -> Result<Progress<T>, Violation>) -> Result<T, Ended> {
        loop {
            if let Progress::Done { value, consumed } = decode(&self.held)? {
                self.held.advance(consumed);
                return Ok(value);
            }
            self.read(READ_DEADLINE).await?;
        }
    }

    async fn read(&mut self, deadline: Duration) -> Result<(), Ended> {
        match timeout(deadline, self.stream.read_buf(&mut self.held)).await {
            Ok(Ok(0)) => Err(Ended::Left),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(Ended::Deadline),
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Ended> {
        timeout(WRITE_DEADLINE, self.stream.write_all(bytes))
            .await
            .map_err(|_| Ended::Deadline)??;
        Ok(())
    }

    /// Says that no more will come, and waits a little for the player to have read it.
    async fn close(mut self) -> Result<(), Ended> {
        self.stream.shutdown().await?;
        let unread = async {
            loop {
                self.held.clear();
                match self.stream.read_buf(&mut self.held).await {
                    Ok(0) | Err(_) => break,
                    Ok(_) => {}
                }
            }
        };
        // Whoever has not closed by then has had the time to read.
        let _ = timeout(LINGER, unread).await;
        Ok(())
    }
}

fn entry(protocol: i32) -> Listing {
    Listing {
        version: VERSION.to_owned(),
        protocol,
        online: 3,
        max: 20,
        sample: ["Relay", "Agent", "Origin"].map(str::to_owned).to_vec(),
        motd: MOTD.to_owned(),
        icon: None,
    }
}

fn goodbye(name: &str) -> String {
    format!(
        "Hello {name}! You reached this server through Spawnpoint.\n\n\
         Your packets went from the relay over the link to the agent, and from there to this demo server. \
         It has no world to play in, so put your own server in its place."
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::player;

    const SHORT: Duration = Duration::from_secs(5);

    /// Runs `talk` against an origin of its own and stops that.
    async fn with_origin<T>(talk: impl AsyncFnOnce(SocketAddr) -> T) -> T {
        let origin = Origin::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
        let addr = origin.local_addr();
        let stop = CancellationToken::new();
        let served = origin.serve(stop.clone());
        let talked = async {
            let result = talk(addr).await;
            stop.cancel();
            result
        };
        tokio::join!(served, talked).1
    }

    async fn legacy_answer(addr: SocketAddr, bytes: &[u8]) -> Listing {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        timeout(SHORT, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
        match legacy::decode_reply(&answer).unwrap() {
            Progress::Done { value, .. } => value,
            Progress::NeedMore => panic!("the answer is cut"),
        }
    }

    #[tokio::test]
    async fn a_player_sees_the_entry_and_measures_many_pings_on_one_connection() {
        let report = with_origin(async |addr| player::ping(addr, "demo.example.net", 5, SHORT).await)
            .await
            .unwrap();
        assert_eq!((report.motd.as_str(), report.version.as_str()), (MOTD, VERSION));
        assert_eq!((report.players_online, report.players_max), (3, 20));
        assert_eq!((report.samples.len(), report.connections), (5, 1));
    }

    #[tokio::test]
    async fn a_player_who_logs_in_is_greeted_by_name_and_sent_home() {
        let words = with_origin(async |addr| player::login(addr, "demo.example.net", "Ada", SHORT).await)
            .await
            .unwrap();
        assert!(
            words.starts_with("Hello Ada! You reached this server through Spawnpoint."),
            "{words}"
        );
    }

    #[tokio::test]
    async fn all_three_legacy_pings_are_answered() {
        let mut with_host = BytesMut::new();
        let ping = legacy::Ping::WithHost {
            protocol: 74,
            host: "demo.example.net".into(),
            port: 25565,
        };
        ping.encode(&mut with_host).unwrap();
        for (bytes, protocol) in [
            (&[0xfe][..], -1),
            (&[0xfe, 0x01], 61),
            (&[0xfe, 0x01, 0xfa], 61),
            (&with_host, 74),
        ] {
            let entry = with_origin(async |addr| legacy_answer(addr, bytes).await).await;
            assert_eq!((entry.motd.as_str(), entry.protocol), (MOTD, protocol));
        }
    }

    #[tokio::test]
    async fn garbage_is_closed_without_a_word() {
        let answer = with_origin(async |addr| {
            let mut stream = TcpStream::connect(addr).await.unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
            let mut answer = Vec::new();
            // A reset is as good as an end.
            let _ = timeout(SHORT, stream.read_to_end(&mut answer)).await.unwrap();
            answer
        })
        .await;
        assert!(answer.is_empty());
    }

    #[tokio::test]
    async fn nothing_outlives_serve() {
        let mut idle = with_origin(async |addr| TcpStream::connect(addr).await.unwrap()).await;
        let mut byte = [0];
        let read = timeout(SHORT, idle.read(&mut byte)).await.unwrap();
        assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    }

    #[tokio::test]
    async fn a_player_beyond_the_last_place_waits_and_is_served_when_one_is_free() {
        with_origin(async |addr| {
            let mut idle = Vec::new();
            for _ in 0..MAX_CONNECTIONS {
                idle.push(TcpStream::connect(addr).await.unwrap());
            }
            let late = player::ping(addr, "demo.example.net", 1, Duration::from_millis(200)).await;
            assert!(matches!(late, Err(player::PlayerError::Deadline { .. })), "{late:?}");
            idle.clear();
            assert!(player::ping(addr, "demo.example.net", 1, SHORT).await.is_ok());
        })
        .await;
    }
}
