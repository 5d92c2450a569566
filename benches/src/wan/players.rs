//! The players' process: 20 players at 20 Hz, and the one beside them who downloads.
//!
//! All are there and have been answered before anything begins. Then they play for a warm-up that does not count, a time that does, and on until those
//! who still wait have been answered: the last request is followed by others like any before it, and so is found missing as quickly.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpStream, UdpSocket};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::load::Load;
use super::measured::Measured;
use crate::fault::Fault;
use crate::knock::join;
use crate::origin::{self, PACKET_REPLY, REPLY};
use crate::ticks::{self, TICK};
use crate::{message, packets, pattern};

/// Players at once.
const PLAYERS: u32 = 20;

/// A TCP player who has no reply by then counts as one who waited so long.
const TCP_PATIENCE: Duration = Duration::from_secs(10);

/// A packet that is away for this long is lost to any game.
const UDP_PATIENCE: Duration = Duration::from_secs(2);

/// All players must be there by then.
const ARRIVAL_DEADLINE: Duration = Duration::from_secs(20);

/// After this long a UDP player who has just come asks again.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// From the last arrival to the first turn.
const PAUSE: Duration = Duration::from_millis(100);

/// The download starts far from any player's noise.
const BULK_OFFSET: u64 = 54_321;

/// What is to be played, where and for how long.
#[derive(Debug, Serialize, Deserialize)]
pub struct Task {
    /// Where TCP players connect.
    pub tcp: SocketAddr,
    /// Where UDP players send.
    pub udp: SocketAddr,
    /// Where the game server is itself, for a neighbour.
    pub origin: SocketAddr,
    /// What they do.
    pub load: Load,
    /// What does not count at the beginning.
    pub warm_up: Duration,
    /// What does.
    pub measure: Duration,
}

impl Task {
    /// How long it takes at most.
    pub fn deadline(&self) -> Duration {
        ARRIVAL_DEADLINE + self.warm_up + self.measure + TCP_PATIENCE + Duration::from_secs(5)
    }

    /// The turns that count.
    const fn counted(&self) -> std::ops::Range<u32> {
        let first = 1 + ticks::within(self.warm_up);
        first..first + ticks::within(self.measure)
    }
}

/// Plays.
///
/// # Errors
/// [`Fault::Mismatch`] when anything comes back other than it should, [`Fault::Failed`] when a connection breaks.
pub async fn run(task: &Task) -> Result<Measured, Fault> {
    let arrivals = tokio::time::timeout(ARRIVAL_DEADLINE, gather(task));
    let Ok(players) = arrivals.await else {
        return Err(Fault::Failed("not all players get in in time".to_owned()));
    };
    let (players, [bulk, neighbour]) = players?;
    let start = Instant::now() + PAUSE;
    let mut playing = JoinSet::new();
    for (number, player) in players.into_iter().enumerate() {
        let (number, counted) = (number as u32, task.counted());
        let first = start + TICK * number / PLAYERS;
        playing.spawn(async move {
            match player {
                Player::Stream(stream) => play_tcp(stream, number, first, counted).await,
                Player::Packets(socket) => play_udp(socket, number, first, counted).await,
            }
        });
    }
    let play = async {
        let mut times = Vec::new();
        while let Some(played) = playing.join_next().await {
            times.extend(played.map_err(|error| Fault::failed("a player", error))??);
        }
        Ok::<_, Fault>(times)
    };
    let counts = [AtomicU64::new(0), AtomicU64::new(0)];
    let now = || [0, 1].map(|who: usize| counts[who].load(Ordering::Relaxed));
    let measure = async {
        tokio::time::sleep_until(start + task.warm_up).await;
        let before = now();
        tokio::time::sleep_until(start + task.warm_up + task.measure).await;
        let after = now();
        Ok([0, 1].map(|who: usize| (after[who] - before[who]) as f64 / 1e6 / task.measure.as_secs_f64()))
    };
    // The download goes on beside the players until the last of them is done.
    let (mut times, rates) = tokio::select! {
        done = async { tokio::try_join!(play, measure) } => done?,
        broken = download(bulk, task, &counts[0]) => return Err(broken),
        broken = download(neighbour, task, &counts[1]) => return Err(broken),
    };
    let loads = [task.load.is_beside_bulk(), task.load.has_neighbour()];
    let rates = [0, 1].map(|who: usize| loads[who].then_some(rates[who]));
    let asked = f64::from(PLAYERS * ticks::within(task.measure));
    let lost = |got: usize| (asked - got as f64) * 100.0 / asked;
    let loss = task.load.has_packets().then(|| lost(times.len()));
    if times.is_empty() {
        // No reply at all was in time: the slowest that would have been is the least that can be said.
        times.push(UDP_PATIENCE);
    }
    Measured::from_times(times, rates, loss).ok_or_else(|| Fault::Failed("nothing was asked".to_owned()))
}

enum Player {
    Stream(TcpStream),
    Packets(UdpSocket),
}

/// Everybody comes at once and waits for a first answer; those who download come last, the one through the tunnel first.
async fn gather(task: &Task) -> Result<(Vec<Player>, [Option<TcpStream>; 2]), Fault> {
    let mut arriving = JoinSet::new();
    for number in 0..PLAYERS {
        let (tcp, udp, has_packets) = (task.tcp, task.udp, task.load.has_packets());
        arriving.spawn(async move {
            let player = match has_packets {
                true => Player::Packets(arrive_udp(udp, number).await?),
                false => Player::Stream(arrive_tcp(tcp, number).await?),
            };
            Ok::<_, Fault>((number, player))
        });
    }
    let mut players = Vec::new();
    while let Some(arrived) = arriving.join_next().await {
        players.push(arrived.map_err(|error| Fault::failed("a player", error))??);
    }
    players.sort_unstable_by_key(|(number, _)| *number);
    let players = players.into_iter().map(|(_, player)| player).collect();
    let bulk = match task.load.is_beside_bulk() {
        true => Some(join(task.tcp).await?),
        false => None,
    };
    let neighbour = match task.load.has_neighbour() {
        true => Some(join(task.origin).await?),
        false => None,
    };
    Ok((players, [bulk, neighbour]))
}

async fn arrive_tcp(address: SocketAddr, number: u32) -> Result<TcpStream, Fault> {
    let mut stream = join(address).await?;
    stream.write_u8(origin::PINGPONG).await?;
    stream.write_all(&message::request(number, 0)).await?;
    let mut reply = [0; REPLY];
    let read = stream.read_exact(&mut reply).await;
    read.map_err(|error| Fault::failed("the first reply", error))?;
    message::check(&reply, number, 0)?;
    Ok(stream)
}

async fn arrive_udp(address: SocketAddr, number: u32) -> Result<UdpSocket, Fault> {
    let socket = packets::player(address).await?;
    let mut reply = [0; 2048];
    loop {
        socket.send(&message::request(number, 0)).await?;
        if let Ok(received) = tokio::time::timeout(ASK_AGAIN, socket.recv(&mut reply)).await {
            message::check(&reply[..received?], number, 0)?;
            return Ok(socket);
        }
    }
}

async fn play_tcp(
    stream: TcpStream,
    player: u32,
    first: Instant,
    counted: std::ops::Range<u32>,
) -> Result<Vec<Duration>, Fault> {
    let (reader, writer) = stream.into_split();
    tokio::select! {
        times = listen(reader, player, first, counted) => times,
        broken = speak(writer, player, first) => Err(broken),
    }
}

/// Sends a request every tick, whether or not the last one was answered, until it is dropped.
async fn speak(mut stream: OwnedWriteHalf, player: u32, first: Instant) -> Fault {
    let mut tick = tokio::time::interval_at(first, TICK);
    let mut turn = 0;
    loop {
        tick.tick().await;
        turn += 1;
        if let Err(error) = stream.write_all(&message::request(player, turn)).await {
            return Fault::failed("a request", error);
        }
    }
}

async fn listen(
    mut stream: OwnedReadHalf,
    player: u32,
    first: Instant,
    counted: std::ops::Range<u32>,
) -> Result<Vec<Duration>, Fault> {
    let mut times = Vec::with_capacity(counted.len());
    let until = first + TICK * counted.end + TCP_PATIENCE;
    let mut reply = [0; REPLY];
    for turn in 1..counted.end {
        match tokio::time::timeout_at(until, stream.read_exact(&mut reply)).await {
            Ok(read) => read.map_err(|error| Fault::failed("a reply", error))?,
            Err(_) => break,
        };
        let time = message::check(&reply, player, turn)?;
        if counted.contains(&turn) {
            times.push(time.min(TCP_PATIENCE));
        }
    }
    times.resize(counted.len(), TCP_PATIENCE);
    Ok(times)
}

async fn play_udp(
    socket: UdpSocket,
    player: u32,
    first: Instant,
    counted: std::ops::Range<u32>,
) -> Result<Vec<Duration>, Fault> {
    let until = first + TICK * counted.end + UDP_PATIENCE;
    let speak = async {
        let mut tick = tokio::time::interval_at(first, TICK);
        let mut turn = 0;
        loop {
            tick.tick().await;
            turn += 1;
            if let Err(error) = socket.send(&message::request(player, turn)).await {
                return Fault::failed("a request", error);
            }
        }
    };
    let mut times = Vec::with_capacity(counted.len());
    let listen = async {
        let mut seen = vec![false; counted.len()];
        let mut buffer = [0; 2048];
        while times.len() < counted.len() {
            let length = socket.recv(&mut buffer).await?;
            let (reply, turn) = (&buffer[..length], packets::number(&buffer[..length]));
            let time = message::check(reply, player, turn)?;
            if length != PACKET_REPLY {
                let text = format!("reply {turn} to player {player} has {length} bytes");
                return Err(Fault::Mismatch(text));
            }
            if !counted.contains(&turn) {
                continue;
            }
            let seen = &mut seen[(turn - counted.start) as usize];
            if std::mem::replace(seen, true) {
                return Err(Fault::Mismatch(format!(
                    "reply {turn} to player {player} a second time"
                )));
            }
            if time <= UDP_PATIENCE {
                times.push(time);
            }
        }
        Ok(())
    };
    tokio::select! {
        done = listen => done?,
        broken = speak => return Err(broken),
        () = tokio::time::sleep_until(until) => {}
    }
    Ok(times)
}

/// Downloads until it is dropped, with the number of bytes so far in `count`.
async fn download(stream: Option<TcpStream>, task: &Task, count: &AtomicU64) -> Fault {
    let Some(mut stream) = stream else {
        return std::future::pending().await;
    };
    // Longer than anybody stays: it does not end by itself.
    let millis = (task.deadline() * 2).as_millis() as u64;
    let work = async {
        stream.write_u8(origin::DOWNLOAD).await?;
        stream.write_u64(BULK_OFFSET).await?;
        stream.write_u64(millis).await?;
        pattern::read_counting(&mut stream, BULK_OFFSET, count).await
    };
    match work.await {
        Ok(bytes) => Fault::Failed(format!("the download ended after {bytes} bytes")),
        Err(fault) => fault,
    }
}
