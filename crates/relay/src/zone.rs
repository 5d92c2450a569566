//! The DNS records that a relay with a domain needs, and whether the world has them.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use spawnpoint_config::relay::RelayConfig;
use spawnpoint_core::hostname::{Hostname, Pattern};
use spawnpoint_proto::Dialect;
use spawnpoint_store::Entry;

/// A label that nobody gives a host, to see what a name under the domain resolves to.
const PROBE: &str = "spawnpoint-probe-0";

/// How long resolvers may keep a record, in seconds: long enough to spare them, short enough to move a relay within the hour.
const LIFE: u32 = 3600;

/// What a record says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Data {
    /// An address: A or AAAA.
    Address(IpAddr),
    /// Where Minecraft: Java Edition finds the server of a name that has a port of its own.
    Minecraft {
        /// The port.
        port: u16,
        /// The name with the address.
        target: Hostname,
    },
}

/// A line of a zone file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// The name, without the final dot.
    pub name: String,
    /// What it says.
    pub data: Data,
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = format!("{}.", self.name);
        match &self.data {
            Data::Address(IpAddr::V4(ip)) => write!(f, "{name:<44} {LIFE} IN A     {ip}"),
            Data::Address(IpAddr::V6(ip)) => write!(f, "{name:<44} {LIFE} IN AAAA  {ip}"),
            Data::Minecraft { port, target } => write!(f, "{name:<44} {LIFE} IN SRV   0 5 {port} {target}."),
        }
    }
}

/// The records of a relay whose domain is `domain` and whose addresses are `addresses`; `entries` are its tunnels that have names.
pub fn records(config: &RelayConfig, domain: &Hostname, addresses: &[IpAddr], entries: &[Entry]) -> Vec<Record> {
    let mut records = Vec::new();
    for name in [domain.to_string(), format!("*.{domain}")] {
        for &address in addresses {
            records.push(Record {
                name: name.clone(),
                data: Data::Address(address),
            });
        }
    }
    if config.shared.minecraft.contains(Dialect::Minecraft.default_port()) {
        return records;
    }
    // Without the shared port a player would have to type the tunnel's own; this spares them that.
    let java = entries.iter().filter(|entry| entry.dialect == Some(Dialect::Minecraft));
    for entry in java {
        for name in &entry.names {
            if let Pattern::Exact(name) = name {
                records.push(Record {
                    name: format!("_minecraft._tcp.{name}"),
                    data: Data::Minecraft {
                        port: entry.port,
                        target: name.clone(),
                    },
                });
            }
        }
    }
    records
}

/// What a lookup of a name found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// The name that was looked up.
    pub name: String,
    /// The addresses that it should have and has not.
    pub missing: Vec<IpAddr>,
    /// The addresses that it has and should not.
    pub wrong: Vec<IpAddr>,
}

impl Finding {
    /// Whether the name is as it should be.
    pub fn is_right(&self) -> bool {
        self.missing.is_empty() && self.wrong.is_empty()
    }
}

/// The names whose lookup shows whether the zone is right: the domain, one that only the wildcard covers, and the hosts' own names.
pub fn names_to_check(domain: &Hostname, entries: &[Entry]) -> Vec<String> {
    let own = entries
        .iter()
        .flat_map(|entry| &entry.names)
        .filter_map(|name| match name {
            Pattern::Exact(name) if !name.is_within(domain) => Some(name.to_string()),
            _ => None,
        });
    let own: BTreeSet<String> = own.collect();
    [domain.to_string(), format!("{PROBE}.{domain}")]
        .into_iter()
        .chain(own)
        .collect()
}

/// Compares what a name resolves to with what it should.
pub fn compare(name: &str, found: &[IpAddr], addresses: &[IpAddr]) -> Finding {
    let without = |all: &[IpAddr], others: &[IpAddr]| all.iter().copied().filter(|one| !others.contains(one)).collect();
    Finding {
        name: name.to_owned(),
        missing: without(addresses, found),
        wrong: without(found, addresses),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use spawnpoint_core::port::PortSet;
    use spawnpoint_proto::Protocol;
    use spawnpoint_store::HostId;

    fn entry() -> Entry {
        Entry {
            host: HostId(1),
            tunnel: "minecraft".parse().unwrap(),
            protocol: Protocol::Tcp,
            port: 25571,
            game: "minecraft".into(),
            dialect: Some(Dialect::Minecraft),
            names: vec![
                "desk.play.example.org".parse().unwrap(),
                "mc.example.net".parse().unwrap(),
            ],
            away: None,
            listing: None,
            seen: None,
        }
    }

    fn shown(config: &RelayConfig) -> Vec<String> {
        let addresses = ["203.0.113.5".parse().unwrap(), "2001:db8::5".parse().unwrap()];
        let records = records(config, &"play.example.org".parse().unwrap(), &addresses, &[entry()]);
        let squeeze = |record: &Record| record.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        records.iter().map(squeeze).collect()
    }

    #[test]
    fn a_domain_needs_its_addresses_and_a_wildcard() {
        assert_eq!(
            shown(&RelayConfig::default()),
            [
                "play.example.org. 3600 IN A 203.0.113.5",
                "play.example.org. 3600 IN AAAA 2001:db8::5",
                "*.play.example.org. 3600 IN A 203.0.113.5",
                "*.play.example.org. 3600 IN AAAA 2001:db8::5",
            ]
        );
    }

    #[test]
    fn without_the_shared_port_each_server_has_a_service_record() {
        let mut config = RelayConfig::default();
        config.shared.minecraft = PortSet::default();
        assert_eq!(
            shown(&config)[4..],
            [
                "_minecraft._tcp.desk.play.example.org. 3600 IN SRV 0 5 25571 desk.play.example.org.",
                "_minecraft._tcp.mc.example.net. 3600 IN SRV 0 5 25571 mc.example.net.",
            ]
        );
    }

    #[test]
    fn what_is_looked_up_covers_the_wildcard_and_own_names() {
        let domain = "play.example.org".parse().unwrap();
        let names = names_to_check(&domain, &[entry()]);
        assert_eq!(
            names,
            [
                "play.example.org",
                "spawnpoint-probe-0.play.example.org",
                "mc.example.net"
            ]
        );
        let (a, b) = ("203.0.113.5".parse().unwrap(), "203.0.113.6".parse().unwrap());
        let finding = compare("x", &[b], &[a]);
        assert_eq!(
            (finding.missing.as_slice(), finding.wrong.as_slice(), finding.is_right()),
            (&[a][..], &[b][..], false)
        );
        assert!(compare("x", &[a], &[a]).is_right());
    }
}
