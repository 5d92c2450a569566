//! How large the packets of a link may become: what the network at this end takes, as the kernel knows it.
//!
//! QUIC finds out by itself what a path takes, up to a bound that is usually Ethernet's. Where the next network takes more (jumbo frames between the
//! machines of a rack, relay and agent on one machine) larger packets carry the same bytes in half of the processor's time. A bound that is too high
//! makes the search longer, some two dozen lost probes, so across the Internet, where no path takes more, nothing larger is tried whatever the first
//! network takes.

use std::net::{IpAddr, SocketAddr};

use crate::listen::canonical;

/// Bytes of a packet that nearly every path takes: Ethernet's, with IPv6.
pub(crate) const USUAL: u16 = 1_452;

/// Bytes of the largest packet that is ever tried. QUIC here hands ten to the kernel in one call, which takes 65,507 bytes.
pub(crate) const LARGEST: u16 = 6_550;

/// Every path of QUIC takes so much (RFC 9000, section 14).
const LEAST: u16 = 1_200;

/// The bytes of the largest packet that is worth trying towards `peer`.
pub(crate) fn largest_towards(peer: SocketAddr) -> u16 {
    let peer = canonical(peer);
    let largest = largest(mtu_towards(peer), peer.is_ipv4());
    match is_near(peer.ip()) {
        true => largest,
        false => largest.min(USUAL),
    }
}

/// Whether the way to `ip` is somebody's own from end to end.
const fn is_near(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

/// The same, by what the next network takes of packets with their headers.
fn largest(mtu: Option<u32>, is_ipv4: bool) -> u16 {
    // Addresses and ports; options are rare enough for a probe to find out.
    let headers = if is_ipv4 { 28 } else { 48 };
    match mtu {
        Some(mtu) if mtu > u32::from(USUAL) + 48 => (mtu - headers).min(LARGEST.into()) as u16,
        Some(mtu) => (mtu.saturating_sub(headers).min(USUAL.into()) as u16).max(LEAST),
        None => USUAL,
    }
}

/// What the network that the kernel would send through to `peer` takes; nothing where it does not say.
#[cfg(target_os = "linux")]
fn mtu_towards(peer: SocketAddr) -> Option<u32> {
    let route = crate::interfaces::route_to(peer).ok()?;
    let mtu = match peer.is_ipv4() {
        true => rustix::net::sockopt::ip_mtu(&route),
        false => rustix::net::sockopt::ipv6_mtu(&route),
    };
    mtu.ok()
}

#[cfg(not(target_os = "linux"))]
const fn mtu_towards(_: SocketAddr) -> Option<u32> {
    None
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;

    #[test]
    fn a_network_of_jumbo_frames_is_used_and_one_that_takes_less_is_not_asked_for_more() {
        assert_eq!(largest(Some(9_000), true), LARGEST);
        assert_eq!(largest(Some(65_536), false), LARGEST);
        assert_eq!(largest(Some(4_000), false), 3_952);
        assert_eq!(largest(Some(1_500), true), USUAL);
        assert_eq!(largest(Some(1_420), true), 1_392, "a WireGuard interface");
        assert_eq!(largest(Some(576), true), LEAST);
        assert_eq!(largest(None, true), USUAL);
    }

    #[test]
    fn across_the_internet_nothing_larger_than_usual_is_tried() {
        assert!(largest_towards(([203, 0, 113, 5], 9).into()) <= USUAL);
        assert!(is_near([10, 1, 2, 3].into()) && is_near(Ipv6Addr::LOCALHOST.into()));
        assert!(!is_near([8, 8, 8, 8].into()) && !is_near(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into()));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_machine_takes_large_packets_for_itself() {
        assert_eq!(largest_towards(([127, 0, 0, 1], 9).into()), LARGEST);
    }
}
