//! Who may enter: one gate for all players of a relay.
//!
//! A player is known by the prefix of its address (IPv4 /32, IPv6 /64). The gate counts players per prefix, per host and in all, and how fast a
//! prefix brings new ones. What it answers is a [`Permit`], which gives its places back when it is dropped, or a [`DenyReason`].
//!
//! The table of prefixes is bounded. When it is full of prefixes that still matter, further ones share one entry: nobody is forgotten to make room,
//! so a flood from many addresses cannot wash away what the gate knows of them, and it is the newcomers that feel it.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use spawnpoint_proto::Time;

/// Why a player does not enter.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum DenyReason {
    /// Too many new players from this prefix in a short time.
    PlayerRate,
    /// Too many players from this prefix at once.
    PlayersOfAddress,
    /// As many players of this host as its grant allows.
    PlayersOfHost,
    /// As many players as the relay takes.
    PlayersOfRelay,
    /// The relay is going down.
    Draining,
    /// The host's agent is away.
    NoAgent,
}

impl DenyReason {
    /// Every reason.
    pub const ALL: [Self; 6] = [
        Self::PlayerRate,
        Self::PlayersOfAddress,
        Self::PlayersOfHost,
        Self::PlayersOfRelay,
        Self::Draining,
        Self::NoAgent,
    ];

    /// The word used in logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PlayerRate => "player_rate",
            Self::PlayersOfAddress => "players_of_address",
            Self::PlayersOfHost => "players_of_host",
            Self::PlayersOfRelay => "players_of_relay",
            Self::Draining => "draining",
            Self::NoAgent => "no_agent",
        }
    }
}

/// What the gate allows.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Players on the whole relay.
    pub players: u32,
    /// Players of one prefix at once.
    pub players_per_prefix: u32,
    /// New players a second from one prefix, over time.
    pub rate_per_prefix: u32,
    /// New players that one prefix may bring at once before the rate counts.
    pub burst_per_prefix: u32,
    /// Prefixes that the gate tells apart.
    pub prefixes: usize,
}

/// The part of an address by which players are told apart.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Prefix {
    V4(u32),
    V6(u64),
    /// Everybody for whom the table has no room.
    Rest,
}

impl Prefix {
    fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => Self::V4(ip.into()),
            IpAddr::V6(ip) => Self::V6((Ipv6Addr::to_bits(ip) >> 64) as u64),
        }
    }
}

/// The places of one host; it lives as long as anybody holds it.
#[derive(Debug)]
pub struct HostPlaces {
    active: AtomicU32,
    max: AtomicU32,
}

impl HostPlaces {
    /// Room for `max` players at once.
    pub const fn new(max: u32) -> Self {
        Self {
            active: AtomicU32::new(0),
            max: AtomicU32::new(max),
        }
    }

    /// Changes the room; players who are in stay in.
    pub fn set_max(&self, max: u32) {
        self.max.store(max, Ordering::Relaxed);
    }

    /// Players who are in.
    pub fn active(&self) -> u32 {
        self.active.load(Ordering::Relaxed)
    }

    fn enter(&self) -> bool {
        let max = self.max.load(Ordering::Relaxed);
        self.active
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |active| {
                (active < max).then_some(active + 1)
            })
            .is_ok()
    }

    fn leave(&self) {
        self.active.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The gate; clones are the same gate.
#[derive(Clone, Debug)]
pub struct Gate(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    limits: Limits,
    active: u32,
    draining: bool,
    prefixes: HashMap<Prefix, Entry>,
    next_prune: Time,
}

/// What is known of one prefix. The rate is kept as the moment when its whole burst is free again (the generic cell rate algorithm).
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    active: u32,
    free_at: Time,
}

/// A player's place; dropping it gives the place back.
#[derive(Debug)]
pub struct Permit {
    gate: Gate,
    prefix: Prefix,
    host: Arc<HostPlaces>,
}

impl Gate {
    /// An empty gate.
    pub fn new(limits: Limits) -> Self {
        Self(Arc::new(Mutex::new(State {
            limits,
            active: 0,
            draining: false,
            prefixes: HashMap::new(),
            next_prune: Time::ZERO,
        })))
    }

    /// Lets a player from `ip` in to a tunnel of `host`, or says why not.
    ///
    /// # Errors
    /// The [`DenyReason`]; nothing is counted against the player then.
    pub fn admit(&self, now: Time, ip: IpAddr, host: &Arc<HostPlaces>) -> Result<Permit, DenyReason> {
        let mut state = self.state();
        if state.draining {
            return Err(DenyReason::Draining);
        }
        if state.active >= state.limits.players {
            return Err(DenyReason::PlayersOfRelay);
        }
        let prefix = state.place(now, Prefix::of(ip));
        let limits = state.limits;
        // Who is not let in leaves nothing behind, so a flood at a full host takes no room from the players of others.
        let mut entry = state.prefixes.get(&prefix).copied().unwrap_or_default();
        if entry.active >= limits.players_per_prefix {
            return Err(DenyReason::PlayersOfAddress);
        }
        let step = Duration::from_secs(1) / limits.rate_per_prefix.max(1);
        let free_at = entry.free_at.max(now) + step;
        if free_at.since(now) > step * limits.burst_per_prefix.max(1) {
            return Err(DenyReason::PlayerRate);
        }
        if !host.enter() {
            return Err(DenyReason::PlayersOfHost);
        }
        entry.free_at = free_at;
        entry.active += 1;
        state.prefixes.insert(prefix, entry);
        state.active += 1;
        Ok(Permit {
            gate: self.clone(),
            prefix,
            host: host.clone(),
        })
    }

    /// Gives a player a place who was in before, in the process that this one follows; no limit counts.
    pub fn readmit(&self, now: Time, ip: IpAddr, host: &Arc<HostPlaces>) -> Permit {
        let mut state = self.state();
        let prefix = state.place(now, Prefix::of(ip));
        state.prefixes.entry(prefix).or_default().active += 1;
        state.active += 1;
        host.active.fetch_add(1, Ordering::Relaxed);
        Permit {
            gate: self.clone(),
            prefix,
            host: host.clone(),
        }
    }

    /// Lets nobody in any more.
    pub fn drain(&self) {
        self.state().draining = true;
    }

    /// Players who are in.
    pub fn active(&self) -> u32 {
        self.state().active
    }

    /// Prefixes that the gate remembers.
    pub fn prefixes(&self) -> usize {
        self.state().prefixes.len()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change below is complete before the lock is released, so a panic elsewhere leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The entry that `prefix` is counted under: its own if there is room.
    fn place(&mut self, now: Time, prefix: Prefix) -> Prefix {
        if self.prefixes.len() < self.limits.prefixes || self.prefixes.contains_key(&prefix) {
            return prefix;
        }
        // One sweep a second keeps a flood from paying for its own bookkeeping with our time.
        if now >= self.next_prune {
            self.next_prune = now + Duration::from_secs(1);
            self.prefixes.retain(|_, entry| entry.active > 0 || entry.free_at > now);
        }
        if self.prefixes.len() < self.limits.prefixes {
            prefix
        } else {
            Prefix::Rest
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.host.leave();
        let mut state = self.gate.state();
        state.active -= 1;
        if let Some(entry) = state.prefixes.get_mut(&self.prefix) {
            entry.active -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const LIMITS: Limits = Limits {
        players: 100,
        players_per_prefix: 10,
        rate_per_prefix: 2,
        burst_per_prefix: 4,
        prefixes: 50,
    };

    fn at(millis: u64) -> Time {
        Time::new(Duration::from_millis(millis))
    }

    fn host() -> Arc<HostPlaces> {
        Arc::new(HostPlaces::new(1000))
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_burst_enters_and_then_the_rate_counts() {
        let (gate, host) = (Gate::new(LIMITS), host());
        let from = ip("203.0.113.1");
        let permits: Vec<_> = (0..4).map(|_| gate.admit(at(0), from, &host).unwrap()).collect();
        assert_eq!(gate.admit(at(0), from, &host).unwrap_err(), DenyReason::PlayerRate);
        assert_eq!(gate.admit(at(499), from, &host).unwrap_err(), DenyReason::PlayerRate);
        assert!(gate.admit(at(500), from, &host).is_ok());
        drop(permits);
    }

    #[test]
    fn one_address_does_not_use_up_another_ones_rate() {
        let (gate, host) = (Gate::new(LIMITS), host());
        while gate.admit(at(0), ip("203.0.113.1"), &host).is_ok() {}
        assert!(gate.admit(at(0), ip("203.0.113.2"), &host).is_ok());
    }

    #[test]
    fn all_addresses_of_one_ipv6_network_count_together() {
        let (gate, host) = (Gate::new(LIMITS), host());
        for last in 0..4 {
            gate.admit(at(0), ip(&format!("2001:db8::{last}")), &host).unwrap();
        }
        assert_eq!(
            gate.admit(at(0), ip("2001:db8::ffff"), &host).unwrap_err(),
            DenyReason::PlayerRate
        );
        assert!(gate.admit(at(0), ip("2001:db8:0:1::1"), &host).is_ok());
    }

    #[test]
    fn an_ipv4_address_in_ipv6_clothes_is_the_same_player() {
        let (gate, host) = (Gate::new(LIMITS), host());
        while gate.admit(at(0), ip("203.0.113.1"), &host).is_ok() {}
        assert_eq!(
            gate.admit(at(0), ip("::ffff:203.0.113.1"), &host).unwrap_err(),
            DenyReason::PlayerRate
        );
    }

    #[test]
    fn a_dropped_permit_gives_every_place_back() {
        let (gate, host) = (
            Gate::new(Limits {
                players_per_prefix: 1,
                ..LIMITS
            }),
            Arc::new(HostPlaces::new(1)),
        );
        let permit = gate.admit(at(0), ip("203.0.113.1"), &host).unwrap();
        assert_eq!((gate.active(), host.active()), (1, 1));
        assert_eq!(
            gate.admit(at(0), ip("203.0.113.1"), &host).unwrap_err(),
            DenyReason::PlayersOfAddress
        );
        assert_eq!(
            gate.admit(at(0), ip("203.0.113.2"), &host).unwrap_err(),
            DenyReason::PlayersOfHost
        );
        drop(permit);
        assert_eq!((gate.active(), host.active()), (0, 0));
        assert!(gate.admit(at(0), ip("203.0.113.2"), &host).is_ok());
    }

    #[test]
    fn a_full_host_does_not_fill_the_relay() {
        let (gate, full, other) = (Gate::new(LIMITS), Arc::new(HostPlaces::new(0)), host());
        assert_eq!(
            gate.admit(at(0), ip("203.0.113.1"), &full).unwrap_err(),
            DenyReason::PlayersOfHost
        );
        assert_eq!(gate.active(), 0);
        assert!(gate.admit(at(0), ip("203.0.113.1"), &other).is_ok());
    }

    #[test]
    fn a_flood_at_a_full_host_takes_no_room_from_the_players_of_others() {
        let (gate, full) = (Gate::new(LIMITS), Arc::new(HostPlaces::new(0)));
        for number in 0..10_000u32 {
            gate.admit(at(0), IpAddr::from(number.to_be_bytes()), &full)
                .unwrap_err();
        }
        assert_eq!(gate.prefixes(), 0);
    }

    #[test]
    fn a_flood_of_prefixes_neither_grows_the_table_nor_washes_it_away() {
        let (gate, host) = (Gate::new(LIMITS), host());
        let culprit = ip("198.51.100.1");
        while gate.admit(at(0), culprit, &host).is_ok() {}
        for number in 0..10_000u32 {
            let _ = gate.admit(at(1), IpAddr::from((number + (10 << 24)).to_be_bytes()), &host);
        }
        assert!(gate.prefixes() <= LIMITS.prefixes + 1);
        assert_eq!(gate.admit(at(1), culprit, &host).unwrap_err(), DenyReason::PlayerRate);
    }

    #[test]
    fn prefixes_that_no_longer_matter_make_room() {
        let (gate, host) = (Gate::new(LIMITS), host());
        for number in 0..50u32 {
            gate.admit(at(0), IpAddr::from(number.to_be_bytes()), &host).unwrap();
        }
        assert_eq!(gate.prefixes(), 50);
        gate.admit(at(60_000), ip("203.0.113.1"), &host).unwrap();
        assert_eq!(gate.prefixes(), 1);
    }

    #[test]
    fn a_draining_gate_lets_nobody_in() {
        let (gate, host) = (Gate::new(LIMITS), host());
        gate.drain();
        assert_eq!(
            gate.admit(at(0), ip("203.0.113.1"), &host).unwrap_err(),
            DenyReason::Draining
        );
    }
}
