//! A player's stream on one carrier, whole and as its two halves.
//!
//! What is dropped before its end is cut, not tidily finished as QUIC would: a peer must never take a lost task for the end of what was said.

use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::Bytes;
use quinn::{ReadError, RecvStream, SendStream, StoppedError, VarInt};
use spawnpoint_core::urgency::Urgency;
use spawnpoint_proto::ResetCode;

use crate::var;

/// A player's stream that nothing but a header has passed through.
#[derive(Debug)]
pub struct PlayerStream(Option<(SendStream, RecvStream)>);

type Stopped = Pin<Box<dyn Future<Output = Result<Option<VarInt>, StoppedError>> + Send + Sync>>;

/// The half towards the peer.
pub(crate) struct SendHalf {
    pub stream: SendStream,
    /// Resolves once the peer takes nothing more, or has everything.
    pub stopped: Stopped,
    /// The carrier that it is on.
    pub epoch: u64,
    /// How urgent the carrier takes its bytes to be.
    pub urgency: Urgency,
    /// The offset of the session up to which the carrier has accepted bytes.
    pub cursor: u64,
    /// It has its end.
    pub is_finished: bool,
    /// [`SendHalf::stopped`] has resolved.
    pub is_closed: bool,
}

/// The half from the peer.
pub(crate) struct RecvHalf {
    pub stream: RecvStream,
    /// The carrier that it is on.
    pub epoch: u64,
    /// The offset of the session up to which the carrier has brought bytes. More may have been taken over, from repairs.
    pub cursor: u64,
    /// It has its end.
    pub is_done: bool,
}

impl PlayerStream {
    /// Takes a stream over.
    pub const fn new(send: SendStream, recv: RecvStream) -> Self {
        Self(Some((send, recv)))
    }

    /// The incoming half, to read a header from.
    ///
    /// # Panics
    /// Never: the halves are taken out only together with the value.
    pub fn incoming(&mut self) -> &mut RecvStream {
        &mut self.0.as_mut().expect("a whole stream has both halves").1
    }

    /// The outgoing half, to write a header to.
    ///
    /// # Panics
    /// Never: the halves are taken out only together with the value.
    pub fn outgoing(&mut self) -> &mut SendStream {
        &mut self.0.as_mut().expect("a whole stream has both halves").0
    }

    /// Cuts both halves for a reason.
    pub fn cut(mut self, code: ResetCode) {
        self.reset(code);
    }

    /// The halves, on the carrier of `epoch`, of a session that goes on at `cursor` outwards and at `taken` inwards.
    pub(crate) fn split(mut self, epoch: u64, cursor: u64, taken: u64) -> Option<(SendHalf, RecvHalf)> {
        let (send, recv) = self.0.take()?;
        let stopped = Box::pin(send.stopped());
        let send = SendHalf {
            stream: send,
            stopped,
            epoch,
            urgency: Urgency::default(),
            cursor,
            is_finished: false,
            is_closed: false,
        };
        let recv = RecvHalf {
            stream: recv,
            epoch,
            cursor: taken,
            is_done: false,
        };
        Some((send, recv))
    }

    fn reset(&mut self, code: ResetCode) {
        if let Some((mut send, mut recv)) = self.0.take() {
            // Both fail only on a stream that the peer has ended already.
            let _ = send.reset(var(code.number()));
            let _ = recv.stop(var(code.number()));
        }
    }
}

impl Drop for PlayerStream {
    fn drop(&mut self) {
        self.reset(ResetCode::TunnelClosed);
    }
}

impl SendHalf {
    /// From here on its bytes wait for those of streams that are more urgent.
    pub fn set_urgency(&mut self, urgency: Urgency) {
        if std::mem::replace(&mut self.urgency, urgency) != urgency {
            // A stream begins with 0. Fails only on one that is closed.
            let _ = self.stream.set_priority(-(urgency as i32));
        }
    }

    /// Cuts the half, unless it has its end.
    pub fn cut(&mut self, code: ResetCode) {
        if !std::mem::replace(&mut self.is_finished, true) {
            let _ = self.stream.reset(var(code.number()));
        }
    }
}

impl RecvHalf {
    /// Fills `pieces` with what is here, once there is something; returns how many. It keeps no place for them while it waits.
    pub fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        pieces: &mut [Bytes],
    ) -> Poll<Result<Option<usize>, ReadError>> {
        pin!(self.stream.read_chunks(pieces)).poll(context)
    }

    /// Cuts the half, unless it has its end.
    pub fn cut(&mut self, code: ResetCode) {
        if !std::mem::replace(&mut self.is_done, true) {
            let _ = self.stream.stop(var(code.number()));
        }
    }
}

impl Drop for SendHalf {
    fn drop(&mut self) {
        self.cut(ResetCode::TunnelClosed);
    }
}

impl Drop for RecvHalf {
    fn drop(&mut self) {
        self.cut(ResetCode::TunnelClosed);
    }
}
