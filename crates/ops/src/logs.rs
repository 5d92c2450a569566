//! Logs: for people on a terminal, as JSON on request.
//!
//! Whoever logs never waits for whoever reads ([`writing`](crate::writing)). Lines that find no room are lost and counted, and the log says so itself once it
//! is read again.

use std::io::{self, BufWriter, IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};

use crate::writing::{Page, Queue, Writing};

/// Lines that may wait for whoever reads standard error.
const LINES: usize = 8192;

/// Bytes of whole lines that are written together: as much as a pipe takes in one piece, so that the lines of two processes do not mix.
const TOGETHER: usize = 4096;

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
pub struct Logs(#[expect(dead_code, reason = "for its drop")] Writing<Vec<u8>>);

/// Sends logs to standard error.
///
/// # Errors
/// A sentence about `filter` when it is not a filter, or when logs were set up before.
pub fn init_logs(format: LogFormat, filter: &str) -> Result<Logs, String> {
    let filter = EnvFilter::builder().parse(filter).map_err(|error| {
        format!("`{filter}` is no log filter ({error}): write for example info or spawnpoint_relay=debug")
    })?;
    let writing = Writing::start(LINES, Sheet::new(io::stderr(), format, &LOST));
    let desk = Desk {
        queue: writing.queue(),
        lost: &LOST,
    };
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(move || desk.clone())
        .with_target(false);
    match format {
        LogFormat::Human => logs.with_ansi(io::stderr().is_terminal()).try_init(),
        LogFormat::Json => logs.json().with_target(true).with_ansi(false).try_init(),
    }
    .map_err(|error| format!("cannot set up logs: {error}"))?;
    Ok(Logs(writing))
}

/// Lines of the log of this process that found no room.
pub fn lines_lost() -> u64 {
    LOST.load(Ordering::Relaxed)
}

/// Takes a line with each write, and never waits.
#[derive(Clone)]
struct Desk {
    queue: Queue<Vec<u8>>,
    lost: &'static AtomicU64,
}

impl Write for Desk {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if !self.queue.put(line.to_vec()) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Where the lines go, and how many of those that are missing there it has been told.
struct Sheet<W: Write> {
    out: BufWriter<W>,
    format: LogFormat,
    lost: &'static AtomicU64,
    told: u64,
}

impl<W: Write> Sheet<W> {
    fn new(out: W, format: LogFormat, lost: &'static AtomicU64) -> Self {
        Self {
            out: BufWriter::with_capacity(TOGETHER, out),
            format,
            lost,
            told: 0,
        }
    }
}

impl<W: Write> Page<Vec<u8>> for Sheet<W> {
    fn add(&mut self, line: Vec<u8>) {
        // Nobody reads any more when it fails, or there is no room where it is written; there may be again.
        if self.out.write_all(&line).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Owns up to what was lost as well: here, as no filter and no full queue may keep that back, and only where it can be read.
    fn let_go(&mut self) {
        let (is_read, lost) = (self.out.flush().is_ok(), self.lost.load(Ordering::Relaxed));
        if is_read && lost > self.told {
            let line = loss(lost - self.told, self.format);
            if self
                .out
                .write_all(line.as_bytes())
                .and_then(|()| self.out.flush())
                .is_ok()
            {
                self.told = lost;
            }
        }
    }
}

/// The line about lost ones.
fn loss(lost: u64, format: LogFormat) -> String {
    let mut time = String::new();
    // Writing to a string cannot fail.
    let _ = SystemTime.format_time(&mut Writer::new(&mut time));
    let text = "lines of this log are lost: whoever reads standard error was too slow";
    match format {
        LogFormat::Human => format!("{time}  WARN {text} lost={lost}\n"),
        LogFormat::Json => {
            let fields = serde_json::json!({ "message": text, "lost": lost });
            let line =
                serde_json::json!({ "timestamp": time, "level": "WARN", "fields": fields, "target": module_path!() });
            format!("{line}\n")
        }
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

    /// A terminal that says that it has been written to, and takes it when it is let go.
    struct Held {
        written_to: SyncSender<()>,
        go: Receiver<()>,
        shown: SyncSender<Vec<u8>>,
    }

    impl Write for Held {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.written_to.send(());
            let _ = self.go.recv();
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
        let ((written_to, is_held), (release, go)) = (sync_channel(100), sync_channel(1));
        let (shown, seen) = sync_channel(100);
        let held = Held { written_to, go, shown };
        let writing = Writing::start(10, Sheet::new(held, LogFormat::Human, &MISSED));
        let (queue, lost) = (writing.queue(), &MISSED);
        let mut desk = Desk { queue, lost };
        desk.write_all(b"the first\n").unwrap();
        is_held.recv().unwrap();
        // Nothing is read from here on, and nobody waits for that.
        for _ in 0..17 {
            desk.write_all(b"a player has come\n").unwrap();
        }
        assert_eq!(MISSED.load(Ordering::Relaxed), 7);
        drop(release);
        let mut text = String::new();
        while text.matches("come").count() < 10 {
            text += &String::from_utf8(seen.recv().unwrap()).unwrap();
        }
        desk.write_all(b"the last\n").unwrap();
        drop(writing);
        text += &String::from_utf8(seen.iter().flatten().collect()).unwrap();
        assert!(text.starts_with("the first\n"), "{text}");
        assert!(text.contains("lost=7\n") && text.ends_with("the last\n"), "{text}");
        assert_eq!(text.matches("lost=").count(), 1, "{text}");
    }

    /// A disk that is full, or a reader who has gone.
    struct Broken;

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_log_that_cannot_be_written_does_not_write_about_that() {
        static MISSED: AtomicU64 = AtomicU64::new(0);
        let writing = Writing::start(1000, Sheet::new(Broken, LogFormat::Json, &MISSED));
        let (queue, lost) = (writing.queue(), &MISSED);
        let mut desk = Desk { queue, lost };
        for _ in 0..50 {
            desk.write_all(&[b'x'; 1000]).unwrap();
        }
        drop(writing);
        // What is still in its buffer may be written one day.
        let missed = MISSED.load(Ordering::Relaxed);
        assert!((40..=50).contains(&missed), "{missed}");
    }
}
