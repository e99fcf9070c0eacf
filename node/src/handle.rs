//! The way into a running node, for everything in the same process: the APIs, the library's users,
//! tests.
//!
//! Cheap to clone. Every request goes through one queue to the node's core thread, bounded by count
//! and by bytes; a full queue is an honest `NotRun`.

mod door;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use ghostlight_core::admin::{AdminAnswer, AdminRequest};
use ghostlight_core::hosts::words::{AppCall, AppOutcome};
use ghostlight_core::topics::subscribers::{self, SubscriptionId};
use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::call::Metadata;
use ghostlight_protocol::code::Code;
use ghostlight_protocol::outcome::{CallOutcome, NotRun};
use ghostlight_protocol::wire::hello::NodeRecord;
use tokio::sync::{mpsc, oneshot};

pub(crate) use self::door::Door;
use crate::ephemeral::{Ephemeral, Hub, Keep};
use crate::topics::{Farewell, Settlement, SubscribeError, Subscription, SubscriptionFeed, ended};

/// Requests waiting for the core thread; beyond it callers are refused, which is the cheapest
/// refusal there is. No more than the thread takes in a few turns of its loop, so that nobody
/// spends his time in this queue.
pub const REQUESTS_MAX: usize = 4_096;
/// Bytes of the bodies of those requests.
pub const REQUEST_QUEUE_BYTES_MAX: usize = 256 << 20;

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
    /// What travels beside the body to an application.
    pub metadata: Vec<Metadata>,
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
        /// Its room in the queue.
        queued: QueuedBytes,
    },
    /// What an application wants of its node.
    App {
        /// The actor that it is about.
        actor: ActorKey,
        /// What.
        call: AppCall,
        /// Where the outcome goes.
        answer: oneshot::Sender<AppOutcome>,
    },
    /// A program of this process subscribes to a topic.
    Subscribe(Box<Subscribing>),
    /// Verdicts of one that does.
    Settled {
        /// Which.
        id: SubscriptionId,
        /// The verdicts.
        settlements: Vec<Settlement>,
    },
    /// One that did has gone; its verdicts came before.
    Unsubscribed(SubscriptionId),
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

impl Request {
    /// The node has ended before this reached its core: certainly nothing of it was done.
    pub(crate) fn refuse(self) {
        match self {
            // Whoever asked may have gone.
            Self::Invoke { answer, .. } => drop(answer.send(CallOutcome::NotRun(ending()))),
            Self::App { answer, .. } => drop(answer.send(AppOutcome::Refused(ending()))),
            Self::Subscribe(asked) => drop(asked.ready.send(Err(ended()))),
            Self::Admin { answer, .. } => drop(answer.send(refused())),
            // Nobody waits. Verdicts that are not taken are asked for again by the next leader.
            Self::Settled { .. } | Self::Unsubscribed(_) | Self::Shutdown { .. } => {}
        }
    }
}

fn ending() -> NotRun {
    NotRun::new(Code::ShuttingDown, "this node is ending. Ask another node")
}

fn refused() -> AdminAnswer {
    let NotRun { code, detail, .. } = ending();
    AdminAnswer::Refused { code, detail }
}

/// A subscription that begins.
#[derive(Debug)]
pub struct Subscribing {
    /// What is wanted.
    pub wants: subscribers::Subscribing,
    /// Where events go.
    pub feed: SubscriptionFeed,
    /// Who waits until it is there.
    pub ready: oneshot::Sender<Result<SubscriptionId, SubscribeError>>,
}

/// Verdicts that are taken to the core at once.
const SETTLEMENTS_AT_ONCE: usize = 1_024;

/// Room for one request's body in the queue to the core thread; given back when dropped.
#[derive(Debug)]
pub struct QueuedBytes {
    ledger: Arc<AtomicUsize>,
    bytes: usize,
}

impl QueuedBytes {
    /// `None`: there is no room.
    fn take(ledger: &Arc<AtomicUsize>, bytes: usize) -> Option<Self> {
        let grow =
            |held: usize| Some(held + bytes).filter(|after| *after <= REQUEST_QUEUE_BYTES_MAX);
        ledger
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, grow)
            .ok()?;
        let ledger = Arc::clone(ledger);
        Some(Self { ledger, bytes })
    }
}

impl Drop for QueuedBytes {
    fn drop(&mut self) {
        self.ledger.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A handle to a running node.
#[derive(Clone, Debug)]
pub struct NodeHandle {
    requests: mpsc::Sender<Request>,
    queued: Arc<AtomicUsize>,
    door: Arc<Door>,
    hub: Arc<Hub>,
}

impl NodeHandle {
    /// A handle, and the receiving end for the core thread.
    #[must_use]
    pub fn new() -> (Self, mpsc::Receiver<Request>) {
        let (requests, receiver) = mpsc::channel(REQUESTS_MAX);
        let handle = Self {
            requests,
            queued: Arc::default(),
            door: Arc::new(Door::open()),
            hub: Arc::default(),
        };
        (handle, receiver)
    }

    /// Ephemeral topics: at most once, to whoever listens. What is published by this one is kept as
    /// `keep` says.
    #[must_use]
    pub fn ephemeral(&self, keep: Keep) -> Ephemeral {
        Ephemeral::new(Arc::clone(&self.hub), keep)
    }

    /// The node begins: its ephemeral topics, from now on.
    pub(crate) fn begin(&self, record: &NodeRecord) -> Arc<Hub> {
        self.hub.begin(record);
        Arc::clone(&self.hub)
    }

    /// Where calls come in.
    pub(crate) fn door(&self) -> &Arc<Door> {
        &self.door
    }

    /// What is behind the ephemeral topics.
    pub(crate) fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// Calls an actor and waits for the honest outcome.
    ///
    /// Dropping the future frees the caller: a call that waits leaves the mailbox, a turn that runs
    /// goes on.
    pub async fn invoke(&self, call: Invoke) -> CallOutcome {
        if let Some(refusal) = self.door.refusal(call.timeout) {
            return CallOutcome::NotRun(refusal);
        }
        let (answer, outcome) = oneshot::channel();
        let Some(queued) = QueuedBytes::take(&self.queued, call.body.len()) else {
            return self.refusal();
        };
        let request = Request::Invoke {
            call,
            answer,
            queued,
        };
        if self.requests.try_send(request).is_err() {
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

    /// State, reminders and timers of an actor, as an application beside this node asks for them.
    pub async fn app_call(&self, actor: ActorKey, call: AppCall) -> AppOutcome {
        let (answer, outcome) = oneshot::channel();
        let request = Request::App {
            actor,
            call,
            answer,
        };
        if self.requests.send(request).await.is_err() {
            return AppOutcome::Refused(ending());
        }
        let ended = "this node ended before the call had its answer".to_owned();
        outcome.await.unwrap_or(AppOutcome::Unknown(ended))
    }

    /// Begins a subscription, and waits until it is there. At most `events` deliveries are out at
    /// once.
    pub(crate) async fn begin_subscription(
        &self,
        wants: subscribers::Subscribing,
        events: u32,
    ) -> Result<Subscription, SubscribeError> {
        let (feed, subscription, settled) = Subscription::channel(events);
        let farewell = feed.farewell();
        let (ready, begun) = oneshot::channel();
        let asked = Subscribing { wants, feed, ready };
        let request = Request::Subscribe(Box::new(asked));
        if self.requests.send(request).await.is_err() {
            return Err(ended());
        }
        let requests = self.requests.clone();
        let (told, there) = oneshot::channel();
        // Whoever waits may go at any time: the subscription ends with it, which is seen there.
        drop(tokio::spawn(async move {
            let begun = begun.await.unwrap_or_else(|_| Err(ended()));
            let id = begun.as_ref().ok().copied();
            drop(told.send(begun.map(|_| ())));
            if let Some(id) = id {
                bring_verdicts(id, settled, farewell, requests).await;
            }
        }));
        there.await.unwrap_or_else(|_| Err(ended()))?;
        Ok(subscription)
    }

    /// Asks or tells the node something as an operator.
    pub async fn admin(&self, request: AdminRequest) -> AdminAnswer {
        let (answer, done) = oneshot::channel();
        let sent = self.requests.send(Request::Admin { request, answer }).await;
        if sent.is_err() {
            return refused();
        }
        done.await.unwrap_or_else(|_| refused())
    }

    /// Begins a drain that ends the node; returns at once.
    pub async fn shutdown(&self, grace: Duration) {
        // A closed queue means that the node has ended already.
        drop(self.requests.send(Request::Shutdown { grace }).await);
    }

    /// Requests in the queue.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.requests.max_capacity() - self.requests.capacity()
    }

    fn refusal(&self) -> CallOutcome {
        CallOutcome::NotRun(if self.requests.is_closed() {
            ending()
        } else {
            NotRun::retry(
                Code::GatewayFull,
                format!(
                    "{REQUESTS_MAX} requests, or {REQUEST_QUEUE_BYTES_MAX} bytes of their bodies, wait \
                     for this node. Slow down and try again"
                ),
                Duration::from_millis(100),
            )
        })
    }
}

/// Takes verdicts to the core, and then, behind all of them, the word that the subscriber has gone.
async fn bring_verdicts(
    id: SubscriptionId,
    mut settled: mpsc::Receiver<Settlement>,
    mut farewell: Farewell,
    requests: mpsc::Sender<Request>,
) {
    let mut settlements = Vec::new();
    loop {
        let gone = tokio::select! {
            biased;
            // There is a sender as long as the core's end is there.
            count = settled.recv_many(&mut settlements, SETTLEMENTS_AT_ONCE) => count == 0,
            () = farewell.wait() => true,
        };
        while let Ok(settlement) = settled.try_recv() {
            settlements.push(settlement);
        }
        if !settlements.is_empty() {
            let settlements = std::mem::take(&mut settlements);
            let request = Request::Settled { id, settlements };
            if requests.send(request).await.is_err() {
                return;
            }
        }
        if gone {
            // A closed queue means that the node has ended.
            drop(requests.send(Request::Unsubscribed(id)).await);
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(bytes: usize) -> Invoke {
        Invoke {
            actor: ActorKey::new("default", "counter", "a").unwrap(),
            method: "add".to_owned(),
            body: Bytes::from(vec![0; bytes]),
            request_id: None,
            timeout: None,
            metadata: Vec::new(),
        }
    }

    #[tokio::test]
    async fn the_queue_is_bounded_in_bytes() {
        let (handle, mut requests) = NodeHandle::new();
        let mut waiting = Vec::new();
        for _ in 0..REQUEST_QUEUE_BYTES_MAX / (4 << 20) {
            let handle = handle.clone();
            waiting.push(tokio::spawn(
                async move { handle.invoke(call(4 << 20)).await },
            ));
            tokio::task::yield_now().await;
        }
        let refused = handle.invoke(call(1)).await;
        let CallOutcome::NotRun(refusal) = refused else {
            panic!("{refused:?}")
        };
        assert_eq!(refusal.code, Code::GatewayFull);
        // One of them leaves the queue: there is room again.
        drop(requests.recv().await);
        let next = tokio::spawn(async move { handle.invoke(call(1)).await });
        tokio::task::yield_now().await;
        assert!(!next.is_finished());
    }
}
