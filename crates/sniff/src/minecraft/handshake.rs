//! The first packet of every modern player: which server they typed, and what they want of it.

use bytes::{BufMut, BytesMut};

use super::{Violation, frame, varint};
use crate::Progress;

/// Characters of a host name, as in the game.
const MAX_HOST: usize = 255;

/// What TCPShield puts between the name, the player's address, the time and a signature; Forge and other proxies use a NUL.
const SLASHES: &str = "///";

/// Characters after the NUL or the slashes. Forge adds a word or two; a proxy in front adds the player's address and profile, whose signed skin is
/// 1 to 2 kB.
const MAX_SUFFIX: usize = 4_096;

/// Characters of a host name with its suffix and the NUL between them; slashes count as part of the suffix but for one.
const MAX_RAW: usize = MAX_HOST + 1 + MAX_SUFFIX;

/// Bytes of the whole frame: id, protocol, host with its length, port, next.
const MAX_FRAME: usize = 1 + varint::MAX_BYTES + 3 + 3 * MAX_RAW + 2 + varint::MAX_BYTES;

/// What a player wants after the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Next {
    /// The entry for the server list.
    Status,
    /// To play.
    Login,
    /// To play, sent here by another server (1.20.5 and later).
    Transfer,
}

impl Next {
    /// The name of this wish, in snake case.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Login => "login",
            Self::Transfer => "transfer",
        }
    }

    const fn number(self) -> i32 {
        match self {
            Self::Status => 1,
            Self::Login => 2,
            Self::Transfer => 3,
        }
    }

    const fn from_number(number: i32) -> Result<Self, Violation> {
        match number {
            1 => Ok(Self::Status),
            2 => Ok(Self::Login),
            3 => Ok(Self::Transfer),
            _ => Err(Violation::BadNext),
        }
    }
}

/// A modern player's first packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// The protocol number of the player's game; -1 is what tools send that do not care.
    pub protocol: i32,
    /// The server as the player sent it, suffixes and all; route by [`Handshake::hostname`].
    pub host: String,
    /// The port the player connected to, as they see it.
    pub port: u16,
    /// What comes after this packet.
    pub next: Next,
}

impl Handshake {
    /// Reads a handshake at the front of `buf`.
    ///
    /// # Errors
    /// The first [`Violation`] found; a wrong packet id is found at the second byte.
    pub fn decode(buf: &[u8]) -> Result<Progress<Self>, Violation> {
        frame::open(buf, MAX_FRAME, |id| id == 0)?.and_then(|packet| {
            let mut fields = packet.fields;
            let handshake = Self {
                protocol: fields.varint()?,
                host: fields.string(MAX_RAW, Violation::HostTooLong)?.to_owned(),
                port: fields.u16()?,
                next: Next::from_number(fields.varint()?)?,
            };
            fields.finish()?;
            handshake.check_host()?;
            Ok(handshake)
        })
    }

    /// Appends this packet to `out`.
    ///
    /// # Errors
    /// [`Violation::HostTooLong`] when a server would not read the host; nothing is appended then.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), Violation> {
        self.check_host()?;
        frame::write(out, 0, |fields| {
            varint::write(fields, self.protocol);
            frame::write_string(fields, &self.host);
            fields.put_u16(self.port);
            varint::write(fields, self.next.number());
        });
        Ok(())
    }

    /// The name to route by: without what Forge or a proxy added after a NUL or after `///`, without the dot of an absolute name, in lower case.
    #[must_use]
    pub fn hostname(&self) -> String {
        hostname(&self.host)
    }

    fn check_host(&self) -> Result<(), Violation> {
        let (name, added) = split(&self.host);
        if name.encode_utf16().count() > MAX_HOST || added.encode_utf16().count() > 1 + MAX_SUFFIX {
            return Err(Violation::HostTooLong);
        }
        Ok(())
    }
}

/// Cleans a host as players send it: what was added taken off, then one trailing dot, ASCII lower case.
pub(super) fn hostname(host: &str) -> String {
    let (name, _) = split(host);
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// The name, and what was added to it with the NUL or the slashes it begins with.
fn split(host: &str) -> (&str, &str) {
    let ends = [host.find('\0'), host.find(SLASHES)];
    let end = ends.into_iter().flatten().min().unwrap_or(host.len());
    host.split_at(end)
}
