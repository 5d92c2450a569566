//! The file and its directory: private, shared by processes, damaged, or not ours.

#![allow(clippy::unwrap_used)]

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use super::*;

#[test]
fn two_openings_share_one_directory_and_never_give_a_port_twice() {
    let dir = tempfile::tempdir().unwrap();
    // The first opening is part of the race.
    let given: Vec<u16> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4u8)
            .map(|at| {
                let dir = dir.path();
                scope.spawn(move || {
                    let store = SqliteDirectory::open(dir).unwrap();
                    let id = host(&store, &format!("host-{at}"), at);
                    let take = |tunnel: u8| {
                        ask(
                            &store,
                            id,
                            &format!("t{tunnel}"),
                            Protocol::Udp,
                            None,
                            Some(100),
                            "100-139",
                            &[],
                        )
                        .unwrap()
                    };
                    (0..10).map(take).collect::<Vec<_>>()
                })
            })
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    assert_eq!(given.iter().collect::<HashSet<_>>().len(), 40);
    assert_eq!(SqliteDirectory::open(dir.path()).unwrap().hosts().unwrap().len(), 4);
    let left: Vec<_> = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert!(
        !left.iter().any(|name| name.to_string_lossy().contains("new")),
        "{left:?}"
    );
}

#[test]
fn another_process_sees_and_makes_changes() {
    if let Ok(dir) = std::env::var("SPAWNPOINT_STORE_CHILD") {
        let store = SqliteDirectory::open(Path::new(&dir)).unwrap();
        assert!(store.host_by_name(&name("parent")).unwrap().is_some());
        host(&store, "child", 2);
        return;
    }
    let (dir, store) = open();
    host(&store, "parent", 1);
    let before = store.version().unwrap();
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "tests::file::another_process_sees_and_makes_changes"])
        .env("SPAWNPOINT_STORE_CHILD", dir.path())
        .output()
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
    assert!(store.version().unwrap() > before);
    assert!(store.host_by_name(&name("child")).unwrap().is_some());
}

#[test]
fn a_damaged_file_is_named_with_the_remedy_and_left_untouched() {
    type Damage = fn(Vec<u8>) -> Vec<u8>;
    let damages: [(&str, Damage); 4] = [
        ("garbage", |_| {
            b"this is not a database at all, but it is long enough to be looked at".repeat(100)
        }),
        ("truncated", |whole| whole[..whole.len() / 2].to_vec()),
        ("emptied", |_| Vec::new()),
        ("overwritten pages", |mut whole| {
            whole[4096..].fill(0xa5);
            whole
        }),
    ];
    for (what, damage) in damages {
        let (dir, store) = open();
        host(&store, "lobby", 1);
        let path = store.path().to_owned();
        drop(store);
        let damaged = damage(fs::read(&path).unwrap());
        fs::write(&path, &damaged).unwrap();
        let error = SqliteDirectory::open(dir.path()).expect_err(what);
        assert!(matches!(error, StoreError::Corrupt { .. }), "{what}: {error:?}");
        let text = error.to_string();
        assert!(
            text.contains(path.to_str().unwrap()) && text.contains("restore it from a backup"),
            "{what}: {text}"
        );
        assert_eq!(fs::read(&path).unwrap(), damaged, "{what}");
    }
}

#[test]
fn a_journal_without_its_file_is_not_played_into_a_new_one() {
    let (dir, store) = open();
    host(&store, "lobby", 1);
    let moved = dir.path().join("moved");
    fs::rename(store.path(), &moved).unwrap();
    let error = SqliteDirectory::open(dir.path()).unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
    assert!(
        error.to_string().contains("(it is missing, its -wal file is there)"),
        "{error}"
    );
    fs::rename(&moved, store.path()).unwrap();
    assert_eq!(SqliteDirectory::open(dir.path()).unwrap().hosts().unwrap().len(), 1);
}

#[test]
fn a_database_of_another_program_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("directory.sqlite3");
    rusqlite::Connection::open(&path)
        .unwrap()
        .execute_batch("CREATE TABLE songs (title TEXT)")
        .unwrap();
    assert!(matches!(
        SqliteDirectory::open(dir.path()),
        Err(StoreError::NotOurs { .. })
    ));
}

#[test]
fn a_database_without_any_schema_yet_is_filled() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("directory.sqlite3");
    rusqlite::Connection::open(&path)
        .unwrap()
        .execute_batch("PRAGMA journal_mode = wal; VACUUM")
        .unwrap();
    assert!(fs::metadata(&path).unwrap().len() > 0);
    let store = SqliteDirectory::open(dir.path()).unwrap();
    host(&store, "lobby", 1);
}

#[test]
fn a_file_of_a_newer_release_is_refused() {
    let (dir, store) = open();
    let path = store.path().to_owned();
    drop(store);
    rusqlite::Connection::open(&path)
        .unwrap()
        .pragma_update(None, "user_version", 700)
        .unwrap();
    let error = SqliteDirectory::open(dir.path()).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("written by a newer release of spawnpoint (schema 700, this one knows up to"),
        "{error}"
    );
}

#[test]
fn a_value_that_makes_no_sense_is_named() {
    let (_dir, store) = open();
    host(&store, "lobby", 1);
    rusqlite::Connection::open(store.path())
        .unwrap()
        .execute("UPDATE hosts SET ports = '9-1'", [])
        .unwrap();
    let error = store.hosts().unwrap_err().to_string();
    assert!(
        error.contains("host `lobby`: ports: the range `9-1` ends before it starts"),
        "{error}"
    );
}

#[test]
fn a_data_directory_that_cannot_be_made_is_named() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    let below = dir.path().join("file/data");
    for error in [
        SqliteDirectory::open(&below).unwrap_err(),
        DataDir::lock(&below).unwrap_err(),
    ] {
        assert!(matches!(error, StoreError::CreateDir { .. }), "{error:?}");
        let expected = format!(
            "failed to create the data directory {}: make it yourself",
            below.display()
        );
        assert!(error.to_string().starts_with(&expected), "{error}");
    }
}

#[test]
fn a_lock_or_directory_that_cannot_be_written_is_named() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("relay.lock")).unwrap();
    fs::create_dir(dir.path().join("directory.sqlite3")).unwrap();
    for error in [
        DataDir::lock(dir.path()).unwrap_err(),
        SqliteDirectory::open(dir.path()).unwrap_err(),
    ] {
        assert!(matches!(error, StoreError::Unwritable { .. }), "{error:?}");
        assert!(
            error
                .to_string()
                .contains("run as the user who owns the data directory"),
            "{error}"
        );
    }
}

#[test]
fn a_writer_that_holds_the_file_for_too_long_is_reported() {
    let (_dir, store) = open();
    let blocker = rusqlite::Connection::open(store.path()).unwrap();
    blocker.execute_batch("BEGIN IMMEDIATE").unwrap();
    store.shorten_busy_timeout();
    let error = store
        .create_host(&name("lobby"), &hash(1), &Grant::default(), NOW)
        .unwrap_err();
    assert!(matches!(error, StoreError::Locked { .. }), "{error:?}");
    assert_eq!(store.hosts().unwrap(), [], "reading goes on");
    blocker.execute_batch("ROLLBACK").unwrap();
    host(&store, "lobby", 1);
}

#[cfg(unix)]
#[test]
fn everything_made_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let outer = tempfile::tempdir().unwrap();
    let dir = outer.path().join("a/data");
    let _lock = DataDir::lock(&dir).unwrap();
    let store = SqliteDirectory::open(&dir).unwrap();
    host(&store, "lobby", 1);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    for file in [
        "directory.sqlite3",
        "directory.sqlite3-wal",
        "directory.sqlite3-shm",
        "relay.lock",
    ] {
        assert_eq!(mode(&dir.join(file)), 0o600, "{file}");
    }
}

#[cfg(unix)]
#[test]
fn a_file_made_by_root_belongs_to_the_owner_of_the_data_directory() {
    use std::os::unix::fs::{MetadataExt, chown};
    let dir = tempfile::tempdir().unwrap();
    if chown(dir.path(), Some(4321), Some(4321)).is_err() {
        return; // Not root: there is nothing to hand over.
    }
    let store = SqliteDirectory::open(dir.path()).unwrap();
    host(&store, "lobby", 1);
    for file in ["directory.sqlite3", "directory.sqlite3-wal", "directory.sqlite3-shm"] {
        let metadata = fs::metadata(dir.path().join(file)).unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (4321, 4321), "{file}");
    }
}

#[test]
fn a_second_relay_on_a_data_directory_is_refused_with_the_pid_of_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let lock = DataDir::lock(dir.path()).unwrap();
    assert_eq!(lock.path(), dir.path());
    let error = DataDir::lock(dir.path()).unwrap_err().to_string();
    let expected = format!(
        "data directory {} is in use by another relay (pid {})",
        dir.path().display(),
        std::process::id()
    );
    assert!(error.starts_with(&expected), "{error}");
    drop(lock);
    DataDir::lock(dir.path()).unwrap();
}
