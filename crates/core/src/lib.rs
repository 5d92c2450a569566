//! Who may enter, where they go, how they survive.
//!
//! The rules of the tunnel without its sockets: grants and tokens, admission, routes, UDP flows, fair queues, TCP streams that outlive the connection
//! which carries them, repairs of what it loses, backoff and drain. Nothing here reads a clock, draws a random number or waits: callers pass what they know and act on what is
//! returned. So every rule runs in a simulation exactly as it runs in production (`tests/sim` of the workspace drives these types through millions of
//! hostile steps from a seed).
//!
//! Bytes of TCP sessions are kept here for a peer that may need them again ([`stream`]), and never looked at.

pub mod access;
pub mod admission;
pub mod backoff;
pub mod dnsbl;
pub mod drain;
pub mod flow;
pub mod gather;
pub mod grant;
pub mod hostname;
pub mod loopback;
pub mod offences;
pub mod outbox;
pub mod pace;
pub mod pin;
pub mod port;
pub mod pulse;
pub mod repair;
pub mod route;
pub mod shape;
pub mod stream;
pub mod token;
pub mod tuning;
pub mod urgency;
pub mod wake;
