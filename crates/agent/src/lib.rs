//! The side of the tunnel next to the game server.
//!
//! An [`Agent`] keeps one link to its relay, opens its tunnels there, and carries the players that come over it to the game servers of its own
//! configuration, and to nothing else, whatever the relay says.
//!
//! ```text
//! connect   reach the relay, again and again, until it is reached or cannot be
//! link      one link, from connection to connection: hello, control messages, sessions, tunnels as the configuration changes
//! path      notices that the way to the relay has changed under the link
//! tunnels   what is open right now, by the relay's ids
//! tcp udp   players
//! origin    dialling a game server, and saying once that it is down
//! handover  an upgrade in place: everything goes to a successor
//! follow    the configuration file while the agent runs
//! remember  what `spawnpoint agent INVITE TUNNEL...` leaves for the next start
//! ```

mod connect;
mod follow;
#[cfg(unix)]
mod handover;
mod link;
mod origin;
mod path;
pub mod remember;
mod tcp;
mod tunnels;
mod udp;

#[cfg(unix)]
use std::sync::Arc;
use std::time::Duration;

use spawnpoint_config::agent::AgentConfig;
use spawnpoint_config::tunnel::Tunnel;
use spawnpoint_core::tuning::Tuning;
use spawnpoint_net::TaskScope;
use spawnpoint_ops::{Event, Events};
use spawnpoint_proto::{AgentId, Invite, host_port};
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use connect::Connector;
#[cfg(unix)]
use link::LinkHandle;
use link::{Link, Surroundings};

pub use connect::GiveUp;
pub use follow::follow_file;
#[cfg(unix)]
pub use handover::HandOverError;

/// What an agent works with.
#[derive(Clone, Debug)]
pub struct AgentSettings {
    /// The relay and the host's token.
    pub invite: Invite,
    /// How the connection is treated.
    pub transport: Tuning,
    /// The longest wait before the first new try.
    pub backoff_min: Duration,
    /// The longest wait before any new try.
    pub backoff_max: Duration,
    /// How long a game server may take to accept a connection.
    pub origin_timeout: Duration,
}

impl AgentSettings {
    /// The settings of a configuration, with `invite`.
    pub fn new(config: &AgentConfig, invite: Invite) -> Self {
        Self {
            invite,
            transport: config.links.transport,
            backoff_min: config.links.backoff_min,
            backoff_max: config.links.backoff_max,
            origin_timeout: config.origin_timeout,
        }
    }

    /// The relay as people name it.
    pub fn relay(&self) -> String {
        host_port(&self.invite.host, self.invite.port)
    }
}

/// A running agent. Dropping it ends everything without grace; [`Agent::stop`] ends it with.
pub struct Agent {
    scope: TaskScope,
    /// Cancelled to ask for a tidy end.
    leave: CancellationToken,
    end: oneshot::Receiver<GiveUp>,
    events: Events,
    /// What goes to a successor.
    #[cfg(unix)]
    id: AgentId,
    #[cfg(unix)]
    link: watch::Receiver<Option<Arc<LinkHandle>>>,
    /// Cancelled when the successor has the link.
    #[cfg(unix)]
    hold: CancellationToken,
}

impl Agent {
    /// Starts an agent that exposes `tunnels`, whatever they are at the moment.
    pub fn start(settings: AgentSettings, tunnels: watch::Receiver<Vec<Tunnel>>, events: Events) -> Self {
        let id = AgentId(spawnpoint_net::random_bytes());
        Self::run(Self::surroundings(settings, tunnels, events, id), None)
    }

    fn surroundings(
        settings: AgentSettings,
        tunnels: watch::Receiver<Vec<Tunnel>>,
        events: Events,
        agent: AgentId,
    ) -> Surroundings {
        Surroundings {
            settings,
            tunnels,
            events,
            agent,
            leave: CancellationToken::new(),
            parent: CancellationToken::new(),
            hold: CancellationToken::new(),
            #[cfg(unix)]
            link: watch::Sender::default(),
        }
    }

    /// Runs the agent, with `link` to take up again if there is one.
    fn run(around: Surroundings, link: Option<Link>) -> Self {
        let scope = TaskScope::new(&around.parent);
        let (leave, events, hold) = (around.leave.clone(), around.events.clone(), around.hold.clone());
        #[cfg(unix)]
        let (id, current) = (around.agent, around.link.subscribe());
        let (gave_up, end) = oneshot::channel();
        let held = hold.clone();
        // Every link's tasks end with the agent, also with one that is dropped.
        let alive = around.parent.clone().drop_guard();
        scope.spawn(async move {
            let _alive = alive;
            let connector = Connector::new(around);
            let run = connector.run(link);
            tokio::pin!(run);
            let reason = tokio::select! {
                biased; // an agent whose successor has the link does nothing more
                () = held.cancelled() => std::future::pending().await,
                reason = &mut run => reason,
            };
            if let Some(reason) = reason {
                // Nobody waits for the answer of an agent that is being dropped.
                let _ = gave_up.send(reason);
            }
        });
        Self {
            scope,
            leave,
            end,
            events,
            #[cfg(unix)]
            id,
            #[cfg(unix)]
            link: current,
            #[cfg(unix)]
            hold,
        }
    }

    /// Waits until the agent gives up; it never does on what can heal.
    pub async fn gave_up(&mut self) -> GiveUp {
        // The connector ends without a word only when it is asked to leave, or when it panics.
        let reason = match (&mut self.end).await {
            Ok(reason) => reason,
            Err(_) if self.leave.is_cancelled() => std::future::pending().await,
            Err(_) => GiveUp::Crashed,
        };
        self.events.emit(Event::Stopped {
            reason: reason.to_string(),
        });
        reason
    }

    /// Stops: the relay is told, so that it closes the public ports at once.
    pub async fn stop(self) {
        self.leave.cancel();
        // The farewell is one packet; a relay that is away need not be waited for.
        self.scope.finished(Duration::from_secs(1)).await;
        self.scope.close(Duration::from_secs(1)).await;
        self.events.emit(Event::Stopped {
            reason: "stopped on request".to_owned(),
        });
    }
}
