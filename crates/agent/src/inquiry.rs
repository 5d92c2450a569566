//! What the person at the agent asks of its relay while it runs, and the answers.
//!
//! Whoever asks leaves a request here; the link's task carries it over its control stream and brings the answer back. Without a link there is no answer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use spawnpoint_proto::control::{BanReply, BanRequest};
use tokio::sync::{Notify, oneshot};

/// Questions that wait at most.
const WAITING: usize = 64;

/// The questions to one relay; clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inquiries(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<State>,
    asked: Notify,
}

#[derive(Debug, Default)]
struct State {
    next: u32,
    waiting: Vec<BanRequest>,
    answers: HashMap<u32, oneshot::Sender<BanReply>>,
}

impl Inquiries {
    /// Asks about bans; `None` when the link ends before the answer.
    pub async fn bans(&self, mut request: BanRequest) -> Option<BanReply> {
        let (answer, answered) = oneshot::channel();
        {
            let mut state = self.state();
            if state.waiting.len() >= WAITING {
                return None;
            }
            state.next = state.next.wrapping_add(1);
            request.id = state.next;
            state.answers.retain(|_, answer| !answer.is_closed());
            state.answers.insert(request.id, answer);
            state.waiting.push(request);
        }
        self.0.asked.notify_one();
        answered.await.ok()
    }

    /// Waits for questions, and takes them: those whose answers somebody still waits for, since the others were told that nothing has happened. Cancel-safe.
    pub async fn due(&self) -> Vec<BanRequest> {
        loop {
            let waiting: Vec<BanRequest> = {
                let State { waiting, answers, .. } = &mut *self.state();
                answers.retain(|_, answer| !answer.is_closed());
                waiting
                    .drain(..)
                    .filter(|request| answers.contains_key(&request.id))
                    .collect()
            };
            if !waiting.is_empty() {
                return waiting;
            }
            self.0.asked.notified().await;
        }
    }

    /// The relay has answered.
    pub fn answer(&self, reply: BanReply) {
        let answer = self.state().answers.remove(&reply.id);
        // Whoever asked may be gone.
        let _ = answer.map(|answer| answer.send(reply));
    }

    /// There will be no answers to what was asked.
    pub fn give_up(&self) {
        let mut state = self.state();
        state.waiting.clear();
        state.answers.clear();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
