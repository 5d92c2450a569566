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
    // Nothing but the question itself can tell: neither side asks by itself, and QUIC's own patience is as long.
    let quiet = Duration::from_secs(600);
    let lab = Lab::with(|config| {
        config.players.list_cache = Duration::from_millis(1);
        config.links.transport.quiet_keep_alive = quiet;
    })
    .await;
    let server = java::Server::start("Our World").await;
    let path = Path::start(lab.relay().info().listen, 2).await.unwrap();
    let tunnel = format!("minecraft:{}", server.address).parse().unwrap();
    let host = Host::start_quiet(path.invite(&lab.invite("desk")), vec![tunnel], quiet);
    let public = host.public("minecraft").await;
    assert_eq!(java::look(public, "x").await.motd, "Our World");
    path.set_dark(true);
    soon("the entry says that the host is reconnecting", async {
        while !java::look(public, "x").await.motd.contains("reconnecting") {}
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_that_is_lost_costs_a_silent_link_nothing() {
    let (lab, path, host) = link().await;
    falls_silent(&path, Duration::from_secs(1)).await;
    path.set_dark(true);
    let lost = path.lost();
    until("the agent asks", || path.lost() > lost).await;
    // It asks again every half second and gives up after 2.4; QUIC itself is silent for long by then.
    tokio::time::sleep(Duration::from_millis(1600)).await;
    path.set_dark(false);
    // By then it has made up its mind.
    falls_silent(&path, Duration::from_secs(1)).await;
    for heard in [&lab.heard, &host.heard] {
        assert_eq!(heard.count(|event| matches!(event, Event::LinkDown { .. })), 0);
    }
    assert!(comes_in(host.public("game").await).await.is_some());
}
