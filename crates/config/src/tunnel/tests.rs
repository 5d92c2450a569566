#![allow(clippy::unwrap_used)]

use super::*;

#[test]
fn the_command_line_form_is_read() {
    let tunnel = |name: &str, protocol, host: &str, port, public_port, game| Tunnel {
        name: name.parse().unwrap(),
        protocol,
        origin: Origin {
            host: host.into(),
            port,
        },
        public_port,
        game,
        redundancy: false,
    };
    let (tcp, udp) = (Protocol::Tcp, Protocol::Udp);
    let (java, bedrock) = (Some(Game::MinecraftJava), Some(Game::Bedrock));
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
            "unknown preset `minecarft`: did you mean `minecraft`? presets are minecraft and bedrock, anything else is tcp:PORT or udp:PORT",
        ),
        (
            "terraria",
            "unknown preset `terraria`: presets are minecraft and bedrock, anything else is tcp:PORT or udp:PORT",
        ),
        ("", "unknown preset ``: presets are"),
        ("25565", "unknown preset `25565`: presets are"),
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
