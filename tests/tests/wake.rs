//! Servers that start when somebody joins, and stop when nobody is there.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test panics as its report"
)]
#![cfg(unix)]

use std::path::Path;
use std::time::Duration;

use spawnpoint_config::tunnel::{Tunnel, Wake};
use spawnpoint_sniff::minecraft::Next;
use spawnpoint_tests::bedrock;
use spawnpoint_tests::java::{self, Server};
use spawnpoint_tests::{Host, Lab, free_ports, loopback, soon, until};

/// A command that appends what it was told to a file.
fn note(file: &Path, word: &str) -> Vec<String> {
    let script = format!(
        "echo {word} $SPAWNPOINT_TUNNEL $SPAWNPOINT_ORIGIN $SPAWNPOINT_INVITE >> {}",
        file.display()
    );
    vec!["sh".into(), "-c".into(), script]
}

fn lines(file: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_started_by_who_joins_and_stopped_when_nobody_is_there() {
    let lab = Lab::with(|config| config.players.list_cache = Duration::from_millis(1)).await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("commands");
    let origin = loopback(free_ports(1).iter().next().unwrap());
    let tunnel = Tunnel {
        wake: Some(Wake {
            on_join: note(&file, "start"),
            on_idle: note(&file, "stop"),
            idle_after: Duration::from_millis(300),
            start_timeout: Duration::from_secs(15),
        }),
        ..format!("mc=minecraft:{origin}").parse().unwrap()
    };
    let host = Host::start_with(lab.invite("desk"), vec![tunnel]);
    let public = host.public("mc").await;
    let entry = java::look(public, "x").await;
    assert!(entry.motd.contains("Join to wake it"), "{}", entry.motd);
    assert_eq!(lines(&file).len(), 0, "whoever only looks wakes nobody");

    let players: Vec<_> = (0..3)
        .map(|_| tokio::spawn(async move { java::words(public, "x").await }))
        .collect();
    until("the command runs", || lines(&file).len() == 1).await;
    assert_eq!(lines(&file)[0].trim_end(), format!("start mc {origin}"));
    soon("the list says so", async {
        while !java::look(public, "x").await.motd.contains("starting") {}
    })
    .await;
    let server = Server::start_at(origin, "good morning").await;
    for player in players {
        assert_eq!(soon("the player is let in", player).await.unwrap(), "good morning");
    }
    assert_eq!(server.count(Next::Login), 3);
    until("the server is stopped", || lines(&file).len() == 2).await;
    assert_eq!(lines(&file)[1].trim_end(), format!("stop mc {origin}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_be_started_is_told_at_once() {
    let lab = Lab::start().await;
    let origin = loopback(free_ports(1).iter().next().unwrap());
    let tunnel = Tunnel {
        wake: Some(Wake {
            on_join: vec!["/nowhere/start-server".into()],
            on_idle: Vec::new(),
            idle_after: Duration::from_secs(60),
            start_timeout: Duration::from_secs(15),
        }),
        ..format!("mc=minecraft:{origin}").parse().unwrap()
    };
    let host = Host::start_with(lab.invite("desk"), vec![tunnel]);
    let words = soon("words", java::words(host.public("mc").await, "x")).await;
    assert!(words.contains("not running"), "{words}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bedrock_server_is_not_started_by_who_only_looks() {
    let lab = Lab::start().await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("commands");
    let origin = loopback(free_ports(1).iter().next().unwrap());
    let tunnel = Tunnel {
        wake: Some(Wake {
            on_join: note(&file, "start"),
            on_idle: Vec::new(),
            idle_after: Duration::from_secs(60),
            start_timeout: Duration::from_secs(15),
        }),
        ..format!("be=bedrock:{origin}").parse().unwrap()
    };
    let host = Host::start_with(lab.invite("desk"), vec![tunnel]);
    let public = host.public("be").await;
    let entry = bedrock::look(public).await;
    assert!(entry.level.contains("Join to wake it"), "{}", entry.level);
    let player = tokio::net::UdpSocket::bind(loopback(0)).await.unwrap();
    let looker = tokio::net::UdpSocket::bind(loopback(0)).await.unwrap();
    looker.send_to(&bedrock::ping(), public).await.unwrap();
    // What comes after it is no ping, and shows that the ping has been seen.
    player.send_to(b"\x05hello", public).await.unwrap();
    until("the command runs", || !lines(&file).is_empty()).await;
    assert_eq!(lines(&file).len(), 1);
    let guests: Vec<_> = host.agent.guests().show().iter().map(|guest| guest.player).collect();
    assert_eq!(guests, [player.local_addr().unwrap()], "whoever only looks is no guest");
}
