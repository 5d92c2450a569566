//! How fast players may be: the shapers of the relay, of its hosts and tunnels, and of addresses, and the way through them.
//!
//! A session pays at its address, its tunnel, its host and the relay; at the relay all sessions of a host are one user, so that hosts share its rate and not players.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use spawnpoint_config::relay::{Bandwidth, RelayConfig};
use spawnpoint_core::admission::prefix_of;
use spawnpoint_core::grant::Rates;
use spawnpoint_net::{Shaper, Toll, User};
use spawnpoint_proto::Protocol;

/// A packet counts as this much where packets are counted, so that a rate of packets is one of bytes.
pub(crate) const PACKET: u64 = 1_500;

/// The shapers of one circle of players: bytes from them, bytes to them, packets from them.
#[derive(Debug)]
pub(crate) struct Speeds([Arc<Shaper>; 3]);

impl Speeds {
    pub fn new(rates: Rates) -> Self {
        Self(each(rates).map(|rate| Arc::new(Shaper::new(rate))))
    }

    /// Changes the rates, under those who pay them.
    pub fn set(&self, rates: Rates) {
        self.0
            .iter()
            .zip(each(rates))
            .for_each(|(shaper, rate)| shaper.set_rate(rate));
    }
}

fn each(rates: Rates) -> [Option<u64>; 3] {
    [
        rates.up,
        rates.down,
        rates.packets.map(|packets| u64::from(packets) * PACKET),
    ]
}

/// The shapers of a host, and what it is at those of the relay.
#[derive(Debug)]
pub(crate) struct HostSpeeds {
    pub own: Speeds,
    at_relay: [Arc<User>; 3],
}

impl HostSpeeds {
    pub fn new(rates: Rates) -> Self {
        Self {
            own: Speeds::new(rates),
            at_relay: Default::default(),
        }
    }
}

/// The shapers of those addresses from which players are in, while there is a rate for them.
#[derive(Debug, Default)]
pub(crate) struct AddressSpeeds(Mutex<HashMap<IpAddr, Speeds>>);

impl AddressSpeeds {
    /// The shapers of the address `ip`.
    fn of(&self, ip: IpAddr, protocol: Protocol, bandwidth: &Bandwidth) -> Option<[Arc<Shaper>; 3]> {
        let rates = bandwidth.per_address;
        let counts_packets = protocol == Protocol::Udp && rates.packets.is_some();
        if !counts_packets && rates.up.is_none() && rates.down.is_none() {
            return None;
        }
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() == all.capacity() {
            // Only before it would grow, so that each entry pays for being looked at once or twice.
            all.retain(|_, speeds| Arc::strong_count(&speeds.0[0]) > 1);
        }
        let speeds = all.entry(prefix_of(ip)).or_insert_with(|| Speeds::new(rates));
        Some(speeds.0.clone())
    }

    /// Changes the rates of all addresses.
    pub fn set(&self, rates: Rates) {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.values().for_each(|speeds| speeds.set(rates));
    }
}

/// What a session pays: for bytes from and to its player, and for packets from it.
#[derive(Debug)]
pub(crate) struct Tolls {
    pub up: Toll,
    pub down: Toll,
    pub packets: Toll,
}

/// The way of a tunnel's sessions through its own shapers, those of its host and those of the relay.
#[derive(Debug)]
pub(crate) struct Way {
    pub own: Speeds,
    pub host: Arc<HostSpeeds>,
    pub relay: Arc<Speeds>,
}

impl Way {
    /// What a session of a player at `ip` pays on it.
    pub fn tolls(&self, ip: IpAddr, protocol: Protocol, addresses: &AddressSpeeds, config: &RelayConfig) -> Tolls {
        let address = addresses.of(ip, protocol, &config.bandwidth);
        let toll = |at: usize| {
            let own = address.iter().map(|shapers| (shapers[at].clone(), Arc::default()));
            let inner = [&self.own, &self.host.own].map(|speeds| (speeds.0[at].clone(), Arc::default()));
            let relay = (self.relay.0[at].clone(), self.host.at_relay[at].clone());
            Toll::new(own.chain(inner).chain([relay]))
        };
        Tolls {
            up: toll(0),
            down: toll(1),
            packets: toll(2),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn players_of_one_address_share_its_shapers_and_nobody_is_kept_who_has_left() {
        let (addresses, mut bandwidth) = (AddressSpeeds::default(), Bandwidth::default());
        bandwidth.per_address.up = Some(1_000);
        let of = |ip: &str| addresses.of(ip.parse().unwrap(), Protocol::Tcp, &bandwidth).unwrap();
        let (one, other) = (of("2001:db8::1"), of("2001:db8::2"));
        assert!(Arc::ptr_eq(&one[0], &other[0]));
        assert!(!Arc::ptr_eq(&one[0], &of("203.0.113.1")[0]));
        for number in 0..10_000u32 {
            of(&std::net::Ipv4Addr::from(number).to_string());
        }
        assert!(addresses.0.lock().unwrap().len() < 100);
        assert!(Arc::ptr_eq(&one[0], &of("2001:db8::3")[0]));
        assert!(
            addresses
                .of(
                    "203.0.113.1".parse().unwrap(),
                    Protocol::Tcp,
                    &Bandwidth {
                        per_address: Rates::default(),
                        ..bandwidth
                    }
                )
                .is_none()
        );
    }
}
