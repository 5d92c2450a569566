//! The handshake against frames in any order and of any content; the shadow decides by the words of the protocol alone.

use bytes::{Bytes, BytesMut};
use spawnpoint_proto::control::{
    Delivered, GoAway, Hello, MAX_RESUMED, MAX_TUNNELS, Message, Notice, OpenedTunnel, Refusal, Reject, ResumeLink,
    TunnelRemove, TunnelReply, TunnelRequest, Unsupported, Welcome,
};
use spawnpoint_proto::frame::{Frame, MAX_FRAME};
use spawnpoint_proto::handshake::{Answer, Awaiting, Introduced};
use spawnpoint_proto::{
    AgentId, LinkId, Protocol, RefusalCode, RejectCode, SessionId, Ticket, Token, TunnelId, TunnelName, VERSIONS,
    Violation,
};

use crate::sim::seed::Dice;

const ROUNDS: usize = 400;

/// A relay meets first frames.
pub fn simulate_relay(dice: &mut Dice) {
    for _ in 0..ROUNDS {
        let sent = any_frame(dice);
        let frame = over_the_wire(dice, &sent);
        let said = Message::from_frame(&frame);
        match (Awaiting::default().on_frame(&frame), said) {
            (Ok(offered), Ok(Message::Hello(hello))) => {
                assert!(!announces_too_much(&hello), "{hello:?}");
                let common = VERSIONS.iter().find(|version| hello.versions.contains(version));
                assert_eq!(offered.version().ok(), common.copied(), "{:?}", hello.versions);
                let answer = match offered.version() {
                    Ok(version) => offered.accept(welcome(dice, version, &hello.tunnels)).0,
                    Err(reject) => offered.reject(reject),
                };
                over_the_wire(dice, &answer);
            }
            (Err(violation), Err(malformed)) => assert_eq!(violation, malformed),
            (Err(violation), Ok(Message::Hello(hello))) => {
                assert_eq!(violation, Violation::TooManyItems);
                assert!(announces_too_much(&hello), "a hello was refused");
            }
            (Err(violation), Ok(_)) => assert_eq!(violation, Violation::UnexpectedMessage),
            (Ok(_), other) => panic!("{other:?} passed for a hello"),
        }
    }
}

/// Whether more tunnels or sessions are to follow than a link can have.
fn announces_too_much(hello: &Hello) -> bool {
    let sessions = hello.resume.as_ref().and_then(|resume| resume.more).unwrap_or(0);
    hello.more.unwrap_or(0) as usize + hello.tunnels.len() > MAX_TUNNELS || sessions as usize > MAX_RESUMED
}

/// An agent meets first answers, most of them almost right.
pub fn simulate_agent(dice: &mut Dice) {
    for _ in 0..ROUNDS {
        let hello = hello(dice);
        let (_, introduced) = Introduced::new(hello.clone());
        let sent = any_answer(dice, &hello);
        let frame = over_the_wire(dice, &sent);
        let said = Message::from_frame(&frame);
        match (introduced.on_frame(&frame), said) {
            (Ok(Answer::Welcome(_)), Ok(Message::Welcome(welcome))) => {
                assert!(VERSIONS.contains(&welcome.version), "a version that we do not speak");
                assert!(
                    hello.versions.contains(&welcome.version),
                    "a version that was not offered"
                );
                let asked = hello.tunnels.iter().map(|tunnel| &tunnel.name);
                assert!(
                    asked.eq(welcome.tunnels.iter().map(|tunnel| &tunnel.name)),
                    "an answer to other tunnels"
                );
            }
            (Ok(Answer::Rejected(_)), Ok(Message::Reject(_))) => {}
            (Err(violation), Err(malformed)) => assert_eq!(violation, malformed),
            (Err(violation), Ok(_)) => assert_eq!(violation, Violation::UnexpectedMessage),
            (Ok(answer), said) => panic!("{said:?} was taken for {answer:?}"),
        }
    }
}

/// The frame as it comes out of the stream at the other end, cut at random.
fn over_the_wire(dice: &mut Dice, frame: &Frame) -> Frame {
    let (mut wire, mut buffer) = (BytesMut::new(), BytesMut::new());
    frame.encode(&mut wire);
    while !wire.is_empty() {
        assert_eq!(
            Frame::decode(&mut buffer, MAX_FRAME),
            Ok(None),
            "a frame before its end"
        );
        let cut = wire.len().min(1 + dice.index(2_000));
        buffer.extend_from_slice(&wire.split_to(cut));
    }
    Frame::decode(&mut buffer, MAX_FRAME).unwrap().unwrap()
}

/// A frame of any kind: well formed, damaged, or noise.
fn any_frame(dice: &mut Dice) -> Frame {
    let frame = if dice.chance(500) {
        Message::Hello(hello(dice)).to_frame()
    } else {
        any_message(dice).to_frame()
    };
    damaged(dice, frame)
}

/// Most often a welcome or a reject, sometimes wrong in one point.
fn any_answer(dice: &mut Dice, hello: &Hello) -> Frame {
    let version = if dice.chance(800) { 1 } else { dice.below(4) as u16 };
    let mut welcome = welcome(dice, version, &hello.tunnels);
    match dice.below(10) {
        0 => welcome.tunnels.push(reply(dice, "one-more".parse().unwrap())),
        1 => drop(welcome.tunnels.pop()),
        2 if !welcome.tunnels.is_empty() => {
            let at = dice.index(welcome.tunnels.len());
            welcome.tunnels[at].name = "another".parse().unwrap();
        }
        3 => welcome.tunnels.reverse(),
        _ => {}
    }
    let frame = match dice.below(10) {
        0..=6 => Message::Welcome(welcome).to_frame(),
        7 => Message::Reject(reject(dice)).to_frame(),
        _ => any_message(dice).to_frame(),
    };
    damaged(dice, frame)
}

fn damaged(dice: &mut Dice, mut frame: Frame) -> Frame {
    let mut body = frame.body.to_vec();
    match dice.below(10) {
        0 => frame.kind = dice.below(12) as u16,
        1 => body.truncate(dice.index(body.len() + 1)),
        2 if !body.is_empty() => {
            let at = dice.index(body.len());
            body[at] = dice.number() as u8;
        }
        3 => body = (0..dice.below(300)).map(|_| dice.number() as u8).collect(),
        _ => {}
    }
    frame.body = Bytes::from(body);
    frame
}

fn any_message(dice: &mut Dice) -> Message {
    match dice.below(11) {
        0 => Message::Hello(hello(dice)),
        1 => {
            let asked = requests(dice);
            Message::Welcome(welcome(dice, 1, &asked))
        }
        2 => Message::Reject(reject(dice)),
        3 => Message::TunnelAdd(request(dice, 0)),
        4 => Message::TunnelRemove(TunnelRemove { name: name(0) }),
        5 => Message::TunnelReply(reply(dice, name(1))),
        6 => Message::Delivered(delivered(dice)),
        7 => Message::GoAway(GoAway {
            deadline_ms: dice.number() as u32,
        }),
        8 => Message::Notice(Notice { text: text(dice) }),
        9 => Message::Unsupported(Unsupported {
            kind: dice.number() as u16,
        }),
        _ => Message::Unknown(dice.number() as u16),
    }
}

fn hello(dice: &mut Dice) -> Hello {
    let resume = dice.chance(300).then(|| ResumeLink {
        link: LinkId([7; 16]),
        ticket: Ticket::new([8; 32]),
        sessions: (0..dice.below(20)).map(|_| delivered(dice)).collect(),
        more: dice.chance(500).then(|| dice.below(100_000) as u32),
    });
    Hello {
        versions: (0..dice.below(4)).map(|_| dice.below(4) as u16).collect(),
        token: Some(Token::new([dice.number() as u8; 32])),
        proof: None,
        agent: AgentId([3; 16]),
        software: text(dice),
        tunnels: requests(dice),
        resume,
        window: dice.chance(500).then(|| dice.number() as u32),
        repairs: dice.chance(500).then(|| dice.chance(500)),
        downlink: dice.chance(500).then(|| dice.number()),
        more: dice.chance(300).then(|| dice.below(300) as u32),
    }
}

fn welcome(dice: &mut Dice, version: u16, asked: &[TunnelRequest]) -> Welcome {
    Welcome {
        version,
        link: LinkId([9; 16]),
        ticket: dice.chance(500).then(|| Ticket::new([1; 32])),
        resume_window_ms: dice.number() as u32,
        tunnels: asked.iter().map(|tunnel| reply(dice, tunnel.name.clone())).collect(),
        window: dice.chance(500).then(|| dice.number() as u32),
        lost: dice.chance(500).then(|| (0..dice.below(20)).map(SessionId).collect()),
        software: text(dice),
        repairs: dice.chance(500).then(|| dice.chance(500)),
        host: "desk".to_owned(),
    }
}

fn requests(dice: &mut Dice) -> Vec<TunnelRequest> {
    let count = if dice.chance(20) { 255 } else { dice.below(5) };
    (0..count).map(|number| request(dice, number)).collect()
}

fn request(dice: &mut Dice, number: u64) -> TunnelRequest {
    TunnelRequest {
        public_port: dice.chance(500).then(|| dice.number() as u16),
        preferred_port: dice.chance(500).then(|| dice.number() as u16),
        game: dice.chance(500).then(|| text(dice)),
        redundancy: dice.chance(500).then(|| dice.chance(500)),
        ..TunnelRequest::new(name(number), *dice.pick(&Protocol::ALL))
    }
}

fn reply(dice: &mut Dice, name: TunnelName) -> TunnelReply {
    let opened = dice.chance(700).then(|| OpenedTunnel {
        id: TunnelId(dice.number() as u32),
        public_host: "play.example.org".to_owned(),
        public_port: dice.number() as u16,
        idle_ms: dice.number() as u32,
        address: None,
        limited: None,
    });
    let refused = opened.is_none().then(|| Refusal {
        code: *dice.pick(RefusalCode::ALL),
        text: text(dice),
    });
    TunnelReply { name, opened, refused }
}

fn reject(dice: &mut Dice) -> Reject {
    Reject {
        code: *dice.pick(RejectCode::ALL),
        text: text(dice),
    }
}

fn delivered(dice: &mut Dice) -> Delivered {
    Delivered {
        session: SessionId(dice.number()),
        offset: dice.number(),
    }
}

fn name(number: u64) -> TunnelName {
    format!("tunnel-{number}").parse().unwrap()
}

fn text(dice: &mut Dice) -> String {
    "worte und mehr ".repeat(dice.index(5))
}
