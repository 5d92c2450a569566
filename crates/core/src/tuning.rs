//! The few numbers of a link that both ends may set.

use std::time::Duration;

/// Which congestion controller a side sends with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Congestion {
    /// Keeps the line full and its queue at a few milliseconds; lost packets do not slow it.
    #[default]
    Spawnpoint,
    /// Models the path by delivery rate and minimum round trip, with a queue of up to a round trip.
    Bbr,
    /// Gives way at each loss; fair to old neighbours, slow for every player on a lossy line.
    Cubic,
}

impl Congestion {
    /// The word used in configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Spawnpoint => "spawnpoint",
            Self::Bbr => "bbr",
            Self::Cubic => "cubic",
        }
    }
}

/// What the owner of a home line says of it, in bytes a second. Nothing is needed; what is given spares finding out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Line {
    /// From home to the relay.
    pub uplink: Option<u64>,
    /// From the relay to home.
    pub downlink: Option<u64>,
}

/// How a side keeps its link alive and how much it lets be on the way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tuning {
    /// While somebody plays, a side that has heard nothing for this long asks whether the other is still there.
    pub keep_alive: Duration,
    /// While nobody plays, it asks after this long.
    pub quiet_keep_alive: Duration,
    /// After this long without an answer, the other is gone.
    pub idle_timeout: Duration,
    /// Bytes of one player's stream that may be on the way, which limits one player on a long or lossy path. Others do not wait for them.
    pub stream_window: u32,
    /// How the sending rate is found.
    pub congestion: Congestion,
    /// Whether small writes travel a second time on a path that loses packets.
    pub repair: bool,
}

impl Default for Tuning {
    /// Notices a dead peer within 3 s while somebody plays (the timeout counts from the question that was never answered), and keeps a bulk stream's queue
    /// short. While nobody plays a router's NAT is kept open, which some close after 30 s, and an agent whose way has died unnoticed is back before a
    /// relay sends away whoever came meanwhile.
    fn default() -> Self {
        Self {
            keep_alive: Duration::from_millis(500),
            quiet_keep_alive: Duration::from_secs(12),
            idle_timeout: Duration::from_millis(2400),
            stream_window: 2 * 1024 * 1024,
            congestion: Congestion::Spawnpoint,
            repair: true,
        }
    }
}
