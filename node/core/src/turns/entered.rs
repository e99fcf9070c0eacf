//! Calls that enter a running turn, because it belongs to the same chain of an application's calls.
//!
//! Dapr's `Dapr-Reentrancy-Id` names a chain. A call whose chain has the running turn of its actor
//! does not wait: its host runs it inside that turn. When it is answered, all that the turn has
//! staged so far commits with its record, and the turn that it entered is *interrupted* from then
//! on: a chain is not all or nothing. Absent: native actors, whose calls back into a waiting actor
//! are the error `Cycle`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::call::{AnswerKind, Metadata};
use ghostlight_protocol::code::Code;
use ghostlight_protocol::command::{Share, TurnCommit, TurnKind};
use ghostlight_protocol::hash::{domain, hash128};
use ghostlight_protocol::ids::ActorVersion;
use ghostlight_protocol::outcome::{NotRun, TurnAnswer};
use ghostlight_protocol::time::Instant;

use super::TurnsEffect;
use super::activation::{Ground, Stage};
use super::answers::{not_run, unknown};
use super::ending::{must_record, recorded};
use super::engine::Turns;
use super::jobs::{Job, JobId, Place, Work};
use super::log::{COMMAND_BYTES, Purpose, turn_bytes};
use super::parts::sets_anew;
use super::running::tell;
use crate::turn_io::{
    Answered, PartEnd, RunnerEffect, Staged, TurnEnd, TurnEntry, TurnId, TurnTold,
};

/// Name, in lower case, of the header that names a chain.
pub(super) const CHAIN_ID: &str = "dapr-reentrancy-id";
/// Pause that the caller of a call is asked to make that did not reach the application.
const NOT_ENTERED_PAUSE: Duration = Duration::from_millis(100);

/// Actor types whose running turn calls of the same chain may enter, and how many may be inside at
/// once.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct ReentrantTypes(Arc<BTreeMap<String, u32>>);

impl ReentrantTypes {
    /// These, with their depths.
    #[must_use]
    pub fn new(types: impl IntoIterator<Item = (String, u32)>) -> Self {
        Self(Arc::new(types.into_iter().collect()))
    }

    fn depth(&self, actor: &ActorKey) -> Option<u32> {
        self.0.get(actor.actor_type()).copied()
    }
}

/// A call inside a running turn.
#[derive(Debug)]
pub(super) struct Entered {
    entry: u32,
    job: JobId,
}

/// A call inside a running turn that has its answer, and waits until it may commit.
#[derive(Debug)]
pub(super) struct Leaving {
    ask: u32,
    entry: u32,
    answered: Box<Answered>,
}

impl Turns {
    /// Which types are re-entrant, as the node sees it. To be told before inputs that may depend on
    /// it.
    pub fn note_reentrant(&mut self, types: &ReentrantTypes) {
        self.reentrant = types.clone();
    }

    /// A turn of a re-entrant type belongs to a chain: its caller's, or a new one. A new one is
    /// named after the call and what it began on, as the next leader will name it, which may get
    /// the same turn: what its code calls has the name that it was given first.
    pub(super) fn name_chain(&mut self, key: &ActorKey, id: JobId, base: ActorVersion) {
        if self.reentrant.depth(key).is_none() || chain_of(self.jobs.at(id)).is_some() {
            return;
        }
        let request = self.request_of(id).to_bytes();
        let job = self.jobs.at(id);
        let hash = hash128(
            domain::DERIVED,
            &[
                CHAIN_ID.as_bytes(),
                key.as_bytes(),
                &request,
                job.method.as_bytes(),
                &job.body,
                &base.0.to_be_bytes(),
            ],
        );
        let hex = format!("{hash:032x}");
        let parts = [
            &hex[..8],
            &hex[8..12],
            &hex[12..16],
            &hex[16..20],
            &hex[20..],
        ];
        self.jobs.at(id).metadata.push(Metadata {
            name: CHAIN_ID.to_owned(),
            value: parts.join("-"),
        });
    }

    /// Whether a call belongs to the chain of its actor's running turn, and may enter it.
    pub(super) fn may_enter(&self, key: &ActorKey, id: JobId) -> bool {
        if self.reentrant.depth(key).is_none() {
            return false;
        }
        let Some(Stage::Running(running)) = self.actors.get(key).map(|actor| &actor.stage) else {
            return false;
        };
        let chain = self.jobs.get(id).and_then(chain_of);
        chain.is_some() && chain == self.jobs.get(running.job).and_then(chain_of)
    }

    /// Hands an admitted call to the running turn of its actor.
    pub(super) fn let_in(
        &mut self,
        now: Instant,
        key: &ActorKey,
        id: JobId,
        out: &mut Vec<TurnsEffect>,
    ) {
        let max = self.reentrant.depth(key).unwrap_or_default();
        let Some(turn) = self.turn_of(key) else {
            unreachable!("{key}: only a running turn is entered");
        };
        let actor = self.actors.at(key);
        actor.mailbox.dismiss(&self.jobs);
        let Stage::Running(running) = &mut actor.stage else {
            unreachable!("just looked at");
        };
        // The turn itself is the first of them.
        let inside = running.entered.len() + 1;
        if inside >= max as usize {
            let text =
                format!("{inside} calls of one chain are inside {key}, at most {max} may be");
            self.finish(id, not_run(&NotRun::new(Code::ChainTooDeep, text)), out);
            return;
        }
        running.entries += 1;
        let entry = running.entries;
        running.entered.push(Entered { entry, job: id });
        let job = self.jobs.at(id);
        job.place = Place::Running;
        job.since = now;
        out.push(TurnsEffect::Runner(RunnerEffect::Enter(TurnEntry {
            turn,
            entry,
            method: job.method.clone(),
            body: job.body.clone(),
            metadata: job.metadata.clone(),
        })));
    }

    fn turn_of(&self, key: &ActorKey) -> Option<TurnId> {
        let actor = self.actors.get(key)?;
        let Stage::Running(running) = &actor.stage else {
            return None;
        };
        Some(TurnId {
            activation: self.activation_id(actor.activation?.number),
            number: running.number,
        })
    }

    /// A call inside a running turn is over.
    pub(super) fn on_left(
        &mut self,
        now: Instant,
        key: &ActorKey,
        (ask, entry): (u32, u32),
        end: TurnEnd,
        out: &mut Vec<TurnsEffect>,
    ) {
        let Stage::Running(running) = &mut self.actors.at(key).stage else {
            return;
        };
        let Some(at) = running.entered.iter().position(|e| e.entry == entry) else {
            return;
        };
        match end.bounded() {
            TurnEnd::Answered(answered) => running.leaving.push_back(Leaving {
                ask,
                entry,
                answered,
            }),
            TurnEnd::NotStarted { detail } => {
                let job = running.entered.remove(at).job;
                let refusal = NotRun::retry(Code::NoHost, detail, NOT_ENTERED_PAUSE);
                self.finish(job, not_run(&refusal), out);
            }
            TurnEnd::Lost { detail } => {
                let job = running.entered.remove(at).job;
                let text = format!("the call has no answer: {detail}. What it did outside stays");
                self.finish(job, unknown(Code::OutcomeUnknown, &text), out);
            }
            TurnEnd::Ok { .. }
            | TurnEnd::App(_)
            | TurnEnd::Refused(_)
            | TurnEnd::Panicked { .. } => {
                let job = running.entered.remove(at).job;
                let text = "its host ended it as no application can";
                self.finish(job, unknown(Code::OutcomeUnknown, text), out);
            }
        }
        self.touch(now, key, out);
    }

    /// Lets the next answered call leave, if nothing of its turn is on the way.
    pub(super) fn let_leave(&mut self, key: &ActorKey, out: &mut Vec<TurnsEffect>) {
        loop {
            let Some(turn) = self.turn_of(key) else {
                return;
            };
            let actor = self.actors.at(key);
            let settled = actor.ledger.is_settled();
            let Stage::Running(running) = &mut actor.stage else {
                return;
            };
            if !settled || running.leaving.is_empty() {
                return;
            }
            let Some(Leaving {
                ask,
                entry,
                answered,
            }) = running.leaving.pop_front()
            else {
                return;
            };
            let Some(at) = running.entered.iter().position(|e| e.entry == entry) else {
                continue;
            };
            let job = running.entered.remove(at).job;
            self.leave(key, job, (turn, ask), *answered, out);
        }
    }

    fn leave(
        &mut self,
        key: &ActorKey,
        id: JobId,
        (turn, ask): (TurnId, u32),
        answered: Answered,
        out: &mut Vec<TurnsEffect>,
    ) {
        let Answered { answer, staged, .. } = answered;
        let answer = match answer {
            Ok(reply) => AnswerKind::AppReply(reply),
            Err(error) => AnswerKind::App(error),
        };
        let Stage::Running(running) = &self.actors.at(key).stage else {
            return;
        };
        let (outer, order) = (running.job, running.order);
        let raises = staged.raises_version();
        let changes = raises || !staged.schedule.is_empty();
        let records = self
            .jobs
            .get(id)
            .and_then(Job::call)
            .is_some_and(|call| must_record(call, &answer));
        if !changes && !records {
            tell(turn, ask, TurnTold::Part(PartEnd::Nothing), out);
            return self.hold(id, order, Ground::State, answer);
        }
        let refusal = self.unwanted().filter(|_| changes);
        let refusal = refusal.or_else(|| self.too_large(key, id, &staged, &answer));
        if let Some(refusal) = refusal {
            tell(
                turn,
                ask,
                TurnTold::Part(PartEnd::Refused(refusal.clone())),
                out,
            );
            return self.finish(id, not_run(&refusal), out);
        }
        if changes && self.jobs.at(outer).parts == 0 {
            self.interrupt_outer(key, outer, order, turn);
        }
        if changes {
            self.jobs.at(outer).parts += 1;
            sets_anew(self.jobs.at(outer), &staged.schedule);
        }
        let commit = self.commit_of_entry(key, id, staged, &answer);
        let purpose = Purpose::Entry { turn, ask };
        self.push_entry_for(key, id, order, commit, answer, purpose);
    }

    /// The turn that was entered has committed something: it is never run again. Its record goes
    /// before the entry's, so that no entry can count while its turn may still be repeated.
    fn interrupt_outer(&mut self, key: &ActorKey, outer: JobId, order: u64, turn: TurnId) {
        let commit = TurnCommit {
            share: Share::Part as i32,
            ..self.commit(key, outer, TurnKind::Write, TurnAnswer::interrupted())
        };
        let purpose = Purpose::Part { turn, ask: 0 };
        let nothing = AnswerKind::Reply(Bytes::new());
        self.push_entry_for(key, outer, order, commit, nothing, purpose);
    }

    fn commit_of_entry(
        &mut self,
        key: &ActorKey,
        id: JobId,
        staged: Staged,
        answer: &AnswerKind,
    ) -> TurnCommit {
        let kind = if staged.raises_version() {
            TurnKind::Write
        } else {
            TurnKind::RecordOnly
        };
        let Staged {
            writes,
            sends,
            schedule,
        } = staged;
        TurnCommit {
            state: writes,
            sends: sends.into_iter().map(|s| self.send(s)).collect(),
            schedule,
            share: Share::Whole as i32,
            ..self.commit(key, id, kind, recorded(answer))
        }
    }

    fn too_large(
        &mut self,
        key: &ActorKey,
        id: JobId,
        staged: &Staged,
        answer: &AnswerKind,
    ) -> Option<NotRun> {
        let commit = self.commit_of_entry(key, id, staged.clone(), answer);
        let bytes = turn_bytes(&commit) + COMMAND_BYTES;
        (bytes > self.settings.entry_bytes_max).then(|| {
            let text = format!(
                "what the chain has staged takes {bytes} bytes, at most {} fit into one entry; split the work",
                self.settings.entry_bytes_max
            );
            NotRun::new(Code::TurnTooLarge, text)
        })
    }

    /// The turn that they entered is over without them.
    pub(super) fn expel(&mut self, entered: Vec<Entered>, out: &mut Vec<TurnsEffect>) {
        for Entered { job, .. } in entered {
            let text =
                "the turn that the call had entered is over; nothing of the call's state was kept";
            self.finish(job, unknown(Code::Interrupted, text), out);
        }
    }
}

/// The chain that a job belongs to.
fn chain_of(job: &Job) -> Option<&str> {
    if let Work::Message { .. } = job.work {
        return None;
    }
    let mut named = job.metadata.iter();
    let found = named.find(|m| m.name.eq_ignore_ascii_case(CHAIN_ID))?;
    Some(found.value.as_str()).filter(|value| !value.is_empty())
}
