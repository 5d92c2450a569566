//! Where things run: everything on loopback, or the relay's side and the home's side each somewhere of its own.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::Command;

/// A side of a tunnel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// Relay and players.
    Public,
    /// Agent and game server.
    Home,
}

/// One side's address, and the words that run a program there.
#[derive(Clone, Debug)]
pub struct Spot {
    /// Where its programs listen, and where the other side finds them.
    pub address: IpAddr,
    /// Put before a program and its arguments; empty for here.
    pub enter: Vec<String>,
}

/// Both sides.
#[derive(Clone, Debug)]
pub struct Place {
    /// Relay and players.
    pub public: Spot,
    /// Agent and game server.
    pub home: Spot,
}

impl Place {
    /// Everything here, on one address.
    pub fn loopback() -> Self {
        let here = Spot {
            address: Ipv4Addr::LOCALHOST.into(),
            enter: Vec::new(),
        };
        Self {
            public: here.clone(),
            home: here,
        }
    }

    /// The address of a side.
    pub const fn address(&self, side: Side) -> IpAddr {
        self.spot(side).address
    }

    /// A command that runs `program` on a side.
    pub fn command(&self, side: Side, program: &Path) -> Command {
        match self.spot(side).enter.split_first() {
            None => Command::new(program),
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(program);
                command
            }
        }
    }

    const fn spot(&self, side: Side) -> &Spot {
        match side {
            Side::Public => &self.public,
            Side::Home => &self.home,
        }
    }
}
