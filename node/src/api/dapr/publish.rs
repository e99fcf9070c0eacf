//! Publishing over HTTP: `POST|PUT /v1.0/publish/{pubsub}/{topic}`, and the same with `bulk`.
//!
//! The topic is the rest of the path, slashes included. Metadata comes in the query as
//! `metadata.NAME=VALUE`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::Request;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::CONTENT_TYPE;
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, StatusCode};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::{not_allowed, request_id};
use crate::api::error_map::Answer;
use crate::api::error_map::pubsub::{Asked, entry_text, publish_error};
use crate::api::resilience::Transport;
use crate::api::{Context, collect, empty, joining, json as json_response, metrics, path};
use crate::caseless::Caseless;
use crate::pubsub::bulk_publish::{Entry, Failed};
use crate::pubsub::envelope::Body;
use crate::pubsub::metadata::Metadata;
use crate::pubsub::publish::{Beside, PublishError};
use crate::pubsub::registry::Component;

/// How many events a request brings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Count {
    One,
    Several,
}

/// Answers one publish. `rest` is the path behind `publish`, or behind `bulk`.
pub(super) async fn answer(
    context: &Context,
    count: Count,
    rest: &[&str],
    request: Request,
) -> Response {
    if ![Method::POST, Method::PUT].contains(request.method()) {
        return not_allowed("POST, PUT");
    }
    let (pubsub, topic) = match rest {
        [] => ("", String::new()),
        [pubsub, topic @ ..] => (*pubsub, topic.join("/")),
    };
    let asked = Asked {
        pubsub,
        topic: &topic,
        app_id: context.pubsub.app_id(),
    };
    let refuse = |error: PublishError| {
        let answer = publish_error(asked, error);
        metrics::refused(answer.reason());
        answer.into_response()
    };
    let component = match context.pubsub.find(pubsub, &topic) {
        Ok(component) => component,
        Err(error) => return refuse(error),
    };
    let (head, body) = request.into_parts();
    let beside = match beside(&head) {
        Ok(beside) => beside,
        Err(refusal) => return refusal.into_response(),
    };
    let body = match collect(&head.headers, body, context.body_max).await {
        Ok(body) => body,
        Err(refusal) => return refusal.into_response(),
    };
    let turn = match joining::token(&head.headers, beside.dedup.as_ref()) {
        Ok(turn) => turn,
        Err(refusal) => return refusal.into_response(),
    };
    let to = To {
        context,
        component: &component,
        topic: &topic,
        beside,
        turn,
    };
    let published = match count {
        Count::One => {
            let body = Body {
                data: &body,
                content_type: header(&head.headers, CONTENT_TYPE.as_str()),
            };
            to.one(body).await.map(|()| Vec::new())
        }
        Count::Several => match entries(&body) {
            Ok(entries) => to.several(entries).await,
            Err(error) => Err(error),
        },
    };
    match published {
        Ok(failed) if failed.is_empty() => empty(StatusCode::NO_CONTENT),
        Ok(failed) => some_failed(&failed),
        Err(error) => refuse(error),
    }
}

/// Where events go, with what came beside them.
struct To<'a> {
    context: &'a Context,
    component: &'a Arc<Component>,
    topic: &'a str,
    beside: Beside,
    turn: Option<String>,
}

impl To<'_> {
    async fn one(self, body: Body<'_>) -> Result<(), PublishError> {
        let (pubsub, component, topic) = (&self.context.pubsub, self.component, self.topic);
        match self.turn {
            None => pubsub.publish(component, topic, body, self.beside).await,
            Some(turn) => {
                let message = pubsub.message(component, topic, body, &self.beside)?;
                self.context.send_with(turn, vec![message]).await
            }
        }
    }

    /// Returns the events that were not taken.
    async fn several(self, entries: Vec<Entry>) -> Result<Vec<Failed>, PublishError> {
        let (pubsub, component, topic) = (&self.context.pubsub, self.component, self.topic);
        match self.turn {
            None => {
                let published = pubsub.bulk_publish(component, topic, entries, &self.beside);
                published.await
            }
            Some(turn) => {
                let messages = pubsub.messages(component, topic, entries, &self.beside)?;
                self.context.send_with(turn, messages).await?;
                Ok(Vec::new())
            }
        }
    }
}

fn some_failed(failed: &[Failed]) -> Response {
    metrics::refused("failed");
    let entries: Vec<_> = failed
        .iter()
        .map(|failed| json!({"entryId": failed.id, "error": entry_text(&failed.error)}))
        .collect();
    let body = json!({"failedEntries": entries, "errorCode": "ERR_PUBSUB_PUBLISH_MESSAGE"});
    json_response(StatusCode::INTERNAL_SERVER_ERROR, &body)
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    let value = headers.get(name);
    value
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

fn beside(head: &Parts) -> Result<Beside, Answer> {
    let dedup = request_id(&head.headers)?;
    Ok(Beside {
        metadata: metadata(head.uri.query().unwrap_or_default()),
        trace_parent: header(&head.headers, "traceparent").to_owned(),
        trace_state: header(&head.headers, "tracestate").to_owned(),
        dedup,
        over: Transport::Http,
    })
}

/// `metadata.NAME=VALUE` of a query; the first value of a name wins.
fn metadata(query: &str) -> Metadata {
    let mut metadata = BTreeMap::new();
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let plain = |text: &str| path::decode(&text.replace('+', " "));
        let name = plain(name);
        let name = name
            .as_deref()
            .and_then(|name| name.strip_prefix("metadata."));
        if let (Some(name), Some(value)) = (name, plain(value)) {
            metadata.entry(name.to_owned()).or_insert(value);
        }
    }
    metadata
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EntryBody {
    #[serde(default)]
    entry_id: String,
    #[serde(default)]
    event: Option<Box<RawValue>>,
    #[serde(default)]
    content_type: String,
    #[serde(default)]
    metadata: Option<Metadata>,
}

fn entries(body: &[u8]) -> Result<Vec<Entry>, PublishError> {
    let all = serde_json::from_slice::<Caseless<Vec<EntryBody>>>(body);
    let Caseless(all) = all.map_err(|error| PublishError::Unmarshal(error.to_string()))?;
    let read = all.into_iter().map(|entry| {
        let raw = entry.event.as_ref().map_or("null", |raw| raw.get());
        Ok(Entry {
            data: payload(raw, &entry.content_type).map_err(PublishError::Entries)?,
            id: entry.entry_id,
            content_type: entry.content_type,
            metadata: entry.metadata.unwrap_or_default(),
        })
    });
    read.collect()
}

/// The bytes of an entry's event: what its media type says that it is. Without one a text is a
/// text.
fn payload(raw: &str, content_type: &str) -> Result<Bytes, String> {
    const MISMATCH: &str = "error: mismatch between contentType and event";
    let kind = content_type.split(';').next().unwrap_or_default();
    let kind = kind.trim().to_ascii_lowercase();
    let text = serde_json::from_str::<String>(raw).ok();
    let is_text = kind.starts_with("text/") || kind == "application/xml";
    let is_octets = matches!(
        kind.as_str(),
        "application/octet-stream" | "application/cloudevents+protobuf"
    );
    match text {
        Some(text) if is_octets => STANDARD
            .decode(text)
            .map(Bytes::from)
            .map_err(|error| format!("the event is no base64: {error}")),
        Some(text) if is_text || kind.is_empty() => Ok(text.into()),
        None if is_text || is_octets => Err(MISMATCH.to_owned()),
        Some(_) | None => Ok(Bytes::copy_from_slice(raw.as_bytes())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_of_a_query() {
        let read = metadata("a=b&metadata.k=1&metadata.k=2&metadata.a%20b=c+d&metadata.e&other");
        let wanted = [("k", "1"), ("a b", "c d"), ("e", "")];
        let wanted = wanted.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(read, BTreeMap::from(wanted));
    }

    #[test]
    fn events_of_entries_by_their_media_type() {
        for (raw, kind, wanted) in [
            ("\"hi\"", "text/plain", Ok("hi")),
            ("\"hi\"", "", Ok("hi")),
            ("{\"n\": 1.0}", "", Ok("{\"n\": 1.0}")),
            ("\"hi\"", "application/json", Ok("\"hi\"")),
            ("[1]", "application/cloudevents+json", Ok("[1]")),
            ("\"aGk=\"", "application/octet-stream", Ok("hi")),
            ("7", "text/plain", Err("mismatch")),
            ("{}", "application/octet-stream", Err("mismatch")),
            ("\"?\"", "application/octet-stream", Err("no base64")),
        ] {
            match (payload(raw, kind), wanted) {
                (Ok(read), Ok(wanted)) => assert_eq!(&read[..], wanted.as_bytes(), "{raw}"),
                (Err(why), Err(part)) => assert!(why.contains(part), "{why}"),
                (read, _) => panic!("{raw} {kind}: {read:?}"),
            }
        }
    }
}
