//! Ghostlight's own topics: `NodeHandle` as a bus.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use ghostlight_core::topics::subscribers::{SharedWith, Subscribing};
use ghostlight_protocol::code::Code;
use ghostlight_protocol::command::IfThere;
use ghostlight_protocol::limits::{
    EVENT_HEADER_BYTES_MAX, EVENT_NAME_BYTES, PUBLISH_EVENTS_MAX, REQUEST_BODY_BYTES_MAX,
};
use ghostlight_protocol::outcome::{CallOutcome, NotRun};
use ghostlight_protocol::topic::{
    Attribute, GroupSettings, PublishBody, PublishReply, Reply, Request, StartFrom, TopicEvent,
    TopicName, TopicPartition, TopicReply, TopicRequest, event_name,
};
use prost::Message;

use super::{
    BulkPublish, Bus, BusFuture, Event, EventName, Existing, Feature, Group, Publish,
    PublishOutcome, Published, Retention, Start, Subscribe, SubscribeError, Subscription,
    TurnMessage,
};
use crate::clock::wall_now;
use crate::handle::{Invoke, NodeHandle};

/// Bytes of the events of one append; the rest of its body is for what stands around them.
const BATCH_BYTES: usize = REQUEST_BODY_BYTES_MAX - 16 * 1_024;
/// What an event takes beside itself, with its name.
const EVENT_FRAME_BYTES: usize = 8 + EVENT_NAME_BYTES + 2;
/// Method of every call to a topic partition.
const METHOD: &str = "topic";
/// Method of a message to one; says nothing.
const MESSAGE: &str = "publish";

impl NodeHandle {
    /// Publishes one event to a topic of this cluster. `Done` means that it is on disk on a
    /// majority.
    pub async fn publish(&self, publish: Publish) -> PublishOutcome {
        let now = wall_now().0;
        let topic = partition_of(&publish.topic, &publish.event);
        let event = Named {
            name: publish.name.as_ref().map_or_else(Bytes::new, travelling),
            event: stored(publish.event, publish.ttl, now),
        };
        let body = body(vec![event], publish.retention);
        let outcome = self
            .append(topic, body, publish.dedup, publish.timeout)
            .await;
        outcome.map_or_else(|refused| refused, |reply| done(&reply, 0))
    }

    /// Publishes several: one append for each topic partition and each 4,096 events or 4 MiB there,
    /// each all or nothing. Outcomes come in the order of the entries.
    pub async fn bulk_publish(&self, bulk: BulkPublish) -> Vec<PublishOutcome> {
        let now = wall_now().0;
        let mut parts: BTreeMap<u16, (TopicPartition, Vec<usize>, Vec<Named>)> = BTreeMap::new();
        let entries = bulk.entries.len();
        for (place, entry) in bulk.entries.into_iter().enumerate() {
            let topic = partition_of(&bulk.topic, &entry.event);
            let part = parts
                .entry(topic.number)
                .or_insert_with(|| (topic, Vec::new(), Vec::new()));
            part.1.push(place);
            part.2.push(Named {
                name: entry.name.as_ref().map_or_else(Bytes::new, travelling),
                event: stored(entry.event, entry.ttl, now),
            });
        }
        let appends = parts
            .into_values()
            .map(|(topic, places, events)| async move {
                let outcomes = self.append_all(&topic, events, bulk.retention, bulk.timeout);
                (places, outcomes.await)
            });
        let mut outcomes: Vec<Option<PublishOutcome>> = vec![None; entries];
        for (places, appended) in join_all(appends).await {
            for (place, outcome) in places.into_iter().zip(appended) {
                outcomes[place] = Some(outcome);
            }
        }
        // Every entry is in one part.
        outcomes.into_iter().flatten().collect()
    }

    /// As many appends as the events need, one after the other: behind one that fails nothing is
    /// appended, so that no event overtakes another.
    async fn append_all(
        &self,
        topic: &TopicPartition,
        events: Vec<Named>,
        retention: Option<Retention>,
        timeout: Option<Duration>,
    ) -> Vec<PublishOutcome> {
        let mut outcomes = Vec::with_capacity(events.len());
        let mut failed: Option<PublishOutcome> = None;
        for batch in batches(events) {
            let count = batch.len();
            if let Some(before) = &failed {
                outcomes.extend((0..count).map(|_| not_begun(before)));
                continue;
            }
            match self
                .append(topic.clone(), body(batch, retention), None, timeout)
                .await
            {
                Ok(reply) => {
                    outcomes.extend((0..count).map(|place| done(&reply, place)));
                }
                Err(refused) => {
                    outcomes.extend((0..count).map(|_| refused.clone()));
                    failed = Some(refused);
                }
            }
        }
        outcomes
    }

    /// Subscribes to a topic of this cluster. Resolves when the group exists in every topic
    /// partition: what is published after that is delivered.
    ///
    /// # Errors
    /// A topic partition without a leader for 15 s, or a name that cannot be; nothing is left of
    /// it.
    pub async fn subscribe(&self, subscribe: Subscribe) -> Result<Subscription, SubscribeError> {
        let wants = wants(&subscribe);
        let events = subscribe.credits.events.max(1);
        self.begin_subscription(wants, events).await
    }

    async fn append(
        &self,
        topic: TopicPartition,
        body: PublishBody,
        dedup: Option<Bytes>,
        timeout: Option<Duration>,
    ) -> Result<PublishReply, PublishOutcome> {
        let request = Request::Publish(body);
        match self.topic_call(topic.key(), request, dedup, timeout).await {
            Ok(Reply::Published(reply)) => Ok(reply),
            Ok(_) => Err(not_understood()),
            Err(outcome) => Err(outcome),
        }
    }

    /// Asks the leader of a topic partition, or of a partition for its topics.
    pub(crate) async fn topic_call(
        &self,
        key: ghostlight_protocol::actor::ActorKey,
        request: Request,
        request_id: Option<Bytes>,
        timeout: Option<Duration>,
    ) -> Result<Reply, PublishOutcome> {
        let body = TopicRequest {
            request: Some(request),
        };
        let call = Invoke {
            actor: key,
            method: METHOD.to_owned(),
            body: body.encode_to_vec().into(),
            request_id,
            timeout,
            metadata: Vec::new(),
        };
        match self.invoke(call).await {
            CallOutcome::Reply(reply) => {
                let reply = TopicReply::decode(reply).ok().and_then(|reply| reply.reply);
                reply.ok_or_else(not_understood)
            }
            CallOutcome::NotRun(refusal) => Err(PublishOutcome::NotRun(refusal)),
            CallOutcome::Unknown { code, detail } => Err(PublishOutcome::Unknown { code, detail }),
            CallOutcome::App(_) | CallOutcome::AppReply(_) => Err(not_understood()),
        }
    }
}

impl Bus for NodeHandle {
    fn publish(&self, publish: Publish) -> BusFuture<'_, PublishOutcome> {
        Box::pin(Self::publish(self, publish))
    }

    fn bulk_publish(&self, bulk: BulkPublish) -> BusFuture<'_, Vec<PublishOutcome>> {
        Box::pin(Self::bulk_publish(self, bulk))
    }

    fn subscribe(
        &self,
        subscribe: Subscribe,
    ) -> BusFuture<'_, Result<Subscription, SubscribeError>> {
        Box::pin(Self::subscribe(self, subscribe))
    }

    fn message(&self, publish: Publish) -> Option<Result<TurnMessage, String>> {
        Some(message(publish, wall_now().0))
    }

    fn features(&self) -> &'static [Feature] {
        &[
            Feature::MessageTtl,
            Feature::BulkPublish,
            Feature::Redelivery,
            Feature::Forward,
        ]
    }
}

/// What an append would be asked for, as a message to the log.
fn message(publish: Publish, now_ms: u64) -> Result<TurnMessage, String> {
    let topic = partition_of(&publish.topic, &publish.event);
    let event = stored(publish.event, publish.ttl, now_ms);
    let header = event.encoded_len() - event.data.len();
    if header > EVENT_HEADER_BYTES_MAX {
        return Err(format!(
            "key, attributes and the like of an event have {header} bytes, at most {EVENT_HEADER_BYTES_MAX} are \
             allowed; put more into its data"
        ));
    }
    let name = publish.name.as_ref().map_or_else(Bytes::new, travelling);
    let body = body(vec![Named { name, event }], publish.retention);
    Ok(TurnMessage {
        to: topic.key(),
        method: MESSAGE.to_owned(),
        body: body.encode_to_vec().into(),
    })
}

fn partition_of(topic: &TopicName, event: &Event) -> TopicPartition {
    topic.partition_for(event.key.as_ref().unwrap_or(&event.source).as_bytes())
}

/// An event as it is stored, and its name as it travels; empty: none.
#[derive(Clone, Debug)]
struct Named {
    name: Bytes,
    event: TopicEvent,
}

fn travelling(name: &EventName) -> Bytes {
    event_name(&name.source, &name.id)
}

fn body(named: Vec<Named>, retention: Option<Retention>) -> PublishBody {
    let nameless = named.iter().all(|named| named.name.is_empty());
    let (mut names, events): (Vec<_>, _) = named
        .into_iter()
        .map(|named| (named.name, named.event))
        .unzip();
    if nameless {
        names.clear();
    }
    PublishBody {
        events,
        names,
        retention_ms: retention.map_or(0, |kept| millis(kept.age).max(1)),
        retention_bytes: retention.map_or(0, |kept| kept.bytes.max(1)),
    }
}

/// Events as one append takes them; what is too large by itself stands alone, and is refused.
fn batches(events: Vec<Named>) -> Vec<Vec<Named>> {
    let mut batches: Vec<Vec<Named>> = Vec::new();
    let mut bytes = 0;
    for event in events {
        let size = event.event.encoded_len() + EVENT_FRAME_BYTES;
        match batches.last_mut() {
            Some(batch) if batch.len() < PUBLISH_EVENTS_MAX && bytes + size <= BATCH_BYTES => {
                bytes += size;
                batch.push(event);
            }
            _ => {
                bytes = size;
                batches.push(vec![event]);
            }
        }
    }
    batches
}

/// What becomes of events behind an append that failed.
fn not_begun(before: &PublishOutcome) -> PublishOutcome {
    match before {
        PublishOutcome::NotRun(refusal) => PublishOutcome::NotRun(refusal.clone()),
        PublishOutcome::Unknown { .. } | PublishOutcome::Done(_) => {
            let detail = "the events before it may or may not be published, and it does not overtake them. Publish \
                          it again behind them";
            let pause = Duration::from_millis(100);
            PublishOutcome::NotRun(NotRun::retry(Code::TopicBusy, detail, pause))
        }
    }
}

/// The event as it is stored, and as it travels.
pub(crate) fn stored(event: Event, ttl: Option<Duration>, now_ms: u64) -> TopicEvent {
    let attributes = event.attributes.into_iter();
    TopicEvent {
        key: event.key.map(Bytes::from),
        data: event.data,
        content_type: event.content_type,
        attributes: attributes
            .map(|(name, value)| Attribute { name, value })
            .collect(),
        published_ms: now_ms,
        expires_ms: ttl.map_or(0, |ttl| now_ms.saturating_add(millis(ttl)).max(1)),
        source: event.source,
        only_group: String::new(),
    }
}

/// The event as its publisher gave it.
pub(crate) fn given(event: TopicEvent) -> Event {
    let attributes = event.attributes.into_iter();
    Event {
        key: event
            .key
            .map(|key| String::from_utf8_lossy(&key).into_owned()),
        data: event.data,
        content_type: event.content_type,
        source: event.source,
        attributes: attributes
            .map(|attribute| (attribute.name, attribute.value))
            .collect(),
    }
}

fn wants(subscribe: &Subscribe) -> Subscribing {
    let (start, start_ms) = match subscribe.start {
        Start::First => (StartFrom::First, 0),
        Start::Last => (StartFrom::Last, 0),
        Start::Time(time) => (StartFrom::Time, time.0),
    };
    let (least, most) = subscribe.retry_pauses.unwrap_or_default();
    Subscribing {
        topic: subscribe.topic.clone(),
        group: match &subscribe.group {
            Group::Shared(name) => SharedWith::Cluster(name.clone()),
            Group::EachNode(name) => SharedWith::Node(name.clone()),
        },
        settings: GroupSettings {
            start: start as i32,
            start_ms,
            order: subscribe.order as i32,
            max_deliver: subscribe.max_deliver.unwrap_or(0),
            dead_letter_topic: subscribe.dead_letter_topic.clone().unwrap_or_default(),
            retry_pause_ms: millis(least),
            retry_pause_max_ms: millis(most),
            idle_ms: 0,
            purpose: subscribe.purpose as i32,
        },
        if_there: match subscribe.existing {
            Existing::Change => IfThere::Replace,
            Existing::Leave => IfThere::Skip,
        },
        credit_events: subscribe.credits.events.max(1),
        credit_bytes: subscribe.credits.bytes.max(1),
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX >> 2)
}

/// The event at this place of a publish stands where the reply says.
fn done(reply: &PublishReply, place: usize) -> PublishOutcome {
    PublishOutcome::Done(Some(Published {
        partition: u16::try_from(reply.number).unwrap_or(u16::MAX),
        offset: reply.offset(place),
    }))
}

fn not_understood() -> PublishOutcome {
    PublishOutcome::Unknown {
        code: Code::ProtocolMismatch,
        detail:
            "the leader's answer is not understood; it may have done what was asked. Run the same \
                 version everywhere"
                .to_owned(),
    }
}

/// The refusal of a node that has ended.
pub(crate) fn ended() -> SubscribeError {
    let refusal = NotRun::new(Code::ShuttingDown, "this node is ending. Ask another node");
    SubscribeError {
        code: refusal.code,
        detail: refusal.detail,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(bytes: usize) -> Named {
        Named {
            name: Bytes::from_static(&[7; EVENT_NAME_BYTES]),
            event: TopicEvent {
                data: vec![7; bytes].into(),
                ..TopicEvent::default()
            },
        }
    }

    #[test]
    fn a_bulk_is_cut_into_what_one_append_takes() {
        let big = REQUEST_BODY_BYTES_MAX / 3;
        for (events, wanted) in [
            (vec![event(1); 3], vec![3]),
            (
                vec![event(1); PUBLISH_EVENTS_MAX + 1],
                vec![PUBLISH_EVENTS_MAX, 1],
            ),
            (vec![event(big); 5], vec![2, 2, 1]),
            (
                vec![event(1), event(REQUEST_BODY_BYTES_MAX), event(1)],
                vec![1, 1, 1],
            ),
            (Vec::new(), vec![]),
        ] {
            let batches = batches(events);
            let lengths: Vec<usize> = batches.iter().map(Vec::len).collect();
            assert_eq!(lengths, wanted);
            let fits = |batch: &Vec<Named>| {
                batch.len() == 1
                    || body(batch.clone(), None).encoded_len() <= REQUEST_BODY_BYTES_MAX
            };
            assert!(batches.iter().all(fits));
        }
    }

    #[test]
    fn nothing_is_appended_behind_what_may_not_be_there() {
        let unknown = not_understood();
        let PublishOutcome::NotRun(refusal) = not_begun(&unknown) else {
            panic!("certainly not run")
        };
        assert_eq!(refusal.code, Code::TopicBusy);
    }
}
