//! A request arrives: is it sound, is it known, is there room for it?

use std::time::Duration;

use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::call::CallRequest;
use ghostlight_protocol::closed::Closed;
use ghostlight_protocol::code::Code;
use ghostlight_protocol::family;
use ghostlight_protocol::hash::partition_of;
use ghostlight_protocol::ids::PartitionId;
use ghostlight_protocol::limits::CALL_CHAIN_MAX;
use ghostlight_protocol::outcome::NotRun;
use ghostlight_protocol::request::{RequestId, request_digest};
use ghostlight_protocol::time::Instant;

use super::activation::Ground;
use super::answers::{not_run, nothing_ran, reused, unknown};
use super::engine::{Evicted, Load, Turns};
use super::jobs::{CallWork, Job, JobId, Place, Reach, Speculation, Work};
use super::mailbox::{End, Line};
use super::{Caller, TurnsEffect};

/// Pause that a caller is asked to make when something is full.
pub(super) const FULL_PAUSE: Duration = Duration::from_millis(100);
/// The same while too many messages wait, which takes longer to become better.
const MESSAGES_PAUSE: Duration = Duration::from_secs(1);

impl Turns {
    pub(super) fn on_call(
        &mut self,
        now: Instant,
        from: Caller,
        request: CallRequest,
        out: &mut Vec<TurnsEffect>,
    ) {
        let mut refuse = |kind| out.push(TurnsEffect::Answer { to: from, kind });
        let job = match self.parse(now, from, request) {
            Ok(job) => job,
            Err(refusal) => return refuse(not_run(&refusal)),
        };
        let call = job.call().expect("parsed as a call");
        if let Some(running) = self.jobs.in_flight(&call.key) {
            return self.join(running, from, &job, out);
        }
        if let Err(refusal) = self.make_room(&job, out) {
            self.counters.calls_refused += 1;
            out.push(TurnsEffect::Answer {
                to: from,
                kind: not_run(&refusal),
            });
            return;
        }
        let first = call.attempt <= 1 && matches!(call.id, RequestId::Session { .. });
        let actor = job.actor.clone();
        let cycle = cycle(&job);
        let operation = job.is_operation();
        if !operation {
            self.rouse(&actor);
        }
        let id = self.jobs.insert(job);
        if operation {
            if first {
                self.operate(now, id, out);
            } else {
                self.jobs.at(id).place = Place::Asking;
                self.look_up(id, out);
            }
            return;
        }
        if let Some(refusal) = cycle.filter(|_| !self.may_enter(&actor, id)) {
            self.hold(id, 0, Ground::Fact, not_run(&refusal));
            self.touch(now, &actor, out);
            return;
        }
        self.actors.at(&actor).mailbox.admit();
        if first {
            self.enqueue(now, id, out);
        } else {
            self.look_up(id, out);
        }
    }

    /// Puts an admitted call into its actor's mailbox.
    pub(super) fn enqueue(&mut self, now: Instant, id: JobId, out: &mut Vec<TurnsEffect>) {
        let job = self.jobs.at(id);
        job.place = Place::Waiting;
        let key = job.actor.clone();
        if self.may_enter(&key, id) {
            return self.let_in(now, &key, id, out);
        }
        self.actors
            .at(&key)
            .mailbox
            .push(Line::Calls, id, End::Back);
        self.advance(now, &key, out);
    }

    /// Nobody waits for a call that has not begun.
    pub(super) fn abandon(&mut self, now: Instant, id: JobId, out: &mut Vec<TurnsEffect>) {
        let Some(job) = self.jobs.remove(id) else {
            return;
        };
        let gone = job.call().map_or(&[][..], |call| &call.gone[..]);
        for caller in gone {
            nothing_ran(*caller, out);
        }
        self.actors.at(&job.actor).mailbox.dismiss(&self.jobs);
        self.touch(now, &job.actor, out);
    }

    fn parse(&self, now: Instant, from: Caller, request: CallRequest) -> Result<Job, NotRun> {
        let id = RequestId::parse(&request.request_id).ok_or_else(|| {
            NotRun::new(
                Code::InvalidRequestId,
                "the request id is not in canonical form; the calling node should be updated",
            )
        })?;
        let name = |error: ghostlight_protocol::actor::NameError| {
            NotRun::new(error.code, error.to_string())
        };
        let actor = ActorKey::parse(request.actor).map_err(name)?;
        let operation = request.operation.and_then(|operation| operation.ask);
        let partition = match &operation {
            Some(ask) if ask.is_of_partition() => self.partition,
            Some(_) | None => partition_of(&actor, self.partitions),
        };
        if partition != self.partition || PartitionId(request.partition as u16) != partition {
            return Err(NotRun::new(
                Code::ShapeMismatch,
                format!(
                    "{actor} was sent to {}, but belongs to {partition} of {}: the calling node \
                     has another partition count; start it with the cluster's",
                    self.partition, self.partitions
                ),
            ));
        }
        if request.chain.len() > CALL_CHAIN_MAX {
            return Err(NotRun::new(
                Code::ChainTooDeep,
                format!(
                    "{} actors wait for each other, at most {CALL_CHAIN_MAX} may; send a message \
                     instead of calling",
                    request.chain.len()
                ),
            ));
        }
        let chain = request.chain.into_iter().map(ActorKey::parse);
        let chain: Vec<ActorKey> = chain.collect::<Result<_, _>>().map_err(name)?;
        let digest = request_digest(&actor, &request.method, &request.body);
        let key = family::dedup_key(&actor, &id);
        let deadline =
            (request.remaining_ms > 0).then(|| now + Duration::from_millis(request.remaining_ms));
        Ok(Job {
            stamp: self.stamp_of(request.stamp, &id, &key),
            actor,
            work: Work::Call(CallWork {
                id,
                key,
                digest,
                callers: vec![from],
                gone: Vec::new(),
                closed: Closed::new(request.closed_below, &request.closed_ranges),
                attempt: request.attempt.max(1),
                arrived_round: self.rounds.begun(),
                operation: operation.map(Box::new),
            }),
            parts: 0,
            since: now,
            metadata: request.metadata,
            method: request.method,
            body: request.body,
            deadline,
            chain,
            place: Place::Lookup,
            reach: Reach::Inside,
            speculation: Speculation::None,
            reruns: 0,
        })
    }

    /// The same request is in flight: it gets the same answer.
    fn join(&mut self, id: JobId, from: Caller, again: &Job, out: &mut Vec<TurnsEffect>) {
        let again_call = again.call().expect("only calls join");
        let job = self.jobs.at(id);
        let call = job.call_mut().expect("only calls are found by their id");
        if call.digest != again_call.digest {
            let kind = reused(&call.id);
            out.push(TurnsEffect::Answer { to: from, kind });
            return;
        }
        call.attempt = call.attempt.max(again_call.attempt);
        call.closed.join(&again_call.closed);
        job.deadline = match (job.deadline, again.deadline) {
            (Some(one), Some(other)) => Some(one.max(other)),
            (None, _) | (_, None) => None,
        };
        self.counters.calls_joined += 1;
        if let Some(displaced) = self.jobs.join(id, from) {
            let text = "too many callers wait for the same request id; ask again with it later";
            out.push(TurnsEffect::Answer {
                to: displaced,
                kind: unknown(Code::OutcomeUnknown, text),
            });
        }
    }

    fn make_room(&mut self, job: &Job, out: &mut Vec<TurnsEffect>) -> Result<(), NotRun> {
        if job.serves_a_turn() || job.is_operation() {
            // What runs must be able to end; there are only as many of these as running turns ask
            // for.
            return Ok(());
        }
        self.room_for_messages()?;
        let key = &job.actor;
        let max = self.settings.mailbox_calls_max;
        if let Some(actor) = self.actors.get(key) {
            if actor.mailbox.waiting() + actor.held.len() < max {
                return Ok(());
            }
            let text = format!("{max} calls wait for {key} already; call it less often, or wait");
            return Err(NotRun::retry(Code::MailboxFull, text, FULL_PAUSE));
        }
        if self.actors.len() < self.settings.activations_max || self.evict(out) == Evicted::One {
            return Ok(());
        }
        Err(NotRun::retry(
            Code::MailboxFull,
            format!(
                "all {} actors that {} keeps in memory are busy; wait, or add nodes",
                self.settings.activations_max, self.partition
            ),
            FULL_PAUSE,
        ))
    }
}

impl Turns {
    /// A request from outside may make messages; what is admitted is never refused later.
    fn room_for_messages(&self) -> Result<(), NotRun> {
        let max = self.settings.messages_max;
        let (place, kept) = match self.load {
            Load { outbox, .. } if outbox.is_full(max) => ("outbox", outbox),
            Load { inbox, .. } if inbox.is_full(max) => ("inbox", inbox),
            Load { .. } => return Ok(()),
        };
        let text = format!(
            "{} messages of {} bytes wait in the {place} of {}, at most {} of {} bytes may: send less, or \
             wait until they are done",
            kept.rows, kept.bytes, self.partition, max.rows, max.bytes
        );
        Err(NotRun::retry(Code::MessagesFull, text, MESSAGES_PAUSE))
    }
}

/// The refusal of a request whose own chain waits for its actor.
fn cycle(job: &Job) -> Option<NotRun> {
    let at = job.chain.iter().position(|waiting| *waiting == job.actor)?;
    let mut text = String::new();
    for actor in &job.chain[at..] {
        text.push_str(&actor.to_string());
        text.push_str(" -> ");
    }
    Some(NotRun::new(
        Code::Cycle,
        format!(
            "{text}{}: the actor waits for this very call; send a message instead of calling",
            job.actor
        ),
    ))
}
