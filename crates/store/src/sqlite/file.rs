//! The file of the directory: made whole or not at all, private, checked when opened, and brought up to date step by step.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::BUSY_TIMEOUT;
use crate::{DataDir, Result, StoreError};

/// "SPWN": tells our file from a database of another program.
const APPLICATION_ID: i32 = 0x5350_574e;

/// Every step of the schema, oldest first. A step that was released is never edited: what follows is appended.
const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE hosts (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL UNIQUE,
        token BLOB NOT NULL CHECK (length(token) = 32),
        token_prefix BLOB NOT NULL,
        protocols TEXT NOT NULL,
        ports TEXT NOT NULL,
        hostnames TEXT NOT NULL,
        max_players INTEGER,
        expires INTEGER,
        created INTEGER NOT NULL,
        revoked INTEGER,
        last_seen INTEGER
    ) STRICT;
    CREATE INDEX hosts_by_token ON hosts (token_prefix);
    CREATE TABLE reservations (
        host INTEGER NOT NULL REFERENCES hosts (id) ON DELETE CASCADE,
        tunnel TEXT NOT NULL,
        protocol TEXT NOT NULL CHECK (protocol IN ('tcp', 'udp')),
        port INTEGER NOT NULL CHECK (port BETWEEN 1 AND 65535),
        PRIMARY KEY (host, tunnel, protocol),
        UNIQUE (protocol, port)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE settings (
        key TEXT PRIMARY KEY,
        value TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
",
    "
    CREATE TABLE names (
        name TEXT NOT NULL,
        dialect TEXT NOT NULL,
        host INTEGER NOT NULL,
        tunnel TEXT NOT NULL,
        protocol TEXT NOT NULL,
        granted INTEGER NOT NULL,
        PRIMARY KEY (name, dialect),
        FOREIGN KEY (host, tunnel, protocol) REFERENCES reservations (host, tunnel, protocol) ON DELETE CASCADE
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX names_by_tunnel ON names (host, tunnel, protocol);
    CREATE TABLE entries (
        host INTEGER NOT NULL,
        tunnel TEXT NOT NULL,
        protocol TEXT NOT NULL,
        game TEXT NOT NULL,
        dialect TEXT,
        away TEXT,
        listing TEXT,
        PRIMARY KEY (host, tunnel, protocol),
        FOREIGN KEY (host, tunnel, protocol) REFERENCES reservations (host, tunnel, protocol) ON DELETE CASCADE
    ) STRICT, WITHOUT ROWID;
",
    "
    ALTER TABLE hosts ADD COLUMN caps TEXT NOT NULL DEFAULT '';
",
    "
    ALTER TABLE hosts ADD COLUMN lists TEXT NOT NULL DEFAULT '';
    CREATE TABLE bans (
        host INTEGER NOT NULL,
        prefix TEXT NOT NULL,
        until INTEGER,
        created INTEGER NOT NULL,
        banned_by TEXT NOT NULL,
        reason TEXT NOT NULL,
        PRIMARY KEY (host, prefix)
    ) STRICT, WITHOUT ROWID;
",
    "
    ALTER TABLE hosts ADD COLUMN old_token BLOB CHECK (length(old_token) = 32);
    ALTER TABLE hosts ADD COLUMN old_prefix BLOB;
    ALTER TABLE hosts ADD COLUMN old_until INTEGER;
    CREATE INDEX hosts_by_old_token ON hosts (old_prefix) WHERE old_prefix IS NOT NULL;
",
    "
    CREATE TABLE usage (
        host INTEGER NOT NULL REFERENCES hosts (id) ON DELETE CASCADE,
        tunnel TEXT NOT NULL,
        protocol TEXT NOT NULL,
        day INTEGER NOT NULL,
        sessions INTEGER NOT NULL,
        peak INTEGER NOT NULL,
        up INTEGER NOT NULL,
        down INTEGER NOT NULL,
        PRIMARY KEY (host, tunnel, protocol, day)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX usage_by_day ON usage (day);
",
    "
    CREATE TABLE notes (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        time INTEGER NOT NULL,
        note TEXT NOT NULL
    ) STRICT;
",
];

/// Opens the file at `path`, checked and up to date.
pub(super) fn open(data_dir: &Path, path: &Path) -> Result<Connection> {
    DataDir::create(data_dir)?;
    // Looked for first: beside a file that is being made this moment it could appear in between.
    let journal_left = sibling(path, "-wal").exists();
    match fs::metadata(path) {
        // Ours is never empty, not even for a moment (see `create`). Filling it would turn a lost directory into one without hosts, in silence.
        Ok(metadata) if metadata.len() == 0 => {
            return Err(StoreError::Corrupt {
                path: path.to_owned(),
                detail: "it is empty".to_owned(),
            });
        }
        Ok(_) => {}
        // SQLite would play the old journal into whatever file it finds beside it.
        Err(error) if error.kind() == io::ErrorKind::NotFound && journal_left => {
            return Err(StoreError::Corrupt {
                path: path.to_owned(),
                detail: "it is missing, its -wal file is there".to_owned(),
            });
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => create(data_dir, path)?,
        Err(error) => return Err(StoreError::from_io(path, error)),
    }
    let fail = |error| StoreError::from_sqlite(path, error);
    let mut connection = connect(path).map_err(fail)?;
    check(&connection, path)?;
    // Where the file system cannot share memory SQLite stays with its older journal: slower for readers, as safe.
    connection.pragma_update(None, "journal_mode", "wal").map_err(fail)?;
    migrate(&mut connection, path, MIGRATIONS)?;
    Ok(connection)
}

/// Makes the file under another name and links it into place when it is whole, so that no other process, and no crash, ever sees half of it.
fn create(data_dir: &Path, path: &Path) -> Result<()> {
    let (draft, file) = draft(path)?;
    give_to_owner_of(data_dir, &file);
    drop(file);
    let made = fill(&draft).and_then(|()| match fs::hard_link(&draft, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Ok(()) => Ok(()),
        // A file system without hard links; two first starts at the same moment are not worth more than this there.
        Err(_) => fs::rename(&draft, path).map_err(|error| StoreError::from_io(path, error)),
    });
    // Gone already after a rename, and a leftover draft harms nobody.
    let _ = fs::remove_file(&draft);
    made
}

/// An empty private file under a name that nobody uses.
fn draft(path: &Path) -> Result<(PathBuf, fs::File)> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut number = 0;
    loop {
        let draft = sibling(path, &format!(".new-{}-{number}", std::process::id()));
        match options.open(&draft) {
            Ok(file) => return Ok((draft, file)),
            // Of another thread, or of a process that died; in a container every process may have the same number.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < 100 => number += 1,
            Err(error) => return Err(StoreError::from_io(path, error)),
        }
    }
}

fn fill(draft: &Path) -> Result<()> {
    let fail = |error| StoreError::from_sqlite(draft, error);
    let mut connection = connect(draft).map_err(fail)?;
    migrate(&mut connection, draft, MIGRATIONS)?;
    connection.close().map_err(|(_, error)| fail(error))
}

/// `sudo spawnpoint invite` before the relay's first start must not leave a file that the relay's own user cannot open.
#[cfg(unix)]
fn give_to_owner_of(data_dir: &Path, file: &fs::File) {
    use std::os::unix::fs::{MetadataExt, fchown};
    if let (Ok(wanted), Ok(ours)) = (fs::metadata(data_dir), file.metadata())
        && wanted.uid() != ours.uid()
    {
        // Only root may do this; for anybody else the next open reports what is wrong.
        let _ = fchown(file, Some(wanted.uid()), Some(wanted.gid()));
    }
}

#[cfg(not(unix))]
fn give_to_owner_of(_: &Path, _: &fs::File) {}

fn sibling(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    // No `CREATE`: a file that vanished meanwhile must not come back empty. No `URI`: a path may have any character.
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // A revocation that the operator has seen succeed must outlive a power cut.
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "trusted_schema", false)?;
    Ok(connection)
}

/// Reads every page once; a directory is small, and a damaged one is better found at the start than at a login.
fn check(connection: &Connection, path: &Path) -> Result<()> {
    let verdict: String = connection
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(|error| StoreError::from_sqlite(path, error))?;
    match verdict.as_str() {
        "ok" => Ok(()),
        _ => Err(StoreError::Corrupt {
            path: path.to_owned(),
            detail: verdict.replace('\n', " "),
        }),
    }
}

/// Brings the schema up to date, in one transaction: a failed step leaves the file as it was.
fn migrate(connection: &mut Connection, path: &Path, steps: &[&str]) -> Result<()> {
    let known = steps.len() as i64;
    if version(connection, path)? == known {
        return Ok(());
    }
    let fail = |error| StoreError::from_sqlite(path, error);
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(fail)?;
    // Again, now that nobody else can write: another process may have been faster.
    let found = version(&transaction, path)?;
    let Some(missing) = usize::try_from(found).ok().and_then(|done| steps.get(done..)) else {
        return Err(StoreError::Newer {
            path: path.to_owned(),
            found,
            known,
        });
    };
    for step in missing {
        transaction.execute_batch(step).map_err(fail)?;
    }
    transaction
        .pragma_update(None, "application_id", APPLICATION_ID)
        .map_err(fail)?;
    transaction.pragma_update(None, "user_version", known).map_err(fail)?;
    transaction.commit().map_err(fail)
}

/// The number of steps that the file has had.
fn version(connection: &Connection, path: &Path) -> Result<i64> {
    let read = || {
        let application: i32 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
        let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        rusqlite::Result::Ok((application, version, tables))
    };
    match read().map_err(|error| StoreError::from_sqlite(path, error))? {
        (APPLICATION_ID, version, _) | (0, version @ 0, 0) => Ok(version),
        _ => Err(StoreError::NotOurs { path: path.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_failed_step_leaves_the_file_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(super::super::FILE);
        drop(open(dir.path(), &path).unwrap());
        let steps = [
            MIGRATIONS,
            &["CREATE TABLE extra (a INTEGER); CREATE TABLE hosts (a INTEGER);"],
        ]
        .concat();
        let mut connection = connect(&path).unwrap();
        assert!(migrate(&mut connection, &path, &steps).is_err());
        assert_eq!(version(&connection, &path).unwrap(), MIGRATIONS.len() as i64);
        let extra: i64 = connection
            .query_row("SELECT count(*) FROM sqlite_schema WHERE name = 'extra'", [], |row| {
                row.get(0)
            })
            .unwrap();
        assert_eq!(extra, 0);
    }

    #[test]
    fn a_later_step_is_applied_to_an_older_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(super::super::FILE);
        let mut connection = open(dir.path(), &path).unwrap();
        let steps = [MIGRATIONS, &["ALTER TABLE hosts ADD COLUMN note TEXT;"]].concat();
        migrate(&mut connection, &path, &steps).unwrap();
        connection.execute("UPDATE hosts SET note = ''", []).unwrap();
        drop(connection);
        let error = open(dir.path(), &path).unwrap_err();
        let newest = MIGRATIONS.len() as i64;
        assert!(
            matches!(error, StoreError::Newer { found, known, .. } if (found, known) == (newest + 1, newest)),
            "{error}"
        );
    }
}
