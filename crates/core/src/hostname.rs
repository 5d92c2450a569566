//! Host names, as players type them and hosts claim them.
//!
//! A [`Hostname`] is in the one form in which names are compared: ASCII (`xn--` for everything else), lower case, without the final dot. A [`Pattern`] is
//! a name, or `*.NAME` for everything under it, however deep, the name itself excluded. Where several patterns cover a name, the one that says most
//! decides: the name itself first, then the longest `*.NAME`. Nothing here looks anything up.

use std::fmt;
use std::str::FromStr;

/// The longest name that DNS carries, as text.
const MAX_NAME: usize = 253;

/// The longest part between two dots.
const MAX_LABEL: usize = 63;

/// Why a text is no host name or pattern.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{0}` is no host name: write for example mc.example.org, or *.example.org for every name under it")]
pub struct HostnameError(String);

impl HostnameError {
    fn of(text: &str) -> Self {
        Self(text.chars().take(64).collect())
    }
}

/// A host name: 1 to 253 characters, in labels of `a-z`, `0-9`, `-` and `_`, which do not begin or end with `-`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Hostname(Box<str>);

impl Hostname {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name `label.self`.
    ///
    /// # Errors
    /// When that is too long, or `label` is none.
    pub fn under(&self, label: &str) -> Result<Self, HostnameError> {
        format!("{label}.{self}").parse()
    }

    /// Whether this name is `other`, or ends in `.other`.
    pub fn is_within(&self, other: &Self) -> bool {
        self.0
            .strip_suffix(&*other.0)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    }
}

impl FromStr for Hostname {
    type Err = HostnameError;

    /// Reads a name in any case, with or without the final dot. Letters beyond ASCII are put into the form that DNS has for them.
    fn from_str(text: &str) -> Result<Self, HostnameError> {
        let name = text.strip_suffix('.').unwrap_or(text);
        let ascii = if name.is_ascii() {
            name.to_ascii_lowercase()
        } else if name.len() <= MAX_NAME {
            idna::domain_to_ascii(name).map_err(|_| HostnameError::of(text))?
        } else {
            return Err(HostnameError::of(text));
        };
        if ascii.len() <= MAX_NAME && ascii.split('.').all(is_label) {
            Ok(Self(ascii.into()))
        } else {
            Err(HostnameError::of(text))
        }
    }
}

impl fmt::Display for Hostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

fn is_label(label: &str) -> bool {
    (1..=MAX_LABEL).contains(&label.len())
        && label
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'))
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// A name, or all names under one.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Pattern {
    /// This name.
    Exact(Hostname),
    /// Every name under this one, however deep; not this one.
    Under(Hostname),
}

impl Pattern {
    /// Whether every name of `other` is one of this pattern.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(own), Self::Exact(name)) => own == name,
            (Self::Exact(_), Self::Under(_)) => false,
            (Self::Under(own), Self::Exact(name)) => name != own && name.is_within(own),
            (Self::Under(own), Self::Under(name)) => name.is_within(own),
        }
    }

    /// The name, without the star.
    pub const fn name(&self) -> &Hostname {
        match self {
            Self::Exact(name) | Self::Under(name) => name,
        }
    }
}

impl FromStr for Pattern {
    type Err = HostnameError;

    fn from_str(text: &str) -> Result<Self, HostnameError> {
        match text.strip_prefix("*.") {
            Some(rest) => rest.parse().map(Self::Under).map_err(|_| HostnameError::of(text)),
            None => text.parse().map(Self::Exact),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.pad(name.as_str()),
            Self::Under(name) => write!(f, "*.{name}"),
        }
    }
}

/// The names above `name`, nearest first: for `a.b.c` these are `b.c` and `c`. At most one for each dot.
pub fn parents(name: &str) -> impl Iterator<Item = &str> {
    name.match_indices('.').map(move |(at, _)| &name[at + 1..])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn pattern(text: &str) -> Pattern {
        text.parse().unwrap()
    }

    #[test]
    fn names_are_compared_in_one_form() {
        for text in ["mc.example.org", "MC.Example.ORG", "mc.example.org."] {
            assert_eq!(text.parse::<Hostname>().unwrap().as_str(), "mc.example.org");
        }
        assert_eq!(
            "Bücher.example".parse::<Hostname>().unwrap().as_str(),
            "xn--bcher-kva.example"
        );
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let long = "a".repeat(64);
        let longer = format!("{}x", "a.".repeat(127));
        for text in ["", ".", "a..b", "-a", "a-", "a b", "a/b", "*", "*.a.b", &long, &longer] {
            assert!(text.parse::<Hostname>().is_err(), "{text}");
        }
        for text in ["*", "*.", "*a.b", "a.*.b", "**.a"] {
            assert!(text.parse::<Pattern>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_star_covers_what_is_under_it_and_not_itself() {
        assert!(pattern("*.example.org").covers(&pattern("a.b.example.org")));
        assert!(pattern("*.example.org").covers(&pattern("*.b.example.org")));
        assert!(pattern("*.example.org").covers(&pattern("*.example.org")));
        assert!(!pattern("*.example.org").covers(&pattern("example.org")));
        assert!(!pattern("*.example.org").covers(&pattern("badexample.org")));
        assert!(!pattern("a.example.org").covers(&pattern("*.a.example.org")));
        assert!(!pattern("*.a.example.org").covers(&pattern("*.example.org")));
    }

    #[test]
    fn parents_come_nearest_first() {
        assert_eq!(parents("a.b.c").collect::<Vec<_>>(), ["b.c", "c"]);
        assert_eq!(parents("a").count(), 0);
    }

    proptest! {
        #[test]
        fn what_is_printed_parses_back(text in "(\\*\\.)?[a-z0-9]{1,8}(\\.[a-z0-9_]{1,8}){0,4}") {
            let read = pattern(&text);
            prop_assert_eq!(read.to_string().parse::<Pattern>().unwrap(), read);
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in ".{0,300}") {
            let _ = text.parse::<Pattern>();
        }
    }
}
