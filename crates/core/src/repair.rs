//! Loss repaired before it is felt.
//!
//! A lost packet costs its players a retransmission, that is one round trip and more. So the small writes of a link's sessions travel a second time, a
//! few milliseconds later and in a packet of their own, as *repairs* (`spawnpoint_proto::repair`): each covers a few writes of different sessions, and
//! who has all of them but one has that one too. The packets of UDP flows whose tunnel asks for it travel a second time just as they are.
//!
//! ```text
//! sender    on_write --> groups --(full, or 8 ms old)--> budget --.
//!           delay_copy ------------------------------------------ +--> 2 ms --> poll_datagram
//! receiver  on_taken --> recent pieces --.
//!           on_repair ------------------ +--> a write that is missing, or a place among those that wait
//! ```
//! [`Spares`] is the sender, [`Mender`] the receiver, [`choose`] decides how much is spent. What a peer is told here it would be told by its streams
//! anyway: a repair that is lost, late, dropped or wrong costs nothing but its bytes, and a wrong one can spoil only sessions of the peer that sent it.
//!
//! Nothing here reads a clock or a socket: callers pass `now` and act on what is returned.

mod budget;
mod delayed;
mod mender;
mod policy;
mod recent;
mod spares;

pub use mender::{Mended, Mender, Outcomes};
pub use policy::{Path, Policy, choose};
pub use spares::{Spares, Spent};

#[cfg(test)]
mod sim;
