//! What a proxy did wrong, by name.

use thiserror::Error;

/// An offence against the protocol; [`Violation::as_str`] is its name in logs, metric labels and tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum Violation {
    /// The bytes begin like no header of either version: nothing stands in front, or it is not set up to say whom it speaks for.
    #[error("the connection does not begin with a PROXY header")]
    NotProxy,
    /// A line of version 1 does not end within 107 bytes.
    #[error("the line of the PROXY header is too long")]
    LineTooLong,
    /// A line of version 1 is not as it must be.
    #[error("the line of the PROXY header is malformed")]
    BadLine,
    /// The binary header is of another version than 2.
    #[error("the PROXY header is of an unknown version")]
    BadVersion,
    /// The binary header's command is neither LOCAL nor PROXY.
    #[error("the PROXY header has an unknown command")]
    BadCommand,
    /// The binary header's family or transport is not a known one.
    #[error("the PROXY header has an unknown family or transport")]
    BadFamily,
    /// The binary header is longer than [`super::MAX_HEADER`].
    #[error("the PROXY header is too long")]
    HeaderTooLong,
    /// The binary header is too short for its addresses.
    #[error("the PROXY header ends in the middle of its addresses")]
    HeaderShort,
}

impl Violation {
    /// The name of this offence, in snake case.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotProxy => "not_proxy",
            Self::LineTooLong => "line_too_long",
            Self::BadLine => "bad_line",
            Self::BadVersion => "bad_version",
            Self::BadCommand => "bad_command",
            Self::BadFamily => "bad_family",
            Self::HeaderTooLong => "header_too_long",
            Self::HeaderShort => "header_short",
        }
    }
}
