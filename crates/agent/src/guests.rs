//! Who plays right now, for the host to look at: which address the game server sees, and whose it really is.

use std::collections::{BTreeMap, VecDeque};
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
    /// Who has left last, as the game server saw them and as they were.
    left: VecDeque<(IpAddr, IpAddr)>,
}

#[derive(Debug)]
struct Record {
    tunnel: TunnelName,
    protocol: &'static str,
    player: SocketAddr,
    seen_as: Option<IpAddr>,
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
                lasted: record.since.elapsed(),
                round_trip: (round_trip > 0).then(|| Duration::from_micros(round_trip)),
                up,
                down,
            }
        };
        self.inner().all.values().map(show).collect()
    }

    /// The true address of the player whom somebody names: by that address, with or without port, or by the one that the game server sees or saw.
    pub fn address_of(&self, text: &str) -> Option<IpAddr> {
        let ip = text.parse::<IpAddr>().ok();
        let socket = text.parse::<SocketAddr>().ok();
        let inner = self.inner();
        let is_meant = |record: &&Record| Some(record.player) == socket || (ip.is_some() && record.seen_as == ip);
        let guest = inner.all.values().find(is_meant).map(|record| record.player.ip());
        let left = || inner.left.iter().rev().find(|(seen_as, _)| Some(*seen_as) == ip);
        let player = guest.or_else(|| left().map(|(_, player)| *player));
        player.or(ip).or(socket.map(|socket| socket.ip()))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Guest {
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
        if let Some(seen_as) = record.seen_as {
            inner.left.retain(|(before, _)| *before != seen_as);
            if inner.left.len() >= LEFT {
                inner.left.pop_front();
            }
            inner.left.push_back((seen_as, record.player.ip()));
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
        assert_eq!(guests.address_of("127.83.202.41"), Some(player.ip()));
        assert_eq!(guests.address_of("203.0.113.9:50000"), Some(player.ip()));
        drop(guest);
        assert_eq!(guests.address_of("127.83.202.41"), Some(player.ip()));
        for number in 0..2_000u32 {
            enter().is_seen_as(IpAddr::from((0x7f40_0000 + number).to_be_bytes()));
        }
        assert_eq!(guests.inner().left.len(), LEFT);
        assert_eq!(guests.address_of("game"), None);
    }
}
