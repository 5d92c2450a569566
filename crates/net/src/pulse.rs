//! The pulse of a connection: what was heard on it, looked at often enough for `spawnpoint_core::pulse` to say when to ask and when to give up.
//!
//! QUIC has a keep-alive and a timeout of its own, at one pace for the life of a connection; the first is not used, the second is only there for what
//! nobody watches. Asking is the caller's business, who has the control stream.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quinn::{Connection, ConnectionStats};
use spawnpoint_core::pulse::{Beat, Pulse as Rule};
use spawnpoint_core::tuning::Tuning;
use tokio::sync::Notify;

use crate::Clock;

/// How often it is looked at whether anything was heard while somebody plays.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// And while nobody does.
const LOOK_RARELY: Duration = Duration::from_millis(500);

/// The pulse of one connection; clones are the same.
#[derive(Clone, Debug)]
pub struct Pulse(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    connection: Connection,
    clock: Clock,
    state: Mutex<State>,
    doubted: Notify,
}

#[derive(Debug)]
struct State {
    rule: Rule,
    /// Packets that had come when it was last looked at.
    heard: u64,
    /// What had been said when it was last seen that something was heard. What was said between that and the look is taken for answered.
    said: u64,
    /// Whether something was said since, to which there should be an answer.
    awaits: bool,
    round_trip: Duration,
}

/// What the owner of a connection does about a silence.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Silence {
    /// Asks the other side whether it is there.
    Ask,
    /// Gives the connection up: nobody answers.
    Dead,
}

impl Pulse {
    /// The pulse of a connection that was heard just now.
    pub fn new(connection: Connection, tuning: &Tuning) -> Self {
        let clock = Clock::default();
        let stats = connection.stats();
        let state = State {
            rule: Rule::new(clock.now(), tuning),
            heard: stats.udp_rx.datagrams,
            said: said(&stats),
            awaits: false,
            round_trip: stats.path.rtt,
        };
        Self(Arc::new(Inner {
            connection,
            clock,
            state: Mutex::new(state),
            doubted: Notify::new(),
        }))
    }

    /// Waits until something is to be done; `is_busy` says whether somebody plays. Who waits for an answer is seen here. May be dropped at any time.
    pub async fn silence(&self, is_busy: impl Fn() -> bool) -> Silence {
        let inner = &*self.0;
        loop {
            let plays = is_busy();
            let (beat, is_busy) = {
                let state = &mut *self.look();
                let is_busy = plays || state.awaits;
                (state.rule.beat(inner.clock.now(), is_busy, state.round_trip), is_busy)
            };
            let until = match beat {
                Beat::Ask => return Silence::Ask,
                Beat::Gone => return Silence::Dead,
                Beat::Rest(until) => until,
            };
            let look = inner.clock.now() + if is_busy { LOOK_EVERY } else { LOOK_RARELY };
            tokio::select! {
                () = tokio::time::sleep_until(inner.clock.instant(until.min(look))) => {}
                () = inner.doubted.notified() => {}
            }
        }
    }

    /// The way may be another than a moment ago: it is asked at once.
    pub fn doubt(&self) {
        self.look().rule.doubt();
        self.0.doubted.notify_one();
    }

    /// For how long a question has waited for its answer.
    pub fn unanswered(&self) -> Option<Duration> {
        self.look().rule.unanswered(self.0.clock.now())
    }

    /// Packets that have come.
    pub fn heard(&self) -> u64 {
        self.look().heard
    }

    fn look(&self) -> MutexGuard<'_, State> {
        let inner = &*self.0;
        let stats = inner.connection.stats();
        let mut state = inner.state.lock().unwrap_or_else(PoisonError::into_inner);
        if stats.udp_rx.datagrams > state.heard {
            (state.heard, state.said) = (stats.udp_rx.datagrams, said(&stats));
            state.rule.on_heard(inner.clock.now());
        }
        state.awaits = said(&stats) > state.said;
        state.round_trip = stats.path.rtt;
        state
    }
}

/// Frames that carry something for the other side, which acknowledges them.
const fn said(stats: &ConnectionStats) -> u64 {
    stats.frame_tx.stream + stats.frame_tx.datagram
}
