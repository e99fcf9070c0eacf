//! The loop's ends of the queues to the store, whoever takes from them.

use std::sync::mpsc::{SyncSender, TrySendError};

use ghostlight_core::io::SnapshotEffect;
use tokio::sync::mpsc;

use crate::queues::{DiskAnswer, DiskBatch};
use crate::reads::Reads;
use crate::threads::ThreadPanic;

/// Everything between the loop and the store.
#[derive(Debug)]
pub struct StorePorts {
    /// To whoever writes.
    pub batches: Port<DiskBatch>,
    /// One for each batch, and what else is to be told of the store.
    pub answers: mpsc::Receiver<DiskAnswer>,
    /// To and from whoever reads rows.
    pub reads: Reads,
    /// To whoever reads snapshots that are sent.
    pub snapshots: Port<SnapshotEffect>,
    /// Threads that panicked.
    pub panics: mpsc::Receiver<ThreadPanic>,
}

/// Where work goes.
#[derive(Debug)]
pub enum Port<T> {
    /// To a thread: the loop waits while its queue is full.
    Thread(SyncSender<T>),
    /// To a task that is driven by the loop's own thread, and cannot go on while the loop waits:
    /// its queue must have room.
    Task(mpsc::Sender<T>),
}

impl<T> Port<T> {
    /// Hands over; waits for a thread that is behind. One that has ended has said why.
    ///
    /// # Panics
    /// When the queue of a task is full.
    pub fn send(&self, work: T) {
        match self {
            Self::Thread(queue) => drop(queue.send(work)),
            Self::Task(queue) => {
                let full = matches!(
                    queue.try_send(work),
                    Err(mpsc::error::TrySendError::Full(_))
                );
                assert!(
                    !full,
                    "the queue of a task of the loop's own thread is full"
                );
            }
        }
    }

    /// Hands over if there is room; gives it back if there is none now.
    pub(crate) fn try_send(&self, work: T) -> Option<T> {
        match self {
            Self::Thread(queue) => match queue.try_send(work) {
                Err(TrySendError::Full(work)) => Some(work),
                Ok(()) | Err(TrySendError::Disconnected(_)) => None,
            },
            Self::Task(queue) => match queue.try_send(work) {
                Err(mpsc::error::TrySendError::Full(work)) => Some(work),
                Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => None,
            },
        }
    }
}
