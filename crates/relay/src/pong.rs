//! List pings of Minecraft: Bedrock Edition, and whatever else speaks RakNet.
//!
//! Such a ping is one packet from an address that may be made up. While the server is there it answers itself, so that players see the true latency; what
//! comes faster than people look is answered here with its last answer, and beyond that not at all, so that neither the host's line nor a stranger has a
//! flood to bear. While the server or its agent is away, we answer for it.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use spawnpoint_core::admission::prefix_of;
use spawnpoint_core::pace::Pace;
use spawnpoint_proto::Time;
use spawnpoint_sniff::raknet::{Listing, Ping, Pong};

use crate::away::Presence;
use crate::context::Context;
use crate::list::List;
use crate::quic::Via;

/// Pings that reach a server, in a second.
const ASKED: u32 = 20;

/// Pings that are answered here, in a second: a pong is several times as long as a ping.
const TOLD: u32 = 100;

/// A stranger hears at most this many times as much as was said from their address.
const MOST: u64 = 3;

/// Addresses whose books are kept; while there are more, the others hear nothing.
const MAX_ASKERS: usize = 4_096;

/// How long an address's books are kept.
const FORGET: Duration = Duration::from_secs(30);

/// What is shown of a server that was never seen.
const EDITION: &str = "MCPE";

/// The pings of one port.
pub(crate) struct Pings {
    list: Arc<List>,
    asked: Pace,
    told: Pace,
    /// What was said from an address and what it may still hear, in bytes, and when that was begun.
    books: HashMap<IpAddr, (u64, Time)>,
    next_prune: Time,
}

impl Pings {
    pub fn new(list: Arc<List>) -> Self {
        Self {
            list,
            asked: Pace::new(ASKED, ASKED),
            told: Pace::new(TOLD, TOLD),
            books: HashMap::new(),
            next_prune: Time::ZERO,
        }
    }

    /// Whether `bytes` may be answered to a ping from `ip`. A pong is longer than its ping and the address may be made up, so it takes a few pings for the first:
    /// the game asks twice a second.
    fn affords(&mut self, now: Time, ip: IpAddr, ping: usize, pong: usize) -> bool {
        if self.books.len() >= MAX_ASKERS && now >= self.next_prune {
            self.next_prune = now + Duration::from_secs(1);
            self.books.retain(|_, (_, since)| now.since(*since) < FORGET);
        }
        if self.books.len() >= MAX_ASKERS && !self.books.contains_key(&ip) {
            return false;
        }
        let (credit, since) = self.books.entry(ip).or_insert((0, now));
        if now.since(*since) >= FORGET {
            (*credit, *since) = (0, now);
        }
        let (ping, pong) = (ping as u64, pong as u64);
        *credit = (*credit + ping * MOST).min(pong * 2);
        let is_enough = *credit >= pong;
        if is_enough {
            *credit -= pong;
        }
        is_enough
    }

    /// Whether these are the pings of the server with this list.
    pub fn are_of(&self, list: &Arc<List>) -> bool {
        Arc::ptr_eq(&self.list, list)
    }

    /// Answers a list ping of a server, unless it does so itself; `presence` says why it cannot. Returns `false` when the ping is for the server, too.
    pub fn answer(
        &mut self,
        context: &Context,
        presence: Option<Presence>,
        (player, local, packet): (SocketAddr, Option<IpAddr>, &[u8]),
        via: &Via,
    ) -> bool {
        let now = context.clock.now();
        // Whether one that is down is back shows only when it is asked.
        let is_asked = matches!(presence, None | Some(Presence::Down)) && self.asked.allows(now);
        if is_asked && presence.is_none() {
            return false;
        }
        if let Some(pong) = self.pong(context, now, presence, packet, via)
            && self.affords(now, prefix_of(player.ip()), packet.len(), pong.len())
        {
            // One that does not fit into the kernel's buffer is asked for again.
            let _ = via.socket.try_send(player, local, &pong);
        }
        !is_asked
    }

    fn pong(
        &mut self,
        context: &Context,
        now: Time,
        presence: Option<Presence>,
        packet: &[u8],
        via: &Via,
    ) -> Option<bytes::Bytes> {
        let ping = Ping::decode(packet).ok()?;
        if !self.told.allows(now) {
            return None;
        }
        let last = self.list.pong();
        let id = match presence {
            None => last?,
            Some(presence) => {
                context.metrics.list_told(presence.as_str());
                let port = via.socket.local_addr().map(|address| address.port()).ok();
                let (known, words) = (self.list.known(), presence.words(&context.config().away));
                away(known.own(presence).unwrap_or(&words), last.as_deref(), port)
            }
        };
        let pong = Pong {
            time: ping.time,
            // Told apart by address, and there is only one server at ours.
            server: via.socket.local_addr().map_or(0, |address| address.port().into()),
            id,
        };
        pong.encode().ok()
    }
}

/// The entry of a server that is away: the one that players know, with nobody on it and `words` in its second line.
fn away(words: &str, last: Option<&str>, port: Option<u16>) -> String {
    let last = last.and_then(|id| Listing::parse(id).ok());
    let known = last.unwrap_or_else(|| Listing {
        edition: EDITION.to_owned(),
        motd: "Spawnpoint".to_owned(),
        ..Listing::default()
    });
    Listing {
        online: 0,
        level: words.to_owned(),
        port_v4: known.port_v4.and(port),
        port_v6: known.port_v6.and(port),
        ..known
    }
    .to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn no_address_hears_more_than_three_times_what_it_said() {
        let mut pings = Pings::new(Arc::default());
        let (victim, mut heard) = ("203.0.113.1".parse().unwrap(), 0);
        for number in 0..1000u64 {
            let now = Time::new(Duration::from_millis(number * 100));
            if pings.affords(now, victim, 33, 180) {
                heard += 180;
            }
            assert!(heard <= 33 * MOST * (number + 1));
        }
        assert!(heard > 33 * 1000 * 2, "and not much less: {heard}");
    }

    #[test]
    fn a_flood_of_addresses_neither_grows_the_books_nor_takes_anothers_credit() {
        let mut pings = Pings::new(Arc::default());
        let player = "203.0.113.1".parse().unwrap();
        assert!(!pings.affords(Time::ZERO, player, 33, 180));
        for number in 0..100_000u32 {
            pings.affords(Time::ZERO, IpAddr::from((number + (10 << 24)).to_be_bytes()), 33, 180);
        }
        assert!(pings.books.len() <= MAX_ASKERS);
        assert!(pings.affords(Time::ZERO, player, 33, 180));
    }

    #[test]
    fn an_entry_stays_the_one_that_players_know() {
        let last = "MCPE;Our World;800;1.21.80;3;20;123;level;Survival;1;19132;19133;";
        let shown = Listing::parse(&away("This server is offline", Some(last), Some(19140))).unwrap();
        assert_eq!(
            (shown.motd.as_str(), shown.level.as_str()),
            ("Our World", "This server is offline")
        );
        assert_eq!((shown.online, shown.max, shown.protocol), (0, 20, 800));
        assert_eq!((shown.port_v4, shown.port_v6), (Some(19140), Some(19140)));
        let unknown = Listing::parse(&away("Gone", Some("nonsense"), Some(1))).unwrap();
        assert_eq!(
            (unknown.edition.as_str(), unknown.level.as_str(), unknown.port_v4),
            ("MCPE", "Gone", None)
        );
    }
}
