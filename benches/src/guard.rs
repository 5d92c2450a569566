//! The bench of the guard: what floods at one host leave of another host's game, and how many idle players there is room for.
//!
//! `../guard.rs` is the entry and report. Relay, agents, [`server`]s and [`players`] share one processor, [`flood`]s have the other, where there are two.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

pub mod flood;
pub mod players;
pub mod server;
pub mod town;

/// What has not begun to work by then does not.
const START: Duration = Duration::from_secs(20);

/// Room for the descriptors of twenty thousand players, here and in each process that is started.
pub fn raise_descriptors() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let maximum = getrlimit(Resource::Nofile).maximum;
        let wanted = Rlimit {
            current: maximum,
            maximum,
        };
        // With fewer the bench says how far it came.
        let _ = setrlimit(Resource::Nofile, wanted);
    }
}

/// A command on one processor, where there are two.
fn pinned(program: &Path, processor: usize) -> Command {
    if !cfg!(target_os = "linux") {
        return Command::new(program);
    }
    let mut command = Command::new("taskset");
    command.args(["-c", &processor.to_string()]).arg(program);
    command
}
