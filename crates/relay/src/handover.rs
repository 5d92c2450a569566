//! An upgrade in place: a relay hands its sockets and sessions to a successor, and nobody is dropped.
//!
//! ```text
//! old                                            successor
//!                                      <-----    Greeting: it has read its configuration, its directory, its certificate
//! players and sessions rest
//! Handed, with all descriptors         ----->    restores everything, still at rest
//!                                      <-----    Verdict: ready, or why not
//! agents' socket falls silent,
//! agents are told to come back
//! go                                   ----->    listens, and everybody goes on
//! ```
//! Until "go" the old relay can go on as if nothing had happened, and does so when anything fails or takes too long. QUIC connections are not handed over:
//! agents come back with their tickets, to the same socket.

pub(crate) mod state;
mod take;

pub(crate) use take::Sockets;

use std::time::Duration;

use spawnpoint_net::{Channel, ChannelError, Descriptors};
use spawnpoint_ops::describe;
use spawnpoint_proto::CloseCode;
use tokio_util::sync::CancellationToken;

use crate::start::Relay;
use crate::welcome::SOFTWARE;
use state::{FORMAT, Greeting, Handed, HandedPort, Verdict};

/// A successor reads its configuration and opens its directory.
const GREETING_DEADLINE: Duration = Duration::from_secs(30);

/// Players' tasks come to rest at their next wait.
const REST_DEADLINE: Duration = Duration::from_secs(5);

/// A successor restores everything within this; players wait meanwhile.
const VERDICT_DEADLINE: Duration = Duration::from_secs(10);

/// What the agents' farewells may take to leave.
const FAREWELL: Duration = Duration::from_millis(20);

/// A greeting or a verdict is a few words.
const MAX_WORDS: usize = 64 * 1024;

/// Sessions times their windows, and more than any machine has.
pub(crate) const MAX_STATE: usize = 2 << 30;

pub(crate) const GO: &[u8] = b"go";

/// Said instead of [`GO`] by a relay that goes on itself.
const STAY: &[u8] = b"stay";

/// A successor that is not needed is told in no time, or finds out.
const STAY_DEADLINE: Duration = Duration::from_secs(1);

/// Why a relay could not hand over. It goes on as before.
#[derive(Debug, thiserror::Error)]
pub enum HandOverError {
    /// The successor is gone, or too slow.
    #[error("the new relay did not get ready: its own words above say why; the old one goes on")]
    Channel(#[from] ChannelError),
    /// It took too long.
    #[error("the new relay took longer than {} s, so the old one goes on", .0.as_secs())]
    Timeout(Duration),
    /// The successor says that it cannot.
    #[error("the new relay cannot take over, so the old one goes on: {0}")]
    Refused(String),
    /// The successor does not read what this version writes.
    #[error(
        "the new relay ({software}) does not understand the hand-over of this one ({SOFTWARE}): restart it instead"
    )]
    Format {
        /// Its version.
        software: String,
    },
    /// What it said makes no sense.
    #[error("the new relay said something that makes no sense, so the old one goes on")]
    Nonsense(#[source] minicbor::decode::Error),
    /// The machine gave no descriptor, or players' tasks did not come to rest.
    #[error("this relay cannot be handed over right now, it goes on: {0}")]
    Here(String),
}

/// What the links and ports of a relay give for a hand-over.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    pub ports: Vec<HandedPort>,
    pub links: Vec<state::HandedLink>,
    pub buried: Vec<spawnpoint_proto::LinkId>,
    pub descriptors: Descriptors,
}

impl Relay {
    /// Hands everything to the successor at the other end of `channel`; returns its process number. When this returns without an error the process has nothing left to do but to end,
    /// without dropping anything: what it would close and report belongs to the successor now.
    ///
    /// # Errors
    /// [`HandOverError`]; this relay goes on as before then, and the successor ends.
    pub async fn hand_over(&self, channel: &mut Channel) -> Result<u32, HandOverError> {
        let greeting: Greeting = receive(channel, GREETING_DEADLINE).await?;
        if let Some(failure) = greeting.failure {
            return Err(HandOverError::Refused(failure));
        }
        if !greeting.formats.contains(&FORMAT) {
            let software = greeting.software;
            return Err(HandOverError::Format { software });
        }
        tracing::info!(successor = greeting.software, pid = greeting.pid, "handing over");
        let go_on = CancellationToken::new();
        let restored = self.hand_at_rest(channel, &go_on).await;
        if restored.is_err() {
            // Before anything moves again, so that no byte is ever taken twice.
            let _ = tokio::time::timeout(STAY_DEADLINE, channel.send(STAY, &[])).await;
            go_on.cancel();
            self.registry.go_on().await;
        }
        restored.map(|()| greeting.pid)
    }

    async fn hand_at_rest(&self, channel: &mut Channel, go_on: &CancellationToken) -> Result<(), HandOverError> {
        let here = |error: std::io::Error| HandOverError::Here(error.to_string());
        let too_slow = || HandOverError::Here("its tasks did not come to rest".to_owned());
        let resting = tokio::time::timeout(REST_DEADLINE, self.gather(go_on)).await;
        let gathered = resting.map_err(|_| too_slow())?.ok_or_else(too_slow)?.map_err(here)?;
        let Gathered {
            ports,
            links,
            buried,
            mut descriptors,
        } = gathered;
        let handed = Handed {
            format: FORMAT,
            software: SOFTWARE.to_owned(),
            lock: descriptors.add(&self.lock).map_err(here)?,
            agents: descriptors.add(self.agents.socket().map_err(here)?).map_err(here)?,
            admin: match &self.admin {
                Some(admin) => Some(descriptors.add(admin).map_err(here)?),
                None => None,
            },
            next_session: self.context.next_session().0,
            ports,
            links,
            buried,
        };
        let body = minicbor::to_vec(&handed).map_err(|error| HandOverError::Here(error.to_string()))?;
        within(VERDICT_DEADLINE, channel.send(&body, &descriptors.all())).await?;
        let verdict: Verdict = receive(channel, VERDICT_DEADLINE).await?;
        if let Some(failure) = verdict.failure {
            return Err(HandOverError::Refused(failure));
        }
        // From here on packets wait in the kernel for the successor.
        self.agents.silence();
        self.registry.close_carriers(CloseCode::Upgrade).await;
        // The farewells leave as their connections' tasks get to it; nothing tells when they have. Agents who miss theirs are told by the successor.
        tokio::time::sleep(FAREWELL).await;
        let gone = within(VERDICT_DEADLINE, channel.send(GO, &[])).await;
        if let Err(error) = &gone {
            // Its sessions are still here; the agents come back to where they were.
            tracing::error!(error = describe(error), "the new relay ended in the last moment");
            self.agents.listen_again();
        }
        gone
    }

    /// Everything at rest, as a successor needs it; `None` when the relay is going down.
    async fn gather(&self, go_on: &CancellationToken) -> Option<std::io::Result<Gathered>> {
        let mut rested = Vec::new();
        for link in self.registry.rest(go_on).await? {
            // A link that ends meanwhile has nothing to hand over.
            rested.extend(link.await);
        }
        // Only now, since a link may have opened another port before it came to rest.
        let mut gathered = match self.registry.hand_ports().await? {
            Ok(gathered) => gathered,
            Err(error) => return Some(Err(error)),
        };
        for link in rested {
            match link.gather(&mut gathered.descriptors) {
                Ok(link) => gathered.links.extend(link),
                Err(error) => return Some(Err(error)),
            }
        }
        Some(Ok(gathered))
    }
}

async fn receive<T: for<'b> minicbor::Decode<'b, ()>>(
    channel: &mut Channel,
    deadline: Duration,
) -> Result<T, HandOverError> {
    let (body, _) = within(deadline, channel.receive(MAX_WORDS)).await?;
    minicbor::decode(&body).map_err(HandOverError::Nonsense)
}

async fn within<T>(
    deadline: Duration,
    step: impl Future<Output = Result<T, ChannelError>>,
) -> Result<T, HandOverError> {
    match tokio::time::timeout(deadline, step).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(HandOverError::Timeout(deadline)),
    }
}
