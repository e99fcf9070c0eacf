//! The messages of `SubscribeActorEventsAlpha1`, generated from `node/proto`, under the short names
//! used here.

use std::time::Duration;

use crate::api::grpc::dapr::proto::runtime::v1 as pb;

pub use pb::ActorEntityConfig as EntityConfig;
pub use pb::ActorReentrancyConfig as ReentrancyConfig;
pub use pb::SubscribeActorEventsRequestAlpha1 as AppMessage;
pub use pb::SubscribeActorEventsRequestDeactivateResponseAlpha1 as DeactivateResponse;
pub use pb::SubscribeActorEventsRequestFailedAlpha1 as RequestFailed;
pub use pb::SubscribeActorEventsRequestInitialAlpha1 as AppInitial;
pub use pb::SubscribeActorEventsRequestInvokeResponseAlpha1 as InvokeResponse;
pub use pb::SubscribeActorEventsRequestReminderResponseAlpha1 as FiringResponse;
pub use pb::SubscribeActorEventsResponseAlpha1 as NodeMessage;
pub use pb::SubscribeActorEventsResponseDeactivateRequestAlpha1 as DeactivateRequest;
pub use pb::SubscribeActorEventsResponseInitialAlpha1 as InitialResponse;
pub use pb::SubscribeActorEventsResponseInvokeRequestAlpha1 as InvokeRequest;
pub use pb::SubscribeActorEventsResponseReminderRequestAlpha1 as ReminderRequest;
pub use pb::SubscribeActorEventsResponseTimerRequestAlpha1 as TimerRequest;
pub use pb::subscribe_actor_events_request_alpha1::RequestType as Word;
pub use pb::subscribe_actor_events_response_alpha1::ResponseType as ActorEvent;

/// A message with this event.
#[must_use]
pub fn message(event: ActorEvent) -> NodeMessage {
    NodeMessage {
        response_type: Some(event),
    }
}

/// The request that a word of an application answers; `None`: its first word, which answers none.
#[must_use]
pub fn answered(word: &Word) -> Option<&str> {
    match word {
        Word::InitialRequest(_) => None,
        Word::InvokeResponse(answer) => Some(&answer.id),
        Word::ReminderResponse(answer) | Word::TimerResponse(answer) => Some(&answer.id),
        Word::DeactivateResponse(answer) => Some(&answer.id),
        Word::RequestFailed(answer) => Some(&answer.id),
    }
}

/// A time as it was sent; `None`: it is negative, or none.
#[must_use]
pub fn time(sent: prost_types::Duration) -> Option<Duration> {
    let seconds = u64::try_from(sent.seconds).ok()?;
    let nanos = u32::try_from(sent.nanos).ok();
    Some(Duration::new(
        seconds,
        nanos.filter(|n| *n < 1_000_000_000)?,
    ))
}
