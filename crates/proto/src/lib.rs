//! The words and bytes between relay and agent.
//!
//! Everything that crosses the link is defined here once: identifiers, the control messages, the header of a player's stream, the header of a
//! datagram, fragments, repairs, the handshake, and the codes by which a stream, a link or a tunnel ends. Nothing here reads a clock, opens a socket or
//! draws a random number: decoders take bytes and return values or a named [`Violation`]; whatever a peer sends, they never panic and never
//! allocate more than the bytes that arrived.
//!
//! `spawnpoint-core` builds rules on these words, `spawnpoint-net` moves the bytes.

mod code;
pub mod control;
pub mod datagram;
mod dialect;
pub mod fragment;
pub mod frame;
pub mod handshake;
mod id;
mod invite;
mod name;
pub mod repair;
mod secret;
pub mod stream;
mod text;
mod time;
mod violation;

pub use code::{CloseCode, RefusalCode, RejectCode, ResetCode};
pub use dialect::Dialect;
pub use id::{AgentId, FlowId, LinkId, SessionId, TunnelId};
pub use invite::{Invite, InviteError, Trust};
pub use name::{HostName, NameError, Protocol, TunnelName, host_port};
pub use secret::{CertificateHash, Ticket, Token, TokenProof};
pub use text::{cut, plain};
pub use time::Time;
pub use violation::Violation;

/// The protocol name agreed in TLS (ALPN) by relay and agent.
pub const ALPN: &[u8] = b"spawnpoint/1";

/// The version of the control protocol that this build speaks best.
pub const VERSION: u16 = 1;

/// Every version of the control protocol that this build speaks, best first.
pub const VERSIONS: &[u16] = &[VERSION];

/// The UDP port on which a relay listens for agents unless told otherwise.
pub const DEFAULT_PORT: u16 = 7843;
