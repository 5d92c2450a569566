//! How much of the relay a host and each of its tunnels may use: what its grant says, and what is usual on this relay otherwise; more slowly when a quota is used up.

use spawnpoint_core::admission::Bounds;
use spawnpoint_core::grant::Rates;
use spawnpoint_core::route::HostNumber;
use spawnpoint_proto::TunnelName;
use spawnpoint_store::Host;

use crate::context::Context;
use crate::usage::Quota;

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
    pub fn of_host(context: &Context, host: &Host) -> Self {
        let (config, caps) = (context.config(), &host.grant.caps);
        let rates = caps.rates.or(config.bandwidth.per_host);
        let quota = Quota::Host(HostNumber(host.id.0));
        Self {
            bounds: caps.bounds(config.players.per_host),
            rates: context.books.rates_of(&quota, rates, config.bandwidth.after_quota),
        }
    }

    /// That of one of its tunnels.
    pub fn of_tunnel(context: &Context, host: &Host, tunnel: &TunnelName) -> Self {
        let (config, caps) = (context.config(), host.grant.caps_of(tunnel));
        let rates = caps.rates.or(config.bandwidth.per_tunnel);
        let quota = Quota::Tunnel(HostNumber(host.id.0), tunnel.clone());
        Self {
            bounds: caps.bounds(config.players.per_tunnel),
            rates: context.books.rates_of(&quota, rates, config.bandwidth.after_quota),
        }
    }
}
