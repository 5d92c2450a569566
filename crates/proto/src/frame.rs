//! Frames of the control stream: a length, a kind, a body.
//!
//! ```text
//! 0        4      6
//! +--------+------+----------------+
//! | length | kind | body (CBOR map) |      length counts kind + body; integers are big-endian
//! +--------+------+----------------+
//! ```
//! The body is a CBOR map with numbered fields: a decoder skips numbers that it does not know. This file knows nothing of what the kinds mean.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::Violation;

/// The largest frame after its length field, in bytes, once a peer is known.
pub const MAX_FRAME: usize = 64 * 1024;

/// The largest frame after its length field, in bytes, from a peer that has not shown a token.
pub const MAX_HELLO: usize = 4 * 1024;

const LENGTH: usize = 4;
const KIND: usize = 2;

/// One frame as it came off the wire.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    /// What the body means; see [`crate::control`].
    pub kind: u16,
    /// The encoded message.
    pub body: Bytes,
}

impl Frame {
    /// Its bytes after the length field.
    pub const fn length(&self) -> usize {
        KIND + self.body.len()
    }

    /// Appends the frame to `out`.
    ///
    /// # Panics
    /// If the body is longer than [`MAX_FRAME`] allows; our own messages are bounded far below.
    pub fn encode(&self, out: &mut BytesMut) {
        let length = self.length();
        assert!(length <= MAX_FRAME, "own control message of {length} bytes");
        out.reserve(LENGTH + length);
        out.put_u32(length as u32);
        out.put_u16(self.kind);
        out.put_slice(&self.body);
    }

    /// Takes one frame off the front of `buffer`; `None` until all of it is there.
    ///
    /// # Errors
    /// [`Violation::OversizeFrame`] as soon as a length above `limit` is seen, [`Violation::RuntFrame`] for one too short to hold a kind.
    pub fn decode(buffer: &mut BytesMut, limit: usize) -> Result<Option<Self>, Violation> {
        let Some(prefix) = buffer.first_chunk::<LENGTH>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*prefix) as usize;
        if length > limit {
            return Err(Violation::OversizeFrame);
        }
        if length < KIND {
            return Err(Violation::RuntFrame);
        }
        if buffer.len() < LENGTH + length {
            return Ok(None);
        }
        buffer.advance(LENGTH);
        let mut body = buffer.split_to(length).freeze();
        let kind = body.get_u16();
        Ok(Some(Self { kind, body }))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_oversize_length_is_told_before_any_body_arrives() {
        let mut buffer = BytesMut::from(&(MAX_HELLO as u32 + 1).to_be_bytes()[..]);
        assert_eq!(Frame::decode(&mut buffer, MAX_HELLO), Err(Violation::OversizeFrame));
    }

    #[test]
    fn a_frame_without_room_for_a_kind_is_a_runt() {
        let mut buffer = BytesMut::from(&[0, 0, 0, 1, 9][..]);
        assert_eq!(Frame::decode(&mut buffer, MAX_FRAME), Err(Violation::RuntFrame));
    }

    proptest! {
        #[test]
        fn frames_survive_any_cutting_of_the_stream(kinds in proptest::collection::vec((any::<u16>(), proptest::collection::vec(any::<u8>(), 0..200)), 0..5), cut in 1usize..17) {
            let frames: Vec<Frame> = kinds.into_iter().map(|(kind, body)| Frame { kind, body: body.into() }).collect();
            let mut wire = BytesMut::new();
            frames.iter().for_each(|frame| frame.encode(&mut wire));
            let (mut buffer, mut seen) = (BytesMut::new(), Vec::new());
            for piece in wire.chunks(cut) {
                buffer.extend_from_slice(piece);
                while let Some(frame) = Frame::decode(&mut buffer, MAX_FRAME).unwrap() {
                    seen.push(frame);
                }
            }
            prop_assert_eq!(seen, frames);
            prop_assert!(buffer.is_empty());
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut buffer = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = Frame::decode(&mut buffer, MAX_HELLO) {}
        }
    }
}
