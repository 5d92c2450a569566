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
    /// rathole, encrypted by Noise.
    RatholeNoise,
    /// rathole, encrypted by TLS.
    RatholeTls,
    /// bore, which carries TCP only.
    Bore,
    /// nginx as a forwarder of UDP: no tunnel, but what stands in front of game servers that need none.
    Nginx,
    /// The QUIC library that ours is built on and nothing else, TCP only: what QUIC itself costs.
    Quinn,
    /// wstunnel, over a WebSocket without TLS.
    Wstunnel,
    /// frp, over one TCP connection with TLS, as it comes.
    Frp,
}

impl Subject {
    /// Everybody.
    pub const ALL: [Self; 11] = [
        Self::Direct,
        Self::Spawnpoint,
        Self::Forgetful,
        Self::Rathole,
        Self::RatholeNoise,
        Self::RatholeTls,
        Self::Bore,
        Self::Nginx,
        Self::Quinn,
        Self::Wstunnel,
        Self::Frp,
    ];

    /// Those that can be asked for on loopback, in the order of a round.
    pub const LOOPBACK: [Self; 9] = [
        Self::Direct,
        Self::Spawnpoint,
        Self::Forgetful,
        Self::Rathole,
        Self::RatholeNoise,
        Self::RatholeTls,
        Self::Bore,
        Self::Nginx,
        Self::Quinn,
    ];

    /// Those on loopback when nobody says who: ours and whom [`crate::targets`] names.
    pub const TARGETED: [Self; 7] = [
        Self::Direct,
        Self::Spawnpoint,
        Self::Rathole,
        Self::RatholeNoise,
        Self::RatholeTls,
        Self::Nginx,
        Self::Quinn,
    ];

    /// Everybody else's tunnels over the line.
    pub const PEERS: [Self; 4] = [Self::Rathole, Self::Bore, Self::Wstunnel, Self::Frp];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Spawnpoint => "spawnpoint",
            Self::Forgetful => "forgetful",
            Self::Rathole => "rathole",
            Self::RatholeNoise => "rathole-noise",
            Self::RatholeTls => "rathole-tls",
            Self::Bore => "bore",
            Self::Nginx => "nginx",
            Self::Quinn => "quinn",
            Self::Wstunnel => "wstunnel",
            Self::Frp => "frp",
        }
    }

    /// The program that is looked for; frp has two, side by side.
    pub const fn program(self) -> &'static str {
        match self {
            Self::Frp => "frps",
            Self::Forgetful => "spawnpoint",
            Self::RatholeNoise | Self::RatholeTls => "rathole",
            _ => self.as_str(),
        }
    }

    /// Whether it carries TCP.
    pub const fn has_streams(self) -> bool {
        !matches!(self, Self::Nginx)
    }

    /// Whether it carries UDP.
    pub const fn has_packets(self) -> bool {
        !matches!(self, Self::Bore | Self::Quinn)
    }

    /// Whether it is ours, or nobody's.
    pub const fn is_ours(self) -> bool {
        matches!(self, Self::Direct | Self::Spawnpoint | Self::Forgetful)
    }

    /// Whether it is somebody else's program.
    pub const fn is_peer(self) -> bool {
        !self.is_ours() && !matches!(self, Self::Quinn)
    }
}
