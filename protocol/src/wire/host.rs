//! What a partition's leader and the nodes that run turns of its actors say to each other.
//!
//! A leader keeps the mailbox and the log; a *host* has the actor's code, in process or in an
//! application beside it. A leader and a host hold a *conversation*; a node pair has two, since
//! each of them may be the other's host. Both directions of a conversation are a numbered sequence
//! each, that survives lost frames and connections: a frame says where its messages stand in it,
//! and how much of the other one was taken.

use bytes::Bytes;
use prost::{Message, Oneof};

use crate::call::{AppReply, Metadata, Stamp};
use crate::command::{DataForm, ScheduleKind, ScheduleWrite, StateWrite};
use crate::outcome::AppError;

/// Messages of one direction.
#[derive(Clone, PartialEq, Message)]
pub struct HostFrame {
    /// The sender's incarnation of its sequence. A larger one than before: everything of the one
    /// before is over, turns included.
    #[prost(uint64, tag = "1")]
    pub incarnation: u64,
    /// Number of the first message in the sequence, from 1.
    #[prost(uint64, tag = "2")]
    pub first: u64,
    /// The messages, without gaps.
    #[prost(message, repeated, tag = "3")]
    pub messages: Vec<HostMessage>,
    /// The incarnation of the receiver's sequence that the sender knows; 0: none.
    #[prost(uint64, tag = "4")]
    pub taken_incarnation: u64,
    /// Highest message of it that was taken, with all before it.
    #[prost(uint64, tag = "5")]
    pub taken: u64,
    /// What the sender is in this conversation; the receiver is the other one.
    #[prost(enumeration = "HostRole", tag = "6")]
    pub sender: i32,
}

/// What a node is in a conversation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, prost::Enumeration)]
#[repr(i32)]
pub enum HostRole {
    /// It leads activations.
    Leader = 0,
    /// It runs their turns.
    Host = 1,
}

impl HostRole {
    /// What the peer is.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Leader => Self::Host,
            Self::Host => Self::Leader,
        }
    }
}

/// One message.
#[derive(Clone, PartialEq, Message)]
pub struct HostMessage {
    /// Which; absent: unknown to this build.
    #[prost(oneof = "Said", tags = "1, 2, 3, 4, 5, 6, 7, 8")]
    pub said: Option<Said>,
}

/// The variants of [`HostMessage`]: `Asked` and `Ended` go to a leader, all others to a host.
#[derive(Clone, PartialEq, Oneof)]
pub enum Said {
    /// Begin a turn.
    #[prost(message, tag = "1")]
    Run(HostRun),
    /// The answer to an ask.
    #[prost(message, tag = "2")]
    Tell(HostTell),
    /// The activation's last turn was rolled back.
    #[prost(message, tag = "3")]
    Reset(HostActivation),
    /// The activation is over.
    #[prost(message, tag = "4")]
    Drop(HostActivation),
    /// A running turn asks.
    #[prost(message, tag = "5")]
    Asked(HostAsked),
    /// A turn is over.
    #[prost(message, tag = "6")]
    Ended(HostEnded),
    /// To a host: a call of the same chain enters a running turn.
    #[prost(message, tag = "7")]
    Enter(HostEnter),
    /// To a host: the activation's leadership is over. A turn that runs may be asked for by the
    /// next leader.
    #[prost(message, tag = "8")]
    Depose(HostActivation),
}

/// One in-memory life of an actor.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct HostActivation {
    /// The partition.
    #[prost(uint32, tag = "1")]
    pub partition: u32,
    /// The leadership.
    #[prost(uint64, tag = "2")]
    pub term: u64,
    /// Its number.
    #[prost(uint64, tag = "3")]
    pub number: u64,
}

/// One turn of it.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct HostTurn {
    /// Whose.
    #[prost(message, required, tag = "1")]
    pub activation: HostActivation,
    /// Its number.
    #[prost(uint64, tag = "2")]
    pub number: u64,
}

/// Everything a host needs to begin a turn.
#[derive(Clone, PartialEq, Message)]
pub struct HostRun {
    /// The turn.
    #[prost(message, required, tag = "1")]
    pub turn: HostTurn,
    /// Canonical key of the actor.
    #[prost(bytes = "bytes", tag = "2")]
    pub actor: Bytes,
    /// Cleaned method name.
    #[prost(string, tag = "3")]
    pub method: String,
    /// The body.
    #[prost(bytes = "bytes", tag = "4")]
    pub body: Bytes,
    /// Canonical request id.
    #[prost(bytes = "bytes", tag = "5")]
    pub request: Bytes,
    /// What `cx.now` and `cx.rng` show.
    #[prost(message, optional, tag = "6")]
    pub stamp: Option<Stamp>,
    /// Milliseconds until the caller's deadline; 0: none.
    #[prost(uint64, tag = "7")]
    pub remaining_ms: u64,
    /// Actors that wait for this turn, outermost first.
    #[prost(bytes = "bytes", repeated, tag = "8")]
    pub chain: Vec<Bytes>,
    /// The actor's version.
    #[prost(uint64, tag = "9")]
    pub version: u64,
    /// What travels beside the body.
    #[prost(message, repeated, tag = "10")]
    pub metadata: Vec<Metadata>,
    /// The reminder or timer that it runs; absent: a method.
    #[prost(message, optional, tag = "11")]
    pub wakeup: Option<Wakeup>,
}

/// What a turn that runs a reminder or a timer hands to the application.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Wakeup {
    /// Which of the two.
    #[prost(enumeration = "ScheduleKind", tag = "1")]
    pub kind: i32,
    /// Its name.
    #[prost(string, tag = "2")]
    pub name: String,
    /// What was given with it.
    #[prost(bytes = "bytes", optional, tag = "3")]
    pub data: Option<Bytes>,
    /// Whether that is JSON or bytes.
    #[prost(enumeration = "DataForm", tag = "4")]
    pub form: i32,
    /// The method that a timer calls.
    #[prost(string, tag = "5")]
    pub callback: String,
    /// As it was given.
    #[prost(string, tag = "6")]
    pub due_time: String,
    /// As it was given.
    #[prost(string, tag = "7")]
    pub period: String,
}

/// See [`Said::Asked`].
#[derive(Clone, PartialEq, Message)]
pub struct HostAsked {
    /// The turn.
    #[prost(message, required, tag = "1")]
    pub turn: HostTurn,
    /// Counts its asks, from 1.
    #[prost(uint32, tag = "2")]
    pub ask: u32,
    /// What it asks.
    #[prost(oneof = "Asks", tags = "3, 4, 5, 6, 7")]
    pub what: Option<Asks>,
}

/// What a turn asks of its leader.
#[derive(Clone, PartialEq, Oneof)]
pub enum Asks {
    /// One state row.
    #[prost(bytes = "bytes", tag = "3")]
    Get(Bytes),
    /// A page of rows.
    #[prost(message, tag = "4")]
    Scan(HostScan),
    /// Another actor.
    #[prost(message, tag = "5")]
    Call(HostCall),
    /// To commit what is staged so far.
    #[prost(message, tag = "6")]
    Commit(HostWrites),
    /// A call that had entered it is over.
    #[prost(message, tag = "7")]
    Left(HostLeft),
}

/// See [`Said::Enter`].
#[derive(Clone, PartialEq, Message)]
pub struct HostEnter {
    /// The turn that it enters.
    #[prost(message, required, tag = "1")]
    pub turn: HostTurn,
    /// Counts the calls that have entered it, from 1.
    #[prost(uint32, tag = "2")]
    pub entry: u32,
    /// Cleaned method name.
    #[prost(string, tag = "3")]
    pub method: String,
    /// The body.
    #[prost(bytes = "bytes", tag = "4")]
    pub body: Bytes,
    /// What travels beside the body.
    #[prost(message, repeated, tag = "5")]
    pub metadata: Vec<Metadata>,
}

/// See [`Asks::Left`].
#[derive(Clone, PartialEq, Message)]
pub struct HostLeft {
    /// Which: `HostEnter::entry`.
    #[prost(uint32, tag = "1")]
    pub entry: u32,
    /// How it ended; with all that the turn has staged so far.
    #[prost(message, required, tag = "2")]
    pub ended: HostEnded,
}

/// A page of rows.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct HostScan {
    /// Beginning of the keys.
    #[prost(bytes = "bytes", tag = "1")]
    pub prefix: Bytes,
    /// Last key of the page before.
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub after: Option<Bytes>,
    /// Most rows.
    #[prost(uint64, tag = "3")]
    pub limit: u64,
}

/// A call inside a turn.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct HostCall {
    /// Canonical key of the called actor.
    #[prost(bytes = "bytes", tag = "1")]
    pub actor: Bytes,
    /// Cleaned method name.
    #[prost(string, tag = "2")]
    pub method: String,
    /// The body.
    #[prost(bytes = "bytes", tag = "3")]
    pub body: Bytes,
    /// Milliseconds to wait at most; 0: the turn's own deadline.
    #[prost(uint64, tag = "4")]
    pub remaining_ms: u64,
    /// What travels beside the body.
    #[prost(message, repeated, tag = "5")]
    pub metadata: Vec<Metadata>,
    /// Which of the turn's calls it is, from 0; absent: the next one.
    #[prost(uint32, optional, tag = "6")]
    pub ordinal: Option<u32>,
}

/// What a turn leaves behind.
#[derive(Clone, PartialEq, Message)]
pub struct HostWrites {
    /// State rows, each key at most once.
    #[prost(message, repeated, tag = "1")]
    pub state: Vec<StateWrite>,
    /// Messages to other actors, in order.
    #[prost(message, repeated, tag = "2")]
    pub sends: Vec<HostCall>,
    /// Reminders and timers, each at most once.
    #[prost(message, repeated, tag = "3")]
    pub schedule: Vec<ScheduleWrite>,
}

/// See [`Said::Tell`].
#[derive(Clone, PartialEq, Message)]
pub struct HostTell {
    /// The turn that asked.
    #[prost(message, required, tag = "1")]
    pub turn: HostTurn,
    /// Which of its asks.
    #[prost(uint32, tag = "2")]
    pub ask: u32,
    /// The answer; absent: the turn's leadership is over.
    #[prost(oneof = "Told", tags = "3, 4, 5, 6")]
    pub told: Option<Told>,
}

/// The answer to an ask.
#[derive(Clone, PartialEq, Oneof)]
pub enum Told {
    /// Of `Get`.
    #[prost(message, tag = "3")]
    Value(HostValue),
    /// Of `Scan`.
    #[prost(message, tag = "4")]
    Rows(HostRows),
    /// Of `Call`.
    #[prost(message, tag = "5")]
    Called(HostOutcome),
    /// Of `Commit`.
    #[prost(message, tag = "6")]
    Committed(HostCommitted),
}

/// A state row, or none.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct HostValue {
    /// The value.
    #[prost(bytes = "bytes", optional, tag = "1")]
    pub value: Option<Bytes>,
}

/// State rows, ascending.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct HostRows {
    /// The rows.
    #[prost(message, repeated, tag = "1")]
    pub rows: Vec<HostRow>,
}

/// A state row.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct HostRow {
    /// Key inside the actor.
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    /// The value.
    #[prost(bytes = "bytes", tag = "2")]
    pub value: Bytes,
}

/// What became of a part.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct HostCommitted {
    /// The actor's version after it; 0: a reminder that must not be replaced was there, and nothing
    /// was committed.
    #[prost(uint64, tag = "1")]
    pub version: u64,
    /// Why nothing was committed, else empty.
    #[prost(string, tag = "2")]
    pub refusal: String,
    /// There was nothing to commit.
    #[prost(bool, tag = "3")]
    pub nothing: bool,
}

/// How a call inside a turn ended.
#[derive(Clone, PartialEq, Message)]
pub struct HostOutcome {
    /// Which way; absent: unknown to this build, and to be taken as *unknown*.
    #[prost(oneof = "Outcome", tags = "1, 2, 3, 4, 5")]
    pub outcome: Option<Outcome>,
}

/// The variants of [`HostOutcome`].
#[derive(Clone, PartialEq, Oneof)]
pub enum Outcome {
    /// See `CallOutcome::Reply`.
    #[prost(bytes = "bytes", tag = "1")]
    Reply(Bytes),
    /// See `CallOutcome::AppReply`.
    #[prost(message, tag = "2")]
    AppReply(AppReply),
    /// See `CallOutcome::App`.
    #[prost(message, tag = "3")]
    App(AppError),
    /// See `CallOutcome::NotRun`.
    #[prost(message, tag = "4")]
    NotRun(crate::call::NotRunAnswer),
    /// See `CallOutcome::Unknown`.
    #[prost(message, tag = "5")]
    Unknown(crate::call::UnknownAnswer),
}

/// See [`Said::Ended`].
#[derive(Clone, PartialEq, Message)]
pub struct HostEnded {
    /// The turn.
    #[prost(message, required, tag = "1")]
    pub turn: HostTurn,
    /// How.
    #[prost(oneof = "End", tags = "2, 3, 4, 5, 6, 7, 8")]
    pub end: Option<End>,
}

/// How a turn ended.
#[derive(Clone, PartialEq, Oneof)]
pub enum End {
    /// See `TurnEnd::Ok`.
    #[prost(message, tag = "2")]
    Ok(HostOk),
    /// See `TurnEnd::App`.
    #[prost(message, tag = "3")]
    App(AppError),
    /// See `TurnEnd::Refused`.
    #[prost(message, tag = "4")]
    Refused(crate::call::NotRunAnswer),
    /// See `TurnEnd::Lost`.
    #[prost(string, tag = "5")]
    Lost(String),
    /// See `TurnEnd::Panicked`.
    #[prost(string, tag = "6")]
    Panicked(String),
    /// See `TurnEnd::Answered`.
    #[prost(message, tag = "7")]
    Answered(HostAnswer),
    /// See `TurnEnd::NotStarted`.
    #[prost(string, tag = "8")]
    NotStarted(String),
}

/// A native turn that succeeded.
#[derive(Clone, PartialEq, Message)]
pub struct HostOk {
    /// The reply.
    #[prost(bytes = "bytes", tag = "1")]
    pub reply: Bytes,
    /// What it leaves behind.
    #[prost(message, required, tag = "2")]
    pub writes: HostWrites,
}

/// An application's answer.
#[derive(Clone, PartialEq, Message)]
pub struct HostAnswer {
    /// Success.
    #[prost(message, optional, tag = "1")]
    pub reply: Option<AppReply>,
    /// Or refusal.
    #[prost(message, optional, tag = "2")]
    pub refusal: Option<AppError>,
    /// What it leaves behind.
    #[prost(message, required, tag = "3")]
    pub writes: HostWrites,
    /// Whether the reminder or timer that it ran is to end.
    #[prost(enumeration = "Wish", tag = "4")]
    pub wish: i32,
}

/// What an application wants of the reminder or timer that fired.
#[derive(Clone, Copy, PartialEq, Eq, Debug, prost::Enumeration)]
#[repr(i32)]
pub enum Wish {
    /// It goes on.
    GoesOn = 0,
    /// It ends.
    Ends = 1,
}
