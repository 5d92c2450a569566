//! Addresses that are old: what is left of one is its network, IPv4 /24 or IPv6 /48.

use std::net::{IpAddr, SocketAddr};

use serde_json::Value;
use spawnpoint_core::admission::network_of;

/// The fields that hold addresses of players and agents.
const FIELDS: [&str; 4] = ["player", "peer", "peers", "prefix"];

/// A line without whole addresses; one that is no object stays as it is.
pub(super) fn shorten(line: &str) -> String {
    let Ok(Value::Object(mut object)) = serde_json::from_str(line) else {
        return line.to_owned();
    };
    for field in FIELDS {
        match object.get_mut(field) {
            Some(Value::String(text)) => *text = network(text),
            Some(Value::Array(all)) => all.iter_mut().for_each(|value| {
                if let Value::String(text) = value {
                    *text = network(text);
                }
            }),
            _ => {}
        }
    }
    Value::Object(object).to_string()
}

fn network(text: &str) -> String {
    let address = text.parse::<SocketAddr>().map(|socket| socket.ip());
    let ip = address.or_else(|_| text.parse::<IpAddr>()).ok();
    let (ip, most) = match (ip, text.split_once('/')) {
        (Some(ip), _) => (Some(ip), None),
        (None, Some((ip, length))) => (ip.parse().ok(), length.parse::<u8>().ok()),
        (None, None) => (None, None),
    };
    let Some(ip) = ip.map(|ip| ip.to_canonical()) else {
        return text.to_owned();
    };
    let length = if ip.is_ipv4() { 24 } else { 48 };
    match most {
        // What is wider already names nobody.
        Some(most) if most <= length => text.to_owned(),
        _ => format!("{}/{length}", network_of(ip)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_shortened_wherever_they_are_and_the_rest_stays() {
        let line = r#"{"time":"t","event":"shared_token","host":"desk","peers":["203.0.113.7:5","[2001:db8:1:2::3]:5"],"peer":"::ffff:198.51.100.9"}"#;
        let short = shorten(line);
        for kept in [
            r#""peers":["203.0.113.0/24","2001:db8:1::/48"]"#,
            r#""peer":"198.51.100.0/24""#,
            r#""host":"desk""#,
        ] {
            assert!(short.contains(kept), "{short}");
        }
        assert_eq!(shorten(&short), short);
        assert!(shorten(r#"{"prefix":"10.0.0.0/8"}"#).contains("10.0.0.0/8"));
        assert_eq!(shorten("not json"), "not json");
    }
}
