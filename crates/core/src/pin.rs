//! Where the packets of a shared UDP port go, once it is known: by the address that they come from, and by the connection id in them.
//!
//! A client is pinned to a target by its address. Servers name their connections in packets to the client; such ids are learnt, so that a client whose
//! address changes under it, as a NAT does it, is known by the id that its packets carry. A client that changes its address knowingly also changes to an
//! id that was told to it in secret; it is known by its IP address, as the client there that had spoken last when the new address was first heard, and has
//! not since. Only a client that has fallen silent is followed to a new address: whoever can see its packets could otherwise take its place while it plays.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use spawnpoint_proto::Time;

/// The longest connection id of QUIC, in bytes.
pub const MAX_ID: usize = 20;

/// The shortest id that is learnt: a shorter one could be anybody's.
const MIN_ID: usize = 4;

/// Ids that are known of one client: a server has a few in use at a time.
const MAX_IDS: usize = 8;

/// A client that is known by no more than its IP address has said nothing for this long.
const LONG_SILENCE: Duration = Duration::from_secs(2);

/// Clients at one IP address, a household's or a school's, of whom one is looked for.
const MAX_NEIGHBOURS: usize = 16;

/// Unknown addresses whose first packet is remembered, and for how long.
const MAX_STRAYS: (usize, Duration) = (1024, Duration::from_secs(30));

/// A client that is followed to a new address has said nothing for this long.
const SILENCE: Duration = Duration::from_millis(250);

/// The clients of one shared port, each with its target `T`.
#[derive(Debug)]
pub struct Pins<T> {
    /// How many there may be.
    max: usize,
    /// How long one is remembered that says nothing.
    idle: Duration,
    by_address: HashMap<SocketAddr, Pin<T>>,
    by_id: HashMap<Id, SocketAddr>,
    by_ip: HashMap<IpAddr, HashSet<SocketAddr>>,
    /// When an address was first heard that may be a known client's new one.
    strays: HashMap<SocketAddr, Time>,
    /// How many ids of each length there are: packets from a client do not say how long theirs is.
    lengths: BTreeMap<usize, usize>,
    next_prune: Time,
}

#[derive(Debug)]
struct Pin<T> {
    target: T,
    last: Time,
    /// The oldest first.
    ids: Vec<Id>,
}

/// A connection id.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Id {
    bytes: [u8; MAX_ID],
    length: usize,
}

impl Id {
    fn new(id: &[u8]) -> Option<Self> {
        let mut bytes = [0; MAX_ID];
        bytes.get_mut(..id.len())?.copy_from_slice(id);
        let length = id.len();
        (length >= MIN_ID).then_some(Self { bytes, length })
    }
}

impl<T: Copy> Pins<T> {
    /// Nobody yet; at most `max` clients, each remembered for `idle` after its last packet.
    pub fn new(max: usize, idle: Duration) -> Self {
        Self {
            max,
            idle,
            by_address: HashMap::new(),
            by_id: HashMap::new(),
            by_ip: HashMap::new(),
            strays: HashMap::new(),
            lengths: BTreeMap::new(),
            next_prune: Time::ZERO,
        }
    }

    /// Where a packet from `client` goes.
    pub fn get(&mut self, now: Time, client: SocketAddr) -> Option<T> {
        let pin = self.by_address.get_mut(&client)?;
        if now.since(pin.last) > self.idle {
            // Whoever has the address by now is somebody else.
            self.forget(client);
            return None;
        }
        pin.last = now;
        Some(pin.target)
    }

    /// From here on packets from `client` go to `target`; `false` when there are too many clients.
    pub fn pin(&mut self, now: Time, client: SocketAddr, target: T) -> bool {
        self.forget(client);
        if self.by_address.len() >= self.max && now >= self.next_prune {
            // Once a second, so that a flood does not pay for its own bookkeeping with our time.
            self.next_prune = now + Duration::from_secs(1);
            let all = self.by_address.keys().copied().collect();
            self.forget_idle(now, all);
        }
        let there = self.by_ip.get(&client.ip());
        if let Some(there) = there.filter(|there| there.len() >= MAX_NEIGHBOURS) {
            let there = there.iter().copied().collect();
            self.forget_idle(now, there);
        }
        if self.by_address.len() >= self.max {
            return false;
        }
        let pin = Pin {
            target,
            last: now,
            ids: Vec::new(),
        };
        self.by_address.insert(client, pin);
        self.by_ip.entry(client.ip()).or_default().insert(client);
        true
    }

    /// Whether `id` is one of the connection that `client` has.
    pub fn has(&self, client: SocketAddr, id: &[u8]) -> bool {
        let pin = self.by_address.get(&client);
        pin.is_some_and(|pin| Id::new(id).is_some_and(|id| pin.ids.contains(&id)))
    }

    /// The connection of `client` is also called `id`.
    pub fn learn(&mut self, client: SocketAddr, id: &[u8]) {
        let (Some(id), Some(pin)) = (Id::new(id), self.by_address.get_mut(&client)) else {
            return;
        };
        if pin.ids.contains(&id) {
            return;
        }
        // An id that another client has stays that one's: no server can be made to give one away.
        if self.by_id.contains_key(&id) {
            return;
        }
        let oldest = (pin.ids.len() >= MAX_IDS).then(|| pin.ids.remove(0));
        pin.ids.push(id);
        self.by_id.insert(id, client);
        *self.lengths.entry(id.length).or_default() += 1;
        oldest.into_iter().for_each(|id| self.drop_id(id));
    }

    /// A packet that begins with a connection id of unknown length has come from `to`, where nobody is known: the client whose id that is, or else the one
    /// at the same IP address which has been silent since, if that is long enough, and its target. It is at `to` from here on.
    pub fn follow(&mut self, now: Time, to: SocketAddr, id: &[u8]) -> Option<(SocketAddr, T)> {
        let mut lengths = self.lengths.keys();
        let named = lengths.find_map(|&length| self.by_id.get(&Id::new(id.get(..length)?)?).copied());
        let from = match named {
            Some(client) => client,
            None => self.last_silent(now, to)?,
        };
        if !self.is_silent_for(SILENCE, now, &from) || self.by_address.contains_key(&to) {
            return None;
        }
        let mut pin = self.unlist(from)?;
        self.strays.remove(&to);
        pin.last = now;
        for id in &pin.ids {
            self.by_id.insert(*id, to);
        }
        let target = pin.target;
        self.by_address.insert(to, pin);
        self.by_ip.entry(to.ip()).or_default().insert(to);
        Some((from, target))
    }

    /// How many clients are known.
    pub fn len(&self) -> usize {
        self.by_address.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.by_address.is_empty()
    }

    fn is_silent_for(&self, time: Duration, now: Time, client: &SocketAddr) -> bool {
        let pin = self.by_address.get(client);
        pin.is_some_and(|pin| now.since(pin.last) >= time)
    }

    /// The client at the IP address of `to` that spoke last before `to` did, and not since, where there are few in all.
    fn last_silent(&mut self, now: Time, to: SocketAddr) -> Option<SocketAddr> {
        let there = self.by_ip.get(&to.ip()).filter(|there| there.len() <= MAX_NEIGHBOURS)?;
        let (most, memory) = MAX_STRAYS;
        let first = match self.strays.get(&to) {
            Some(&first) if now.since(first) <= memory => first,
            _ => {
                if self.strays.len() >= most {
                    self.strays.retain(|_, first| now.since(*first) <= memory);
                }
                if self.strays.len() >= most {
                    return None;
                }
                self.strays.insert(to, now);
                now
            }
        };
        let last = |client: &&SocketAddr| self.by_address.get(*client).map(|pin| pin.last);
        // Its last packets from the old address may be overtaken by the first from the new one.
        let silent = there.iter().filter(|client| last(client) <= Some(first + SILENCE));
        let client = *silent.max_by_key(last)?;
        self.is_silent_for(LONG_SILENCE, now, &client).then_some(client)
    }

    /// Forgets those of `clients` who have said nothing for too long.
    fn forget_idle(&mut self, now: Time, mut clients: Vec<SocketAddr>) {
        clients.retain(|client| {
            let pin = self.by_address.get(client);
            pin.is_some_and(|pin| now.since(pin.last) > self.idle)
        });
        clients.into_iter().for_each(|client| self.forget(client));
    }

    fn unlist(&mut self, client: SocketAddr) -> Option<Pin<T>> {
        let pin = self.by_address.remove(&client)?;
        if let Some(there) = self.by_ip.get_mut(&client.ip()) {
            there.remove(&client);
            if there.is_empty() {
                self.by_ip.remove(&client.ip());
            }
        }
        Some(pin)
    }

    fn forget(&mut self, client: SocketAddr) {
        let pin = self.unlist(client);
        pin.into_iter().flat_map(|pin| pin.ids).for_each(|id| self.drop_id(id));
    }

    fn drop_id(&mut self, id: Id) {
        self.by_id.remove(&id);
        if let Some(count) = self.lengths.get_mut(&id.length) {
            *count -= 1;
            if *count == 0 {
                self.lengths.remove(&id.length);
            }
        }
    }

    #[cfg(test)]
    fn check(&self) {
        let ids: usize = self.by_address.values().map(|pin| pin.ids.len()).sum();
        assert_eq!(ids, self.by_id.len(), "an id without a client");
        assert_eq!(ids, self.lengths.values().sum::<usize>(), "lengths are miscounted");
        for (client, pin) in &self.by_address {
            assert!(pin.ids.len() <= MAX_IDS);
            assert!(pin.ids.iter().all(|id| self.by_id.get(id) == Some(client)));
        }
        assert!(self.by_address.len() <= self.max && self.strays.len() <= MAX_STRAYS.0);
        let listed: usize = self.by_ip.values().map(HashSet::len).sum();
        assert_eq!(listed, self.by_address.len(), "the list by IP address differs");
        assert!(
            self.by_ip
                .values()
                .flatten()
                .all(|client| self.by_address.contains_key(client))
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn client(number: u16) -> SocketAddr {
        SocketAddr::from(([203, 0, 113, 9], number))
    }

    fn at(millis: u64) -> Time {
        Time::new(Duration::from_millis(millis))
    }

    fn pins() -> Pins<u8> {
        Pins::new(3, Duration::from_secs(60))
    }

    #[test]
    fn a_client_is_followed_by_its_id_once_it_is_silent() {
        let mut pins = pins();
        assert!(pins.pin(at(0), client(1), 7));
        pins.learn(client(1), b"12345678");
        assert_eq!(
            pins.follow(at(100), client(2), b"12345678rest of the packet"),
            None,
            "it has just spoken"
        );
        assert_eq!(
            pins.follow(at(300), client(2), b"12345678rest of the packet"),
            Some((client(1), 7))
        );
        assert_eq!(
            (pins.get(at(301), client(2)), pins.get(at(301), client(1))),
            (Some(7), None)
        );
        let elsewhere = SocketAddr::from(([198, 51, 100, 1], 1));
        assert_eq!(
            pins.follow(at(900), elsewhere, b"1234567"),
            None,
            "a part of an id is none"
        );
        pins.check();
    }

    #[test]
    fn a_client_with_an_id_of_its_own_is_known_by_its_ip_address_as_the_last_that_fell_silent() {
        let mut pins = pins();
        pins.pin(at(0), client(1), 1);
        pins.pin(at(0), client(2), 2);
        pins.get(at(100), client(1));
        assert_eq!(
            pins.follow(at(1999), client(3), b"unheard of"),
            None,
            "not for a moment's silence"
        );
        pins.get(at(2300), client(2));
        assert_eq!(pins.follow(at(2310), client(3), b"unheard of"), Some((client(1), 1)));
        pins.check();
    }

    #[test]
    fn a_client_that_left_before_is_not_taken_for_the_one_that_moves() {
        let mut pins = pins();
        pins.pin(at(0), client(1), 1);
        pins.pin(at(50), client(2), 2);
        for millis in [60, 2010, 2040] {
            assert_eq!(
                pins.follow(at(millis), client(3), b"unheard of"),
                None,
                "at {millis} ms"
            );
        }
        assert_eq!(pins.follow(at(2060), client(3), b"unheard of"), Some((client(2), 2)));
        pins.check();
    }

    #[test]
    fn those_who_were_here_last_week_do_not_make_a_household_too_large() {
        let mut pins = Pins::new(1000, Duration::from_secs(60));
        for day in 0..100 {
            pins.pin(at(day * 86_400_000), client(day as u16), 1);
            pins.check();
        }
        let now = at(99 * 86_400_000 + 3000);
        assert_eq!(pins.follow(now, client(200), b"unheard of"), Some((client(99), 1)));
        assert!(pins.len() <= MAX_NEIGHBOURS);
    }

    #[test]
    fn a_neighbour_who_plays_on_is_not_taken_for_the_one_that_moves() {
        let mut pins = pins();
        pins.pin(at(0), client(1), 1);
        pins.pin(at(0), client(2), 2);
        assert_eq!(pins.follow(at(10), client(3), b"unheard of"), None);
        pins.get(at(20), client(1));
        pins.get(at(270), client(2));
        assert_eq!(pins.follow(at(4000), client(3), b"unheard of"), Some((client(1), 1)));
        pins.check();
    }

    #[test]
    fn an_id_is_one_clients() {
        let mut pins = pins();
        pins.pin(at(0), client(1), 1);
        pins.pin(at(0), client(2), 2);
        pins.learn(client(1), b"12345678");
        pins.learn(client(2), b"12345678");
        pins.learn(client(2), b"123");
        assert_eq!(pins.follow(at(900), client(3), b"12345678"), Some((client(1), 1)));
        pins.check();
    }

    #[test]
    fn nobody_who_plays_is_forgotten_for_a_newcomer() {
        let mut pins = pins();
        for number in 1..=3 {
            assert!(pins.pin(at(0), client(number), 1));
        }
        assert!(!pins.pin(at(59_000), client(4), 1));
        pins.get(at(60_000), client(1));
        assert!(pins.pin(at(61_000), client(4), 1));
        assert_eq!(
            (pins.get(at(61_000), client(1)), pins.get(at(61_000), client(2))),
            (Some(1), None)
        );
        assert_eq!(
            pins.get(at(200_000), client(4)),
            None,
            "an address is somebody else's after a while"
        );
        pins.check();
    }

    proptest! {
        #[test]
        fn its_books_agree_whatever_happens(steps in proptest::collection::vec((0u8..4, 0u16..6, proptest::collection::vec(0u8..3, 0..22), 0u64..40_000), 0..300)) {
            let (mut pins, mut now) = (pins(), 0);
            for (step, number, id, pause) in steps {
                now += pause;
                match step {
                    0 => drop(pins.pin(at(now), client(number), 1)),
                    1 => pins.learn(client(number), &id),
                    2 => drop(pins.follow(at(now), client(number), &id)),
                    _ => drop(pins.get(at(now), client(number))),
                }
                pins.check();
            }
        }
    }
}
