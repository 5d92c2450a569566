//! The beginning of a login: who comes, and the one answer a relay may give, which is no.

use bytes::{BufMut, BytesMut};

use super::{First, Handshake, Next, Violation, frame, text};
use crate::Progress;

/// Characters of a player's name, as in the game.
const MAX_NAME: usize = 16;

/// Bytes of a login start: the name, and what versions put after it (1.19 sends a public key of up to 512 and its signature of up to 4,096).
const MAX_START: usize = 5 + 1 + 3 * MAX_NAME + 1 + 8 + 3 + 512 + 3 + 4_096 + 1 + 16;

/// Bytes of the longest reply: id, length, the JSON at three bytes a character.
const MAX_REPLY: usize = 5 + 5 + 3 * text::MAX_JSON;

/// The packet after a handshake for login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// The name the player claims; nobody has checked it yet.
    pub name: String,
}

impl Start {
    /// Reads a login start at the front of `buf`. What follows the name differs from version to version and is passed over.
    ///
    /// # Errors
    /// The first [`Violation`] found.
    pub fn decode(buf: &[u8]) -> Result<Progress<Self>, Violation> {
        frame::open(buf, MAX_START, |id| id == 0)?.and_then(|mut packet| {
            let name = packet.fields.string(MAX_NAME, Violation::NameTooLong)?.to_owned();
            Ok(Self { name })
        })
    }

    /// Appends this packet to `out` in the form of the game with `protocol`, without a signing key and with an id of zeros where one must be.
    ///
    /// # Errors
    /// [`Violation::NameTooLong`]; nothing is appended then.
    pub fn encode(&self, protocol: i32, out: &mut BytesMut) -> Result<(), Violation> {
        if self.name.encode_utf16().count() > MAX_NAME {
            return Err(Violation::NameTooLong);
        }
        let rest: &[u8] = match protocol {
            ..759 => &[],     // 1.18.2 and before: the name alone
            759 => &[0],      // 1.19: no key
            760 => &[0, 0],   // 1.19.1: no key, no id
            761..764 => &[0], // 1.19.3 to 1.20.1: no id
            764.. => &[0; 16],
        };
        frame::write(out, 0, |fields| {
            frame::write_string(fields, &self.name);
            fields.put_slice(rest);
        });
        Ok(())
    }
}

/// The name with which somebody joins whose first words are `head`; `None` for somebody who does not join.
///
/// # Errors
/// The first [`Violation`] found.
pub fn name_in(head: &[u8]) -> Result<Progress<Option<String>>, Violation> {
    let consumed = match First::decode(head)? {
        Progress::NeedMore => return Ok(Progress::NeedMore),
        Progress::Done {
            value:
                First::Handshake(Handshake {
                    next: Next::Login | Next::Transfer,
                    ..
                }),
            consumed,
        } => consumed,
        Progress::Done { consumed, .. } => return Ok(Progress::Done { value: None, consumed }),
    };
    Ok(match Start::decode(&head[consumed..])? {
        Progress::NeedMore => Progress::NeedMore,
        Progress::Done { value, consumed: more } => Progress::Done {
            value: Some(value.name),
            consumed: consumed + more,
        },
    })
}

/// What a server answers to a [`Start`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// No, and why.
    Disconnect(String),
    /// Anything else, by its packet id: the server lets the player go on.
    Other(i32),
}

impl Reply {
    /// Reads a reply at the front of `buf`.
    ///
    /// # Errors
    /// The first [`Violation`] found.
    pub fn decode(buf: &[u8]) -> Result<Progress<Self>, Violation> {
        frame::open(buf, MAX_REPLY, |_| true)?.and_then(|packet| {
            let mut fields = packet.fields;
            if packet.id != 0 {
                return Ok(Self::Other(packet.id));
            }
            let words = text::from_json(fields.string(text::MAX_JSON, Violation::TextTooLong)?)?;
            fields.finish()?;
            Ok(Self::Disconnect(words))
        })
    }
}

/// Appends a disconnect to `out` that shows `words`, of which at most 1,024 characters are sent.
pub fn encode_disconnect(words: &str, out: &mut BytesMut) {
    frame::write(out, 0, |fields| frame::write_string(fields, &text::component(words)));
}
