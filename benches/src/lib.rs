//! The bench of the whole tunnel: Spawnpoint between two of our own ends, measured beside direct loopback and beside peers.
//!
//! ```text
//! player (load generator)  ->  subject: direct | spawnpoint | rathole | bore  ->  origin (game server)
//!  bulk, pingpong, ...          setups, process: other processes                   origin
//! ```
//!
//! Players and origin live in this process and check every byte that reaches them; what lies between are the real binaries, started anew for each
//! load. A round runs one load on each subject in turn, so that whatever else the machine does meets all of them, and what is reported are medians
//! over rounds and ratios within one run ([`run`]). Absolute figures of a loopback with two cores say little about any other machine.
//!
//! `../tunnel.rs` is the entry; `cargo bench --bench tunnel -- --help` lists loads and flags.

pub mod arguments;
pub mod binaries;
pub mod bulk;
pub mod connects;
pub mod fault;
pub mod figure;
pub mod load;
pub mod memory;
pub mod origin;
pub mod packets;
pub mod pattern;
pub mod pingpong;
pub mod ports;
pub mod process;
pub mod report;
pub mod run;
pub mod setups;
pub mod stats;
pub mod subject;
pub mod table;
pub mod ticks;
pub mod voice;
