//! How a game server is started when somebody joins, and stopped when nobody is there.

use std::time::Duration;

use crate::document::Section;

/// How a game server is started and stopped on demand.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wake {
    /// The command that starts it, word by word; run when somebody joins and the server does not answer.
    pub on_join: Vec<String>,
    /// The command that stops it; empty when nothing does.
    pub on_idle: Vec<String>,
    /// After how long without players it is stopped.
    pub idle_after: Duration,
    /// How long it may take to start.
    pub start_timeout: Duration,
}

impl Wake {
    pub(super) fn read(section: &mut Section<'_, '_>) -> Option<Self> {
        const MINUTES: fn(u64) -> Duration = |minutes| Duration::from_secs(minutes * 60);
        let rule = "a program and its arguments, such as [\"systemctl\", \"start\", \"minecraft\"]";
        let mut command = |key: &str| {
            let words = section.list(key, rule, |word| Ok(word.to_owned()))?;
            if words.first().is_none_or(String::is_empty) {
                let text = format!("`tunnel.{key}` names no program: write {rule}, or leave it out");
                section.mistake(key, &text);
                return None;
            }
            Some(words)
        };
        let (on_join, on_idle) = (command("on_join"), command("on_idle"));
        let idle_after = section.duration("idle_after", MINUTES(10), Duration::from_secs(10)..=MINUTES(1440));
        let start_timeout = section.duration("start_timeout", MINUTES(3), Duration::from_secs(1)..=MINUTES(60));
        for key in ["on_idle", "idle_after", "start_timeout"] {
            if section.has(key) && !section.has("on_join") {
                let text = format!("`tunnel.{key}` needs `tunnel.on_join`, the command that starts the server again");
                section.mistake(key, &text);
            }
        }
        Some(Self {
            on_join: on_join?,
            on_idle: on_idle.unwrap_or_default(),
            idle_after,
            start_timeout,
        })
    }
}
