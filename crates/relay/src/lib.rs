//! The public side of the tunnel.
//!
//! A [`Relay`] listens for agents, opens public ports for their tunnels and carries players to them. It composes: rules come from `spawnpoint-core`, bytes
//! from `spawnpoint-proto`, sockets from `spawnpoint-net`; here are the tasks, and who owns which state.
//!
//! ```text
//! start     starting and stopping, phase by phase
//! welcome   an agent's connection, from its first packet to its welcome or reject
//! link      one welcomed agent, from connection to connection: its control messages, its datagrams, its tunnels, its sessions
//! registry  the supervisor: which link holds which tunnel, which public sockets are open
//! exposure  one public port: accepts players and looks up where they go
//! tunnel    what the players of one tunnel share
//! tcp udp   one TCP player; the UDP players of one tunnel
//! handover  an upgrade in place: everything goes to a successor
//! refuse    what a player is told who cannot enter
//! ```
//! [`office`] is what an operator does with hosts while the relay runs.

mod certificate;
mod context;
mod directory;
mod exposure;
#[cfg(unix)]
mod handover;
mod link;
mod meter;
pub mod office;
mod refuse;
mod registry;
mod start;
mod tcp;
mod tunnel;
mod udp;
mod welcome;

pub use start::{Relay, RelayError, RelayInfo};
