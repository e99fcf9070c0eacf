//! The replicated commands: what one log entry says.
//!
//! Effects are replicated, not code: state rows, outgoing messages and the answer of turns that
//! already ran on the leader. Every entry carries the leader's term; apply skips an entry whose
//! term is not the one Raft gave it (forwarded or stale proposals). Times arrive as fields.

use bytes::Bytes;
use prost::{Message, Oneof};

use crate::closed::{Closed, ClosedRange};
use crate::outcome::TurnAnswer;
use crate::topic::TopicOps;

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
    #[prost(oneof = "Kind", tags = "4, 5, 6, 7, 8, 9, 10")]
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
    /// Operations on topic partitions.
    #[prost(message, tag = "10")]
    Topics(TopicOps),
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
    /// Sequence of the accepted message that this turn ran; 0: none. Its row goes in the same
    /// batch.
    #[prost(uint64, tag = "8")]
    pub inbox_sequence: u64,
    /// Reminders and timers of the actor that it sets and removes, each at most once.
    #[prost(message, repeated, tag = "9")]
    pub schedule: Vec<ScheduleWrite>,
    /// The firing that this turn ran. Apply skips the turn unless the row stands as it says.
    #[prost(message, optional, tag = "10")]
    pub firing: Option<Firing>,
    /// How much of its request this entry is.
    #[prost(enumeration = "Share", tag = "11")]
    pub share: i32,
    /// Whether the actor goes with all that it has: rows of state, reminders, timers, its version.
    #[prost(enumeration = "Fate", tag = "12")]
    pub fate: i32,
}

/// See [`TurnCommit::share`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, prost::Enumeration)]
#[repr(i32)]
pub enum Share {
    /// All of it.
    Whole = 0,
    /// A part: the turn goes on. Its request is recorded as interrupted, so that it is never run
    /// again; the row of an accepted message says the same.
    Part = 1,
    /// What is left of one of which parts are committed: its answer replaces the record of the
    /// parts.
    Rest = 2,
    /// A further part.
    More = 3,
}

/// See [`TurnCommit::fate`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, prost::Enumeration)]
#[repr(i32)]
pub enum Fate {
    /// It stays.
    Stays = 0,
    /// It is deleted, and what the same entry writes is written after that.
    Deleted = 1,
}

/// The two kinds of wake-ups.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, prost::Enumeration)]
#[repr(i32)]
pub enum ScheduleKind {
    /// Each firing is recorded with its turn.
    Reminder = 0,
    /// Its row stays as it was set: firings are not recorded.
    Timer = 1,
}

/// One reminder or timer that is set or removed.
#[derive(Clone, PartialEq, Message)]
pub struct ScheduleWrite {
    /// Which of the two.
    #[prost(enumeration = "ScheduleKind", tag = "1")]
    pub kind: i32,
    /// Its name, unique within the actor and kind.
    #[prost(string, tag = "2")]
    pub name: String,
    /// The new row; absent: the row goes.
    #[prost(message, optional, tag = "3")]
    pub row: Option<ScheduleRow>,
    /// What becomes of the entry when a row of that name is there already.
    #[prost(enumeration = "IfThere", tag = "4")]
    pub if_there: i32,
}

/// See [`ScheduleWrite::if_there`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, prost::Enumeration)]
#[repr(i32)]
pub enum IfThere {
    /// It is replaced.
    Replace = 0,
    /// The whole entry is skipped.
    Skip = 1,
}

/// A reminder or timer. Times are the cluster's calendar clock, as the log has it, in milliseconds.
#[derive(Clone, PartialEq, Message)]
pub struct ScheduleRow {
    /// When it fires next; of a timer: when it fires first.
    #[prost(uint64, tag = "1")]
    pub due_ms: u64,
    /// The period as it was given, without repetitions; empty: it fires once.
    #[prost(string, tag = "2")]
    pub period: String,
    /// Firings left, this one included; absent: without end.
    #[prost(uint32, optional, tag = "3")]
    pub repetitions: Option<u32>,
    /// From when on it no longer fires; 0: never.
    #[prost(uint64, tag = "4")]
    pub ends_ms: u64,
    /// What it hands to the actor; absent: nothing was given.
    #[prost(bytes = "bytes", optional, tag = "5")]
    pub data: Option<Bytes>,
    /// Whether `data` is JSON or bytes.
    #[prost(enumeration = "DataForm", tag = "6")]
    pub form: i32,
    /// The method that a timer calls.
    #[prost(string, tag = "7")]
    pub callback: String,
    /// As it was given, to be shown again.
    #[prost(string, tag = "8")]
    pub due_given: String,
    /// As it was given, to be shown again.
    #[prost(string, tag = "9")]
    pub ttl_given: String,
    /// What happens when a firing fails; absent: three retries, one second apart.
    #[prost(message, optional, tag = "10")]
    pub failure: Option<FailurePolicy>,
    /// How often the present firing has failed.
    #[prost(uint32, tag = "11")]
    pub attempts: u32,
    /// When the present firing was due before it failed; 0: it has not.
    #[prost(uint64, tag = "12")]
    pub tick_ms: u64,
    /// Ticks that passed without a firing of their own.
    #[prost(uint64, tag = "13")]
    pub missed: u64,
    /// Firings that were given up.
    #[prost(uint64, tag = "14")]
    pub dropped: u64,
    /// The period as it was given, repetitions included, to be shown again.
    #[prost(string, tag = "15")]
    pub period_given: String,
}

/// See [`ScheduleRow::form`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, prost::Enumeration)]
#[repr(i32)]
pub enum DataForm {
    /// JSON text: given back as it is.
    Json = 0,
    /// Bytes: an application gets them as a base64 JSON string.
    Bytes = 1,
}

/// What happens when a firing fails.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct FailurePolicy {
    /// Pause between two attempts, in milliseconds.
    #[prost(uint64, tag = "1")]
    pub interval_ms: u64,
    /// Attempts after the first; absent: without end. 0: the tick is dropped at its first failure.
    #[prost(uint32, optional, tag = "2")]
    pub retries_max: Option<u32>,
}

/// A firing, as its row had it when it began.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Firing {
    /// Which of the two kinds.
    #[prost(enumeration = "ScheduleKind", tag = "1")]
    pub kind: i32,
    /// Its name.
    #[prost(string, tag = "2")]
    pub name: String,
    /// `ScheduleRow::due_ms` of the row.
    #[prost(uint64, tag = "3")]
    pub due_ms: u64,
    /// `ScheduleRow::attempts` of the row.
    #[prost(uint32, tag = "4")]
    pub attempts: u32,
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
    /// From when on the value no longer counts, on the log's calendar clock in milliseconds; 0:
    /// never. The value then is an `AppValue`, which says the same.
    #[prost(uint64, tag = "3")]
    pub expires_ms: u64,
}

/// A state value of an application's actor: the bytes it gave, and until when they count.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct AppValue {
    /// Byte for byte what was given.
    #[prost(bytes = "bytes", tag = "1")]
    pub data: Bytes,
    /// From when on it no longer counts; 0: never.
    #[prost(uint64, tag = "2")]
    pub expires_ms: u64,
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
    /// The receiving log's wall time when it was accepted; set there. Every attempt has it as its
    /// time, whichever node leads.
    #[prost(uint64, tag = "8")]
    pub accepted_ms: u64,
    /// Whether a turn for it has committed a part: it is not run again.
    #[prost(enumeration = "Share", tag = "9")]
    pub committed: i32,
}

/// Messages `first .. first + messages.len()` of one source. Moves the one high-water mark of that
/// source and writes inbox rows; runs no actor code.
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
    /// Absent: counted, to be tried again. Present: final, the row goes to the dead letters with
    /// it.
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

/// Dedup records, sessions and dead letters that a leader found to be over their age; apply checks
/// each again. A record of a session goes with it: never while the session is in use.
#[derive(Clone, PartialEq, Message)]
pub struct Expire {
    /// Keys of `Family::Dedup`.
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub dedup_keys: Vec<Bytes>,
    /// Keys of `Family::Session`.
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub session_keys: Vec<Bytes>,
    /// Keys of `Family::Due` that say when state values stop counting.
    #[prost(bytes = "bytes", repeated, tag = "3")]
    pub value_keys: Vec<Bytes>,
    /// Keys of `Family::DeadLetter`.
    #[prost(bytes = "bytes", repeated, tag = "4")]
    pub dead_letter_keys: Vec<Bytes>,
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
