//! The relay's ceiling of memory: beyond it nobody new is let in, and those who are in go on.
//!
//! What is measured is what the process has resident. The allocator gives memory back late or never, so the relay takes somebody all the time: nine tenths of the players that it
//! has when the ceiling is reached, who fit into what it has, until it is well below again.

use std::sync::Arc;
use std::time::Duration;

use spawnpoint_net::{memory_in_use, memory_of_machine};

use crate::context::Context;

/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The share of the machine's memory that a relay takes unless told otherwise, in per cent.
const SHARE: u64 = 80;

/// Players who may be in whatever is used: at a quiet hour it is not they who use it, and a relay that takes nobody would never see that.
const LEAST: u32 = 16;

/// Looks after it, as long as it is polled.
pub(crate) async fn keep(context: Arc<Context>) {
    let machine = memory_of_machine().map(|bytes| bytes / 100 * SHARE);
    let mut pace = tokio::time::interval(LOOK_EVERY);
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut config = context.config_changes();
    let mut ceiling = Ceiling::default();
    loop {
        tokio::select! {
            _ = pace.tick() => {}
            Ok(()) = config.changed() => {}
        }
        let limit = context.config().memory_limit.or(machine).unwrap_or(u64::MAX);
        let used = memory_in_use().unwrap_or(0);
        context.metrics.set_memory(used, limit);
        let (players, before) = (context.players.active(), ceiling.players);
        ceiling.look(used, limit, players);
        if ceiling.players != before {
            context.players.set_ceiling(ceiling.players);
            match ceiling.players {
                Some(most) => tracing::warn!(
                    used,
                    limit,
                    players,
                    most,
                    "the memory limit is reached: no new players while there are that many"
                ),
                None => tracing::info!(used, limit, "below the memory limit again"),
            }
        }
    }
}

/// How many players the memory allows.
#[derive(Debug, Default)]
struct Ceiling {
    players: Option<u32>,
    /// What was used when that was found.
    used: u64,
}

impl Ceiling {
    fn look(&mut self, used: u64, limit: u64, players: u32) {
        let fits = ((u64::from(players) * 9 / 10) as u32).max(LEAST);
        match self.players {
            None if used >= limit => (self.players, self.used) = (Some(fits), used),
            Some(_) if used < limit / 10 * 9 => self.players = None,
            // It still grows: those who are in need more.
            Some(most) if used > self.used + limit / 20 => (self.players, self.used) = (Some(most.min(fits)), used),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ceiling_comes_down_with_use_and_goes_when_there_is_room() {
        let mut ceiling = Ceiling::default();
        ceiling.look(999, 1_000, 500);
        assert_eq!(ceiling.players, None);
        ceiling.look(1_000, 1_000, 500);
        assert_eq!(ceiling.players, Some(450));
        // Those who leave make room although the allocator keeps the memory.
        ceiling.look(1_000, 1_000, 100);
        assert_eq!(ceiling.players, Some(450));
        ceiling.look(1_060, 1_000, 400);
        assert_eq!(ceiling.players, Some(360));
        ceiling.look(950, 1_000, 400);
        assert_eq!(ceiling.players, Some(360));
        ceiling.look(899, 1_000, 400);
        assert_eq!(ceiling.players, None);
    }

    #[test]
    fn a_relay_that_is_nearly_empty_never_takes_nobody() {
        let mut ceiling = Ceiling::default();
        ceiling.look(1_000, 1_000, 1);
        assert_eq!(ceiling.players, Some(LEAST));
    }
}
