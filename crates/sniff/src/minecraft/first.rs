//! Tells a modern first packet from a legacy ping.
//!
//! `FE` is both the legacy ping and the low byte of a modern frame's length, so the second and third byte decide: `FE 01 FA` is legacy, `FE 01 00` is a
//! handshake of 254 bytes, and `FE` with any other byte is a longer handshake. Until more arrives, `FE`, `FE 01` and `FE 01 FA` are also whole pings by
//! themselves, whose senders now wait for us. Only a pause can tell, and only the caller has a clock.

use std::time::Duration;

use super::legacy::{self, Ping};
use super::{Handshake, Violation};
use crate::Progress;

/// How long to wait for more when [`First::is_settled`] says no. Old clients send their bytes one by one but at once, so this covers one lost packet;
/// servers of their time waited a second.
pub const LEGACY_PAUSE: Duration = Duration::from_millis(500);

/// What a player said first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum First {
    /// 1.7 and later.
    Handshake(Handshake),
    /// A ping of 1.6 or before.
    Legacy(Ping),
}

impl First {
    /// Reads what is at the front of `buf`. On a result that is not [settled](First::is_settled), wait for more up to [`LEGACY_PAUSE`], decode again
    /// from the start if any came, and take the result otherwise.
    ///
    /// # Errors
    /// The first [`Violation`] found.
    pub fn decode(buf: &[u8]) -> Result<Progress<Self>, Violation> {
        match *buf {
            [legacy::PING]
            | [legacy::PING, legacy::EXTENDED]
            | [legacy::PING, legacy::EXTENDED, legacy::PLUGIN, ..] => Ok(Ping::decode(buf)?.map(Self::Legacy)),
            _ => Ok(Handshake::decode(buf)?.map(Self::Handshake)),
        }
    }

    /// Whether further bytes could not turn this into something else.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        !matches!(self, Self::Legacy(Ping::Bare | Ping::Extended))
    }

    /// The name to route by, cleaned as [`Handshake::hostname`] says; `None` for the two pings that carry none.
    #[must_use]
    pub fn hostname(&self) -> Option<String> {
        match self {
            Self::Handshake(handshake) => Some(handshake.hostname()),
            Self::Legacy(ping) => ping.hostname(),
        }
    }
}
