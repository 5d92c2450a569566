//! Two TOML files, read into values that cannot be wrong.
//!
//! [`relay::RelayConfig`] is what `relay.toml` says, [`agent::AgentConfig`] what `agent.toml` says, and [`tunnel::Tunnel`] is also what a command
//! line says in one word. No file at all is a good configuration: everything has a default, and `Default` is that configuration.
//!
//! Reading has two phases. The text becomes a table in which every key and value still knows its place; then each value is taken out by the rule of
//! its key. Taking them by hand instead of through derived deserialisation buys the messages: every mistake of a file is reported at once, with its
//! line, what is allowed there and what the default is, and a key that does not exist with the one that was probably meant. Nothing is ignored and
//! nothing is corrected in silence.
//!
//! `config/relay.toml` and `config/agent.toml` in the repository document every key. The tests of this crate read them, so they cannot drift.

pub mod agent;
pub mod audit;
mod document;
mod error;
pub mod link;
pub mod log;
pub mod preset;
pub mod relay;
mod report;
mod stamp;
pub mod tunnel;
pub mod unit;

pub use error::{ConfigError, Mistake};
pub use stamp::FileStamp;

#[cfg(test)]
mod annotated;
