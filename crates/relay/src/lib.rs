//! The public side of the tunnel.
//!
//! A [`Relay`] listens for agents, opens public ports for their tunnels and carries players to them. It composes: rules come from `spawnpoint-core`, bytes
//! from `spawnpoint-proto`, sockets from `spawnpoint-net`; here are the tasks, and who owns which state.
//!
//! ```text
//! start     starting and stopping, phase by phase
//! reload    a changed configuration, while the relay runs
//! door      who may begin an agent's handshake
//! welcome   an agent's connection, from its first packet to its welcome or reject
//! link      one welcomed agent, from connection to connection: its control messages, its datagrams, its tunnels, its sessions
//! registry  the supervisor: which link holds which tunnel, which public sockets are open
//! exposure  one public port: accepts players and looks up where they go
//! hearing   a TCP player who has to say first whom they want
//! quic      a shared port for QUIC
//! list      the server list: what each server shows there, asked of it once in a while
//! pong      list pings of Bedrock
//! away      what the players of a server that is away are shown
//! remember  tunnels that are answered while their agents are gone
//! names     the names of a tunnel, and the best that players can type
//! tunnel    what the players of one tunnel share
//! access    from where players may come: lists, countries, bans
//! offend    offences, and the bans that they bring
//! allowance how much hosts and tunnels may use
//! memory    the ceiling of memory
//! audit     what is written down of it
//! usage     what hosts and tunnels use, and their quotas
//! rates     how fast they and their players may be
//! tcp udp   one TCP player; the UDP players of one tunnel
//! handover  an upgrade in place: everything goes to a successor
//! refuse    talking to a player who does not get in
//! ```
//! [`office`] is what an operator does with hosts while the relay runs, [`zone`] what to put into DNS.

mod access;
mod allowance;
mod audit;
mod away;
mod certificate;
mod context;
mod directory;
mod dnsbl;
mod door;
mod exposure;
#[cfg(unix)]
mod handover;
mod hearing;
mod link;
mod list;
mod memory;
mod meter;
mod names;
mod offend;
pub mod office;
mod pong;
mod quic;
mod rates;
mod refuse;
mod registry;
mod reload;
mod remember;
mod settings;
mod start;
mod tcp;
mod tunnel;
mod udp;
mod usage;
mod welcome;
pub mod zone;

pub use reload::{Load, Reloaded};
pub use start::{Relay, RelayError, RelayInfo};
