//! The path under a carrier: follows this machine's addresses, and notices within a second that the relay can be reached although the carrier is silent.
//!
//! QUIC retries ever more rarely while nothing answers, so after a blackout it may stay silent for seconds although the path is back. Here the relay is
//! asked directly, by packets that QUIC's timers and congestion know nothing of. What to do about a stuck carrier is the caller's business.

use std::time::Duration;

use quinn::{Connection, Endpoint};
use spawnpoint_net::{AddressWatch, move_socket, wait_for_answer};

/// How often it is looked at whether anything was heard.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A carrier that asks for a sign of life twice a second is suspect after this long without one, and [`ROUND_TRIPS`].
const PATIENCE: Duration = Duration::from_millis(600);

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
    heard: u64,
    heard_at: tokio::time::Instant,
    /// When it came back from its last silence.
    back_at: Option<tokio::time::Instant>,
    /// The round trip while all was well.
    round_trip: Duration,
}

impl PathWatch {
    pub fn new(connection: Connection, endpoint: Endpoint) -> Self {
        let relay = spawnpoint_net::canonical(connection.remote_address()).ip();
        Self {
            round_trip: connection.rtt(),
            connection,
            endpoint,
            addresses: AddressWatch::towards(vec![relay]),
            heard: 0,
            heard_at: tokio::time::Instant::now(),
            back_at: None,
        }
    }

    /// Waits until the relay answers on the path, and the carrier does not come through on it.
    pub async fn stuck(&mut self) {
        loop {
            let has_moved = tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => false,
                () = self.addresses.changed() => true,
            };
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
            } else if silence < PATIENCE + ROUND_TRIPS * self.round_trip {
                continue;
            }
            let relay = [spawnpoint_net::canonical(self.connection.remote_address())];
            tracing::debug!(
                silent_ms = silence.as_millis() as u64,
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
        let before = self.heard_at;
        while self.heard_at == before {
            tokio::time::sleep(LOOK_EVERY / 4).await;
            self.silence();
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
        loop {
            tokio::time::sleep(LOOK_EVERY / 4).await;
            let now = sent_and_acknowledged();
            if now.0 > sent && now.1 > acknowledged {
                break;
            }
        }
        self.silence();
    }

    /// For how long nothing was heard.
    fn silence(&mut self) -> Duration {
        let heard = self.connection.stats().udp_rx.datagrams;
        if heard != self.heard {
            let now = tokio::time::Instant::now();
            if self.heard_at.elapsed() >= PATIENCE + ROUND_TRIPS * self.round_trip {
                self.back_at = Some(now);
            }
            (self.heard, self.heard_at) = (heard, now);
            if self.back_at.is_none_or(|back| back.elapsed() >= CONVALESCENCE) {
                self.round_trip = self.connection.rtt();
            }
        }
        self.heard_at.elapsed()
    }
}
