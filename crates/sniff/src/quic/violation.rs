//! What a QUIC client did wrong, by name.

use thiserror::Error;

use crate::tls;

/// An offence against the protocol; [`Violation::as_str`] is its name in logs, metric labels and tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum Violation {
    /// The first datagram does not begin with a long header.
    #[error("the datagram does not begin with a long header of QUIC")]
    NotLong,
    /// The version is neither 1 nor 2, or another than that of the first datagram.
    #[error("the version of QUIC is not one that is read here")]
    BadVersion,
    /// The first packet is cut short, or its header is none of its version's.
    #[error("the packet is malformed")]
    BadPacket,
    /// A packet was not sealed with the keys of the first connection id: it was changed on its way, or belongs to another connection.
    #[error("the packet cannot be decrypted")]
    Undecryptable,
    /// A frame ends after its packet does.
    #[error("a frame is malformed")]
    BadFrame,
    /// A frame may not be in an Initial packet.
    #[error("a frame came that is not expected here")]
    UnexpectedFrame,
    /// The client gave up.
    #[error("the client closed the connection")]
    Closed,
    /// A piece ends beyond what a ClientHello may have.
    #[error("a piece of the ClientHello lies too far out")]
    CryptoTooFar,
    /// The hello comes in more pieces than [`super::MAX_PIECES`].
    #[error("the ClientHello comes in too many pieces")]
    TooManyPieces,
    /// The hello was not whole after [`super::MAX_DATAGRAMS`] datagrams.
    #[error("the ClientHello does not end within the datagrams it may take")]
    TooManyDatagrams,
    /// The datagrams together have more than [`super::MAX_BYTES`].
    #[error("the datagrams before the end of the ClientHello are too large")]
    TooManyBytes,
    /// The hello itself is at fault.
    #[error("the ClientHello is refused")]
    Hello(#[source] tls::Violation),
}

impl Violation {
    /// The name of this offence, in snake case; of one in the hello, the name it has in TLS.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotLong => "not_long",
            Self::BadVersion => "bad_version",
            Self::BadPacket => "bad_packet",
            Self::Undecryptable => "undecryptable",
            Self::BadFrame => "bad_frame",
            Self::UnexpectedFrame => "unexpected_frame",
            Self::Closed => "closed",
            Self::CryptoTooFar => "crypto_too_far",
            Self::TooManyPieces => "too_many_pieces",
            Self::TooManyDatagrams => "too_many_datagrams",
            Self::TooManyBytes => "too_many_bytes",
            Self::Hello(violation) => violation.as_str(),
        }
    }
}
