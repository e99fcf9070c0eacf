//! Answers to publishes: every row of Dapr's table of pub/sub errors.
//!
//! A bus that is only busy or away is told in our words with a status that clients repeat; whatever
//! else fails in a bus has Dapr's code.

use std::collections::BTreeMap;

use hyper::StatusCode;

use super::{Answer, Detail, not_run, unknown};
use crate::api::resilience::Transport;
use crate::pubsub::publish::{BusError, PublishError};
use crate::resources::FailedWith;

const KIND: &str = "pubsub";
const ERR_PUBLISH: &str = "ERR_PUBSUB_PUBLISH_MESSAGE";

/// What a publish named.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The component.
    pub pubsub: &'a str,
    /// The topic.
    pub topic: &'a str,
    /// The application.
    pub app_id: &'a str,
}

/// The text of a failed entry of a bulk publish.
#[must_use]
pub fn entry_text(error: &BusError) -> String {
    match error {
        BusError::NotRun(refusal) => format!("{} [{}]", refusal.detail, refusal.code),
        BusError::Unknown { code, detail } => format!("{detail} [{code}]"),
    }
}

/// What a publisher is told.
#[must_use]
#[expect(clippy::too_many_lines, reason = "one row for each error")]
pub fn publish_error(asked: Asked<'_>, error: PublishError) -> Answer {
    let Asked {
        pubsub,
        topic,
        app_id,
    } = asked;
    let row = match error {
        PublishError::Bus(error) => return bus_error(asked, error),
        PublishError::NotConfigured => Row::new(
            (400, "ERR_PUBSUB_NOT_CONFIGURED"),
            "DAPR_PUBSUB_NOT_CONFIGURED",
            "pubsub is not configured".to_owned(),
        )
        .alone(),
        PublishError::NotFound => Row::new(
            (404, "ERR_PUBSUB_NOT_FOUND"),
            "DAPR_PUBSUB_NOT_FOUND",
            format!("pubsub {pubsub} is not found"),
        )
        .alone(),
        PublishError::NameEmpty => Row::new(
            (404, "ERR_PUBSUB_EMPTY"),
            "DAPR_PUBSUB_NAME_EMPTY",
            "pubsub name is empty".to_owned(),
        ),
        PublishError::TopicEmpty => Row::new(
            (404, "ERR_TOPIC_NAME_EMPTY"),
            "DAPR_PUBSUB_TOPIC_NAME_EMPTY",
            format!("topic is empty in pubsub {pubsub}"),
        ),
        PublishError::Forbidden { app_id } => {
            let message = format!("topic {topic} is not allowed for app id {app_id}");
            Row::new(
                (403, "ERR_PUBSUB_FORBIDDEN"),
                "DAPR_PUBSUB_FORBIDDEN",
                message.clone(),
            )
            .with("topic", topic)
            .with("error", &message)
        }
        PublishError::Metadata(why) => Row::new(
            (400, "ERR_PUBSUB_REQUEST_METADATA"),
            "DAPR_PUBSUB_METADATA_DESERIALIZATION",
            format!("failed deserializing metadata. Error: {why}"),
        )
        .with("topic", topic)
        .with("error", &why),
        PublishError::CloudEvent(why) => Row::new(
            (500, "ERR_PUBSUB_CLOUD_EVENTS_SER"),
            "DAPR_PUBSUB_CLOUD_EVENT_CREATION",
            "cannot create cloudevent".to_owned(),
        )
        .with("topic", topic)
        .with("error", &why),
        PublishError::Unmarshal(why) => Row::new(
            (400, "ERR_PUBSUB_EVENTS_SER"),
            "DAPR_PUBSUB_UNMARSHAL_EVENTS",
            format!("error when unmarshaling the request for topic {topic} pubsub {pubsub}: {why}"),
        )
        .with("topic", topic)
        .with("error", &why),
        PublishError::Entries(why) => Row::new(
            (400, "ERR_PUBSUB_EVENTS_SER"),
            "DAPR_PUBSUB_MARSHAL_EVENTS",
            format!(
                "error marshaling events to bytes for topic {topic} pubsub {pubsub}. error: {why}"
            ),
        )
        .with("topic", topic)
        .with("error", &why),
        PublishError::Topic(why) => Row::new(
            (400, "ERR_PUBSUB_EVENTS_SER"),
            "DAPR_PUBSUB_MARSHAL_ENVELOPE",
            format!(
                "error when marshalling cloud event envelope for topic {topic} pubsub {pubsub}: {why}"
            ),
        )
        .with("topic", topic)
        .with("error", &why),
    };
    row.with("appID", app_id).answer(pubsub)
}

/// The status that its publisher would be told.
#[must_use]
pub fn failed_with(error: &BusError, over: Transport) -> FailedWith {
    let answer = match error.clone() {
        BusError::NotRun(refusal) => not_run(refusal),
        BusError::Unknown { code, detail } => unknown(code, detail),
    };
    answer.failed_with(over)
}

/// The bus did not take it, or nobody knows.
fn bus_error(asked: Asked<'_>, error: BusError) -> Answer {
    let Asked { pubsub, topic, .. } = asked;
    let why = entry_text(&error);
    let (mut answer, detail) = match error {
        BusError::NotRun(refusal) => (not_run(refusal.clone()), refusal.detail),
        BusError::Unknown { code, detail } => (unknown(code, detail.clone()), detail),
    };
    answer.message = format!("error when publishing to topic {topic} in pubsub {pubsub}: {detail}");
    if answer.status == StatusCode::INTERNAL_SERVER_ERROR {
        answer.error_code = ERR_PUBLISH;
    }
    let metadata = BTreeMap::from([("topic", topic.to_owned()), ("error", why)]);
    let description = answer.message.clone();
    answer.with_details(vec![
        Detail::Reason {
            reason: "DAPR_PUBSUB_PUBLISH_MESSAGE",
            metadata,
        },
        Detail::Resource {
            kind: KIND,
            name: pubsub.to_owned(),
            description,
        },
    ])
}

/// One row of the table.
struct Row {
    status: u16,
    error_code: &'static str,
    reason: &'static str,
    message: String,
    metadata: BTreeMap<&'static str, String>,
    resource: Resource,
}

/// Whether the component is described in the details.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Resource {
    Described,
    LeftOut,
}

impl Row {
    fn new(
        (status, error_code): (u16, &'static str),
        reason: &'static str,
        message: String,
    ) -> Self {
        Self {
            status,
            error_code,
            reason,
            message,
            metadata: BTreeMap::new(),
            resource: Resource::Described,
        }
    }

    fn alone(mut self) -> Self {
        self.resource = Resource::LeftOut;
        self
    }

    fn with(mut self, name: &'static str, value: &str) -> Self {
        self.metadata.insert(name, value.to_owned());
        self
    }

    fn answer(self, pubsub: &str) -> Answer {
        let mut details = vec![Detail::Reason {
            reason: self.reason,
            metadata: self.metadata,
        }];
        if self.resource == Resource::Described {
            details.push(Detail::Resource {
                kind: KIND,
                name: pubsub.to_owned(),
                description: self.message.clone(),
            });
        }
        let status = StatusCode::from_u16(self.status).expect("a status of the table");
        Answer::dapr(status, self.error_code, self.message).with_details(details)
    }
}
