#![allow(clippy::unwrap_used)]
use super::*;
use spawnpoint_proto::repair::{MAX_WRITE, Repair};

use super::super::delayed::MAX_BYTES;

const MAX: usize = 1_200;

fn at(micros: u64) -> Time {
    Time::new(Duration::from_micros(micros))
}

fn covering(writes: u8) -> Spares {
    let mut spares = Spares::new(MAX);
    spares.set_policy(Policy::Cover { writes });
    spares.set_budget(100_000_000);
    spares
}

/// What is due, as the sessions that each repair covers.
fn due(spares: &mut Spares, now: Time) -> Vec<Vec<u64>> {
    std::iter::from_fn(|| spares.poll_datagram(now))
        .map(|datagram| {
            assert!(datagram.len() <= MAX);
            let repair = Repair::decode(datagram).unwrap();
            repair.writes().iter().map(|write| write.session.0).collect()
        })
        .collect()
}

#[test]
fn nothing_is_sent_without_a_policy_or_without_a_budget() {
    let mut spares = Spares::new(MAX);
    spares.set_budget(1_000_000);
    spares.on_write(at(0), SessionId(1), 0, b"hi");
    assert_eq!(spares.poll_timeout(), None);
    let mut spares = Spares::new(MAX);
    spares.set_policy(Policy::Cover { writes: 1 });
    spares.on_write(at(0), SessionId(1), 0, b"hi");
    assert_eq!(spares.poll_timeout(), None);
    assert_eq!(spares.take_spent().over_budget, 1);
}

#[test]
fn a_copy_of_a_write_leaves_two_milliseconds_after_it() {
    let mut spares = covering(1);
    spares.on_write(at(500), SessionId(1), 7, b"hi");
    assert_eq!(spares.poll_timeout(), Some(at(2_500)));
    assert_eq!(spares.poll_datagram(at(2_499)), None);
    let repair = Repair::decode(spares.poll_datagram(at(2_500)).unwrap()).unwrap();
    assert_eq!((repair.writes()[0].offset, &repair.parity()[..]), (7, &b"hi"[..]));
    assert_eq!(spares.poll_timeout(), None);
}

#[test]
fn a_full_group_leaves_two_milliseconds_after_its_last_write() {
    let mut spares = covering(3);
    for session in 1..=3 {
        spares.on_write(at(session * 1_000), SessionId(session), 0, b"hi");
    }
    assert_eq!(spares.poll_timeout(), Some(at(5_000)));
    assert_eq!(due(&mut spares, at(5_000)), [[1, 2, 3]]);
}

#[test]
fn a_group_that_does_not_fill_leaves_eight_milliseconds_after_its_first_write() {
    let mut spares = covering(8);
    spares.on_write(at(0), SessionId(1), 0, b"hi");
    spares.on_write(at(2_000), SessionId(2), 0, b"hi");
    assert_eq!(spares.poll_timeout(), Some(at(8_000)));
    spares.on_write(at(7_000), SessionId(3), 0, b"hi");
    assert_eq!(spares.poll_timeout(), Some(at(9_000)));
    assert_eq!(due(&mut spares, at(8_999)), [[]; 0] as [[u64; 0]; 0]);
    assert_eq!(due(&mut spares, at(9_000)), [[1, 2, 3]]);
}

#[test]
fn writes_of_one_moment_are_not_covered_together() {
    let mut spares = covering(2);
    for session in [1, 2] {
        spares.on_write(at(session), SessionId(session), 0, b"hi");
    }
    for session in [3, 4] {
        spares.on_write(at(1_000 + session), SessionId(session), 0, b"hi");
    }
    assert_eq!(due(&mut spares, at(10_000)), [[1, 3], [2, 4]]);
}

#[test]
fn writes_with_a_packet_between_them_are_covered_together() {
    let mut spares = covering(2);
    for session in 1..=5 {
        spares.on_write(at(0), SessionId(session), 0, &[0; 600]);
    }
    assert_eq!(due(&mut spares, at(2_000)), [[1, 4], [2, 5]]);
    assert_eq!(due(&mut spares, at(8_000)), [[3]]);
}

#[test]
fn what_one_session_writes_on_is_covered_as_one_write() {
    let mut spares = covering(2);
    spares.on_write(at(0), SessionId(1), 0, b"ab");
    spares.on_write(at(100), SessionId(1), 2, b"cd");
    spares.on_write(at(200), SessionId(1), 90, b"beyond a large one");
    let first = Repair::decode(spares.poll_datagram(at(8_000)).unwrap()).unwrap();
    assert_eq!((first.writes().len(), &first.parity()[..]), (1, &b"abcd"[..]));
    assert_eq!(due(&mut spares, at(8_200)), [[1]]);
}

#[test]
fn writes_of_no_size_to_be_covered_are_passed_over() {
    let mut spares = covering(1);
    spares.on_write(at(0), SessionId(1), 0, b"");
    spares.on_write(at(0), SessionId(1), 0, &[0; MAX_WRITE + 1]);
    assert_eq!(spares.poll_timeout(), None);
    spares.on_write(at(0), SessionId(u64::MAX), 0, &[0; MAX_WRITE]);
    assert_eq!(due(&mut spares, at(2_000)), [[u64::MAX]]);
}

#[test]
fn when_nothing_is_covered_any_more_repairs_that_wait_are_dropped_and_copies_are_not() {
    let mut spares = covering(2);
    for session in 1..=3 {
        spares.on_write(at(session * 1_000), SessionId(session), 0, b"hi");
    }
    spares.delay_copy(at(3_000), Bytes::from_static(b"packet"));
    spares.set_policy(Policy::Off);
    spares.on_write(at(3_000), SessionId(4), 0, b"hi");
    assert_eq!(spares.poll_timeout(), Some(at(5_000)));
    assert_eq!(spares.poll_datagram(at(5_000)).unwrap(), "packet");
    assert_eq!(spares.poll_datagram(at(100_000)), None);
    assert_eq!(
        spares.take_spent(),
        Spent {
            copies: 1,
            bytes: 6,
            ..Spent::default()
        }
    );
}

#[test]
fn what_the_budget_does_not_allow_is_dropped_and_counted() {
    let mut spares = covering(1);
    spares.set_budget(4 * (100 + 64));
    let mut sent = 0;
    for tick in 0..100 {
        let now = at(tick * 50_000);
        spares.on_write(now, SessionId(1), tick, &[0; 84]);
        sent += std::iter::from_fn(|| spares.poll_datagram(now)).count() as u64;
    }
    let spent = spares.take_spent();
    assert!((18..=24).contains(&sent), "{sent} in 5 s");
    assert_eq!(
        spent.over_budget + spent.repairs,
        99 + u64::from(spares.poll_timeout().is_none())
    );
}

#[test]
fn what_nobody_fetches_is_bounded() {
    let mut spares = covering(1);
    for write in 0..10_000 {
        spares.on_write(at(write * 1_000), SessionId(write % 7), write, &[0; 500]);
        assert!(spares.delayed.bytes() <= MAX_BYTES);
    }
    assert!(spares.take_spent().crowded_out > 9_000);
    assert!(spares.groups.iter().all(|group| group.draft.is_empty()));
}
