//! How much of the relay a host and each of its tunnels may use: what its grant says, and what is usual on this relay otherwise.

use spawnpoint_config::relay::RelayConfig;
use spawnpoint_core::admission::Bounds;
use spawnpoint_core::grant::{Grant, Rates};
use spawnpoint_proto::TunnelName;

/// What a host or a tunnel may use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allowance {
    /// How many players.
    pub bounds: Bounds,
    /// How fast they may be.
    pub rates: Rates,
}

impl Allowance {
    /// That of a host, on all its tunnels together.
    pub fn of_host(config: &RelayConfig, grant: &Grant) -> Self {
        Self {
            bounds: grant.caps.bounds(config.players.per_host),
            rates: grant.caps.rates.or(config.bandwidth.per_host),
        }
    }

    /// That of one of its tunnels.
    pub fn of_tunnel(config: &RelayConfig, grant: &Grant, tunnel: &TunnelName) -> Self {
        let caps = grant.caps_of(tunnel);
        Self {
            bounds: caps.bounds(config.players.per_tunnel),
            rates: caps.rates.or(config.bandwidth.per_tunnel),
        }
    }
}
