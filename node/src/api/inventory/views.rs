//! What the inventory tells, as JSON. Field names are part of the `--json` contract.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ghostlight_core::admin::NodeRef;
use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::calendar::rfc3339;
use ghostlight_protocol::call::WorkStanding;
use ghostlight_protocol::command::{DataForm, ScheduleKind, ScheduleRow};
use ghostlight_protocol::time::WallTime;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// A page of actors.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ActorsPage {
    /// Their ids.
    pub actors: Vec<String>,
    /// Token of the next page; none: this was the last one.
    pub next: Option<String>,
}

/// A page of keys of an actor's state.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct KeysPage {
    /// The keys; bytes that are no UTF-8 are replaced.
    pub keys: Vec<String>,
    /// Token of the next page; none: this was the last one.
    pub next: Option<String>,
}

/// A page of reminders or timers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SchedulesPage {
    /// The rows.
    pub items: Vec<ScheduleView>,
    /// Token of the next page; none: this was the last one.
    pub next: Option<String>,
}

/// A reminder or timer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ScheduleView {
    /// `type/id`.
    pub actor: String,
    /// Its name.
    pub name: String,
    /// `reminder` or `timer`.
    pub kind: String,
    /// When it fires next; of a timer: when it fired, or fires, first.
    pub due: String,
    /// As it was given; empty: it fires once.
    pub period: String,
    /// Firings left; none: without end.
    pub repetitions: Option<u32>,
    /// When it ends; none: never.
    pub ends: Option<String>,
    /// The method that a timer calls.
    pub callback: String,
    /// What it hands to the actor, as JSON; bytes in base64.
    pub data: Option<Box<RawValue>>,
    /// How often the present firing has failed.
    pub attempts: u32,
    /// Ticks that passed without a firing of their own.
    pub missed: u64,
    /// Firings that were given up.
    pub dropped: u64,
}

impl ScheduleView {
    /// A row as it is shown.
    #[must_use]
    pub fn of(actor: &ActorKey, kind: ScheduleKind, name: String, row: ScheduleRow) -> Self {
        let form = row.form();
        let data = row.data.map(|data| match form {
            DataForm::Json => String::from_utf8_lossy(&data).into_owned(),
            DataForm::Bytes => format!("\"{}\"", STANDARD.encode(&data)),
        });
        Self {
            actor: actor.to_string(),
            name,
            kind: match kind {
                ScheduleKind::Reminder => "reminder",
                ScheduleKind::Timer => "timer",
            }
            .to_owned(),
            due: rfc3339(WallTime(row.due_ms)),
            period: if row.period_given.is_empty() {
                row.period
            } else {
                row.period_given
            },
            repetitions: row.repetitions,
            ends: (row.ends_ms > 0).then(|| rfc3339(WallTime(row.ends_ms))),
            callback: row.callback,
            data: data.and_then(|json| RawValue::from_string(json).ok()),
            attempts: row.attempts,
            missed: row.missed,
            dropped: row.dropped,
        }
    }
}

/// Where an actor is, whose turn it is and who waits, as its leader sees it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StandingView {
    /// `type/id`.
    pub actor: String,
    /// Its partition.
    pub partition: u16,
    /// Leader of the partition, as far as known.
    pub leader: Option<NodeRef>,
    /// Nodes with a voting copy.
    pub replicas: Vec<NodeRef>,
    /// Node whose application runs its turns; none: its leader's own process, or nobody yet.
    pub host: Option<NodeRef>,
    /// `in a turn`, `idle`, `loading`, `committing`, `waiting for a host`, or `not in memory`.
    pub stage: String,
    /// The turn that runs.
    pub turn: Option<WorkView>,
    /// The first calls that wait for it, the next one first.
    pub waiting: Vec<WorkView>,
    /// How many wait in all.
    pub waiting_count: u32,
    /// Turns since it came into memory.
    pub turns: u64,
    /// Version of its state.
    pub version: u64,
}

/// A turn that runs, or a call that waits.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct WorkView {
    /// `call`, `message`, `reminder` or `timer`.
    pub kind: String,
    /// The method, or the name of the reminder or timer.
    pub what: String,
    /// For how long it runs, or waits, in milliseconds.
    pub for_ms: u64,
    /// The request id, for people; empty: it has none.
    pub request: String,
    /// Actors that wait for it, outermost first.
    pub chain: Vec<String>,
}

impl From<WorkStanding> for WorkView {
    fn from(work: WorkStanding) -> Self {
        Self {
            kind: work.kind,
            what: work.what,
            for_ms: work.for_ms,
            request: work.request,
            chain: work.chain,
        }
    }
}
