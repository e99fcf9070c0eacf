//! Turns start, ask and are told.

use std::collections::VecDeque;

use bytes::Bytes;
use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::call::{Metadata, Stamp};
use ghostlight_protocol::code::Code;
use ghostlight_protocol::family::{self, Family};
use ghostlight_protocol::hash::{domain, hash64};
use ghostlight_protocol::ids::ActorVersion;
use ghostlight_protocol::limits::NESTED_CALL_DEADLINE;
use ghostlight_protocol::outcome::{CallOutcome, NotRun};
use ghostlight_protocol::request::RequestId;
use ghostlight_protocol::time::Instant;

use super::activation::{Rest, Running, Stage};
use super::answers::{NOBODY_LEFT, not_run};
use super::dedup::{PendingRead, Rows, Scan};
use super::engine::{Admission, Turns, Writes};
use super::inbox::message_request;
use super::jobs::{Job, JobId, Place, Reach, Speculation, Work};
use super::log::Room;
use super::mailbox::Messages;
use super::parts::Part;
use super::{NestedCall, RowsWanted, TurnsEffect, wakeup};
use crate::io::Rest as PageRest;
use crate::turn_io::{FencingToken, RunnerEffect, TurnAsk, TurnId, TurnStart, TurnTold};

/// Calls of one turn that wait for earlier turns to commit.
pub(super) const HELD_CALLS_MAX: usize = 1_024;

impl Turns {
    /// Starts the next turn of an actor, if it is ready, has something to run, and there is room.
    pub(super) fn advance(&mut self, now: Instant, key: &ActorKey, out: &mut Vec<TurnsEffect>) {
        let Some(actor) = self.actors.get(key) else {
            return;
        };
        if !matches!(actor.stage, Stage::Idle) {
            return;
        }
        if !actor.ledger.is_settled() && !self.native.have(key) {
            return; // Called again with each entry that is settled.
        }
        let Some(next) = self.next_job(now, key, out) else {
            return self.rest(now, key);
        };
        let next = match self.admission {
            Admission::Open => next,
            // Nothing ahead of it may start, and the turn that waits for it must end.
            Admission::Paused => match self.next_serving(now, key) {
                Some(serving) => serving,
                None => return,
            },
        };
        if self
            .jobs
            .get(next)
            .is_some_and(|job| job.is_late(self.wall))
        {
            self.actors.at(key).mailbox.pop(next);
            return self.end_late(key, next);
        }
        let actor = self.actors.at(key);
        if self.log.room(actor.ledger.writes, &self.settings) == Room::Later {
            if actor.rest != Rest::Stalled {
                actor.rest = Rest::Stalled;
                self.stalled.push_back(key.clone());
            }
            return;
        }
        match actor.version {
            Some(version) => {
                self.jobs.at(next).since = now;
                self.start(key, version, next, out);
            }
            None => {
                actor.stage = Stage::Loading;
                let rows = RowsWanted::Keys(vec![(Family::Version, key.to_bytes())]);
                self.reads.ask(PendingRead::Version(key.clone()), rows, out);
            }
        }
    }

    /// Who is next; those whose caller no longer waits are refused on the way.
    fn next_job(
        &mut self,
        now: Instant,
        key: &ActorKey,
        out: &mut Vec<TurnsEffect>,
    ) -> Option<JobId> {
        let messages = match self.writes {
            Writes::Taken => Messages::Run,
            Writes::FewCopies { .. } | Writes::NoRoom => Messages::Wait,
        };
        loop {
            let mailbox = &mut self.actors.at(key).mailbox;
            let id = mailbox.peek(&self.jobs, messages)?;
            let job = self.jobs.get(id)?;
            if job.deadline.is_none_or(|deadline| deadline > now) {
                return Some(id);
            }
            mailbox.pop(id);
            let refusal = NotRun::new(
                Code::DeadlineExpired,
                format!("the deadline passed while the call waited for {key}"),
            );
            let answer = match job.reach {
                Reach::Inside => not_run(&refusal),
                Reach::CalledOut | Reach::Joined => {
                    super::answers::unknown(Code::OutcomeUnknown, NOBODY_LEFT)
                }
            };
            self.finish(id, answer, out);
        }
    }

    /// The first call in an actor's mailbox that a turn running here waits for.
    fn next_serving(&self, now: Instant, key: &ActorKey) -> Option<JobId> {
        let mailbox = &self.actors.get(key)?.mailbox;
        mailbox.calls(&self.jobs).find(|id| {
            let job = self.jobs.get(*id);
            let late = job.and_then(|job| job.deadline).is_some_and(|d| d <= now);
            !late && self.serves_running(*id)
        })
    }

    /// Whether a turn that runs here waits for this job: it must not wait for that turn in return.
    fn serves_running(&self, id: JobId) -> bool {
        let chain = self.jobs.get(id).map_or(&[][..], |job| &job.chain[..]);
        chain.iter().any(|key| {
            let actor = self.actors.get(key);
            actor.is_some_and(|actor| matches!(actor.stage, Stage::Running(_)))
        })
    }

    fn start(
        &mut self,
        key: &ActorKey,
        version: ActorVersion,
        id: JobId,
        out: &mut Vec<TurnsEffect>,
    ) {
        self.last_order += 1;
        let activation = self.actors.activate(key);
        activation.turns += 1;
        let (number, turn) = (activation.number, activation.turns);
        let actor = self.actors.at(key);
        actor.mailbox.pop(id);
        actor.stage = Stage::Running(Running {
            job: id,
            number: turn,
            order: self.last_order,
            calls: 0,
            held_calls: Vec::new(),
            held_part: None,
            entries: 0,
            entered: Vec::new(),
            leaving: VecDeque::new(),
        });
        self.running += 1;
        self.counters.turns_started += 1;
        let job = self.jobs.at(id);
        job.place = Place::Running;
        assert_eq!(job.speculation, Speculation::None, "{key}: it starts once");
        if actor.ledger.writes > 0 {
            job.speculation = self.log.speculate();
        }
        let turn_id = TurnId {
            activation: self.activation_id(number),
            number: turn,
        };
        self.name_chain(key, id, version);
        let request = self.request_of(id);
        let job = self.jobs.at(id);
        let start = TurnStart {
            turn: turn_id,
            actor: key.clone(),
            request,
            token: FencingToken {
                term: self.term,
                base: version,
            },
            method: job.method.clone(),
            body: job.body.clone(),
            stamp: job.stamp,
            deadline: job.deadline,
            chain: job.chain.clone(),
            metadata: job.metadata.clone(),
            wakeup: match &job.work {
                Work::Wakeup(due) => Some(Box::new(wakeup::handed(due))),
                Work::Call(_) | Work::Message { .. } => None,
            },
        };
        out.push(TurnsEffect::Runner(RunnerEffect::Run(start)));
        if self.actors.activation_count() > self.settings.activations_max {
            self.evict(out);
        }
    }

    pub(super) fn request_of(&mut self, id: JobId) -> RequestId {
        match &self.jobs.at(id).work {
            Work::Call(call) => call.id.clone(),
            Work::Message { sequence, .. } => message_request(self.partition, *sequence),
            Work::Wakeup(due) => wakeup::wakeup_request(self.partition, due),
        }
    }

    /// The actor whose turn this is, if it still runs.
    pub(super) fn running_turn(&mut self, turn: TurnId) -> Option<ActorKey> {
        if turn.activation != self.activation_id(turn.activation.number) {
            return None;
        }
        let key = self.actors.of_activation(turn.activation.number)?.clone();
        match &self.actors.get(&key)?.stage {
            Stage::Running(running) if running.number == turn.number => Some(key),
            Stage::Idle
            | Stage::Loading
            | Stage::Running(_)
            | Stage::Parked(_)
            | Stage::Undoing { .. } => None,
        }
    }

    pub(super) fn on_asked(
        &mut self,
        now: Instant,
        turn: TurnId,
        ask: u32,
        what: TurnAsk,
        out: &mut Vec<TurnsEffect>,
    ) {
        let Some(key) = self.running_turn(turn) else {
            return;
        };
        match what {
            TurnAsk::Get { key: row } => {
                if let Some(value) = self.actors.at(&key).overlay.get(&row).cloned() {
                    return self.tell_value(turn, ask, value, out);
                }
                let wanted = vec![(Family::State, family::state_key(&key, &row))];
                let read = PendingRead::Get { turn, ask };
                self.reads.ask(read, RowsWanted::Keys(wanted), out);
            }
            TurnAsk::Scan {
                prefix,
                after,
                limit,
            } => {
                let scan = Scan {
                    turn,
                    ask,
                    overlay: self.actors.at(&key).overlay.range(&prefix, after.as_ref()),
                    actor: key,
                    prefix,
                    limit,
                };
                self.ask_page(scan, after, out);
            }
            TurnAsk::Call {
                actor,
                method,
                body,
                deadline,
                metadata,
                ordinal,
            } => {
                let target = Target {
                    actor,
                    method,
                    body,
                    deadline,
                    metadata,
                    ordinal,
                };
                self.nested_call(now, turn, ask, &key, target, out);
            }
            TurnAsk::Left { entry, end } => self.on_left(now, &key, (ask, entry), *end, out),
            TurnAsk::Commit(staged) => {
                let part = Part { turn, ask, staged };
                self.on_part(now, &key, part, out);
            }
        }
    }

    fn ask_page(&mut self, scan: Scan, after: Option<Bytes>, out: &mut Vec<TurnsEffect>) {
        if scan.limit == 0 {
            return tell(scan.turn, scan.ask, TurnTold::Rows(Vec::new()), out);
        }
        let rows = RowsWanted::Scan {
            family: Family::State,
            prefix: family::state_key(&scan.actor, &scan.prefix),
            after: after.map(|after| family::state_key(&scan.actor, &after)),
            limit: scan.limit,
        };
        self.reads.ask(PendingRead::Scan(scan), rows, out);
    }

    /// Merges a page of committed rows under the uncommitted ones. Uncommitted rows beyond the
    /// page's last row wait for the page they belong to, or the rows between them would be passed
    /// over. What a page gives is told at once, so that a turn never gets more than a page; one
    /// that gives nothing, because all of it was removed, is followed by the next.
    pub(super) fn on_page(
        &mut self,
        mut scan: Scan,
        page: Rows,
        rest: PageRest,
        out: &mut Vec<TurnsEffect>,
    ) {
        if self.running_turn(scan.turn).is_none() {
            return;
        }
        let complete = rest == PageRest::Last || page.is_empty();
        let actor_bytes = scan.actor.as_bytes().len();
        let (mut last, mut rows) = (None, Vec::new());
        for (key, value) in page {
            let key = key.slice(actor_bytes..);
            while let Some(first) = scan.overlay.first_entry()
                && *first.key() < key
            {
                let (key, value) = first.remove_entry();
                rows.extend(value.map(|value| (key, value)));
            }
            let value = scan.overlay.remove(&key).unwrap_or(value);
            last = Some(key.clone());
            rows.extend(value.map(|value| (key, value)));
        }
        if complete {
            for (key, value) in std::mem::take(&mut scan.overlay) {
                rows.extend(value.map(|value| (key, value)));
            }
        }
        if complete || !rows.is_empty() {
            rows.truncate(scan.limit);
            return tell(scan.turn, scan.ask, TurnTold::Rows(rows), out);
        }
        self.ask_page(scan, last, out);
    }

    pub(super) fn tell_value(
        &mut self,
        turn: TurnId,
        ask: u32,
        value: Option<Bytes>,
        out: &mut Vec<TurnsEffect>,
    ) {
        if self.running_turn(turn).is_some() {
            tell(turn, ask, TurnTold::Value(value), out);
        }
    }

    fn nested_call(
        &mut self,
        now: Instant,
        turn: TurnId,
        ask: u32,
        key: &ActorKey,
        target: Target,
        out: &mut Vec<TurnsEffect>,
    ) {
        let reach = self.reach_of_calls(key);
        let actor = self.actors.at(key);
        let settled = actor.ledger.is_settled();
        let Stage::Running(running) = &mut actor.stage else {
            return;
        };
        let ordinal = target.ordinal.unwrap_or(running.calls);
        running.calls = running.calls.max(ordinal.saturating_add(1));
        let job = self.jobs.at(running.job);
        let call = nest(now, self.partition, turn, ask, ordinal, job, target);
        if settled {
            job.reach = reach;
            out.push(TurnsEffect::Call(call));
        } else if running.held_calls.len() < HELD_CALLS_MAX {
            running.held_calls.push(call);
        } else {
            let refusal = NotRun::retry(
                Code::MailboxFull,
                format!("{HELD_CALLS_MAX} calls of this turn wait already; await some of them"),
                super::arrival::FULL_PAUSE,
            );
            let told = TurnTold::Called(CallOutcome::NotRun(refusal));
            tell(turn, ask, told, out);
        }
    }

    /// What it says of a turn that it has called out.
    fn reach_of_calls(&self, key: &ActorKey) -> Reach {
        match self.native.have(key) {
            true => Reach::CalledOut,
            false => Reach::Joined,
        }
    }

    /// All earlier turns are committed: the running one may call out.
    pub(super) fn send_held_calls(&mut self, key: &ActorKey, out: &mut Vec<TurnsEffect>) {
        let reach = self.reach_of_calls(key);
        let Stage::Running(running) = &mut self.actors.at(key).stage else {
            return;
        };
        if running.held_calls.is_empty() {
            return;
        }
        self.jobs.at(running.job).reach = reach;
        let calls = std::mem::take(&mut running.held_calls);
        out.extend(calls.into_iter().map(TurnsEffect::Call));
    }

    pub(super) fn on_called(
        &mut self,
        turn: TurnId,
        ask: u32,
        outcome: CallOutcome,
        out: &mut Vec<TurnsEffect>,
    ) {
        if self.running_turn(turn).is_some() {
            tell(turn, ask, TurnTold::Called(outcome), out);
        }
    }

    /// What a call's turn has as its time and randomness. The seed of an id from outside follows
    /// from the actor and the id: its client may repeat it through any gateway, which draws another
    /// one.
    pub(super) fn stamp_of(&self, sent: Option<Stamp>, id: &RequestId, key: &[u8]) -> Stamp {
        let sent = sent.unwrap_or_else(|| Stamp {
            wall_ms: self.wall.0,
            seed: seed_of(key),
        });
        match id {
            RequestId::Outside(_) => Stamp {
                seed: seed_of(key),
                ..sent
            },
            RequestId::Session { .. } | RequestId::Derived(_) => sent,
        }
    }
}

/// A seed that follows from an id.
pub(super) fn seed_of(id: &[u8]) -> u64 {
    hash64(domain::DERIVED, id)
}

struct Target {
    actor: ActorKey,
    method: String,
    body: Bytes,
    deadline: Option<Instant>,
    metadata: Vec<Metadata>,
    ordinal: Option<u32>,
}

fn nest(
    now: Instant,
    partition: ghostlight_protocol::ids::PartitionId,
    turn: TurnId,
    ask: u32,
    ordinal: u32,
    job: &Job,
    target: Target,
) -> NestedCall {
    let (parent, first) = match &job.work {
        Work::Call(call) => (call.id.clone(), call.attempt <= 1 && job.reruns == 0),
        // A message may have been run by an earlier leadership: nobody can say it is the first
        // time.
        Work::Message { sequence, .. } => (message_request(partition, *sequence), false),
        Work::Wakeup(due) => (wakeup::wakeup_request(partition, due), false),
    };
    let Target {
        actor,
        method,
        body,
        deadline,
        metadata,
        ordinal: counted,
    } = target;
    // A turn whose host counts its calls may run again, elsewhere: they must find what they were
    // answered.
    let first = first && counted.is_none();
    let deadlines = [deadline, job.deadline].into_iter().flatten();
    let mut seed = job.stamp.seed.to_be_bytes().to_vec();
    seed.extend(ordinal.to_be_bytes());
    let mut chain = job.chain.clone();
    chain.push(job.actor.clone());
    NestedCall {
        turn,
        ask,
        request: RequestId::derived((&job.actor, &parent), ordinal, &actor, &method, &body),
        actor,
        method,
        body,
        deadline: deadlines.fold(now + NESTED_CALL_DEADLINE, Instant::min),
        chain,
        stamp: Stamp {
            wall_ms: job.stamp.wall_ms,
            seed: hash64(domain::DERIVED, &seed),
        },
        attempt: if first { 1 } else { 2 },
        metadata,
    }
}

pub(super) fn tell(turn: TurnId, ask: u32, told: TurnTold, out: &mut Vec<TurnsEffect>) {
    out.push(TurnsEffect::Runner(RunnerEffect::Tell { turn, ask, told }));
}
