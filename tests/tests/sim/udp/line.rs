//! One direction of the link: it loses, delays, overtakes and repeats datagrams as its weather says.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use spawnpoint_proto::Time;

use super::ledger::{Fate, Ledger, PacketNumber};
use crate::sim::seed::Dice;

/// A datagram and the packet that it carries, or a part of it; none for the words of the ends themselves.
#[derive(Clone, Debug)]
pub struct Parcel {
    pub datagram: Bytes,
    pub packet: Option<PacketNumber>,
}

/// What a line does to its datagrams.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// Datagrams lost out of a thousand.
    loss: u64,
    /// Datagrams that arrive twice out of a thousand.
    copies: u64,
    delay: Duration,
    /// What a datagram may take longer than the one after it.
    jitter: Duration,
}

impl Weather {
    /// Nothing goes wrong.
    pub const CALM: Self = Self {
        loss: 0,
        copies: 0,
        delay: Duration::from_millis(1),
        jitter: Duration::ZERO,
    };

    /// Losses only, in order: here every account must be exact.
    pub fn orderly(dice: &mut Dice) -> Self {
        Self {
            loss: dice.below(100),
            delay: dice.duration(Duration::from_millis(80)),
            ..Self::CALM
        }
    }

    /// Everything that a network may do, and copies, which QUIC would have removed.
    pub fn wild(dice: &mut Dice) -> Self {
        Self {
            loss: dice.below(200),
            copies: dice.below(100),
            delay: dice.duration(Duration::from_millis(200)),
            jitter: dice.duration(Duration::from_millis(400)),
        }
    }
}

/// The datagrams on their way in one direction.
#[derive(Debug)]
pub struct Line {
    pub weather: Weather,
    on_the_way: BTreeMap<(Time, u64), Parcel>,
    departed: u64,
}

impl Line {
    pub const fn new(weather: Weather) -> Self {
        Self {
            weather,
            on_the_way: BTreeMap::new(),
            departed: 0,
        }
    }

    pub fn send(&mut self, dice: &mut Dice, now: Time, ledger: &mut Ledger, parcel: Parcel) {
        if dice.chance(self.weather.loss) {
            return ledger.note(parcel.packet, Fate::LostOnTheLine);
        }
        if dice.chance(self.weather.copies) {
            ledger.allow_copy(parcel.packet);
            self.depart(dice, now, parcel.clone());
        }
        self.depart(dice, now, parcel);
    }

    fn depart(&mut self, dice: &mut Dice, now: Time, parcel: Parcel) {
        let arrival = now + self.weather.delay + dice.duration(self.weather.jitter);
        self.departed += 1;
        self.on_the_way.insert((arrival, self.departed), parcel);
    }

    /// The next datagram that has arrived by `now`.
    pub fn arrival(&mut self, now: Time) -> Option<Parcel> {
        let first = self.on_the_way.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }

    /// When the last of them arrives.
    pub fn last_arrival(&self) -> Option<Time> {
        self.on_the_way.last_key_value().map(|((arrival, _), _)| *arrival)
    }

    /// The connection is gone and everything on it.
    pub fn lose_all(&mut self, ledger: &mut Ledger) {
        for parcel in std::mem::take(&mut self.on_the_way).into_values() {
            ledger.note(parcel.packet, Fate::LostOnTheLine);
        }
    }
}
