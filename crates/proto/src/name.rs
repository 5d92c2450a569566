//! The names that people give to hosts and tunnels, and the two protocols a tunnel can carry.

use std::fmt;
use std::str::FromStr;

/// What a tunnel carries.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, minicbor::Encode, minicbor::Decode)]
#[cbor(index_only)]
pub enum Protocol {
    /// Streams of bytes.
    #[n(0)]
    Tcp,
    /// Single packets.
    #[n(1)]
    Udp,
}

impl Protocol {
    /// Both protocols, in the order in which they are listed to people.
    pub const ALL: [Self; 2] = [Self::Tcp, Self::Udp];

    /// The word used in configuration, logs, events and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Protocol {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::ALL
            .into_iter()
            .find(|protocol| protocol.as_str() == text)
            .ok_or_else(|| NameError::Protocol(text.to_owned()))
    }
}

/// Why a text is not a name.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NameError {
    /// Neither `tcp` nor `udp`.
    #[error("unknown protocol `{0}`: it is tcp or udp")]
    Protocol(String),
    /// Empty, too long, or with a character that names may not have.
    #[error("`{text}` is no {what} name: use 1 to 32 of a-z, 0-9 and `-`, with a letter or digit at both ends")]
    Malformed {
        /// `tunnel` or `host`.
        what: &'static str,
        /// What was given, cut to a readable length.
        text: String,
    },
}

macro_rules! label {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        ///
        /// 1 to 32 of `a-z`, `0-9` and `-`, with a letter or digit at both ends, so that it can become a label of a host name.
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
        pub struct $name(Box<str>);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                if is_label(text) {
                    Ok(Self(text.into()))
                } else {
                    Err(NameError::Malformed { what: $what, text: text.chars().take(64).collect() })
                }
            }
        }

        impl<C> minicbor::Encode<C> for $name {
            fn encode<W: minicbor::encode::Write>(
                &self,
                e: &mut minicbor::Encoder<W>,
                _: &mut C,
            ) -> Result<(), minicbor::encode::Error<W::Error>> {
                e.str(&self.0)?.ok()
            }
        }

        impl<'b, C> minicbor::Decode<'b, C> for $name {
            fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
                d.str()?.parse().map_err(|_| minicbor::decode::Error::message(concat!("malformed ", $what, " name")))
            }
        }
    };
}

label! {
    /// The name of a tunnel, unique within its host.
    TunnelName, "tunnel"
}
label! {
    /// The name of a host, unique within its relay.
    HostName, "host"
}

/// `HOST:PORT` as people type it, with brackets around an IPv6 address.
pub fn host_port(host: &str, port: u16) -> String {
    if host.contains(':') && !host.starts_with('[') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

fn is_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    (1..=32).contains(&bytes.len())
        && bytes.iter().all(|&byte| inner(byte) || byte == b'-')
        && inner(bytes[0])
        && inner(bytes[bytes.len() - 1])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_that_could_not_be_a_host_label_are_refused() {
        for bad in ["", "-a", "a-", "A", "a_b", "a.b", "ü", &"x".repeat(33)] {
            assert!(bad.parse::<TunnelName>().is_err(), "{bad:?}");
        }
        for good in ["a", "0", "minecraft", "my-world-2", &"x".repeat(32)] {
            assert_eq!(good.parse::<TunnelName>().unwrap().as_str(), good);
        }
    }

    #[test]
    fn an_ipv6_address_stands_in_brackets_before_its_port() {
        assert_eq!(host_port("play.example", 1), "play.example:1");
        assert_eq!(host_port("2001:db8::1", 1), "[2001:db8::1]:1");
        assert_eq!(host_port("[2001:db8::1]", 1), "[2001:db8::1]:1");
    }

    #[test]
    fn a_refused_name_says_what_a_name_is() {
        let text = "My World".parse::<HostName>().unwrap_err().to_string();
        assert_eq!(
            text,
            "`My World` is no host name: use 1 to 32 of a-z, 0-9 and `-`, with a letter or digit at both ends"
        );
    }
}
