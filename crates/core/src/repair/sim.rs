//! Sender and receiver with a lossy line between them.
//!
//! Players write, the carrier packs what is written in the same millisecond into packets, the line loses some, and what is lost comes again after a
//! retransmission. Streams are had in order, so a lost piece holds up what follows. Every mended byte is compared with what was written.

#![allow(clippy::unwrap_used)]
use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use spawnpoint_proto::repair::MAX_WRITE;
use spawnpoint_proto::{SessionId, Time};

use super::{Mended, Mender, Outcomes, Policy, Spares, recent};

/// From sender to receiver, in milliseconds.
const DELAY: u64 = 20;

/// What is lost comes so much later than it would have: a round trip, and a quarter.
const RETRANSMISSION: u64 = 50;

const MAX_DATAGRAM: usize = 1_200;

const STEPS: u64 = 20_000;

/// The same numbers again for the same seed (splitmix64).
struct Dice(u64);

impl Dice {
    fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut number = self.0;
        number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        number ^ (number >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.number() % bound
    }
}

/// How the players play and the line behaves.
struct Scene {
    players: u64,
    writes: u8,
    /// Of a thousand packets so many are lost.
    loss: u64,
    /// All players are spoken to in the same moment, as servers do, not each at its own time.
    is_ticking: bool,
}

/// The byte of a session at an offset.
fn byte(session: SessionId, offset: u64) -> u8 {
    let mixed = (offset ^ session.0 << 40).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 56) as u8
}

fn bytes(session: SessionId, offset: u64, length: u64) -> Vec<u8> {
    (offset..offset + length).map(|at| byte(session, at)).collect()
}

/// What arrives.
enum Parcel {
    Piece(SessionId, u64, u64),
    Repair(Bytes),
}

/// A write that was lost: when its retransmission comes, of which session, and where it ends.
type Lost = (u64, SessionId, u64);

struct World {
    dice: Dice,
    now: u64,
    scene: Scene,
    written: BTreeMap<SessionId, u64>,
    spares: Spares,
    /// By when they arrive.
    line: BTreeMap<(u64, u64), Parcel>,
    sent: u64,
    mender: Mender,
    taken: BTreeMap<SessionId, u64>,
    /// Beyond a gap, by session and offset.
    early: BTreeMap<(SessionId, u64), u64>,
    lost: Vec<Lost>,
    in_time: u64,
    late: u64,
}

impl World {
    fn new(seed: u64, scene: Scene) -> Self {
        let sessions = || (0..scene.players).map(|id| (SessionId(id * id), 0));
        let (written, taken) = (sessions().collect(), sessions().collect());
        let mut spares = Spares::new(MAX_DATAGRAM);
        spares.set_policy(Policy::Cover { writes: scene.writes });
        spares.set_budget(10_000_000);
        Self {
            dice: Dice(seed),
            now: 0,
            scene,
            written,
            spares,
            line: BTreeMap::new(),
            sent: 0,
            mender: Mender::default(),
            taken,
            early: BTreeMap::new(),
            lost: Vec::new(),
            in_time: 0,
            late: 0,
        }
    }

    fn time(&self) -> Time {
        Time::new(Duration::from_millis(self.now))
    }

    fn run(mut self) -> (u64, u64, Outcomes, super::Spent) {
        for step in 0..STEPS + 500 {
            self.now = step;
            if step < STEPS {
                self.write();
            }
            while let Some(datagram) = self.spares.poll_datagram(self.time()) {
                assert!(datagram.len() <= MAX_DATAGRAM);
                if !self.loses() {
                    self.post(DELAY, Parcel::Repair(datagram));
                }
            }
            assert!(self.spares.poll_timeout().is_none_or(|due| due > self.time()));
            self.receive();
            let (pieces, kept) = self.mender.recent_len();
            assert!(pieces <= recent::MAX_PIECES && kept <= recent::MAX_BYTES);
        }
        assert_eq!(self.taken, self.written, "bytes are missing");
        (
            self.in_time,
            self.late,
            self.mender.take_outcomes(),
            self.spares.take_spent(),
        )
    }

    fn loses(&mut self) -> bool {
        self.dice.below(1_000) < self.scene.loss
    }

    fn post(&mut self, after: u64, parcel: Parcel) {
        self.sent += 1;
        self.line.insert((self.now + after, self.sent), parcel);
    }

    /// Each player writes every 50 ms or so; now and then there is a large write.
    fn write(&mut self) {
        let sessions: Vec<SessionId> = self.written.keys().copied().collect();
        let mut packet = Vec::new();
        let mut room = MAX_DATAGRAM as u64;
        for session in sessions {
            let writes = match self.scene.is_ticking {
                true => self.now.is_multiple_of(50),
                false => self.dice.below(50) == 0,
            };
            if !writes {
                continue;
            }
            let length = match self.dice.below(50) {
                0 => 1 + self.dice.below(MAX_WRITE as u64 * 2),
                _ => 1 + self.dice.below(200),
            };
            let offset = self.written[&session];
            self.written.insert(session, offset + length);
            self.spares
                .on_write(self.time(), session, offset, &bytes(session, offset, length));
            // Packed in turn, cut where a packet is full.
            let (mut offset, mut length) = (offset, length);
            while length > 0 {
                let part = length.min(room);
                packet.push((session, offset, part));
                (offset, length, room) = (offset + part, length - part, room - part);
                if room == 0 {
                    self.send(std::mem::take(&mut packet));
                    room = MAX_DATAGRAM as u64;
                }
            }
        }
        self.send(packet);
    }

    fn send(&mut self, packet: Vec<(SessionId, u64, u64)>) {
        let is_lost = self.loses();
        for (session, offset, length) in packet {
            let after = if is_lost { DELAY + RETRANSMISSION } else { DELAY };
            if is_lost && length <= MAX_WRITE as u64 {
                self.lost.push((self.now + after, session, offset + length));
            }
            self.post(after, Parcel::Piece(session, offset, length));
        }
    }

    fn receive(&mut self) {
        // What was lost counts as late in the moment in which its retransmission arrives.
        let (now, taken) = (self.now, &self.taken);
        let (mut in_time, mut late) = (0, 0);
        self.lost
            .retain(|(arrives, session, end)| match taken[session] >= *end {
                true => {
                    in_time += 1;
                    false
                }
                false if *arrives <= now => {
                    late += 1;
                    false
                }
                false => true,
            });
        (self.in_time, self.late) = (self.in_time + in_time, self.late + late);
        while let Some(entry) = self.line.first_entry()
            && entry.key().0 <= self.now
        {
            match entry.remove() {
                Parcel::Piece(session, offset, length) => self.arrive(session, offset, length),
                Parcel::Repair(datagram) => {
                    let mended = self
                        .mender
                        .on_repair(self.time(), datagram, |id| self.taken.get(&id).copied());
                    self.mend(mended.unwrap());
                }
            }
            while let Some(mended) = self.mender.poll_mended(self.time(), |id| self.taken.get(&id).copied()) {
                self.mend(Some(mended));
            }
        }
    }

    fn mend(&mut self, mended: Option<Mended>) {
        let Some(Mended {
            session,
            offset,
            bytes: mended,
        }) = mended
        else {
            return;
        };
        assert!(mended == bytes(session, offset, mended.len() as u64), "a wrong byte");
        self.arrive(session, offset, mended.len() as u64);
    }

    /// Takes over what is in order now.
    fn arrive(&mut self, session: SessionId, offset: u64, length: u64) {
        let kept = self.early.entry((session, offset)).or_default();
        *kept = length.max(*kept);
        loop {
            let taken = self.taken[&session];
            let mut next = self.early.range((session, 0)..=(session, taken));
            let Some((&key, &length)) = next.next() else { return };
            self.early.remove(&key);
            let end = key.1 + length;
            if end > taken {
                let piece = bytes(session, taken, end - taken);
                self.mender.on_taken(self.time(), session, taken, &piece);
                self.taken.insert(session, end);
            }
        }
    }
}

fn simulate(name: &str, scene: impl Fn() -> Scene) -> f64 {
    let (mut in_time, mut late) = (0, 0);
    for seed in 0..4 {
        println!("{name}: seed {seed}");
        let (mended, missed, outcomes, spent) = World::new(seed, scene()).run();
        println!("{mended} in time, {missed} late, {outcomes:?}, {spent:?}");
        assert_eq!(outcomes.wrong, 0, "seed {seed}");
        (in_time, late) = (in_time + mended, late + missed);
    }
    in_time as f64 / (in_time + late) as f64
}

#[test]
fn with_parity_over_four_writes_nine_of_ten_losses_are_mended_before_the_retransmission() {
    let share = simulate("parity", || Scene {
        players: 40,
        writes: 4,
        loss: 10,
        is_ticking: false,
    });
    assert!(share >= 0.9, "{share}");
}

#[test]
fn with_copies_nearly_every_loss_is_mended() {
    let share = simulate("copies", || Scene {
        players: 5,
        writes: 1,
        loss: 10,
        is_ticking: false,
    });
    assert!(share >= 0.97, "{share}");
}

#[test]
fn a_server_that_speaks_to_all_at_once_is_repaired_too() {
    let share = simulate("ticks", || Scene {
        players: 20,
        writes: 4,
        loss: 10,
        is_ticking: true,
    });
    assert!(share >= 0.9, "{share}");
}

#[test]
fn on_a_bad_line_no_byte_is_wrong() {
    simulate("bad line", || Scene {
        players: 30,
        writes: 8,
        loss: 200,
        is_ticking: false,
    });
}
