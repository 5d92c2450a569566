//! An upgrade in place: an agent hands its game servers' sockets and its link to a successor, and nobody is dropped.
//!
//! The steps are those of the relay's hand-over: greeting, everything at rest and handed, verdict, go. Until "go" the old agent can go on as if nothing
//! had happened, and does so when anything fails or takes too long. Then the successor dials the relay with the link's ticket.

pub(crate) mod state;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use spawnpoint_config::tunnel::Tunnel;
use spawnpoint_net::{Channel, ChannelError, Descriptors};
use spawnpoint_ops::Events;
use tokio::sync::watch;

use crate::link::{Link, LinkHandle, SOFTWARE};
use crate::{Agent, AgentSettings};
use state::{FORMAT, FORMATS, Greeting, Handed, Verdict};

/// A successor reads its configuration.
const GREETING_DEADLINE: Duration = Duration::from_secs(30);

/// Players' tasks come to rest at their next wait.
const REST_DEADLINE: Duration = Duration::from_secs(5);

/// A step of the hand-over itself; players wait meanwhile.
const STEP_DEADLINE: Duration = Duration::from_secs(10);

/// A greeting or a verdict is a few words.
const MAX_WORDS: usize = 64 * 1024;

/// Sessions times their windows, and more than any machine has.
const MAX_STATE: usize = 2 << 30;

const GO: &[u8] = b"go";

/// Said instead of [`GO`] by an agent that goes on itself.
const STAY: &[u8] = b"stay";

/// A successor that is not needed is told in no time, or finds out.
const STAY_DEADLINE: Duration = Duration::from_secs(1);

/// Why an agent could not hand over, or take over. Who was there before goes on.
#[derive(Debug, thiserror::Error)]
pub enum HandOverError {
    /// The other process is gone, or too slow.
    #[error("the other agent went away during the hand-over: its own words above say why; the old one goes on")]
    Channel(#[from] ChannelError),
    /// It took too long.
    #[error("the other agent took longer than {} s, so the old one goes on", .0.as_secs())]
    Timeout(Duration),
    /// The successor says that it cannot.
    #[error("the new agent cannot take over, so the old one goes on: {0}")]
    Refused(String),
    /// The two do not understand each other.
    #[error("the new agent does not understand the hand-over of the old one ({software}): restart it instead")]
    Format {
        /// The version of the other one.
        software: String,
    },
    /// What the other one said makes no sense.
    #[error("the other agent said something that makes no sense, so the old one goes on")]
    Nonsense(#[source] minicbor::decode::Error),
    /// The machine gave no descriptor, or players' tasks did not come to rest.
    #[error("the agent cannot be handed over right now: {0}")]
    Here(String),
}

impl Agent {
    /// Hands everything to the successor at the other end of `channel`; returns its process number. When this returns without an error the process has nothing left to do but to end,
    /// without dropping anything: what it would close and report belongs to the successor now.
    ///
    /// # Errors
    /// [`HandOverError`]; this agent goes on as before then, and the successor ends.
    pub async fn hand_over(&self, channel: &mut Channel) -> Result<u32, HandOverError> {
        let greeting: Greeting = receive(channel, GREETING_DEADLINE).await?;
        if !greeting.formats.contains(&FORMAT) {
            let software = greeting.software;
            return Err(HandOverError::Format { software });
        }
        tracing::info!(successor = greeting.software, pid = greeting.pid, "handing over");
        let links: Vec<Arc<LinkHandle>> = self.links.iter().filter_map(|link| link.borrow().clone()).collect();
        let handed = self.hand_at_rest(channel, &links).await;
        if handed.is_err() {
            // Before anything moves again, so that no byte is ever taken twice.
            let _ = tokio::time::timeout(STAY_DEADLINE, channel.send(STAY, &[])).await;
            links.iter().for_each(|link| link.sessions.go_on());
        }
        handed.map(|()| greeting.pid)
    }

    async fn hand_at_rest(&self, channel: &mut Channel, links: &[Arc<LinkHandle>]) -> Result<(), HandOverError> {
        let mut descriptors = Descriptors::default();
        let mut handed = Vec::with_capacity(links.len());
        for link in links {
            let resting = tokio::time::timeout(REST_DEADLINE, link.sessions.rest()).await;
            resting.map_err(|_| HandOverError::Here("its tasks did not come to rest".to_owned()))?;
            let link = link.hand(&mut descriptors);
            handed.extend(link.map_err(|error| HandOverError::Here(error.to_string()))?);
        }
        let handed = Handed {
            format: FORMAT,
            software: SOFTWARE.to_owned(),
            agent: self.id,
            links: handed,
        };
        let body = minicbor::to_vec(&handed).map_err(|error| HandOverError::Here(error.to_string()))?;
        within(STEP_DEADLINE, channel.send(&body, &descriptors.all())).await?;
        let verdict: Verdict = receive(channel, STEP_DEADLINE).await?;
        if let Some(failure) = verdict.failure {
            return Err(HandOverError::Refused(failure));
        }
        within(STEP_DEADLINE, channel.send(GO, &[])).await?;
        // From here on the successor has the link and its sockets: this agent neither dials for it nor reads from them any more.
        self.hold.cancel();
        Ok(())
    }

    /// Follows the agent at the other end of `channel`: takes its sockets and its link over, and goes on with them.
    ///
    /// # Errors
    /// [`HandOverError`]; the old agent was told why, and goes on.
    pub async fn take_over(
        settings: AgentSettings,
        tunnels: watch::Receiver<Vec<Tunnel>>,
        events: Events,
        channel: &mut Channel,
    ) -> Result<Self, HandOverError> {
        let greeting = Greeting {
            formats: FORMATS.to_vec(),
            software: SOFTWARE.to_owned(),
            pid: std::process::id(),
        };
        say(channel, &greeting).await?;
        let (body, descriptors) = within(GREETING_DEADLINE, channel.receive(MAX_STATE)).await?;
        let handed: Handed = minicbor::decode(&body).map_err(HandOverError::Nonsense)?;
        if !FORMATS.contains(&handed.format) {
            let software = handed.software;
            return Err(HandOverError::Format { software });
        }
        tracing::info!(predecessor = handed.software, "taking over");
        let mut descriptors: Vec<Option<OwnedFd>> = descriptors.into_iter().map(Some).collect();
        let armed = Arc::new(AtomicBool::new(false));
        let mut relays = Vec::new();
        let mut verdict = Verdict { failure: None };
        let mut links = handed.links;
        for around in Self::surroundings(&settings, &tunnels, &events, handed.agent) {
            // The link to a relay that is not in the configuration any more is nobody's.
            let relay = around.settings.relay();
            let link = links
                .iter()
                .position(|link| link.relay == relay)
                .map(|at| links.swap_remove(at));
            let link = link.map(|link| Link::restore(&around, link, &mut descriptors, &armed));
            match link.transpose() {
                Ok(link) => relays.push((around, link)),
                Err(error) => verdict.failure = Some(format!("a socket cannot be used: {error}")),
            }
        }
        if let Some(failure) = verdict.failure.clone() {
            say(channel, &verdict).await?;
            return Err(HandOverError::Here(failure));
        }
        say(channel, &verdict).await?;
        match within(GREETING_DEADLINE, channel.receive(MAX_WORDS)).await {
            Ok((word, _)) if word == GO => {}
            // An old agent that is gone has let us go, too.
            Err(HandOverError::Channel(ChannelError::Closed)) => {}
            Ok(_) => return Err(HandOverError::Refused("it changed its mind".to_owned())),
            Err(error) => return Err(error),
        }
        armed.store(true, Ordering::Relaxed);
        relays
            .iter()
            .filter_map(|(_, link)| link.as_ref())
            .for_each(Link::go_on);
        Ok(Self::run(relays, events, handed.agent))
    }
}

async fn receive<T: for<'b> minicbor::Decode<'b, ()>>(
    channel: &mut Channel,
    deadline: Duration,
) -> Result<T, HandOverError> {
    let (body, _) = within(deadline, channel.receive(MAX_WORDS)).await?;
    minicbor::decode(&body).map_err(HandOverError::Nonsense)
}

async fn say<T: minicbor::Encode<()>>(channel: &mut Channel, words: &T) -> Result<(), HandOverError> {
    let body = minicbor::to_vec(words).map_err(|error| HandOverError::Here(error.to_string()))?;
    within(STEP_DEADLINE, channel.send(&body, &[])).await
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
