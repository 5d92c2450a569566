//! The one binary: arguments and exit codes. What the commands do is in the libraries.

mod cli;
mod desk;
mod limits;
mod output;
mod paths;
mod secrets;
mod signals;
#[cfg(unix)]
mod successor;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Command, Failure};

/// Play on the server under the desk: a self-hosted TCP and UDP tunnel for game servers behind NAT.
#[derive(Parser)]
#[command(name = "spawnpoint", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    #[cfg(unix)]
    if spawnpoint_net::is_between() {
        return match spawnpoint_net::pass_on() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("spawnpoint: cannot start a successor: {error}");
                ExitCode::FAILURE
            }
        };
    }
    secrets::keep_memory_private();
    let arguments = Arguments::parse();
    match cli::run(arguments.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let (code, error) = match failure {
                Failure::Failed(error) => (1, error),
                Failure::Usage(error) => (2, error),
                Failure::GaveUp(error) => (3, error),
            };
            eprintln!("spawnpoint: {error:#}");
            ExitCode::from(code)
        }
    }
}
