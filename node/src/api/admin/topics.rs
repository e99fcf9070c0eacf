//! Topics over the admin port: lists, groups, dead letters, publish, and a stream of events.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::stream;
use ghostlight_core::admin::{AdminAnswer, AdminRequest};
use ghostlight_protocol::code::Code;
use ghostlight_protocol::limits::REQUEST_BODY_BYTES_MAX;
use ghostlight_protocol::time::WallTime;
use ghostlight_protocol::topic::{RedriveTo, TopicName};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::super::error_map::Answer;
use super::super::{Context, collect, json};
use super::{LIST_WAIT_MAX, is_json, no_path};
use crate::topics::look::{Change, Refusal, SeekTo};
use crate::topics::{
    Delivery, Event, Group, Publish, PublishOutcome, Start, Subscribe, Subscription,
};

/// Longest wait for a publish of an operator.
const PUBLISH_WAIT_MAX: Duration = Duration::from_secs(30);

/// Body of `subscriptions/{pause,resume,seek}`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupOrder {
    /// Component.
    pub pubsub: String,
    /// Topic.
    pub topic: String,
    /// Group.
    pub group: String,
    /// Of `seek`: where to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Position>,
}

/// A place in a topic.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Position {
    /// The oldest event.
    First,
    /// Behind the newest.
    Last,
    /// Milliseconds since the Unix epoch.
    TimeMs(u64),
    /// An offset of one log.
    Offset {
        /// Which log.
        number: u16,
        /// The offset.
        offset: u64,
    },
}

/// Body of `dead-letters/redrive`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RedriveOrder {
    /// Component.
    pub pubsub: String,
    /// Topic.
    pub topic: String,
    /// Group.
    pub group: String,
    /// Log and offset of each; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub letters: Option<Vec<(u16, u64)>>,
    /// What becomes of them.
    #[serde(default)]
    pub to: RedriveWay,
}

/// See [`RedriveOrder`].
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RedriveWay {
    /// Delivered to their group again.
    #[default]
    Group,
    /// Thrown away.
    Nowhere,
}

/// Body of `publish`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishOrder {
    /// Component.
    pub pubsub: String,
    /// Topic.
    pub topic: String,
    /// The data.
    pub data_base64: String,
    /// Its key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Its media type.
    #[serde(default)]
    pub content_type: String,
    /// The publisher's own name of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

/// Answer to `publish`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PublishedView {
    /// Log of the topic.
    pub number: u16,
    /// The event's offset there.
    pub offset: u64,
}

/// Answer to an order: how much it has changed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ChangedView {
    /// Logs, or letters.
    pub changed: usize,
}

/// One event of a stream, a line of JSON.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct EventView {
    /// Log of the topic.
    pub number: u16,
    /// Its offset there.
    pub offset: u64,
    /// 1 for its first delivery.
    pub attempt: u32,
    /// Milliseconds since the Unix epoch.
    pub published_ms: u64,
    /// Its key; absent: none.
    pub key: Option<String>,
    /// Who published it.
    pub source: String,
    /// Its media type.
    pub content_type: String,
    /// Its data, as far as it is text.
    pub text: String,
    /// Its data.
    pub data_base64: String,
}

/// Answers what is about topics.
pub(super) async fn answer(context: &Context, rest: &[&str], request: Request) -> Response {
    if *request.method() == Method::GET {
        let query = request.uri().query().unwrap_or("").to_owned();
        if let ["subscribe", pubsub, topic] = rest {
            return subscribe(context, pubsub, topic, &query).await;
        }
        let found = look(context, rest, &query);
        return match tokio::time::timeout(LIST_WAIT_MAX, found).await {
            Ok(Ok(response)) => response,
            Ok(Err(refusal)) => told(refusal),
            Err(_) => told(Refusal {
                code: Code::NoLeader,
                detail: format!(
                    "not every leader answered within {LIST_WAIT_MAX:?}. See \"ghostlight status\""
                ),
            }),
        };
    }
    if !is_json(&request) {
        return Answer::no_route(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "send Content-Type: application/json",
        )
        .into_response();
    }
    match order(context, rest, request).await {
        Ok(response) => response,
        Err(Failed::Answer(answer)) => answer.into_response(),
        Err(Failed::Refusal(refusal)) => told(refusal),
    }
}

/// Whether a path is about topics.
pub(super) fn is_ours(rest: &[&str]) -> bool {
    let first = rest.first().copied();
    matches!(
        first,
        Some("topics" | "subscriptions" | "dead-letters" | "publish" | "subscribe")
    )
}

enum Failed {
    Answer(Answer),
    Refusal(Refusal),
}

impl From<Answer> for Failed {
    fn from(answer: Answer) -> Self {
        Self::Answer(answer)
    }
}

impl From<Refusal> for Failed {
    fn from(refusal: Refusal) -> Self {
        Self::Refusal(refusal)
    }
}

async fn look(context: &Context, rest: &[&str], query: &str) -> Result<Response, Refusal> {
    let handle = &context.handle;
    let namespace = &context.namespace;
    let pubsub = parameter(query, "pubsub");
    let pubsub = pubsub.as_deref();
    match rest {
        ["topics"] => {
            let partitions = partitions(context).await?;
            let views = handle.topics(namespace, partitions, pubsub).await?;
            Ok(json(StatusCode::OK, &views))
        }
        ["topics", pubsub, topic] => {
            let view = handle.topic(&name(context, pubsub, topic)?).await?;
            Ok(json(StatusCode::OK, &view))
        }
        ["subscriptions"] => {
            let partitions = partitions(context).await?;
            let views = handle.subscriptions(namespace, partitions, pubsub).await?;
            Ok(json(StatusCode::OK, &views))
        }
        ["subscriptions", pubsub, topic] => {
            let name = name(context, pubsub, topic)?;
            let views = handle.subscriptions_of(&name).await?;
            Ok(json(StatusCode::OK, &views))
        }
        ["dead-letters", pubsub, topic, group] => {
            let name = name(context, pubsub, topic)?;
            let views = handle.dead_letters(&name, group).await?;
            Ok(json(StatusCode::OK, &views))
        }
        _ => Ok(no_path()),
    }
}

async fn order(context: &Context, rest: &[&str], request: Request) -> Result<Response, Failed> {
    let handle = &context.handle;
    match rest {
        ["subscriptions", verb @ ("pause" | "resume" | "seek")] => {
            let said: GroupOrder = body(request).await?;
            let name = name(context, &said.pubsub, &said.topic)?;
            let change = match (*verb, said.to) {
                ("pause", _) => Change::Pause,
                ("resume", _) => Change::Resume,
                (_, Some(to)) => Change::Seek(to.into()),
                (_, None) => {
                    let text = "seek needs \"to\": \"first\", \"last\", {\"time_ms\": …} or {\"offset\": …}";
                    return Err(Answer::of(Code::InvalidArgument, text).into());
                }
            };
            let changed = handle.change_group(&name, &said.group, change).await?;
            Ok(json(StatusCode::OK, &ChangedView { changed }))
        }
        ["subscriptions", "delete"] => {
            let said: GroupOrder = body(request).await?;
            let name = name(context, &said.pubsub, &said.topic)?;
            let changed = handle.delete_group(&name, &said.group).await?;
            Ok(json(StatusCode::OK, &ChangedView { changed }))
        }
        ["dead-letters", "redrive"] => {
            let said: RedriveOrder = body(request).await?;
            let name = name(context, &said.pubsub, &said.topic)?;
            let to = match said.to {
                RedriveWay::Group => RedriveTo::Group,
                RedriveWay::Nowhere => RedriveTo::Nowhere,
            };
            let letters = match said.letters {
                Some(letters) => letters,
                None => {
                    let all = handle.dead_letters(&name, &said.group).await?;
                    all.iter()
                        .map(|letter| (letter.number, letter.offset))
                        .collect()
                }
            };
            let changed = handle.redrive(&name, &said.group, &letters, to).await?;
            Ok(json(StatusCode::OK, &ChangedView { changed }))
        }
        ["publish"] => publish(context, body(request).await?).await,
        _ => Ok(no_path()),
    }
}

async fn publish(context: &Context, said: PublishOrder) -> Result<Response, Failed> {
    let topic = name(context, &said.pubsub, &said.topic)?;
    let data = STANDARD.decode(&said.data_base64).map_err(|error| {
        Answer::of(
            Code::InvalidArgument,
            format!("data_base64 is not base64: {error}"),
        )
    })?;
    let publish = Publish {
        topic,
        event: Event {
            key: said.key,
            data: data.into(),
            content_type: said.content_type,
            source: context.name.clone(),
            ..Event::default()
        },
        dedup: said.id.map(Bytes::from),
        ttl: None,
        timeout: Some(PUBLISH_WAIT_MAX),
        retention: None,
    };
    match context.handle.publish(publish).await {
        PublishOutcome::Done(Some(published)) => Ok(json(
            StatusCode::OK,
            &PublishedView {
                number: published.partition,
                offset: published.offset,
            },
        )),
        other => Err(Refusal::from(other).into()),
    }
}

/// Lines of JSON until the client has gone. An event is acknowledged when the line after it is asked for.
async fn subscribe(context: &Context, pubsub: &str, topic: &str, query: &str) -> Response {
    let topic = match name(context, pubsub, topic) {
        Ok(topic) => topic,
        Err(refusal) => return told(refusal),
    };
    let mut wanted = Subscribe::new(topic, "");
    wanted.group = match parameter(query, "group") {
        Some(group) => Group::Shared(group),
        None => Group::EachNode(format!("watch-{:016x}", rand::random::<u64>())),
    };
    let least = match parameter(query, "from").as_deref().map(position) {
        None => {
            if let Group::EachNode(_) = wanted.group {
                wanted.start = Start::Last;
            }
            0
        }
        Some(Some(Position::First)) => 0,
        Some(Some(Position::Last)) => {
            wanted.start = Start::Last;
            0
        }
        Some(Some(Position::TimeMs(ms))) => {
            wanted.start = Start::Time(WallTime(ms));
            0
        }
        Some(Some(Position::Offset { offset, .. })) => offset,
        Some(None) => {
            return told(Refusal {
                code: Code::InvalidArgument,
                detail: "from is first, last, an offset, or milliseconds with ms behind them"
                    .to_owned(),
            });
        }
    };
    let subscription = match context.handle.subscribe(wanted).await {
        Ok(subscription) => subscription,
        Err(error) => {
            return told(Refusal {
                code: error.code,
                detail: error.detail,
            });
        }
    };
    let begin = (subscription, None::<Delivery>, least);
    let lines = stream::unfold(begin, |(mut subscription, before, least)| async move {
        if let Some(before) = before {
            before.ack();
        }
        let (line, delivery) = next_line(&mut subscription, least).await?;
        let line: Result<Bytes, Infallible> = Ok(line);
        Some((line, (subscription, Some(delivery), least)))
    });
    let mut response = Response::new(Body::from_stream(lines));
    let kind = HeaderValue::from_static("application/x-ndjson");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

async fn next_line(subscription: &mut Subscription, least: u64) -> Option<(Bytes, Delivery)> {
    loop {
        let delivery = subscription.next().await?;
        if delivery.offset < least {
            delivery.ack();
            continue;
        }
        let view = EventView {
            number: delivery.partition,
            offset: delivery.offset,
            attempt: delivery.attempt,
            published_ms: delivery.published.0,
            key: delivery.event.key.clone(),
            source: delivery.event.source.clone(),
            content_type: delivery.event.content_type.clone(),
            text: String::from_utf8_lossy(&delivery.event.data).into_owned(),
            data_base64: STANDARD.encode(&delivery.event.data),
        };
        let mut line = serde_json::to_vec(&view).expect("views have string keys");
        line.push(b'\n');
        return Some((line.into(), delivery));
    }
}

/// `first`, `last`, `17` or `1700000000000ms`.
fn position(text: &str) -> Option<Position> {
    match text {
        "first" => Some(Position::First),
        "last" => Some(Position::Last),
        _ => match text.strip_suffix("ms") {
            Some(ms) => ms.parse().ok().map(Position::TimeMs),
            None => {
                let offset = text.parse().ok()?;
                Some(Position::Offset { number: 0, offset })
            }
        },
    }
}

impl From<Position> for SeekTo {
    fn from(position: Position) -> Self {
        match position {
            Position::First => Self::First,
            Position::Last => Self::Last,
            Position::TimeMs(ms) => Self::Time(WallTime(ms)),
            Position::Offset { number, offset } => Self::Offset { number, offset },
        }
    }
}

fn parameter(query: &str, name: &str) -> Option<String> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.find(|(key, _)| *key == name)?;
    super::super::path::decode(value)
}

async fn partitions(context: &Context) -> Result<u16, Refusal> {
    match context.handle.admin(AdminRequest::Status).await {
        AdminAnswer::Status(status) if status.partitions > 0 => {
            Ok(u16::try_from(status.partitions).unwrap_or(u16::MAX))
        }
        _ => Err(Refusal {
            code: Code::NotJoined,
            detail: "this node has not joined a cluster yet. Try again, or ask another node"
                .to_owned(),
        }),
    }
}

fn name(context: &Context, pubsub: &str, topic: &str) -> Result<TopicName, Refusal> {
    TopicName::new(&context.namespace, pubsub, topic).map_err(|error| Refusal {
        code: error.code,
        detail: error.to_string(),
    })
}

async fn body<T: DeserializeOwned>(request: Request) -> Result<T, Answer> {
    let (head, body) = request.into_parts();
    // Base64 takes a third more.
    let body = collect(&head.headers, body, REQUEST_BODY_BYTES_MAX * 3 / 2).await?;
    serde_json::from_slice(&body).map_err(|error| {
        Answer::of(
            Code::InvalidArgument,
            format!("the body is not what this order takes: {error}"),
        )
    })
}

fn told(refusal: Refusal) -> Response {
    Answer::of(refusal.code, refusal.detail).into_response()
}
