//! Memory: what idle players cost, and whether it comes back.
//!
//! An allocator keeps what it once had, so what is left after the first crowd is no leak yet; what the same crowd adds when it comes again is one.

use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::fault::Fault;
use crate::figure::{Figure, lower};
use crate::knock::greet;
use crate::setups::Setup;

/// Idle players at once.
const PLAYERS: u32 = 1_000;

/// They come over this many doors.
const WORKERS: u32 = 16;

/// Figures of relay and agent, in the order of a setup's processes.
const EACH: [&str; 2] = ["B/player, relay", "B/player, agent"];
const KEPT: [&str; 2] = ["KiB kept, relay", "KiB kept, agent"];
const GROWTH: [&str; 2] = ["KiB growth, relay", "KiB growth, agent"];

/// Resident memory with and without players, of processes that are new; nothing where the system does not tell.
///
/// # Errors
/// When a player is not answered, or wrongly.
pub async fn run(setup: &Setup, settle: Duration) -> Result<Vec<Figure>, Fault> {
    tokio::time::sleep(settle).await;
    let Some(new) = resident(setup) else {
        return Ok(Vec::new());
    };
    let players = crowd(setup).await?;
    tokio::time::sleep(settle).await;
    let full = resident(setup).unwrap_or_default();
    drop(players);
    tokio::time::sleep(settle).await;
    let left = resident(setup).unwrap_or_default();
    drop(crowd(setup).await?);
    tokio::time::sleep(settle).await;
    let again = resident(setup).unwrap_or_default();
    let figures = |names: [&'static str; 2], after: &[f64], before: &[f64], unit: f64| -> Vec<Figure> {
        let change = after.iter().zip(before).map(|(after, before)| (after - before) / unit);
        names
            .into_iter()
            .zip(change)
            .map(|(name, change)| lower(name, change))
            .collect()
    };
    Ok([
        figures(EACH, &full, &new, f64::from(PLAYERS)),
        figures(KEPT, &left, &new, 1024.0),
        figures(GROWTH, &again, &left, 1024.0),
    ]
    .concat())
}

/// Resident bytes of each process of a setup; none where the system does not tell, or there are no processes.
pub fn resident(setup: &Setup) -> Option<Vec<f64>> {
    let each: Option<Vec<f64>> = setup
        .tunnel
        .processes
        .iter()
        .map(crate::process::Process::resident)
        .collect();
    each.filter(|each| !each.is_empty())
}

async fn crowd(setup: &Setup) -> Result<Vec<TcpStream>, Fault> {
    let mut workers = JoinSet::new();
    for worker in 0..WORKERS {
        let address = setup.tunnel.tcp;
        workers.spawn(async move {
            let mut players = Vec::new();
            for _ in (worker..PLAYERS).step_by(WORKERS as usize) {
                players.push(greet(address).await?);
            }
            Ok::<_, Fault>(players)
        });
    }
    let mut players = Vec::new();
    while let Some(worker) = workers.join_next().await {
        players.extend(worker.map_err(|error| Fault::failed("a player", error))??);
    }
    Ok(players)
}
