//! Players of the host that is not flooded.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::START;
use crate::fault::Fault;

/// How many.
const PLAYERS: u8 = 20;

/// How often each says something.
const TICK: Duration = Duration::from_millis(50);

/// A player from `from` who is in.
///
/// # Errors
/// When nobody answers.
pub async fn greet(from: Ipv4Addr, address: SocketAddr) -> Result<TcpStream, Fault> {
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    let mut player = tokio::time::timeout(START, socket.connect(address))
        .await
        .map_err(|_| Fault::Failed("nobody answers".to_owned()))??;
    player.set_nodelay(true)?;
    exchange(&mut player).await?;
    Ok(player)
}

/// Says 30 bytes and hears them back.
///
/// # Errors
/// When they do not come.
pub async fn exchange(player: &mut TcpStream) -> Result<(), Fault> {
    let talk = async {
        player.write_all(&[7; 30]).await?;
        player.read_exact(&mut [0; 30]).await.map(drop)
    };
    let talked: Result<std::io::Result<()>, _> = tokio::time::timeout(START, talk).await;
    talked
        .map_err(|_| Fault::Failed("a player is not answered".to_owned()))?
        .map_err(Fault::from)
}

/// Twenty players from as many addresses; the round trips.
///
/// # Errors
/// When one of them is not answered.
pub async fn play(address: SocketAddr, lasts: Duration) -> Result<Vec<Duration>, Fault> {
    let local = tokio::task::LocalSet::new();
    let play = async {
        let mut playing = tokio::task::JoinSet::new();
        for number in 1..=PLAYERS {
            let mut player = greet(Ipv4Addr::new(127, 0, 50, number), address).await?;
            playing.spawn_local(async move {
                let mut tick = tokio::time::interval(TICK);
                tokio::time::sleep(TICK * u32::from(number) / u32::from(PLAYERS)).await;
                let (until, mut times) = (Instant::now() + lasts, Vec::new());
                while Instant::now() < until {
                    tick.tick().await;
                    let before = Instant::now();
                    exchange(&mut player).await?;
                    times.push(before.elapsed());
                }
                Ok::<_, Fault>(times)
            });
        }
        let mut all = Vec::new();
        while let Some(played) = playing.join_next().await {
            all.extend(played.map_err(|error| Fault::failed("playing", error))??);
        }
        Ok(all)
    };
    local.run_until(play).await
}
