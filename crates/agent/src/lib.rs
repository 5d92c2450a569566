//! The side of the tunnel next to the game server.
//!
//! An [`Agent`] keeps a link to each of its relays (one, as a rule), opens its tunnels there, and carries the players that come over it to the game servers of its own
//! configuration, and to nothing else, whatever the relay says.
//!
//! ```text
//! connect   reach the relay, again and again, until it is reached or cannot be
//! link      one link, from connection to connection: hello, control messages, sessions, tunnels as the configuration changes
//! path      notices that the way to the relay has changed under the link
//! tunnels   what is open right now, by the relay's ids
//! tcp udp   players
//! origin    dialling a game server from the right address, and saying once that it is down
//! wake      starting a game server when somebody joins, stopping it when nobody is there
//! guests    who plays right now
//! inquiry   what the person at the agent asks of the relay
//! handover  an upgrade in place: everything goes to a successor
//! discover  which known games listen on this machine
//! follow    the configuration file while the agent runs
//! remember  what `spawnpoint agent INVITE TUNNEL...` leaves for the next start
//! ```

mod connect;
mod discover;
mod follow;
mod guests;
#[cfg(unix)]
mod handover;
mod inquiry;
mod link;
mod origin;
mod path;
pub mod remember;
mod tcp;
mod tunnels;
mod udp;
mod wake;

use std::sync::Arc;
use std::time::Duration;

use spawnpoint_config::agent::AgentConfig;
use spawnpoint_config::tunnel::Tunnel;
use spawnpoint_core::token::SecretHash;
use spawnpoint_core::tuning::{Line, Tuning};
use spawnpoint_net::TaskScope;
use spawnpoint_ops::{Event, Events};
use spawnpoint_proto::control::{BanReply, BanRequest, Welcome};
use spawnpoint_proto::{AgentId, Invite, host_port};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use connect::Connector;
use inquiry::Inquiries;
#[cfg(unix)]
use link::LinkHandle;
use link::{Link, Surroundings};
use origin::Sources;
use wake::Sleepers;

pub use connect::GiveUp;
pub use discover::discover;
pub use follow::follow_file;
pub use guests::{Guests, Shown};

/// How long a relay may take to answer a question.
const ANSWER_DEADLINE: Duration = Duration::from_secs(3);

/// What an agent works with.
#[derive(Clone, Debug)]
pub struct AgentSettings {
    /// The relay and the host's token.
    pub invite: Invite,
    /// Further relays, where the same tunnels are open at the same time.
    pub further: Vec<Invite>,
    /// How the connection is treated.
    pub transport: Tuning,
    /// What the line takes, as far as its owner says.
    pub line: Line,
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
            further: config.further.clone(),
            transport: config.links.transport,
            line: config.links.line,
            backoff_min: config.links.backoff_min,
            backoff_max: config.links.backoff_max,
            origin_timeout: config.origin_timeout,
        }
    }

    /// How many bytes of a session are kept for the relay at most, whatever it says that it takes: twice our own, as it does for us.
    pub(crate) fn window(&self, welcome: &Welcome) -> Option<u32> {
        let most = self.transport.stream_window.saturating_mul(2);
        welcome.window.map(|window| window.min(most))
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
    end: mpsc::Receiver<(String, GiveUp)>,
    /// Relays that are not given up.
    relays: usize,
    events: Events,
    guests: Guests,
    /// Questions to each relay, by its name.
    inquiries: Vec<(String, Inquiries)>,
    /// What goes to a successor.
    #[cfg(unix)]
    id: AgentId,
    /// The link to each relay.
    #[cfg(unix)]
    links: Vec<watch::Receiver<Option<Arc<LinkHandle>>>>,
    /// Cancelled when the successor has the links.
    #[cfg(unix)]
    hold: CancellationToken,
}

impl Agent {
    /// Starts an agent that exposes `tunnels`, whatever they are at the moment.
    pub fn start(settings: AgentSettings, tunnels: watch::Receiver<Vec<Tunnel>>, events: Events) -> Self {
        let id = AgentId(spawnpoint_net::random_bytes());
        let surroundings = Self::surroundings(&settings, &tunnels, &events, id);
        Self::run(
            surroundings.into_iter().map(|around| (around, None)).collect(),
            events,
            id,
        )
    }

    /// What the link to each relay works with.
    fn surroundings(
        settings: &AgentSettings,
        tunnels: &watch::Receiver<Vec<Tunnel>>,
        events: &Events,
        agent: AgentId,
    ) -> Vec<Surroundings> {
        let (leave, parent, hold) = (
            CancellationToken::new(),
            CancellationToken::new(),
            CancellationToken::new(),
        );
        let guests = Guests::default();
        let key = SecretHash::of_token(&settings.invite.token);
        let sources = Sources::new(*key.as_bytes());
        let sleepers = Sleepers::new(&parent);
        let around = |invite: &Invite| Surroundings {
            settings: AgentSettings {
                invite: invite.clone(),
                ..settings.clone()
            },
            tunnels: tunnels.clone(),
            events: events.clone(),
            guests: guests.clone(),
            sources: sources.clone(),
            sleepers: sleepers.clone(),
            inquiries: Inquiries::default(),
            agent,
            leave: leave.clone(),
            parent: parent.clone(),
            hold: hold.clone(),
            #[cfg(unix)]
            link: watch::Sender::default(),
        };
        std::iter::once(&settings.invite)
            .chain(&settings.further)
            .map(around)
            .collect()
    }

    /// Runs the agent, with links to take up again where there are some.
    ///
    /// # Panics
    /// Never: there is one relay at least.
    fn run(relays: Vec<(Surroundings, Option<Link>)>, events: Events, id: AgentId) -> Self {
        let (first, _) = relays.first().expect("an agent has a relay");
        let guests = first.guests.clone();
        let (scope, leave, hold) = (TaskScope::new(&first.parent), first.leave.clone(), first.hold.clone());
        // Every link's tasks end with the agent, also with one that is dropped.
        let alive = Arc::new(first.parent.clone().drop_guard());
        #[cfg(unix)]
        let links = relays.iter().map(|(around, _)| around.link.subscribe()).collect();
        let inquiries = relays
            .iter()
            .map(|(around, _)| (around.settings.relay(), around.inquiries.clone()));
        let inquiries = inquiries.collect();
        let (gave_up, end) = mpsc::channel(relays.len());
        let count = relays.len();
        for (around, link) in relays {
            let (gave_up, hold, alive) = (gave_up.clone(), hold.clone(), alive.clone());
            scope.spawn(async move {
                let _alive = alive;
                let relay = around.settings.relay();
                let connector = Connector::new(around);
                let run = connector.run(link);
                tokio::pin!(run);
                let reason = tokio::select! {
                    biased; // an agent whose successor has the link does nothing more
                    () = hold.cancelled() => std::future::pending().await,
                    reason = &mut run => reason,
                };
                if let Some(reason) = reason {
                    // Nobody waits for the answer of an agent that is being dropped.
                    let _ = gave_up.try_send((relay, reason));
                }
            });
        }
        #[cfg(not(unix))]
        let _ = (id, hold);
        Self {
            scope,
            leave,
            end,
            relays: count,
            events,
            guests,
            inquiries,
            #[cfg(unix)]
            id,
            #[cfg(unix)]
            links,
            #[cfg(unix)]
            hold,
        }
    }

    /// Who plays right now.
    pub const fn guests(&self) -> &Guests {
        &self.guests
    }

    /// Does something about the host's bans at each of its relays: the name of each, and what it answers; nothing when it is away, or too old for it.
    pub async fn bans(&self, request: &BanRequest) -> Vec<(String, Option<BanReply>)> {
        let mut answers = Vec::new();
        for (relay, inquiries) in &self.inquiries {
            let answer = tokio::time::timeout(ANSWER_DEADLINE, inquiries.bans(request.clone())).await;
            answers.push((relay.clone(), answer.ok().flatten()));
        }
        answers
    }

    /// Waits until the agent gives up, on every relay that it has; it never does on what can heal. Cancel-safe.
    pub async fn gave_up(&mut self) -> GiveUp {
        let reason = loop {
            match self.end.recv().await {
                Some((_, reason)) if self.relays <= 1 => break reason,
                Some((relay, reason)) => {
                    self.relays -= 1;
                    tracing::error!(relay, %reason, "this relay is given up, the others go on");
                }
                // A connector ends without a word only when it is asked to leave, or when it panics.
                None if self.leave.is_cancelled() => std::future::pending().await,
                None => break GiveUp::Crashed,
            }
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
