//! Whether files have changed since the last look.

use std::fs;
use std::path::Path;
use std::time::SystemTime;

/// What tells one state of some files from another: times and sizes of what their paths lead to now, through symbolic links.
///
/// Looking again every second or two costs nothing and, unlike notifications, misses neither editors that replace the file nor links that are swapped nor
/// network drives.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FileStamp(Vec<Option<(Option<SystemTime>, u64)>>);

impl FileStamp {
    /// The state of `paths` now; a file that is missing is a state too.
    pub fn of(paths: &[&Path]) -> Self {
        let state = |path: &&Path| fs::metadata(path).ok().map(|data| (data.modified().ok(), data.len()));
        Self(paths.iter().map(state).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_a_missing_and_a_returned_file_are_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let missing = FileStamp::of(&[&path]);
        fs::write(&path, "one").unwrap();
        let first = FileStamp::of(&[&path]);
        assert_ne!(missing, first);
        assert_eq!(FileStamp::of(&[&path]), first);
        fs::write(&path, "other").unwrap();
        assert_ne!(FileStamp::of(&[&path]), first);
    }
}
