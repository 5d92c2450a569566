//! The pump from the peer to the local socket.

use std::future::poll_fn;
use std::io;
use std::net::Shutdown;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use quinn::ReadError;
use spawnpoint_core::gather::Gather;
use spawnpoint_core::stream::Ending;
use spawnpoint_proto::ResetCode;
use spawnpoint_proto::control::Delivered;
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::{HEARD, Meter, Session, SessionEnd, TURN};
use crate::carrier::RecvHalf;
use crate::mtu::LARGEST;
use crate::shape::Toll;
use crate::socket::{MAX_PIECES, try_write};

/// No more bytes are in one piece of what the carrier brings.
const PIECE: usize = LARGEST as usize;

/// Why the pump stopped.
pub(super) enum Inward {
    /// Everything was written to the local socket, and its end.
    Finished,
    /// The session is over.
    Over(SessionEnd),
}

impl Session {
    /// Moves what the carrier brings to `socket`. Can be dropped and begun anew at any wait.
    pub(super) async fn pump_in(&self, socket: &TcpStream, half: &mut Option<RecvHalf>, moved: &dyn Meter) -> Inward {
        let toll = moved.toll();
        // Whether the toll's turn has come for the next pieces.
        let mut is_due = false;
        let mut gather = Gather::default();
        let mut in_turn = 0;
        loop {
            if in_turn >= TURN {
                in_turn = 0;
                tokio::task::yield_now().await;
            }
            match self.flush(socket, moved) {
                Ok(true) => {}
                Ok(false) => {
                    if let Some(end) = Box::pin(self.writable(socket, half)).await {
                        return Inward::Over(end);
                    }
                    continue;
                }
                Err(_) => return Inward::Over(SessionEnd::LocalReset),
            }
            match self.take_inward(half) {
                Some(Ending::Finished) => {
                    // A socket that is already reset cannot be shut down; the other pump reports that.
                    let _ = socket2::SockRef::from(socket).shutdown(Shutdown::Write);
                    return Inward::Finished;
                }
                Some(Ending::Reset) => return Inward::Over(SessionEnd::RemoteReset(ResetCode::PeerReset)),
                None => {}
            }
            let Some(recv) = half.as_mut().filter(|half| !half.is_done) else {
                self.into.notified().await;
                continue;
            };
            if let Some(toll) = toll
                && !is_due
                && !toll.is_clear()
            {
                tokio::select! {
                    () = toll.clear() => is_due = true,
                    () = self.into.notified() => {}
                }
                continue;
            }
            let read = tokio::select! {
                biased; // what is here is taken before anything else
                read = poll_fn(|context| self.poll_take(context, socket, recv, moved)) => read,
                () = self.into.notified() => continue,
            };
            match read {
                Ok(Some((bytes, is_all))) => {
                    is_due = false;
                    in_turn += bytes;
                    let pause = gather.on_moved(self.shared.company.clock.now(), bytes);
                    if is_all && let Some(pause) = pause {
                        tokio::select! {
                            () = tokio::time::sleep(pause) => {}
                            () = self.into.notified() => {}
                        }
                    }
                }
                Ok(None) => {
                    recv.is_done = true;
                    self.finish_inward(recv.epoch);
                }
                Err(ReadError::Reset(code)) => {
                    recv.is_done = true;
                    return Inward::Over(SessionEnd::RemoteReset(ResetCode::from_number(code.into_inner())));
                }
                Err(_) => *half = None,
            }
        }
    }

    /// Takes what is here, once there is something; returns its bytes, and whether that was all.
    fn poll_take(
        &self,
        context: &mut Context<'_>,
        socket: &TcpStream,
        recv: &mut RecvHalf,
        moved: &dyn Meter,
    ) -> Poll<Result<Option<(usize, bool)>, ReadError>> {
        let quantum = moved.toll().map_or(usize::MAX, Toll::quantum);
        // Where a rate is shared nobody takes much more than their part at once, however large the pieces are.
        let most = (quantum / PIECE).clamp(1, MAX_PIECES);
        // Not in the future above, where every idle session would have room for them.
        let mut pieces: [Bytes; MAX_PIECES] = std::array::from_fn(|_| Bytes::new());
        recv.poll_read(context, &mut pieces[..most]).map_ok(|count| {
            count.map(|count| {
                let pieces = &mut pieces[..count];
                let bytes = pieces.iter().map(Bytes::len).sum();
                self.take_over(socket, recv, pieces, moved);
                (bytes, count < most)
            })
        })
    }

    /// Takes the half on a new carrier, gives up one on an old; returns how the direction ended, if everything before that was written.
    fn take_inward(&self, half: &mut Option<RecvHalf>) -> Option<Ending> {
        let mut state = self.state();
        if let Some(offered) = state.recv.take() {
            *half = Some(offered);
        }
        if half.as_ref().is_some_and(|half| half.epoch != state.epoch) {
            *half = None;
        }
        state.stream.incoming.ending()
    }

    /// Takes pieces over from the carrier and writes what the socket takes at once.
    fn take_over(&self, socket: &TcpStream, recv: &mut RecvHalf, pieces: &mut [Bytes], moved: &dyn Meter) {
        if self.shared.repairs.is_mending() {
            self.shared.repairs.on_taken(self.id(), recv.cursor, pieces.iter());
        }
        let mut state = self.state();
        if state.epoch != recv.epoch {
            // The peer was told that these were not taken, and says them again.
            return;
        }
        let incoming = &mut state.stream.incoming;
        // What a repair has given back already comes once more.
        let had = incoming.taken().saturating_sub(recv.cursor) as usize;
        recv.cursor += pieces.iter().map(|piece| piece.len() as u64).sum::<u64>();
        skip(pieces, had);
        let mut offset = incoming.taken();
        if offset < HEARD {
            for piece in pieces.iter() {
                moved.hear(offset, piece);
                offset += piece.len() as u64;
            }
        }
        // A repair may have come since the last of what waits was written, and goes first. An error shows again when the rest is written.
        let written = match incoming.pending().is_empty() {
            true => try_write(socket, pieces.iter()).unwrap_or(0),
            false => 0,
        };
        moved.add(written as u64);
        incoming.pass(written);
        skip(pieces, written);
        for piece in pieces {
            if !piece.is_empty() {
                incoming.push(std::mem::take(piece));
            }
        }
        if let Some(offset) = incoming.take_due_news() {
            let session = self.id();
            self.shared.news.add(Delivered { session, offset });
        }
    }

    fn finish_inward(&self, epoch: u64) {
        let mut state = self.state();
        if state.epoch == epoch {
            let ending = if state.peer_is_reset {
                Ending::Reset
            } else {
                Ending::Finished
            };
            state.stream.incoming.finish(ending);
            if let Some(offset) = state.stream.incoming.take_news() {
                self.shared.news.add(Delivered {
                    session: self.id(),
                    offset,
                });
            }
        }
    }

    /// Writes what waits for the socket; returns whether nothing waits any more.
    fn flush(&self, socket: &TcpStream, moved: &dyn Meter) -> io::Result<bool> {
        let mut state = self.state();
        let incoming = &mut state.stream.incoming;
        while !incoming.pending().is_empty() {
            match try_write(socket, incoming.pending().iter()) {
                Ok(written) => {
                    moved.add(written as u64);
                    incoming.on_written(written);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Waits until a reader who has fallen behind takes more, or the stream is cut meanwhile.
    async fn writable(&self, socket: &TcpStream, half: &mut Option<RecvHalf>) -> Option<SessionEnd> {
        let cut = async {
            match half.as_mut().filter(|half| !half.is_done) {
                Some(half) => half.stream.received_reset().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            ready = socket.ready(Interest::WRITABLE) => ready.is_err().then_some(SessionEnd::LocalReset),
            reset = cut => match reset {
                Ok(Some(code)) => Some(SessionEnd::RemoteReset(ResetCode::from_number(code.into_inner()))),
                // All of the stream is here, or the carrier is gone: neither is the end of what waits for the socket.
                Ok(None) | Err(_) => socket.ready(Interest::WRITABLE).await.is_err().then_some(SessionEnd::LocalReset),
            },
        }
    }
}

/// Takes `bytes` off the front of `pieces`.
fn skip(pieces: &mut [Bytes], mut bytes: usize) {
    for piece in pieces {
        let step = bytes.min(piece.len());
        piece.advance(step);
        bytes -= step;
        if bytes == 0 {
            return;
        }
    }
}
