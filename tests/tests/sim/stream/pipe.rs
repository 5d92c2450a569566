//! One direction of a QUIC stream: in order, in pieces, never more than its receiver has made room for; codes overtake bytes.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};
use spawnpoint_proto::ResetCode;

use crate::sim::seed::Dice;

/// As many pieces are handed over at once.
pub const MAX_PIECES: usize = 8;

/// A code that is told out of turn.
#[derive(Clone, Copy, Debug)]
pub struct Told {
    code: ResetCode,
    pub is_here: bool,
}

impl Told {
    const fn new(code: ResetCode) -> Self {
        Self { code, is_here: false }
    }

    pub const fn arrive(self) -> Self {
        Self { is_here: true, ..self }
    }
}

/// What a read gave.
#[derive(Debug)]
pub enum Brought {
    Pieces(Vec<Bytes>),
    End,
    Reset,
    Nothing,
}

/// One direction of a stream.
#[derive(Debug)]
pub struct Pipe {
    window: u64,
    on_the_way: VecDeque<Bytes>,
    here: VecDeque<Bytes>,
    accepted: u64,
    taken: u64,
    /// As much may be accepted, as far as the sender knows.
    credit: u64,
    is_finished: bool,
    end_is_here: bool,
    reset: Option<Told>,
    pub stop: Option<Told>,
}

impl Pipe {
    pub fn new(window: u32) -> Self {
        Self {
            window: window.into(),
            on_the_way: VecDeque::new(),
            here: VecDeque::new(),
            accepted: 0,
            taken: 0,
            credit: window.into(),
            is_finished: false,
            end_is_here: false,
            reset: None,
            stop: None,
        }
    }

    /// Accepts what flow control allows of `pieces`; returns how many bytes.
    pub fn accept(&mut self, pieces: &[Bytes]) -> u64 {
        assert!(!self.is_finished && self.reset.is_none(), "bytes follow the end");
        let before = self.accepted;
        for piece in pieces {
            let length = (self.credit - self.accepted).min(piece.len() as u64);
            self.accepted += length;
            if length > 0 {
                self.on_the_way.push_back(piece.slice(..length as usize));
            }
        }
        self.accepted - before
    }

    pub const fn finish(&mut self) {
        self.is_finished = true;
    }

    /// Gives up what has not arrived.
    pub fn reset(&mut self, code: ResetCode) {
        self.reset.get_or_insert(Told::new(code));
    }

    /// The receiver takes nothing more.
    pub fn stop(&mut self, code: ResetCode) {
        self.stop.get_or_insert(Told::new(code));
    }

    /// Why the receiver takes nothing more, once the sender knows.
    pub fn stopped(&self) -> Option<ResetCode> {
        self.stop.filter(|told| told.is_here).map(|told| told.code)
    }

    /// Whether the receiver knows that the rest was given up.
    pub fn is_reset(&self) -> bool {
        self.reset.is_some_and(|told| told.is_here)
    }

    /// Takes what is here.
    pub fn read(&mut self) -> Brought {
        if self.is_reset() {
            return Brought::Reset;
        }
        if self.here.is_empty() {
            return if self.end_is_here {
                Brought::End
            } else {
                Brought::Nothing
            };
        }
        let count = self.here.len().min(MAX_PIECES);
        let pieces: Vec<Bytes> = self.here.drain(..count).collect();
        self.taken += pieces.iter().map(|piece| piece.len() as u64).sum::<u64>();
        Brought::Pieces(pieces)
    }

    pub fn carry(&mut self, dice: &mut Dice, is_closed: bool) {
        for _ in 0..dice.below(6) {
            let Some(mut piece) = self.on_the_way.pop_front() else {
                break;
            };
            if dice.chance(300) {
                self.here.push_back(piece.split_to(dice.index(piece.len() + 1)));
                self.here.retain(|piece| !piece.is_empty());
            }
            if piece.has_remaining() {
                if dice.chance(700) {
                    self.here.push_back(piece);
                } else {
                    self.on_the_way.push_front(piece);
                }
            }
        }
        if !is_closed && dice.chance(500) {
            self.credit = self.taken + self.window;
        }
    }

    /// Nothing but the end is still on its way.
    pub fn is_due(&self) -> bool {
        self.is_finished && self.on_the_way.is_empty()
    }

    pub fn carry_end(&mut self, dice: &mut Dice) {
        self.end_is_here |= self.is_due() && dice.chance(500);
        if dice.chance(500) {
            self.reset = self.reset.map(Told::arrive);
        }
    }

    pub fn carry_stop(&mut self, dice: &mut Dice) {
        if dice.chance(400) {
            self.stop = self.stop.map(Told::arrive);
        }
    }
}
