//! Actors over rows in memory, one turn at a time.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use ghostlight_protocol::actor::{ActorKey, clean_method};
use ghostlight_protocol::call::Stamp;
use ghostlight_protocol::code::Code;
use ghostlight_protocol::command::{ScheduleRow, ScheduleWrite};
use ghostlight_protocol::ids::{ActorVersion, PartitionId, Term};
use ghostlight_protocol::outcome::{CallOutcome, NotRun};
use ghostlight_protocol::request::RequestId;
use ghostlight_protocol::time::{Instant, WallTime};

use crate::sdk::client::{Client, Cluster, Invocation};
use crate::sdk::local_runner::LocalRunner;
use crate::sdk::publish::{PublishedEvent, Topic};
use crate::sdk::registry::ActorRegistry;
use crate::sdk::stage::TurnCell;
use crate::sdk::testkit::fake_turn::read_rows;
use crate::turn_io::{
    ActivationId, FencingToken, OutMessage, RunnerEffect, RunnerInput, TurnAsk, TurnEnd, TurnId,
    TurnStart, TurnTold,
};

/// All actors of one namespace (`default`), in memory. Cheap to clone: clones are the same world.
#[derive(Clone, Debug)]
pub struct World(Arc<TurnCell<Option<Inner>>>);

#[derive(Debug)]
struct Inner {
    runner: LocalRunner,
    actors: BTreeMap<ActorKey, Kept>,
    outbox: VecDeque<OutMessage>,
    events: Vec<PublishedEvent>,
    requests: u64,
    wall_ms: u64,
}

/// One actor.
#[derive(Debug, Default)]
struct Kept {
    activation: u64,
    turns: u64,
    version: u64,
    rows: BTreeMap<Bytes, Bytes>,
    reminders: BTreeMap<String, ScheduleRow>,
}

impl World {
    /// An empty world with these types.
    #[must_use]
    pub fn new(registry: ActorRegistry) -> Self {
        let world = Self(Arc::default());
        world.0.with(|inner| {
            *inner = Some(Inner {
                runner: LocalRunner::new(registry),
                actors: BTreeMap::new(),
                outbox: VecDeque::new(),
                events: Vec::new(),
                requests: 0,
                wall_ms: 0,
            });
        });
        world
    }

    /// Its actors, for typed calls:
    /// `run(world.cluster().actor::<Counter>("home").add(1).into_future())`.
    #[must_use]
    pub fn cluster(&self) -> Cluster {
        Cluster::new(Arc::new(self.clone()), "default")
    }

    /// Calls an actor by name. Messages it sends wait for [`World::deliver`].
    ///
    /// # Panics
    /// When a name is not allowed.
    #[track_caller]
    pub fn call(&self, actor: (&str, &str), method: &str, body: impl Into<Bytes>) -> CallOutcome {
        let key = ActorKey::new("default", actor.0, actor.1).expect("names are allowed");
        let method = clean_method(method).expect("the method's name is allowed");
        let body = body.into();
        self.with(|inner| inner.call(&key, &method, body, &[]))
    }

    /// Runs the oldest message sent and not yet delivered; `None`: there is none.
    pub fn deliver(&self) -> Option<(OutMessage, CallOutcome)> {
        self.with(|inner| {
            let message = inner.outbox.pop_front()?;
            let outcome = inner.call(&message.actor, &message.method, message.body.clone(), &[]);
            Some((message, outcome))
        })
    }

    /// What turns have published since the last call, in order.
    #[must_use]
    pub fn published(&self) -> Vec<PublishedEvent> {
        self.with(|inner| std::mem::take(&mut inner.events))
    }

    /// Hands an event's data to every actor that is subscribed; gives how each has taken it.
    ///
    /// # Panics
    /// When the data names no actor.
    #[track_caller]
    pub fn publish(&self, topic: impl Into<Topic>, data: impl Into<Bytes>) -> Vec<CallOutcome> {
        let (topic, data) = (topic.into(), data.into());
        self.with(|inner| {
            let handlers: Vec<_> = inner.runner.registry().events().collect();
            let wanted = handlers
                .into_iter()
                .filter(|(_, handler)| topic.is(handler));
            let outcomes = wanted.map(|(actor_type, handler)| {
                let id = (handler.actor_id)(&data).expect("the event names an actor");
                let key = ActorKey::new("default", actor_type, &id).expect("names are allowed");
                inner.call(&key, handler.method, data.clone(), &[])
            });
            outcomes.collect()
        })
    }

    /// Forgets everything in memory, as when all actors move to other nodes.
    pub fn fail_over(&self) {
        self.with(Inner::fail_over);
    }

    /// Sets the wall time that turns see.
    pub fn set_wall_ms(&self, wall_ms: u64) {
        self.with(|inner| inner.wall_ms = wall_ms);
    }

    /// State rows of an actor, by key.
    ///
    /// # Panics
    /// When a name is not allowed.
    #[must_use]
    pub fn rows(&self, actor: (&str, &str)) -> Vec<(Bytes, Bytes)> {
        let key = ActorKey::new("default", actor.0, actor.1).expect("names are allowed");
        self.with(|inner| {
            let kept = inner.actors.get(&key);
            let rows = kept.into_iter().flat_map(|kept| &kept.rows);
            rows.map(|(k, v)| (k.clone(), v.clone())).collect()
        })
    }

    /// Reminders of an actor, and when they are due first. They do not fire by themselves here:
    /// call the method.
    ///
    /// # Panics
    /// When a name is not allowed.
    #[must_use]
    pub fn reminders(&self, actor: (&str, &str)) -> Vec<(String, WallTime)> {
        let key = ActorKey::new("default", actor.0, actor.1).expect("names are allowed");
        self.with(|inner| {
            let kept = inner.actors.get(&key);
            let reminders = kept.into_iter().flat_map(|kept| &kept.reminders);
            let due = reminders.map(|(name, row)| (name.clone(), WallTime(row.due_ms)));
            due.collect()
        })
    }

    fn with<R>(&self, change: impl FnOnce(&mut Inner) -> R) -> R {
        self.0
            .with(|inner| change(inner.as_mut().expect("set when the world was made")))
    }
}

impl Client for World {
    fn invoke(&self, call: Invocation) -> BoxFuture<'static, CallOutcome> {
        let outcome = self.with(|inner| inner.call(&call.actor, &call.method, call.body, &[]));
        ready(outcome).boxed()
    }
}

impl Inner {
    fn call(
        &mut self,
        actor: &ActorKey,
        method: &str,
        body: Bytes,
        chain: &[ActorKey],
    ) -> CallOutcome {
        if chain.contains(actor) {
            let text = format!("{actor} waits for this call");
            return CallOutcome::NotRun(NotRun::new(Code::Cycle, text));
        }
        let start = self.start(actor, method, body, chain);
        let turn = start.turn;
        let mut inputs = VecDeque::from(self.perform(RunnerEffect::Run(start)));
        loop {
            match inputs.pop_front() {
                Some(RunnerInput::Asked { turn, ask, what }) => {
                    let told = self.tell(actor, what, chain);
                    inputs.extend(self.perform(RunnerEffect::Tell { turn, ask, told }));
                }
                Some(RunnerInput::Ended { end, .. }) => return self.end(turn, actor, end),
                None => panic!("{turn:?} of {actor} waits for something outside the test kit"),
            }
        }
    }

    fn start(
        &mut self,
        actor: &ActorKey,
        method: &str,
        body: Bytes,
        chain: &[ActorKey],
    ) -> TurnStart {
        let next_activation = self.requests + 1;
        self.requests += 1;
        let kept = self.actors.entry(actor.clone()).or_default();
        if kept.activation == 0 {
            kept.activation = next_activation;
        }
        kept.turns += 1;
        TurnStart {
            turn: TurnId {
                activation: activation_id(kept.activation),
                number: kept.turns,
            },
            actor: actor.clone(),
            method: method.to_owned(),
            body,
            request: RequestId::Derived(u128::from(self.requests)),
            stamp: Stamp {
                wall_ms: self.wall_ms,
                seed: self.requests,
            },
            deadline: None,
            metadata: Vec::new(),
            wakeup: None,
            chain: chain.to_vec(),
            token: FencingToken {
                term: Term(1),
                base: ActorVersion(kept.version),
            },
        }
    }

    fn tell(&mut self, actor: &ActorKey, what: TurnAsk, chain: &[ActorKey]) -> TurnTold {
        match what {
            TurnAsk::Call {
                actor: callee,
                method,
                body,
                ..
            } => {
                let mut chain = chain.to_vec();
                chain.push(actor.clone());
                TurnTold::Called(self.call(&callee, &method, body, &chain))
            }
            asked => read_rows(&self.actors.entry(actor.clone()).or_default().rows, &asked),
        }
    }

    fn end(&mut self, turn: TurnId, actor: &ActorKey, end: TurnEnd) -> CallOutcome {
        match end {
            TurnEnd::Ok {
                reply,
                writes,
                sends,
                schedule,
            } => {
                let kept = self.actors.entry(actor.clone()).or_default();
                for ScheduleWrite { name, row, .. } in schedule {
                    match row {
                        Some(row) => kept.reminders.insert(name, row),
                        None => kept.reminders.remove(&name),
                    };
                }
                kept.version += u64::from(!writes.is_empty() || !sends.is_empty());
                for write in writes {
                    match write.value {
                        Some(value) => kept.rows.insert(write.key, value),
                        None => kept.rows.remove(&write.key),
                    };
                }
                for message in sends {
                    match PublishedEvent::of(&message) {
                        Some(event) => self.events.push(event),
                        None => self.outbox.push_back(message),
                    }
                }
                CallOutcome::Reply(reply)
            }
            TurnEnd::App(error) => {
                self.perform(RunnerEffect::Reset(turn.activation));
                CallOutcome::App(error)
            }
            TurnEnd::Refused(refusal) => CallOutcome::NotRun(refusal),
            TurnEnd::Answered(_) | TurnEnd::NotStarted { .. } => {
                unreachable!("native actors end otherwise")
            }
            TurnEnd::Lost { detail } => {
                self.perform(RunnerEffect::Drop(turn.activation));
                self.actors.entry(actor.clone()).or_default().activation = 0;
                let code = Code::OutcomeUnknown;
                CallOutcome::Unknown { code, detail }
            }
            TurnEnd::Panicked { message } => {
                self.perform(RunnerEffect::Drop(turn.activation));
                self.actors.entry(actor.clone()).or_default().activation = 0;
                let code = Code::TurnPanicked;
                CallOutcome::NotRun(NotRun::new(code, format!("the turn panicked: {message}")))
            }
        }
    }

    fn fail_over(&mut self) {
        let activations: Vec<u64> = self.actors.values().map(|kept| kept.activation).collect();
        for number in activations {
            self.perform(RunnerEffect::Drop(activation_id(number)));
        }
        for kept in self.actors.values_mut() {
            kept.activation = 0;
        }
        assert!(
            self.runner.is_empty(),
            "every activation belongs to an actor of this world"
        );
    }

    fn perform(&mut self, effect: RunnerEffect) -> Vec<RunnerInput> {
        let mut out = Vec::new();
        self.runner
            .perform(Instant(self.requests), effect, &mut out);
        out
    }
}

fn activation_id(number: u64) -> ActivationId {
    ActivationId {
        partition: PartitionId(0),
        term: Term(1),
        number,
    }
}
