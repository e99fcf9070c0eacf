//! One subscription: a durable pull consumer, a reader that fetches what there is room for, and the
//! desk of verdicts.
//!
//! A failed event rests here under its lease and is then given back: the server counts its
//! deliveries, whoever gets it.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, Consumer, DeliverPolicy, pull};
use async_nats::jetstream::stream::{StorageType, Stream};
use async_nats::jetstream::{AckKind, Message};
use async_nats::{HeaderMap, RequestErrorKind, Subject};
use futures::StreamExt;
use ghostlight_protocol::time::WallTime;
use ghostlight_protocol::topic::{Order, TopicName};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::JetStream;
use super::dial::{Dialer, Line};
use super::options::{Concurrency, Options, since};
use crate::bus::SubscribeError;
use crate::event::Event;
use crate::external::{External, not_there};
use crate::keeper::Keeper;
use crate::pump::{Again, Bounds, Desk, Out, Over, Room, Taken, begin, doubling, places};
use crate::subscription::{Content, Start, Subscribe, Subscription};

/// How long a fetch waits at the server.
const FETCH_TIME: Duration = Duration::from_secs(5);
/// Pause after an answer that makes no sense of reading on at once.
const READ_PAUSE: Duration = Duration::from_millis(300);
/// Leases are renewed so many times before they would end.
const RENEWALS: u32 = 3;
/// Most events that one subscription holds.
const HELD_MAX: u32 = 1_024;
/// Pauses before redeliveries, where `backOff` says nothing.
const RESTS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));
/// Headers of the server and of its clients; all others are the publisher's words.
const OWN_HEADERS: &str = "Nats-";

/// One group on one subject.
#[derive(Clone)]
struct Place {
    keeper: Arc<Keeper<Dialer>>,
    options: Arc<Options>,
    topic: TopicName,
    config: pull::Config,
}

/// See the module.
pub(super) async fn subscribe(
    bus: &External<JetStream>,
    subscribe: Subscribe,
) -> Result<Subscription, SubscribeError> {
    let options = Arc::clone(&bus.options);
    let config = config(&options, &subscribe).map_err(not_there)?;
    let out = match (subscribe.order, options.concurrency) {
        (Order::Partition, _) => Out::OneByOne,
        (Order::Key | Order::None, Concurrency::Single) => Out::SideBySide(1),
        (Order::Key | Order::None, Concurrency::Parallel) => {
            Out::SideBySide(subscribe.credits.events.clamp(1, HELD_MAX))
        }
    };
    let place = Place {
        keeper: Arc::clone(&bus.keeper),
        options,
        topic: subscribe.topic,
        config,
    };
    let line = bus.connection().await?;
    let (stream, consumer) = place.make(&line).await.map_err(not_there)?;
    if stream.cached_info().config.storage == StorageType::Memory {
        tracing::warn!(
            topic = %place.topic,
            "its stream is in the memory of NATS: a restart of the server loses what it has acknowledged"
        );
    }
    // Of one that was there before, its own time counts.
    let lease = consumer.cached_info().config.ack_wait;
    Ok(place.begin(Bounds {
        out,
        held: out.most(),
        renewal: Some(lease / RENEWALS).filter(|time| !time.is_zero()),
        deliver: subscribe.max_deliver,
    }))
}

fn config(options: &Options, subscribe: &Subscribe) -> Result<pull::Config, String> {
    let subject = subscribe.topic.topic();
    let group = subscribe.group.name_on(&options.instance);
    let durable = match &options.durable {
        Some(name) => name.clone(),
        None => format!("{group}_{subject}"),
    };
    let deliver_policy = match (options.deliver, subscribe.start) {
        (Some(policy), _) => policy,
        (None, Start::First) => DeliverPolicy::All,
        (None, Start::Last) => DeliverPolicy::New,
        (None, Start::Time(time)) => since(time.0)?,
    };
    Ok(pull::Config {
        // A consumer's name has no dots, blanks, wildcards or slashes.
        durable_name: Some(
            durable.replace(|c: char| !c.is_alphanumeric() && c != '-' && c != '_', "_"),
        ),
        filter_subject: subject.to_owned(),
        deliver_policy,
        ack_policy: AckPolicy::Explicit,
        ack_wait: options.ack_wait,
        max_ack_pending: options.max_ack_pending,
        num_replicas: options.replicas,
        memory_storage: options.memory,
        rate_limit: options.rate_limit,
        ..pull::Config::default()
    })
}

impl Place {
    fn begin(self, bounds: Bounds) -> Subscription {
        let place = self.clone();
        begin(self, bounds, |room, taken| {
            let reader = Reader { place, room, taken };
            reader.run()
        })
    }

    /// The stream, and the group's consumer on it, made where there is none.
    async fn make(&self, line: &Line) -> Result<(Stream, Consumer<pull::Config>), String> {
        let subject = self.topic.topic();
        let name = match &self.options.stream {
            Some(name) => name.clone(),
            None => {
                let found = line.context.stream_by_subject(subject).await;
                found.map_err(|error| {
                    format!(
                        "no stream of NATS takes the subject {subject} ({error}). Make one that does"
                    )
                })?
            }
        };
        let stream = line.context.get_stream(&name).await;
        let stream = stream.map_err(|error| format!("the stream {name} of NATS: {error}"))?;
        let durable = self.config.durable_name.clone().unwrap_or_default();
        let made = stream.get_or_create_consumer(&durable, self.config.clone());
        let consumer = made
            .await
            .map_err(|error| format!("the consumer {durable} of NATS: {error}"))?;
        let theirs = &consumer.cached_info().config.filter_subject;
        if theirs != subject {
            return Err(format!(
                "the consumer {durable} of NATS is there already, and takes {theirs:?} instead of {subject:?}. \
                 Give each topic a durableName of its own, or leave it out"
            ));
        }
        Ok((stream, consumer))
    }

    /// Says something about events; how many of them it was said of.
    async fn say(&self, about: &[Subject], what: AckKind) -> usize {
        let Ok(line) = self.keeper.connection().await else {
            return 0;
        };
        let client = line.client();
        let said = async {
            for reply in about {
                client.publish(reply.clone(), what.into()).await.ok()?;
            }
            client.flush().await.ok()
        };
        tokio::select! {
            said = said => said.map_or(0, |()| about.len()),
            () = line.gone() => 0,
        }
    }
}

impl Desk for Place {
    /// Where the server hears about an event; good on every connection.
    type Handle = Subject;

    async fn settle(&mut self, over: Vec<Over<Subject>>) -> usize {
        // A stream has one way to be over.
        let over: Vec<_> = over.into_iter().map(|over| over.handle).collect();
        self.say(&over, AckKind::Ack).await
    }

    fn rest(&self, attempt: u32) -> Duration {
        let pauses = &self.options.back_off;
        let place = (attempt as usize).saturating_sub(1);
        match pauses.get(place).or(pauses.last()) {
            Some(pause) => *pause,
            None => doubling(RESTS.0, RESTS.1, attempt),
        }
    }

    async fn again(&mut self, reply: Subject, _attempt: u32) -> Again<Subject> {
        let Ok(line) = self.keeper.connection().await else {
            return Again::Later(reply);
        };
        // The server's answer says that it has the event back: what is fetched after that comes
        // after it.
        let client = line.client();
        let giving = client.request(reply.clone(), AckKind::Nak(None).into());
        let given = tokio::select! {
            answer = giving => answer.map(drop),
            () = line.gone() => return Again::Later(reply),
        };
        match given {
            Ok(()) => Again::GivenBack,
            // Its consumer has gone, and all that it lent.
            Err(error) if error.kind() == RequestErrorKind::NoResponders => Again::GivenBack,
            Err(_) => Again::Later(reply),
        }
    }

    async fn renew(&mut self, held: Vec<Subject>) {
        self.say(&held, AckKind::Progress).await;
    }

    async fn release(&mut self, held: Vec<Subject>) {
        // What nobody hears of waits until its lease has ended.
        self.say(&held, AckKind::Nak(None)).await;
    }
}

struct Reader {
    place: Place,
    room: Room,
    taken: mpsc::Sender<Taken<Subject>>,
}

impl Reader {
    /// Reads until it is ended.
    async fn run(self) {
        loop {
            let line = self.place.keeper.connected().await;
            let read = async {
                match self.place.make(&line).await {
                    Ok((_, consumer)) => self.read(&consumer).await,
                    Err(why) => why,
                }
            };
            let why = tokio::select! {
                why = read => why,
                () = line.gone() => "the connection broke".to_owned(),
            };
            tracing::debug!(topic = %self.place.topic, "reading from NATS begins again: {why}");
            tokio::time::sleep(READ_PAUSE).await;
        }
    }

    /// Reads until something is wrong.
    async fn read(&self, consumer: &Consumer<pull::Config>) -> String {
        loop {
            let mut places = places(&self.room).await;
            let fetch = consumer.batch().max_messages(places.len());
            let mut batch = match fetch.expires(FETCH_TIME).messages().await {
                Ok(batch) => batch,
                Err(error) => return error.to_string(),
            };
            while let Some(message) = batch.next().await {
                match (message, places.pop()) {
                    (Ok(message), Some(place)) => self.hand_over(message, place).await,
                    // The server gives no more than was asked for.
                    (Ok(_), None) => break,
                    (Err(error), _) => return error.to_string(),
                }
            }
        }
    }

    async fn hand_over(&self, message: Message, place: OwnedSemaphorePermit) {
        let Some(handle) = message.reply.clone() else {
            return;
        };
        let content = content(&self.place.topic, &message);
        let taken = Taken {
            handle,
            content,
            place,
        };
        // There is room for as many as there are places; a pump that has gone ends this task.
        drop(self.taken.send(taken).await);
    }
}

fn content(topic: &TopicName, message: &Message) -> Content {
    let info = message.info().ok();
    let nanos = info
        .as_ref()
        .map_or(0, |info| info.published.unix_timestamp_nanos());
    let headers = message.headers.iter().flat_map(HeaderMap::iter);
    let attributes = headers
        .map(|(name, values)| (name.to_string(), values))
        .filter(|(name, _)| !name.starts_with(OWN_HEADERS))
        .filter_map(|(name, values)| Some((name, values.first()?.to_string())));
    Content {
        topic: topic.clone(),
        partition: 0,
        offset: info.as_ref().map_or(0, |info| info.stream_sequence),
        attempt: info.map_or(1, |info| u32::try_from(info.delivered).unwrap_or(u32::MAX)),
        published: WallTime(u64::try_from(nanos / 1_000_000).unwrap_or(0)),
        event: Event {
            data: message.payload.clone(),
            attributes: attributes.collect(),
            ..Event::default()
        },
    }
}
