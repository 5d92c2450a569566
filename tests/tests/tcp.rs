//! TCP players: every byte, every end, and nobody in another's way.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test panics as its report"
)]

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use spawnpoint_ops::Event;
use spawnpoint_tests::{Lab, noise, origins, soon, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn abort(socket: TcpStream) {
    socket2::SockRef::from(&socket)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
}

async fn is_reset(socket: &mut TcpStream) -> bool {
    let mut buffer = [0; 1024];
    loop {
        match soon("the socket ends", socket.read(&mut buffer)).await {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) => return matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_byte_arrives_in_both_directions() {
    let (lab, origin) = (Lab::start().await, origins::echo().await);
    let host = lab.host("desk", &[&format!("game=tcp:{origin}")]).await;
    let public = host.public("game").await;
    let players = (0..8).map(|seed| {
        tokio::spawn(async move {
            let sent = noise(3_000_000, seed);
            let (mut reader, mut writer) = TcpStream::connect(public).await.unwrap().into_split();
            let copy = sent.clone();
            let write = tokio::spawn(async move {
                writer.write_all(&copy).await.unwrap();
                writer.shutdown().await.unwrap();
            });
            let mut received = Vec::new();
            soon("all bytes are back", reader.read_to_end(&mut received))
                .await
                .unwrap();
            write.await.unwrap();
            assert!(sent == received, "player {seed} got other bytes");
        })
    });
    for player in players.collect::<Vec<_>>() {
        player.await.unwrap();
    }
    let left = |event: &Event| {
        matches!(
            event,
            Event::PlayerLeft {
                reason: "finished",
                up: 3_000_000,
                down: 3_000_000,
                ..
            }
        )
    };
    lab.heard.wait_count("all have left tidily", 8, left).await;
    let line = r#"relay_bytes_total{host="desk",tunnel="game",protocol="tcp",direction="up"}"#;
    assert_eq!(lab.metric(line), 24e6);
    until("places are free", || lab.relay().players() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_player_who_is_done_speaking_still_hears() {
    let origin = origins::tcp(|mut socket| async move {
        let mut heard = Vec::new();
        socket.read_to_end(&mut heard).await.unwrap();
        socket
            .write_all(format!("heard {}", heard.len()).as_bytes())
            .await
            .unwrap();
    })
    .await;
    let lab = Lab::start().await;
    let host = lab.host("desk", &[&format!("game=tcp:{origin}")]).await;
    let mut player = TcpStream::connect(host.public("game").await).await.unwrap();
    player.write_all(b"12345").await.unwrap();
    player.shutdown().await.unwrap();
    let mut answer = String::new();
    soon("the answer comes", player.read_to_string(&mut answer))
        .await
        .unwrap();
    assert_eq!(answer, "heard 5");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_done_speaking_still_hears() {
    let (heard, mut hear) = tokio::sync::mpsc::channel(1);
    let origin = origins::tcp(move |mut socket| {
        let heard = heard.clone();
        async move {
            socket.write_all(b"welcome").await.unwrap();
            socket.shutdown().await.unwrap();
            let mut rest = String::new();
            socket.read_to_string(&mut rest).await.unwrap();
            heard.send(rest).await.unwrap();
        }
    })
    .await;
    let lab = Lab::start().await;
    let host = lab.host("desk", &[&format!("game=tcp:{origin}")]).await;
    let mut player = TcpStream::connect(host.public("game").await).await.unwrap();
    let mut greeting = String::new();
    soon("the greeting ends", player.read_to_string(&mut greeting))
        .await
        .unwrap();
    player.write_all(b"thanks").await.unwrap();
    drop(player);
    assert_eq!(
        (
            greeting.as_str(),
            soon("the server hears", hear.recv()).await.unwrap().as_str()
        ),
        ("welcome", "thanks")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_of_the_player_is_a_reset_at_the_server() {
    let (ended, mut end) = tokio::sync::mpsc::channel(1);
    let origin = origins::tcp(move |mut socket| {
        let ended = ended.clone();
        async move {
            socket.write_all(b"hi").await.unwrap();
            ended.send(is_reset(&mut socket).await).await.unwrap();
        }
    })
    .await;
    let lab = Lab::start().await;
    let host = lab.host("desk", &[&format!("game=tcp:{origin}")]).await;
    let mut player = TcpStream::connect(host.public("game").await).await.unwrap();
    player.read_exact(&mut [0; 2]).await.unwrap();
    abort(player);
    assert!(soon("the server notices", end.recv()).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_of_the_server_is_a_reset_at_the_player() {
    let origin = origins::tcp(|mut socket| async move {
        socket.read_exact(&mut [0; 1]).await.unwrap();
        abort(socket);
    })
    .await;
    let lab = Lab::start().await;
    let host = lab.host("desk", &[&format!("game=tcp:{origin}")]).await;
    let mut player = TcpStream::connect(host.public("game").await).await.unwrap();
    player.write_all(b"x").await.unwrap();
    assert!(is_reset(&mut player).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_servers_last_words_before_its_reset_are_heard() {
    let words = Arc::new(noise(2000, 5));
    let said = words.clone();
    let origin = origins::tcp(move |mut socket| {
        let words = words.clone();
        async move {
            socket.read_exact(&mut [0; 1]).await.unwrap();
            // Closing over unread input makes the kernel reset the connection, as when a game server kicks a player.
            socket.write_all(&words).await.unwrap();
            drop(socket);
        }
    })
    .await;
    let lab = Lab::start().await;
    let host = lab.host("desk", &[&format!("game=tcp:{origin}")]).await;
    let public = host.public("game").await;
    for _ in 0..20 {
        let mut player = TcpStream::connect(public).await.unwrap();
        player.write_all(b"xyz").await.unwrap();
        let mut heard = vec![0; said.len()];
        soon("the words are heard", player.read_exact(&mut heard))
            .await
            .unwrap();
        assert!(heard == *said);
        assert!(is_reset(&mut player).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_after_half_close_is_noticed_although_nobody_reads() {
    let origin = origins::silent().await;
    let lab = Lab::start().await;
    let host = lab.host("desk", &[&format!("game=tcp:{origin}")]).await;
    let mut player = TcpStream::connect(host.public("game").await).await.unwrap();
    player.shutdown().await.unwrap();
    until("the player is in", || lab.relay().players() == 1).await;
    abort(player);
    until("the place is free", || lab.relay().players() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_servers_reset_frees_the_place_of_a_player_who_stopped_reading() {
    let origin = origins::tcp(|mut socket| async move {
        let _ = tokio::time::timeout(Duration::from_secs(1), socket.write_all(&noise(30_000_000, 1))).await;
        abort(socket);
    })
    .await;
    let lab = Lab::start().await;
    let host = lab.host("desk", &[&format!("game=tcp:{origin}")]).await;
    let stalled = TcpStream::connect(host.public("game").await).await.unwrap();
    until("the player is in", || lab.relay().players() == 1).await;
    until("the place is free", || lab.relay().players() == 0).await;
    drop(stalled);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_down_refuses_its_player_and_the_next_one_tries_again() {
    let lab = Lab::start().await;
    let reserved = tokio::net::TcpSocket::new_v4().unwrap();
    reserved.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let origin = reserved.local_addr().unwrap();
    let host = lab.host("desk", &[&format!("game=tcp:{origin}")]).await;
    let public = host.public("game").await;
    for _ in 0..3 {
        // The reset may come so early that the connection never seems to have been.
        match TcpStream::connect(public).await {
            Ok(mut player) => assert!(is_reset(&mut player).await),
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
    }
    let down = |event: &&Event| matches!(event, Event::OriginDown { .. });
    assert_eq!(host.heard.count(down), 1, "it is said once");
    drop(reserved);
    let listener = tokio::net::TcpListener::bind(origin).await.unwrap();
    let mut player = TcpStream::connect(public).await.unwrap();
    let (mut server, _) = soon("the server is asked again", listener.accept()).await.unwrap();
    server.write_all(b"hi").await.unwrap();
    soon("the player plays", player.read_exact(&mut [0; 2])).await.unwrap();
    host.heard
        .wait("the recovery is said", |event| {
            matches!(event, Event::OriginUp { .. }).then_some(())
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_minecraft_player_reads_why_the_server_is_away() {
    let lab = Lab::start().await;
    let host = lab.host("desk", &["minecraft:127.0.0.1:9"]).await;
    let public = host.public("minecraft").await;
    let deadline = Duration::from_secs(10);
    let report = spawnpoint_demo::player::ping(public, "play.example", 1, deadline)
        .await
        .unwrap();
    assert!(report.motd.contains("not running"), "{}", report.motd);
    let text = spawnpoint_demo::player::login(public, "play.example", "Steve", deadline)
        .await
        .unwrap();
    assert!(text.contains("not running"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_stalled_players_do_not_stop_a_live_one() {
    let lab = Lab::start().await;
    let (bulk, echo) = (
        origins::sender(Arc::new(noise(4_000_000, 1))).await,
        origins::echo().await,
    );
    let host = lab
        .host("desk", &[&format!("bulk=tcp:{bulk}"), &format!("game=tcp:{echo}")])
        .await;
    let (bulk, game) = (host.public("bulk").await, host.public("game").await);
    let mut stalled = Vec::new();
    for _ in 0..200 {
        let mut player = TcpStream::connect(bulk).await.unwrap();
        // The first byte shows that the server is sending; after it the player reads no more.
        soon("the download begins", player.read_exact(&mut [0; 1]))
            .await
            .unwrap();
        stalled.push(player);
    }
    let mut live = TcpStream::connect(game).await.unwrap();
    for round in 0..200u32 {
        live.write_all(&round.to_be_bytes()).await.unwrap();
        let mut answer = [0; 4];
        soon("the live player is answered", live.read_exact(&mut answer))
            .await
            .unwrap();
        assert_eq!(answer, round.to_be_bytes());
    }
    // A stalled player goes on as if nothing had been.
    let mut rest = Vec::new();
    soon("the download goes on", stalled.pop().unwrap().read_to_end(&mut rest))
        .await
        .unwrap();
    assert!(rest == noise(4_000_000, 1)[1..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_players_than_a_link_has_room_for_at_first_all_play() {
    let lab = Lab::with(|config| {
        config.players.per_host.players = 3000;
        config.players.per_tunnel.players = 3000;
    })
    .await;
    let echo = origins::echo().await;
    let host = lab.host("desk", &[&format!("game=tcp:{echo}")]).await;
    let public = host.public("game").await;
    let mut players = Vec::new();
    for number in 0..1500u32 {
        let mut player = TcpStream::connect(public).await.unwrap();
        player.write_all(&number.to_be_bytes()).await.unwrap();
        let mut answer = [0; 4];
        soon("the player is answered", player.read_exact(&mut answer))
            .await
            .unwrap();
        assert_eq!(answer, number.to_be_bytes());
        players.push(player);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hanging_server_holds_up_only_its_own_players() {
    let lab = Lab::start().await;
    let (silent, echo) = (origins::silent().await, origins::echo().await);
    let host = lab
        .host("desk", &[&format!("hangs=tcp:{silent}"), &format!("game=tcp:{echo}")])
        .await;
    let hangs = host.public("hangs").await;
    let mut hanging = Vec::new();
    for _ in 0..50 {
        let mut player = TcpStream::connect(hangs).await.unwrap();
        player.write_all(&[0; 1000]).await.unwrap();
        hanging.push(player);
    }
    let mut live = TcpStream::connect(host.public("game").await).await.unwrap();
    live.write_all(b"hello").await.unwrap();
    soon("the live player is answered", live.read_exact(&mut [0; 5]))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_on_a_public_port_reaches_only_its_own_server() {
    let lab = Lab::start().await;
    let echo = origins::echo().await;
    let host = lab.host("desk", &[&format!("game=tcp:{echo}")]).await;
    let public = host.public("game").await;
    for seed in 0..20 {
        let garbage = noise(4000, seed);
        let mut player = TcpStream::connect(public).await.unwrap();
        player.write_all(&garbage).await.unwrap();
        let mut back = vec![0; garbage.len()];
        soon("garbage comes back", player.read_exact(&mut back)).await.unwrap();
        assert_eq!(back, garbage);
    }
}
