//! A player's first bytes: which game it plays and who it is.
//!
//! ```text
//! magic: 4 bytes | kind u8 (1 tick, 2 bulk) | id u64 | rate u64 (bytes a second, 0: as fast as it goes)
//! ```

use spawnpoint_benches::pattern;

/// Length of a hello.
pub const LENGTH: usize = 21;

const MAGIC: [u8; 4] = *b"\xfaPC1";

/// What a TCP player wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Game {
    /// Frames at 20 Hz.
    Tick,
    /// A download at so many bytes a second.
    Bulk {
        /// 0: as fast as it goes.
        rate: u64,
    },
}

/// Writes a hello.
pub fn encode(id: u64, game: Game) -> [u8; LENGTH] {
    let (kind, rate) = match game {
        Game::Tick => (1, 0),
        Game::Bulk { rate } => (2, rate),
    };
    let mut hello = [0; LENGTH];
    hello[..4].copy_from_slice(&MAGIC);
    hello[4] = kind;
    hello[5..13].copy_from_slice(&id.to_be_bytes());
    hello[13..].copy_from_slice(&rate.to_be_bytes());
    hello
}

/// Reads a hello; none when it is not one.
pub fn decode(hello: &[u8; LENGTH]) -> Option<(u64, Game)> {
    let number = |from: usize| u64::from_be_bytes(hello[from..from + 8].try_into().unwrap());
    let game = match hello[4] {
        1 => Game::Tick,
        2 => Game::Bulk { rate: number(13) },
        _ => return None,
    };
    (hello[..4] == MAGIC).then(|| (number(5), game))
}

/// Which way bytes travel. Each way of each player starts elsewhere in the pattern.
#[derive(Clone, Copy, Debug)]
pub enum Way {
    /// From the player.
    Up,
    /// To the player.
    Down,
}

/// The `length` bytes at `offset` of a player's way.
pub fn piece(id: u64, way: Way, offset: u64, length: usize) -> &'static [u8] {
    // Odd and large, so that neighbours start far from each other.
    let start = (id * 2 + way as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
    pattern::piece(start + offset, length)
}

/// How many of `bytes` are not those at `offset`.
pub fn count_wrong(id: u64, way: Way, offset: u64, bytes: &[u8]) -> u64 {
    let right = piece(id, way, offset, bytes.len());
    // Comparing slices is one memcmp; counting is for the rare case.
    if bytes == right {
        return 0;
    }
    bytes.iter().zip(right).filter(|(is, should)| is != should).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hello_is_read_as_written() {
        for game in [Game::Tick, Game::Bulk { rate: 7 }] {
            assert_eq!(decode(&encode(5, game)), Some((5, game)));
        }
        assert_eq!(decode(&[1; LENGTH]), None);
    }

    #[test]
    fn bytes_of_another_place_player_or_way_are_wrong() {
        let right = piece(1 << 32, Way::Down, 5000, 1024);
        assert_eq!(count_wrong(1 << 32, Way::Down, 5000, right), 0);
        assert!(count_wrong(1 << 32, Way::Down, 5001, right) > 900);
        assert!(count_wrong((1 << 32) + 1, Way::Down, 5000, right) > 900);
        assert!(count_wrong(1 << 32, Way::Up, 5000, right) > 900);
    }
}
