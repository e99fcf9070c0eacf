//! A call between nodes: the request as the gateway sends it, and the leader's answer.
//!
//! The wire carries remaining time, never a clock. `attempt` is 1 only for a request that was never
//! sent anywhere before, so that its leader need not look for a record; apply looks in every case.

use bytes::Bytes;
use prost::{Message, Oneof};

use crate::closed::ClosedRange;
use crate::command::{AppValue, ScheduleKind, ScheduleWrite, StateWrite};
use crate::outcome::AppError;

/// A request for one turn, from a gateway to a partition's leader.
#[derive(Clone, PartialEq, Message)]
pub struct CallRequest {
    /// The gateway's own number of this attempt, another one for each; the answer repeats it.
    #[prost(uint64, tag = "1")]
    pub call: u64,
    /// The actor's partition.
    #[prost(uint32, tag = "2")]
    pub partition: u32,
    /// Canonical request id.
    #[prost(bytes = "bytes", tag = "3")]
    pub request_id: Bytes,
    /// Canonical actor key.
    #[prost(bytes = "bytes", tag = "4")]
    pub actor: Bytes,
    /// Cleaned method name.
    #[prost(string, tag = "5")]
    pub method: String,
    /// The body, as the caller gave it.
    #[prost(bytes = "bytes", tag = "6")]
    pub body: Bytes,
    /// Milliseconds left until the caller's deadline; 0: none.
    #[prost(uint64, tag = "7")]
    pub remaining_ms: u64,
    /// 1 for a request never sent before; then one more for each time it is sent.
    #[prost(uint32, tag = "8")]
    pub attempt: u32,
    /// Every sequence of this session and partition below this one has its answer.
    #[prost(uint64, tag = "9")]
    pub closed_below: u64,
    /// Ranges above it that have theirs; at most `CLOSED_RANGES_TOLD_MAX`.
    #[prost(message, repeated, tag = "13")]
    pub closed_ranges: Vec<ClosedRange>,
    /// Actors that wait for this call, outermost first.
    #[prost(bytes = "bytes", repeated, tag = "10")]
    pub chain: Vec<Bytes>,
    /// What `cx.now` and `cx.rng` show; made with the first attempt.
    #[prost(message, optional, tag = "11")]
    pub stamp: Option<Stamp>,
    /// The term of the leader this is meant for, as far as the gateway knows; 0: not known.
    #[prost(uint64, tag = "12")]
    pub leader_term: u64,
    /// What travels beside the body to an application: headers, content type, query.
    #[prost(message, repeated, tag = "14")]
    pub metadata: Vec<Metadata>,
    /// Asked of the actor's rows instead of its code; absent: a turn. It waits in no mailbox.
    #[prost(message, optional, tag = "15")]
    pub operation: Option<Operation>,
}

/// One header.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Message)]
pub struct Metadata {
    /// Its name, in lower case.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its value.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// The answer of an application: a body, and what travels beside it.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct AppReply {
    /// Headers of the answer, content type included.
    #[prost(message, repeated, tag = "1")]
    pub metadata: Vec<Metadata>,
    /// The body.
    #[prost(bytes = "bytes", tag = "2")]
    pub body: Bytes,
}

/// What can be asked of an actor's rows. The reply to it is an [`OperationReply`].
#[derive(Clone, PartialEq, Message)]
pub struct Operation {
    /// Which.
    #[prost(oneof = "Ask", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11")]
    pub ask: Option<Ask>,
}

/// The variants of [`Operation`].
#[derive(Clone, PartialEq, Oneof)]
pub enum Ask {
    /// One state value.
    #[prost(bytes = "bytes", tag = "1")]
    StateGet(Bytes),
    /// State rows, outside a turn.
    #[prost(message, tag = "2")]
    StateWrite(StateChange),
    /// Reminders and timers that are set or removed.
    #[prost(message, tag = "3")]
    Schedule(ScheduleChange),
    /// One reminder or timer.
    #[prost(message, tag = "4")]
    ScheduleGet(ScheduleName),
    /// All reminders, or all timers, of the actor.
    #[prost(message, tag = "5")]
    ScheduleList(ScheduleName),
    /// Removes all reminders, or all timers, of the actor.
    #[prost(message, tag = "6")]
    ScheduleClear(ScheduleName),
    /// Keys of the actor's state.
    #[prost(message, tag = "7")]
    StateKeys(Page),
    /// Deletes the actor with all its state, reminders and timers.
    #[prost(message, tag = "8")]
    Delete(Delete),
    /// Actors of the addressed actor's type that have something in the addressed partition.
    #[prost(message, tag = "9")]
    ActorsOfType(Page),
    /// Reminders, or timers, of the addressed actor's type in the addressed partition.
    #[prost(message, tag = "10")]
    SchedulesOfType(SchedulePage),
    /// Whose turn it is and who waits, as the leader sees it at this moment.
    #[prost(message, tag = "11")]
    Inspect(Inspect),
}

impl Ask {
    /// Whether it is asked of a whole partition: then the addressed actor only names a type.
    #[must_use]
    pub fn is_of_partition(&self) -> bool {
        match self {
            Self::ActorsOfType(_) | Self::SchedulesOfType(_) => true,
            Self::StateGet(_)
            | Self::StateWrite(_)
            | Self::Schedule(_)
            | Self::ScheduleGet(_)
            | Self::ScheduleList(_)
            | Self::ScheduleClear(_)
            | Self::StateKeys(_)
            | Self::Delete(_)
            | Self::Inspect(_) => false,
        }
    }
}

/// State rows that an application writes outside a turn.
#[derive(Clone, PartialEq, Message)]
pub struct StateChange {
    /// Term of the activation that the application's object belongs to.
    #[prost(uint64, tag = "1")]
    pub term: u64,
    /// Its number.
    #[prost(uint64, tag = "2")]
    pub activation: u64,
    /// The actor's version that the object has; another one: it is refused.
    #[prost(uint64, tag = "3")]
    pub version: u64,
    /// The rows.
    #[prost(message, repeated, tag = "4")]
    pub writes: Vec<StateWrite>,
}

/// Reminders and timers that are set or removed, all or none.
#[derive(Clone, PartialEq, Message)]
pub struct ScheduleChange {
    /// Which.
    #[prost(message, repeated, tag = "1")]
    pub writes: Vec<ScheduleWrite>,
}

/// Which reminder or timer.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ScheduleName {
    /// Which of the two kinds.
    #[prost(enumeration = "ScheduleKind", tag = "1")]
    pub kind: i32,
    /// Its name; empty where all are meant.
    #[prost(string, tag = "2")]
    pub name: String,
}

/// A page of something.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Page {
    /// Strictly after this; empty: from the beginning.
    #[prost(bytes = "bytes", tag = "1")]
    pub after: Bytes,
    /// Most of them.
    #[prost(uint32, tag = "2")]
    pub limit: u32,
}

/// A page of the reminders, or of the timers, of a type.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct SchedulePage {
    /// Which of the two kinds.
    #[prost(enumeration = "ScheduleKind", tag = "1")]
    pub kind: i32,
    /// Strictly after this; empty: from the beginning.
    #[prost(bytes = "bytes", tag = "2")]
    pub after: Bytes,
    /// Most of them.
    #[prost(uint32, tag = "3")]
    pub limit: u32,
}

/// See [`Ask::Inspect`].
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Inspect {}

/// See [`Ask::Delete`].
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Delete {}

/// The reply to an [`Operation`].
#[derive(Clone, PartialEq, Message)]
pub struct OperationReply {
    /// Of `StateGet`: absent if there is none.
    #[prost(message, optional, tag = "1")]
    pub value: Option<AppValue>,
    /// Of `ScheduleGet` and `ScheduleList`; of `Schedule` and `ScheduleClear`: what was there
    /// before.
    #[prost(message, repeated, tag = "2")]
    pub schedule: Vec<ScheduleWrite>,
    /// Of `StateKeys`, ascending.
    #[prost(bytes = "bytes", repeated, tag = "3")]
    pub keys: Vec<Bytes>,
    /// The actor's version after it, where it wrote state.
    #[prost(uint64, tag = "4")]
    pub version: u64,
    /// Whether it was done.
    #[prost(enumeration = "Done", tag = "5")]
    pub done: i32,
    /// Of `ActorsOfType`: canonical keys, ascending.
    #[prost(bytes = "bytes", repeated, tag = "6")]
    pub actors: Vec<Bytes>,
    /// Of `SchedulesOfType`, ascending by actor and name.
    #[prost(message, repeated, tag = "7")]
    pub owned: Vec<OwnedSchedule>,
    /// Of pages: what the next one begins after; empty: there is none.
    #[prost(bytes = "bytes", tag = "8")]
    pub next: Bytes,
    /// Of `Inspect`; absent: the actor is not in memory.
    #[prost(message, optional, tag = "9")]
    pub standing: Option<Standing>,
}

/// A reminder or timer, and whose it is.
#[derive(Clone, PartialEq, Message)]
pub struct OwnedSchedule {
    /// Canonical actor key.
    #[prost(bytes = "bytes", tag = "1")]
    pub actor: Bytes,
    /// The row.
    #[prost(message, required, tag = "2")]
    pub schedule: ScheduleWrite,
}

/// What an actor is doing, for people who ask why a call waits.
#[derive(Clone, PartialEq, Message)]
pub struct Standing {
    /// Node id of the host, 16 bytes; empty: its turns run at its leader, or it has no host yet.
    #[prost(bytes = "bytes", tag = "1")]
    pub host: Bytes,
    /// The turn that runs.
    #[prost(message, optional, tag = "2")]
    pub turn: Option<WorkStanding>,
    /// In a word, when no turn runs: `idle`, `loading`, `committing`, `without host`.
    #[prost(string, tag = "3")]
    pub stage: String,
    /// Calls that wait for the turn, the next one first; at most `STANDING_CALLS_MAX`.
    #[prost(message, repeated, tag = "4")]
    pub waiting: Vec<WorkStanding>,
    /// How many wait in all.
    #[prost(uint32, tag = "5")]
    pub waiting_count: u32,
    /// Turns since activation.
    #[prost(uint64, tag = "6")]
    pub turns: u64,
    /// The actor's version, uncommitted turns included.
    #[prost(uint64, tag = "7")]
    pub version: u64,
}

/// Waiting calls that a [`Standing`] shows.
pub const STANDING_CALLS_MAX: usize = 32;

/// A turn that runs, or a call that waits for one.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct WorkStanding {
    /// `call`, `message`, `reminder` or `timer`.
    #[prost(string, tag = "1")]
    pub kind: String,
    /// The method, or the name of the reminder or timer.
    #[prost(string, tag = "2")]
    pub what: String,
    /// For how long it runs, or waits, in milliseconds.
    #[prost(uint64, tag = "3")]
    pub for_ms: u64,
    /// The request id, for people; empty: none of a caller's.
    #[prost(string, tag = "4")]
    pub request: String,
    /// Actors that wait for it, outermost first, as `type/id`.
    #[prost(string, repeated, tag = "5")]
    pub chain: Vec<String>,
}

/// See [`OperationReply::done`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, prost::Enumeration)]
#[repr(i32)]
pub enum Done {
    /// It was.
    Yes = 0,
    /// A reminder of that name is there already; nothing has changed.
    There = 1,
    /// The activation it names is over, or the actor has another version; nothing has changed.
    NotHeld = 2,
}

/// Wall time and randomness of a request's first attempt.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Stamp {
    /// Milliseconds since the Unix epoch.
    #[prost(uint64, tag = "1")]
    pub wall_ms: u64,
    /// Seed of the turn's random numbers.
    #[prost(uint64, tag = "2")]
    pub seed: u64,
}

/// The answer to a [`CallRequest`].
#[derive(Clone, PartialEq, Message)]
pub struct CallAnswer {
    /// The gateway's number of the attempt, from the request.
    #[prost(uint64, tag = "1")]
    pub call: u64,
    /// How it went.
    #[prost(oneof = "AnswerKind", tags = "2, 3, 4, 5, 6, 7")]
    pub kind: Option<AnswerKind>,
}

/// The variants of [`CallAnswer`].
#[derive(Clone, PartialEq, Oneof)]
pub enum AnswerKind {
    /// The turn committed.
    #[prost(bytes = "bytes", tag = "2")]
    Reply(Bytes),
    /// The turn ran and rolled back.
    #[prost(message, tag = "3")]
    App(AppError),
    /// This attempt certainly did not run, and another node cannot change that.
    #[prost(message, tag = "4")]
    NotRun(NotRunAnswer),
    /// The turn may have run and will not be answered.
    #[prost(message, tag = "5")]
    Unknown(UnknownAnswer),
    /// Not the leader (any more): ask elsewhere with the same id.
    #[prost(message, tag = "6")]
    Redirect(Redirect),
    /// The turn of an application's actor committed.
    #[prost(message, tag = "7")]
    AppReply(AppReply),
}

/// See [`crate::outcome::NotRun`].
#[derive(Clone, PartialEq, Eq, Message)]
pub struct NotRunAnswer {
    /// Number of the code.
    #[prost(uint32, tag = "1")]
    pub code: u32,
    /// The text for people.
    #[prost(string, tag = "2")]
    pub detail: String,
    /// Milliseconds; 0: trying again does not help.
    #[prost(uint64, tag = "3")]
    pub retry_after_ms: u64,
}

/// See [`crate::outcome::CallOutcome::Unknown`].
#[derive(Clone, PartialEq, Eq, Message)]
pub struct UnknownAnswer {
    /// Number of the code.
    #[prost(uint32, tag = "1")]
    pub code: u32,
    /// The text for people.
    #[prost(string, tag = "2")]
    pub detail: String,
}

/// The answering node does not lead the partition.
#[derive(Clone, PartialEq, Message)]
pub struct Redirect {
    /// What it knows about who does.
    #[prost(message, optional, tag = "1")]
    pub hint: Option<LeaderHint>,
    /// Whether this attempt may have run before leadership was lost.
    #[prost(enumeration = "MayHaveRun", tag = "2")]
    pub may_have_run: i32,
}

/// Whether an attempt may have had an effect.
#[derive(Clone, Copy, PartialEq, Eq, Debug, prost::Enumeration)]
#[repr(i32)]
pub enum MayHaveRun {
    /// It certainly had none.
    No = 0,
    /// It may have had one: only the same request id is safe.
    Yes = 1,
}

/// Who leads a partition, as somebody saw it. Never trusted for serving.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct LeaderHint {
    /// The partition.
    #[prost(uint32, tag = "1")]
    pub partition: u32,
    /// Term of the leadership.
    #[prost(uint64, tag = "2")]
    pub term: u64,
    /// The leader's node id, 16 bytes; empty: none known in that term.
    #[prost(bytes = "bytes", tag = "3")]
    pub leader: Bytes,
    /// Log index of the membership below.
    #[prost(uint64, tag = "4")]
    pub membership_index: u64,
    /// Node ids of the voters, 16 bytes each.
    #[prost(bytes = "bytes", repeated, tag = "5")]
    pub voters: Vec<Bytes>,
}
