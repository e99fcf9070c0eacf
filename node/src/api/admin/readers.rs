//! Events of a topic as lines of JSON, for one reader at a time: `GET subscribe/PUBSUB/TOPIC` and
//! `POST subscribe/taken`.
//!
//! A reader of a group says how many lines it has really got; only then are their events
//! acknowledged. So what is in a socket's buffer, or in a reader that is frozen, is lost to nobody:
//! when the stream ends it goes to others, and counts as no delivery. A reader without a group has
//! a cursor of its own, and says nothing. Absent: verdicts other than the ack.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::stream;
use ghostlight_protocol::code::Code;
use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::super::error_map::Answer;
use super::super::json;
use super::topics::ChangedView;
use crate::pubsub::envelope::{CLOUD_EVENT, Envelope, media_type};
use crate::topics::{Delivery, Subscription};

/// Header with the name of a reader, for what it says of its lines.
pub const READER_HEADER: &str = "ghostlight-reader";
/// Lines that a reader of a group may have without having said so.
pub const UNTAKEN_MAX: usize = 64;
/// A stream that has nothing to say says an empty line so often.
pub const SIGN_OF_LIFE: Duration = Duration::from_secs(5);

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
    /// Events before it, since the line before, that are lost; of ephemeral topics alone.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub missed: u64,
    /// Its key; absent: none.
    pub key: Option<String>,
    /// Who published it.
    pub source: String,
    /// Its media type.
    pub content_type: String,
    /// What it says, as far as it is text: of an event with an envelope the data in it.
    pub text: String,
    /// Its bytes, the envelope included.
    pub data_base64: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde asks for")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Body of `subscribe/taken`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Taken {
    /// Value of [`READER_HEADER`].
    pub reader: String,
    /// Lines that it has got since its stream began, empty ones left out.
    pub lines: u64,
}

/// Which events of a subscription are shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Shown {
    All,
    /// Those of one log, from an offset on.
    From {
        number: u16,
        offset: u64,
    },
}

/// Who says which lines were taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Acks {
    /// The reader.
    Said,
    /// Nobody: a line counts as taken when the next one is asked for.
    Assumed,
}

/// The readers of this process.
#[derive(Debug, Default)]
pub struct Readers(Mutex<BTreeMap<String, Arc<Reader>>>);

#[derive(Debug, Default)]
struct Reader {
    untaken: Mutex<Untaken>,
    /// Some were taken.
    moved: Notify,
}

#[derive(Debug, Default)]
struct Untaken {
    /// Lines that were taken.
    taken: u64,
    /// Those after it, in order.
    deliveries: VecDeque<Delivery>,
}

fn lock<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Reader {
    /// Acknowledges the lines up to this one; how many were not before.
    fn take(&self, lines: u64) -> usize {
        let mut untaken = lock(&self.untaken);
        let new = lines.saturating_sub(untaken.taken);
        let new = usize::try_from(new).unwrap_or(usize::MAX);
        let new = new.min(untaken.deliveries.len());
        untaken.taken += new as u64;
        let taken: Vec<Delivery> = untaken.deliveries.drain(..new).collect();
        drop(untaken);
        taken.into_iter().for_each(Delivery::ack);
        self.moved.notify_one();
        new
    }

    async fn room(&self) {
        while lock(&self.untaken).deliveries.len() >= UNTAKEN_MAX {
            self.moved.notified().await;
        }
    }
}

/// A stream's end of its reader. The subscription goes first: what was not taken is given back.
struct Streaming {
    subscription: Subscription,
    reader: Arc<Reader>,
    _listed: Listed,
    shown: Shown,
    acks: Acks,
}

struct Listed {
    readers: Arc<Readers>,
    name: String,
}

impl Drop for Listed {
    fn drop(&mut self) {
        lock(&self.readers.0).remove(&self.name);
    }
}

/// The answer that is a stream.
pub(super) fn stream(
    readers: &Arc<Readers>,
    subscription: Subscription,
    shown: Shown,
    acks: Acks,
) -> Response {
    let name = format!("{:032x}", rand::random::<u128>());
    let reader = Arc::new(Reader::default());
    lock(&readers.0).insert(name.clone(), Arc::clone(&reader));
    let streaming = Streaming {
        subscription,
        reader,
        _listed: Listed {
            readers: Arc::clone(readers),
            name: name.clone(),
        },
        shown,
        acks,
    };
    let lines = stream::unfold(streaming, |mut streaming| async {
        let line: Result<Bytes, Infallible> = Ok(streaming.next().await?);
        Some((line, streaming))
    });
    let mut response = Response::new(Body::from_stream(lines));
    let headers = response.headers_mut();
    let kind = HeaderValue::from_static("application/x-ndjson");
    headers.insert(CONTENT_TYPE, kind);
    if let Ok(name) = name.parse() {
        headers.insert(READER_HEADER, name);
    }
    response
}

/// What a reader says of its lines.
pub(super) fn taken(readers: &Readers, said: &Taken) -> Result<Response, Answer> {
    let reader = lock(&readers.0).get(&said.reader).cloned();
    let Some(reader) = reader else {
        let text =
            "this reader's stream has ended: what it did not acknowledge before goes to others";
        return Err(Answer::of(Code::InvalidArgument, text));
    };
    let changed = reader.take(said.lines);
    Ok(json(StatusCode::OK, &ChangedView { changed }))
}

impl Streaming {
    async fn next(&mut self) -> Option<Bytes> {
        if self.acks == Acks::Assumed {
            self.reader.take(u64::MAX);
        }
        let delivery = tokio::select! {
            delivery = shown(&self.reader, &mut self.subscription, self.shown) => delivery?,
            () = tokio::time::sleep(SIGN_OF_LIFE) => return Some(Bytes::from_static(b"\n")),
        };
        let mut line = serde_json::to_vec(&view(&delivery)).expect("views have string keys");
        line.push(b'\n');
        lock(&self.reader.untaken).deliveries.push_back(delivery);
        Some(line.into())
    }
}

async fn shown(reader: &Reader, subscription: &mut Subscription, shown: Shown) -> Option<Delivery> {
    reader.room().await;
    loop {
        let delivery = subscription.next().await?;
        match shown {
            Shown::From { number, offset }
                if delivery.partition != number || delivery.offset < offset =>
            {
                delivery.ack();
            }
            Shown::All | Shown::From { .. } => return Some(delivery),
        }
    }
}

fn view(delivery: &Delivery) -> EventView {
    let event = &delivery.event;
    let envelope = (media_type(&event.content_type) == CLOUD_EVENT)
        .then(|| Envelope::parse(&event.data).ok())
        .flatten();
    let said = envelope.and_then(|envelope| envelope.payload().ok());
    let said = said.unwrap_or_else(|| event.data.clone());
    EventView {
        number: delivery.partition,
        offset: delivery.offset,
        attempt: delivery.attempt,
        published_ms: delivery.published.0,
        missed: delivery.missed,
        key: event.key.clone(),
        source: event.source.clone(),
        content_type: event.content_type.clone(),
        text: String::from_utf8_lossy(&said).into_owned(),
        data_base64: STANDARD.encode(&event.data),
    }
}

#[cfg(test)]
mod tests {
    use ghostlight_protocol::time::WallTime;
    use http_body_util::BodyExt as _;
    use tokio::sync::mpsc;

    use super::*;
    use crate::topics::{Content, Event, Settlement, SubscriptionFeed, TopicName, Verdict};

    fn feed(count: u64) -> (SubscriptionFeed, Subscription, mpsc::Receiver<Settlement>) {
        let (feed, subscription, settled) = Subscription::channel(200);
        for token in 0..count {
            let content = Content {
                topic: TopicName::new("default", "pubsub", "orders").unwrap(),
                partition: u16::from(token % 2 == 1),
                offset: token,
                attempt: 1,
                published: WallTime(5),
                event: Event {
                    data: Bytes::from(token.to_string()),
                    ..Event::default()
                },
            };
            feed.deliver(token, content).unwrap();
        }
        (feed, subscription, settled)
    }

    fn verdicts(settled: &mut mpsc::Receiver<Settlement>) -> Vec<(u64, Verdict)> {
        let mut found = Vec::new();
        while let Ok(Settlement { token, verdict }) = settled.try_recv() {
            found.push((token, verdict));
        }
        found.sort_by_key(|(token, _)| *token);
        found
    }

    /// A reader that has asked for everything, and has taken two of it.
    #[tokio::test]
    async fn only_what_a_reader_has_taken_is_acknowledged() {
        let (_feed, subscription, mut settled) = feed(100);
        let readers = Arc::new(Readers::default());
        let response = stream(&readers, subscription, Shown::All, Acks::Said);
        let name = response.headers()[READER_HEADER]
            .to_str()
            .unwrap()
            .to_owned();
        let mut body = response.into_body();
        for _ in 0..UNTAKEN_MAX {
            body.frame().await.unwrap().unwrap();
        }
        let more = tokio::time::timeout(Duration::from_millis(20), body.frame());
        assert!(more.await.is_err(), "bounded by what was not taken");
        assert_eq!(verdicts(&mut settled), []);
        let said = |lines| Taken {
            reader: name.clone(),
            lines,
        };
        taken(&readers, &said(2)).unwrap();
        taken(&readers, &said(2)).unwrap();
        assert_eq!(
            verdicts(&mut settled),
            [(0, Verdict::Ack), (1, Verdict::Ack)]
        );
        body.frame().await.unwrap().unwrap();
        drop(body);
        let given_back = verdicts(&mut settled);
        assert_eq!(given_back.len(), 98);
        assert!(given_back.iter().all(|(_, v)| *v == Verdict::GiveBack));
        assert!(taken(&readers, &said(3)).is_err(), "its stream has ended");
    }

    #[tokio::test]
    async fn one_log_from_an_offset_on() {
        let (_feed, subscription, _settled) = feed(8);
        let readers = Arc::new(Readers::default());
        let from = Shown::From {
            number: 1,
            offset: 4,
        };
        let mut body = stream(&readers, subscription, from, Acks::Assumed).into_body();
        let mut offsets = Vec::new();
        for _ in 0..2 {
            let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
            let view: EventView = serde_json::from_slice(&frame).unwrap();
            offsets.push((view.number, view.offset));
        }
        assert_eq!(offsets, [(1, 5), (1, 7)]);
    }
}
