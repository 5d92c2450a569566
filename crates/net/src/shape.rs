//! Rates that sessions share, on the machine's clock: who is too fast waits here, and nobody else does.
//!
//! The rules are `spawnpoint_core::shape`'s. Whoever waits holds nothing but its place: the first in the queue has a timer, the others are woken when it is their turn to be
//! the first. A [`Shaper`] without a rate costs a look at an atomic.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use spawnpoint_core::shape::{FairRate, Share, Ticket, Turn};
use tokio::sync::Notify;

use crate::Clock;

/// What a user of a [`Shaper`] has had; several sessions may be one user.
#[derive(Debug, Default)]
pub struct User(Mutex<Share>);

/// A rate that its users share.
#[derive(Debug)]
pub struct Shaper {
    is_limited: AtomicBool,
    state: Mutex<State>,
    clock: Clock,
}

#[derive(Debug)]
struct State {
    line: FairRate,
    sleepers: HashMap<Ticket, Arc<Notify>>,
}

impl Shaper {
    /// A rate in bytes a second; `None` is no limit.
    pub fn new(rate: Option<u64>) -> Self {
        Self {
            is_limited: AtomicBool::new(rate.is_some()),
            state: Mutex::new(State {
                line: FairRate::new(rate),
                sleepers: HashMap::new(),
            }),
            clock: Clock::default(),
        }
    }

    /// Changes the rate; whoever waits looks again.
    pub fn set_rate(&self, rate: Option<u64>) {
        let mut state = self.state();
        if state.line.rate() == rate {
            return;
        }
        state.line.set_rate(self.clock.now(), rate);
        self.is_limited.store(rate.is_some(), Ordering::Relaxed);
        state.sleepers.values().for_each(|sleeper| sleeper.notify_one());
    }

    /// Whether there is a rate at all.
    pub fn is_limited(&self) -> bool {
        self.is_limited.load(Ordering::Relaxed)
    }

    fn is_clear(&self, user: &User) -> bool {
        let share = *user.share();
        !self.is_limited() || self.state().line.ask(self.clock.now(), &share)
    }

    fn may_pass(&self, user: &User, bytes: u64) -> bool {
        let share = *user.share();
        !self.is_limited() || self.state().line.may_pass(self.clock.now(), &share, bytes)
    }

    fn charge(&self, user: &User, bytes: u64) {
        if self.is_limited() {
            let mut share = user.share();
            self.state().line.charge(self.clock.now(), &mut share, bytes);
        }
    }

    fn quantum(&self) -> u64 {
        match self.is_limited() {
            true => self.state().line.quantum(),
            false => u64::MAX,
        }
    }

    /// Waits until the user may move something.
    async fn clear(&self, user: &User) {
        if !self.is_clear(user) {
            // Every session has room for this future, and few ever wait.
            Box::pin(self.wait(user)).await;
        }
    }

    async fn wait(&self, user: &User) {
        let notify = Arc::new(Notify::new());
        let place = {
            // Never a share while the state is held: whoever pays takes them the other way round.
            let share = *user.share();
            let mut state = self.state();
            let ticket = state.line.queue(&share);
            state.sleepers.insert(ticket, notify.clone());
            Place { shaper: self, ticket }
        };
        loop {
            let turn = self.state().line.turn(self.clock.now(), place.ticket);
            match turn {
                Turn::Go => return,
                Turn::At(time) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(self.clock.instant(time)) => {}
                        () = notify.notified() => {}
                    }
                }
                Turn::Later => notify.notified().await,
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // What it holds is numbers; the worst that a panic elsewhere can leave is one charge that is missing.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl User {
    fn share(&self) -> MutexGuard<'_, Share> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in a shaper's queue; whoever leaves it, in whatever way, wakes the next.
struct Place<'a> {
    shaper: &'a Shaper,
    ticket: Ticket,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut state = self.shaper.state();
        state.line.leave(self.ticket);
        state.sleepers.remove(&self.ticket);
        let next = state.line.first().and_then(|first| state.sleepers.get(&first));
        next.into_iter().for_each(|next| next.notify_one());
    }
}

/// What one direction of one session has to pay: each of some shapers, as one of its users.
#[derive(Debug, Default)]
pub struct Toll(Box<[(Arc<Shaper>, Arc<User>)]>);

impl Toll {
    /// A toll at each of `steps`, asked in this order.
    pub fn new(steps: impl IntoIterator<Item = (Arc<Shaper>, Arc<User>)>) -> Self {
        Self(steps.into_iter().collect())
    }

    /// Whether something may be moved now.
    pub fn is_clear(&self) -> bool {
        self.0.iter().all(|(shaper, user)| shaper.is_clear(user))
    }

    /// Waits until something may be moved.
    pub async fn clear(&self) {
        for (shaper, user) in &self.0 {
            shaper.clear(user).await;
        }
    }

    /// Counts `bytes` that were moved.
    pub fn charge(&self, bytes: u64) {
        self.0.iter().for_each(|(shaper, user)| shaper.charge(user, bytes));
    }

    /// Whether a packet may go on at once; it is counted if so.
    pub fn pass(&self, bytes: u64) -> bool {
        let may_pass = self.0.iter().all(|(shaper, user)| shaper.may_pass(user, bytes));
        if may_pass {
            self.charge(bytes);
        }
        may_pass
    }

    /// Bytes to move at once, at most.
    pub fn quantum(&self) -> usize {
        let least = self.0.iter().map(|(shaper, _)| shaper.quantum()).min();
        usize::try_from(least.unwrap_or(u64::MAX)).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use spawnpoint_proto::Time;

    use super::*;

    fn toll(shaper: &Arc<Shaper>) -> Toll {
        Toll::new([(shaper.clone(), Arc::default())])
    }

    #[tokio::test]
    async fn whoever_gives_up_waiting_holds_nobody_up() {
        let shaper = Arc::new(Shaper::new(Some(1_000_000)));
        let (first, second, third) = (toll(&shaper), toll(&shaper), toll(&shaper));
        for toll in [&first, &second, &third] {
            toll.charge(30_000);
        }
        let before = Instant::now();
        {
            let given_up = second.clear();
            let waiting = third.clear();
            tokio::pin!(waiting);
            tokio::select! {
                biased;
                () = given_up => panic!("it is not its turn yet"),
                () = &mut waiting => panic!("nor this one's"),
                // Both have asked by now.
                () = std::future::ready(()) => {}
            }
        }
        third.clear().await;
        assert!(before.elapsed() >= Duration::from_millis(50));
        assert!(shaper.state().sleepers.is_empty());
    }

    #[test]
    fn one_who_pays_while_another_of_the_same_user_queues_locks_nobody_out() {
        let shaper = Arc::new(Shaper::new(Some(1_000)));
        let toll = Arc::new(toll(&shaper));
        toll.charge(1_000_000_000);
        let (done, finished) = std::sync::mpsc::sync_channel(2);
        let (pays, payer_done) = (toll.clone(), done.clone());
        std::thread::spawn(move || {
            (0..100_000).for_each(|_| pays.charge(1));
            let _ = payer_done.send(());
        });
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
            let runtime = runtime.expect("a runtime without any device");
            let _guard = runtime.enter();
            for _ in 0..100_000 {
                let mut clear = std::pin::pin!(toll.clear());
                let polled = clear
                    .as_mut()
                    .poll(&mut std::task::Context::from_waker(std::task::Waker::noop()));
                assert!(polled.is_pending());
            }
            let _ = done.send(());
        });
        for _ in 0..2 {
            let finished = finished.recv_timeout(Duration::from_secs(30));
            finished.expect("both threads come to their end");
        }
    }

    #[tokio::test]
    async fn a_rate_that_is_taken_away_wakes_whoever_waits() {
        let shaper = Arc::new(Shaper::new(Some(1)));
        let tolls = [toll(&shaper), toll(&shaper)];
        tolls[0].charge(1_000_000);
        tolls[1].charge(1_000_000);
        let both = async { tokio::join!(tolls[0].clear(), tolls[1].clear()) };
        let lifted = async {
            tokio::task::yield_now().await;
            shaper.set_rate(None);
        };
        let waited = tokio::time::timeout(Duration::from_secs(5), async { tokio::join!(both, lifted) }).await;
        assert!(waited.is_ok());
    }

    #[test]
    fn what_does_not_pass_everywhere_is_charged_nowhere() {
        let (wide, narrow) = (Arc::new(Shaper::new(Some(1_000_000))), Arc::new(Shaper::new(Some(1))));
        let toll = Toll::new([(wide.clone(), Arc::default()), (narrow, Arc::default())]);
        toll.charge(100);
        for _ in 0..1000 {
            assert!(!toll.pass(1_000_000));
        }
        assert!(
            wide.state()
                .line
                .ask(Time::new(Duration::from_secs(1)), &Share::default())
        );
    }
}
