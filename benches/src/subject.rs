//! What is compared.

/// A way from player to game server.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Subject {
    /// No tunnel at all.
    Direct,
    /// Ours.
    Spawnpoint,
    /// rathole, over plain TCP.
    Rathole,
    /// bore, which carries TCP only.
    Bore,
}

impl Subject {
    /// All, in the order of a round.
    pub const ALL: [Self; 4] = [Self::Direct, Self::Spawnpoint, Self::Rathole, Self::Bore];

    /// Its name, which is that of its binary too.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Spawnpoint => "spawnpoint",
            Self::Rathole => "rathole",
            Self::Bore => "bore",
        }
    }

    /// Whether it carries UDP.
    pub const fn has_packets(self) -> bool {
        !matches!(self, Self::Bore)
    }

    /// Whether it is somebody else's tunnel.
    pub const fn is_peer(self) -> bool {
        matches!(self, Self::Rathole | Self::Bore)
    }
}
