//! A node's APIs while it does not know its cluster: they are there, and say so.
//!
//! A sidecar must answer health and metadata from its first moment, and may have to wait for long
//! until somebody introduces it. The lobby takes the requests of the handle that the node will
//! have; when the node begins, its core takes over the queue, and nobody notices.

use std::future::Future;
use std::time::Duration;

use ghostlight_core::admin::{AdminAnswer, AdminRequest, Health, StatusView};
use ghostlight_core::hosts::words::AppOutcome;
use ghostlight_protocol::code::Code;
use ghostlight_protocol::outcome::{CallOutcome, NotRun};
use tokio::sync::mpsc;

use crate::handle::{NodeHandle, Request};
use crate::topics::SubscribeError;

/// When a refused call should try again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// The way into a node that is not there yet.
#[derive(Debug)]
pub struct Lobby {
    /// What callers hold.
    handle: NodeHandle,
    requests: mpsc::Receiver<Request>,
}

/// How a wait in the lobby ended.
#[derive(Debug)]
pub enum Waited<T> {
    /// What was waited for.
    Done(T),
    /// Somebody asked through an API to end.
    Shutdown,
}

impl Default for Lobby {
    fn default() -> Self {
        Self::new()
    }
}

impl Lobby {
    /// A lobby that nobody waits in.
    #[must_use]
    pub fn new() -> Self {
        let (handle, requests) = NodeHandle::new();
        Self { handle, requests }
    }

    /// The handle that the node will have.
    #[must_use]
    pub fn handle(&self) -> NodeHandle {
        self.handle.clone()
    }

    /// Answers requests until `wanted` is there. What comes afterwards waits for the node.
    pub async fn wait<T>(&mut self, wanted: impl Future<Output = T>) -> Waited<T> {
        tokio::pin!(wanted);
        loop {
            tokio::select! {
                done = wanted.as_mut() => return Waited::Done(done),
                request = self.requests.recv() => match request {
                    Some(Request::Shutdown { .. }) | None => return Waited::Shutdown,
                    Some(request) => answer(request),
                },
            }
        }
    }

    pub(super) fn into_parts(self) -> (NodeHandle, mpsc::Receiver<Request>) {
        (self.handle, self.requests)
    }
}

fn answer(request: Request) {
    const WHY: &str = "this node has not found its cluster yet";
    // Whoever asked may have gone.
    match request {
        Request::Invoke { answer, .. } => {
            let refusal = NotRun::retry(Code::NotJoined, WHY, RETRY_PAUSE);
            drop(answer.send(CallOutcome::NotRun(refusal)));
        }
        Request::App { answer, .. } => {
            let refusal = NotRun::retry(Code::NotJoined, WHY, RETRY_PAUSE);
            drop(answer.send(AppOutcome::Refused(refusal)));
        }
        Request::Admin { request, answer } => drop(answer.send(match request {
            AdminRequest::Status => AdminAnswer::Status(status(WHY)),
            AdminRequest::Partitions => AdminAnswer::Partitions(Vec::new()),
            AdminRequest::Actors => AdminAnswer::Actors(Vec::new()),
            AdminRequest::Types => AdminAnswer::Types(Vec::new()),
            AdminRequest::Hosted
            | AdminRequest::Where(_)
            | AdminRequest::Drain { .. }
            | AdminRequest::Leave { .. }
            | AdminRequest::Remove(_) => AdminAnswer::Refused {
                code: Code::NotJoined,
                detail: WHY.to_owned(),
            },
        })),
        Request::Subscribe(asked) => {
            let refusal = SubscribeError {
                code: Code::NotJoined,
                detail: WHY.to_owned(),
            };
            drop(asked.ready.send(Err(refusal)));
        }
        Request::Settled { .. } | Request::Unsubscribed(_) | Request::Shutdown { .. } => {}
    }
}

fn status(why: &str) -> StatusView {
    StatusView {
        health: Health::Unhealthy,
        reasons: vec![why.to_owned()],
        cluster: String::new(),
        node: String::new(),
        partitions: 0,
        factor: 0,
        partitions_led: 0,
        copies_min: 0,
        moves: 0,
        weakened: Vec::new(),
        applications: Vec::new(),
        members: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use ghostlight_protocol::actor::ActorKey;

    use super::*;
    use crate::handle::Invoke;

    #[tokio::test]
    async fn requests_are_refused_until_the_node_begins() {
        let mut lobby = Lobby::new();
        let handle = lobby.handle();
        let asked = async {
            let call = Invoke {
                actor: ActorKey::new("default", "c", "i").unwrap(),
                method: "m".to_owned(),
                body: Bytes::new(),
                request_id: None,
                timeout: None,
                metadata: Vec::new(),
            };
            let AdminAnswer::Status(status) = handle.admin(AdminRequest::Status).await else {
                panic!("status is a view")
            };
            (handle.invoke(call).await, status.cluster)
        };
        match lobby.wait(asked).await {
            Waited::Done((CallOutcome::NotRun(refusal), cluster)) => {
                assert_eq!((refusal.code, cluster.as_str()), (Code::NotJoined, ""));
            }
            other => panic!("{other:?}"),
        }
        // What comes after the wait is the node's.
        let handle = lobby.handle();
        let late = tokio::spawn(async move { handle.admin(AdminRequest::Actors).await });
        let (_, mut requests) = lobby.into_parts();
        let Some(Request::Admin { answer, .. }) = requests.recv().await else {
            panic!("it was handed over")
        };
        answer.send(AdminAnswer::Actors(Vec::new())).unwrap();
        assert_eq!(late.await.unwrap(), AdminAnswer::Actors(Vec::new()));
    }

    #[tokio::test]
    async fn an_order_to_end_is_heard_in_the_lobby() {
        let mut lobby = Lobby::new();
        let handle = lobby.handle();
        handle.shutdown(Duration::ZERO).await;
        let forever = std::future::pending::<()>();
        assert!(matches!(lobby.wait(forever).await, Waited::Shutdown));
    }
}
