//! The `[links]` keys that relay and agent share: how a connection between them is kept alive and how much it may have in flight.

use std::time::Duration;

use crate::document::Section;

pub use spawnpoint_core::tuning::{Congestion, Line, Tuning as Transport};

const CONGESTIONS: [Congestion; 3] = [Congestion::Spawnpoint, Congestion::Bbr, Congestion::Cubic];

/// Reads the keys of a link's transport.
pub(crate) fn read(links: &mut Section<'_, '_>) -> Transport {
    const MS: fn(u64) -> Duration = Duration::from_millis;
    let default = Transport::default();
    let keep_alive = links.duration("keep_alive", default.keep_alive, MS(100)..=MS(60_000));
    let quiet = default.quiet_keep_alive.max(keep_alive);
    let read = Transport {
        keep_alive,
        quiet_keep_alive: links.duration("quiet_keep_alive", quiet, MS(100)..=MS(600_000)),
        idle_timeout: links.duration("idle_timeout", default.idle_timeout, MS(500)..=MS(300_000)),
        stream_window: links.size("stream_window", default.stream_window, 64 << 10..=16 << 20),
        repair: links.flag("repair", default.repair),
        congestion: links.word("congestion", default.congestion, &CONGESTIONS, Congestion::as_str),
    };
    if read.quiet_keep_alive < read.keep_alive {
        links.mistake(
            "quiet_keep_alive",
            &format!(
                "`links.quiet_keep_alive` ({}) must not be shorter than `links.keep_alive` ({}): it is for when nobody plays",
                crate::unit::show_duration(read.quiet_keep_alive),
                crate::unit::show_duration(read.keep_alive),
            ),
        );
    }
    if read.keep_alive * 2 > read.idle_timeout {
        let key = if links.has("keep_alive") {
            "keep_alive"
        } else {
            "idle_timeout"
        };
        links.mistake(
                key,
                &format!(
                    "`links.keep_alive` ({}) must be at most half of `links.idle_timeout` ({}), or one lost packet ends the connection",
                    crate::unit::show_duration(read.keep_alive),
                    crate::unit::show_duration(read.idle_timeout),
                ),
            );
    }
    read
}
