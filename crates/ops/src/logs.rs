//! Logs: for people on a terminal, as JSON on request.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Human,
    /// One JSON object a line.
    Json,
}

/// Sends logs to standard error.
///
/// # Errors
/// A sentence about `filter` when it is not a filter, or when logs were set up before.
pub fn init_logs(format: LogFormat, filter: &str) -> Result<(), String> {
    let filter = EnvFilter::builder().parse(filter).map_err(|error| {
        format!("`{filter}` is no log filter ({error}): write for example info or spawnpoint_relay=debug")
    })?;
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_target(false);
    match format {
        LogFormat::Human => logs.with_ansi(io::stderr().is_terminal()).try_init(),
        LogFormat::Json => logs.json().with_target(true).try_init(),
    }
    .map_err(|error| format!("cannot set up logs: {error}"))
}

/// An error with its causes, in one line.
pub fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
