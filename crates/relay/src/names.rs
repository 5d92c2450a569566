//! The names of a tunnel under the relay's domain, and the best that its players can type.
//!
//! Every tunnel has `TUNNEL.HOST.DOMAIN`. `HOST.DOMAIN` is that of the host's first tunnel in a dialect, for good. Which names are really a tunnel's says the
//! directory; which of them its grant allows, `spawnpoint_core::grant`.

use spawnpoint_config::relay::RelayConfig;
use spawnpoint_core::hostname::{Hostname, Pattern};
use spawnpoint_proto::control::MAX_ADDRESS;
use spawnpoint_proto::{Dialect, HostName, TunnelName, host_port};

/// The name under which a host's tunnels with ports of their own are reached: its own under the relay's domain.
pub(crate) fn of_host(config: &RelayConfig, host: &HostName) -> Option<Hostname> {
    config.domain.as_ref()?.under(host.as_str()).ok()
}

/// The names that a tunnel has under the relay's domain if nobody else has them, the one to show first. A name too long for DNS is none.
pub(crate) fn offered(config: &RelayConfig, host: &HostName, tunnel: &TunnelName) -> Vec<Pattern> {
    let Some(short) = of_host(config, host) else {
        return Vec::new();
    };
    let long = short.under(tunnel.as_str()).ok();
    std::iter::once(short).chain(long).map(Pattern::Exact).collect()
}

/// The best that players of a tunnel can type, unless that is the relay's own name and the public port.
pub(crate) fn address(
    config: &RelayConfig,
    host: &HostName,
    dialect: Option<Dialect>,
    names: &[Pattern],
    port: u16,
) -> Option<String> {
    let shared = dialect.and_then(|dialect| {
        let ports = config.shared.ports(dialect);
        let name = names.iter().find(|name| matches!(name, Pattern::Exact(_)))?.name();
        let usual = dialect.default_port();
        match ports.iter().next() {
            _ if ports.contains(usual) => Some(name.to_string()),
            Some(port) => Some(host_port(name.as_str(), port)),
            None => None,
        }
    });
    let shared = shared.filter(|_| config.domain.is_some());
    let own = || Some(host_port(of_host(config, host)?.as_str(), port));
    shared.or_else(own).filter(|address| address.len() <= MAX_ADDRESS)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn config(domain: Option<&str>) -> RelayConfig {
        RelayConfig {
            domain: domain.map(|domain| domain.parse().unwrap()),
            ..RelayConfig::default()
        }
    }

    fn shown(config: &RelayConfig, dialect: Option<Dialect>) -> Option<String> {
        let (host, tunnel) = ("desk".parse().unwrap(), "mc".parse().unwrap());
        address(config, &host, dialect, &offered(config, &host, &tunnel), 25570)
    }

    #[test]
    fn players_type_as_little_as_they_can() {
        let mut config = config(Some("play.example.org"));
        let java = Some(Dialect::Minecraft);
        assert_eq!(shown(&config, java).unwrap(), "desk.play.example.org");
        assert_eq!(shown(&config, None).unwrap(), "desk.play.example.org:25570");
        assert_eq!(
            shown(&config, Some(Dialect::Tls)).unwrap(),
            "desk.play.example.org:25570"
        );
        config.shared.minecraft = "25575-25576".parse().unwrap();
        assert_eq!(shown(&config, java).unwrap(), "desk.play.example.org:25575");
    }

    #[test]
    fn without_a_domain_there_is_only_the_port() {
        assert_eq!(shown(&config(None), Some(Dialect::Minecraft)), None);
    }

    #[test]
    fn a_name_too_long_for_dns_is_not_offered() {
        let long = vec!["a".repeat(62); 4].join(".");
        let config = config(Some(&long));
        assert_eq!(
            offered(&config, &"desk".parse().unwrap(), &"mc".parse().unwrap()).len(),
            0
        );
        assert_eq!(shown(&config, Some(Dialect::Minecraft)), None);
    }
}
