//! The dialects in which players say whom they want, so that many hosts can share one public port.

use std::fmt;

use crate::Protocol;

/// What the first bytes of a tunnel's players are written in.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Dialect {
    /// Minecraft: Java Edition, whose handshake carries the host that the player typed.
    Minecraft,
    /// TLS, whose hello carries a server name (SNI).
    Tls,
    /// HTTP/1, whose head carries `Host`.
    Http,
    /// QUIC, whose first packets carry the hello of TLS.
    Quic,
}

impl Dialect {
    /// Every dialect.
    pub const ALL: [Self; 4] = [Self::Minecraft, Self::Tls, Self::Http, Self::Quic];

    /// The word used on the wire, in configuration, logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Minecraft => "minecraft",
            Self::Tls => "tls",
            Self::Http => "http",
            Self::Quic => "quic",
        }
    }

    /// The dialect with this word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dialect| dialect.as_str() == word)
    }

    /// What carries it.
    pub const fn protocol(self) -> Protocol {
        match self {
            Self::Minecraft | Self::Tls | Self::Http => Protocol::Tcp,
            Self::Quic => Protocol::Udp,
        }
    }

    /// The port that clients try when an address names none.
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Minecraft => 25565,
            Self::Tls | Self::Quic => 443,
            Self::Http => 80,
        }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
