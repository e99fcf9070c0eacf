//! `SubscribeTopicEventsAlpha1`: a subscription for as long as its stream lasts.
//!
//! The first message says what is wanted, every other one is a verdict. Errors end the stream, the
//! first message's among them: the headers of the answer leave at once, because some clients wait
//! for them before they send.

use std::pin::Pin;
use std::sync::Arc;

use futures::Stream;
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use super::dapr::proto::runtime::v1 as pb;
use super::dapr::proto::runtime::v1::subscribe_topic_events_request_alpha1::SubscribeTopicEventsRequestType as Incoming;
use super::dapr::proto::runtime::v1::subscribe_topic_events_response_alpha1::SubscribeTopicEventsResponseType as Outgoing;
use crate::api::error_map;
use crate::api::error_map::Answer;
use crate::api::error_map::pubsub::publish_error;
use crate::pubsub::PubSub;
use crate::pubsub::grpc_words::said;
use crate::pubsub::stream::{Asked, STREAM_EVENTS_MAX, StreamError, Verdicts};

/// What goes out on a stream.
pub(super) type Events =
    Pin<Box<dyn Stream<Item = Result<pb::SubscribeTopicEventsResponseAlpha1, Status>> + Send>>;
type Sender = mpsc::Sender<Result<pb::SubscribeTopicEventsResponseAlpha1, Status>>;

/// Serves one stream, in a task that ends with it.
pub(super) fn serve(
    pubsub: Arc<PubSub>,
    incoming: Streaming<pb::SubscribeTopicEventsRequestAlpha1>,
) -> Events {
    let (out, outgoing) = mpsc::channel(STREAM_EVENTS_MAX);
    drop(tokio::spawn(async move {
        let served = run(&pubsub, incoming, &out);
        let ended = tokio::select! {
            ended = served => ended,
            () = out.closed() => return,
        };
        if let Err(status) = ended {
            // The client may have gone.
            drop(out.send(Err(status)).await);
        }
    }));
    Box::pin(futures::stream::unfold(outgoing, |mut outgoing| async {
        outgoing.recv().await.map(|message| (message, outgoing))
    }))
}

async fn run(
    pubsub: &Arc<PubSub>,
    mut incoming: Streaming<pb::SubscribeTopicEventsRequestAlpha1>,
    out: &Sender,
) -> Result<(), Status> {
    let first = incoming.message().await?;
    let first = first.and_then(|message| message.subscribe_topic_events_request_type);
    let Some(Incoming::InitialRequest(initial)) = first else {
        return Err(Status::invalid_argument("initial request is required"));
    };
    let asked = asked(initial)?;
    let streamed = pubsub.stream(asked.clone()).await;
    let streamed = streamed.map_err(|error| refusal(pubsub, &asked, error))?;
    let (running, mut events, verdicts) = streamed.run();
    let answer = pb::SubscribeTopicEventsResponseInitialAlpha1 {};
    send(out, Outgoing::InitialResponse(answer)).await?;
    let writing = async {
        while let Some(event) = events.recv().await {
            send(out, Outgoing::EventMessage(event)).await?;
        }
        Ok(())
    };
    tokio::select! {
        () = running => Err(Status::unavailable("the bus has ended the subscription: subscribe again")),
        ended = writing => ended,
        ended = verdicts_of(incoming, &verdicts) => ended,
    }
}

fn asked(initial: pb::SubscribeTopicEventsRequestInitialAlpha1) -> Result<Asked, Status> {
    if initial.pubsub_name.is_empty() {
        return Err(Status::invalid_argument("pubsubName is required"));
    }
    if initial.topic.is_empty() {
        return Err(Status::invalid_argument("topic is required"));
    }
    Ok(Asked {
        pubsub: initial.pubsub_name,
        topic: initial.topic,
        metadata: initial.metadata,
        dead_letter_topic: initial.dead_letter_topic.unwrap_or_default(),
    })
}

/// Reads verdicts until the client ends the stream.
async fn verdicts_of(
    mut incoming: Streaming<pb::SubscribeTopicEventsRequestAlpha1>,
    verdicts: &Verdicts,
) -> Result<(), Status> {
    while let Some(message) = incoming.message().await? {
        match message.subscribe_topic_events_request_type {
            Some(Incoming::EventProcessed(processed)) => {
                let status = processed.status.unwrap_or_default().status;
                verdicts.say(&processed.id, said(status));
            }
            Some(Incoming::InitialRequest(_)) => {
                return Err(Status::invalid_argument(
                    "duplicate initial request received",
                ));
            }
            None => {}
        }
    }
    Ok(())
}

async fn send(out: &Sender, message: Outgoing) -> Result<(), Status> {
    let message = pb::SubscribeTopicEventsResponseAlpha1 {
        subscribe_topic_events_response_type: Some(message),
    };
    let sent = out.send(Ok(message)).await;
    sent.map_err(|_| Status::cancelled("the client has gone"))
}

fn refusal(pubsub: &PubSub, asked: &Asked, error: StreamError) -> Status {
    match error {
        StreamError::NotFound(error) => {
            let asked = error_map::pubsub::Asked {
                pubsub: &asked.pubsub,
                topic: &asked.topic,
                app_id: pubsub.app_id(),
            };
            publish_error(asked, error).into_status()
        }
        StreamError::Refused(why) => Status::invalid_argument(why),
        StreamError::Bus(error) => {
            let why = format!(
                "error when subscribing to topic {} in pubsub {}: {error}",
                asked.topic, asked.pubsub
            );
            Answer::of(error.code, why).into_status()
        }
    }
}
