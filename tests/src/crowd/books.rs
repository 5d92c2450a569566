//! What the game server knows, and whether its players tell the same.

use serde::{Deserialize, Serialize};

use super::report::Report;
use super::tape::{Kind, Notes, Tape};

/// The server's side of all players.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Books {
    /// One for each conversation, in the order of arrival.
    pub entries: Vec<Entry>,
}

/// The server's side of one player.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// Who it is.
    pub id: u64,
    /// What the server counted.
    pub notes: Notes,
    /// UDP: each change of the address it came from.
    pub moved: Vec<String>,
}

impl Entry {
    /// The entry of a TCP player.
    pub fn stream(tape: &Tape) -> Self {
        Self {
            id: tape.id,
            notes: tape.notes(),
            moved: Vec::new(),
        }
    }
}

impl Books {
    /// How many times a flow's address changed.
    pub fn changed_mappings(&self) -> usize {
        self.entries.iter().map(|entry| entry.moved.len()).sum()
    }

    fn of(&self, id: u64) -> Option<&Entry> {
        // A player has one conversation.
        self.entries.iter().find(|entry| entry.id == id)
    }
}

/// Adds what the server saw to the players' report after a tidy end: its wrong bytes, its broken connections, changed mappings, and every byte that one
/// side sent and the other does not have. All content was checked where it arrived, so equal totals are equal streams.
pub fn compare(report: &mut Report, books: &Books) {
    for player in &mut report.players {
        let Some(entry) = books.of(player.id) else {
            let text = format!("{:?} {}: the server never met it", player.kind, player.id);
            player.notes.disconnect.get_or_insert(text);
            continue;
        };
        let (theirs, ours) = (&entry.notes, &mut player.notes);
        ours.wrong += theirs.wrong;
        ours.faults
            .extend(theirs.faults.iter().map(|fault| format!("at the server: {fault}")));
        report.moved.extend(entry.moved.iter().cloned());
        if player.kind == Kind::Flow || ours.disconnect.is_some() {
            continue;
        }
        if let Some(text) = &theirs.disconnect {
            ours.disconnect = Some(format!("at the server: {text}"));
        }
        for (way, sent, received) in [("up", ours.sent, theirs.received), ("down", theirs.sent, ours.received)] {
            if sent != received {
                ours.wrong += sent.abs_diff(received);
                let text = format!("{:?} {}: {received} of {sent} bytes {way}", player.kind, player.id);
                ours.faults.push(text);
            }
        }
    }
}
