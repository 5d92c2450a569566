//! RakNet's offline ping and pong: the list entry of Minecraft Bedrock Edition, and of other games on RakNet.
//!
//! Each is one datagram, so there is no "need more": a datagram that ends too early is an offence. The pong ends in a string of the game's own; for
//! Bedrock it is a [`Listing`], its fields separated by semicolons. Connections are RakNet's business and pass through us unread.
//!
//! Source: RakNet's `ID_UNCONNECTED_PING` and `ID_UNCONNECTED_PONG` as documented on wiki.vg (now minecraft.wiki), page "Raknet Protocol".

mod listing;

use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;

pub use listing::Listing;

/// Marks a datagram as RakNet's own, outside any connection.
pub const MAGIC: [u8; 16] = *b"\x00\xff\xff\x00\xfe\xfe\xfe\xfe\xfd\xfd\xfd\xfd\x12\x34\x56\x78";

/// Bytes of a pong's string: a datagram with more would not pass an ordinary path whole.
pub const MAX_ID: usize = 1_400;

const PING: u8 = 0x01;
const PING_IF_OPEN: u8 = 0x02;
const PONG: u8 = 0x1c;

/// An offence against the protocol; [`Violation::as_str`] is its name in logs, metric labels and tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum Violation {
    /// The datagram is not of the kind asked for.
    #[error("a datagram came that is not expected here")]
    UnexpectedPacket,
    /// The datagram ends in the middle of a field.
    #[error("a datagram ends in the middle of a field")]
    Truncated,
    /// Bytes are left after the last field.
    #[error("a datagram goes on after its last field")]
    TrailingBytes,
    /// The sixteen magic bytes are others.
    #[error("a datagram does not carry the magic bytes")]
    BadMagic,
    /// The pong's string is longer than [`MAX_ID`].
    #[error("the server's id string is too long")]
    IdTooLong,
    /// The pong's string is not valid UTF-8.
    #[error("the server's id string is not valid unicode")]
    BadUnicode,
    /// The pong's string is not a list entry of Bedrock.
    #[error("the server's id string is not a list entry")]
    BadListing,
}

impl Violation {
    /// The name of this offence, in snake case.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UnexpectedPacket => "unexpected_packet",
            Self::Truncated => "truncated",
            Self::TrailingBytes => "trailing_bytes",
            Self::BadMagic => "bad_magic",
            Self::IdTooLong => "id_too_long",
            Self::BadUnicode => "bad_unicode",
            Self::BadListing => "bad_listing",
        }
    }
}

/// Whether `datagram` is a ping or pong of RakNet, told by id and magic alone: cheap enough to ask of every datagram.
#[must_use]
pub fn is_offline(datagram: &[u8]) -> bool {
    let magic_at = match datagram.first() {
        Some(&(PING | PING_IF_OPEN)) => 9,
        Some(&PONG) => 17,
        _ => return false,
    };
    datagram.get(magic_at..).is_some_and(|rest| rest.starts_with(&MAGIC))
}

/// Asks a server for its entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ping {
    /// The sender's time in milliseconds; it comes back in the pong.
    pub time: u64,
    /// The sender's random id, which the oldest clients leave out.
    pub client: Option<u64>,
    /// Whether only a server with room for another player should answer.
    pub if_open: bool,
}

impl Ping {
    /// Reads a ping that fills `datagram`.
    ///
    /// # Errors
    /// The first [`Violation`] found.
    pub fn decode(datagram: &[u8]) -> Result<Self, Violation> {
        let mut fields = Fields(datagram);
        let [id] = fields.array()?;
        if id != PING && id != PING_IF_OPEN {
            return Err(Violation::UnexpectedPacket);
        }
        let time = fields.u64()?;
        fields.magic()?;
        let client = if fields.0.is_empty() { None } else { Some(fields.u64()?) };
        fields.finish()?;
        Ok(Self {
            time,
            client,
            if_open: id == PING_IF_OPEN,
        })
    }

    /// This ping as a datagram.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(1 + 8 + MAGIC.len() + 8);
        out.put_u8(if self.if_open { PING_IF_OPEN } else { PING });
        out.put_u64(self.time);
        out.put_slice(&MAGIC);
        if let Some(client) = self.client {
            out.put_u64(client);
        }
        out.freeze()
    }
}

/// A server's answer to a [`Ping`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pong {
    /// The ping's time.
    pub time: u64,
    /// The server's random id.
    pub server: u64,
    /// The game's own string, for Bedrock a [`Listing`]; empty where a game sends none.
    pub id: String,
}

impl Pong {
    /// Reads a pong that fills `datagram`.
    ///
    /// # Errors
    /// The first [`Violation`] found.
    pub fn decode(datagram: &[u8]) -> Result<Self, Violation> {
        let mut fields = Fields(datagram);
        let [PONG] = fields.array()? else {
            return Err(Violation::UnexpectedPacket);
        };
        let time = fields.u64()?;
        let server = fields.u64()?;
        fields.magic()?;
        let id = if fields.0.is_empty() { "" } else { fields.id()? };
        fields.finish()?;
        Ok(Self {
            time,
            server,
            id: id.to_owned(),
        })
    }

    /// This pong as a datagram.
    ///
    /// # Errors
    /// [`Violation::IdTooLong`]; a [`Listing`] of ours never is.
    pub fn encode(&self) -> Result<Bytes, Violation> {
        if self.id.len() > MAX_ID {
            return Err(Violation::IdTooLong);
        }
        let mut out = BytesMut::with_capacity(1 + 8 + 8 + MAGIC.len() + 2 + self.id.len());
        out.put_u8(PONG);
        out.put_u64(self.time);
        out.put_u64(self.server);
        out.put_slice(&MAGIC);
        out.put_u16(self.id.len() as u16);
        out.put_slice(self.id.as_bytes());
        Ok(out.freeze())
    }
}

/// The fields of a datagram, read from front to back.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Violation> {
        let (value, rest) = self.0.split_first_chunk().ok_or(Violation::Truncated)?;
        self.0 = rest;
        Ok(*value)
    }

    fn u64(&mut self) -> Result<u64, Violation> {
        self.array().map(u64::from_be_bytes)
    }

    fn magic(&mut self) -> Result<(), Violation> {
        if self.array()? == MAGIC {
            Ok(())
        } else {
            Err(Violation::BadMagic)
        }
    }

    fn id(&mut self) -> Result<&'a str, Violation> {
        let size = usize::from(self.array().map(u16::from_be_bytes)?);
        if size > MAX_ID {
            return Err(Violation::IdTooLong);
        }
        let (bytes, rest) = self.0.split_at_checked(size).ok_or(Violation::Truncated)?;
        self.0 = rest;
        std::str::from_utf8(bytes).map_err(|_| Violation::BadUnicode)
    }

    fn finish(self) -> Result<(), Violation> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(Violation::TrailingBytes)
        }
    }
}

#[cfg(test)]
mod tests;
