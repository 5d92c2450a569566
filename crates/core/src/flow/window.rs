//! The numbers under which packets were delivered lately.
//!
//! As the window of IPsec against replay, with two differences. Nobody is kept out here: a peer that repeats a packet on purpose could as well send
//! another. And a peer may begin to count anew, when its process gave way to another, so a number far from the others is taken for that rather than
//! refused for ever; so is any number once nothing was delivered for a while.

use spawnpoint_proto::Time;
use spawnpoint_proto::fragment::MAX_AGE;

/// Numbers that are told apart, back from the newest.
const WIDTH: u16 = u64::BITS as u16;

/// A number this far behind the newest belongs to a packet that is late; one even further to another count.
const LATE: u16 = 1024;

/// The last numbers of one direction of one flow.
#[derive(Debug, Default)]
pub(super) struct Window {
    newest: u16,
    /// Bit n is for the number n before the newest; there is none yet when no bit is set.
    seen: u64,
    /// When a packet was delivered last.
    last: Time,
}

/// Where a number lies.
enum Place {
    /// So far ahead of the newest.
    Ahead(u16),
    /// So far behind the newest, or the newest itself.
    Behind(u16),
    /// In another count.
    Elsewhere,
}

impl Window {
    /// Whether no packet was delivered under this number. Of one that has left the window nobody knows, so it counts as delivered.
    pub fn is_new(&self, now: Time, number: u16) -> bool {
        match self.place(now, number) {
            Place::Ahead(_) | Place::Elsewhere => true,
            Place::Behind(behind) => behind < WIDTH && self.seen >> behind & 1 == 0,
        }
    }

    /// Notes that a packet was delivered under this number.
    pub fn insert(&mut self, now: Time, number: u16) {
        match self.place(now, number) {
            Place::Ahead(ahead) => {
                self.seen = self.seen.checked_shl(ahead.into()).unwrap_or(0) | 1;
                self.newest = number;
            }
            Place::Behind(behind) => self.seen |= 1u64.checked_shl(behind.into()).unwrap_or(0),
            Place::Elsewhere => (self.newest, self.seen) = (number, 1),
        }
        self.last = now;
    }

    fn place(&self, now: Time, number: u16) -> Place {
        if self.seen == 0 || now.since(self.last) >= MAX_AGE {
            return Place::Elsewhere;
        }
        // The numbers wrap around: half of them are ahead, half behind.
        match (number.wrapping_sub(self.newest), self.newest.wrapping_sub(number)) {
            (ahead @ 1..0x8000, _) => Place::Ahead(ahead),
            (_, behind @ ..=LATE) => Place::Behind(behind),
            _ => Place::Elsewhere,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;
    use std::time::Duration;

    fn at(millis: u64) -> Time {
        Time::new(Duration::from_millis(millis))
    }

    fn take(window: &mut Window, now: u64, number: u16) -> bool {
        let is_new = window.is_new(at(now), number);
        if is_new {
            window.insert(at(now), number);
        }
        is_new
    }

    #[test]
    fn each_number_is_new_once_across_the_wrap_around() {
        let mut window = Window::default();
        for number in (65_500..=u16::MAX).chain(0..100) {
            assert!(take(&mut window, 0, number), "{number}");
            assert!(!take(&mut window, 2, number), "{number}");
            assert!(!take(&mut window, 2, number.wrapping_sub(1)) || number == 65_500);
        }
    }

    #[test]
    fn a_late_number_is_new_within_the_window_and_dropped_behind_it() {
        let mut window = Window::default();
        take(&mut window, 0, 0);
        take(&mut window, 0, 2000);
        for (number, is_new) in [
            (1999, true),
            (1999, false),
            (1937, true),
            (1937, false),
            (1936, false),
            (976, false),
        ] {
            assert_eq!(take(&mut window, 0, number), is_new, "{number}");
        }
        assert!(!take(&mut window, 0, 2000));
    }

    #[test]
    fn a_peer_that_counts_anew_is_heard_at_once_where_that_is_clear_and_after_a_while_where_not() {
        let mut window = Window::default();
        take(&mut window, 0, 40_000);
        assert!(take(&mut window, 1, 1));
        assert!(!take(&mut window, 1, 1));
        let mut window = Window::default();
        (1..=100).for_each(|number| assert!(take(&mut window, 0, number)));
        assert!(!take(&mut window, 1_999, 1));
        assert!(take(&mut window, 2_000, 1));
        assert!(!take(&mut window, 2_000, 1));
        assert!(take(&mut window, 2_000, 2));
    }

    proptest! {
        #[test]
        fn with_every_packet_sent_twice_and_some_overtaken_each_is_delivered_once(start: u16, delays in proptest::collection::vec((0u64..30, 2u64..32), 1..2000)) {
            let mut arrivals = Vec::new();
            for (at, (first, second)) in delays.iter().enumerate() {
                let number = start.wrapping_add(at as u16);
                arrivals.push((at as u64 + first, number));
                arrivals.push((at as u64 + second, number));
            }
            arrivals.sort_by_key(|(arrival, _)| *arrival);
            let (mut window, mut delivered) = (Window::default(), HashSet::new());
            for (now, number) in arrivals {
                if take(&mut window, now, number) {
                    prop_assert!(delivered.insert(number));
                }
            }
            prop_assert_eq!(delivered.len(), delays.len());
        }
    }
}
