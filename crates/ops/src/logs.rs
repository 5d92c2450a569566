//! Logs: for people on a terminal, as JSON on request.
//!
//! They are written by a thread of their own: a terminal that somebody holds (Ctrl-S), or a pipe that nobody reads, must not hold up players, nor the end of
//! the process. Lines that find no room until then are lost and counted, and the log says so itself once it is read again.

use std::io::{self, BufWriter, IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};

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
    let (queue, written) = queue(LINES, Page::new(io::stderr(), format, &LOST));
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

/// A queue for `room` lines on their way to `page`, and what tells that the last of them is written.
fn queue(room: usize, mut page: Page<impl Write + Send + 'static>) -> (Queue, Receiver<()>) {
    let (lines, waiting) = sync_channel(room);
    let (done, written) = sync_channel(1);
    let lost = page.lost;
    std::thread::spawn(move || {
        page.write(&waiting);
        let _ = done.send(());
    });
    (Queue { lines, lost }, written)
}

/// Where the lines go, and how many of those that are missing there it has been told.
struct Page<W: Write> {
    out: BufWriter<W>,
    format: LogFormat,
    lost: &'static AtomicU64,
    told: u64,
}

impl<W: Write> Page<W> {
    fn new(out: W, format: LogFormat, lost: &'static AtomicU64) -> Self {
        Self {
            out: BufWriter::with_capacity(TOGETHER, out),
            format,
            lost,
            told: 0,
        }
    }

    /// Writes lines until one is none, at once if they are few.
    #[expect(clippy::disallowed_methods, reason = "this thread has no tasks")]
    fn write(&mut self, lines: &Receiver<Option<Vec<u8>>>) {
        while let Ok(Some(first)) = lines.recv() {
            let mut next = Some(first);
            while let Some(line) = next {
                // Nobody reads any more when it fails, or there is no room where it is written; there may be again.
                if self.out.write_all(&line).is_err() {
                    self.lost.fetch_add(1, Ordering::Relaxed);
                }
                next = match lines.try_recv() {
                    Ok(Some(line)) => Some(line),
                    Ok(None) => return self.finish(),
                    Err(_) => None,
                };
            }
            self.finish();
            // Whoever logs would else wake this thread for each of a crowd.
            std::thread::sleep(GATHER);
        }
    }

    /// Lets everything go, and owns up to what was lost: here, as no filter and no full queue may keep that back, and only where it can be read.
    fn finish(&mut self) {
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
        let (mut queue, written) = queue(10, Page::new(held, LogFormat::Human, &MISSED));
        queue.write_all(b"the first\n").unwrap();
        is_held.recv().unwrap();
        // Nothing is read from here on, and nobody waits for that.
        for _ in 0..17 {
            queue.write_all(b"a player has come\n").unwrap();
        }
        assert_eq!(MISSED.load(Ordering::Relaxed), 7);
        drop(release);
        let mut text = String::new();
        while text.matches("come").count() < 10 {
            text += &String::from_utf8(seen.recv().unwrap()).unwrap();
        }
        queue.write_all(b"the last\n").unwrap();
        let lines = queue.lines;
        drop(Logs { lines, written });
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
        let (mut queue, written) = queue(1000, Page::new(Broken, LogFormat::Json, &MISSED));
        for _ in 0..50 {
            queue.write_all(&[b'x'; 1000]).unwrap();
        }
        let lines = queue.lines;
        drop(Logs { lines, written });
        // What is still in its buffer may be written one day.
        let missed = MISSED.load(Ordering::Relaxed);
        assert!((40..=50).contains(&missed), "{missed}");
    }
}
