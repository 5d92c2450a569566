//! One end, and a peer that lies about how far it is, on carriers that come and go.

use bytes::Bytes;
use spawnpoint_core::stream::{Ending, Outgoing, Stream};
use spawnpoint_proto::Violation;

use super::link::{MAX_WINDOW, window};
use super::pipe::MAX_PIECES;
use super::socket::{MAX_READ, Noise};
use crate::sim::seed::Dice;

const STEPS: usize = 20_000;

/// Whatever the peer says is an offence or does no harm: no panic, no byte too many kept, and what a carrier gets next is what comes next.
pub fn simulate(dice: &mut Dice) {
    let mut world = World {
        noise: Noise::new(dice),
        stream: Stream::new(Some(window(dice))),
        cursor: Some(0),
        resumed: 0,
        refused: 0,
    };
    for _ in 0..STEPS {
        world.step(dice);
        world.check();
    }
    assert!(world.resumed > 0 && world.refused > 0, "the peer was harmless");
}

struct World {
    noise: Noise,
    stream: Stream,
    /// How far the present carrier is, if there is one.
    cursor: Option<u64>,
    resumed: u64,
    refused: u64,
}

impl World {
    fn step(&mut self, dice: &mut Dice) {
        match dice.below(1000) {
            0..=299 => self.read_socket(dice),
            300..=599 => self.send(dice),
            600..=799 => self.lie(dice),
            800..=829 => self.cursor = None,
            830..=929 => self.resume(dice),
            930..=939 => self.stream.outgoing.set_window(Some(window(dice))),
            940..=949 => self.hand_over(),
            950..=997 => self.hear(dice),
            998 => self.finish(dice),
            _ if dice.chance(300) => self.begin_anew(dice),
            _ => {}
        }
    }

    fn out(&mut self) -> &mut Outgoing {
        &mut self.stream.outgoing
    }

    fn given_up(&self) -> u64 {
        let out = &self.stream.outgoing;
        out.end() - out.kept() as u64
    }

    fn read_socket(&mut self, dice: &mut Dice) {
        let most = *dice.pick(&[1, 1_400, MAX_READ as u64]);
        let reads = if dice.chance(50) { 200 } else { 1 };
        for _ in 0..reads {
            if self.out().has_room() {
                let end = self.out().end();
                let bytes = self.noise.at(0, end, dice.within(1, most) as usize);
                self.out().push(bytes);
            }
        }
    }

    fn send(&mut self, dice: &mut Dice) {
        let Some(cursor) = self.cursor.filter(|cursor| *cursor < self.stream.outgoing.end()) else {
            return;
        };
        let mut pieces: [Bytes; MAX_PIECES] = std::array::from_fn(|_| Bytes::new());
        let count = self.out().read(cursor, &mut pieces);
        let bytes = pieces[..count].concat();
        assert!(!bytes.is_empty(), "a carrier has nothing to send before the end");
        for (at, part) in (cursor..).step_by(MAX_READ).zip(bytes.chunks(MAX_READ)) {
            assert!(self.noise.at(0, at, part.len()) == part, "other bytes are sent at {at}");
        }
        let cursor = cursor + dice.within(1, bytes.len() as u64);
        self.cursor = Some(cursor);
        self.out().on_accepted(cursor);
    }

    /// An offset from anywhere, mostly close to where it could do harm.
    fn offset(&self, dice: &mut Dice) -> u64 {
        let out = &self.stream.outgoing;
        let places = [0, self.given_up(), self.cursor.unwrap_or(0), out.end(), u64::MAX / 2];
        match dice.below(10) {
            0 => dice.number(),
            1 => u64::MAX,
            2..=4 => dice.within(self.given_up(), out.end()),
            _ => (*dice.pick(&places)).saturating_add(dice.below(4)).saturating_sub(2),
        }
    }

    fn lie(&mut self, dice: &mut Dice) {
        let offset = self.offset(dice);
        let (end, last) = (self.out().end(), self.last());
        let noted = self.out().on_delivered(offset);
        assert!(
            noted == expected(offset <= last),
            "{offset} of {end} was answered by {noted:?}"
        );
        self.refused += u64::from(noted.is_err());
    }

    fn resume(&mut self, dice: &mut Dice) {
        let offset = self.offset(dice);
        let (first, last, end) = (self.given_up(), self.last(), self.out().end());
        let resumed = self.out().resume(offset);
        assert!(
            resumed.map(drop) == expected((first..=last).contains(&offset)),
            "{offset} of {first} to {last} was answered by {resumed:?}"
        );
        // The shell ends a session whose peer was refused; here it goes on as if nothing was said.
        if let Ok(cursor) = resumed {
            assert_eq!(cursor, offset.min(end), "the new carrier goes on elsewhere");
            self.cursor = Some(cursor);
            self.resumed += 1;
        }
    }

    /// The largest offset that the peer may tell.
    const fn last(&self) -> u64 {
        let out = &self.stream.outgoing;
        out.end() + out.ending().is_some() as u64
    }

    /// The first ending counts, and a reset more than a FIN.
    fn finish(&mut self, dice: &mut Dice) {
        let ending = *dice.pick(&[Ending::Finished, Ending::Reset]);
        let was_reset = self.out().ending() == Some(Ending::Reset);
        self.out().finish(ending);
        let expected = if was_reset { Ending::Reset } else { ending };
        assert_eq!(self.out().ending(), Some(expected), "a reset was forgotten");
    }

    fn hand_over(&mut self) {
        self.stream = Stream::restore(self.stream.snapshot());
        self.cursor = None;
    }

    /// The peer says as much as it likes; the socket takes some of it.
    fn hear(&mut self, dice: &mut Dice) {
        let before = self.stream.incoming.offset();
        let length = dice.below(2_000) as usize;
        self.stream.incoming.push(self.noise.at(1, before, length));
        self.stream.incoming.on_written(dice.below(4_000) as usize);
        let news = self.stream.incoming.take_news();
        assert!(
            news.is_none_or(|offset| offset == before + length as u64),
            "{news:?} is told"
        );
    }

    fn begin_anew(&mut self, dice: &mut Dice) {
        self.stream = Stream::new(Some(window(dice)));
        self.cursor = Some(0);
    }

    fn check(&mut self) {
        let (kept, end) = (self.out().kept(), self.out().end());
        // What a peer tells comes late by up to a quarter.
        let most = MAX_WINDOW as usize * 5 / 4 + MAX_READ;
        assert!(kept <= most, "{kept} bytes are kept");
        if let Some(cursor) = self.cursor {
            assert!(
                (self.given_up()..=end).contains(&cursor),
                "the carrier is at {cursor} of {} to {end}",
                self.given_up()
            );
        }
    }
}

const fn expected(is_right: bool) -> Result<(), Violation> {
    if is_right {
        Ok(())
    } else {
        Err(Violation::OffsetOutOfRange)
    }
}
