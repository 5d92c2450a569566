//! Puts a ClientHello together from a client's Initial packets.

use super::field::Fields;
use super::header::{Kind, LongHeader, is_long};
use super::keys::{Keys, SAMPLE, Version};
use super::pieces::Pieces;
use super::{Violation, frame};
use crate::tls::{self, Hello};

/// Datagrams that one hello may take, retransmissions included; today's largest hellos take two.
pub const MAX_DATAGRAMS: usize = 8;

/// Bytes of all these datagrams.
pub const MAX_BYTES: usize = 16 * 1024;

/// Bytes of a packet number at most; the sample begins as far after its first byte, however long it is.
const MAX_NUMBER: usize = 4;

/// The first datagrams of one client, until they hold its hello.
///
/// Keeps at most [`MAX_BYTES`] of what is in them, and not the datagrams themselves: the caller holds those, as they are, for the origin.
#[derive(Debug, Default)]
pub struct Initials {
    keys: Option<Keys>,
    /// The highest packet number so far; others are sent as their last bytes and read as those nearest to it.
    highest: Option<u64>,
    datagrams: usize,
    bytes: usize,
    pieces: Pieces,
}

impl Initials {
    /// For a client that nothing was heard of.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next datagram and returns the hello once it is whole; until then `None`. A datagram without Initial packets, as of early data that
    /// overtook them, is no offence.
    ///
    /// The keys are those of the first datagram that they open; a server's choice of another connection id does not change them.
    ///
    /// # Errors
    /// The first [`Violation`] found. A datagram that causes one is to be dropped; those before it stay good and later ones may still complete the hello,
    /// unless it is [`Violation::Hello`] or one of those that say "too many", which last.
    pub fn on_datagram(&mut self, datagram: &[u8]) -> Result<Option<Hello>, Violation> {
        self.count(datagram)?;
        if !is_long(datagram) {
            return Err(Violation::NotLong);
        }
        let first = LongHeader::decode(datagram).ok_or(Violation::BadPacket)?;
        let version = Version::from_number(first.version).ok_or(Violation::BadVersion)?;
        let keys = match self.keys.take() {
            Some(keys) => keys,
            None => Keys::of_client(version, first.destination),
        };
        let opened = if keys.version == version {
            self.open_all(&keys, datagram)
        } else {
            Err(Violation::BadVersion)
        };
        // A datagram whose packets do not open is not the client's first: its id is no more than a claim.
        if self.highest.is_some() {
            self.keys = Some(keys);
        }
        opened?;
        self.hello()
    }

    fn count(&mut self, datagram: &[u8]) -> Result<(), Violation> {
        self.datagrams = self.datagrams.saturating_add(1);
        self.bytes = self.bytes.saturating_add(datagram.len());
        if self.datagrams > MAX_DATAGRAMS {
            return Err(Violation::TooManyDatagrams);
        }
        if self.bytes > MAX_BYTES {
            return Err(Violation::TooManyBytes);
        }
        Ok(())
    }

    /// Opens the Initial packets in `datagram`, up to the first thing in it that is no packet of this connection; clients pad with anything.
    fn open_all(&mut self, keys: &Keys, datagram: &[u8]) -> Result<(), Violation> {
        let (first, mut rest) = Packet::split(datagram).ok_or(Violation::BadPacket)?;
        let mut next = Some(first);
        while let Some(packet) = next {
            if packet.kind == Kind::Initial {
                self.open(keys, &packet)?;
            }
            next = Packet::split(rest).and_then(|(packet, after)| {
                rest = after;
                (packet.version == first.version && packet.destination == first.destination).then_some(packet)
            });
        }
        Ok(())
    }

    fn open(&mut self, keys: &Keys, packet: &Packet<'_>) -> Result<(), Violation> {
        let mut bytes = packet.bytes.to_vec();
        let sample = bytes
            .get(packet.number_at + MAX_NUMBER..)
            .and_then(|rest| rest.first_chunk::<SAMPLE>())
            .ok_or(Violation::BadPacket)?;
        let [first, mask @ ..] = keys.mask(*sample);
        bytes[0] ^= first & 0x0f;
        let number_size = usize::from(bytes[0] & 0x03) + 1;
        let (header, sealed) = bytes.split_at_mut(packet.number_at + number_size);
        let number = &mut header[packet.number_at..];
        number.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
        let number = nearest_number(self.highest, number);

        let payload = keys.open(number, header, sealed).ok_or(Violation::Undecryptable)?;
        self.highest = self.highest.max(Some(number));
        frame::read(payload, |offset, data| self.pieces.insert(offset, data))
    }

    fn hello(&mut self) -> Result<Option<Hello>, Violation> {
        let front = self.pieces.front();
        let size = tls::message_size(&front).map_err(Violation::Hello)?;
        match size.and_then(|size| front.get(..size)) {
            Some(message) => Hello::from_message(message).map(Some).map_err(Violation::Hello),
            None => Ok(None),
        }
    }
}

/// A packet in a datagram, still sealed.
#[derive(Clone, Copy)]
struct Packet<'a> {
    version: u32,
    kind: Kind,
    destination: &'a [u8],
    /// Header and content.
    bytes: &'a [u8],
    /// Where the packet number begins in `bytes`.
    number_at: usize,
}

impl<'a> Packet<'a> {
    /// Splits a packet that tells its length off the front of `datagram`.
    fn split(datagram: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let mut fields = Fields(datagram);
        let (header, kind) = LongHeader::read(&mut fields)?;
        let kind = kind.filter(|kind| *kind != Kind::Retry)?;
        if kind == Kind::Initial {
            let _token = fields.sized()?;
        }
        let size = usize::try_from(fields.varint()?).ok()?;
        let number_at = datagram.len() - fields.0.len();
        fields.bytes(size)?;
        let (bytes, rest) = datagram.split_at(datagram.len() - fields.0.len());
        let packet = Self {
            version: header.version,
            kind,
            destination: header.destination,
            bytes,
            number_at,
        };
        Some((packet, rest))
    }
}

/// The packet number that ends in the bytes `sent`, of those the one nearest to what comes after `highest`.
///
/// Source: RFC 9000, appendix A.3.
fn nearest_number(highest: Option<u64>, sent: &[u8]) -> u64 {
    const END: u64 = 1 << 62;
    let expected = highest.map_or(0, |highest| highest + 1);
    let window = 1_u64 << (8 * sent.len());
    let last = sent.iter().fold(0, |number, &byte| number << 8 | u64::from(byte));
    let candidate = expected & !(window - 1) | last;
    if candidate + window / 2 <= expected && candidate < END - window {
        candidate + window
    } else if candidate > expected + window / 2 && candidate >= window {
        candidate - window
    } else {
        candidate
    }
}

#[cfg(test)]
mod tests {
    use super::nearest_number;

    #[test]
    fn a_packet_number_is_the_nearest_that_ends_as_sent() {
        // The example of RFC 9000, appendix A.3, and both sides of its window.
        assert_eq!(nearest_number(Some(0xa82f_30ea), &[0x9b, 0x32]), 0xa82f_9b32);
        assert_eq!(nearest_number(Some(0xa82f_30ea), &[0xff, 0xff]), 0xa82e_ffff);
        assert_eq!(nearest_number(Some(0xff), &[0x01]), 0x101);
        assert_eq!(nearest_number(Some(0x1fe), &[0x00]), 0x200);
        assert_eq!(nearest_number(None, &[0xff]), 0xff);
        assert_eq!(nearest_number(None, &[0xff, 0xff, 0xff, 0xff]), 0xffff_ffff);
    }
}
