//! When a game server is started because somebody joins, and stopped because nobody is there.
//!
//! [`Wake`] decides, on times and counts that it is told; `agent::wake` runs the commands and looks whether the server answers. A server is started at most
//! once at a time, and not stopped while it starts, nor started while it stops.

use std::time::Duration;

use spawnpoint_proto::Time;

/// What a server is doing, as far as is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// Nobody has looked yet, or it went by itself.
    Unknown,
    /// It answers.
    Up,
    /// The command to start it runs, or has run and it does not answer yet; it has until then.
    Starting(Time),
    /// The command to stop it runs.
    Stopping,
    /// It was stopped because nobody was there.
    Asleep,
}

/// What a player who joins gets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Joining {
    /// The server is to be started now; the player waits.
    Start,
    /// It is being started, or stopped before that; the player waits.
    Wait,
}

/// One server that is started and stopped on demand.
#[derive(Debug)]
pub struct Wake {
    phase: Phase,
    players: u32,
    /// Since when nobody is there.
    empty_since: Time,
    /// After how long it is stopped; `None` for never.
    idle_after: Option<Duration>,
    /// How long it may take to start.
    start_timeout: Duration,
}

impl Wake {
    /// A server of which nothing is known at `now`.
    pub const fn new(now: Time, idle_after: Option<Duration>, start_timeout: Duration) -> Self {
        Self {
            phase: Phase::Unknown,
            players: 0,
            empty_since: now,
            idle_after,
            start_timeout,
        }
    }

    /// Whether the server is being started.
    pub const fn is_starting(&self) -> bool {
        matches!(self.phase, Phase::Starting(_))
    }

    /// Whether it is known to answer.
    pub const fn is_up(&self) -> bool {
        matches!(self.phase, Phase::Up)
    }

    /// A player joins, and the server does not answer.
    pub fn on_unanswered_join(&mut self, now: Time) -> Joining {
        match self.phase {
            Phase::Unknown | Phase::Up | Phase::Asleep => {
                self.phase = Phase::Starting(now + self.start_timeout);
                Joining::Start
            }
            Phase::Starting(_) | Phase::Stopping => Joining::Wait,
        }
    }

    /// The server has answered.
    pub fn on_answer(&mut self, now: Time) {
        if matches!(self.phase, Phase::Stopping) {
            return;
        }
        if !matches!(self.phase, Phase::Up) {
            // Whoever started it has some time to join.
            self.empty_since = now;
        }
        self.phase = Phase::Up;
    }

    /// The server that was up does not answer any more.
    pub fn on_silence(&mut self) {
        if matches!(self.phase, Phase::Up) {
            self.phase = Phase::Unknown;
        }
    }

    /// Other times count from here on; who is there, and what the server does, stays.
    pub const fn reconfigure(&mut self, idle_after: Option<Duration>, start_timeout: Duration) {
        self.idle_after = idle_after;
        self.start_timeout = start_timeout;
    }

    /// The server could not be started.
    pub fn on_start_failed(&mut self) {
        if matches!(self.phase, Phase::Starting(_)) {
            self.phase = Phase::Unknown;
        }
    }

    /// The command to stop it has ended.
    pub fn on_stopped(&mut self) {
        if matches!(self.phase, Phase::Stopping) {
            self.phase = Phase::Asleep;
        }
    }

    /// A player is in.
    pub fn on_enter(&mut self) {
        self.players += 1;
    }

    /// A player is gone.
    pub fn on_leave(&mut self, now: Time) {
        self.players = self.players.saturating_sub(1);
        if self.players == 0 {
            self.empty_since = now;
        }
    }

    /// When [`Wake::poll`] has something to do.
    pub fn poll_timeout(&self) -> Option<Time> {
        match self.phase {
            Phase::Starting(until) => Some(until),
            Phase::Up if self.players == 0 => Some(self.empty_since + self.idle_after?),
            _ => None,
        }
    }

    /// Whether the server is to be stopped now; a start that has taken too long is given up.
    pub fn poll(&mut self, now: Time) -> bool {
        if self.poll_timeout().is_none_or(|due| due > now) {
            return false;
        }
        match self.phase {
            Phase::Up => {
                self.phase = Phase::Stopping;
                true
            }
            _ => {
                self.phase = Phase::Unknown;
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const IDLE: Duration = Duration::from_secs(600);
    const START: Duration = Duration::from_secs(120);

    fn at(seconds: u64) -> Time {
        Time::new(Duration::from_secs(seconds))
    }

    fn wake() -> Wake {
        Wake::new(at(0), Some(IDLE), START)
    }

    #[test]
    fn the_first_who_joins_starts_it_and_the_others_wait() {
        let mut wake = wake();
        assert_eq!(wake.on_unanswered_join(at(1)), Joining::Start);
        assert_eq!(wake.on_unanswered_join(at(2)), Joining::Wait);
        wake.on_answer(at(30));
        assert!(wake.is_up());
        assert_eq!(wake.poll_timeout(), Some(at(630)));
    }

    #[test]
    fn it_is_stopped_once_nobody_has_been_there_for_long() {
        let mut wake = wake();
        wake.on_answer(at(0));
        wake.on_enter();
        assert_eq!(wake.poll_timeout(), None);
        wake.on_leave(at(100));
        assert!(!wake.poll(at(699)));
        assert!(wake.poll(at(700)));
        assert!(!wake.poll(at(800)), "only once");
        assert_eq!(wake.on_unanswered_join(at(801)), Joining::Wait, "not while it stops");
        wake.on_stopped();
        assert_eq!(wake.on_unanswered_join(at(802)), Joining::Start);
    }

    #[test]
    fn a_start_that_takes_too_long_is_tried_again_by_the_next() {
        let mut wake = wake();
        wake.on_unanswered_join(at(0));
        assert!(!wake.poll(at(120)));
        assert_eq!(wake.on_unanswered_join(at(121)), Joining::Start);
        wake.on_start_failed();
        assert_eq!(wake.on_unanswered_join(at(122)), Joining::Start);
    }

    #[test]
    fn a_server_that_went_by_itself_is_started_again() {
        let mut wake = wake();
        wake.on_answer(at(0));
        wake.on_silence();
        assert_eq!(wake.on_unanswered_join(at(1)), Joining::Start);
        wake.on_silence();
        assert!(wake.is_starting(), "one that is being started is silent for a while");
    }

    #[test]
    fn what_nobody_wants_stopped_never_is() {
        let mut wake = Wake::new(at(0), None, START);
        wake.on_answer(at(0));
        assert_eq!(wake.poll_timeout(), None);
    }

    proptest! {
        #[test]
        fn commands_never_overlap(steps in proptest::collection::vec((0u8..7, 0u64..400), 0..200)) {
            let (mut wake, mut now) = (wake(), 0);
            let (mut starting, mut stopping) = (false, false);
            for (step, pause) in steps {
                now += pause;
                match step {
                    0 if wake.on_unanswered_join(at(now)) == Joining::Start => {
                        prop_assert!(!stopping);
                        starting = true;
                    },
                    1 => wake.on_answer(at(now)),
                    2 => wake.on_enter(),
                    3 => wake.on_leave(at(now)),
                    4 if wake.poll(at(now)) => {
                        prop_assert!(!stopping && !wake.is_starting());
                        stopping = true;
                    },
                    5 if stopping => { wake.on_stopped(); stopping = false; }
                    6 if starting => { wake.on_start_failed(); starting = false; }
                    _ => {}
                }
            }
        }
    }
}
