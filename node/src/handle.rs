//! The way into a running node, for everything in the same process: the APIs, the library's users, tests.
//!
//! Cheap to clone. Every request goes through one bounded queue to the node's core thread; a full queue
//! is an honest `NotRun`.

use std::time::Duration;

use bytes::Bytes;
use ghostlight_core::admin::{AdminAnswer, AdminRequest};
use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::code::Code;
use ghostlight_protocol::outcome::{CallOutcome, NotRun};
use tokio::sync::{mpsc, oneshot};

/// Requests waiting for the core thread; beyond it callers are refused.
pub const REQUESTS_MAX: usize = 32_768;

/// A call as a client makes it. Names are checked, the body is within the limit.
#[derive(Clone, Debug)]
pub struct Invoke {
    /// The called actor.
    pub actor: ActorKey,
    /// Cleaned method name.
    pub method: String,
    /// The body.
    pub body: Bytes,
    /// The client's own request id, checked.
    pub request_id: Option<Bytes>,
    /// How long the client waits; `None`: as long as it takes.
    pub timeout: Option<Duration>,
}

/// What arrives at the core thread from inside the process.
#[derive(Debug)]
pub enum Request {
    /// A call.
    Invoke {
        /// The call.
        call: Invoke,
        /// Where its outcome goes; dropped by a client that has gone.
        answer: oneshot::Sender<CallOutcome>,
    },
    /// An operator's request.
    Admin {
        /// The request.
        request: AdminRequest,
        /// Where the answer goes.
        answer: oneshot::Sender<AdminAnswer>,
    },
    /// Drain (bounded) and end.
    Shutdown {
        /// Longest time to give leaderships away.
        grace: Duration,
    },
}

/// A handle to a running node.
#[derive(Clone, Debug)]
pub struct NodeHandle {
    requests: mpsc::Sender<Request>,
}

impl NodeHandle {
    /// A handle, and the receiving end for the core thread.
    #[must_use]
    pub fn new() -> (Self, mpsc::Receiver<Request>) {
        let (requests, receiver) = mpsc::channel(REQUESTS_MAX);
        (Self { requests }, receiver)
    }

    /// Calls an actor and waits for the honest outcome.
    ///
    /// Dropping the future frees the caller: a call that waits leaves the mailbox, a turn that runs goes on.
    pub async fn invoke(&self, call: Invoke) -> CallOutcome {
        let (answer, outcome) = oneshot::channel();
        if self
            .requests
            .try_send(Request::Invoke { call, answer })
            .is_err()
        {
            return self.refusal();
        }
        outcome.await.unwrap_or_else(|_| CallOutcome::Unknown {
            code: Code::OutcomeUnknown,
            detail:
                "this node ended before the call had its answer. Ask again with the same request \
                     id at another node"
                    .to_owned(),
        })
    }

    /// Asks or tells the node something as an operator.
    pub async fn admin(&self, request: AdminRequest) -> AdminAnswer {
        let (answer, done) = oneshot::channel();
        let sent = self.requests.send(Request::Admin { request, answer }).await;
        let ended = AdminAnswer::Refused {
            code: Code::ShuttingDown,
            detail: "this node is ending. Ask another node".to_owned(),
        };
        if sent.is_err() {
            return ended;
        }
        done.await.unwrap_or(ended)
    }

    /// Begins a drain that ends the node; returns at once.
    pub async fn shutdown(&self, grace: Duration) {
        // A closed queue means that the node has ended already.
        drop(self.requests.send(Request::Shutdown { grace }).await);
    }

    fn refusal(&self) -> CallOutcome {
        CallOutcome::NotRun(if self.requests.is_closed() {
            NotRun::new(Code::ShuttingDown, "this node is ending. Ask another node")
        } else {
            NotRun::retry(
                Code::GatewayFull,
                format!("{REQUESTS_MAX} requests wait for this node. Slow down and try again"),
                Duration::from_millis(100),
            )
        })
    }
}
