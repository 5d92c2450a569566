//! Sets of public ports, as people write them: `25565,30000-30010`.

use std::collections::HashSet;
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// A set of ports as sorted ranges that neither touch nor overlap; port 0 is in no set.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct PortSet(Vec<(u16, u16)>);

/// Why a text is not a set of ports.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PortError {
    /// A part that is neither a port nor a range.
    #[error("`{0}` is no port or range: write for example 25565 or 25565-25600, between 1 and 65535")]
    Malformed(String),
    /// A range whose end lies before its start.
    #[error("the range `{0}` ends before it starts")]
    Backwards(String),
    /// Nothing at all.
    #[error("no port given: write for example 25565 or 25565-25600")]
    Empty,
}

impl PortSet {
    /// The set of one range.
    pub fn range(ports: RangeInclusive<u16>) -> Self {
        Self::from_ranges(vec![(*ports.start(), *ports.end())])
    }

    /// The set with one range more.
    pub fn and(mut self, ports: RangeInclusive<u16>) -> Self {
        self.0.push((*ports.start(), *ports.end()));
        Self::from_ranges(self.0)
    }

    /// The set without `ports`.
    #[must_use]
    pub fn without(&self, ports: &HashSet<u16>) -> Self {
        let is_left = |port: &u16| !ports.contains(port);
        match ports.is_empty() {
            true => self.clone(),
            false => Self::from_ranges(self.iter().filter(is_left).map(|port| (port, port)).collect()),
        }
    }

    /// Whether `port` is in the set.
    pub fn contains(&self, port: u16) -> bool {
        self.0.iter().any(|&(first, last)| (first..=last).contains(&port))
    }

    /// Every port of the set, lowest first.
    pub fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        self.0.iter().flat_map(|&(first, last)| first..=last)
    }

    /// How many ports are in the set.
    pub fn len(&self) -> usize {
        self.0.iter().map(|&(first, last)| usize::from(last - first) + 1).sum()
    }

    /// Whether no port is in the set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn from_ranges(mut ranges: Vec<(u16, u16)>) -> Self {
        ranges.retain_mut(|(first, last)| {
            *first = (*first).max(1);
            first <= last
        });
        ranges.sort_unstable();
        let mut merged: Vec<(u16, u16)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match merged.last_mut() {
                Some((_, end)) if u32::from(first) <= u32::from(*end) + 1 => *end = last.max(*end),
                _ => merged.push((first, last)),
            }
        }
        Self(merged)
    }
}

impl FromStr for PortSet {
    type Err = PortError;

    fn from_str(text: &str) -> Result<Self, PortError> {
        let mut ranges = Vec::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let malformed = || PortError::Malformed(part.chars().take(32).collect());
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let parse = |text: &str| {
                text.trim()
                    .parse::<u16>()
                    .ok()
                    .filter(|&port| port != 0)
                    .ok_or_else(malformed)
            };
            let (first, last) = (parse(first)?, parse(last)?);
            if last < first {
                return Err(PortError::Backwards(part.to_owned()));
            }
            ranges.push((first, last));
        }
        if ranges.is_empty() {
            Err(PortError::Empty)
        } else {
            Ok(Self::from_ranges(ranges))
        }
    }
}

impl fmt::Display for PortSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, &(first, last)) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            match first == last {
                true => write!(f, "{comma}{first}")?,
                false => write!(f, "{comma}{first}-{last}")?,
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

    #[test]
    fn overlapping_and_touching_ranges_become_one() {
        let ports: PortSet = "30-40, 10-20,21,35-50".parse().unwrap();
        assert_eq!(ports.to_string(), "10-21,30-50");
        assert_eq!(ports.len(), 12 + 21);
    }

    #[test]
    fn a_bad_part_is_named() {
        assert_eq!(
            "25565,many".parse::<PortSet>(),
            Err(PortError::Malformed("many".into()))
        );
        assert_eq!("9-1".parse::<PortSet>(), Err(PortError::Backwards("9-1".into())));
        assert_eq!("0".parse::<PortSet>(), Err(PortError::Malformed("0".into())));
        assert_eq!("70000".parse::<PortSet>(), Err(PortError::Malformed("70000".into())));
        assert_eq!(" , ".parse::<PortSet>(), Err(PortError::Empty));
    }

    proptest! {
        #[test]
        fn what_is_printed_parses_back(ranges in proptest::collection::vec((1u16.., 1u16..), 1..6)) {
            let ports = PortSet::from_ranges(ranges.into_iter().map(|(a, b)| (a.min(b), a.max(b))).collect());
            prop_assert_eq!(ports.to_string().parse::<PortSet>().unwrap(), ports);
        }
    }
}
