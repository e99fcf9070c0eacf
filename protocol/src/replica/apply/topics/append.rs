//! Appending to a topic partition: publishes, messages that left a turn, dead letters, letters
//! driven again.

use bytes::Bytes;
use prost::Message;

use super::names::Names;
use super::{At, Published, TopicOutcome, put_topic, read_topic, row_bytes};
use crate::actor::ActorKey;
use crate::canary::{self, Canary};
use crate::family::{self, Family};
use crate::partition_row::PartitionRow;
use crate::replica::rows::Rows;
use crate::topic::{
    Append, PublishBody, PublishReply, Reply, TopicBatch, TopicEvent, TopicPartition, TopicRow,
};

/// A batch that was appended.
#[derive(Clone, PartialEq, Debug)]
pub struct Appended {
    /// Key of the topic partition.
    pub topic: ActorKey,
    /// The batch.
    pub batch: TopicBatch,
    /// The topic partition's row after it.
    pub row: TopicRow,
}

/// What a topic keeps from now on; 0: as before.
#[derive(Clone, Copy, Default)]
struct Keeps {
    ms: u64,
    bytes: u64,
}

impl<R: Rows> At<'_, R> {
    pub(super) fn append_publishes(&mut self, append: Append) -> Result<TopicOutcome, R::Error> {
        let number = TopicPartition::of_key(&self.topic).map_or(0, |topic| topic.number);
        let mut row = self.topic_row()?;
        let mut results = Vec::with_capacity(append.publishes.len());
        let mut events = Vec::new();
        let mut keeps = Keeps::default();
        for publish in append.publishes {
            if let Some(reason) = self.fence(publish.request.as_ref())? {
                results.push(Published::Skipped(reason));
                continue;
            }
            let body = publish.body.unwrap_or_default();
            keeps.take(&body);
            let before = events.len();
            let offsets = self.place_events(body, &mut row, &mut events)?;
            let reply = PublishReply::at(number, offsets);
            if let Some(request) = &publish.request {
                self.record(request, Reply::Published(reply.clone()))?;
            }
            let fresh = events.len() - before;
            results.push(Published::At { reply, fresh });
        }
        let names = Some(row);
        let appended = append_events(self.rows, self.partition, &self.topic, events, keeps, names)?;
        Ok(TopicOutcome::Appended { results, appended })
    }

    /// Gives the events of a publish their offsets, and adds those that are new to `fresh`. `row`
    /// counts both.
    fn place_events(
        &mut self,
        body: PublishBody,
        row: &mut TopicRow,
        fresh: &mut Vec<TopicEvent>,
    ) -> Result<Vec<u64>, R::Error> {
        let mut offsets = Vec::with_capacity(body.events.len());
        let mut names = Names {
            rows: &mut *self.rows,
            topic: &self.topic,
            age_ms: self.partition.age_ms,
        };
        let no_name = Bytes::new();
        let given = body.names.iter().chain(std::iter::repeat(&no_name));
        for (event, name) in body.events.into_iter().zip(given) {
            if !name.is_empty() {
                if let Some(offset) = names.find(name, row)? {
                    offsets.push(offset);
                    continue;
                }
                names.add(name, row.next, row)?;
            }
            offsets.push(row.next);
            row.next = row.next.saturating_add(1);
            fresh.push(event);
        }
        Ok(offsets)
    }

    pub(super) fn append(&mut self, events: Vec<TopicEvent>) -> Result<Option<Appended>, R::Error> {
        let keeps = Keeps::default();
        append_events(self.rows, self.partition, &self.topic, events, keeps, None)
    }
}

impl Keeps {
    /// The latest word counts.
    fn take(&mut self, body: &PublishBody) {
        for (kept, said) in [
            (&mut self.ms, body.retention_ms),
            (&mut self.bytes, body.retention_bytes),
        ] {
            if said > 0 {
                *kept = said;
            }
        }
    }
}

/// Appends what a message to a topic partition of this partition holds; `None`: it holds no event.
pub(in crate::replica::apply) fn deliver<R: Rows>(
    rows: &mut R,
    partition: &mut PartitionRow,
    topic: &ActorKey,
    body: &Bytes,
) -> Result<Option<Appended>, R::Error> {
    let body = PublishBody::decode(body.clone()).unwrap_or_default();
    let mut keeps = Keeps::default();
    keeps.take(&body);
    append_events(rows, partition, topic, body.events, keeps, None)
}

/// `names`: a row with the names that are remembered from now on; `None`: as before.
fn append_events<R: Rows>(
    rows: &mut R,
    partition: &mut PartitionRow,
    topic: &ActorKey,
    events: Vec<TopicEvent>,
    keeps: Keeps,
    names: Option<TopicRow>,
) -> Result<Option<Appended>, R::Error> {
    if events.is_empty() {
        return Ok(None);
    }
    let before = read_topic(rows, topic)?;
    let batch = TopicBatch {
        base: before.next,
        appended_ms: partition.wall_ms,
        events,
        appended_age_ms: Some(partition.age_ms),
    };
    let next = before.next.saturating_add(batch.events.len() as u64);
    let key = family::batch_key(topic, next - 1);
    let value = Bytes::from(batch.encode_to_vec());
    let mut row = TopicRow {
        next,
        bytes: before.bytes.saturating_add(row_bytes(&key, &value)),
        last_ms: batch.appended_ms,
        gone: 0,
        ..before.clone()
    };
    if row.first_age_ms.is_none() {
        row.first_age_ms = batch.appended_age_ms;
    }
    if let Some(names) = names {
        row.names_first = names.names_first;
        row.names_next = names.names_next;
        row.names_due_ms = names.names_due_ms;
    }
    if keeps.ms > 0 {
        row.retention_ms = keeps.ms;
    }
    if keeps.bytes > 0 {
        row.retention_bytes = keeps.bytes;
    }
    rows.put(Family::TopicBatch, key, value);
    if canary::sings(Canary::OffsetAgain) {
        row.next = before.next;
    }
    put_topic(rows, partition, topic, &before, &row)?;
    Ok(Some(Appended {
        topic: topic.clone(),
        batch,
        row,
    }))
}
