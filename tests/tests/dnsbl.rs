//! Lists that are asked through DNS: who is on one gets in nowhere, everybody else waits no longer than was said, and a list that is none closes no game.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use spawnpoint_config::relay::Dnsbl;
use spawnpoint_ops::Event;
use spawnpoint_tests::dns::{NameServer, Temper};
use spawnpoint_tests::{Lab, comes_from, java, origins, soon, until};
use tokio::net::UdpSocket;

const LIST: &str = "bl.example.org";

/// On the list.
const LISTED: [u8; 4] = [127, 0, 7, 1];

/// On the list for a reason that does not count.
const AT_HOME: [u8; 4] = [127, 0, 7, 2];

/// Not on it.
const CLEAR: [u8; 4] = [127, 0, 7, 3];

fn dnsbl(server: &NameServer) -> Dnsbl {
    Dnsbl {
        lists: vec![format!("{LIST}=2-9").parse().unwrap()],
        server: Some(server.address),
        deadline: Duration::from_secs(2),
        ..Dnsbl::default()
    }
}

async fn name_server(temper: Temper) -> NameServer {
    let listed = [(Ipv4Addr::from(LISTED), 4), (Ipv4Addr::from(AT_HOME), 10)];
    NameServer::start(LIST, &listed, temper).await
}

fn outcome(reason: &str) -> String {
    format!("relay_dnsbl_total{{reason=\"{reason}\"}}")
}

const DENIED: &str = "relay_players_denied_total{reason=\"listed\"}";

/// A UDP player whom the server has answered `count` packets.
async fn answered(from: [u8; 4], public: SocketAddr, count: usize) -> UdpSocket {
    let player = UdpSocket::bind(SocketAddr::from((from, 0))).await.unwrap();
    player.connect(public).await.unwrap();
    for _ in 0..count {
        player.send(b"hello").await.unwrap();
        soon("a player is answered", player.recv(&mut [0; 5])).await.unwrap();
    }
    player
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_listed_gets_in_nowhere_and_is_asked_about_once() {
    let server = name_server(Temper::Right).await;
    let lab = Lab::with(|config| config.dnsbl = dnsbl(&server)).await;
    let (echo, (udp_echo, _)) = (origins::echo().await, origins::udp_echo().await);
    let minecraft = java::Server::start("A server").await;
    let tunnels = [
        format!("game=tcp:{echo}"),
        format!("voice=udp:{udp_echo}"),
        format!("mc=minecraft:{}", minecraft.address),
    ];
    let host = lab.host("desk", &tunnels.each_ref().map(String::as_str)).await;
    let (game, voice, mc) = (
        host.public("game").await,
        host.public("voice").await,
        host.public("mc").await,
    );
    for _ in 0..3 {
        assert!(comes_from(LISTED, game).await.is_none(), "listed, and in");
        assert!(
            comes_from(AT_HOME, game).await.is_some(),
            "out for no reason that counts"
        );
        assert!(comes_from(CLEAR, game).await.is_some(), "out, and not listed");
    }
    let words = java::words_to(LISTED, mc, "mc.example.org").await;
    assert!(words.contains("not open to your address"), "{words}");
    answered(CLEAR, voice, 3).await;
    let denied = lab.metric(DENIED);
    let listed = UdpSocket::bind(SocketAddr::from((LISTED, 0))).await.unwrap();
    listed.send_to(b"hello", voice).await.unwrap();
    until("a listed player's packets are refused", || lab.metric(DENIED) > denied).await;
    // The name server was asked once for each of them, although they came again and again.
    for start in ["1.7.0.127.", "2.7.0.127.", "3.7.0.127."] {
        assert_eq!(server.asked(start), 1, "{start}");
    }
    assert_eq!(
        (lab.metric(&outcome("listed")), lab.metric(&outcome("clear"))),
        (1.0, 2.0)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_packet_player_is_served_until_the_list_has_answered() {
    let server = name_server(Temper::Silent).await;
    let lab = Lab::with(|config| {
        config.dnsbl = dnsbl(&server);
        // The answer to the second question counts, which is asked after this.
        config.dnsbl.deadline = Duration::from_secs(5);
    })
    .await;
    let (echo, _) = origins::udp_echo().await;
    let host = lab.host("desk", &[&format!("voice=udp:{echo}")]).await;
    let voice = host.public("voice").await;
    // The list is looked at first, in vain; then about the player it is asked.
    until("the list is looked at", || server.asked("1.0.0.127.") > 0).await;
    let player = answered(LISTED, voice, 3).await;
    server.set_temper(Temper::Right);
    let is_out = |event: &Event| matches!(event, Event::PlayerLeft { reason, .. } if *reason == "listed").then_some(());
    let stop = tokio::spawn(async move {
        let mut pace = tokio::time::interval(Duration::from_millis(20));
        loop {
            pace.tick().await;
            let _ = player.send(b"hello").await;
        }
    });
    lab.heard.wait("a listed player is turned out", is_out).await;
    stop.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_longer_than_the_deadline_for_a_name_server_that_is_away() {
    let server = name_server(Temper::Silent).await;
    let lab = Lab::with(|config| {
        config.dnsbl = dnsbl(&server);
        config.dnsbl.deadline = Duration::from_millis(300);
    })
    .await;
    let echo = origins::echo().await;
    let host = lab.host("desk", &[&format!("game=tcp:{echo}")]).await;
    let public = host.public("game").await;
    let began = Instant::now();
    assert!(
        comes_from(LISTED, public).await.is_some(),
        "nobody said that they are listed"
    );
    assert!(began.elapsed() >= Duration::from_millis(300), "waited for the answer");
    assert!(comes_from(LISTED, public).await.is_some(), "and the second time");
    assert_eq!(
        lab.metric(&outcome("unanswered")),
        1.0,
        "who was not answered for is not asked about at once"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_has_everybody_is_not_asked() {
    let server = name_server(Temper::Everybody).await;
    let mut lab = Lab::with(|config| config.dnsbl = dnsbl(&server)).await;
    let echo = origins::echo().await;
    let host = lab.host("desk", &[&format!("game=tcp:{echo}")]).await;
    let public = host.public("game").await;
    assert!(comes_from(CLEAR, public).await.is_some());
    assert_eq!(server.asked("3.7.0.127."), 0);
    // One that is right in place of it is asked at once, and none at all turns nobody away.
    let right = name_server(Temper::Right).await;
    lab.reconfigure(|config| config.dnsbl = dnsbl(&right));
    assert!(comes_from(LISTED, public).await.is_none());
    lab.reconfigure(|config| config.dnsbl = Dnsbl::default());
    assert!(comes_from(LISTED, public).await.is_some());
}
