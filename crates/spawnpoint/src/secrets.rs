//! What others on this machine could see of a secret that this process has: its memory, and the words that it was started with.

/// No core dump of this process, which would have every token and key in it; debuggers of others than root cannot look in either.
///
/// On Windows nothing writes dumps unless somebody has set that up for this very program.
pub fn keep_memory_private() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, setrlimit};
        let none = Rlimit {
            current: Some(0),
            maximum: Some(0),
        };
        // It can always be lowered.
        let _ = setrlimit(Resource::Core, none);
    }
    // The limit does not count where dumps go to a program.
    #[cfg(target_os = "linux")]
    {
        let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    }
}

/// Starts this program anew in this process without the word `secret`, which everybody on this machine could read in the list of processes; what it said is
/// remembered, and what the environment variable `variable` says counts no more. Returns only when that cannot be done, with the reason.
#[cfg(unix)]
pub fn start_without(secret: &str, variable: &str) -> std::io::Error {
    use std::os::unix::process::CommandExt;
    let (mut words, program) = match std::env::current_exe() {
        Ok(program) => (std::env::args_os(), program),
        Err(error) => return error,
    };
    let name = words.next();
    let mut command = std::process::Command::new(program);
    if let Some(name) = name {
        command.arg0(name);
    }
    command.env_remove(variable);
    command.args(words.filter(|word| word != secret)).exec()
}
