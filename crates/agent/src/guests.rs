//! Who plays right now, for the host to look at: which address the game server sees, and whose it really is.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use spawnpoint_proto::TunnelName;
use tokio::time::Instant;

/// Players who are remembered after they have left.
const LEFT: usize = 1_024;

/// Everybody who plays through one agent; clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Guests(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    all: BTreeMap<u64, Record>,
    /// Who has left last.
    left: VecDeque<Left>,
}

/// Somebody who has left.
#[derive(Debug)]
struct Left {
    player: IpAddr,
    /// The address that the game server saw, if it was the player's own.
    seen_as: Option<IpAddr>,
    name: Option<String>,
}

#[derive(Debug)]
struct Record {
    tunnel: TunnelName,
    protocol: &'static str,
    player: SocketAddr,
    seen_as: Option<IpAddr>,
    name: Option<String>,
    since: Instant,
    traffic: Arc<[AtomicU64; 2]>,
    round_trip: Arc<AtomicU64>,
}

/// Somebody who plays; dropping it takes them off the list.
#[derive(Debug)]
pub(crate) struct Guest {
    guests: Guests,
    number: u64,
}

/// One line of the list.
#[derive(Clone, Debug)]
pub struct Shown {
    /// The tunnel's name.
    pub tunnel: TunnelName,
    /// `tcp` or `udp`.
    pub protocol: &'static str,
    /// The player's true address.
    pub player: SocketAddr,
    /// The address that the game server sees, if it is the player's own.
    pub seen_as: Option<IpAddr>,
    /// The name that they have said in the game, if it was understood; the game server alone knows whether it is theirs.
    pub name: Option<String>,
    /// How long they have been in.
    pub lasted: Duration,
    /// The round trip between relay and agent, when it is known.
    pub round_trip: Option<Duration>,
    /// Bytes from the player.
    pub up: u64,
    /// Bytes to the player.
    pub down: u64,
}

impl Guests {
    /// Enters a player; `traffic` counts their bytes, from and to them, `round_trip` tells that of their link in microseconds.
    pub(crate) fn enter(
        &self,
        tunnel: &TunnelName,
        protocol: &'static str,
        player: SocketAddr,
        traffic: &Arc<[AtomicU64; 2]>,
        round_trip: &Arc<AtomicU64>,
    ) -> Guest {
        let mut inner = self.inner();
        let number = inner.next;
        inner.next += 1;
        let record = Record {
            tunnel: tunnel.clone(),
            protocol,
            player,
            seen_as: None,
            name: None,
            since: Instant::now(),
            traffic: traffic.clone(),
            round_trip: round_trip.clone(),
        };
        inner.all.insert(number, record);
        Guest {
            guests: self.clone(),
            number,
        }
    }

    /// Everybody, the longest first.
    pub fn show(&self) -> Vec<Shown> {
        let show = |record: &Record| {
            let [up, down] = [0, 1].map(|at: usize| record.traffic[at].load(Ordering::Relaxed));
            let round_trip = record.round_trip.load(Ordering::Relaxed);
            Shown {
                tunnel: record.tunnel.clone(),
                protocol: record.protocol,
                player: record.player,
                seen_as: record.seen_as,
                name: record.name.clone(),
                lasted: record.since.elapsed(),
                round_trip: (round_trip > 0).then(|| Duration::from_micros(round_trip)),
                up,
                down,
            }
        };
        self.inner().all.values().map(show).collect()
    }

    /// The name that the player at `player` has said in the game.
    #[cfg(unix)]
    pub(crate) fn name_of(&self, player: SocketAddr) -> Option<String> {
        let inner = self.inner();
        let found = inner.all.values().find(|record| record.player == player);
        found.and_then(|record| record.name.clone())
    }

    /// The true address of the player whom somebody names: by that address, with or without port, by the one that the game server sees or saw, or by the name that
    /// they said in the game. `None` when it is nobody who is or was here.
    ///
    /// # Errors
    /// A sentence with the addresses, when several go by one name.
    pub fn address_of(&self, text: &str) -> Result<Option<IpAddr>, String> {
        let ip = text.parse::<IpAddr>().ok();
        let socket = text.parse::<SocketAddr>().ok();
        let inner = self.inner();
        let is_meant = |record: &&Record| Some(record.player) == socket || (ip.is_some() && record.seen_as == ip);
        let guest = inner.all.values().find(is_meant).map(|record| record.player.ip());
        let left = || inner.left.iter().rev().find(|left| ip.is_some() && left.seen_as == ip);
        let player = guest.or_else(|| left().map(|left| left.player));
        match player.or(ip).or(socket.map(|socket| socket.ip())) {
            Some(player) => Ok(Some(player)),
            None => inner.address_by_name(text),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// The address of whoever goes by `name` now, or went by it before.
    fn address_by_name(&self, name: &str) -> Result<Option<IpAddr>, String> {
        let is_named = |other: &Option<String>| other.as_ref().is_some_and(|other| other.eq_ignore_ascii_case(name));
        let here = self.all.values().filter(|record| is_named(&record.name));
        let mut found: BTreeSet<IpAddr> = here.map(|record| record.player.ip()).collect();
        if found.is_empty() {
            let left = self.left.iter().filter(|left| is_named(&left.name));
            found = left.map(|left| left.player).collect();
        }
        // Anybody can say any name, so that the one who is meant is not to be guessed.
        if found.len() > 1 {
            let all: Vec<String> = found.iter().map(IpAddr::to_string).collect();
            return Err(format!(
                "several players go by the name {name}: name the one you mean by address, {}",
                all.join(" or ")
            ));
        }
        Ok(found.first().copied())
    }
}

impl Guest {
    /// Notes the name that the player says in the game.
    pub fn is_named(&self, name: String) {
        if let Some(record) = self.guests.inner().all.get_mut(&self.number) {
            record.name = Some(name);
        }
    }

    /// Notes the address that the game server sees.
    pub fn is_seen_as(&self, source: IpAddr) {
        if let Some(record) = self.guests.inner().all.get_mut(&self.number) {
            record.seen_as = Some(source);
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let inner = &mut *self.guests.inner();
        let Some(record) = inner.all.remove(&self.number) else {
            return;
        };
        let left = Left {
            player: record.player.ip(),
            seen_as: record.seen_as,
            name: record.name,
        };
        if left.seen_as.is_some() || left.name.is_some() {
            // Who comes again and again takes one place, as long as they go by one name.
            inner.left.retain(|before| {
                (before.player, before.seen_as, &before.name) != (left.player, left.seen_as, &left.name)
            });
            if inner.left.len() >= LEFT {
                inner.left.pop_front();
            }
            inner.left.push_back(left);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_player_who_has_left_is_still_found_by_what_the_game_server_saw() {
        let guests = Guests::default();
        let player: SocketAddr = "203.0.113.9:50000".parse().unwrap();
        let enter = || {
            guests.enter(
                &"game".parse().unwrap(),
                "tcp",
                player,
                &Arc::default(),
                &Arc::default(),
            )
        };
        let guest = enter();
        guest.is_seen_as("127.83.202.41".parse().unwrap());
        assert_eq!(guests.address_of("127.83.202.41"), Ok(Some(player.ip())));
        assert_eq!(guests.address_of("203.0.113.9:50000"), Ok(Some(player.ip())));
        drop(guest);
        assert_eq!(guests.address_of("127.83.202.41"), Ok(Some(player.ip())));
        for number in 0..2_000u32 {
            enter().is_seen_as(IpAddr::from((0x7f40_0000 + number).to_be_bytes()));
        }
        assert_eq!(guests.inner().left.len(), LEFT);
        assert_eq!(guests.address_of("game"), Ok(None));
    }

    #[test]
    fn a_name_is_whoever_goes_by_it_now_and_nobody_when_several_do() {
        let guests = Guests::default();
        let enter = |player: &str, name: &str| {
            let player = format!("{player}:50000").parse().unwrap();
            let guest = guests.enter(
                &"game".parse().unwrap(),
                "tcp",
                player,
                &Arc::default(),
                &Arc::default(),
            );
            guest.is_named(name.to_owned());
            guest
        };
        let ip = |text: &str| Ok(Some(text.parse().unwrap()));
        drop(enter("203.0.113.1", "Ada"));
        assert_eq!(guests.address_of("ada"), ip("203.0.113.1"), "who has left");
        let _here = enter("203.0.113.2", "Ada");
        let _again = enter("203.0.113.2", "Ada");
        assert_eq!(guests.address_of("Ada"), ip("203.0.113.2"), "who is here");
        let _other = enter("203.0.113.3", "ADA");
        let why = guests.address_of("Ada").unwrap_err();
        assert!(why.contains("203.0.113.2 or 203.0.113.3"), "{why}");
        assert_eq!(guests.address_of("Bob"), Ok(None));
    }
}
