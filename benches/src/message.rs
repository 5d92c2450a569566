//! What 20 Hz players say and hear: a request that says who, which and when, and the world's update that answers it.

use std::time::Duration;

use crate::fault::Fault;
use crate::origin::{self, REQUEST};
use crate::{pattern, ticks};

/// Request `turn` of `player`: both, the time, and some noise.
pub fn request(player: u32, turn: u32) -> [u8; REQUEST] {
    let mut request = [0; REQUEST];
    request[..8].copy_from_slice(&key(player, turn));
    request[16..].copy_from_slice(filling(player, turn));
    request[8..16].copy_from_slice(&ticks::stamp());
    request
}

/// How long ago the request that `reply` answers was made. A reply may stop short, as UDP's do.
///
/// # Errors
/// [`Fault::Mismatch`] unless `reply` answers request `turn` of `player`, byte for byte.
pub fn check(reply: &[u8], player: u32, turn: u32) -> Result<Duration, Fault> {
    let asked = reply.first_chunk::<REQUEST>().filter(|asked| {
        let is_ours = asked[..8] == key(player, turn) && asked[16..] == *filling(player, turn);
        is_ours && origin::reply(asked).starts_with(reply)
    });
    match asked {
        Some(asked) => Ok(ticks::since(&asked[8..16])),
        None => Err(Fault::Mismatch(format!("reply {turn} to player {player}"))),
    }
}

fn key(player: u32, turn: u32) -> [u8; 8] {
    (u64::from(player) << 32 | u64::from(turn)).to_be_bytes()
}

fn filling(player: u32, turn: u32) -> &'static [u8] {
    pattern::piece(u64::from(player) * 7919 + u64::from(turn), REQUEST - 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_own_whole_answer_is_taken() {
        let mut reply = origin::reply(&request(3, 5));
        assert!(check(&reply, 3, 5).is_ok());
        assert!(check(&reply[..origin::PACKET_REPLY], 3, 5).is_ok());
        assert!(check(&reply, 3, 6).is_err());
        assert!(check(&reply[..REQUEST - 1], 3, 5).is_err());
        reply[origin::REPLY - 1] ^= 1;
        assert!(check(&reply, 3, 5).is_err());
    }
}
