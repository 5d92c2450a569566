//! Peers that do not play by the rules: named, counted, and no bother to anybody else.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test panics as its report"
)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use quinn::crypto::rustls::QuicClientConfig;
use spawnpoint_config::tunnel::Tunnel;
use spawnpoint_core::token::{SecretHash, prove};
use spawnpoint_ops::Event;
use spawnpoint_proto::control::{Hello, Message, Reject, TunnelLimits, TunnelRemove, TunnelRequest};
use spawnpoint_proto::frame::{Frame, MAX_FRAME, MAX_HELLO};
use spawnpoint_proto::{AgentId, CloseCode, Invite, RefusalCode, RejectCode, Token, TokenProof};
use spawnpoint_tests::{Lab, loopback, noise, origins, soon, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A QUIC connection to the relay that can be misused.
struct Rogue {
    connection: quinn::Connection,
    send: quinn::SendStream,
    recv: quinn::RecvStream,
    _endpoint: quinn::Endpoint,
}

impl Rogue {
    async fn connect(invite: &Invite) -> Self {
        Self::connect_from(loopback(0), invite).await.expect("a connection")
    }

    /// A connection from `local`; `None` when the relay does not answer for a second.
    async fn connect_within(local: SocketAddr, invite: &Invite) -> Option<Self> {
        let second = Duration::from_secs(1);
        tokio::time::timeout(second, Self::connect_from(local, invite))
            .await
            .ok()?
    }

    /// A connection from `local`; `None` when the relay wants none.
    async fn connect_from(local: SocketAddr, invite: &Invite) -> Option<Self> {
        let endpoint = quinn::Endpoint::client(local).unwrap();
        let (tls, _) = spawnpoint_net::tls::agent(invite.trust).unwrap();
        let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
        let relay: SocketAddr = format!("{}:{}", invite.host, invite.port).parse().unwrap();
        let connection = soon("the rogue connects", endpoint.connect_with(config, relay, "x").unwrap())
            .await
            .ok()?;
        let (send, recv) = connection.open_bi().await.unwrap();
        Some(Self {
            connection,
            send,
            recv,
            _endpoint: endpoint,
        })
    }

    async fn say(&mut self, bytes: &[u8]) {
        // The relay may have closed in the middle of it.
        let _ = self.send.write_all(bytes).await;
    }

    async fn hello(&mut self, change: impl FnOnce(&mut Hello)) {
        let mut hello = Hello {
            versions: vec![1],
            token: Some(Token::new([0; 32])),
            proof: None,
            agent: AgentId([0; 16]),
            software: "rogue".into(),
            tunnels: Vec::new(),
            resume: None,
            window: None,
            repairs: None,
            downlink: None,
            more: None,
        };
        change(&mut hello);
        let mut wire = BytesMut::new();
        Message::Hello(hello).to_frame().encode(&mut wire);
        self.say(&wire).await;
    }

    /// Says the hello of the agent that has this invite, and is welcomed.
    async fn is_welcomed(&mut self, invite: &Invite) {
        let token = invite.token.clone();
        self.hello(|hello| hello.token = Some(token)).await;
        assert!(matches!(self.answer().await, Message::Welcome(_)));
    }

    async fn answer(&mut self) -> Message {
        let mut buffer = BytesMut::new();
        loop {
            if let Some(frame) = Frame::decode(&mut buffer, MAX_FRAME).unwrap() {
                return Message::from_frame(&frame).unwrap();
            }
            let chunk = soon("the relay answers", self.recv.read_chunk(1000, true))
                .await
                .unwrap();
            buffer.extend_from_slice(&chunk.expect("an answer before the end").bytes);
        }
    }

    async fn closed(&self) -> CloseCode {
        match soon("the relay closes", self.connection.closed()).await {
            quinn::ConnectionError::ApplicationClosed(close) => CloseCode::from_number(close.error_code.into_inner()),
            other => panic!("{other}"),
        }
    }
}

/// A relay with a host whose player must not notice anything.
struct Bystander {
    lab: Lab,
    _host: spawnpoint_tests::Host,
    player: TcpStream,
}

impl Bystander {
    async fn new() -> Self {
        let (lab, echo) = (Lab::start().await, origins::echo().await);
        let host = lab.host("bystander", &[&format!("game=tcp:{echo}")]).await;
        let player = TcpStream::connect(host.public("game").await).await.unwrap();
        Self {
            lab,
            _host: host,
            player,
        }
    }

    async fn is_undisturbed(&mut self) {
        self.player.write_all(b"hello").await.unwrap();
        soon("the bystander is answered", self.player.read_exact(&mut [0; 5]))
            .await
            .unwrap();
    }

    async fn counted(&self, violation: &str) {
        let line = format!("relay_violations_total{{reason=\"{violation}\"}}");
        until(&line, || self.lab.metric(&line) >= 1.0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_on_the_port_for_agents_disturbs_nobody() {
    let mut bystander = Bystander::new().await;
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    for seed in 0..2000 {
        let mut garbage = noise(1 + (seed as usize * 7) % 1400, seed);
        // Half of it looks like the start of a QUIC handshake.
        if seed % 2 == 0 && garbage.len() > 20 {
            garbage[..6].copy_from_slice(&[0xc3, 0, 0, 0, 1, 8]);
        }
        socket.send_to(&garbage, bystander.lab.relay().info().listen).unwrap();
    }
    bystander.is_undisturbed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_oversize_frame_is_told_before_it_is_read() {
    let mut bystander = Bystander::new().await;
    let invite = bystander.lab.invite("rogue");
    let mut rogue = Rogue::connect(&invite).await;
    rogue.say(&u32::MAX.to_be_bytes()).await;
    assert_eq!(rogue.closed().await, CloseCode::Violation);
    bystander.counted("oversize_frame").await;
    bystander.is_undisturbed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_says_four_kilobytes_and_no_more() {
    let bystander = Bystander::new().await;
    let invite = bystander.lab.invite("rogue");
    // A frame that may be, whose end never comes, and as much behind it as the relay takes.
    let mut rogue = Rogue::connect(&invite).await;
    let mut wire = BytesMut::new();
    wire.put_u32(MAX_HELLO as u32);
    wire.extend_from_slice(&noise(1 << 20, 5));
    let taken = tokio::time::timeout(Duration::from_millis(300), async {
        let mut taken = 0;
        while let Ok(piece) = rogue.send.write(&wire[taken..]).await {
            taken += piece;
        }
        taken
    });
    // It is read to its length and is no message; whatever the relay has taken of the rest, QUIC had let it send.
    assert!(
        taken.await.is_ok_and(|taken| taken < 4 * MAX_HELLO),
        "taken without end"
    );
    assert_eq!(rogue.closed().await, CloseCode::Violation);
    let mut rogue = Rogue::connect(&invite).await;
    rogue.say(&(MAX_HELLO as u32 + 1).to_be_bytes()).await;
    assert_eq!(rogue.closed().await, CloseCode::Violation);
    bystander.counted("oversize_frame").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_hello_announces_is_heard_of_agents_that_are_known_and_in_time() {
    let bystander = Bystander::new().await;
    let invite = bystander.lab.invite("rogue");
    let mut stranger = Rogue::connect(&invite).await;
    stranger.hello(|hello| hello.more = Some(200)).await;
    assert!(
        matches!(stranger.answer().await, Message::Reject(_)),
        "rejected at once"
    );
    let token = invite.token.clone();
    let mut slow = Rogue::connect(&invite).await;
    slow.hello(|hello| (hello.token, hello.more) = (Some(token), Some(200)))
        .await;
    assert_eq!(slow.closed().await, CloseCode::Timeout);
    bystander.counted("handshake_timeout").await;
    let token = invite.token.clone();
    let mut endless = Rogue::connect(&invite).await;
    endless
        .hello(|hello| (hello.token, hello.more) = (Some(token), Some(u32::MAX)))
        .await;
    assert_eq!(endless.closed().await, CloseCode::Violation);
    bystander.counted("too_many_items").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_that_make_no_sense_are_refused_by_name() {
    let bystander = Bystander::new().await;
    let invite = bystander.lab.invite("rogue");
    let (token, tunnel): (_, Tunnel) = (invite.token.clone(), "tcp:25565".parse().unwrap());
    let mut rogue = Rogue::connect(&invite).await;
    let limits = TunnelLimits {
        allow: Some(vec!["everywhere".to_owned()]),
        players: Some(0),
        down: Some(0),
        ..TunnelLimits::default()
    };
    let request = TunnelRequest {
        limits: Some(limits),
        ..TunnelRequest::new(tunnel.name, tunnel.protocol)
    };
    rogue
        .hello(|hello| (hello.token, hello.tunnels) = (Some(token), vec![request]))
        .await;
    let Message::Welcome(welcome) = rogue.answer().await else {
        panic!("not welcome")
    };
    let refused = welcome.tunnels[0].refused.as_ref().unwrap();
    assert_eq!(refused.code, RefusalCode::Malformed);
    assert!(
        refused.text.contains("`everywhere` is no address or prefix"),
        "{}",
        refused.text
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_on_the_control_stream_is_a_violation() {
    let mut bystander = Bystander::new().await;
    let invite = bystander.lab.invite("rogue");
    let mut rogue = Rogue::connect(&invite).await;
    let mut wire = BytesMut::new();
    wire.put_u32(100);
    wire.put_u16(1);
    wire.extend_from_slice(&noise(98, 3));
    rogue.say(&wire).await;
    assert_eq!(rogue.closed().await, CloseCode::Violation);
    bystander.counted("malformed_message").await;
    bystander.is_undisturbed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_that_sends_datagrams_first_keeps_no_memory_with_them() {
    let mut bystander = Bystander::new().await;
    let rogue = Rogue::connect(&bystander.lab.invite("rogue")).await;
    for seed in 0..100 {
        // It may be closed before the last.
        let _ = rogue.connection.send_datagram(noise(1_000, seed).into());
    }
    assert_eq!(rogue.closed().await, CloseCode::Violation);
    bystander.counted("unexpected_message").await;
    bystander.is_undisturbed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_says_nothing_is_closed_in_time() {
    let lab = Lab::with(|config| config.links.handshake_timeout = Duration::from_millis(300)).await;
    let rogue = Rogue::connect(&lab.invite("rogue")).await;
    assert_eq!(rogue.closed().await, CloseCode::Timeout);
    assert_eq!(lab.metric(r#"relay_violations_total{reason="handshake_timeout"}"#), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_token_is_rejected_with_a_remedy() {
    let bystander = Bystander::new().await;
    let invite = bystander.lab.invite("rogue");
    let mut rogue = Rogue::connect(&invite).await;
    rogue.hello(|_| {}).await;
    let Message::Reject(Reject { code, text }) = rogue.answer().await else {
        panic!("not rejected")
    };
    assert_eq!(code, RejectCode::UnknownToken);
    assert!(text.contains("ask for a new invite"), "{text}");
    assert_eq!(rogue.closed().await, CloseCode::Rejected);
    assert_eq!(
        bystander
            .lab
            .metric(r#"relay_handshakes_total{reason="unknown_token"}"#),
        1.0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_of_another_version_is_told_both_versions() {
    let bystander = Bystander::new().await;
    let invite = bystander.lab.invite("rogue");
    let mut rogue = Rogue::connect(&invite).await;
    let token = invite.token.clone();
    rogue
        .hello(|hello| {
            hello.versions = vec![9];
            hello.token = Some(token);
        })
        .await;
    let Message::Reject(Reject { code, text }) = rogue.answer().await else {
        panic!("not rejected")
    };
    assert_eq!(code, RejectCode::Version);
    assert!(text.contains("[9]") && text.contains("[1]"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_welcomed_agent_that_breaks_the_protocol_loses_its_link_and_nobody_elses() {
    let mut bystander = Bystander::new().await;
    let invite = bystander.lab.invite("rogue");
    let mut rogue = Rogue::connect(&invite).await;
    rogue.is_welcomed(&invite).await;
    // A kind that nobody knows yet is answered politely, and datagrams of flows that never were are passed over.
    let mut wire = BytesMut::new();
    Frame {
        kind: 999,
        body: bytes::Bytes::from_static(b"?"),
    }
    .encode(&mut wire);
    rogue.say(&wire).await;
    assert!(matches!(rogue.answer().await, Message::Unsupported(unsupported) if unsupported.kind == 999));
    for seed in 0..500 {
        rogue
            .connection
            .send_datagram(noise(1 + seed % 1000, seed as u64).into())
            .unwrap();
    }
    bystander.counted("malformed_datagram").await;
    // A hello is for the beginning.
    rogue.hello(|_| {}).await;
    assert_eq!(rogue.closed().await, CloseCode::Violation);
    bystander.counted("unexpected_message").await;
    bystander.is_undisturbed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_may_not_open_more_than_its_control_stream() {
    let bystander = Bystander::new().await;
    let invite = bystander.lab.invite("rogue");
    let rogue = Rogue::connect(&invite).await;
    let another = tokio::time::timeout(Duration::from_millis(300), rogue.connection.open_bi()).await;
    assert!(another.is_err(), "a second stream was allowed");
    let one_way = tokio::time::timeout(Duration::from_millis(300), rogue.connection.open_uni()).await;
    assert!(one_way.is_err(), "a one-way stream was allowed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_of_silent_agents_keeps_no_real_one_out() {
    let mut bystander = Bystander::new().await;
    let invite = bystander.lab.invite("rogue");
    // From as many addresses as it takes to fill every place for addresses that nobody knows.
    let mut crowd = Vec::new();
    for number in 1..=16u8 {
        for _ in 0..16 {
            let local = SocketAddr::from(([127, 0, 1, number], 0));
            crowd.extend(Rogue::connect_from(local, &invite).await);
        }
    }
    assert!(crowd.len() >= 100, "only {} got as far as being silent", crowd.len());
    // From here an agent was welcomed before.
    let echo = origins::echo().await;
    let host = bystander.lab.host("real", &[&format!("game=tcp:{echo}")]).await;
    host.public("game").await;
    bystander.is_undisturbed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn packets_from_a_made_up_address_do_not_lock_its_owner_out() {
    let mut bystander = Bystander::new().await;
    let invite = bystander.lab.invite("rogue");
    // First packets of handshakes, with the owner's address on them, by somebody who will never see an answer.
    let sink = tokio::net::UdpSocket::bind(loopback(0)).await.unwrap();
    let mut blind = invite.clone();
    blind.port = sink.local_addr().unwrap().port();
    let owner = SocketAddr::from(([127, 0, 1, 77], 0));
    let spoofed = tokio::net::UdpSocket::bind(owner).await.unwrap();
    for _ in 0..200 {
        let mut packet = [0; 2000];
        let first = tokio::select! {
            first = sink.recv(&mut packet) => first.unwrap(),
            _ = Rogue::connect_from(loopback(0), &blind) => panic!("nobody answers there"),
        };
        spoofed
            .send_to(&packet[..first], bystander.lab.relay().info().listen)
            .await
            .unwrap();
    }
    let mut real = Rogue::connect_from(owner, &invite).await.expect("the owner gets in");
    real.is_welcomed(&invite).await;
    bystander.is_undisturbed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_asks_without_end_loses_its_link() {
    let mut bystander = Bystander::new().await;
    let invite = bystander.lab.invite("rogue");
    let mut rogue = Rogue::connect(&invite).await;
    rogue.is_welcomed(&invite).await;
    let mut wire = BytesMut::new();
    let remove = TunnelRemove {
        name: "none".parse().unwrap(),
    };
    for _ in 0..1000 {
        Message::TunnelRemove(remove.clone()).to_frame().encode(&mut wire);
    }
    rogue.say(&wire).await;
    assert_eq!(rogue.closed().await, CloseCode::Violation);
    bystander.counted("message_flood").await;
    bystander.is_undisturbed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_and_slow_askers_keep_nobody_from_the_admin_pages() {
    let admin = Some(loopback(0));
    let lab = Lab::with(|config| config.admin = admin).await;
    let address = lab.relay().info().admin.unwrap();
    let mut silent = Vec::new();
    for _ in 0..200 {
        let mut asker = TcpStream::connect(address).await.unwrap();
        // Those who find no place are cut off at once.
        let _ = asker.write_all(b"GET /healthz HT").await;
        silent.push(asker);
    }
    // The deadline for a request is five seconds.
    let ask = async {
        loop {
            let mut asker = TcpStream::connect(address).await.unwrap();
            let _ = asker
                .write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                .await;
            let mut answer = String::new();
            let _ = asker.read_to_string(&mut answer).await;
            if answer.ends_with("ok\n") {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    soon("an asker is answered", ask).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_tries_tokens_is_locked_out_and_nobody_else() {
    let mut bystander = Bystander::new().await;
    let invite = bystander.lab.invite("rogue");
    let local = |last| SocketAddr::from(([127, 0, 7, last], 0));
    let mut tries = 0;
    while let Some(mut rogue) = Rogue::connect_within(local(1), &invite).await {
        tries += 1;
        assert!(tries < 100, "tokens can be tried without end");
        rogue.hello(|hello| hello.token = Some(Token::new([tries; 32]))).await;
        let _ = soon("the rogue is told", rogue.recv.read_chunk(1000, true)).await;
    }
    assert!(tries >= 5, "banned after {tries}");
    let bans = bystander.lab.office().bans().unwrap();
    assert_eq!(bans[0].1.prefix.to_string(), "127.0.7.1/32");
    assert_eq!(bans[0].1.reason, "failed_token");
    let mut real = Rogue::connect_from(local(2), &invite).await.unwrap();
    real.is_welcomed(&invite).await;
    bystander.is_undisturbed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proof_is_worth_nothing_on_another_connection() {
    let mut bystander = Bystander::new().await;
    let invite = bystander.lab.invite("rogue");
    let first = Rogue::connect(&invite).await;
    let proof = prove(&invite.token, &spawnpoint_net::binding(&first.connection).unwrap());
    let hello = |hello: &mut Hello| (hello.token, hello.proof) = (None, Some(proof));
    // Somebody who has seen it says the same.
    let mut replay = Rogue::connect(&invite).await;
    replay.hello(hello).await;
    let Message::Reject(Reject { code, .. }) = replay.answer().await else {
        panic!("replayed")
    };
    assert_eq!(code, RejectCode::UnknownToken);
    let mut own = first;
    own.hello(hello).await;
    assert!(matches!(own.answer().await, Message::Welcome(_)));
    // Who has read the directory, and so the hash, has nothing to show either.
    let mut thief = Rogue::connect(&invite).await;
    let hash = SecretHash::of_token(&invite.token);
    let forged = TokenProof {
        id: hash.id(),
        masked: *hash.as_bytes(),
    };
    thief
        .hello(|hello| (hello.token, hello.proof) = (None, Some(forged)))
        .await;
    assert!(matches!(thief.answer().await, Message::Reject(_)));
    bystander.is_undisturbed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_invite_in_two_networks_is_told_to_the_operator() {
    let bystander = Bystander::new().await;
    let invite = bystander.lab.invite("shared");
    let agent = async |local: [u8; 4], number: u8| {
        let mut agent = Rogue::connect_from((local, 0).into(), &invite).await.unwrap();
        let token = invite.token.clone();
        agent
            .hello(|hello| (hello.token, hello.agent) = (Some(token), AgentId([number; 16])))
            .await;
        assert!(matches!(agent.answer().await, Message::Welcome(_)));
        agent
    };
    let shared = || bystander.lab.metric("relay_shared_tokens_total");
    let _first = agent([127, 0, 8, 1], 1).await;
    // In the same network it is another machine of the same home.
    let _second = agent([127, 0, 8, 2], 2).await;
    assert_eq!(shared(), 0.0);
    let _elsewhere = agent([127, 0, 9, 1], 3).await;
    let pick = |event: &Event| match event {
        Event::SharedToken { host, peers } => Some((host.clone(), peers.map(|peer| peer.ip().to_string()))),
        _ => None,
    };
    let (host, peers) = bystander.lab.heard.wait("the operator is told", pick).await;
    assert_eq!(host, "shared");
    assert!(peers[0].starts_with("127.0.8.") && peers[1] == "127.0.9.1", "{peers:?}");
    assert_eq!(shared(), 1.0);
}
