//! The path under a carrier: follows this machine's addresses, and notices within a second of an unanswered question that the relay can be reached although
//! the carrier is silent.
//!
//! QUIC retries ever more rarely while nothing answers, so after a blackout it may stay silent for seconds although the path is back. Here the relay is
//! asked directly, by packets that QUIC's timers and congestion know nothing of. What to do about a stuck carrier is the caller's business.

use std::time::Duration;

use quinn::{Connection, Endpoint};
use spawnpoint_net::{AddressWatch, Pulse, SleepWatch, move_socket, wait_for_answer};

/// How often it is looked at whether anything was heard.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A question that was not answered within this, and [`ROUND_TRIPS`], makes a carrier suspect.
const PATIENCE: Duration = Duration::from_millis(100);

/// Round trips that a sign of life may take beyond [`PATIENCE`]: one is lost now and then, and asked for again.
const ROUND_TRIPS: u32 = 4;

/// How long a silence spoils QUIC's own idea of the round trip.
const CONVALESCENCE: Duration = Duration::from_secs(3);

/// How often the relay is asked whether the path is back.
const ASK_EVERY: Duration = Duration::from_millis(200);

/// What the carrier is given to come through after the relay has answered, besides two round trips.
const GRACE: Duration = Duration::from_millis(100);

/// Watches the path of one carrier.
pub(crate) struct PathWatch {
    connection: Connection,
    endpoint: Endpoint,
    addresses: AddressWatch,
    asleep: SleepWatch,
    pulse: Pulse,
    /// For how long a question had waited for its answer when it was looked at last.
    silence: Duration,
    /// When it came back from its last silence.
    back_at: Option<tokio::time::Instant>,
    /// The round trip while all was well.
    round_trip: Duration,
}

impl PathWatch {
    pub fn new(connection: Connection, endpoint: Endpoint, pulse: Pulse) -> Self {
        let relay = spawnpoint_net::canonical(connection.remote_address()).ip();
        Self {
            round_trip: connection.rtt(),
            connection,
            endpoint,
            addresses: AddressWatch::towards(vec![relay]),
            asleep: SleepWatch::default(),
            pulse,
            silence: Duration::ZERO,
            back_at: None,
        }
    }

    /// The pulse of the carrier.
    pub const fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    /// Waits until the relay answers on the path, and the carrier does not come through on it.
    pub async fn stuck(&mut self) {
        loop {
            let has_moved = tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => false,
                () = self.addresses.changed() => true,
            };
            if self.asleep.was_asleep() {
                // Much may have happened meanwhile, of which a clock that stood still does not tell.
                self.pulse.doubt();
            }
            let (silence, grace) = (self.silence(), GRACE + 2 * self.round_trip);
            if has_moved {
                tracing::info!("this machine's address has changed, the link moves with it");
                if let Err(error) = move_socket(&self.endpoint) {
                    // Without a way out there is no socket either; the next change brings one.
                    tracing::debug!(%error, "the link could not move");
                }
                if tokio::time::timeout(grace, self.recovers()).await.is_ok() {
                    continue;
                }
            } else if silence < self.patience() {
                continue;
            }
            let relay = [spawnpoint_net::canonical(self.connection.remote_address())];
            tracing::debug!(
                unanswered_ms = silence.as_millis() as u64,
                "the relay is silent, asking it directly"
            );
            tokio::select! {
                () = wait_for_answer(&relay, ASK_EVERY) => {}
                () = self.hears() => {}
            }
            if tokio::time::timeout(grace, self.recovers()).await.is_err() {
                return;
            }
        }
    }

    /// Waits until anything is heard from the relay.
    async fn hears(&mut self) {
        let before = self.pulse.heard();
        while self.pulse.heard() == before {
            tokio::time::sleep(LOOK_EVERY / 4).await;
        }
    }

    /// Waits until something is acknowledged that was sent just now.
    ///
    /// Hearing is not enough: a connection whose window is full of what was lost sends nothing until its backed-off timer rings, not even that it hears.
    async fn recovers(&mut self) {
        let sent_and_acknowledged = || {
            let stats = self.connection.stats();
            (stats.udp_tx.datagrams, stats.frame_rx.acks)
        };
        // What the first packets bring was said before the silence.
        tokio::time::sleep(LOOK_EVERY / 4).await;
        let (sent, acknowledged) = sent_and_acknowledged();
        // So that there is something to acknowledge, though nobody plays.
        self.pulse.doubt();
        loop {
            tokio::time::sleep(LOOK_EVERY / 4).await;
            let now = sent_and_acknowledged();
            if now.0 > sent && now.1 > acknowledged {
                break;
            }
        }
        self.silence();
    }

    /// For how long a question has waited for its answer.
    fn silence(&mut self) -> Duration {
        let silence = self.pulse.unanswered().unwrap_or_default();
        if silence.is_zero() {
            if self.silence >= self.patience() {
                self.back_at = Some(tokio::time::Instant::now());
            }
            if self.back_at.is_none_or(|back| back.elapsed() >= CONVALESCENCE) {
                self.round_trip = self.connection.rtt();
            }
        }
        self.silence = silence;
        silence
    }

    fn patience(&self) -> Duration {
        PATIENCE + ROUND_TRIPS * self.round_trip
    }
}
