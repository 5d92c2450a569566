#![allow(clippy::unwrap_used)]

use std::path::Path;

use super::*;

fn settings(file: &Path) -> AuditSettings {
    AuditSettings {
        file: Some(file.to_owned()),
        max_size: 10_000,
        keep: 3,
        addresses: Duration::from_secs(3_600),
        sessions: false,
        syslog: None,
        journald: false,
    }
}

fn banned(number: u32) -> Event {
    Event::Banned {
        host: Some("desk".to_owned()),
        prefix: format!("203.0.113.{}/32", number % 256),
        by: "host",
        reason: "griefing".to_owned(),
        lasts_s: None,
    }
}

#[test]
fn a_line_has_its_time_and_what_is_no_audit_has_none() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    let audit = Audit::open(&settings(&path)).unwrap();
    audit.record(&banned(7));
    audit.record(&Event::Notice { text: "x".to_owned() });
    audit.record_note(1_795_770_000, r#"{"event":"invited","host":"attic"}"#);
    audit.record_note(0, "nonsense");
    audit.finish();
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert_eq!(
        (&lines[0]["event"], &lines[0]["prefix"]),
        (&"banned".into(), &"203.0.113.7/32".into())
    );
    assert!(lines[0]["time"].as_str().unwrap().ends_with('Z'));
    assert_eq!(lines[1]["time"], "2026-11-27T09:00:00.000Z");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn full_files_are_rotated_and_only_so_many_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    let audit = Audit::open(&settings(&path)).unwrap();
    for number in 0..1_000 {
        audit.record(&banned(number));
    }
    audit.finish();
    let mut sizes: Vec<u64> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .collect();
    sizes.sort_unstable();
    assert!(sizes.len() >= 4 && sizes.len() <= 5, "{sizes:?}");
    assert!(sizes.iter().all(|size| *size <= 10_000), "{sizes:?}");
    assert_eq!(audit.lost(), 0);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.lines().last().unwrap().contains("203.0.113.231/32"));
}

#[test]
fn in_files_that_are_old_no_address_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    let old = dir.path().join("audit-20200101T000000000Z.jsonl");
    std::fs::write(&old, "{\"event\":\"banned\",\"prefix\":\"203.0.113.7/32\"}\n").unwrap();
    let file = std::fs::File::options().write(true).open(&old).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(7_200))
        .unwrap();
    let young = dir.path().join("audit-20200102T000000000Z.jsonl");
    std::fs::write(&young, "{\"prefix\":\"203.0.113.8/32\"}\n").unwrap();
    let audit = Audit::open(&settings(&path)).unwrap();
    audit.record(&banned(9));
    audit.finish();
    assert!(!old.exists());
    let short = std::fs::read_to_string(dir.path().join("audit-20200101T000000000Z-short.jsonl")).unwrap();
    assert!(short.contains("203.0.113.0/24") && !short.contains("113.7"), "{short}");
    assert!(std::fs::read_to_string(&young).unwrap().contains("203.0.113.8/32"));
}

#[test]
fn a_file_that_cannot_be_written_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let error = Audit::open(&settings(&dir.path().join("missing/audit.jsonl")))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("missing/audit.jsonl") && error.contains("audit.file"),
        "{error}"
    );
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_costs_lines_that_are_counted_and_nothing_else() {
    let audit = Audit::open(&settings(Path::new("/dev/full"))).unwrap();
    for number in 0..10 {
        audit.record(&banned(number));
    }
    audit.finish();
    assert_eq!(audit.lost(), 10);
}
