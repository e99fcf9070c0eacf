//! A turn outlives its leadership: who starts the same call again gets the turn that runs, or what
//! it answered.
//!
//! A leader can be gone while an application runs a turn for it, or before the log has what was
//! answered. The caller's node then asks the next leader, which starts the call again. The method
//! must not run a second time for that: what it did outside, a call of another actor above all,
//! would be done twice. So the turn goes on without a leader for a while, and a start of the same
//! call *adopts* it. That the actor still has the version it began with shows that nothing has
//! counted since; a call that has counted finds its record, and is not started again
//! (`docs/decisions/0017-turns-outlive-their-leader.md`). Absent: turns of which a part is
//! committed, which no leader starts again, and turns that other calls have entered.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::call::AppReply;
use ghostlight_protocol::hash::{domain, hash128};
use ghostlight_protocol::ids::ActorVersion;
use ghostlight_protocol::request::RequestId;
use ghostlight_protocol::time::Instant;

use super::{ANOTHER_ACTIVATION, HostEffect, IsWakeup, Object, Objects, Running, Stage, Waiting};
use crate::turn_io::{ActivationId, RunnerInput, Staged, TurnAsk, TurnEnd, TurnStart};

/// How long a turn goes on without a leader: a caller's node looks for one as long (`gateway`).
const ORPHAN_MAX: Duration = Duration::from_secs(15);
/// How long an answer is kept that may not have counted. A leader is elected within a second.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// Bytes of such answers; beyond it the oldest go first.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// What one takes beside its contents.
const ANSWER_OVERHEAD: usize = 256;

/// Which call a turn runs. The digest tells calls apart to which a client gave the same id.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct CallId {
    request: RequestId,
    digest: u128,
}

impl CallId {
    pub(super) fn of(start: &TurnStart) -> Self {
        let parts = [start.method.as_bytes(), &start.body];
        Self {
            request: start.request.clone(),
            digest: hash128(domain::DERIVED, &parts),
        }
    }
}

/// What turns ended with, while their leaders may have gone before it counted: one for each actor.
#[derive(Debug, Default)]
pub(super) struct Unconfirmed {
    ends: BTreeMap<ActorKey, Kept>,
    /// By age; an entry whose number is not that of its actor was replaced.
    order: VecDeque<(u64, ActorKey)>,
    last: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Kept {
    number: u64,
    since: Instant,
    call: CallId,
    base: ActorVersion,
    activation: ActivationId,
    end: TurnEnd,
    bytes: usize,
}

impl Unconfirmed {
    fn keep(&mut self, since: Instant, actor: &ActorKey, running: &Running, end: &TurnEnd) {
        self.forget(actor);
        let bytes = ANSWER_OVERHEAD + bytes_of(end);
        self.last += 1;
        let kept = Kept {
            number: self.last,
            since,
            call: running.call.clone(),
            base: running.base,
            activation: running.turn.activation,
            end: end.clone(),
            bytes,
        };
        self.bytes += bytes;
        self.ends.insert(actor.clone(), kept);
        self.order.push_back((self.last, actor.clone()));
        while self.bytes > ANSWER_BYTES_MAX && self.drop_oldest() {}
    }

    pub(super) fn forget(&mut self, actor: &ActorKey) {
        if let Some(kept) = self.ends.remove(actor) {
            self.bytes -= kept.bytes;
        }
    }

    fn drop_oldest(&mut self) -> bool {
        let Some((number, actor)) = self.order.pop_front() else {
            return false;
        };
        if self.ends.get(&actor).is_some_and(|k| k.number == number) {
            self.forget(&actor);
        }
        true
    }

    fn expire(&mut self, now: Instant) {
        while let Some((number, actor)) = self.order.front() {
            let kept = self.ends.get(actor).filter(|kept| kept.number == *number);
            if kept.is_some_and(|kept| now.since(kept.since) < ANSWER_MAX) {
                return;
            }
            self.drop_oldest();
        }
        let nothing = self.ends.is_empty() && self.bytes == 0;
        assert!(nothing, "each answer has its place in the order");
    }

    /// What this call on this version has ended with. Its own activation knows what became of that:
    /// one that an end was dropped for is never used again. And its own leadership has told the
    /// caller that nobody knows.
    fn of(&self, start: &TurnStart, call: &CallId) -> Option<&TurnEnd> {
        let kept = self.ends.get(&start.actor)?;
        let activation = start.turn.activation;
        let same = kept.call == *call && kept.base == start.token.base;
        let told = match kept.end {
            TurnEnd::Lost { .. } => kept.activation.term == activation.term,
            _ => kept.activation == activation,
        };
        (same && !told).then_some(&kept.end)
    }
}

impl Objects {
    /// Whether a start of this call may get a turn that runs here, or what it answered.
    pub fn may_adopt(&self, start: &TurnStart) -> bool {
        let call = CallId::of(start);
        let stage = self.table.get(&start.actor).map(|object| &object.stage);
        let runs = matches!(stage, Some(Stage::Running(running)) if running.call == call);
        runs || self.unconfirmed.of(start, &call).is_some()
    }

    /// Whether a turn runs whose leadership is over: the next leader may want it.
    pub fn runs_without_leader(&self) -> bool {
        !self.orphans.is_empty()
    }
}

impl Running {
    /// Whether the next leader may have it: nothing of it has counted, and nothing that may count
    /// twice is on the way.
    fn is_adoptable(&self) -> bool {
        let repeats = |waiting: &Waiting| {
            matches!(
                waiting,
                Waiting::Get(..) | Waiting::Next(..) | Waiting::Unsent(..) | Waiting::Call(..)
            )
        };
        self.parts == 0 && self.inside.is_empty() && self.waiting.values().all(repeats)
    }

    /// Asks the leader that it has now for everything that it waits for.
    fn ask_again(&mut self, out: &mut Vec<HostEffect>) {
        let turn = self.turn;
        for (ask, waiting) in &mut self.waiting {
            let what = match waiting {
                Waiting::Get(_, key) => TurnAsk::Get { key: key.clone() },
                Waiting::Call(_, joined) => joined.ask(),
                Waiting::Next(..) => continue,
                Waiting::Unsent(ticket, staged) => {
                    let commit = TurnAsk::Commit(staged.clone());
                    *waiting = Waiting::Part(*ticket, staged.clone());
                    commit
                }
                Waiting::Part(..) | Waiting::Left(_) => unreachable!("such a turn is not adopted"),
            };
            let ask = *ask;
            out.push(HostEffect::Leader(RunnerInput::Asked { turn, ask, what }));
        }
    }
}

impl Objects {
    /// A leadership is over; the turn that it has started may go on.
    pub(super) fn depose(&mut self, activation: ActivationId, out: &mut Vec<HostEffect>) {
        let actor = self.activations.get(&activation).cloned();
        if let Some(actor) = actor
            && let Some(object) = self.table.get_mut(&actor)
            && let Stage::Running(running) = &object.stage
            && running.is_adoptable()
        {
            object.serves = None;
            self.activations.remove(&activation);
            self.orphans.insert(actor, self.clock);
        } else {
            self.drop_activation(activation, out);
        }
    }

    /// A leader starts a call whose turn runs here already, or has run: it gets that turn.
    pub(super) fn adopt(&mut self, start: &TurnStart, out: &mut Vec<HostEffect>) -> bool {
        let call = CallId::of(start);
        let turn = start.turn;
        let Some(object) = self.table.get_mut(&start.actor) else {
            return false;
        };
        let Stage::Running(running) = &mut object.stage else {
            let Some(end) = self.unconfirmed.of(start, &call).cloned() else {
                return false;
            };
            if let Stage::Resetting { then, .. } = &mut object.stage {
                Self::not_started(then.take(), ANOTHER_ACTIVATION, out);
            }
            out.push(HostEffect::Leader(RunnerInput::Ended { turn, end }));
            return true;
        };
        let same = running.call == call && running.base == start.token.base;
        if !same || !running.is_adoptable() {
            return false;
        }
        running.turn = turn;
        running.ask_again(out);
        self.orphans.remove(&start.actor);
        true
    }

    /// A turn is over: its leader is told, or the next one that starts the same call.
    pub(super) fn end(
        &mut self,
        actor: &ActorKey,
        running: &Running,
        end: TurnEnd,
        out: &mut Vec<HostEffect>,
    ) {
        let keeps = match (&end, &running.call.request) {
            // Set anew for the same time, a reminder or timer has the same id, and is to run.
            _ if running.is_wakeup == IsWakeup::Yes => false,
            (TurnEnd::Answered(_), _) => true,
            // A message whose turn was lost is run again, under the same id.
            (TurnEnd::Lost { .. }, request) => !matches!(request, RequestId::Derived(_)),
            _ => false,
        };
        if keeps && running.parts == 0 {
            self.unconfirmed.keep(self.clock, actor, running, &end);
        }
        if self.orphans.remove(actor).is_none() {
            let turn = running.turn;
            out.push(HostEffect::Leader(RunnerInput::Ended { turn, end }));
        } else if self.table.get(actor).is_some_and(Object::is_left) {
            self.let_go(actor, out);
        }
    }

    /// Time passes. To be called several times a second.
    pub fn tick(&mut self, now: Instant, out: &mut Vec<HostEffect>) {
        self.clock = now;
        self.unconfirmed.expire(now);
        let old = |since: &Instant| now.since(*since) >= ORPHAN_MAX;
        let orphans = self.orphans.iter().filter(|(_, since)| old(since));
        let abandoned: Vec<ActorKey> = orphans.map(|(actor, _)| actor.clone()).collect();
        for actor in abandoned {
            self.orphans.remove(&actor);
            self.give_up(&actor, out);
        }
    }
}

fn bytes_of(end: &TurnEnd) -> usize {
    let TurnEnd::Answered(answered) = end else {
        return 0;
    };
    let answer = match &answered.answer {
        Ok(AppReply { metadata, body }) => {
            let headers = metadata.iter().map(|m| m.name.len() + m.value.len());
            body.len() + headers.sum::<usize>()
        }
        Err(error) => error.name.len() + error.message.len() + error.payload.len(),
    };
    let Staged {
        writes,
        sends,
        schedule,
    } = &answered.staged;
    let values = writes.iter();
    let values = values.map(|w| w.key.len() + w.value.as_ref().map_or(0, bytes::Bytes::len));
    let sends = sends.iter().map(|send| send.body.len() + ANSWER_OVERHEAD);
    answer + values.sum::<usize>() + sends.sum::<usize>() + ANSWER_OVERHEAD * schedule.len()
}
