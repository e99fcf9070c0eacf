//! Messages that are nothing but messages: what decodes is the same when it is encoded and decoded
//! again.

use ghostlight_protocol::command::{
    AppValue, DeadLetter, DedupRecord, Envelope, ScheduleRow, SessionRow,
};
use ghostlight_protocol::marks::{MarkList, MarkWord};
use ghostlight_protocol::outcome::TurnAnswer;
use ghostlight_protocol::partition_row::{Membership, PartitionRow};
use ghostlight_protocol::topic::{
    DeadTopicLetter, GroupRow, TopicBatch, TopicReply, TopicRequest, TopicRow,
};
use ghostlight_storage::{NodeIdentity, Note};
use prost::Message;

use crate::Decoder;

/// Values of rows, and what is in them. The first byte says which.
pub(crate) const ROW: Decoder = Decoder {
    name: "row",
    what: "values of rows",
    take: row,
    valid: rows,
};

/// Whatever decodes is the same when it is encoded and decoded again.
///
/// # Panics
/// When it is not.
pub(crate) fn round_trip<M: Message + Default + PartialEq + std::fmt::Debug>(
    bytes: &[u8],
) -> Option<M> {
    let message = M::decode(bytes).ok()?;
    let again = M::decode(&message.encode_to_vec()[..]).expect("what we encode is decoded");
    assert!(again == message, "it changes: {message:?}");
    Some(message)
}

/// A message that is the value of a row, or travels as one's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum RowMessage {
    /// Of `Family::Dedup`.
    Dedup,
    /// Of `Family::Session`.
    Session,
    /// Of `Family::DeadLetter`.
    DeadLetter,
    /// Of `Family::Schedule`.
    Schedule,
    /// Of `Family::Partition`.
    Partition,
    /// Of `Family::Topic`.
    Topic,
    /// Of `Family::Group`.
    Group,
    /// Of `Family::TopicBatch`.
    Batch,
    /// Of `Family::TopicLetter`.
    Letter,
    /// Of `Family::Inbox` and `Family::Outbox`.
    Envelope,
    /// What an application keeps.
    AppValue,
    /// A recorded answer.
    Answer,
    /// A body of a call to a topic.
    TopicRequest,
    /// Its answer.
    TopicReply,
    /// A membership, as snapshots carry it.
    Membership,
    /// What others remember of a node.
    Marks,
    /// One of them.
    Mark,
    /// Who a node is.
    Identity,
    /// What is noted beside the database.
    Note,
}

impl RowMessage {
    const ALL: [Self; 19] = [
        Self::Dedup,
        Self::Session,
        Self::DeadLetter,
        Self::Schedule,
        Self::Partition,
        Self::Topic,
        Self::Group,
        Self::Batch,
        Self::Letter,
        Self::Envelope,
        Self::AppValue,
        Self::Answer,
        Self::TopicRequest,
        Self::TopicReply,
        Self::Membership,
        Self::Marks,
        Self::Mark,
        Self::Identity,
        Self::Note,
    ];
}

/// The input that is this message.
#[must_use]
pub fn row_input(kind: RowMessage, value: &[u8]) -> Vec<u8> {
    [&[kind as u8][..], value].concat()
}

fn rows() -> Vec<Vec<u8>> {
    let partition = PartitionRow {
        applied_index: 9,
        state_chain: vec![1; 16],
        ..PartitionRow::default()
    };
    let topic = TopicRow {
        next: 8,
        ..TopicRow::default()
    };
    let group = GroupRow {
        floor: 8,
        ..GroupRow::default()
    };
    let batch = TopicBatch {
        base: 8,
        ..TopicBatch::default()
    };
    let mut all: Vec<Vec<u8>> = RowMessage::ALL
        .into_iter()
        .map(|kind| row_input(kind, b""))
        .collect();
    all.extend([
        row_input(RowMessage::Partition, &partition.encode_to_vec()),
        row_input(RowMessage::Topic, &topic.encode_to_vec()),
        row_input(RowMessage::Group, &group.encode_to_vec()),
        row_input(RowMessage::Batch, &batch.encode_to_vec()),
        row_input(RowMessage::Note, &Note::default().seal()),
    ]);
    all
}

fn row(bytes: &[u8]) {
    let Some((kind, value)) = bytes.split_first() else {
        return;
    };
    let Some(kind) = RowMessage::ALL.get(usize::from(*kind)) else {
        return;
    };
    match kind {
        RowMessage::Dedup => drop(round_trip::<DedupRecord>(value)),
        RowMessage::Session => session(value),
        RowMessage::DeadLetter => drop(round_trip::<DeadLetter>(value)),
        RowMessage::Schedule => drop(round_trip::<ScheduleRow>(value)),
        RowMessage::Partition => partition(value),
        RowMessage::Topic => topic(value),
        RowMessage::Group => group(value),
        RowMessage::Batch => drop(round_trip::<TopicBatch>(value)),
        RowMessage::Letter => drop(round_trip::<DeadTopicLetter>(value)),
        RowMessage::Envelope => drop(round_trip::<Envelope>(value)),
        RowMessage::AppValue => drop(round_trip::<AppValue>(value)),
        RowMessage::Answer => drop(round_trip::<TurnAnswer>(value)),
        RowMessage::TopicRequest => drop(round_trip::<TopicRequest>(value)),
        RowMessage::TopicReply => drop(round_trip::<TopicReply>(value)),
        RowMessage::Membership => drop(round_trip::<Membership>(value)),
        RowMessage::Marks => {
            if let Some(marks) = round_trip::<MarkList>(value) {
                let _: Option<_> = marks.others();
            }
        }
        RowMessage::Mark => {
            if let Some(word) = round_trip::<MarkWord>(value) {
                let _: ghostlight_protocol::marks::Told = word.told();
            }
        }
        RowMessage::Identity => {
            if let Some(identity) = round_trip::<NodeIdentity>(value) {
                let _: Option<_> = identity.id();
            }
        }
        RowMessage::Note => drop(Note::open(value)),
    }
}

/// A row of a session stands for a set of sequences: it holds what was put in.
fn session(value: &[u8]) {
    let Some(row) = round_trip::<SessionRow>(value) else {
        return;
    };
    let closed = row.closed();
    for range in closed.ranges() {
        assert!(closed.contains(range.first), "{closed:?}");
    }
    let below = closed.below();
    assert!(below == 0 || closed.contains(below - 1), "{closed:?}");
}

fn partition(value: &[u8]) {
    let Some(row) = round_trip::<PartitionRow>(value) else {
        return;
    };
    let _ = (row.applied(), row.outbox(), row.inbox(), row.dead_letters());
    let _ = (row.epoch(), row.chain());
    if let Some(membership) = &row.membership {
        for (peer, node) in membership.nodes() {
            // The first of two that name the same peer or node counts, on every replica alike.
            let _ = (membership.node_of(peer), membership.is_voter(peer));
            assert!(membership.peer_on(node).is_some(), "{node} has no peer");
        }
    }
}

fn topic(value: &[u8]) {
    if let Some(row) = round_trip::<TopicRow>(value) {
        let _ = (row.age_max_ms(), row.bytes_max(), row.due_age_ms());
        let _ = row.outlives(&TopicBatch::default(), u64::MAX);
    }
}

/// What a group has settled is a set; reading and writing it again keeps it.
fn group(value: &[u8]) {
    let Some(mut row) = round_trip::<GroupRow>(value) else {
        return;
    };
    let acks = row.acks();
    for range in acks.ranges() {
        assert!(acks.contains(range.first), "{acks:?}");
    }
    row.set_acks(&acks);
    assert_eq!(row.acks(), acks, "what is settled changes");
    let everything = TopicRow {
        next: u64::MAX,
        ..TopicRow::default()
    };
    let _ = row.lag(&everything);
    let attempts = row.attempts_of(7);
    assert!(row.count_attempt(7) >= attempts, "attempts are forgotten");
}
