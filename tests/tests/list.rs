//! The server list: one question to a server for many players, and an entry when the server is away.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test panics as its report"
)]

use std::time::Duration;

use spawnpoint_sniff::minecraft::Next;
use spawnpoint_tests::java::{self, Server};
use spawnpoint_tests::{Host, Lab, soon, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_list_pings_asks_the_server_once() {
    let lab = Lab::with(|config| config.players.list_cache = Duration::from_secs(300)).await;
    let server = Server::start("calm").await;
    let host = lab.host("desk", &[&format!("minecraft:{}", server.address)]).await;
    let public = host.public("minecraft").await;
    let players = (0..300).map(|_| tokio::spawn(async move { java::look(public, "x").await }));
    for player in players.collect::<Vec<_>>() {
        let entry = player.await.unwrap();
        assert_eq!((entry.motd.as_str(), entry.online, entry.max), ("calm", 3, 20));
        assert_eq!(entry.icon.as_deref(), Some("data:image/png;base64,AAAA"));
    }
    assert_eq!(server.count(Next::Status), 1);
    assert_eq!(lab.metric(r#"relay_list_asked_total{reason="answered"}"#), 1.0);
    assert_eq!(lab.metric(r#"relay_list_told_total{reason="server"}"#), 300.0);
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
    lab.office().rotate(&"desk".parse().unwrap(), None).unwrap()
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

#[tokio::test(flavor = "multi_thread")]
async fn who_joins_while_the_agent_restarts_is_held_and_carried_through() {
    let lab = Lab::start().await;
    let server = Server::start("welcome").await;
    let tunnels = [format!("minecraft:{}", server.address)];
    let tunnels: Vec<&str> = tunnels.iter().map(String::as_str).collect();
    let host = lab.host("desk", &tunnels).await;
    let public = host.public("minecraft").await;
    let invite = host.invite.clone();
    // It falls silent rather than says goodbye.
    drop(host.agent);
    let joined = tokio::spawn(async move { java::words(public, "x").await });
    let again = Host::start(invite, &tunnels);
    again.public("minecraft").await;
    assert_eq!(soon("the player is let in", joined).await.unwrap(), "welcome");
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
