//! The relay's data directory: made private, and used by one relay at a time.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use crate::{Result, StoreError};

/// The file whose lock says that a relay runs here. It stays behind, unlocked and harmless, when the relay ends.
const LOCK_FILE: &str = "relay.lock";

/// The data directory, seen as a place to make and to lock.
#[derive(Debug)]
pub enum DataDir {}

impl DataDir {
    /// Makes the directory with mode 0700 if it is missing. An existing one keeps the mode that its owner gave it.
    ///
    /// # Errors
    /// [`StoreError::CreateDir`].
    pub fn create(path: &Path) -> Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(path).map_err(|source| StoreError::CreateDir {
            path: path.to_owned(),
            source,
        })
    }

    /// Makes the directory if it is missing and locks it for one relay until the lock is dropped, or the process ends in whatever way.
    ///
    /// # Errors
    /// [`StoreError::InUse`] with the other relay's process number; [`StoreError::CreateDir`] or [`StoreError::Unwritable`].
    pub fn lock(path: &Path) -> Result<DataDirLock> {
        Self::create(path)?;
        let file_path = path.join(LOCK_FILE);
        let unwritable = |error| StoreError::from_io(&file_path, error);
        let mut options = OpenOptions::new();
        // Not truncated here: until the lock is ours, the number in it is another relay's.
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&file_path).map_err(unwritable)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(StoreError::InUse {
                    path: path.to_owned(),
                    pid: read_pid(&mut file),
                });
            }
            Err(TryLockError::Error(error)) => return Err(unwritable(error)),
        }
        let mut lock = DataDirLock {
            path: path.to_owned(),
            file,
        };
        lock.sign()?;
        Ok(lock)
    }
}

#[cfg(unix)]
impl DataDir {
    /// Takes over the lock that another process holds by the same open file.
    pub fn adopt(path: &Path, descriptor: std::os::fd::OwnedFd) -> DataDirLock {
        DataDirLock {
            path: path.to_owned(),
            file: File::from(descriptor),
        }
    }
}

#[cfg(unix)]
impl std::os::fd::AsFd for DataDirLock {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// The right to be the one relay of a data directory.
#[derive(Debug)]
pub struct DataDirLock {
    path: PathBuf,
    file: File,
}

impl DataDirLock {
    /// Writes this process's number into the lock, for whoever asks who holds it.
    ///
    /// # Errors
    /// [`StoreError::Unwritable`].
    pub fn sign(&mut self) -> Result<()> {
        let path = self.path.join(LOCK_FILE);
        let mut write = || {
            self.file.set_len(0)?;
            self.file.rewind()?;
            writeln!(self.file, "{}", std::process::id())
        };
        write().map_err(|error| StoreError::from_io(&path, error))
    }

    /// The locked data directory.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn read_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(16).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}
