//! The audit log's file: private, rotated by size and by day, older files kept in number, their addresses shortened in time.

use std::fs;
use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use time::OffsetDateTime;

use super::{AuditError, AuditSettings, Destination, Line, shorten, stamp};

/// How often it is looked whether older files are due.
const LOOK_EVERY: Duration = Duration::from_secs(3_600);

/// How long it is left alone after a new file could not be begun.
const RETRY_EVERY: Duration = Duration::from_secs(60);

/// What the name of an older file ends with once its addresses are short.
const SHORT: &str = "-short.jsonl";

/// The file that is written now, and what becomes of those before it.
pub(super) struct File {
    path: PathBuf,
    file: fs::File,
    size: u64,
    day: Option<time::Date>,
    max_size: u64,
    keep: usize,
    addresses: Duration,
    looked: Option<SystemTime>,
    failed: Option<SystemTime>,
}

impl Destination for File {
    fn write(&mut self, line: &Line) -> io::Result<()> {
        let day = line.time.date();
        let mut whole = String::with_capacity(line.json.len() + 1);
        whole.push_str(&line.json);
        whole.push('\n');
        self.look_after(whole.len() as u64, day);
        self.file.write_all(whole.as_bytes())?;
        self.size += whole.len() as u64;
        self.day.get_or_insert(day);
        Ok(())
    }

    fn idle(&mut self) {
        self.look_after(0, OffsetDateTime::from(SystemTime::now()).date());
    }
}

impl File {
    pub fn open(path: &Path, settings: &AuditSettings) -> Result<Self, AuditError> {
        let fail = |source| AuditError::File {
            path: path.to_owned(),
            source,
        };
        let file = append(path).map_err(fail)?;
        let data = file.metadata().map_err(fail)?;
        let day = data
            .modified()
            .ok()
            .filter(|_| data.len() > 0)
            .map(|time| OffsetDateTime::from(time).date());
        Ok(Self {
            path: path.to_owned(),
            file,
            size: data.len(),
            day,
            max_size: settings.max_size,
            keep: settings.keep as usize,
            addresses: settings.addresses,
            looked: None,
            failed: None,
        })
    }

    /// Begins a new file before a line of `length` bytes from `day`, when it is time to, and looks after the older ones. A file that cannot be begun costs no line: the one before
    /// goes on.
    fn look_after(&mut self, length: u64, day: time::Date) {
        let now = SystemTime::now();
        let since = |then: Option<SystemTime>| then.map(|then| now.duration_since(then).unwrap_or_default());
        let is_full = self.size > 0 && self.size + length > self.max_size;
        let is_due = is_full || self.day.is_some_and(|begun| begun < day);
        if is_due && since(self.failed).is_none_or(|since| since > RETRY_EVERY) {
            self.failed = None;
            if let Err(error) = self.rotate() {
                self.failed = Some(now);
                tracing::error!(file = %self.path.display(), %error, "a new file of the audit log could not be begun, the old one goes on");
            }
        }
        if since(self.looked).is_none_or(|since| since > LOOK_EVERY) {
            self.looked = Some(now);
            self.tidy(now);
        }
    }

    /// Begins a new file.
    fn rotate(&mut self) -> io::Result<()> {
        let now = OffsetDateTime::from(SystemTime::now());
        let name: String = stamp(now).chars().filter(char::is_ascii_alphanumeric).collect();
        let mut number = 0;
        let older = loop {
            let suffix = if number == 0 {
                String::new()
            } else {
                format!("-{number}")
            };
            let older = self.sibling(&format!("-{name}{suffix}.jsonl"));
            if !older.exists() {
                break older;
            }
            number += 1;
        };
        // Another process that writes the same file, as during an upgrade, may have been faster.
        match fs::rename(&self.path, &older) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.file = append(&self.path)?;
        self.size = self.file.metadata()?.len();
        self.day = None;
        self.looked = None;
        Ok(())
    }

    /// Removes the oldest files and shortens the addresses in those that are old enough.
    fn tidy(&self, now: SystemTime) {
        let mut older = self.older();
        let surplus = older.len().saturating_sub(self.keep);
        for path in older.drain(..surplus) {
            if let Err(error) = fs::remove_file(&path) {
                tracing::warn!(path = %path.display(), %error, "an old audit log could not be removed");
            }
        }
        for path in older {
            let age = fs::metadata(&path).and_then(|data| data.modified()).ok();
            let is_old = age
                .and_then(|time| now.duration_since(time).ok())
                .is_some_and(|age| age >= self.addresses);
            let is_short = path.to_string_lossy().ends_with(SHORT);
            if is_old
                && !is_short
                && let Err(error) = shorten_file(&path)
            {
                tracing::warn!(path = %path.display(), %error, "the addresses in an old audit log could not be shortened");
            }
        }
    }

    /// Files before this one, the oldest first: their names begin with their times.
    fn older(&self) -> Vec<PathBuf> {
        let stem = self.stem();
        let directory = self.path.parent().unwrap_or(Path::new("."));
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        let mut older: Vec<PathBuf> = entries
            .map(|entry| entry.path())
            .filter(|path| {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                name.strip_prefix(&stem)
                    .is_some_and(|rest| rest.starts_with("-2") && rest.ends_with(".jsonl"))
            })
            .collect();
        older.sort();
        older
    }

    fn stem(&self) -> String {
        self.path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
    }

    fn sibling(&self, suffix: &str) -> PathBuf {
        self.path.with_file_name(self.stem() + suffix)
    }
}

/// Rewrites a file without whole addresses, and removes the one with them.
fn shorten_file(path: &Path) -> io::Result<()> {
    let short = PathBuf::from(path.to_string_lossy().trim_end_matches(".jsonl").to_owned() + SHORT);
    let draft = short.with_extension("new");
    let mut out = io::BufWriter::new(create(&draft)?);
    for line in io::BufReader::new(fs::File::open(path)?).lines() {
        writeln!(out, "{}", shorten::shorten(&line?))?;
    }
    out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
    fs::rename(&draft, &short)?;
    fs::remove_file(path)
}

fn append(path: &Path) -> io::Result<fs::File> {
    let mut options = fs::OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

fn create(path: &Path) -> io::Result<fs::File> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}
