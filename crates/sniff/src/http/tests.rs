#![allow(clippy::unwrap_used)]
use super::*;
use proptest::prelude::*;

/// What a whole request with this host comes to.
fn host_of(line: &str, headers: &str) -> Result<Option<String>, Violation> {
    match Head::decode(format!("{line}\r\n{headers}\r\n").as_bytes())? {
        Progress::Done { value, .. } => Ok(value.host),
        Progress::NeedMore => panic!("not whole"),
    }
}

#[test]
fn a_head_ends_at_its_blank_line_and_every_beginning_needs_more() {
    let head = b"POST /map?x=1 HTTP/1.1\r\nHost: map.example.net\r\nContent-Length: 3\r\n\r\n";
    for cut in 0..head.len() {
        assert_eq!(Head::decode(&head[..cut]), Ok(Progress::NeedMore), "cut to {cut}");
    }
    for after in [&b""[..], b"abc", b"abcGET / HTTP/1.1\r\nHost: other\r\n\r\n"] {
        let value = Head {
            host: Some("map.example.net".into()),
        };
        let consumed = head.len();
        assert_eq!(
            Head::decode(&[&head[..], after].concat()),
            Ok(Progress::Done { value, consumed })
        );
    }
}

#[test]
fn a_request_recorded_from_curl_is_read() {
    // `curl http://map.example.net:43039/tiles/0?z=1`, curl 7.88.
    let head: &[u8] = include_bytes!("../../corpus/http/curl.txt");
    let host = Some("map.example.net".into());
    let consumed = head.len();
    assert_eq!(
        Head::decode(head),
        Ok(Progress::Done {
            value: Head { host },
            consumed
        })
    );
}

#[test]
fn a_host_is_clean() {
    for (raw, clean) in [
        ("Map.Example.NET", Some("map.example.net")),
        ("map.example.net:8080", Some("map.example.net")),
        ("map.example.net.", Some("map.example.net")),
        ("map.example.net.:443", Some("map.example.net")),
        ("map.example.net:", Some("map.example.net")),
        ("my_map-1", Some("my_map-1")),
        ("203.0.113.7:80", Some("203.0.113.7")),
        ("[2001:DB8::1]:80", Some("2001:db8::1")),
        ("[::1]", Some("::1")),
        ("", None),
        (".", None),
    ] {
        let host = host_of("GET / HTTP/1.1", &format!("Accept: */*\r\nhOsT: {raw}\r\n")).unwrap();
        assert_eq!(host.as_deref(), clean, "{raw}");
    }
    assert_eq!(host_of("GET / HTTP/1.0", ""), Ok(None));
}

#[test]
fn the_host_in_the_target_wins() {
    for (target, host) in [
        ("http://one.net/", "one.net"),
        ("HTTPS://One.net.:443", "one.net"),
        ("ws://[::1]:80?x", "::1"),
        ("/http://one.net/", "two.net"),
        ("/", "two.net"),
        ("*", "two.net"),
        ("one.net:443", "two.net"),
        ("urn://one.net", "two.net"),
    ] {
        let read = host_of(&format!("GET {target} HTTP/1.1"), "Host: two.net\r\n").unwrap();
        assert_eq!(read.as_deref(), Some(host), "{target}");
    }
    assert_eq!(
        host_of("GET http:///x HTTP/1.1", "Host: a\r\n"),
        Err(Violation::BadHost)
    );
    assert_eq!(host_of("GET http://me@one.net/ HTTP/1.1", ""), Err(Violation::BadHost));
}

#[test]
fn every_offence_has_its_name() {
    for garbage in [
        &b"\x16\x03\x01"[..],
        b"\x00",
        b"GET / HTTP/1.1\r\nA b: c\r\n",
        b"G\x00T",
        b"GET / SMTP\r\n",
    ] {
        let violation = Head::decode(garbage).unwrap_err();
        assert!(
            matches!(violation, Violation::BadHead | Violation::BadVersion),
            "{garbage:?}: {violation:?}"
        );
    }
    assert_eq!(
        Head::decode(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        Err(Violation::BadVersion)
    );
    for host in [
        "a b",
        "a,b",
        "a/b",
        "a@b",
        "a:b",
        "a:1:2",
        "a:123456",
        "a:-1",
        ":80",
        "[::1",
        "[::1]80",
        "[a.b]",
        "[fe80::1%25eth0]",
        "::1",
        "ä.net",
        "a%2eb",
    ] {
        assert_eq!(
            host_of("GET / HTTP/1.1", &format!("Host: {host}\r\n")),
            Err(Violation::BadHost),
            "{host}"
        );
    }
    let long = format!("Host: {}\r\n", "x".repeat(256));
    assert_eq!(host_of("GET / HTTP/1.1", &long), Err(Violation::BadHost));
    for second in ["Host: a", "Host: b", "HOST:"] {
        let headers = format!("Host: a\r\n{second}\r\n");
        assert_eq!(host_of("GET / HTTP/1.1", &headers), Err(Violation::DuplicateHost));
        assert_eq!(
            host_of("GET http://a/ HTTP/1.1", &headers),
            Err(Violation::DuplicateHost)
        );
    }
}

#[test]
fn a_head_has_its_bounds() {
    let many = |count: usize| host_of("GET / HTTP/1.1", &"A: b\r\n".repeat(count));
    assert_eq!(many(MAX_HEADERS), Ok(None));
    assert_eq!(many(MAX_HEADERS + 1), Err(Violation::TooManyHeaders));

    let head = |size: usize| {
        let frame = "GET / HTTP/1.1\r\nCookie: \r\n\r\n".len();
        format!("GET / HTTP/1.1\r\nCookie: {}\r\n\r\n", "x".repeat(size - frame))
    };
    assert!(matches!(
        Head::decode(head(MAX_HEAD).as_bytes()),
        Ok(Progress::Done { consumed: MAX_HEAD, .. })
    ));
    let long = head(MAX_HEAD + 1);
    assert_eq!(Head::decode(&long.as_bytes()[..MAX_HEAD - 1]), Ok(Progress::NeedMore));
    assert_eq!(Head::decode(&long.as_bytes()[..MAX_HEAD]), Err(Violation::HeadTooLong));
    assert_eq!(Head::decode(long.as_bytes()), Err(Violation::HeadTooLong));
}

#[test]
fn a_reply_keeps_its_bytes() {
    let expected = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 9\r\n\
                    Cache-Control: no-store\r\nConnection: close\r\n\r\nschläft.";
    assert_eq!(reply(503, "Service Unavailable", "schläft."), expected);
}

#[test]
fn a_reason_cannot_break_out_of_its_line() {
    let reply = reply(404, "Not\r\nX: y\r\n\r\nFound", "");
    let mut headers = [EMPTY_HEADER; 8];
    let mut response = httparse::Response::new(&mut headers);
    assert!(response.parse(&reply).unwrap().is_complete());
    assert_eq!(
        (response.code, response.reason, response.headers.len()),
        (Some(404), Some("NotX: yFound"), 4)
    );
}

proptest! {
    #[test]
    fn hosts_come_back(host in "[a-z0-9_-]{1,20}(\\.[a-z0-9_-]{1,20}){0,3}", port: Option<u16>, path in "/[a-z0-9/?=]{0,40}", absolute: bool, dot: bool) {
        let dot = if dot { "." } else { "" };
        let port = port.map(|port| format!(":{port}")).unwrap_or_default();
        let authority = format!("{}{dot}{port}", host.to_ascii_uppercase());
        let read = if absolute {
            host_of(&format!("GET http://{authority}{path} HTTP/1.1"), "Host: other\r\n")
        } else {
            host_of(&format!("GET {path} HTTP/1.1"), &format!("Host: {authority}\r\n"))
        };
        prop_assert_eq!(read, Ok(Some(host)));
    }

    #[test]
    fn no_bytes_panic(bytes: Vec<u8>, text in ".{0,80}") {
        let _ = Head::decode(&bytes);
        let _ = Head::decode(&[b"GET / HTTP/1.1\r\n", &bytes[..]].concat());
        let _ = Head::decode(format!("GET {text} HTTP/1.1\r\nHost: {text}\r\n\r\n").as_bytes());
        let _ = Head::decode(format!("GET / HTTP/1.1\r\nHost: {text}\r\n\r\n").as_bytes());
        let _ = reply(u16::MAX, &text, &text);
    }
}
