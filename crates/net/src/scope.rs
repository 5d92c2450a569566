//! Where tasks live: none outlives its scope.

use std::future::Future;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A set of tasks that ends with its owner.
///
/// Cancelling the scope, or dropping it, drops each task's future at its next wait. A task that has words to say on the way out watches
/// [`TaskScope::token`] itself and is started with [`TaskScope::spawn_graceful`].
#[derive(Debug)]
pub struct TaskScope {
    token: CancellationToken,
    tasks: TaskTracker,
}

impl TaskScope {
    /// A scope that also ends when `parent` is cancelled.
    pub fn new(parent: &CancellationToken) -> Self {
        Self {
            token: parent.child_token(),
            tasks: TaskTracker::new(),
        }
    }

    /// Cancelled when the scope ends.
    pub const fn token(&self) -> &CancellationToken {
        &self.token
    }

    /// Runs `task` until it is done or the scope ends.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let token = self.token.clone();
        // A future that is moved into another one takes its room there twice, as what was moved and as what is awaited: idle players would cost double.
        let task = Box::pin(task);
        self.spawn_graceful(async move {
            tokio::select! {
                biased; // an ended scope starts nothing more
                () = token.cancelled() => {}
                () = task => {}
            }
        });
    }

    /// Runs `task`, which watches the scope's token by itself and returns soon after it is cancelled.
    #[expect(clippy::disallowed_methods, reason = "this is the one place where tasks are born")]
    pub fn spawn_graceful(&self, task: impl Future<Output = ()> + Send + 'static) {
        tokio::spawn(self.tasks.track_future(task));
    }

    /// Tasks that have not ended.
    pub fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Whether every task has ended.
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Waits until every task has ended by itself, not longer than `patience`; returns whether all have.
    pub async fn finished(&self, patience: Duration) -> bool {
        self.tasks.close();
        tokio::time::timeout(patience, self.tasks.wait()).await.is_ok()
    }

    /// Ends the scope without waiting.
    pub fn cancel(&self) {
        self.token.cancel();
    }

    /// Ends the scope and waits for its tasks, not longer than `patience`; returns whether all ended.
    pub async fn close(&self, patience: Duration) -> bool {
        self.token.cancel();
        self.finished(patience).await
    }
}

impl Drop for TaskScope {
    fn drop(&mut self) {
        self.token.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[tokio::test]
    async fn no_task_outlives_its_scope() {
        let held = Arc::new(());
        let scope = TaskScope::new(&CancellationToken::new());
        for _ in 0..10 {
            let held = held.clone();
            scope.spawn(async move {
                std::future::pending::<()>().await;
                drop(held);
            });
        }
        assert!(scope.close(Duration::from_secs(5)).await);
        assert_eq!((scope.len(), Arc::strong_count(&held)), (0, 1));
    }

    #[tokio::test]
    async fn a_cancelled_parent_ends_its_children() {
        let parent = CancellationToken::new();
        let scope = TaskScope::new(&parent);
        scope.spawn(std::future::pending());
        parent.cancel();
        assert!(scope.close(Duration::from_secs(5)).await);
    }
}
