//! The part of an address by which players are told apart.

use std::net::{IpAddr, Ipv6Addr};

/// A key of the gate's table.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Prefix {
    /// IPv4 /32.
    V4(u32),
    /// IPv6 /64.
    V6(u64),
    /// IPv4 /24.
    Network4(u32),
    /// IPv6 /48.
    Network6(u64),
    /// Everybody for whom the table has no room.
    Rest,
}

/// The prefix by which the player at `ip` is told apart, as its first address: IPv4 /32, IPv6 /64.
pub fn prefix_of(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
    }
}

/// The network in which addresses are taken to be one place's, as its first address: IPv4 /24, IPv6 /48.
pub fn network_of(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => std::net::Ipv4Addr::from_bits(ip.to_bits() >> 8 << 8).into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 80 << 80).into(),
    }
}

impl Prefix {
    pub fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => Self::V4(ip.into()),
            IpAddr::V6(ip) => Self::V6((Ipv6Addr::to_bits(ip) >> 64) as u64),
        }
    }

    /// The network that it lies in.
    pub const fn network(self) -> Self {
        match self {
            Self::V4(ip) => Self::Network4(ip >> 8),
            Self::V6(ip) => Self::Network6(ip >> 16),
            other => other,
        }
    }
}
