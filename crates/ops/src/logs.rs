//! Logs: for people on a terminal, as JSON on request.
//!
//! They are written by a thread of their own: a terminal that somebody holds (Ctrl-S), or a pipe that nobody reads, must not hold up players, nor the end of
//! the process. Lines that find no room until then are lost and counted, and the log says so itself once it is read again.

use std::io::{self, BufWriter, IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use tracing_subscriber::EnvFilter;

/// Lines that may wait for whoever reads standard error.
const LINES: usize = 8192;

/// Bytes of whole lines that are written together: as much as a pipe takes in one piece, so that the lines of two processes do not mix.
const TOGETHER: usize = 4096;

/// Lines that come within this of others are written together.
const GATHER: Duration = Duration::from_millis(2);

/// A reader of standard error who takes longer than this for the last lines does not read any more.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Lines of this process, which has one log, that found no room.
static LOST: AtomicU64 = AtomicU64::new(0);

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
pub struct Logs {
    lines: SyncSender<Option<Vec<u8>>>,
    written: Receiver<()>,
}

impl Drop for Logs {
    fn drop(&mut self) {
        if self.lines.try_send(None).is_ok() {
            let _ = self.written.recv_timeout(LAST_LINES);
        }
    }
}

/// Sends logs to standard error.
///
/// # Errors
/// A sentence about `filter` when it is not a filter, or when logs were set up before.
pub fn init_logs(format: LogFormat, filter: &str) -> Result<Logs, String> {
    let filter = EnvFilter::builder().parse(filter).map_err(|error| {
        format!("`{filter}` is no log filter ({error}): write for example info or spawnpoint_relay=debug")
    })?;
    let tell = |lost| {
        tracing::warn!(
            lost,
            "lines of this log are lost, whoever reads standard error was too slow"
        )
    };
    let (queue, written) = queue(LINES, io::stderr(), &LOST, tell);
    let lines = queue.lines.clone();
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(move || queue.clone())
        .with_target(false);
    match format {
        LogFormat::Human => logs.with_ansi(io::stderr().is_terminal()).try_init(),
        LogFormat::Json => logs.json().with_target(true).with_ansi(false).try_init(),
    }
    .map_err(|error| format!("cannot set up logs: {error}"))?;
    Ok(Logs { lines, written })
}

/// Lines of the log of this process that found no room.
pub fn lines_lost() -> u64 {
    LOST.load(Ordering::Relaxed)
}

/// Takes a line with each write, and never waits.
#[derive(Clone)]
struct Queue {
    lines: SyncSender<Option<Vec<u8>>>,
    lost: &'static AtomicU64,
}

impl Write for Queue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.lines.try_send(Some(line.to_vec())).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A queue for `room` lines on their way to `out`; `tell` hears how many were lost since it heard last.
fn queue(
    room: usize,
    out: impl Write + Send + 'static,
    lost: &'static AtomicU64,
    tell: impl Fn(u64) + Send + 'static,
) -> (Queue, Receiver<()>) {
    let (lines, waiting) = sync_channel(room);
    let (done, written) = sync_channel(1);
    std::thread::spawn(move || {
        write_lines(&waiting, out, lost, tell);
        let _ = done.send(());
    });
    (Queue { lines, lost }, written)
}

/// Writes lines until one is none, at once if they are few.
#[expect(clippy::disallowed_methods, reason = "this thread has no tasks")]
fn write_lines(lines: &Receiver<Option<Vec<u8>>>, out: impl Write, lost: &AtomicU64, tell: impl Fn(u64)) {
    let (mut out, mut told) = (BufWriter::with_capacity(TOGETHER, out), 0);
    while let Ok(Some(first)) = lines.recv() {
        let mut next = Some(first);
        while let Some(line) = next {
            // Nobody reads any more when it fails, or there is no room where it is written; there may be again.
            if out.write_all(&line).is_err() {
                lost.fetch_add(1, Ordering::Relaxed);
            }
            next = match lines.try_recv() {
                Ok(Some(line)) => Some(line),
                Ok(None) => return drop(out.flush()),
                Err(_) => None,
            };
        }
        let _ = out.flush();
        let now = lost.load(Ordering::Relaxed);
        if now > told {
            tell(now - told);
            told = now;
        }
        // Whoever logs would else wake this thread for each of a crowd.
        std::thread::sleep(GATHER);
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
        static MISSED: AtomicU64 = AtomicU64::new(0);
        let ((release, go), (shown, seen)) = (sync_channel(1), sync_channel(1000));
        let (told, hears) = sync_channel(1);
        let held = Held { go: Some(go), shown };
        let (mut queue, written) = queue(10, held, &MISSED, move |lost| told.send(lost).unwrap());
        // This loop ends though nothing is read.
        while MISSED.load(Ordering::Relaxed) < 7 {
            queue.write_all(b"a player has come\n").unwrap();
        }
        release.send(()).unwrap();
        assert_eq!(hears.recv_timeout(10 * LAST_LINES), Ok(7));
        queue.write_all(b"another has come\n").unwrap();
        drop(Logs {
            lines: queue.lines,
            written,
        });
        let text = String::from_utf8(seen.iter().flatten().collect()).unwrap();
        assert!(text.starts_with("a player has come\n"), "{text}");
        assert!(text.ends_with("another has come\n"), "{text}");
    }
}
