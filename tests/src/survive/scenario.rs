//! The scenarios: which accidents, and for how long a silent UDP player is remembered meanwhile.

use std::time::Duration;

use super::accident::Accident;

/// The shortest that a relay can be told. Sessions of UDP players end so long after the crowd has left.
const SHORT_IDLE: Duration = Duration::from_secs(5);

/// A scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// Nothing happens: what would be reported then is the show's own fault.
    Calm,
    /// The NAT forgets its mappings.
    Rebind,
    /// The agent's address changes; the connection can go on.
    Readdress,
    /// The agent's address changes and the old way is dead.
    Abandon,
    /// Two dark seconds.
    Dark2,
    /// Ten.
    Dark10,
    /// Twenty-five, just inside the resume window.
    Dark25,
    /// Home's cable is out for three seconds.
    Unplugged,
    /// Five relay upgrades in a row.
    RelayUpgrades,
    /// An agent upgrade.
    AgentUpgrade,
    /// Both upgraded while the path is dark.
    DarkUpgrades,
    /// The relay is killed and started again.
    RelayKill,
    /// All of it but the kill, from a seed, for a long time.
    Soak,
}

impl Scenario {
    /// All, in the order in which they are played.
    pub const ALL: [Self; 13] = [
        Self::Calm,
        Self::Rebind,
        Self::Readdress,
        Self::Abandon,
        Self::Dark2,
        Self::Dark10,
        Self::Dark25,
        Self::Unplugged,
        Self::RelayUpgrades,
        Self::AgentUpgrade,
        Self::DarkUpgrades,
        Self::RelayKill,
        Self::Soak,
    ];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Calm => "calm",
            Self::Rebind => "rebind",
            Self::Readdress => "readdress",
            Self::Abandon => "abandon",
            Self::Dark2 => "dark-2",
            Self::Dark10 => "dark-10",
            Self::Dark25 => "dark-25",
            Self::Unplugged => "unplugged",
            Self::RelayUpgrades => "relay-upgrades",
            Self::AgentUpgrade => "agent-upgrade",
            Self::DarkUpgrades => "dark-upgrades",
            Self::RelayKill => "relay-kill",
            Self::Soak => "soak",
        }
    }

    /// Whether the quick show plays it.
    pub const fn is_quick(self) -> bool {
        !matches!(self, Self::Dark10 | Self::Dark25 | Self::DarkUpgrades | Self::Soak)
    }

    /// What happens, one after the other; nothing that is known before, in the soak.
    pub fn accidents(self, is_quick: bool) -> Vec<Accident> {
        let dark = |seconds| vec![Accident::Dark(Duration::from_secs(seconds))];
        match self {
            Self::Calm | Self::Soak => Vec::new(),
            Self::Rebind => vec![Accident::Rebind],
            Self::Readdress => vec![Accident::Readdress],
            Self::Abandon => vec![Accident::Abandon],
            Self::Dark2 => dark(2),
            Self::Dark10 => dark(10),
            Self::Dark25 => dark(25),
            Self::Unplugged => vec![Accident::Unplugged(Duration::from_secs(3))],
            Self::RelayUpgrades => vec![Accident::RelayUpgrade; if is_quick { 2 } else { 5 }],
            Self::AgentUpgrade => vec![Accident::AgentUpgrade],
            Self::DarkUpgrades => vec![Accident::DarkUpgrades],
            Self::RelayKill => vec![Accident::RelayKill],
        }
    }

    /// How long a silent UDP player is remembered: outlasts every outage of the scenario, on the side that hears nothing too.
    pub const fn udp_idle(self) -> Duration {
        match self {
            Self::Dark10 | Self::DarkUpgrades => Duration::from_secs(15),
            Self::Dark25 | Self::Soak => Duration::from_secs(40),
            _ => SHORT_IDLE,
        }
    }

    /// Whether TCP players and UDP mappings may end.
    pub const fn may_cut_off(self) -> bool {
        matches!(self, Self::RelayKill)
    }
}
