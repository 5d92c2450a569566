//! Minecraft Java Edition, as far as a relay needs it: from the first byte to the list entry or the login.
//!
//! A modern player (1.7 and later) sends a [`Handshake`] frame that names the host they typed, then either asks for the list entry ([`status`]) or
//! logs in ([`login`]). Older ones send one of three [`legacy`] pings, which only look like frames. [`First`] tells these apart; [`Refusal`] answers any
//! of them when there is no server to answer. Nothing here follows a player past the login: from there on the bytes are the origin's alone.
//!
//! Source: the protocol as documented on wiki.vg (now minecraft.wiki), pages "Protocol" and "Server List Ping".

mod first;
mod frame;
mod handshake;
pub mod legacy;
mod listing;
pub mod login;
mod refusal;
pub mod status;
mod text;
mod varint;
mod violation;

pub use first::{First, LEGACY_PAUSE};
pub use handshake::{Handshake, Next};
pub use listing::Listing;
pub use refusal::{Outcome, Refusal, Step, Then};
pub use violation::Violation;

#[cfg(test)]
mod tests;
