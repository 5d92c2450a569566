//! Invites: relay address, how to verify the relay, and the host's token in one pasteable string.
//!
//! An invite is Bech32m text, lower-case letters and digits only, so that a double click selects all of it and no chat program breaks it. It starts
//! with `spawnpoint1` and ends with a checksum that tells a bad paste before any network is touched.
//!
//! ```text
//! payload: version u8 (1) | trust u8 (0 pin, 1 name) | pin: 32 bytes | token: 32 bytes | port u16 | host (UTF-8, the rest)
//! ```

use std::fmt;
use std::str::FromStr;

use bech32::primitives::decode::CheckedHrpstring;
use bech32::{Bech32m, Hrp};

use crate::{CertificateHash, Token};

const PREFIX: &str = "spawnpoint";
const VERSION: u8 = 1;
const PIN: u8 = 0;
const NAME: u8 = 1;

/// The longest host name in DNS.
const MAX_HOST: usize = 253;

/// How an agent verifies the relay.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trust {
    /// The relay's certificate must be exactly this one.
    Pin(CertificateHash),
    /// The relay's certificate must be valid for the relay's host name by the machine's trusted authorities.
    Name,
}

/// What a host needs to reach its relay and be let in.
#[derive(Clone, Debug)]
pub struct Invite {
    /// The relay's host name or address.
    pub host: String,
    /// The relay's UDP port for agents.
    pub port: u16,
    /// How to verify the relay.
    pub trust: Trust,
    /// The host's token.
    pub token: Token,
}

/// Why a text is not an invite.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InviteError {
    /// Nothing was given.
    #[error("the invite is empty: paste the whole line that `spawnpoint invite NAME` printed")]
    Empty,
    /// The text does not start like an invite.
    #[error("this is not an invite: an invite starts with `spawnpoint1`")]
    Foreign,
    /// Letters are missing, added or changed.
    #[error("the invite is damaged (its checksum does not match): copy the whole line again")]
    Damaged,
    /// The invite is of a newer kind.
    #[error("the invite is of version {0}, this program knows version {VERSION}: update it")]
    Version(u8),
    /// The checksum is right but the content is not.
    #[error("the invite's content makes no sense: ask the relay's operator for a new one")]
    Malformed,
}

impl fmt::Display for Invite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut payload = vec![VERSION];
        match self.trust {
            Trust::Pin(CertificateHash(hash)) => {
                payload.push(PIN);
                payload.extend(hash);
            }
            Trust::Name => payload.push(NAME),
        }
        payload.extend(self.token.expose());
        payload.extend(self.port.to_be_bytes());
        payload.extend(self.host.as_bytes());
        // Bech32 guarantees its error detection up to 90 characters; beyond that the 30-bit checksum still misses one bad paste in a billion.
        let text = bech32::encode::<Bech32m>(Hrp::parse_unchecked(PREFIX), &payload).map_err(|_| fmt::Error)?;
        f.write_str(&text)
    }
}

impl FromStr for Invite {
    type Err = InviteError;

    fn from_str(text: &str) -> Result<Self, InviteError> {
        // Chat programs and terminals break long lines; no part of an invite is a space.
        let text: String = text.chars().filter(|char| !char.is_whitespace()).take(1024).collect();
        if text.is_empty() {
            return Err(InviteError::Empty);
        }
        let starts = text
            .get(..PREFIX.len() + 1)
            .is_some_and(|start| start.eq_ignore_ascii_case("spawnpoint1"));
        if !starts {
            return Err(InviteError::Foreign);
        }
        let checked = CheckedHrpstring::new::<Bech32m>(&text).map_err(|_| InviteError::Damaged)?;
        let payload: Vec<u8> = checked.byte_iter().collect();
        Self::from_payload(&payload)
    }
}

impl Invite {
    fn from_payload(payload: &[u8]) -> Result<Self, InviteError> {
        const BAD: InviteError = InviteError::Malformed;
        let (&version, rest) = payload.split_first().ok_or(BAD)?;
        if version != VERSION {
            return Err(InviteError::Version(version));
        }
        let (&trust, rest) = rest.split_first().ok_or(BAD)?;
        let (trust, rest) = match trust {
            PIN => {
                let (hash, rest) = rest.split_first_chunk::<32>().ok_or(BAD)?;
                (Trust::Pin(CertificateHash(*hash)), rest)
            }
            NAME => (Trust::Name, rest),
            _ => return Err(BAD),
        };
        let (token, rest) = rest.split_first_chunk::<32>().ok_or(BAD)?;
        let (port, host) = rest.split_first_chunk::<2>().ok_or(BAD)?;
        let (port, host) = (u16::from_be_bytes(*port), std::str::from_utf8(host).map_err(|_| BAD)?);
        let plausible = !host.is_empty()
            && host.len() <= MAX_HOST
            && !host.contains(|char: char| char.is_control() || char.is_whitespace());
        if port == 0 || !plausible {
            return Err(BAD);
        }
        Ok(Self {
            host: host.to_owned(),
            port,
            trust,
            token: Token::new(*token),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn invite() -> Invite {
        Invite {
            host: "203.0.113.5".into(),
            port: 7843,
            trust: Trust::Pin(CertificateHash([1; 32])),
            token: Token::new([2; 32]),
        }
    }

    #[test]
    fn the_text_of_released_invites_never_changes() {
        assert_eq!(
            invite().to_string(),
            concat!(
                "spawnpoint1qyqqzqgpqyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqszqg",
                "zqgpqyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqszqg02xv3sxvhrqt33xyejudgpr2ls5"
            )
        );
    }

    #[test]
    fn an_invite_survives_line_breaks_and_capitals() {
        let text = invite().to_string();
        let broken = format!("  {}\n {}\r\n", &text[..40], &text[40..]);
        for text in [broken, text.to_uppercase()] {
            let read: Invite = text.parse().unwrap();
            assert_eq!(
                (read.host.as_str(), read.port, read.trust, read.token.expose()),
                ("203.0.113.5", 7843, invite().trust, &[2; 32])
            );
        }
    }

    #[test]
    fn every_single_changed_letter_is_noticed() {
        let text = invite().to_string();
        for at in "spawnpoint1".len()..text.len() {
            let mut letters = text.clone().into_bytes();
            letters[at] = if letters[at] == b'q' { b'p' } else { b'q' };
            let changed = String::from_utf8(letters).unwrap();
            assert_eq!(changed.parse::<Invite>().unwrap_err(), InviteError::Damaged, "at {at}");
        }
    }

    #[test]
    fn a_bad_paste_is_told_apart() {
        let text = invite().to_string();
        assert_eq!("".parse::<Invite>().unwrap_err(), InviteError::Empty);
        assert_eq!(
            "https://example.org".parse::<Invite>().unwrap_err(),
            InviteError::Foreign
        );
        assert_eq!(text[1..].parse::<Invite>().unwrap_err(), InviteError::Foreign);
        assert_eq!(
            text[..text.len() - 1].parse::<Invite>().unwrap_err(),
            InviteError::Damaged
        );
    }

    #[test]
    fn a_newer_invite_says_so() {
        let text = bech32::encode::<Bech32m>(Hrp::parse_unchecked(PREFIX), &[2, 0, 0]).unwrap();
        assert_eq!(text.parse::<Invite>().unwrap_err(), InviteError::Version(2));
    }

    proptest! {
        #[test]
        fn invites_survive_the_trip(host in "[a-z0-9.:-]{1,60}", port in 1u16.., token: [u8; 32], pin in proptest::option::of(any::<[u8; 32]>())) {
            let trust = pin.map_or(Trust::Name, |pin| Trust::Pin(CertificateHash(pin)));
            let sent = Invite { host, port, trust, token: Token::new(token) };
            let read: Invite = sent.to_string().parse().unwrap();
            prop_assert_eq!((read.host, read.port, read.trust, read.token.expose()), (sent.host, sent.port, sent.trust, sent.token.expose()));
        }

        #[test]
        fn no_payload_makes_the_decoder_panic(payload in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Invite::from_payload(&payload);
        }

        #[test]
        fn no_text_makes_the_decoder_panic(text in "\\PC{0,80}") {
            let _ = text.parse::<Invite>();
            let _ = format!("spawnpoint1{text}").parse::<Invite>();
        }
    }
}
