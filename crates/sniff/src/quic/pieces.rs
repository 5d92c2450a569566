//! The pieces of a ClientHello, which come in any order and may overlap.
//!
//! Pieces are kept as they came, so memory grows with what was received and not with what was announced: a far offset costs nothing. Where two pieces
//! say different things of the same byte, an honest client is not behind them, and either will do.

use std::ops::Range;

use super::Violation;
use crate::tls;

/// Pieces that one hello may come in, retransmissions included; browsers that shuffle send some ten in a datagram.
pub const MAX_PIECES: usize = 256;

/// Where in the hello a piece lies, and where it is kept.
#[derive(Clone, Debug)]
struct Piece {
    offset: usize,
    kept: Range<usize>,
}

/// The pieces received so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Pieces {
    bytes: Vec<u8>,
    /// In the order of their offsets.
    pieces: Vec<Piece>,
}

impl Pieces {
    /// Keeps what a client sent at `offset`.
    ///
    /// # Errors
    /// [`Violation::CryptoTooFar`] when it ends beyond what a ClientHello may have; [`Violation::TooManyPieces`] after [`MAX_PIECES`].
    pub(super) fn insert(&mut self, offset: u64, data: &[u8]) -> Result<(), Violation> {
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        if offset.saturating_add(data.len()) > tls::MAX_HELLO {
            return Err(Violation::CryptoTooFar);
        }
        if self.pieces.len() == MAX_PIECES {
            return Err(Violation::TooManyPieces);
        }
        if !data.is_empty() {
            let start = self.bytes.len();
            self.bytes.extend_from_slice(data);
            self.pieces.push(Piece {
                offset,
                kept: start..self.bytes.len(),
            });
        }
        Ok(())
    }

    /// What is there without a gap from the first byte on.
    pub(super) fn front(&mut self) -> Vec<u8> {
        self.pieces.sort_by_key(|piece| piece.offset);
        let mut front = Vec::new();
        for Piece { offset, kept } in &self.pieces {
            let Some(known) = front.len().checked_sub(*offset) else {
                break;
            };
            front.extend_from_slice(self.bytes[kept.clone()].get(known..).unwrap_or_default());
        }
        front
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_gap_hides_what_is_behind_it_until_it_is_filled() {
        let mut pieces = Pieces::default();
        assert_eq!(pieces.front(), b"");
        pieces.insert(4, b"efgh").unwrap();
        assert_eq!(pieces.front(), b"");
        pieces.insert(0, b"ab").unwrap();
        assert_eq!(pieces.front(), b"ab");
        pieces.insert(1, b"bcd").unwrap();
        assert_eq!(pieces.front(), b"abcdefgh");
        pieces.insert(2, b"cd").unwrap();
        assert_eq!(pieces.front(), b"abcdefgh");
    }

    #[test]
    fn a_far_offset_costs_no_memory_and_one_beyond_any_hello_is_refused() {
        let mut pieces = Pieces::default();
        pieces.insert(tls::MAX_HELLO as u64 - 1, b"x").unwrap();
        assert_eq!(pieces.bytes.len(), 1);
        for offset in [tls::MAX_HELLO as u64, 1 << 40, u64::MAX] {
            assert_eq!(pieces.insert(offset, b"x"), Err(Violation::CryptoTooFar));
        }
    }

    #[test]
    fn a_flood_of_pieces_ends() {
        let mut pieces = Pieces::default();
        for _ in 0..MAX_PIECES {
            pieces.insert(0, b"x").unwrap();
        }
        assert_eq!(pieces.insert(1, b"y"), Err(Violation::TooManyPieces));
        assert_eq!(pieces.front(), b"x");
    }

    proptest! {
        #[test]
        fn any_pieces_in_any_order_join_to_the_whole(
            whole in prop::collection::vec(any::<u8>(), 1..200),
            cuts in prop::collection::vec((any::<prop::sample::Index>(), 1..40usize), 0..30),
        ) {
            let mut pieces = Pieces::default();
            for (at, size) in cuts {
                let at = at.index(whole.len());
                let end = whole.len().min(at + size);
                pieces.insert(at as u64, &whole[at..end]).unwrap();
                let front = pieces.front();
                prop_assert_eq!(&whole[..front.len()], &front[..]);
            }
            for (at, byte) in whole.iter().enumerate().rev() {
                pieces.insert(at as u64, &[*byte]).unwrap();
            }
            prop_assert_eq!(pieces.front(), whole);
        }
    }
}
