//! What operators see of topics, and what they change: asked of the leaders of topic partitions.
//!
//! Field names are part of the `--json` contract.

mod deletion;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::future::join_all;
use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::calendar::rfc3339;
use ghostlight_protocol::code::Code;
use ghostlight_protocol::ids::NodeId;
use ghostlight_protocol::time::WallTime;
use ghostlight_protocol::topic::{
    DeadTopicLetter, DescribeReply, DirectoryKey, GroupName, LettersPage, Nothing, Order, Page,
    Redrive, RedriveTo, Reply, Request, Seek, StartFrom, TopicName, TopicPartition,
};
use serde::{Deserialize, Serialize};

use super::PublishOutcome;
use crate::ephemeral::EphemeralView;
use crate::handle::NodeHandle;

/// How long one leader may take.
const WAIT_MAX: Duration = Duration::from_secs(4);

/// A topic.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct TopicView {
    /// Its component.
    pub pubsub: String,
    /// Its name.
    pub topic: String,
    /// What it is.
    #[serde(default)]
    pub kind: TopicKind,
    /// Events that are kept.
    pub events: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Events that were ever published.
    pub published: u64,
    /// Of an ephemeral one: subscribers on all nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscribers: Option<u64>,
    /// Of an ephemeral one: nodes that have some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<u64>,
    /// Of an ephemeral one: events that slow subscribers have lost, those of other nodes up to a
    /// second ago.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dropped: Option<u64>,
    /// Of an ephemeral one: when the value was published that the asked node keeps; absent: it
    /// keeps none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_value: Option<String>,
    /// Its groups.
    pub groups: Vec<String>,
    /// Its logs.
    pub partitions: Vec<TopicPartitionView>,
}

/// What becomes of a topic's events.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TopicKind {
    /// They are kept until they are acknowledged.
    #[default]
    Durable,
    /// They go to whoever listens.
    Ephemeral,
}

impl std::fmt::Display for TopicKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Durable => "durable",
            Self::Ephemeral => "ephemeral",
        })
    }
}

impl From<EphemeralView> for TopicView {
    fn from(view: EphemeralView) -> Self {
        Self {
            pubsub: view.pubsub,
            topic: view.topic,
            kind: TopicKind::Ephemeral,
            subscribers: Some(view.subscribers),
            nodes: Some(view.nodes),
            dropped: Some(view.dropped),
            last_value: view.last_value_ms.map(time),
            ..Self::default()
        }
    }
}

/// One log of a topic.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TopicPartitionView {
    /// Which.
    pub number: u16,
    /// Lowest offset that is kept.
    pub first: u64,
    /// Offset that the next event gets.
    pub next: u64,
    /// Bytes that are kept.
    pub bytes: u64,
    /// When the last event was appended; empty: never.
    pub last: String,
}

/// A group of subscribers of one topic.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct SubscriptionView {
    /// Its component.
    pub pubsub: String,
    /// Its topic.
    pub topic: String,
    /// Its name.
    pub group: String,
    /// Events not settled.
    pub lag: u64,
    /// Events at subscribers.
    pub in_flight: u64,
    /// Subscribers.
    pub subscribers: u64,
    /// Ids of their nodes.
    pub nodes: Vec<String>,
    /// Whether nothing is delivered.
    pub paused: bool,
    /// `key`, `none` or `partition`.
    pub order: String,
    /// Dead letters that are parked.
    pub letters: u64,
    /// Events that became dead letters.
    pub dead: u64,
    /// Deliveries of the present leaderships.
    pub delivered: u64,
    /// Of these, those that were not the first of their event.
    pub redelivered: u64,
    /// Topic that takes its dead letters; empty: they are parked.
    pub dead_letter_topic: String,
    /// Where it stands in each log.
    pub partitions: Vec<CursorView>,
}

/// A group in one log.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CursorView {
    /// Which log.
    pub number: u16,
    /// Every lower offset is settled.
    pub floor: u64,
    /// Events not settled.
    pub lag: u64,
}

/// A parked letter without its data.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LetterHead {
    /// Log of its topic.
    pub number: u16,
    /// Its offset there.
    pub offset: u64,
    /// Deliveries that failed.
    pub attempts: u32,
    /// What the last one said.
    pub reason: String,
    /// When it was given up.
    pub died: String,
    /// Who published it.
    pub source: String,
    /// Its key; empty: none.
    pub key: String,
    /// Its media type.
    pub content_type: String,
    /// Bytes of its data.
    pub bytes: usize,
}

/// A parked letter.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LetterView {
    /// What a list says of it.
    #[serde(flatten)]
    pub head: LetterHead,
    /// Its data, as far as it is text.
    pub text: String,
    /// Its data.
    pub data_base64: String,
}

/// Letters of one page at most.
pub const LETTERS_PAGE_MAX: usize = 1_000;

/// Why a question, or an order, has no answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// Which case.
    pub code: Code,
    /// What failed, why, and what to do.
    pub detail: String,
}

impl Refusal {
    /// A letter that is not there.
    #[must_use]
    pub fn no_letter(name: &TopicName, group: &str, (number, offset): (u16, u64)) -> Self {
        let topic = name.topic();
        Self {
            code: Code::UnknownTopic,
            detail: format!(
                "group {group} of {topic} has no letter {number}/{offset}, and nothing was done. \"ghostlight \
                 dead-letters list\" shows those it has"
            ),
        }
    }
}

/// Where a group is moved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SeekTo {
    /// The oldest event.
    First,
    /// Behind the newest.
    Last,
    /// The first event at or after it.
    Time(WallTime),
    /// An offset of one log.
    Offset {
        /// Which log.
        number: u16,
        /// The offset.
        offset: u64,
    },
}

/// What is done to a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// Deliver nothing.
    Pause,
    /// Deliver again.
    Resume,
    /// Move it.
    Seek(SeekTo),
    /// Forget it, its cursor and its letters.
    Delete,
}

impl From<PublishOutcome> for Refusal {
    fn from(outcome: PublishOutcome) -> Self {
        match outcome {
            PublishOutcome::NotRun(refusal) => Self {
                code: refusal.code,
                detail: refusal.detail,
            },
            PublishOutcome::Unknown { code, detail } => Self { code, detail },
            PublishOutcome::Done(_) => Self {
                code: Code::ProtocolMismatch,
                detail: "the answer is not understood. Run the same version everywhere".to_owned(),
            },
        }
    }
}

impl NodeHandle {
    /// Every topic partition of a namespace.
    async fn list_topics(
        &self,
        namespace: &str,
        partitions: u16,
    ) -> Result<Vec<DescribeReply>, Refusal> {
        let keys = DirectoryKey::all(namespace, partitions);
        let lists = keys.into_iter().map(|key| self.list_partition(key.0));
        let mut all = Vec::new();
        for list in join_all(lists).await {
            all.extend(list?);
        }
        Ok(all)
    }

    async fn list_partition(&self, key: ActorKey) -> Result<Vec<DescribeReply>, Refusal> {
        let mut all: Vec<DescribeReply> = Vec::new();
        loop {
            let after = all
                .last()
                .map(|last| last.topic.clone())
                .unwrap_or_default();
            let request = Request::List(Page { after });
            let reply = self.topic_call(key.clone(), request, None, Some(WAIT_MAX));
            let Reply::Listed(list) = reply.await? else {
                return Ok(all);
            };
            let more = list.more != 0 && !list.topics.is_empty();
            all.extend(list.topics);
            if !more {
                all.retain(|described| !is_gone(described));
                return Ok(all);
            }
        }
    }

    async fn describe_topic(&self, name: &TopicName) -> Result<Vec<DescribeReply>, Refusal> {
        let asked = name.partitions().map(|place| {
            let request = Request::Describe(Nothing {});
            self.topic_call(place.key(), request, None, Some(WAIT_MAX))
        });
        let mut all = Vec::new();
        for reply in join_all(asked).await {
            match reply.map_err(Refusal::from) {
                Ok(Reply::Described(described)) if is_gone(&described) => {}
                Ok(Reply::Described(described)) => all.push(described),
                Ok(_) => {}
                // Not every log of a topic has been used.
                Err(refusal) if refusal.code == Code::UnknownTopic => {}
                Err(refusal) => return Err(refusal),
            }
        }
        if all.is_empty() {
            return Err(Refusal {
                code: Code::UnknownTopic,
                detail: format!(
                    "{name} was never published or subscribed to. \"ghostlight topics\" lists topics"
                ),
            });
        }
        Ok(all)
    }

    /// Topics of a namespace, by name; of one component if one is named. Ephemeral ones are those
    /// that somebody subscribes to, or that keep a value here.
    ///
    /// # Errors
    /// A leader did not answer.
    pub async fn topics(
        &self,
        namespace: &str,
        partitions: u16,
        pubsub: Option<&str>,
    ) -> Result<Vec<TopicView>, Refusal> {
        let mut views = topic_views(self.list_topics(namespace, partitions).await?);
        let ephemeral = self.hub().views(namespace);
        views.extend(ephemeral.into_iter().map(TopicView::from));
        views.sort_by(|a, b| (&a.pubsub, &a.topic, a.kind).cmp(&(&b.pubsub, &b.topic, b.kind)));
        Ok(of_component(views, |view| &view.pubsub, pubsub))
    }

    /// One topic.
    ///
    /// # Errors
    /// A leader did not answer, or the topic does not exist.
    pub async fn topic(&self, name: &TopicName) -> Result<TopicView, Refusal> {
        let found = match self.describe_topic(name).await {
            Err(refusal) if refusal.code == Code::UnknownTopic => {
                return self.hub().view(name).map(TopicView::from).ok_or(refusal);
            }
            found => found?,
        };
        let views = topic_views(found);
        Ok(views.into_iter().next().unwrap_or_default())
    }

    /// Groups of a namespace.
    ///
    /// # Errors
    /// A leader did not answer.
    pub async fn subscriptions(
        &self,
        namespace: &str,
        partitions: u16,
        pubsub: Option<&str>,
    ) -> Result<Vec<SubscriptionView>, Refusal> {
        Ok(of_component(
            subscription_views(self.list_topics(namespace, partitions).await?),
            |view| &view.pubsub,
            pubsub,
        ))
    }

    /// Groups of one topic.
    ///
    /// # Errors
    /// A leader did not answer, or the topic does not exist.
    pub async fn subscriptions_of(
        &self,
        name: &TopicName,
    ) -> Result<Vec<SubscriptionView>, Refusal> {
        Ok(subscription_views(self.describe_topic(name).await?))
    }

    /// Changes a group in each log of a topic that has it.
    ///
    /// # Errors
    /// A leader did not answer, or no log has the group: what was changed before stays changed.
    pub async fn change_group(
        &self,
        name: &TopicName,
        group: &str,
        change: Change,
    ) -> Result<usize, Refusal> {
        let places = name.partitions().filter(|place| match change {
            Change::Seek(SeekTo::Offset { number, .. }) => place.number == number,
            Change::Pause | Change::Resume | Change::Delete | Change::Seek(_) => true,
        });
        let asked = places.map(|place| {
            let request = request_of(group, change);
            self.topic_call(place.key(), request, None, Some(WAIT_MAX))
        });
        let mut changed = 0;
        let mut unknown = None;
        for reply in join_all(asked).await {
            match reply.map_err(Refusal::from) {
                // Letters came while it was deleted: it keeps them.
                Ok(Reply::Group(reply)) if change == Change::Delete && reply.row.is_some() => {
                    return Err(Refusal {
                        code: Code::TopicBusy,
                        detail: format!(
                            "group {group:?} of {name} has got dead letters meanwhile, and is kept. Delete it again"
                        ),
                    });
                }
                Ok(_) => changed += 1,
                Err(refusal) if matches!(refusal.code, Code::UnknownGroup | Code::UnknownTopic) => {
                    unknown = Some(refusal);
                }
                Err(refusal) => return Err(refusal),
            }
        }
        match unknown {
            Some(_) if changed == 0 => Err(Refusal {
                code: Code::UnknownGroup,
                detail: format!(
                    "{name} has no group {group:?}. \"ghostlight subscriptions\" lists those that exist"
                ),
            }),
            _ => Ok(changed),
        }
    }

    /// Forgets a group for good: its letters, then its cursors. Subscribers of it must have gone.
    ///
    /// # Errors
    /// A leader did not answer, no log has the group, or it is in use: in some logs it may be gone.
    pub async fn delete_group(&self, name: &TopicName, group: &str) -> Result<usize, Refusal> {
        self.redrive(name, group, None, RedriveTo::Nowhere).await?;
        self.change_group(name, group, Change::Delete).await
    }

    /// Parked letters of a group behind one, in the order of logs and offsets; a page of them.
    ///
    /// # Errors
    /// A leader did not answer.
    pub async fn dead_letters(
        &self,
        name: &TopicName,
        group: &str,
        after: Option<(u16, u64)>,
        limit: usize,
    ) -> Result<Vec<LetterHead>, Refusal> {
        let limit = limit.min(LETTERS_PAGE_MAX);
        let (first, mut from) = after.map_or((0, 0), |(number, offset)| (number, offset + 1));
        let mut all = Vec::new();
        for place in name.partitions().filter(|place| place.number >= first) {
            while all.len() < limit {
                let (letters, more) = self.letters_page(&place, group, from).await?;
                from = letters.last().map_or(from, |last| last.offset + 1);
                all.extend(letters.into_iter().map(|l| letter_head(place.number, l).0));
                if !more {
                    break;
                }
            }
            from = 0;
        }
        all.truncate(limit);
        Ok(all)
    }

    /// One parked letter with its data; `None`: there is none.
    ///
    /// # Errors
    /// Its leader did not answer.
    pub async fn dead_letter(
        &self,
        place: &TopicPartition,
        group: &str,
        offset: u64,
    ) -> Result<Option<LetterView>, Refusal> {
        let (letters, _) = self.letters_page(place, group, offset).await?;
        let found = letters.into_iter().find(|letter| letter.offset == offset);
        Ok(found.map(|letter| letter_view(place.number, letter)))
    }

    /// As many as its leader puts into one answer, and whether there are more.
    async fn letters_page(
        &self,
        place: &TopicPartition,
        group: &str,
        from: u64,
    ) -> Result<(Vec<DeadTopicLetter>, bool), Refusal> {
        let request = Request::Letters(LettersPage {
            group: group.to_owned(),
            from,
        });
        let reply = self.topic_call(place.key(), request, None, Some(WAIT_MAX));
        let Reply::Letters(page) = reply.await? else {
            return Ok((Vec::new(), false));
        };
        let more = page.more != 0 && !page.letters.is_empty();
        Ok((page.letters, more))
    }

    /// Drives parked letters again, or throws them away: these, or all. Gives how many went.
    ///
    /// # Errors
    /// One of them is not there: none has gone. Or a leader did not answer: some may have.
    pub async fn redrive(
        &self,
        name: &TopicName,
        group: &str,
        letters: Option<&[(u16, u64)]>,
        to: RedriveTo,
    ) -> Result<usize, Refusal> {
        let lists = name.partitions().map(|place| async move {
            let offsets = self.letter_offsets(&place, group).await?;
            Ok::<_, Refusal>((place.number, offsets))
        });
        let mut there: BTreeMap<u16, BTreeSet<u64>> = BTreeMap::new();
        for list in join_all(lists).await {
            let (number, offsets) = list?;
            there.insert(number, offsets);
        }
        let by_log = match letters {
            None => there,
            Some(letters) => {
                named(&there, letters).map_err(|letter| Refusal::no_letter(name, group, letter))?
            }
        };
        let mut gone = 0;
        for (number, offsets) in by_log {
            let place = name.partition(number);
            let offsets: Vec<u64> = offsets.into_iter().collect();
            for offsets in offsets.chunks(ghostlight_protocol::limits::REDRIVE_LETTERS_MAX) {
                gone += self.redrive_some(&place, group, offsets, to).await?;
            }
        }
        Ok(gone)
    }

    /// Page by page, so that no letter's data is kept.
    async fn letter_offsets(
        &self,
        place: &TopicPartition,
        group: &str,
    ) -> Result<BTreeSet<u64>, Refusal> {
        let mut all: BTreeSet<u64> = BTreeSet::new();
        loop {
            let from = all.last().map_or(0, |last| last + 1);
            let (letters, more) = self.letters_page(place, group, from).await?;
            all.extend(letters.iter().map(|letter| letter.offset));
            if !more {
                return Ok(all);
            }
        }
    }

    /// A leader takes as many as one batch holds, and says how many: those that are left are named
    /// again.
    async fn redrive_some(
        &self,
        place: &TopicPartition,
        group: &str,
        offsets: &[u64],
        to: RedriveTo,
    ) -> Result<usize, Refusal> {
        let mut gone = 0;
        while gone < offsets.len() {
            let request = Request::Redrive(Redrive {
                group: group.to_owned(),
                offsets: offsets.to_vec(),
                to: to as i32,
            });
            let reply = self.topic_call(place.key(), request, None, Some(WAIT_MAX));
            let Reply::Group(reply) = reply.await? else {
                break;
            };
            if reply.taken == 0 {
                break;
            }
            gone += usize::try_from(reply.taken).unwrap_or(usize::MAX);
        }
        Ok(gone)
    }
}

/// Whether it is what is left of a deleted topic.
fn is_gone(described: &DescribeReply) -> bool {
    described.row.as_ref().is_some_and(|row| row.gone == 1)
}

/// Named letters by log; the first that is not there.
fn named(
    there: &BTreeMap<u16, BTreeSet<u64>>,
    letters: &[(u16, u64)],
) -> Result<BTreeMap<u16, BTreeSet<u64>>, (u16, u64)> {
    let mut by_log: BTreeMap<u16, BTreeSet<u64>> = BTreeMap::new();
    for (number, offset) in letters {
        let known = there.get(number).is_some_and(|log| log.contains(offset));
        if !known {
            return Err((*number, *offset));
        }
        by_log.entry(*number).or_default().insert(*offset);
    }
    Ok(by_log)
}

fn request_of(group: &str, change: Change) -> Request {
    let group = group.to_owned();
    let seek = |to: StartFrom, time_ms, offset| {
        Request::Seek(Seek {
            group: group.clone(),
            to: to as i32,
            time_ms,
            offset,
        })
    };
    match change {
        Change::Pause => Request::Pause(GroupName { group }),
        Change::Resume => Request::Resume(GroupName { group }),
        Change::Delete => Request::DeleteGroup(GroupName { group }),
        Change::Seek(SeekTo::First) => seek(StartFrom::First, 0, None),
        Change::Seek(SeekTo::Last) => seek(StartFrom::Last, 0, None),
        Change::Seek(SeekTo::Time(time)) => seek(StartFrom::Time, time.0, None),
        Change::Seek(SeekTo::Offset { offset, .. }) => seek(StartFrom::First, 0, Some(offset)),
    }
}

fn of_component<T>(views: Vec<T>, of: fn(&T) -> &String, pubsub: Option<&str>) -> Vec<T> {
    let wanted = |view: &T| pubsub.is_none_or(|pubsub| of(view) == pubsub);
    views.into_iter().filter(wanted).collect()
}

fn topic_views(found: Vec<DescribeReply>) -> Vec<TopicView> {
    let mut views: BTreeMap<TopicName, TopicView> = BTreeMap::new();
    for described in found {
        let key = ActorKey::parse(described.topic).ok();
        let Some(place) = key.and_then(|key| TopicPartition::of_key(&key)) else {
            continue;
        };
        let row = described.row.unwrap_or_default();
        let view = views
            .entry(place.name.clone())
            .or_insert_with(|| TopicView {
                pubsub: place.name.pubsub().to_owned(),
                topic: place.name.topic().to_owned(),
                ..TopicView::default()
            });
        view.events += row.next - row.first;
        view.bytes += row.bytes;
        view.published += row.next;
        view.groups
            .extend(described.groups.into_iter().map(|g| g.group));
        view.groups.sort();
        view.groups.dedup();
        view.partitions.push(TopicPartitionView {
            number: place.number,
            first: row.first,
            next: row.next,
            bytes: row.bytes,
            last: time(row.last_ms),
        });
        view.partitions.sort_by_key(|partition| partition.number);
    }
    views.into_values().collect()
}

fn subscription_views(found: Vec<DescribeReply>) -> Vec<SubscriptionView> {
    let mut views: BTreeMap<(TopicName, String), SubscriptionView> = BTreeMap::new();
    for described in found {
        let key = ActorKey::parse(described.topic).ok();
        let Some(place) = key.and_then(|key| TopicPartition::of_key(&key)) else {
            continue;
        };
        for group in described.groups {
            let row = group.row.unwrap_or_default();
            let settings = row.settings.clone().unwrap_or_default();
            let id = (place.name.clone(), group.group.clone());
            let view = views.entry(id).or_insert_with(|| SubscriptionView {
                pubsub: place.name.pubsub().to_owned(),
                topic: place.name.topic().to_owned(),
                group: group.group,
                order: match settings.order() {
                    Order::Key => "key",
                    Order::None => "none",
                    Order::Partition => "partition",
                }
                .to_owned(),
                dead_letter_topic: settings.dead_letter_topic.clone(),
                ..SubscriptionView::default()
            });
            view.lag += group.lag;
            view.in_flight += group.in_flight;
            // A subscriber is attached to every log.
            view.subscribers = view.subscribers.max(group.subscribers);
            let nodes = group.nodes.iter().filter_map(|id| NodeId::from_slice(id));
            view.nodes.extend(nodes.map(|node| format!("{node:?}")));
            view.nodes.sort();
            view.nodes.dedup();
            view.paused |= row.paused != 0;
            view.letters += row.letters;
            view.dead += row.dead;
            view.delivered += group.delivered;
            view.redelivered += group.redelivered;
            view.partitions.push(CursorView {
                number: place.number,
                floor: row.floor,
                lag: group.lag,
            });
            view.partitions.sort_by_key(|partition| partition.number);
        }
    }
    views.into_values().collect()
}

fn letter_head(number: u16, letter: DeadTopicLetter) -> (LetterHead, Bytes) {
    let event = letter.event.unwrap_or_default();
    let key = event.key.unwrap_or_default();
    let head = LetterHead {
        number,
        offset: letter.offset,
        attempts: letter.attempts,
        reason: letter.reason,
        died: time(letter.dead_ms),
        source: event.source,
        key: String::from_utf8_lossy(&key).into_owned(),
        content_type: event.content_type,
        bytes: event.data.len(),
    };
    (head, event.data)
}

fn letter_view(number: u16, letter: DeadTopicLetter) -> LetterView {
    let (head, data) = letter_head(number, letter);
    LetterView {
        head,
        text: String::from_utf8_lossy(&data).into_owned(),
        data_base64: STANDARD.encode(&data),
    }
}

fn time(ms: u64) -> String {
    if ms == 0 {
        String::new()
    } else {
        rfc3339(WallTime(ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_that_is_not_there_is_named() {
        let there = BTreeMap::from([(3, BTreeSet::from([17, 18])), (4, BTreeSet::new())]);
        let wanted = BTreeMap::from([(3, BTreeSet::from([17]))]);
        assert_eq!(named(&there, &[(3, 17), (3, 17)]), Ok(wanted));
        assert_eq!(named(&there, &[(3, 17), (4, 17)]), Err((4, 17)));
        assert_eq!(named(&there, &[(9, 1)]), Err((9, 1)));
    }
}
