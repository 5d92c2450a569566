//! The events of one process, to wait for.

use std::sync::{Arc, Mutex};

use spawnpoint_ops::{Event, Events};
use tokio::sync::Notify;

use crate::soon;

/// Everything that was emitted so far.
#[derive(Clone, Default)]
pub struct Heard(Arc<Inner>);

#[derive(Default)]
struct Inner {
    events: Mutex<Vec<Event>>,
    new: Notify,
}

impl Heard {
    /// Where the process emits to.
    pub fn events(&self) -> Events {
        let inner = self.0.clone();
        Events::new(move |event| {
            inner.events.lock().unwrap().push(event);
            inner.new.notify_waiters();
        })
    }

    /// Waits for the first event that `pick` takes, from the beginning.
    pub async fn wait<T>(&self, what: &str, mut pick: impl FnMut(&Event) -> Option<T>) -> T {
        let wait = async {
            let mut seen = 0;
            loop {
                let new = self.0.new.notified();
                tokio::pin!(new);
                new.as_mut().enable();
                {
                    let events = self.0.events.lock().unwrap();
                    if let Some(found) = events[seen..].iter().find_map(&mut pick) {
                        return found;
                    }
                    seen = events.len();
                }
                new.await;
            }
        };
        soon(what, wait).await
    }

    /// Waits until as many as `count` events match.
    pub async fn wait_count(&self, what: &str, count: usize, mut is_one: impl FnMut(&Event) -> bool) {
        let mut seen = 0;
        self.wait(what, |event| {
            seen += usize::from(is_one(event));
            (seen >= count).then_some(())
        })
        .await;
    }

    /// Events that match so far.
    pub fn count(&self, is_one: impl FnMut(&&Event) -> bool) -> usize {
        self.0.events.lock().unwrap().iter().filter(is_one).count()
    }

    /// Forgets what was heard.
    pub fn clear(&self) {
        self.0.events.lock().unwrap().clear();
    }
}
