//! Parts of an application's turn: what it has staged commits, and the turn goes on.
//!
//! From the first part on the request is recorded as interrupted: whoever asks again hears that,
//! and it is never run again. One part is on its way at a time, and what else is asked of the actor
//! meanwhile, as a timer that is set, is settled before it; only an actor without uncommitted turns
//! runs for an application, so a part rests on nothing that could be taken back.

use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::call::AnswerKind;
use ghostlight_protocol::code::Code;
use ghostlight_protocol::command::{IfThere, ScheduleWrite, Share, TurnCommit, TurnKind};
use ghostlight_protocol::family::{self, Family};
use ghostlight_protocol::ids::ActorVersion;
use ghostlight_protocol::outcome::{NotRun, TurnAnswer};
use ghostlight_protocol::time::Instant;

use super::activation::Stage;
use super::dedup::{PendingRead, Rows};
use super::engine::Turns;
use super::jobs::{Job, Standing, Work};
use super::log::{COMMAND_BYTES, Purpose, turn_bytes};
use super::running::tell;
use super::{RowsWanted, TurnsEffect};
use crate::turn_io::{PartEnd, Staged, TurnId, TurnTold};

/// A part that waits: for what is under way, or for a look at the reminders it must not replace.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) turn: TurnId,
    pub(super) ask: u32,
    pub(super) staged: Box<Staged>,
}

impl Turns {
    pub(super) fn on_part(
        &mut self,
        now: Instant,
        key: &ActorKey,
        part: Part,
        out: &mut Vec<TurnsEffect>,
    ) {
        let Some(part) = self.when_settled(key, part, out) else {
            return;
        };
        let only_new = |write: &&ScheduleWrite| write.if_there() == IfThere::Skip;
        let rows: Vec<_> = part
            .staged
            .schedule
            .iter()
            .filter(only_new)
            .map(|write| {
                let row = family::schedule_key(key, write.kind(), &write.name);
                (Family::Schedule, row)
            })
            .collect();
        if rows.is_empty() {
            return self.commit_part(now, key, part, out);
        }
        self.reads
            .ask(PendingRead::Part(part), RowsWanted::Keys(rows), out);
    }

    /// Holds a part while something of its actor is under way.
    fn when_settled(
        &mut self,
        key: &ActorKey,
        part: Part,
        out: &mut Vec<TurnsEffect>,
    ) -> Option<Part> {
        let actor = self.actors.at(key);
        let settled = actor.ledger.is_settled();
        let Stage::Running(running) = &mut actor.stage else {
            return None;
        };
        if settled {
            return Some(part);
        }
        if running.held_part.is_some() {
            let text = "another part of this turn is on its way; wait for it first";
            refuse(&part, NotRun::new(Code::InvalidArgument, text), out);
        } else {
            running.held_part = Some(part);
        }
        None
    }

    /// What was under way is settled.
    pub(super) fn commit_held_part(
        &mut self,
        now: Instant,
        key: &ActorKey,
        out: &mut Vec<TurnsEffect>,
    ) {
        if let Stage::Running(running) = &mut self.actors.at(key).stage
            && let Some(part) = running.held_part.take()
        {
            self.on_part(now, key, part, out);
        }
    }

    /// The reminders that a part must not replace, as they stand.
    pub(super) fn on_part_rows(
        &mut self,
        now: Instant,
        part: Part,
        rows: &Rows,
        out: &mut Vec<TurnsEffect>,
    ) {
        let Some(key) = self.running_turn(part.turn) else {
            return;
        };
        if rows.iter().any(|(_, row)| row.is_some()) {
            let told = TurnTold::Part(PartEnd::ScheduleThere);
            return tell(part.turn, part.ask, told, out);
        }
        self.commit_part(now, &key, part, out);
    }

    fn commit_part(
        &mut self,
        now: Instant,
        key: &ActorKey,
        part: Part,
        out: &mut Vec<TurnsEffect>,
    ) {
        // Something may have begun while it was looked at what is there.
        let Some(part) = self.when_settled(key, part, out) else {
            return;
        };
        let Stage::Running(running) = &self.actors.at(key).stage else {
            return;
        };
        let (id, order) = (running.job, running.order);
        if let Some(what) = self.too_many(&part.staged.sends) {
            return refuse(&part, NotRun::new(Code::InvalidArgument, what), out);
        }
        if let Some(refusal) = self.unwanted() {
            return refuse(&part, refusal, out);
        }
        let Part { turn, ask, staged } = part;
        let share = if self.jobs.at(id).parts == 0 {
            Share::Part
        } else {
            Share::More
        };
        let Staged {
            writes,
            sends,
            schedule,
        } = *staged;
        let commit = TurnCommit {
            state: writes,
            sends: sends.into_iter().map(|s| self.send(s)).collect(),
            schedule,
            share: share as i32,
            firing: None,
            ..self.commit(key, id, TurnKind::Write, TurnAnswer::interrupted())
        };
        if turn_bytes(&commit) + COMMAND_BYTES > self.settings.entry_bytes_max {
            let text = "what it has staged does not fit into one entry of the log";
            let refusal = NotRun::new(Code::InvalidArgument, text);
            let told = TurnTold::Part(PartEnd::Refused(refusal));
            return tell(turn, ask, told, out);
        }
        let job = self.jobs.at(id);
        job.parts += 1;
        sets_anew(job, &commit.schedule);
        // Its caller hears nothing of a part.
        let nothing = AnswerKind::Reply(bytes::Bytes::new());
        let purpose = Purpose::Part { turn, ask };
        self.push_entry_for(key, id, order, commit, nothing, purpose);
        self.touch(now, key, out);
    }

    /// A part is committed.
    pub(super) fn part_committed(
        &mut self,
        turn: TurnId,
        ask: u32,
        version: ActorVersion,
        out: &mut Vec<TurnsEffect>,
    ) {
        if self.running_turn(turn).is_some() {
            tell(turn, ask, TurnTold::Part(PartEnd::Committed(version)), out);
        }
    }
}

fn refuse(part: &Part, refusal: NotRun, out: &mut Vec<TurnsEffect>) {
    let told = TurnTold::Part(PartEnd::Refused(refusal));
    tell(part.turn, part.ask, told, out);
}

/// Notes when a part of a reminder's own turn sets that reminder, or removes it.
pub(super) fn sets_anew(job: &mut Job, schedule: &[ScheduleWrite]) {
    if let Work::Wakeup(due) = &mut job.work {
        let own = |write: &ScheduleWrite| write.kind() == due.kind && write.name == due.name;
        if schedule.iter().any(own) {
            due.standing = Standing::SetAnew;
        }
    }
}
