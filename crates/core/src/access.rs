//! From where players may come: lists of prefixes, and bans.
//!
//! A [`PrefixSet`] answers by binary search, [`Bans`] by one look-up for each length of prefix that there is; neither allocates. An IPv4 address in IPv6 clothes is the same
//! address here, and its prefix the same prefix.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::admission::prefix_of;
use crate::grant::UnixTime;

/// A set of addresses, made of prefixes.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct PrefixSet {
    v4: Vec<(u32, u32)>,
    v6: Vec<(u128, u128)>,
}

impl FromIterator<IpNet> for PrefixSet {
    fn from_iter<I: IntoIterator<Item = IpNet>>(prefixes: I) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for prefix in prefixes {
            match canonical(prefix) {
                IpNet::V4(net) => v4.push((net.network().to_bits(), net.broadcast().to_bits())),
                IpNet::V6(net) => v6.push((net.network().to_bits(), net.broadcast().to_bits())),
            }
        }
        Self {
            v4: merged(v4),
            v6: merged(v6),
        }
    }
}

/// Ranges in order that do not overlap.
fn merged<T: Ord + Copy>(mut ranges: Vec<(T, T)>) -> Vec<(T, T)> {
    ranges.sort_unstable();
    let mut merged: Vec<(T, T)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match merged.last_mut() {
            Some((_, end)) if first <= *end => *end = (*end).max(last),
            _ => merged.push((first, last)),
        }
    }
    merged
}

fn holds<T: Ord + Copy>(ranges: &[(T, T)], value: T) -> bool {
    let after = ranges.partition_point(|(first, _)| *first <= value);
    after.checked_sub(1).is_some_and(|at| ranges[at].1 >= value)
}

/// Whether a range has something of `first` to `last`.
fn meets<T: Ord + Copy>(ranges: &[(T, T)], first: T, last: T) -> bool {
    let after = ranges.partition_point(|(begin, _)| *begin <= last);
    after.checked_sub(1).is_some_and(|at| ranges[at].1 >= first)
}

impl PrefixSet {
    /// Whether `ip` is in it.
    pub fn contains(&self, ip: IpAddr) -> bool {
        match ip.to_canonical() {
            IpAddr::V4(ip) => holds(&self.v4, ip.to_bits()),
            IpAddr::V6(ip) => holds(&self.v6, ip.to_bits()),
        }
    }

    /// Whether anybody in `prefix` is in it.
    pub fn intersects(&self, prefix: IpNet) -> bool {
        match canonical(prefix) {
            IpNet::V4(net) => meets(&self.v4, net.network().to_bits(), net.broadcast().to_bits()),
            IpNet::V6(net) => meets(&self.v6, net.network().to_bits(), net.broadcast().to_bits()),
        }
    }

    /// Whether nobody is in it.
    pub const fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }
}

/// `prefix` without what lies behind its length, and an IPv4 one as such.
pub fn canonical(prefix: IpNet) -> IpNet {
    match prefix.trunc() {
        IpNet::V6(net) if net.prefix_len() >= 96 => match net.network().to_ipv4_mapped() {
            Some(ip) => Ipv4Net::new(ip, net.prefix_len() - 96).map_or(IpNet::V6(net), IpNet::V4),
            None => IpNet::V6(net),
        },
        prefix => prefix,
    }
}

/// Reads a prefix, or an address as one of its own.
///
/// # Errors
/// A sentence with what is allowed.
pub fn parse_prefix(text: &str) -> Result<IpNet, String> {
    let text = text.trim();
    let one = text.parse::<IpAddr>().map(IpNet::from);
    one.or_else(|_| text.parse::<IpNet>())
        .map(canonical)
        .map_err(|_| format!("`{text}` is no address or prefix such as 203.0.113.7, 203.0.113.0/24 or 2001:db8::/48"))
}

/// The prefix that is banned for somebody at `ip`: an IPv4 address, or the IPv6 network whose addresses a household has all of.
pub fn household(ip: IpAddr) -> IpNet {
    let (network, length) = match prefix_of(ip) {
        network @ IpAddr::V4(_) => (network, 32),
        network @ IpAddr::V6(_) => (network, 64),
    };
    IpNet::new_assert(network, length)
}

/// Reads a list: a prefix or an address a line, and what follows `#` is for people.
///
/// # Errors
/// The number of the first line that makes no sense, and why.
pub fn parse_list(text: &str) -> Result<Vec<IpNet>, (usize, String)> {
    let mut prefixes = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if !line.is_empty() {
            prefixes.push(parse_prefix(line).map_err(|why| (number + 1, why))?);
        }
    }
    Ok(prefixes)
}

/// Prefixes that nobody may come from, until some time.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Bans {
    v4: BTreeMap<u8, HashMap<u32, Option<UnixTime>>>,
    v6: BTreeMap<u8, HashMap<u128, Option<UnixTime>>>,
}

impl FromIterator<(IpNet, Option<UnixTime>)> for Bans {
    fn from_iter<I: IntoIterator<Item = (IpNet, Option<UnixTime>)>>(bans: I) -> Self {
        let mut all = Self::default();
        for (prefix, until) in bans {
            match canonical(prefix) {
                IpNet::V4(net) => {
                    let of_length = all.v4.entry(net.prefix_len()).or_default();
                    of_length.insert(net.network().to_bits(), until);
                }
                IpNet::V6(net) => {
                    let of_length = all.v6.entry(net.prefix_len()).or_default();
                    of_length.insert(net.network().to_bits(), until);
                }
            }
        }
        all
    }
}

impl Bans {
    /// Whether `ip` is banned at `now`.
    pub fn contains(&self, ip: IpAddr, now: UnixTime) -> bool {
        let is_on = |until: &Option<UnixTime>| until.is_none_or(|until| now < until);
        match ip.to_canonical() {
            IpAddr::V4(ip) => self.v4.iter().any(|(length, bans)| {
                let network = Ipv4Net::new_assert(ip, *length).network().to_bits();
                bans.get(&network).is_some_and(is_on)
            }),
            IpAddr::V6(ip) => self.v6.iter().any(|(length, bans)| {
                let network = Ipv6Net::new_assert(ip, *length).network().to_bits();
                bans.get(&network).is_some_and(is_on)
            }),
        }
    }
}

/// Lists of somebody: of the relay, of a host, of a tunnel.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Lists {
    /// Only from here; everywhere when it is empty.
    pub allow: Vec<IpNet>,
    /// Not from here.
    pub deny: Vec<IpNet>,
}

impl Lists {
    /// Whether they say nothing.
    pub const fn is_empty(&self) -> bool {
        self.allow.is_empty() && self.deny.is_empty()
    }
}

/// Why a place is closed to an address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Barred {
    /// It is banned.
    Banned,
    /// It is on a list of those who may not come.
    Denied,
    /// It is not on the list of those who may.
    NotAllowed,
}

impl Barred {
    /// The word used in logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Banned => "banned",
            Self::Denied => "denied",
            Self::NotAllowed => "not_allowed",
        }
    }
}

/// Who may come to one place.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Rule {
    allow: PrefixSet,
    deny: PrefixSet,
    bans: Bans,
}

impl Rule {
    /// The rule that `lists` and `bans` make.
    pub fn new(lists: &Lists, bans: impl IntoIterator<Item = (IpNet, Option<UnixTime>)>) -> Self {
        Self {
            allow: lists.allow.iter().copied().collect(),
            deny: lists.deny.iter().copied().collect(),
            bans: bans.into_iter().collect(),
        }
    }

    /// Whether a player from `ip` may come at `now`.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, ip: IpAddr, now: UnixTime) -> Result<(), Barred> {
        if self.bans.contains(ip, now) {
            return Err(Barred::Banned);
        }
        if self.deny.contains(ip) {
            return Err(Barred::Denied);
        }
        match self.allow.is_empty() || self.allow.contains(ip) {
            true => Ok(()),
            false => Err(Barred::NotAllowed),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn net(text: &str) -> IpNet {
        parse_prefix(text).unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    const NOW: UnixTime = UnixTime(1_000);

    #[test]
    fn a_set_holds_what_its_prefixes_hold_in_whatever_clothes() {
        let set: PrefixSet = ["10.0.0.0/8", "10.1.0.0/16", "203.0.113.7", "2001:db8::/32"]
            .map(net)
            .into_iter()
            .collect();
        for inside in ["10.255.0.1", "::ffff:10.0.0.1", "203.0.113.7", "2001:db8:ffff::1"] {
            assert!(set.contains(ip(inside)), "{inside}");
        }
        for outside in ["11.0.0.0", "9.255.255.255", "203.0.113.8", "2001:db9::", "::10.0.0.1"] {
            assert!(!set.contains(ip(outside)), "{outside}");
        }
        assert!(!PrefixSet::default().contains(ip("10.0.0.1")));
        for (prefix, wanted) in [
            ("10.2.0.0/16", true),
            ("0.0.0.0/0", true),
            ("203.0.113.0/24", true),
            ("203.0.113.8/29", false),
            ("2001:db8:7::/48", true),
            ("2001::/16", true),
            ("2001:db9::/48", false),
        ] {
            assert_eq!(set.intersects(net(prefix)), wanted, "{prefix}");
        }
        assert_eq!(net("::ffff:203.0.113.0/120"), net("203.0.113.0/24"));
        assert_eq!(net("203.0.113.77/24"), net("203.0.113.0/24"));
    }

    #[test]
    fn a_list_is_read_line_by_line_and_a_mistake_has_its_line() {
        let list = parse_list("# friends\n203.0.113.7   # Ada\n\n2001:db8::/48\r\n").unwrap();
        assert_eq!(list, [net("203.0.113.7"), net("2001:db8::/48")]);
        let (line, why) = parse_list("10.0.0.1\n10.0.0/8\n").unwrap_err();
        assert_eq!(line, 2);
        assert!(why.starts_with("`10.0.0/8` is no address or prefix"), "{why}");
    }

    #[test]
    fn a_ban_ends_at_its_second_and_a_wider_one_goes_on() {
        let bans: Bans = [
            (net("203.0.113.0/24"), Some(UnixTime(2_000))),
            (net("203.0.113.7"), Some(UnixTime(1_500))),
            (net("2001:db8::/48"), None),
        ]
        .into_iter()
        .collect();
        let is_banned = |text, now| bans.contains(ip(text), UnixTime(now));
        assert!(is_banned("203.0.113.7", 1_600) && is_banned("203.0.113.8", 1_999));
        assert!(!is_banned("203.0.113.7", 2_000));
        assert!(is_banned("2001:db8:0:ffff::1", u64::MAX) && !is_banned("2001:db8:1::1", 0));
    }

    #[test]
    fn a_rule_says_why() {
        let lists = Lists {
            allow: vec![net("10.0.0.0/8")],
            deny: vec![net("10.6.0.0/16")],
        };
        let rule = Rule::new(&lists, [(net("10.7.0.0/16"), None)]);
        assert_eq!(rule.check(ip("10.0.0.1"), NOW), Ok(()));
        assert_eq!(rule.check(ip("10.6.0.1"), NOW), Err(Barred::Denied));
        assert_eq!(rule.check(ip("10.7.0.1"), NOW), Err(Barred::Banned));
        assert_eq!(rule.check(ip("192.0.2.1"), NOW), Err(Barred::NotAllowed));
        assert_eq!(Rule::default().check(ip("192.0.2.1"), NOW), Ok(()));
    }

    proptest! {
        /// A set and bans agree with asking each prefix, whatever they overlap in.
        #[test]
        fn sets_and_bans_agree_with_their_prefixes(
            prefixes in proptest::collection::vec((any::<u32>(), 0u8..=32), 0..20),
            more in proptest::collection::vec((any::<u128>(), 0u8..=128), 0..20),
            asked in proptest::collection::vec(any::<u32>(), 1..20),
        ) {
            let v4 = prefixes.iter().map(|(ip, length)| IpNet::from(Ipv4Net::new_assert((*ip).into(), *length)));
            let v6 = more.iter().map(|(ip, length)| IpNet::from(Ipv6Net::new_assert((*ip).into(), *length)));
            let all: Vec<IpNet> = v4.chain(v6).map(canonical).collect();
            let set: PrefixSet = all.iter().copied().collect();
            let bans: Bans = all.iter().map(|prefix| (*prefix, None)).collect();
            let edges = all.iter().flat_map(|prefix| [prefix.network(), prefix.broadcast()]);
            let asked = asked.into_iter().map(|ip| IpAddr::from(ip.to_be_bytes()));
            for ip in asked.chain(edges) {
                let wanted = all.iter().any(|prefix| prefix.contains(&ip.to_canonical()));
                prop_assert_eq!(set.contains(ip), wanted);
                prop_assert_eq!(bans.contains(ip, NOW), wanted);
            }
        }
    }
}
