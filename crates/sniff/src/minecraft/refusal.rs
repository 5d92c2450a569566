//! Tells a player in the game's own words why they cannot enter.
//!
//! When the origin refuses, a closed connection would read as "Connection reset" in the game. This talks to the player instead, to the end of what their
//! game understands: a list entry with the reason as its message, or a disconnect screen with it. It holds no more than one packet of what it was fed, so
//! a caller may feed it whatever comes; the deadline around the whole talk is the caller's.

use bytes::{Buf, Bytes, BytesMut};

use super::{First, Handshake, Listing, Next, Violation, legacy, login, status, text};
use crate::Progress;

/// The version name of our entries; the game shows it only when protocols differ.
const VERSION: &str = "Spawnpoint";

/// How a refusal ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The player's list shows the reason.
    Listed,
    /// The list of a player before 1.7 shows the reason.
    ListedLegacy,
    /// The player's screen shows the reason.
    Disconnected,
    /// The bytes are not Minecraft's, or not in their order: close without a word.
    Unknown(Violation),
}

impl Outcome {
    /// The name of this outcome, in snake case.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Listed => "listed",
            Self::ListedLegacy => "listed_legacy",
            Self::Disconnected => "disconnected",
            Self::Unknown(_) => "unknown",
        }
    }
}

/// What to do once the reply is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Read on, up to the caller's deadline.
    Read,
    /// Read on, but only for [`super::LEGACY_PAUSE`]; when nothing came, call [`Refusal::on_pause`].
    ReadBriefly,
    /// End the connection: finish writing, pass over what the player still sends, close.
    End(Outcome),
}

/// What a player's bytes lead to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Bytes to write now; may be empty.
    pub reply: Bytes,
    /// What to do after.
    pub then: Then,
}

/// A refusal in progress.
#[derive(Debug)]
pub struct Refusal {
    text: String,
    /// What the server list shows instead of the reason alone.
    shown: Option<Listing>,
    held: BytesMut,
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    First,
    Status { protocol: i32, listed: bool },
    Login,
    Ended(Outcome),
}

impl Refusal {
    /// Prepares to say `text`, of which at most 1,024 characters are used. The server list shows two lines of about 45; older clients show one.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self {
            text: text::clip(text, text::MAX_TEXT).to_owned(),
            shown: None,
            held: BytesMut::new(),
            state: State::First,
        }
    }

    /// Shows `listing` in the server list instead, so that it stays the entry that players know.
    #[must_use]
    pub fn shown_as(self, listing: Listing) -> Self {
        Self {
            shown: Some(listing),
            ..self
        }
    }

    /// Takes what the player sent, in the order it came and in pieces of any size, from their very first byte on.
    pub fn on_bytes(&mut self, bytes: &[u8]) -> Step {
        let mut out = BytesMut::new();
        self.held.extend_from_slice(bytes);
        let then = loop {
            match self.advance(false, &mut out) {
                Ok(Some(then)) => break then,
                Ok(None) => {}
                Err(violation) => break self.end(Outcome::Unknown(violation)),
            }
        };
        Step {
            reply: out.freeze(),
            then,
        }
    }

    /// Takes note that nothing came for a while after [`Then::ReadBriefly`]: what was said is all that will be said.
    pub fn on_pause(&mut self) -> Step {
        let mut out = BytesMut::new();
        let then = match self.advance(true, &mut out) {
            Ok(then) => then.unwrap_or(Then::Read),
            Err(violation) => self.end(Outcome::Unknown(violation)),
        };
        Step {
            reply: out.freeze(),
            then,
        }
    }

    /// Takes one packet from what is held; `None` when there may be another.
    fn advance(&mut self, paused: bool, out: &mut BytesMut) -> Result<Option<Then>, Violation> {
        match self.state {
            State::First => match First::decode(&self.held)? {
                Progress::NeedMore => Ok(Some(Then::Read)),
                Progress::Done { value, .. } if !paused && !value.is_settled() => Ok(Some(Then::ReadBriefly)),
                Progress::Done { value, consumed } => {
                    self.held.advance(consumed);
                    Ok(self.begin(value, out))
                }
            },
            State::Status { protocol, listed } => match take(&mut self.held, status::Query::decode)? {
                None => Ok(Some(Then::Read)),
                // The game itself closes on a second request, too.
                Some(status::Query::Request) if listed => Err(Violation::UnexpectedPacket),
                Some(status::Query::Request) => {
                    status::Reply::Listing(self.listing(protocol)).encode(out);
                    self.state = State::Status { protocol, listed: true };
                    Ok(None)
                }
                Some(status::Query::Ping(number)) => {
                    status::Reply::Pong(number).encode(out);
                    Ok(Some(self.end(Outcome::Listed)))
                }
            },
            State::Login => match take(&mut self.held, login::Start::decode)? {
                None => Ok(Some(Then::Read)),
                Some(_) => {
                    login::encode_disconnect(&self.text, out);
                    Ok(Some(self.end(Outcome::Disconnected)))
                }
            },
            State::Ended(outcome) => Ok(Some(self.end(outcome))),
        }
    }

    fn begin(&mut self, first: First, out: &mut BytesMut) -> Option<Then> {
        match first {
            First::Legacy(ping) => {
                legacy::encode_reply(&self.listing(ping.protocol()), &ping, out);
                return Some(self.end(Outcome::ListedLegacy));
            }
            First::Handshake(Handshake {
                next: Next::Status,
                protocol,
                ..
            }) => {
                self.state = State::Status {
                    protocol,
                    listed: false,
                };
            }
            First::Handshake(_) => self.state = State::Login,
        }
        None
    }

    fn listing(&self, protocol: i32) -> Listing {
        if let Some(shown) = &self.shown {
            return shown.clone();
        }
        Listing {
            version: VERSION.to_owned(),
            protocol,
            motd: self.text.clone(),
            ..Listing::default()
        }
    }

    fn end(&mut self, outcome: Outcome) -> Then {
        self.held = BytesMut::new();
        self.state = State::Ended(outcome);
        Then::End(outcome)
    }
}

/// Takes one value from the front of `held`.
fn take<T>(
    held: &mut BytesMut,
    decode: impl FnOnce(&[u8]) -> Result<Progress<T>, Violation>,
) -> Result<Option<T>, Violation> {
    Ok(match decode(held)? {
        Progress::NeedMore => None,
        Progress::Done { value, consumed } => {
            held.advance(consumed);
            Some(value)
        }
    })
}

#[cfg(test)]
mod tests;
