//! What this process has of the machine, and may have: memory, open files.

use std::fs;
use std::path::Path;

/// How many files and sockets this process may have open; `None` where there is no such limit.
pub fn open_files_limit() -> Option<u64> {
    #[cfg(unix)]
    return rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    #[cfg(not(unix))]
    None
}

/// What the machine, or the control group around this process, lets it have at most, in bytes; `None` where that cannot be found out.
pub fn memory_of_machine() -> Option<u64> {
    let machine = fs::read_to_string("/proc/meminfo").ok();
    let machine = machine.and_then(|text| kibibytes(&text, "MemTotal:"));
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let group = groups.lines().find_map(|line| line.strip_prefix("0::"));
    let second = group.into_iter().flat_map(|group| {
        let ancestors = Path::new(group.trim_start_matches('/')).ancestors().map(Path::to_owned);
        ancestors.map(|group| Path::new("/sys/fs/cgroup").join(group).join("memory.max"))
    });
    let first = Path::new("/sys/fs/cgroup/memory/memory.limit_in_bytes").to_owned();
    let limits = second
        .chain([first])
        .filter_map(|path| fs::read_to_string(path).ok()?.trim().parse().ok());
    limits.chain(machine).min()
}

/// What this process has in memory right now, in bytes; `None` where that cannot be found out.
pub fn memory_in_use() -> Option<u64> {
    kibibytes(&fs::read_to_string("/proc/self/status").ok()?, "VmRSS:")
}

/// The number behind `name` in a list of the kernel's, in bytes.
fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    let number: u64 = rest.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(number * 1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_of_the_kernel_is_read_with_its_unit() {
        let text = "Name:\tspawnpoint\nVmRSS:\t    5120 kB\nVmData:\t 1 kB\n";
        assert_eq!(kibibytes(text, "VmRSS:"), Some(5_120 * 1_024));
        assert_eq!(kibibytes(text, "VmSwap:"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_has_less_than_its_machine() {
        let (used, limit) = (memory_in_use().unwrap_or(0), memory_of_machine().unwrap_or(0));
        assert!(0 < used && used < limit, "{used} of {limit}");
    }
}
