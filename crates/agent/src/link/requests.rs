//! Tunnels as they are configured, and as they are asked of a relay, which knows nothing of game servers.

use spawnpoint_config::tunnel::{Limits, Tunnel};
use spawnpoint_proto::control::{Beside, Need, TunnelLimits, TunnelRequest};

/// What is asked of the relay for `tunnel`.
pub(super) fn request(tunnel: &Tunnel) -> TunnelRequest {
    TunnelRequest {
        name: tunnel.name.clone(),
        protocol: tunnel.protocol,
        public_port: tunnel.public_port,
        // A port that players know from the game need not be typed.
        preferred_port: Some(tunnel.preferred_port()),
        game: tunnel.game.map(str::to_owned),
        redundancy: tunnel.redundancy.then_some(true),
        speaks: tunnel.dialect.map(|dialect| dialect.as_str().to_owned()),
        names: texts(&tunnel.names),
        away: tunnel.away.clone(),
        beside: tunnel.beside.as_ref().map(|beside| Beside {
            tunnel: beside.tunnel.clone(),
            offset: beside.offset,
        }),
        needs: (!tunnel.needs.is_empty()).then(|| {
            let need = |&(protocol, offset)| Need { protocol, offset };
            tunnel.needs.iter().map(need).collect()
        }),
        limits: (!tunnel.limits.is_empty()).then(|| limits(&tunnel.limits)),
    }
}

fn limits(limits: &Limits) -> TunnelLimits {
    TunnelLimits {
        allow: texts(&limits.lists.allow),
        deny: texts(&limits.lists.deny),
        players: limits.players,
        up: limits.up,
        down: limits.down,
    }
}

fn texts<T: ToString>(items: &[T]) -> Option<Vec<String>> {
    (!items.is_empty()).then(|| items.iter().map(ToString::to_string).collect())
}

/// A tunnel for each port of each that is configured.
pub(super) fn expand(tunnels: &[Tunnel]) -> Vec<Tunnel> {
    tunnels.iter().flat_map(Tunnel::expand).collect()
}

/// Whether a changed tunnel is the same to the relay, which does not know the game server.
pub(super) fn is_same_for_relay(one: &Tunnel, other: &Tunnel) -> bool {
    // A wish for a port that is free has come true already; names, words and limits are changed under the players.
    let settled = |tunnel| TunnelRequest {
        preferred_port: None,
        names: None,
        away: None,
        limits: None,
        ..request(tunnel)
    };
    settled(one) == settled(other)
}
