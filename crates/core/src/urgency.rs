//! Who goes first: what a session sends is the more urgent the less it has sent lately.
//!
//! All sessions of a link share one line. A player in a world sends and gets some ten kilobytes a second; one who loads a map takes what there is. So
//! each session has an appetite, the bytes of its last second or two, and by it a class. Within a class sessions take turns. Nothing is asked for or
//! configured: whoever stops loading is in the first class again after a few seconds.

use std::time::Duration;

use spawnpoint_proto::{SessionId, Time};

/// After this long, half of what was sent is forgotten.
const HALF_LIFE: Duration = Duration::from_secs(1);

/// Bytes of the last second or two up to which a session is [`Urgency::Interactive`]: a busy world's chunks for one player, some 60 kB a second.
const INTERACTIVE: f32 = 96.0 * 1024.0;

/// Bytes of the last second or two up to which a session is [`Urgency::Busy`]: somebody who joins, and loads the world around.
const BUSY: f32 = 1536.0 * 1024.0;

/// Who has not said anything for so long, three ticks of a game, does not play right now.
const PLAYS: Duration = Duration::from_millis(150);

/// Bytes a second that downloads take together beside players: 1.6 Gbit/s, which few homes have.
const BESIDE_PLAYERS: f64 = 200e6;

/// What downloads have not used for so long is not made up for.
const SLACK: Duration = Duration::from_millis(4);

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

/// Who plays on a link, and what that leaves to those who load.
///
/// Where the line is faster than the machine it is the processor that all share, and a download that keeps it busy is felt in everybody's game. So beside
/// players downloads take no more than a very fast line would; without them, all there is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Players {
    /// Two of them, so that there is another than whoever asks, and when they played last; no session is whoever plays in packets.
    seen: [Option<(Option<SessionId>, Time)>; 2],
    /// When what was loaded beside them has had its time.
    free_at: Time,
}

impl Players {
    /// A session has sent something as one who plays, or a player a packet.
    pub fn on_played(&mut self, now: Time, session: Option<SessionId>) {
        match &mut self.seen {
            [Some((known, at)), _] if *known == session => *at = now,
            [first, second] => (*first, *second) = (Some((session, now)), *first),
        }
    }

    /// A session that loads has sent `bytes`; returns how long it waits before it sends more.
    pub fn on_loaded(&mut self, now: Time, session: SessionId, bytes: usize) -> Option<Duration> {
        let plays = |(other, at): &(Option<SessionId>, Time)| *other != Some(session) && now.since(*at) < PLAYS;
        if !self.seen.iter().flatten().any(plays) {
            return None;
        }
        let costs = Duration::from_secs_f64(bytes as f64 / BESIDE_PLAYERS);
        self.free_at = self.free_at.max(now - SLACK) + costs;
        Some(self.free_at.since(now)).filter(|wait| !wait.is_zero())
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

    /// What sessions 1 and 2 load in a second, in turns of 128 KiB whose pauses last a whole millisecond at least, while `player` sends twenty times.
    fn loaded(player: u64) -> f64 {
        const TURN: usize = 128 * 1024;
        let (mut players, mut bytes) = (Players::default(), 0);
        let mut due = [Time::new(Duration::from_secs(5)); 2];
        for step in 0..10_000u32 {
            let now = Time::new(Duration::from_secs(5) + Duration::from_micros(100) * step);
            if step % 500 == 0 {
                players.on_played(now, Some(SessionId(player)));
            }
            for (id, due) in [1, 2].into_iter().zip(&mut due) {
                if now >= *due {
                    bytes += TURN;
                    let pause = players.on_loaded(now, SessionId(id), TURN);
                    *due = now + pause.map_or(Duration::ZERO, |pause| pause.max(Duration::from_millis(1)));
                }
            }
        }
        bytes as f64
    }

    #[test]
    fn beside_a_player_downloads_share_what_a_very_fast_line_takes() {
        let beside = loaded(3);
        assert!((0.95..1.05).contains(&(beside / BESIDE_PLAYERS)), "{beside}");
    }

    #[test]
    fn a_download_is_not_held_up_by_its_own_first_words() {
        let mut players = Players::default();
        let now = Time::new(Duration::from_secs(5));
        players.on_played(now, Some(SessionId(1)));
        assert_eq!(players.on_loaded(now, SessionId(1), 1 << 20), None);
        players.on_played(now, Some(SessionId(2)));
        players.on_played(now, Some(SessionId(1)));
        assert!(players.on_loaded(now, SessionId(1), 1 << 20).is_some());
    }

    #[test]
    fn nobody_waits_for_players_who_have_left() {
        let mut players = Players::default();
        let now = Time::new(Duration::from_secs(5));
        players.on_played(now, None);
        assert!(players.on_loaded(now, SessionId(1), 1 << 20).is_some());
        let later = now + Duration::from_millis(200);
        assert_eq!(players.on_loaded(later, SessionId(1), 1 << 20), None);
    }
}
