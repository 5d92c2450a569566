//! The annotated files of the repository, held against the code: a key, a default or an example that drifts fails here.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::Path;

use crate::agent::AgentConfig;
use crate::document::Document;
use crate::relay::{RelayConfig, Verify};

const RELAY: &str = include_str!("../../../config/relay.toml");
const AGENT: &str = include_str!("../../../config/agent.toml");

#[test]
fn the_annotated_files_are_the_defaults_as_they_are() {
    assert_eq!(relay(RELAY), RelayConfig::default());
    assert_eq!(shown(&agent(AGENT)), shown(&AgentConfig::default()));
}

#[test]
fn every_commented_default_is_the_default() {
    let (relay_text, agent_text) = (uncomment(RELAY, false), uncomment(AGENT, false));
    assert!(relay_text.contains("\nmax_links = 1024\n") && agent_text.contains("\nbackoff_max = \"15 s\"\n"));
    assert_eq!(relay(&relay_text), RelayConfig::default());
    assert_eq!(shown(&agent(&agent_text)), shown(&AgentConfig::default()));
}

#[test]
fn every_example_is_accepted() {
    let relay = relay(&uncomment(RELAY, true));
    assert!(relay.public_host.is_some() && relay.data_dir.is_some() && relay.certificate.files.is_some());
    assert_eq!(relay.certificate.verify, Verify::Pin);
    let one_invite = uncomment(AGENT, true).replace("\ninvite_file", "\n# invite_file");
    let agent = agent(&one_invite);
    assert_eq!(agent.invite.unwrap().host, "203.0.113.5");
    assert_eq!(agent.further.len(), 1);
    let tunnels: Vec<_> = agent.tunnels.iter().map(ToString::to_string).collect();
    assert_eq!(
        tunnels,
        [
            "survival=minecraft@25565",
            "bedrock:192.168.1.20:19132",
            "voice=udp:24454",
            "wiki=tcp:8443"
        ]
    );
    assert!(agent.tunnels[2].redundancy && !agent.tunnels[1].redundancy);
}

#[test]
fn every_key_that_exists_is_in_the_file_once_or_more() {
    let here = Path::new("here.toml");
    let mut document = Document::parse("", here).unwrap();
    RelayConfig::read(&mut document);
    assert_eq!(keys_of(RELAY), *document.known());
    let mut document = Document::parse("", here).unwrap();
    AgentConfig::read(&mut document);
    assert_eq!(keys_of(AGENT), *document.known());
}

#[test]
fn every_default_stands_below_an_explanation() {
    for text in [RELAY, AGENT] {
        let lines: Vec<_> = text.lines().collect();
        for pair in lines.windows(2).filter(|pair| key_of(pair[1]).is_some()) {
            let explained = pair[0].starts_with("# ") || pair[0].starts_with("#> ");
            assert!(explained, "nothing above `{}`", pair[1]);
        }
    }
}

/// Removes the marks before defaults, and those before examples too.
fn uncomment(text: &str, examples: bool) -> String {
    let line = |line: &str| match line.strip_prefix("#> ") {
        Some(rest) if examples => rest.to_owned(),
        _ if key_of(line).is_some() => line.trim_start_matches("# ").to_owned(),
        _ => line.to_owned(),
    };
    text.lines().map(|text| line(text) + "\n").collect()
}

/// The key that a commented default sets.
fn key_of(line: &str) -> Option<&str> {
    let (key, _) = line.strip_prefix("# ")?.split_once(" = ")?;
    key.bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        .then_some(key)
}

fn keys_of(text: &str) -> BTreeSet<String> {
    let mut section = String::new();
    let mut keys = BTreeSet::new();
    for line in uncomment(text, true).lines().filter(|line| !line.starts_with('#')) {
        if line.starts_with('[') {
            section = format!("{}.", line.trim_matches(['[', ']']));
        } else if let Some((key, _)) = line.split_once(" = ") {
            keys.insert(format!("{section}{key}"));
        }
    }
    keys
}

fn relay(text: &str) -> RelayConfig {
    RelayConfig::parse(text, Path::new("relay.toml")).unwrap_or_else(|error| panic!("{error}"))
}

fn agent(text: &str) -> AgentConfig {
    AgentConfig::parse(text, Path::new("agent.toml")).unwrap_or_else(|error| panic!("{error}"))
}

/// Invites cannot be compared (nor printed), everything else can.
fn shown(config: &AgentConfig) -> String {
    format!("{config:?}")
}
