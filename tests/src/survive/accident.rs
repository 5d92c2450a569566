//! What can happen, and how long a crowd may feel it.

use std::fmt;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::fault::Fault;
use super::role::Order;
use super::stage::Stage;
use crate::crowd::Report;
use crate::crowd::report::Spread;

/// Who is not back by then stays away.
const BACK: Duration = Duration::from_secs(20);

/// Play after each accident, so that what comes late is seen.
const AFTERMATH: Duration = Duration::from_millis(1500);

/// After so long in the dark both sides know that the other is gone, and sessions are parked.
const NOTICED: Duration = Duration::from_secs(4);

/// How often memory is looked at while the path is dark.
const LOOK: Duration = Duration::from_millis(250);

/// Something that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accident {
    /// The NAT forgets its mappings.
    Rebind,
    /// The agent's address changes; the connection can go on.
    Readdress,
    /// The agent's address changes and the old way is dead; a new connection is needed.
    Abandon,
    /// Nothing passes for so long.
    Dark(Duration),
    /// Home's cable is out for so long.
    Unplugged(Duration),
    /// The relay's process, and then the agent's, is replaced while nothing passes: parked sessions must come along.
    DarkUpgrades,
    /// The relay's process is replaced.
    RelayUpgrade,
    /// The agent's process is replaced.
    AgentUpgrade,
    /// The relay is killed and started again: TCP players end.
    RelayKill,
}

/// What the crowd felt.
#[derive(Clone, Debug, Default)]
pub struct Felt {
    /// Silence after the path's return; at an upgrade, silence around it.
    pub pause: Spread,
    /// What should not have been, beyond what the crowd's report tells.
    pub problems: Vec<String>,
    /// The most that relay and agent had resident while the path was dark.
    pub parked: [u64; 2],
}

impl Accident {
    /// The longest silence that half of the crowd, and anybody, may hear.
    pub const fn limits(self) -> [Duration; 2] {
        match self {
            Self::Rebind
            | Self::Readdress
            | Self::Abandon
            | Self::Dark(_)
            | Self::Unplugged(_)
            | Self::DarkUpgrades => [Duration::from_secs(1), Duration::from_secs(2)],
            Self::RelayUpgrade | Self::AgentUpgrade => [Duration::from_secs(1); 2],
            Self::RelayKill => [Duration::from_secs(2); 2],
        }
    }

    /// Lets it happen and waits until everybody has felt it.
    ///
    /// # Errors
    /// When the show cannot go on.
    pub async fn happen(self, stage: &mut Stage) -> Result<Felt, Fault> {
        let mut felt = Felt::default();
        match self {
            Self::Rebind => stage.place.rebind()?,
            Self::Readdress => stage.place.readdress()?,
            Self::Abandon => stage.place.abandon()?,
            Self::Dark(time) => {
                stage.place.set_dark(true)?;
                felt.parked = watch(stage, time).await;
                stage.place.set_dark(false)?;
            }
            Self::DarkUpgrades => {
                stage.place.set_dark(true)?;
                felt.parked = watch(stage, NOTICED).await;
                let done = [stage.upgrade_relay().await, stage.upgrade_agent().await];
                let faults = done.into_iter().filter_map(Result::err);
                felt.problems.extend(faults.map(|fault| fault.to_string()));
                stage.place.set_dark(false)?;
            }
            Self::Unplugged(time) => {
                stage.place.set_unplugged(true)?;
                felt.parked = watch(stage, time).await;
                stage.place.set_unplugged(false)?;
            }
            Self::RelayUpgrade | Self::AgentUpgrade => {
                mark(stage).await?;
                let done = match self {
                    Self::RelayUpgrade => stage.upgrade_relay().await,
                    _ => stage.upgrade_agent().await,
                };
                felt.problems.extend(done.err().map(|fault| fault.to_string()));
            }
            Self::RelayKill => {
                stage.kill_relay().await?;
                mark(stage).await?;
                felt.problems.extend(probe(stage).await?);
            }
        }
        let is_upgrade = matches!(self, Self::RelayUpgrade | Self::AgentUpgrade);
        if !is_upgrade && self != Self::RelayKill {
            mark(stage).await?;
        }
        let is_back: bool = stage.players.ask(Order::Back(BACK)).await?;
        tokio::time::sleep(AFTERMATH).await;
        let report: Report = stage.players.ask(Order::Report).await?;
        felt.pause = if is_upgrade { report.pause() } else { report.back() };
        if !is_back {
            felt.problems.push(format!("not everybody is back after {BACK:?}"));
        }
        let allowed = self.limits();
        for (name, pause, most) in [
            ("median", felt.pause.median, allowed[0]),
            ("worst", felt.pause.worst, allowed[1]),
        ] {
            if pause.is_some_and(|pause| pause > most) {
                felt.problems
                    .push(format!("{self}: {name} pause above {} ms", most.as_millis()));
            }
        }
        Ok(felt)
    }
}

async fn mark(stage: &mut Stage) -> Result<(), Fault> {
    stage.players.ask::<Value>(Order::Mark).await.map(drop)
}

/// Lets time pass; the most that relay and agent had resident meanwhile.
async fn watch(stage: &Stage, time: Duration) -> [u64; 2] {
    let until = Instant::now() + time;
    let mut most = [0; 2];
    while Instant::now() < until {
        tokio::time::sleep_until(until.min(Instant::now() + LOOK)).await;
        let now = stage.resident();
        most = [most[0].max(now[0]), most[1].max(now[1])];
    }
    most
}

/// A new player must be let in soon after the relay is ready.
async fn probe(stage: &mut Stage) -> Result<Option<String>, Fault> {
    let (tcp, most) = (stage.tcp, Accident::RelayKill.limits()[1]);
    let entered: Option<Duration> = stage.players.ask(Order::Probe { tcp, deadline: BACK }).await?;
    Ok(match entered {
        Some(entered) if entered <= most => None,
        Some(entered) => Some(format!("a new player enters only after {} ms", entered.as_millis())),
        None => Some(format!("no new player enters within {BACK:?}")),
    })
}

impl fmt::Display for Accident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rebind => f.write_str("NAT rebinds"),
            Self::Readdress => f.write_str("agent's address changes"),
            Self::Abandon => f.write_str("agent's old way is dead"),
            Self::Dark(time) => write!(f, "dark for {:.1} s", time.as_secs_f64()),
            Self::Unplugged(time) => write!(f, "unplugged for {:.1} s", time.as_secs_f64()),
            Self::DarkUpgrades => f.write_str("both upgraded in the dark"),
            Self::RelayUpgrade => f.write_str("relay upgraded"),
            Self::AgentUpgrade => f.write_str("agent upgraded"),
            Self::RelayKill => f.write_str("relay killed"),
        }
    }
}
