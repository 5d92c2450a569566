//! UDP players: every size, every player on its own way, and nothing kept for longer than it is used.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test panics as its report"
)]

use std::net::SocketAddr;
use std::time::Duration;

use spawnpoint_ops::Event;
use spawnpoint_tests::{DEADLINE, Lab, loopback, noise, origins, soon, until};
use tokio::net::UdpSocket;

async fn player(public: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind(loopback(0)).await.unwrap();
    socket.connect(public).await.unwrap();
    socket
}

/// Sends until an answer comes, as games do: UDP may lose a packet anywhere.
async fn ask(player: &UdpSocket, packet: &[u8]) -> Vec<u8> {
    let mut buffer = vec![0; 65_536];
    let deadline = tokio::time::Instant::now() + DEADLINE;
    while tokio::time::Instant::now() < deadline {
        player.send(packet).await.unwrap();
        if let Ok(length) = tokio::time::timeout(Duration::from_millis(500), player.recv(&mut buffer)).await {
            return buffer[..length.unwrap()].to_vec();
        }
    }
    panic!("no answer to {} bytes within {DEADLINE:?}", packet.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn packets_of_every_size_pass_whole() {
    let (lab, (origin, _)) = (Lab::start().await, origins::udp_echo().await);
    let host = lab.host("desk", &[&format!("game=udp:{origin}")]).await;
    let player = player(host.public("game").await).await;
    for (seed, size) in [0, 1, 548, 1172, 1200, 1400, 1464, 1472, 2000, 9000, 30_000, 65_507]
        .into_iter()
        .enumerate()
    {
        let packet = noise(size, seed as u64);
        assert!(ask(&player, &packet).await == packet, "{size} bytes came back changed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_player_has_a_way_of_its_own() {
    let (lab, (origin, heard)) = (Lab::start().await, origins::udp_echo().await);
    let host = lab.host("desk", &[&format!("game=udp:{origin}")]).await;
    let public = host.public("game").await;
    let mut players = Vec::new();
    for number in 0..30u32 {
        let player = player(public).await;
        assert_eq!(ask(&player, &number.to_be_bytes()).await, number.to_be_bytes());
        players.push(player);
    }
    // Again, in another order: everybody still has their own.
    for (number, player) in players.iter().enumerate().rev() {
        let packet = noise(100, number as u64);
        assert_eq!(ask(player, &packet).await, packet);
    }
    assert_eq!(heard.lock().unwrap().len(), 30, "the server tells players apart");
    assert_eq!(lab.relay().players(), 30);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_packet_of_a_new_player_is_not_lost() {
    let (lab, (origin, _)) = (Lab::start().await, origins::udp_echo().await);
    let host = lab.host("desk", &[&format!("game=udp:{origin}")]).await;
    let public = host.public("game").await;
    for number in 0..50u32 {
        let player = player(public).await;
        player.send(&number.to_be_bytes()).await.unwrap();
        soon("the only packet is answered", player.recv(&mut [0; 10]))
            .await
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_player_is_forgotten_on_both_sides_and_may_come_back() {
    let lab = Lab::with(|config| config.players.udp_idle = Duration::from_millis(400)).await;
    let (origin, _) = origins::udp_echo().await;
    let host = lab.host("desk", &[&format!("game=udp:{origin}")]).await;
    let player = player(host.public("game").await).await;
    ask(&player, b"one").await;
    let idle = |event: &Event| {
        matches!(
            event,
            Event::PlayerLeft {
                reason: "idle",
                up: 3,
                down: 3,
                ..
            }
        )
        .then_some(())
    };
    lab.heard.wait("the relay forgets", idle).await;
    host.heard.wait("the agent forgets", idle).await;
    until("places are free", || lab.relay().players() == 0).await;
    assert_eq!(ask(&player, b"two").await, b"two");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_down_is_found_when_it_is_back() {
    let lab = Lab::start().await;
    let placeholder = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let origin = placeholder.local_addr().unwrap();
    drop(placeholder);
    let host = lab.host("desk", &[&format!("game=udp:{origin}")]).await;
    let player = player(host.public("game").await).await;
    let down = async {
        while host.heard.count(|event| matches!(event, Event::OriginDown { .. })) == 0 {
            player.send(b"anybody?").await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    soon("the agent says that the server is down", down).await;
    let server = UdpSocket::bind(origin).await.unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 100];
        while let Ok((length, from)) = server.recv_from(&mut buffer).await {
            let _ = server.send_to(&buffer[..length], from).await;
        }
    });
    assert_eq!(ask(&player, b"back").await, b"back");
    host.heard
        .wait("the agent says that it is back", |event| {
            matches!(event, Event::OriginUp { .. }).then_some(())
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_one_player_is_dropped_and_counted_while_another_plays() {
    let (lab, (origin, _)) = (Lab::start().await, origins::udp_echo().await);
    let host = lab.host("desk", &[&format!("game=udp:{origin}")]).await;
    let public = host.public("game").await;
    let (flooding, live) = (player(public).await, player(public).await);
    let flood = tokio::spawn(async move {
        let packet = noise(30_000, 1);
        for _ in 0..3000 {
            let _ = flooding.send(&packet).await;
        }
    });
    for round in 0..50u32 {
        assert_eq!(ask(&live, &round.to_be_bytes()).await.len(), 4);
    }
    flood.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn players_beyond_the_limit_are_denied_and_counted() {
    let lab = Lab::with(|config| config.players.max_players_per_host = 2).await;
    let (origin, _) = origins::udp_echo().await;
    let host = lab.host("desk", &[&format!("game=udp:{origin}")]).await;
    let public = host.public("game").await;
    let (one, two, three) = (player(public).await, player(public).await, player(public).await);
    ask(&one, b"1").await;
    ask(&two, b"2").await;
    three.send(b"3").await.unwrap();
    let denied = r#"relay_players_denied_total{reason="players_of_host"}"#;
    until("the third is denied", || lab.metric(denied) >= 1.0).await;
    assert_eq!(ask(&one, b"still").await, b"still");
}
