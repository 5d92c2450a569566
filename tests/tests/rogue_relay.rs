//! A relay that has turned against its hosts: it can end their sessions, and nothing else. The agent dials what its own configuration says, and neither grows nor ends.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test panics as its report"
)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use quinn::crypto::rustls::QuicServerConfig;
use spawnpoint_net::identity::Identity;
use spawnpoint_net::tls::{self, ShownCertificate};
use spawnpoint_ops::Event;
use spawnpoint_proto::control::{GoAway, Hello, Message, Notice, OpenedTunnel, TunnelReply, Welcome};
use spawnpoint_proto::frame::{Frame, MAX_FRAME};
use spawnpoint_proto::stream::{Purpose, StreamHeader};
use spawnpoint_proto::{Invite, LinkId, SessionId, Ticket, Token, Trust, TunnelId};
use spawnpoint_tests::{Host, loopback, noise, origins, soon, until};
use tokio::io::AsyncReadExt;

/// The relay, as far as agents can tell.
struct Rogue {
    endpoint: quinn::Endpoint,
    invite: Invite,
    _data: tempfile::TempDir,
}

/// An agent that believes it.
struct Believer {
    connection: quinn::Connection,
    send: quinn::SendStream,
    hello: Hello,
}

impl Rogue {
    fn start() -> Self {
        let data = tempfile::tempdir().unwrap();
        let identity = Identity::load_or_make(data.path()).unwrap();
        let trust = Trust::Pin(identity.hash());
        let shown = Arc::new(ShownCertificate::new(identity).unwrap());
        let crypto = QuicServerConfig::try_from(tls::relay(shown).unwrap()).unwrap();
        // It asks for signs of life by QUIC's own means, as older relays do: else it would wait long for an agent whose goodbye was lost in its flood.
        let mut transport = quinn::TransportConfig::default();
        transport
            .keep_alive_interval(Some(Duration::from_millis(500)))
            .max_idle_timeout(Some(Duration::from_millis(2_400).try_into().unwrap()));
        let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
        config.transport_config(Arc::new(transport));
        let endpoint = quinn::Endpoint::server(config, loopback(0)).unwrap();
        let invite = Invite {
            host: "127.0.0.1".to_owned(),
            port: endpoint.local_addr().unwrap().port(),
            trust,
            token: Token::new([5; 32]),
        };
        Self {
            endpoint,
            invite,
            _data: data,
        }
    }

    /// Meets the next connection of an agent, who may have given up some that waited here for too long.
    async fn meet(&self) -> Believer {
        let connection = loop {
            let incoming = soon("an agent comes", self.endpoint.accept()).await.unwrap();
            if let Ok(connection) = soon("the agent's handshake", incoming.into_future()).await {
                break connection;
            }
        };
        let (send, mut recv) = soon("its control stream", connection.accept_bi()).await.unwrap();
        let mut buffer = BytesMut::new();
        let hello = soon("its hello", async {
            loop {
                if let Some(frame) = Frame::decode(&mut buffer, MAX_FRAME).unwrap() {
                    let Message::Hello(hello) = Message::from_frame(&frame).unwrap() else {
                        panic!("no hello")
                    };
                    return hello;
                }
                buffer.extend_from_slice(&recv.read_chunk(4_096, true).await.unwrap().unwrap().bytes);
            }
        })
        .await;
        tokio::spawn(async move { while let Ok(Some(_)) = recv.read_chunk(65_536, true).await {} });
        Believer {
            connection,
            send,
            hello,
        }
    }
}

impl Believer {
    async fn say(&mut self, message: &Message) -> bool {
        let mut wire = BytesMut::new();
        message.to_frame().encode(&mut wire);
        self.send.write_all(&wire).await.is_ok()
    }

    /// Welcomes the agent, with everything as large as it can be.
    async fn welcome(&mut self) {
        let open = |(at, request): (usize, &spawnpoint_proto::control::TunnelRequest)| TunnelReply {
            name: request.name.clone(),
            opened: Some(OpenedTunnel {
                id: TunnelId(at as u32 + 1),
                public_host: "203.0.113.5\u{1b}[2J".to_owned(),
                public_port: 25_565,
                idle_ms: u32::MAX,
                address: None,
                limited: None,
            }),
            refused: None,
        };
        let welcome = Welcome {
            version: 1,
            link: LinkId([1; 16]),
            ticket: Some(Ticket::new([2; 32])),
            resume_window_ms: u32::MAX,
            tunnels: self.hello.tunnels.iter().enumerate().map(open).collect(),
            software: "rogue".to_owned(),
            host: "desk".to_owned(),
            window: Some(16 << 20),
            lost: None,
            repairs: Some(true),
        };
        assert!(self.say(&Message::Welcome(welcome)).await);
    }

    /// Opens a player's stream; nothing when the agent has gone.
    async fn player(&self, tunnel: u32, session: u64) -> Option<(quinn::SendStream, quinn::RecvStream)> {
        let header = StreamHeader::Open {
            tunnel: TunnelId(tunnel),
            session: SessionId(session),
            player: "198.51.100.7:4711".parse().unwrap(),
            local: "203.0.113.5:25565".parse().unwrap(),
            purpose: Purpose::Play,
        };
        let opened = tokio::time::timeout(Duration::from_millis(200), self.connection.open_bi()).await;
        let (mut send, recv) = opened.ok()?.ok()?;
        send.write_all(&header.encode()).await.ok()?;
        Some((send, recv))
    }
}

/// A server that counts who comes.
async fn counting() -> (SocketAddr, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    let address = origins::tcp(move |mut socket| {
        counted.fetch_add(1, Ordering::Relaxed);
        async move { while let Ok(1..) = socket.read(&mut [0; 4_096]).await {} }
    })
    .await;
    (address, count)
}

/// What this process has in memory, in bytes; nothing where nobody says.
fn resident() -> u64 {
    spawnpoint_net::memory_in_use().unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_the_configuration_names_is_dialled_whatever_the_relay_says() {
    let rogue = Rogue::start();
    let (own, came) = counting().await;
    let (other, never) = counting().await;
    let host = Host::start(rogue.invite.clone(), &[&format!("game=tcp:{own}")]);
    let mut agent = rogue.meet().await;
    // The token itself has not come here.
    assert!(agent.hello.token.is_none());
    agent.welcome().await;
    host.ready().await;
    // Tunnels that it never asked for, and one at an origin of the relay's choice.
    let reply = TunnelReply {
        name: "other".parse().unwrap(),
        opened: Some(OpenedTunnel {
            id: TunnelId(77),
            public_host: other.ip().to_string(),
            public_port: other.port(),
            idle_ms: 1,
            address: Some(other.to_string()),
            limited: None,
        }),
        refused: None,
    };
    agent.say(&Message::TunnelReply(reply)).await;
    let mut streams = Vec::new();
    for tunnel in [0, 2, 77, 1_000, u32::MAX] {
        streams.extend(agent.player(tunnel, u64::from(tunnel)).await);
    }
    for (_, recv) in &mut streams {
        let cut = soon("the stream is cut", recv.received_reset()).await;
        assert!(matches!(cut, Ok(Some(_))), "{cut:?}");
    }
    let (mut send, _recv) = agent.player(1, 5_000).await.unwrap();
    send.write_all(b"hello").await.unwrap();
    until("its own server is reached", || came.load(Ordering::Relaxed) == 1).await;
    assert_eq!(never.load(Ordering::Relaxed), 0);
    // What it says reaches the host's terminal without what would move a cursor.
    let shown = |event: &Event| match event {
        Event::Tunnel { public, .. } => Some(public.clone()),
        _ => None,
    };
    let public = host.heard.wait("the tunnel is shown", shown).await;
    assert!(!public.contains('\u{1b}'), "{public:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_of_a_relay_neither_grow_the_agent_nor_end_it() {
    let rogue = Rogue::start();
    let (own, _) = counting().await;
    let (packets, _) = origins::udp_echo().await;
    let host = Host::start(
        rogue.invite.clone(),
        &[&format!("game=tcp:{own}"), &format!("voice=udp:{packets}")],
    );
    let before = resident();
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    for round in 0..6u64 {
        let mut agent = rogue.meet().await;
        agent.welcome().await;
        let until = Instant::now() + Duration::from_millis(600);
        let mut number = 0u64;
        while Instant::now() < until {
            number += 1;
            let is_there = match round {
                0 => {
                    // Streams with headers of nonsense.
                    let opened = tokio::time::timeout(Duration::from_millis(50), agent.connection.open_bi()).await;
                    match opened {
                        Ok(Ok((mut send, _))) => send.write_all(&noise(100, seed + number)).await.is_ok(),
                        Ok(Err(_)) => false,
                        Err(_) => true,
                    }
                }
                // Players without end.
                1 => agent.player(1, number).await.is_some(),
                2 => {
                    let length = 1 + (number as usize * 31) % 1_100;
                    agent
                        .connection
                        .send_datagram(noise(length, seed + number).into())
                        .is_ok()
                }
                3 => {
                    agent
                        .say(&Message::Notice(Notice {
                            text: "x".repeat(10_000),
                        }))
                        .await
                }
                4 => agent.say(&Message::GoAway(GoAway { deadline_ms: 1 })).await,
                _ => {
                    let mut wire = BytesMut::new();
                    let frame = Frame {
                        kind: (number % 40) as u16,
                        body: noise(200, seed + number).into(),
                    };
                    frame.encode(&mut wire);
                    agent.send.write_all(&wire).await.is_ok()
                }
            };
            if !is_there {
                break;
            }
            if number.is_multiple_of(64) {
                tokio::task::yield_now().await;
            }
        }
        agent.connection.close(0u32.into(), b"");
    }
    // It comes back all the same, and works.
    let mut agent = rogue.meet().await;
    agent.welcome().await;
    soon("the agent still carries players", async {
        while agent.player(1, 1_000_000).await.is_none() {}
    })
    .await;
    let grown = resident().saturating_sub(before);
    assert!(grown < 256 << 20, "{grown} bytes more than before");
    drop(host);
}
