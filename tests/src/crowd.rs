//! A crowd of players and the game server they play on, who notice everything that happens to them.
//!
//! ```text
//! players: ticks (TCP, 20 Hz), bulks (TCP downloads), flows (UDP, 20 Hz)  ->  what is tested  ->  origin: one TCP and one UDP port
//! ```
//!
//! Every byte of a stream and of a packet follows from whose it is and where it belongs (`spawnpoint_benches::pattern`), so one that is lost, doubled,
//! damaged or somebody else's shows where it arrives. Who counts what: a player's [`tape`] its arrivals, pauses and its end; the origin's [`books`] what
//! reached the game server and from which address each flow came. At the end both must tell the same story ([`books::compare`]).
//!
//! Origin and players know nothing of each other but addresses, so they live in one process ([`Crowd`]) or in two (`crate::survive::role`).

pub mod books;
mod flow;
pub mod hello;
pub mod origin;
pub mod players;
pub mod report;
mod stream;
pub mod tape;

use std::net::SocketAddr;
use std::time::Duration;

pub use books::Books;
pub use origin::Origin;
pub use players::Players;
pub use report::Report;
use serde::{Deserialize, Serialize};

/// How often a game speaks, in both directions.
pub const TICK: Duration = Duration::from_millis(50);

/// How many players of each kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    /// TCP players who get a frame of 1 KB a tick and send one of 30 B.
    pub ticks: u32,
    /// TCP players who download without end.
    pub bulks: u32,
    /// Bytes a second that each of those gets; 0 is as fast as it goes.
    pub bulk_rate: u64,
    /// UDP players who send a packet a tick and get it answered.
    pub flows: u32,
}

impl Size {
    /// Everybody.
    pub const fn players(&self) -> u32 {
        self.ticks + self.bulks + self.flows
    }
}

/// Players and their game server in one process.
#[derive(Debug)]
pub struct Crowd {
    /// The game server.
    pub origin: Origin,
    /// The players.
    pub players: Players,
}

impl Crowd {
    /// Lets `size` players in at the public addresses, which must lead to `origin`.
    pub async fn start(origin: Origin, public_tcp: SocketAddr, public_udp: SocketAddr, size: Size) -> Self {
        let players = Players::start(1, public_tcp, public_udp, size).await;
        Self { origin, players }
    }

    /// Ends the crowd tidily: players finish, the server answers the rest and finishes too. The report of the whole time, with every byte that one side
    /// sent and the other has not got counted as wrong.
    pub async fn stop(self) -> Report {
        let mut report = self.players.stop().await;
        books::compare(&mut report, &self.origin.books());
        report
    }
}
