//! How much of the relay a host and each of its tunnels may use: what its grant says, and what is usual on this relay otherwise; more slowly when a quota is used up.

use spawnpoint_core::admission::Bounds;
use spawnpoint_core::grant::Rates;
use spawnpoint_core::route::HostNumber;
use spawnpoint_proto::control::TunnelRequest;
use spawnpoint_store::Host;

use crate::context::Context;
use crate::usage::Quota;

/// No host makes its players slower than this, in bytes a second.
const SLOWEST: u64 = 8_000;

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

    /// That of one of its tunnels: what the grant says, or less if the host itself says so.
    pub fn of_tunnel(context: &Context, host: &Host, request: &TunnelRequest) -> Self {
        let (config, caps) = (context.config(), host.grant.caps_of(&request.name));
        let wish = request.limits.clone().unwrap_or_default();
        let usual = caps.bounds(config.players.per_tunnel);
        let bounds = Bounds {
            players: wish.players.map_or(usual.players, |players| players.min(usual.players)),
            ..usual
        };
        let rates = caps.rates.or(config.bandwidth.per_tunnel);
        let rates = Rates {
            up: least(rates.up, wish.up),
            down: least(rates.down, wish.down),
            ..rates
        };
        let quota = Quota::Tunnel(HostNumber(host.id.0), request.name.clone());
        Self {
            bounds,
            rates: context.books.rates_of(&quota, rates, config.bandwidth.after_quota),
        }
    }
}

/// The slower of a granted speed and one that a host asks for, which may be anything.
fn least(granted: Option<u64>, asked: Option<u64>) -> Option<u64> {
    let asked = asked.map(|asked| asked.max(SLOWEST));
    granted.into_iter().chain(asked).min()
}
