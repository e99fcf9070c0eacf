//! Publishing and streamed subscriptions over gRPC.

use std::time::Duration;

use ghostlight_protocol::outcome::NotRun;
use tokio::sync::mpsc;
use tonic::Streaming;
use tonic_types::StatusExt;

use super::pb::subscribe_topic_events_request_alpha1::SubscribeTopicEventsRequestType as ToSidecar;
use super::pb::subscribe_topic_events_response_alpha1::SubscribeTopicEventsResponseType as FromSidecar;
use super::pb::topic_event_response::TopicEventResponseStatus as Verdict;
use super::*;
use crate::buses::in_memory::InMemory;
use crate::pubsub::PubSub;
use crate::pubsub::policy::Policy;
use crate::pubsub::scopes::Scopes;
use crate::pubsub::tests::{ScriptedBus, component, of};
use crate::resources::{Backoff, Matching, Retry, Target};
use crate::topics::PublishOutcome;

async fn with(pubsub: PubSub) -> Bed {
    let pubsub = Arc::new(pubsub);
    bed(|context| Context { pubsub, ..context }, &[]).await
}

fn publish(pubsub: &str, topic: &str) -> pb::PublishEventRequest {
    pb::PublishEventRequest {
        pubsub_name: pubsub.into(),
        topic: topic.into(),
        data: Bytes::from_static(b"hi"),
        data_content_type: "text/plain".into(),
        ..Default::default()
    }
}

/// Refuses twice, and protects a topic.
fn refusing() -> crate::pubsub::registry::Component {
    use ghostlight_protocol::code::Code::{BusNotServed, BusUnavailable};
    let refused = |code| PublishOutcome::NotRun(NotRun::new(code, "why"));
    let bus = ScriptedBus::answers([BusNotServed, BusUnavailable].map(refused));
    let mut component = component("bus", bus);
    component.scopes = Scopes::of(&crate::resources::Component {
        name: "bus".into(),
        kind: "pubsub.scripted".into(),
        version: "v1".into(),
        ignore_errors: false,
        metadata: [("protectedTopics".to_owned(), "secret".to_owned())].into(),
        scopes: Vec::new(),
        place: "x:1".into(),
    });
    component
}

/// The answers that have a row; whether the component is described.
type Row = (pb::PublishEventRequest, Code, &'static str, bool);

fn rows() -> Vec<Row> {
    let raw = pb::PublishEventRequest {
        metadata: [("rawPayload".to_owned(), "?".to_owned())].into(),
        ..publish("bus", "orders")
    };
    let event = pb::PublishEventRequest {
        data_content_type: "application/cloudevents+json".into(),
        ..publish("bus", "orders")
    };
    vec![
        (
            publish("", "orders"),
            Code::InvalidArgument,
            "DAPR_PUBSUB_NAME_EMPTY",
            true,
        ),
        (
            publish("nobody", "orders"),
            Code::InvalidArgument,
            "DAPR_PUBSUB_NOT_FOUND",
            false,
        ),
        (
            publish("bus", ""),
            Code::InvalidArgument,
            "DAPR_PUBSUB_TOPIC_NAME_EMPTY",
            true,
        ),
        (
            publish("bus", "secret"),
            Code::PermissionDenied,
            "DAPR_PUBSUB_FORBIDDEN",
            true,
        ),
        (
            raw,
            Code::InvalidArgument,
            "DAPR_PUBSUB_METADATA_DESERIALIZATION",
            true,
        ),
        (
            event,
            Code::InvalidArgument,
            "DAPR_PUBSUB_CLOUD_EVENT_CREATION",
            true,
        ),
        (
            publish("bus", "orders"),
            Code::Internal,
            "DAPR_PUBSUB_PUBLISH_MESSAGE",
            true,
        ),
        // Certainly not published, and may be repeated.
        (
            publish("bus", "orders"),
            Code::Unavailable,
            "DAPR_PUBSUB_PUBLISH_MESSAGE",
            true,
        ),
    ]
}

#[tokio::test]
async fn every_error_has_daprs_code_and_reason() {
    let mut bed = with(of([refusing()])).await;
    for (request, code, reason, resource) in rows() {
        let status = bed.client.publish_event(request).await.unwrap_err();
        assert_eq!(status.code(), code, "{reason}: {status:?}");
        let details = status.get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!(
            (info.reason.as_str(), info.domain.as_str()),
            (reason, "dapr.io")
        );
        assert_eq!(details.resource_info().is_some(), resource, "{reason}");
        told(&status);
    }
}

/// What the details of an error say: who asked, and, where a topic was found, which, and what is
/// wrong with it; of the component what the message says.
#[track_caller]
fn told(status: &Status) {
    let details = status.get_error_details();
    let info = details.error_info().unwrap();
    let said = |name: &str| info.metadata.get(name).map(String::as_str);
    if info.reason != "DAPR_PUBSUB_PUBLISH_MESSAGE" {
        assert_eq!(said("appID"), Some("shop"), "{info:?}");
    }
    let has_topic = !info.reason.ends_with("_EMPTY") && !info.reason.ends_with("_FOUND");
    for name in ["topic", "error"] {
        let found = said(name).is_some_and(|text| !text.is_empty());
        assert_eq!(found, has_topic, "{name}: {info:?}");
    }
    if let Some(resource) = details.resource_info() {
        assert_eq!(resource.resource_type, "pubsub");
        assert!(
            status.message().starts_with(&resource.description),
            "{status:?}"
        );
        assert!(!resource.description.is_empty(), "{resource:?}");
    }
}

/// A name that no topic can have.
#[tokio::test]
async fn a_topic_that_cannot_be_has_an_error_of_its_own() {
    let mut bed = with(of([component("bus", ScriptedBus::answers([]))])).await;
    let topic = "x".repeat(ghostlight_protocol::limits::TOPIC_NAME_BYTES_MAX + 1);
    let status = bed.client.publish_event(publish("bus", &topic)).await;
    let status = status.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let info = status.get_details_error_info().unwrap();
    assert_eq!(info.reason, "DAPR_PUBSUB_MARSHAL_ENVELOPE");
    assert_eq!(info.metadata.get("topic"), Some(&topic));
    told(&status);
}

#[tokio::test]
async fn errors_without_components_and_of_entries() {
    let mut bed = with(of([component("bus", ScriptedBus::answers([]))])).await;
    let mut empty = with(of([])).await;
    let status = empty
        .client
        .publish_event(publish("bus", "orders"))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert_eq!(status.message(), "pubsub is not configured");
    let bulk = |ids: &[&str]| pb::BulkPublishRequest {
        pubsub_name: "bus".into(),
        topic: "orders".into(),
        entries: ids
            .iter()
            .map(|id| pb::BulkPublishRequestEntry {
                entry_id: (*id).into(),
                ..Default::default()
            })
            .collect(),
        metadata: [].into(),
    };
    let status = bed
        .client
        .bulk_publish_event(bulk(&["a", "a"]))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let info = status.get_details_error_info().unwrap();
    assert_eq!(info.reason, "DAPR_PUBSUB_MARSHAL_EVENTS");
}

#[tokio::test]
async fn bulk_publishes_tell_which_entries_failed() {
    let lost = PublishOutcome::Unknown {
        code: ghostlight_protocol::code::Code::OutcomeUnknown,
        detail: "lost".into(),
    };
    let bus = ScriptedBus::answers([PublishOutcome::Done(None), lost]);
    let mut bed = with(of([component("bus", bus.clone())])).await;
    let entry = |id: &str| pb::BulkPublishRequestEntry {
        entry_id: id.into(),
        event: Bytes::from_static(b"{}"),
        content_type: "application/json".into(),
        metadata: [("partitionKey".to_owned(), id.to_owned())].into(),
    };
    let request = pb::BulkPublishRequest {
        pubsub_name: "bus".into(),
        topic: "orders".into(),
        entries: vec![entry("a"), entry("b")],
        metadata: [].into(),
    };
    let answer = bed.client.bulk_publish_event_alpha1(request.clone()).await;
    let failed = answer.unwrap().into_inner().failed_entries;
    assert_eq!(failed.len(), 1);
    assert_eq!(
        (failed[0].entry_id.as_str(), failed[0].error.as_str()),
        ("b", "lost [E0112]")
    );
    let answer = bed.client.bulk_publish_event(request).await.unwrap();
    assert!(answer.into_inner().failed_entries.is_empty());
    let seen = bus.seen.lock().unwrap();
    let keys: Vec<_> = seen
        .iter()
        .filter_map(|one| one.event.key.as_deref())
        .collect();
    assert_eq!(keys, ["a", "b", "a", "b"]);
}

/// A stream as a client has it.
struct Stream {
    to: mpsc::Sender<pb::SubscribeTopicEventsRequestAlpha1>,
    from: Streaming<pb::SubscribeTopicEventsResponseAlpha1>,
}

impl Stream {
    async fn open(client: &DaprClient<Channel>, first: Option<ToSidecar>) -> Self {
        let (to, outgoing) = mpsc::channel(2_000);
        if let Some(first) = first {
            let first = pb::SubscribeTopicEventsRequestAlpha1 {
                subscribe_topic_events_request_type: Some(first),
            };
            to.send(first).await.unwrap();
        }
        let outgoing = futures::stream::unfold(outgoing, |mut outgoing| async {
            outgoing.recv().await.map(|message| (message, outgoing))
        });
        let answer = client.clone().subscribe_topic_events_alpha1(outgoing).await;
        let from = answer.unwrap().into_inner();
        Self { to, from }
    }

    async fn subscribed(client: &DaprClient<Channel>, topic: &str) -> Self {
        let mut stream = Self::open(client, Some(initial("bus", topic))).await;
        let first = stream.next().await.unwrap();
        assert!(
            matches!(first, FromSidecar::InitialResponse(_)),
            "{first:?}"
        );
        stream
    }

    async fn next(&mut self) -> Result<FromSidecar, Status> {
        let next = tokio::time::timeout(Duration::from_secs(20), self.from.message());
        let message = next.await.expect("in time")?;
        let message = message.ok_or_else(|| Status::aborted("it has ended"))?;
        Ok(message.subscribe_topic_events_response_type.unwrap())
    }

    async fn event(&mut self) -> pb::TopicEventRequest {
        match self.next().await.unwrap() {
            FromSidecar::EventMessage(event) => event,
            other => panic!("{other:?}"),
        }
    }

    async fn say(&self, id: &str, verdict: Verdict) {
        let processed = pb::SubscribeTopicEventsRequestProcessedAlpha1 {
            id: id.to_owned(),
            status: Some(pb::TopicEventResponse {
                status: verdict as i32,
            }),
        };
        let message = pb::SubscribeTopicEventsRequestAlpha1 {
            subscribe_topic_events_request_type: Some(ToSidecar::EventProcessed(processed)),
        };
        self.to.send(message).await.unwrap();
    }
}

fn initial(pubsub: &str, topic: &str) -> ToSidecar {
    ToSidecar::InitialRequest(pb::SubscribeTopicEventsRequestInitialAlpha1 {
        pubsub_name: pubsub.into(),
        topic: topic.into(),
        metadata: [].into(),
        dead_letter_topic: Some("dead".into()),
    })
}

#[tokio::test]
async fn what_a_stream_must_say_first() {
    let bed = with(of([component("bus", Arc::new(InMemory::default()))])).await;
    let processed = ToSidecar::EventProcessed(Default::default());
    for (first, words) in [
        (processed, "initial request is required"),
        (initial("", "orders"), "pubsubName is required"),
        (initial("bus", ""), "topic is required"),
        (initial("nobody", "orders"), "pubsub nobody is not found"),
    ] {
        let mut stream = Stream::open(&bed.client, Some(first)).await;
        let status = stream.next().await.unwrap_err();
        assert_eq!(
            (status.code(), status.message()),
            (Code::InvalidArgument, words)
        );
        let details = status.get_error_details_vec().len();
        assert_eq!(details, usize::from(words.contains("not found")), "{words}");
    }
    let stream = Stream::subscribed(&bed.client, "orders").await;
    let again = pb::SubscribeTopicEventsRequestAlpha1 {
        subscribe_topic_events_request_type: Some(initial("bus", "orders")),
    };
    stream.to.send(again).await.unwrap();
    let mut stream = stream;
    let status = stream.next().await.unwrap_err();
    assert_eq!(status.message(), "duplicate initial request received");
}

#[tokio::test]
async fn every_stream_gets_every_event_in_order() {
    const EVENTS: usize = 300;
    let bed = with(of([component("bus", Arc::new(InMemory::default()))])).await;
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let mut stream = Stream::subscribed(&bed.client, "orders").await;
        readers.spawn(async move {
            let mut seen = Vec::new();
            for _ in 0..EVENTS {
                let event = stream.event().await;
                stream.say(&event.id, Verdict::Success).await;
                seen.push(String::from_utf8_lossy(&event.data).into_owned());
            }
            seen
        });
    }
    let mut client = bed.client.clone();
    for number in 0..EVENTS {
        let request = pb::PublishEventRequest {
            data: number.to_string().into(),
            ..publish("bus", "orders")
        };
        client.publish_event(request).await.unwrap();
    }
    let wanted: Vec<_> = (0..EVENTS).map(|number| number.to_string()).collect();
    while let Some(seen) = readers.join_next().await {
        assert_eq!(seen.unwrap(), wanted);
    }
}

#[tokio::test]
async fn verdicts_of_a_stream_count() {
    let mut retried = component("bus", Arc::new(InMemory::default()));
    retried.inbound = Policy::new(Target {
        retry: Some(Retry {
            backoff: Backoff::Constant(Duration::ZERO),
            max_retries: Some(1),
            matching: Matching::default(),
        }),
        ..Target::default()
    });
    let pubsub = Arc::new(of([retried]));
    let kept = Arc::clone(&pubsub);
    let bed = bed(|context| Context { pubsub, ..context }, &[]).await;
    let mut orders = Stream::subscribed(&bed.client, "orders").await;
    let mut dead = Stream::subscribed(&bed.client, "dead").await;
    let views = kept.views();
    let shown: Vec<_> = views.iter().map(|view| view.topic.as_str()).collect();
    assert_eq!(shown, ["orders", "dead"]);
    let mut client = bed.client.clone();
    let publishing = tokio::spawn(async move {
        for id in ["a", "b", "c"] {
            let request = pb::PublishEventRequest {
                metadata: [("cloudevent.id".to_owned(), id.to_owned())].into(),
                ..publish("bus", "orders")
            };
            client.publish_event(request).await.unwrap();
        }
    });
    for (id, verdict) in [
        ("a", Verdict::Retry),
        ("a", Verdict::Success),
        ("b", Verdict::Retry),
        ("b", Verdict::Retry),
        ("c", Verdict::Drop),
    ] {
        let event = orders.event().await;
        assert_eq!((event.id.as_str(), event.path.as_str()), (id, "/"));
        orders.say(id, verdict).await;
    }
    for id in ["b", "c"] {
        let event = dead.event().await;
        assert_eq!(event.id, id);
        dead.say(id, Verdict::Success).await;
    }
    publishing.await.unwrap();
    drop((orders, dead));
    while !kept.views().is_empty() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
