//! The turn engine of one partition during one leadership.
//!
//! Decides which request becomes a turn and when, what a turn may read, what goes into the log, and
//! when an answer may leave. Each of its rules is a test by name in `turns/tests`. An engine lives
//! exactly as long as a leadership: it is opened after the first entry of its term was applied, and
//! closed at any change of role or term, also if the same node wins again.
//!
//! Absent: Raft, the store, routing and what a turn does. They are asked by effects.

mod activation;
mod answers;
mod arrival;
mod commit;
mod dedup;
mod ending;
mod engine;
mod entered;
mod fixed_hash;
mod idle;
mod inbox;
mod jobs;
mod listings;
mod log;
mod mailbox;
mod operations;
mod parts;
mod reads;
mod running;
mod standing;
#[cfg(test)]
mod tests;
mod wakeup;

pub(crate) use answers::{not_run, outcome_kind, reused, session_closed};
pub use engine::{
    ActivationView, Counters, Load, NativeTypes, Opening, Progress, Settings, Turns, Writes,
};
pub use entered::ReentrantTypes;
pub use jobs::{Due, Standing, WakeupEnd};
pub(crate) use wakeup::next_tick;

use bytes::Bytes;
use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::call::{AnswerKind, CallRequest, Metadata};
use ghostlight_protocol::command::{Envelope, Kind, ScheduleWrite};
use ghostlight_protocol::family::Family;
use ghostlight_protocol::ids::NodeId;
use ghostlight_protocol::outcome::CallOutcome;
use ghostlight_protocol::replica::EntryOutcome;
use ghostlight_protocol::request::RequestId;
use ghostlight_protocol::time::Instant;

use crate::io::Rest;
use crate::turn_io::{ActivationId, RunnerEffect, RunnerInput, TurnId};

/// Where an answer goes: a gateway's call.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Caller {
    /// The gateway's node; may be this one.
    pub node: NodeId,
    /// The gateway's number of the call.
    pub call: u64,
}

/// Number of a read of rows that the engine asked for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ReadId(pub u64);

/// Number of a ReadIndex round that the engine asked for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ConfirmId(pub u64);

/// What the engine is fed.
#[derive(Clone, PartialEq, Debug)]
pub enum TurnsInput {
    /// A gateway asks for a turn.
    Call {
        /// Who asks.
        from: Caller,
        /// For what.
        request: CallRequest,
    },
    /// The caller has gone: a waiting call leaves the mailbox; a running turn goes on.
    Hangup(Caller),
    /// From whoever runs turns.
    Runner(RunnerInput),
    /// A call made inside a turn has its answer.
    Called {
        /// The turn that called.
        turn: TurnId,
        /// Which of its asks.
        ask: u32,
        /// The answer.
        outcome: CallOutcome,
    },
    /// The rows of a `TurnsEffect::Read`, committed ones only, in the order asked.
    RowsRead {
        /// Which read.
        read: ReadId,
        /// One value for each key of `Rows::Keys`; key and value of each row of `Rows::Scan`.
        rows: Vec<(Bytes, Option<Bytes>)>,
        /// Of `Rows::Scan`, whether more rows may follow.
        rest: Rest,
    },
    /// An entry that this leadership proposed was applied. Entries come in the order of their
    /// proposals.
    Applied(EntryOutcome),
    /// Raft refused the latest `Propose` synchronously: nothing of it is in the log.
    Dropped,
    /// A ReadIndex begun after `TurnsEffect::Confirm` was answered, and everything up to it is
    /// applied.
    Confirmed(ConfirmId),
    /// Messages accepted from other partitions, in inbox order: at opening from the store, later
    /// from `EntryOutcome::Accepted`.
    Inbox(Vec<(u64, Envelope)>),
    /// Admit no new turn until `Resume`: leadership is about to be handed over. Calls queue.
    Pause,
    /// The handover was given up.
    Resume,
    /// The group has more or fewer voters than before: writes are taken, or refused.
    Writes(Writes),
    /// A reminder or timer is due. `TurnsEffect::WakeupOver` follows, whatever becomes of it.
    Due(Box<Due>),
    /// The activation must end, because its actor is to run elsewhere: now, or after its turn.
    Deactivate(ActivationId),
    /// A deadline has passed.
    Tick,
}

/// What the engine wants.
#[derive(Clone, PartialEq, Debug)]
pub enum TurnsEffect {
    /// To whoever runs turns.
    Runner(RunnerEffect),
    /// Put this into the log. If Raft refuses, `TurnsInput::Dropped` follows at once.
    Propose(Kind),
    /// Begin a ReadIndex now.
    Confirm(ConfirmId),
    /// Read committed rows.
    Read {
        /// The answer repeats it.
        read: ReadId,
        /// Which.
        rows: RowsWanted,
    },
    /// Answer a gateway.
    Answer {
        /// Whom.
        to: Caller,
        /// What.
        kind: AnswerKind,
    },
    /// A running turn calls another actor: hand it to this node's gateway.
    Call(NestedCall),
    /// A turn that has called is over: nobody waits for what it called.
    TurnGone(TurnId),
    /// A firing is over; its row says whether, and when, there is another one.
    WakeupOver(Box<Due>, WakeupEnd),
    /// Reminders and timers were set or removed by what is applied now.
    Scheduled(ActorKey, Vec<ScheduleWrite>),
}

/// Rows to read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RowsWanted {
    /// These rows.
    Keys(Vec<(Family, Bytes)>),
    /// Rows of a family by prefix, ascending, strictly after `after` (full family keys).
    Scan {
        /// The family.
        family: Family,
        /// Beginning of the keys.
        prefix: Bytes,
        /// Last key of the page before.
        after: Option<Bytes>,
        /// Most rows.
        limit: usize,
    },
}

/// A call made inside a turn.
#[derive(Clone, PartialEq, Debug)]
pub struct NestedCall {
    /// The turn that calls.
    pub turn: TurnId,
    /// Which of its asks.
    pub ask: u32,
    /// Its id: hash of the turn's request, ordinal, target, method and arguments.
    pub request: RequestId,
    /// The called actor.
    pub actor: ActorKey,
    /// Cleaned method name.
    pub method: String,
    /// The body.
    pub body: Bytes,
    /// Latest moment to wait for.
    pub deadline: Instant,
    /// Actors that wait, the calling actor last.
    pub chain: Vec<ActorKey>,
    /// Stamp for the callee, derived from the caller's.
    pub stamp: ghostlight_protocol::call::Stamp,
    /// 1 if the turn itself is a first attempt, else 2: the callee must look for a record.
    pub attempt: u32,
    /// What travels beside the body.
    pub metadata: Vec<Metadata>,
}
