#![allow(clippy::unwrap_used)]
use super::*;
use bytes::BytesMut;
use proptest::prelude::*;

fn hex(message: &Message) -> String {
    let mut wire = BytesMut::new();
    message.to_frame().encode(&mut wire);
    wire.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn request(name: &str) -> TunnelRequest {
    TunnelRequest {
        preferred_port: Some(25565),
        ..TunnelRequest::new(name.parse().unwrap(), Protocol::Tcp)
    }
}

fn hello() -> Message {
    Message::Hello(Hello {
        versions: vec![1],
        token: Some(Token::new([7; 32])),
        proof: None,
        agent: AgentId([1; 16]),
        software: "spawnpoint/0.1".into(),
        tunnels: vec![request("mc")],
        resume: None,
        window: None,
        repairs: None,
        downlink: None,
        more: None,
    })
}

#[test]
fn the_bytes_of_released_messages_never_change() {
    assert_eq!(
        hex(&hello()),
        concat!(
            "000000580001",
            "a5",
            "008101",
            "0158200707070707070707070707070707070707070707070707070707070707070707",
            "025001010101010101010101010101010101",
            "036e737061776e706f696e742f302e31",
            "0481a300626d63010003",
            "1963dd",
        )
    );
    let doubled = TunnelRequest {
        protocol: Protocol::Udp,
        redundancy: Some(true),
        ..request("voice")
    };
    assert_eq!(
        hex(&Message::TunnelAdd(doubled)),
        "000000120004a40065766f6963650101031963dd05f5"
    );
    assert_eq!(
        hex(&Message::GoAway(GoAway { deadline_ms: 30_000 })),
        "000000070008a100197530"
    );
    assert_eq!(
        hex(&Message::Delivered(Delivered {
            session: SessionId(5),
            offset: 70_000
        })),
        "0000000b0007a20005011a00011170"
    );
    assert_eq!(
        hex(&Message::Reject(Reject {
            code: RejectCode::Revoked,
            text: "gone".into()
        })),
        "0000000b0003a200020164676f6e65"
    );
    let (tunnel, silence) = (TunnelId(3), Some(ResetCode::OriginAsleep));
    assert_eq!(
        hex(&Message::OriginState(OriginState { tunnel, silence })),
        "00000007000ba20003010a"
    );
    let silence = None;
    assert_eq!(
        hex(&Message::OriginState(OriginState { tunnel, silence })),
        "00000005000ba10003"
    );
    assert_eq!(hex(&Message::Ping(Ping {})), "00000003000ea0");
    assert_eq!(
        hex(&Message::TunnelReply(TunnelReply {
            name: "mc".parse().unwrap(),
            opened: Some(OpenedTunnel {
                id: TunnelId(3),
                public_host: "play.example".into(),
                public_port: 25565,
                idle_ms: 60_000,
                address: None,
                limited: None,
            }),
            refused: None,
        })),
        "000000210006a200626d6301a40003016c706c61792e6578616d706c65021963dd0319ea60"
    );
}

#[test]
fn a_field_of_a_newer_peer_is_skipped() {
    // A GoAway with an additional field 9.
    let body = Bytes::from_static(&[0xa2, 0x00, 0x01, 0x09, 0x63, b'n', b'e', b'w']);
    let Message::GoAway(away) = Message::from_frame(&Frame { kind: 8, body }).unwrap() else {
        panic!("not a GoAway")
    };
    assert_eq!(away.deadline_ms, 1);
}

#[test]
fn a_kind_of_a_newer_peer_is_unknown_rather_than_wrong() {
    let frame = Frame {
        kind: 999,
        body: Bytes::from_static(b"whatever"),
    };
    assert!(matches!(Message::from_frame(&frame), Ok(Message::Unknown(999))));
}

#[test]
fn a_code_of_a_newer_peer_is_unknown_rather_than_wrong() {
    let body = Bytes::from_static(&[0xa2, 0x00, 0x18, 0xc8, 0x01, 0x60]);
    let Message::Reject(reject) = Message::from_frame(&Frame { kind: 3, body }).unwrap() else {
        panic!("not a Reject")
    };
    assert_eq!(reject.code, RejectCode::Unknown);
}

#[test]
fn a_hello_with_a_thousand_tunnels_is_refused() {
    let Message::Hello(mut hello) = hello() else {
        unreachable!()
    };
    hello.tunnels = (0..1000).map(|at| request(&format!("t{at}"))).collect();
    assert!(matches!(
        Message::from_frame(&Message::Hello(hello).to_frame()),
        Err(Violation::TooManyItems)
    ));
}

#[test]
fn a_hello_survives_the_wire() {
    let frame = hello().to_frame();
    let Message::Hello(read) = Message::from_frame(&frame).unwrap() else {
        panic!("not a Hello")
    };
    assert_eq!(
        (read.token.unwrap().expose(), read.tunnels),
        (&[7; 32], vec![request("mc")])
    );
}

proptest! {
    #[test]
    fn no_bytes_make_a_decoder_panic(kind in 0u16..14, body in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = Message::from_frame(&Frame { kind, body: body.into() });
    }

    #[test]
    fn a_hello_with_flipped_bytes_never_panics(at in 0usize..80, with in any::<u8>()) {
        let frame = hello().to_frame();
        let mut body = frame.body.to_vec();
        let at = at % body.len();
        body[at] = with;
        let _ = Message::from_frame(&Frame { kind: 1, body: body.into() });
    }

    #[test]
    fn replies_survive_the_wire(id in any::<u32>(), port in any::<u16>(), host in "[a-z.]{0,40}", refused in any::<bool>(), text in "\\PC{0,60}") {
        let reply = TunnelReply {
            name: "t".parse().unwrap(),
            opened: (!refused).then_some(OpenedTunnel { id: TunnelId(id), public_host: host, public_port: port, idle_ms: id, address: None, limited: None }),
            refused: refused.then_some(Refusal { code: RefusalCode::PortTaken, text }),
        };
        let Message::TunnelReply(read) = Message::from_frame(&Message::TunnelReply(reply.clone()).to_frame()).unwrap() else { panic!() };
        prop_assert_eq!(read, reply);
    }
}

#[test]
fn a_welcome_with_every_tunnel_refused_at_length_fits_into_a_frame() {
    let name = |at: usize| format!("{at:x>32}").parse().unwrap();
    let refused = Refusal::new(RefusalCode::PortNotGranted, &"ü".repeat(1000));
    let tunnels: Vec<TunnelReply> = (0..MAX_TUNNELS)
        .map(|at| TunnelReply {
            name: name(at),
            opened: None,
            refused: Some(refused.clone()),
        })
        .collect();
    let welcome = Welcome {
        version: 1,
        link: LinkId([0; 16]),
        ticket: None,
        resume_window_ms: 0,
        tunnels,
        window: None,
        repairs: None,
        lost: Some(vec![SessionId(u64::MAX); MAX_LOST]),
        software: String::new(),
        host: "x".repeat(32),
    };
    let mut wire = BytesMut::new();
    Message::Welcome(welcome).to_frame().encode(&mut wire);
}

#[test]
fn a_hello_with_endless_words_is_refused() {
    let Message::Hello(hello) = hello() else { unreachable!() };
    let many_versions = Hello {
        versions: (0..17).collect(),
        ..hello.clone()
    };
    assert!(matches!(
        Message::from_frame(&Message::Hello(many_versions).to_frame()),
        Err(Violation::TooManyItems)
    ));
    let game = Some("x".repeat(33));
    let long_game = Hello {
        tunnels: vec![TunnelRequest { game, ..request("mc") }],
        ..hello
    };
    assert!(matches!(
        Message::from_frame(&Message::Hello(long_game).to_frame()),
        Err(Violation::MalformedMessage)
    ));
    for deny in [vec!["10.0.0.1".to_owned(); MAX_PREFIXES + 1], vec!["1".repeat(1_000)]] {
        let limits = Some(TunnelLimits {
            deny: Some(deny),
            ..TunnelLimits::default()
        });
        let frame = Message::TunnelAdd(TunnelRequest {
            limits,
            ..request("mc")
        })
        .to_frame();
        assert!(matches!(Message::from_frame(&frame), Err(Violation::MalformedMessage)));
    }
}
