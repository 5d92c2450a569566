//! Fields of packets and frames, read from front to back.

/// What is left to read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    /// Reads a number whose first two bits say how long it is.
    pub(super) fn varint(&mut self) -> Option<u64> {
        let first = self.u8()?;
        let size = (1 << (first >> 6)) - 1;
        let rest = self.bytes(size)?;
        Some(
            rest.iter()
                .fold(u64::from(first & 0x3f), |value, &byte| value << 8 | u64::from(byte)),
        )
    }

    pub(super) fn bytes(&mut self, size: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(size)?;
        self.0 = rest;
        Some(bytes)
    }

    /// Reads bytes behind a number that says how many.
    pub(super) fn sized(&mut self) -> Option<&'a [u8]> {
        let size = self.varint()?;
        self.bytes(usize::try_from(size).ok()?)
    }

    /// Reads a connection id behind its length in one byte.
    pub(super) fn id(&mut self) -> Option<&'a [u8]> {
        let size = self.u8()?;
        self.bytes(usize::from(size))
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (value, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_in_all_four_lengths() {
        // RFC 9000, appendix A.1.
        for (bytes, value) in [
            (&[0x25][..], 37),
            (&[0x40, 0x25], 37),
            (&[0x7b, 0xbd], 15_293),
            (&[0x9d, 0x7f, 0x3e, 0x7d], 494_878_333),
            (
                &[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c],
                151_288_809_941_952_652,
            ),
        ] {
            assert_eq!(Fields(bytes).varint(), Some(value));
            for cut in 0..bytes.len() {
                assert_eq!(Fields(&bytes[..cut]).varint(), None);
            }
        }
    }

    #[test]
    fn a_length_is_not_believed_before_its_bytes_are_there() {
        assert_eq!(Fields(&[0xff; 9]).sized(), None);
        assert_eq!(Fields(&[2, 7]).sized(), None);
        assert_eq!(Fields(&[1, 7]).sized(), Some(&[7][..]));
    }
}
