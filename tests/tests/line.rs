//! Lines that take less than they did: nobody tells, and everything goes on.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test panics as its report"
)]

use std::net::SocketAddr;
use std::time::Duration;

use spawnpoint_tests::path::Path;
use spawnpoint_tests::{Host, Lab, noise, origins, soon};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Says `length` bytes and hears them back.
async fn echo(player: &mut TcpStream, length: usize, seed: u64) {
    let said = noise(length, seed);
    let (mut reader, mut writer) = player.split();
    let mut heard = vec![0; length];
    let speak = async { writer.write_all(&said).await };
    let listen = async { reader.read_exact(&mut heard).await };
    let exchange = async { tokio::try_join!(speak, listen) };
    soon("everything comes back", exchange).await.unwrap();
    assert!(heard == said, "bytes changed on the way");
}

async fn enter(public: SocketAddr) -> TcpStream {
    let player = soon("a player gets in", TcpStream::connect(public)).await.unwrap();
    player.set_nodelay(true).unwrap();
    player
}

#[tokio::test(flavor = "multi_thread")]
async fn large_packets_that_vanish_without_a_word_stop_nobody() {
    let lab = Lab::start().await;
    let path = Path::start(lab.relay().info().listen, 3).await.unwrap();
    let server = origins::echo().await;
    let host = Host::start(path.invite(&lab.invite("desk")), &[&format!("game=tcp:{server}")]);
    host.ready().await;
    path.set_delay(Duration::from_millis(5));
    let mut player = enter(host.public("game").await).await;
    // Long enough for QUIC to find out that the path takes full packets.
    echo(&mut player, 2 << 20, 1).await;
    path.set_max_packet(1300);
    echo(&mut player, 2 << 20, 2).await;
    let mut late = enter(host.public("game").await).await;
    echo(&mut late, 1 << 18, 3).await;
}
