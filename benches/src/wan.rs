//! The bench over a line that delays, limits and loses: two network namespaces, and a router of our own between them.
//!
//! ```text
//! public 10.91.0.1: relay, players  --TUN--  router: delay, rate, queue, loss  --TUN--  10.91.0.2 home: agent, origin
//! ```
//!
//! Peers' servers run in public, their clients at home, as ours do; `direct` has the players dial the origin over the line. Router, players and origin
//! are this same program in other roles ([`role`]), so that each side has a process of its own. For each setting of the line ([`cell`]) all subjects
//! start anew, and each load is put on each in turn, round after round, with the same seed of losses ([`run`]). Reported are medians over rounds, and
//! how late the router was: a run on a machine that was too busy shows.
//!
//! `../wan.rs` is the entry; `cargo bench --bench wan -- --help` lists the flags.

pub mod arguments;
pub mod cell;
pub mod contender;
pub mod line;
pub mod load;
pub mod markdown;
pub mod measured;
pub mod net;
pub mod players;
pub mod plot;
pub mod report;
pub mod role;
pub mod router;
pub mod run;
pub mod table;
