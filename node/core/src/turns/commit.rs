//! Proposals go out, and the log says what became of each turn.
//!
//! A turn that does not count takes everything with it that was built on it: the activation, later
//! turns of the actor, and answers that rest on them. The actor then *drains*: it starts again,
//! from its committed rows, when the log has spoken about every entry it has made. What was undone
//! runs again in its old order; no caller is lost.

use std::collections::BTreeSet;
use std::time::Duration;

use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::call::Done;
use ghostlight_protocol::canary::{self, Canary};
use ghostlight_protocol::code::Code;
use ghostlight_protocol::command::TurnKind;
use ghostlight_protocol::outcome::NotRun;
use ghostlight_protocol::replica::{EntryOutcome, SkipReason, TurnOutcome};
use ghostlight_protocol::time::Instant;

use super::TurnsEffect;
use super::activation::{Ground, Held, Stage};
use super::answers::{answer_all, not_run, outcome_kind, reused, session_closed, undone, unknown};
use super::engine::Turns;
use super::inbox::interrupted_message;
use super::jobs::{JobId, Place, Standing, WakeupEnd, Work};
use super::log::{Entry, Failure, Proposal, Purpose};
use super::mailbox::{End, Gate, Line};
use super::operations::not_done;
use crate::turn_io::TurnId;

/// How often one request is run again in one leadership before its gateway must ask elsewhere.
const RERUNS_MAX: u8 = 8;
/// Pause before a message is run again whose entry Raft refused, or which no host has begun.
const DROPPED_PAUSE: Duration = Duration::from_millis(100);

/// Of an entry that does not count.
#[derive(Clone, Copy)]
struct Undone {
    job: JobId,
    order: u64,
    purpose: Purpose,
}

impl Turns {
    pub(super) fn propose(&mut self, out: &mut Vec<TurnsEffect>) {
        let Some((kind, proposal)) = self.log.propose(&self.settings) else {
            return;
        };
        match proposal {
            Proposal::Turns(entries) => {
                for entry in entries {
                    // The turn of a part goes on, or has ended without an answer meanwhile.
                    if matches!(entry.purpose, Purpose::Part { .. }) {
                        continue;
                    }
                    let job = self.jobs.at(entry.job);
                    job.place = Place::Proposed;
                    if canary::sings(Canary::AnsweredAtProposal)
                        && matches!(entry.purpose, Purpose::Turn)
                    {
                        answer_all(job, entry.answer.clone(), out);
                    }
                }
            }
            Proposal::Failure(failure) => {
                if let Some((_, id)) = &failure.job {
                    self.jobs.at(*id).place = Place::Proposed;
                }
            }
        }
        out.push(TurnsEffect::Propose(kind));
    }

    pub(super) fn on_applied(
        &mut self,
        now: Instant,
        outcome: EntryOutcome,
        out: &mut Vec<TurnsEffect>,
    ) {
        match outcome {
            EntryOutcome::Turns(outcomes) => {
                let Proposal::Turns(entries) = self.log.applied() else {
                    panic!("{}: turns were applied before a failure", self.partition);
                };
                assert_eq!(entries.len(), outcomes.len(), "one outcome for each turn");
                for (entry, outcome) in entries.into_iter().zip(outcomes) {
                    self.settle(now, entry, outcome, out);
                }
            }
            EntryOutcome::InboxFailed { envelope, .. } => {
                let Proposal::Failure(failure) = self.log.applied() else {
                    panic!("{}: a failure was applied before turns", self.partition);
                };
                self.message_failed(now, failure, envelope.map(|e| e.attempts), out);
            }
            // Other parts proposed these.
            EntryOutcome::Nothing
            | EntryOutcome::Accepted { .. }
            | EntryOutcome::OutboxTrimmed { .. }
            | EntryOutcome::Expired
            | EntryOutcome::FactsWritten
            | EntryOutcome::Topics(_) => {}
        }
        self.wake_stalled(now, out);
    }

    fn settle(
        &mut self,
        now: Instant,
        entry: Entry,
        outcome: TurnOutcome,
        out: &mut Vec<TurnsEffect>,
    ) {
        let undone_entry = Undone {
            job: entry.job,
            order: entry.order,
            purpose: entry.purpose,
        };
        let key = entry.actor;
        let actor = self.actors.at(&key);
        actor.ledger.done += 1;
        assert_eq!(actor.ledger.done, entry.ordinal, "{key}: entries in order");
        if entry.kind == TurnKind::Write {
            actor.ledger.writes -= 1;
            actor.overlay.settle(entry.ordinal, &entry.keys);
        }
        match outcome {
            TurnOutcome::Committed {
                version, schedule, ..
            } => {
                if !schedule.is_empty() {
                    self.rows_moved(&key, entry.job, &schedule, out);
                    out.push(TurnsEffect::Scheduled(key.clone(), schedule));
                }
                self.counters.turns_committed += 1;
                if entry.kind == TurnKind::Write {
                    assert_eq!(version.0, entry.base + 1, "{key}: apply and engine agree");
                }
                match entry.purpose {
                    Purpose::Part { turn, ask } => self.part_committed(turn, ask, version, out),
                    Purpose::Entry { turn, ask } => {
                        self.part_committed(turn, ask, version, out);
                        self.finish(entry.job, entry.answer, out);
                    }
                    Purpose::Turn | Purpose::Operation => {
                        self.complete(now, entry.job, entry.answer, out);
                    }
                }
            }
            TurnOutcome::Skipped(reason) => {
                self.counters.turns_skipped += 1;
                // Nothing is built on an entry that only records.
                if entry.kind == TurnKind::Write {
                    self.undo(&key, entry.ordinal, out);
                }
                match reason {
                    SkipReason::Recorded(answer) => {
                        self.counters.answers_recorded += 1;
                        self.finish(entry.job, outcome_kind(answer.into_outcome()), out);
                    }
                    SkipReason::IdReused => {
                        let call = self.jobs.at(entry.job).call();
                        let id = call.map(|call| call.id.clone());
                        let id = id.expect("a message has no record to collide with");
                        self.finish(entry.job, reused(&id), out);
                    }
                    SkipReason::SessionClosed => self.finish(entry.job, session_closed(), out),
                    SkipReason::MessageGone => self.message_done(now, entry.job, out),
                    SkipReason::Version { .. }
                    | SkipReason::ScheduleThere
                    | SkipReason::FiringGone => {
                        self.overtaken(&key, undone_entry, &reason, out);
                    }
                }
            }
        }
        self.touch(now, &key, out);
    }

    /// What an entry was built on is no longer so.
    fn overtaken(
        &mut self,
        key: &ActorKey,
        entry: Undone,
        reason: &SkipReason,
        out: &mut Vec<TurnsEffect>,
    ) {
        match (entry.purpose, reason) {
            // Its turn is on the list of those to run again already, which looks at its parts.
            (Purpose::Part { .. }, _) => {}
            (Purpose::Entry { .. }, _) => {
                let text =
                    "what the call's turn was built on is no longer so; nothing of it was kept";
                self.finish(entry.job, unknown(Code::Interrupted, text), out);
            }
            (Purpose::Operation, SkipReason::ScheduleThere) => {
                self.finish(entry.job, not_done(Done::There), out);
            }
            (Purpose::Operation, _) => self.finish(entry.job, not_done(Done::NotHeld), out),
            (Purpose::Turn, SkipReason::FiringGone) => {
                self.wakeup_done(entry.job, WakeupEnd::Overtaken, out);
            }
            (Purpose::Turn, SkipReason::ScheduleThere) => {
                let text = "a reminder that must not be replaced is there already";
                let refusal = NotRun::new(Code::InvalidArgument, text);
                self.finish(entry.job, not_run(&refusal), out);
            }
            (Purpose::Turn, _) => self.run_again(key, entry.order, entry.job),
        }
    }

    /// A turn counts.
    fn complete(
        &mut self,
        now: Instant,
        id: JobId,
        answer: ghostlight_protocol::call::AnswerKind,
        out: &mut Vec<TurnsEffect>,
    ) {
        match &self.jobs.at(id).work {
            Work::Call(_) => self.finish(id, answer, out),
            Work::Message { .. } => self.message_done(now, id, out),
            Work::Wakeup(due) if due.standing == Standing::Ended => {
                self.wakeup_done(id, WakeupEnd::Overtaken, out);
            }
            Work::Wakeup(_) => self.wakeup_done(id, WakeupEnd::Called, out),
        }
    }

    /// The entry `ordinal` of an actor does not count: undo everything that was built on it.
    fn undo(&mut self, key: &ActorKey, ordinal: u64, out: &mut Vec<TurnsEffect>) {
        let mut rerun = Vec::new();
        let mut abandoned = None;
        let mut entered = Vec::new();
        let actor = self.actors.at(key);
        match std::mem::take(&mut actor.stage) {
            Stage::Idle | Stage::Loading => {}
            Stage::Running(running) => {
                self.running -= 1;
                rerun.push((running.order, running.job));
                entered = running.entered;
                abandoned = (running.calls > 0).then_some(running.number);
            }
            Stage::Parked(parked) => rerun.push((parked.order, parked.job)),
            Stage::Undoing { rerun: before } => rerun = before,
        }
        for held in std::mem::take(&mut actor.held) {
            let Held {
                ground,
                after,
                order,
                job,
                ..
            } = held;
            if ground == Ground::State && after >= ordinal {
                rerun.push((order, job));
            } else {
                actor.held.push_back(held);
            }
        }
        for entry in self.log.withdraw(key, ordinal) {
            actor.ledger.ended -= 1;
            actor.ledger.writes -= u64::from(entry.kind == TurnKind::Write);
            rerun.push((entry.order, entry.job));
        }
        for held in &mut actor.held {
            held.after = held.after.min(actor.ledger.ended);
        }
        actor.stage = Stage::Undoing { rerun: Vec::new() };
        if let (Some(number), Some(activation)) = (abandoned, actor.activation) {
            let activation = self.activation_id(activation.number);
            out.push(TurnsEffect::TurnGone(TurnId { activation, number }));
        }
        self.expel(entered, out);
        self.drop_activation(key, out);
        for (order, job) in rerun {
            self.run_again(key, order, job);
        }
    }

    /// Lists a turn that does not count to run again when its actor has drained.
    fn run_again(&mut self, key: &ActorKey, order: u64, id: JobId) {
        let job = self.jobs.at(id);
        job.place = Place::Running;
        self.log.release(&mut job.speculation);
        match &mut self.actors.at(key).stage {
            Stage::Undoing { rerun } => rerun.push((order, id)),
            stage => panic!("{key}: only a draining actor undoes turns: {stage:?}"),
        }
    }

    /// The log has spoken about everything of a draining actor: begin again from committed rows.
    pub(super) fn restart(&mut self, key: &ActorKey, out: &mut Vec<TurnsEffect>) {
        let actor = self.actors.at(key);
        let Stage::Undoing { mut rerun } = std::mem::take(&mut actor.stage) else {
            return;
        };
        assert_eq!(actor.ledger.writes, 0, "{key}: settled means settled");
        actor.version = None;
        actor.overlay.clear();
        rerun.sort_unstable();
        for (_, id) in rerun.into_iter().rev() {
            let Some(job) = self.jobs.get_mut(id) else {
                continue;
            };
            self.counters.turns_rerun += 1;
            job.reruns = job.reruns.saturating_add(1);
            let unwanted = job.call().is_some_and(|call| call.callers.is_empty());
            if job.is_operation() {
                let answer = undone(job);
                self.finish(id, answer, out);
            } else if job.parts > 0 {
                self.interrupt(key, id, out);
            } else if job.is_overtaken() {
                self.wakeup_done(id, WakeupEnd::Overtaken, out);
            } else if job.call().is_none() {
                job.place = Place::Waiting;
                let line = job.line();
                self.actors.at(key).mailbox.push(line, id, End::Front);
            } else if unwanted || job.reruns > RERUNS_MAX {
                let answer = undone(job);
                self.finish(id, answer, out);
            } else {
                job.place = Place::Waiting;
                let mailbox = &mut self.actors.at(key).mailbox;
                mailbox.admit();
                mailbox.push(Line::Calls, id, End::Front);
            }
        }
    }

    /// A turn does not count of which parts are committed, or perhaps: it is not run again.
    fn interrupt(&mut self, key: &ActorKey, id: JobId, out: &mut Vec<TurnsEffect>) {
        let text = "the turn was cut after a part of it was committed, or was about to be; it is not run again";
        let job = self.jobs.at(id);
        match job.work {
            Work::Call(_) => self.finish(id, unknown(Code::Interrupted, text), out),
            Work::Wakeup(_) => self.wakeup_done(id, WakeupEnd::Called, out),
            Work::Message { sequence, .. } => {
                job.place = Place::Queued;
                self.actors.at(key).mailbox.gate = Gate::Failing;
                self.log.push_failure(Failure {
                    job: Some((key.clone(), id)),
                    command: interrupted_message(sequence),
                });
            }
        }
    }

    /// Raft refused the latest proposal: its turns certainly have no effect.
    pub(super) fn on_dropped(&mut self, now: Instant, out: &mut Vec<TurnsEffect>) {
        let entries = match self.log.dropped() {
            Some(Proposal::Turns(entries)) => entries,
            Some(Proposal::Failure(failure)) => return self.failure_dropped(now, failure, out),
            None => return,
        };
        let mut actors: BTreeSet<ActorKey> = BTreeSet::new();
        for entry in entries {
            let key = entry.actor;
            self.counters.turns_dropped += 1;
            if actors.insert(key.clone()) {
                self.undo(&key, entry.ordinal, out);
            }
            let ledger = &mut self.actors.at(&key).ledger;
            ledger.ended -= 1;
            ledger.writes -= u64::from(entry.kind == TurnKind::Write);
            if let Purpose::Part { .. } = entry.purpose {
                self.part_dropped(now, &key, entry.job);
                continue;
            }
            let job = self.jobs.at(entry.job);
            match job.work {
                Work::Call(_) => {
                    let answer = undone(job);
                    self.finish(entry.job, answer, out);
                }
                Work::Message { .. } | Work::Wakeup(_) => {
                    self.run_again(&key, entry.order, entry.job);
                    self.pause_messages(&key, now);
                }
            }
        }
        for key in actors {
            let actor = self.actors.at(&key);
            for held in &mut actor.held {
                held.after = held.after.min(actor.ledger.ended);
            }
            self.touch(now, &key, out);
        }
        self.wake_stalled(now, out);
    }

    /// Its turn is among those to run again, which looks at its parts. A call was interrupted:
    /// nobody can tell what its method did meanwhile. A message or a firing has come to nothing,
    /// unless an earlier part may count.
    fn part_dropped(&mut self, now: Instant, key: &ActorKey, id: JobId) {
        let Some(job) = self.jobs.get_mut(id) else {
            return;
        };
        match job.work {
            Work::Call(_) => {}
            Work::Message { .. } | Work::Wakeup(_) => {
                job.parts -= 1;
                self.pause_messages(key, now);
            }
        }
    }

    /// No message of this actor runs for a moment.
    pub(super) fn pause_messages(&mut self, key: &ActorKey, now: Instant) {
        self.close_gate(key, now + DROPPED_PAUSE);
    }

    /// No message of this actor runs before `until`.
    pub(super) fn close_gate(&mut self, key: &ActorKey, until: Instant) {
        let gate = &mut self.actors.at(key).mailbox.gate;
        if let Gate::Until(before) = *gate {
            self.gates.remove(&(before, key.clone()));
        }
        *gate = Gate::Until(until);
        self.gates.insert((until, key.clone()));
    }

    fn failure_dropped(&mut self, now: Instant, failure: Failure, out: &mut Vec<TurnsEffect>) {
        let Some((key, id)) = failure.job else {
            self.log.push_failure(failure);
            return;
        };
        self.jobs.at(id).place = Place::Waiting;
        self.actors
            .at(&key)
            .mailbox
            .push(Line::Messages, id, End::Front);
        self.pause_messages(&key, now);
        self.touch(now, &key, out);
    }
}
