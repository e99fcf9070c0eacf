//! The context of a running turn: everything that enters or leaves an actor besides its arguments.
//!
//! [`ReadTurn`] is what every turn may do: know the time, ask for randomness, read state, call
//! other actors. [`Turn`] adds what changes something, and dereferences to `ReadTurn`; a `#[read]`
//! method gets only the latter, so that a read that writes does not compile.
//!
//! When the turn's leadership ends, the pending operation never returns: the turn is ended from
//! outside, and nothing it staged counts. Actor code has no such case to handle.

use std::convert::Infallible;
use std::fmt;
use std::future::pending;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use ghostlight_protocol::actor::{ActorKey, NameError, clean_method};
use ghostlight_protocol::outcome::{CallOutcome, NotRun};
use ghostlight_protocol::request::RequestId;
use ghostlight_protocol::time::{Instant, WallTime};
use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha12Rng;

use crate::sdk::actor::Typed;
use crate::sdk::body::Body;
use crate::sdk::call::{Calling, Sending, Target};
use crate::sdk::publish::{self, Topic};
use crate::sdk::remind::{self, Reminder};
use crate::sdk::stage::{Abort, Stage, TurnCell};
use crate::turn_io::{FencingToken, OutMessage, TurnAsk, TurnStart, TurnTold};

/// How a turn reaches the node that runs it. One per turn.
pub trait TurnPort: Send + Sync {
    /// Asks, and waits for the answer. Asks are numbered in the order of these calls.
    fn ask(&self, what: TurnAsk) -> BoxFuture<'static, TurnTold>;

    /// The node's monotonic clock, in which deadlines are given. Not for decisions of the actor.
    fn now(&self) -> Instant;
}

/// What a turn may do without changing anything.
pub struct ReadTurn {
    start: TurnStart,
    port: Arc<dyn TurnPort>,
    stage: TurnCell<Stage>,
    rng: TurnCell<Option<ChaCha12Rng>>,
}

impl ReadTurn {
    /// The actor whose turn this is.
    #[must_use]
    pub fn actor(&self) -> &ActorKey {
        &self.start.actor
    }

    /// The id of the actor whose turn this is.
    #[must_use]
    pub fn id(&self) -> &str {
        self.start.actor.actor_id()
    }

    /// The request that this turn runs for. The same for every attempt.
    #[must_use]
    pub fn request_id(&self) -> &RequestId {
        &self.start.request
    }

    /// Wall time of the request's first attempt: the same if the turn has to run again.
    #[must_use]
    pub fn now(&self) -> WallTime {
        WallTime(self.start.stamp.wall_ms)
    }

    /// Random numbers seeded by the request's first attempt: the same if the turn has to run again.
    #[must_use]
    pub fn rng(&self) -> TurnRng<'_> {
        TurnRng(self)
    }

    /// Give this to systems outside: they refuse a token lower than one they have seen.
    #[must_use]
    pub fn fencing_token(&self) -> FencingToken {
        self.start.token
    }

    /// How long the caller still waits; `None`: for ever. Zero when it has gone.
    #[must_use]
    pub fn deadline_remaining(&self) -> Option<Duration> {
        self.start
            .deadline
            .map(|at| at.remaining(self.port.now()).unwrap_or_default())
    }

    /// Names another actor in this actor's namespace.
    ///
    /// # Errors
    /// When a name breaks a rule.
    pub fn key(&self, actor_type: &str, actor_id: &str) -> Result<ActorKey, NameError> {
        ActorKey::new(self.start.actor.namespace(), actor_type, actor_id)
    }

    /// Calls another actor and waits: `cx.call::<Counter>("alice").add(1).await`.
    ///
    /// A call is not part of this turn: what the callee committed stays even if this turn rolls
    /// back.
    #[must_use]
    pub fn call<A: Typed>(&self, actor_id: &str) -> A::Ref<Calling<'_>> {
        A::bind(
            Calling(self),
            Target::in_namespace_of(self.actor(), A::TYPE, actor_id),
        )
    }

    /// Calls any method of any actor with a body as it is.
    pub async fn call_raw(&self, actor: &ActorKey, method: &str, body: Bytes) -> CallOutcome {
        let method = match clean_method(method) {
            Ok(method) => method,
            Err(error) => return CallOutcome::NotRun(NotRun::new(error.code, error.to_string())),
        };
        self.call_within(actor.clone(), method, body, None).await
    }

    /// Calls, and waits at most `timeout` and never beyond this turn's own deadline.
    pub(crate) async fn call_within(
        &self,
        actor: ActorKey,
        method: String,
        body: Bytes,
        timeout: Option<Duration>,
    ) -> CallOutcome {
        let own = timeout.map(|t| self.port.now() + t);
        let deadline = match (own, self.start.deadline) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        let asked = TurnAsk::Call {
            actor,
            method,
            body,
            deadline,
            metadata: Vec::new(),
            ordinal: None,
        };
        match self.ask(asked).await {
            TurnTold::Called(outcome) => outcome,
            told => self.mistold("Call", &told),
        }
    }

    /// One state row: staged by this turn, else as stored.
    pub(crate) async fn row(&self, key: Bytes) -> Option<Bytes> {
        if let Some(staged) = self.stage(|s| s.staged(&key)) {
            return staged;
        }
        match self.ask(TurnAsk::Get { key }).await {
            TurnTold::Value(value) => value,
            told => self.mistold("Get", &told),
        }
    }

    /// Stored rows, without what this turn staged.
    pub(crate) async fn stored_rows(
        &self,
        prefix: Bytes,
        after: Option<Bytes>,
        limit: usize,
    ) -> Vec<(Bytes, Bytes)> {
        let asked = TurnAsk::Scan {
            prefix,
            after,
            limit,
        };
        match self.ask(asked).await {
            TurnTold::Rows(rows) => rows,
            told => self.mistold("Scan", &told),
        }
    }

    /// Ends the turn from inside: the caller of this never goes on.
    pub(crate) async fn abort(&self, why: Abort) -> Infallible {
        self.stage(|s| s.abort(why));
        pending().await
    }

    pub(crate) fn stage<R>(&self, change: impl FnOnce(&mut Stage) -> R) -> R {
        self.stage.with(change)
    }

    async fn ask(&self, what: TurnAsk) -> TurnTold {
        let told = self.port.ask(what).await;
        if told == TurnTold::Deposed {
            match self.abort(Abort::Deposed).await {}
        }
        told
    }

    fn mistold(&self, asked: &str, told: &TurnTold) -> ! {
        panic!("{:?}: asked {asked}, told {told:?}", self.start.turn)
    }
}

impl fmt::Debug for ReadTurn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turn")
            .field("actor", &self.start.actor)
            .field("turn", &self.start.turn)
            .field("method", &self.start.method)
            .finish_non_exhaustive()
    }
}

/// The context of a turn that may change its actor.
#[derive(Debug)]
pub struct Turn(ReadTurn);

impl Turn {
    /// The context for a turn that begins.
    #[must_use]
    pub fn new(start: TurnStart, port: Arc<dyn TurnPort>) -> Self {
        Self(ReadTurn {
            start,
            port,
            stage: TurnCell::default(),
            rng: TurnCell::default(),
        })
    }

    /// Sends to another actor, exactly once, when this turn commits:
    /// `cx.send::<Audit>("all").note(by)`.
    ///
    /// What cannot be sent (a forbidden id, too many messages) rolls the turn back with an error.
    #[must_use]
    pub fn send<A: Typed>(&self, actor_id: &str) -> A::Ref<Sending<'_>> {
        A::bind(
            Sending(self),
            Target::in_namespace_of(self.actor(), A::TYPE, actor_id),
        )
    }

    /// Sends to any method of any actor a body as it is.
    pub fn send_raw(&self, actor: &ActorKey, method: &str, body: Bytes) {
        self.stage(|stage| match clean_method(method) {
            Ok(method) => stage.send(OutMessage {
                actor: actor.clone(),
                method,
                body,
            }),
            Err(error) => stage.fail("InvalidSend", format!("cannot send to {actor}: {error}")),
        });
    }

    /// Publishes to a topic, exactly once, when this turn commits: `cx.publish("orders", &order)`,
    /// or `cx.publish(Topic::new("orders").key(customer), &order)`.
    ///
    /// What cannot be published (a forbidden name, too many messages) rolls the turn back with an
    /// error.
    pub fn publish(&self, topic: impl Into<Topic>, event: &impl Body) {
        let place = self.stage(|stage| stage.sent());
        let message = publish::message(self, topic.into(), event, place);
        self.stage(|stage| match message {
            Ok(message) => stage.send(message),
            Err(why) => stage.fail("InvalidPublish", format!("cannot publish: {why}")),
        });
    }

    /// Sets a reminder of this actor when this turn commits: `cx.remind("settle",
    /// Duration::from_secs(60))`, or `cx.remind("tick",
    /// Reminder::after(soon).every(minute).with(&argument))`. When it is due the method of its name
    /// is called. One of the same name is replaced.
    ///
    /// What cannot be one (a name that no method has, an end before its beginning) rolls the turn
    /// back with an error.
    pub fn remind(&self, name: &str, when: impl Into<Reminder>) {
        let row = remind::check_name(name).and_then(|()| remind::row(when.into(), self.now()));
        self.stage(|stage| match row {
            Ok(row) => stage.remind(name, Some(row)),
            Err(why) => stage.fail(
                "InvalidReminder",
                format!("cannot set reminder {name:?}: {why}"),
            ),
        });
    }

    /// Ends a reminder of this actor when this turn commits; fine if there is none.
    pub fn unremind(&self, name: &str) {
        self.stage(|stage| match remind::check_name(name) {
            Ok(()) => stage.remind(name, None),
            Err(why) => stage.fail(
                "InvalidReminder",
                format!("cannot end reminder {name:?}: {why}"),
            ),
        });
    }

    /// Stages a state row; `None` removes it.
    pub(crate) fn write_row(&self, key: Bytes, value: Option<Bytes>) {
        self.stage(|s| s.write(key, value));
    }
}

impl Deref for Turn {
    type Target = ReadTurn;

    fn deref(&self) -> &ReadTurn {
        &self.0
    }
}

/// See [`ReadTurn::rng`]. All of a turn's draws come from one stream.
#[derive(Debug)]
pub struct TurnRng<'t>(&'t ReadTurn);

impl TurnRng<'_> {
    fn with<R>(&self, draw: impl FnOnce(&mut ChaCha12Rng) -> R) -> R {
        let seed = self.0.start.stamp.seed;
        self.0
            .rng
            .with(|rng| draw(rng.get_or_insert_with(|| ChaCha12Rng::seed_from_u64(seed))))
    }
}

impl RngCore for TurnRng<'_> {
    fn next_u32(&mut self) -> u32 {
        self.with(RngCore::next_u32)
    }

    fn next_u64(&mut self) -> u64 {
        self.with(RngCore::next_u64)
    }

    fn fill_bytes(&mut self, dst: &mut [u8]) {
        self.with(|rng| rng.fill_bytes(dst));
    }
}
