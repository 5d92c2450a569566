//! How many players a host and each of its tunnels take: what its grant says, and what is usual on this relay otherwise.

use spawnpoint_config::relay::RelayConfig;
use spawnpoint_core::admission::Bounds;
use spawnpoint_core::grant::Grant;
use spawnpoint_proto::TunnelName;

/// Those of a host, on all its tunnels together.
pub(crate) fn of_host(config: &RelayConfig, grant: &Grant) -> Bounds {
    grant.caps.bounds(config.players.per_host)
}

/// Those of one of its tunnels.
pub(crate) fn of_tunnel(config: &RelayConfig, grant: &Grant, tunnel: &TunnelName) -> Bounds {
    grant.caps_of(tunnel).bounds(config.players.per_tunnel)
}
