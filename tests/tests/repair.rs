//! Lost packets between agent and relay: what games say in small messages is repaired, to the byte.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test panics as its report"
)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use spawnpoint_tests::path::Path;
use spawnpoint_tests::{Host, Lab, noise, origins, soon, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

const PLAYERS: u64 = 8;

/// Decides which packets are lost.
const SEED: u64 = 11;

/// A relay whose agent comes over a path of 60 ms that loses one packet in ten, each way.
async fn over_a_lossy_path(lab: &Lab, tunnels: &[&str]) -> (Path, Host) {
    let path = Path::start(lab.relay().info().listen, SEED).await.unwrap();
    let host = Host::start(path.invite(&lab.invite("desk")), tunnels);
    host.ready().await;
    path.set_delay(Duration::from_millis(30));
    path.set_loss(0.1);
    println!("path seed {SEED}");
    (path, host)
}

/// Says small things and hears them back until `stop`; everything comes back as it was said.
async fn chat(public: SocketAddr, number: u64, stop: Arc<AtomicBool>, said: Arc<AtomicU64>) {
    let mut player = soon("a player gets in", TcpStream::connect(public)).await.unwrap();
    player.set_nodelay(true).unwrap();
    let mut turn = 0;
    while !stop.load(Ordering::Relaxed) {
        let words = noise(20 + turn as usize % 900, number * 1_000_000 + turn);
        player.write_all(&words).await.unwrap();
        let mut heard = vec![0; words.len()];
        soon("the server answers", player.read_exact(&mut heard)).await.unwrap();
        assert_eq!(heard, words, "player {number}, turn {turn}");
        turn += 1;
        said.fetch_add(1, Ordering::Relaxed);
    }
}

fn chats(public: SocketAddr) -> (JoinSet<()>, Arc<AtomicBool>, Arc<AtomicU64>) {
    let (stop, said) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut players = JoinSet::new();
    for number in 0..PLAYERS {
        players.spawn(chat(public, number, stop.clone(), said.clone()));
    }
    (players, stop, said)
}

async fn stopped(mut players: JoinSet<()>, stop: &AtomicBool) {
    stop.store(true, Ordering::Relaxed);
    while let Some(player) = soon("the players stop", players.join_next()).await {
        player.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_messages_are_given_back_and_no_byte_changes() {
    let lab = Lab::start().await;
    let echo = origins::echo().await;
    let (_path, host) = over_a_lossy_path(&lab, &[&format!("game=tcp:{echo}")]).await;
    let (players, stop, _) = chats(host.public("game").await);
    // Both ways: the relay covers what it says itself, and gets back what the agent had said.
    until("repairs are sent and used", || {
        lab.metric(r#"relay_repairs_total{reason="sent"}"#) >= 50.0
            && lab.metric(r#"relay_repairs_total{reason="mended"}"#) >= 10.0
    })
    .await;
    stopped(players, &stop).await;
    assert_eq!(lab.metric(r#"relay_repairs_total{reason="wrong"}"#), 0.0);
    assert!(lab.metric(r#"relay_link_loss_ratio{host="desk"}"#) > 0.02);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_travels_twice_where_that_is_not_wanted() {
    let lab = Lab::with(|config| config.links.transport.repair = false).await;
    let echo = origins::echo().await;
    let (_path, host) = over_a_lossy_path(&lab, &[&format!("game=tcp:{echo}")]).await;
    let (players, stop, said) = chats(host.public("game").await);
    until("the path is known to be lossy", || {
        lab.metric(r#"relay_link_loss_ratio{host="desk"}"#) > 0.02 && said.load(Ordering::Relaxed) > 500
    })
    .await;
    stopped(players, &stop).await;
    for outcome in ["sent", "mended", "needless"] {
        assert_eq!(
            lab.metric(&format!("relay_repairs_total{{reason={outcome:?}}}")),
            0.0,
            "{outcome}"
        );
    }
}
