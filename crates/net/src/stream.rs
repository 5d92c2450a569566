//! The first bytes of a player's stream.

use quinn::{ReadExactError, RecvStream};
use spawnpoint_proto::Violation;
use spawnpoint_proto::stream::{MAX_HEADER, PREFIX, StreamHeader};

/// Why a stream has no header.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The peer broke the protocol.
    #[error("the peer broke the protocol: {0}")]
    Violation(#[from] Violation),
    /// The stream or its connection ended first.
    #[error("the stream ended before its header")]
    Ended(#[from] ReadExactError),
}

/// Reads the header of a stream; the bytes after it are left.
///
/// # Errors
/// See [`StreamError`]. The caller sets the deadline.
pub async fn read_header(stream: &mut RecvStream) -> Result<StreamHeader, StreamError> {
    let mut prefix = [0; PREFIX];
    stream.read_exact(&mut prefix).await?;
    let mut body = [0; MAX_HEADER - PREFIX];
    let body = &mut body[..StreamHeader::body_length(prefix)];
    stream.read_exact(body).await?;
    Ok(StreamHeader::decode(prefix, body)?)
}
