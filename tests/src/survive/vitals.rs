//! What a process holds, by `/proc`.

use std::path::{Path, PathBuf};

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

/// Where a process's standard output leads, which its successor inherits and nobody else has.
pub fn stdout_of(pid: u32) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/{pid}/fd/1")).ok()
}

/// Processes whose standard output leads to `pipe`. One that has ended but was not waited for has none.
pub fn find(pipe: &Path) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| stdout_of(*pid).is_some_and(|other| other == pipe))
        .collect()
}

/// Whether a process has let go of everything it had. One that dies lets go of its list of files first, and of the files one by one after it.
pub fn is_over(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // After its name, which may hold anything: a zombie, or nothing.
    stat.rsplit_once(") ")
        .is_none_or(|(_, rest)| rest.starts_with(['Z', 'X']))
}

/// Bytes for people.
pub fn mebibytes(bytes: u64) -> String {
    format!("{:.0} MiB", bytes as f64 / 1_048_576.0)
}
