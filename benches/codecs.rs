//! What one packet, one player and one message cost: codecs, fragments, tables, queues and the gate, each alone and without a socket.
//!
//! `cargo bench -p spawnpoint-benches --bench codecs` takes under a minute. The whole tunnel is measured in `loopback.rs` and `wan.rs`.

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on has no figure to give")]

use std::hint::black_box;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use criterion::{BatchSize, Bencher, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use spawnpoint_core::admission::{self, Bounds, Circle, Gate};
use spawnpoint_core::flow::{self, FlowTable};
use spawnpoint_core::outbox::{self, Outbox};
use spawnpoint_proto::control::{Hello, Message, OpenedTunnel, TunnelReply, TunnelRequest};
use spawnpoint_proto::datagram::{Announcement, Header, Kind, MAX_PACKET};
use spawnpoint_proto::fragment::{Joined, Reassembler, split};
use spawnpoint_proto::frame::{Frame, MAX_FRAME};
use spawnpoint_proto::stream::{PREFIX, Purpose, StreamHeader};
use spawnpoint_proto::{AgentId, CertificateHash, FlowId, Invite, Protocol, SessionId, Time, Token, Trust, TunnelId};

/// A datagram that most paths take: QUIC's on an MTU of 1,500.
const DATAGRAM: usize = 1_414;

/// A flow of these tables ends after this long.
const IDLE: Duration = Duration::from_secs(60);

criterion_group! {
    name = codecs;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .without_plots();
    targets = datagram_header, control_messages, stream_header, fragments, flow_table, queues, gate, invite
}
criterion_main!(codecs);

fn datagram_header(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("datagram header");
    let announced = Header {
        flow: FlowId(7),
        kind: Kind::Packet {
            announced: Some(Announcement {
                tunnel: TunnelId(1),
                player: player(9),
            }),
            fragment: None,
        },
    };
    for (name, header) in [("known flow", Header::packet(FlowId(7))), ("announced flow", announced)] {
        group.bench_function(BenchmarkId::new("encode", name), |bencher| {
            let mut out = BytesMut::with_capacity(64);
            bencher.iter(|| {
                out.clear();
                black_box(&header).encode(&mut out);
            });
        });
        group.bench_function(BenchmarkId::new("decode", name), |bencher| {
            let mut out = BytesMut::new();
            header.encode(&mut out);
            let datagram = out.freeze();
            bencher.iter(|| Header::decode(&mut black_box(datagram.clone())).unwrap());
        });
    }
    group.finish();
}

fn control_messages(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("control round trip");
    let hello = Message::Hello(Hello {
        versions: vec![1],
        token: Some(Token::new([1; 32])),
        proof: None,
        agent: AgentId([2; 16]),
        software: "spawnpoint 0.1.0".to_owned(),
        tunnels: vec![request("minecraft", Protocol::Tcp), request("bedrock", Protocol::Udp)],
        resume: None,
        window: None,
        repairs: Some(true),
        downlink: None,
        more: None,
    });
    let reply = Message::TunnelReply(TunnelReply {
        name: "minecraft".parse().unwrap(),
        opened: Some(OpenedTunnel {
            id: TunnelId(1),
            public_host: "play.example.org".to_owned(),
            public_port: 25_565,
            idle_ms: 60_000,
            address: None,
            limited: None,
        }),
        refused: None,
    });
    group.bench_function("hello", |bencher| round_trip(bencher, &hello));
    group.bench_function("tunnel reply", |bencher| round_trip(bencher, &reply));
    group.finish();
}

fn round_trip(bencher: &mut Bencher, message: &Message) {
    let mut wire = BytesMut::new();
    bencher.iter(|| {
        black_box(message).to_frame().encode(&mut wire);
        let frame = Frame::decode(&mut wire, MAX_FRAME).unwrap().unwrap();
        Message::from_frame(&frame).unwrap()
    });
}

fn request(name: &str, protocol: Protocol) -> TunnelRequest {
    TunnelRequest {
        preferred_port: Some(25_565),
        game: Some("minecraft".to_owned()),
        ..TunnelRequest::new(name.parse().unwrap(), protocol)
    }
}

fn stream_header(criterion: &mut Criterion) {
    let header = StreamHeader::Open {
        tunnel: TunnelId(1),
        session: SessionId(77),
        player: player(9),
        local: player(10),
        purpose: Purpose::Play,
    };
    criterion.bench_function("stream header/round trip", |bencher| {
        bencher.iter(|| {
            let wire = black_box(&header).encode();
            let (prefix, body) = wire.split_first_chunk::<PREFIX>().unwrap();
            StreamHeader::decode(*prefix, body).unwrap()
        });
    });
}

fn fragments(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("split and join");
    for length in [200, 1_200, 9_000, MAX_PACKET] {
        let packet = vec![7; length];
        group.throughput(Throughput::Bytes(length as u64));
        group.bench_with_input(BenchmarkId::from_parameter(length), &packet, |bencher, packet| {
            let mut reassembler = Reassembler::default();
            bencher.iter(|| cross(&mut reassembler, packet));
        });
    }
    group.finish();
}

/// A packet cut at one end and whole again at the other.
fn cross(reassembler: &mut Reassembler, packet: &[u8]) -> Bytes {
    for mut datagram in split(FlowId(1), None, black_box(packet), 1, DATAGRAM) {
        let Kind::Packet { fragment, .. } = Header::decode(&mut datagram).unwrap().kind else {
            unreachable!("only packets are sent");
        };
        let Some(fragment) = fragment else { return datagram };
        if let Joined::Packet(packet) = reassembler.on_fragment(Time::ZERO, fragment, datagram).unwrap() {
            return packet;
        }
    }
    unreachable!("nothing is lost here");
}

fn flow_table(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("flow table");
    group.throughput(Throughput::Elements(1));
    for flows in [1, 1_000, 60_000] {
        group.bench_with_input(
            BenchmarkId::new("packet of a known player", flows),
            &flows,
            |bencher, &flows| {
                let mut table = filled(flows);
                let mut number = 0;
                bencher.iter(|| {
                    // A stride that meets every player, and no two neighbours in a row.
                    number = (number + 7_919) % flows;
                    table.on_player_packet(Time::ZERO, player(number), 100).unwrap()
                });
            },
        );
    }
    for flows in [0, 60_000] {
        group.bench_with_input(BenchmarkId::new("open and expire", flows), &flows, |bencher, &flows| {
            let mut table = filled(flows);
            // The flows that are there live on; the one that is opened is the first to end.
            (0..flows).for_each(|number| {
                table.on_player_packet(Time::ZERO + IDLE * 1_000, player(number), 100);
            });
            table.handle_timeout(Time::ZERO + IDLE);
            bencher.iter(|| {
                table.open(Time::ZERO, player(u32::MAX), ()).unwrap();
                table.handle_timeout(Time::ZERO + IDLE)
            });
        });
    }
    group.finish();
}

fn filled(flows: u32) -> FlowTable<()> {
    let limits = flow::Limits {
        idle: IDLE,
        unanswered: IDLE,
        flows: 65_536,
    };
    let mut table = FlowTable::new(limits, 0);
    (0..flows).for_each(|number| {
        let flow = table.open(Time::ZERO, player(number), ()).unwrap();
        // Only half of a table is for players whom nobody has answered.
        table.on_origin_packet(Time::ZERO, flow, 100).unwrap();
    });
    table
}

fn queues(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("outbox");
    group.throughput(Throughput::Elements(1));
    for flows in [1, 200] {
        group.bench_with_input(BenchmarkId::new("push and pop", flows), &flows, |bencher, &flows| {
            let mut outbox = Outbox::new(outbox::Limits::default());
            let datagram = Bytes::from(vec![0; 200]);
            let push =
                |outbox: &mut Outbox, flow| outbox.push(Time::ZERO, FlowId(flow), std::iter::once(datagram.clone()));
            // One datagram waits in every flow, and the one that is served adds the next.
            (0..flows).for_each(|flow| push(&mut outbox, flow));
            let mut flow = 0;
            bencher.iter(|| {
                flow = (flow + 1) % flows;
                push(&mut outbox, flow);
                outbox.pop(Time::ZERO).unwrap()
            });
        });
    }
    group.finish();
}

fn gate(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("gate");
    group.throughput(Throughput::Elements(1));
    let limits = admission::Limits {
        relay: Bounds::of_players(100_000),
        prefix: Bounds {
            players: 10,
            half_open: 10,
            rate: 1_000_000,
            burst: 1_000_000,
        },
        prefixes: 131_072,
        siege: u32::MAX,
    };
    let host = Arc::new(Circle::of_host(Bounds::of_players(100_000)));
    for players in [0, 60_000] {
        group.bench_with_input(
            BenchmarkId::new("admit and leave", players),
            &players,
            |bencher, &players| {
                let gate = Gate::new(limits);
                let admit = |number| gate.admit(Time::ZERO, player(number).ip(), &host);
                let inside: Vec<_> = (0..players).map(|number| admit(number).unwrap()).collect();
                let mut now = Time::ZERO;
                bencher.iter(|| {
                    now = now + Duration::from_micros(1);
                    gate.admit(now, player(u32::MAX).ip(), &host).unwrap()
                });
                drop(inside);
            },
        );
    }
    group.finish();
}

fn invite(criterion: &mut Criterion) {
    let text = Invite {
        host: "play.example.org".to_owned(),
        port: 7_843,
        trust: Trust::Pin(CertificateHash([1; 32])),
        token: Token::new([2; 32]),
    }
    .to_string();
    criterion.bench_function("invite/parse", |bencher| {
        bencher.iter_batched(
            || text.clone(),
            |text| text.parse::<Invite>().unwrap(),
            BatchSize::SmallInput,
        );
    });
}

/// An address of its own for every number.
fn player(number: u32) -> SocketAddr {
    SocketAddr::new(IpAddr::from(number.to_be_bytes()), 50_000)
}
