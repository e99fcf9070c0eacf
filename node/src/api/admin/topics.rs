//! Topics over the admin port: lists, groups, dead letters, publish; events are read in `readers`.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::Request;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ghostlight_core::admin::{AdminAnswer, AdminRequest};
use ghostlight_protocol::code::Code;
use ghostlight_protocol::limits::{REQUEST_BODY_BYTES_MAX, TOPIC_PARTITIONS};
use ghostlight_protocol::time::WallTime;
use ghostlight_protocol::topic::{RedriveTo, TopicName};
use hyper::{Method, StatusCode};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};

use super::super::error_map::Answer;
use super::super::{Context, collect, json};
use super::readers::{self, Acks, Shown};
use super::{LIST_WAIT_MAX, is_json, no_path};
use crate::ephemeral::Keep;
use crate::pubsub::envelope::{self, CLOUD_EVENT, Envelope, Place, Stamp, Trace};
use crate::pubsub::metadata::Metadata;
use crate::pubsub::registry::Server;
use crate::pubsub::stamp;
use crate::topics::look::{Change, LETTERS_PAGE_MAX, Refusal, SeekTo};
use crate::topics::{
    Class, Event, Existing, Group, Publish, PublishOutcome, Start, Subscribe, SubscribeError,
};

/// Longest wait for a publish of an operator.
const PUBLISH_WAIT_MAX: Duration = Duration::from_secs(30);

/// Body of `topics/delete`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopicOrder {
    /// Component.
    pub pubsub: String,
    /// Topic.
    pub topic: String,
}

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
    /// What is published.
    #[serde(default)]
    pub payload: PayloadForm,
    /// Which components it may go to.
    #[serde(default)]
    pub component: ComponentCheck,
    /// What the topic is; absent: what its component says on this node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<ClassName>,
}

/// What a topic is, see [`Class`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClassName {
    /// Kept until it is acknowledged.
    Durable,
    /// For whoever listens.
    Ephemeral,
    /// The same, and the last event for who comes later.
    Latched,
}

impl From<ClassName> for Class {
    fn from(name: ClassName) -> Self {
        match name {
            ClassName::Durable => Self::Durable,
            ClassName::Ephemeral => Self::Ephemeral,
            ClassName::Latched => Self::Latched,
        }
    }
}

/// What a publish of an operator becomes.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PayloadForm {
    /// A CloudEvent, as applications with Dapr's subscriptions expect it.
    #[default]
    Wrapped,
    /// The data as it is.
    Raw,
}

/// Which component a publish, or a reader, of an operator may name.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ComponentCheck {
    /// One with Ghostlight's own topics that this node knows.
    #[default]
    Known,
    /// Any.
    Any,
}

/// Answer to `publish`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PublishedView {
    /// Log of the topic.
    pub number: u16,
    /// The event's offset there; of an ephemeral topic, its place among this node's events of the
    /// topic.
    pub offset: u64,
    /// Of an ephemeral topic: to whom it was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent: Option<SentView>,
}

/// To whom an event was sent, as far as the node knows that took it. Whether they get it nobody
/// says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SentView {
    /// Other nodes.
    pub nodes: usize,
    /// Subscribers.
    pub subscribers: u64,
}

/// Answer to an order: how much it has changed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ChangedView {
    /// Logs, or letters.
    pub changed: usize,
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
            let after = match parameter(query, "after").as_deref().map(letter) {
                Some(None) => return Ok(wrong("after is a letter such as 3/17")),
                after => after.flatten(),
            };
            let limit = match parameter(query, "limit").map(|limit| limit.parse()) {
                Some(Err(_)) => return Ok(wrong("limit is a number of letters")),
                limit => limit.and_then(Result::ok).unwrap_or(LETTERS_PAGE_MAX),
            };
            let views = handle.dead_letters(&name, group, after, limit).await?;
            Ok(json(StatusCode::OK, &views))
        }
        ["dead-letters", pubsub, topic, group, number, offset] => {
            let name = name(context, pubsub, topic)?;
            let Some((number, offset)) = letter(&format!("{number}/{offset}")) else {
                return Ok(wrong(
                    "a letter is named by its log and offset, such as 3/17",
                ));
            };
            let place = name.partition(number);
            match handle.dead_letter(&place, group, offset).await? {
                Some(view) => Ok(json(StatusCode::OK, &view)),
                None => Err(Refusal::no_letter(&name, group, (number, offset))),
            }
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
                    let text = "seek needs \"to\": \"first\", \"last\", {\"time_ms\": …} or {\"offset\": {\"number\": 3, \
                                \"offset\": 17}}";
                    return Err(Answer::of(Code::InvalidArgument, text).into());
                }
            };
            let changed = handle.change_group(&name, &said.group, change).await?;
            Ok(json(StatusCode::OK, &ChangedView { changed }))
        }
        ["topics", "delete"] => {
            let said: TopicOrder = body(request).await?;
            let name = name(context, &said.pubsub, &said.topic)?;
            let changed = handle.delete_topic(&name).await?;
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
            let changed = handle
                .redrive(&name, &said.group, said.letters.as_deref(), to)
                .await?;
            Ok(json(StatusCode::OK, &ChangedView { changed }))
        }
        ["publish"] => publish(context, body(request).await?).await,
        ["subscribe", "taken"] => Ok(readers::taken(&context.readers, &body(request).await?)?),
        _ => Ok(no_path()),
    }
}

async fn publish(context: &Context, said: PublishOrder) -> Result<Response, Failed> {
    let topic = name(context, &said.pubsub, &said.topic)?;
    known(context, &said.pubsub, said.component)?;
    let data = STANDARD.decode(&said.data_base64).map_err(|error| {
        Answer::of(
            Code::InvalidArgument,
            format!("data_base64 is not base64: {error}"),
        )
    })?;
    let keep = match class(context, &said.pubsub, &said.topic, said.class) {
        Class::Durable => None,
        Class::Ephemeral => Some(Keep::Nothing),
        Class::Latched => Some(Keep::LastValue),
    };
    let publish = Publish {
        topic,
        dedup: said.id.clone().map(Bytes::from),
        name: None,
        event: event(context, said, data)?,
        ttl: None,
        timeout: Some(PUBLISH_WAIT_MAX),
        retention: None,
    };
    if let Some(keep) = keep {
        let sent = context.handle.ephemeral(keep).send(publish);
        let sent = sent.map_err(|refusal| Refusal::from(PublishOutcome::NotRun(refusal)))?;
        let view = PublishedView {
            number: 0,
            offset: sent.number,
            sent: Some(SentView {
                nodes: sent.nodes,
                subscribers: sent.subscribers,
            }),
        };
        return Ok(json(StatusCode::OK, &view));
    }
    match context.handle.publish(publish).await {
        PublishOutcome::Done(Some(published)) => Ok(json(
            StatusCode::OK,
            &PublishedView {
                number: published.partition,
                offset: published.offset,
                sent: None,
            },
        )),
        other => Err(Refusal::from(other).into()),
    }
}

/// What a topic is: what was said, else what its component says here.
fn class(context: &Context, pubsub: &str, topic: &str, said: Option<ClassName>) -> Class {
    let mut registries = context.pubsubs().map(|one| one.registry());
    let mut component = registries.find_map(|registry| registry.get(pubsub).cloned());
    let declared = || {
        let component = component.take();
        component.map_or(Class::Durable, |component| component.classes.of(topic))
    };
    said.map_or_else(declared, Class::from)
}

/// A component that no application here has with topics of ours is most often a slip.
fn known(context: &Context, pubsub: &str, check: ComponentCheck) -> Result<(), Answer> {
    let registries: Vec<_> = context.pubsubs().map(|one| one.registry()).collect();
    let all = registries.iter().flat_map(|registry| registry.all());
    let ours = all.filter(|component| component.server == Server::Ghostlight);
    let names: BTreeSet<&str> = ours.map(|component| component.name.as_str()).collect();
    if check == ComponentCheck::Any || names.contains(pubsub) {
        return Ok(());
    }
    let names: Vec<&str> = names.into_iter().collect();
    let has = match names.is_empty() {
        true => "none".to_owned(),
        false => names.join(", "),
    };
    let text = format!(
        "this node has no component {pubsub:?} with Ghostlight's own topics; it has: {has}. If another node has it, say \
         --force"
    );
    Err(Answer::of(Code::InvalidArgument, text))
}

/// As an application's publish would make it, so that applications can read it; or the data alone.
fn event(context: &Context, said: PublishOrder, data: Vec<u8>) -> Result<Event, Answer> {
    let source = context.name.clone();
    let (data, content_type) = match said.payload {
        PayloadForm::Raw => (data.into(), said.content_type),
        PayloadForm::Wrapped => {
            let place = Place {
                pubsub: &said.pubsub,
                topic: &said.topic,
                source: &source,
            };
            let body = envelope::Body {
                data: &data,
                content_type: match said.content_type.as_str() {
                    "" if serde_json::from_slice::<IgnoredAny>(&data).is_ok() => "application/json",
                    content_type => content_type,
                },
            };
            let none = Metadata::new();
            let fresh = stamp();
            let stamp = Stamp {
                id: said.id.clone().unwrap_or(fresh.id),
                ..fresh
            };
            let made = Envelope::of(body, place, Trace::default(), &none, stamp);
            let envelope =
                made.map_err(|why| Answer::of(Code::InvalidArgument, why.to_string()))?;
            (envelope.to_bytes(), CLOUD_EVENT.to_owned())
        }
    };
    Ok(Event {
        key: said.key,
        data,
        content_type,
        source,
        ..Event::default()
    })
}

/// Lines of JSON until the client has gone.
async fn subscribe(context: &Context, pubsub: &str, topic: &str, query: &str) -> Response {
    let topic = match name(context, pubsub, topic) {
        Ok(topic) => topic,
        Err(refusal) => return told(refusal),
    };
    let check = match parameter(query, "component").as_deref() {
        None | Some("known") => ComponentCheck::Known,
        Some("any") => ComponentCheck::Any,
        Some(_) => return wrong("component is known or any"),
    };
    if let Err(answer) = known(context, topic.pubsub(), check) {
        return answer.into_response();
    }
    let said = match parameter(query, "class").as_deref() {
        None => None,
        Some("durable") => Some(ClassName::Durable),
        Some("ephemeral" | "latched") => Some(ClassName::Ephemeral),
        Some(_) => return wrong("class is durable, ephemeral or latched"),
    };
    if class(context, topic.pubsub(), topic.topic(), said) != Class::Durable {
        return subscribe_ephemeral(context, topic, query).await;
    }
    let mut wanted = Subscribe::new(topic, "");
    let acks = match parameter(query, "group") {
        Some(group) => {
            wanted.group = Group::Shared(group);
            // Whoever looks at a group of an application does not change how it is served.
            wanted.existing = Existing::Leave;
            Acks::Said
        }
        None => {
            wanted.group = Group::EachNode(format!("watch-{:016x}", rand::random::<u64>()));
            wanted.start = Start::Last;
            Acks::Assumed
        }
    };
    let mut shown = Shown::All;
    match parameter(query, "from").as_deref().map(position) {
        None => {}
        Some(Some(Position::First)) => wanted.start = Start::First,
        Some(Some(Position::Last)) => wanted.start = Start::Last,
        Some(Some(Position::TimeMs(ms))) => wanted.start = Start::Time(WallTime(ms)),
        Some(Some(Position::Offset { number, offset })) if acks == Acks::Assumed => {
            wanted.start = Start::First;
            shown = Shown::From { number, offset };
        }
        Some(Some(Position::Offset { .. })) => {
            return wrong(
                "a group goes on where it stands: an offset is for subscribers without one. \
                 \"ghostlight subscriptions seek\" moves a group",
            );
        }
        Some(None) => {
            return wrong(
                "from is first, last, an offset of one log such as 3/17, or milliseconds with ms behind them",
            );
        }
    }
    match context.handle.subscribe(wanted).await {
        Ok(subscription) => readers::stream(&context.readers, subscription, shown, acks),
        Err(error) => told(Refusal {
            code: error.code,
            detail: error.detail,
        }),
    }
}

/// The same of a topic that keeps nothing: no groups, and no past.
async fn subscribe_ephemeral(context: &Context, topic: TopicName, query: &str) -> Response {
    if parameter(query, "group").is_some() || parameter(query, "from").is_some() {
        return told(Refusal {
            code: Code::EphemeralTopic,
            detail: format!(
                "{topic} is ephemeral: each event goes to every subscriber that is there, and none is kept. Subscribe \
                 without a group and without a place to begin at"
            ),
        });
    }
    let bus = context.handle.ephemeral(Keep::Nothing);
    match bus.subscribe(Subscribe::new(topic, "")).await {
        Ok(subscription) => {
            readers::stream(&context.readers, subscription, Shown::All, Acks::Assumed)
        }
        Err(SubscribeError { code, detail }) => told(Refusal { code, detail }),
    }
}

fn wrong(detail: &str) -> Response {
    told(Refusal {
        code: Code::InvalidArgument,
        detail: detail.to_owned(),
    })
}

/// A log of a topic and an offset in it, such as `3/17`.
fn letter(text: &str) -> Option<(u16, u64)> {
    let (number, offset) = text.split_once('/')?;
    let number = number.parse().ok().filter(|n| *n < TOPIC_PARTITIONS)?;
    Some((number, offset.parse().ok()?))
}

/// `first`, `last`, `3/17` or `1700000000000ms`.
fn position(text: &str) -> Option<Position> {
    match text {
        "first" => Some(Position::First),
        "last" => Some(Position::Last),
        _ => match text.strip_suffix("ms") {
            Some(ms) => ms.parse().ok().map(Position::TimeMs),
            None => {
                let (number, offset) = letter(text)?;
                Some(Position::Offset { number, offset })
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
