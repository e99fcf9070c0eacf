//! Delivery over an application's HTTP channel: what it is asked, and what its answers mean.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use super::envelope::CLOUD_EVENT;
use super::metadata::Metadata;
use super::target::{Batch, BatchContent, BatchEntry, Letter, Said, Target};
use crate::app::{Answered, AppAnswer, AppChannel, InstanceId, Post};

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
    fn deliver<'a>(&'a self, letter: &'a Letter) -> BoxFuture<'a, Said> {
        Box::pin(async move {
            let answer = self.channel.post(self.instance, post(letter)).await;
            said(&answer)
        })
    }

    fn deliver_batch<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Vec<Said>> {
        Box::pin(async move {
            let post = Post {
                path: batch.path.clone(),
                headers: batch.metadata.clone().into_iter().collect(),
                content_type: "application/json".to_owned(),
                body: batch_body(batch),
            };
            let answer = self.channel.post(self.instance, post).await;
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
        headers.extend(value.map(|value| (name.to_owned(), value)));
    }
    Post {
        path: letter.path.clone(),
        headers,
        content_type: CLOUD_EVENT.to_owned(),
        body: envelope.to_bytes(),
    }
}

/// An answer's `status`.
#[derive(Deserialize)]
struct Status {
    #[serde(default)]
    status: String,
}

/// What an answer to one event means.
#[must_use]
pub fn said(answer: &AppAnswer) -> Said {
    let answered = match reached(answer) {
        Ok(answered) => answered,
        Err(said) => return said,
    };
    let status = serde_json::from_slice::<Status>(&answered.body);
    match status.map(|body| body.status) {
        // Whatever else it says, it said that it is well.
        Err(_) => Said::Done,
        Ok(status) => match status.as_str() {
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
                Err(Said::Again(ghostlight_protocol::text::cut(why)))
            }
        },
        AppAnswer::NoAnswer { why, .. } => Err(Said::Again(why.clone())),
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

#[derive(Deserialize)]
struct Statuses {
    #[serde(default)]
    statuses: Vec<EntryStatus>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EntryStatus {
    #[serde(default)]
    entry_id: String,
    #[serde(default)]
    status: String,
}

/// What an answer to a batch means for each of its events.
#[must_use]
pub fn said_of_each(answer: &AppAnswer, entries: &[BatchEntry]) -> Vec<Said> {
    let all = |said: &Said| entries.iter().map(|_| said.clone()).collect();
    let answered = match reached(answer) {
        Ok(answered) => answered,
        Err(said) => return all(&said),
    };
    let statuses: Statuses = match serde_json::from_slice(&answered.body) {
        Ok(statuses) => statuses,
        Err(error) => {
            let why = format!("the application's answer to a batch has no statuses: {error}");
            return all(&Said::Again(why));
        }
    };
    let by_id: BTreeMap<&str, &str> = statuses
        .statuses
        .iter()
        .map(|one| (one.entry_id.as_str(), one.status.as_str()))
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
    use crate::app::Sent;

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
            Said::Again(_) => "again",
            Said::Never(_) => "never",
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
        let empty = r#"{"statuses": [{"entryId": "a", "status": ""},
            {"entryId": "b", "status": "RETRY"}, {"entryId": "c", "status": "odd"}]}"#;
        for (status, body, wanted) in [
            (200, statuses, "done again never"),
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
