//! Links and sessions between carriers: what goes on, what ends, who may come back, and how one process follows another.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test panics as its report"
)]

use std::net::SocketAddr;
use std::time::Duration;

use spawnpoint_agent::{Agent, AgentSettings, GiveUp};
use spawnpoint_config::agent::AgentConfig;
use spawnpoint_net::Channel;
use spawnpoint_ops::Event;
use spawnpoint_proto::Invite;
use spawnpoint_tests::path::Path;
use spawnpoint_tests::{Heard, Host, Lab, free_ports, java, noise, origins, soon};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::watch;

/// Words on a lossy path, two seconds apart.
const LOSSY_ROUNDS: u32 = 5;

async fn play(public: SocketAddr) -> TcpStream {
    let mut player = TcpStream::connect(public).await.unwrap();
    echoed(&mut player, b"hello").await;
    player
}

async fn echoed(player: &mut TcpStream, words: &[u8]) {
    player.write_all(words).await.unwrap();
    let mut heard = vec![0; words.len()];
    soon("the server answers", player.read_exact(&mut heard)).await.unwrap();
    assert_eq!(heard, words);
}

async fn answered(player: &UdpSocket, words: &[u8]) {
    let ask = async {
        let mut heard = [0; 64];
        loop {
            player.send(words).await.unwrap();
            let answer = tokio::time::timeout(Duration::from_millis(300), player.recv(&mut heard)).await;
            if let Ok(Ok(length)) = answer
                && heard[..length] == *words
            {
                return;
            }
        }
    };
    soon("the UDP server answers", ask).await;
}

/// A relay whose one agent comes over a path that can go dark.
async fn over_a_path(lab: &Lab, tunnels: &[&str]) -> (Path, Host, Invite) {
    let path = Path::start(lab.relay().info().listen, 1).await.unwrap();
    let invite = lab.invite("desk");
    let host = Host::start(path.invite(&invite), tunnels);
    host.ready().await;
    (path, host, invite)
}

fn is_cut_off(event: &&Event) -> bool {
    matches!(event, Event::PlayerLeft { reason, .. } if *reason != "finished")
}

async fn parked(heard: &Heard) {
    let is_parked = |event: &Event| matches!(event, Event::Parked { .. }).then_some(());
    heard.wait("the link is parked", is_parked).await;
}

async fn resumed(heard: &Heard) -> usize {
    let sessions = |event: &Event| match event {
        Event::Resumed { sessions, .. } => Some(*sessions),
        _ => None,
    };
    heard.wait("the link is resumed", sessions).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_in_the_dark_arrives_whole() {
    let (lab, echo) = (Lab::start().await, origins::echo().await);
    let (path, host, _) = over_a_path(&lab, &[&format!("game=tcp:{echo}")]).await;
    let player = play(host.public("game").await).await;
    path.set_dark(true);
    let (words, (mut reader, mut writer)) = (noise(3_000_000, 7), player.into_split());
    let said = words.clone();
    let speak = tokio::spawn(async move {
        writer.write_all(&said).await.unwrap();
        writer.shutdown().await.unwrap();
    });
    parked(&lab.heard).await;
    parked(&host.heard).await;
    path.set_dark(false);
    let mut heard = Vec::new();
    soon("everything comes back", reader.read_to_end(&mut heard))
        .await
        .unwrap();
    speak.await.unwrap();
    assert!(heard == words, "{} of {} bytes, or others", heard.len(), words.len());
    assert_eq!((resumed(&lab.heard).await, resumed(&host.heard).await), (1, 1));
    assert!(lab.metric("relay_sessions_resumed_total") >= 1.0);
    assert!(lab.metric("relay_session_pause_seconds_count") >= 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_with_more_tunnels_and_players_than_a_hello_holds_goes_on_whole() {
    let lab = Lab::with(|config| {
        config.players.ports = free_ports(80);
        config.links.max_tunnels_per_host = 80;
    })
    .await;
    let echo = origins::echo().await;
    // A hello holds 4 KiB: some 60 tunnels without players, or some 300 players without tunnels.
    let tunnels: Vec<String> = (0..80)
        .map(|at| format!("a-server-with-a-long-name-{at}=tcp:{echo}"))
        .collect();
    let tunnels: Vec<&str> = tunnels.iter().map(String::as_str).collect();
    let (path, host, _) = over_a_path(&lab, &tunnels).await;
    let first = host.public("a-server-with-a-long-name-0").await;
    let last = host.public("a-server-with-a-long-name-79").await;
    let mut players = Vec::new();
    for _ in 0..150 {
        players.extend([play(first).await, play(last).await]);
    }
    path.set_dark(true);
    parked(&lab.heard).await;
    parked(&host.heard).await;
    path.set_dark(false);
    assert_eq!((resumed(&lab.heard).await, resumed(&host.heard).await), (300, 300));
    for player in &mut players {
        echoed(player, b"still here").await;
    }
    assert_eq!(
        host.heard.count(|event| matches!(event, Event::TunnelRefused { .. })),
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_player_who_leaves_in_the_dark_is_gone_when_it_is_light() {
    let lab = Lab::start().await;
    let (left, mut who_left) = tokio::sync::mpsc::channel(2);
    let origin = origins::tcp(move |mut socket| {
        let left = left.clone();
        async move {
            let end = socket.read(&mut [0; 1]).await;
            left.send(end.map_err(|error| error.kind())).await.unwrap();
        }
    })
    .await;
    let (path, host, _) = over_a_path(&lab, &[&format!("game=tcp:{origin}")]).await;
    let public = host.public("game").await;
    let (tidy, rude) = (
        TcpStream::connect(public).await.unwrap(),
        TcpStream::connect(public).await.unwrap(),
    );
    host.heard
        .wait_count("both are in", 2, |event| matches!(event, Event::PlayerJoined { .. }))
        .await;
    path.set_dark(true);
    parked(&lab.heard).await;
    drop(tidy);
    socket2::SockRef::from(&rude).set_linger(Some(Duration::ZERO)).unwrap();
    drop(rude);
    path.set_dark(false);
    let mut ends = [
        soon("one leaves", who_left.recv()).await.unwrap(),
        soon("the other leaves", who_left.recv()).await.unwrap(),
    ];
    ends.sort_by_key(Result::is_err);
    assert_eq!(ends, [Ok(0), Err(std::io::ErrorKind::ConnectionReset)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_far_and_lossy_path_is_not_taken_for_a_dead_one() {
    let (lab, echo) = (Lab::start().await, origins::echo().await);
    let (path, host, _) = over_a_path(&lab, &[&format!("game=tcp:{echo}")]).await;
    let mut player = play(host.public("game").await).await;
    path.set_delay(Duration::from_millis(150));
    path.set_loss(0.1);
    // Idle between words, which is when a lost sign of life is most easily taken for the end.
    for round in 0..LOSSY_ROUNDS {
        echoed(&mut player, &[round as u8; 100]).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    for heard in [&lab.heard, &host.heard] {
        assert_eq!(heard.count(|event| matches!(event, Event::LinkDown { .. })), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_player_in_a_short_dark_waits_and_plays() {
    let (lab, echo) = (Lab::start().await, origins::echo().await);
    let (path, host, _) = over_a_path(&lab, &[&format!("game=tcp:{echo}")]).await;
    let public = host.public("game").await;
    path.set_dark(true);
    parked(&lab.heard).await;
    let mut player = TcpStream::connect(public).await.unwrap();
    player.write_all(b"early").await.unwrap();
    path.set_dark(false);
    let mut heard = [0; 5];
    soon("the server answers", player.read_exact(&mut heard)).await.unwrap();
    assert_eq!(&heard, b"early");
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_end_when_nobody_comes_back_within_the_window() {
    let lab = Lab::with(|config| config.links.resume_window = Duration::from_secs(1)).await;
    let echo = origins::echo().await;
    let (path, host, _) = over_a_path(&lab, &[&format!("game=tcp:{echo}")]).await;
    let public = host.public("game").await;
    let mut player = play(public).await;
    path.set_dark(true);
    let end = soon("the player is cut off", player.read(&mut [0; 1])).await;
    assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    let expired = |event: &Event| matches!(event, Event::Expired { sessions: 1, .. }).then_some(());
    lab.heard.wait("the relay gives up", expired).await;
    host.heard.wait("the agent gives up", expired).await;
    for heard in [&lab.heard, &host.heard] {
        let left = |event: &Event| match event {
            Event::PlayerLeft { reason, .. } => Some(*reason),
            _ => None,
        };
        assert_eq!(heard.wait("the player is reported", left).await, "expired");
    }
    assert_eq!(lab.metric("relay_sessions_expired_total"), 1.0);
    path.set_dark(false);
    // The same address, and a new link.
    let reopened = |event: &Event| matches!(event, Event::Tunnel { .. });
    host.heard.wait_count("the tunnel is open again", 2, reopened).await;
    play(public).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_window_sessions_end_with_their_connection() {
    let lab = Lab::with(|config| config.links.resume_window = Duration::ZERO).await;
    let echo = origins::echo().await;
    let (path, host, _) = over_a_path(&lab, &[&format!("game=tcp:{echo}")]).await;
    let mut player = play(host.public("game").await).await;
    path.set_dark(true);
    let end = soon("the player is cut off", player.read(&mut [0; 1])).await;
    assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(lab.heard.count(|event| matches!(event, Event::Parked { .. })), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_was_taken_over_in_the_dark_does_not_take_over_in_turn() {
    let (lab, echo) = (Lab::start().await, origins::echo().await);
    let tunnel = format!("game=tcp:{echo}");
    let (path, mut first, invite) = over_a_path(&lab, &[&tunnel]).await;
    let mut player = play(first.public("game").await).await;
    path.set_dark(true);
    parked(&lab.heard).await;
    let second = Host::start(invite, &[&tunnel]);
    let public = second.public("game").await;
    let end = soon("the first agent's player is cut off", player.read(&mut [0; 1])).await;
    assert!(end.is_err());
    path.set_dark(false);
    assert!(matches!(first.gave_up().await, GiveUp::TakenOver));
    play(public).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_host_does_not_come_back() {
    let (lab, echo) = (Lab::start().await, origins::echo().await);
    let (path, mut host, _) = over_a_path(&lab, &[&format!("game=tcp:{echo}")]).await;
    let mut player = play(host.public("game").await).await;
    path.set_dark(true);
    parked(&lab.heard).await;
    lab.office().revoke(&"desk".parse().unwrap()).unwrap();
    let end = soon("the player is cut off", player.read(&mut [0; 1])).await;
    assert!(end.is_err());
    path.set_dark(false);
    assert!(matches!(host.gave_up().await, GiveUp::Rejected { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_follows_another_in_place_and_nobody_notices() {
    let (mut lab, echo) = (Lab::start().await, origins::echo().await);
    let (udp_echo, seen) = origins::udp_echo().await;
    let host = lab
        .host("desk", &[&format!("game=tcp:{echo}"), &format!("voice=udp:{udp_echo}")])
        .await;
    let mut player = play(host.public("game").await).await;
    let talker = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    talker.connect(host.public("voice").await).await.unwrap();
    answered(&talker, b"before").await;
    for round in 0..3u8 {
        let (old, old_heard) = (lab.relay.take().unwrap(), lab.heard.clone());
        let (mut channel, end) = Channel::pair().unwrap();
        let mut theirs = Channel::of(end).unwrap();
        let (handed, ()) = tokio::join!(old.hand_over(&mut channel), lab.take_over(&mut theirs));
        handed.unwrap();
        // As a process ends that has handed over: nothing is closed, nothing is said.
        std::mem::forget(old);
        echoed(&mut player, &noise(50_000, round.into())).await;
        answered(&talker, &[round]).await;
        assert!(resumed(&lab.heard).await >= 1);
        assert_eq!(old_heard.count(is_cut_off), 0);
        play(host.public("game").await).await;
    }
    assert_eq!(
        seen.lock().unwrap().len(),
        1,
        "the server saw the UDP player from elsewhere"
    );
    assert_eq!(host.heard.count(is_cut_off), 0);
    player.shutdown().await.unwrap();
    assert_eq!(
        soon("the session ends tidily", player.read(&mut [0; 1])).await.unwrap(),
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_whose_successor_fails_goes_on_as_if_nothing_had_happened() {
    let (lab, echo) = (Lab::start().await, origins::echo().await);
    let host = lab.host("desk", &[&format!("game=tcp:{echo}")]).await;
    let public = host.public("game").await;
    let mut player = play(public).await;
    // It ends before its first word, after it, with everything in its hands, and when it has said that it is ready.
    for steps in 0..4 {
        let (mut channel, end) = Channel::pair().unwrap();
        let mut theirs = Channel::of(end).unwrap();
        let fail = async move {
            if steps >= 1 {
                // `{0: [1], 1: "x", 3: 1}`, a successor's greeting.
                theirs
                    .send(&[0xa3, 0, 0x81, 1, 1, 0x61, b'x', 3, 1], &[])
                    .await
                    .unwrap();
            }
            if steps >= 2 {
                let (state, descriptors) = theirs.receive(1 << 30).await.unwrap();
                assert!(state.len() > 100 && descriptors.len() >= 4);
            }
            if steps >= 3 {
                // `{}`, a verdict without a failure.
                theirs.send(&[0xa0], &[]).await.unwrap();
            }
        };
        let (handed, ()) = tokio::join!(lab.relay().hand_over(&mut channel), fail);
        assert!(handed.is_err());
        echoed(&mut player, b"still here").await;
        play(public).await;
    }
    // Only the last one came so far that the agent was asked to come back.
    assert_eq!(host.heard.count(|event| matches!(event, Event::LinkDown { .. })), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_host_keeps_its_ports_when_a_relay_follows_another() {
    let (mut lab, echo) = (Lab::start().await, origins::echo().await);
    let (udp_echo, _) = origins::udp_echo().await;
    let tunnels = [format!("game=tcp:{echo}"), format!("voice=udp:{udp_echo}")];
    let tunnels = tunnels.each_ref().map(String::as_str);
    let mut hosts = Vec::new();
    for name in ["desk", "attic", "cellar"] {
        hosts.push(lab.host(name, &tunnels).await);
    }
    let old = lab.relay.take().unwrap();
    let (mut channel, end) = Channel::pair().unwrap();
    let mut theirs = Channel::of(end).unwrap();
    let invite = lab.invite("late");
    // An agent that comes in the middle of it must not hold it up, nor be lost.
    let late = Host::start(invite, &[&format!("late=tcp:{echo}")]);
    let (handed, ()) = tokio::join!(old.hand_over(&mut channel), lab.take_over(&mut theirs));
    handed.unwrap();
    std::mem::forget(old);
    for host in &hosts {
        play(host.public("game").await).await;
        let talker = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        talker.connect(host.public("voice").await).await.unwrap();
        answered(&talker, b"after").await;
    }
    let is_late = |event: &Event| matches!(event, Event::LinkUp { host, .. } if host == "late").then_some(());
    lab.heard.wait("the late one is linked", is_late).await;
    late.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_server_that_is_away_is_answered_for_when_a_relay_follows_another() {
    let mut lab = Lab::start().await;
    let mut gone = Vec::new();
    for name in ["desk", "attic", "cellar"] {
        let host = lab.host(name, &["minecraft:127.0.0.1:9"]).await;
        gone.push(host.public("minecraft").await);
        host.stop().await;
    }
    let all_are_answered_for = async || {
        for public in &gone {
            soon("the server is said to be offline", async {
                while java::look(*public, "x").await.version != "Offline" {}
            })
            .await;
        }
    };
    all_are_answered_for().await;
    let old = lab.relay.take().unwrap();
    let (mut channel, end) = Channel::pair().unwrap();
    let mut theirs = Channel::of(end).unwrap();
    let (handed, ()) = tokio::join!(old.hand_over(&mut channel), lab.take_over(&mut theirs));
    handed.unwrap();
    std::mem::forget(old);
    all_are_answered_for().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_after_the_players_end_is_no_tidy_end() {
    let lab = Lab::start().await;
    let origin = origins::tcp(|mut socket| async move {
        socket.read_to_end(&mut Vec::new()).await.unwrap();
        socket.write_all(b"half an answ").await.unwrap();
        socket2::SockRef::from(&socket)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
    })
    .await;
    let host = lab.host("desk", &[&format!("game=tcp:{origin}")]).await;
    let mut player = TcpStream::connect(host.public("game").await).await.unwrap();
    player.shutdown().await.unwrap();
    let end = soon("the answer ends", player.read_to_end(&mut Vec::new())).await;
    assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_follows_another_in_place_and_nobody_notices() {
    let (lab, echo) = (Lab::start().await, origins::echo().await);
    let (udp_echo, seen) = origins::udp_echo().await;
    let host = lab
        .host("desk", &[&format!("game=tcp:{echo}"), &format!("voice=udp:{udp_echo}")])
        .await;
    let (public, voice) = (host.public("game").await, host.public("voice").await);
    let mut player = play(public).await;
    let talker = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    talker.connect(voice).await.unwrap();
    answered(&talker, b"before").await;
    let Host {
        agent: mut old,
        tunnels,
        invite,
        ..
    } = host;
    for round in 0..3u8 {
        let (mut channel, end) = Channel::pair().unwrap();
        let mut theirs = Channel::of(end).unwrap();
        let settings = AgentSettings::new(&AgentConfig::default(), invite.clone());
        let heard = Heard::default();
        let take = Agent::take_over(settings, tunnels.subscribe(), heard.events(), &mut theirs);
        let (handed, new) = tokio::join!(old.hand_over(&mut channel), take);
        handed.unwrap();
        std::mem::forget(std::mem::replace(&mut old, new.unwrap()));
        echoed(&mut player, &noise(50_000, round.into())).await;
        answered(&talker, &[round]).await;
        assert!(resumed(&heard).await >= 1);
        play(public).await;
    }
    assert_eq!(
        seen.lock().unwrap().len(),
        1,
        "the server saw the UDP player from elsewhere"
    );
    assert_eq!(lab.heard.count(is_cut_off), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn packets_that_are_sent_twice_go_on_when_relay_and_agent_follow_others() {
    let (mut lab, (echo, _)) = (Lab::start().await, origins::udp_echo().await);
    let host = lab.host("desk", &[&format!("voice=udp:{echo}")]).await;
    host.heard.clear();
    host.tunnels.send_modify(|tunnels| tunnels[0].redundancy = true);
    let talker = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    talker.connect(host.public("voice").await).await.unwrap();
    let mut turn = 0u32;
    // Each packet comes back, and once: another one would be taken for the answer to the next.
    let mut talk = async || {
        for _ in 0..100 {
            turn += 1;
            talker.send(&turn.to_be_bytes()).await.unwrap();
            let mut answer = [0; 10];
            let length = soon("the only packet is answered", talker.recv(&mut answer))
                .await
                .unwrap();
            assert_eq!(answer[..length], turn.to_be_bytes());
        }
    };
    talk().await;
    for _ in 0..2 {
        let old = lab.relay.take().unwrap();
        let (mut channel, end) = Channel::pair().unwrap();
        let mut theirs = Channel::of(end).unwrap();
        let (handed, ()) = tokio::join!(old.hand_over(&mut channel), lab.take_over(&mut theirs));
        handed.unwrap();
        std::mem::forget(old);
        resumed(&lab.heard).await;
        talk().await;
    }
    let Host {
        agent: mut old,
        tunnels,
        invite,
        ..
    } = host;
    for _ in 0..2 {
        let (mut channel, end) = Channel::pair().unwrap();
        let mut theirs = Channel::of(end).unwrap();
        let settings = AgentSettings::new(&AgentConfig::default(), invite.clone());
        let heard = Heard::default();
        let take = Agent::take_over(settings, tunnels.subscribe(), heard.events(), &mut theirs);
        let (handed, new) = tokio::join!(old.hand_over(&mut channel), take);
        handed.unwrap();
        std::mem::forget(std::mem::replace(&mut old, new.unwrap()));
        resumed(&heard).await;
        talk().await;
    }
}

async fn public_of(lab: &Lab) -> SocketAddr {
    let pick = |event: &Event| match event {
        Event::Tunnel { public, .. } => Some(public.parse().unwrap()),
        _ => None,
    };
    lab.heard.wait("the tunnel is open", pick).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_of_two_relays_is_at_the_other_when_one_is_drained() {
    let (mut first, second, echo) = (Lab::start().await, Lab::start().await, origins::echo().await);
    let mut settings = AgentSettings::new(&AgentConfig::default(), first.invite("desk"));
    settings.further = vec![second.invite("desk")];
    let tunnels = watch::Sender::new(vec![format!("game=tcp:{echo}").parse().unwrap()]);
    let heard = Heard::default();
    let old = Agent::start(settings.clone(), tunnels.subscribe(), heard.events());
    let publics = [public_of(&first).await, public_of(&second).await];
    let mut players = [play(publics[0]).await, play(publics[1]).await];
    // Both links go to a successor, each to its relay.
    let (mut channel, end) = Channel::pair().unwrap();
    let mut theirs = Channel::of(end).unwrap();
    let heard = Heard::default();
    let take = Agent::take_over(settings, tunnels.subscribe(), heard.events(), &mut theirs);
    let (handed, agent) = tokio::join!(old.hand_over(&mut channel), take);
    handed.unwrap();
    std::mem::forget(old);
    let mut agent = agent.unwrap();
    for player in &mut players {
        echoed(player, b"with another agent").await;
    }
    let relay = first.relay.take().unwrap();
    let stopping = tokio::spawn(relay.stop(Duration::from_secs(60), std::future::pending()));
    let told = |event: &Event| matches!(event, Event::Draining { .. }).then_some(());
    heard.wait("the agent is told", told).await;
    for player in &mut players {
        echoed(player, b"still in").await;
    }
    play(publics[1]).await;
    drop(players);
    soon("the relay stops with its last player", stopping).await.unwrap();
    play(publics[1]).await;
    // One relay that wants it no more is not the end of it; the last one is.
    second.office().revoke(&"desk".parse().unwrap()).unwrap();
    let gave_up = tokio::time::timeout(Duration::from_millis(300), agent.gave_up()).await;
    assert!(gave_up.is_err(), "the first relay may come back");
    first.office().revoke(&"desk".parse().unwrap()).unwrap();
    first.start_again().await;
    let gave_up = soon("the agent gives up", agent.gave_up()).await;
    assert!(matches!(gave_up, GiveUp::Rejected { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn players_of_a_draining_relay_are_told_in_the_words_of_their_game() {
    let (mut lab, echo) = (Lab::start().await, origins::echo().await);
    let host = lab.host("desk", &[&format!("minecraft:{echo}")]).await;
    let public = host.public("minecraft").await;
    let mut player = TcpStream::connect(public).await.unwrap();
    player.write_all(&java::join("play.example")).await.unwrap();
    host.heard
        .wait_count("the player is in", 1, |event| {
            matches!(event, Event::PlayerJoined { .. })
        })
        .await;
    let relay = lab.relay.take().unwrap();
    let stopping = tokio::spawn(relay.stop(Duration::from_secs(60), std::future::pending()));
    host.heard
        .wait("the agent is told", |event| {
            matches!(event, Event::Draining { .. }).then_some(())
        })
        .await;
    let words = spawnpoint_demo::player::login(public, "play.example", "Steve", Duration::from_secs(10)).await;
    assert!(words.unwrap().contains("restarting"));
    drop(player);
    soon("the relay stops with its last player", stopping).await.unwrap();
}
