//! One end of a session as its shell keeps it: the real state, the halves on whatever carrier there is, and a pump for each direction.
//!
//! The rules are those of `spawnpoint_net::session`, one turn at a time.

mod listen;
mod speak;

use bytes::Bytes;
use spawnpoint_core::stream::Stream;
use spawnpoint_proto::{ResetCode, Violation};

use super::Side;
use super::carrier::{Carriers, Id};
use super::pipe::{MAX_PIECES, Pipe};
use super::socket::{MAX_READ, Socket};
use crate::sim::seed::Dice;

/// The most bookkeeping that a kept window of `most` bytes may cost: small pieces are joined, large ones cannot be many.
const fn most_pieces(most: usize) -> usize {
    let joined = 2 * (2 * (most / 4096) + 2 * (most / (16 * 1024)) + 2);
    if joined > 64 { joined } else { 64 }
}

/// Where an end is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// It has had no stream yet.
    Waiting,
    /// It moves bytes to and from its socket.
    Playing,
    /// Its socket is closed; the peer may not know yet.
    Settling,
    /// Nothing is left to do.
    Over,
}

/// The half towards the peer.
#[derive(Clone, Copy, Debug)]
struct SendHalf {
    carrier: u64,
    epoch: u64,
    cursor: u64,
    is_finished: bool,
    is_closed: bool,
}

/// The half from the peer.
#[derive(Clone, Copy, Debug)]
struct RecvHalf {
    carrier: u64,
    epoch: u64,
    is_done: bool,
}

/// One end of one session.
#[derive(Debug)]
pub struct End {
    id: Id,
    side: Side,
    pub stream: Stream,
    pub socket: Socket,
    pub phase: Phase,
    pub epoch: u64,
    send: Option<SendHalf>,
    recv: Option<RecvHalf>,
    peer_is_reset: bool,
    inward_done: bool,
    /// The carrier of this epoch has accepted as far as this, but the state does not know it yet.
    late: Option<(u64, u64)>,
    /// The end of a direction was taken over, which the peer is told at once.
    pub news: Option<u64>,
    /// The largest window it was ever given.
    most: usize,
    /// What it had given up, read, and taken over when it was last looked at.
    past: [u64; 3],
}

impl End {
    pub fn new(id: Id, side: Side, window: u32, epoch: u64, socket: Socket) -> Self {
        Self {
            id,
            side,
            stream: Stream::new(Some(window)),
            socket,
            phase: Phase::Waiting,
            epoch,
            send: None,
            recv: None,
            peer_is_reset: false,
            inward_done: false,
            late: None,
            news: None,
            most: window as usize,
            past: [0; 3],
        }
    }

    /// Gives it a stream on the carrier of `epoch`, whose peer has everything before `offset`.
    pub fn offer(&mut self, carrier: u64, epoch: u64, offset: u64) -> Result<(), Violation> {
        if self.epoch != epoch {
            return Ok(());
        }
        let cursor = self.stream.outgoing.resume(offset)?;
        self.send = Some(SendHalf {
            carrier,
            epoch,
            cursor,
            is_finished: false,
            is_closed: false,
        });
        self.recv = Some(RecvHalf {
            carrier,
            epoch,
            is_done: false,
        });
        if self.phase == Phase::Waiting {
            self.phase = Phase::Playing;
        }
        Ok(())
    }

    pub fn set_window(&mut self, window: u32) {
        self.most = self.most.max(window as usize);
        self.stream.outgoing.set_window(Some(window));
    }

    /// Another process goes on with it; its carriers are gone.
    pub fn hand_over(&mut self) {
        self.note_accepted();
        self.stream = Stream::restore(self.stream.snapshot());
        (self.send, self.recv) = (None, None);
        self.peer_is_reset = false;
        if self.phase == Phase::Waiting {
            self.phase = Phase::Playing;
        }
    }

    /// It is over for a reason that is not in its socket.
    pub fn cut(&mut self, carriers: &mut Carriers) {
        // Whose socket is closed, or who is over and waits to be buried, has nothing left to reset.
        if !matches!(self.phase, Phase::Settling | Phase::Over) {
            self.socket.got_reset = true;
        }
        self.phase = Phase::Over;
        self.let_go(carriers);
    }

    /// Drops the halves: what has no end yet is cut.
    pub fn let_go(&mut self, carriers: &mut Carriers) {
        let code = ResetCode::TunnelClosed;
        if let Some(half) = self.send.take().filter(|half| !half.is_finished)
            && let Some(pipe) = out_pipe(carriers, half.carrier, self.id, self.side)
        {
            pipe.reset(code);
        }
        if let Some(half) = self.recv.take().filter(|half| !half.is_done) {
            stop(carriers, half.carrier, self.id, self.side, code);
        }
    }

    /// Whether it waits for a peer that has said that it takes nothing more.
    pub fn waits_for_nobody(&self) -> bool {
        self.phase == Phase::Settling && self.peer_is_reset
    }

    /// Whether everything was said and heard, except that a peer who had finished is reset now.
    pub fn has_last_words(&self) -> bool {
        self.phase == Phase::Playing && self.peer_is_reset && self.inward_done
    }

    /// Whether the session has come to its end here.
    fn judge(&mut self) {
        if self.phase == Phase::Playing && self.inward_done && self.stream.outgoing.ending().is_some() {
            self.phase = Phase::Settling;
        }
        if self.phase == Phase::Settling && self.stream.outgoing.is_settled() {
            self.phase = Phase::Over;
        }
    }

    /// What must be true of it at any time.
    pub fn check(&mut self, dice: &mut Dice) {
        let (out, into) = (&self.stream.outgoing, &self.stream.incoming);
        assert!(
            out.kept() <= self.most * 5 / 4 + MAX_READ,
            "{} bytes are kept, more than a window and a read",
            out.kept()
        );
        assert!(
            out.end() == self.socket.given,
            "what was read from the socket was not kept"
        );
        let waiting: usize = into.pending().iter().map(Bytes::len).sum();
        let heard = self.socket.heard + waiting as u64;
        assert!(
            into.offset() == heard + u64::from(into.ending().is_some()),
            "what was taken over was neither written nor kept"
        );
        assert!(
            into.pending().len() <= MAX_PIECES,
            "more than one read waits for the socket"
        );
        let now = [self.given_up(), out.end(), into.offset()];
        assert!(
            now.iter().zip(self.past).all(|(now, past)| *now >= past),
            "an offset went back"
        );
        self.past = now;
        if dice.chance(20) {
            self.check_pieces();
        }
    }

    fn check_pieces(&self) {
        let most = most_pieces(self.most + MAX_READ);
        let mut pieces = vec![Bytes::new(); most + 1];
        let count = self.stream.outgoing.read(self.given_up(), &mut pieces);
        assert!(count <= most, "small pieces are not joined");
    }

    /// The offset before which nothing is kept.
    pub fn given_up(&self) -> u64 {
        self.stream.outgoing.end() - self.stream.outgoing.kept() as u64
    }
}

fn out_pipe(carriers: &mut Carriers, carrier: u64, id: Id, side: Side) -> Option<&mut Pipe> {
    carriers.get_mut(&carrier)?.pipe_from(id, side)
}

fn in_pipe(carriers: &mut Carriers, carrier: u64, id: Id, side: Side) -> Option<(&mut Pipe, bool)> {
    carriers.get_mut(&carrier)?.pipe_to(id, side)
}

fn stop(carriers: &mut Carriers, carrier: u64, id: Id, side: Side, code: ResetCode) {
    if let Some((pipe, false)) = in_pipe(carriers, carrier, id, side) {
        pipe.stop(code);
    }
}
