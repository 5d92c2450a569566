//! Who players really are: told to the game server, and learnt from a proxy in front of the relay.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test panics as its report"
)]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use spawnpoint_config::tunnel::{RealIp, Tunnel};
use spawnpoint_sniff::proxy::{self, Addresses, Transport};
use spawnpoint_sniff::{Progress, minecraft::Next};
use spawnpoint_tests::java::{self, Server};
use spawnpoint_tests::{Host, Lab, loopback, soon, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

/// A relay that believes what a proxy on this machine says.
async fn behind_proxy() -> Lab {
    Lab::with(|config| config.players.proxy_from = vec!["127.0.0.1/32".parse().unwrap()]).await
}

fn with(text: String, real_ip: RealIp) -> Vec<Tunnel> {
    vec![Tunnel {
        real_ip,
        ..text.parse().unwrap()
    }]
}

/// A server that says back what it hears, and knows who came.
async fn server() -> (SocketAddr, Arc<Mutex<Vec<SocketAddr>>>) {
    let listener = TcpListener::bind(loopback(0)).await.unwrap();
    let (address, peers) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
    let list = peers.clone();
    tokio::spawn(async move {
        while let Ok((mut socket, peer)) = listener.accept().await {
            list.lock().unwrap().push(peer);
            tokio::spawn(async move {
                let (mut reader, mut writer) = socket.split();
                let _ = tokio::io::copy(&mut reader, &mut writer).await;
            });
        }
    });
    (address, peers)
}

/// Says `words` as a player whom a proxy brings from `ip`, and returns what comes back.
async fn say_from(public: SocketAddr, ip: &str, words: &[u8]) -> Vec<u8> {
    let source = SocketAddr::new(ip.parse().unwrap(), 4711);
    let header = match source {
        SocketAddr::V4(_) => proxy::encode_v2(
            &Addresses {
                source,
                destination: public,
            },
            Transport::Stream,
        ),
        SocketAddr::V6(_) => proxy::encode_v1(&Addresses {
            source,
            destination: public,
        }),
    };
    let mut player = TcpStream::connect(public).await.unwrap();
    player.write_all(&[&header[..], words].concat()).await.unwrap();
    player.shutdown().await.unwrap();
    let mut heard = Vec::new();
    soon("the echo", player.read_to_end(&mut heard)).await.unwrap();
    heard
}

#[tokio::test(flavor = "multi_thread")]
async fn each_player_has_a_loopback_address_of_their_own() {
    let lab = behind_proxy().await;
    let (origin, peers) = server().await;
    let host = Host::start_with(lab.invite("desk"), with(format!("game=tcp:{origin}"), RealIp::Loopback));
    let public = host.public("game").await;
    for ip in ["203.0.113.9", "203.0.113.10", "203.0.113.9", "2001:db8::1"] {
        assert_eq!(say_from(public, ip, b"hello").await, b"hello");
    }
    let seen: Vec<IpAddr> = peers.lock().unwrap().iter().map(SocketAddr::ip).collect();
    assert!(
        seen.iter()
            .all(|ip| ip.is_loopback() && *ip != IpAddr::from(Ipv4Addr::LOCALHOST)),
        "{seen:?}"
    );
    assert_eq!(seen[0], seen[2], "a player who comes again");
    assert!(
        seen[0] != seen[1] && seen[1] != seen[3] && seen[0] != seen[3],
        "{seen:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn tcp_and_udp_of_a_player_come_from_one_address() {
    let lab = Lab::start().await;
    let (tcp, peers) = server().await;
    let (udp, udp_peers) = spawnpoint_tests::origins::udp_echo().await;
    let mut tunnels = with(format!("game=tcp:{tcp}"), RealIp::Loopback);
    tunnels.extend(with(format!("voice=udp:{udp}"), RealIp::Loopback));
    let host = Host::start_with(lab.invite("desk"), tunnels);
    let mut player = TcpStream::connect(host.public("game").await).await.unwrap();
    player.write_all(b"x").await.unwrap();
    soon("the echo", player.read_u8()).await.unwrap();
    let voice = UdpSocket::bind(loopback(0)).await.unwrap();
    voice.connect(host.public("voice").await).await.unwrap();
    voice.send(b"x").await.unwrap();
    soon("the echo", voice.recv(&mut [0; 9])).await.unwrap();
    let source = peers.lock().unwrap()[0].ip();
    assert_eq!(udp_peers.lock().unwrap()[0].ip(), source);
    // And the host can look up whose it is.
    let shown = host.agent.guests().show();
    assert_eq!(shown.len(), 2);
    for guest in &shown {
        assert_eq!(
            (guest.seen_as, guest.player.ip()),
            (Some(source), IpAddr::from(Ipv4Addr::LOCALHOST))
        );
        assert_eq!((guest.up, guest.down), (1, 1), "{guest:?}");
    }
    drop(player);
    until("who leaves is off the list", || host.agent.guests().show().len() == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_reads_the_true_address_in_the_proxy_protocol() {
    let lab = behind_proxy().await;
    let (origin, _) = server().await;
    let mut tunnels = with(format!("one=tcp:{origin}"), RealIp::ProxyV1);
    tunnels.extend(with(format!("two=tcp:{origin}"), RealIp::ProxyV2));
    let host = Host::start_with(lab.invite("desk"), tunnels);
    for (name, ip) in [
        ("one", "203.0.113.9"),
        ("two", "203.0.113.9"),
        ("one", "2001:db8::1"),
        ("two", "2001:db8::1"),
    ] {
        let public = host.public(name).await;
        let heard = say_from(public, ip, b"hello").await;
        let Progress::Done {
            value: proxy::Proxied::Addresses(said),
            consumed,
        } = proxy::decode(&heard).unwrap()
        else {
            panic!("{name} {ip}: no header in {heard:?}");
        };
        assert_eq!(said.source, SocketAddr::new(ip.parse().unwrap(), 4711));
        assert_eq!(&heard[consumed..], b"hello");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_udp_server_reads_it_where_it_looks_for_it() {
    let lab = Lab::start().await;
    let (origin, _) = spawnpoint_tests::origins::udp_echo().await;
    let ways = [
        ("first", RealIp::ProxyV2, [true, false]),
        ("every", RealIp::ProxyV2Every, [true, true]),
        ("apart", RealIp::ProxyV2Apart, [false, false]),
    ];
    let tunnels = ways
        .iter()
        .flat_map(|(name, way, _)| with(format!("{name}=udp:{origin}"), *way));
    let host = Host::start_with(lab.invite("desk"), tunnels.collect());
    for (name, _, expected) in ways {
        let player = UdpSocket::bind(loopback(0)).await.unwrap();
        player.connect(host.public(name).await).await.unwrap();
        let mut buffer = [0; 200];
        if name == "apart" {
            player.send(b"hello").await.unwrap();
            let length = soon("the header", player.recv(&mut buffer)).await.unwrap();
            assert_eq!(
                source(&buffer[..length]),
                Some((player.local_addr().unwrap(), &b""[..]))
            );
            let length = soon("the packet", player.recv(&mut buffer)).await.unwrap();
            assert_eq!(&buffer[..length], b"hello");
            continue;
        }
        for has_header in expected {
            player.send(b"hello").await.unwrap();
            let length = soon("the packet", player.recv(&mut buffer)).await.unwrap();
            let heard = &buffer[..length];
            match has_header {
                true => assert_eq!(
                    source(heard),
                    Some((player.local_addr().unwrap(), &b"hello"[..])),
                    "{name}"
                ),
                false => assert_eq!(heard, b"hello", "{name}"),
            }
        }
    }
}

fn source(packet: &[u8]) -> Option<(SocketAddr, &[u8])> {
    match proxy::decode(packet).ok()? {
        Progress::Done {
            value: proxy::Proxied::Addresses(said),
            consumed,
        } => Some((said.source, &packet[consumed..])),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_trusted_proxy_is_believed() {
    let lab = Lab::with(|config| config.players.proxy_from = vec!["203.0.113.0/24".parse().unwrap()]).await;
    let (origin, _) = server().await;
    let host = Host::start_with(lab.invite("desk"), with(format!("game=tcp:{origin}"), RealIp::Off));
    let public = host.public("game").await;
    let heard = say_from(public, "198.51.100.1", b"hello").await;
    assert!(
        heard.ends_with(b"hello") && heard.len() > 5,
        "the header is the player's own words"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_comes_through_the_proxy_without_a_word_is_cut_off() {
    let lab = behind_proxy().await;
    let (origin, peers) = server().await;
    let host = Host::start_with(lab.invite("desk"), with(format!("game=tcp:{origin}"), RealIp::Off));
    let mut player = TcpStream::connect(host.public("game").await).await.unwrap();
    player.write_all(b"hello, I have no header").await.unwrap();
    let _ = soon("the end", player.read(&mut [0; 9])).await;
    assert!(peers.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_game_behind_a_proxy_is_found_by_name_all_the_same() {
    let ports = spawnpoint_tests::free_ports(1);
    let shared = loopback(ports.iter().next().unwrap());
    let lab = Lab::with(|config| {
        config.domain = Some("play.example.org".parse().unwrap());
        config.shared.minecraft = ports;
        config.players.proxy_from = vec!["127.0.0.1/32".parse().unwrap()];
    })
    .await;
    let server = Server::start("behind").await;
    let host = lab.host("desk", &[&format!("minecraft:{}", server.address)]).await;
    host.public("minecraft").await;
    let heard = say_from(shared, "203.0.113.9", &java::join("desk.play.example.org")).await;
    assert!(String::from_utf8_lossy(&heard).contains("behind"));
    let asked = server.asked();
    assert_eq!((asked.len(), asked[0].next), (1, Next::Login));
    assert!(asked[0].peer.ip().is_loopback() && asked[0].peer.ip() != IpAddr::from(Ipv4Addr::LOCALHOST));
}
