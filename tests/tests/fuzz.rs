//! Everything that reads a stranger's bytes, against bytes that are nearly right.
//!
//! Each target starts from recorded and built samples and changes them: bits, lengths, pieces cut out, doubled or put into each other. No input may make a
//! decoder panic, and what it says must not depend on how the bytes arrive: a beginning of something valid is never an offence, and what is whole stays
//! what it is when more follows. Each target runs for a moment here; `SPAWNPOINT_FUZZ_SECONDS=600 cargo test --release --test fuzz` runs it for ten minutes.
//! The seed is printed, and `SPAWNPOINT_FUZZ_SEED` sets it.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test panics as its report"
)]

use std::fmt::Debug;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use spawnpoint_core::access::{PrefixSet, parse_list};
use spawnpoint_core::token::prove;
use spawnpoint_proto::control::{self, Message};
use spawnpoint_proto::datagram::{Announcement, Fragment, Header, Kind};
use spawnpoint_proto::frame::{Frame, MAX_FRAME};
use spawnpoint_proto::repair::Repair;
use spawnpoint_proto::stream::StreamHeader;
use spawnpoint_proto::{
    AgentId, FlowId, Invite, LinkId, Protocol, RefusalCode, SessionId, Ticket, Token, Trust, TunnelId, TunnelName,
    plain,
};
use spawnpoint_sniff::minecraft::{self, First, Next, Refusal, legacy, login, status};
use spawnpoint_sniff::proxy::{self, Addresses, Transport};
use spawnpoint_sniff::quic::{Initials, LongHeader};
use spawnpoint_sniff::{Progress, http, raknet, tls};
use spawnpoint_tests::java;

/// Every input is decoded at as many lengths as this, or at all of them.
const CUTS: usize = 24;

/// A game server's longest first message, and then some.
const MAX_INPUT: usize = 24 * 1024;

/// Dice that can be thrown again.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 24
    }

    fn below(&mut self, most: usize) -> usize {
        (self.next() % most.max(1) as u64) as usize
    }

    /// `sample`, or a piece of another one, changed here and there.
    fn change(&mut self, samples: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = samples[self.below(samples.len())].clone();
        for _ in 0..=self.below(6) {
            let at = self.below(bytes.len());
            match self.below(8) {
                0 if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
                1 if !bytes.is_empty() => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][self.below(5)],
                2 if !bytes.is_empty() => bytes[at] = self.next() as u8,
                3 => bytes.truncate(at),
                4 => bytes.insert(at, self.next() as u8),
                5 => {
                    let end = at + self.below(bytes.len() - at);
                    bytes.drain(at..end);
                }
                6 => {
                    let end = at + self.below((bytes.len() - at).min(200));
                    let piece = bytes[at..end].to_vec();
                    bytes.splice(at..at, piece);
                }
                _ => {
                    let other = &samples[self.below(samples.len())];
                    let from = self.below(other.len());
                    let to = from + self.below(other.len() - from);
                    bytes.splice(at..at, other[from..to].iter().copied());
                }
            }
        }
        bytes.truncate(MAX_INPUT);
        bytes
    }
}

/// Throws changed samples at `target` until the time is up.
fn fuzz(name: &str, samples: &[Vec<u8>], mut target: impl FnMut(&[u8])) {
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .map(|text| text.parse::<u64>().expect("a number"))
    };
    let budget = number("SPAWNPOINT_FUZZ_SECONDS").map_or(Duration::from_millis(400), Duration::from_secs);
    let seed = number("SPAWNPOINT_FUZZ_SEED").unwrap_or_else(|| std::process::id().into());
    println!("{name}: SPAWNPOINT_FUZZ_SEED={seed}");
    samples.iter().for_each(|sample| target(sample));
    let (mut dice, until, mut inputs) = (Dice(seed), Instant::now() + budget, 0u64);
    while Instant::now() < until {
        let input = dice.change(samples);
        let began = Instant::now();
        target(&input);
        // A thousand times what it takes; a machine that stood still in between is not our matter.
        assert!(
            began.elapsed() < Duration::from_secs(2),
            "{name}: {} bytes took {:?}",
            input.len(),
            began.elapsed()
        );
        inputs += 1;
    }
    println!("{name}: {inputs} inputs");
    assert!(inputs > 0);
}

/// Decodes `input` as it arrives, piece by piece, and checks that the answers fit together.
fn arrives<T: PartialEq + Debug, V: PartialEq + Debug>(
    input: &[u8],
    may_change: impl Fn(&T) -> bool,
    decode: impl Fn(&[u8]) -> Result<Progress<T>, V>,
) {
    let step = (input.len() / CUTS).max(1);
    let cuts = (0..=input.len()).step_by(step).chain([input.len()]);
    let mut last: Option<Result<(T, usize), V>> = None;
    for cut in cuts {
        let now = match decode(&input[..cut]) {
            Ok(Progress::NeedMore) => {
                assert!(last.is_none(), "{last:?} became unsure at {cut} of {input:02x?}");
                continue;
            }
            Ok(Progress::Done { value, consumed }) => {
                assert!(consumed <= cut, "{consumed} of {cut}");
                if may_change(&value) {
                    continue;
                }
                Ok((value, consumed))
            }
            Err(violation) => Err(violation),
        };
        match &last {
            Some(Ok(value)) => assert_eq!(now.as_ref().ok(), Some(value), "at {cut} of {input:02x?}"),
            // More bytes may show another offence, never that there was none.
            Some(Err(_)) => assert!(now.is_err(), "{last:?} became {now:?} at {cut} of {input:02x?}"),
            None => {}
        }
        last = Some(now);
    }
}

fn files(names: &[&str]) -> Vec<Vec<u8>> {
    let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/sniff/corpus");
    let mut samples = Vec::new();
    for name in names {
        let mut found: Vec<_> = std::fs::read_dir(corpus.join(name))
            .unwrap()
            .map(|file| file.unwrap().path())
            .collect();
        found.sort();
        samples.extend(
            found
                .into_iter()
                .filter(|path| path.is_file())
                .map(|path| std::fs::read(path).unwrap()),
        );
    }
    assert!(!samples.is_empty());
    samples
}

fn pings() -> Vec<Vec<u8>> {
    let with_host = legacy::Ping::WithHost {
        protocol: 78,
        host: "play.example.org".into(),
        port: 25565,
    };
    [legacy::Ping::Bare, legacy::Ping::Extended, with_host]
        .map(|ping| {
            let mut out = BytesMut::new();
            ping.encode(&mut out).unwrap();
            out.to_vec()
        })
        .to_vec()
}

fn players() -> Vec<Vec<u8>> {
    let mut samples = pings();
    for host in [
        "a.example.org",
        "a.example.org\0FML2\0",
        "a///203.0.113.9:1///2///3",
        "",
    ] {
        samples.push(java::join(host).to_vec());
        let mut query = java::hello(host, Next::Status);
        status::Query::Request.encode(&mut query);
        status::Query::Ping(-1).encode(&mut query);
        samples.push(query.to_vec());
    }
    samples.extend(files(&["http", "tls"]));
    samples
}

#[test]
fn the_first_bytes_of_minecraft() {
    fuzz("minecraft", &players(), |input| {
        arrives(input, |first: &First| !first.is_settled(), First::decode);
        if let Ok(Progress::Done { value, .. }) = First::decode(input) {
            let _ = value.hostname();
        }
        let _ = login::Start::decode(input);
        let _ = status::Query::decode(input);
    });
}

#[test]
fn what_a_minecraft_server_answers() {
    let mut samples = players();
    let listing = minecraft::Listing {
        motd: "a \u{1f980} §a".into(),
        icon: Some("data:image/png;base64,AAAA".into()),
        sample: vec!["alice".into()],
        ..minecraft::Listing::default()
    };
    let mut out = BytesMut::new();
    status::Reply::Listing(listing.clone()).encode(&mut out);
    samples.push(out.split().to_vec());
    login::encode_disconnect("no", &mut out);
    samples.push(out.split().to_vec());
    fuzz("minecraft server", &samples, |input| {
        let _ = status::Reply::decode(input);
        let _ = login::Reply::decode(input);
        arrives(input, |_: &String| false, status::decode_json);
        if let Ok(Progress::Done { value, .. }) = status::decode_json(input) {
            let _ = minecraft::Listing::from_json(&value);
        }
    });
}

#[test]
fn a_player_who_is_refused() {
    fuzz("refusal", &players(), |input| {
        let mut refusal = Refusal::new("no").shown_as(minecraft::Listing::default());
        for piece in input.chunks(7) {
            let step = refusal.on_bytes(piece);
            assert!(step.reply.len() < 64 * 1024);
        }
        let _ = refusal.on_pause();
    });
}

#[test]
fn list_pings_of_bedrock() {
    let ping = raknet::Ping {
        time: 1,
        client: Some(2),
        if_open: false,
    };
    let pong = raknet::Pong {
        time: 1,
        server: 2,
        id: "MCPE;Our World;800;1.21.80;3;20;123;level;Survival;1;19132;19133;".into(),
    };
    let samples = [ping.encode().to_vec(), pong.encode().unwrap().to_vec()];
    fuzz("raknet", &samples, |input| {
        let _ = raknet::is_offline(input);
        let _ = raknet::Ping::decode(input);
        if let Ok(pong) = raknet::Pong::decode(input) {
            let _ = raknet::Listing::parse(&pong.id).map(|listing| listing.to_string());
        }
    });
}

#[test]
fn hellos_of_tls() {
    fuzz("tls", &files(&["tls"]), |input| {
        arrives(input, |_: &tls::Hello| false, tls::Hello::decode);
    });
}

#[test]
fn heads_of_http() {
    let mut samples = files(&["http"]);
    samples.push(b"GET http://a.example.org:80/ HTTP/1.1\r\nHost: b\r\nX: y\r\n\r\n".to_vec());
    samples.push(b"CONNECT [2001:db8::1]:443 HTTP/1.0\r\nHost: [2001:db8::1]:443\r\n\r\n".to_vec());
    fuzz("http", &samples, |input| {
        arrives(input, |_: &http::Head| false, http::Head::decode);
    });
}

#[test]
fn headers_of_proxies() {
    let address = |text: &str| text.parse::<SocketAddr>().unwrap();
    let four = Addresses {
        source: address("203.0.113.9:4711"),
        destination: address("198.51.100.1:25565"),
    };
    let six = Addresses {
        source: address("[2001:db8::9]:4711"),
        destination: address("[2001:db8::1]:25565"),
    };
    let samples = [
        proxy::encode_v1(&four).to_vec(),
        proxy::encode_v1(&six).to_vec(),
        proxy::encode_v2(&four, Transport::Stream).to_vec(),
        proxy::encode_v2(&six, Transport::Datagram).to_vec(),
        b"PROXY UNKNOWN\r\n".to_vec(),
    ];
    fuzz("proxy", &samples, |input| {
        arrives(input, |_: &proxy::Proxied| false, proxy::decode);
    });
}

#[test]
fn the_first_packets_of_quic() {
    let samples = files(&["quic"]);
    let mut pieces = Dice(7);
    fuzz("quic", &samples, |input| {
        let _ = LongHeader::decode(input);
        let mut initials = Initials::new();
        // Now and then after a packet that is right, so that keys are there.
        if pieces.below(2) == 0 {
            let _ = initials.on_datagram(&samples[pieces.below(samples.len())]);
        }
        for _ in 0..10 {
            let _ = initials.on_datagram(input);
        }
    });
}

#[test]
fn headers_of_streams_from_a_relay() {
    let header = StreamHeader::Open {
        tunnel: TunnelId(1),
        session: SessionId(2),
        player: "203.0.113.9:4711".parse().unwrap(),
        local: "[2001:db8::1]:25565".parse().unwrap(),
        purpose: spawnpoint_proto::stream::Purpose::List,
    };
    fuzz("stream header", &[header.encode().to_vec()], |input| {
        if let Some((prefix, body)) = input.split_first_chunk() {
            let _ = StreamHeader::decode(*prefix, body);
        }
    });
}

#[test]
fn control_messages_of_both_sides() {
    let name = |name: &str| name.parse::<TunnelName>().unwrap();
    let request = control::TunnelRequest {
        public_port: Some(25_565),
        preferred_port: Some(25_566),
        game: Some("minecraft".to_owned()),
        redundancy: Some(true),
        speaks: Some("minecraft".to_owned()),
        names: Some(vec!["*.example.org".to_owned(), "mc.example.net".to_owned()]),
        away: Some("back soon".to_owned()),
        ..control::TunnelRequest::new(name("minecraft"), Protocol::Tcp)
    };
    let token = Token::new([7; 32]);
    let hello = control::Hello {
        versions: vec![1, 2],
        token: Some(token.clone()),
        agent: AgentId([1; 16]),
        software: "spawnpoint/0.1".to_owned(),
        tunnels: vec![request.clone(), request.clone()],
        resume: Some(control::ResumeLink {
            link: LinkId([2; 16]),
            ticket: Ticket::new([3; 32]),
            sessions: (0..20)
                .map(|number| control::Delivered {
                    session: SessionId(number),
                    offset: number * 70_000,
                })
                .collect(),
            more: Some(3),
        }),
        window: Some(2 << 20),
        repairs: Some(true),
        downlink: Some(1_000_000),
        more: Some(2),
        proof: Some(prove(&token, &[4; 32])),
    };
    let reply = control::TunnelReply {
        name: name("minecraft"),
        opened: Some(control::OpenedTunnel {
            id: TunnelId(3),
            public_host: "203.0.113.5".to_owned(),
            public_port: 25_565,
            idle_ms: 60_000,
            address: Some("anna.play.example.org".to_owned()),
            limited: None,
        }),
        refused: Some(control::Refusal::new(RefusalCode::PortBusy, "taken")),
    };
    let welcome = control::Welcome {
        version: 1,
        link: LinkId([2; 16]),
        ticket: Some(Ticket::new([3; 32])),
        resume_window_ms: 30_000,
        tunnels: vec![reply.clone(), reply.clone()],
        software: "spawnpoint/0.1".to_owned(),
        host: "anna".to_owned(),
        window: Some(2 << 20),
        lost: Some(vec![SessionId(1), SessionId(2)]),
        repairs: Some(true),
    };
    let ban = control::BanRequest {
        id: 1,
        prefix: Some("203.0.113.0/24".to_owned()),
        lift: Some(false),
        lasts_s: Some(7_200),
        reason: Some("griefing".to_owned()),
    };
    let bans = control::BanReply {
        id: 1,
        refused: Some("no".to_owned()),
        bans: vec![control::BanEntry {
            prefix: "203.0.113.0/24".to_owned(),
            left_s: Some(60),
            reason: "griefing".to_owned(),
        }],
        total: Some(1),
    };
    let messages = [
        Message::Hello(hello),
        Message::Welcome(welcome),
        Message::TunnelAdd(request),
        Message::TunnelReply(reply),
        Message::BanRequest(ban),
        Message::BanReply(bans),
        Message::GoAway(control::GoAway { deadline_ms: 1 }),
        Message::Notice(control::Notice {
            text: "words".to_owned(),
        }),
        Message::Unsupported(control::Unsupported { kind: 99 }),
    ];
    let samples: Vec<Vec<u8>> = messages
        .iter()
        .map(|message| {
            let mut wire = BytesMut::new();
            message.to_frame().encode(&mut wire);
            wire.to_vec()
        })
        .collect();
    fuzz("control", &samples, |input| {
        let mut buffer = BytesMut::from(input);
        while let Ok(Some(frame)) = Frame::decode(&mut buffer, MAX_FRAME) {
            let Ok(message) = Message::from_frame(&frame) else {
                continue;
            };
            // What is read is written so that it is read as the same.
            if !matches!(message, Message::Unknown(_)) {
                let again = Message::from_frame(&message.to_frame()).unwrap();
                assert_eq!(format!("{again:?}"), format!("{message:?}"));
            }
            assert!(!plain(&format!("{message:?}")).contains('\u{1b}'));
        }
    });
}

#[test]
fn datagrams_and_repairs_of_both_sides() {
    let mut samples = Vec::new();
    for kind in [
        Kind::Confirm,
        Kind::Unknown,
        Kind::Close,
        Kind::Packet {
            announced: None,
            fragment: None,
        },
        Kind::Packet {
            announced: Some(Announcement {
                tunnel: TunnelId(1),
                player: "[2001:db8::1]:4711".parse().unwrap(),
            }),
            fragment: Some(Fragment {
                packet: 7,
                index: 1,
                last: true,
            }),
        },
    ] {
        let mut wire = BytesMut::new();
        Header {
            flow: FlowId::new(3, 77),
            kind,
        }
        .encode(&mut wire);
        wire.extend_from_slice(b"what is carried");
        samples.push(wire.to_vec());
    }
    fuzz("datagram", &samples, |input| {
        let mut datagram = Bytes::copy_from_slice(input);
        if let Ok(header) = Header::decode(&mut datagram) {
            let mut wire = BytesMut::new();
            header.encode(&mut wire);
            assert_eq!(wire.len(), header.encoded_len());
            assert_eq!(Header::decode(&mut wire.freeze()), Ok(header));
        }
        let _ = Repair::decode(Bytes::copy_from_slice(input));
    });
}

#[test]
fn lists_invites_and_prefixes_that_people_bring() {
    let samples = [
        b"# list\n203.0.113.0/24\n2001:db8::/32 # note\n10.0.0.1\n".to_vec(),
        Invite {
            host: "play.example.org".to_owned(),
            port: 7_843,
            trust: Trust::Name,
            token: Token::new([2; 32]),
        }
        .to_string()
        .into_bytes(),
    ];
    fuzz("lists", &samples, |input| {
        let text = String::from_utf8_lossy(input);
        if let Ok(list) = parse_list(&text) {
            let set: PrefixSet = list.iter().copied().collect();
            assert!(
                list.iter()
                    .all(|prefix| set.contains(prefix.network()) && set.contains(prefix.broadcast()))
            );
        }
        let _ = text.parse::<Invite>();
    });
}
