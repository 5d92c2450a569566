//! The sessions of one link, and what all of them go through together: a new carrier, a pause, an end.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use spawnpoint_core::repair::{Mended, Outcomes, Spent};
use spawnpoint_core::stream::{Snapshot, Stream};
use spawnpoint_proto::control::Delivered;
use spawnpoint_proto::{SessionId, Violation};
use tokio::sync::Notify;

use super::{Company, Opening, Session, SessionEnd, Shared};
use crate::repair::Repairs;

/// The TCP sessions of one link.
#[derive(Debug, Default)]
pub struct Sessions {
    inner: Mutex<Inner>,
    shared: Shared,
}

/// How far sessions are, where the peer waits to hear it: one word for each.
#[derive(Debug, Default)]
pub(super) struct News {
    due: Mutex<BTreeMap<SessionId, u64>>,
    added: Notify,
}

impl News {
    pub fn add(&self, delivered: Delivered) {
        self.due().insert(delivered.session, delivered.offset);
        self.added.notify_one();
    }

    fn due(&self) -> MutexGuard<'_, BTreeMap<SessionId, u64>> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
struct Inner {
    /// Which carrier counts, counted from the first.
    epoch: u64,
    /// The peer's window; `None` for one that takes up no session again.
    window: Option<u32>,
    by_id: HashMap<SessionId, Arc<Session>>,
    begins_at_rest: bool,
}

impl Sessions {
    /// From here on only a carrier that is yet to come counts; returns its number and how far each session is. Nothing that an earlier carrier still
    /// brings is taken over.
    pub fn freeze(&self) -> (u64, Vec<Delivered>) {
        let mut inner = self.inner();
        inner.epoch += 1;
        let epoch = inner.epoch;
        // Told below, with everything else.
        self.shared.news.due().clear();
        let mut delivered = Vec::with_capacity(inner.by_id.len());
        for (id, session) in &inner.by_id {
            let mut state = session.state();
            state.epoch = epoch;
            // Told here and now.
            let _ = state.stream.incoming.take_news();
            let offset = state.stream.incoming.offset();
            delivered.push(Delivered { session: *id, offset });
        }
        delivered.sort_by_key(|delivered| delivered.session);
        (epoch, delivered)
    }

    /// The peer on the present carrier has this window.
    pub fn set_window(&self, window: Option<u32>) {
        let mut inner = self.inner();
        inner.window = window;
        for session in inner.by_id.values() {
            session.state().stream.outgoing.set_window(window);
        }
    }

    /// The peer's window.
    pub fn window(&self) -> Option<u32> {
        self.inner().window
    }

    /// Sessions that are entered from here on rest until [`Sessions::go_on`].
    pub fn begin_at_rest(&self) {
        self.inner().begins_at_rest = true;
    }

    /// The number of the present carrier.
    pub fn epoch(&self) -> u64 {
        self.inner().epoch
    }

    /// Enters a new session.
    pub fn begin(&self, opening: Opening) -> Arc<Session> {
        let mut inner = self.inner();
        let session = self.session(opening, &inner, Stream::new(inner.window));
        inner.by_id.insert(session.id(), session.clone());
        session
    }

    /// Enters the session of a stream that came on the carrier of `epoch`; `None` when that is not the present one any
    /// more, or has brought the session before.
    pub fn join(&self, opening: Opening, epoch: u64) -> Option<Arc<Session>> {
        let mut inner = self.inner();
        let is_known = |old: &Arc<Session>| old.state().carried_on == Some(epoch);
        if inner.epoch != epoch || inner.by_id.get(&opening.session).is_some_and(is_known) {
            return None;
        }
        let session = self.session(opening, &inner, Stream::new(inner.window));
        if let Some(old) = inner.by_id.insert(session.id(), session.clone()) {
            old.end(SessionEnd::LinkLost);
        }
        Some(session)
    }

    /// Enters a session that another process has had before.
    pub fn restore(&self, opening: Opening, snapshot: Snapshot) -> Arc<Session> {
        let mut inner = self.inner();
        let session = self.session(opening, &inner, Stream::restore(snapshot));
        inner.by_id.insert(session.id(), session.clone());
        session
    }

    fn session(&self, opening: Opening, inner: &Inner, stream: Stream) -> Arc<Session> {
        let session = Session::new(opening, stream, inner.epoch, &self.shared);
        if inner.begins_at_rest {
            session.ask_to_rest(true);
        }
        Arc::new(session)
    }

    /// The session with this id.
    pub fn get(&self, id: SessionId) -> Option<Arc<Session>> {
        self.inner().by_id.get(&id).cloned()
    }

    /// Every session.
    pub fn all(&self) -> Vec<Arc<Session>> {
        self.inner().by_id.values().cloned().collect()
    }

    /// The repairs of the link, which carry copies of its datagrams too.
    pub(crate) fn repairs(&self) -> Arc<Repairs> {
        self.shared.repairs.clone()
    }

    /// Who plays on the link.
    pub(crate) fn company(&self) -> Arc<Company> {
        self.shared.company.clone()
    }

    /// Whether small writes are repaired on their way to the peer of the present carrier, who must understand that.
    pub fn set_repairs(&self, are_wanted: bool) {
        self.shared.repairs.set_wanted(are_wanted);
    }

    /// Sends repairs, and copies of datagrams, as long as `connection` lasts.
    pub async fn run_repairs(&self, connection: &quinn::Connection) {
        self.shared.repairs.run(connection).await;
    }

    /// What was spent on repairs since the last call, and what became of those of the peer.
    pub fn take_repairs(&self) -> (Spent, Outcomes) {
        self.shared.repairs.take_counts()
    }

    /// The peer has sent a repair on the carrier of `epoch`.
    ///
    /// # Errors
    /// [`Violation::MalformedRepair`].
    pub fn on_repair(&self, epoch: u64, datagram: Bytes) -> Result<(), Violation> {
        let repairs = &self.shared.repairs;
        repairs.on_repair(datagram, |id| self.bytes_taken(id), |mended| self.mend(epoch, mended))
    }

    fn bytes_taken(&self, id: SessionId) -> Option<u64> {
        Some(self.get(id)?.state().stream.incoming.taken())
    }

    fn mend(&self, epoch: u64, mended: Mended) {
        if let Some(session) = self.get(mended.session) {
            session.mend(epoch, mended);
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.inner().by_id.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.inner().by_id.is_empty()
    }

    /// Bytes that are kept for the peer, over all sessions.
    pub fn kept(&self) -> usize {
        let inner = self.inner();
        inner
            .by_id
            .values()
            .map(|session| session.state().stream.outgoing.kept())
            .sum()
    }

    /// Takes a session out that is over.
    pub fn remove(&self, session: &Arc<Session>) {
        let mut inner = self.inner();
        if inner
            .by_id
            .get(&session.id())
            .is_some_and(|held| Arc::ptr_eq(held, session))
        {
            inner.by_id.remove(&session.id());
            drop(inner);
            self.shared.rested.notify_waiters();
        }
    }

    /// Waits until there are none.
    pub async fn emptied(&self) {
        self.wait_until(|| self.is_empty()).await;
    }

    /// The peer has told how far it is with a session; one that is over here is nobody's business.
    ///
    /// # Errors
    /// [`Violation::OffsetOutOfRange`].
    pub fn on_delivered(&self, delivered: Delivered) -> Result<(), Violation> {
        let Some(session) = self.get(delivered.session) else {
            return Ok(());
        };
        let (had_room, has_ended) = {
            let out = &mut session.state().stream.outgoing;
            let had_room = out.has_room();
            out.on_delivered(delivered.offset)?;
            (had_room, out.ending().is_some())
        };
        if !had_room {
            session.out.notify_one();
        }
        if has_ended {
            session.whole.notify_one();
        }
        Ok(())
    }

    /// Waits until there is something that the peer is told without delay: an end of a session's direction that was taken over, or so much that the peer
    /// waits to go on.
    pub async fn due(&self) -> Vec<Delivered> {
        loop {
            let due = std::mem::take(&mut *self.shared.news.due());
            if !due.is_empty() {
                let delivered = |(session, offset)| Delivered { session, offset };
                return due.into_iter().map(delivered).collect();
            }
            self.shared.news.added.notified().await;
        }
    }

    /// How far the sessions are of which the peer does not know yet.
    pub fn take_news(&self) -> Vec<Delivered> {
        let news = |session: &Arc<Session>| {
            let offset = session.state().stream.incoming.take_news()?;
            Some(Delivered {
                session: session.id(),
                offset,
            })
        };
        self.inner().by_id.values().filter_map(news).collect()
    }

    /// Ends the sessions for which no stream came on the carrier of `epoch`, if that is still the present one.
    pub fn end_left_behind(&self, epoch: u64) {
        let is_left = |session: &Arc<Session>| {
            let state = session.state();
            state.epoch == epoch && state.carried_on != Some(epoch)
        };
        let left: Vec<_> = self.all().into_iter().filter(is_left).collect();
        left.iter().for_each(|session| session.end(SessionEnd::Expired));
    }

    /// Ends every session.
    pub fn end_all(&self, end: SessionEnd) {
        self.all().into_iter().for_each(|session| session.end(end));
    }

    /// Brings every session to rest: when this returns, no byte moves until [`Sessions::go_on`].
    pub async fn rest(&self) {
        self.begin_at_rest();
        let sessions = self.all();
        sessions.iter().for_each(|session| session.ask_to_rest(true));
        self.wait_until(|| sessions.iter().all(|session| session.is_at_rest()))
            .await;
    }

    async fn wait_until(&self, is_so: impl Fn() -> bool) {
        loop {
            let rested = self.shared.rested.notified();
            tokio::pin!(rested);
            rested.as_mut().enable();
            if is_so() {
                return;
            }
            rested.await;
        }
    }

    /// Lets the sessions go on that were brought to rest.
    pub fn go_on(&self) {
        self.inner().begins_at_rest = false;
        self.all().into_iter().for_each(|session| session.ask_to_rest(false));
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use spawnpoint_proto::TunnelId;
    use spawnpoint_proto::stream::Purpose;

    use super::*;

    fn opening(id: u64) -> Opening {
        Opening {
            session: SessionId(id),
            tunnel: TunnelId(1),
            player: ([127, 0, 0, 1], 1).into(),
            local: ([127, 0, 0, 1], 2).into(),
            purpose: Purpose::Play,
        }
    }

    #[test]
    fn what_an_old_session_notes_about_the_time_is_true_for_a_new_one() {
        let sessions = Sessions::default();
        let old = sessions.begin(opening(1));
        let noted = loop {
            let now = old.shared.company.clock.now();
            if now.since_start() > std::time::Duration::from_millis(1) {
                break now;
            }
        };
        let new = sessions.begin(opening(2));
        assert!(
            new.shared.company.clock.now() >= noted,
            "a download waited for players of another clock"
        );
    }
}
