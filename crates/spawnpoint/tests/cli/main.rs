//! The binary as people and programs use it: arguments, exit codes, files, signals, events.
#![allow(clippy::unwrap_used, reason = "a test panics as its report")]

mod bad_input;
mod harness;
mod hosts;
mod life;
#[cfg(unix)]
mod upgrade;
