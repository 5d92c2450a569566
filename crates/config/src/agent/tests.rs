#![allow(clippy::unwrap_used)]

use spawnpoint_proto::{Token, Trust};

use super::*;

#[test]
fn every_key_reaches_its_field() {
    let config = parse(&format!(
        r#"
        invite = "{}"
        origin_timeout = "2 s"
        [links]
        backoff_min = "100 ms"
        backoff_max = "1 s"
        stream_window = "3 MiB"
        keep_alive = "1 s"
        quiet_keep_alive = "1 min"
        uplink = "10 Mbit/s"
        [log]
        filter = "debug"
        [[tunnel]]
        preset = "minecraft"
        [[tunnel]]
        name = "voice"
        protocol = "udp"
        origin = "Game.LAN:24454"
        public_port = 24454
        "#,
        invite()
    ))
    .unwrap();
    assert_eq!(config.invite.as_ref().unwrap().host, "203.0.113.5");
    assert_eq!(config.resolve_invite().unwrap().unwrap().port, 7843);
    assert_eq!(config.origin_timeout, Duration::from_secs(2));
    let transport = Transport {
        stream_window: 3 << 20,
        keep_alive: Duration::from_secs(1),
        quiet_keep_alive: Duration::from_secs(60),
        ..Transport::default()
    };
    assert_eq!(
        config.links,
        Links {
            transport,
            line: Line {
                uplink: Some(1_250_000),
                downlink: None
            },
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(1)
        }
    );
    assert_eq!(config.log.filter, "debug");
    let tunnels: Vec<_> = config.tunnels.iter().map(ToString::to_string).collect();
    assert_eq!(tunnels, ["minecraft", "voice=udp:game.lan:24454@24454"]);
    assert_eq!(config.tunnels[0].game, Some(crate::preset::JAVA));
}

#[test]
fn the_invite_can_lie_in_a_file_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.toml");
    fs::write(&path, "invite_file = \"secret\"").unwrap();
    let config = AgentConfig::load(&path).unwrap();
    assert!(matches!(config.resolve_invite(), Err(ConfigError::ReadInvite { .. })));
    fs::write(dir.path().join("secret"), format!("{}\n", invite())).unwrap();
    assert_eq!(config.resolve_invite().unwrap().unwrap().host, "203.0.113.5");
    fs::write(dir.path().join("secret"), "hello").unwrap();
    let error = config.resolve_invite().unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("{}/secret holds no good invite", dir.path().display())
    );
}

#[test]
fn no_message_and_no_debug_output_shows_an_invite() {
    let invite = invite().to_string();
    let damaged = format!("{invite}x");
    for text in [
        format!("invite = \"{damaged}\""),
        format!("invit = \"{invite}\""),
        format!("invite = [\"{invite}\"]"),
    ] {
        let refusal = refusal(&text);
        assert!(!refusal.contains("spawnpoint1"), "{refusal}");
    }
    assert!(refusal(&format!("invite = \"{damaged}\"")).contains(":1: `invite`: the invite is damaged"));
    let config = parse(&format!("invite = \"{invite}\"")).unwrap();
    assert!(format!("{config:?}").contains("Token(secret)"));
}

#[test]
fn values_that_contradict_each_other_are_named() {
    let text = refusal(&format!("invite = \"{}\"\ninvite_file = \"x\"", invite()));
    assert!(text.contains(":2: `invite` and `invite_file` are both given"), "{text}");
    let text = refusal("[links]\nbackoff_min = \"1 min\"");
    assert!(
        text.contains(":2: `links.backoff_min` must not be longer than `links.backoff_max`"),
        "{text}"
    );
}

#[test]
fn a_tunnel_that_is_none_is_named_with_its_line() {
    let cases = [
        ("", ":2: a tunnel needs `preset`"),
        (
            "preset = \"minecarft\"",
            ":3: `tunnel.preset = \"minecarft\"` will not do: did you mean \"minecraft\"?; allowed is a word that `spawnpoint presets` lists",
        ),
        ("protocol = \"tcp\"", ":2: a tunnel with `protocol` needs `origin`"),
        (
            "protocol = \"sctp\"\norigin = 1",
            ":3: `tunnel.protocol = \"sctp\"` will not do",
        ),
        (
            "preset = \"bedrock\"\nprotocol = \"udp\"",
            ":4: `tunnel.preset` says the protocol already",
        ),
        (
            "preset = \"bedrock\"\norigin = \"host\"",
            ":4: `tunnel.origin = \"host\"` will not do: `host` has no port",
        ),
        ("preset = \"bedrock\"\norigin = 70000", "`70000` has no port"),
        (
            "preset = \"bedrock\"\npublic_port = 0",
            "allowed is a port from 1 to 65535",
        ),
        (
            "preset = \"bedrock\"\nname = \"My World\"",
            "allowed is 1 to 32 of a-z, 0-9 and `-`",
        ),
        (
            "preset = \"bedrock\"\npublicport = 1",
            "unknown key `tunnel.publicport`: did you mean `tunnel.public_port`?",
        ),
    ];
    for (text, expected) in cases {
        let refusal = refusal(&format!("\n[[tunnel]]\n{text}"));
        assert!(refusal.contains(expected), "{text}: {refusal}");
        assert_eq!(refusal.lines().count(), 1, "{refusal}");
    }
    assert!(refusal("[tunnel]\npreset = \"bedrock\"").contains("write `[[tunnel]]`"));
    assert!(refusal("tunnel = [1]").contains("write `[[tunnel]]`"));
}

#[test]
fn two_tunnels_with_one_name_or_one_public_port_are_refused() {
    let text = refusal("[[tunnel]]\npreset = \"minecraft\"\n[[tunnel]]\npreset = \"minecraft\"\norigin = 25566\n");
    assert!(
        text.contains(":3: two tunnels are named `minecraft`: give one of them another name"),
        "{text}"
    );
    let second = |protocol| {
        format!(
            "[[tunnel]]\npreset = \"minecraft\"\npublic_port = 7\n[[tunnel]]\nprotocol = \"{protocol}\"\norigin = 1\npublic_port = 7\n"
        )
    };
    assert!(refusal(&second("tcp")).contains(":7: two tunnels ask for public tcp port 7"));
    assert_eq!(parse(&second("udp")).unwrap().tunnels.len(), 2);
}

fn invite() -> Invite {
    let trust = Trust::Name;
    Invite {
        host: "203.0.113.5".into(),
        port: 7843,
        trust,
        token: Token::new([2; 32]),
    }
}

fn parse(text: &str) -> Result<AgentConfig, ConfigError> {
    AgentConfig::parse(text, Path::new("agent.toml"))
}

fn refusal(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}
