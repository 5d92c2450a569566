//! The first datagrams of a QUIC connection: which server a client asks for.
//!
//! A client's ClientHello travels in Initial packets. They are encrypted, but with keys that anybody can derive from what is beside them in the clear, so
//! a relay can read the name as it reads it from TLS. [`Initials`] takes the datagrams of one new client until the hello is whole, which for today's
//! browsers takes two, with the hello in shuffled pieces; the caller holds the datagrams and passes them on untouched once it knows where to. From then
//! on a packet shows no more than its connection id ([`LongHeader`], [`short_destination`]), and even that only to those who know its length.
//!
//! The cryptography is RustCrypto's (`hkdf`, `aes-gcm`), not that of rustls: its provider's build reaches a random source on some platforms, which this
//! crate may not, and the keys here protect nothing, so what is asked of them is only to be right.
//!
//! Source: RFC 9000 (packets, frames), RFC 9001 (keys, protection), RFC 9369 (version 2), RFC 8999 (what every version has).

mod field;
mod frame;
mod header;
mod initial;
mod keys;
mod pieces;
mod violation;

pub use header::{LongHeader, is_long, is_supported, short_destination};
pub use initial::{Initials, MAX_BYTES, MAX_DATAGRAMS};
pub use pieces::MAX_PIECES;
pub use violation::Violation;

#[cfg(test)]
mod tests;
