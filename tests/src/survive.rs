//! The show of `survive`: real processes, a crowd that notices everything, and one accident after the other.
//!
//! ```text
//! role (players) -> relay  ==place==  agent -> role (game server)
//! ```
//!
//! A [`scenario`] is a list of accidents. Each gets a [`stage`] of its own: relay and agent from the release build ([`running`]), the crowd in two
//! processes of this very program ([`role`], [`actor`]), and between them a [`place`]: network namespaces with a real NAT ([`net`]), or
//! [`crate::path`] on loopback where those are not to be had. [`show`] makes the accidents happen and judges, [`table`] says what came of it.

pub mod accident;
pub mod actor;
pub mod arguments;
pub mod fault;
pub mod launch;
pub mod net;
pub mod place;
pub mod role;
pub mod running;
pub mod scenario;
pub mod show;
pub mod soak;
pub mod stage;
pub mod table;
pub mod vitals;
