//! What a host itself says of the players of one of its tunnels; the relay sees to it, within what its operator grants.

use std::ops::RangeInclusive;

use spawnpoint_core::access::{Lists, parse_prefix};
use spawnpoint_proto::control::MAX_PREFIXES;

use crate::document::Section;

/// Speeds that can be asked for, in bytes a second: from 64 kbit/s to 100 Gbit/s.
const SPEED: RangeInclusive<u64> = 8_000..=12_500_000_000;

/// Who may come to a tunnel, how many, and how fast; nothing is limited by default.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Limits {
    /// From where players may come, and from where not.
    pub lists: Lists,
    /// How many at once.
    pub players: Option<u32>,
    /// Bytes a second from all of them together.
    pub up: Option<u64>,
    /// Bytes a second to all of them together.
    pub down: Option<u64>,
}

impl Limits {
    /// Whether nothing is limited.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub(super) fn read(section: &mut Section<'_, '_>) -> Self {
        const PREFIXES: &str = "addresses and prefixes such as [\"203.0.113.7\", \"2001:db8::/32\"]";
        let mut prefixes = |key: &str| {
            let list = section.list(key, PREFIXES, parse_prefix).unwrap_or_default();
            if list.len() > MAX_PREFIXES {
                let text = format!("`tunnel.{key}` has {} prefixes and may have {MAX_PREFIXES}", list.len());
                section.mistake(key, &text);
            }
            list
        };
        let lists = Lists {
            allow: prefixes("allow"),
            deny: prefixes("deny"),
        };
        Self {
            lists,
            players: section.optional_count("max_players", 1..=1_000_000),
            up: section.speed("up", SPEED),
            down: section.speed("down", SPEED),
        }
    }
}
