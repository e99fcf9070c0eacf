//! What applications ask of their node: state, reminders and timers, inside a turn and outside.
//!
//! Inside a turn, changes of state are staged and commit with its answer; a reminder that is set
//! commits at once, with all that is staged so far. Outside a turn, state may be written while the
//! object serves the current activation and has its state; the leader checks both again. None of
//! these waits for a turn.

use bytes::Bytes;
use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::call::{
    Ask, Delete, Done, Inspect, OperationReply, Page, ScheduleChange, ScheduleName, SchedulePage,
    StateChange,
};
use ghostlight_protocol::command::{AppValue, ScheduleKind, ScheduleWrite, StateWrite};
use ghostlight_protocol::ids::{ActorVersion, PartitionId};
use ghostlight_protocol::outcome::CallOutcome;
use ghostlight_protocol::time::WallTime;
use prost::Message;

use super::held::Trust;
use super::parting::HasLeader;
use super::schedule::write_of;
use super::{HostEffect, Objects, Reach, Refused, Running, Stage, Waiting, tell};
use crate::hosts::words::{
    AppCall, AppInstance, AppOutcome, AppTicket, ScheduleSpec, StateOp, StateValue,
};
use crate::turn_io::{PartEnd, RunnerInput, Staged, TurnAsk, TurnId, TurnTold};

/// An application's call that the actor's leader answers.
#[derive(Debug)]
pub(super) struct PendingCall {
    actor: ActorKey,
    wants: Wants,
}

#[derive(Debug)]
enum Wants {
    /// State was written by an object in this process, which had this version.
    Written(AppInstance, ActorVersion),
    Value,
    Set,
    Schedule,
    Schedules,
    Keys,
    Actors,
    OwnedSchedules,
    Standing,
    Nothing,
}

impl Objects {
    /// An application calls. Its answer is an effect, now or later.
    pub fn call(
        &mut self,
        now: WallTime,
        ticket: AppTicket,
        actor: ActorKey,
        call: AppCall,
        out: &mut Vec<HostEffect>,
    ) {
        if is_of_the_objects_own(&call) {
            self.shows_itself(&actor);
        }
        match call {
            AppCall::StateTransaction(ops) => self.transaction(now, ticket, actor, ops, out),
            AppCall::StateRefused => {
                self.state_refused(&actor);
                tell(ticket, AppOutcome::Done, out);
            }
            AppCall::StateGet { key } => self.state_get(now, ticket, actor, key, out),
            AppCall::ScheduleSet { kind, name, wanted } => {
                if !self.hosts(&actor) {
                    return tell(ticket, AppOutcome::NotHosted, out);
                }
                self.schedule_set(now, ticket, actor, (kind, name), *wanted, out);
            }
            AppCall::ScheduleUnset { kind, name } => {
                // Dapr ends timers of any type, whoever asks.
                if kind == ScheduleKind::Reminder && !self.hosts(&actor) {
                    return tell(ticket, AppOutcome::NotHosted, out);
                }
                self.schedule_unset(ticket, actor, kind, name, out);
            }
            AppCall::ScheduleGet { kind, name } => {
                let name = ScheduleName {
                    kind: kind as i32,
                    name,
                };
                self.operate(ticket, actor, Wants::Schedule, Ask::ScheduleGet(name), out);
            }
            AppCall::ScheduleList(kind) => {
                let ask = Ask::ScheduleList(all(kind));
                self.operate(ticket, actor, Wants::Schedules, ask, out);
            }
            AppCall::ScheduleClear(kind) => {
                let ask = Ask::ScheduleClear(all(kind));
                self.operate(ticket, actor, Wants::Nothing, ask, out);
            }
            call @ (AppCall::StateKeys { .. }
            | AppCall::Delete
            | AppCall::Inspect
            | AppCall::ActorsOfType { .. }
            | AppCall::SchedulesOfType { .. }) => self.operators_call(ticket, actor, call, out),
            AppCall::Join { token, what } => self.join(ticket, actor, (&token, what), out),
        }
    }

    /// What is asked for people: no object is needed for it.
    fn operators_call(
        &mut self,
        ticket: AppTicket,
        actor: ActorKey,
        call: AppCall,
        out: &mut Vec<HostEffect>,
    ) {
        let (partition, wants, ask) = match call {
            AppCall::StateKeys { after, limit } => {
                (None, Wants::Keys, Ask::StateKeys(Page { after, limit }))
            }
            AppCall::Delete => (None, Wants::Nothing, Ask::Delete(Delete {})),
            AppCall::Inspect => (None, Wants::Standing, Ask::Inspect(Inspect {})),
            AppCall::ActorsOfType {
                partition,
                after,
                limit,
            } => {
                let ask = Ask::ActorsOfType(Page { after, limit });
                (Some(partition), Wants::Actors, ask)
            }
            AppCall::SchedulesOfType {
                partition,
                kind,
                after,
                limit,
            } => {
                let ask = Ask::SchedulesOfType(SchedulePage {
                    kind: kind as i32,
                    after,
                    limit,
                });
                (Some(partition), Wants::OwnedSchedules, ask)
            }
            AppCall::StateTransaction(_)
            | AppCall::StateRefused
            | AppCall::StateGet { .. }
            | AppCall::ScheduleSet { .. }
            | AppCall::ScheduleUnset { .. }
            | AppCall::ScheduleGet { .. }
            | AppCall::ScheduleList(_)
            | AppCall::ScheduleClear(_)
            | AppCall::Join { .. } => unreachable!("asked by applications"),
        };
        self.operate_at(ticket, actor, partition, wants, ask, out);
    }

    fn hosts(&self, actor: &ActorKey) -> bool {
        let mut up = self.apps.values().filter(|app| app.reach == Reach::Up);
        up.any(|app| app.types.contains_key(actor.actor_type()))
    }

    /// The turn that runs in the actor's object, if its answer, or that of a call inside it, is not
    /// there yet.
    pub(super) fn running(&mut self, actor: &ActorKey) -> Option<&mut Running> {
        match &mut self.table.get_mut(actor)?.stage {
            Stage::Running(running) if running.answer.is_none() || !running.inside.is_empty() => {
                Some(running)
            }
            Stage::Running(_) | Stage::Idle | Stage::Resetting { .. } | Stage::GivenUp(_) => None,
        }
    }

    fn transaction(
        &mut self,
        now: WallTime,
        ticket: AppTicket,
        actor: ActorKey,
        ops: Vec<StateOp>,
        out: &mut Vec<HostEffect>,
    ) {
        let writes = ops.into_iter().map(|op| write(now, op));
        if let Some(running) = self.running(&actor) {
            for write in writes {
                running.staged.insert(write.key.clone(), write);
            }
            return tell(ticket, AppOutcome::Done, out);
        }
        if self.is_turning(&actor) {
            // Its turn has its answer and waits for something else: this is too late.
            self.state_refused(&actor);
        }
        let held = self.table.get_mut(&actor).and_then(|object| {
            let held = object.here()?;
            let (Trust::Clean(version), process) = (held.trust, held.process) else {
                return None;
            };
            let served = object.serves?;
            matches!(object.stage, Stage::Idle).then_some((served, process, version))
        });
        let Some((served, process, version)) = held else {
            return tell(ticket, AppOutcome::InstanceMissing, out);
        };
        let mut last = std::collections::BTreeMap::new();
        for write in writes {
            last.insert(write.key.clone(), write);
        }
        let change = StateChange {
            term: served.term.0,
            activation: served.number,
            version: version.0,
            writes: last.into_values().collect(),
        };
        let wants = Wants::Written(process, version);
        self.operate(ticket, actor, wants, Ask::StateWrite(change), out);
    }

    fn is_turning(&self, actor: &ActorKey) -> bool {
        let object = self.table.get(actor);
        object.is_some_and(|object| matches!(object.stage, Stage::Running(_)))
    }

    /// A change of state was refused that the object has made in its memory.
    fn state_refused(&mut self, actor: &ActorKey) {
        let Some(object) = self.table.get_mut(actor) else {
            return;
        };
        if let Stage::Running(running) = &mut object.stage {
            running.refused = Refused::Something;
        } else if let Some(process) = object.here().map(|held| held.process)
            && let Some(held) = object.held_in(process)
        {
            held.doubt();
        }
    }

    fn state_get(
        &mut self,
        now: WallTime,
        ticket: AppTicket,
        actor: ActorKey,
        key: Bytes,
        out: &mut Vec<HostEffect>,
    ) {
        let Some(running) = self.running(&actor) else {
            return self.operate(ticket, actor, Wants::Value, Ask::StateGet(key), out);
        };
        if let Some(staged) = running.staged.get(&key) {
            let value = staged.value.clone().and_then(|bytes| read(now, bytes));
            return tell(ticket, AppOutcome::Value(value), out);
        }
        running.asks += 1;
        let (turn, ask) = (running.turn, running.asks);
        let kept = Waiting::Get(ticket, key.clone());
        running.waiting.insert(ask, kept);
        let what = TurnAsk::Get { key };
        out.push(HostEffect::Leader(RunnerInput::Asked { turn, ask, what }));
    }

    fn schedule_set(
        &mut self,
        now: WallTime,
        ticket: AppTicket,
        actor: ActorKey,
        (kind, name): (ScheduleKind, String),
        spec: ScheduleSpec,
        out: &mut Vec<HostEffect>,
    ) {
        let write = match write_of(&actor, kind, &name, spec, now) {
            Ok(write) => write,
            Err(why) => return tell(ticket, AppOutcome::Malformed(why), out),
        };
        let orphaned = self.orphans.contains_key(&actor);
        let (true, Some(running)) = (kind == ScheduleKind::Reminder, self.running(&actor)) else {
            let ask = Ask::Schedule(ScheduleChange {
                writes: vec![write],
            });
            return self.operate(ticket, actor, Wants::Set, ask, out);
        };
        running.asks += 1;
        let ask = running.asks;
        let next = Waiting::Next(ticket, Box::new(write));
        running.waiting.insert(ask, next);
        let has_leader = match orphaned {
            true => HasLeader::No,
            false => HasLeader::Yes,
        };
        running.send_next_part(has_leader, out);
    }

    fn schedule_unset(
        &mut self,
        ticket: AppTicket,
        actor: ActorKey,
        kind: ScheduleKind,
        name: String,
        out: &mut Vec<HostEffect>,
    ) {
        let write = ScheduleWrite {
            kind: kind as i32,
            name: name.clone(),
            ..ScheduleWrite::default()
        };
        if kind == ScheduleKind::Reminder
            && let Some(running) = self.running(&actor)
        {
            running.schedule.insert((kind, name), write);
            return tell(ticket, AppOutcome::Done, out);
        }
        let ask = Ask::Schedule(ScheduleChange {
            writes: vec![write],
        });
        self.operate(ticket, actor, Wants::Set, ask, out);
    }

    fn operate(
        &mut self,
        ticket: AppTicket,
        actor: ActorKey,
        wants: Wants,
        ask: Ask,
        out: &mut Vec<HostEffect>,
    ) {
        self.operate_at(ticket, actor, None, wants, ask, out);
    }

    fn operate_at(
        &mut self,
        ticket: AppTicket,
        actor: ActorKey,
        partition: Option<PartitionId>,
        wants: Wants,
        ask: Ask,
        out: &mut Vec<HostEffect>,
    ) {
        let pending = PendingCall {
            actor: actor.clone(),
            wants,
        };
        self.calls.insert(ticket, pending);
        out.push(HostEffect::Operate {
            ticket,
            actor,
            partition,
            ask,
        });
    }

    /// A leader answers an ask of a running turn.
    pub(super) fn told(
        &mut self,
        now: WallTime,
        turn: TurnId,
        ask: u32,
        told: TurnTold,
        out: &mut Vec<HostEffect>,
    ) {
        let Some(actor) = self.activations.get(&turn.activation).cloned() else {
            return;
        };
        let Some(Stage::Running(running)) = self.table.get_mut(&actor).map(|o| &mut o.stage) else {
            return;
        };
        if running.turn != turn {
            return;
        }
        match (running.waiting.remove(&ask), told) {
            (None, _) => return,
            (Some(Waiting::Left(staged)), told) => running.entry_told(*staged, told),
            (Some(Waiting::Call(ticket, _)), TurnTold::Called(outcome)) => {
                tell(ticket, AppOutcome::Called(Box::new(outcome)), out);
            }
            (Some(Waiting::Call(ticket, _)), _) => tell(ticket, super::joining::unawaited(), out),
            (Some(Waiting::Get(ticket, _)), TurnTold::Value(value)) => {
                let value = value.and_then(|bytes| read(now, bytes));
                tell(ticket, AppOutcome::Value(value), out);
            }
            (Some(Waiting::Part(ticket, _)), TurnTold::Part(PartEnd::Committed(version))) => {
                running.base = version;
                running.parts += 1;
                tell(ticket, AppOutcome::Done, out);
            }
            (Some(Waiting::Part(ticket, staged)), TurnTold::Part(end)) => {
                running.restore(without_last(*staged));
                let outcome = match end {
                    PartEnd::Refused(refusal) => {
                        running.refused = Refused::Something;
                        AppOutcome::Refused(refusal)
                    }
                    PartEnd::ScheduleThere | PartEnd::Committed(_) | PartEnd::Nothing => {
                        AppOutcome::AlreadyExists
                    }
                };
                tell(ticket, outcome, out);
            }
            (
                Some(
                    Waiting::Get(ticket, _)
                    | Waiting::Part(ticket, _)
                    | Waiting::Unsent(ticket, _)
                    | Waiting::Next(ticket, _),
                ),
                _,
            ) => {
                running.refused = Refused::Something;
                tell(ticket, AppOutcome::InstanceMissing, out);
            }
        }
        running.send_next_part(HasLeader::Yes, out);
        if running.is_over() {
            self.finish(&actor, out);
        }
    }

    /// The actor's leader has answered an operation, or nobody did.
    pub fn operated(&mut self, ticket: AppTicket, outcome: CallOutcome, out: &mut Vec<HostEffect>) {
        let Some(PendingCall { actor, wants }) = self.calls.remove(&ticket) else {
            return;
        };
        let outcome = match outcome {
            CallOutcome::Reply(body) => {
                let reply = OperationReply::decode(body).unwrap_or_default();
                self.replied(&actor, wants, reply)
            }
            CallOutcome::NotRun(refusal) => {
                self.doubt(&actor, &wants);
                AppOutcome::Refused(refusal)
            }
            CallOutcome::Unknown { detail, .. } => {
                self.doubt(&actor, &wants);
                AppOutcome::Unknown(detail)
            }
            CallOutcome::AppReply(_) | CallOutcome::App(_) => {
                AppOutcome::Unknown("the leader's node answered something else".to_owned())
            }
        };
        tell(ticket, outcome, out);
    }

    fn replied(&mut self, actor: &ActorKey, wants: Wants, reply: OperationReply) -> AppOutcome {
        match (reply.done(), wants) {
            (Done::There, _) => AppOutcome::AlreadyExists,
            (Done::NotHeld, wants) => {
                self.doubt(actor, &wants);
                AppOutcome::InstanceMissing
            }
            (Done::Yes, Wants::Written(process, before)) => {
                if let Some(object) = self.table.get_mut(actor)
                    && let Some(held) = object.held_in(process)
                    && held.trust == Trust::Clean(before)
                {
                    held.trust = Trust::Clean(ActorVersion(reply.version));
                }
                AppOutcome::Done
            }
            (Done::Yes, Wants::Value) => {
                let value = reply.value.map(|value| StateValue {
                    data: value.data,
                    expires_ms: (value.expires_ms > 0).then_some(value.expires_ms),
                });
                AppOutcome::Value(value)
            }
            (Done::Yes, Wants::Set | Wants::Nothing) => AppOutcome::Done,
            (Done::Yes, Wants::Keys) => AppOutcome::Keys(reply.keys),
            (Done::Yes, Wants::Standing) => AppOutcome::Standing(reply.standing.map(Box::new)),
            (Done::Yes, Wants::Actors) => {
                let keys = reply.actors.into_iter();
                let keys = keys.filter_map(|key| ActorKey::parse(key).ok());
                AppOutcome::Actors(keys.collect(), reply.next)
            }
            (Done::Yes, Wants::OwnedSchedules) => {
                let rows = reply.owned.into_iter().filter_map(|owned| {
                    let actor = ActorKey::parse(owned.actor).ok()?;
                    Some((actor, owned.schedule.name, owned.schedule.row?))
                });
                AppOutcome::OwnedSchedules(rows.collect(), reply.next)
            }
            (Done::Yes, Wants::Schedule) if reply.schedule.is_empty() => AppOutcome::NotFound,
            (Done::Yes, Wants::Schedule | Wants::Schedules) => {
                let rows = reply.schedule.into_iter();
                AppOutcome::Schedules(rows.filter_map(|w| Some((w.name, w.row?))).collect())
            }
        }
    }

    /// A write of which nobody knows whether it came through, or which was refused.
    fn doubt(&mut self, actor: &ActorKey, wants: &Wants) {
        if let (Wants::Written(process, _), Some(object)) = (wants, self.table.get_mut(actor))
            && let Some(held) = object.held_in(*process)
        {
            held.doubt();
        }
    }
}

/// Whether SDKs ask this for an object before they keep a change of its state in its memory.
fn is_of_the_objects_own(call: &AppCall) -> bool {
    match call {
        AppCall::StateTransaction(_)
        | AppCall::StateRefused
        | AppCall::StateGet { .. }
        | AppCall::ScheduleSet { .. }
        | AppCall::ScheduleUnset { .. } => true,
        AppCall::ScheduleGet { .. }
        | AppCall::ScheduleList(_)
        | AppCall::ScheduleClear(_)
        | AppCall::StateKeys { .. }
        | AppCall::Delete
        | AppCall::ActorsOfType { .. }
        | AppCall::SchedulesOfType { .. }
        | AppCall::Inspect
        | AppCall::Join { .. } => false,
    }
}

/// What was staged before the reminder that was to be set, which is the last one.
fn without_last(mut staged: Staged) -> Staged {
    staged.schedule.pop();
    staged
}

fn all(kind: ScheduleKind) -> ScheduleName {
    ScheduleName {
        kind: kind as i32,
        name: String::new(),
    }
}

fn write(now: WallTime, op: StateOp) -> StateWrite {
    match op {
        StateOp::Upsert { key, value, ttl } => {
            let expires_ms = ttl.map_or(0, |ttl| now.0.saturating_add(ttl.as_millis() as u64));
            let value = AppValue {
                data: value,
                expires_ms,
            };
            StateWrite {
                key,
                value: Some(value.encode_to_vec().into()),
                expires_ms,
            }
        }
        StateOp::Delete { key } => StateWrite {
            key,
            ..StateWrite::default()
        },
    }
}

/// A stored value, unless its time is over.
fn read(now: WallTime, bytes: Bytes) -> Option<StateValue> {
    let value = AppValue::decode(bytes).unwrap_or_default();
    let expires_ms = (value.expires_ms > 0).then_some(value.expires_ms);
    if expires_ms.is_some_and(|at| at <= now.0) {
        return None;
    }
    Some(StateValue {
        data: value.data,
        expires_ms,
    })
}
