//! The commands. Each file reads arguments, calls a library and prints.

mod agent;
mod bans;
mod demo;
mod dns;
mod host;
mod invite;
mod presets;
mod relay;
mod usage;

use clap::Subcommand;
use spawnpoint_config::ConfigError;

/// Tasks that a single thread serves before it looks for packets again.
const LOOK_EVERY: u32 = 16;

/// What can be asked of the program.
#[derive(Subcommand)]
pub enum Command {
    /// Run the public side, on a machine that players can reach
    Relay(Box<relay::Arguments>),
    /// Run the side next to the game server
    Agent(Box<agent::Arguments>),
    /// Make an invite for a new host (on the relay's machine)
    Invite(invite::Arguments),
    /// Manage hosts (on the relay's machine)
    Host(host::Arguments),
    /// List the games and services that a tunnel needs only a word for
    Presets(presets::Arguments),
    /// See a tunnel work on this machine alone
    Demo(demo::Arguments),
}

/// How a command that worked ended.
pub enum Done {
    /// It has nothing more to do.
    Finished,
    /// Everything that it has belongs to its successor now, so nothing may be closed or reported.
    HandedOver,
}

/// How a command failed.
pub enum Failure {
    /// What was asked for did not work: exit code 1.
    Failed(anyhow::Error),
    /// Arguments or configuration are wrong: exit code 2.
    Usage(anyhow::Error),
    /// An agent cannot go on and should not be started again as it is: exit code 3.
    GaveUp(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        let error = error.into();
        match error.is::<ConfigError>() {
            true => Self::Usage(error),
            false => Self::Failed(error),
        }
    }
}

/// Runs a command to its end.
pub fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Relay(arguments) => long(relay::run(*arguments)),
        Command::Agent(arguments) => long(agent::run(*arguments)),
        Command::Demo(arguments) => runtime()?.block_on(demo::run(arguments)),
        Command::Invite(arguments) => invite::run(arguments),
        Command::Host(arguments) => host::run(arguments),
        Command::Presets(arguments) => presets::run(arguments),
    }
}

/// Runs a process that may hand over to another.
fn long(run: impl Future<Output = Result<Done, Failure>>) -> Result<(), Failure> {
    let runtime = runtime()?;
    if let Done::HandedOver = runtime.block_on(run)? {
        // Dropping the tasks would reset players who play on.
        std::mem::forget(runtime);
    }
    Ok(())
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    crate::limits::raise_open_files();
    // A connection is one task's work, so a second thread gives it nothing but wake-ups: on two cores one thread costs a sixth less for each gigabyte and
    // each packet. On larger machines several hosts share the work. The game server, or the kernel, has use for the rest.
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut builder = match cores / 2 {
        0 | 1 => {
            // One thread has nobody to wake, and no queue that others reach into. It looks for packets more often than the runtime would by itself: who loads
            // keeps it busy, and who plays waits less.
            let mut builder = tokio::runtime::Builder::new_current_thread();
            builder.event_interval(LOOK_EVERY);
            builder
        }
        threads => {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            builder.worker_threads(threads);
            builder
        }
    };
    builder.enable_all().build()
}
