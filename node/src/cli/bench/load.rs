//! Load on a node from inside its process, through the library's way in.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ghostlight_core::admin::{AdminAnswer, AdminRequest};
use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::hash::partition_of;
use ghostlight_protocol::outcome::CallOutcome;
use tokio::sync::mpsc;

use super::closed_loop;
use super::order::{Actors, Load, Loop, Place, Report, Work};
use crate::handle::{Invoke, NodeHandle, REQUESTS_MAX, Request};

/// Keys tried for each actor that is wanted in some place.
const TRIES_PER_ACTOR_MAX: u64 = 64;

/// Calls actors through a node, on this thread.
pub(super) fn run(node: &NodeHandle, namespace: &str, load: &Load) -> Result<Report, String> {
    let targets = Targets::find(node, namespace, load)?;
    let (method, body) = request(load.work);
    let node = node.clone();
    let timeout = load.timeout_ms.map(Duration::from_millis);
    closed_loop::run(&load.run, move |number| {
        let call = Invoke {
            metadata: Vec::new(),
            actor: targets.actor(number),
            method: method.to_owned(),
            body: body.clone(),
            request_id: None,
            timeout,
        };
        let node = node.clone();
        async move { answered(node.invoke(call).await) }
    })
}

fn request(work: Work) -> (&'static str, Bytes) {
    match work {
        Work::Echo(bytes) => ("echo", Bytes::from(vec![b'x'; bytes])),
        Work::Get => ("get", Bytes::new()),
        Work::Add => ("add", Bytes::from_static(b"1")),
        Work::Append(bytes) => ("append", format!("\"{}\"", "x".repeat(bytes)).into()),
    }
}

fn actor_type(work: Work) -> &'static str {
    match work {
        Work::Echo(_) => "echo",
        Work::Get | Work::Add => "counter",
        Work::Append(_) => "log",
    }
}

fn answered(outcome: CallOutcome) -> Result<(), String> {
    match outcome {
        CallOutcome::Reply(_) | CallOutcome::AppReply(_) => Ok(()),
        CallOutcome::App(error) => Err(error.message),
        CallOutcome::NotRun(refusal) => Err(format!("{} [{}]", refusal.detail, refusal.code)),
        CallOutcome::Unknown { code, detail } => Err(format!("{detail} [{code}]")),
    }
}

/// The actors of a load.
enum Targets {
    /// Chosen by where they live.
    Listed(Vec<ActorKey>),
    /// All; a key is made when it is called, so that a hundred thousand need no memory here.
    Counted {
        namespace: String,
        actor_type: &'static str,
        actors: Actors,
    },
}

impl Targets {
    fn find(node: &NodeHandle, namespace: &str, load: &Load) -> Result<Self, String> {
        let actor_type = actor_type(load.work);
        match load.actors.place {
            Place::Anywhere => Ok(Self::Counted {
                namespace: namespace.to_owned(),
                actor_type,
                actors: load.actors,
            }),
            Place::Elsewhere => {
                let led_here = led_here(node)?;
                let partitions = u16::try_from(led_here.len()).unwrap_or(u16::MAX);
                let keys = (0..load.actors.count * TRIES_PER_ACTOR_MAX)
                    .map(|number| key(namespace, actor_type, load.actors.series, number))
                    .filter(|key| !led_here[usize::from(partition_of(key, partitions).0)])
                    .take(load.actors.count as usize);
                let keys: Vec<ActorKey> = keys.collect();
                if keys.len() < load.actors.count as usize {
                    return Err("this node leads nearly every partition".to_owned());
                }
                Ok(Self::Listed(keys))
            }
        }
    }

    fn actor(&self, number: u64) -> ActorKey {
        match self {
            Self::Listed(keys) => keys[number as usize % keys.len()].clone(),
            Self::Counted {
                namespace,
                actor_type,
                actors,
            } => key(
                namespace,
                actor_type,
                actors.series,
                (actors.begin + number) % actors.count,
            ),
        }
    }
}

fn key(namespace: &str, actor_type: &str, series: u32, number: u64) -> ActorKey {
    ActorKey::new(namespace, actor_type, &format!("bench-{series}-{number}"))
        .expect("a checked namespace, and names of digits and letters")
}

/// For each partition, whether this node leads it.
fn led_here(node: &NodeHandle) -> Result<Vec<bool>, String> {
    let answer = futures::executor::block_on(node.admin(AdminRequest::Partitions));
    let AdminAnswer::Partitions(views) = answer else {
        return Err(format!("the node does not list its partitions: {answer:?}"));
    };
    Ok(views.iter().map(|view| view.role == "leader").collect())
}

/// The same clients, the same queue, and a thread that answers at once where the node's core would
/// be.
pub(super) fn run_on_empty_target(load: &Load) -> Result<Report, String> {
    let (node, requests) = NodeHandle::new();
    let target = answering_thread(requests, |request| match request {
        Request::Invoke { call, answer, .. } => {
            // A client that has stopped waits for nothing.
            drop(answer.send(CallOutcome::Reply(call.body)));
        }
        Request::App { .. }
        | Request::Subscribe(_)
        | Request::Settled { .. }
        | Request::Admin { .. }
        | Request::Unsubscribed(_)
        | Request::Shutdown { .. } => {}
    })?;
    let report = run(&node, "default", load);
    drop(node);
    // It ends when the last handle is gone.
    drop(target.join());
    report
}

/// A tokio channel to another thread and back, without anything of ours.
pub(super) fn run_on_channel(plan: &Loop) -> Result<Report, String> {
    let (requests, queue) = mpsc::channel::<(u64, tokio::sync::oneshot::Sender<u64>)>(REQUESTS_MAX);
    let target = answering_thread(queue, |(number, answer)| {
        // A client that has stopped waits for nothing.
        answer.send(number).ok();
    })?;
    let requests = Arc::new(requests);
    let report = closed_loop::run(plan, move |number| {
        let requests = Arc::clone(&requests);
        async move {
            let (answer, answered) = tokio::sync::oneshot::channel();
            let sent = requests.try_send((number, answer));
            sent.map_err(|error| error.to_string())?;
            answered.await.map(drop).map_err(|error| error.to_string())
        }
    });
    drop(target.join());
    report
}

fn answering_thread<T: Send + 'static>(
    mut queue: mpsc::Receiver<T>,
    answer: impl Fn(T) + Send + 'static,
) -> Result<std::thread::JoinHandle<()>, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .map_err(|error| format!("cannot start a runtime: {error}"))?;
    std::thread::Builder::new()
        .name("target".to_owned())
        .spawn(move || {
            runtime.block_on(async {
                while let Some(request) = queue.recv().await {
                    answer(request);
                }
            });
            runtime.shutdown_timeout(Duration::ZERO);
        })
        .map_err(|error| format!("cannot start a thread: {error}"))
}
