//! What can go wrong with the directory, said with the place and the remedy.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;
use spawnpoint_core::hostname::Pattern;
use spawnpoint_proto::HostName;

/// Why the directory could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The data directory does not exist and cannot be made.
    #[error("failed to create the data directory {}: make it yourself, or set `data_dir` to a place this user may write", path.display())]
    CreateDir {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file of the data directory cannot be opened or written.
    #[error("failed to write {}: run as the user who owns the data directory, or set `data_dir` to a place this user may write", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// What the system or SQLite said.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// Another relay runs on this data directory.
    #[error(
        "data directory {} is in use by another relay{}: stop that one first, or give this one its own `data_dir`",
        path.display(),
        pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
    )]
    InUse {
        /// The data directory.
        path: PathBuf,
        /// The other relay's process, when it left its number.
        pid: Option<u32>,
    },
    /// The file is damaged. It is left as it is.
    #[error(
        "the host directory {} is damaged ({detail}): restore it from a backup, or move it away together with its -wal and -shm files and invite every host anew; it was left untouched",
        path.display()
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// The file is a SQLite database of some other program.
    #[error("{} is a database, but not a host directory of Spawnpoint: move it away or set another `data_dir`", path.display())]
    NotOurs {
        /// The file.
        path: PathBuf,
    },
    /// A newer release has written the file.
    #[error(
        "the host directory {} was written by a newer release of spawnpoint (schema {found}, this one knows up to {known}): update this program, or \
         restore the backup made before the update",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// The schema that the file has.
        found: i64,
        /// The newest schema this build knows.
        known: i64,
    },
    /// Another process held the file for too long.
    #[error("the host directory {} stayed locked by another process: try again; if it lasts, find who holds it with `fuser`", path.display())]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// No space is left.
    #[error("no space left for the host directory {}: nothing was changed; free some space on that disk", path.display())]
    DiskFull {
        /// The file.
        path: PathBuf,
    },
    /// A row says something that cannot be.
    #[error("the host directory {} holds a value that makes no sense ({detail}): restore it from a backup", path.display())]
    BadRow {
        /// The file.
        path: PathBuf,
        /// Which row and value.
        detail: String,
    },
    /// Anything else that SQLite reports.
    #[error("failed to use the host directory {}", path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The name is taken by a live host.
    #[error("host `{name}` exists already: `spawnpoint host rotate {name}` gives it a new invite")]
    HostExists {
        /// The name.
        name: HostName,
    },
    /// No host has the name.
    #[error("there is no host `{name}`: `spawnpoint host list` shows all")]
    NoSuchHost {
        /// The name.
        name: HostName,
    },
    /// The host was revoked.
    #[error(
        "host `{name}` was revoked: `spawnpoint invite {name}` lets it in again with a new invite and its old ports"
    )]
    HostRevoked {
        /// The name.
        name: HostName,
    },
    /// As many bans are on as may be.
    #[error("10,000 bans are on already: lift some, or ban wider prefixes")]
    TooManyBans,
}

impl StoreError {
    /// Sorts an error of SQLite by what the operator can do about it.
    pub(crate) fn from_sqlite(path: &Path, error: rusqlite::Error) -> Self {
        let path = path.to_owned();
        let Some(code) = error.sqlite_error_code() else {
            return Self::Sqlite {
                path,
                source: Box::new(error),
            };
        };
        match code {
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => Self::Corrupt {
                path,
                detail: error.to_string(),
            },
            ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied => Self::Unwritable {
                path,
                source: Box::new(error),
            },
            ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed => {
                Self::Locked { path }
            }
            ErrorCode::DiskFull => Self::DiskFull { path },
            _ => Self::Sqlite {
                path,
                source: Box::new(error),
            },
        }
    }

    /// Sorts an error of the file system by what the operator can do about it.
    pub(crate) fn from_io(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { path },
            _ => Self::Unwritable {
                path,
                source: source.into(),
            },
        }
    }
}

/// Why a tunnel got no public port.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReserveError {
    /// Another live host has the wanted port.
    #[error("port {port} is reserved by another host")]
    Taken {
        /// The wanted port.
        port: u16,
    },
    /// The wanted port is not among the allowed ones.
    #[error("port {port} is not among the ports this host may have")]
    NotAllowed {
        /// The wanted port.
        port: u16,
    },
    /// Every allowed port is reserved or avoided.
    #[error("no port is free")]
    Exhausted,
    /// The directory failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a tunnel did not get its names.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClaimError {
    /// Another live host has the name.
    #[error("the name {name} belongs to another host")]
    Taken {
        /// The wanted name.
        name: Pattern,
    },
    /// The directory failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
