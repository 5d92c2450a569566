//! Who offends again and again, and for how long they stay out.
//!
//! Each offence of a prefix (IPv4 /32, IPv6 /64) has a weight; what has added up fades away within minutes. Above a threshold the prefix is to be banned, for longer each time, up to a
//! ceiling, and a day of good behaviour halves nothing but takes one step back. Whoever is only busy offends nobody: what counts here is said by whoever saw it, of addresses that are
//! known to be real.
//!
//! Of an IPv6 network, /48, as one household or one rented machine may have it, whatever its /64s do is added up too: eight times as much bans all of it, and beyond a bound its /64s
//! are not written down one by one. The book is bounded: when it is full of prefixes that still matter, further ones are not written down, and none is forgotten for them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use spawnpoint_proto::Time;

use crate::access::household;
use crate::admission::network_of;

/// What somebody did.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Offence {
    /// An agent showed a token that nobody has.
    FailedToken,
    /// An agent's connection broke the protocol, or said nothing.
    BadHandshake,
    /// A player said nothing that makes sense, or nothing at all, where something was to be said.
    BadHello,
    /// A player came far too often.
    Rate,
}

impl Offence {
    /// The word used in logs and lists.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FailedToken => "failed_token",
            Self::BadHandshake => "bad_handshake",
            Self::BadHello => "bad_hello",
            Self::Rate => "rate",
        }
    }

    /// How much it weighs; [`THRESHOLD`] is one too many.
    const fn weight(self) -> f64 {
        match self {
            Self::FailedToken => 20.0,
            Self::BadHandshake => 10.0,
            Self::BadHello => 5.0,
            Self::Rate => 0.19,
        }
    }
}

/// What adds up to a ban: five tokens, ten handshakes, twenty hellos or five hundred refusals in a short time, of which a little may have faded.
const THRESHOLD: f64 = 96.0;

/// What has added up is half as much after this.
const HALF_LIFE: Duration = Duration::from_secs(120);

/// Each ban is so many times as long as the one before.
const GROWTH: u32 = 4;

/// So long without a ban makes the next one a step shorter.
const FORGIVEN: Duration = Duration::from_secs(24 * 3_600);

/// Prefixes in the book at most.
const MOST: usize = 65_536;

/// How much more than a household a network may do.
const NETWORK: f64 = 8.0;

/// Whoever does not matter any more is forgotten this often, so that a network's households are told apart again.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Households of one network that are told apart.
const HOUSEHOLDS: u32 = 64;

/// How long bans last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sentences {
    /// The first.
    pub first: Duration,
    /// The longest.
    pub longest: Duration,
}

/// Who is to be banned, and for how long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sentence {
    /// A household, or an IPv6 network of many.
    pub prefix: IpNet,
    /// How long.
    pub lasts: Duration,
}

/// The IPv6 network of which a household at `ip` may be one of many.
fn network(ip: IpAddr) -> Option<IpNet> {
    match ip.to_canonical() {
        IpAddr::V4(_) => None,
        IpAddr::V6(_) => Some(IpNet::new_assert(network_of(ip), 48)),
    }
}

/// The book of offences.
#[derive(Debug, Default)]
pub struct Offences {
    records: HashMap<IpNet, Record>,
    next_prune: Time,
    next_look: Time,
}

#[derive(Clone, Copy, Debug, Default)]
struct Record {
    score: f64,
    at: Time,
    /// Bans so far, less what was forgiven.
    bans: u32,
    banned_at: Time,
    /// Of a network: its households in the book.
    households: u32,
}

impl Record {
    fn fade(&mut self, now: Time) {
        let halves = now.since(self.at).as_secs_f64() / HALF_LIFE.as_secs_f64();
        self.score *= (-halves).exp2();
        self.at = self.at.max(now);
        while self.bans > 0 && now.since(self.banned_at) >= FORGIVEN {
            self.bans -= 1;
            self.banned_at = self.banned_at + FORGIVEN;
        }
    }
}

impl Offences {
    /// Somebody at `ip` has offended; returns who is to be banned, if this was one too many. A network is not for which `is_innocent`: somebody is in it who must
    /// not suffer for it, and each household answers for itself.
    pub fn note(
        &mut self,
        now: Time,
        ip: IpAddr,
        offence: Offence,
        sentences: Sentences,
        is_innocent: impl FnOnce(IpNet) -> bool,
    ) -> Option<Sentence> {
        if now >= self.next_look {
            self.next_look = now + LOOK_EVERY;
            self.prune(now);
        }
        let (household, network) = (household(ip), network(ip));
        let sentence = |prefix| move |lasts| Sentence { prefix, lasts };
        if let Some(network) = network {
            if let Some(record) = self.records.get_mut(&network)
                && record.score + offence.weight() / NETWORK >= THRESHOLD
                && is_innocent(network)
            {
                // To look for the innocent costs a look at everybody: it is begun anew with the next crowd of offences.
                record.score = 0.0;
            }
            let lasts = self.weigh(now, network, offence.weight() / NETWORK, sentences);
            if let Some(lasts) = lasts {
                return Some(sentence(network)(lasts));
            }
            if !self.records.contains_key(&household)
                && let Some(record) = self.records.get_mut(&network)
            {
                if record.households >= HOUSEHOLDS {
                    return None;
                }
                record.households += 1;
            }
        }
        self.weigh(now, household, offence.weight(), sentences)
            .map(sentence(household))
    }

    /// Adds `weight` to what `prefix` has done; returns for how long it is to be banned, if that was too much.
    fn weigh(&mut self, now: Time, prefix: IpNet, weight: f64, sentences: Sentences) -> Option<Duration> {
        if self.records.len() >= MOST && !self.records.contains_key(&prefix) {
            self.prune(now);
            if self.records.len() >= MOST {
                return None;
            }
        }
        let record = self.records.entry(prefix).or_insert(Record {
            at: now,
            ..Record::default()
        });
        record.fade(now);
        record.score += weight;
        if record.score < THRESHOLD {
            return None;
        }
        let times = GROWTH.checked_pow(record.bans.min(16)).unwrap_or(u32::MAX);
        let lasts = sentences.first.saturating_mul(times).min(sentences.longest);
        record.score = 0.0;
        record.bans += 1;
        // What comes while the ban is on finds nobody who listens; good behaviour begins after it.
        record.banned_at = now + lasts;
        Some(lasts)
    }

    /// Prefixes in the book.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether nobody is in the book.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Forgets those of whom nothing matters any more, once a second at most.
    fn prune(&mut self, now: Time) {
        if now >= self.next_prune {
            self.next_prune = now + Duration::from_secs(1);
            let mut households: HashMap<IpNet, u32> = HashMap::new();
            self.records.retain(|prefix, record| {
                record.fade(now);
                let matters = record.score >= 1.0 || record.bans > 0;
                let network = network(prefix.addr()).filter(|network| network != prefix && matters);
                if let Some(network) = network {
                    *households.entry(network).or_default() += 1;
                }
                matters
            });
            for (network, record) in &mut self.records {
                record.households = households.get(network).copied().unwrap_or(0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::Ipv6Addr;

    use super::*;

    const SENTENCES: Sentences = Sentences {
        first: Duration::from_secs(60),
        longest: Duration::from_secs(24 * 3_600),
    };

    fn at(secs: u64) -> Time {
        Time::new(Duration::from_secs(secs))
    }

    fn ip(number: u32) -> IpAddr {
        IpAddr::from(number.to_be_bytes())
    }

    /// Offends until there is a ban; how often, and how long it is.
    fn until_banned(book: &mut Offences, now: Time, who: IpAddr, offence: Offence) -> (u32, Duration) {
        for count in 1..10_000 {
            if let Some(sentence) = book.note(now, who, offence, SENTENCES, |_| false) {
                assert_eq!(sentence.prefix, household(who));
                return (count, sentence.lasts);
            }
        }
        panic!("never banned")
    }

    #[test]
    fn bans_grow_to_a_ceiling_and_a_day_of_good_behaviour_takes_a_step_back() {
        let mut book = Offences::default();
        let mut now = at(0);
        let mut lengths = Vec::new();
        for _ in 0..7 {
            let (count, lasts) = until_banned(&mut book, now, ip(1), Offence::FailedToken);
            assert_eq!(count, 5);
            lengths.push(lasts.as_secs());
            now = now + lasts;
        }
        assert_eq!(lengths, [60, 240, 960, 3_840, 15_360, 61_440, 86_400]);
        // Four days of good behaviour: seven bans are as three.
        now = now + Duration::from_secs(4 * 86_400);
        assert_eq!(
            until_banned(&mut book, now, ip(1), Offence::FailedToken).1.as_secs(),
            3_840
        );
        assert_eq!(
            until_banned(&mut book, now, ip(2), Offence::FailedToken).1.as_secs(),
            60
        );
    }

    #[test]
    fn now_and_then_is_no_offence() {
        let mut book = Offences::default();
        for minute in 0..10_000 {
            assert_eq!(
                book.note(at(minute * 60), ip(1), Offence::FailedToken, SENTENCES, |_| false),
                None
            );
        }
    }

    #[test]
    fn what_weighs_less_takes_more_of_it() {
        let count = |offence| until_banned(&mut Offences::default(), at(0), ip(1), offence).0;
        assert_eq!(count(Offence::BadHandshake), 10);
        assert_eq!(count(Offence::BadHello), 20);
        assert!((500..=510).contains(&count(Offence::Rate)));
    }

    /// The household `number` of the network 2001:db8:`network`::/48.
    fn of_network(network: u16, number: u16) -> IpAddr {
        Ipv6Addr::new(0x2001, 0xdb8, network, number, 0, 0, 0, 1).into()
    }

    #[test]
    fn a_network_that_offends_from_ever_other_households_is_banned_as_one() {
        let mut book = Offences::default();
        let mut banned = Vec::new();
        for number in 0..u16::MAX {
            banned.extend(book.note(at(0), of_network(7, number), Offence::FailedToken, SENTENCES, |_| false));
            if !banned.is_empty() {
                break;
            }
        }
        assert_eq!(banned[0].prefix, "2001:db8:7::/48".parse().unwrap());
        assert_eq!(banned[0].lasts, SENTENCES.first);
        assert!(book.len() <= 1 + HOUSEHOLDS as usize, "{}", book.len());
        // Its neighbour has done nothing.
        assert_eq!(
            book.note(at(0), of_network(8, 1), Offence::FailedToken, SENTENCES, |_| false),
            None
        );
    }

    #[test]
    fn one_household_never_has_its_whole_network_banned() {
        let mut book = Offences::default();
        let mut now = at(0);
        for _ in 0..20 {
            let (count, lasts) = until_banned(&mut book, now, of_network(7, 1), Offence::FailedToken);
            assert_eq!(count, 5);
            now = now + lasts;
        }
    }

    #[test]
    fn a_network_with_somebody_innocent_is_not_banned_and_its_households_answer_for_themselves() {
        let mut book = Offences::default();
        for number in 0..10_000 {
            let banned = book.note(at(0), of_network(7, number), Offence::FailedToken, SENTENCES, |_| true);
            assert_eq!(banned, None, "household {number} did it once");
        }
        let again = (0..5).find_map(|_| book.note(at(0), of_network(7, 1), Offence::FailedToken, SENTENCES, |_| true));
        assert_eq!(
            again.map(|sentence| (sentence.prefix, sentence.lasts)),
            Some((household(of_network(7, 1)), SENTENCES.first))
        );
    }

    #[test]
    fn households_are_told_apart_again_when_those_before_do_not_matter_any_more() {
        let mut book = Offences::default();
        for number in 0..1_000 {
            book.note(at(0), of_network(7, number), Offence::BadHandshake, SENTENCES, |_| true);
        }
        let (count, _) = until_banned(&mut book, at(3_600), of_network(7, 5_000), Offence::FailedToken);
        assert_eq!(count, 5);
    }

    #[test]
    fn one_network_does_not_fill_the_book() {
        let mut book = Offences::default();
        for number in 0..u16::MAX {
            book.note(at(0), of_network(7, number), Offence::Rate, SENTENCES, |_| false);
        }
        assert!(book.len() <= 1 + HOUSEHOLDS as usize, "{}", book.len());
    }

    #[test]
    fn a_full_book_forgets_nobody_who_matters() {
        let mut book = Offences::default();
        let culprit = ip(u32::MAX);
        for _ in 0..4 {
            assert_eq!(
                book.note(at(0), culprit, Offence::FailedToken, SENTENCES, |_| false),
                None
            );
        }
        for number in 0..200_000 {
            book.note(at(1), ip(number), Offence::FailedToken, SENTENCES, |_| false);
        }
        assert!(book.len() <= MOST);
        assert!(
            book.note(at(2), culprit, Offence::FailedToken, SENTENCES, |_| false)
                .is_some()
        );
        // An hour later there is room again.
        for number in 300_000..300_004 {
            book.note(at(3_600), ip(number), Offence::FailedToken, SENTENCES, |_| false);
        }
        assert!(book.len() < 10, "{}", book.len());
    }
}
