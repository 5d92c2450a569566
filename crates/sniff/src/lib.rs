//! What a player's first bytes say, and the replies we owe.
//!
//! A player speaks first in most games, and what they say names the server they want. This crate reads those bytes without a socket, a clock or a
//! random number: a decoder is handed everything received so far and answers [`Progress::NeedMore`], the value with the number of bytes it took, or
//! a named violation. It never allocates for a length it has only been promised. Encoders write the few replies a relay must give by itself, and the
//! player's side of the same talk, which the demo uses to be a player.
//!
//! One module per protocol. Games: [`minecraft`] (Java, with the pings of the old clients) over TCP, [`raknet`] (Bedrock's list entry) over UDP. What
//! games and their pages come in: [`tls`] and [`quic`] (the server name in a ClientHello), [`http`] (the host of a request). What stands before any of
//! them: [`proxy`] (a proxy's word on whose connection this is). Each has its own `Violation`, so that a new protocol adds a module and changes none.
//! `relay` owns the byte cap and the deadline around them.

pub mod http;
pub mod minecraft;
mod progress;
pub mod proxy;
pub mod quic;
pub mod raknet;
pub mod tls;

pub use progress::Progress;
