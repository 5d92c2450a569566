//! An upgrade in place: a relay hands its sockets and sessions to a successor, and nobody is dropped.
//!
//! The conversation is `spawnpoint_net`'s ([`Predecessor`], `Successor`); here is what comes to rest, and what is handed. QUIC connections are not: once
//! the successor is ready the agents' socket falls silent and the agents are told to come back, with their tickets, to the same socket. Until the
//! successor is told to go the old relay can go on as if nothing had happened, and does so when anything fails or takes too long.

pub(crate) mod state;
mod take;

use std::time::Duration;

use spawnpoint_net::{Channel, Descriptors, Predecessor, SuccessionError};
use spawnpoint_ops::describe;
use spawnpoint_proto::CloseCode;
use tokio_util::sync::CancellationToken;

use crate::start::Relay;
use crate::usage;
use crate::welcome::SOFTWARE;
use state::{FORMAT, Handed, HandedPort};

/// Players' tasks come to rest at their next wait.
const REST_DEADLINE: Duration = Duration::from_secs(5);

/// How long players at rest wait for the directory.
const USAGE_DEADLINE: Duration = Duration::from_millis(500);

/// What the agents' farewells may take to leave.
const FAREWELL: Duration = Duration::from_millis(20);

/// What the links and ports of a relay give for a hand-over.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    pub ports: Vec<HandedPort>,
    pub links: Vec<state::HandedLink>,
    pub buried: Vec<spawnpoint_proto::LinkId>,
    pub descriptors: Descriptors,
}

impl Relay {
    /// Hands everything to the successor at the other end of `channel`; returns its process number.
    ///
    /// When this returns without an error the process has nothing left to do but to end, without dropping anything: what it would close and report belongs
    /// to the successor now.
    ///
    /// # Errors
    /// [`SuccessionError`]; this relay goes on as before then, and the successor ends.
    pub async fn hand_over(&self, channel: &mut Channel) -> Result<u32, SuccessionError> {
        let mut successor = Predecessor::meet(channel, FORMAT).await?;
        let (go_on, pid) = (CancellationToken::new(), successor.pid);
        let handed = self.hand_at_rest(&mut successor, &go_on).await;
        if handed.is_err() {
            successor.stay().await;
            go_on.cancel();
            self.registry.go_on().await;
        }
        handed.map(|()| pid)
    }

    async fn hand_at_rest(
        &self,
        successor: &mut Predecessor<'_>,
        go_on: &CancellationToken,
    ) -> Result<(), SuccessionError> {
        let too_slow = || SuccessionError::Here("its tasks did not come to rest".to_owned());
        // Most of it now, so that there is little to do while the players wait.
        usage::take_over(&self.context).await;
        let resting = tokio::time::timeout(REST_DEADLINE, self.gather(go_on)).await;
        let Gathered {
            ports,
            links,
            buried,
            mut descriptors,
        } = resting.map_err(|_| too_slow())?.ok_or_else(too_slow)?;
        // The successor reads what was used so far. A disk that is slow now keeps the players waiting no longer.
        let _ = tokio::time::timeout(USAGE_DEADLINE, usage::take_over(&self.context)).await;
        let handed = Handed {
            format: FORMAT,
            software: SOFTWARE.to_owned(),
            lock: descriptors.add_duplicate(&self.lock)?,
            agents: descriptors.add_duplicate(self.agents.socket())?,
            admin: self.admin.clone().map(|admin| descriptors.add(admin)),
            next_session: self.context.next_session().0,
            ports,
            links,
            buried,
        };
        successor.hand(&handed, &descriptors).await?;
        // From here on packets wait in the kernel for the successor.
        self.agents.silence();
        self.registry.close_carriers(CloseCode::Upgrade).await;
        // The farewells leave as their connections' tasks get to it; nothing tells when they have. Agents who miss theirs are told by the successor.
        tokio::time::sleep(FAREWELL).await;
        let gone = successor.let_go().await;
        if let Err(error) = &gone {
            // Its sessions are still here; the agents come back to where they were.
            tracing::error!(error = describe(error), "the new relay ended in the last moment");
            self.agents.listen_again();
        }
        gone
    }

    /// Everything at rest, as a successor needs it; `None` when the relay is going down.
    async fn gather(&self, go_on: &CancellationToken) -> Option<Gathered> {
        let mut rested = Vec::new();
        for link in self.registry.rest(go_on).await? {
            // A link that ends meanwhile has nothing to hand over.
            rested.extend(link.await);
        }
        // Only now, since a link may have opened another port before it came to rest.
        let mut gathered = self.registry.hand_ports().await?;
        let links = rested
            .into_iter()
            .filter_map(|link| link.gather(&mut gathered.descriptors));
        gathered.links.extend(links);
        Some(gathered)
    }
}
