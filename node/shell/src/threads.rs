//! The node's own threads. What they do is the node: when one panics, the node ends.
//!
//! A node that lost its disk thread, a reader or the transport would go on heartbeating and keep
//! its leaderships, and serve nothing. So the core halts when it hears of a panic, as it does for a
//! failed write: the binary exits, and a program that embeds the node keeps running and is told by
//! `wait`.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::thread::JoinHandle;

use ghostlight_core::io::HaltReason;
use ghostlight_protocol::code::Code;
use tokio::sync::mpsc;

/// Panics that wait to be heard: the first one ends the node.
pub const PANICS_MAX: usize = 8;

/// A thread of the node has panicked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ThreadPanic {
    /// The thread.
    pub thread: String,
    /// What it said.
    pub message: String,
}

impl ThreadPanic {
    /// The transport's thread is gone: its queue of events is closed, which it keeps open while it
    /// lives.
    #[must_use]
    pub fn of_transport() -> Self {
        Self {
            thread: "transport".to_owned(),
            message: "its events have ended".to_owned(),
        }
    }

    /// Why the node ends.
    #[must_use]
    pub fn halt(self) -> HaltReason {
        let Self { thread, message } = self;
        HaltReason::Refused {
            code: Code::Internal,
            detail: format!(
                "the node's thread \"{thread}\" ended by a panic, and a node cannot do without it: \
                 {message}. Start the node again, and please report the panic in the log"
            ),
        }
    }
}

/// Starts a thread of the node; a panic in it is reported.
///
/// # Errors
/// When the system gives no thread.
pub fn spawn(
    name: &str,
    panics: mpsc::Sender<ThreadPanic>,
    body: impl FnOnce() + Send + 'static,
) -> std::io::Result<JoinHandle<()>> {
    let thread = name.to_owned();
    std::thread::Builder::new()
        .name(thread.clone())
        .spawn(move || {
            // Unwind safe: what the body touched is used by nobody any more; the node ends.
            let Err(payload) = std::panic::catch_unwind(AssertUnwindSafe(body)) else {
                return;
            };
            let message = ghostlight_protocol::text::cut(said(&*payload));
            // A full queue: the node is ending already.
            drop(panics.try_send(ThreadPanic { thread, message }));
        })
}

fn said(payload: &(dyn Any + Send)) -> String {
    payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a text".to_owned())
}
