//! What a TLS client did wrong, by name.

use thiserror::Error;

/// An offence against the protocol; [`Violation::as_str`] is its name in logs, metric labels and tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum Violation {
    /// The bytes are not a record with a handshake message.
    #[error("the bytes are not those of a TLS handshake")]
    NotTls,
    /// A record has no content, which a handshake may not have.
    #[error("a record is empty")]
    EmptyRecord,
    /// A record announces more than 16 KiB.
    #[error("a record is larger than any may be")]
    RecordTooLarge,
    /// The hello is spread over more than [`super::MAX_RECORDS`] records.
    #[error("the ClientHello is spread over too many records")]
    TooManyRecords,
    /// The first message is another.
    #[error("the handshake does not begin with a ClientHello")]
    NotClientHello,
    /// The hello announces more than [`super::MAX_HELLO`] bytes.
    #[error("the ClientHello is too large")]
    HelloTooLarge,
    /// The record that the hello ends in goes on after it.
    #[error("a record goes on after the ClientHello")]
    TrailingBytes,
    /// The hello contradicts itself.
    #[error("the ClientHello is malformed")]
    BadHello,
    /// The hello names a server that can have no such name, or several.
    #[error("the server name in the ClientHello is malformed")]
    BadServerName,
    /// The hello lists no signature schemes, as before TLS 1.2.
    #[error("the ClientHello is that of a protocol before TLS 1.2")]
    TooOld,
}

impl Violation {
    /// The name of this offence, in snake case.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotTls => "not_tls",
            Self::EmptyRecord => "empty_record",
            Self::RecordTooLarge => "record_too_large",
            Self::TooManyRecords => "too_many_records",
            Self::NotClientHello => "not_client_hello",
            Self::HelloTooLarge => "hello_too_large",
            Self::TrailingBytes => "trailing_bytes",
            Self::BadHello => "bad_hello",
            Self::BadServerName => "bad_server_name",
            Self::TooOld => "too_old",
        }
    }
}
