//! The rate in a simulation: users who take what they get and users who take little, on a virtual clock.

#![allow(clippy::unwrap_used)]

use super::*;
use proptest::prelude::*;

const STEP: Duration = Duration::from_micros(500);

/// A user of the simulation.
#[derive(Clone, Copy, Debug)]
enum Habit {
    /// A stream that moves as much as it may, in pieces of this many bytes.
    Greedy(u64),
    /// A stream that moves so many bytes every so many milliseconds.
    Stream(u64, u64),
    /// Packets of so many bytes, every so many microseconds.
    Packets(u64, u64),
}

struct User {
    habit: Habit,
    share: Share,
    ticket: Option<Ticket>,
    next: Time,
    moved: u64,
    dropped: u64,
    /// How long a stream had to wait, each time that it had something.
    waits: Vec<Duration>,
    since: Time,
}

impl User {
    fn new(habit: Habit) -> Self {
        Self {
            habit,
            share: Share::default(),
            ticket: None,
            next: Time::ZERO,
            moved: 0,
            dropped: 0,
            waits: Vec::new(),
            since: Time::ZERO,
        }
    }
}

fn run(rate: u64, habits: &[Habit], lasts: Duration) -> Vec<User> {
    let mut line = FairRate::new(Some(rate));
    let mut users: Vec<User> = habits.iter().map(|habit| User::new(*habit)).collect();
    let mut now = Time::ZERO;
    while now < Time::ZERO + lasts {
        now = now + STEP;
        // One after the other, beginning with another one each time.
        let start = (now.since_start().as_micros() / STEP.as_micros()) as usize % users.len();
        for at in 0..users.len() {
            let count = users.len();
            step(&mut line, &mut users[(start + at) % count], now);
        }
    }
    users
}

fn step(line: &mut FairRate, user: &mut User, now: Time) {
    match user.habit {
        Habit::Packets(bytes, micros) => {
            while user.next <= now {
                user.next = user.next + Duration::from_micros(micros);
                if line.may_pass(now, &user.share, bytes) {
                    line.charge(now, &mut user.share, bytes);
                    user.moved += bytes;
                } else {
                    user.dropped += 1;
                }
            }
        }
        Habit::Greedy(bytes) => while stream(line, user, now, bytes.min(line.quantum())) {},
        Habit::Stream(bytes, millis) => {
            if user.next <= now {
                if user.ticket.is_none() && user.since < user.next {
                    user.since = now;
                }
                if stream(line, user, now, bytes) {
                    user.waits.push(now.since(user.since));
                    user.next = user.next + Duration::from_millis(millis);
                }
            }
        }
    }
}

/// Moves a piece of a stream, if it may.
fn stream(line: &mut FairRate, user: &mut User, now: Time, bytes: u64) -> bool {
    let may = match user.ticket {
        None if line.ask(now, &user.share) => true,
        None => {
            user.ticket = Some(line.queue(&user.share));
            false
        }
        Some(ticket) => line.turn(now, ticket) == Turn::Go,
    };
    if may {
        user.ticket = None;
        user.moved += bytes;
        line.charge(now, &mut user.share, bytes);
    }
    may
}

fn total(users: &[User]) -> f64 {
    users.iter().map(|user| user.moved).sum::<u64>() as f64
}

const TEN: Duration = Duration::from_secs(10);

#[track_caller]
fn near(what: &str, found: f64, wanted: f64, part: f64) {
    assert!((found / wanted - 1.0).abs() <= part, "{what}: {found}, wanted {wanted}");
}

#[test]
fn one_greedy_stream_gets_the_rate_within_two_per_cent() {
    for rate in [8_000, 64_000, 1_000_000, 12_500_000, 125_000_000] {
        let users = run(rate, &[Habit::Greedy(65_536)], TEN);
        near(&format!("at {rate}"), total(&users), rate as f64 * 10.0, 0.02);
    }
}

#[test]
fn greedy_streams_share_the_rate_evenly() {
    let users = run(2_000_000, &[Habit::Greedy(65_536); 8], TEN);
    near("all", total(&users), 20_000_000.0, 0.02);
    for user in &users {
        near("each", user.moved as f64, 2_500_000.0, 0.05);
    }
}

#[test]
fn a_game_beside_downloads_does_not_wait() {
    let mut habits = vec![Habit::Greedy(65_536); 8];
    habits.extend([Habit::Stream(1_000, 50); 4]);
    let users = run(2_000_000, &habits, TEN);
    near("all", total(&users), 20_000_000.0, 0.02);
    for user in &users[8..] {
        let longest = user.waits.iter().max().unwrap();
        assert!(*longest <= STEP, "a game waited {longest:?}");
        assert!(user.waits.len() >= 198);
    }
}

#[test]
fn packets_beyond_the_rate_are_dropped_from_those_who_send_too_many() {
    // Two players who flood, and three who play: 24 kB a second each.
    let mut habits = vec![Habit::Packets(1_200, 500); 2];
    habits.extend([Habit::Packets(1_200, 50_000); 3]);
    let users = run(1_000_000, &habits, TEN);
    near("all", total(&users), 10_000_000.0, 0.05);
    for user in &users[2..] {
        assert_eq!(user.dropped, 0, "a player within its share lost packets");
    }
    near("the floods are even", users[0].moved as f64, users[1].moved as f64, 0.1);
}

#[test]
fn streams_and_packets_share_one_rate() {
    let habits = [
        Habit::Greedy(65_536),
        Habit::Greedy(65_536),
        Habit::Packets(1_200, 300),
        Habit::Packets(200, 50_000),
    ];
    let users = run(1_500_000, &habits, TEN);
    near("all", total(&users), 15_000_000.0, 0.05);
    assert_eq!(users[3].dropped, 0);
    for user in &users[..3] {
        assert!(
            user.moved as f64 > 0.6 * 5_000_000.0,
            "somebody got only {}",
            user.moved
        );
    }
}

#[test]
fn a_newcomer_gets_its_share_at_once_and_nobody_starves() {
    let mut line = FairRate::new(Some(1_000_000));
    let user = || User::new(Habit::Greedy(20_000));
    let (mut old, mut new, mut now) = (user(), user(), Time::ZERO);
    let mut go_on = |now: &mut Time, users: &mut [&mut User], lasts: Duration| {
        let end = *now + lasts;
        while *now < end {
            *now = *now + STEP;
            users.iter_mut().for_each(|user| step(&mut line, user, *now));
        }
    };
    go_on(&mut now, &mut [&mut old], Duration::from_secs(60));
    old.moved = 0;
    go_on(&mut now, &mut [&mut old, &mut new], Duration::from_secs(2));
    near("the old one", old.moved as f64, 1_000_000.0, 0.2);
    near("the new one", new.moved as f64, 1_000_000.0, 0.2);
}

#[test]
fn a_rate_that_is_taken_away_lets_everybody_go() {
    let mut line = FairRate::new(Some(1));
    let mut share = Share::default();
    line.charge(Time::ZERO, &mut share, 1_000_000);
    assert!(!line.ask(Time::ZERO, &share));
    let ticket = line.queue(&share);
    assert!(matches!(line.turn(Time::ZERO, ticket), Turn::At(_)));
    line.set_rate(Time::ZERO, None);
    assert_eq!(line.turn(Time::ZERO, ticket), Turn::Go);
    assert!(line.first().is_none());
    assert!(line.ask(Time::ZERO, &share) && line.may_pass(Time::ZERO, &share, 1));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever the users do, no more passes than the rate, by more than five per cent of ten seconds and one piece of each.
    #[test]
    fn the_rate_holds_whatever_comes(
        rate in 20_000u64..20_000_000,
        habits in proptest::collection::vec(prop_oneof![
            (1_000u64..100_000).prop_map(Habit::Greedy),
            (10u64..20_000, 1u64..200).prop_map(|(bytes, millis)| Habit::Stream(bytes, millis)),
            (20u64..1_400, 100u64..100_000).prop_map(|(bytes, micros)| Habit::Packets(bytes, micros)),
        ], 1..12),
    ) {
        let users = run(rate, &habits, TEN);
        let slack: u64 = habits.iter().map(|habit| match habit {
            Habit::Stream(bytes, _) => *bytes,
            Habit::Greedy(_) | Habit::Packets(..) => 1_500,
        }).sum();
        let most = rate as f64 * 10.0 * 1.05 + slack as f64;
        prop_assert!(total(&users) <= most, "{} of {most}", total(&users));
    }
}
