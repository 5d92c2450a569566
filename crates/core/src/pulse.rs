//! When one side of a link asks whether the other is still there, and when it takes it for gone.
//!
//! Whoever has heard something lately asks nothing. While somebody plays, or waits for an answer, a short silence is enough to ask, since a dead way must
//! be noticed before the game gives up; while nobody does, a question now and then keeps the NAT open and costs a metered line, or a radio that sleeps,
//! next to nothing. A question without an answer is repeated at the short pace in both cases, and the time until the other side is gone counts from the
//! first of them.

use std::time::Duration;

use spawnpoint_proto::Time;

use crate::tuning::Tuning;

/// Whoever comes back to look so much later than it meant to was not awake, and did not hear; also where the timeout is shorter than twice that.
const OVERSLEPT: Duration = Duration::from_secs(1);

/// Round trips that an answer may take on a way that is slow today.
const ROUND_TRIPS: u32 = 4;

/// What is to be done about a silence.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Beat {
    /// Nothing before this moment, unless somebody comes to play.
    Rest(Time),
    /// Ask.
    Ask,
    /// Nothing more: the other side is gone.
    Gone,
}

/// The silence of one connection.
#[derive(Clone, Copy, Debug)]
pub struct Pulse {
    keep_alive: Duration,
    quiet_keep_alive: Duration,
    idle_timeout: Duration,
    heard: Time,
    /// When the first and the latest of the questions were asked that nothing was heard after.
    asked: Option<(Time, Time)>,
    /// There is reason to ask at once.
    is_doubtful: bool,
    /// When it is to be looked at again.
    due: Time,
}

impl Pulse {
    /// A connection that was heard just now.
    pub const fn new(now: Time, tuning: &Tuning) -> Self {
        Self {
            keep_alive: tuning.keep_alive,
            quiet_keep_alive: tuning.quiet_keep_alive,
            idle_timeout: tuning.idle_timeout,
            heard: now,
            asked: None,
            is_doubtful: false,
            due: now,
        }
    }

    /// Something came from the other side.
    pub const fn on_heard(&mut self, now: Time) {
        self.heard = now;
        self.asked = None;
    }

    /// The way may be another than a moment ago: the next beat is a question.
    pub const fn doubt(&mut self) {
        self.is_doubtful = true;
    }

    /// For how long a question has waited for its answer.
    pub fn unanswered(&self, now: Time) -> Option<Duration> {
        self.asked.map(|(first, _)| now.since(first))
    }

    /// What is to be done now; `is_busy` while somebody plays or waits, and `round_trip` as long as it takes there and back.
    pub fn beat(&mut self, now: Time, is_busy: bool, round_trip: Duration) -> Beat {
        let has_overslept = now.since(self.due) > OVERSLEPT.min(self.idle_timeout / 2);
        let timeout = self.idle_timeout.max(ROUND_TRIPS * round_trip);
        if let Some((first, _)) = &mut self.asked
            && has_overslept
        {
            *first = now;
        }
        let beat = match self.asked {
            Some((first, _)) if now.since(first) >= timeout => Beat::Gone,
            _ if std::mem::take(&mut self.is_doubtful) => self.ask(now),
            Some((_, latest)) if now.since(latest) >= self.keep_alive => self.ask(now),
            Some((first, latest)) => Beat::Rest((latest + self.keep_alive).min(first + timeout)),
            None => {
                let patience = match is_busy {
                    true => self.keep_alive,
                    false => self.quiet_keep_alive,
                };
                match now.since(self.heard) >= patience {
                    true => self.ask(now),
                    false => Beat::Rest(self.heard + patience),
                }
            }
        };
        self.due = match beat {
            Beat::Rest(until) => until,
            Beat::Ask | Beat::Gone => now,
        };
        beat
    }

    fn ask(&mut self, now: Time) -> Beat {
        let first = self.asked.map_or(now, |(first, _)| first);
        self.asked = Some((first, now));
        Beat::Ask
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_millis(50);
    const NEAR: Duration = Duration::from_millis(20);

    fn at(ms: u64) -> Time {
        Time::new(Duration::from_millis(ms))
    }

    /// When a connection asks, in milliseconds, and when it takes the other side for gone, if it is looked at from `from` to `until` and the other
    /// side answers at once whenever `answers` says so.
    fn run(
        pulse: &mut Pulse,
        (from, until): (u64, u64),
        is_busy: bool,
        answers: impl Fn(u64) -> bool,
    ) -> (Vec<u64>, Option<u64>) {
        let mut asked = Vec::new();
        let mut now = from;
        while now < until {
            match pulse.beat(at(now), is_busy, NEAR) {
                Beat::Ask => {
                    asked.push(now);
                    if answers(now) {
                        pulse.on_heard(at(now));
                    }
                }
                Beat::Gone => return (asked, Some(now)),
                Beat::Rest(_) => {}
            }
            now += STEP.as_millis() as u64;
        }
        (asked, None)
    }

    fn pulse() -> Pulse {
        Pulse::new(Time::ZERO, &Tuning::default())
    }

    #[test]
    fn a_quiet_link_asks_five_times_a_minute() {
        let (asked, gone) = run(&mut pulse(), (0, 60_001), false, |_| true);
        assert_eq!(asked, [12_000, 24_000, 36_000, 48_000, 60_000]);
        assert_eq!(gone, None);
    }

    #[test]
    fn a_peer_that_dies_while_somebody_plays_is_gone_within_three_seconds() {
        let (asked, gone) = run(&mut pulse(), (0, 60_000), true, |_| false);
        assert_eq!(asked, [500, 1000, 1500, 2000, 2500]);
        assert_eq!(gone, Some(2900));
    }

    #[test]
    fn a_lost_question_of_a_quiet_link_is_asked_again_at_once() {
        let (asked, gone) = run(&mut pulse(), (0, 20_000), false, |now| now > 12_900);
        assert_eq!(asked, [12_000, 12_500, 13_000]);
        assert_eq!(gone, None);
    }

    #[test]
    fn who_comes_to_play_on_a_quiet_link_finds_out_at_once_whether_it_works() {
        let mut pulse = pulse();
        assert_eq!(run(&mut pulse, (0, 9_000), false, |_| true), (vec![], None));
        let (asked, gone) = run(&mut pulse, (9_000, 20_000), true, |_| false);
        assert_eq!(asked.first(), Some(&9_000));
        assert_eq!(gone, Some(11_400));
    }

    #[test]
    fn a_machine_that_slept_asks_before_it_gives_up() {
        let mut pulse = pulse();
        assert_eq!(pulse.beat(at(500), true, NEAR), Beat::Ask);
        let (asked, gone) = run(&mut pulse, (600_000, 610_000), true, |now| now > 600_600);
        assert_eq!(gone, None);
        assert_eq!(asked[..3], [600_000, 600_500, 601_000]);
    }

    #[test]
    fn a_way_that_is_slow_today_is_given_its_time() {
        let (mut pulse, slow) = (pulse(), Duration::from_millis(1200));
        let mut halves = 1..;
        // The first question is asked after half a second, and its answer may take four round trips.
        let gone = halves.find(|half| pulse.beat(at(500 * half), true, slow) == Beat::Gone);
        assert_eq!(gone, Some(11));
    }

    #[test]
    fn a_doubt_is_asked_about_at_once_and_only_once() {
        let mut pulse = pulse();
        assert_eq!(pulse.beat(at(100), false, NEAR), Beat::Rest(at(12_000)));
        pulse.doubt();
        assert_eq!(pulse.beat(at(110), false, NEAR), Beat::Ask);
        assert_eq!(pulse.unanswered(at(150)), Some(Duration::from_millis(40)));
        assert_eq!(pulse.beat(at(150), false, NEAR), Beat::Rest(at(610)));
        pulse.on_heard(at(160));
        assert_eq!(pulse.unanswered(at(170)), None);
    }
}
