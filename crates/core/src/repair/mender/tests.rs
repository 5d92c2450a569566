#![allow(clippy::unwrap_used)]
use super::*;
use proptest::prelude::*;
use spawnpoint_proto::repair::{Draft, MAX_WRITE};
use std::collections::HashMap;

use super::super::recent;

fn at(millis: u64) -> Time {
    Time::new(Duration::from_millis(millis))
}

fn repair(writes: &[(u64, u64, &[u8])]) -> Bytes {
    let (mut draft, mut out) = (Draft::default(), BytesMut::new());
    for (session, offset, bytes) in writes {
        assert!(draft.try_add(SessionId(*session), *offset, bytes, 1_300));
    }
    draft.encode(&mut out);
    out.freeze()
}

/// A mender with the sessions that it serves.
#[derive(Default)]
struct End {
    mender: Mender,
    taken: HashMap<SessionId, u64>,
}

impl End {
    /// Pays attention already.
    fn new(sessions: &[(u64, u64)]) -> Self {
        let taken = sessions.iter().map(|(session, taken)| (SessionId(*session), *taken));
        let mut end = Self {
            taken: taken.collect(),
            ..Self::default()
        };
        assert_eq!(end.on_repair(0, repair(&[(900, 0, b"x"), (901, 0, b"x")])), None);
        end.mender.waiting.clear();
        end
    }

    fn on_taken(&mut self, now: u64, session: u64, bytes: &[u8]) {
        let taken = self.taken.get_mut(&SessionId(session)).unwrap();
        self.mender.on_taken(at(now), SessionId(session), *taken, bytes);
        *taken += bytes.len() as u64;
    }

    fn on_repair(&mut self, now: u64, datagram: Bytes) -> Option<(u64, u64, Vec<u8>)> {
        let mended = self
            .mender
            .on_repair(at(now), datagram, |id| self.taken.get(&id).copied());
        mended.unwrap().map(plain)
    }

    fn poll(&mut self, now: u64) -> Option<(u64, u64, Vec<u8>)> {
        let mended = self.mender.poll_mended(at(now), |id| self.taken.get(&id).copied());
        mended.map(plain)
    }
}

fn plain(mended: Mended) -> (u64, u64, Vec<u8>) {
    (mended.session.0, mended.offset, mended.bytes.to_vec())
}

#[test]
fn a_copy_gives_back_a_write_that_is_missing_and_no_other() {
    let mut end = End::new(&[(1, 5)]);
    assert_eq!(
        end.on_repair(0, repair(&[(1, 5, b"hello")])),
        Some((1, 5, b"hello".to_vec()))
    );
    end.on_taken(1, 1, b"he");
    assert_eq!(
        end.on_repair(2, repair(&[(1, 5, b"hello")])),
        Some((1, 5, b"hello".to_vec()))
    );
    end.on_taken(3, 1, b"llo");
    assert_eq!(end.on_repair(4, repair(&[(1, 5, b"hello")])), None);
    let outcomes = end.mender.take_outcomes();
    assert_eq!((outcomes.mended, outcomes.needless), (2, 1));
}

#[test]
fn of_several_writes_the_missing_one_comes_from_the_others() {
    let mut end = End::new(&[(1, 0), (2, 0), (3, 0)]);
    end.on_taken(1, 1, b"long enough");
    end.on_taken(1, 3, b"abc");
    let all = repair(&[(1, 0, b"long enough"), (2, 0, b"lost!"), (3, 0, b"abc")]);
    assert_eq!(end.on_repair(2, all), Some((2, 0, b"lost!".to_vec())));
}

#[test]
fn writes_are_put_together_from_whatever_pieces_came() {
    let mut end = End::new(&[(1, 0), (2, 0)]);
    for piece in ["before-f", "ir", "s", "t-after"] {
        end.on_taken(1, 1, piece.as_bytes());
        end.on_taken(1, 2, b"");
    }
    assert_eq!(
        end.on_repair(2, repair(&[(1, 7, b"first"), (2, 0, b"other")])),
        Some((2, 0, b"other".to_vec()))
    );
}

#[test]
fn a_repair_that_lacks_two_waits_for_one_of_them() {
    let mut end = End::new(&[(1, 0), (2, 0)]);
    assert_eq!(end.on_repair(1, repair(&[(1, 0, b"one"), (2, 0, b"two")])), None);
    assert_eq!(end.poll(1), None);
    end.on_taken(2, 2, b"two");
    assert_eq!(end.poll(2), Some((1, 0, b"one".to_vec())));
    assert_eq!(end.poll(2), None);
}

#[test]
fn a_repair_of_a_session_whose_stream_is_late_waits_for_it() {
    let mut end = End::new(&[(1, 0)]);
    assert_eq!(end.on_repair(1, repair(&[(1, 0, b"one"), (2, 0, b"two")])), None);
    end.on_taken(2, 1, b"one");
    assert_eq!(end.poll(2), None);
    end.taken.insert(SessionId(2), 0);
    end.on_taken(3, 1, b"more");
    assert_eq!(end.poll(3), Some((2, 0, b"two".to_vec())));
}

#[test]
fn repairs_wait_neither_long_nor_in_numbers() {
    let mut end = End::new(&[(1, 0), (2, 0)]);
    for _ in 0..100 {
        end.on_repair(1, repair(&[(1, 0, b"one"), (2, 0, b"two")]));
        assert!(end.mender.waiting.len() <= MAX_WAITING);
    }
    assert_eq!(end.mender.take_outcomes().lacking, 100 - MAX_WAITING as u64);
    end.on_taken(202, 1, b"one");
    assert_eq!(end.poll(202), None);
    assert_eq!(end.mender.take_outcomes().lacking, MAX_WAITING as u64);
}

#[test]
fn a_repair_of_what_is_forgotten_gives_nothing_back() {
    let mut end = End::new(&[(1, 0), (2, 0)]);
    end.on_taken(0, 1, b"one");
    end.on_taken(501, 1, b"later");
    assert_eq!(end.on_repair(501, repair(&[(1, 0, b"one"), (2, 0, b"two")])), None);
    assert_eq!(end.mender.take_outcomes().forgotten, 1);
    assert!(end.mender.waiting.is_empty());
}

#[test]
fn a_piece_of_bulk_is_not_kept() {
    let mut end = End::new(&[(1, 0), (2, 0)]);
    end.on_taken(1, 1, &[0; MAX_WRITE + 1]);
    assert_eq!(end.mender.recent_len(), (0, 0));
    assert_eq!(end.on_repair(1, repair(&[(1, 0, b"\0"), (2, 0, b"two")])), None);
    assert_eq!(end.mender.take_outcomes().forgotten, 1);
}

#[test]
fn offsets_are_those_nearest_to_where_the_session_is() {
    let far = 5 << 32;
    for (taken, offset) in [(far - 2, far - 2), (far - 2, far + 100), (far + 2, far - 1)] {
        let mut end = End::new(&[(1, taken)]);
        assert_eq!(
            end.on_repair(0, repair(&[(1, offset, b"hello")])),
            Some((1, offset, b"hello".to_vec()))
        );
    }
    for (taken, offset) in [(3, u64::from(u32::MAX)), (u64::MAX - 3, 1)] {
        let mut end = End::new(&[(1, taken)]);
        assert_eq!(end.on_repair(0, repair(&[(1, offset, b"hello")])), None);
        assert_eq!(end.mender.take_outcomes().wrong, 1);
    }
}

#[test]
fn a_parity_that_does_not_fit_is_noticed_where_the_write_has_ended() {
    let mut end = End::new(&[(1, 0), (2, 0)]);
    end.on_taken(1, 1, b"another");
    assert_eq!(end.on_repair(1, repair(&[(1, 0, b"claimed"), (2, 0, b"two")])), None);
    assert_eq!(end.mender.take_outcomes().wrong, 1);
}

#[test]
fn a_peer_that_sends_no_repairs_of_several_writes_costs_no_memory() {
    let mut end = End::default();
    end.taken.insert(SessionId(1), 0);
    end.on_taken(0, 1, b"one");
    end.on_repair(0, repair(&[(1, 0, b"one")]));
    end.on_taken(1, 1, b"two");
    assert_eq!(end.mender.recent_len(), (0, 0));
    let mut end = End::new(&[(1, 0)]);
    end.on_taken(9_999, 1, b"noted");
    assert_eq!(end.mender.recent_len(), (1, 5));
    end.on_taken(10_000, 1, b"not noted");
    assert_eq!(end.mender.recent_len(), (0, 0));
}

#[test]
fn a_malformed_repair_is_told_by_name() {
    let mut end = End::default();
    let told = end.mender.on_repair(at(0), Bytes::from_static(b"\x40\x00"), |_| None);
    assert_eq!(told, Err(Violation::MalformedRepair));
}

proptest! {
    #[test]
    fn hostile_repairs_never_panic_nor_hold_more_than_the_bounds_allow(
        steps in proptest::collection::vec((0u64..300, 0u64..4, any::<u32>(), 0usize..1300, any::<bool>(), any::<u64>()), 0..300),
    ) {
        let mut end = End::new(&[(0, 0), (1, u64::from(u32::MAX)), (2, u64::MAX / 2)]);
        let mut now = 0;
        for (step, session, offset, length, is_taken, far) in steps {
            now += step * step / 300;
            let bytes = vec![length as u8; length];
            if is_taken && end.taken.contains_key(&SessionId(session)) {
                end.on_taken(now, session, &bytes);
            } else {
                let mut draft = Draft::default();
                let near = end.taken.get(&SessionId(session)).map_or(0, |taken| taken.wrapping_sub(u64::from(offset % 3000)));
                draft.try_add(SessionId(session), near, &bytes[..length.min(MAX_WRITE)], 2_000);
                draft.try_add(SessionId(session ^ 1), far, b"far", 2_000);
                draft.try_add(SessionId(far), far, b"unknown", 2_000);
                let mut out = BytesMut::new();
                draft.encode(&mut out);
                if let Some((_, _, bytes)) = end.on_repair(now, out.freeze()) {
                    prop_assert!(bytes.len() <= MAX_WRITE);
                }
            }
            end.poll(now);
            let (pieces, bytes) = end.mender.recent_len();
            prop_assert!(pieces <= recent::MAX_PIECES && bytes <= recent::MAX_BYTES);
            prop_assert!(end.mender.waiting.len() <= MAX_WAITING);
        }
    }
}
