//! Lines on their way to somebody who may not read them: a bounded queue, and a thread of its own that writes.
//!
//! A terminal that is held (Ctrl-S), or a pipe that nobody reads, must hold up neither players nor the end of the process. So nobody who queues ever
//! waits; what finds no room is the caller's loss to count.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

/// What comes within this of others is written together.
const GATHER: Duration = Duration::from_millis(2);

/// A reader who takes longer than this for the last lines does not read any more.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Where lines end up.
pub trait Page<T> {
    /// Writes one, perhaps not further than into a buffer. It sees to its failures.
    fn add(&mut self, line: T);

    /// Nothing more comes for a moment: lets everything go.
    fn let_go(&mut self);
}

/// Lines that wait to be written; clones are the same queue.
#[derive(Debug)]
pub struct Queue<T>(SyncSender<Option<T>>);

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Queue<T> {
    /// Queues a line; `false` when there is no room for it. Never waits.
    pub fn put(&self, line: T) -> bool {
        self.0.try_send(Some(line)).is_ok()
    }
}

/// A thread that writes; dropping it writes what is left, unless nobody reads any more.
#[must_use = "what is queued after it is dropped is not written"]
#[derive(Debug)]
pub struct Writing<T> {
    queue: Queue<T>,
    written: Receiver<()>,
}

impl<T: Send + 'static> Writing<T> {
    /// Writes on `page`, for which `room` lines may wait.
    pub fn start(room: usize, mut page: impl Page<T> + Send + 'static) -> Self {
        let (queue, lines) = sync_channel(room);
        let (done, written) = sync_channel(1);
        std::thread::spawn(move || {
            write(&lines, &mut page);
            let _ = done.send(());
        });
        let queue = Queue(queue);
        Self { queue, written }
    }

    /// Where lines are put.
    pub fn queue(&self) -> Queue<T> {
        self.queue.clone()
    }
}

impl<T> Drop for Writing<T> {
    fn drop(&mut self) {
        // A full queue belongs to a reader who has stopped reading.
        if self.queue.0.try_send(None).is_ok() {
            let _ = self.written.recv_timeout(LAST_LINES);
        }
    }
}

/// Writes lines until one is none, at once if they are few.
#[expect(clippy::disallowed_methods, reason = "this thread has no tasks")]
fn write<T>(lines: &Receiver<Option<T>>, page: &mut impl Page<T>) {
    while let Ok(Some(first)) = lines.recv() {
        let mut next = Some(first);
        while let Some(line) = next {
            page.add(line);
            next = match lines.try_recv() {
                Ok(Some(line)) => Some(line),
                Ok(None) => return page.let_go(),
                Err(_) => None,
            };
        }
        page.let_go();
        // Whoever queues would else wake this thread for each of a crowd.
        std::thread::sleep(GATHER);
    }
}
