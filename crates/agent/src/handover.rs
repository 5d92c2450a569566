//! An upgrade in place: an agent hands its game servers' sockets and its links to a successor, and nobody is dropped.
//!
//! The conversation is `spawnpoint_net`'s ([`Predecessor`], [`Successor`]); here is what comes to rest, and what is handed. Until the successor is told to
//! go the old agent can go on as if nothing had happened, and does so when anything fails or takes too long. Then the successor dials with the links'
//! tickets.

pub(crate) mod state;

use std::sync::Arc;
use std::time::Duration;

use spawnpoint_config::tunnel::Tunnel;
use spawnpoint_net::{Channel, Descriptors, Predecessor, Sockets, SuccessionError, Successor};
use spawnpoint_ops::{Events, describe};
use tokio::sync::watch;

use crate::link::{Link, LinkHandle, SOFTWARE, Surroundings};
use crate::{Agent, AgentSettings};
use state::{FORMAT, FORMATS, Handed, HandedLink};

/// Players' tasks come to rest at their next wait.
const REST_DEADLINE: Duration = Duration::from_secs(5);

impl Agent {
    /// Hands everything to the successor at the other end of `channel`; returns its process number.
    ///
    /// When this returns without an error the process has nothing left to do but to end, without dropping anything: what it would close and report belongs
    /// to the successor now.
    ///
    /// # Errors
    /// [`SuccessionError`]; this agent goes on as before then, and the successor ends.
    pub async fn hand_over(&self, channel: &mut Channel) -> Result<u32, SuccessionError> {
        let mut successor = Predecessor::meet(channel, FORMAT).await?;
        let pid = successor.pid;
        let links: Vec<Arc<LinkHandle>> = self.links.iter().filter_map(|link| link.borrow().clone()).collect();
        let handed = self.hand_at_rest(&mut successor, &links).await;
        if handed.is_err() {
            successor.stay().await;
            links.iter().for_each(|link| link.sessions.go_on());
        }
        handed.map(|()| pid)
    }

    async fn hand_at_rest(
        &self,
        successor: &mut Predecessor<'_>,
        links: &[Arc<LinkHandle>],
    ) -> Result<(), SuccessionError> {
        let mut descriptors = Descriptors::default();
        let mut handed = Vec::with_capacity(links.len());
        for link in links {
            let resting = tokio::time::timeout(REST_DEADLINE, link.sessions.rest()).await;
            resting.map_err(|_| SuccessionError::Here("its tasks did not come to rest".to_owned()))?;
            handed.extend(link.hand(&mut descriptors));
        }
        let handed = Handed {
            format: FORMAT,
            software: SOFTWARE.to_owned(),
            agent: self.id,
            links: handed,
        };
        successor.hand(&handed, &descriptors).await?;
        successor.let_go().await?;
        // From here on the successor has the links and their sockets: this agent neither dials for them nor reads from them any more.
        self.hold.cancel();
        Ok(())
    }

    /// Follows the agent at the other end of `channel`: takes its sockets and its links over, and goes on with them.
    ///
    /// # Errors
    /// [`SuccessionError`]; the old agent was told why, and goes on.
    pub async fn take_over(
        settings: AgentSettings,
        tunnels: watch::Receiver<Vec<Tunnel>>,
        events: Events,
        channel: &mut Channel,
    ) -> Result<Self, SuccessionError> {
        let mut succession = Successor::meet(channel, FORMATS, SOFTWARE, None).await?;
        let (handed, mut sockets): (Handed, Sockets) = succession.take().await?;
        tracing::info!(predecessor = handed.software, "taking over");
        let agent = handed.agent;
        let relays = restore(
            Self::surroundings(&settings, &tunnels, &events, agent),
            handed.links,
            &mut sockets,
        );
        let failure = relays.as_ref().err().map(|error| describe(error));
        succession.go(failure).await?;
        let relays = relays?;
        relays
            .iter()
            .filter_map(|(_, link)| link.as_ref())
            .for_each(Link::go_on);
        Ok(Self::run(relays, events, agent))
    }
}

/// The link to each relay that has one; one to a relay that is not in the configuration any more is nobody's.
fn restore(
    relays: Vec<Surroundings>,
    mut links: Vec<HandedLink>,
    sockets: &mut Sockets,
) -> std::io::Result<Vec<(Surroundings, Option<Link>)>> {
    let mut restore = |around: Surroundings| {
        let relay = around.settings.relay();
        let link = links
            .iter()
            .position(|link| link.relay == relay)
            .map(|at| links.swap_remove(at));
        let link = link.map(|link| Link::restore(&around, link, sockets)).transpose()?;
        Ok((around, link))
    };
    relays.into_iter().map(&mut restore).collect()
}
