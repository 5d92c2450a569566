//! Players who start a download and never read, beside others who play: what they do to those, and what they cost.
//!
//! The same players play twice on the same processes, first without the stalled ones and then beside them, so that nothing else differs between the two.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::fault::Fault;
use crate::figure::{Figure, lower};
use crate::pingpong::Crowd;
use crate::setups::Setup;
use crate::{memory, origin, pattern, stats};

/// Stalled players at once.
const STALLED: u32 = 1_000;

/// They come over this many doors.
const WORKERS: u32 = 16;

/// Whoever still takes bytes for them by then has no bound: full windows of a thousand streams are gigabytes, which take a busy machine their time.
pub const REST_DEADLINE: Duration = Duration::from_secs(40);

/// Room in the kernel at a stalled player. Left alone, the kernel gives each connection megabytes, and a thousand of them fill what it allows TCP in all:
/// then everybody waits, whoever carries them.
const PLAYER_BUFFER: u32 = 16 * 1024;

/// Room in the kernel at the origin behind a stalled player, for the same reason.
pub const ORIGIN_BUFFER: usize = 64 * 1024;

/// Bytes of a packet to a stalled player, as on any line. Loopback's are 45 times as large, and how much the kernel takes from a relay goes by the packet.
#[cfg(unix)]
const PACKET: u32 = 1448;

/// Cores that a tunnel at rest may use.
const IDLE: f64 = 0.1;

/// What each of them finds when it reads at last; less than any buffer on the way holds.
const LEFT_LYING: usize = 16 * 1024;

/// Figures of relay and agent, in the order of a setup's processes.
const EACH: [&str; 2] = ["B/stalled, relay", "B/stalled, agent"];

/// Round trips of small messages without and beside stalled players, and resident memory for each of those when nobody takes any more bytes for them.
///
/// # Errors
/// When a message is lost, damaged or stuck, a stalled player is cut off, or bytes for them are taken without end.
pub async fn run(setup: &Setup, lasts: Duration, settle: Duration) -> Result<Vec<Figure>, Fault> {
    let mut crowd = Crowd::gather(setup.tunnel.tcp).await?;
    let without = stats::percentiles(crowd.play(lasts).await?);
    let before = memory::resident(setup).unwrap_or_default();
    let stalled = gather(setup.tunnel.tcp).await?;
    rest(setup, settle).await?;
    let after = memory::resident(setup).unwrap_or_default();
    let beside = stats::percentiles(crowd.play(lasts).await?);
    for (number, player) in stalled.into_iter().enumerate() {
        read_at_last(player, number as u32).await?;
    }
    let mut figures = vec![
        lower("p50 ms without", without[0]),
        lower("p50 ms beside", beside[0]),
        lower("p50 beside/without", beside[0] / without[0]),
        lower("p99 ms without", without[1]),
        lower("p99 ms beside", beside[1]),
        lower("p99 beside/without", beside[1] / without[1]),
    ];
    let each = after.iter().zip(before).map(|(after, before)| after - before);
    figures.extend(
        EACH.into_iter()
            .zip(each)
            .map(|(name, bytes)| lower(name, bytes / f64::from(STALLED))),
    );
    Ok(figures)
}

/// Everybody asks for an endless download, and that is the last one hears of them.
async fn gather(address: SocketAddr) -> Result<Vec<TcpStream>, Fault> {
    let mut workers = JoinSet::new();
    for worker in 0..WORKERS {
        workers.spawn(async move {
            let mut players = Vec::new();
            for number in (worker..STALLED).step_by(WORKERS as usize) {
                let mut stream = arrive(address).await?;
                stream.write_u8(origin::ENDLESS).await?;
                stream.write_u64(offset(number)).await?;
                players.push((number, stream));
            }
            Ok::<_, Fault>(players)
        });
    }
    let mut players = Vec::new();
    while let Some(worker) = workers.join_next().await {
        players.extend(worker.map_err(|error| Fault::failed("a stalled player", error))??);
    }
    players.sort_unstable_by_key(|(number, _)| *number);
    Ok(players.into_iter().map(|(_, stream)| stream).collect())
}

async fn arrive(address: SocketAddr) -> Result<TcpStream, Fault> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    // Before it connects, or the other end would know of neither.
    socket.set_recv_buffer_size(PLAYER_BUFFER)?;
    #[cfg(unix)]
    socket2::SockRef::from(&socket).set_tcp_mss(PACKET)?;
    let connect = socket.connect(address).await;
    connect.map_err(|error| Fault::failed("a stalled player", error))
}

/// Waits until for `settle` the origin gets rid of no byte, and the tunnel carries nothing that it took before.
async fn rest(setup: &Setup, settle: Duration) -> Result<(), Fault> {
    let until = Instant::now() + REST_DEADLINE;
    loop {
        let (taken, cpu) = (setup.origin.endless(), setup.tunnel.cpu().unwrap_or_default());
        tokio::time::sleep(settle).await;
        let more = setup.origin.endless() - taken;
        let busy = (setup.tunnel.cpu().unwrap_or_default() - cpu) / settle.as_secs_f64();
        if more == 0 && busy <= IDLE {
            return Ok(());
        }
        if Instant::now() > until {
            return Err(Fault::Failed(format!(
                "with players who read nothing it does not come to rest: {more} bytes more, {busy:.2} cores busy"
            )));
        }
    }
}

async fn read_at_last(mut player: TcpStream, number: u32) -> Result<(), Fault> {
    let mut bytes = vec![0; LEFT_LYING];
    player
        .read_exact(&mut bytes)
        .await
        .map_err(|error| Fault::failed("a stalled player who reads", error))?;
    match bytes == *pattern::piece(offset(number), LEFT_LYING) {
        true => Ok(()),
        false => Err(Fault::Mismatch(format!("what stalled player {number} reads"))),
    }
}

/// Far enough from the next player's that one's bytes cannot pass for another's.
fn offset(player: u32) -> u64 {
    u64::from(player) * 54_321
}
