#![allow(clippy::unwrap_used)]

use super::*;

#[test]
fn the_command_line_form_is_read() {
    let tunnel = |name: &str, protocol, host: &str, port, public_port, preset: Option<&'static Preset>| Tunnel {
        name: name.parse().unwrap(),
        protocol,
        origin: Origin {
            host: host.into(),
            port,
        },
        public_port,
        count: 1,
        preset,
        game: preset.and_then(|preset| preset.first().game),
        dialect: preset.and_then(|preset| preset.first().dialect),
        names: Vec::new(),
        real_ip: preset.map_or(RealIp::Off, |preset| preset.real_ip),
        away: None,
        redundancy: false,
        wake: None,
        beside: None,
        needs: Vec::new(),
        limits: Limits::default(),
    };
    let (tcp, udp) = (Protocol::Tcp, Protocol::Udp);
    let (java, bedrock) = (Preset::find("minecraft"), Preset::find("bedrock"));
    let cases = [
        ("minecraft", tunnel("minecraft", tcp, "127.0.0.1", 25565, None, java)),
        ("bedrock", tunnel("bedrock", udp, "127.0.0.1", 19132, None, bedrock)),
        (
            "creative=minecraft:25566",
            tunnel("creative", tcp, "127.0.0.1", 25566, None, java),
        ),
        (
            "minecraft:mc.lan:25566@25570",
            tunnel("minecraft", tcp, "mc.lan", 25566, Some(25570), java),
        ),
        ("tcp:25565", tunnel("tcp-25565", tcp, "127.0.0.1", 25565, None, None)),
        ("tcp::25565", tunnel("tcp-25565", tcp, "127.0.0.1", 25565, None, None)),
        ("web=tcp:[::1]:8100", tunnel("web", tcp, "::1", 8100, None, None)),
        (
            "udp:192.168.1.20:24454@24454",
            tunnel("udp-24454", udp, "192.168.1.20", 24454, Some(24454), None),
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(text.parse::<Tunnel>().unwrap(), expected, "{text}");
    }
}

#[test]
fn what_is_printed_is_the_shortest_form_and_parses_back() {
    let names = ["", "minecraft=", "tcp-25565=", "my-world-2="];
    let kinds = [
        "valheim",
        "udp:2456-2458",
        "minecraft",
        "bedrock",
        "minecraft:25566",
        "minecraft:25565",
        "bedrock:[fe80::1]:19132",
        "tcp:25565",
        "udp:host_1.lan:7",
        "tcp:127.0.0.1:9",
    ];
    let ports = ["", "@1", "@65535"];
    for text in names
        .iter()
        .flat_map(|name| kinds.iter().map(move |kind| format!("{name}{kind}")))
    {
        for text in ports.map(|port| format!("{text}{port}")) {
            let tunnel: Tunnel = text.parse().unwrap();
            let printed = tunnel.to_string();
            assert_eq!(printed.parse::<Tunnel>().unwrap(), tunnel, "{text} -> {printed}");
            assert!(printed.len() <= text.len(), "{text} -> {printed}");
        }
    }
    assert_eq!(
        "minecraft=minecraft:127.0.0.1:25565@25565"
            .parse::<Tunnel>()
            .unwrap()
            .to_string(),
        "minecraft@25565"
    );
}

#[test]
fn a_text_that_is_no_tunnel_says_why() {
    let cases = [
        (
            "minecarft",
            "unknown preset `minecarft`: did you mean `minecraft`? `spawnpoint presets` lists them, anything else is tcp:PORT or udp:PORT",
        ),
        (
            "gta",
            "unknown preset `gta`: `spawnpoint presets` lists them, anything else is tcp:PORT or udp:PORT",
        ),
        ("", "unknown preset ``: `spawnpoint presets`"),
        ("25565", "unknown preset `25565`: `spawnpoint presets`"),
        (
            "tcp",
            "`tcp` alone is no tunnel: add the game server's port, for example tcp:25565",
        ),
        (
            "tcp:",
            "`` has no port: write PORT, HOST:PORT or [IPV6]:PORT with a port from 1 to 65535",
        ),
        ("tcp:0", "`0` has no port"),
        ("tcp:+1", "`+1` has no port"),
        ("tcp:host", "`host` has no port"),
        ("tcp:::1:25565", "`::1:25565` needs brackets around its IPv6 address"),
        ("tcp:[::g]:1", "`[::g]:1` is no host name or address"),
        ("tcp:a b:1", "`a b:1` is no host name or address"),
        ("tcp:1.2.3:1", "`1.2.3:1` is no host name or address"),
        ("minecraft@0", "`0` is no public port: it is a number from 1 to 65535"),
        ("My World=minecraft", "`My World` is no tunnel name"),
    ];
    for (text, expected) in cases {
        let error = text.parse::<Tunnel>().unwrap_err().to_string();
        assert!(error.starts_with(expected), "{text}: {error}");
    }
}

#[test]
fn equal_names_and_equal_public_ports_are_found() {
    let list = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<Tunnel>>();
    assert_eq!(
        Tunnel::check_distinct(&list(&["minecraft", "bedrock", "tcp:1@9", "udp:1@9"])),
        Ok(())
    );
    let error = Tunnel::check_distinct(&list(&["minecraft", "minecraft:25566"])).unwrap_err();
    assert_eq!(error, TunnelError::DuplicateName("minecraft".parse().unwrap()));
    let error = Tunnel::check_distinct(&list(&["tcp:1@9", "tcp:2@9"])).unwrap_err();
    assert_eq!(
        error,
        TunnelError::DuplicatePort {
            protocol: Protocol::Tcp,
            port: 9
        }
    );
}

#[test]
fn hosts_are_told_from_what_only_looks_like_one() {
    for good in [
        "localhost",
        "mc.example.org",
        "mc.example.org.",
        "my_container",
        "1.2.3.4",
        "::1",
        "4chan",
        "xn--bcher-kva.example",
    ] {
        assert!(is_host(good), "{good}");
    }
    for bad in [
        "",
        ".",
        "a..b",
        "-a",
        "a-",
        "a b",
        "http://a",
        "1.2.3",
        "1.2.3.400",
        "a/b",
        "ä",
        &"a".repeat(64),
        &"a.".repeat(130),
    ] {
        assert!(!is_host(bad), "{bad}");
    }
}

#[test]
fn redundancy_is_for_udp() {
    let read = |protocol: &str| {
        crate::agent::AgentConfig::parse(
            &format!("[[tunnel]]\nprotocol = {protocol:?}\norigin = 24454\nredundancy = true\n"),
            std::path::Path::new("agent.toml"),
        )
    };
    assert!(read("udp").unwrap().tunnels[0].redundancy);
    let refusal = read("tcp").unwrap_err().to_string();
    assert!(refusal.contains("`tunnel.redundancy` is for UDP"), "{refusal}");
}

#[test]
fn limits_are_for_every_port_of_a_tunnel_and_a_list_that_is_too_long_is_told() {
    let read = |limits: &str| {
        crate::agent::AgentConfig::parse(
            &format!("[[tunnel]]\nprotocol = \"udp\"\norigin = \"24454-24455\"\n{limits}\n"),
            std::path::Path::new("agent.toml"),
        )
    };
    let config = read(
        "allow = [\"10.0.0.0/8\"]\ndeny = [\"10.1.0.0/16\", \"::1\"]\nmax_players = 3\nup = \"1 Mbit/s\"\ndown = \"2 Mbit/s\"",
    );
    let net = |text: &str| spawnpoint_core::access::parse_prefix(text).unwrap();
    let wanted = Limits {
        lists: spawnpoint_core::access::Lists {
            allow: vec![net("10.0.0.0/8")],
            deny: vec![net("10.1.0.0/16"), net("::1")],
        },
        players: Some(3),
        up: Some(125_000),
        down: Some(250_000),
    };
    let ports = config.unwrap().tunnels[0].expand();
    assert_eq!(ports.len(), 2);
    assert!(ports.iter().all(|port| port.limits == wanted));
    assert!(read("").unwrap().tunnels[0].limits.is_empty());
    let many: Vec<String> = (0..257)
        .map(|number| format!("\"10.0.{}.{}\"", number / 256, number % 256))
        .collect();
    let refusal = read(&format!("deny = [{}]", many.join(","))).unwrap_err().to_string();
    assert!(
        refusal.contains("`tunnel.deny` has 257 prefixes and may have 256"),
        "{refusal}"
    );
    let refusal = read("max_players = 0").unwrap_err().to_string();
    assert!(refusal.contains("a whole number from 1"), "{refusal}");
}

fn expanded(text: &str) -> Vec<String> {
    let show = |tunnel: &Tunnel| {
        let beside = tunnel
            .beside
            .as_ref()
            .map_or(String::new(), |beside| format!(" {}{:+}", beside.tunnel, beside.offset));
        format!("{} {} {}{beside}", tunnel.name, tunnel.protocol, tunnel.origin.port)
    };
    text.parse::<Tunnel>().unwrap().expand().iter().map(show).collect()
}

#[test]
fn one_word_stands_for_every_port_of_a_game() {
    assert_eq!(expanded("minecraft"), ["minecraft tcp 25565"]);
    assert_eq!(
        expanded("valheim"),
        ["valheim udp 2456", "valheim-query udp 2457 valheim+1"]
    );
    assert_eq!(
        expanded("v=valheim:3000"),
        ["v udp 3000", "v-query udp 3001 v+1"],
        "a moved server takes its neighbours along"
    );
    assert_eq!(
        expanded("minecraft-voice:25570"),
        ["minecraft-voice tcp 25570", "minecraft-voice-voice udp 24454"]
    );
    assert_eq!(
        expanded("mumble"),
        ["mumble tcp 64738", "mumble-voice udp 64738 mumble+0"]
    );
    assert_eq!(
        expanded("7-days-to-die"),
        [
            "7-days-to-die udp 26900",
            "7-days-to-die-tcp tcp 26900 7-days-to-die+0",
            "7-days-to-die-net udp 26901 7-days-to-die+1",
            "7-days-to-die-net-2 udp 26902 7-days-to-die+2",
            "7-days-to-die-net-3 udp 26903 7-days-to-die+3",
        ]
    );
    assert_eq!(
        expanded("udp:7-9"),
        ["udp-7 udp 7", "udp-7-2 udp 8 udp-7+1", "udp-7-3 udp 9 udp-7+2"]
    );
}

#[test]
fn a_range_is_bounded_and_forwards() {
    for text in [
        "udp:9-7",
        "udp:1-65",
        "tcp:1-65535",
        "minecraft:25565-25566",
        "udp:a-b",
        "udp:7-0",
    ] {
        assert!(text.parse::<Tunnel>().is_err(), "{text}");
    }
    assert_eq!("udp:my-server:7".parse::<Tunnel>().unwrap().origin.host, "my-server");
    assert_eq!("udp:my-server:7-8".parse::<Tunnel>().unwrap().count, 2);
}

#[test]
fn every_preset_expands_to_distinct_tunnels() {
    for preset in PRESETS {
        let tunnel: Tunnel = preset.word.parse().unwrap();
        Tunnel::check_distinct(std::slice::from_ref(&tunnel)).unwrap();
        assert!(
            tunnel.expand().iter().all(|tunnel| tunnel.contradiction().is_none()),
            "{}",
            preset.word
        );
    }
    let long: Tunnel = format!("{}=valheim", "a".repeat(32)).parse().unwrap();
    assert!(matches!(
        Tunnel::check_distinct(&[long]),
        Err(TunnelError::DuplicateName(_))
    ));
}

#[test]
fn what_cannot_be_together_is_said_with_the_key() {
    let refusal = |lines: &str| {
        let text = format!("[[tunnel]]\n{lines}\n");
        crate::agent::AgentConfig::parse(&text, std::path::Path::new("agent.toml"))
            .unwrap_err()
            .to_string()
    };
    for (lines, said) in [
        (
            "protocol = \"udp\"\norigin = 1\nspeaks = \"tls\"",
            "`tunnel.speaks = \"tls\"` is for tcp, not udp",
        ),
        (
            "protocol = \"udp\"\norigin = 1\nreal_ip = \"proxy-v1\"",
            "is not for udp",
        ),
        (
            "protocol = \"tcp\"\norigin = 1\nnames = [\"a.example.org\"]",
            "`tunnel.names` needs `tunnel.speaks`",
        ),
        (
            "preset = \"minecraft\"\nnames = [\"not a name\"]",
            "`not a name` is no host name",
        ),
        (
            "preset = \"minecraft\"\norigin = \"25565-25566\"",
            "a range of ports is for `protocol`",
        ),
    ] {
        let refusal = refusal(lines);
        assert!(refusal.contains(said), "{refusal}");
    }
}
