//! Why a player does not enter.

use crate::access::Barred;

/// Whose circle of players.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Whose {
    /// One address: IPv4 /32, IPv6 /64.
    Address,
    /// Its network, IPv4 /24 or IPv6 /48, which counts while the relay is under attack.
    Network,
    /// One tunnel.
    Tunnel,
    /// One host.
    Host,
    /// The whole relay.
    Relay,
}

/// What a circle has no more of.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Full {
    /// Places.
    Players,
    /// Places for players whom no server has answered yet.
    HalfOpen,
    /// New players for this second.
    Rate,
}

/// Why a player does not enter.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum DenyReason {
    /// A circle of players takes no more.
    Full(Whose, Full),
    /// The relay is going down.
    Draining,
    /// The relay has no memory for more players.
    Memory,
    /// The host's agent is away.
    NoAgent,
    /// A ban or a list says so.
    Barred(Barred),
    /// The country says so.
    Country,
    /// A list says so that was asked through DNS.
    Listed,
    /// The host, its tunnel or the relay has used up its traffic for this month.
    Quota,
}

impl DenyReason {
    /// The word used in logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full(whose, full) => word(whose, full),
            Self::Draining => "draining",
            Self::Memory => "memory",
            Self::NoAgent => "no_agent",
            Self::Barred(barred) => barred.as_str(),
            Self::Country => "country",
            Self::Listed => "listed",
            Self::Quota => "quota",
        }
    }
}

const fn word(whose: Whose, full: Full) -> &'static str {
    match (full, whose) {
        (Full::Players, Whose::Address) => "players_of_address",
        (Full::Players, Whose::Network) => "players_of_network",
        (Full::Players, Whose::Tunnel) => "players_of_tunnel",
        (Full::Players, Whose::Host) => "players_of_host",
        (Full::Players, Whose::Relay) => "players_of_relay",
        (Full::HalfOpen, Whose::Address) => "half_open_of_address",
        (Full::HalfOpen, Whose::Network) => "half_open_of_network",
        (Full::HalfOpen, Whose::Tunnel) => "half_open_of_tunnel",
        (Full::HalfOpen, Whose::Host) => "half_open_of_host",
        (Full::HalfOpen, Whose::Relay) => "half_open_of_relay",
        (Full::Rate, Whose::Address) => "rate_of_address",
        (Full::Rate, Whose::Network) => "rate_of_network",
        (Full::Rate, Whose::Tunnel) => "rate_of_tunnel",
        (Full::Rate, Whose::Host) => "rate_of_host",
        (Full::Rate, Whose::Relay) => "rate_of_relay",
    }
}
