//! What a process holds, by `/proc`.

use std::path::Path;

/// A process at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Vitals {
    /// Open files and sockets.
    pub descriptors: usize,
    /// Threads.
    pub threads: usize,
    /// Resident bytes.
    pub resident: u64,
}

impl Vitals {
    /// Those of a process; none when it is gone.
    pub fn of(pid: u32) -> Option<Self> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().trim_end_matches(" kB").parse::<u64>().ok()
        };
        Some(Self {
            descriptors: std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count(),
            threads: field("Threads:")? as usize,
            resident: field("VmRSS:")? * 1024,
        })
    }
}

/// Processes that run `command` (`relay` or `agent`) on `directory`, other than those that were only asked to talk to one.
pub fn find(command: &str, directory: &Path) -> Vec<u32> {
    let directory = directory.display().to_string();
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &u32| {
        // A process that has ended but was not waited for has an empty one.
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<_> = line.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
        let has = |word: &str| words.iter().any(|other| other == word);
        has(command) && has(&directory) && !has("upgrade")
    })
    .collect()
}

/// Bytes for people.
pub fn mebibytes(bytes: u64) -> String {
    format!("{:.0} MiB", bytes as f64 / 1_048_576.0)
}
