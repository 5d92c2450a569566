//! The pings of the clients before 1.7, which some of today's tools still send.
//!
//! There are three, each the beginning of the next: one byte, two bytes, and two bytes followed by a packet with the host. The answer to each is a kick
//! whose reason holds the list entry, in UTF-16. The oldest form separates its fields by the section sign, the later two by NUL.

use bytes::{BufMut, BytesMut};

use super::{Listing, Violation, handshake, text};
use crate::Progress;

/// The first byte of every legacy ping.
pub(super) const PING: u8 = 0xfe;

/// The second byte of the later two.
pub(super) const EXTENDED: u8 = 0x01;

/// The third byte of the last, which is a packet of its own.
pub(super) const PLUGIN: u8 = 0xfa;

/// The first byte of the answer.
const KICK: u8 = 0xff;

/// What a ping with a host starts with: ping, plugin message, the name of its channel with its length.
const WITH_HOST: &[u8; 27] = b"\xfe\x01\xfa\x00\x0b\0M\0C\0|\0P\0i\0n\0g\0H\0o\0s\0t";

/// Bytes in the rest of a ping with a host, beside the host: protocol, length of the host, port.
const FIXED: usize = 1 + 2 + 4;

/// UTF-16 units of a host name.
const MAX_HOST: usize = 255;

/// UTF-16 units of a reason that the oldest clients read.
const MAX_BARE_REASON: usize = 64;

/// UTF-16 units of a reason that the later two read.
const MAX_REASON: usize = 256;

/// Characters of a version name that are sent, so that the message has room.
const MAX_VERSION: usize = 32;

/// The protocol number of 1.5.2, the last game that asks without telling its own.
const LAST_UNTOLD_PROTOCOL: i32 = 61;

/// A legacy ping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ping {
    /// `FE`: Beta 1.8 to 1.3.
    Bare,
    /// `FE 01`: 1.4 and 1.5. Also `FE 01 FA`, with which some tools ask.
    Extended,
    /// `FE 01 FA` and a message on the channel `MC|PingHost`: 1.6.
    WithHost {
        /// The protocol number of the player's game.
        protocol: u8,
        /// The server as the player typed it; route by [`Ping::hostname`].
        host: String,
        /// The port the player connected to.
        port: u16,
    },
}

impl Ping {
    /// Reads a legacy ping at the front of `buf`, taking as much for it as is there: a lone `FE` is a whole ping and may yet become another,
    /// as may `FE 01` and `FE 01 FA`. [`super::First`] also knows the modern packets that begin alike.
    ///
    /// # Errors
    /// [`Violation::UnexpectedPacket`] when the first byte is another; [`Violation::BadLegacyPing`], [`Violation::HostTooLong`] or
    /// [`Violation::BadUnicode`] in a ping with a host.
    pub fn decode(buf: &[u8]) -> Result<Progress<Self>, Violation> {
        let (value, consumed) = match *buf {
            [] => return Ok(Progress::NeedMore),
            [PING] => (Self::Bare, 1),
            [PING, EXTENDED] => (Self::Extended, 2),
            // What mcstatus sends, and then waits; a 1.6 player goes on.
            [PING, EXTENDED, PLUGIN] => (Self::Extended, 3),
            [PING, EXTENDED, PLUGIN, ..] => return with_host(buf),
            [PING, ..] => return Err(Violation::BadLegacyPing),
            _ => return Err(Violation::UnexpectedPacket),
        };
        Ok(Progress::Done { value, consumed })
    }

    /// Appends this ping to `out`.
    ///
    /// # Errors
    /// [`Violation::HostTooLong`]; nothing is appended then.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), Violation> {
        match self {
            Self::Bare => out.put_u8(PING),
            Self::Extended => out.put_slice(&[PING, EXTENDED]),
            Self::WithHost { protocol, host, port } => {
                let units: Vec<u16> = host.encode_utf16().take(MAX_HOST + 1).collect();
                if units.len() > MAX_HOST {
                    return Err(Violation::HostTooLong);
                }
                out.put_slice(WITH_HOST);
                out.put_u16((FIXED + 2 * units.len()) as u16);
                out.put_u8(*protocol);
                put_units(out, &units);
                out.put_u32(u32::from(*port));
            }
        }
        Ok(())
    }

    /// The name to route by, cleaned as [`super::Handshake::hostname`] does; the older two forms carry none.
    #[must_use]
    pub fn hostname(&self) -> Option<String> {
        match self {
            Self::Bare | Self::Extended => None,
            Self::WithHost { host, .. } => Some(handshake::hostname(host)),
        }
    }

    /// The protocol number to answer with so that the entry is not shown as outdated, as far as the ping tells.
    #[must_use]
    pub fn protocol(&self) -> i32 {
        match self {
            Self::Bare | Self::Extended => LAST_UNTOLD_PROTOCOL,
            Self::WithHost { protocol, .. } => i32::from(*protocol),
        }
    }
}

/// Reads a ping that has shown itself to be of the third form.
fn with_host(buf: &[u8]) -> Result<Progress<Ping>, Violation> {
    let known = buf.len().min(WITH_HOST.len());
    if buf[..known] != WITH_HOST[..known] {
        return Err(Violation::BadLegacyPing);
    }
    let Some((rest_size, rest)) = take_u16(&buf[known..]) else {
        return Ok(Progress::NeedMore);
    };
    let host_size = usize::from(rest_size)
        .checked_sub(FIXED)
        .ok_or(Violation::BadLegacyPing)?;
    if host_size % 2 != 0 {
        return Err(Violation::BadLegacyPing);
    }
    if host_size / 2 > MAX_HOST {
        return Err(Violation::HostTooLong);
    }
    let Some(rest) = rest.get(..FIXED + host_size) else {
        return Ok(Progress::NeedMore);
    };
    let (host, port) = rest[3..].split_at(host_size);
    if usize::from(u16::from_be_bytes([rest[1], rest[2]])) * 2 != host_size {
        return Err(Violation::BadLegacyPing);
    }
    let port = match *port {
        [0, 0, high, low] => u16::from_be_bytes([high, low]),
        _ => return Err(Violation::BadLegacyPing),
    };
    Ok(Progress::Done {
        value: Ping::WithHost {
            protocol: rest[0],
            host: decode_units(host)?,
            port,
        },
        consumed: WITH_HOST.len() + 2 + FIXED + host_size,
    })
}

/// Appends the entry to `out` as the client that sent `ping` reads it. The message is clipped to what fits; the sample has no place in it.
pub fn encode_reply(listing: &Listing, ping: &Ping, out: &mut BytesMut) {
    let (online, most) = (listing.online, listing.max);
    let (head, motd, tail, max) = match ping {
        // A section sign separates the fields here, so the message cannot keep its colours.
        Ping::Bare => (
            String::new(),
            one_line(&without_codes(&listing.motd)),
            format!("§{online}§{most}"),
            MAX_BARE_REASON,
        ),
        Ping::Extended | Ping::WithHost { .. } => (
            format!(
                "§1\0{}\0{}\0",
                listing.protocol,
                one_line(text::clip(&listing.version, MAX_VERSION))
            ),
            one_line(&listing.motd),
            format!("\0{online}\0{most}"),
            MAX_REASON,
        ),
    };
    let mut units: Vec<u16> = head.encode_utf16().collect();
    let tail: Vec<u16> = tail.encode_utf16().collect();
    let mut pair = [0; 2];
    for char in motd.chars() {
        let char = char.encode_utf16(&mut pair);
        if units.len() + char.len() + tail.len() > max {
            break;
        }
        units.extend_from_slice(char);
    }
    units.extend_from_slice(&tail);
    out.put_u8(KICK);
    put_units(out, &units);
}

/// Reads a legacy entry of any form at the front of `buf`. The oldest form tells neither version nor protocol, which come as `""` and -1.
///
/// # Errors
/// [`Violation::UnexpectedPacket`] when it is no kick, [`Violation::TextTooLong`], [`Violation::BadUnicode`], or [`Violation::BadLegacyReply`] when
/// the kick holds no entry.
pub fn decode_reply(buf: &[u8]) -> Result<Progress<Listing>, Violation> {
    let Some((&kick, rest)) = buf.split_first() else {
        return Ok(Progress::NeedMore);
    };
    if kick != KICK {
        return Err(Violation::UnexpectedPacket);
    }
    let Some((units, rest)) = take_u16(rest) else {
        return Ok(Progress::NeedMore);
    };
    let units = usize::from(units);
    if units > MAX_REASON {
        return Err(Violation::TextTooLong);
    }
    let Some(reason) = rest.get(..2 * units) else {
        return Ok(Progress::NeedMore);
    };
    let value = entry(&decode_units(reason)?).ok_or(Violation::BadLegacyReply)?;
    Ok(Progress::Done {
        value,
        consumed: 3 + 2 * units,
    })
}

fn entry(reason: &str) -> Option<Listing> {
    let modern = reason.strip_prefix("§1\0");
    let mut fields = reason.split('§');
    let mut listing = Listing {
        protocol: -1,
        ..Listing::default()
    };
    let mut rest = match modern {
        Some(modern) => {
            let mut fields = modern.split('\0');
            listing.protocol = fields.next()?.parse().ok()?;
            listing.version = fields.next()?.to_owned();
            listing.motd = fields.next()?.to_owned();
            [fields.next(), fields.next(), fields.next()]
        }
        None => {
            listing.motd = fields.next()?.to_owned();
            [fields.next(), fields.next(), fields.next()]
        }
    }
    .into_iter();
    // A server without a limit says -1.
    listing.online = rest.next()??.parse::<i64>().ok()?.try_into().unwrap_or(0);
    listing.max = rest.next()??.parse::<i64>().ok()?.try_into().unwrap_or(0);
    rest.next()?.is_none().then_some(listing)
}

/// `text` without colour codes, which are a section sign and the character after it.
fn without_codes(text: &str) -> String {
    let mut chars = text.chars();
    let mut out = String::with_capacity(text.len());
    while let Some(char) = chars.next() {
        if char == '§' {
            chars.next();
        } else {
            out.push(char);
        }
    }
    out
}

/// `text` with spaces for the NULs, which would end a field, and for line ends, which these clients show as boxes.
fn one_line(text: &str) -> String {
    text.replace(['\0', '\n', '\r'], " ")
}

fn take_u16(buf: &[u8]) -> Option<(u16, &[u8])> {
    let (value, rest) = buf.split_first_chunk()?;
    Some((u16::from_be_bytes(*value), rest))
}

/// Writes units behind their number, which every caller has kept below 2^16.
fn put_units(out: &mut BytesMut, units: &[u16]) {
    out.put_u16(units.len() as u16);
    units.iter().for_each(|&unit| out.put_u16(unit));
}

fn decode_units(bytes: &[u8]) -> Result<String, Violation> {
    let units = bytes.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
    char::decode_utf16(units)
        .collect::<Result<_, _>>()
        .map_err(|_| Violation::BadUnicode)
}
