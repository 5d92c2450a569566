//! The pump from the local socket to the peer.

use std::io;

use bytes::Bytes;
use quinn::WriteError;
use spawnpoint_core::stream::Ending;
use spawnpoint_core::urgency::Urgency;
use spawnpoint_proto::ResetCode;
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::{Meter, Session, SessionEnd, TURN};
use crate::carrier::SendHalf;
use crate::shape::Toll;
use crate::socket::{is_reset, try_read};

/// Pieces that a carrier takes at once; nearly always there is one.
const MAX_PIECES: usize = 8;

/// Why the pump stopped.
pub(super) enum Outward {
    /// The local socket has nothing more to give; said once.
    SocketEnded,
    /// The peer's socket is reset; what it said before is still coming.
    PeerReset,
    /// The session is over.
    Over(SessionEnd),
}

/// What the pump does next.
enum Step {
    /// Hand what it has not had to the carrier.
    Send,
    /// Tell the carrier that nothing follows.
    Finish,
    /// Read from the local socket.
    Read,
    /// Wait for a carrier, or for the peer.
    Wait,
}

/// Whether the local socket may be read.
enum Reads<'a> {
    /// As soon as it has something.
    Now,
    /// When the toll's turn has come, which is noted.
    Due(&'a Toll, &'a mut bool),
    /// Not before something else happens.
    No,
}

/// What came while the pump waited.
enum Woken {
    /// The peer stopped the stream, or has all of it, or its connection is gone.
    Stopped(Result<Option<quinn::VarInt>, quinn::StoppedError>),
    /// The local socket is reset.
    LocalReset,
    /// Anything else: look again.
    Other,
}

impl Session {
    /// Moves what `socket` gives to the carrier, and what is to be said again first. Can be dropped and begun anew at any wait.
    pub(super) async fn pump_out(
        &self,
        socket: Option<&TcpStream>,
        half: &mut Option<SendHalf>,
        moved: &dyn Meter,
        answered: &dyn Meter,
        head: &mut Option<&mut Vec<u8>>,
    ) -> Outward {
        let toll = moved.toll();
        // Whether the toll's turn has come for the next read.
        let mut is_due = false;
        let mut in_turn = 0;
        loop {
            match (self.next_step(socket.is_some(), half), &mut *half, socket) {
                (Step::Send, Some(send), _) => {
                    let mut pieces: [Bytes; MAX_PIECES] = std::array::from_fn(|_| Bytes::new());
                    let count = {
                        let state = self.state();
                        if state.epoch != send.epoch {
                            continue;
                        }
                        state.stream.outgoing.read(send.cursor, &mut pieces)
                    };
                    // Nearly always a message of a game is one piece.
                    let small = (send.urgency == Urgency::Interactive && count == 1)
                        .then(|| pieces[0].clone())
                        .filter(|piece| self.shared.repairs.covers(piece.len()));
                    let written = tokio::select! {
                        biased; // nearly always there is room at once
                        written = send.stream.write_chunks(&mut pieces[..count]) => Some(written),
                        // A far reader who has fallen behind must not hide that this end is gone.
                        () = reset_of(socket) => return Outward::Over(SessionEnd::LocalReset),
                        () = self.out.notified() => None,
                    };
                    match written {
                        Some(Ok(written)) => {
                            if let Some(small) = small {
                                let bytes = &small[..written.bytes];
                                self.shared.repairs.on_write(self.id(), send.cursor, bytes);
                            }
                            send.cursor += written.bytes as u64;
                            let mut state = self.state();
                            // A newer carrier has another window, and goes on elsewhere.
                            if state.epoch == send.epoch {
                                state.stream.outgoing.on_accepted(send.cursor);
                            }
                        }
                        Some(Err(WriteError::Stopped(code))) => {
                            if let Some(out) = self.on_stopped(send, code.into_inner()) {
                                return out;
                            }
                        }
                        Some(Err(_)) => *half = None,
                        None => {}
                    }
                }
                (Step::Finish, Some(send), _) => {
                    // A stream that the peer has stopped was answered by a reset, which the other pump reports.
                    let _ = send.stream.finish();
                    send.is_finished = true;
                    if socket.is_none() {
                        // Whoever settles may have waited for just this.
                        self.whole.notify_one();
                    }
                }
                (Step::Read, _, Some(_)) if in_turn >= TURN => {
                    self.let_others_go_first(std::mem::take(&mut in_turn)).await;
                }
                (Step::Read, _, Some(socket))
                    if let Some(toll) = toll
                        && !is_due
                        && !toll.is_clear() =>
                {
                    if let Some(out) = self.wait(Some(socket), Reads::Due(toll, &mut is_due), half).await {
                        return out;
                    }
                }
                (Step::Read, _, Some(socket)) => match try_read(socket, toll.map_or(usize::MAX, Toll::quantum)) {
                    Ok(bytes) if bytes.is_empty() => {
                        self.state().stream.outgoing.finish(Ending::Finished);
                        return Outward::SocketEnded;
                    }
                    Ok(bytes) => {
                        is_due = false;
                        in_turn += bytes.len();
                        moved.add(bytes.len() as u64);
                        note_head(head, &bytes, answered);
                        let mut state = self.state();
                        state.urgency = state.appetite.on_sent(self.shared.company.clock.now(), bytes.len());
                        let plays = state.urgency == Urgency::Interactive;
                        state.stream.outgoing.push(bytes);
                        drop(state);
                        if plays {
                            self.shared.company.on_played(self.id());
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        if let Some(out) = self.wait(Some(socket), Reads::Now, half).await {
                            return out;
                        }
                    }
                    Err(_) => return Outward::Over(SessionEnd::LocalReset),
                },
                _ => {
                    if let Some(out) = self.wait(socket, Reads::No, half).await {
                        return out;
                    }
                }
            }
        }
    }

    /// Waits, after a turn in which `bytes` moved, until it is on again.
    async fn let_others_go_first(&self, bytes: usize) {
        let loads = self.state().urgency == Urgency::Bulk;
        let pause = loads.then(|| self.shared.company.on_loaded(self.id(), bytes)).flatten();
        match pause {
            Some(pause) => tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.out.notified() => {}
            },
            None => tokio::task::yield_now().await,
        }
    }

    fn next_step(&self, has_socket: bool, half: &mut Option<SendHalf>) -> Step {
        let mut state = self.state();
        if !has_socket
            && state.stream.outgoing.ending() == Some(Ending::Reset)
            && let Some(mut recv) = state.recv.take()
        {
            // On each new carrier too, the peer learns first that this end is a reset.
            recv.cut(ResetCode::PeerReset);
        }
        if let Some(offered) = state.send.take() {
            *half = Some(offered);
        }
        if half.as_ref().is_some_and(|half| half.epoch != state.epoch) {
            *half = None;
        }
        let out = &state.stream.outgoing;
        if let Some(half) = half
            && !half.is_closed
            && !half.is_finished
        {
            if half.cursor < out.end() {
                half.set_urgency(state.urgency);
                return Step::Send;
            }
            if out.ending().is_some() {
                return Step::Finish;
            }
        }
        if has_socket && !state.peer_is_reset && out.has_room() {
            Step::Read
        } else {
            Step::Wait
        }
    }

    /// Waits for the carrier, the peer, and the local socket, if that may be read.
    async fn wait(&self, socket: Option<&TcpStream>, reads: Reads<'_>, half: &mut Option<SendHalf>) -> Option<Outward> {
        let is_reading = matches!(reads, Reads::Now);
        let woken = {
            let stopped = async {
                match half.as_mut() {
                    Some(half) if !half.is_closed => (&mut half.stopped).await,
                    _ => std::future::pending().await,
                }
            };
            // One or the other, in the same place: every idle session has room for this future.
            let local = async {
                match socket {
                    Some(socket) if is_reading => match socket.ready(Interest::READABLE).await {
                        Ok(_) => Woken::Other,
                        Err(_) => Woken::LocalReset,
                    },
                    Some(socket) if !self.has_ended() => {
                        is_reset(socket).await;
                        Woken::LocalReset
                    }
                    _ => std::future::pending().await,
                }
            };
            let due = async {
                match reads {
                    Reads::Due(toll, is_due) => {
                        toll.clear().await;
                        *is_due = true;
                    }
                    Reads::Now | Reads::No => std::future::pending().await,
                }
            };
            tokio::select! {
                biased; // that the peer is gone is seen before more is read
                stopped = stopped => Woken::Stopped(stopped),
                local = local => local,
                () = due => Woken::Other,
                () = self.out.notified() => Woken::Other,
            }
        };
        match (woken, half) {
            (Woken::Stopped(Ok(Some(code))), Some(half)) => self.on_stopped(half, code.into_inner()),
            (Woken::Stopped(Ok(None)), Some(half)) => {
                half.is_closed = true;
                None
            }
            (Woken::Stopped(_), half) => {
                *half = None;
                None
            }
            (Woken::LocalReset, _) => Some(Outward::Over(SessionEnd::LocalReset)),
            (Woken::Other, _) => None,
        }
    }

    fn on_stopped(&self, half: &mut SendHalf, code: u64) -> Option<Outward> {
        half.is_closed = true;
        half.is_finished = true;
        let code = ResetCode::from_number(code);
        let mut state = self.state();
        if state.stream.outgoing.is_settled() {
            // The peer has everything, and need not be told more.
            return None;
        }
        Some(match code {
            ResetCode::PeerReset => {
                state.peer_is_reset = true;
                Outward::PeerReset
            }
            code => Outward::Over(SessionEnd::RemoteReset(code)),
        })
    }
}

async fn reset_of(socket: Option<&TcpStream>) {
    match socket {
        Some(socket) => is_reset(socket).await,
        None => std::future::pending().await,
    }
}

/// Keeps what a player said first, until the server has answered.
fn note_head(head: &mut Option<&mut Vec<u8>>, bytes: &[u8], answered: &dyn Meter) {
    let Some(kept) = head.take() else { return };
    if answered.total() == 0 {
        let room = kept.capacity() - kept.len();
        kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
        *head = Some(kept);
    } else {
        *kept = Vec::new();
    }
}
