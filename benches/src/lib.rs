//! The bench of the whole tunnel: Spawnpoint between two of our own ends, measured beside direct loopback and beside peers.
//!
//! ```text
//! player (load generator)  ->  subject: direct | spawnpoint | rathole | nginx ...  ->  origin (game server)
//!  bulk, pingpong, ...          launch, process: other processes                        origin
//! ```
//!
//! Players and origin live in this process and check every byte that reaches them; what lies between are the real binaries, started anew for each
//! load. A round runs one load on each subject in turn, so that whatever else the machine does meets all of them, and what is reported are medians
//! over rounds and ratios within one run ([`run`]), which [`targets`] holds against what we promise. Absolute figures of a loopback with two cores say
//! little about any other machine.
//!
//! `../loopback.rs` is the entry; `cargo bench --bench loopback -- --help` lists loads and flags. [`wan`] is the other bench, over a line, with entry and
//! report of its own, and so is [`guard`], about floods.

pub mod about;
pub mod arguments;
pub mod bare_quic;
pub mod binaries;
pub mod bulk;
pub mod connects;
pub mod fault;
pub mod figure;
pub mod guard;
pub mod knock;
pub mod launch;
pub mod load;
pub mod markdown;
pub mod memory;
pub mod message;
#[cfg(unix)]
pub mod namespace;
pub mod nginx;
pub mod origin;
pub mod packets;
pub mod pattern;
pub mod pingpong;
pub mod place;
pub mod ports;
pub mod process;
pub mod rathole;
pub mod report;
pub mod run;
pub mod setups;
pub mod stalled;
pub mod stats;
pub mod subject;
pub mod table;
pub mod targets;
pub mod ticks;
pub mod voice;
#[cfg(target_os = "linux")]
pub mod wan;
