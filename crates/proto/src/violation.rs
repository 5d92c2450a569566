//! What a peer can do wrong, by name.

/// One offence of the peer against the protocol.
///
/// The word of [`Violation::as_str`] is the log field, the metric label and what tests assert.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// A control frame announced more bytes than allowed.
    #[error("control frame larger than the limit")]
    OversizeFrame,
    /// A control frame was too short to name its kind.
    #[error("control frame without a kind")]
    RuntFrame,
    /// The body of a control message could not be decoded.
    #[error("control message with a malformed body")]
    MalformedMessage,
    /// A message that is not allowed at this point of the conversation.
    #[error("control message out of order")]
    UnexpectedMessage,
    /// More requests than anybody has in so short a time.
    #[error("more control messages than anybody needs")]
    MessageFlood,
    /// More items in a message than allowed.
    #[error("control message with too many items")]
    TooManyItems,
    /// A stream whose header could not be decoded.
    #[error("stream with a malformed header")]
    MalformedStreamHeader,
    /// A stream of a kind that this side does not accept.
    #[error("stream of an unexpected kind")]
    UnexpectedStream,
    /// A datagram whose header could not be decoded.
    #[error("datagram with a malformed header")]
    MalformedDatagram,
    /// A repair whose header could not be decoded, or whose parity does not fit it.
    #[error("malformed repair of a stream")]
    MalformedRepair,
    /// Fragments that cannot belong to one packet.
    #[error("fragments that do not fit together")]
    FragmentMismatch,
    /// A packet that grew beyond what UDP can carry.
    #[error("reassembled packet larger than UDP allows")]
    OversizePacket,
    /// The control stream ended although the link did not.
    #[error("control stream ended early")]
    ControlEnded,
    /// An offset that no byte of the session has, or one that was given up long ago.
    #[error("session offset out of range")]
    OffsetOutOfRange,
    /// The peer did not speak in time.
    #[error("no hello in time")]
    HandshakeTimeout,
}

impl Violation {
    /// The word used in logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OversizeFrame => "oversize_frame",
            Self::RuntFrame => "runt_frame",
            Self::MalformedMessage => "malformed_message",
            Self::UnexpectedMessage => "unexpected_message",
            Self::MessageFlood => "message_flood",
            Self::TooManyItems => "too_many_items",
            Self::MalformedStreamHeader => "malformed_stream_header",
            Self::UnexpectedStream => "unexpected_stream",
            Self::MalformedDatagram => "malformed_datagram",
            Self::MalformedRepair => "malformed_repair",
            Self::FragmentMismatch => "fragment_mismatch",
            Self::OversizePacket => "oversize_packet",
            Self::ControlEnded => "control_ended",
            Self::OffsetOutOfRange => "offset_out_of_range",
            Self::HandshakeTimeout => "handshake_timeout",
        }
    }
}
