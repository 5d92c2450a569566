//! Network namespaces by the `ip` command: what the bench over a line and the show of accidents both do with theirs.
//!
//! A namespace's name holds the id of the process that made it, so that what a killed one left behind is known and goes.

use std::io::Write as _;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::fault::Fault;

/// Removes namespaces that are called `PREFIX<process id>-...` and whose process is gone.
pub fn sweep(prefix: &str) {
    let list = run(&["ip", "netns", "list"], "").unwrap_or_default();
    for name in list.lines().filter_map(|line| line.split_whitespace().next()) {
        let owner = name.strip_prefix(prefix).and_then(|rest| rest.split_once('-'));
        let owner = owner.and_then(|(id, _)| id.parse::<u32>().ok());
        // A process that is dead and waits to be buried has no program any more.
        let is_dead = |id| std::fs::read_link(format!("/proc/{id}/exe")).is_err();
        if owner.is_some_and(is_dead) {
            remove(name);
        }
    }
}

/// Kills what runs in a namespace and removes it. Nothing to report to: it may be half built.
pub fn remove(name: &str) {
    let inside = run(&["ip", "netns", "pids", name], "").unwrap_or_default();
    let pids = inside.lines().filter_map(|line| line.trim().parse().ok());
    for pid in pids.filter_map(Pid::from_raw) {
        let _ = kill_process(pid, Signal::KILL);
    }
    let _ = ip(&["netns", "del", name]);
}

/// Runs `ip` with these words.
///
/// # Errors
/// [`Fault::Failed`] with what it says.
pub fn ip(words: &[&str]) -> Result<(), Fault> {
    run(&[&["ip"], words].concat(), "").map(drop)
}

/// Runs a short command to its end with `input`; what it prints.
///
/// # Errors
/// [`Fault::Failed`] with what it says.
pub fn run(words: &[&str], input: &str) -> Result<String, Fault> {
    let fail = |why: &dyn std::fmt::Display| Fault::failed(&words.join(" "), why);
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).stdin(Stdio::piped());
    let spawned = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = spawned.map_err(|error| fail(&error))?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that does not read has its own say below.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(|error| fail(&error))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(fail(&String::from_utf8_lossy(&output.stderr).trim())),
    }
}
