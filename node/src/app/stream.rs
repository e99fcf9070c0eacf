//! Applications that come to the node: the stream `SubscribeActorEventsAlpha1` (Dapr 1.18).
//!
//! The gRPC server hands the two directions of a stream to [`AppChannel::host_stream`]; the
//! messages are in [`messages`]. Dapr's rules: the first message says what is hosted; the newest
//! stream of an application takes all new requests and older ones drain; the end of a stream fails
//! what is under way and withdraws the types. Ours: a newer stream of the same process goes on with
//! the same instance. Absent: which stream is asked (`seats`); statuses and codes of gRPC, beyond
//! the reason of a refusal.

pub mod messages;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::{Stream, StreamExt};
use prost::Message;
use tokio::sync::{mpsc, oneshot, watch};

use super::config::{Announced, Hosted, Reentrancy, Wishes};
use super::settings::AppSettings;
use super::{
    ACTOR_ERROR_HEADER, Answered, AppAnswer, AppChannel, AppId, AppRequest, CANCEL_HEADER,
    Callback, lock,
};
use messages::{
    ActorEvent, AppInitial, AppMessage, DeactivateRequest, EntityConfig, InitialResponse,
    InvokeRequest, InvokeResponse, NodeMessage, ReminderRequest, RequestFailed, TimerRequest, Word,
    answered, message, time,
};

/// Requests that wait to be written to one stream; then their senders wait.
pub const STREAM_OUTBOX_MAX: usize = 1_024;
/// Time for the first message of a stream.
const FIRST_MESSAGE_TIME_MAX: Duration = Duration::from_secs(30);
/// gRPC's code for what is not there.
const NOT_FOUND: u32 = 5;
const BYTES_VALUE: &str = "type.googleapis.com/google.protobuf.BytesValue";
const CONTENT_TYPE: &str = "content-type";
const REENTRANCY: &str = "Dapr-Reentrancy-Id";
const TURN: &str = "Ghostlight-Turn";

/// Both ends of the connection that a stream came over, as the node sees them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StreamPeer {
    /// The node's own address.
    pub near: SocketAddr,
    /// The application's address.
    pub far: SocketAddr,
}

/// Why a stream is refused; the texts are Dapr's.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum StreamRefusal {
    /// gRPC `FailedPrecondition`.
    #[error("actor callback streaming requires a gRPC app channel")]
    NoGrpcChannel,
    /// gRPC `InvalidArgument`.
    #[error("first message must be SubscribeActorEventsRequestInitialAlpha1")]
    NotInitial,
    /// gRPC `Cancelled`: it ended, or said nothing, before its first message.
    #[error("the stream ended before its first message: {0}")]
    Ended(String),
}

/// One stream.
pub(super) struct StreamLine {
    outbox: Mutex<Option<mpsc::Sender<NodeMessage>>>,
    waiting: Mutex<HashMap<String, oneshot::Sender<Word>>>,
    next: AtomicU64,
    ended: watch::Sender<bool>,
}

impl AppChannel {
    /// Takes a stream that an application has opened, after its first message; the result is what
    /// the node says.
    ///
    /// Dropping the result ends the stream, as its end does.
    ///
    /// # Errors
    /// When the application is configured for another protocol, or does not begin as it should;
    /// nothing has changed.
    pub async fn host_stream<S>(
        &self,
        app: &AppId,
        peer: Option<StreamPeer>,
        mut incoming: S,
    ) -> Result<impl Stream<Item = NodeMessage> + Send + use<S>, StreamRefusal>
    where
        S: Stream<Item = Result<AppMessage, String>> + Send + Unpin + 'static,
    {
        let settings = self.shared.app(app).cloned();
        // An application with a port that is not gRPC's answers there.
        let settings = settings
            .filter(|app| app.protocol.is_grpc() || app.address.is_none())
            .ok_or(StreamRefusal::NoGrpcChannel)?;
        let first = tokio::time::timeout(FIRST_MESSAGE_TIME_MAX, incoming.next()).await;
        let initial = match first {
            Ok(Some(Ok(message))) => match message.request_type {
                Some(Word::InitialRequest(initial)) => initial,
                Some(_) | None => return Err(StreamRefusal::NotInitial),
            },
            Ok(Some(Err(why))) => return Err(StreamRefusal::Ended(why)),
            Ok(None) => return Err(StreamRefusal::Ended("it was closed".to_owned())),
            Err(_) => return Err(StreamRefusal::Ended("it said nothing".to_owned())),
        };
        let hosted = settings.admitted(hosted(initial, &settings));
        for warning in &hosted.warnings {
            tracing::warn!(app = %settings.id, "{warning}");
        }
        let (outbox, out) = mpsc::channel(STREAM_OUTBOX_MAX);
        let line = Arc::new(StreamLine::new(outbox.clone()));
        let ack = message(ActorEvent::InitialResponse(InitialResponse {}));
        // The first of its queue.
        drop(outbox.send(ack).await);
        let shared = Arc::clone(&self.shared);
        // On its own: the client may hang up in the middle, and whoever hosted before must be told
        // to go all the same.
        let seating = tokio::spawn(async move {
            shared.host(&settings, peer, &line, hosted).await;
            drop(tokio::spawn(async move {
                let why = read(&line, incoming).await;
                shared.stream_over(&settings.id, &line, &why).await;
            }));
        });
        // Should it end in a panic, so does the stream.
        drop(seating.await);
        Ok(futures::stream::unfold(out, |mut out| async move {
            out.recv().await.map(|message| (message, out))
        }))
    }
}

/// Hands answers to those who wait for them, until the stream is over.
async fn read<S>(line: &StreamLine, mut incoming: S) -> String
where
    S: Stream<Item = Result<AppMessage, String>> + Send + Unpin,
{
    let mut ended = line.ended.subscribe();
    loop {
        let message = tokio::select! {
            message = incoming.next() => message,
            _ = ended.wait_for(|ended| *ended) => return "the stream was closed".to_owned(),
        };
        match message {
            Some(Ok(message)) => line.deliver(message),
            Some(Err(why)) => return format!("its stream broke: {why}"),
            None => return "it closed its stream".to_owned(),
        }
    }
}

impl StreamLine {
    fn new(outbox: mpsc::Sender<NodeMessage>) -> Self {
        Self {
            outbox: Mutex::new(Some(outbox)),
            waiting: Mutex::default(),
            next: AtomicU64::new(1),
            ended: watch::Sender::new(false),
        }
    }

    /// Ends the stream from this side: nothing more is said, and nobody is waited for.
    pub(super) fn end(&self) {
        self.ended.send_replace(true);
        *lock(&self.outbox) = None;
        self.forget();
    }

    /// Whether it has ended.
    pub(super) fn is_over(&self) -> bool {
        *self.ended.borrow()
    }

    /// Nobody waits any more for what is under way; the stream stays open.
    pub(super) fn forget(&self) {
        lock(&self.waiting).clear();
    }

    fn deliver(&self, message: AppMessage) {
        let Some(word) = message.request_type else {
            return;
        };
        let waiting = answered(&word).and_then(|id| lock(&self.waiting).remove(id));
        match waiting {
            // Whoever asked may have gone.
            Some(waiting) => drop(waiting.send(word)),
            None => tracing::debug!("an answer that nobody waits for: given twice, or too late"),
        }
    }

    /// Asks, and waits for the answer. `begun` is set when the request is on its way.
    pub(super) async fn ask(&self, request: AppRequest, begun: &AtomicBool) -> AppAnswer {
        let outbox = lock(&self.outbox).clone();
        let Some(outbox) = outbox else {
            return AppAnswer::not_sent("the stream has ended");
        };
        let Ok(place) = outbox.reserve().await else {
            return AppAnswer::not_sent("the stream has ended");
        };
        let id = self.next.fetch_add(1, Ordering::Relaxed).to_string();
        let (answer, answered) = oneshot::channel();
        lock(&self.waiting).insert(id.clone(), answer);
        let waits = Waits {
            line: self,
            id: &id,
        };
        begun.store(true, Ordering::Relaxed);
        let kind = Kind::of(&request.callback);
        place.send(message(event(id.clone(), request)));
        if *self.ended.borrow() {
            // Between the look at the outbox and the entry it was ended, and nobody would ever
            // answer.
            return AppAnswer::perhaps_sent("the stream has ended");
        }
        let word = answered.await;
        drop(waits);
        match word {
            Ok(word) => AppAnswer::Answered(said(kind, word)),
            Err(_) => AppAnswer::perhaps_sent("the stream ended before the answer"),
        }
    }
}

/// Takes the entry away when the request is given up.
struct Waits<'a> {
    line: &'a StreamLine,
    id: &'a str,
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        lock(&self.line.waiting).remove(self.id);
    }
}

/// Which answer belongs to a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Invoke,
    Reminder,
    Timer,
    Deactivate,
}

impl Kind {
    fn of(callback: &Callback) -> Self {
        match callback {
            Callback::Method { .. } => Self::Invoke,
            Callback::Reminder { .. } => Self::Reminder,
            Callback::Timer { .. } => Self::Timer,
            Callback::Deactivate => Self::Deactivate,
        }
    }
}

/// A request as a message.
fn event(id: String, request: AppRequest) -> ActorEvent {
    let actor_type = request.actor.actor_type().to_owned();
    let actor_id = request.actor.actor_id().to_owned();
    match request.callback {
        Callback::Method {
            method,
            query: _,
            headers,
            content_type,
            body,
        } => {
            let mut metadata: BTreeMap<String, String> = BTreeMap::new();
            for (name, value) in headers {
                // The first value of a name, as in Dapr; the sidecar's token is not for the
                // application.
                if !name.eq_ignore_ascii_case(crate::api::TOKEN_HEADER) {
                    metadata.entry(name).or_insert(value);
                }
            }
            for (name, value) in [
                (CONTENT_TYPE, content_type),
                (REENTRANCY, request.reentrancy_id),
                (TURN, request.turn),
            ] {
                if let Some(value) = value {
                    metadata.retain(|have, _| !have.eq_ignore_ascii_case(name));
                    metadata.insert(name.to_owned(), value);
                }
            }
            ActorEvent::InvokeRequest(InvokeRequest {
                id,
                actor_type,
                actor_id,
                method,
                data: body,
                metadata,
            })
        }
        Callback::Reminder { name, data } => ActorEvent::ReminderRequest(ReminderRequest {
            id,
            actor_type,
            actor_id,
            name,
            // As over HTTP, a reminder does not say when it was due.
            due_time: String::new(),
            period: String::new(),
            data: data.map(|data| any(&data)),
        }),
        Callback::Timer {
            name,
            callback,
            data,
            due_time,
            period,
        } => ActorEvent::TimerRequest(TimerRequest {
            id,
            actor_type,
            actor_id,
            name,
            due_time,
            period,
            callback,
            data: data.map(|data| any(&data)),
        }),
        Callback::Deactivate => ActorEvent::DeactivateRequest(DeactivateRequest {
            id,
            actor_type,
            actor_id,
        }),
    }
}

/// Data as Dapr keeps it: the JSON in a `BytesValue`.
fn any(data: &[u8]) -> prost_types::Any {
    prost_types::Any {
        type_url: BYTES_VALUE.to_owned(),
        // A `BytesValue` is bytes with tag 1, as prost writes plain bytes.
        value: data.to_vec().encode_to_vec(),
    }
}

/// An answer as one over HTTP would be.
fn said(kind: Kind, word: Word) -> Answered {
    let done = |cancel: bool| Answered {
        status: 200,
        headers: cancel
            .then(|| (CANCEL_HEADER.to_owned(), "true".to_owned()))
            .into_iter()
            .collect(),
        body: bytes::Bytes::new(),
    };
    match (kind, word) {
        (Kind::Invoke, Word::InvokeResponse(answer)) => invoked(answer),
        (Kind::Reminder, Word::ReminderResponse(answer))
        | (Kind::Timer, Word::TimerResponse(answer)) => done(answer.cancel),
        (Kind::Deactivate, Word::DeactivateResponse(_)) => done(false),
        (_, Word::RequestFailed(failed)) => failure(failed),
        (
            _,
            Word::InitialRequest(_)
            | Word::InvokeResponse(_)
            | Word::ReminderResponse(_)
            | Word::TimerResponse(_)
            | Word::DeactivateResponse(_),
        ) => failure(RequestFailed {
            message: "actor host returned an unexpected response type".to_owned(),
            ..RequestFailed::default()
        }),
    }
}

fn invoked(answer: InvokeResponse) -> Answered {
    let mut headers: Vec<(String, String)> = answer
        .metadata
        .into_iter()
        .map(|(name, value)| (name.to_ascii_lowercase(), value))
        .collect();
    if answer.error && !headers.iter().any(|(name, _)| name == ACTOR_ERROR_HEADER) {
        headers.push((ACTOR_ERROR_HEADER.to_owned(), "true".to_owned()));
    }
    Answered {
        status: 200,
        headers,
        body: answer.data,
    }
}

fn failure(failed: RequestFailed) -> Answered {
    Answered {
        status: if failed.code == NOT_FOUND { 404 } else { 500 },
        headers: Vec::new(),
        body: failed.message.into(),
    }
}

/// The types of a stream's first message.
fn hosted(initial: AppInitial, settings: &AppSettings) -> Hosted {
    let wishes = |idle: Option<prost_types::Duration>,
                  drain: Option<prost_types::Duration>,
                  drain_rebalanced: Option<bool>,
                  reentrancy: Option<messages::ReentrancyConfig>| Wishes {
        idle_timeout: idle.and_then(time),
        drain_timeout: drain.and_then(time),
        drain_rebalanced,
        reentrancy: reentrancy.map(|given| {
            if given.enabled {
                let depth = given
                    .max_stack_depth
                    .and_then(|depth| u32::try_from(depth).ok());
                Reentrancy::On { depth }
            } else {
                Reentrancy::Off
            }
        }),
    };
    let special = |one: EntityConfig| {
        let its = wishes(
            one.actor_idle_timeout,
            one.drain_ongoing_call_timeout,
            one.drain_rebalanced_actors,
            one.reentrancy,
        );
        (one.entities, its)
    };
    let announced = Announced {
        entities: initial.entities,
        common: wishes(
            initial.actor_idle_timeout,
            initial.drain_ongoing_call_timeout,
            initial.drain_rebalanced_actors,
            initial.reentrancy,
        ),
        special: initial.entities_config.into_iter().map(special).collect(),
        warnings: Vec::new(),
    };
    announced.hosted(settings.disseminate_timeout)
}

#[cfg(test)]
mod tests;
