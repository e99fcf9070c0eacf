//! The replicated commands: what one log entry says.
//!
//! Effects are replicated, not code: state rows, outgoing messages and the answer of turns that already
//! ran on the leader. Every entry carries the leader's term; apply skips an entry whose term is not the
//! one Raft gave it (forwarded or stale proposals). Times arrive as fields.

use bytes::Bytes;
use prost::{Message, Oneof};

use crate::closed::{Closed, ClosedRange};
use crate::outcome::TurnAnswer;

/// The payload of one log entry.
#[derive(Clone, PartialEq, Message)]
pub struct Command {
    /// Term of the leadership that proposed it, and under which its turns began.
    #[prost(uint64, tag = "1")]
    pub leader_term: u64,
    /// Milliseconds of the leader's monotonic clock since it applied the previous entry.
    #[prost(uint64, tag = "2")]
    pub age_step_ms: u64,
    /// The leader's wall clock; 0: says nothing.
    #[prost(uint64, tag = "3")]
    pub wall_ms: u64,
    /// What to do.
    #[prost(oneof = "Kind", tags = "4, 5, 6, 7, 8, 9")]
    pub kind: Option<Kind>,
}

/// The variants of [`Command`].
#[derive(Clone, PartialEq, Oneof)]
pub enum Kind {
    /// Turns that ended.
    #[prost(message, tag = "4")]
    Turns(Turns),
    /// Messages from another partition's outbox.
    #[prost(message, tag = "5")]
    Accept(Accept),
    /// Outbox rows that their destination has accepted.
    #[prost(message, tag = "6")]
    TrimOutbox(TrimOutbox),
    /// An accepted message whose turn failed.
    #[prost(message, tag = "7")]
    InboxFailed(InboxFailed),
    /// Rows whose time is over.
    #[prost(message, tag = "8")]
    Expire(Expire),
    /// Partition 0: cluster facts.
    #[prost(message, tag = "9")]
    Facts(Facts),
}

/// Turns of one partition, in the order in which they ended.
#[derive(Clone, PartialEq, Message)]
pub struct Turns {
    /// Each is applied or skipped on its own.
    #[prost(message, repeated, tag = "1")]
    pub turns: Vec<TurnCommit>,
}

/// What one turn leaves behind.
#[derive(Clone, PartialEq, Message)]
pub struct TurnCommit {
    /// Canonical actor key.
    #[prost(bytes = "bytes", tag = "1")]
    pub actor: Bytes,
    /// The version the turn was built on. Apply skips the turn unless the stored version equals it.
    #[prost(uint64, tag = "2")]
    pub base_version: u64,
    /// Whether the turn changed anything, or only its answer is recorded.
    #[prost(enumeration = "TurnKind", tag = "3")]
    pub kind: i32,
    /// The request to record; absent for a turn that ran an accepted message.
    #[prost(message, optional, tag = "4")]
    pub request: Option<RequestRecord>,
    /// What the turn answered.
    #[prost(message, optional, tag = "5")]
    pub answer: Option<TurnAnswer>,
    /// State rows, each key at most once.
    #[prost(message, repeated, tag = "6")]
    pub state: Vec<StateWrite>,
    /// Outgoing messages, in the order of the turn.
    #[prost(message, repeated, tag = "7")]
    pub sends: Vec<Send>,
    /// Sequence of the accepted message that this turn ran; 0: none. Its row goes in the same batch.
    #[prost(uint64, tag = "8")]
    pub inbox_sequence: u64,
}

/// See [`TurnCommit::kind`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, prost::Enumeration)]
#[repr(i32)]
pub enum TurnKind {
    /// The answer is recorded, nothing else; not fenced by the actor's version.
    RecordOnly = 0,
    /// State, messages and answer commit together; the actor's version goes up by one.
    Write = 1,
}

/// A request as its dedup record needs it.
#[derive(Clone, PartialEq, Message)]
pub struct RequestRecord {
    /// Canonical request id.
    #[prost(bytes = "bytes", tag = "1")]
    pub id: Bytes,
    /// `request_digest`, 16 bytes.
    #[prost(bytes = "bytes", tag = "2")]
    pub digest: Bytes,
    /// For a session: every lower sequence has its answer, its record may go.
    #[prost(uint64, tag = "3")]
    pub closed_below: u64,
    /// For a session: ranges above it that have theirs.
    #[prost(message, repeated, tag = "4")]
    pub closed_ranges: Vec<ClosedRange>,
}

/// One state row of the actor.
#[derive(Clone, PartialEq, Message)]
pub struct StateWrite {
    /// Key inside the actor.
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    /// The new value; absent: the row goes.
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub value: Option<Bytes>,
}

/// One outgoing message.
#[derive(Clone, PartialEq, Message)]
pub struct Send {
    /// Partition of the receiving actor.
    #[prost(uint32, tag = "1")]
    pub destination: u32,
    /// Canonical key of the receiving actor.
    #[prost(bytes = "bytes", tag = "2")]
    pub actor: Bytes,
    /// Cleaned method name.
    #[prost(string, tag = "3")]
    pub method: String,
    /// The body.
    #[prost(bytes = "bytes", tag = "4")]
    pub body: Bytes,
}

/// A message on its way: an outbox row, later an inbox row.
#[derive(Clone, PartialEq, Message)]
pub struct Envelope {
    /// Canonical key of the receiving actor.
    #[prost(bytes = "bytes", tag = "1")]
    pub actor: Bytes,
    /// Cleaned method name.
    #[prost(string, tag = "2")]
    pub method: String,
    /// The body.
    #[prost(bytes = "bytes", tag = "3")]
    pub body: Bytes,
    /// Partition that sent it.
    #[prost(uint32, tag = "4")]
    pub source: u32,
    /// Its sequence between the two partitions.
    #[prost(uint64, tag = "5")]
    pub sequence: u64,
    /// Canonical key of the actor that sent it.
    #[prost(bytes = "bytes", tag = "6")]
    pub sender: Bytes,
    /// How often a turn for it has failed; counted in the inbox row.
    #[prost(uint32, tag = "7")]
    pub attempts: u32,
    /// The receiving log's wall time when it was accepted; set there. Every attempt has it as its time,
    /// whichever node leads.
    #[prost(uint64, tag = "8")]
    pub accepted_ms: u64,
}

/// Messages `first .. first + messages.len()` of one source. Moves the one high-water mark of that source
/// and writes inbox rows; runs no actor code.
#[derive(Clone, PartialEq, Message)]
pub struct Accept {
    /// Partition that sent them.
    #[prost(uint32, tag = "1")]
    pub source: u32,
    /// Recovery epoch of the source.
    #[prost(uint64, tag = "2")]
    pub source_epoch: u64,
    /// Sequence of the first message.
    #[prost(uint64, tag = "3")]
    pub first: u64,
    /// The messages, without gaps.
    #[prost(message, repeated, tag = "4")]
    pub messages: Vec<Envelope>,
}

/// Deletes outbox rows up to and including `through`.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct TrimOutbox {
    /// The partition that accepted them.
    #[prost(uint32, tag = "1")]
    pub destination: u32,
    /// Highest accepted sequence.
    #[prost(uint64, tag = "2")]
    pub through: u64,
}

/// An accepted message whose turn did not commit.
#[derive(Clone, PartialEq, Message)]
pub struct InboxFailed {
    /// Its inbox sequence.
    #[prost(uint64, tag = "1")]
    pub inbox_sequence: u64,
    /// Absent: counted, to be tried again. Present: final, the row goes to the dead letters with it.
    #[prost(message, optional, tag = "2")]
    pub dead_letter: Option<DeadLetterReason>,
}

/// Why a message failed for good.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct DeadLetterReason {
    /// The application's error, or what kept the turn from running.
    #[prost(string, tag = "1")]
    pub error: String,
}

/// A message that failed for good, as kept.
#[derive(Clone, PartialEq, Message)]
pub struct DeadLetter {
    /// The message.
    #[prost(message, optional, tag = "1")]
    pub envelope: Option<Envelope>,
    /// Why it failed.
    #[prost(string, tag = "2")]
    pub error: String,
    /// Log time when it was given up.
    #[prost(uint64, tag = "3")]
    pub age_ms: u64,
}

/// Dedup records and sessions that a leader found to be over their age; apply checks each again. A record
/// of a session goes with it: never while the session is in use.
#[derive(Clone, PartialEq, Message)]
pub struct Expire {
    /// Keys of `Family::Dedup`.
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub dedup_keys: Vec<Bytes>,
    /// Keys of `Family::Session`.
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub session_keys: Vec<Bytes>,
}

/// Changes of the cluster's facts (partition 0).
#[derive(Clone, PartialEq, Message)]
pub struct Facts {
    /// In order.
    #[prost(message, repeated, tag = "1")]
    pub writes: Vec<StateWrite>,
}

/// A dedup record.
#[derive(Clone, PartialEq, Message)]
pub struct DedupRecord {
    /// Digest of the request, 16 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub digest: Bytes,
    /// Log time at which it was written.
    #[prost(uint64, tag = "2")]
    pub age_ms: u64,
    /// The recorded answer; an empty one stands for a reply too large to keep.
    #[prost(message, optional, tag = "3")]
    pub answer: Option<TurnAnswer>,
    /// Digest of a reply that was too large, 16 bytes, else empty.
    #[prost(bytes = "bytes", tag = "4")]
    pub reply_digest: Bytes,
}

/// A gateway's session in this partition.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct SessionRow {
    /// Every lower sequence is closed: refused if it comes again.
    #[prost(uint64, tag = "1")]
    pub closed_below: u64,
    /// Log time of the last use.
    #[prost(uint64, tag = "2")]
    pub age_ms: u64,
    /// Ranges above the floor that are closed, ascending; at most `CLOSED_RANGES_MAX`.
    #[prost(message, repeated, tag = "3")]
    pub closed_ranges: Vec<ClosedRange>,
}

impl SessionRow {
    /// What is closed.
    #[must_use]
    pub fn closed(&self) -> Closed {
        Closed::new(self.closed_below, &self.closed_ranges)
    }
}
