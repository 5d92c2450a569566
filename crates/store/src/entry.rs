//! What is known of a tunnel whose players are answered even while its agent is gone.

use spawnpoint_core::grant::UnixTime;
use spawnpoint_core::hostname::Pattern;
use spawnpoint_proto::{Dialect, Protocol, TunnelName};

use crate::HostId;

/// A tunnel that is answered as long as its port is reserved.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Whose it is.
    pub host: HostId,
    /// Its name within the host.
    pub tunnel: TunnelName,
    /// What it carries.
    pub protocol: Protocol,
    /// Its public port.
    pub port: u16,
    /// The game behind it.
    pub game: String,
    /// What its players' first bytes are written in.
    pub dialect: Option<Dialect>,
    /// Its names on shared ports.
    pub names: Vec<Pattern>,
    /// What the host wants the server list to show while the server is away.
    pub away: Option<String>,
    /// What the server list showed last, as the game wrote it.
    pub listing: Option<String>,
    /// When its host was here last.
    pub seen: Option<UnixTime>,
}
