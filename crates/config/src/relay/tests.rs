#![allow(clippy::unwrap_used)]

use spawnpoint_core::access::{Lists, parse_prefix};
use spawnpoint_core::offences::Sentences;

use super::*;
use crate::link::Congestion;
use crate::log::LogFormat;

#[test]
fn an_empty_file_is_the_default() {
    assert_eq!(parse("").unwrap(), RelayConfig::default());
    assert_eq!(parse("[players]\n[admin]\n").unwrap(), RelayConfig::default());
}

#[test]
fn every_key_reaches_its_field() {
    let config = parse(
        r#"
        listen = "203.0.113.5:443"
        public_host = "Play.Example.org"
        data_dir = "data"
        memory_limit = "2 GiB"
        domain = "Play.Example.org"
        [shared]
        minecraft = "25575"
        tls = "443"
        http = "80"
        quic = "off"
        default = "desk/minecraft"
        [away]
        reconnecting = "a"
        starting = "b"
        asleep = "c"
        down = "d"
        offline = "e"
        unknown = "f"
        version = "g"
        icon = "icon.png"
        [players]
        bind = "203.0.113.5"
        ports = "19132, 25565-25600"
        max_players = 1
        max_players_per_host = 2
        max_players_per_tunnel = 3
        max_players_per_address = 4
        max_half_open = 5
        max_half_open_per_host = 6
        max_half_open_per_tunnel = 7
        max_half_open_per_address = 8
        new_players = "9/s"
        new_players_per_host = "10/s"
        new_players_per_tunnel = "11/s"
        new_players_per_address = "12/s"
        new_players_burst = 13
        udp_idle = "6 s"
        hold = "7 s"
        hello_timeout = "8 s"
        list_cache = "9 s"
        proxy_from = ["10.0.0.0/8", "2001:db8::1"]
        [bandwidth]
        up = "1 Mbit/s"
        down = "2 Mbit/s"
        packets = "3/s"
        up_per_host = "4 Mbit/s"
        down_per_host = "5 Mbit/s"
        packets_per_host = "6/s"
        up_per_tunnel = "7 Mbit/s"
        down_per_tunnel = "8 Mbit/s"
        packets_per_tunnel = "9/s"
        up_per_address = "10 Mbit/s"
        down_per_address = "11 Mbit/s"
        packets_per_address = "off"
        quota = "12 TiB"
        quota_per_host = "13 GiB"
        after_quota = "14 Mbit/s"
        [guard]
        allow = ["10.0.0.0/8", "2001:db8::1"]
        deny = ["10.6.0.0/16"]
        allow_file = "allow.txt"
        deny_file = "deny.txt"
        immune = ["10.7.0.0/16"]
        country_db = "country.mmdb"
        allow_countries = ["de", "AT"]
        deny_countries = ["XX"]
        first_ban = "2 s"
        longest_ban = "3 h"
        [dnsbl]
        lists = ["bl.example.org", "zen.example.org=2,4-9"]
        server = "127.0.0.1:5353"
        deadline = "1 s"
        keep = "2 min"
        [links]
        resume_window = "1min"
        max_links = 7
        max_tunnels_per_host = 8
        handshake_timeout = "9 s"
        keep_alive = "1 s"
        quiet_keep_alive = "20 s"
        idle_timeout = "2.5 s"
        stream_window = "64KiB"
        congestion = "cubic"
        repair = false
        [certificate]
        cert = "/etc/cert.pem"
        key = "key.pem"
        [admin]
        listen = "[::1]:80"
        [log]
        format = "json"
        filter = "info,spawnpoint_net=debug"
        [audit]
        enabled = false
        file = "audit.log"
        max_size = "1 MiB"
        keep = 2
        sessions = true
        addresses = "3 h"
        syslog = "tls://logs.example.org:6515"
        syslog_ca = "ca.pem"
        journald = true
        [drain]
        deadline = "10 s"
        "#,
    )
    .unwrap();
    let secs = Duration::from_secs;
    let prefixes = |texts: &[&str]| texts.iter().map(|text| parse_prefix(text).unwrap()).collect::<Vec<_>>();
    let rates = |up: u64, down: u64, packets| Rates {
        up: Some(up * 125_000),
        down: Some(down * 125_000),
        packets,
    };
    let expected = RelayConfig {
        listen: "203.0.113.5:443".parse().unwrap(),
        public_host: Some("play.example.org".into()),
        data_dir: Some("/etc/spawnpoint/data".into()),
        memory_limit: Some(2 << 30),
        domain: Some("play.example.org".parse().unwrap()),
        shared: Shared {
            minecraft: "25575".parse().unwrap(),
            tls: "443".parse().unwrap(),
            http: "80".parse().unwrap(),
            quic: PortSet::default(),
            default: Some(("desk".parse().unwrap(), "minecraft".parse().unwrap())),
        },
        away: Away {
            reconnecting: "a".into(),
            starting: "b".into(),
            asleep: "c".into(),
            down: "d".into(),
            offline: "e".into(),
            unknown: "f".into(),
            version: "g".into(),
            icon: Some("/etc/spawnpoint/icon.png".into()),
        },
        players: Players {
            bind: "203.0.113.5".parse().unwrap(),
            ports: "19132,25565-25600".parse().unwrap(),
            total: bounds(1, 5, 9),
            per_host: bounds(2, 6, 10),
            per_tunnel: bounds(3, 7, 11),
            per_address: Bounds {
                burst: 13,
                ..bounds(4, 8, 12)
            },
            udp_idle: secs(6),
            hold: secs(7),
            hello_timeout: secs(8),
            list_cache: secs(9),
            proxy_from: vec!["10.0.0.0/8".parse().unwrap(), "2001:db8::1/128".parse().unwrap()],
        },
        bandwidth: Bandwidth {
            total: rates(1, 2, Some(3)),
            per_host: rates(4, 5, Some(6)),
            per_tunnel: rates(7, 8, Some(9)),
            per_address: rates(10, 11, None),
            quota: Some(12 << 40),
            quota_per_host: Some(13 << 30),
            after_quota: 14 * 125_000,
        },
        guard: Guard {
            lists: Lists {
                allow: prefixes(&["10.0.0.0/8", "2001:db8::1"]),
                deny: prefixes(&["10.6.0.0/16"]),
            },
            allow_file: Some("/etc/spawnpoint/allow.txt".into()),
            deny_file: Some("/etc/spawnpoint/deny.txt".into()),
            immune: prefixes(&["10.7.0.0/16"]),
            country_db: Some("/etc/spawnpoint/country.mmdb".into()),
            allow_countries: vec!["DE".parse().unwrap(), "AT".parse().unwrap()],
            deny_countries: vec!["XX".parse().unwrap()],
            bans: Some(Sentences {
                first: secs(2),
                longest: secs(3 * 3_600),
            }),
        },
        dnsbl: Dnsbl {
            lists: vec![
                "bl.example.org".parse().unwrap(),
                "zen.example.org=2,4-9".parse().unwrap(),
            ],
            server: Some("127.0.0.1:5353".parse().unwrap()),
            deadline: secs(1),
            keep: secs(120),
        },
        links: Links {
            resume_window: secs(60),
            max_links: 7,
            max_tunnels_per_host: 8,
            handshake_timeout: secs(9),
            transport: Transport {
                keep_alive: secs(1),
                quiet_keep_alive: secs(20),
                idle_timeout: Duration::from_millis(2_500),
                stream_window: 64 << 10,
                congestion: Congestion::Cubic,
                repair: false,
            },
        },
        certificate: Certificate {
            files: Some(CertificateFiles {
                cert: "/etc/cert.pem".into(),
                key: "/etc/spawnpoint/key.pem".into(),
            }),
            verify: Verify::Name,
        },
        admin: Some("[::1]:80".parse().unwrap()),
        log: Log {
            format: LogFormat::Json,
            filter: "info,spawnpoint_net=debug".into(),
        },
        audit: AuditLog {
            enabled: false,
            file: Some("/etc/spawnpoint/audit.log".into()),
            max_size: 1 << 20,
            keep: 2,
            sessions: true,
            addresses: secs(3 * 3_600),
            syslog: Some("tls://logs.example.org:6515".parse().unwrap()),
            syslog_ca: Some("/etc/spawnpoint/ca.pem".into()),
            journald: true,
        },
        drain_deadline: secs(10),
    };
    assert_eq!(config, expected);
}

#[test]
fn the_admin_pages_can_be_closed() {
    assert_eq!(parse("[admin]\nenabled = false").unwrap().admin, None);
    assert_eq!(
        parse("[admin]\nenabled = false\nlisten = \"127.0.0.1:1\"")
            .unwrap()
            .admin,
        None
    );
}

#[test]
fn an_unknown_key_is_named_with_line_and_the_nearest_one() {
    assert_eq!(
        refusal("[links]\n\nkeepalive = \"1 s\"\n"),
        "/etc/spawnpoint/relay.toml:3: unknown key `links.keepalive`: did you mean `links.keep_alive`?"
    );
    assert!(refusal("lisen = 1").ends_with(":1: unknown key `lisen`: did you mean `listen`?"));
    assert!(refusal("max_player = 1").ends_with("did you mean `max_players` in section [players]?"));
    assert!(refusal("[links]\ndata-dir = 'x'").ends_with("did you mean `data_dir`, above all sections?"));
    assert!(refusal("[link]\nmax_links = 1").ends_with("unknown key `link`: did you mean the section [links]?"));
}

#[test]
fn an_unknown_key_like_no_other_is_answered_with_what_there_is() {
    assert!(refusal("[drain]\nwindow = 1").ends_with("unknown key `drain.window`: [drain] has deadline"));
    let text = refusal("[transport]\na = 1");
    assert!(text.ends_with("there are data_dir, domain, listen, memory_limit, public_host and the sections [admin], [audit], [away], [bandwidth], [certificate], [dnsbl], [drain], [guard], [links], [log], [players], [shared]"), "{text}");
}

#[test]
fn an_impossible_value_is_named_with_line_what_is_allowed_and_the_default() {
    assert_eq!(
        refusal("[links]\nidle_timeout = \"1 h\""),
        "/etc/spawnpoint/relay.toml:2: `links.idle_timeout = \"1 h\"` will not do: allowed is a time from 500 ms to 5 min, as text with its unit \
         (ms, s, min, h) (default \"2400 ms\")"
    );
    let cases = [
        (
            "listen = \"example.org:1\"",
            "allowed is an address and a port such as \"[::]:7843\" or \"203.0.113.5:7843\" (default \"[::]:7843\")",
        ),
        (
            "public_host = \"https://example.org\"",
            "allowed is a host name or an address, without port",
        ),
        (
            "public_host = \"example.org:7843\"",
            "allowed is a host name or an address, without port",
        ),
        ("data_dir = \"\"", "it is empty; allowed is a path"),
        (
            "[players]\nports = \"9-1\"",
            "the range `9-1` ends before it starts; allowed is ports and ranges",
        ),
        (
            "[players]\nmax_players = 0",
            "allowed is a whole number from 1 to 1000000 (default 10000)",
        ),
        (
            "[players]\nmax_players = 99999999999999",
            "allowed is a whole number from 1 to 1000000 (default 10000)",
        ),
        (
            "[players]\nnew_players_per_address = \"10\"",
            "the unit is missing; allowed is how many in a second",
        ),
        (
            "[players]\nudp_idle = \"1 day\"",
            "the unit `day` is none of ms, s, sec, min, m, h, d; allowed is a time",
        ),
        (
            "[links]\nstream_window = \"32 MiB\"",
            "allowed is a size from 64 KiB to 16 MiB, as text with its unit (B, KiB, MiB) (default \"2 MiB\")",
        ),
        ("[links]\nstream_window = \"99 GiB\"", "allowed is a size from 64 KiB"),
        (
            "[links]\ncongestion = \"bbr2\"",
            "did you mean \"bbr\"?; allowed is one of \"spawnpoint\", \"bbr\", \"cubic\" (default \"spawnpoint\")",
        ),
        ("[log]\nfilter = \"loud\"", "allowed is a level"),
        (
            "[certificate]\nverify = \"nobody\"",
            "allowed is one of \"pin\", \"name\" (default \"pin\")",
        ),
    ];
    for (text, expected) in cases {
        let refusal = refusal(text);
        assert!(refusal.contains(expected), "{text}: {refusal}");
    }
}

#[test]
fn a_wrong_type_is_named() {
    let cases = [
        ("listen = 7843", "it takes text in quotes, not a bare number"),
        (
            "[links]\nkeep_alive = 750",
            "it takes text in quotes, not a bare number",
        ),
        (
            "[links]\nmax_links = \"many\"",
            "it takes a number without quotes, not text",
        ),
        (
            "[links]\nmax_links = 1.5",
            "it takes a number without quotes, not a decimal number",
        ),
        (
            "[admin]\nenabled = \"no\"",
            "`admin.enabled = \"no\"` will not do: allowed is true or false (default true)",
        ),
        ("players = 3", "`players` is a section: write `[players]`"),
    ];
    for (text, expected) in cases {
        let refusal = refusal(text);
        assert!(refusal.contains(expected), "{text}: {refusal}");
    }
}

#[test]
fn values_that_contradict_each_other_are_named() {
    let text = refusal("[links]\nkeep_alive = \"2 s\"");
    assert!(
        text.contains(":2: `links.keep_alive` (2 s) must be at most half of `links.idle_timeout` (2400 ms)"),
        "{text}"
    );
    let text = refusal("[links]\nquiet_keep_alive = \"200 ms\"");
    assert!(
        text.contains(":2: `links.quiet_keep_alive` (200 ms) must not be shorter than `links.keep_alive` (500 ms)"),
        "{text}"
    );
    let text = refusal("[certificate]\ncert = \"a.pem\"");
    assert!(
        text.contains(":2: `certificate.cert` needs `certificate.key` beside it"),
        "{text}"
    );
    let text = refusal("[certificate]\n\nverify = \"name\"");
    assert!(
        text.contains(":3: `certificate.verify = \"name\"` needs `certificate.cert`"),
        "{text}"
    );
}

#[test]
fn every_mistake_of_a_file_is_reported_at_once_in_its_order() {
    let text = refusal("[drain]\ndeadline = 30\n[links]\nmax_link = 3\n[log]\nformat = \"xml\"\n");
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[0], "/etc/spawnpoint/relay.toml has 3 mistakes:");
    for (line, expected) in lines[1..].iter().zip([
        "relay.toml:2: `drain.deadline = 30`",
        "relay.toml:4: unknown",
        "relay.toml:6: `log.format",
    ]) {
        assert!(line.contains(expected), "{text}");
    }
    assert_eq!(lines.len(), 4);
}

#[test]
fn what_is_not_toml_is_named_with_line_and_column() {
    let text = refusal("[links]\nmax_links 3\n");
    assert!(text.starts_with("/etc/spawnpoint/relay.toml:2:"), "{text}");
    assert!(!text.contains('\n'), "{text}");
    assert!(refusal("[links]\nmax_links = 1\nmax_links = 2").contains("relay.toml:3:"));
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let error = RelayConfig::load(&dir.path().join("none.toml")).unwrap_err();
    assert!(matches!(error, ConfigError::Read { .. }));
    assert_eq!(
        error.to_string(),
        format!(
            "failed to read the configuration file {}/none.toml",
            dir.path().display()
        )
    );
    std::fs::write(dir.path().join("relay.toml"), "listen = \"[::1]:0\"").unwrap();
    assert_eq!(
        RelayConfig::load(&dir.path().join("relay.toml")).unwrap().listen,
        "[::1]:0".parse().unwrap()
    );
}

fn parse(text: &str) -> Result<RelayConfig, ConfigError> {
    RelayConfig::parse(text, Path::new("/etc/spawnpoint/relay.toml"))
}

fn refusal(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

#[test]
fn what_is_wrong_with_shared_ports_is_said() {
    let text = refusal("[shared]\ntls = \"443\"\nhttp = \"80,443\"");
    assert!(text.contains("port 443 is shared twice"), "{text}");
    let text = refusal("[shared]\nminecraft = \"all\"");
    assert!(
        text.contains("allowed is ports such as") && text.contains("(default \"25565\")"),
        "{text}"
    );
    let text = refusal("[shared]\ndefault = \"desk\"");
    assert!(text.contains("allowed is a host and a tunnel of it"), "{text}");
    let text = refusal("[players]\nproxy_from = [\"10.0.0.0/99\"]");
    assert!(text.contains("`10.0.0.0/99` is no prefix"), "{text}");
    let text = refusal("domain = \"not a name\"");
    assert!(text.contains("`not a name` is no host name"), "{text}");
}
