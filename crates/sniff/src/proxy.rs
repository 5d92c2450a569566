//! The PROXY protocol: the header in which a proxy tells the server behind it whose connection this is.
//!
//! Read where a load balancer stands in front of a relay, written where an origin wants to see its players' addresses. Version 1 is a line of text,
//! version 2 is binary and also goes in front of a datagram. Whoever reads a header must know that a proxy wrote it: anybody else could pose as any
//! player. An IPv4 address inside an IPv6 one comes out as IPv4, so that a list of banned addresses means the same however a player came.
//!
//! The codec is our own, the `ppp` crate notwithstanding: that one (2.3.0) takes a line of version 1 that ends before its last port for an invalid one
//! and not for the beginning of one, so a header in two segments could lose its player; it reads version 2 up to the 64 KiB that its length can say; and
//! what is to be added to it (local headers, mixed families, names of offences) is as long as this.
//!
//! Source: "The PROXY protocol", versions 1 and 2, as published with HAProxy (proxy-protocol.txt, 2020-03-05 and later).

mod v1;
mod v2;
mod violation;

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;

use crate::Progress;

pub use violation::Violation;

/// Bytes of the longest header of either version that is read.
pub const MAX_HEADER: usize = v2::HEADER + v2::MAX_REST;

/// Who talks to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Addresses {
    /// Where the player connects from.
    pub source: SocketAddr,
    /// Where the player connected to.
    pub destination: SocketAddr,
}

/// What the connection behind a version 2 header carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// A stream: TCP.
    Stream,
    /// Datagrams: UDP.
    Datagram,
}

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Proxied {
    /// Nothing about a player: the proxy speaks for itself, as in a health check, or has no addresses to tell. The connection's own count.
    Local,
    /// The player's addresses.
    Addresses(Addresses),
}

/// Reads a header of either version at the front of `buf`; what follows it is the player's.
///
/// # Errors
/// The first [`Violation`] found; bytes without a header are told by the first one that differs.
pub fn decode(buf: &[u8]) -> Result<Progress<Proxied>, Violation> {
    let begins = |with: &[u8]| {
        let known = buf.len().min(with.len());
        buf[..known] == with[..known]
    };
    if begins(v2::SIGNATURE) {
        v2::decode(buf)
    } else if begins(v1::PREFIX) {
        v1::decode(buf)
    } else {
        Err(Violation::NotProxy)
    }
}

/// A version 1 header, which only goes in front of a stream. When one address is IPv4 and the other is not, both are written as IPv6.
#[must_use]
pub fn encode_v1(addresses: &Addresses) -> Bytes {
    v1::encode(&addresses.in_one_family())
}

/// A version 2 header. When one address is IPv4 and the other is not, both are written as IPv6.
#[must_use]
pub fn encode_v2(addresses: &Addresses, transport: Transport) -> Bytes {
    v2::encode(&addresses.in_one_family(), transport)
}

impl Addresses {
    /// The addresses as their owners know them.
    fn canonical(source: SocketAddr, destination: SocketAddr) -> Self {
        let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
        Self {
            source: canonical(source),
            destination: canonical(destination),
        }
    }

    /// The addresses as a header holds them: both IPv4 or both IPv6.
    fn in_one_family(&self) -> Self {
        let plain = Self::canonical(self.source, self.destination);
        if plain.source.is_ipv4() == plain.destination.is_ipv4() {
            return plain;
        }
        Self {
            source: as_v6(plain.source),
            destination: as_v6(plain.destination),
        }
    }
}

fn as_v6(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    SocketAddr::new(ip.into(), address.port())
}

#[cfg(test)]
mod tests;
