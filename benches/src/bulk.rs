//! Bulk: players who load as fast as it goes, in one direction.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::fault::Fault;
use crate::figure::{Figure, higher, lower};
use crate::knock::join;
use crate::setups::Setup;
use crate::{origin, pattern};

/// Which way the bytes go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// From player to game server.
    Up,
    /// From game server to player.
    Down,
}

/// Megabytes a second of all players together, and what the tunnel's processes spend on a gigabyte.
///
/// The clock stops when the last byte is where it belongs, so what sits in buffers counts for nobody.
///
/// # Errors
/// When bytes are lost, damaged or stuck.
pub async fn run(setup: &Setup, players: u64, way: Way, lasts: Duration) -> Result<Vec<Figure>, Fault> {
    let (before, started) = (setup.tunnel.cpu(), Instant::now());
    let mut loads = JoinSet::new();
    for player in 0..players {
        let address = setup.tunnel.tcp;
        loads.spawn(async move {
            match way {
                Way::Up => upload(address, player, lasts).await,
                Way::Down => download(address, player, lasts).await,
            }
        });
    }
    let mut bytes = 0;
    while let Some(load) = loads.join_next().await {
        bytes += load.map_err(|error| Fault::failed("a bulk player", error))??;
    }
    let seconds = started.elapsed().as_secs_f64();
    let mut figures = vec![higher("MB/s", bytes as f64 / 1e6 / seconds)];
    if let (Some(before), Some(after)) = (before, setup.tunnel.cpu()) {
        figures.push(lower("CPU s/GB", (after - before) / (bytes as f64 / 1e9)));
    }
    Ok(figures)
}

/// Sends for `lasts` and has the origin count; returns the bytes.
async fn upload(address: SocketAddr, player: u64, lasts: Duration) -> Result<u64, Fault> {
    let mut stream = join(address).await?;
    let (offset, until) = (offset(player), Instant::now() + lasts);
    stream.write_u8(origin::UPLOAD).await?;
    stream.write_u64(offset).await?;
    let sent = pattern::write_until(&mut stream, offset, until).await?;
    let received = stream
        .read_u64()
        .await
        .map_err(|error| Fault::failed("the count", error))?;
    match received == sent {
        true => Ok(received),
        false => Err(Fault::Mismatch(format!(
            "of {sent} bytes up {received} arrived before a tidy end"
        ))),
    }
}

/// Takes what the origin sends for `lasts` and tells it the count; returns the bytes.
///
/// # Errors
/// When bytes are lost, damaged or stuck.
pub async fn download(address: SocketAddr, player: u64, lasts: Duration) -> Result<u64, Fault> {
    let mut stream = join(address).await?;
    let offset = offset(player);
    stream.write_u8(origin::DOWNLOAD).await?;
    stream.write_u64(offset).await?;
    stream.write_u64(lasts.as_millis() as u64).await?;
    let received = pattern::read_to_end(&mut stream, offset).await?;
    stream.write_u64(received).await?;
    Ok(received)
}

/// Far enough from the next player's that one's bytes cannot pass for another's.
const fn offset(player: u64) -> u64 {
    player * 54_321
}
