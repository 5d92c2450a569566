//! Links on which nobody plays: next to nothing passes, and whoever comes gets in all the same.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test panics as its report"
)]

use std::time::{Duration, Instant};

use spawnpoint_ops::Event;
use spawnpoint_tests::path::Path;
use spawnpoint_tests::{Host, Lab, comes_in, java, origins, soon, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A relay and an agent on a path of their own, and the tunnel's server.
async fn link() -> (Lab, Path, Host) {
    let (lab, echo) = (Lab::start().await, origins::echo().await);
    let path = Path::start(lab.relay().info().listen, 1).await.unwrap();
    let host = Host::start(path.invite(&lab.invite("desk")), &[&format!("game=tcp:{echo}")]);
    host.ready().await;
    (lab, path, host)
}

/// Waits until nothing passes for `pause`.
async fn falls_silent(path: &Path, pause: Duration) {
    let (mut carried, mut since) = (0, Instant::now());
    until("the link falls silent", || {
        let now = path.carried();
        if now != carried {
            (carried, since) = (now, Instant::now());
        }
        since.elapsed() >= pause
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_falls_silent_when_the_last_player_leaves() {
    let (_lab, path, host) = link().await;
    let pause = Duration::from_secs(2);
    falls_silent(&path, pause).await;
    let player = comes_in(host.public("game").await).await.unwrap();
    let carried = path.carried();
    // Far more than joining takes and a silent link carries before the deadline, though the player says nothing.
    until("the link is asked for signs of life", || path.carried() >= carried + 32).await;
    drop(player);
    falls_silent(&path, pause).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_after_the_nat_has_forgotten_a_silent_link_gets_in() {
    let (lab, path, host) = link().await;
    let public = host.public("game").await;
    falls_silent(&path, Duration::from_secs(1)).await;
    path.rebind().unwrap();
    assert!(comes_in(public).await.is_some());
    assert_eq!(lab.heard.count(|event| matches!(event, Event::Expired { .. })), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_link_that_goes_dark_is_noticed_by_both_sides_and_taken_up_again() {
    let (lab, path, host) = link().await;
    falls_silent(&path, Duration::from_secs(1)).await;
    path.set_dark(true);
    let is_parked = |event: &Event| matches!(event, Event::Parked { .. }).then_some(());
    for heard in [&lab.heard, &host.heard] {
        heard.wait("the link is parked", is_parked).await;
    }
    path.set_dark(false);
    assert!(
        soon("a player gets in", comes_in(host.public("game").await))
            .await
            .is_some()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_only_looks_finds_out_that_a_silent_link_is_dead() {
    let lab = Lab::with(|config| {
        config.players.list_cache = Duration::from_millis(1);
        // Nothing but the question itself can tell.
        config.links.transport.quiet_keep_alive = Duration::from_secs(600);
    })
    .await;
    let server = java::Server::start("Our World").await;
    let path = Path::start(lab.relay().info().listen, 2).await.unwrap();
    let host = Host::start(
        path.invite(&lab.invite("desk")),
        &[&format!("minecraft:{}", server.address)],
    );
    let public = host.public("minecraft").await;
    assert_eq!(java::look(public, "x").await.motd, "Our World");
    path.set_dark(true);
    soon("the entry says that the host is reconnecting", async {
        while !java::look(public, "x").await.motd.contains("reconnecting") {}
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_dark_costs_a_silent_link_nothing() {
    let (lab, path, host) = link().await;
    let mut player = comes_in(host.public("game").await).await.unwrap();
    path.set_dark(true);
    // Long enough for the agent to wonder, and not for anybody to give up.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    path.set_dark(false);
    player.write_all(b"still here").await.unwrap();
    soon("the server answers", player.read_exact(&mut [0; 10]))
        .await
        .unwrap();
    for heard in [&lab.heard, &host.heard] {
        assert_eq!(heard.count(|event| matches!(event, Event::LinkDown { .. })), 0);
    }
}
