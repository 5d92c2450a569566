//! The server list: one question to a server for many players, and an entry when the server is away.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test panics as its report"
)]

use std::time::Duration;

use spawnpoint_config::tunnel::Tunnel;
use spawnpoint_sniff::minecraft::Next;
use spawnpoint_tests::bedrock;
use spawnpoint_tests::java::{self, Server};
use spawnpoint_tests::{Host, Lab, loopback, soon, until};
use tokio::net::UdpSocket;

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_list_pings_asks_the_server_once() {
    let lab = Lab::with(|config| {
        config.players.list_cache = Duration::from_secs(300);
        config.players.per_address.burst = 100_000;
    })
    .await;
    let server = Server::start("calm").await;
    let host = lab.host("desk", &[&format!("minecraft:{}", server.address)]).await;
    let public = host.public("minecraft").await;
    // `SPAWNPOINT_PINGS=50000` makes it a flood indeed.
    let pings = std::env::var("SPAWNPOINT_PINGS").map_or(300, |pings| pings.parse().expect("a number of pings"));
    let players = (0..100).map(|player| {
        tokio::spawn(async move {
            for _ in (player..pings).step_by(100) {
                let entry = java::look(public, "x").await;
                assert_eq!((entry.motd.as_str(), entry.online, entry.max), ("calm", 3, 20));
                assert_eq!(entry.icon.as_deref(), Some("data:image/png;base64,AAAA"));
            }
        })
    });
    for player in players.collect::<Vec<_>>() {
        player.await.unwrap();
    }
    assert_eq!(server.count(Next::Status), 1);
    assert_eq!(lab.metric(r#"relay_list_asked_total{reason="answered"}"#), 1.0);
    assert_eq!(lab.metric(r#"relay_list_told_total{reason="server"}"#), pings as f64);
    // Nobody who only looks has joined.
    assert_eq!(lab.relay().players(), 0);
    assert!(host.agent.guests().show().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_outlives_its_server_its_agent_and_the_relay() {
    let mut lab = Lab::with(|config| config.players.list_cache = Duration::from_millis(1)).await;
    let server = Server::start("Our World").await;
    let host = lab.host("desk", &[&format!("minecraft:{}", server.address)]).await;
    let public = host.public("minecraft").await;
    assert_eq!(java::look(public, "x").await.motd, "Our World");
    host.stop().await;
    let offline = |entry: &spawnpoint_sniff::minecraft::Listing| {
        let lines: Vec<_> = entry.motd.lines().map(str::to_owned).collect();
        assert_eq!(lines[0], "Our World");
        assert!(
            lines[1].starts_with("This server is offline, last seen"),
            "{}",
            lines[1]
        );
        assert_eq!(
            (entry.online, entry.protocol, entry.version.as_str()),
            (0, -1, "Offline")
        );
        assert_eq!(entry.icon.as_deref(), Some("data:image/png;base64,AAAA"));
    };
    soon("the relay knows that the agent has gone", async {
        while java::look(public, "x").await.version != "Offline" {}
    })
    .await;
    offline(&java::look(public, "x").await);
    let words = soon("words", java::words(public, "x")).await;
    assert!(words.contains("last seen"), "{words}");
    lab.stop().await;
    lab.start_again().await;
    offline(&java::look(public, "x").await);
    // Back again, at the same address.
    let host = Host::start(host_invite(&lab), &[&format!("minecraft:{}", server.address)]);
    assert_eq!(host.public("minecraft").await, public);
    assert_eq!(java::look(public, "x").await.motd, "Our World");
    lab.office().revoke(&"desk".parse().unwrap()).unwrap();
    until("a revoked host's port closes", || {
        std::net::TcpStream::connect(public).is_err()
    })
    .await;
}

fn host_invite(lab: &Lab) -> spawnpoint_proto::Invite {
    lab.office().rotate(&"desk".parse().unwrap(), None, None).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_down_still_has_an_entry() {
    let lab = Lab::start().await;
    let host = lab.host("desk", &["minecraft:127.0.0.1:9"]).await;
    let public = host.public("minecraft").await;
    let entry = java::look(public, "x").await;
    assert!(entry.motd.contains("not running"), "{}", entry.motd);
    let words = soon("words", java::words(public, "x")).await;
    assert!(words.contains("not running"), "{words}");
}

async fn hold_and_carry_through() {
    let lab = Lab::start().await;
    let server = Server::start("welcome").await;
    let tunnels = [format!("minecraft:{}", server.address)];
    let tunnels: Vec<&str> = tunnels.iter().map(String::as_str).collect();
    let host = lab.host("desk", &tunnels).await;
    let public = host.public("minecraft").await;
    let invite = host.invite.clone();
    // It falls silent rather than says goodbye.
    drop(host.agent);
    // Some say everything at once, others in pieces, as the game does.
    let whole = tokio::spawn(async move { java::words(public, "x").await });
    let pieces = tokio::spawn(async move { java::words_in_pieces(public, "x").await });
    let again = Host::start(invite, &tunnels);
    again.public("minecraft").await;
    for player in [whole, pieces] {
        assert_eq!(soon("the player is let in", player).await.unwrap(), "welcome");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_joins_while_the_agent_restarts_is_held_and_carried_through() {
    hold_and_carry_through().await;
}

/// Here a task that waits without yielding would hang everything, as it once did.
#[tokio::test]
async fn who_is_held_lets_a_relay_with_one_thread_work() {
    hold_and_carry_through().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn old_games_see_the_entry_too() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let lab = Lab::start().await;
    let server = Server::start("Old and New").await;
    let host = lab.host("desk", &[&format!("minecraft:{}", server.address)]).await;
    let public = host.public("minecraft").await;
    for ping in [&b"\xfe"[..], b"\xfe\x01"] {
        let mut socket = tokio::net::TcpStream::connect(public).await.unwrap();
        socket.write_all(ping).await.unwrap();
        let mut heard = Vec::new();
        soon("a kick", socket.read_to_end(&mut heard)).await.unwrap();
        let units: Vec<u16> = heard[3..]
            .chunks_exact(2)
            .map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
            .collect();
        let text = String::from_utf16(&units).unwrap();
        assert!(heard[0] == 0xff && text.contains("Old and New"), "{text:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bedrock_entry_outlives_its_agent_and_the_relay() {
    let mut lab = Lab::start().await;
    let server = bedrock::Server::start("Our Realm").await;
    let host = lab.host("desk", &[&format!("bedrock:{}", server.address)]).await;
    let public = host.public("bedrock").await;
    let entry = bedrock::look(public).await;
    assert_eq!((entry.motd.as_str(), entry.online), ("Our Realm", 3));
    host.stop().await;
    let offline = async || {
        let entry = bedrock::look_until(public, |entry| entry.level.contains("offline")).await;
        assert_eq!((entry.motd.as_str(), entry.online, entry.max), ("Our Realm", 0, 20));
    };
    offline().await;
    lab.stop().await;
    lab.start_again().await;
    offline().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bedrock_server_that_is_down_still_has_an_entry() {
    let lab = Lab::start().await;
    let server = bedrock::Server::start("Our Realm").await;
    let origin = server.address;
    let tunnel = Tunnel {
        away: Some("Back at eight".to_owned()),
        ..format!("bedrock:{origin}").parse().unwrap()
    };
    let host = Host::start_with(lab.invite("desk"), vec![tunnel]);
    let public = host.public("bedrock").await;
    assert_eq!(bedrock::look(public).await.online, 3);
    server.stop().await;
    let entry = bedrock::look_until(public, |entry| entry.online == 0).await;
    assert_eq!(
        (entry.motd.as_str(), entry.level.as_str()),
        ("Our Realm", "Back at eight")
    );
    let _server = bedrock::Server::start_at(origin, "Again").await;
    bedrock::look_until(public, |entry| entry.motd == "Again").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_bedrock_pings_stays_at_the_relay() {
    let lab = Lab::start().await;
    let server = bedrock::Server::start("calm").await;
    let host = lab.host("desk", &[&format!("bedrock:{}", server.address)]).await;
    let public = host.public("bedrock").await;
    bedrock::look(public).await;
    let began = std::time::Instant::now();
    let socket = UdpSocket::bind(loopback(0)).await.unwrap();
    for _ in 0..5_000 {
        socket.send_to(&bedrock::ping(), public).await.unwrap();
        tokio::task::yield_now().await;
    }
    // The answers that come show that the flood has been read.
    let mut answers = 0;
    while tokio::time::timeout(Duration::from_millis(500), socket.recv(&mut [0; 1500]))
        .await
        .is_ok()
    {
        answers += 1;
    }
    let seconds = began.elapsed().as_secs() as usize + 1;
    let most = 21 + 20 * seconds;
    assert!(server.asked() <= most, "{} of {most}", server.asked());
    assert!((1..=most + 100 + 100 * seconds).contains(&answers), "{answers}");
}
