//! Reaching the relay, again and again, until it is reached or cannot be.

use std::net::SocketAddr;
use std::time::Duration;

use spawnpoint_core::backoff::Backoff;
use spawnpoint_net::{DialError, Dialed, SessionEnd, dial, random_unit, wait_for_answer};
use spawnpoint_ops::{Event, describe};
use spawnpoint_proto::RejectCode;

use crate::link::{self, Link, LinkEnd, RelayState, Surroundings};

/// A relay that has not answered by then is not there; the next try resolves its name afresh.
const DIAL_DEADLINE: Duration = Duration::from_secs(5);

/// A handshake that hangs for this long is worth asking whether anybody is there.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often an absent relay is asked whether it is back, at first.
const ASK_EVERY: Duration = Duration::from_millis(600);

/// How often a relay is asked that has been away for longer than [`LONG_AWAY`].
const ASK_RARELY: Duration = Duration::from_secs(5);

/// A relay that restarts is back before this; after it, asking every half second only costs traffic.
const LONG_AWAY: Duration = Duration::from_secs(600);

/// A carrier that lived this long was a real one, and worth replacing at once.
const LIVED: Duration = Duration::from_millis(250);

/// A link that lived this long was a success; the next try starts with the shortest wait.
const SUCCESS: Duration = Duration::from_secs(5);

/// Why an agent stops trying.
#[derive(Debug, thiserror::Error)]
pub enum GiveUp {
    /// The relay does not let it in.
    #[error("the relay does not let this agent in: {text}")]
    Rejected {
        /// The relay's word.
        code: RejectCode,
        /// The relay's sentence.
        text: String,
    },
    /// The relay is not the right one.
    #[error(transparent)]
    Relay(DialError),
    /// Another agent has all its tunnels.
    #[error(
        "another agent with the same invite has taken over: only one can have a tunnel at a time, so this one stops"
    )]
    TakenOver,
    /// Something broke in the agent itself.
    #[error("the agent has failed: this is a mistake in it, its log says where")]
    Crashed,
    /// None of its tunnels is allowed.
    #[error("the relay opened none of the tunnels: {0}")]
    Refused(String),
}

/// Keeps one agent linked.
pub(crate) struct Connector {
    around: Surroundings,
}

impl Connector {
    pub const fn new(around: Surroundings) -> Self {
        Self { around }
    }

    /// Links until asked to leave, then `None`, or until it has to give up; `link` is one to take up again.
    pub async fn run(self, mut link: Option<Link>) -> Option<GiveUp> {
        let end = self.keep(&mut link).await;
        if let Some(link) = link {
            link.finish(SessionEnd::LinkLost).await;
        }
        end
    }

    /// Keeps `link` carried.
    async fn keep(&self, link: &mut Option<Link>) -> Option<GiveUp> {
        let Surroundings {
            settings,
            events,
            leave,
            ..
        } = &self.around;
        let mut backoff = Backoff::new(settings.backoff_min, settings.backoff_max);
        let mut addresses = Vec::new();
        let mut told = String::new();
        let mut away_since = tokio::time::Instant::now();
        loop {
            let dialed = tokio::select! {
                biased; // leaving needs no relay
                () = leave.cancelled() => return None,
                dialed = self.dial(&mut addresses) => dialed,
            };
            let (reason, is_silence) = match dialed {
                Ok(dialed) => {
                    told.clear();
                    let up_since = tokio::time::Instant::now();
                    let end = link::run(&self.around, link, dialed).await;
                    away_since = tokio::time::Instant::now();
                    if up_since.elapsed() >= SUCCESS {
                        backoff.reset();
                    }
                    match end {
                        LinkEnd::Left => return None,
                        LinkEnd::GaveUp(reason) => return Some(reason),
                        // Players wait: the first try is made at once.
                        LinkEnd::Lost {
                            reason,
                            relay: RelayState::Here | RelayState::Silent,
                        } if up_since.elapsed() >= LIVED => {
                            tracing::info!(relay = settings.relay(), reason, "link lost, reaching the relay anew");
                            continue;
                        }
                        LinkEnd::Lost { reason, relay } => (reason, relay != RelayState::Unwilling),
                    }
                }
                Err(error) if !error.can_heal() => return Some(GiveUp::Relay(error)),
                Err(error) => (describe(&error), error.is_silence()),
            };
            let wait = backoff.next_wait(random_unit());
            let wait_ms = wait.as_millis() as u64;
            // Said when it changes; a relay that is away for a night need not be told of every three seconds.
            if told != reason {
                tracing::warn!(
                    relay = settings.relay(),
                    reason,
                    wait_ms,
                    "no link, trying again until there is one"
                );
                told.clone_from(&reason);
            }
            events.emit(Event::Reconnecting {
                reason,
                wait_ms: wait.as_millis() as u64,
            });
            let ask_every = if away_since.elapsed() < LONG_AWAY {
                ASK_EVERY
            } else {
                ASK_RARELY
            };
            // A relay that answers and does not want us is left alone for the whole wait; only one that is away is worth asking.
            let back = async {
                if !is_silence || addresses.is_empty() {
                    std::future::pending::<()>().await;
                }
                wait_for_answer(&addresses, ask_every).await;
                tokio::time::sleep(settings.backoff_min.mul_f64(random_unit())).await;
            };
            tokio::select! {
                () = leave.cancelled() => return None,
                () = tokio::time::sleep(wait) => {}
                () = back => {}
            }
        }
    }

    /// One try. A handshake retransmits ever more rarely, so a relay that comes back in the middle of one would be noticed late: once somebody answers
    /// while it hangs, it is begun afresh.
    async fn dial(&self, addresses: &mut Vec<SocketAddr>) -> Result<Dialed, DialError> {
        let settings = &self.around.settings;
        let mut found = Vec::new();
        let restarted = {
            let first = dial(&settings.invite, &settings.transport, DIAL_DEADLINE, &mut found);
            tokio::pin!(first);
            let known = addresses.clone();
            let answered = async {
                tokio::time::sleep(PATIENCE).await;
                if known.is_empty() {
                    std::future::pending::<()>().await;
                }
                wait_for_answer(&known, ASK_EVERY).await;
            };
            tokio::select! {
                result = &mut first => Some(result),
                () = answered => None,
            }
        };
        let result = match restarted {
            Some(result) => result,
            None => dial(&settings.invite, &settings.transport, DIAL_DEADLINE, &mut found).await,
        };
        if !found.is_empty() {
            *addresses = found;
        }
        result
    }
}
