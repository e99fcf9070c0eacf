//! Delivery over an application's HTTP channel: what it is asked, and what its answers mean.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::future::BoxFuture;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};

use super::envelope::CLOUD_EVENT;
use super::metadata::Metadata;
use super::target::{Batch, BatchContent, BatchEntry, Handed, Letter, Said, Target};
use crate::app::{Answered, AppAnswer, AppChannel, InstanceId, Post, Sent};
use crate::resources::FailedWith;

/// Type of a batch.
pub(super) const BATCH_TYPE: &str = "com.dapr.event.sent.bulk";
const OCTETS: &str = "application/octet-stream";

/// One process of an application.
#[derive(Clone, Debug)]
pub struct HttpTarget {
    channel: AppChannel,
    instance: InstanceId,
}

impl HttpTarget {
    /// The target that this process is.
    #[must_use]
    pub fn new(channel: AppChannel, instance: InstanceId) -> Self {
        Self { channel, instance }
    }
}

impl Target for HttpTarget {
    fn deliver<'a>(&'a self, letter: &'a Letter, handed: &'a Handed) -> BoxFuture<'a, Said> {
        Box::pin(async move {
            let post = self
                .channel
                .post(self.instance, post(letter), handed.flag());
            said(&post.await)
        })
    }

    fn deliver_batch<'a>(
        &'a self,
        batch: &'a Batch,
        handed: &'a Handed,
    ) -> BoxFuture<'a, Vec<Said>> {
        Box::pin(async move {
            let post = Post {
                path: batch.path.clone(),
                headers: batch.metadata.clone().into_iter().collect(),
                content_type: "application/json".to_owned(),
                body: batch_body(batch),
            };
            let answer = self.channel.post(self.instance, post, handed.flag()).await;
            said_of_each(&answer, &batch.entries)
        })
    }
}

fn post(letter: &Letter) -> Post {
    let mut headers: Vec<_> = letter.metadata.clone().into_iter().collect();
    let envelope = &letter.envelope;
    let parent = envelope
        .text("traceparent")
        .or_else(|| envelope.text("traceid"));
    for (name, value) in [
        ("traceparent", parent),
        ("tracestate", envelope.text("tracestate")),
    ] {
        // That of a raw payload travels beside it already.
        let is_there = headers
            .iter()
            .any(|(known, _)| known.eq_ignore_ascii_case(name));
        headers.extend(
            value
                .filter(|_| !is_there)
                .map(|value| (name.to_owned(), value)),
        );
    }
    Post {
        path: letter.path.clone(),
        headers,
        content_type: CLOUD_EVENT.to_owned(),
        body: envelope.to_bytes(),
    }
}

/// A field of an answer as Dapr's decoder finds it: by its name in whatever case.
fn field<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    let mut fields = object.iter().rev();
    let (_, value) = fields.find(|(found, _)| found.eq_ignore_ascii_case(name))?;
    Some(value).filter(|value| !value.is_null())
}

/// A text; empty where there is none. `None`: it is something else.
fn text<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    field(object, name).map_or(Some(""), Value::as_str)
}

/// The first JSON value of a body; what follows it is not read.
fn first_value(body: &[u8]) -> Option<Value> {
    let mut values = serde_json::Deserializer::from_slice(body).into_iter();
    values.next()?.ok()
}

/// What an answer to one event means.
#[must_use]
pub fn said(answer: &AppAnswer) -> Said {
    let answered = match reached(answer) {
        Ok(answered) => answered,
        Err(said) => return said,
    };
    let value = first_value(&answered.body);
    let object = value.as_ref().and_then(Value::as_object);
    match object.and_then(|object| text(object, "status")) {
        // Whatever else it says, it said that it is well.
        None => Said::Done,
        Some(status) => match status {
            "" | "SUCCESS" => Said::Done,
            "RETRY" => Said::Again("the application answered RETRY".to_owned()),
            "DROP" => Said::Never("the application answered DROP".to_owned()),
            other => Said::Again(format!("the application answered the status {other:?}")),
        },
    }
}

/// An answer that is well; else what it means.
fn reached(answer: &AppAnswer) -> Result<&Answered, Said> {
    match answer {
        AppAnswer::Answered(answered) => match answered.status {
            200..300 => Ok(answered),
            404 => Err(Said::Never(
                "the application answered 404: it has nothing at this path".to_owned(),
            )),
            status => {
                let body = String::from_utf8_lossy(&answered.body);
                let why = format!("the application answered {status}: {body}");
                Err(Said::Failed(
                    FailedWith::Http(status),
                    ghostlight_protocol::text::cut(why),
                ))
            }
        },
        AppAnswer::NoAnswer { why, sent } => Err(match sent {
            Sent::Maybe => Said::Again(why.clone()),
            Sent::CertainlyNot => Said::Unsent(why.clone()),
        }),
    }
}

#[derive(Serialize)]
struct BatchBody<'a> {
    id: &'a str,
    entries: Vec<EntryBody<'a>>,
    metadata: &'a Metadata,
    topic: &'a str,
    pubsubname: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EntryBody<'a> {
    entry_id: &'a str,
    event: Box<RawValue>,
    content_type: &'static str,
    metadata: &'a Metadata,
}

fn batch_body(batch: &Batch) -> Bytes {
    let entries = batch.entries.iter().map(|entry| {
        let (event, content_type) = match &entry.content {
            BatchContent::Event(envelope) => (envelope.to_raw(), CLOUD_EVENT),
            BatchContent::Raw(data) => {
                let text = to_raw_value(&STANDARD.encode(data));
                (text.expect("a string is JSON"), OCTETS)
            }
        };
        EntryBody {
            entry_id: &entry.id,
            event,
            content_type,
            metadata: &entry.metadata,
        }
    });
    let body = BatchBody {
        id: &batch.id,
        entries: entries.collect(),
        metadata: &batch.metadata,
        topic: &batch.topic,
        pubsubname: &batch.pubsub,
        kind: BATCH_TYPE,
    };
    let json = serde_json::to_vec(&body).expect("texts by name are JSON");
    json.into()
}

/// What an answer to a batch means for each of its events.
#[must_use]
pub fn said_of_each(answer: &AppAnswer, entries: &[BatchEntry]) -> Vec<Said> {
    let all = |said: &Said| entries.iter().map(|_| said.clone()).collect();
    let answered = match reached(answer) {
        Ok(answered) => answered,
        Err(said) => return all(&said),
    };
    let value = first_value(&answered.body);
    let Some(object) = value.as_ref().and_then(Value::as_object) else {
        let why = "the application's answer to a batch is no JSON object with statuses";
        return all(&Said::Again(why.to_owned()));
    };
    let statuses = field(object, "statuses").and_then(Value::as_array);
    let statuses = statuses.into_iter().flatten().filter_map(Value::as_object);
    let by_id: BTreeMap<&str, &str> = statuses
        .filter_map(|one| Some((text(one, "entryId")?, text(one, "status")?)))
        .collect();
    let each = entries
        .iter()
        .map(|entry| match by_id.get(entry.id.as_str()) {
            Some(&"SUCCESS") => Said::Done,
            Some(&"DROP") => Said::Never("the application answered DROP".to_owned()),
            Some(&"RETRY") => Said::Again("the application answered RETRY".to_owned()),
            Some(other) => Said::Again(format!("the application answered the status {other:?}")),
            None => Said::Again("the application's answer leaves it out".to_owned()),
        });
    each.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> AppAnswer {
        AppAnswer::Answered(Answered {
            status,
            headers: Vec::new(),
            body: Bytes::copy_from_slice(body.as_bytes()),
        })
    }

    fn word(said: &Said) -> &'static str {
        match said {
            Said::Done => "done",
            Said::Again(_) | Said::Failed(..) => "again",
            Said::Never(_) => "never",
            Said::Unsent(_) => "unsent",
        }
    }

    #[test]
    fn every_answer_to_one_event() {
        for (status, body, wanted) in [
            (200, "", "done"),
            (204, "", "done"),
            (299, "thanks", "done"),
            (200, "[]", "done"),
            (200, "{}", "done"),
            (200, r#"{"status": 7}"#, "done"),
            (200, r#"{"status": ""}"#, "done"),
            (200, r#"{"status": "SUCCESS"}"#, "done"),
            (201, r#"{"status": "RETRY"}"#, "again"),
            (200, r#"{"status": "DROP", "more": 1}"#, "never"),
            (200, r#"{"status": "success"}"#, "again"),
            (200, r#"{"status": "LATER"}"#, "again"),
            (200, r#"{"Status": "RETRY"}"#, "again"),
            (200, r#"{"STATUS": "DROP"}"#, "never"),
            (200, r#"{"status": null}"#, "done"),
            (200, r#"{"status": "RETRY"} and more"#, "again"),
            (404, "", "never"),
            (404, r#"{"status": "SUCCESS"}"#, "never"),
            (302, "", "again"),
            (400, "", "again"),
            (500, r#"{"status": "SUCCESS"}"#, "again"),
            (503, "", "again"),
        ] {
            let found = said(&answer(status, body));
            assert_eq!(word(&found), wanted, "{status} {body}: {found:?}");
        }
        let silent = AppAnswer::NoAnswer {
            why: "it broke".to_owned(),
            sent: Sent::Maybe,
        };
        assert_eq!(said(&silent), Said::Again("it broke".to_owned()));
        let refused = AppAnswer::not_sent("nobody listens");
        assert_eq!(said(&refused), Said::Unsent("nobody listens".to_owned()));
    }

    #[test]
    fn every_answer_to_a_batch() {
        let entries = ["a", "b", "c"].map(|id| BatchEntry {
            id: id.to_owned(),
            content: BatchContent::Raw(Bytes::new()),
            metadata: Metadata::new(),
        });
        let statuses = r#"{"statuses": [{"entryId": "c", "status": "DROP"},
            {"entryId": "a", "status": "SUCCESS"}, {"entryId": "x", "status": "SUCCESS"}]}"#;
        let cased = r#"{"Statuses": [{"EntryId": "c", "Status": "DROP"},
            {"entryid": "a", "STATUS": "SUCCESS"}]} and more"#;
        let empty = r#"{"statuses": [{"entryId": "a", "status": ""},
            {"entryId": "b", "status": "RETRY"}, {"entryId": "c", "status": "odd"}]}"#;
        for (status, body, wanted) in [
            (200, statuses, "done again never"),
            (200, cased, "done again never"),
            (200, empty, "again again again"),
            (200, "", "again again again"),
            (200, "{}", "again again again"),
            (404, statuses, "never never never"),
            (500, statuses, "again again again"),
        ] {
            let found = said_of_each(&answer(status, body), &entries);
            let words: Vec<_> = found.iter().map(word).collect();
            assert_eq!(words.join(" "), wanted, "{status} {body}");
        }
    }
}
