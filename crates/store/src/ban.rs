//! Prefixes from which players may not come.

use ipnet::IpNet;
use spawnpoint_core::grant::UnixTime;

use crate::HostId;

/// Who has set a ban.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum BannedBy {
    /// The relay's operator.
    Operator,
    /// A host, for its own tunnels.
    Host,
    /// The relay itself, for repeated offences.
    Relay,
}

impl BannedBy {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Operator, Self::Host, Self::Relay];

    /// The word used in the directory, in logs and lists.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Host => "host",
            Self::Relay => "relay",
        }
    }
}

/// A prefix from which players may not come.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ban {
    /// The host whose tunnels it is for; the whole relay when absent.
    pub host: Option<HostId>,
    /// The prefix.
    pub prefix: IpNet,
    /// When it ends by itself.
    pub until: Option<UnixTime>,
    /// When it was set.
    pub created: UnixTime,
    /// Who has set it.
    pub by: BannedBy,
    /// Why, in words; empty when nobody said.
    pub reason: String,
}

impl Ban {
    /// Whether it is on at `now`.
    pub fn is_on(&self, now: UnixTime) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}
