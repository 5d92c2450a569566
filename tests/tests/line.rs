//! Lines that take less than they did: nobody tells, and everything goes on.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test panics as its report"
)]

use std::net::SocketAddr;
use std::time::Duration;

use spawnpoint_tests::path::Path;
use spawnpoint_tests::{Host, Lab, noise, origins, soon, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

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

/// Waits until the relay says that the path takes packets of so many bytes.
async fn packets_become(lab: &Lab, is_so: impl Fn(f64) -> bool) {
    let is_known = || is_so(lab.metric(r#"relay_link_packet_bytes{host="desk"}"#));
    until("the path is known", is_known).await;
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

#[tokio::test(flavor = "multi_thread")]
async fn packets_are_as_large_as_the_path_takes() {
    let (near, far) = (Lab::start().await, Lab::start().await);
    let server = origins::echo().await;
    let tunnel = format!("game=tcp:{server}");
    let beside = near.host("desk", &[&tunnel]).await;
    // Loopback takes any packet, and this path no more than Ethernet, though the agent cannot know.
    let path = Path::start(far.relay().info().listen, 4).await.unwrap();
    let away = Host::start(path.invite(&far.invite("desk")), &[&tunnel]);
    away.ready().await;
    for host in [&beside, &away] {
        echo(&mut enter(host.public("game").await).await, 1 << 20, 4).await;
    }
    packets_become(&near, |bytes| bytes > 6_500.0).await;
    packets_become(&far, |bytes| (1_400.0..=1_472.0).contains(&bytes)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_relay_tells_how_long_packets_had_to_wait_for_the_line() {
    let lab = Lab::start().await;
    let path = Path::start(lab.relay().info().listen, 5).await.unwrap();
    let (server, _players) = origins::udp_echo().await;
    let host = Host::start(path.invite(&lab.invite("desk")), &[&format!("game=udp:{server}")]);
    host.ready().await;
    path.set_delay(Duration::from_millis(50));
    let player = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    player.connect(host.public("game").await).await.unwrap();
    let waited = || lab.metric(r#"relay_link_queue_seconds_sum{host="desk"}"#) >= 0.01;
    let play = async {
        // More at once than a new connection lets be on the way.
        while !waited() {
            for _ in 0..100 {
                player.send(&[7; 1200]).await.unwrap();
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    soon("a wait is told", play).await;
}
