#![allow(clippy::unwrap_used)]
use super::legacy::Ping;
use super::status::{Query, Reply};
use super::*;
use crate::Progress;
use bytes::BytesMut;
use proptest::prelude::*;

/// A 1.6.4 client that asks for `localhost:25565`, as documented.
const PING_WITH_HOST: &str = "fe01fa 000b 004d0043007c00500069006e00670048006f00730074 0019 49 0009 006c006f00630061006c0068006f00730074 000063dd";

/// The answer of a 1.4.2 server, as documented.
const KICK: &str = "ff0023 00a700310000 003400370000 0031002e0034002e00320000 \
    00410020004d0069006e0065006300720061006600740020005300650072007600650072 0000 0030 0000 00320030";

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn encoded(write: impl FnOnce(&mut BytesMut)) -> Vec<u8> {
    let mut out = BytesMut::new();
    write(&mut out);
    out.to_vec()
}

fn handshake(host: &str, next: Next) -> Handshake {
    Handshake {
        protocol: 769,
        host: host.into(),
        port: 25565,
        next,
    }
}

/// `bytes` decode to `value` whatever follows them, and every beginning of them needs more.
fn assert_decodes<T: std::fmt::Debug + PartialEq>(
    bytes: &[u8],
    value: T,
    decode: impl Fn(&[u8]) -> Result<Progress<T>, Violation>,
) {
    for cut in 0..bytes.len() {
        assert_eq!(
            decode(&bytes[..cut]),
            Ok(Progress::NeedMore),
            "cut to {cut} of {}",
            bytes.len()
        );
    }
    let done = Ok(Progress::Done {
        value,
        consumed: bytes.len(),
    });
    assert_eq!(decode(bytes), done);
    assert_eq!(decode(&[bytes, &[0xff; 9]].concat()), done);
}

#[test]
fn handshakes_keep_their_bytes() {
    let bytes = hex("10 00 81 06 09 6c6f63616c686f7374 63dd 01");
    let value = handshake("localhost", Next::Status);
    assert_eq!(encoded(|out| value.encode(out).unwrap()), bytes);
    assert_decodes(&bytes, value, Handshake::decode);

    // Protocol -1, as tools send it that do not care.
    let bytes = hex("13 00 ffffffff0f 09 6c6f63616c686f7374 63dd 02");
    let value = Handshake {
        protocol: -1,
        ..handshake("localhost", Next::Login)
    };
    assert_eq!(encoded(|out| value.encode(out).unwrap()), bytes);
    assert_decodes(&bytes, value, Handshake::decode);
}

#[test]
fn status_packets_keep_their_bytes() {
    assert_eq!(encoded(|out| Query::Request.encode(out)), hex("01 00"));
    let ping = hex("09 01 0000000000000102");
    assert_eq!(encoded(|out| Query::Ping(258).encode(out)), ping);
    assert_eq!(encoded(|out| Reply::Pong(258).encode(out)), ping);
    assert_decodes(&hex("0100"), Query::Request, Query::decode);
    assert_decodes(&ping, Query::Ping(258), Query::decode);
    assert_decodes(&ping, Reply::Pong(258), Reply::decode);
}

#[test]
fn login_packets_keep_their_bytes() {
    let start = login::Start { name: "Ada".into() };
    for (protocol, bytes) in [
        (758, "05 00 03 416461"),
        (759, "06 00 03 416461 00"),
        (760, "07 00 03 416461 00 00"),
        (763, "06 00 03 416461 00"),
        (764, "15 00 03 416461 00000000000000000000000000000000"),
    ] {
        let bytes = hex(bytes);
        assert_eq!(encoded(|out| start.encode(protocol, out).unwrap()), bytes);
        assert_decodes(&bytes, start.clone(), login::Start::decode);
    }
    let bytes = hex("0f 00 0d 7b2274657874223a226e6f227d");
    assert_eq!(encoded(|out| login::encode_disconnect("no", out)), bytes);
    assert_decodes(&bytes, login::Reply::Disconnect("no".into()), login::Reply::decode);
    // Set Compression: the server lets the player in.
    assert_decodes(&hex("03 03 8002"), login::Reply::Other(3), login::Reply::decode);
}

#[test]
fn a_vanilla_status_reply_is_understood() {
    let json = r#"{"version":{"name":"1.8.7","protocol":47},"players":{"max":100,"online":5,"sample":[{"name":"thinkofdeath","id":"4566e69f-c907-48ee-8d71-d7ba5aa00d20"}]},"description":{"text":"Hello world"},"favicon":"data:image/png;base64,AA"}"#;
    let bytes = encoded(|out| frame::write(out, 0, |fields| frame::write_string(fields, json)));
    let listing = Listing {
        version: "1.8.7".into(),
        protocol: 47,
        online: 5,
        max: 100,
        sample: vec!["thinkofdeath".into()],
        motd: "Hello world".into(),
        icon: Some("data:image/png;base64,AA".into()),
    };
    assert_decodes(&bytes, Reply::Listing(listing), Reply::decode);
}

#[test]
fn a_status_reply_may_lack_anything_but_being_an_object() {
    let reply = |json: &str| {
        Reply::decode(&encoded(|out| {
            frame::write(out, 0, |fields| frame::write_string(fields, json))
        }))
    };
    let bare = Listing {
        protocol: -1,
        ..Listing::default()
    };
    assert_eq!(
        reply("{}"),
        Ok(Progress::Done {
            value: Reply::Listing(bare),
            consumed: 5
        })
    );
    assert_eq!(reply("[]"), Err(Violation::BadJson));
    assert_eq!(reply("{"), Err(Violation::BadJson));
}

#[test]
fn legacy_pings_and_replies_keep_their_bytes() {
    let ping = Ping::WithHost {
        protocol: 73,
        host: "localhost".into(),
        port: 25565,
    };
    let bytes = hex(PING_WITH_HOST);
    assert_eq!(encoded(|out| ping.encode(out).unwrap()), bytes);
    for cut in 4..bytes.len() {
        assert_eq!(Ping::decode(&bytes[..cut]), Ok(Progress::NeedMore), "cut to {cut}");
    }
    assert_eq!(
        Ping::decode(&bytes),
        Ok(Progress::Done {
            value: ping,
            consumed: 54
        })
    );

    let listing = Listing {
        version: "1.4.2".into(),
        protocol: 47,
        max: 20,
        motd: "A Minecraft Server".into(),
        ..Listing::default()
    };
    assert_eq!(
        encoded(|out| legacy::encode_reply(&listing, &Ping::Extended, out)),
        hex(KICK)
    );
    assert_decodes(&hex(KICK), listing, legacy::decode_reply);

    let bare = Listing {
        protocol: -1,
        online: 1,
        max: 2,
        motd: "Hi".into(),
        ..Listing::default()
    };
    let bytes = hex("ff0006 00480069 00a70031 00a70032");
    assert_eq!(encoded(|out| legacy::encode_reply(&bare, &Ping::Bare, out)), bytes);
    assert_decodes(&bytes, bare, legacy::decode_reply);
}

#[test]
fn what_may_be_a_whole_ping_or_the_beginning_of_one_is_not_settled() {
    // The last is how mcstatus asks: it sends no more and waits.
    for (bytes, ping) in [
        (&[0xfe][..], Ping::Bare),
        (&[0xfe, 1], Ping::Extended),
        (&[0xfe, 1, 0xfa], Ping::Extended),
    ] {
        let first = First::Legacy(ping);
        assert!(!first.is_settled());
        assert_eq!(first.hostname(), None);
        assert_eq!(
            First::decode(bytes),
            Ok(Progress::Done {
                value: first,
                consumed: bytes.len()
            })
        );
    }
    let Ok(Progress::Done { value, .. }) = First::decode(&hex(PING_WITH_HOST)) else {
        panic!("no ping");
    };
    assert!(value.is_settled());
    assert_eq!(value.hostname().as_deref(), Some("localhost"));
}

#[test]
fn a_handshake_of_254_bytes_is_not_taken_for_a_legacy_ping() {
    // `FE 01` is its length. Others that begin with `FE` go on with another byte.
    for size in [254, 254 + 128, 254 + 256] {
        let host = format!("a\0{}", "x".repeat(size - 10));
        let value = handshake(&host, Next::Login);
        let bytes = encoded(|out| value.encode(out).unwrap());
        assert_eq!((bytes.len(), bytes[0]), (size + 2, 0xfe));
        assert_eq!(First::decode(&bytes[..3]), Ok(Progress::NeedMore));
        let consumed = bytes.len();
        assert_eq!(
            First::decode(&bytes),
            Ok(Progress::Done {
                value: First::Handshake(value),
                consumed
            })
        );
    }
}

#[test]
fn a_hostname_is_clean_and_the_raw_host_is_kept() {
    for (raw, clean) in [
        ("Play.Example.NET", "play.example.net"),
        ("play.example.net.", "play.example.net"),
        ("play.example.net\0FML\0", "play.example.net"),
        ("play.example.net.\0FML3\0", "play.example.net"),
        (
            "play.example.net\x0010.0.0.1\x00069a79f444e94726a5befca90e38aaf5",
            "play.example.net",
        ),
        // As TCPShield sends it, with and without a signature and what a mod adds.
        ("Play.example.net///203.0.113.7:41234///1700000000", "play.example.net"),
        (
            "play.example.net.///203.0.113.7:41234///1700000000///MEUCIQDc0Zk=\0FML2\0",
            "play.example.net",
        ),
        (
            "play.example.net\x00FML\x00///203.0.113.7:41234///1700000000",
            "play.example.net",
        ),
        ("///203.0.113.7:41234///1700000000", ""),
        ("play.example.net//x", "play.example.net//x"),
        ("::1", "::1"),
        ("", ""),
    ] {
        let value = handshake(raw, Next::Login);
        let bytes = encoded(|out| value.encode(out).unwrap());
        let Ok(Progress::Done { value, .. }) = Handshake::decode(&bytes) else {
            panic!("no handshake");
        };
        assert_eq!((value.host.as_str(), value.hostname().as_str()), (raw, clean));
    }
}

#[test]
fn a_host_name_ends_at_255_characters_and_a_suffix_at_4096() {
    let mut out = BytesMut::new();
    for (name, suffix, fits) in [(255, 4_096, true), (256, 0, false), (1, 4_097, false)] {
        let value = handshake(&format!("{}\0{}", "ä".repeat(name), "x".repeat(suffix)), Next::Login);
        assert_eq!(value.encode(&mut out).is_ok(), fits, "{name} {suffix}");
    }
    let bytes = out.to_vec();
    assert!(matches!(Handshake::decode(&bytes), Ok(Progress::Done { .. })));
    let signed = format!(
        "{}///203.0.113.7:41234///1700000000///{}",
        "x".repeat(255),
        "A".repeat(344)
    );
    assert_eq!(handshake(&signed, Next::Login).encode(&mut out), Ok(()));
    let long = encoded(|out| {
        frame::write(out, 0, |fields| {
            varint::write(fields, 769);
            frame::write_string(fields, &"x".repeat(256));
            fields.extend_from_slice(&[0, 0, 1]);
        });
    });
    assert_eq!(Handshake::decode(&long), Err(Violation::HostTooLong));
}

#[test]
fn what_other_protocols_send_is_named_at_the_second_byte() {
    for garbage in [&b"GE"[..], b"SSH-2.0-", b"\x16\x03", b"\x03\x01", b"* ", b"\x12\x01"] {
        assert_eq!(First::decode(garbage), Err(Violation::UnexpectedPacket), "{garbage:?}");
    }
}

#[test]
fn every_offence_of_a_player_has_its_name() {
    let cases: [(&str, Violation); 11] = [
        ("00", Violation::EmptyFrame),
        ("ffffff", Violation::VarIntTooLong),
        ("ffff7f", Violation::FrameTooLarge),
        ("01 01", Violation::UnexpectedPacket),
        ("01 00", Violation::PacketShort),
        // A remote desktop client.
        ("03 00 00 13 0e e0", Violation::PacketShort),
        ("08 00 00 01 61 63dd 01 00", Violation::TrailingBytes),
        ("07 00 00 01 ff 63dd 01", Violation::BadUnicode),
        ("07 00 00 01 61 63dd 04", Violation::BadNext),
        ("0b 00 00 ffffffff0f 61 63dd 01", Violation::HostTooLong),
        ("fe01fa 000c", Violation::BadLegacyPing),
    ];
    for (bytes, violation) in cases {
        assert_eq!(First::decode(&hex(bytes)), Err(violation), "{bytes}");
    }
    let with = |tail: &str| hex(&format!("{}{tail}", PING_WITH_HOST.split(" 0019").next().unwrap()));
    for (tail, violation) in [
        ("0006", Violation::BadLegacyPing),
        ("0008", Violation::BadLegacyPing),
        ("ffff", Violation::HostTooLong),
        ("0009 49 0002 0061 000063dd", Violation::BadLegacyPing),
        ("0009 49 0001 0061 000163dd", Violation::BadLegacyPing),
        ("0009 49 0001 d800 000063dd", Violation::BadUnicode),
    ] {
        assert_eq!(First::decode(&with(tail)), Err(violation), "{tail}");
    }
    let name = login::Start { name: "x".repeat(17) };
    assert_eq!(name.encode(47, &mut BytesMut::new()), Err(Violation::NameTooLong));
    let long = encoded(|out| frame::write(out, 0, |fields| frame::write_string(fields, &name.name)));
    assert_eq!(login::Start::decode(&long), Err(Violation::NameTooLong));
}

#[test]
fn a_legacy_reply_that_holds_no_entry_is_named() {
    for (bytes, violation) in [
        ("00", Violation::UnexpectedPacket),
        ("ff0101", Violation::TextTooLong),
        ("ff0001 d800", Violation::BadUnicode),
        ("ff0001 0061", Violation::BadLegacyReply),
        ("ff0000", Violation::BadLegacyReply),
    ] {
        assert_eq!(legacy::decode_reply(&hex(bytes)), Err(violation), "{bytes}");
    }
}

#[test]
fn a_legacy_message_cannot_break_out_of_its_field() {
    let listing = Listing {
        motd: "§aone\0two§§three\nfour".into(),
        version: "v\0w".into(),
        ..Listing::default()
    };
    for (ping, motd) in [
        (Ping::Bare, "one twothree four"),
        (Ping::Extended, "§aone two§§three four"),
    ] {
        let reply = encoded(|out| legacy::encode_reply(&listing, &ping, out));
        let Ok(Progress::Done { value, .. }) = legacy::decode_reply(&reply) else {
            panic!("no entry");
        };
        assert_eq!(value.motd, motd);
    }
}

#[test]
fn no_text_of_ours_is_longer_than_its_reader_takes() {
    for unit in ["\u{1}", "x", "ä", "🦀"] {
        let long = unit.repeat(40_000);
        let listing = Listing {
            version: long.clone(),
            protocol: i32::MIN,
            online: u32::MAX,
            max: u32::MAX,
            sample: vec![long.clone(); 100],
            motd: long.clone(),
            icon: Some("x".repeat(16_384)),
        };
        let status = encoded(|out| Reply::Listing(listing.clone()).encode(out));
        assert!(matches!(Reply::decode(&status), Ok(Progress::Done { .. })));
        let disconnect = encoded(|out| login::encode_disconnect(&long, out));
        assert!(matches!(login::Reply::decode(&disconnect), Ok(Progress::Done { .. })));
        for ping in [Ping::Bare, Ping::Extended] {
            let reply = encoded(|out| legacy::encode_reply(&listing, &ping, out));
            assert!(matches!(legacy::decode_reply(&reply), Ok(Progress::Done { .. })));
        }
    }
}

fn any_next() -> impl Strategy<Value = Next> {
    prop::sample::select(vec![Next::Status, Next::Login, Next::Transfer])
}

proptest! {
    #[test]
    fn handshakes_come_back(protocol: i32, host in "[ -~äß]{0,80}(\0FML[23]?\0)?", port: u16, next in any_next()) {
        let value = Handshake { protocol, host, port, next };
        assert_decodes(&encoded(|out| value.encode(out).unwrap()), value, Handshake::decode);
    }

    #[test]
    fn status_packets_come_back(number: i64, protocol: i32, online: u32, max: u32, motd in ".{0,80}", sample in prop::collection::vec("[a-z]{1,16}", 0..5), icon in prop::option::of("[a-z]{0,99}")) {
        assert_decodes(&encoded(|out| Query::Ping(number).encode(out)), Query::Ping(number), Query::decode);
        let reply = Reply::Listing(Listing { version: "x".into(), protocol, online, max, sample, motd, icon });
        assert_decodes(&encoded(|out| reply.encode(out)), reply, Reply::decode);
    }

    #[test]
    fn logins_come_back(name in "[a-zA-Z0-9_]{0,16}", protocol in 0..800, words in ".{0,80}") {
        let start = login::Start { name };
        assert_decodes(&encoded(|out| start.encode(protocol, out).unwrap()), start, login::Start::decode);
        let disconnect = encoded(|out| login::encode_disconnect(&words, out));
        assert_decodes(&disconnect, login::Reply::Disconnect(words), login::Reply::decode);
    }

    #[test]
    fn legacy_packets_come_back(protocol: u8, host in ".{0,80}", port: u16, online: u32, max: u32, motd in "[ -~äß]{0,40}") {
        let ping = Ping::WithHost { protocol, host, port };
        let bytes = encoded(|out| ping.encode(out).unwrap());
        prop_assert_eq!(First::decode(&bytes), Ok(Progress::Done { value: First::Legacy(ping.clone()), consumed: bytes.len() }));
        let listing = Listing { version: "x".into(), protocol: protocol.into(), online, max, motd, ..Listing::default() };
        assert_decodes(&encoded(|out| legacy::encode_reply(&listing, &ping, out)), listing.clone(), legacy::decode_reply);
        let bare = Listing { version: String::new(), protocol: -1, ..listing };
        assert_decodes(&encoded(|out| legacy::encode_reply(&bare, &Ping::Bare, out)), bare, legacy::decode_reply);
    }

    #[test]
    fn no_bytes_panic(mut bytes: Vec<u8>, framed: bool) {
        if framed {
            // Garbage that gets past the envelope reaches the fields.
            bytes.truncate(100);
            bytes.splice(0..0, [bytes.len() as u8 + 1, 0]);
        }
        let _ = (First::decode(&bytes), Handshake::decode(&bytes), Ping::decode(&bytes), legacy::decode_reply(&bytes));
        let _ = (Query::decode(&bytes), Reply::decode(&bytes), login::Start::decode(&bytes), login::Reply::decode(&bytes));
    }
}
