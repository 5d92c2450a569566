//! Version 2: sixteen bytes, the addresses, and whatever the proxy adds (TLVs), which is passed over.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::{BufMut, Bytes, BytesMut};

use super::{Addresses, Proxied, Transport, Violation};
use crate::Progress;

/// How every header begins; no other protocol does.
pub(super) const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Bytes of the fixed part: signature, version and command, family and transport, length of the rest.
pub(super) const HEADER: usize = 16;

/// Bytes after the fixed part that are read: a pair of UNIX paths, and as much again and more for what a proxy adds.
pub(super) const MAX_REST: usize = 536;

const VERSION: u8 = 2;

const LOCAL: u8 = 0;
const PROXY: u8 = 1;

const INET: u8 = 1;
const INET6: u8 = 2;
const UNIX: u8 = 3;

const STREAM: u8 = 1;
const DATAGRAM: u8 = 2;

/// Reads a header that begins as it should.
pub(super) fn decode(buf: &[u8]) -> Result<Progress<Proxied>, Violation> {
    let Some(fixed) = buf.get(SIGNATURE.len()..HEADER) else {
        return Ok(Progress::NeedMore);
    };
    let (version, command) = (fixed[0] >> 4, fixed[0] & 0x0f);
    let (family, transport) = (fixed[1] >> 4, fixed[1] & 0x0f);
    let size = usize::from(u16::from_be_bytes([fixed[2], fixed[3]]));
    if version != VERSION {
        return Err(Violation::BadVersion);
    }
    if command != LOCAL && command != PROXY {
        return Err(Violation::BadCommand);
    }
    // A local header's family means nothing.
    if command == PROXY && (family > UNIX || transport > DATAGRAM) {
        return Err(Violation::BadFamily);
    }
    if size > MAX_REST {
        return Err(Violation::HeaderTooLong);
    }
    let Some(rest) = buf.get(HEADER..HEADER + size) else {
        return Ok(Progress::NeedMore);
    };
    let value = match (command, family, transport) {
        (PROXY, INET, STREAM | DATAGRAM) => addresses::<4, Ipv4Addr>(rest)?,
        (PROXY, INET6, STREAM | DATAGRAM) => addresses::<16, Ipv6Addr>(rest)?,
        _ => Proxied::Local,
    };
    Ok(Progress::Done {
        value,
        consumed: HEADER + size,
    })
}

/// Reads two addresses of `N` bytes and their ports.
fn addresses<const N: usize, T: From<[u8; N]> + Into<IpAddr>>(rest: &[u8]) -> Result<Proxied, Violation> {
    let (source, rest) = rest.split_first_chunk::<N>().ok_or(Violation::HeaderShort)?;
    let (destination, rest) = rest.split_first_chunk::<N>().ok_or(Violation::HeaderShort)?;
    let (source_port, rest) = rest.split_first_chunk().ok_or(Violation::HeaderShort)?;
    let (destination_port, _) = rest.split_first_chunk().ok_or(Violation::HeaderShort)?;
    let address = |ip: &[u8; N], port: &[u8; 2]| SocketAddr::new(T::from(*ip).into(), u16::from_be_bytes(*port));
    Ok(Proxied::Addresses(Addresses::canonical(
        address(source, source_port),
        address(destination, destination_port),
    )))
}

/// Writes addresses of one family.
pub(super) fn encode(addresses: &Addresses, transport: Transport) -> Bytes {
    let Addresses { source, destination } = addresses;
    let (family, ip_size) = if source.is_ipv4() { (INET, 4) } else { (INET6, 16) };
    let transport = match transport {
        Transport::Stream => STREAM,
        Transport::Datagram => DATAGRAM,
    };
    let rest = 2 * (ip_size + size_of::<u16>());
    let mut out = BytesMut::with_capacity(HEADER + rest);
    out.put_slice(SIGNATURE);
    out.put_u8(VERSION << 4 | PROXY);
    out.put_u8(family << 4 | transport);
    out.put_u16(rest as u16);
    put_ip(&mut out, source.ip());
    put_ip(&mut out, destination.ip());
    out.put_u16(source.port());
    out.put_u16(destination.port());
    out.freeze()
}

fn put_ip(out: &mut BytesMut, ip: IpAddr) {
    match ip {
        IpAddr::V4(ip) => out.put_slice(&ip.octets()),
        IpAddr::V6(ip) => out.put_slice(&ip.octets()),
    }
}
