//! A carrier as QUIC gives it: streams of two directions with flow control, a control stream, and a death after which nothing moves.

use std::collections::{BTreeMap, VecDeque};

use spawnpoint_proto::ResetCode;
use spawnpoint_proto::control::Delivered;

use super::Side;
use super::pipe::{Pipe, Told};
use crate::sim::seed::Dice;

/// The number of a session.
pub type Id = u64;

/// Every carrier that anything still knows of, by its number.
pub type Carriers = BTreeMap<u64, Carrier>;

/// What is said on the control stream.
#[derive(Debug)]
pub enum Word {
    /// The agent is back, and this far.
    Hello(Vec<Delivered>),
    /// The relay goes on, without these.
    Welcome(Vec<Id>),
    Delivered(Delivered),
}

/// How a stream begins.
#[derive(Clone, Copy, Debug)]
pub enum Header {
    Open,
    Resume { from: u64, taken: u64 },
}

/// One connection between relay and agent.
#[derive(Debug)]
pub struct Carrier {
    /// Whether anything moves.
    pub is_alive: bool,
    /// Which side has given it up.
    pub is_closed: [bool; 2],
    /// The agent has been welcomed on it.
    pub is_welcome: bool,
    /// What is on its way from each side.
    pub words: [VecDeque<Word>; 2],
    pub lines: BTreeMap<Id, Line>,
    /// A stop never comes after the end that it explains.
    is_orderly: bool,
    /// The receive window of each side, as hello and welcome say.
    pub windows: [u32; 2],
}

/// A session's stream.
#[derive(Debug)]
pub struct Line {
    pub header: Header,
    /// The agent has read the header.
    pub is_met: bool,
    /// By the side that speaks.
    pub pipes: [Pipe; 2],
}

impl Carrier {
    /// A carrier whose sides have these receive windows.
    pub const fn new(windows: [u32; 2], is_orderly: bool) -> Self {
        Self {
            is_alive: true,
            is_closed: [false; 2],
            is_welcome: false,
            words: [VecDeque::new(), VecDeque::new()],
            lines: BTreeMap::new(),
            is_orderly,
            windows,
        }
    }

    pub fn open(&mut self, id: Id, header: Header) {
        let [relay, agent] = self.windows;
        let line = Line {
            header,
            is_met: false,
            pipes: [Pipe::new(agent), Pipe::new(relay)],
        };
        let earlier = self.lines.insert(id, line);
        assert!(earlier.is_none(), "session {id} has two streams on one carrier");
    }

    /// Something moves on the stream of session `id`, if the carrier still does.
    pub fn carry(&mut self, dice: &mut Dice, id: Id) {
        if !self.is_alive {
            return;
        }
        let (is_closed, is_orderly) = (self.is_closed, self.is_orderly);
        let Some(line) = self.lines.get_mut(&id) else { return };
        for side in [Side::Relay, Side::Agent] {
            let [there, back] = line.pair(side);
            // Pieces that come after the other side has closed the connection are a trap for it; no flow control answers them.
            let is_closed = is_closed[side.other() as usize];
            there.carry(dice, is_closed);
            if is_closed {
                continue;
            }
            // The stop with which this side explains its end travels on the way back.
            let is_explained = back.stop.is_none_or(|told| told.is_here);
            if is_orderly && !is_explained && there.is_due() {
                back.stop = back.stop.map(Told::arrive);
            }
            there.carry_end(dice);
            back.carry_stop(dice);
        }
    }

    /// The next word from `side` arrives.
    pub fn next_word(&mut self, side: Side) -> Option<Word> {
        if !self.is_alive || self.is_closed[side.other() as usize] {
            return None;
        }
        self.words[side as usize].pop_front()
    }

    /// The pipe of session `id` from `side`; `None` on a connection that is closed there.
    pub fn pipe_from(&mut self, id: Id, side: Side) -> Option<&mut Pipe> {
        if self.is_closed[side as usize] {
            return None;
        }
        Some(&mut self.lines.get_mut(&id)?.pipes[side as usize])
    }

    /// The pipe of session `id` towards `side`, and whether the connection is closed there, so that only what was here before can be read.
    pub fn pipe_to(&mut self, id: Id, side: Side) -> Option<(&mut Pipe, bool)> {
        let is_closed = self.is_closed[side as usize];
        let line = self.lines.get_mut(&id)?;
        Some((&mut line.pipes[side.other() as usize], is_closed))
    }

    /// Why the other side takes nothing more of session `id` from `side`, as far as that was told before the connection was closed.
    pub fn stopped(&self, id: Id, side: Side) -> Option<ResetCode> {
        self.lines.get(&id)?.pipes[side as usize].stopped()
    }

    /// Cuts both directions of the stream of session `id` at `side`.
    pub fn cut(&mut self, id: Id, side: Side, code: ResetCode) {
        if self.is_closed[side as usize] {
            return;
        }
        if let Some(line) = self.lines.get_mut(&id) {
            let [there, back] = line.pair(side);
            there.reset(code);
            back.stop(code);
        }
    }
}

impl Line {
    /// The pipe from `side`, and the one towards it.
    const fn pair(&mut self, side: Side) -> [&mut Pipe; 2] {
        let [relay, agent] = &mut self.pipes;
        match side {
            Side::Relay => [relay, agent],
            Side::Agent => [agent, relay],
        }
    }
}
