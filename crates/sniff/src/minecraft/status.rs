//! The talk that fills one line of the server list: a request, the entry, a ping, its pong.

use bytes::{BufMut, BytesMut};

use super::{Listing, Violation, frame, text};
use crate::Progress;

/// Bytes of the longer query, with room for an id in five bytes.
const MAX_QUERY: usize = 5 + 8;

/// Bytes of the longest reply: id, length, the JSON at three bytes a character.
const MAX_REPLY: usize = 5 + 5 + 3 * text::MAX_JSON;

/// What a player asks after a handshake for status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Query {
    /// Send the entry.
    Request,
    /// Send this number back.
    Ping(i64),
}

impl Query {
    /// Reads a query at the front of `buf`.
    ///
    /// # Errors
    /// The first [`Violation`] found.
    pub fn decode(buf: &[u8]) -> Result<Progress<Self>, Violation> {
        frame::open(buf, MAX_QUERY, |id| id == 0 || id == 1)?.and_then(|packet| {
            let mut fields = packet.fields;
            let query = match packet.id {
                0 => Self::Request,
                _ => Self::Ping(fields.i64()?),
            };
            fields.finish()?;
            Ok(query)
        })
    }

    /// Appends this packet to `out`.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Request => frame::write(out, 0, |_| {}),
            Self::Ping(number) => frame::write(out, 1, |fields| fields.put_i64(*number)),
        }
    }
}

/// Reads the entry that a server answers to [`Query::Request`] at the front of `buf`, as the server wrote it.
///
/// # Errors
/// The first [`Violation`] found.
pub fn decode_json(buf: &[u8]) -> Result<Progress<String>, Violation> {
    frame::open(buf, MAX_REPLY, |id| id == 0)?.and_then(|packet| {
        let mut fields = packet.fields;
        let json = fields.string(text::MAX_JSON, Violation::TextTooLong)?.to_owned();
        fields.finish()?;
        Ok(json)
    })
}

/// Appends a reply with the entry as a server wrote it, which [`decode_json`] has read.
pub fn encode_json(json: &str, out: &mut BytesMut) {
    frame::write(out, 0, |fields| frame::write_string(fields, json));
}

/// What a server answers to a [`Query`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The entry.
    Listing(Listing),
    /// The ping's number.
    Pong(i64),
}

impl Reply {
    /// Reads a reply at the front of `buf`.
    ///
    /// # Errors
    /// The first [`Violation`] found; an entry that lacks parts is not one.
    pub fn decode(buf: &[u8]) -> Result<Progress<Self>, Violation> {
        frame::open(buf, MAX_REPLY, |id| id == 0 || id == 1)?.and_then(|packet| {
            let mut fields = packet.fields;
            let reply = match packet.id {
                0 => Self::Listing(Listing::from_json(
                    fields.string(text::MAX_JSON, Violation::TextTooLong)?,
                )?),
                _ => Self::Pong(fields.i64()?),
            };
            fields.finish()?;
            Ok(reply)
        })
    }

    /// Appends this packet to `out`, its texts clipped as [`Listing`] says.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Listing(listing) => {
                frame::write(out, 0, |fields| frame::write_string(fields, &listing.to_json()));
            }
            Self::Pong(number) => frame::write(out, 1, |fields| fields.put_i64(*number)),
        }
    }
}
