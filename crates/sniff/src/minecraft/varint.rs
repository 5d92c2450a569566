//! The protocol's variable-length numbers: seven bits a byte, least significant first, the top bit says that more follow.

use bytes::BufMut;

use super::Violation;

/// Bytes of the longest 32-bit number.
pub(super) const MAX_BYTES: usize = 5;

/// Bytes of the longest frame length: 21 bits, as in the game itself.
pub(super) const MAX_LENGTH_BYTES: usize = 3;

/// Reads a number of at most `max_bytes` bytes at the front of `buf` and returns it with its size, or `None` if `buf` ends inside it.
pub(super) fn read(buf: &[u8], max_bytes: usize) -> Result<Option<(i32, usize)>, Violation> {
    let mut bits = 0u32;
    for (at, &byte) in buf.iter().take(max_bytes).enumerate() {
        // The game drops the bits of a fifth byte that do not fit; so does this shift.
        bits |= u32::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Ok(Some((bits.cast_signed(), at + 1)));
        }
    }
    if buf.len() < max_bytes {
        Ok(None)
    } else {
        Err(Violation::VarIntTooLong)
    }
}

/// Writes `value` in as few bytes as it takes.
pub(super) fn write(out: &mut impl BufMut, value: i32) {
    let mut bits = value.cast_unsigned();
    while bits > 0x7f {
        out.put_u8(bits as u8 | 0x80);
        bits >>= 7;
    }
    out.put_u8(bits as u8);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    /// The examples of the protocol's documentation.
    const DOCUMENTED: [(i32, &[u8]); 11] = [
        (0, &[0x00]),
        (1, &[0x01]),
        (2, &[0x02]),
        (127, &[0x7f]),
        (128, &[0x80, 0x01]),
        (255, &[0xff, 0x01]),
        (25565, &[0xdd, 0xc7, 0x01]),
        (2_097_151, &[0xff, 0xff, 0x7f]),
        (i32::MAX, &[0xff, 0xff, 0xff, 0xff, 0x07]),
        (-1, &[0xff, 0xff, 0xff, 0xff, 0x0f]),
        (i32::MIN, &[0x80, 0x80, 0x80, 0x80, 0x08]),
    ];

    #[test]
    fn the_documented_examples_hold_in_both_directions() {
        for (value, bytes) in DOCUMENTED {
            let mut out = Vec::new();
            write(&mut out, value);
            assert_eq!(out, bytes);
            assert_eq!(read(bytes, MAX_BYTES), Ok(Some((value, bytes.len()))));
        }
    }

    #[test]
    fn a_number_that_never_ends_is_named() {
        assert_eq!(read(&[0x80; 5], MAX_BYTES), Err(Violation::VarIntTooLong));
        assert_eq!(read(&[0xff; 3], MAX_LENGTH_BYTES), Err(Violation::VarIntTooLong));
    }

    proptest! {
        #[test]
        fn every_number_comes_back_and_every_beginning_of_it_needs_more(value: i32) {
            let mut out = Vec::new();
            write(&mut out, value);
            prop_assert_eq!(read(&out, MAX_BYTES), Ok(Some((value, out.len()))));
            for cut in 0..out.len() {
                prop_assert_eq!(read(&out[..cut], MAX_BYTES), Ok(None));
            }
        }
    }
}
