//! Arrivals: players who connect, say one byte, hear one byte and leave.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::fault::Fault;
use crate::figure::{Figure, higher};
use crate::knock::greet;
use crate::setups::Setup;
use crate::stats;

/// Players who come one after the other, side by side.
const WORKERS: u32 = 16;

/// Together they stop here: each arrival keeps a port busy for a minute after it, and there are less than 30,000.
const MOST: u32 = 6_000;

/// Arrivals a second, and how long each takes.
///
/// # Errors
/// When a player is not answered, or wrongly.
pub async fn run(setup: &Setup, lasts: Duration) -> Result<Vec<Figure>, Fault> {
    let started = Instant::now();
    let begun = Arc::new(AtomicU32::new(0));
    let mut workers = JoinSet::new();
    for _ in 0..WORKERS {
        let (address, begun) = (setup.tunnel.tcp, begun.clone());
        workers.spawn(async move {
            let mut times = Vec::new();
            while started.elapsed() < lasts && begun.fetch_add(1, Ordering::Relaxed) < MOST {
                let begin = Instant::now();
                drop(greet(address).await?);
                times.push(begin.elapsed());
            }
            Ok::<_, Fault>(times)
        });
    }
    let mut times = Vec::new();
    while let Some(worker) = workers.join_next().await {
        times.extend(worker.map_err(|error| Fault::failed("a player", error))??);
    }
    let each_second = higher("players/s", times.len() as f64 / started.elapsed().as_secs_f64());
    Ok([each_second].into_iter().chain(stats::round_trips(times)).collect())
}
