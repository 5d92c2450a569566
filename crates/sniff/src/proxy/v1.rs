//! Version 1: one line of text, for TCP.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use bytes::Bytes;

use super::{Addresses, Proxied, Violation};
use crate::Progress;

/// How every line begins.
pub(super) const PREFIX: &[u8] = b"PROXY ";

/// Bytes of the longest line, with its end.
const MAX_LINE: usize = 107;

const END: &[u8] = b"\r\n";

/// Reads a line that begins as it should.
pub(super) fn decode(buf: &[u8]) -> Result<Progress<Proxied>, Violation> {
    let line = &buf[..buf.len().min(MAX_LINE)];
    let Some(size) = line.windows(END.len()).position(|two| two == END) else {
        return if line.len() < MAX_LINE {
            Ok(Progress::NeedMore)
        } else {
            Err(Violation::LineTooLong)
        };
    };
    Ok(Progress::Done {
        value: parse(&line[..size]).ok_or(Violation::BadLine)?,
        consumed: size + END.len(),
    })
}

fn parse(line: &[u8]) -> Option<Proxied> {
    let mut words = line.split(|&byte| byte == b' ').skip(1);
    let addresses = match words.next()? {
        b"TCP4" => addresses::<Ipv4Addr>(&mut words)?,
        b"TCP6" => addresses::<Ipv6Addr>(&mut words)?,
        // Whatever follows is for nobody to read.
        b"UNKNOWN" => return Some(Proxied::Local),
        _ => return None,
    };
    words.next().is_none().then_some(Proxied::Addresses(addresses))
}

fn addresses<'a, T: FromStr + Into<IpAddr>>(words: &mut impl Iterator<Item = &'a [u8]>) -> Option<Addresses> {
    let mut word = || std::str::from_utf8(words.next()?).ok();
    let (source, destination) = (word()?.parse::<T>().ok()?, word()?.parse::<T>().ok()?);
    let (source_port, destination_port) = (port(word()?)?, port(word()?)?);
    Some(Addresses::canonical(
        SocketAddr::new(source.into(), source_port),
        SocketAddr::new(destination.into(), destination_port),
    ))
}

/// A port without a sign or a leading zero, which `parse` alone would take.
fn port(word: &str) -> Option<u16> {
    let is_plain = word.bytes().all(|byte| byte.is_ascii_digit()) && (word == "0" || !word.starts_with('0'));
    word.parse().ok().filter(|_| is_plain)
}

/// Writes addresses of one family.
pub(super) fn encode(addresses: &Addresses) -> Bytes {
    let Addresses { source, destination } = addresses;
    let protocol = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    format!(
        "PROXY {protocol} {} {} {} {}\r\n",
        source.ip(),
        destination.ip(),
        source.port(),
        destination.port()
    )
    .into()
}
