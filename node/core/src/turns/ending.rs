//! A turn ends: what it leaves in the log, and on what its answer must wait.
//!
//! An end that is recorded without being fenced by the actor's version (a refusal, a message's failure, a
//! message that changed nothing) rests on writes of earlier turns. It is *parked* until these are
//! committed, so that nothing can be recorded that rests on a state that never was.

use std::time::Duration;

use bytes::Bytes;
use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::call::AnswerKind;
use ghostlight_protocol::code::Code;
use ghostlight_protocol::command::{
    DeadLetterReason, InboxFailed, RequestRecord, Send, StateWrite, TurnCommit, TurnKind,
};
use ghostlight_protocol::hash::partition_of;
use ghostlight_protocol::ids::ActorVersion;
use ghostlight_protocol::limits::{INBOX_ATTEMPTS_MAX, METHOD_BYTES_MAX, REQUEST_BODY_BYTES_MAX};
use ghostlight_protocol::outcome::{AppError, NotRun, TurnAnswer};
use ghostlight_protocol::request::RequestId;
use ghostlight_protocol::text;
use ghostlight_protocol::time::Instant;
use prost::Message;

use super::TurnsEffect;
use super::activation::{Ground, Ledger, Parked, Running, Stage};
use super::answers::{not_run, unknown};
use super::engine::{Turns, Writes};
use super::jobs::{CallWork, JobId, Place, Reach, Work};
use super::log::{COMMAND_BYTES, Entry, Failure, turn_bytes};
use super::mailbox::{End, Gate};
use crate::turn_io::{OutMessage, RunnerEffect, TurnEnd, TurnId};

/// Pause that a writer is asked to make while copies are missing.
const MIN_COPIES_PAUSE: Duration = Duration::from_secs(1);

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
}

impl Conclusion {
    /// Whether what it rests on is committed. A failure also waits for messages before it, so that the
    /// order of messages is kept whatever becomes of their entries.
    pub(super) fn may_count(&self, ledger: Ledger) -> bool {
        match self {
            Self::Record { .. } => ledger.writes == 0,
            Self::Fail { .. } => ledger.is_settled(),
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
            job, order, calls, ..
        }) = stage
        else {
            return;
        };
        self.running -= 1;
        if calls > 0 {
            out.push(TurnsEffect::TurnGone(turn));
        }
        let over = Over { job, order, turn };
        match end.bounded() {
            TurnEnd::Ok {
                reply,
                writes,
                sends,
            } => self.end_ok(&key, over, reply, writes, sends, out),
            TurnEnd::App(error) => self.end_app(&key, over, error, out),
            TurnEnd::Panicked { message } => self.end_panicked(&key, over, message, out),
            TurnEnd::Lost { detail } => self.end_lost(&key, over, &detail, out),
            TurnEnd::Refused(refusal) => self.end_refused(&key, over, &refusal, out),
        }
        self.touch(now, &key, out);
        self.wake_stalled(now, out);
    }

    fn end_ok(
        &mut self,
        key: &ActorKey,
        over: Over,
        reply: Bytes,
        writes: Vec<StateWrite>,
        sends: Vec<OutMessage>,
        out: &mut Vec<TurnsEffect>,
    ) {
        let answer = AnswerKind::Reply(reply.clone());
        let changes = !writes.is_empty() || !sends.is_empty();
        if let Some(what) = self.too_many(&sends) {
            return self.end_too_large(key, over, what, out);
        }
        let kind = if changes {
            TurnKind::Write
        } else {
            TurnKind::RecordOnly
        };
        let commit = TurnCommit {
            state: writes,
            sends: sends.into_iter().map(|s| self.send(s)).collect(),
            ..self.commit(key, over.job, kind, TurnAnswer::reply(reply))
        };
        if turn_bytes(&commit) + COMMAND_BYTES > self.settings.entry_bytes_max {
            let what = format!(
                "what it wrote, sent and answered takes {} bytes, at most {} fit into one entry",
                turn_bytes(&commit),
                self.settings.entry_bytes_max - COMMAND_BYTES
            );
            return self.end_too_large(key, over, what, out);
        }
        if let (true, Writes::Refused { voters, wanted }) = (changes, self.writes) {
            return self.end_unwanted(key, over, voters, wanted, out);
        }
        if changes {
            return self.push_entry(key, over.job, over.order, commit, answer);
        }
        let recorded = match &self.jobs.at(over.job).work {
            Work::Call(call) => must_record(call, &answer),
            Work::Message { .. } => true,
        };
        if recorded {
            let commit = Box::new(commit);
            self.conclude(key, over, Conclusion::Record { commit, answer });
        } else {
            self.hold(over.job, over.order, Ground::State, answer);
        }
    }

    fn too_many(&self, sends: &[OutMessage]) -> Option<String> {
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

    fn send(&self, message: OutMessage) -> Send {
        Send {
            destination: u32::from(partition_of(&message.actor, self.partitions).0),
            actor: message.actor.to_bytes(),
            method: message.method,
            body: message.body,
        }
    }

    /// An entry for a job, without changes.
    fn commit(
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
        self.settle_app(key, over, error);
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
            (Work::Message { .. }, _) => self.end_failed(key, over, refusal),
            (Work::Call(_), Reach::Inside) => self.finish(over.job, not_run(refusal), out),
            // What it called stays: it cannot be said that nothing happened.
            (Work::Call(_), Reach::CalledOut) => {
                let text = format!("{}: {}", refusal.code, refusal.detail);
                let error = AppError {
                    name: "Refused".to_owned(),
                    message: text::cut(text),
                    payload: Bytes::new(),
                };
                self.settle_app(key, over, error);
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
            Work::Message { .. } => {
                self.end_failed(key, over, &NotRun::new(Code::TurnPanicked, text));
            }
            Work::Call(_) => {
                let error = AppError {
                    name: "Panicked".to_owned(),
                    message: text::cut(text),
                    payload: Bytes::new(),
                };
                self.settle_app(key, over, error);
            }
        }
    }

    fn end_lost(&mut self, key: &ActorKey, over: Over, detail: &str, out: &mut Vec<TurnsEffect>) {
        self.drop_activation(key, out);
        let text = text::cut(format!(
            "the turn has no answer: {detail}. What it did outside of its state stays"
        ));
        match self.jobs.at(over.job).work {
            Work::Message { .. } => {
                self.end_failed(key, over, &NotRun::new(Code::OutcomeUnknown, text));
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
            (Work::Message { .. }, _) => {
                self.end_failed(key, over, &NotRun::new(Code::TurnTooLarge, text));
            }
            (Work::Call(_), Reach::Inside) => {
                let answer = not_run(&NotRun::new(Code::TurnTooLarge, text));
                self.hold(over.job, over.order, Ground::State, answer);
            }
            // What it called stays: it cannot be said that nothing happened.
            (Work::Call(_), Reach::CalledOut) => {
                let error = AppError {
                    name: "TurnTooLarge".to_owned(),
                    message: text,
                    payload: Bytes::new(),
                };
                self.settle_app(key, over, error);
            }
        }
    }

    /// A turn wrote, and the partition has too few copies for writes.
    fn end_unwanted(
        &mut self,
        key: &ActorKey,
        over: Over,
        voters: usize,
        wanted: usize,
        out: &mut Vec<TurnsEffect>,
    ) {
        self.reset(over.turn, out);
        let text = format!(
            "{} has {voters} voting copies, --min-copies asks for {wanted}: writes are refused. Start or \
             bring back nodes",
            self.partition
        );
        let job = self.jobs.at(over.job);
        let answer = match (&job.work, job.reach) {
            // It began before copies were lost. It waits for them, and no attempt is counted.
            (Work::Message { .. }, _) => {
                job.place = Place::Waiting;
                self.log.release(&mut job.speculation);
                let mailbox = &mut self.actors.at(key).mailbox;
                return mailbox.push_message(over.job, End::Front);
            }
            (Work::Call(_), Reach::Inside) => {
                not_run(&NotRun::retry(Code::MinCopies, text, MIN_COPIES_PAUSE))
            }
            // What it called stays; asked again with its id, it calls nothing twice.
            (Work::Call(_), Reach::CalledOut) => unknown(
                Code::OutcomeUnknown,
                &format!("{text}. The turn had called another actor, which may have had an effect"),
            ),
        };
        self.counters.calls_refused += 1;
        self.hold(over.job, over.order, Ground::State, answer);
    }

    fn settle_app(&mut self, key: &ActorKey, over: Over, error: AppError) {
        match &self.jobs.at(over.job).work {
            Work::Message { .. } => {
                let reason = text::cut(format!("{}: {}", error.name, error.message));
                let finality = Finality::Final;
                self.conclude(key, over, Conclusion::Fail { reason, finality });
            }
            Work::Call(call) => {
                let answer = AnswerKind::App(error.clone());
                if must_record(call, &answer) {
                    let app = TurnAnswer::app(error);
                    let commit = Box::new(self.commit(key, over.job, TurnKind::RecordOnly, app));
                    self.conclude(key, over, Conclusion::Record { commit, answer });
                } else {
                    self.hold(over.job, over.order, Ground::State, answer);
                }
            }
        }
    }

    /// A message's turn could not run, or not to its end.
    fn end_failed(&mut self, key: &ActorKey, over: Over, refusal: &NotRun) {
        let reason = text::cut(format!("{}: {}", refusal.code, refusal.detail));
        let finality = Finality::Retry;
        self.conclude(key, over, Conclusion::Fail { reason, finality });
    }

    fn reset(&mut self, turn: TurnId, out: &mut Vec<TurnsEffect>) {
        out.push(TurnsEffect::Runner(RunnerEffect::Reset(turn.activation)));
    }

    fn conclude(&mut self, key: &ActorKey, over: Over, conclusion: Conclusion) {
        let Over { job, order, .. } = over;
        let actor = self.actors.at(key);
        if !conclusion.may_count(actor.ledger) {
            actor.stage = Stage::Parked(Box::new(Parked {
                job,
                order,
                conclusion,
            }));
        } else {
            self.carry_out(key, job, order, conclusion);
        }
    }

    /// The writes that a parked end rests on are committed.
    pub(super) fn unpark(&mut self, key: &ActorKey) {
        match std::mem::take(&mut self.actors.at(key).stage) {
            Stage::Parked(parked) => {
                let Parked {
                    job,
                    order,
                    conclusion,
                } = *parked;
                self.carry_out(key, job, order, conclusion);
            }
            stage => self.actors.at(key).stage = stage,
        }
    }

    fn carry_out(&mut self, key: &ActorKey, id: JobId, order: u64, conclusion: Conclusion) {
        match conclusion {
            Conclusion::Record { commit, answer } => {
                self.push_entry(key, id, order, *commit, answer);
            }
            Conclusion::Fail { reason, finality } => {
                let job = self.jobs.at(id);
                job.place = Place::Queued;
                self.log.release(&mut job.speculation);
                let Work::Message { sequence, attempts } = job.work else {
                    unreachable!("only messages fail; calls are answered");
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

    /// Queues an entry, and makes its writes visible to the actor's next turns.
    fn push_entry(
        &mut self,
        key: &ActorKey,
        id: JobId,
        order: u64,
        commit: TurnCommit,
        answer: AnswerKind,
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
        job.place = Place::Queued;
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
            answer,
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
        let recorded = match &answer {
            AnswerKind::Reply(body) => TurnAnswer::reply(body.clone()),
            AnswerKind::AppReply(reply) => TurnAnswer::app_reply(reply.clone()),
            AnswerKind::App(error) => TurnAnswer::app(error.clone()),
            AnswerKind::NotRun(_) | AnswerKind::Unknown(_) | AnswerKind::Redirect(_) => {
                unreachable!("only what a turn answered is recorded")
            }
        };
        let commit = self.commit(key, id, TurnKind::RecordOnly, recorded);
        self.push_entry(key, id, order, commit, answer);
    }
}

/// Whether an answer that changed nothing is recorded before it leaves.
///
/// A refusal to an id that its client may repeat must stay a refusal. And of a request that was sent
/// before, another copy may still be under way: it must find that the request is over, or it could
/// take effect after its caller has an answer. A reply to a first attempt is not recorded, also not for
/// an id from outside: it changed nothing, so repeating it reads again.
pub(super) fn must_record(call: &CallWork, answer: &AnswerKind) -> bool {
    match answer {
        AnswerKind::App(_) => call.attempt > 1 || !matches!(call.id, RequestId::Session { .. }),
        AnswerKind::Reply(_) | AnswerKind::AppReply(_) => call.attempt > 1,
        AnswerKind::NotRun(_) | AnswerKind::Unknown(_) | AnswerKind::Redirect(_) => false,
    }
}
