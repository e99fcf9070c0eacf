//! A turn's context for calling an actor's methods directly.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::call::Stamp;
use ghostlight_protocol::code::Code;
use ghostlight_protocol::command::{ScheduleRow, StateWrite};
use ghostlight_protocol::ids::{ActorVersion, PartitionId, Term};
use ghostlight_protocol::outcome::{AppError, CallOutcome, NotRun};
use ghostlight_protocol::request::RequestId;
use ghostlight_protocol::time::Instant;

use crate::sdk::actor::Actor;
use crate::sdk::publish::PublishedEvent;
use crate::sdk::stage::TurnCell;
use crate::sdk::turn::{Turn, TurnPort};
use crate::turn_io;
use crate::turn_io::{
    ActivationId, FencingToken, OutMessage, TurnAsk, TurnId, TurnStart, TurnTold,
};

/// A context for one actor, and what happened through it.
#[derive(Debug)]
pub struct FakeTurn {
    turn: Turn,
    port: Arc<Port>,
}

/// What a turn staged.
#[derive(Clone, PartialEq, Debug)]
pub struct Staged {
    /// State rows of maps, in key order.
    pub writes: Vec<StateWrite>,
    /// Messages, in the order of the turn.
    pub sends: Vec<OutMessage>,
    /// Events, in the order of the turn.
    pub events: Vec<PublishedEvent>,
    /// Reminders by name; `None`: it ends.
    pub reminders: BTreeMap<String, Option<ScheduleRow>>,
    /// Why the turn would roll back although its method succeeded.
    pub fault: Option<AppError>,
}

impl FakeTurn {
    /// A turn of an actor in namespace `default`, at wall time 0 and with seed 0.
    ///
    /// # Panics
    /// When the id is not allowed.
    #[must_use]
    pub fn new<A: Actor>(actor_id: &str) -> Self {
        Self::with_stamp::<A>(
            actor_id,
            Stamp {
                wall_ms: 0,
                seed: 0,
            },
        )
    }

    /// The same, with wall time and seed.
    ///
    /// # Panics
    /// When the id is not allowed.
    #[must_use]
    pub fn with_stamp<A: Actor>(actor_id: &str, stamp: Stamp) -> Self {
        let actor = ActorKey::new("default", A::TYPE, actor_id).expect("names are allowed");
        let start = TurnStart {
            turn: TurnId {
                activation: ActivationId {
                    partition: PartitionId(0),
                    term: Term(1),
                    number: 1,
                },
                number: 1,
            },
            actor,
            method: "test".to_owned(),
            body: Bytes::new(),
            request: RequestId::Derived(1),
            stamp,
            deadline: None,
            metadata: Vec::new(),
            wakeup: None,
            chain: Vec::new(),
            token: FencingToken {
                term: Term(1),
                base: ActorVersion(0),
            },
        };
        let port = Arc::new(Port::default());
        Self {
            turn: Turn::new(start, Arc::clone(&port) as _),
            port,
        }
    }

    /// Answers the next call that the turn makes without an answer yet; calls are answered in
    /// order.
    #[must_use]
    pub fn answering(self, outcome: CallOutcome) -> Self {
        self.port.0.with(|inner| inner.answers.push(outcome));
        self
    }

    /// The context to hand to methods.
    #[must_use]
    pub fn cx(&self) -> &Turn {
        &self.turn
    }

    /// The calls made so far: actor, method, body.
    #[must_use]
    pub fn calls(&self) -> Vec<OutMessage> {
        self.port.0.with(|inner| inner.calls.clone())
    }

    /// Ends the turn: returns what was staged, and keeps its rows for what comes next.
    pub fn commit(&self) -> Staged {
        let (fault, staged) = self.turn.stage(|s| (s.fault(), s.take()));
        let turn_io::Staged {
            writes,
            sends,
            schedule,
        } = staged;
        self.port.0.with(|inner| {
            for write in &writes {
                match &write.value {
                    Some(value) => inner.rows.insert(write.key.clone(), value.clone()),
                    None => inner.rows.remove(&write.key),
                };
            }
        });
        let events = sends.iter().filter_map(PublishedEvent::of).collect();
        let sends = sends.into_iter();
        let sends = sends.filter(|message| PublishedEvent::of(message).is_none());
        Staged {
            writes,
            events,
            sends: sends.collect(),
            reminders: schedule
                .into_iter()
                .map(|one| (one.name, one.row))
                .collect(),
            fault,
        }
    }
}

#[derive(Debug, Default)]
struct Port(TurnCell<Inner>);

#[derive(Debug, Default)]
struct Inner {
    rows: BTreeMap<Bytes, Bytes>,
    answers: Vec<CallOutcome>,
    calls: Vec<OutMessage>,
}

impl TurnPort for Port {
    fn ask(&self, what: TurnAsk) -> BoxFuture<'static, TurnTold> {
        ready(self.0.with(|inner| inner.tell(what))).boxed()
    }

    fn now(&self) -> Instant {
        Instant::default()
    }
}

impl Inner {
    fn tell(&mut self, what: TurnAsk) -> TurnTold {
        match what {
            TurnAsk::Call {
                actor,
                method,
                body,
                ..
            } => {
                let outcome = self.answers.get(self.calls.len()).cloned();
                self.calls.push(OutMessage {
                    actor,
                    method,
                    body,
                });
                TurnTold::Called(outcome.unwrap_or_else(|| {
                    let text = "the test has no answer for this call";
                    CallOutcome::NotRun(NotRun::retry(Code::NoLeader, text, Duration::ZERO))
                }))
            }
            asked => read_rows(&self.rows, &asked),
        }
    }
}

/// Answers `Get` and `Scan` from rows in memory.
pub(super) fn read_rows(rows: &BTreeMap<Bytes, Bytes>, asked: &TurnAsk) -> TurnTold {
    match asked {
        TurnAsk::Get { key } => TurnTold::Value(rows.get(key).cloned()),
        TurnAsk::Scan {
            prefix,
            after,
            limit,
        } => TurnTold::Rows(
            rows.iter()
                .filter(|(key, _)| key.starts_with(prefix))
                .filter(|(key, _)| after.as_ref().is_none_or(|after| *key > after))
                .take(*limit)
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect(),
        ),
        TurnAsk::Commit(_) | TurnAsk::Left { .. } => {
            unreachable!("native actors commit whole turns, and none is entered")
        }
        TurnAsk::Call { .. } => unreachable!("calls are answered by the caller of this function"),
    }
}
