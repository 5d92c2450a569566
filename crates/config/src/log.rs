//! The `[log]` keys that relay and agent share.

use crate::document::Document;

/// How log lines look.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Human,
    /// One JSON object a line, for collectors.
    Json,
}

impl LogFormat {
    /// Every format.
    pub const ALL: [Self; 2] = [Self::Human, Self::Json];

    /// The word used in configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Human => "human",
            Self::Json => "json",
        }
    }
}

/// What is logged, and how.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Log {
    /// How lines look.
    pub format: LogFormat,
    /// A level, or levels by module, as `tracing_subscriber::EnvFilter` reads them: `info`, `info,spawnpoint_net=debug`.
    pub filter: String,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            format: LogFormat::default(),
            filter: "info".to_owned(),
        }
    }
}

impl Log {
    pub(crate) fn read(document: &mut Document<'_>) -> Self {
        let mut log = document.section("log");
        let default = Self::default();
        let format = log.word("format", default.format, &LogFormat::ALL, LogFormat::as_str);
        let rule =
            "a level (error, warn, info, debug, trace, off) or levels by module such as \"info,spawnpoint_net=debug\"";
        let filter = log.text("filter", Some("\"info\""), rule, |text| {
            match text.split(',').all(is_directive) {
                true => Ok(text.to_owned()),
                false => Err(String::new()),
            }
        });
        Self {
            format,
            filter: filter.unwrap_or(default.filter),
        }
    }
}

/// Whether `part` ends in a level. Spans and fields may stand before it in ways that only the subscriber knows, so nothing else is checked here.
fn is_directive(part: &str) -> bool {
    let level = part.rsplit('=').next().unwrap_or(part).trim();
    ["error", "warn", "info", "debug", "trace", "off"]
        .iter()
        .any(|known| level.eq_ignore_ascii_case(known))
}
