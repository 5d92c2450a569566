//! How long things wait: the drain of a process, the tries of an agent.

use std::time::Duration;

use spawnpoint_core::backoff::Backoff;
use spawnpoint_core::drain::{Drain, Phase};
use spawnpoint_proto::Time;

use crate::sim::seed::Dice;

/// Stops a process at random moments while players come and go.
pub fn simulate_drain(dice: &mut Dice) {
    for _ in 0..200 {
        drain_once(dice);
    }
}

fn drain_once(dice: &mut Dice) {
    let mut drain = Drain::default();
    let mut now = Time::ZERO;
    let mut stops = 0;
    let mut deadline = None;
    for _ in 0..30 {
        now = now + dice.duration(Duration::from_secs(5));
        let before = rank(drain.phase());
        if dice.chance(60) {
            let patience = dice.duration(Duration::from_secs(40));
            drain.on_stop(now, patience);
            stops += 1;
            deadline.get_or_insert(now + patience);
        }
        let players = dice.below(3) as u32;
        let phase = drain.poll(now, players);
        assert!(rank(phase) >= before, "a drain went back");
        match phase {
            Phase::Running => assert_eq!(stops, 0, "a stop was not heard"),
            Phase::Draining { deadline: told } => {
                assert_eq!(Some(told), deadline, "the deadline moved");
                assert!(
                    players > 0 && now < told && stops == 1,
                    "a drain that should be over goes on"
                );
            }
            Phase::Closed => assert!(stops > 0, "closed without a stop"),
        }
    }
}

const fn rank(phase: Phase) -> u8 {
    match phase {
        Phase::Running => 0,
        Phase::Draining { .. } => 1,
        Phase::Closed => 2,
    }
}

/// Fails and succeeds at random; the shadow doubles its cap step by step.
pub fn simulate_backoff(dice: &mut Dice) {
    let first = Duration::from_millis(dice.within(1, 2_000));
    let max = first + dice.duration(Duration::from_secs(60));
    let mut backoff = Backoff::new(first, max);
    let mut cap = first;
    for _ in 0..2_000 {
        if dice.chance(30) {
            backoff.reset();
            cap = first;
        }
        let share = dice.fraction();
        let wait = backoff.next_wait(share);
        assert!(wait <= cap, "{wait:?} is longer than {cap:?}");
        assert_eq!(wait, cap.mul_f64(share), "the wait is not spread evenly below its cap");
        cap = (cap * 2).min(max);
    }
}
