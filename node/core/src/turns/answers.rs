//! Answers: when they may leave, and what they say.
//!
//! Nothing leaves early: an answer with an entry leaves when the entry is applied (entries apply in
//! order, so every earlier turn is then committed too). An answer without one is held until every
//! earlier turn of its actor is settled and a ReadIndex that began after the request arrived is
//! confirmed.

use std::time::Duration;

use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::call::{
    AnswerKind, LeaderHint, MayHaveRun, NotRunAnswer, Redirect, UnknownAnswer,
};
use ghostlight_protocol::code::Code;
use ghostlight_protocol::outcome::{CallOutcome, NotRun};
use ghostlight_protocol::request::RequestId;

use super::TurnsEffect;
use super::activation::{Ground, Held, Stage};
use super::ending::must_record;
use super::engine::Turns;
use super::jobs::{Job, JobId, Place, Reach};
use crate::turn_io::{RunnerEffect, TurnId};
use crate::turns::Caller;

/// Text for a turn that called out and lost its leadership.
pub(super) const NOBODY_LEFT: &str = "the turn had called another actor when its node lost the \
     leadership; it may have had an effect there. Ask again with the same request id";

impl Turns {
    /// The leadership is over: every caller hears what may have happened to its request.
    pub fn close(
        mut self,
        _now: ghostlight_protocol::time::Instant,
        hint: Option<LeaderHint>,
        out: &mut Vec<TurnsEffect>,
    ) {
        for number in self.actors.activation_numbers() {
            let activation = self.activation_id(number);
            let actor = self.actors.of_activation(number);
            if let Some(Stage::Running(running)) =
                actor.and_then(|key| self.actors.get(key)).map(|a| &a.stage)
                && running.calls > 0
            {
                let number = running.number;
                out.push(TurnsEffect::TurnGone(TurnId { activation, number }));
            }
            out.push(TurnsEffect::Runner(RunnerEffect::Depose(activation)));
        }
        let facts = self.actors.held_on(Ground::Fact);
        let hash = super::fixed_hash::FixedHash::new(0, 0);
        let jobs = std::mem::replace(&mut self.jobs, super::jobs::Jobs::new(hash));
        for (id, job) in jobs.into_sorted() {
            let ran =
                match self.native.have(&job.actor) || job.is_operation() || facts.contains(&id) {
                    true => Ran::Nothing,
                    false => Ran::AMethod,
                };
            let answer = deposed(&job, ran, hint.clone());
            answer_all(&job, answer, out);
        }
    }

    /// Answers everybody who waits for a job, and forgets it.
    pub(super) fn finish(&mut self, id: JobId, answer: AnswerKind, out: &mut Vec<TurnsEffect>) {
        if let Some(job) = self.forget(id) {
            answer_all(&job, answer, out);
        }
    }

    pub(super) fn forget(&mut self, id: JobId) -> Option<Job> {
        let mut job = self.jobs.remove(id)?;
        self.log.release(&mut job.speculation);
        Some(job)
    }

    /// An answer without an entry waits for its time; `touch` lets it go, at once if it may.
    pub(super) fn hold(&mut self, id: JobId, order: u64, ground: Ground, answer: AnswerKind) {
        let job = self.jobs.at(id);
        job.place = Place::Held;
        let round = job.call().expect("only calls are answered").arrived_round + 1;
        let key = job.actor.clone();
        let actor = self.actors.at(&key);
        self.rounds.list(round, &key, &mut actor.listed);
        actor.held.push_back(Held {
            job: id,
            order,
            after: actor.ledger.ended,
            round,
            ground,
            answer,
        });
    }

    /// Lets go what an actor's answers no longer wait for.
    pub(super) fn release_held(&mut self, key: &ActorKey, out: &mut Vec<TurnsEffect>) {
        let actor = self.actors.at(key);
        if actor.held.is_empty() {
            return;
        }
        let done = actor.ledger.done;
        for held in std::mem::take(&mut actor.held) {
            if held.after > done || !self.rounds.is_confirmed(held.round) {
                self.actors.at(key).held.push_back(held);
                continue;
            }
            let call = self.jobs.at(held.job).call();
            let late = held.ground == Ground::State
                && call.is_some_and(|call| must_record(call, &held.answer));
            if late {
                self.record_late(key, held.job, held.order, held.answer);
            } else {
                self.counters.answers_without_entry += 1;
                self.finish(held.job, held.answer, out);
            }
        }
    }
}

pub(super) fn answer_all(job: &Job, answer: AnswerKind, out: &mut Vec<TurnsEffect>) {
    let gone = job.call().map_or(&[][..], |call| &call.gone[..]);
    for caller in gone {
        let over = unknown(Code::OutcomeUnknown, "its caller went before it was over");
        out.push(TurnsEffect::Answer {
            to: *caller,
            kind: over,
        });
    }
    let callers = job.call().map_or(&[][..], |call| &call.callers[..]);
    let Some((last, others)) = callers.split_last() else {
        return;
    };
    for caller in others {
        out.push(TurnsEffect::Answer {
            to: *caller,
            kind: answer.clone(),
        });
    }
    out.push(TurnsEffect::Answer {
        to: *last,
        kind: answer,
    });
}

/// Whoever hung up hears that nothing of the call is here: its gateway may close the request.
pub(super) fn nothing_ran(caller: Caller, out: &mut Vec<TurnsEffect>) {
    out.push(TurnsEffect::Answer {
        to: caller,
        kind: redirect(None, MayHaveRun::No),
    });
}

/// What of a request nobody can take back, if it was begun.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ran {
    /// What it changes is in its entry alone.
    Nothing,
    /// A method of an application: what it did beside its state stays.
    AMethod,
}

/// What the caller of an unfinished request hears when the leadership ends.
fn deposed(job: &Job, ran: Ran, hint: Option<LeaderHint>) -> AnswerKind {
    match (job.reach, job.place) {
        (Reach::CalledOut, _) => unknown(Code::OutcomeUnknown, NOBODY_LEFT),
        (Reach::Joined, _) => redirect(hint, MayHaveRun::Yes),
        // What asks again finds that it was interrupted, or nothing if no part of it has come
        // through.
        (Reach::Inside, _) if job.parts > 0 => redirect(hint, MayHaveRun::Yes),
        (Reach::Inside, Place::Proposed) => redirect(hint, MayHaveRun::Yes),
        (Reach::Inside, Place::Running | Place::Queued | Place::Held) if ran == Ran::AMethod => {
            redirect(hint, MayHaveRun::Yes)
        }
        (
            Reach::Inside,
            Place::Lookup
            | Place::Asking
            | Place::Waiting
            | Place::Running
            | Place::Queued
            | Place::Held,
        ) => redirect(hint, MayHaveRun::No),
    }
}

/// What the caller of a request hears whose turn this leadership cannot bring into the log.
pub(super) fn undone(job: &Job) -> AnswerKind {
    match job.reach {
        Reach::Inside if job.parts > 0 => redirect(None, MayHaveRun::Yes),
        Reach::Inside => redirect(None, MayHaveRun::No),
        Reach::CalledOut | Reach::Joined => redirect(None, MayHaveRun::Yes),
    }
}

fn redirect(hint: Option<LeaderHint>, may_have_run: MayHaveRun) -> AnswerKind {
    AnswerKind::Redirect(Redirect {
        hint,
        may_have_run: may_have_run as i32,
    })
}

pub(crate) fn not_run(refusal: &NotRun) -> AnswerKind {
    let pause = refusal.retry_after.unwrap_or(Duration::ZERO);
    AnswerKind::NotRun(NotRunAnswer {
        code: u32::from(refusal.code.number()),
        detail: refusal.detail.clone(),
        retry_after_ms: pause.as_millis() as u64,
    })
}

pub(super) fn unknown(code: Code, detail: &str) -> AnswerKind {
    AnswerKind::Unknown(UnknownAnswer {
        code: u32::from(code.number()),
        detail: detail.to_owned(),
    })
}

pub(crate) fn reused(id: &RequestId) -> AnswerKind {
    // As its client wrote it.
    let id = match id {
        RequestId::Outside(id) => format!("request id {}", id.escape_ascii()),
        RequestId::Session { .. } | RequestId::Derived(_) => format!("{id:?}"),
    };
    not_run(&NotRun::new(
        Code::RequestIdReused,
        format!("{id} was used for another request before; use a new id for new content"),
    ))
}

pub(crate) fn session_closed() -> AnswerKind {
    unknown(
        Code::SessionClosed,
        "the gateway had closed this request before: it has run or was given up, and its answer is \
         no longer kept. Read the actor's state to see what it did",
    )
}

/// A recorded answer, for the wire.
pub(crate) fn outcome_kind(outcome: CallOutcome) -> AnswerKind {
    match outcome {
        CallOutcome::Reply(body) => AnswerKind::Reply(body),
        CallOutcome::AppReply(reply) => AnswerKind::AppReply(reply),
        CallOutcome::App(error) => AnswerKind::App(error),
        CallOutcome::NotRun(refusal) => not_run(&refusal),
        CallOutcome::Unknown { code, detail } => unknown(code, &detail),
    }
}
