//! UDP players: every size, every player on its own way, and nothing kept for longer than it is used.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test panics as its report"
)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use spawnpoint_ops::Event;
use spawnpoint_tests::path::Path;
use spawnpoint_tests::{DEADLINE, Host, Lab, loopback, noise, origins, soon, until};
use tokio::net::UdpSocket;
use tokio::time::MissedTickBehavior;

/// Decides which packets are lost.
const SEED: u64 = 23;

/// The number of the packet after which nothing is said.
const LAST: u32 = u32::MAX;

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
    let lab = Lab::with(|config| config.players.per_host.players = 2).await;
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

/// How a player talks, and over what.
#[derive(Clone, Copy)]
struct Talk {
    redundancy: bool,
    /// The share of QUIC packets that is lost, each way.
    loss: f64,
    packets: u32,
    length: usize,
    every: Duration,
}

/// How often each packet has arrived, by its number.
type Arrivals = BTreeMap<u32, u32>;

/// What has arrived at the end.
struct Outcome {
    at_origin: Arrivals,
    at_player: Arrivals,
    /// Copies that the relay has sent.
    copies: f64,
    /// What the relay's metrics and the agent's events say of drops.
    drops: Vec<String>,
}

fn numbered(number: u32, length: usize) -> Vec<u8> {
    let mut packet = noise(length, number.into());
    packet[..4].copy_from_slice(&number.to_be_bytes());
    packet
}

fn note(arrivals: &mut Arrivals, packet: &[u8]) -> u32 {
    let number = u32::from_be_bytes(*packet.first_chunk().unwrap());
    assert!(
        packet == numbered(number, packet.len()),
        "packet {number} has changed on its way"
    );
    if number != LAST {
        *arrivals.entry(number).or_default() += 1;
    }
    number
}

/// A server that says back what it hears, and counts it.
async fn counting_echo() -> (SocketAddr, Arc<Mutex<Arrivals>>) {
    let socket = UdpSocket::bind(loopback(0)).await.unwrap();
    let (address, arrivals) = (socket.local_addr().unwrap(), Arc::new(Mutex::new(Arrivals::new())));
    let counted = arrivals.clone();
    tokio::spawn(async move {
        let mut buffer = vec![0; 65_536];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            note(&mut counted.lock().unwrap(), &buffer[..length]);
            let _ = socket.send_to(&buffer[..length], from).await;
        }
    });
    (address, arrivals)
}

/// The public address of a host's one tunnel after its redundancy was changed while it runs.
async fn with_redundancy(host: &Host) -> SocketAddr {
    host.heard.clear();
    host.tunnels.send_modify(|tunnels| tunnels[0].redundancy = true);
    host.public("game").await
}

async fn talked(talk: Talk) -> Outcome {
    let (lab, (origin, arrivals)) = (Lab::start().await, counting_echo().await);
    let path = Path::start(lab.relay().info().listen, SEED).await.unwrap();
    // From the beginning, or the link takes what the way costs for a queue.
    path.set_delay(Duration::from_millis(10));
    let host = Host::start(path.invite(&lab.invite("desk")), &[&format!("game=udp:{origin}")]);
    let public = match talk.redundancy {
        true => {
            host.ready().await;
            with_redundancy(&host).await
        }
        false => host.public("game").await,
    };
    path.set_loss(talk.loss);
    println!("path seed {SEED}");
    let player = player(public).await;
    let speak = async {
        let mut tick = tokio::time::interval(talk.every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for number in 0..talk.packets {
            tick.tick().await;
            player.send(&numbered(number, talk.length)).await.unwrap();
        }
        path.set_loss(0.0);
        loop {
            tick.tick().await;
            player.send(&numbered(LAST, 4)).await.unwrap();
        }
    };
    let mut at_player = Arrivals::new();
    let listen = async {
        let mut buffer = vec![0; 65_536];
        while {
            let length = player.recv(&mut buffer).await.unwrap();
            note(&mut at_player, &buffer[..length]) != LAST
        } {}
    };
    tokio::select! {
        () = speak => {}
        () = soon("the last packet comes back", listen) => {}
    }
    // Both ends report what they have counted when the link ends.
    let heard = host.heard.clone();
    host.stop().await;
    let is_down = |event: &Event| matches!(event, Event::LinkDown { .. }).then_some(());
    lab.heard.wait("the relay's end of the link is down", is_down).await;
    let metrics = lab.metrics();
    let of_relay = metrics
        .lines()
        .filter(|line| line.starts_with("relay_datagrams_dropped_total"));
    let mut drops: Vec<String> = of_relay.map(str::to_owned).collect();
    heard.count(|event| {
        if let Event::DatagramsDropped { reason, count } = event {
            drops.push(format!("agent: {reason} {count}"));
        }
        false
    });
    let at_origin = arrivals.lock().unwrap().clone();
    Outcome {
        at_origin,
        at_player,
        copies: lab.metric(r#"relay_repairs_total{reason="copies"}"#),
        drops,
    }
}

fn assert_once(arrivals: &Arrivals) {
    let twice: Vec<_> = arrivals.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "came more than once: {twice:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_redundancy_far_fewer_packets_are_lost_and_none_comes_twice() {
    let talk = Talk {
        redundancy: false,
        loss: 0.2,
        packets: 600,
        length: 60,
        every: Duration::from_millis(4),
    };
    let doubled = Talk {
        redundancy: true,
        ..talk
    };
    let (plain, doubled) = tokio::join!(talked(talk), talked(doubled));
    let (without, with) = (plain.at_player.len(), doubled.at_player.len());
    println!("of 600 came back: {without} without redundancy, {with} with it");
    // One in five is lost each way, with a copy one in twenty-five: 384 and 553 are to be expected.
    assert!(
        without < 450 && with > 500,
        "{without} without redundancy, {with} with it"
    );
    for outcome in [&plain, &doubled] {
        assert_once(&outcome.at_origin);
        assert_once(&outcome.at_player);
        assert_eq!(outcome.drops, [""; 0]);
    }
    assert!(plain.copies == 0.0 && doubled.copies >= 590.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn large_packets_with_redundancy_come_whole_and_once() {
    let outcome = talked(Talk {
        redundancy: true,
        loss: 0.03,
        packets: 60,
        length: 9_000,
        every: Duration::from_millis(50),
    })
    .await;
    let (came, copies) = (outcome.at_player.len(), outcome.copies);
    println!("of 60 large packets {came} came back, with {copies} copies");
    assert_once(&outcome.at_origin);
    assert_once(&outcome.at_player);
    // Each of its seven parts has to come through, both ways: 39 would without copies, 59 with all of them.
    assert!(came > 50, "only {came} of 60 came back, {:?}", outcome.drops);
    assert!(copies >= 400.0, "only {copies} copies were sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sent_twice_unless_both_ends_want_it() {
    let lab = Lab::with(|config| config.links.transport.repair = false).await;
    let (origin, arrivals) = counting_echo().await;
    let host = lab.host("desk", &[&format!("game=udp:{origin}")]).await;
    let player = player(with_redundancy(&host).await).await;
    for number in 0..50 {
        let mut answer = [0; 200];
        player.send(&numbered(number, 100)).await.unwrap();
        let length = soon("the only packet is answered", player.recv(&mut answer)).await;
        assert!(answer[..length.unwrap()] == numbered(number, 100));
    }
    host.stop().await;
    let is_down = |event: &Event| matches!(event, Event::LinkDown { .. }).then_some(());
    lab.heard.wait("the relay's end of the link is down", is_down).await;
    assert_once(&arrivals.lock().unwrap());
    assert_eq!(lab.metric(r#"relay_repairs_total{reason="copies"}"#), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn ports_that_clients_reckon_from_each_other_lie_together() {
    let lab = Lab::start().await;
    let host = lab
        .host("desk", &["game=valheim:4000", "chat=mumble:4100", "many=udp:4200-4202"])
        .await;
    let port = async |name: &str| host.public(name).await.port();
    assert_eq!(port("game-query").await, port("game").await + 1);
    assert_eq!(port("chat-voice").await, port("chat").await);
    let first = port("many").await;
    assert_eq!((port("many-2").await, port("many-3").await), (first + 1, first + 2));
}
