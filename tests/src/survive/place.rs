//! Where the show takes place: in network namespaces, or on loopback over a path in this process.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path as File;

use spawnpoint_proto::Invite;
use tokio::process::Command;

use super::fault::Fault;
use super::net::{self, Net, Side};
use crate::lab::{free_ports, loopback};
use crate::path::Path;

/// The agents' port in a namespace, where nobody else is.
const AGENTS: u16 = 7843;

/// The same for players.
const PLAYERS: &str = "25565-25572";

/// A place and the way between its sides.
#[derive(Debug)]
pub enum Place {
    /// All on 127.0.0.1.
    Loopback {
        /// Where the relay awaits agents.
        relay: SocketAddr,
        /// What lies between.
        path: Path,
    },
    /// A net of its own.
    Namespaces(Net),
}

impl Place {
    /// A place on loopback. `seed` is for the path's dice.
    ///
    /// # Errors
    /// When there is no free port.
    pub async fn loopback(seed: u64) -> Result<Self, Fault> {
        let fail = |error| Fault::new("the path", error);
        // The port must be the relay's again after it was killed, so it is not one that the kernel gives out meanwhile.
        let relay = loopback(free_ports(1).iter().next().unwrap());
        let path = Path::start(relay, seed).await.map_err(fail)?;
        Ok(Self::Loopback { relay, path })
    }

    /// A command that runs `program` on a side.
    pub fn command(&self, side: Side, program: &File) -> Command {
        match self {
            Self::Loopback { .. } => Command::new(program),
            Self::Namespaces(net) => {
                let prefix = net.prefix(side);
                let mut command = Command::new(&prefix[0]);
                command.args(&prefix[1..]).arg(program);
                command
            }
        }
    }

    /// The relay's address for agents, as it listens.
    pub const fn relay(&self) -> SocketAddr {
        match self {
            Self::Loopback { relay, .. } => *relay,
            Self::Namespaces(_) => SocketAddr::new(net::RELAY, AGENTS),
        }
    }

    /// The public ports.
    pub fn ports(&self) -> String {
        match self {
            Self::Loopback { .. } => free_ports(8).to_string(),
            Self::Namespaces(_) => PLAYERS.to_owned(),
        }
    }

    /// The game server's address, as the agent dials it.
    pub const fn origin(&self) -> IpAddr {
        IpAddr::V4(Ipv4Addr::LOCALHOST)
    }

    /// The invite as the agent should read it.
    pub fn invite(&self, invite: Invite) -> Invite {
        match self {
            Self::Loopback { path, .. } => path.invite(&invite),
            Self::Namespaces(_) => invite,
        }
    }

    /// Loses everything in both directions, or nothing any more.
    ///
    /// # Errors
    /// When the kernel refuses; so do the others.
    pub fn set_dark(&mut self, is_dark: bool) -> Result<(), Fault> {
        match self {
            Self::Loopback { path, .. } => {
                path.set_dark(is_dark);
                Ok(())
            }
            Self::Namespaces(net) => net.set_dark(is_dark),
        }
    }

    /// Home's cable is out, or in again; on loopback there is none, so it is dark.
    ///
    /// # Errors
    /// As [`Place::set_dark`].
    pub fn set_unplugged(&mut self, is_unplugged: bool) -> Result<(), Fault> {
        match self {
            Self::Loopback { .. } => self.set_dark(is_unplugged),
            Self::Namespaces(net) => net.set_unplugged(is_unplugged),
        }
    }

    /// The NAT forgets its mappings.
    ///
    /// # Errors
    /// As [`Place::set_dark`].
    pub fn rebind(&mut self) -> Result<(), Fault> {
        match self {
            Self::Loopback { path, .. } => path.rebind().map_err(|error| Fault::new("rebind", error)),
            Self::Namespaces(net) => net.rebind(),
        }
    }

    /// The agent's address changes.
    ///
    /// # Errors
    /// As [`Place::set_dark`].
    pub fn readdress(&mut self) -> Result<(), Fault> {
        match self {
            Self::Loopback { path, .. } => path.readdress().map_err(|error| Fault::new("readdress", error)),
            Self::Namespaces(net) => net.readdress(),
        }
    }

    /// The agent's address changes and what was open is dead.
    ///
    /// # Errors
    /// As [`Place::set_dark`].
    pub fn abandon(&mut self) -> Result<(), Fault> {
        match self {
            Self::Loopback { path, .. } => {
                path.abandon();
                Ok(())
            }
            Self::Namespaces(net) => net.abandon(),
        }
    }
}
