//! What players do on the line.

use serde::{Deserialize, Serialize};

/// 20 players at 20 Hz, over TCP or UDP, alone or beside one more who downloads over TCP as fast as it goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Load {
    /// TCP, alone.
    Tcp,
    /// TCP beside a download.
    TcpBulk,
    /// The same, while somebody in the same home loads too: a connection of the kernel's TCP straight over the line.
    Neighbour,
    /// UDP, alone.
    Udp,
    /// UDP beside a download.
    UdpBulk,
}

impl Load {
    /// All, in the order they run.
    pub const ALL: [Self; 5] = [Self::Tcp, Self::TcpBulk, Self::Neighbour, Self::Udp, Self::UdpBulk];

    /// Those that run unless others are asked for.
    pub const USUAL: [Self; 4] = [Self::Tcp, Self::TcpBulk, Self::Udp, Self::UdpBulk];

    /// Its name, for `--load` and in the table.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::TcpBulk => "tcp-bulk",
            Self::Neighbour => "neighbour",
            Self::Udp => "udp",
            Self::UdpBulk => "udp-bulk",
        }
    }

    /// The load called `name`.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|load| load.as_str() == name)
    }

    /// Whether players speak UDP.
    pub const fn has_packets(self) -> bool {
        matches!(self, Self::Udp | Self::UdpBulk)
    }

    /// Whether somebody downloads beside them.
    pub const fn is_beside_bulk(self) -> bool {
        matches!(self, Self::TcpBulk | Self::UdpBulk | Self::Neighbour)
    }

    /// Whether somebody else loads over the same line.
    pub const fn has_neighbour(self) -> bool {
        matches!(self, Self::Neighbour)
    }
}
