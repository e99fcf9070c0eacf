//! Reads of committed rows, and what a request's record says when it arrives again.

use std::collections::BTreeMap;

use bytes::Bytes;
use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::code::Code;
use ghostlight_protocol::command::{DedupRecord, SessionRow};
use ghostlight_protocol::family::{self, Family};
use ghostlight_protocol::ids::ActorVersion;
use ghostlight_protocol::outcome::NotRun;
use ghostlight_protocol::replica::apply::read_version;
use ghostlight_protocol::request::RequestId;
use ghostlight_protocol::time::Instant;
use prost::Message;

use super::activation::{Ground, Stage};
use super::answers::{not_run, outcome_kind, reused, session_closed};
use super::arrival::FULL_PAUSE;
use super::engine::Turns;
use super::fixed_hash::{FixedHash, FixedMap};
use super::jobs::JobId;
use super::listings::Listing;
use super::operations::Gathering;
use super::parts::Part;
use super::{ReadId, RowsWanted, TurnsEffect};
use crate::io::Rest;
use crate::turn_io::TurnId;

/// Rows as the store returns them.
pub(super) type Rows = Vec<(Bytes, Option<Bytes>)>;

/// What a read is for.
#[derive(Debug)]
pub(super) enum PendingRead {
    /// A request's record.
    Record(JobId),
    /// The version an actor's turns begin with.
    Version(ActorKey),
    /// A running turn asked for a row.
    Get { turn: TurnId, ask: u32 },
    /// A running turn asked for a page.
    Scan(Scan),
    /// Messages that did not fit into memory.
    Inbox,
    /// An operation asked for a row.
    Operation(JobId),
    /// An operation asked for many.
    Gather(Box<Gathering>),
    /// An operation lists what a partition has.
    List(Box<Listing>),
    /// A part must not replace these.
    Part(Part),
}

/// A page on its way.
#[derive(Debug)]
pub(super) struct Scan {
    pub(super) turn: TurnId,
    pub(super) ask: u32,
    pub(super) actor: ActorKey,
    pub(super) prefix: Bytes,
    pub(super) limit: usize,
    /// Uncommitted rows not yet merged in, as of the moment of the question.
    pub(super) overlay: BTreeMap<Bytes, Option<Bytes>>,
}

/// Reads asked and not answered.
#[derive(Debug)]
pub(super) struct PendingReads {
    table: FixedMap<ReadId, PendingRead>,
    last: u64,
}

impl PendingReads {
    pub(super) fn new(hash: FixedHash) -> Self {
        Self {
            table: FixedMap::with_hasher(hash),
            last: 0,
        }
    }

    pub(super) fn ask(&mut self, what: PendingRead, rows: RowsWanted, out: &mut Vec<TurnsEffect>) {
        self.last += 1;
        let read = ReadId(self.last);
        self.table.insert(read, what);
        out.push(TurnsEffect::Read { read, rows });
    }
}

impl Turns {
    pub(super) fn on_rows(
        &mut self,
        now: Instant,
        read: ReadId,
        rows: Rows,
        rest: Rest,
        out: &mut Vec<TurnsEffect>,
    ) {
        match self.reads.table.swap_remove(&read) {
            Some(PendingRead::Record(job)) => self.on_record(now, job, rows, out),
            Some(PendingRead::Version(actor)) => self.on_version(now, &actor, &rows, out),
            Some(PendingRead::Get { turn, ask }) => {
                let value = rows.into_iter().next().and_then(|(_, value)| value);
                self.tell_value(turn, ask, value, out);
            }
            Some(PendingRead::Scan(scan)) => self.on_page(scan, rows, rest, out),
            Some(PendingRead::Inbox) => self.on_inbox_page(now, rows, rest, out),
            Some(PendingRead::Operation(job)) => self.on_looked(now, job, rows, out),
            Some(PendingRead::Gather(gathering)) => {
                self.on_gathered(now, *gathering, rows, rest, out);
            }
            Some(PendingRead::List(listing)) => self.on_listed(now, *listing, rows, rest, out),
            Some(PendingRead::Part(part)) => self.on_part_rows(now, part, &rows, out),
            None => {}
        }
    }

    /// Asks for the record of a request that may have run before.
    pub(super) fn look_up(&mut self, id: JobId, out: &mut Vec<TurnsEffect>) {
        let call = self.jobs.at(id).call().expect("only calls have records");
        let mut keys = vec![(Family::Dedup, call.key.clone())];
        if let RequestId::Session { session, .. } = call.id {
            keys.push((Family::Session, family::session_key(session)));
        }
        let rows = RowsWanted::Keys(keys);
        self.reads.ask(PendingRead::Record(id), rows, out);
    }

    fn on_record(&mut self, now: Instant, id: JobId, rows: Rows, out: &mut Vec<TurnsEffect>) {
        let Some(job) = self.jobs.get(id) else {
            return; // Hung up meanwhile.
        };
        let key = job.actor.clone();
        let operation = job.is_operation();
        let call = job.call().expect("only calls are looked up");
        let mut rows = rows.into_iter();
        let record = rows.next().and_then(|(_, value)| value);
        let session = rows.next().and_then(|(_, value)| value);
        let answer = match record.map(|bytes| DedupRecord::decode(bytes).unwrap_or_default()) {
            Some(record) if record.digest[..] == call.digest.to_be_bytes() => {
                self.counters.answers_recorded += 1;
                Some(outcome_kind(
                    record.answer.unwrap_or_default().into_outcome(),
                ))
            }
            Some(_) => Some(reused(&call.id)),
            None => match call.id {
                RequestId::Session { sequence, .. } => {
                    let row = session.and_then(|bytes| SessionRow::decode(bytes).ok());
                    let closed = row.is_some_and(|row| row.closed().contains(sequence));
                    closed.then(session_closed)
                }
                RequestId::Outside(_) | RequestId::Derived(_) if job.serves_a_turn() => None,
                RequestId::Outside(_) | RequestId::Derived(_) => self.dedup_full(),
            },
        };
        match answer {
            None if operation => self.operate(now, id, out),
            None => self.enqueue(now, id, out),
            Some(answer) => {
                self.rouse(&key);
                if !operation {
                    self.actors.at(&key).mailbox.dismiss(&self.jobs);
                }
                self.hold(id, 0, Ground::Fact, answer);
                self.touch(now, &key, out);
            }
        }
    }

    fn dedup_full(&mut self) -> Option<ghostlight_protocol::call::AnswerKind> {
        if self.load.dedup_bytes <= self.settings.dedup_bytes_max {
            return None;
        }
        self.counters.calls_refused += 1;
        Some(not_run(&NotRun::retry(
            Code::DedupFull,
            format!(
                "{} keeps {} bytes of request records, at most {} are allowed; use fewer request \
                 ids of your own, or wait until old ones expire",
                self.partition, self.load.dedup_bytes, self.settings.dedup_bytes_max
            ),
            FULL_PAUSE,
        )))
    }

    fn on_version(
        &mut self,
        now: Instant,
        key: &ActorKey,
        rows: &Rows,
        out: &mut Vec<TurnsEffect>,
    ) {
        let Some(actor) = self.actors.get_mut(key) else {
            return;
        };
        if !matches!(actor.stage, Stage::Loading) {
            return;
        }
        let value = rows.first().and_then(|(_, value)| value.as_deref());
        let version = value.and_then(read_version);
        actor.version = Some(ActorVersion(version.unwrap_or(0)));
        actor.stage = Stage::Idle;
        self.touch(now, key, out);
    }
}
