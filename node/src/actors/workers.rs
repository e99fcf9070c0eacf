//! Threads that run actors' code, and the queue of turns that begin.
//!
//! A turn is polled once where it is taken from the queue; only one that then waits becomes a task
//! of its own. Most turns end at their first poll, so a busy node pays for no task, and a thread is
//! woken once for all turns of a loop turn.
//!
//! **Invariant:** whoever takes from the queue counts as *active* until it has found it empty under
//! the lock, so that no turn is left lying. **Absent:** a bound. At most one turn per activation is
//! here, and the core bounds activations.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime::{Handle, Runtime};

/// Turns after which a worker lets other tasks of its thread go first.
const TURNS_PER_POLL: usize = 32;
/// Turns that are worth waking one more thread.
const TURNS_PER_WORKER: usize = 8;

/// Something that is run once on a worker.
pub(crate) trait Job: Send + 'static {
    /// Runs it, without waiting.
    fn run(self, workers: &Handle);
}

/// The threads, as seen by whoever gives them work.
#[derive(Debug)]
pub(crate) struct Workers<J> {
    /// `None` when the threads are somebody else's.
    owned: Option<Runtime>,
    handle: Handle,
    active_max: usize,
    queue: Arc<Mutex<Queue<J>>>,
    /// Given since the last `start`.
    gathered: Vec<J>,
}

#[derive(Debug)]
struct Queue<J> {
    waiting: VecDeque<J>,
    active: usize,
}

impl<J: Job> Workers<J> {
    /// Starts threads of their own, one per processor: actors' code can hold up neither the node's
    /// decisions nor its APIs.
    ///
    /// # Errors
    /// When the system gives no threads.
    pub(crate) fn start() -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .thread_name("turns")
            .build()?;
        let mut workers = Self::on(runtime.handle().clone());
        workers.owned = Some(runtime);
        Ok(workers)
    }

    /// Uses the threads of a running runtime.
    pub(crate) fn on(handle: Handle) -> Self {
        let active_max = handle.metrics().num_workers().max(1);
        Self {
            owned: None,
            handle,
            active_max,
            queue: Arc::new(Mutex::new(Queue {
                waiting: VecDeque::new(),
                active: 0,
            })),
            gathered: Vec::new(),
        }
    }

    /// The runtime that the threads belong to.
    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Gathers a job for the next `begin`.
    pub(crate) fn gather(&mut self, job: J) {
        self.gathered.push(job);
    }

    /// Hands over what was gathered, and wakes as many threads as it is worth.
    pub(crate) fn begin(&mut self) {
        if self.gathered.is_empty() {
            return;
        }
        let wake = {
            let mut queue = lock(&self.queue);
            queue.waiting.extend(self.gathered.drain(..));
            let worth = queue.waiting.len().div_ceil(TURNS_PER_WORKER);
            let wake = worth.min(self.active_max).saturating_sub(queue.active);
            queue.active += wake;
            wake
        };
        for _ in 0..wake {
            let (queue, handle) = (Arc::clone(&self.queue), self.handle.clone());
            self.handle.spawn(work(queue, handle));
        }
    }
}

impl<J> Drop for Workers<J> {
    fn drop(&mut self) {
        if let Some(runtime) = self.owned.take() {
            // Waits for nobody: a turn may never end by itself.
            runtime.shutdown_background();
        }
    }
}

async fn work<J: Job>(queue: Arc<Mutex<Queue<J>>>, handle: Handle) {
    loop {
        for _ in 0..TURNS_PER_POLL {
            let job = {
                let mut queue = lock(&queue);
                let Some(job) = queue.waiting.pop_front() else {
                    queue.active -= 1;
                    return;
                };
                job
            };
            // The turn's own code is guarded in there; this keeps the count of the active right
            // whatever happens.
            if catch_unwind(AssertUnwindSafe(|| job.run(&handle))).is_err() {
                tracing::error!("a turn could not be begun; its actor waits until it is moved");
            }
        }
        tokio::task::yield_now().await;
    }
}

fn lock<J>(queue: &Mutex<Queue<J>>) -> MutexGuard<'_, Queue<J>> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}
