#![allow(clippy::unwrap_used)]
use super::*;
use proptest::prelude::*;

fn addresses(source: &str, destination: &str) -> Addresses {
    Addresses {
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
    }
}

/// A binary header with these fields.
fn binary(version_and_command: u8, kind: u8, rest: &[u8]) -> Vec<u8> {
    let size = (rest.len() as u16).to_be_bytes();
    [v2::SIGNATURE, &[version_and_command, kind], &size, rest].concat()
}

/// `bytes` decode to `value` whatever follows them, and every beginning of them needs more.
fn assert_decodes(bytes: &[u8], value: Proxied) {
    for cut in 0..bytes.len() {
        assert_eq!(decode(&bytes[..cut]), Ok(Progress::NeedMore), "cut to {cut}");
    }
    let consumed = bytes.len();
    for after in [&b""[..], b"GET / HTTP/1.1\r\n", b"\r\n\r\n\0\r\nQUIT\n"] {
        let done = Ok(Progress::Done { value, consumed });
        assert_eq!(decode(&[bytes, after].concat()), done);
    }
}

#[test]
fn headers_of_both_versions_keep_their_bytes() {
    let v4 = addresses("192.168.0.1:56324", "192.168.0.11:443");
    let line = b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n";
    assert_eq!(encode_v1(&v4), line[..]);
    assert_decodes(line, Proxied::Addresses(v4));
    let rest = [192, 168, 0, 1, 192, 168, 0, 11, 0xdc, 0x04, 0x01, 0xbb];
    for (transport, kind) in [(Transport::Stream, 0x11), (Transport::Datagram, 0x12)] {
        let bytes = binary(0x21, kind, &rest);
        assert_eq!(encode_v2(&v4, transport), bytes);
        assert_decodes(&bytes, Proxied::Addresses(v4));
    }

    let v6 = addresses("[2001:db8::1]:1", "[2001:db8::2]:65535");
    let line = b"PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n";
    assert_eq!(encode_v1(&v6), line[..]);
    assert_decodes(line, Proxied::Addresses(v6));
    let mut rest = [0; 36];
    rest[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
    rest[16..20].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
    (rest[15], rest[31]) = (1, 2);
    rest[32..].copy_from_slice(&[0, 1, 0xff, 0xff]);
    for (transport, kind) in [(Transport::Stream, 0x21), (Transport::Datagram, 0x22)] {
        let bytes = binary(0x21, kind, &rest);
        assert_eq!(encode_v2(&v6, transport), bytes);
        assert_decodes(&bytes, Proxied::Addresses(v6));
    }
}

#[test]
fn addresses_of_two_families_are_written_as_ipv6_and_come_back_as_they_were() {
    let mixed = addresses("198.51.100.7:4000", "[2001:db8::2]:25565");
    assert_eq!(
        encode_v1(&mixed),
        &b"PROXY TCP6 ::ffff:198.51.100.7 2001:db8::2 4000 25565\r\n"[..]
    );
    assert_eq!(encode_v2(&mixed, Transport::Stream)[13], 0x21);
    assert_decodes(&encode_v1(&mixed), Proxied::Addresses(mixed));
    assert_decodes(&encode_v2(&mixed, Transport::Datagram), Proxied::Addresses(mixed));
}

#[test]
fn an_ipv4_address_of_a_dual_socket_is_written_and_read_as_ipv4() {
    let dual = addresses("[::ffff:198.51.100.7]:4000", "[::ffff:203.0.113.1]:25565");
    let plain = addresses("198.51.100.7:4000", "203.0.113.1:25565");
    assert_eq!(encode_v1(&dual), encode_v1(&plain));
    assert_eq!(
        encode_v2(&dual, Transport::Stream),
        encode_v2(&plain, Transport::Stream)
    );
    assert_decodes(
        b"PROXY TCP6 ::ffff:198.51.100.7 ::ffff:203.0.113.1 4000 25565\r\n",
        Proxied::Addresses(plain),
    );
}

#[test]
fn a_header_without_addresses_is_local() {
    for line in [
        &b"PROXY UNKNOWN\r\n"[..],
        b"PROXY UNKNOWN ffff::1 whatever the proxy likes to say\r\n",
        b"PROXY UNKNOWN \xff\xff\r\n",
    ] {
        assert_decodes(line, Proxied::Local);
    }
    // LOCAL, whatever family it has; the unspecified family; UNIX paths, which are nobody's address; addresses of no transport.
    assert_decodes(&binary(0x20, 0x00, &[]), Proxied::Local);
    assert_decodes(&binary(0x20, 0xff, &[1, 2, 3]), Proxied::Local);
    assert_decodes(&binary(0x20, 0x11, &[7; 12]), Proxied::Local);
    assert_decodes(&binary(0x21, 0x00, &[7; 12]), Proxied::Local);
    assert_decodes(&binary(0x21, 0x31, &[7; 216]), Proxied::Local);
    assert_decodes(&binary(0x21, 0x10, &[]), Proxied::Local);
}

#[test]
fn what_a_proxy_adds_after_the_addresses_is_passed_over() {
    let v4 = addresses("1.2.3.4:5", "6.7.8.9:10");
    let mut rest = vec![1, 2, 3, 4, 6, 7, 8, 9, 0, 5, 0, 10];
    rest.extend_from_slice(&[0x04, 0, 3, 0, 0, 0, 0x20, 0xff, 0xff]);
    assert_decodes(&binary(0x21, 0x11, &rest), Proxied::Addresses(v4));
    rest.resize(v2::MAX_REST, 0xee);
    assert_decodes(&binary(0x21, 0x11, &rest), Proxied::Addresses(v4));
}

#[test]
fn the_longest_line_is_read_and_a_longer_one_is_not_waited_for() {
    let longest = format!("PROXY UNKNOWN {}\r\n", "x".repeat(107 - 16));
    assert_decodes(longest.as_bytes(), Proxied::Local);
    let endless = format!("PROXY UNKNOWN {}", "x".repeat(200));
    assert_eq!(decode(&endless.as_bytes()[..106]), Ok(Progress::NeedMore));
    assert_eq!(decode(&endless.as_bytes()[..107]), Err(Violation::LineTooLong));
    assert_eq!(decode(endless.as_bytes()), Err(Violation::LineTooLong));
    // The end of line of what follows does not count.
    assert_eq!(decode(format!("{endless}\r\n").as_bytes()), Err(Violation::LineTooLong));

    let worst = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
    let worst = addresses(&format!("[{worst}]:65535"), &format!("[{worst}]:65535"));
    assert!(encode_v1(&worst).len() <= 107);
}

#[test]
fn every_offence_has_its_name() {
    for bytes in [&b"G"[..], b"PROXX", b"proxy ", b"\r\n\r\n\0\r\nQUIP", b"\0", b"\r\nX"] {
        assert_eq!(decode(bytes), Err(Violation::NotProxy), "{bytes:?}");
    }
    for line in [
        "PROXY ",
        "PROXY TCP4",
        "PROXY TCP5 1.2.3.4 6.7.8.9 5 10",
        "PROXY tcp4 1.2.3.4 6.7.8.9 5 10",
        "PROXY  TCP4 1.2.3.4 6.7.8.9 5 10",
        "PROXY TCP4 1.2.3.4 6.7.8.9 5",
        "PROXY TCP4 1.2.3.4 6.7.8.9 5 10 11",
        "PROXY TCP4 1.2.3.4 6.7.8.9 5 10 ",
        "PROXY TCP4 1.2.3.4 6.7.8.9 5 65536",
        "PROXY TCP4 1.2.3.4 6.7.8.9 5 +10",
        "PROXY TCP4 1.2.3.4 6.7.8.9 05 10",
        "PROXY TCP4 1.2.3.4 6.7.8.256 5 10",
        "PROXY TCP4 01.2.3.4 6.7.8.9 5 10",
        "PROXY TCP4 ::1 ::2 5 10",
        "PROXY TCP6 1.2.3.4 6.7.8.9 5 10",
        "PROXY TCP6 fe80::1%eth0 ::2 5 10",
    ] {
        assert_eq!(
            decode(format!("{line}\r\n").as_bytes()),
            Err(Violation::BadLine),
            "{line}"
        );
    }
    assert_eq!(decode(b"PROXY TCP4 \xff\r\n"), Err(Violation::BadLine));
    // The fixed part is judged before the rest arrives.
    let fixed = |version_and_command, kind, size: u16| {
        let mut bytes = binary(version_and_command, kind, &[]);
        bytes[14..].copy_from_slice(&size.to_be_bytes());
        decode(&bytes)
    };
    assert_eq!(fixed(0x11, 0x11, 12), Err(Violation::BadVersion));
    assert_eq!(fixed(0x22, 0x11, 12), Err(Violation::BadCommand));
    assert_eq!(fixed(0x21, 0x41, 12), Err(Violation::BadFamily));
    assert_eq!(fixed(0x21, 0x13, 12), Err(Violation::BadFamily));
    assert_eq!(fixed(0x21, 0x11, 537), Err(Violation::HeaderTooLong));
    assert_eq!(fixed(0x20, 0x00, u16::MAX), Err(Violation::HeaderTooLong));
    assert_eq!(fixed(0x21, 0x11, 536), Ok(Progress::NeedMore));
    assert_eq!(decode(&binary(0x21, 0x11, &[0; 11])), Err(Violation::HeaderShort));
    assert_eq!(decode(&binary(0x21, 0x21, &[0; 35])), Err(Violation::HeaderShort));
}

proptest! {
    #[test]
    fn addresses_come_back(source: SocketAddr, destination: SocketAddr, is_stream: bool) {
        let value = Proxied::Addresses(Addresses::canonical(source, destination));
        let addresses = Addresses { source, destination };
        let transport = if is_stream { Transport::Stream } else { Transport::Datagram };
        assert_decodes(&encode_v1(&addresses), value);
        assert_decodes(&encode_v2(&addresses, transport), value);
    }

    #[test]
    fn no_bytes_panic(mut bytes: Vec<u8>, front in 0..4) {
        let front: &[u8] = match front {
            0 => b"",
            1 => b"PROXY TCP4 ",
            2 => b"PROXY TCP6 1::2 ",
            _ => v2::SIGNATURE,
        };
        bytes.splice(0..0, front.iter().copied());
        let _ = decode(&bytes);
        bytes.extend_from_slice(b"\r\n");
        if let Ok(Progress::Done { consumed, .. }) = decode(&bytes) {
            prop_assert!(consumed <= bytes.len() && consumed <= MAX_HEADER);
        }
    }
}
