#![allow(clippy::unwrap_used)]
use super::*;
use proptest::prelude::*;

/// `content` behind its length in `N` bytes.
fn sized<const N: usize>(content: &[u8]) -> Vec<u8> {
    let size = (content.len() as u64).to_be_bytes();
    [&size[8 - N..], content].concat()
}

fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &sized::<2>(content)].concat()
}

fn server_name(name: &[u8]) -> Vec<u8> {
    extension(0, &sized::<2>(&[&[0], &sized::<2>(name)[..]].concat()))
}

/// What every client since TLS 1.2 has: signature schemes, groups, versions.
fn usual() -> Vec<u8> {
    [
        extension(13, &sized::<2>(&[4, 3, 8, 4])),
        extension(10, &sized::<2>(&[0, 29])),
        extension(43, &sized::<1>(&[3, 4])),
    ]
    .concat()
}

fn message_with(extensions: &[u8]) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend_from_slice(&[7; 32]);
    body.extend(sized::<1>(&[8; 32]));
    body.extend(sized::<2>(&[0x13, 0x01]));
    body.extend(sized::<1>(&[0]));
    body.extend(sized::<2>(extensions));
    [&[CLIENT_HELLO], &sized::<3>(&body)[..]].concat()
}

/// A ClientHello for `name` that offers `alpn`, with `padding` more bytes.
pub(crate) fn message(name: &str, alpn: &[&str], padding: usize) -> Vec<u8> {
    let offered: Vec<u8> = alpn.iter().flat_map(|name| sized::<1>(name.as_bytes())).collect();
    message_with(
        &[
            server_name(name.as_bytes()),
            usual(),
            extension(16, &sized::<2>(&offered)),
            extension(21, &vec![0; padding]),
        ]
        .concat(),
    )
}

/// `message` in records of up to `size` bytes.
fn records(message: &[u8], size: usize) -> Vec<u8> {
    message
        .chunks(size)
        .flat_map(|part| [&[HANDSHAKE, MAJOR, 1], &sized::<2>(part)[..]].concat())
        .collect()
}

fn hello(name: &str, alpn: &[&str]) -> Hello {
    Hello {
        server_name: Some(name.into()),
        alpn: alpn.iter().map(|name| name.as_bytes().to_vec()).collect(),
    }
}

fn done(value: Hello, consumed: usize) -> Result<Progress<Hello>, Violation> {
    Ok(Progress::Done { value, consumed })
}

/// What a whole hello with these extensions comes to.
fn with(extensions: &[Vec<u8>]) -> Result<Hello, Violation> {
    let bytes = records(&message_with(&extensions.concat()), MAX_RECORD);
    match Hello::decode(&bytes)? {
        Progress::Done { value, .. } => Ok(value),
        Progress::NeedMore => panic!("not whole"),
    }
}

#[test]
fn a_hello_is_read_however_its_records_are_cut_and_every_beginning_needs_more() {
    let message = message("play.example.net", &["h2", "http/1.1"], 100);
    for size in [message.len(), message.len() - 1, 100, 5, 4] {
        let bytes = records(&message, size);
        for cut in 0..bytes.len() {
            assert_eq!(Hello::decode(&bytes[..cut]), Ok(Progress::NeedMore), "{size}: {cut}");
            assert!(looks_like(&bytes[..cut]), "{size}: {cut}");
        }
        let value = hello("play.example.net", &["h2", "http/1.1"]);
        assert_eq!(Hello::decode(&bytes), done(value.clone(), bytes.len()));
        assert_eq!(
            Hello::decode(&[&bytes[..], &[0xff; 9]].concat()),
            done(value, bytes.len())
        );
    }
}

#[test]
fn a_hello_recorded_from_openssl_is_read() {
    // `openssl s_client -servername Play.Example.net -alpn h2,http/1.1`, OpenSSL 3.0.
    let bytes: &[u8] = include_bytes!("../../corpus/tls/openssl.bin");
    let value = hello("play.example.net", &["h2", "http/1.1"]);
    assert_eq!(Hello::decode(bytes), done(value, bytes.len()));
}

#[test]
fn a_server_name_is_clean_and_an_address_is_none() {
    for (raw, clean) in [
        ("Play.Example.NET", Some("play.example.net")),
        ("play.example.net.", Some("play.example.net")),
        ("_minecraft.my_host.net", Some("_minecraft.my_host.net")),
        ("xn--bcher-kva.example", Some("xn--bcher-kva.example")),
        ("localhost", Some("localhost")),
        ("203.0.113.7", None),
        ("2001:db8::1", None),
    ] {
        let read = with(&[server_name(raw.as_bytes()), usual()]).unwrap();
        assert_eq!(read.server_name.as_deref(), clean, "{raw}");
    }
    assert_eq!(with(&[usual()]), Ok(Hello::default()));
}

#[test]
fn the_largest_hello_is_read_and_a_larger_one_is_refused_at_its_length() {
    let room = MAX_HELLO - message("a.b", &["x"], 0).len();
    let largest = message("a.b", &["x"], room);
    assert_eq!(largest.len(), MAX_HELLO);
    for size in [MAX_RECORD, MAX_HELLO / MAX_RECORDS] {
        let bytes = records(&largest, size);
        assert_eq!(Hello::decode(&bytes), done(hello("a.b", &["x"]), bytes.len()));
    }
    let larger = records(&message("a.b", &["x"], room + 1), MAX_RECORD);
    assert_eq!(Hello::decode(&larger[..8]), Ok(Progress::NeedMore));
    assert_eq!(Hello::decode(&larger[..9]), Err(Violation::HelloTooLarge));
}

#[test]
fn a_hello_in_too_many_records_is_not_waited_for() {
    let bytes = records(&message("play.example.net", &[], 0)[..MAX_RECORDS + 1], 1);
    let most = 6 * MAX_RECORDS;
    assert_eq!(Hello::decode(&bytes[..most - 1]), Ok(Progress::NeedMore));
    assert_eq!(Hello::decode(&bytes[..most]), Err(Violation::TooManyRecords));
    assert_eq!(Hello::decode(&bytes), Err(Violation::TooManyRecords));
}

#[test]
fn every_offence_has_its_name() {
    let offence = |bytes: &[u8]| Hello::decode(bytes).unwrap_err();
    for garbage in [
        &b"G"[..],
        b"\x10\x00",
        b"\x16\x00",
        b"\x16\x03\x05",
        b"\x80\x2e\x01",
        b"\x15\x03\x01",
        b"SSH",
    ] {
        assert_eq!(offence(garbage), Violation::NotTls, "{garbage:?}");
        assert!(!looks_like(garbage), "{garbage:?}");
    }
    assert_eq!(offence(&[22, 3, 1, 0, 0]), Violation::EmptyRecord);
    assert_eq!(offence(&[22, 3, 1, 0x40, 1]), Violation::RecordTooLarge);
    assert_eq!(offence(&[22, 3, 1, 0, 9, 2]), Violation::NotClientHello);
    assert!(!looks_like(&[22, 3, 1, 0, 9, 2]) && looks_like(&[22, 3, 1, 0, 9, 1]) && looks_like(&[]));

    let whole = message("a.b", &["x"], 0);
    assert_eq!(
        offence(&records(&[&whole[..], &[1]].concat(), MAX_RECORD)),
        Violation::TrailingBytes
    );
    // A second record that is none of a handshake.
    let mut bytes = records(&whole, whole.len() - 1);
    let second = RECORD_HEADER + whole.len() - 1;
    bytes[second] = 23;
    assert_eq!(offence(&bytes), Violation::NotTls);
    // Lengths inside that contradict each other.
    let mut bytes = records(&whole, MAX_RECORD);
    bytes[RECORD_HEADER + MESSAGE_HEADER + 2 + 32] = 0xff;
    assert_eq!(offence(&bytes), Violation::BadHello);

    for name in [&b""[..], b"-", b"a..b", b"a b", b"\xff", b"a.-b.c"] {
        let violation = with(&[server_name(name), usual()]).unwrap_err();
        let expected = if name.is_empty() {
            Violation::BadHello
        } else {
            Violation::BadServerName
        };
        assert_eq!(violation, expected, "{name:?}");
    }
    let one = [&[0], &sized::<2>(b"a.b")[..]].concat();
    let twice = extension(0, &sized::<2>(&[&one[..], &one].concat()));
    assert_eq!(with(&[twice, usual()]), Err(Violation::BadServerName));
    assert_eq!(with(&[server_name(b"a.b")]), Err(Violation::TooOld));
    assert_eq!(with(&[usual(), usual()]), Err(Violation::BadHello));
}

#[test]
fn the_alert_keeps_its_bytes() {
    assert_eq!(unrecognized_name()[..], [0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 0x70]);
}

proptest! {
    #[test]
    fn any_name_and_protocols_come_back(
        name in "[a-z0-9]{1,20}(\\.[a-z][a-z0-9]{0,20}){1,4}",
        alpn in prop::collection::vec("[a-z0-9/.]{1,20}", 1..5),
        size in 20..400usize,
    ) {
        let alpn: Vec<&str> = alpn.iter().map(String::as_str).collect();
        let bytes = records(&message(&name, &alpn, 0), size);
        prop_assert_eq!(Hello::decode(&bytes), done(hello(&name, &alpn), bytes.len()));
    }

    #[test]
    fn no_bytes_panic(
        bytes: Vec<u8>,
        in_record: bool,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let _ = (Hello::decode(&bytes), looks_like(&bytes), Hello::from_message(&bytes), message_size(&bytes));
        let mut whole = message("play.example.net", &["h2"], 0);
        if in_record {
            whole = records(&whole, 60);
        }
        for (at, byte) in changes {
            let at = at.index(whole.len());
            whole[at] = byte;
        }
        let _ = (Hello::decode(&whole), Hello::from_message(&whole));
        let framed = [&[HANDSHAKE, MAJOR, 1], &sized::<2>(&bytes)[..]].concat();
        let _ = Hello::decode(&framed);
    }
}
