//! Who goes first: what a session sends is the more urgent the less it has sent lately.
//!
//! All sessions of a link share one line. A player in a world sends and gets some ten kilobytes a second; one who loads a map takes what there is. So
//! each session has an appetite, the bytes of its last second or two, and by it a class. Within a class sessions take turns. Nothing is asked for or
//! configured: whoever stops loading is in the first class again after a few seconds.

use std::time::Duration;

use spawnpoint_proto::Time;

/// After this long, half of what was sent is forgotten.
const HALF_LIFE: Duration = Duration::from_secs(1);

/// Bytes of the last second or two up to which a session is [`Urgency::Interactive`]: a busy world's chunks for one player, some 60 kB a second.
const INTERACTIVE: f32 = 96.0 * 1024.0;

/// Bytes of the last second or two up to which a session is [`Urgency::Busy`]: somebody who joins, and loads the world around.
const BUSY: f32 = 1536.0 * 1024.0;

/// A class of sessions; the later ones wait for the earlier ones.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Urgency {
    /// Plays.
    #[default]
    Interactive,
    /// Loads for a moment.
    Busy,
    /// Loads for long.
    Bulk,
}

/// What a session has sent lately.
#[derive(Clone, Copy, Debug, Default)]
pub struct Appetite {
    bytes: f32,
    at: Time,
}

impl Appetite {
    /// Adds `bytes`, and says how urgent they are.
    pub fn on_sent(&mut self, now: Time, bytes: usize) -> Urgency {
        let lives = now.since(self.at).as_secs_f32() / HALF_LIFE.as_secs_f32();
        self.bytes = self.bytes * (-lives).exp2() + bytes as f32;
        self.at = now;
        match self.bytes {
            ..=INTERACTIVE => Urgency::Interactive,
            ..=BUSY => Urgency::Busy,
            _ => Urgency::Bulk,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(bytes_a_second: usize, seconds: u64) -> (Appetite, Urgency) {
        let (mut appetite, mut urgency) = (Appetite::default(), Urgency::default());
        for tick in 0..20 * seconds {
            urgency = appetite.on_sent(Time::new(Duration::from_millis(50 * tick)), bytes_a_second / 20);
        }
        (appetite, urgency)
    }

    #[test]
    fn a_player_in_a_world_is_never_anything_but_interactive() {
        assert_eq!(after(50_000, 600).1, Urgency::Interactive);
    }

    #[test]
    fn a_download_goes_last_within_a_second_and_a_player_again_soon_after() {
        assert_eq!(after(4_000_000, 1).1, Urgency::Bulk);
        let (mut appetite, urgency) = after(1_250_000, 60);
        assert_eq!(urgency, Urgency::Bulk, "a 10 Mbit/s line");
        assert_eq!(
            appetite.on_sent(Time::new(Duration::from_secs(66)), 100),
            Urgency::Interactive
        );
    }

    #[test]
    fn a_world_that_loads_for_a_player_who_joins_is_busy() {
        let mut appetite = Appetite::default();
        assert_eq!(appetite.on_sent(Time::ZERO, 1024 * 1024), Urgency::Busy);
    }
}
