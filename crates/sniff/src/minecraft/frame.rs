//! The envelope of modern packets: length, packet id, fields.
//!
//! Compression and encryption begin after the login, so the envelope is all there is here. A wrong packet id is reported as soon as it is visible: other
//! protocols that knock on a Minecraft port are known by their second byte and need not be waited for.

use bytes::{BufMut, BytesMut};

use super::{Violation, varint};
use crate::Progress;

/// One whole packet, borrowed from the receive buffer.
pub(super) struct Packet<'a> {
    pub(super) id: i32,
    pub(super) fields: Fields<'a>,
}

/// Opens the frame at the front of `buf`, which may have up to `max` bytes after its length and must hold a packet whose id `expects` accepts.
pub(super) fn open(
    buf: &[u8],
    max: usize,
    expects: impl FnOnce(i32) -> bool,
) -> Result<Progress<Packet<'_>>, Violation> {
    let Some((length, head)) = varint::read(buf, varint::MAX_LENGTH_BYTES)? else {
        return Ok(Progress::NeedMore);
    };
    let length = usize::try_from(length).map_err(|_| Violation::FrameTooLarge)?;
    if length == 0 {
        return Err(Violation::EmptyFrame);
    }
    if length > max {
        return Err(Violation::FrameTooLarge);
    }
    let rest = &buf[head..];
    let whole = rest.len() >= length;
    let content = &rest[..length.min(rest.len())];
    let Some((id, id_size)) = varint::read(content, varint::MAX_BYTES)? else {
        return if whole {
            Err(Violation::PacketShort)
        } else {
            Ok(Progress::NeedMore)
        };
    };
    if !expects(id) {
        return Err(Violation::UnexpectedPacket);
    }
    if !whole {
        return Ok(Progress::NeedMore);
    }
    Ok(Progress::Done {
        value: Packet {
            id,
            fields: Fields(&content[id_size..]),
        },
        consumed: head + length,
    })
}

/// Writes a packet with `id` and what `fields` writes, behind its length.
pub(super) fn write(out: &mut BytesMut, id: i32, fields: impl FnOnce(&mut BytesMut)) {
    let mut content = BytesMut::new();
    varint::write(&mut content, id);
    fields(&mut content);
    write_length(out, content.len());
    out.put_slice(&content);
}

/// Writes a string behind its length in bytes.
pub(super) fn write_string(out: &mut BytesMut, text: &str) {
    write_length(out, text.len());
    out.put_slice(text.as_bytes());
}

fn write_length(out: &mut BytesMut, length: usize) {
    let length = i32::try_from(length).expect("every text is clipped or checked before it is written");
    varint::write(out, length);
}

/// The fields of a packet that is there as a whole, read from front to back.
pub(super) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn varint(&mut self) -> Result<i32, Violation> {
        let (value, size) = varint::read(self.0, varint::MAX_BYTES)?.ok_or(Violation::PacketShort)?;
        self.0 = &self.0[size..];
        Ok(value)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Violation> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn i64(&mut self) -> Result<i64, Violation> {
        self.array().map(i64::from_be_bytes)
    }

    /// Reads a string of at most `max` characters, counted as the game does (UTF-16 units); a longer one is `too_long`.
    pub(super) fn string(&mut self, max: usize, too_long: Violation) -> Result<&'a str, Violation> {
        let size = usize::try_from(self.varint()?).map_err(|_| too_long)?;
        // Three bytes are the most that one UTF-16 unit takes in UTF-8.
        if size > max * 3 {
            return Err(too_long);
        }
        let (bytes, rest) = self.0.split_at_checked(size).ok_or(Violation::PacketShort)?;
        let text = std::str::from_utf8(bytes).map_err(|_| Violation::BadUnicode)?;
        if text.encode_utf16().count() > max {
            return Err(too_long);
        }
        self.0 = rest;
        Ok(text)
    }

    /// Ends the packet.
    pub(super) fn finish(self) -> Result<(), Violation> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(Violation::TrailingBytes)
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Violation> {
        let (value, rest) = self.0.split_first_chunk().ok_or(Violation::PacketShort)?;
        self.0 = rest;
        Ok(*value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offence(buf: &[u8]) -> Option<Violation> {
        open(buf, 16, |id| id == 0).err()
    }

    #[test]
    fn a_wrong_packet_id_is_reported_before_the_frame_is_whole() {
        assert_eq!(offence(&[16, 1]), Some(Violation::UnexpectedPacket));
        assert_eq!(offence(&[16, 0]), None);
    }

    #[test]
    fn a_length_is_judged_before_its_bytes_arrive() {
        assert_eq!(offence(&[0]), Some(Violation::EmptyFrame));
        assert_eq!(offence(&[17]), Some(Violation::FrameTooLarge));
        assert_eq!(offence(&[0xff, 0xff, 0x7f]), Some(Violation::FrameTooLarge));
        assert_eq!(offence(&[0xff, 0xff, 0xff]), Some(Violation::VarIntTooLong));
        assert_eq!(offence(&[2, 0x80, 0x80]), Some(Violation::PacketShort));
    }
}
