//! One port, many hosts: players find theirs by name.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test panics as its report"
)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use spawnpoint_config::tunnel::Tunnel;
use spawnpoint_core::grant::Grant;
use spawnpoint_ops::Event;
use spawnpoint_proto::Dialect;
use spawnpoint_relay::office::GrantChange;
use spawnpoint_sniff::minecraft::Next;
use spawnpoint_tests::java::{self, Server};
use spawnpoint_tests::path::Path;
use spawnpoint_tests::{Host, Lab, free_ports, loopback, origins, soon, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const DOMAIN: &str = "play.example.org";

/// A relay with a domain, and the shared port of `dialect`.
async fn lab(dialect: Dialect) -> (Lab, SocketAddr) {
    let ports = free_ports(1);
    let shared = loopback(ports.iter().next().unwrap());
    let lab = Lab::with(|config| {
        config.domain = Some(DOMAIN.parse().unwrap());
        config.shared.minecraft = Default::default();
        match dialect {
            Dialect::Minecraft => config.shared.minecraft = ports,
            Dialect::Tls => config.shared.tls = ports,
            Dialect::Http => config.shared.http = ports,
            Dialect::Quic => config.shared.quic = ports,
        }
        config.shared.default = None;
    })
    .await;
    (lab, shared)
}

fn tunnel(text: &str) -> Tunnel {
    text.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_on_one_port_are_told_apart_by_name() {
    let (lab, shared) = lab(Dialect::Minecraft).await;
    let (desk, attic) = (Server::start("the desk").await, Server::start("the attic").await);
    let one = lab.host("desk", &[&format!("minecraft:{}", desk.address)]).await;
    let two = lab.host("attic", &[&format!("minecraft:{}", attic.address)]).await;
    assert_eq!(
        one.address("minecraft").await,
        format!("desk.{DOMAIN}:{}", shared.port())
    );
    one.public("minecraft").await;
    two.public("minecraft").await;
    for (host, motd) in [
        ("desk.play.example.org", "the desk"),
        ("DESK.Play.Example.Org.", "the desk"),
        ("minecraft.desk.play.example.org", "the desk"),
        ("desk.play.example.org\0FML2\0", "the desk"),
        (
            "desk.play.example.org///203.0.113.9:4711///1700000000///c2ln",
            "the desk",
        ),
        ("attic.play.example.org", "the attic"),
    ] {
        assert_eq!(java::look(shared, host).await.motd, motd, "{host}");
        assert_eq!(
            soon("the join is answered", java::words(shared, host)).await,
            motd,
            "{host}"
        );
    }
    // The port of each server's own leads there, whatever name a player typed.
    assert_eq!(
        java::look(two.public("minecraft").await, "desk.play.example.org")
            .await
            .motd,
        "the attic"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_to_find_the_name_reaches_the_server_untouched() {
    let (lab, shared) = lab(Dialect::Minecraft).await;
    let server = Server::start("hello").await;
    let host = lab.host("desk", &[&format!("minecraft:{}", server.address)]).await;
    host.public("minecraft").await;
    let typed = "Desk.Play.Example.org.\0FML\0";
    soon("the join is answered", java::words(shared, typed)).await;
    let asked = server
        .asked()
        .into_iter()
        .find(|asked| asked.next == Next::Login)
        .unwrap();
    assert_eq!(asked.bytes, java::join(typed));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_nobody_has_is_answered_in_the_game() {
    let (lab, shared) = lab(Dialect::Minecraft).await;
    let words = soon("words", java::words(shared, "nobody.play.example.org")).await;
    assert!(words.contains("no server of this name"), "{words}");
    let entry = java::look(shared, "nobody.play.example.org").await;
    assert!(entry.motd.contains("no server of this name"), "{}", entry.motd);
    assert_eq!(lab.metric(r#"relay_players_denied_total{reason="unknown_name"}"#), 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_nobody_gets_the_default() {
    let ports = free_ports(1);
    let shared = loopback(ports.iter().next().unwrap());
    let lab = Lab::with(|config| {
        config.domain = Some(DOMAIN.parse().unwrap());
        config.shared.minecraft = ports;
        config.shared.default = Some(("desk".parse().unwrap(), "minecraft".parse().unwrap()));
    })
    .await;
    let server = Server::start("the default").await;
    let host = lab.host("desk", &[&format!("minecraft:{}", server.address)]).await;
    host.public("minecraft").await;
    // The directory tells who the default host is, within a moment.
    soon("the default is known", async {
        while java::try_look(shared, "elsewhere")
            .await
            .is_none_or(|entry| entry.motd != "the default")
        {}
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_of_ones_own_needs_a_grant_and_is_one_hosts_only() {
    let (lab, shared) = lab(Dialect::Minecraft).await;
    let server = Server::start("mine").await;
    let grant = Grant {
        hostnames: vec!["*.example.net".parse().unwrap()],
        ..Grant::default()
    };
    let named = |names: &[&str]| Tunnel {
        names: names.iter().map(|name| name.parse().unwrap()).collect(),
        ..tunnel(&format!("minecraft:{}", server.address))
    };
    let one = Host::start_with(lab.invite_with("desk", grant.clone()), vec![named(&["mc.example.net"])]);
    assert_eq!(
        one.address("minecraft").await,
        format!("mc.example.net:{}", shared.port())
    );
    assert_eq!(java::look(shared, "mc.example.net").await.motd, "mine");
    let two = Host::start_with(lab.invite_with("attic", grant), vec![named(&["mc.example.net"])]);
    assert_eq!(two.refusal("minecraft").await.0, "name_taken");
    let three = Host::start_with(lab.invite("cellar"), vec![named(&["mc.example.net"])]);
    let (code, text) = three.refusal("minecraft").await;
    assert_eq!(code, "name_not_granted");
    assert!(text.contains("mc.example.net"), "{text}");
    // A wildcard is for what no name says better.
    let four = Host::start_with(
        lab.invite_with(
            "garden",
            Grant {
                hostnames: vec!["*.example.net".parse().unwrap()],
                ..Grant::default()
            },
        ),
        vec![named(&["*.example.net"])],
    );
    four.public("minecraft").await;
    assert_eq!(java::look(shared, "other.example.net").await.motd, "mine");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_granted_no_more_leads_nowhere_when_its_agent_is_back() {
    let (lab, shared) = lab(Dialect::Minecraft).await;
    let server = Server::start("mine").await;
    let grant = Grant {
        hostnames: vec!["mc.example.net".parse().unwrap()],
        ..Grant::default()
    };
    let path = Path::start(lab.relay().info().listen, 1).await.unwrap();
    let tunnel = Tunnel {
        names: vec!["mc.example.net".parse().unwrap()],
        ..tunnel(&format!("minecraft:{}", server.address))
    };
    let host = Host::start_with(path.invite(&lab.invite_with("desk", grant)), vec![tunnel]);
    host.ready().await;
    assert_eq!(java::look(shared, "mc.example.net").await.motd, "mine");
    path.set_dark(true);
    let is_parked = |event: &Event| matches!(event, Event::Parked { .. }).then_some(());
    lab.heard.wait("the link is parked", is_parked).await;
    let change = GrantChange {
        hostnames: Some(Vec::new()),
        ..GrantChange::default()
    };
    lab.office().grant(&"desk".parse().unwrap(), change).unwrap();
    path.set_dark(false);
    assert_eq!(host.refusal("minecraft").await.0, "name_not_granted");
    let entry = java::look(shared, "mc.example.net").await;
    assert!(entry.motd.contains("no server of this name"), "{}", entry.motd);
}

fn client_hello(name: &str) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let name = rustls::pki_types::ServerName::try_from(name.to_owned()).unwrap();
    let mut connection = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    while connection.wants_write() {
        connection.write_tls(&mut bytes).unwrap();
    }
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_is_found_by_the_name_in_its_tls_hello() {
    let (lab, shared) = lab(Dialect::Tls).await;
    let origin = origins::echo().await;
    let host = lab.host("desk", &[&format!("https:{origin}")]).await;
    host.public("https").await;
    let hello = client_hello("desk.play.example.org");
    let mut player = TcpStream::connect(shared).await.unwrap();
    // In two pieces, as a slow line may bring it.
    player.write_all(&hello[..100]).await.unwrap();
    tokio::task::yield_now().await;
    player.write_all(&hello[100..]).await.unwrap();
    player.shutdown().await.unwrap();
    let mut heard = Vec::new();
    soon("the hello comes back", player.read_to_end(&mut heard))
        .await
        .unwrap();
    assert!(heard == hello, "{} of {} bytes", heard.len(), hello.len());

    let mut stranger = TcpStream::connect(shared).await.unwrap();
    stranger
        .write_all(&client_hello("nobody.play.example.org"))
        .await
        .unwrap();
    let mut heard = Vec::new();
    soon("the alert", stranger.read_to_end(&mut heard)).await.unwrap();
    assert_eq!(heard, [21, 3, 3, 0, 2, 2, 112], "unrecognized_name");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_is_found_by_its_host_header() {
    let (lab, shared) = lab(Dialect::Http).await;
    let origin = origins::echo().await;
    let host = lab.host("desk", &[&format!("http:{origin}")]).await;
    host.public("http").await;
    let ask = async |name: &str| {
        let mut player = TcpStream::connect(shared).await.unwrap();
        let request = format!("GET / HTTP/1.1\r\nHost: {name}\r\n\r\nrest");
        player.write_all(request.as_bytes()).await.unwrap();
        player.shutdown().await.unwrap();
        let mut heard = String::new();
        soon("an answer", player.read_to_string(&mut heard)).await.unwrap();
        (request, heard)
    };
    let (request, heard) = ask("Desk.Play.Example.org:80").await;
    assert_eq!(heard, request);
    let (_, heard) = ask("nobody.play.example.org").await;
    assert!(heard.starts_with("HTTP/1.1 404 "), "{heard}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_spells_a_hello_out_for_ever_is_cut_off_in_time_and_holds_nobody_up() {
    let (mut lab, shared) = lab(Dialect::Http).await;
    let origin = origins::echo().await;
    let host = lab.host("desk", &[&format!("http:{origin}")]).await;
    host.public("http").await;
    lab.reconfigure(|config| config.players.hello_timeout = Duration::from_millis(500));
    let crowd: Vec<_> = (0..20)
        .map(|number| {
            tokio::spawn(async move {
                let (mut reader, mut writer) = TcpStream::connect(shared).await.unwrap().into_split();
                let mut pace = tokio::time::interval(Duration::from_millis(20));
                let spelled = async {
                    for letter in b"GET / HTTP/1.1\r\nX: ".iter().chain(std::iter::repeat(&b'x')) {
                        pace.tick().await;
                        // Half of them never say a word.
                        if number % 2 == 0 && writer.write_all(&[*letter]).await.is_err() {
                            break;
                        }
                    }
                };
                let cut = async { while let Ok(1..) = reader.read(&mut [0; 64]).await {} };
                tokio::select! {
                    () = cut => {}
                    () = spelled => {}
                }
            })
        })
        .collect();
    let request = b"GET / HTTP/1.1\r\nHost: desk.play.example.org\r\n\r\n";
    let mut player = TcpStream::connect(shared).await.unwrap();
    player.write_all(request).await.unwrap();
    let mut heard = vec![0; request.len()];
    soon("an answer beside them", player.read_exact(&mut heard))
        .await
        .unwrap();
    for loris in crowd {
        soon("everybody is cut off", loris).await.unwrap();
    }
    let denied = r#"relay_players_denied_total{reason="hello_timeout"}"#;
    until("each is counted", || lab.metric(denied) >= 20.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scanner_costs_the_home_line_nothing() {
    let (lab, shared) = lab(Dialect::Minecraft).await;
    let server = Server::start("quiet").await;
    let host = lab.host("desk", &[&format!("minecraft:{}", server.address)]).await;
    let own = host.public("minecraft").await;
    for address in [shared, own] {
        let mut scanner = TcpStream::connect(address).await.unwrap();
        scanner.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let mut heard = Vec::new();
        // A reset is as good an end as any.
        let _ = soon("the end", scanner.read_to_end(&mut heard)).await;
        assert!(heard.is_empty());
    }
    assert_eq!(lab.metric(r#"relay_players_denied_total{reason="bad_hello"}"#), 2.0);
    assert!(server.asked().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shared_port_is_nobodys_own() {
    let (lab, shared) = lab(Dialect::Minecraft).await;
    let port = shared.port();
    let server = Server::start("mine").await;
    // Whoever asks for it in its own dialect has it by name, and a port of their own besides.
    let host = lab
        .host("desk", &[&format!("minecraft:{}@{port}", server.address)])
        .await;
    assert_ne!(host.public("minecraft").await.port(), port);
    assert_eq!(java::look(shared, "desk.play.example.org").await.motd, "mine");
    let other = Host::start(lab.invite("attic"), &[&format!("tcp:{}@{port}", server.address)]);
    let (code, _) = other.refusal(&format!("tcp-{}", server.address.port())).await;
    assert!(matches!(code, "port_taken" | "port_not_granted"), "{code}");
}

/// A QUIC server for `name` that says back what it hears on a stream; returns its address and certificate.
fn quic_server(name: &str) -> (SocketAddr, rustls::pki_types::CertificateDer<'static>) {
    let key = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let certificate = key.cert.der().clone();
    let private = rustls::pki_types::PrivatePkcs8KeyDer::from(key.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], private.into())
        .unwrap();
    tls.alpn_protocols = vec![b"echo".to_vec()];
    let tls = quinn::crypto::rustls::QuicServerConfig::try_from(tls).unwrap();
    let config = quinn::ServerConfig::with_crypto(Arc::new(tls));
    let endpoint = quinn::Endpoint::server(config, loopback(0)).unwrap();
    let address = endpoint.local_addr().unwrap();
    tokio::spawn(async move {
        while let Some(incoming) = endpoint.accept().await {
            tokio::spawn(async move {
                let connection = incoming.await.unwrap();
                while let Ok((mut send, mut recv)) = connection.accept_bi().await {
                    let heard = recv.read_to_end(1000).await.unwrap();
                    send.write_all(&heard).await.unwrap();
                    send.finish().unwrap();
                }
            });
        }
    });
    (address, certificate)
}

fn quic_client(certificates: &[&rustls::pki_types::CertificateDer<'static>]) -> quinn::Endpoint {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in certificates {
        roots.add((*certificate).clone()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"echo".to_vec()];
    let tls = quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
    let mut endpoint = quinn::Endpoint::client(loopback(0)).unwrap();
    endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(tls)));
    endpoint
}

async fn echo(connection: &quinn::Connection, words: &[u8]) -> Vec<u8> {
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    send.write_all(words).await.unwrap();
    send.finish().unwrap();
    soon("the echo", recv.read_to_end(1000)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_quic_servers_on_one_port_are_told_apart_by_their_hellos() {
    let (lab, shared) = lab(Dialect::Quic).await;
    let names = ["desk.play.example.org", "attic.play.example.org"];
    let servers = names.map(quic_server);
    let mut hosts = Vec::new();
    for (name, (address, _)) in ["desk", "attic"].into_iter().zip(&servers) {
        let host = lab.host(name, &[&format!("hytale:{address}")]).await;
        assert_eq!(
            host.address("hytale").await,
            format!("{name}.{DOMAIN}:{}", shared.port())
        );
        hosts.push(host);
    }
    for (name, (_, certificate)) in names.into_iter().zip(&servers) {
        // Each server's certificate is for its own name only, so whoever is connected is with the right one. The hello has a post-quantum key, and so comes in
        // two packets.
        let client = quic_client(&[certificate]);
        let connection = soon("a connection", client.connect(shared, name).unwrap())
            .await
            .unwrap();
        assert_eq!(echo(&connection, b"hello").await, b"hello");
        // A NAT gives the player another address, and the server never knows.
        client.rebind(std::net::UdpSocket::bind(loopback(0)).unwrap()).unwrap();
        assert_eq!(echo(&connection, b"still here").await, b"still here");
        connection.close(0u32.into(), b"");
    }
    // One socket, one server after the other, as one program may have it.
    let client = quic_client(&[&servers[0].1, &servers[1].1]);
    for name in names {
        let connection = soon("a connection", client.connect(shared, name).unwrap())
            .await
            .unwrap();
        assert_eq!(echo(&connection, name.as_bytes()).await, name.as_bytes());
        connection.close(0u32.into(), b"");
    }
    let nobody = client.connect(shared, "nobody.play.example.org").unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(300), nobody).await.is_err());
    assert!(lab.metric(r#"relay_players_denied_total{reason="unknown_name"}"#) >= 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_gets_other_names_while_its_players_play_on() {
    let (lab, shared) = lab(Dialect::Http).await;
    let origin = origins::echo().await;
    let grant = Grant {
        hostnames: vec!["*.example.net".parse().unwrap()],
        ..Grant::default()
    };
    let named = |names: &[&str]| {
        let names = names.iter().map(|name| name.parse().unwrap()).collect();
        vec![Tunnel {
            names,
            ..tunnel(&format!("http:{origin}"))
        }]
    };
    let host = Host::start_with(lab.invite_with("desk", grant), named(&["old.example.net"]));
    host.public("http").await;
    let enter = async |name: &str| {
        let mut player = TcpStream::connect(shared).await.unwrap();
        let request = format!("GET / HTTP/1.1\r\nHost: {name}\r\n\r\n");
        player.write_all(request.as_bytes()).await.unwrap();
        let mut heard = vec![0; request.len()];
        soon("an answer", player.read_exact(&mut heard)).await.unwrap();
        (player, heard == request.as_bytes())
    };
    let (mut player, is_in) = enter("old.example.net").await;
    assert!(is_in);
    host.tunnels.send_replace(named(&["new.example.net"]));
    soon("the new name leads there", async {
        while !enter("new.example.net").await.1 {}
    })
    .await;
    assert!(!enter("old.example.net").await.1, "and the old one nowhere");
    player.write_all(b"still").await.unwrap();
    soon("who is in plays on", player.read_exact(&mut [0; 5]))
        .await
        .unwrap();
    // A name that is not granted changes nothing.
    host.tunnels.send_replace(named(&["new.example.net", "mc.example.com"]));
    assert!(enter("new.example.net").await.1);
    player.write_all(b"still").await.unwrap();
    soon("who is in plays on", player.read_exact(&mut [0; 5]))
        .await
        .unwrap();
}
