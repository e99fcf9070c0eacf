//! What is asked of an actor's rows instead of its code: state, reminders and timers of
//! applications.
//!
//! An operation takes no turn: it waits in no mailbox, so that an application may ask while it runs
//! one. What it writes is an entry like any other, with a record of its request; what it reads
//! leaves only when a ReadIndex begun after it arrived is confirmed. Absent: what an application
//! staged in a running turn; its host keeps that.

use std::collections::VecDeque;

use bytes::Bytes;
use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::call::{AnswerKind, Ask, Done, OperationReply, StateChange};
use ghostlight_protocol::code::Code;
use ghostlight_protocol::command::{
    AppValue, Fate, ScheduleKind, ScheduleRow, ScheduleWrite, StateWrite, TurnCommit, TurnKind,
};
use ghostlight_protocol::family::{self, Family};
use ghostlight_protocol::ids::ActorVersion;
use ghostlight_protocol::outcome::{NotRun, TurnAnswer};
use ghostlight_protocol::replica::apply::read_version;
use ghostlight_protocol::time::Instant;
use prost::Message;

use super::activation::{Ground, Stage};
use super::answers::not_run;
use super::arrival::FULL_PAUSE;
use super::dedup::{PendingRead, Rows};
use super::engine::Turns;
use super::jobs::{JobId, Place};
use super::log::{COMMAND_BYTES, Purpose, turn_bytes};
use super::{RowsWanted, TurnsEffect};
use crate::io::Rest;

/// Rows that one page of a read has.
const PAGE_ROWS: usize = 1_024;
/// Rows that one operation looks at.
pub(super) const OPERATION_ROWS_MAX: usize = 65_536;

/// Rows of several families that are read for one operation.
#[derive(Debug)]
pub(super) struct Gathering {
    job: JobId,
    /// Family and prefix of what is still to be read; the first is being read.
    wanted: VecDeque<(Family, Bytes)>,
    found: Vec<(Family, Bytes, Bytes)>,
    limit: usize,
}

impl Turns {
    /// Carries out an operation whose request has no record.
    pub(super) fn operate(&mut self, now: Instant, id: JobId, out: &mut Vec<TurnsEffect>) {
        let job = self.jobs.at(id);
        job.place = Place::Asking;
        let key = job.actor.clone();
        let ask = job.call().and_then(|call| call.operation.as_deref());
        let Some(ask) = ask.cloned() else {
            unreachable!("only operations are carried out here");
        };
        let scan = |family, prefix| VecDeque::from([(family, prefix)]);
        match ask {
            Ask::StateGet(state_key) => {
                let row = (Family::State, family::state_key(&key, &state_key));
                self.look(id, row, out);
            }
            Ask::ScheduleGet(name) => {
                let row = family::schedule_key(&key, name.kind(), &name.name);
                self.look(id, (Family::Schedule, row), out);
            }
            Ask::ScheduleList(name) | Ask::ScheduleClear(name) => {
                let prefix = family::schedule_prefix(&key, name.kind());
                self.gather(
                    id,
                    scan(Family::Schedule, prefix),
                    OPERATION_ROWS_MAX,
                    None,
                    out,
                );
            }
            Ask::StateKeys(page) => {
                let prefix = family::state_prefix(&key);
                let after = (!page.after.is_empty()).then(|| family::state_key(&key, &page.after));
                let limit = (page.limit as usize).clamp(1, OPERATION_ROWS_MAX);
                self.gather(id, scan(Family::State, prefix), limit, after, out);
            }
            Ask::Delete(_) => {
                let families = [Family::Version, Family::State, Family::Schedule];
                let wanted = families.map(|family| (family, key.to_bytes()));
                self.gather(id, wanted.into(), OPERATION_ROWS_MAX, None, out);
            }
            Ask::ActorsOfType(page) => self.list_actors(id, &page, out),
            Ask::SchedulesOfType(asked) => self.list_schedules(id, &asked, out),
            // Asked while the leadership was opening: later ones are answered by the node, which
            // knows the host.
            Ask::Inspect(_) => {
                let reply = OperationReply {
                    standing: self.standing(now, &key),
                    ..OperationReply::default()
                };
                self.tell_read(now, id, &reply, out);
            }
            Ask::Schedule(change) => self.change_schedule(now, id, change.writes, out),
            Ask::StateWrite(change) => self.change_state(now, id, change, out),
        }
    }

    fn look(&mut self, id: JobId, row: (Family, Bytes), out: &mut Vec<TurnsEffect>) {
        let rows = RowsWanted::Keys(vec![row]);
        self.reads.ask(PendingRead::Operation(id), rows, out);
    }

    fn gather(
        &mut self,
        job: JobId,
        wanted: VecDeque<(Family, Bytes)>,
        limit: usize,
        after: Option<Bytes>,
        out: &mut Vec<TurnsEffect>,
    ) {
        let gathering = Gathering {
            job,
            wanted,
            found: Vec::new(),
            limit,
        };
        self.gather_on(gathering, after, out);
    }

    fn gather_on(
        &mut self,
        gathering: Gathering,
        after: Option<Bytes>,
        out: &mut Vec<TurnsEffect>,
    ) {
        let Some((family, prefix)) = gathering.wanted.front().cloned() else {
            unreachable!("a gathering reads something");
        };
        let rows = RowsWanted::Scan {
            family,
            prefix,
            after,
            limit: PAGE_ROWS,
        };
        self.reads
            .ask(PendingRead::Gather(Box::new(gathering)), rows, out);
    }

    /// A page of an operation's rows.
    pub(super) fn on_gathered(
        &mut self,
        now: Instant,
        mut gathering: Gathering,
        rows: Rows,
        rest: Rest,
        out: &mut Vec<TurnsEffect>,
    ) {
        let Some((family, _)) = gathering.wanted.front().cloned() else {
            unreachable!("a gathering reads something");
        };
        let last = rows.last().map(|(key, _)| key.clone());
        let rows = rows.into_iter().filter_map(|(k, v)| Some((family, k, v?)));
        gathering.found.extend(rows);
        let full = gathering.found.len() >= gathering.limit;
        if rest == Rest::More && !full {
            return self.gather_on(gathering, last, out);
        }
        gathering.wanted.pop_front();
        if !gathering.wanted.is_empty() && !full {
            return self.gather_on(gathering, None, out);
        }
        let whole = gathering.wanted.is_empty() && rest == Rest::Last;
        let Gathering {
            job,
            mut found,
            limit,
            ..
        } = gathering;
        found.truncate(limit);
        self.on_found(
            now,
            job,
            found,
            if whole { Rest::Last } else { Rest::More },
            out,
        );
    }

    /// The row that an operation asked for.
    pub(super) fn on_looked(
        &mut self,
        now: Instant,
        id: JobId,
        rows: Rows,
        out: &mut Vec<TurnsEffect>,
    ) {
        let Some(job) = self.jobs.get(id) else {
            return;
        };
        let value = rows.into_iter().next().and_then(|(_, value)| value);
        let mut reply = OperationReply::default();
        match job.call().and_then(|call| call.operation.as_deref()) {
            Some(Ask::ScheduleGet(name)) => {
                let write = value.map(|row| schedule_of(name.kind(), &name.name, row));
                reply.schedule = write.into_iter().collect();
            }
            _ => {
                let wall = self.wall.0;
                let value = value.map(|bytes| AppValue::decode(bytes).unwrap_or_default());
                reply.value = value.filter(|v| v.expires_ms == 0 || v.expires_ms > wall);
            }
        }
        self.tell_read(now, id, &reply, out);
    }

    fn on_found(
        &mut self,
        now: Instant,
        id: JobId,
        found: Vec<(Family, Bytes, Bytes)>,
        rest: Rest,
        out: &mut Vec<TurnsEffect>,
    ) {
        let Some(job) = self.jobs.get(id) else {
            return;
        };
        let key = job.actor.clone();
        let Some(ask) = job.call().and_then(|call| call.operation.as_deref()) else {
            return;
        };
        let schedules = || {
            let rows = found
                .iter()
                .filter(|(family, ..)| *family == Family::Schedule);
            rows.filter_map(|(_, key, row)| {
                let (_, kind, name) = family::parse_schedule_key(key)?;
                Some(schedule_of(kind, &name, row.clone()))
            })
        };
        match (ask, rest) {
            (Ask::StateKeys(_), _) => {
                let skip = key.as_bytes().len();
                let keys = found.iter().map(|(_, key, _)| key.slice(skip..)).collect();
                let reply = OperationReply {
                    keys,
                    ..OperationReply::default()
                };
                self.tell_read(now, id, &reply, out);
            }
            (_, Rest::More) => self.refuse_operation(now, id, &too_many(&key), out),
            (Ask::ScheduleClear(_), Rest::Last) => {
                let writes = schedules().map(|write| ScheduleWrite { row: None, ..write });
                let writes = writes.collect();
                self.change_schedule(now, id, writes, out);
            }
            (Ask::Delete(_), Rest::Last) => {
                let schedule = schedules().map(|write| ScheduleWrite { row: None, ..write });
                let schedule = schedule.collect();
                self.delete_actor(now, id, &found, schedule, out);
            }
            (_, Rest::Last) => {
                let reply = OperationReply {
                    schedule: schedules().collect(),
                    ..OperationReply::default()
                };
                self.tell_read(now, id, &reply, out);
            }
        }
    }

    fn change_schedule(
        &mut self,
        now: Instant,
        id: JobId,
        writes: Vec<ScheduleWrite>,
        out: &mut Vec<TurnsEffect>,
    ) {
        let commit = TurnCommit {
            schedule: writes,
            kind: TurnKind::RecordOnly as i32,
            ..TurnCommit::default()
        };
        self.enter(now, id, commit, OperationReply::default(), out);
    }

    fn change_state(
        &mut self,
        now: Instant,
        id: JobId,
        change: StateChange,
        out: &mut Vec<TurnsEffect>,
    ) {
        let key = self.jobs.at(id).actor.clone();
        let held = self.actors.get(&key).is_some_and(|actor| {
            let number = actor.activation.map(|activation| activation.number);
            matches!(actor.stage, Stage::Idle)
                && actor.ledger.is_settled()
                && number == Some(change.activation)
                && actor.version == Some(ActorVersion(change.version))
        });
        if !held || self.term.0 != change.term {
            let reply = OperationReply {
                done: Done::NotHeld as i32,
                ..OperationReply::default()
            };
            return self.tell_read(now, id, &reply, out);
        }
        let commit = TurnCommit {
            state: change.writes,
            kind: TurnKind::Write as i32,
            ..TurnCommit::default()
        };
        let reply = OperationReply {
            version: change.version + 1,
            ..OperationReply::default()
        };
        self.enter(now, id, commit, reply, out);
    }

    fn delete_actor(
        &mut self,
        now: Instant,
        id: JobId,
        found: &[(Family, Bytes, Bytes)],
        schedule: Vec<ScheduleWrite>,
        out: &mut Vec<TurnsEffect>,
    ) {
        let key = self.jobs.at(id).actor.clone();
        self.rouse(&key);
        let actor = self.actors.at(&key);
        if !matches!(actor.stage, Stage::Idle) || !actor.ledger.is_settled() {
            let text = format!("{key} is in a turn; it can be deleted when that is over");
            let refusal = NotRun::retry(Code::MailboxFull, text, FULL_PAUSE);
            return self.refuse_operation(now, id, &refusal, out);
        }
        let version = found
            .iter()
            .find(|(family, ..)| *family == Family::Version)
            .and_then(|(.., row)| read_version(row))
            .unwrap_or(0);
        actor.version = Some(ActorVersion(version));
        let skip = key.as_bytes().len();
        let rows = found.iter().filter(|(family, ..)| *family == Family::State);
        let state = rows.map(|(_, row, _)| StateWrite {
            key: row.slice(skip..),
            ..StateWrite::default()
        });
        let commit = TurnCommit {
            state: state.collect(),
            schedule,
            kind: TurnKind::Write as i32,
            fate: Fate::Deleted as i32,
            ..TurnCommit::default()
        };
        // Its object in memory has what is deleted.
        self.drop_activation(&key, out);
        let reply = OperationReply {
            version: version + 1,
            ..OperationReply::default()
        };
        self.enter(now, id, commit, reply, out);
    }

    /// Puts what an operation writes into the log.
    fn enter(
        &mut self,
        now: Instant,
        id: JobId,
        what: TurnCommit,
        reply: OperationReply,
        out: &mut Vec<TurnsEffect>,
    ) {
        let key = self.jobs.at(id).actor.clone();
        self.rouse(&key);
        let body = Bytes::from(reply.encode_to_vec());
        let answer = TurnAnswer::reply(body.clone());
        let commit = TurnCommit {
            state: what.state,
            schedule: what.schedule,
            fate: what.fate,
            ..self.commit(
                &key,
                id,
                TurnKind::try_from(what.kind).unwrap_or(TurnKind::RecordOnly),
                answer,
            )
        };
        if turn_bytes(&commit) + COMMAND_BYTES > self.settings.entry_bytes_max {
            return self.refuse_operation(now, id, &too_many(&key), out);
        }
        if let Some(refusal) = self.unwanted() {
            return self.refuse_operation(now, id, &refusal, out);
        }
        self.push_entry_for(
            &key,
            id,
            0,
            commit,
            AnswerKind::Reply(body),
            Purpose::Operation,
        );
        self.touch(now, &key, out);
    }

    pub(super) fn tell_read(
        &mut self,
        now: Instant,
        id: JobId,
        reply: &OperationReply,
        out: &mut Vec<TurnsEffect>,
    ) {
        let answer = AnswerKind::Reply(reply.encode_to_vec().into());
        self.hold_operation(now, id, answer, out);
    }

    fn refuse_operation(
        &mut self,
        now: Instant,
        id: JobId,
        refusal: &NotRun,
        out: &mut Vec<TurnsEffect>,
    ) {
        self.hold_operation(now, id, not_run(refusal), out);
    }

    fn hold_operation(
        &mut self,
        now: Instant,
        id: JobId,
        answer: AnswerKind,
        out: &mut Vec<TurnsEffect>,
    ) {
        let key = self.jobs.at(id).actor.clone();
        self.rouse(&key);
        self.hold(id, 0, Ground::Fact, answer);
        self.touch(now, &key, out);
    }
}

/// What an operation hears whose entry apply skipped.
pub(super) fn not_done(done: Done) -> AnswerKind {
    let reply = OperationReply {
        done: done as i32,
        ..OperationReply::default()
    };
    AnswerKind::Reply(reply.encode_to_vec().into())
}

fn too_many(key: &ActorKey) -> NotRun {
    NotRun::new(
        Code::TurnTooLarge,
        format!(
            "{key} has more rows than one entry of the log takes; at most {OPERATION_ROWS_MAX} can be listed or \
             deleted at once. Remove some of them in turns of the actor"
        ),
    )
}

pub(super) fn schedule_of(kind: ScheduleKind, name: &str, row: Bytes) -> ScheduleWrite {
    ScheduleWrite {
        kind: kind as i32,
        name: name.to_owned(),
        row: Some(ScheduleRow::decode(row).unwrap_or_default()),
        ..ScheduleWrite::default()
    }
}
