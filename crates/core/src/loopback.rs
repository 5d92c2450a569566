//! A loopback address for each player, so that a game server that knows nothing of tunnels can tell them apart, and ban one.
//!
//! An address of 127.0.0.0/8 is made from the player's (IPv6: from its /64) and a key, so it is the same one every time, in TCP and UDP, after every restart,
//! and nobody outside can reckon whose it will be. Two players for whom the same address comes out get neighbouring ones, as long as both are
//! remembered.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use sha2::{Digest, Sha256};

/// Players that are remembered; the addresses are 240 times as many.
const MAX_PLAYERS: usize = 65_536;

/// The first address that is given: what is below is used by machines for themselves.
const FIRST: u32 = 0x7f10_0000;

/// How many there are, up to 127.255.255.255, which is none.
const COUNT: u32 = 0x7fff_ffff - FIRST;

/// What of a player's address makes out the player.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Player {
    V4(u32),
    V6(u64),
}

/// The addresses of all players of an agent.
#[derive(Debug)]
pub struct Sources {
    key: [u8; 32],
    by_player: HashMap<Player, Ipv4Addr>,
    taken: HashMap<Ipv4Addr, Player>,
    /// Whom to forget first.
    order: VecDeque<Player>,
}

impl Sources {
    /// Addresses that depend on `key`.
    pub fn new(key: [u8; 32]) -> Self {
        Self {
            key,
            by_player: HashMap::new(),
            taken: HashMap::new(),
            order: VecDeque::new(),
        }
    }

    /// The address of the player at `ip`.
    pub fn of(&mut self, ip: IpAddr) -> Ipv4Addr {
        let player = match ip.to_canonical() {
            IpAddr::V4(ip) => Player::V4(ip.into()),
            IpAddr::V6(ip) => Player::V6((Ipv6Addr::to_bits(ip) >> 64) as u64),
        };
        if let Some(known) = self.by_player.get(&player) {
            return *known;
        }
        if self.order.len() >= MAX_PLAYERS
            && let Some(oldest) = self.order.pop_front()
            && let Some(address) = self.by_player.remove(&oldest)
        {
            self.taken.remove(&address);
        }
        let mut number = self.number(player);
        let address = loop {
            let address = Ipv4Addr::from(FIRST + number);
            if !self.taken.contains_key(&address) {
                break address;
            }
            number = (number + 1) % COUNT;
        };
        self.taken.insert(address, player);
        self.by_player.insert(player, address);
        self.order.push_back(player);
        address
    }

    fn number(&self, player: Player) -> u32 {
        let (family, bits) = match player {
            Player::V4(bits) => (4u8, u64::from(bits)),
            Player::V6(bits) => (6u8, bits),
        };
        let mut hash = Sha256::new();
        hash.update(b"spawnpoint loopback source");
        hash.update(self.key);
        hash.update([family]);
        hash.update(bits.to_be_bytes());
        let hash = hash.finalize();
        u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]]) % COUNT
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_player_has_the_same_address_every_time() {
        let mut one = Sources::new([1; 32]);
        let first = one.of(ip("203.0.113.9"));
        assert!(first.is_loopback() && first.octets()[1] >= 16);
        one.of(ip("198.51.100.1"));
        assert_eq!(one.of(ip("203.0.113.9")), first);
        assert_eq!(one.of(ip("::ffff:203.0.113.9")), first);
        assert_eq!(Sources::new([1; 32]).of(ip("203.0.113.9")), first);
        assert_ne!(Sources::new([2; 32]).of(ip("203.0.113.9")), first);
    }

    #[test]
    fn an_ipv6_player_is_known_by_the_network() {
        let mut sources = Sources::new([1; 32]);
        let first = sources.of(ip("2001:db8::1"));
        assert_eq!(sources.of(ip("2001:db8::ffff:1")), first);
        assert_ne!(sources.of(ip("2001:db8:0:1::1")), first);
    }

    #[test]
    fn no_two_players_who_are_remembered_share_one() {
        let mut sources = Sources::new([3; 32]);
        let all: std::collections::HashSet<_> = (0..MAX_PLAYERS as u32)
            .map(|number| sources.of(Ipv4Addr::from(0x0a00_0000 + number).into()))
            .collect();
        assert_eq!(all.len(), MAX_PLAYERS);
        for number in 0..100_000u32 {
            sources.of(Ipv4Addr::from(0x0b00_0000 + number).into());
        }
        assert_eq!(
            (sources.by_player.len(), sources.taken.len()),
            (MAX_PLAYERS, MAX_PLAYERS)
        );
    }
}
