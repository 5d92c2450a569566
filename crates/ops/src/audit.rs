//! The audit log: what happened that somebody may have to account for later, a JSON object a line.
//!
//! Every line is an [`Event`] with its time. It goes to a file that is rotated and whose addresses are shortened when they are old, to syslog, to journald, or to several of them.
//! Each has a thread of its own and a bounded queue: a disk that is full or a collector that is away costs lines, which are counted and told, and never a player's time.

mod file;
#[cfg(unix)]
mod journal;
mod shorten;
mod syslog;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use time::OffsetDateTime;

use crate::Event;

pub use syslog::{Collector, Way};

/// Lines that may wait for one destination.
const WAITING: usize = 4_096;

/// After this time without a line a destination looks after what else it has to do.
const IDLE: Duration = Duration::from_secs(5);

/// How long lines that wait may still take when the process ends.
const FINISH_DEADLINE: Duration = Duration::from_secs(2);

/// The audit log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// Its file.
    #[error("the audit log {} cannot be written: set audit.file in the configuration to another place", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Its collector's certificate authority.
    #[error("audit.syslog_ca {} cannot be used: {why}", path.display())]
    Authority {
        /// The file.
        path: PathBuf,
        /// Why not.
        why: String,
    },
}

/// Where the audit log goes, and what is in it.
#[derive(Clone, Debug)]
pub struct AuditSettings {
    /// The file.
    pub file: Option<PathBuf>,
    /// After this many bytes a new file is begun.
    pub max_size: u64,
    /// How many older files are kept.
    pub keep: u32,
    /// Players' addresses are whole for this long.
    pub addresses: Duration,
    /// Whether each player's session is in it.
    pub sessions: bool,
    /// A syslog collector.
    pub syslog: Option<Collector>,
    /// Whether journald gets it.
    pub journald: bool,
}

/// One line.
#[derive(Debug)]
struct Line {
    /// The name of the event.
    name: String,
    /// The whole object.
    json: String,
    time: OffsetDateTime,
    is_warning: bool,
}

/// The audit log; clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Audit {
    sinks: Arc<Vec<Sink>>,
    sessions: bool,
    lost: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Sink {
    lines: SyncSender<Option<Arc<Line>>>,
    done: std::sync::Mutex<Receiver<()>>,
}

#[derive(Serialize)]
struct Stamped<'a, T> {
    time: &'a str,
    #[serde(flatten)]
    event: &'a T,
}

impl Audit {
    /// Opens it.
    ///
    /// # Errors
    /// [`AuditError`], naming the place.
    pub fn open(settings: &AuditSettings) -> Result<Self, AuditError> {
        let lost = Arc::new(AtomicU64::new(0));
        let mut sinks = Vec::new();
        if let Some(path) = &settings.file {
            sinks.push(sink(&lost, file::File::open(path, settings)?));
        }
        if let Some(collector) = &settings.syslog {
            sinks.push(sink(&lost, syslog::Syslog::new(collector)?));
        }
        #[cfg(unix)]
        if settings.journald {
            sinks.push(sink(&lost, journal::Journal::default()));
        }
        Ok(Self {
            sinks: Arc::new(sinks),
            sessions: settings.sessions,
            lost,
        })
    }

    /// Writes an event down, if it is one for the audit log. Never waits.
    pub fn record(&self, event: &Event) {
        if self.sinks.is_empty() || !self.is_for_it(event) {
            return;
        }
        self.write(now(), event, is_warning(event));
    }

    /// Writes down what another process has left: an object like an event's, from this time in seconds since 1970.
    pub fn record_note(&self, time: u64, note: &str) {
        let time =
            OffsetDateTime::from_unix_timestamp(i64::try_from(time).unwrap_or(0)).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        match serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(note) {
            Ok(note) if !self.sinks.is_empty() => self.write(time, &note, false),
            _ => {}
        }
    }

    /// Lines that never got anywhere.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Waits a moment for the lines that wait.
    pub fn finish(&self) {
        for sink in self.sinks.iter() {
            // A full queue is not worth waiting for.
            if sink.lines.try_send(None).is_ok()
                && let Ok(done) = sink.done.lock()
            {
                let _ = done.recv_timeout(FINISH_DEADLINE);
            }
        }
    }

    fn write<T: Serialize>(&self, time: OffsetDateTime, event: &T, is_warning: bool) {
        let stamp = stamp(time);
        let Ok(json) = serde_json::to_string(&Stamped { time: &stamp, event }) else {
            return;
        };
        let name = serde_json::from_str::<serde_json::Value>(&json).ok();
        let name = name.and_then(|object| object.get("event")?.as_str().map(str::to_owned));
        let line = Arc::new(Line {
            name: name.unwrap_or_default(),
            json,
            time,
            is_warning,
        });
        for sink in self.sinks.iter() {
            if sink.lines.try_send(Some(line.clone())).is_err() {
                self.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    const fn is_for_it(&self, event: &Event) -> bool {
        match event {
            Event::PlayerLeft { .. } => self.sessions,
            Event::PlayerJoined { .. }
            | Event::DatagramsDropped { .. }
            | Event::OriginDown { .. }
            | Event::OriginUp { .. }
            | Event::Reconnecting { .. }
            | Event::Notice { .. } => false,
            _ => true,
        }
    }
}

const fn is_warning(event: &Event) -> bool {
    matches!(
        event,
        Event::Banned { .. }
            | Event::SharedToken { .. }
            | Event::AgentRefused { .. }
            | Event::LimitHit { .. }
            | Event::QuotaUsed { .. }
    )
}

/// Where lines go.
trait Destination: Send + 'static {
    /// Writes a line down. An error says that one is lost.
    fn write(&mut self, line: &Line) -> std::io::Result<()>;

    /// What there is to do when nothing has happened for a while.
    fn idle(&mut self) {}

    /// There is nothing more to come; returns how many lines are lost now.
    fn finish(&mut self) -> usize {
        0
    }
}

/// A destination with a thread of its own; what fails is counted as lost and told, not more than once a minute.
fn sink(lost: &Arc<AtomicU64>, mut destination: impl Destination) -> Sink {
    let (lines, queue) = sync_channel::<Option<Arc<Line>>>(WAITING);
    let (finished, receiver) = sync_channel(1);
    let lost = lost.clone();
    std::thread::spawn(move || {
        let mut told: Option<std::time::Instant> = None;
        loop {
            let line = match queue.recv_timeout(IDLE) {
                Ok(Some(line)) => line,
                Ok(None) | Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    destination.idle();
                    continue;
                }
            };
            if let Err(error) = destination.write(&line) {
                lost.fetch_add(1, Ordering::Relaxed);
                if told.is_none_or(|told| told.elapsed() > Duration::from_secs(60)) {
                    told = Some(std::time::Instant::now());
                    tracing::error!(%error, lost = lost.load(Ordering::Relaxed), "a line of the audit log is lost");
                }
            }
        }
        lost.fetch_add(destination.finish() as u64, Ordering::Relaxed);
        let _ = finished.send(());
    });
    Sink {
        lines,
        done: std::sync::Mutex::new(receiver),
    }
}

fn now() -> OffsetDateTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    OffsetDateTime::UNIX_EPOCH + since
}

/// As `2026-11-27T18:00:00.123Z`.
fn stamp(time: OffsetDateTime) -> String {
    let (date, clock) = (time.date(), time.time());
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        date.year(),
        u8::from(date.month()),
        date.day(),
        clock.hour(),
        clock.minute(),
        clock.second(),
        clock.millisecond()
    )
}

#[cfg(test)]
mod tests;
