//! Events as gRPC messages: what an application on gRPC, or a stream, is sent; and what its answers
//! mean.

use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};

use super::envelope::{Envelope, NotAnEvent};
use super::http_target::BATCH_TYPE;
use super::target::{Batch, BatchContent, BatchEntry, Letter, Said};
use super::wanted::Wanted;
use crate::api::grpc::dapr::proto::runtime::v1 as pb;
use crate::api::sidecar::SubscriptionOrigin;
use crate::resources::{BulkSubscribe, FailedWith};

/// Attributes that have a field of their own.
const FIELDS: [&str; 9] = [
    "id",
    "source",
    "type",
    "specversion",
    "datacontenttype",
    "topic",
    "pubsubname",
    "data",
    "data_base64",
];

/// An event with its envelope.
///
/// # Errors
/// Its data cannot be read.
pub fn event(letter: &Letter) -> Result<pb::TopicEventRequest, NotAnEvent> {
    let envelope = &letter.envelope;
    let text = |name: &str| envelope.text(name).unwrap_or_default();
    Ok(pb::TopicEventRequest {
        id: text("id"),
        source: text("source"),
        r#type: text("type"),
        spec_version: text("specversion"),
        data_content_type: text("datacontenttype"),
        topic: letter.topic.clone(),
        data: envelope.payload()?,
        pubsub_name: letter.pubsub.clone(),
        path: letter.path.clone(),
        extensions: extensions(envelope),
    })
}

/// All other attributes.
fn extensions(envelope: &Envelope) -> Option<Struct> {
    let others = envelope
        .attributes()
        .filter(|(name, _)| !FIELDS.contains(name));
    let fields = others.filter_map(|(name, raw)| {
        let json: serde_json::Value = serde_json::from_str(raw).ok()?;
        Some((name.to_owned(), value(json)))
    });
    let fields: std::collections::BTreeMap<_, _> = fields.collect();
    (!fields.is_empty()).then_some(Struct { fields })
}

fn value(json: serde_json::Value) -> Value {
    use serde_json::Value as Json;
    let kind = match json {
        Json::Null => Kind::NullValue(0),
        Json::Bool(truth) => Kind::BoolValue(truth),
        Json::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or(f64::NAN)),
        Json::String(text) => Kind::StringValue(text),
        Json::Array(all) => Kind::ListValue(ListValue {
            values: all.into_iter().map(value).collect(),
        }),
        Json::Object(fields) => Kind::StructValue(Struct {
            fields: fields
                .into_iter()
                .map(|(name, json)| (name, value(json)))
                .collect(),
        }),
    };
    Value { kind: Some(kind) }
}

/// A batch, and what becomes of those of its entries that are left out, because nobody can read
/// them.
#[must_use]
pub fn batch(batch: &Batch) -> (pb::TopicEventBulkRequest, Vec<Option<Said>>) {
    let mut entries = Vec::with_capacity(batch.entries.len());
    let mut left_out = Vec::with_capacity(batch.entries.len());
    for one in &batch.entries {
        let said = match entry(one) {
            Ok(entry) => {
                entries.push(entry);
                None
            }
            Err(why) => Some(Said::Again(why.to_string())),
        };
        left_out.push(said);
    }
    let request = pb::TopicEventBulkRequest {
        id: batch.id.clone(),
        entries,
        metadata: batch.metadata.clone(),
        topic: batch.topic.clone(),
        pubsub_name: batch.pubsub.clone(),
        r#type: BATCH_TYPE.to_owned(),
        path: batch.path.clone(),
    };
    (request, left_out)
}

fn entry(entry: &BatchEntry) -> Result<pb::TopicEventBulkRequestEntry, NotAnEvent> {
    use pb::topic_event_bulk_request_entry::Event;
    let (event, content_type) = match &entry.content {
        BatchContent::Raw(data) => (Event::Bytes(data.clone()), "application/octet-stream"),
        BatchContent::Event(envelope) => {
            let text = |name: &str| envelope.text(name).unwrap_or_default();
            let event = pb::TopicEventCeRequest {
                id: text("id"),
                source: text("source"),
                r#type: text("type"),
                spec_version: text("specversion"),
                data_content_type: text("datacontenttype"),
                data: envelope.payload()?,
                extensions: extensions(envelope),
            };
            (Event::CloudEvent(event), super::envelope::CLOUD_EVENT)
        }
    };
    Ok(pb::TopicEventBulkRequestEntry {
        entry_id: entry.id.clone(),
        content_type: content_type.to_owned(),
        metadata: entry.metadata.clone(),
        event: Some(event),
    })
}

/// What a status means.
#[must_use]
pub fn said(status: i32) -> Said {
    use pb::topic_event_response::TopicEventResponseStatus as Status;
    match Status::try_from(status) {
        Ok(Status::Success) => Said::Done,
        Ok(Status::Retry) => Said::Again("the application answered RETRY".to_owned()),
        Ok(Status::Drop) => Said::Never("the application answered DROP".to_owned()),
        Err(_) => Said::Again(format!("the application answered the status {status}")),
    }
}

/// What the statuses of a batch mean; an entry that is left out comes again.
#[must_use]
pub fn said_of_each(entries: &[BatchEntry], answer: &pb::TopicEventBulkResponse) -> Vec<Said> {
    let each = entries.iter().map(|entry| {
        let found = answer.statuses.iter().find(|one| one.entry_id == entry.id);
        match found {
            Some(one) => said(one.status),
            None => Said::Again("the application's answer leaves it out".to_owned()),
        }
    });
    each.collect()
}

/// What a failed call means: an application without the method wants nothing.
#[must_use]
pub fn said_of_failure(status: &tonic::Status) -> Said {
    let why = format!(
        "the application answered {:?}: {}",
        status.code(),
        status.message()
    );
    match status.code() {
        tonic::Code::Unimplemented => Said::Never(why),
        code => {
            let code = u16::try_from(i32::from(code)).unwrap_or_default();
            Said::Failed(FailedWith::Grpc(code), ghostlight_protocol::text::cut(why))
        }
    }
}

/// The answer to `ListTopicSubscriptions`.
#[must_use]
pub fn wanted(answer: pb::ListTopicSubscriptionsResponse, app_id: &str) -> Vec<Wanted> {
    let wanted = answer.subscriptions.into_iter().map(|one| {
        let routes = one.routes.unwrap_or_default();
        let rules = routes.rules.into_iter();
        let rules: Vec<_> = rules.map(|rule| (rule.r#match, rule.path)).collect();
        // Without any route an event goes to the application as such.
        let default = Some(routes.default).filter(|path| rules.is_empty() || !path.is_empty());
        let bulk = one.bulk_subscribe.filter(|bulk| bulk.enabled);
        let positive = |number: i32| u32::try_from(number).ok();
        Wanted {
            pubsub: one.pubsub_name,
            topic: one.topic,
            metadata: one.metadata,
            rules,
            default_path: default,
            dead_letter_topic: Some(one.dead_letter_topic).filter(|topic| !topic.is_empty()),
            bulk: bulk.map(|bulk| {
                BulkSubscribe::of(
                    positive(bulk.max_messages_count),
                    positive(bulk.max_await_duration_ms),
                )
            }),
            origin: SubscriptionOrigin::Programmatic,
            place: format!("ListTopicSubscriptions of {app_id}"),
        }
    });
    wanted.collect()
}

/// What travels beside an event: its metadata and its trace, as far as they can be headers.
pub fn put_beside(letter: &Letter, headers: &mut tonic::metadata::MetadataMap) {
    let envelope = &letter.envelope;
    let parent = envelope
        .text("traceparent")
        .or_else(|| envelope.text("traceid"));
    let trace = [
        ("traceparent", parent),
        ("tracestate", envelope.text("tracestate")),
    ];
    let trace = trace
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)));
    let beside = letter.metadata.clone().into_iter().chain(trace);
    for (name, value) in beside {
        let name = name.to_ascii_lowercase();
        // Names that gRPC keeps to itself, and its binary ones, are no place for texts.
        if name.starts_with("grpc-") || name.ends_with("-bin") || name == "content-type" {
            continue;
        }
        let name = tonic::metadata::AsciiMetadataKey::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, value.parse()) {
            headers.insert(name, value);
        }
    }
}
