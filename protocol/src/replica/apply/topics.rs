//! Applying operations on topic partitions.
//!
//! The rules, each of which keeps a promise of pub/sub:
//! - A publish that has a record is not appended again; its record says where it stands.
//! - An event whose publisher has named it is not appended again while the name is remembered.
//! - An offset is given once: the row of a topic partition is never deleted, and `next` only grows.
//! - A verdict counts only in the epoch in which its event was delivered, and only once: what is
//!   settled stays settled, makes no second letter, and is not forwarded again.
//! - A dead letter is written by the entry that settles its offset.
//! - A batch goes only as the oldest one, and only when it is over the bounds of its topic, or the
//!   topic is deleted.
//!
//! Absent: which event goes to whom, and when; that lives with a leadership and dies with it.

mod append;
mod groups;
mod names;
mod retention;

pub use append::Appended;
pub(super) use append::deliver;

use bytes::Bytes;
use prost::Message;

use super::turn::{self, Outbox};
use super::{SkipReason, messages};
use crate::actor::ActorKey;
use crate::command::{RequestRecord, Send, Share};
use crate::family::{self, DueKind, Family};
use crate::ids::PartitionId;
use crate::outcome::TurnAnswer;
use crate::partition_row::PartitionRow;
use crate::replica::rows::Rows;
use crate::topic::{
    GroupReply, GroupRow, PublishReply, Reply, TopicAct, TopicOp, TopicPartition, TopicReply,
    TopicRow,
};

/// What an operation did.
#[derive(Clone, PartialEq, Debug)]
pub enum TopicOutcome {
    /// Publishes: one result for each, and the batch that holds what is new.
    Appended {
        /// In order.
        results: Vec<Published>,
        /// `None`: nothing was new.
        appended: Option<Appended>,
    },
    /// A group was made or changed.
    Group(GroupChanged),
    /// Verdicts were taken.
    Settled(GroupChanged),
    /// Batches, or letters, have gone.
    Trimmed(TopicRow),
    /// It does not count: its request was answered before.
    Skipped(SkipReason),
    /// It cannot be done; nothing has changed.
    Refused(TopicRefusal),
}

/// What became of one publish.
#[derive(Clone, PartialEq, Debug)]
pub enum Published {
    /// Its events stand where this says.
    At {
        /// Where.
        reply: PublishReply,
        /// How many of them are new: the others were published before, under the same names.
        fresh: usize,
    },
    /// It was answered before.
    Skipped(SkipReason),
}

/// How a group stands after an operation, and what else it has caused.
#[derive(Clone, PartialEq, Debug)]
pub struct GroupChanged {
    /// Its name.
    pub group: String,
    /// Its row; `None`: it is gone.
    pub row: Option<GroupRow>,
    /// The topic partition's row.
    pub topic: TopicRow,
    /// Parked letters that it took.
    pub taken: u64,
    /// Messages, now in the outbox.
    pub outbox: Outbox,
    /// Batches that were appended by it, to this topic partition or to others of the same
    /// partition.
    pub appended: Vec<Appended>,
}

/// Why an operation cannot be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TopicRefusal {
    /// The group does not exist.
    UnknownGroup,
    /// The topic has as many groups as it may have.
    GroupsFull,
    /// Another epoch of the group, or it is used, or has letters.
    Overtaken,
    /// The offset is not among those that are kept.
    OutOfRange {
        /// Lowest that is kept.
        first: u64,
        /// Offset that the next event gets.
        next: u64,
    },
    /// The topic cannot be deleted: it has groups.
    InUse,
    /// Not the key of a topic partition, or nothing was said.
    Malformed,
}

/// One topic partition during one operation.
struct At<'a, R> {
    id: PartitionId,
    rows: &'a mut R,
    partition: &'a mut PartitionRow,
    topic: ActorKey,
}

pub(super) fn apply<R: Rows>(
    id: PartitionId,
    rows: &mut R,
    partition: &mut PartitionRow,
    op: TopicOp,
) -> Result<TopicOutcome, R::Error> {
    let topic = ActorKey::parse(op.topic).ok();
    let topic = topic.filter(|key| TopicPartition::of_key(key).is_some());
    let (Some(topic), Some(act)) = (topic, op.act) else {
        return Ok(TopicOutcome::Refused(TopicRefusal::Malformed));
    };
    let mut at = At {
        id,
        rows,
        partition,
        topic,
    };
    if let Some(reason) = at.fence(op.request.as_ref())? {
        return Ok(TopicOutcome::Skipped(reason));
    }
    let outcome = match act {
        TopicAct::Append(append) => at.append_publishes(append)?,
        TopicAct::Put(put) => at.put_group(put)?,
        TopicAct::Seek(seek) => at.seek(seek)?,
        TopicAct::Pause(name) => at.set_paused(name.group, 1)?,
        TopicAct::Resume(name) => at.set_paused(name.group, 0)?,
        TopicAct::Delete(letters) => at.delete_group(letters)?,
        TopicAct::Redrive(redrive) => at.redrive(redrive)?,
        TopicAct::Settle(settle) => at.settle(settle)?,
        TopicAct::Trim(trim) => at.trim(&trim)?,
        TopicAct::LettersOver(letters) => at.letters_over(letters)?,
        TopicAct::Idle(idle) => at.idle(idle)?,
        TopicAct::Touch(name) => at.touch(name.group)?,
        TopicAct::NamesOver(_) => at.names_over()?,
    };
    if let (Some(request), Some(answer)) = (&op.request, answer_of(&outcome)) {
        at.record(request, answer)?;
    }
    Ok(outcome)
}

/// What a recorded operation answers.
fn answer_of(outcome: &TopicOutcome) -> Option<Reply> {
    match outcome {
        TopicOutcome::Group(changed) => Some(changed.reply()),
        TopicOutcome::Appended { .. }
        | TopicOutcome::Settled(_)
        | TopicOutcome::Trimmed(_)
        | TopicOutcome::Skipped(_)
        | TopicOutcome::Refused(_) => None,
    }
}

impl GroupChanged {
    /// What whoever asked for the change is answered.
    #[must_use]
    pub fn reply(&self) -> Reply {
        Reply::Group(GroupReply {
            group: self.group.clone(),
            row: self.row.clone(),
            lag: self.row.as_ref().map_or(0, |row| row.lag(&self.topic)),
            taken: self.taken,
            ..GroupReply::default()
        })
    }
}

impl<R: Rows> At<'_, R> {
    fn fence(&mut self, request: Option<&RequestRecord>) -> Result<Option<SkipReason>, R::Error> {
        turn::request_fence(self.rows, &self.topic, request, Share::Whole)
    }

    fn record(&mut self, request: &RequestRecord, reply: Reply) -> Result<(), R::Error> {
        let reply = TopicReply { reply: Some(reply) };
        let answer = TurnAnswer::reply(reply.encode_to_vec().into());
        turn::record(self.rows, self.partition, &self.topic, request, answer)
    }

    fn topic_row(&mut self) -> Result<TopicRow, R::Error> {
        read_topic(self.rows, &self.topic)
    }

    /// Writes the row, and when its oldest batch is due.
    fn put_topic(&mut self, before: &TopicRow, row: &TopicRow) -> Result<(), R::Error> {
        put_topic(self.rows, self.partition, &self.topic, before, row)
    }

    fn group_row(&mut self, group: &str) -> Result<Option<GroupRow>, R::Error> {
        let bytes = self
            .rows
            .get(Family::Group, &family::group_key(&self.topic, group))?;
        Ok(bytes.map(|bytes| GroupRow::decode(bytes).unwrap_or_default()))
    }

    /// A message leaves: to a topic partition beside this one it is appended at once.
    fn send(&mut self, send: &Send, changed: &mut GroupChanged) -> Result<(), R::Error> {
        match turn::leave(self.id, self.rows, self.partition, &self.topic, send)? {
            turn::Left::Outbox(message) => changed.outbox.push(message),
            turn::Left::Appended(appended) => changed.appended.extend(appended),
        }
        Ok(())
    }
}

fn read_topic<R: Rows>(rows: &mut R, topic: &ActorKey) -> Result<TopicRow, R::Error> {
    let bytes = rows.get(Family::Topic, topic.as_bytes())?;
    Ok(bytes.map_or_else(TopicRow::default, |bytes| {
        TopicRow::decode(bytes).unwrap_or_default()
    }))
}

fn put_topic<R: Rows>(
    rows: &mut R,
    partition: &mut PartitionRow,
    topic: &ActorKey,
    before: &TopicRow,
    row: &TopicRow,
) -> Result<(), R::Error> {
    if rows.get(Family::Topic, topic.as_bytes())?.is_none() {
        partition.topics = partition.topics.saturating_add(1);
    }
    for (kind, before, after) in [
        (DueKind::Retention, before.due_age_ms(), row.due_age_ms()),
        (DueKind::EventNames, names::due(before), names::due(row)),
    ] {
        let due = |ms| family::due_row_key(kind, ms, topic.as_bytes());
        if before != after {
            if let Some(ms) = before {
                rows.delete(Family::Due, due(ms));
            }
            if let Some(ms) = after {
                rows.put(Family::Due, due(ms), Bytes::new());
            }
        }
    }
    rows.put(Family::Topic, topic.to_bytes(), row.encode_to_vec().into());
    Ok(())
}

/// Bytes that a row counts for.
fn row_bytes(key: &[u8], value: &[u8]) -> u64 {
    messages::row_bytes(key, value)
}
