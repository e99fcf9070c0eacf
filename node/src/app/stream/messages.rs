//! The messages of `SubscribeActorEventsAlpha1`, by hand, with Dapr's field numbers (Dapr 1.18, `actors.proto`).
//!
//! Any codec for prost messages takes them. Names are ours; numbers and kinds are the contract.

use std::collections::HashMap;

/// What an application says: `SubscribeActorEventsRequestAlpha1`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct AppMessage {
    /// Which of its words.
    #[prost(oneof = "Word", tags = "1, 2, 3, 4, 5, 6")]
    pub word: Option<Word>,
}

/// A word of an application.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Word {
    /// The first one: what it hosts.
    #[prost(message, tag = "1")]
    Initial(AppInitial),
    /// A method has returned.
    #[prost(message, tag = "2")]
    Invoke(InvokeResponse),
    /// A reminder's callback has returned.
    #[prost(message, tag = "3")]
    Reminder(FiringResponse),
    /// A timer's callback has returned.
    #[prost(message, tag = "4")]
    Timer(FiringResponse),
    /// An object is gone.
    #[prost(message, tag = "5")]
    Deactivate(DeactivateResponse),
    /// A request has failed.
    #[prost(message, tag = "6")]
    Failed(RequestFailed),
}

impl Word {
    /// The request it answers.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        match self {
            Self::Initial(_) => None,
            Self::Invoke(answer) => Some(&answer.id),
            Self::Reminder(answer) | Self::Timer(answer) => Some(&answer.id),
            Self::Deactivate(answer) => Some(&answer.id),
            Self::Failed(answer) => Some(&answer.id),
        }
    }
}

/// `SubscribeActorEventsRequestInitialAlpha1`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct AppInitial {
    /// Hosted actor types.
    #[prost(string, repeated, tag = "1")]
    pub entities: Vec<String>,
    /// Idle time of an object.
    #[prost(message, optional, tag = "2")]
    pub actor_idle_timeout: Option<Duration>,
    /// Time for a running call before its actor moves.
    #[prost(message, optional, tag = "3")]
    pub drain_ongoing_call_timeout: Option<Duration>,
    /// Whether a running call is waited for.
    #[prost(bool, optional, tag = "4")]
    pub drain_rebalanced_actors: Option<bool>,
    /// Nested calls.
    #[prost(message, optional, tag = "5")]
    pub reentrancy: Option<ReentrancyConfig>,
    /// Settings of single types.
    #[prost(message, repeated, tag = "6")]
    pub entities_config: Vec<EntityConfig>,
}

/// `ActorEntityConfig`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct EntityConfig {
    /// Types it is for.
    #[prost(string, repeated, tag = "1")]
    pub entities: Vec<String>,
    /// Idle time of an object.
    #[prost(message, optional, tag = "2")]
    pub actor_idle_timeout: Option<Duration>,
    /// Time for a running call before its actor moves.
    #[prost(message, optional, tag = "3")]
    pub drain_ongoing_call_timeout: Option<Duration>,
    /// Whether a running call is waited for.
    #[prost(bool, optional, tag = "4")]
    pub drain_rebalanced_actors: Option<bool>,
    /// Nested calls.
    #[prost(message, optional, tag = "5")]
    pub reentrancy: Option<ReentrancyConfig>,
}

/// `ActorReentrancyConfig`.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct ReentrancyConfig {
    /// Whether nested calls are allowed.
    #[prost(bool, tag = "1")]
    pub enabled: bool,
    /// How many.
    #[prost(int32, optional, tag = "2")]
    pub max_stack_depth: Option<i32>,
}

/// `google.protobuf.Duration`.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Duration {
    /// Whole seconds.
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    /// The rest.
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}

impl Duration {
    /// The time; `None`: it is negative.
    #[must_use]
    pub fn time(self) -> Option<std::time::Duration> {
        let seconds = u64::try_from(self.seconds).ok()?;
        let nanos = u32::try_from(self.nanos)
            .ok()
            .filter(|n| *n < 1_000_000_000)?;
        Some(std::time::Duration::new(seconds, nanos))
    }
}

/// `SubscribeActorEventsRequestInvokeResponseAlpha1`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct InvokeResponse {
    /// The request.
    #[prost(string, tag = "1")]
    pub id: String,
    /// What the method returned.
    #[prost(bytes = "vec", tag = "2")]
    pub data: Vec<u8>,
    /// Counterpart of headers.
    #[prost(map = "string, string", tag = "3")]
    pub metadata: HashMap<String, String>,
    /// Whether it is an error of the actor.
    #[prost(bool, tag = "4")]
    pub error: bool,
}

/// Answer to a reminder or a timer: both have the same fields.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct FiringResponse {
    /// The request.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Whether it is not to fire again.
    #[prost(bool, tag = "2")]
    pub cancel: bool,
}

/// `SubscribeActorEventsRequestDeactivateResponseAlpha1`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct DeactivateResponse {
    /// The request.
    #[prost(string, tag = "1")]
    pub id: String,
}

/// `SubscribeActorEventsRequestFailedAlpha1`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RequestFailed {
    /// The request.
    #[prost(string, tag = "1")]
    pub id: String,
    /// gRPC's code.
    #[prost(uint32, tag = "2")]
    pub code: u32,
    /// What went wrong.
    #[prost(string, tag = "3")]
    pub message: String,
}

/// What the node says: `SubscribeActorEventsResponseAlpha1`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct NodeMessage {
    /// Which event.
    #[prost(oneof = "ActorEvent", tags = "1, 2, 3, 4, 5")]
    pub event: Option<ActorEvent>,
}

impl NodeMessage {
    /// A message with this event.
    #[must_use]
    pub fn of(event: ActorEvent) -> Self {
        Self { event: Some(event) }
    }
}

/// What an application is to do.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum ActorEvent {
    /// Its first message was taken.
    #[prost(message, tag = "1")]
    Initial(InitialResponse),
    /// Call a method.
    #[prost(message, tag = "2")]
    Invoke(InvokeRequest),
    /// A reminder has fired.
    #[prost(message, tag = "3")]
    Reminder(ReminderRequest),
    /// A timer has fired.
    #[prost(message, tag = "4")]
    Timer(TimerRequest),
    /// Forget an object.
    #[prost(message, tag = "5")]
    Deactivate(DeactivateRequest),
}

/// `SubscribeActorEventsResponseInitialAlpha1`.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct InitialResponse {}

/// `SubscribeActorEventsResponseInvokeRequestAlpha1`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct InvokeRequest {
    /// Comes back with the answer.
    #[prost(string, tag = "1")]
    pub id: String,
    /// The actor's type.
    #[prost(string, tag = "2")]
    pub actor_type: String,
    /// The actor's id.
    #[prost(string, tag = "3")]
    pub actor_id: String,
    /// The method.
    #[prost(string, tag = "4")]
    pub method: String,
    /// The caller's body.
    #[prost(bytes = "vec", tag = "5")]
    pub data: Vec<u8>,
    /// Counterpart of headers.
    #[prost(map = "string, string", tag = "6")]
    pub metadata: HashMap<String, String>,
}

/// `SubscribeActorEventsResponseReminderRequestAlpha1`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ReminderRequest {
    /// Comes back with the answer.
    #[prost(string, tag = "1")]
    pub id: String,
    /// The actor's type.
    #[prost(string, tag = "2")]
    pub actor_type: String,
    /// The actor's id.
    #[prost(string, tag = "3")]
    pub actor_id: String,
    /// The reminder.
    #[prost(string, tag = "4")]
    pub name: String,
    /// Always empty.
    #[prost(string, tag = "5")]
    pub due_time: String,
    /// Always empty.
    #[prost(string, tag = "6")]
    pub period: String,
    /// As it was registered.
    #[prost(message, optional, tag = "7")]
    pub data: Option<Any>,
}

/// `SubscribeActorEventsResponseTimerRequestAlpha1`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TimerRequest {
    /// Comes back with the answer.
    #[prost(string, tag = "1")]
    pub id: String,
    /// The actor's type.
    #[prost(string, tag = "2")]
    pub actor_type: String,
    /// The actor's id.
    #[prost(string, tag = "3")]
    pub actor_id: String,
    /// The timer.
    #[prost(string, tag = "4")]
    pub name: String,
    /// As it was registered.
    #[prost(string, tag = "5")]
    pub due_time: String,
    /// As it was registered.
    #[prost(string, tag = "6")]
    pub period: String,
    /// The method to call.
    #[prost(string, tag = "7")]
    pub callback: String,
    /// As it was registered.
    #[prost(message, optional, tag = "8")]
    pub data: Option<Any>,
}

/// `SubscribeActorEventsResponseDeactivateRequestAlpha1`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct DeactivateRequest {
    /// Comes back with the answer.
    #[prost(string, tag = "1")]
    pub id: String,
    /// The actor's type.
    #[prost(string, tag = "2")]
    pub actor_type: String,
    /// The actor's id.
    #[prost(string, tag = "3")]
    pub actor_id: String,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Any {
    /// What it is.
    #[prost(string, tag = "1")]
    pub type_url: String,
    /// Its encoding.
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
}

/// `google.protobuf.BytesValue`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct BytesValue {
    /// The bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub value: Vec<u8>,
}
