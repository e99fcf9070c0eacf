//! A turn ends: what it leaves in the log, and on what its answer must wait.
//!
//! An end that is recorded without being fenced by the actor's version (a refusal, a message's
//! failure, a message that changed nothing) rests on writes of earlier turns. It is *parked* until
//! these are committed, so that nothing can be recorded that rests on a state that never was.

use std::time::Duration;

use bytes::Bytes;
use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::call::AnswerKind;
use ghostlight_protocol::code::Code;
use ghostlight_protocol::command::{
    DeadLetterReason, InboxFailed, RequestRecord, ScheduleKind, ScheduleWrite, Send, Share,
    TurnCommit, TurnKind,
};
use ghostlight_protocol::hash::partition_of;
use ghostlight_protocol::ids::ActorVersion;
use ghostlight_protocol::limits::{INBOX_ATTEMPTS_MAX, METHOD_BYTES_MAX, REQUEST_BODY_BYTES_MAX};
use ghostlight_protocol::outcome::{AppError, NotRun, TurnAnswer};
use ghostlight_protocol::request::RequestId;
use ghostlight_protocol::text;
use ghostlight_protocol::time::Instant;
use ghostlight_protocol::wire::host::Wish;
use prost::Message;

use super::TurnsEffect;
use super::activation::{Ground, Leaves, Ledger, Parked, Running, Stage};
use super::answers::{not_run, unknown};
use super::engine::Turns;
use super::jobs::{CallWork, JobId, Place, Reach, Standing, WakeupEnd, Work};
use super::log::{COMMAND_BYTES, Entry, Failure, Purpose, turn_bytes};
use super::mailbox::{End, Gate, Line};
use super::wakeup::{self, FiringEnd};
use crate::turn_io::{Answered, OutMessage, RunnerEffect, Staged, TurnEnd, TurnId};

/// How often a call is handed to a host anew that it did not reach.
const NOT_STARTED_MAX: u8 = 3;
/// Pause that its caller is asked to make after that.
const NOT_STARTED_PAUSE: Duration = Duration::from_millis(500);

/// An end that is not fenced by the actor's version.
#[derive(Debug)]
pub(super) enum Conclusion {
    /// The answer is recorded, and nothing else; a message's row goes.
    Record {
        /// The entry.
        commit: Box<TurnCommit>,
        /// What the caller hears.
        answer: AnswerKind,
    },
    /// A message failed.
    Fail {
        /// Why.
        reason: String,
        /// Whether it is tried again.
        finality: Finality,
    },
    /// A firing ended while an entry was on its way that writes its row: what it says of the row
    /// depends on that.
    Firing(Box<FiringOver>),
}

/// See [`Conclusion::Firing`].
#[derive(Debug)]
pub(super) struct FiringOver {
    turn: TurnId,
    /// Entries of the actor that must be settled first.
    after: u64,
    answer: AnswerKind,
    staged: Staged,
    end: FiringEnd,
}

impl Conclusion {
    /// Whether what it rests on is committed. A failure also waits for messages before it, so that
    /// the order of messages is kept whatever becomes of their entries.
    pub(super) fn may_count(&self, ledger: Ledger) -> bool {
        match self {
            Self::Record { .. } => ledger.writes == 0,
            Self::Fail { .. } => ledger.is_settled(),
            Self::Firing(over) => ledger.done >= over.after || ledger.is_settled(),
        }
    }
}

/// Whether a failed message is tried again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Finality {
    /// No: the actor's code said so.
    Final,
    /// Yes, until its attempts are used up.
    Retry,
}

/// A turn that is over.
#[derive(Clone, Copy, Debug)]
struct Over {
    job: JobId,
    order: u64,
    turn: TurnId,
}

impl Turns {
    pub(super) fn on_ended(
        &mut self,
        now: Instant,
        turn: TurnId,
        end: TurnEnd,
        out: &mut Vec<TurnsEffect>,
    ) {
        let Some(key) = self.running_turn(turn) else {
            return;
        };
        let stage = std::mem::take(&mut self.actors.at(&key).stage);
        let Stage::Running(Running {
            job,
            order,
            calls,
            entered,
            ..
        }) = stage
        else {
            return;
        };
        self.running -= 1;
        if calls > 0 {
            out.push(TurnsEffect::TurnGone(turn));
        }
        let over = Over { job, order, turn };
        self.expel(entered, out);
        match end.bounded() {
            TurnEnd::Ok {
                reply,
                writes,
                sends,
                schedule,
            } => {
                let staged = Staged {
                    writes,
                    sends,
                    schedule,
                };
                let (answer, firing) = (AnswerKind::Reply(reply), FiringEnd::Fired(Wish::GoesOn));
                self.end_with(&key, over, answer, staged, firing, out);
            }
            TurnEnd::Answered(answered) => self.end_answered(&key, over, *answered, out),
            TurnEnd::NotStarted { detail } => self.end_not_started(now, &key, over, detail, out),
            TurnEnd::App(error) => self.end_app(&key, over, error, out),
            TurnEnd::Panicked { message } => self.end_panicked(&key, over, message, out),
            TurnEnd::Lost { detail } => self.end_lost(&key, over, &detail, out),
            TurnEnd::Refused(refusal) => self.end_refused(&key, over, &refusal, out),
        }
        let actor = self.actors.at(&key);
        if std::mem::take(&mut actor.leaves) == Leaves::AfterTurn {
            self.drop_activation(&key, out);
        }
        self.touch(now, &key, out);
        self.wake_stalled(now, out);
    }

    /// A turn has its answer, and what it leaves behind commits with that.
    fn end_with(
        &mut self,
        key: &ActorKey,
        over: Over,
        answer: AnswerKind,
        staged: Staged,
        firing: FiringEnd,
        out: &mut Vec<TurnsEffect>,
    ) {
        if let Some(what) = self.too_many(&staged.sends) {
            return self.end_too_large(key, over, what, out);
        }
        if self.row_in_doubt(key, over.job) {
            let firing = FiringOver {
                turn: over.turn,
                after: self.actors.at(key).ledger.ended,
                answer,
                staged,
                end: firing,
            };
            return self.conclude(key, over, Conclusion::Firing(Box::new(firing)), out);
        }
        let raises = staged.raises_version();
        let kind = if raises {
            TurnKind::Write
        } else {
            TurnKind::RecordOnly
        };
        let goes_on = self.jobs.at(over.job).parts > 0;
        let share = if goes_on { Share::Rest } else { Share::Whole };
        let Staged {
            writes,
            sends,
            schedule,
        } = staged;
        let mut commit = TurnCommit {
            state: writes,
            sends: sends.into_iter().map(|s| self.send(s)).collect(),
            schedule,
            share: share as i32,
            ..self.commit(key, over.job, kind, recorded(&answer))
        };
        self.add_firing(over.job, firing, &mut commit);
        if turn_bytes(&commit) + COMMAND_BYTES > self.settings.entry_bytes_max {
            let what = format!(
                "what it wrote, sent and answered takes {} bytes, at most {} fit into one entry",
                turn_bytes(&commit),
                self.settings.entry_bytes_max - COMMAND_BYTES
            );
            return self.end_too_large(key, over, what, out);
        }
        let changes = raises || !commit.schedule.is_empty();
        if changes && let Some(refusal) = self.unwanted() {
            return self.end_unwanted(key, over, &refusal, out);
        }
        if raises {
            return self.push_entry(key, over.job, over.order, commit, answer);
        }
        let entry = match &self.jobs.at(over.job).work {
            Work::Call(call) => changes || goes_on || must_record(call, &answer),
            Work::Message { .. } => true,
            Work::Wakeup(_) => changes,
        };
        if entry {
            let commit = Box::new(commit);
            return self.conclude(key, over, Conclusion::Record { commit, answer }, out);
        }
        match &self.jobs.at(over.job).work {
            Work::Wakeup(_) => self.wakeup_done(over.job, WakeupEnd::Called, out),
            Work::Call(_) | Work::Message { .. } => {
                self.hold(over.job, over.order, Ground::State, answer);
            }
        }
    }

    /// What the entry of a firing says of its row. A turn that has set its own reminder anew, or
    /// removed it, has said all there is to say.
    fn add_firing(&mut self, id: JobId, end: FiringEnd, commit: &mut TurnCommit) {
        let wall = self.wall;
        let Work::Wakeup(due) = &self.jobs.at(id).work else {
            return;
        };
        if due.standing == Standing::SetAnew {
            return;
        }
        let (firing, write) = wakeup::written(due, end, wall);
        let own = |write: &ScheduleWrite| write.kind == firing.kind && write.name == firing.name;
        let said = commit.schedule.iter().any(own);
        if !said {
            commit.schedule.extend(write);
        }
        // A timer's row stays as it is: nothing of it to be fenced by, unless it ends.
        if due.kind == ScheduleKind::Reminder || !commit.schedule.is_empty() {
            commit.firing = Some(firing);
        }
    }

    fn end_answered(
        &mut self,
        key: &ActorKey,
        over: Over,
        answered: Answered,
        out: &mut Vec<TurnsEffect>,
    ) {
        let Answered {
            answer,
            staged,
            wish,
        } = answered;
        let is_message = matches!(self.jobs.at(over.job).work, Work::Message { .. });
        match answer {
            Ok(reply) => {
                let firing = FiringEnd::Fired(wish);
                self.end_with(key, over, AnswerKind::AppReply(reply), staged, firing, out);
            }
            // The dead letter is all that a message leaves behind that was refused.
            Err(error) if is_message => self.settle_app(key, over, error, out),
            Err(error) => {
                let firing = match wish {
                    Wish::Ends => FiringEnd::Fired(wish),
                    Wish::GoesOn => FiringEnd::Failed,
                };
                self.end_with(key, over, AnswerKind::App(error), staged, firing, out);
            }
        }
    }

    /// It reached no host: it runs again, elsewhere if need be.
    fn end_not_started(
        &mut self,
        now: Instant,
        key: &ActorKey,
        over: Over,
        detail: String,
        out: &mut Vec<TurnsEffect>,
    ) {
        self.drop_activation(key, out);
        let job = self.jobs.at(over.job);
        job.reruns = job.reruns.saturating_add(1);
        let often = job.reruns > NOT_STARTED_MAX;
        match &job.work {
            Work::Wakeup(_) => self.wakeup_done(over.job, WakeupEnd::NotCalled, out),
            Work::Call(_) if often => {
                let refusal = NotRun::retry(Code::NoHost, detail, NOT_STARTED_PAUSE);
                self.finish(over.job, not_run(&refusal), out);
            }
            Work::Call(_) => {
                job.place = Place::Waiting;
                self.log.release(&mut job.speculation);
                let mailbox = &mut self.actors.at(key).mailbox;
                mailbox.admit();
                mailbox.push(Line::Calls, over.job, End::Front);
            }
            Work::Message { .. } => {
                job.place = Place::Waiting;
                self.log.release(&mut job.speculation);
                let mailbox = &mut self.actors.at(key).mailbox;
                mailbox.push(Line::Messages, over.job, End::Front);
                self.pause_messages(key, now);
            }
        }
    }

    /// A firing failed: its row says when it is tried again, or that its tick is dropped.
    fn fail_wakeup(&mut self, key: &ActorKey, over: Over, out: &mut Vec<TurnsEffect>) {
        let nothing = AnswerKind::Reply(Bytes::new());
        self.end_with(
            key,
            over,
            nothing,
            Staged::default(),
            FiringEnd::Failed,
            out,
        );
    }

    pub(super) fn too_many(&self, sends: &[OutMessage]) -> Option<String> {
        let max = self.settings.turn_sends_max;
        if sends.len() > max {
            return Some(format!(
                "it sent {} messages, at most {max} may",
                sends.len()
            ));
        }
        let body = sends.iter().map(|send| send.body.len()).max()?;
        let method = sends.iter().map(|send| send.method.len()).max()?;
        if body > REQUEST_BODY_BYTES_MAX {
            Some(format!(
                "it sent a message of {body} bytes, at most {REQUEST_BODY_BYTES_MAX} may be"
            ))
        } else {
            (method > METHOD_BYTES_MAX).then(|| {
                format!("it named a method in {method} bytes, at most {METHOD_BYTES_MAX} may be")
            })
        }
    }

    pub(super) fn send(&self, message: OutMessage) -> Send {
        Send {
            destination: u32::from(partition_of(&message.actor, self.partitions).0),
            actor: message.actor.to_bytes(),
            method: message.method,
            body: message.body,
        }
    }

    /// An entry for a job, without changes.
    pub(super) fn commit(
        &mut self,
        key: &ActorKey,
        id: JobId,
        kind: TurnKind,
        answer: TurnAnswer,
    ) -> TurnCommit {
        let base = self.actors.at(key).version.unwrap_or_default();
        let mut commit = TurnCommit {
            actor: key.to_bytes(),
            base_version: base.0,
            kind: kind as i32,
            ..TurnCommit::default()
        };
        match &self.jobs.at(id).work {
            Work::Call(call) => {
                commit.request = Some(RequestRecord {
                    id: match &call.id {
                        RequestId::Session { .. } => call.key.clone(),
                        id @ (RequestId::Outside(_) | RequestId::Derived(_)) => id.to_bytes(),
                    },
                    digest: Bytes::copy_from_slice(&call.digest.to_be_bytes()),
                    closed_below: call.closed.below(),
                    closed_ranges: call.closed.ranges().to_vec(),
                });
                commit.answer = Some(answer);
            }
            // Nobody waits for the answer of a message.
            Work::Message { sequence, .. } => commit.inbox_sequence = *sequence,
            Work::Wakeup(_) => {}
        }
        commit
    }

    fn end_app(&mut self, key: &ActorKey, over: Over, error: AppError, out: &mut Vec<TurnsEffect>) {
        let bytes = error.encoded_len() + 2 * COMMAND_BYTES + 4 * key.as_bytes().len();
        if bytes > self.settings.entry_bytes_max {
            let what = format!("its error takes {} bytes", error.encoded_len());
            return self.end_too_large(key, over, what, out);
        }
        self.reset(over.turn, out);
        if let Work::Wakeup(_) = self.jobs.at(over.job).work {
            return self.fail_wakeup(key, over, out);
        }
        self.settle_app(key, over, error, out);
    }

    fn end_refused(
        &mut self,
        key: &ActorKey,
        over: Over,
        refusal: &NotRun,
        out: &mut Vec<TurnsEffect>,
    ) {
        let job = self.jobs.at(over.job);
        match (&job.work, job.reach) {
            (Work::Message { .. }, _) => self.end_failed(key, over, refusal, out),
            (Work::Wakeup(_), _) => match refusal.code {
                Code::UnknownMethod | Code::InvalidArgument => self.fail_wakeup(key, over, out),
                // Nobody has the type at the moment: it stays due.
                _ => self.wakeup_done(over.job, WakeupEnd::NotCalled, out),
            },
            (Work::Call(_), Reach::Inside) => self.finish(over.job, not_run(refusal), out),
            // What it called stays: it cannot be said that nothing happened.
            (Work::Call(_), Reach::CalledOut | Reach::Joined) => {
                let text = format!("{}: {}", refusal.code, refusal.detail);
                let error = AppError {
                    name: "Refused".to_owned(),
                    message: text::cut(text),
                    payload: Bytes::new(),
                };
                self.settle_app(key, over, error, out);
            }
        }
    }

    fn end_panicked(
        &mut self,
        key: &ActorKey,
        over: Over,
        message: String,
        out: &mut Vec<TurnsEffect>,
    ) {
        self.counters.turns_panicked += 1;
        self.drop_activation(key, out);
        let text = format!(
            "{}: the actor's code panicked: {message}. Nothing of the turn was kept",
            Code::TurnPanicked
        );
        match self.jobs.at(over.job).work {
            Work::Wakeup(_) => self.fail_wakeup(key, over, out),
            Work::Message { .. } => {
                self.end_failed(key, over, &NotRun::new(Code::TurnPanicked, text), out);
            }
            Work::Call(_) => {
                let error = AppError {
                    name: "Panicked".to_owned(),
                    message: text::cut(text),
                    payload: Bytes::new(),
                };
                self.settle_app(key, over, error, out);
            }
        }
    }

    fn end_lost(&mut self, key: &ActorKey, over: Over, detail: &str, out: &mut Vec<TurnsEffect>) {
        self.drop_activation(key, out);
        let text = text::cut(format!(
            "the turn has no answer: {detail}. What it did outside of its state stays"
        ));
        let job = self.jobs.at(over.job);
        match job.work {
            Work::Wakeup(_) => self.fail_wakeup(key, over, out),
            Work::Message { .. } => {
                self.end_failed(key, over, &NotRun::new(Code::OutcomeUnknown, text), out);
            }
            Work::Call(_) if job.parts > 0 => {
                self.finish(over.job, unknown(Code::Interrupted, &text), out);
            }
            // It says nothing of the actor's state, so it waits for nothing.
            Work::Call(_) => self.finish(over.job, unknown(Code::OutcomeUnknown, &text), out),
        }
    }

    fn end_too_large(
        &mut self,
        key: &ActorKey,
        over: Over,
        what: String,
        out: &mut Vec<TurnsEffect>,
    ) {
        self.reset(over.turn, out);
        let text = format!("the turn was rolled back: {what}; split the work over several turns");
        let job = self.jobs.at(over.job);
        match (&job.work, job.reach) {
            (Work::Wakeup(_), _) => self.fail_wakeup(key, over, out),
            (Work::Call(_), _) if job.parts > 0 => {
                self.finish(over.job, unknown(Code::Interrupted, &text), out);
            }
            (Work::Message { .. }, _) => {
                self.end_failed(key, over, &NotRun::new(Code::TurnTooLarge, text), out);
            }
            (Work::Call(_), Reach::Inside) => {
                let answer = not_run(&NotRun::new(Code::TurnTooLarge, text));
                self.hold(over.job, over.order, Ground::State, answer);
            }
            // What it called stays: it cannot be said that nothing happened.
            (Work::Call(_), Reach::CalledOut | Reach::Joined) => {
                let error = AppError {
                    name: "TurnTooLarge".to_owned(),
                    message: text,
                    payload: Bytes::new(),
                };
                self.settle_app(key, over, error, out);
            }
        }
    }

    /// What a writer is told while writes are refused; `None`: they are taken.
    pub(super) fn unwanted(&self) -> Option<NotRun> {
        self.writes.refusal(self.partition)
    }

    /// A turn wrote, and writes are refused.
    fn end_unwanted(
        &mut self,
        key: &ActorKey,
        over: Over,
        refusal: &NotRun,
        out: &mut Vec<TurnsEffect>,
    ) {
        self.reset(over.turn, out);
        let job = self.jobs.at(over.job);
        let answer = match (&job.work, job.reach) {
            (Work::Wakeup(_), _) => {
                return self.wakeup_done(over.job, WakeupEnd::NotCalled, out);
            }
            (Work::Call(_), _) if job.parts > 0 => unknown(Code::Interrupted, &refusal.detail),
            // It began before copies or room were lost. It waits for them; no attempt is counted.
            (Work::Message { .. }, _) => {
                job.place = Place::Waiting;
                self.log.release(&mut job.speculation);
                let mailbox = &mut self.actors.at(key).mailbox;
                return mailbox.push(Line::Messages, over.job, End::Front);
            }
            (Work::Call(_), Reach::Inside) => not_run(refusal),
            // What it called stays; asked again with its id, it calls nothing twice.
            (Work::Call(_), Reach::CalledOut | Reach::Joined) => unknown(
                Code::OutcomeUnknown,
                &format!(
                    "{}. The turn had called another actor, which may have had an effect",
                    refusal.detail
                ),
            ),
        };
        self.counters.calls_refused += 1;
        self.hold(over.job, over.order, Ground::State, answer);
    }

    fn settle_app(
        &mut self,
        key: &ActorKey,
        over: Over,
        error: AppError,
        out: &mut Vec<TurnsEffect>,
    ) {
        match &self.jobs.at(over.job).work {
            Work::Wakeup(_) => unreachable!("a firing has no caller whom its error is told"),
            Work::Message { .. } => {
                let reason = text::cut(format!("{}: {}", error.name, error.message));
                let finality = Finality::Final;
                self.conclude(key, over, Conclusion::Fail { reason, finality }, out);
            }
            Work::Call(call) => {
                let answer = AnswerKind::App(error.clone());
                if must_record(call, &answer) {
                    let app = TurnAnswer::app(error);
                    let commit = Box::new(self.commit(key, over.job, TurnKind::RecordOnly, app));
                    self.conclude(key, over, Conclusion::Record { commit, answer }, out);
                } else {
                    self.hold(over.job, over.order, Ground::State, answer);
                }
            }
        }
    }

    /// A message's turn could not run, or not to its end.
    fn end_failed(
        &mut self,
        key: &ActorKey,
        over: Over,
        refusal: &NotRun,
        out: &mut Vec<TurnsEffect>,
    ) {
        let reason = text::cut(format!("{}: {}", refusal.code, refusal.detail));
        // A part of it is committed: it is not run again.
        let finality = match self.jobs.at(over.job).parts {
            0 => Finality::Retry,
            _ => Finality::Final,
        };
        self.conclude(key, over, Conclusion::Fail { reason, finality }, out);
    }

    fn reset(&mut self, turn: TurnId, out: &mut Vec<TurnsEffect>) {
        out.push(TurnsEffect::Runner(RunnerEffect::Reset(turn.activation)));
    }

    fn conclude(
        &mut self,
        key: &ActorKey,
        over: Over,
        conclusion: Conclusion,
        out: &mut Vec<TurnsEffect>,
    ) {
        let Over { job, order, .. } = over;
        let actor = self.actors.at(key);
        if !conclusion.may_count(actor.ledger) {
            actor.stage = Stage::Parked(Box::new(Parked {
                job,
                order,
                conclusion,
            }));
        } else {
            self.carry_out(key, job, order, conclusion, out);
        }
    }

    /// The writes that a parked end rests on are committed.
    pub(super) fn unpark(&mut self, key: &ActorKey, out: &mut Vec<TurnsEffect>) {
        match std::mem::take(&mut self.actors.at(key).stage) {
            Stage::Parked(parked) => {
                let Parked {
                    job,
                    order,
                    conclusion,
                } = *parked;
                self.carry_out(key, job, order, conclusion, out);
            }
            stage => self.actors.at(key).stage = stage,
        }
    }

    fn carry_out(
        &mut self,
        key: &ActorKey,
        id: JobId,
        order: u64,
        conclusion: Conclusion,
        out: &mut Vec<TurnsEffect>,
    ) {
        match conclusion {
            Conclusion::Firing(firing) => {
                let FiringOver {
                    turn,
                    answer,
                    staged,
                    end,
                    ..
                } = *firing;
                let over = Over {
                    job: id,
                    order,
                    turn,
                };
                self.end_with(key, over, answer, staged, end, out);
            }
            Conclusion::Record { commit, answer } => {
                self.push_entry(key, id, order, *commit, answer);
            }
            Conclusion::Fail { reason, finality } => {
                let job = self.jobs.at(id);
                job.place = Place::Queued;
                self.log.release(&mut job.speculation);
                let Work::Message { sequence, attempts } = job.work else {
                    unreachable!("only messages fail; calls are answered, firings have rows");
                };
                let last = attempts + 1 >= INBOX_ATTEMPTS_MAX;
                let dead_letter = (finality == Finality::Final || last)
                    .then_some(DeadLetterReason { error: reason });
                match dead_letter {
                    Some(_) => self.counters.messages_dead += 1,
                    None => self.counters.messages_failed += 1,
                }
                self.actors.at(key).mailbox.gate = Gate::Failing;
                self.log.push_failure(Failure {
                    job: Some((key.clone(), id)),
                    command: InboxFailed {
                        inbox_sequence: sequence,
                        dead_letter,
                    },
                });
            }
        }
    }

    pub(super) fn push_entry(
        &mut self,
        key: &ActorKey,
        id: JobId,
        order: u64,
        commit: TurnCommit,
        answer: AnswerKind,
    ) {
        self.push_entry_for(key, id, order, commit, answer, Purpose::Turn);
    }

    /// Queues an entry, and makes its writes visible to the actor's next turns.
    pub(super) fn push_entry_for(
        &mut self,
        key: &ActorKey,
        id: JobId,
        order: u64,
        commit: TurnCommit,
        answer: AnswerKind,
        purpose: Purpose,
    ) {
        let bytes = turn_bytes(&commit);
        let kind = commit.kind();
        let actor = self.actors.at(key);
        actor.ledger.ended += 1;
        let ordinal = actor.ledger.ended;
        let base = commit.base_version;
        if kind == TurnKind::Write {
            actor.ledger.writes += 1;
            actor.version = Some(ActorVersion(base + 1));
            actor.overlay.add(ordinal, &commit.state);
        }
        let job = self.jobs.at(id);
        if !matches!(purpose, Purpose::Part { .. }) {
            job.place = Place::Queued;
        }
        self.log.speculate_bytes(&mut job.speculation, bytes);
        let entry = Entry {
            actor: key.clone(),
            ordinal,
            job: id,
            order,
            kind,
            base,
            bytes,
            keys: commit.state.iter().map(|write| write.key.clone()).collect(),
            schedule: commit
                .schedule
                .iter()
                .map(|write| (write.kind(), write.name.clone()))
                .collect(),
            answer,
            purpose,
        };
        self.log.push_turn(entry, commit);
    }

    /// Records an answer that was to leave without an entry: its request was sent again meanwhile.
    pub(super) fn record_late(
        &mut self,
        key: &ActorKey,
        id: JobId,
        order: u64,
        answer: AnswerKind,
    ) {
        let recorded = recorded(&answer);
        let commit = self.commit(key, id, TurnKind::RecordOnly, recorded);
        self.push_entry(key, id, order, commit, answer);
    }
}

/// What is recorded of an answer.
pub(super) fn recorded(answer: &AnswerKind) -> TurnAnswer {
    match answer {
        AnswerKind::Reply(body) => TurnAnswer::reply(body.clone()),
        AnswerKind::AppReply(reply) => TurnAnswer::app_reply(reply.clone()),
        AnswerKind::App(error) => TurnAnswer::app(error.clone()),
        AnswerKind::NotRun(_) | AnswerKind::Unknown(_) | AnswerKind::Redirect(_) => {
            unreachable!("only what a turn answered is recorded")
        }
    }
}

/// Whether an answer that changed nothing is recorded before it leaves.
///
/// A refusal to an id that its client may repeat must stay a refusal. And of a request that was
/// sent before, another copy may still be under way: it must find that the request is over, or it
/// could take effect after its caller has an answer. A reply to a first attempt is not recorded,
/// also not for an id from outside: it changed nothing, so repeating it reads again.
pub(super) fn must_record(call: &CallWork, answer: &AnswerKind) -> bool {
    match answer {
        AnswerKind::App(_) => call.attempt > 1 || !matches!(call.id, RequestId::Session { .. }),
        AnswerKind::Reply(_) | AnswerKind::AppReply(_) => call.attempt > 1,
        AnswerKind::NotRun(_) | AnswerKind::Unknown(_) | AnswerKind::Redirect(_) => false,
    }
}
