//! What a Minecraft peer did wrong, by name.

use thiserror::Error;

/// An offence against the protocol; [`Violation::as_str`] is its name in logs, metric labels and tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum Violation {
    /// A variable-length number goes on after its last possible byte.
    #[error("a number is longer than its type allows")]
    VarIntTooLong,
    /// A frame of length zero has no room for a packet id.
    #[error("a frame is empty")]
    EmptyFrame,
    /// A frame announces more bytes than any packet expected here can have.
    #[error("a frame is larger than any packet expected here")]
    FrameTooLarge,
    /// The packet is not one that may come now; this is what other protocols mostly run into.
    #[error("a packet came that is not expected here")]
    UnexpectedPacket,
    /// A field ends after its frame does.
    #[error("a packet ends in the middle of a field")]
    PacketShort,
    /// Bytes are left after the last field.
    #[error("a packet goes on after its last field")]
    TrailingBytes,
    /// The host name is longer than 255 characters, or what follows it is longer than a proxy could make it.
    #[error("the host name is too long")]
    HostTooLong,
    /// The player's name is longer than 16 characters.
    #[error("the player's name is too long")]
    NameTooLong,
    /// A JSON text is longer than 32,767 characters, or a legacy reply longer than its clients read.
    #[error("a text is too long")]
    TextTooLong,
    /// A string is not valid UTF-8, or not UTF-16 in a legacy packet.
    #[error("a text is not valid unicode")]
    BadUnicode,
    /// The handshake asks for neither status nor login nor transfer.
    #[error("the handshake asks for a next state that does not exist")]
    BadNext,
    /// The bytes start like a legacy ping with a host and then contradict themselves.
    #[error("a legacy ping is malformed")]
    BadLegacyPing,
    /// The bytes are not a list entry in either of the legacy forms.
    #[error("a legacy reply is malformed")]
    BadLegacyReply,
    /// A text that must be JSON is not, or has another shape.
    #[error("a text is not the JSON expected here")]
    BadJson,
}

impl Violation {
    /// The name of this offence, in snake case.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::VarIntTooLong => "varint_too_long",
            Self::EmptyFrame => "empty_frame",
            Self::FrameTooLarge => "frame_too_large",
            Self::UnexpectedPacket => "unexpected_packet",
            Self::PacketShort => "packet_short",
            Self::TrailingBytes => "trailing_bytes",
            Self::HostTooLong => "host_too_long",
            Self::NameTooLong => "name_too_long",
            Self::TextTooLong => "text_too_long",
            Self::BadUnicode => "bad_unicode",
            Self::BadNext => "bad_next",
            Self::BadLegacyPing => "bad_legacy_ping",
            Self::BadLegacyReply => "bad_legacy_reply",
            Self::BadJson => "bad_json",
        }
    }
}
