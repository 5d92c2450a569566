#![allow(clippy::unwrap_used)]
use super::*;
use crate::minecraft::legacy::Ping;
use proptest::prelude::*;

const WHY: &str = "The server \"lobby\" is asleep.\nAsk Ada to wake it.";

fn hello(next: Next, protocol: i32) -> BytesMut {
    let mut out = BytesMut::new();
    let host = "lobby.example.net".to_owned();
    Handshake {
        protocol,
        host,
        port: 25565,
        next,
    }
    .encode(&mut out)
    .unwrap();
    out
}

fn status_talk() -> BytesMut {
    let mut out = hello(Next::Status, 769);
    status::Query::Request.encode(&mut out);
    status::Query::Ping(-7).encode(&mut out);
    out
}

fn login_talk(protocol: i32) -> BytesMut {
    let mut out = hello(Next::Login, protocol);
    login::Start { name: "Bob".into() }.encode(protocol, &mut out).unwrap();
    out
}

/// Everything a refusal says to `bytes` in pieces of `size`.
fn say(bytes: &[u8], size: usize) -> (Vec<u8>, Then) {
    let mut refusal = Refusal::new(WHY);
    let mut said = Vec::new();
    let mut then = Then::Read;
    for piece in bytes.chunks(size) {
        let step = refusal.on_bytes(piece);
        said.extend_from_slice(&step.reply);
        then = step.then;
    }
    (said, then)
}

fn legacy_entry(reply: &[u8]) -> Listing {
    match legacy::decode_reply(reply) {
        Ok(Progress::Done { value, .. }) => value,
        other => panic!("no entry: {other:?}"),
    }
}

#[test]
fn a_status_ping_gets_an_entry_that_is_not_outdated_and_its_pong() {
    for size in [1, 3, 1_000] {
        let (said, then) = say(&status_talk(), size);
        assert_eq!(then, Then::End(Outcome::Listed));
        let Ok(Progress::Done {
            value: status::Reply::Listing(listing),
            consumed,
        }) = status::Reply::decode(&said)
        else {
            panic!("no entry");
        };
        assert_eq!(
            (listing.protocol, listing.online, listing.max, listing.motd.as_str()),
            (769, 0, 0, WHY)
        );
        let pong = status::Reply::decode(&said[consumed..]);
        assert_eq!(
            pong,
            Ok(Progress::Done {
                value: status::Reply::Pong(-7),
                consumed: said.len() - consumed
            })
        );
    }
}

#[test]
fn the_entry_is_said_before_the_ping_comes() {
    let mut refusal = Refusal::new(WHY);
    let mut talk = hello(Next::Status, 47);
    status::Query::Request.encode(&mut talk);
    let step = refusal.on_bytes(&talk);
    assert!(!step.reply.is_empty());
    assert_eq!(step.then, Then::Read);
}

#[test]
fn a_login_of_any_version_gets_a_disconnect() {
    for protocol in [5, 47, 340, 759, 760, 763, 769] {
        for size in [1, 1_000] {
            let (said, then) = say(&login_talk(protocol), size);
            assert_eq!(then, Then::End(Outcome::Disconnected));
            let consumed = said.len();
            let value = login::Reply::Disconnect(WHY.into());
            assert_eq!(login::Reply::decode(&said), Ok(Progress::Done { value, consumed }));
        }
    }
}

#[test]
fn a_transferred_player_is_told_like_one_who_logs_in() {
    let mut talk = hello(Next::Transfer, 769);
    login::Start { name: "Bob".into() }.encode(769, &mut talk).unwrap();
    assert_eq!(say(&talk, 1_000).1, Then::End(Outcome::Disconnected));
}

#[test]
fn the_short_legacy_pings_are_answered_after_a_pause() {
    for (bytes, protocol) in [(&[0xfe][..], -1), (&[0xfe, 1], 61), (&[0xfe, 1, 0xfa], 61)] {
        let mut refusal = Refusal::new(WHY);
        for &byte in bytes {
            let step = refusal.on_bytes(&[byte]);
            assert_eq!((step.reply.len(), step.then), (0, Then::ReadBriefly));
        }
        let step = refusal.on_pause();
        assert_eq!(step.then, Then::End(Outcome::ListedLegacy));
        let listing = legacy_entry(&step.reply);
        assert_eq!(listing.protocol, protocol);
        assert_eq!((listing.online, listing.max), (0, 0));
        assert!(WHY.replace('\n', " ").starts_with(&listing.motd) && listing.motd.len() > 40);
    }
}

#[test]
fn a_legacy_ping_with_a_host_is_answered_at_once_with_its_own_protocol() {
    let mut bytes = BytesMut::new();
    Ping::WithHost {
        protocol: 74,
        host: "h".into(),
        port: 1,
    }
    .encode(&mut bytes)
    .unwrap();
    for size in [1, 1_000] {
        let (said, then) = say(&bytes, size);
        assert_eq!(then, Then::End(Outcome::ListedLegacy));
        assert_eq!(legacy_entry(&said).protocol, 74);
    }
}

#[test]
fn a_modern_frame_that_begins_like_a_legacy_ping_is_read_on() {
    let mut refusal = Refusal::new(WHY);
    assert_eq!(refusal.on_bytes(&[0xfe]).then, Then::ReadBriefly);
    assert_eq!(refusal.on_bytes(&[0x02]).then, Then::Read);
    assert_eq!(refusal.on_pause().then, Then::Read);
}

#[test]
fn anything_else_ends_without_a_word_and_stays_ended() {
    let garbage: [(&[u8], Violation); 4] = [
        (b"GET / HTTP/1.1\r\n", Violation::UnexpectedPacket),
        (b"SSH-2.0-OpenSSH_9.2\r\n", Violation::UnexpectedPacket),
        (b"\x16\x03\x01\x02\x00\x01\x00", Violation::UnexpectedPacket),
        (b"\x00\x00", Violation::EmptyFrame),
    ];
    for (bytes, violation) in garbage {
        let mut refusal = Refusal::new(WHY);
        let end = Step {
            reply: Bytes::new(),
            then: Then::End(Outcome::Unknown(violation)),
        };
        assert_eq!(refusal.on_bytes(bytes), end);
        assert_eq!(refusal.on_bytes(&status_talk()), end);
        assert_eq!(refusal.on_pause(), end);
    }
}

#[test]
fn a_second_request_for_the_entry_is_an_offence() {
    let mut talk = hello(Next::Status, 47);
    status::Query::Request.encode(&mut talk);
    status::Query::Request.encode(&mut talk);
    let (_, then) = say(&talk, 1_000);
    assert_eq!(then, Then::End(Outcome::Unknown(Violation::UnexpectedPacket)));
}

proptest! {
    #[test]
    fn no_bytes_in_no_pieces_panic_or_pile_up(pieces: Vec<Vec<u8>>, modern: bool) {
        let mut refusal = Refusal::new(WHY);
        if modern {
            refusal.on_bytes(&hello(Next::Login, 769));
        }
        for piece in pieces {
            refusal.on_bytes(&piece);
            refusal.on_pause();
        }
        prop_assert!(refusal.held.len() < 16 * 1_024);
    }
}
