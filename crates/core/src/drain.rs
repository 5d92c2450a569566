//! Going down with grace: running, draining until a deadline, closed.

use std::time::Duration;

use spawnpoint_proto::Time;

/// Where a process is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// Players enter.
    Running,
    /// No new players; those who are in may stay until the deadline.
    Draining {
        /// When the rest is closed.
        deadline: Time,
    },
    /// Everything ends now.
    Closed,
}

/// The way from running to closed; it never goes back.
#[derive(Clone, Copy, Debug)]
pub struct Drain(Phase);

impl Default for Drain {
    fn default() -> Self {
        Self(Phase::Running)
    }
}

impl Drain {
    /// The phase as of the last event.
    pub const fn phase(&self) -> Phase {
        self.0
    }

    /// A request to stop: the first starts the drain, the second ends it at once.
    pub fn on_stop(&mut self, now: Time, patience: Duration) -> Phase {
        self.0 = match self.0 {
            Phase::Running => Phase::Draining {
                deadline: now + patience,
            },
            Phase::Draining { .. } | Phase::Closed => Phase::Closed,
        };
        self.0
    }

    /// Closes when nobody is left or the deadline has come.
    pub fn poll(&mut self, now: Time, players: u32) -> Phase {
        if let Phase::Draining { deadline } = self.0
            && (players == 0 || now >= deadline)
        {
            self.0 = Phase::Closed;
        }
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn at(secs: u64) -> Time {
        Time::new(Duration::from_secs(secs))
    }

    #[test]
    fn an_empty_relay_closes_at_once() {
        let mut drain = Drain::default();
        assert_eq!(drain.poll(at(0), 0), Phase::Running);
        drain.on_stop(at(1), PATIENCE);
        assert_eq!(drain.poll(at(1), 0), Phase::Closed);
    }

    #[test]
    fn players_may_stay_until_the_deadline_and_no_longer() {
        let mut drain = Drain::default();
        assert_eq!(drain.on_stop(at(0), PATIENCE), Phase::Draining { deadline: at(30) });
        assert_eq!(drain.poll(at(29), 3), Phase::Draining { deadline: at(30) });
        assert_eq!(drain.poll(at(30), 3), Phase::Closed);
    }

    #[test]
    fn a_second_request_ends_the_patience() {
        let mut drain = Drain::default();
        drain.on_stop(at(0), PATIENCE);
        assert_eq!(drain.on_stop(at(1), PATIENCE), Phase::Closed);
    }
}
