//! Repairs of one link: what travels a second time so that a lost packet costs a player a few milliseconds instead of a round trip.
//!
//! The rules are `spawnpoint_core::repair`'s. Here they get the time, what the path is like, and the connection to send on. On a path that loses nothing
//! this costs a session two atomic operations a write; nothing runs while nobody writes.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use spawnpoint_core::repair::{Mended, Mender, Outcomes, Path, Policy, Spares, Spent, choose};
use spawnpoint_proto::fragment::MIN_DATAGRAM;
use spawnpoint_proto::repair::MAX_WRITE;
use spawnpoint_proto::{SessionId, Time, Violation};
use tokio::sync::Notify;

use crate::{Clock, PathModel};

/// The path is looked at again after this long, if anything was written.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The largest write that is still a message of a game; it is covered in parts.
pub(crate) const MAX_COVERED: usize = 4 * MAX_WRITE;

/// The repairs of one link, in both directions.
pub struct Repairs {
    clock: Clock,
    /// The peer takes repairs, and this side wants to send them.
    is_wanted: AtomicBool,
    /// Writes are noted now.
    is_covering: AtomicBool,
    /// The peer has sent a repair, so that what it sends is worth remembering.
    is_mending: AtomicBool,
    /// Bytes of small writes since the last look.
    interactive: AtomicU64,
    /// When the path is looked at next, in milliseconds.
    look_at: AtomicU64,
    desk: Mutex<Desk>,
    filled: Notify,
}

struct Desk {
    spares: Spares,
    policy: Policy,
    looked: Time,
    mender: Mender,
}

impl Default for Repairs {
    fn default() -> Self {
        Self {
            clock: Clock::default(),
            is_wanted: AtomicBool::new(false),
            is_covering: AtomicBool::new(false),
            is_mending: AtomicBool::new(false),
            interactive: AtomicU64::new(0),
            look_at: AtomicU64::new(0),
            desk: Mutex::new(Desk {
                spares: Spares::new(MIN_DATAGRAM),
                policy: Policy::Off,
                looked: Time::ZERO,
                mender: Mender::default(),
            }),
            filled: Notify::new(),
        }
    }
}

impl std::fmt::Debug for Repairs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Repairs({:?})", self.desk().policy)
    }
}

impl Repairs {
    /// Whether small writes are to be repaired on their way to the peer.
    pub(crate) fn set_wanted(&self, is_wanted: bool) {
        self.is_wanted.store(is_wanted, Ordering::Relaxed);
    }

    /// Whether the peer takes repairs and copies.
    pub(crate) fn is_wanted(&self) -> bool {
        self.is_wanted.load(Ordering::Relaxed)
    }

    /// Whether a small write of `length` bytes is worth a copy for [`Repairs::on_write`].
    pub(crate) fn covers(&self, length: usize) -> bool {
        if length > MAX_COVERED || !self.is_wanted.load(Ordering::Relaxed) {
            return false;
        }
        self.on_interactive(length);
        self.is_covering.load(Ordering::Relaxed)
    }

    fn on_interactive(&self, bytes: usize) {
        self.interactive.fetch_add(bytes as u64, Ordering::Relaxed);
        if self.clock.now().since_start().as_millis() as u64 >= self.look_at.load(Ordering::Relaxed) {
            self.filled.notify_one();
        }
    }

    /// The carrier has accepted a small write.
    pub(crate) fn on_write(&self, session: SessionId, mut offset: u64, bytes: &[u8]) {
        let mut desk = self.desk();
        let was_idle = desk.spares.poll_timeout().is_none();
        for part in bytes.chunks(MAX_WRITE) {
            desk.spares.on_write(self.clock.now(), session, offset, part);
            offset += part.len() as u64;
        }
        let is_idle = desk.spares.poll_timeout().is_none();
        drop(desk);
        if was_idle && !is_idle {
            self.filled.notify_one();
        }
    }

    /// Sends a datagram of a UDP packet once more, a moment later.
    pub(crate) fn delay_copy(&self, datagram: Bytes) {
        let mut desk = self.desk();
        let was_due = desk.spares.poll_timeout();
        desk.spares.delay_copy(self.clock.now(), datagram);
        let is_due = desk.spares.poll_timeout();
        drop(desk);
        if is_due != was_due {
            self.filled.notify_one();
        }
    }

    /// Sends repairs when they are due; returns when the connection is gone.
    pub(crate) async fn run(&self, connection: &quinn::Connection) {
        self.desk().spares.drop_waiting();
        loop {
            let now = self.clock.now();
            self.look(now, connection);
            let next = {
                let mut desk = self.desk();
                while let Some(datagram) = desk.spares.poll_datagram(now) {
                    // What does not go out now comes too late, and what pushes others out costs more than it gives.
                    if connection.datagram_send_buffer_space() < datagram.len() {
                        continue;
                    }
                    if let Err(quinn::SendDatagramError::ConnectionLost(_)) = connection.send_datagram(datagram) {
                        return;
                    }
                }
                desk.spares.poll_timeout()
            };
            let due = async {
                match next {
                    Some(time) => tokio::time::sleep_until(self.clock.instant(time)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = due => {}
                () = self.filled.notified() => {}
                _ = connection.closed() => return,
            }
        }
    }

    /// Asks the path how it is, and decides what to do about it.
    fn look(&self, now: Time, connection: &quinn::Connection) {
        let mut desk = self.desk();
        let since = now.since(desk.looked);
        if since < LOOK_EVERY && desk.looked != Time::ZERO {
            return;
        }
        desk.looked = now;
        self.look_at
            .store((now + LOOK_EVERY).since_start().as_millis() as u64, Ordering::Relaxed);
        let bytes = self.interactive.swap(0, Ordering::Relaxed);
        let model = PathModel::of(connection);
        let path = Path {
            loss: model.loss,
            interactive: (bytes as f64 / since.as_secs_f64().max(0.05)) as u64,
            line: model.rate.map(|rate| rate as u64),
            is_busy: model.is_busy,
        };
        let (policy, budget) = choose(desk.policy, path);
        if policy != desk.policy {
            tracing::debug!(
                ?policy,
                budget,
                loss = path.loss,
                interactive = path.interactive,
                "repairs"
            );
        }
        desk.policy = policy;
        desk.spares
            .set_max_datagram(connection.max_datagram_size().unwrap_or(MIN_DATAGRAM));
        desk.spares.set_policy(policy);
        desk.spares.set_budget(budget);
        let is_covering = self.is_wanted.load(Ordering::Relaxed) && policy != Policy::Off;
        self.is_covering.store(is_covering, Ordering::Relaxed);
    }

    /// Whether bytes of the peer are worth remembering.
    pub(crate) fn is_mending(&self) -> bool {
        self.is_mending.load(Ordering::Relaxed)
    }

    /// A stream has brought these bytes of a session. To be called before the session counts them as taken, and without its lock: `taken` of the methods
    /// below asks for that.
    pub(crate) fn on_taken<'a>(&self, session: SessionId, mut offset: u64, pieces: impl Iterator<Item = &'a Bytes>) {
        let mut desk = self.desk();
        for piece in pieces {
            desk.mender.on_taken(self.clock.now(), session, offset, piece);
            offset += piece.len() as u64;
        }
    }

    /// A repair came from the peer; hands each write that it gave back to `mend`.
    ///
    /// # Errors
    /// [`Violation::MalformedRepair`].
    pub(crate) fn on_repair(
        &self,
        datagram: Bytes,
        taken: impl Fn(SessionId) -> Option<u64>,
        mut mend: impl FnMut(Mended),
    ) -> Result<(), Violation> {
        self.is_mending.store(true, Ordering::Relaxed);
        let mut mended = self.desk().on_repair(self.clock.now(), datagram, &taken)?;
        while let Some(next) = mended {
            mend(next);
            // Repairs that waited may be of use by now.
            mended = self.desk().next_mended(self.clock.now(), &taken);
        }
        Ok(())
    }

    /// What was sent since the last call, and what became of what the peer sent.
    pub(crate) fn take_counts(&self) -> (Spent, Outcomes) {
        let mut desk = self.desk();
        (desk.spares.take_spent(), desk.mender.take_outcomes())
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Desk {
    fn on_repair(
        &mut self,
        now: Time,
        datagram: Bytes,
        taken: impl Fn(SessionId) -> Option<u64>,
    ) -> Result<Option<Mended>, Violation> {
        let mended = self.mender.on_repair(now, datagram, &taken)?;
        let mended = mended.or_else(|| self.mender.poll_mended(now, taken));
        Ok(self.note(now, mended))
    }

    fn next_mended(&mut self, now: Time, taken: impl Fn(SessionId) -> Option<u64>) -> Option<Mended> {
        let mended = self.mender.poll_mended(now, taken);
        self.note(now, mended)
    }

    /// What was given back may help to give back more.
    fn note(&mut self, now: Time, mended: Option<Mended>) -> Option<Mended> {
        if let Some(mended) = &mended {
            self.mender.on_taken(now, mended.session, mended.offset, &mended.bytes);
        }
        mended
    }
}
