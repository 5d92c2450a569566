//! What a datagram shows to everybody: its form, its version, its connection ids.

use super::field::Fields;
use super::keys::Version;

/// The bit that tells long headers from short ones in every version.
const LONG: u8 = 0x80;

/// The bit that is set in every packet of the versions read here, unless both ends have agreed to grease it.
const FIXED: u8 = 0x40;

/// Bytes of a connection id in the versions read here; in others it may have up to 255.
const MAX_ID: usize = 20;

/// What a packet is for, of those with a long header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Initial,
    ZeroRtt,
    Handshake,
    Retry,
}

/// The part of a long header that every version has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LongHeader<'a> {
    /// The version of QUIC; 0 in a server's list of versions.
    pub version: u32,
    /// The connection id that the packet goes to. In a client's first packets it is one the client made up.
    pub destination: &'a [u8],
    /// The connection id that answers go to.
    pub source: &'a [u8],
    /// Whether this is an Initial packet of a version that [`is_supported`]: the only kind that opens a connection.
    pub is_initial: bool,
}

impl<'a> LongHeader<'a> {
    /// Reads the header of the first packet in `datagram`; `None` when it is a short one, or none of QUIC's.
    #[must_use]
    pub fn decode(datagram: &'a [u8]) -> Option<Self> {
        Self::read(&mut Fields(datagram)).map(|(header, _)| header)
    }

    /// Reads a header, and the kind of its packet where the version is one read here.
    pub(super) fn read(fields: &mut Fields<'a>) -> Option<(Self, Option<Kind>)> {
        let first = fields.u8().filter(|first| first & LONG != 0)?;
        let version = fields.u32()?;
        let destination = fields.id()?;
        let source = fields.id()?;
        let mut kind = None;
        if let Some(version) = Version::from_number(version) {
            if first & FIXED == 0 || destination.len() > MAX_ID || source.len() > MAX_ID {
                return None;
            }
            kind = Some(version.kind(first));
        }
        let header = Self {
            version,
            destination,
            source,
            is_initial: kind == Some(Kind::Initial),
        };
        Some((header, kind))
    }
}

/// Whether `datagram` begins with a long header, as everything does that a client sends before it has heard from the server.
#[must_use]
pub fn is_long(datagram: &[u8]) -> bool {
    datagram.first().is_some_and(|first| first & LONG != 0)
}

/// Whether the Initial packets of `version` can be read: those of version 1 and 2.
#[must_use]
pub fn is_supported(version: u32) -> bool {
    Version::from_number(version).is_some()
}

/// The connection id in a short header. Its `length` is not in the packet: it is that of the ids which the server gave out.
#[must_use]
pub fn short_destination(datagram: &[u8], length: usize) -> Option<&[u8]> {
    let (first, rest) = datagram.split_first()?;
    if first & LONG != 0 {
        return None;
    }
    rest.get(..length)
}
