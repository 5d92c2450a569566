//! What a crowd tells.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::tape::{Kind, Notes, Tape};

/// A pause that begins this long after an event is another's. Longer than any outage that this side of the event should still be felt.
pub const OVERLAP: Duration = Duration::from_secs(10);

/// Everybody's notes, with pauses since the mark.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// One for each player.
    pub players: Vec<Player>,
    /// UDP flows that came to the server from another address than before.
    pub moved: Vec<String>,
}

/// One player's notes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Player {
    /// Who it is.
    pub id: u64,
    /// What it is.
    pub kind: Kind,
    /// What adds up.
    pub notes: Notes,
    /// From the mark to the first arrival after it; none while there was none.
    pub back: Option<Duration>,
    /// The longest pause that overlaps the time from the mark to [`OVERLAP`] later.
    pub pause: Duration,
}

/// Median and worst of everybody who is still in; none where somebody waits without end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Spread {
    /// Half of the players have less.
    pub median: Option<Duration>,
    /// Nobody has more.
    pub worst: Option<Duration>,
}

impl Player {
    /// What `tape` says now.
    pub fn of(tape: &Tape) -> Self {
        Self {
            id: tape.id,
            kind: tape.kind,
            notes: tape.notes(),
            back: tape.back_after(),
            pause: tape.longest_pause(OVERLAP),
        }
    }

    const fn is_in(&self) -> bool {
        self.notes.disconnect.is_none()
    }
}

impl Report {
    /// Why players were cut off, one sentence each.
    pub fn disconnects(&self) -> Vec<&str> {
        let each = self.players.iter();
        each.filter_map(|player| player.notes.disconnect.as_deref()).collect()
    }

    /// How many bytes were wrong, missing or too many.
    pub fn wrong(&self) -> u64 {
        self.players.iter().map(|player| player.notes.wrong).sum()
    }

    /// What was wrong, in sentences.
    pub fn faults(&self) -> Vec<&str> {
        let each = self.players.iter();
        each.flat_map(|player| player.notes.faults.iter().map(String::as_str))
            .collect()
    }

    /// How long after the mark players heard something again.
    pub fn back(&self) -> Spread {
        self.spread(|player| player.back)
    }

    /// How long they heard nothing around the mark.
    pub fn pause(&self) -> Spread {
        self.spread(|player| Some(player.pause))
    }

    /// UDP packets that were sent and that were answered.
    pub fn packets(&self) -> (u64, u64) {
        let flows = self.players.iter().filter(|player| player.kind == Kind::Flow);
        flows.fold((0, 0), |(sent, answered), player| {
            (sent + player.notes.sent, answered + player.notes.received)
        })
    }

    /// Bytes that were downloaded.
    pub fn downloaded(&self) -> u64 {
        let bulks = self.players.iter().filter(|player| player.kind == Kind::Bulk);
        bulks.map(|player| player.notes.received).sum()
    }

    /// TCP players who are in.
    pub fn streams_in(&self) -> usize {
        let each = self.players.iter();
        each.filter(|player| player.kind != Kind::Flow && player.is_in())
            .count()
    }

    fn spread(&self, of: impl Fn(&Player) -> Option<Duration>) -> Spread {
        let players = self.players.iter().filter(|player| player.is_in());
        let mut all: Vec<Duration> = players.map(|player| of(player).unwrap_or(Duration::MAX)).collect();
        all.sort_unstable();
        let at = |index: usize| all.get(index).copied().filter(|time| *time < Duration::MAX);
        Spread {
            median: at(all.len() / 2),
            worst: at(all.len().saturating_sub(1)),
        }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} / {}", show(self.median), show(self.worst))
    }
}

/// A pause for people.
pub fn show(pause: Option<Duration>) -> String {
    pause.map_or_else(|| "never".to_owned(), |pause| format!("{} ms", pause.as_millis()))
}
