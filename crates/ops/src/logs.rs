//! Logs: for people on a terminal, as JSON on request.
//!
//! They are written by a thread of their own: a terminal that somebody holds (Ctrl-S), or a pipe that nobody reads, must not hold up players. Lines that
//! find no room until then are lost and counted, and the log says so itself once it is read again.

use std::io::{self, BufWriter, IsTerminal, Write};
use std::sync::{Arc, OnceLock};

use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

/// Lines that may wait for whoever reads standard error.
const LINES: usize = 8192;

/// Lost lines of this process.
static LOST: OnceLock<ErrorCounter> = OnceLock::new();

/// How log lines look.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Human,
    /// One JSON object a line.
    Json,
}

/// The logs of this process; dropping it writes what is left, unless nobody reads any more.
#[must_use = "what is written after it is dropped may be lost"]
#[derive(Debug)]
pub struct Logs(#[expect(dead_code, reason = "for its drop")] WorkerGuard);

/// Sends logs to standard error.
///
/// # Errors
/// A sentence about `filter` when it is not a filter, or when logs were set up before.
pub fn init_logs(format: LogFormat, filter: &str) -> Result<Logs, String> {
    let filter = EnvFilter::builder().parse(filter).map_err(|error| {
        format!("`{filter}` is no log filter ({error}): write for example info or spawnpoint_relay=debug")
    })?;
    let lost = Arc::new(OnceLock::new());
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(LINES)
        .lossy(true)
        .thread_name("logs")
        .finish(Honest::new(io::stderr(), format, lost.clone()));
    let counter = lost.get_or_init(|| writer.error_counter());
    LOST.get_or_init(|| counter.clone());
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        .with_target(false);
    match format {
        LogFormat::Human => logs.with_ansi(io::stderr().is_terminal()).try_init(),
        LogFormat::Json => logs.json().with_target(true).with_ansi(false).try_init(),
    }
    .map_err(|error| format!("cannot set up logs: {error}"))?;
    Ok(Logs(guard))
}

/// Lines of the log of this process that found no room.
pub fn lines_lost() -> u64 {
    LOST.get().map_or(0, |lost| lost.dropped_lines() as u64)
}

/// Writes lines together, and after them how many are missing.
struct Honest<W: Write> {
    out: BufWriter<W>,
    format: LogFormat,
    lost: Arc<OnceLock<ErrorCounter>>,
    /// Lost lines that the log has owned up to.
    told: usize,
}

impl<W: Write> Honest<W> {
    fn new(out: W, format: LogFormat, lost: Arc<OnceLock<ErrorCounter>>) -> Self {
        Self {
            out: BufWriter::new(out),
            format,
            lost,
            told: 0,
        }
    }

    fn tell(&mut self, lost: usize) -> io::Result<()> {
        let text = format!("{lost} lines of this log are lost: whoever reads standard error was too slow");
        match self.format {
            LogFormat::Human => writeln!(self.out, "{text}"),
            LogFormat::Json => writeln!(
                self.out,
                "{}",
                serde_json::json!({"level": "WARN", "fields": {"message": text, "lost": lost}})
            ),
        }
    }
}

impl<W: Write> Write for Honest<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()?;
        let lost = self.lost.get().map_or(0, ErrorCounter::dropped_lines);
        if lost > self.told {
            self.tell(lost - self.told)?;
            self.told = lost;
            self.out.flush()?;
        }
        Ok(())
    }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    use super::*;

    /// A terminal that takes nothing until it is let go.
    struct Held {
        go: Option<Receiver<()>>,
        shown: SyncSender<Vec<u8>>,
    }

    impl Write for Held {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if let Some(go) = self.go.take() {
                let _ = go.recv();
            }
            let _ = self.shown.send(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_held_terminal_holds_up_nobody_and_is_told_later_what_it_missed() {
        let ((release, go), (shown, seen)) = (sync_channel(1), sync_channel(100_000));
        let lost = Arc::new(OnceLock::new());
        let held = Held { go: Some(go), shown };
        let (mut writer, guard) = NonBlockingBuilder::default()
            .buffered_lines_limit(10)
            .lossy(true)
            .finish(Honest::new(held, LogFormat::Human, lost.clone()));
        let counter = lost.get_or_init(|| writer.error_counter()).clone();
        // More than what waits and what the writer may have taken out already: this loop ends though nothing is read.
        while counter.dropped_lines() < 7 {
            writer.write_all(b"a player has come\n").unwrap();
        }
        release.send(()).unwrap();
        drop((writer, guard));
        let text = String::from_utf8(seen.iter().flatten().collect()).unwrap();
        assert!(text.starts_with("a player has come\n"), "{text}");
        assert!(text.contains("7 lines of this log are lost"), "{text}");
    }
}
