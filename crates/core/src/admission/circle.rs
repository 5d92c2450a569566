//! One circle of players: those of a prefix, a tunnel, a host or the relay.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use spawnpoint_proto::Time;

use super::{DenyReason, Full, Whose};

/// What a circle takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// Players at once.
    pub players: u32,
    /// Players at once whom no server has answered yet.
    pub half_open: u32,
    /// New players a second, over time.
    pub rate: u32,
    /// New players at once before the rate counts.
    pub burst: u32,
}

impl Bounds {
    /// No bounds.
    pub const NONE: Self = Self::of_players(u32::MAX);

    /// Bounds only on how many are in.
    pub const fn of_players(players: u32) -> Self {
        Self {
            players,
            half_open: u32::MAX,
            rate: u32::MAX,
            burst: u32::MAX,
        }
    }

    /// The same for a circle of `times` such circles.
    pub const fn times(self, times: u32) -> Self {
        Self {
            players: self.players.saturating_mul(times),
            half_open: self.half_open.saturating_mul(times),
            rate: self.rate.saturating_mul(times),
            burst: self.burst.saturating_mul(times),
        }
    }
}

/// How many are in a circle. The rate is kept as the moment when the whole burst is free again (the generic cell rate algorithm).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub active: u32,
    pub half_open: u32,
    free_at: Time,
}

impl Tally {
    /// Whether one more may enter; nothing is counted.
    pub fn check(&self, now: Time, bounds: &Bounds) -> Result<(), Full> {
        if self.active >= bounds.players {
            return Err(Full::Players);
        }
        if self.half_open >= bounds.half_open {
            return Err(Full::HalfOpen);
        }
        let step = step(bounds);
        let is_fast = self.after(now, step).since(now) > step * bounds.burst.max(1);
        if is_fast { Err(Full::Rate) } else { Ok(()) }
    }

    /// Counts one more, who is not answered yet.
    pub fn enter(&mut self, now: Time, bounds: &Bounds) {
        self.free_at = self.after(now, step(bounds));
        self.active += 1;
        self.half_open += 1;
    }

    /// Counts one who has been in before.
    pub fn go_on(&mut self) {
        self.active += 1;
    }

    pub fn settle(&mut self) {
        self.half_open -= 1;
    }

    pub fn leave(&mut self, is_settled: bool) {
        self.active -= 1;
        self.half_open -= u32::from(!is_settled);
    }

    /// Whether somebody is in whom a server has answered.
    pub const fn is_known(&self) -> bool {
        self.active > self.half_open
    }

    /// Whether it says no more than an empty one.
    pub fn is_blank(&self, now: Time) -> bool {
        self.active == 0 && self.free_at <= now
    }

    fn after(&self, now: Time, step: Duration) -> Time {
        self.free_at.max(now) + step
    }
}

fn step(bounds: &Bounds) -> Duration {
    Duration::from_secs(1) / bounds.rate.max(1)
}

/// The players of a tunnel or a host; it lives as long as anybody holds it.
#[derive(Debug)]
pub struct Circle {
    whose: Whose,
    /// The host's, around a tunnel's.
    around: Option<Arc<Self>>,
    state: Mutex<(Bounds, Tally)>,
}

impl Circle {
    /// The players of a host.
    pub fn of_host(bounds: Bounds) -> Self {
        Self {
            whose: Whose::Host,
            around: None,
            state: Mutex::new((bounds, Tally::default())),
        }
    }

    /// The players of a tunnel of a host.
    pub fn of_tunnel(bounds: Bounds, host: &Arc<Self>) -> Self {
        Self {
            whose: Whose::Tunnel,
            around: Some(host.clone()),
            state: Mutex::new((bounds, Tally::default())),
        }
    }

    /// Changes the bounds; players who are in stay in.
    pub fn set_bounds(&self, bounds: Bounds) {
        self.state().0 = bounds;
    }

    /// Players who are in.
    pub fn active(&self) -> u32 {
        self.state().1.active
    }

    /// Players who are in and whom no server has answered.
    pub fn half_open(&self) -> u32 {
        self.state().1.half_open
    }

    /// Whether it and the one around it would take one more; nothing is counted, and a gate says so again.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, now: Time) -> Result<(), DenyReason> {
        let full = {
            let state = self.state();
            state.1.check(now, &state.0)
        };
        full.map_err(|full| DenyReason::Full(self.whose, full))?;
        self.around.as_ref().map_or(Ok(()), |around| around.check(now))
    }

    pub(super) fn enter(&self, now: Time) {
        self.each(|bounds, tally| tally.enter(now, bounds));
    }

    pub(super) fn go_on(&self) {
        self.each(|_, tally| tally.go_on());
    }

    pub(super) fn settle(&self) {
        self.each(|_, tally| tally.settle());
    }

    pub(super) fn leave(&self, is_settled: bool) {
        self.each(|_, tally| tally.leave(is_settled));
    }

    /// Changes the tally of this circle and of the one around it.
    fn each(&self, change: impl Fn(&Bounds, &mut Tally)) {
        {
            let (bounds, tally) = &mut *self.state();
            change(bounds, tally);
        }
        if let Some(around) = &self.around {
            around.each(change);
        }
    }

    fn state(&self) -> MutexGuard<'_, (Bounds, Tally)> {
        // Every change is complete before the lock is released.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
