//! The door for agents: who may begin a handshake, decided on the first packet.
//!
//! An address may be made up until it has answered, so nothing is charged to it before: while it is calm a few such handshakes run for whoever comes, and beyond that
//! everybody must show first that the address is their own, which costs us one small packet and no memory. Whoever has shown it is counted by address, and those
//! from whose address an agent was welcomed before have places of their own: a crowd that fills the others keeps none of them from coming back.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ipnet::IpNet;
use spawnpoint_core::admission::{Bounds, Circle, Gate, Limits, Permit, prefix_of};
use spawnpoint_proto::Time;

/// Handshakes of addresses that may be made up.
const STRANGERS: Limits = limits(32, Bounds::NONE);

/// Handshakes of addresses that are real.
const NEWCOMERS: Limits = limits(
    96,
    Bounds {
        players: 16,
        half_open: 16,
        rate: 10,
        burst: 32,
    },
);

/// Handshakes of addresses from which agents were welcomed.
const KNOWN: Limits = limits(
    128,
    Bounds {
        players: 64,
        half_open: 64,
        rate: 20,
        burst: 128,
    },
);

/// Addresses that are remembered as known.
const MAX_KNOWN: usize = 4_096;

/// For how long.
const KNOWN_FOR: Duration = Duration::from_secs(7 * 24 * 3_600);

const fn limits(all: u32, prefix: Bounds) -> Limits {
    Limits {
        relay: Bounds::of_players(all),
        prefix,
        prefixes: 16_384,
        siege: u32::MAX,
    }
}

/// The door for agents.
#[derive(Debug)]
pub(crate) struct Door {
    strangers: Gate,
    newcomers: Gate,
    friends: Gate,
    /// When an agent was welcomed from there last.
    known: Mutex<HashMap<IpAddr, Time>>,
    anyone: Arc<Circle>,
}

/// What to do with a connection's first packet.
#[derive(Debug)]
pub(crate) enum Entry {
    /// Go on with the handshake.
    Begin(Permit),
    /// Have them show that their address is their own.
    Validate,
    /// Turn them away, for this reason.
    Refuse(&'static str),
}

impl Default for Door {
    fn default() -> Self {
        Self {
            strangers: Gate::new(STRANGERS),
            newcomers: Gate::new(NEWCOMERS),
            friends: Gate::new(KNOWN),
            known: Mutex::default(),
            anyone: Arc::new(Circle::of_host(Bounds::NONE)),
        }
    }
}

impl Door {
    /// Decides about a connection from `ip`, which is real if it `is_validated`.
    pub fn enter(&self, now: Time, ip: IpAddr, is_validated: bool) -> Entry {
        let gate = match is_validated {
            false => &self.strangers,
            true if self.is_known(now, ip) => &self.friends,
            true => &self.newcomers,
        };
        match gate.admit(now, ip, &self.anyone) {
            Ok(permit) => Entry::Begin(permit),
            Err(_) if !is_validated => Entry::Validate,
            Err(reason) => Entry::Refuse(reason.as_str()),
        }
    }

    /// An agent from `ip` was welcomed.
    pub fn welcome(&self, now: Time, ip: IpAddr) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_KNOWN {
            let oldest = known.iter().min_by_key(|(_, seen)| **seen).map(|(ip, _)| *ip);
            if let Some(oldest) = oldest {
                known.remove(&oldest);
            }
        }
        known.insert(prefix_of(ip), now);
    }

    /// Whether an agent from there was welcomed.
    pub fn is_known(&self, now: Time, ip: IpAddr) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known
            .get(&prefix_of(ip))
            .is_some_and(|seen| now.since(*seen) < KNOWN_FOR)
    }
}

impl Door {
    /// Whether an agent from anywhere in `network` was welcomed.
    pub fn is_anybody_known(&self, now: Time, network: IpNet) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = known.iter();
        all.any(|(ip, seen)| network.contains(ip) && now.since(*seen) < KNOWN_FOR)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn ip(number: u32) -> IpAddr {
        IpAddr::from((0x0a00_0000 + number).to_be_bytes())
    }

    fn is_begun(entry: &Entry) -> bool {
        matches!(entry, Entry::Begin(_))
    }

    #[test]
    fn made_up_addresses_use_up_nothing_of_those_whose_they_are() {
        let door = Door::default();
        let crowd: Vec<_> = (0..1000).map(|_| door.enter(Time::ZERO, ip(1), false)).collect();
        assert_eq!(crowd.iter().filter(|entry| is_begun(entry)).count(), 32);
        assert!(matches!(crowd[999], Entry::Validate));
        assert!(is_begun(&door.enter(Time::ZERO, ip(1), true)));
    }

    #[test]
    fn a_crowd_of_real_addresses_keeps_no_known_one_out() {
        let door = Door::default();
        door.welcome(Time::ZERO, ip(5000));
        let crowd: Vec<_> = (0..1000)
            .map(|number| door.enter(Time::ZERO, ip(number), true))
            .collect();
        assert!(matches!(crowd[999], Entry::Refuse("players_of_relay")));
        assert!(is_begun(&door.enter(Time::ZERO, ip(5000), true)));
    }

    #[test]
    fn one_address_takes_a_part_of_the_places_only() {
        let door = Door::default();
        let crowd: Vec<_> = (0..100).map(|_| door.enter(Time::ZERO, ip(1), true)).collect();
        assert_eq!(crowd.iter().filter(|entry| is_begun(entry)).count(), 16);
        assert!(is_begun(&door.enter(Time::ZERO, ip(2), true)));
    }

    #[test]
    fn what_is_known_is_bounded_and_the_oldest_is_forgotten_first() {
        let door = Door::default();
        for number in 0..10_000u32 {
            door.welcome(Time::ZERO + Duration::from_secs(number.into()), ip(number));
        }
        let now = Time::ZERO + Duration::from_secs(10_000);
        assert!(door.is_known(now, ip(9_999)) && !door.is_known(now, ip(0)));
        assert_eq!(door.known.lock().unwrap().len(), MAX_KNOWN);
    }
}
