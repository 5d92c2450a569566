//! The control stream: whole messages in and out.

use bytes::BytesMut;
use quinn::{ReadError, RecvStream, SendStream};
use spawnpoint_proto::Violation;
use spawnpoint_proto::control::Message;
use spawnpoint_proto::frame::{Frame, MAX_FRAME};

/// Why no further message comes or goes.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The peer broke the protocol.
    #[error("the peer broke the protocol: {0}")]
    Violation(#[from] Violation),
    /// The connection is gone.
    #[error("the connection was lost")]
    Lost(#[source] quinn::ConnectionError),
    /// The stream was cut although the connection was not.
    #[error("the control stream was cut")]
    Cut,
}

/// Reads messages.
#[derive(Debug)]
pub struct ControlReader {
    stream: RecvStream,
    buffer: BytesMut,
    limit: usize,
}

impl ControlReader {
    /// Reads from `stream`, refusing frames above `limit` bytes.
    pub fn new(stream: RecvStream, limit: usize) -> Self {
        Self {
            stream,
            buffer: BytesMut::new(),
            limit,
        }
    }

    /// Accepts frames up to [`MAX_FRAME`], now that the peer is known.
    pub const fn trust(&mut self) {
        self.limit = MAX_FRAME;
    }

    /// The next frame. Cancel-safe: a frame that was begun stays in the buffer.
    ///
    /// # Errors
    /// See [`ControlError`]; the end of the stream is [`Violation::ControlEnded`], since a link that ends closes its connection instead.
    pub async fn frame(&mut self) -> Result<Frame, ControlError> {
        loop {
            if let Some(frame) = Frame::decode(&mut self.buffer, self.limit)? {
                return Ok(frame);
            }
            match self.stream.read_chunk(16 * 1024, true).await {
                Ok(Some(chunk)) => self.buffer.extend_from_slice(&chunk.bytes),
                Ok(None) => return Err(Violation::ControlEnded.into()),
                Err(ReadError::ConnectionLost(error)) => return Err(ControlError::Lost(error)),
                Err(_) => return Err(ControlError::Cut),
            }
        }
    }

    /// The next message. Cancel-safe.
    ///
    /// # Errors
    /// As [`ControlReader::frame`], and the violations of decoding a message.
    pub async fn message(&mut self) -> Result<Message, ControlError> {
        Ok(Message::from_frame(&self.frame().await?)?)
    }
}

/// Writes messages.
#[derive(Debug)]
pub struct ControlWriter {
    stream: SendStream,
}

impl ControlWriter {
    /// Writes to `stream`, before everything else on the connection.
    pub fn new(stream: SendStream) -> Self {
        // Fails only on a stream that is already closed, which the first write then tells.
        let _ = stream.set_priority(100);
        Self { stream }
    }

    /// Sends a frame. Not cancel-safe: a frame cut in the middle ends the stream, so the caller awaits it to the end.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn frame(&mut self, frame: &Frame) -> Result<(), ControlError> {
        let mut wire = BytesMut::new();
        frame.encode(&mut wire);
        self.write(wire).await
    }

    /// Sends several messages at once; see [`ControlWriter::frame`].
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn messages(&mut self, messages: &[Message]) -> Result<(), ControlError> {
        let mut wire = BytesMut::new();
        messages.iter().for_each(|message| message.to_frame().encode(&mut wire));
        self.write(wire).await
    }

    async fn write(&mut self, wire: BytesMut) -> Result<(), ControlError> {
        self.stream
            .write_chunk(wire.freeze())
            .await
            .map_err(|error| match error {
                quinn::WriteError::ConnectionLost(error) => ControlError::Lost(error),
                _ => ControlError::Cut,
            })
    }

    /// Sends a message; see [`ControlWriter::frame`].
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn message(&mut self, message: &Message) -> Result<(), ControlError> {
        self.frame(&message.to_frame()).await
    }

    /// Says that no message follows and waits until the peer has all of them, or the connection is gone.
    pub async fn finish(mut self) {
        if self.stream.finish().is_ok() {
            let _ = self.stream.stopped().await;
        }
    }
}
