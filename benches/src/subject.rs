//! What is compared.

/// A way from player to game server.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Subject {
    /// No tunnel at all.
    Direct,
    /// Ours.
    Spawnpoint,
    /// Ours with sessions that end with their connection, to see what it costs that they do not.
    Forgetful,
    /// rathole, over plain TCP.
    Rathole,
    /// bore, which carries TCP only.
    Bore,
}

impl Subject {
    /// All, in the order of a round.
    pub const ALL: [Self; 5] = [
        Self::Direct,
        Self::Spawnpoint,
        Self::Forgetful,
        Self::Rathole,
        Self::Bore,
    ];

    /// Its name; that of a peer is its binary's too.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Spawnpoint => "spawnpoint",
            Self::Forgetful => "forgetful",
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
