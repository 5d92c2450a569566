//! A local socket, and the player or game server behind it: what it says is foretold, so that what the other one hears can be checked byte by byte.

use bytes::Bytes;
use spawnpoint_core::stream::Ending;

use crate::sim::seed::Dice;

/// The most that one read of a socket gives.
pub const MAX_READ: usize = 128 * 1024;

/// A prime, so that bytes which arrive at a wrong offset differ.
const PERIOD: usize = 100_003;

/// What everybody says: the same noise, from a place of their own on.
#[derive(Clone)]
pub struct Noise(Bytes);

impl std::fmt::Debug for Noise {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Noise")
    }
}

impl Noise {
    pub fn new(dice: &mut Dice) -> Self {
        let period: Vec<u8> = (0..PERIOD).map(|_| dice.number() as u8).collect();
        Self(period.iter().cycle().take(PERIOD + MAX_READ).copied().collect())
    }

    /// What the voice that begins at `start` says at `offset`.
    pub fn at(&self, start: u64, offset: u64, length: usize) -> Bytes {
        let from = ((start + offset) % PERIOD as u64) as usize;
        self.0.slice(from..from + length)
    }
}

/// What a read gave.
#[derive(Debug)]
pub enum Given {
    Bytes(Bytes),
    End,
    Reset,
    Nothing,
}

/// A socket with the one who uses it.
#[derive(Debug)]
pub struct Socket {
    noise: Noise,
    /// Where in the noise this one speaks, and the other.
    voices: [u64; 2],
    /// Bytes that it still wants to say, at most so many at once, and what it does then.
    left: u64,
    chunk: u64,
    intent: Ending,
    /// Bytes that it has said, and those of them that were read from the socket.
    said: u64,
    pub given: u64,
    /// How it has ended its direction.
    pub ended: Option<Ending>,
    /// Whether a FIN came before the reset.
    pub was_finished: bool,
    /// Bytes that were written to the socket, and those of them that it has looked at.
    pub heard: u64,
    looked_at: u64,
    room: u64,
    is_asleep: bool,
    pub got_end: bool,
    pub got_reset: bool,
}

impl Socket {
    pub fn new(dice: &mut Dice, noise: Noise, voices: [u64; 2]) -> Self {
        let (left, chunk) = match dice.below(100) {
            0..=9 => (0, 1),
            10..=24 => (dice.below(1_500), 1),
            25..=64 => (dice.below(20_000), 1_400),
            65..=89 => (dice.below(300_000), 16_000),
            _ => (dice.below(1_000_000), MAX_READ as u64),
        };
        Self {
            noise,
            voices,
            left,
            chunk,
            intent: if dice.chance(250) {
                Ending::Reset
            } else {
                Ending::Finished
            },
            said: 0,
            given: 0,
            ended: None,
            was_finished: false,
            heard: 0,
            looked_at: 0,
            room: 1 << dice.within(8, 18),
            is_asleep: false,
            got_end: false,
            got_reset: false,
        }
    }

    /// The player or server does something, or nothing for a while.
    pub fn act(&mut self, dice: &mut Dice) {
        match dice.below(1000) {
            0..=29 => self.is_asleep = true,
            30..=79 => self.is_asleep = false,
            80..=82 => self.left = 0,
            83 if dice.chance(200) => self.end(Ending::Reset),
            _ if self.is_asleep => {}
            84..=599 => self.say(dice),
            _ => {
                let most = (self.heard - self.looked_at).min(dice.within(1, 1 << 17));
                self.looked_at += most;
            }
        }
    }

    /// It hurries to its end.
    pub fn hurry(&mut self, dice: &mut Dice) {
        self.is_asleep = false;
        self.looked_at = self.heard;
        self.left = self.left.min(100 * self.chunk);
        self.say(dice);
    }

    fn say(&mut self, dice: &mut Dice) {
        if self.got_reset || self.ended.is_some() {
            return;
        }
        // As much as the kernel holds.
        if self.said - self.given < MAX_READ as u64 {
            let more = self.left.min(dice.within(1, self.chunk.max(200)));
            self.said += more;
            self.left -= more;
        }
        if self.left == 0 {
            self.end(self.intent);
        }
    }

    fn end(&mut self, ending: Ending) {
        let is_closed = self.ended == Some(Ending::Finished) && self.got_end;
        if self.got_reset || is_closed || self.is_reset() {
            return;
        }
        self.was_finished = self.ended.is_some();
        self.ended = Some(ending);
    }

    pub fn is_reset(&self) -> bool {
        self.ended == Some(Ending::Reset)
    }

    /// What the tunnel reads from the socket.
    pub fn try_read(&mut self, dice: &mut Dice) -> Given {
        let waiting = self.said - self.given;
        if self.is_reset() && (waiting == 0 || dice.chance(300)) {
            return Given::Reset;
        }
        if waiting > 0 {
            // Single bytes come singly.
            let most = if self.chunk == 1 { 1 } else { MAX_READ as u64 };
            let length = waiting.min(dice.within(1, most)) as usize;
            let bytes = self.noise.at(self.voices[0], self.given, length);
            self.given += length as u64;
            return Given::Bytes(bytes);
        }
        match self.ended {
            Some(_) => Given::End,
            None => Given::Nothing,
        }
    }

    /// What the tunnel writes to the socket; returns how much there was room for, and nothing for a socket that is reset.
    pub fn try_write(&mut self, bytes: &Bytes) -> Option<usize> {
        if self.is_reset() {
            return None;
        }
        assert!(!self.got_end, "bytes came after the end");
        let room = (self.room - (self.heard - self.looked_at)) as usize;
        let length = bytes.len().min(room).min(MAX_READ);
        let expected = self.noise.at(self.voices[1], self.heard, length);
        assert!(
            bytes[..length] == expected,
            "what was heard at {} is not what was said there",
            self.heard
        );
        self.heard += length as u64;
        Some(length)
    }
}
