//! Lists of addresses that are asked through DNS (RFC 5782): what is asked about an address, and what the answer says.
//!
//! Nothing here asks anybody, or remembers anything.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;
use std::str::FromStr;

use crate::hostname::Hostname;

/// An address that no list may have: one that has it has everybody.
pub const NEVER_LISTED: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 1));

/// An address that every list has, so that it can be seen to answer.
pub const ALWAYS_LISTED: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

/// A list, by the name under which its addresses are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Zone {
    name: Hostname,
    /// The last numbers of answers that count; all when empty.
    codes: Vec<RangeInclusive<u8>>,
}

/// What a list says of an address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Answer {
    /// It is on the list.
    Listed,
    /// It is not, or not for a reason that counts.
    Clear,
    /// The list does not answer us, as `127.255.255.x` says, or what answers is no such list.
    Refused,
}

impl Zone {
    /// The name to look up for `ip`, an `A` record; fully qualified.
    pub fn question(&self, ip: IpAddr) -> String {
        let mut question = String::with_capacity(64 + 1 + self.name.as_str().len() + 1);
        match ip.to_canonical() {
            IpAddr::V4(ip) => {
                for byte in ip.octets().iter().rev() {
                    question.push_str(&format!("{byte}."));
                }
            }
            IpAddr::V6(ip) => {
                for byte in ip.octets().iter().rev() {
                    question.push_str(&format!("{:x}.{:x}.", byte & 0xf, byte >> 4));
                }
            }
        }
        question.push_str(self.name.as_str());
        question.push('.');
        question
    }

    /// What the addresses in an answer say; none when there is no such name.
    pub fn verdict(&self, addresses: impl IntoIterator<Item = Ipv4Addr>) -> Answer {
        let mut verdict = Answer::Clear;
        for address in addresses {
            match address.octets() {
                [127, 255, 255, _] => return Answer::Refused,
                [127, _, _, code] if self.counts(code) => verdict = Answer::Listed,
                [127, ..] => {}
                // A name that was given up and sold answers everything with the address of its new owner.
                _ => return Answer::Refused,
            }
        }
        verdict
    }

    fn counts(&self, code: u8) -> bool {
        self.codes.is_empty() || self.codes.iter().any(|codes| codes.contains(&code))
    }

    /// The name of the list.
    pub fn name(&self) -> &str {
        self.name.as_str()
    }
}

impl FromStr for Zone {
    type Err = String;

    /// Reads `NAME`, or `NAME=CODES` with numbers and ranges such as `2,4-9`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (name, codes) = text
            .split_once('=')
            .map_or((text, None), |(name, codes)| (name, Some(codes)));
        let name: Hostname = name
            .trim()
            .parse()
            .map_err(|_| format!("`{name}` is no name of a list, such as bl.example.org"))?;
        let range = |text: &str| {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            let number = |text: &str| text.trim().parse::<u8>().ok();
            let range = number(first).zip(number(last)).filter(|(first, last)| first <= last);
            range.map(|(first, last)| first..=last).ok_or_else(|| {
                format!("`{text}` is no number of an answer, or range of such: write for example {name}=2,4-9")
            })
        };
        let codes = codes.map(|codes| codes.split(',').map(range).collect()).transpose()?;
        Ok(Self {
            name,
            codes: codes.unwrap_or_default(),
        })
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name)?;
        for (at, codes) in self.codes.iter().enumerate() {
            let before = if at == 0 { '=' } else { ',' };
            match codes.start() == codes.end() {
                true => write!(f, "{before}{}", codes.start())?,
                false => write!(f, "{before}{}-{}", codes.start(), codes.end())?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn zone(text: &str) -> Zone {
        text.parse().unwrap()
    }

    fn verdict(zone: &Zone, answers: &[&str]) -> Answer {
        zone.verdict(answers.iter().map(|text| text.parse().unwrap()))
    }

    #[test]
    fn an_address_is_asked_for_backwards() {
        let zone = zone("bl.example.org");
        let question = |text: &str| zone.question(text.parse().unwrap());
        assert_eq!(question("192.0.2.99"), "99.2.0.192.bl.example.org.");
        assert_eq!(question("::ffff:192.0.2.99"), "99.2.0.192.bl.example.org.");
        // The example of RFC 5782, section 2.4.
        assert_eq!(
            question("2001:db8:1:2:3:4:567:89ab"),
            "b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.8.b.d.0.1.0.0.2.bl.example.org."
        );
    }

    #[test]
    fn only_answers_of_lists_count_and_only_those_that_are_asked_for() {
        let all = zone("bl.example.org");
        assert_eq!(verdict(&all, &[]), Answer::Clear);
        assert_eq!(verdict(&all, &["127.0.0.2"]), Answer::Listed);
        assert_eq!(verdict(&all, &["127.0.0.10", "127.0.0.2"]), Answer::Listed);
        assert_eq!(verdict(&all, &["127.255.255.254"]), Answer::Refused);
        assert_eq!(verdict(&all, &["203.0.113.80"]), Answer::Refused);
        // As an operator does who wants those that are broken into, and not everybody with a line at home.
        let some = zone("bl.example.org=2,4-9");
        for (answer, wanted) in [(2, true), (3, false), (4, true), (9, true), (10, false)] {
            let said = some.verdict([Ipv4Addr::new(127, 0, 0, answer)]);
            assert_eq!(said == Answer::Listed, wanted, "{answer}");
        }
        assert_eq!(verdict(&some, &["127.0.0.10", "127.0.0.4"]), Answer::Listed);
    }

    #[test]
    fn what_is_no_list_is_told_with_an_example() {
        for text in [
            "",
            "two words",
            "bl.example.org=",
            "bl.example.org=300",
            "bl.example.org=9-4",
            "bl.example.org=2;3",
        ] {
            let why = text.parse::<Zone>().unwrap_err();
            assert!(why.contains("is no"), "{text}: {why}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_as_the_same(codes in proptest::collection::vec((any::<u8>(), any::<u8>()), 0..5)) {
            let codes = codes.into_iter().map(|(one, other)| one.min(other)..=one.max(other)).collect();
            let zone = Zone { name: "bl.example.org".parse().unwrap(), codes };
            prop_assert_eq!(zone.to_string().parse::<Zone>().unwrap(), zone);
        }

        #[test]
        fn a_question_is_a_name_that_dns_carries(ip in any::<[u8; 16]>()) {
            let question = zone("bl.example.org").question(ip.into());
            prop_assert!(question.trim_end_matches('.').parse::<Hostname>().is_ok(), "{}", question);
        }
    }
}
