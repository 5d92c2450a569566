//! Small messages: many players in a world that ticks 20 times a second, alone or beside a download.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::fault::Fault;
use crate::figure::{Figure, higher};
use crate::origin::{self, REPLY, REQUEST};
use crate::setups::{Setup, join};
use crate::ticks::{self, TICK};
use crate::{bulk, pattern, stats};

/// Players at once.
const PLAYERS: u32 = 200;

/// The download begins before and ends after what is measured beside it.
const MARGIN: Duration = Duration::from_millis(300);

/// Round trips of small messages, and what a download beside them got.
///
/// # Errors
/// When a message is lost, damaged or stuck.
pub async fn run(setup: &Setup, is_beside_bulk: bool, lasts: Duration) -> Result<Vec<Figure>, Fault> {
    let players = gather(setup.tcp).await?;
    let download = lasts + 2 * MARGIN;
    let mut beside = JoinSet::new();
    if is_beside_bulk {
        beside.spawn(bulk::download(setup.tcp, 0, download));
    }
    let start = Instant::now() + MARGIN;
    let mut playing = JoinSet::new();
    for (player, stream) in players.into_iter().enumerate() {
        let player = player as u32;
        playing.spawn(play(
            stream,
            player,
            start + TICK * player / PLAYERS,
            ticks::within(lasts),
        ));
    }
    let mut times = Vec::new();
    while let Some(played) = playing.join_next().await {
        times.extend(played.map_err(|error| Fault::failed("a player", error))??);
    }
    let mut figures = stats::round_trips(times).to_vec();
    while let Some(bytes) = beside.join_next().await {
        let bytes = bytes.map_err(|error| Fault::failed("the download", error))??;
        figures.push(higher("MB/s beside", bytes as f64 / 1e6 / download.as_secs_f64()));
    }
    Ok(figures)
}

/// Connects all players and lets each of them play once, so that what is measured is play and not arrival.
async fn gather(address: SocketAddr) -> Result<Vec<TcpStream>, Fault> {
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
    Ok(players)
}

async fn play(stream: TcpStream, player: u32, start: Instant, turns: u32) -> Result<Vec<Duration>, Fault> {
    let (reader, writer) = stream.into_split();
    let (times, _writer) = tokio::try_join!(listen(reader, player, turns), speak(writer, player, start, turns))?;
    Ok(times)
}

/// Sends a request every tick, whether or not the last one was answered: a slow tunnel does not get less to do.
async fn speak(mut stream: OwnedWriteHalf, player: u32, start: Instant, turns: u32) -> Result<OwnedWriteHalf, Fault> {
    let mut tick = tokio::time::interval_at(start, TICK);
    for turn in 0..turns {
        tick.tick().await;
        stream
            .write_all(&request(player, turn))
            .await
            .map_err(|error| Fault::failed("a request", error))?;
    }
    // Kept, since dropping it would end the stream before the last replies.
    Ok(stream)
}

async fn listen(mut stream: OwnedReadHalf, player: u32, turns: u32) -> Result<Vec<Duration>, Fault> {
    let mut times = Vec::with_capacity(turns as usize);
    let mut reply = [0; REPLY];
    for turn in 0..turns {
        stream
            .read_exact(&mut reply)
            .await
            .map_err(|error| Fault::failed("a reply", error))?;
        let mut asked = [0; REQUEST];
        asked.copy_from_slice(&reply[..REQUEST]);
        let is_ours = asked[..8] == key(player, turn) && asked[16..] == *filling(player, turn);
        if !is_ours || reply != origin::reply(&asked) {
            return Err(Fault::Mismatch(format!("reply {turn} to player {player}")));
        }
        times.push(ticks::since(&asked[8..16]));
    }
    Ok(times)
}

/// Who and when, eight bytes each, and some noise.
fn request(player: u32, turn: u32) -> [u8; REQUEST] {
    let mut request = [0; REQUEST];
    request[..8].copy_from_slice(&key(player, turn));
    request[16..].copy_from_slice(filling(player, turn));
    request[8..16].copy_from_slice(&ticks::stamp());
    request
}

fn key(player: u32, turn: u32) -> [u8; 8] {
    (u64::from(player) << 32 | u64::from(turn)).to_be_bytes()
}

fn filling(player: u32, turn: u32) -> &'static [u8] {
    pattern::piece(u64::from(player) * 7919 + u64::from(turn), REQUEST - 16)
}
