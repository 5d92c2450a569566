//! The guard: limits of players by tunnel, host and relay, and what a flood leaves of them.

#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::num::NonZeroU32;

use spawnpoint_core::grant::{Caps, Grant};
use spawnpoint_relay::office::{CapsChange, GrantChange};
use spawnpoint_tests::{Lab, origins, soon, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Whether a server answers somebody who comes to `public`; who is let in stays.
async fn comes_in(public: SocketAddr) -> Option<TcpStream> {
    // Whoever is turned away may find that out while connecting or writing.
    let mut player = TcpStream::connect(public).await.ok()?;
    let _ = player.write_all(b"hello").await;
    let answered = soon("a player is answered or cut off", player.read_exact(&mut [0; 5])).await;
    answered.is_ok().then_some(player)
}

fn denied(reason: &str) -> String {
    format!("relay_players_denied_total{{reason=\"{reason}\"}}")
}

#[tokio::test(flavor = "multi_thread")]
async fn players_whom_no_server_answers_fill_their_own_places_only() {
    let lab = Lab::with(|config| config.players.per_tunnel.half_open = 3).await;
    let (silent, echo) = (origins::silent().await, origins::echo().await);
    let tunnels = [format!("silent=tcp:{silent}"), format!("game=tcp:{echo}")];
    let host = lab.host("desk", &[&tunnels[0], &tunnels[1]]).await;
    let (public, game) = (host.public("silent").await, host.public("game").await);
    let mut waiting = Vec::new();
    for _ in 0..3 {
        waiting.push(TcpStream::connect(public).await.unwrap());
    }
    until("three wait", || lab.relay().players() == 3).await;
    assert!(comes_in(public).await.is_none());
    assert_eq!(lab.metric(&denied("half_open_of_tunnel")), 1.0);
    // Where players are answered nobody is in anybody's way.
    let mut playing = Vec::new();
    for _ in 0..10 {
        playing.push(comes_in(game).await.expect("the other tunnel has places"));
    }
    // Whoever leaves makes room.
    // In a reset, since their server does not notice that they are done speaking.
    waiting.pop().unwrap().set_zero_linger().unwrap();
    until("one has left", || lab.relay().players() == 12).await;
    waiting.push(TcpStream::connect(public).await.unwrap());
    until("another has come", || lab.relay().players() == 13).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_bounds_a_host_and_each_of_its_tunnels_while_they_are_open() {
    let lab = Lab::start().await;
    let echo = origins::echo().await;
    let most = |players| Caps {
        players: NonZeroU32::new(players),
        ..Caps::default()
    };
    let grant = Grant {
        caps: most(3),
        tunnel_caps: [("small".parse().unwrap(), most(1))].into(),
        ..Grant::default()
    };
    let invite = lab.invite_with("desk", grant);
    let tunnels = [format!("small=tcp:{echo}"), format!("large=tcp:{echo}")];
    let host = spawnpoint_tests::Host::start(invite, &[&tunnels[0], &tunnels[1]]);
    host.ready().await;
    let (small, large) = (host.public("small").await, host.public("large").await);
    let mut playing = vec![comes_in(small).await.unwrap()];
    assert!(comes_in(small).await.is_none());
    assert_eq!(lab.metric(&denied("players_of_tunnel")), 1.0);
    playing.push(comes_in(large).await.unwrap());
    playing.push(comes_in(large).await.unwrap());
    assert!(comes_in(large).await.is_none());
    assert_eq!(lab.metric(&denied("players_of_host")), 1.0);
    // The operator gives more, and nobody has to leave for it.
    let change = |tunnel: Option<&str>, players| GrantChange {
        tunnel: tunnel.map(|name| name.parse().unwrap()),
        caps: CapsChange {
            players: Some(NonZeroU32::new(players)),
            ..CapsChange::default()
        },
        ..GrantChange::default()
    };
    let desk = "desk".parse().unwrap();
    lab.office().grant(&desk, change(None, 10)).unwrap();
    lab.office().grant(&desk, change(Some("small"), 2)).unwrap();
    soon("the larger grant is live", async {
        while comes_in(small).await.is_none() {}
    })
    .await;
    for mut player in playing {
        player.write_all(b"still").await.unwrap();
        soon("a player goes on", player.read_exact(&mut [0; 5])).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_that_is_flooded_turns_newcomers_away_and_its_neighbour_none() {
    let lab = Lab::with(|config| {
        (config.players.per_tunnel.rate, config.players.per_tunnel.burst) = (1, 20);
    })
    .await;
    let echo = origins::echo().await;
    let tunnels = [format!("flooded=tcp:{echo}"), format!("quiet=tcp:{echo}")];
    let host = lab.host("desk", &[&tunnels[0], &tunnels[1]]).await;
    let (flooded, quiet) = (host.public("flooded").await, host.public("quiet").await);
    for _ in 0..100 {
        drop(TcpStream::connect(flooded).await);
    }
    until("the flood is turned away", || {
        lab.metric(&denied("rate_of_tunnel")) >= 70.0
    })
    .await;
    for _ in 0..20 {
        comes_in(quiet).await.expect("the neighbour is open");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_limits_are_live_and_whoever_plays_goes_on() {
    let mut lab = Lab::with(|config| config.players.per_tunnel.players = 2).await;
    let echo = origins::echo().await;
    let host = lab.host("desk", &[&format!("game=tcp:{echo}")]).await;
    let public = host.public("game").await;
    let mut playing = vec![comes_in(public).await.unwrap(), comes_in(public).await.unwrap()];
    assert!(comes_in(public).await.is_none());
    lab.reconfigure(|config| config.players.per_tunnel.players = 10);
    soon("a third player comes in", async {
        playing.push(loop {
            if let Some(player) = comes_in(public).await {
                break player;
            }
        });
    })
    .await;
    lab.reconfigure(|config| config.players.total.players = 1);
    assert!(comes_in(public).await.is_none());
    assert_eq!(lab.metric(&denied("players_of_relay")), 1.0);
    for player in &mut playing {
        player.write_all(b"still").await.unwrap();
        soon("a player goes on", player.read_exact(&mut [0; 5])).await.unwrap();
    }
}
