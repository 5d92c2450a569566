//! Small messages: many players in a world that ticks 20 times a second, alone or beside a download.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::fault::Fault;
use crate::figure::{Figure, higher};
use crate::knock::join;
use crate::origin::{self, REPLY, REQUEST};
use crate::setups::Setup;
use crate::ticks::{self, TICK};
use crate::{bulk, message, stats};

/// Players at once.
const PLAYERS: u32 = 200;

/// The download begins before and ends after what is measured beside it.
const MARGIN: Duration = Duration::from_millis(300);

/// Players who are there and have been answered once, so that what is measured is play and not arrival.
#[derive(Debug)]
pub struct Crowd(Vec<TcpStream>);

/// Round trips of small messages, and what a download beside them got.
///
/// # Errors
/// When a message is lost, damaged or stuck.
pub async fn run(setup: &Setup, is_beside_bulk: bool, lasts: Duration) -> Result<Vec<Figure>, Fault> {
    let mut crowd = Crowd::gather(setup.tunnel.tcp).await?;
    let download = lasts + 2 * MARGIN;
    let mut beside = JoinSet::new();
    if is_beside_bulk {
        beside.spawn(bulk::download(setup.tunnel.tcp, 0, download));
    }
    let mut figures = stats::round_trips(crowd.play(lasts).await?).to_vec();
    while let Some(bytes) = beside.join_next().await {
        let bytes = bytes.map_err(|error| Fault::failed("the download", error))??;
        figures.push(higher("MB/s beside", bytes as f64 / 1e6 / download.as_secs_f64()));
    }
    Ok(figures)
}

impl Crowd {
    /// Connects all players.
    ///
    /// # Errors
    /// When one is not answered.
    pub async fn gather(address: SocketAddr) -> Result<Self, Fault> {
        let mut players = Vec::new();
        for _ in 0..PLAYERS {
            let mut stream = join(address).await?;
            stream.write_u8(origin::PINGPONG).await?;
            stream.write_all(&[0; REQUEST]).await?;
            players.push(stream);
        }
        for stream in &mut players {
            let mut reply = [0; REPLY];
            stream
                .read_exact(&mut reply)
                .await
                .map_err(|error| Fault::failed("the first reply", error))?;
        }
        Ok(Self(players))
    }

    /// Plays for a while, after a margin; how long each answer took. They can play again.
    ///
    /// # Errors
    /// When a message is lost, damaged or stuck; nobody is left then.
    pub async fn play(&mut self, lasts: Duration) -> Result<Vec<Duration>, Fault> {
        let start = Instant::now() + MARGIN;
        let mut playing = JoinSet::new();
        for (player, stream) in self.0.drain(..).enumerate() {
            let player = player as u32;
            let first = start + TICK * player / PLAYERS;
            playing.spawn(play(stream, player, first, ticks::within(lasts)));
        }
        let mut times = Vec::new();
        while let Some(played) = playing.join_next().await {
            let (stream, each) = played.map_err(|error| Fault::failed("a player", error))??;
            self.0.push(stream);
            times.extend(each);
        }
        Ok(times)
    }
}

async fn play(
    mut stream: TcpStream,
    player: u32,
    start: Instant,
    turns: u32,
) -> Result<(TcpStream, Vec<Duration>), Fault> {
    let (reader, writer) = stream.split();
    let (times, ()) = tokio::try_join!(listen(reader, player, turns), speak(writer, player, start, turns))?;
    Ok((stream, times))
}

/// Sends a request every tick, whether or not the last one was answered: a slow tunnel does not get less to do.
async fn speak(mut stream: WriteHalf<'_>, player: u32, start: Instant, turns: u32) -> Result<(), Fault> {
    let mut tick = tokio::time::interval_at(start, TICK);
    for turn in 0..turns {
        tick.tick().await;
        stream
            .write_all(&message::request(player, turn))
            .await
            .map_err(|error| Fault::failed("a request", error))?;
    }
    Ok(())
}

async fn listen(mut stream: ReadHalf<'_>, player: u32, turns: u32) -> Result<Vec<Duration>, Fault> {
    let mut times = Vec::with_capacity(turns as usize);
    let mut reply = [0; REPLY];
    for turn in 0..turns {
        stream
            .read_exact(&mut reply)
            .await
            .map_err(|error| Fault::failed("a reply", error))?;
        times.push(message::check(&reply, player, turn)?);
    }
    Ok(times)
}
