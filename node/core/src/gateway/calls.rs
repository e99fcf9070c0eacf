//! The calls this gateway holds, from admission to outcome.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::call::{
    Ask, CallRequest, LeaderHint, MayHaveRun, Metadata, Operation, Stamp,
};
use ghostlight_protocol::code::Code;
use ghostlight_protocol::hash::partition_of;
use ghostlight_protocol::ids::{Generation, NodeId, PartitionId, Term};
use ghostlight_protocol::limits::{
    GATEWAY_CALL_BYTES_MAX, GATEWAY_CALLS_MAX, LEADER_WAIT_MAX, REQUEST_BODY_BYTES_MAX,
};
use ghostlight_protocol::outcome::{CallOutcome, NotRun};
use ghostlight_protocol::request::RequestId;
use ghostlight_protocol::time::Instant;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::busy::{Busy, Overrun};
use super::firsts::Firsts;
use super::pending::{Pending, State, key_of};
use super::retry::{Learned, Part, Search, Target};
use super::sessions::Sessions;
use super::{CallTicket, ClientCall, GatewayEffect, GatewayInput, Reachable, Routes, Waiter};
use crate::backlog::patience;
use crate::hosts::words::AppTicket;
use crate::turn_io::TurnId;
use crate::turns::NestedCall;

mod answers;

/// How long one call searches before another one of its partition may do so too.
const SEARCH_MAX: Duration = Duration::from_millis(500);
/// Shortest time between two `AskRoutes`.
const ASK_ROUTES_EVERY: Duration = Duration::from_millis(250);
/// How long an application waits for an answer about its actor's rows.
const OPERATION_TIME_MAX: Duration = Duration::from_secs(15);
/// Told to a caller that this node is full or about to stop.
const REFUSED_RETRY: Duration = Duration::from_millis(200);
/// Bits of a call's key that count calls; the generation stands above them, so that an answer meant
/// for an earlier run of this node finds no call.
const KEY_BITS: u32 = 40;

/// Bounds of a gateway.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GatewaySettings {
    /// Calls of clients without an answer; as many again may come from turns.
    pub calls_max: usize,
    /// Bytes of their bodies; as many again may come from turns.
    pub bytes_max: usize,
    /// How long a call waits for a leader.
    pub leader_wait: Duration,
}

impl Default for GatewaySettings {
    fn default() -> Self {
        Self {
            calls_max: GATEWAY_CALLS_MAX,
            bytes_max: GATEWAY_CALL_BYTES_MAX,
            leader_wait: LEADER_WAIT_MAX,
        }
    }
}

/// What a gateway has counted since it began.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct GatewayCounters {
    /// Calls by clients, refused ones included.
    pub client_calls: u64,
    /// Calls by turns, refused ones included.
    pub nested_calls: u64,
    /// Outcomes `Reply`.
    pub replies: u64,
    /// Outcomes `App`.
    pub app_errors: u64,
    /// Outcomes `NotRun`.
    pub not_run: u64,
    /// Outcomes `Unknown`.
    pub unknown: u64,
    /// Calls whose waiter went away.
    pub hung_up: u64,
    /// Requests sent.
    pub attempts: u64,
    /// Requests sent again because of a newer leadership, a silent node or a missing answer.
    pub resent: u64,
    /// Answers `Redirect`.
    pub redirects: u64,
    /// Answers that no open attempt waited for.
    pub stray_answers: u64,
}

/// The gateway of one node.
#[derive(Debug)]
pub struct Gateway {
    me: NodeId,
    settings: GatewaySettings,
    admission: Admission,
    rng: ChaCha8Rng,
    calls: BTreeMap<u64, Pending>,
    waiters: BTreeMap<Waiter, u64>,
    /// What clients and turns have here.
    clients: Held,
    turns: Held,
    searches: Vec<Search>,
    sessions: Sessions,
    firsts: Firsts,
    busy: Busy,
    timers: BTreeSet<(Instant, u64)>,
    /// Partitions whose searching call is gone: a parked one takes over.
    to_wake: BTreeSet<PartitionId>,
    next_key: u64,
    ask_routes_at: Instant,
    counters: GatewayCounters,
}

/// Calls without an answer.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Held {
    calls: usize,
    /// Of their bodies.
    bytes: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Admission {
    Open,
    ShuttingDown,
}

/// What every step needs.
struct Cx<'a> {
    now: Instant,
    routes: &'a dyn Routes,
    out: &'a mut Vec<GatewayEffect>,
}

/// A call before it has an id of ours.
struct NewCall {
    waiter: Waiter,
    id: Option<RequestId>,
    actor: ActorKey,
    method: String,
    body: Bytes,
    deadline: Option<Instant>,
    chain: Vec<ActorKey>,
    stamp: Stamp,
    attempt: u32,
    metadata: Vec<Metadata>,
    operation: Option<Operation>,
    /// The partition that is asked; `None`: the actor's own.
    partition: Option<PartitionId>,
}

impl Gateway {
    /// The gateway of node `me` in its run `generation`. `seed` feeds the jitter of pauses.
    ///
    /// # Panics
    /// When `partitions` is not a power of two.
    #[must_use]
    pub fn new(
        me: NodeId,
        generation: Generation,
        partitions: u16,
        settings: GatewaySettings,
        seed: u64,
    ) -> Self {
        assert!(
            partitions.is_power_of_two(),
            "{partitions} partitions is not a power of two"
        );
        Self {
            me,
            settings,
            admission: Admission::Open,
            rng: ChaCha8Rng::seed_from_u64(seed),
            calls: BTreeMap::new(),
            waiters: BTreeMap::new(),
            clients: Held::default(),
            turns: Held::default(),
            searches: (0..partitions).map(|_| Search::default()).collect(),
            sessions: Sessions::new(me, generation, partitions),
            firsts: Firsts::default(),
            busy: Busy::default(),
            timers: BTreeSet::new(),
            to_wake: BTreeSet::new(),
            next_key: ((generation.0 & 0xfff) << KEY_BITS) | 1,
            ask_routes_at: Instant(0),
            counters: GatewayCounters::default(),
        }
    }

    /// Feeds one input; wanted effects are pushed to `out`, in the order they must happen.
    pub fn handle(
        &mut self,
        now: Instant,
        input: GatewayInput,
        routes: &dyn Routes,
        out: &mut Vec<GatewayEffect>,
    ) {
        let cx = &mut Cx { now, routes, out };
        match input {
            GatewayInput::Call { ticket, call } => self.client_call(cx, ticket, call),
            GatewayInput::Nested(call) => self.nested_call(cx, call),
            GatewayInput::Operate {
                ticket,
                actor,
                partition,
                ask,
            } => self.operate(cx, ticket, actor, partition, ask),
            GatewayInput::Hangup(ticket) => self.hang_up(cx, Waiter::Client(ticket)),
            GatewayInput::TurnGone(turn) => self.turn_gone(cx, turn),
            GatewayInput::Answer { from, answer } => self.answered(cx, from, answer),
            GatewayInput::Leader(hint) => self.leader(cx, &hint),
            GatewayInput::Silent(node) => self.silent(cx, node),
            GatewayInput::NotSent { to, call } => self.not_sent(cx, to, call),
            GatewayInput::Tick => {}
        }
        // An answer at the last moment counts: timers come after the input.
        self.run_timers(cx);
        while let Some(partition) = self.to_wake.pop_first() {
            self.wake_until_searched(cx, partition);
        }
        assert_eq!(
            self.waiters.len(),
            self.calls.len(),
            "every call has one waiter"
        );
    }

    /// When to call `handle` with `Tick`, if nothing else arrives first.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// From now on new calls of clients are refused; those of running turns are not.
    pub fn begin_shutdown(&mut self) {
        self.admission = Admission::ShuttingDown;
    }

    /// Calls without an answer.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.calls.len()
    }

    /// What was counted so far.
    #[must_use]
    pub fn counters(&self) -> GatewayCounters {
        self.counters
    }

    fn client_call(&mut self, cx: &mut Cx<'_>, ticket: CallTicket, call: ClientCall) {
        self.counters.client_calls += 1;
        let waiter = Waiter::Client(ticket);
        if self.admission == Admission::ShuttingDown {
            let text = format!("node {} is shutting down: use another node", self.me);
            let refusal = NotRun::retry(Code::ShuttingDown, text, REFUSED_RETRY);
            return self.refuse(cx, waiter, refusal);
        }
        let id = match call.request_id.as_deref().map(RequestId::outside) {
            None => None,
            Some(Ok(id)) => Some(id),
            Some(Err(why)) => {
                return self.refuse(cx, waiter, NotRun::new(Code::InvalidRequestId, why));
            }
        };
        if let Err(refusal) = self.room_for(self.clients, &call.body) {
            return self.refuse(cx, waiter, refusal);
        }
        if let Some(refusal) = self.leader_is_busy(cx, &call) {
            return self.refuse(cx, waiter, refusal);
        }
        // Whoever brings an id may have used it at another gateway: its record must be looked for.
        let attempt = if id.is_some() { 2 } else { 1 };
        let stamp = match &id {
            Some(id) => self.firsts.begin(cx.now, &call.actor, id, call.stamp),
            None => call.stamp,
        };
        self.admit(
            cx,
            NewCall {
                waiter,
                id,
                actor: call.actor,
                method: call.method,
                body: call.body,
                deadline: call.deadline,
                chain: Vec::new(),
                stamp,
                attempt,
                metadata: call.metadata,
                operation: None,
                partition: None,
            },
        );
    }

    fn nested_call(&mut self, cx: &mut Cx<'_>, call: NestedCall) {
        self.counters.nested_calls += 1;
        let waiter = Waiter::Turn {
            turn: call.turn,
            ask: call.ask,
        };
        // Their own bound: clients must not be able to starve the turns that serve them.
        if let Err(refusal) = self.room_for(self.turns, &call.body) {
            return self.refuse(cx, waiter, refusal);
        }
        self.admit(
            cx,
            NewCall {
                waiter,
                id: Some(call.request),
                actor: call.actor,
                method: call.method,
                body: call.body,
                deadline: Some(call.deadline),
                chain: call.chain,
                stamp: call.stamp,
                attempt: call.attempt.max(1),
                metadata: call.metadata,
                operation: None,
                partition: None,
            },
        );
    }

    /// Never refused by admission: a turn may wait for it.
    fn operate(
        &mut self,
        cx: &mut Cx<'_>,
        ticket: AppTicket,
        actor: ActorKey,
        partition: Option<PartitionId>,
        ask: Ask,
    ) {
        let partitions = self.searches.len();
        if let Some(asked) = partition.filter(|asked| usize::from(asked.0) >= partitions) {
            let text = format!("there is no {asked}: the cluster has {partitions} partitions");
            let refusal = NotRun::new(Code::InvalidArgument, text);
            return self.refuse(cx, Waiter::App(ticket), refusal);
        }
        self.admit(
            cx,
            NewCall {
                waiter: Waiter::App(ticket),
                id: None,
                actor,
                method: String::new(),
                body: Bytes::new(),
                deadline: Some(cx.now + OPERATION_TIME_MAX),
                chain: Vec::new(),
                stamp: Stamp::default(),
                attempt: 1,
                metadata: Vec::new(),
                operation: Some(Operation { ask: Some(ask) }),
                partition,
            },
        );
    }

    fn admit(&mut self, cx: &mut Cx<'_>, call: NewCall) {
        let waiter = call.waiter;
        if call.body.len() > REQUEST_BODY_BYTES_MAX {
            let text = format!(
                "the body has {} bytes, at most {REQUEST_BODY_BYTES_MAX} are allowed",
                call.body.len()
            );
            return self.refuse(cx, waiter, NotRun::new(Code::BodyTooLarge, text));
        }
        if call.deadline.is_some_and(|deadline| deadline <= cx.now) {
            let text = "the deadline had passed when the call arrived: nothing ran";
            return self.refuse(cx, waiter, NotRun::new(Code::DeadlineExpired, text));
        }
        let own = || partition_of(&call.actor, self.searches.len() as u16);
        let partition = call.partition.unwrap_or_else(own);
        let id = call.id.unwrap_or_else(|| self.sessions.begin(partition));
        let request = CallRequest {
            partition: u32::from(partition.0),
            request_id: id.to_bytes(),
            actor: call.actor.to_bytes(),
            method: call.method,
            body: call.body,
            attempt: call.attempt,
            chain: call.chain.iter().map(ActorKey::to_bytes).collect(),
            stamp: Some(call.stamp),
            metadata: call.metadata,
            operation: call.operation,
            ..CallRequest::default()
        };
        let key = self.next_key;
        self.next_key += 1;
        let before = self.waiters.insert(waiter, key);
        assert_eq!(before, None, "{waiter:?} waits for one call at a time");
        let bytes = request.body.len();
        let held = self.held(waiter);
        (held.calls, held.bytes) = (held.calls + 1, held.bytes + bytes);
        self.searches[usize::from(partition.0)].calls.insert(key);
        let pending = Pending::new(waiter, id, call.deadline, request, cx.now);
        self.calls.insert(key, pending);
        self.route(cx, key);
    }

    /// Why a new call would not be taken by its leader just now.
    fn leader_is_busy(&mut self, cx: &Cx<'_>, call: &ClientCall) -> Option<NotRun> {
        let partition = partition_of(&call.actor, self.searches.len() as u16);
        let (_, leader) = cx.routes.leader(partition)?;
        let remaining = call
            .deadline
            .and_then(|deadline| deadline.remaining(cx.now));
        self.busy.refusal(cx.now, leader, patience(remaining))
    }

    fn refuse(&mut self, cx: &mut Cx<'_>, waiter: Waiter, refusal: NotRun) {
        self.counters.not_run += 1;
        cx.out.push(GatewayEffect::Done {
            waiter,
            outcome: CallOutcome::NotRun(refusal),
        });
    }

    fn held(&mut self, waiter: Waiter) -> &mut Held {
        match waiter {
            Waiter::Client(_) => &mut self.clients,
            Waiter::Turn { .. } | Waiter::App(_) => &mut self.turns,
        }
    }

    fn room_for(&self, held: Held, body: &Bytes) -> Result<(), NotRun> {
        let GatewaySettings {
            calls_max,
            bytes_max,
            ..
        } = self.settings;
        if held.calls < calls_max && held.bytes + body.len() <= bytes_max {
            return Ok(());
        }
        let text = format!(
            "this gateway holds {} calls with {} bytes in their bodies, at most {calls_max} with \
             {bytes_max} are allowed: nothing ran, try again later",
            held.calls, held.bytes
        );
        Err(NotRun::retry(Code::GatewayFull, text, REFUSED_RETRY))
    }

    fn hang_up(&mut self, cx: &mut Cx<'_>, waiter: Waiter) {
        let Some(key) = self.waiters.get(&waiter).copied() else {
            return;
        };
        self.counters.hung_up += 1;
        let call = self.remove(key);
        match call.may_have_run() {
            MayHaveRun::Yes => {
                let open = asked(&call);
                self.sessions
                    .given_up(call.partition, &call.id, key, open, cx.now);
            }
            MayHaveRun::No => self.sessions.answered(call.partition, &call.id),
        }
        for attempt in call.open() {
            cx.out.push(GatewayEffect::Hangup {
                to: attempt.to,
                partition: call.partition,
                call: attempt.number,
            });
        }
    }

    fn turn_gone(&mut self, cx: &mut Cx<'_>, turn: TurnId) {
        let all = Waiter::Turn { turn, ask: 0 }..=Waiter::Turn {
            turn,
            ask: u32::MAX,
        };
        let gone: Vec<_> = self.waiters.range(all).map(|(waiter, _)| *waiter).collect();
        for waiter in gone {
            self.hang_up(cx, waiter);
        }
    }

    /// Sends the call to whoever may lead, or lets it wait; ends it if it has waited long enough.
    fn route(&mut self, cx: &mut Cx<'_>, key: u64) {
        let call = self.calls.get_mut(&key).expect("routed calls are held");
        if call.deadline.is_some_and(|deadline| deadline <= cx.now) {
            return self.give_up(cx, key);
        }
        let partition = call.partition;
        let search = &mut self.searches[usize::from(partition.0)];
        let part = search.part(key, cx.now);
        match search.target(partition, part, &call.asked, cx.routes) {
            Target::Leader(to, term) => {
                if search.stop_searching(key) {
                    self.to_wake.insert(partition);
                }
                self.send(cx, key, to, term);
            }
            Target::Asked(to, term) => {
                search.search(key, cx.now + SEARCH_MAX);
                call.lost_leader(None, cx.now);
                self.send(cx, key, to, term);
            }
            Target::Nobody => {
                call.lost_leader(None, cx.now);
                if call
                    .search_ends(self.settings.leader_wait)
                    .is_some_and(|end| end <= cx.now)
                {
                    return self.give_up(cx, key);
                }
                call.new_round(None);
                match part {
                    Part::Searches => {
                        let until = cx.now + call.backoff.pause(&mut self.rng);
                        call.state = State::Pausing { until };
                        search.search(key, until + SEARCH_MAX);
                        self.ask_routes(cx, partition);
                    }
                    Part::Waits => {
                        let until = search.searching_until().unwrap_or(cx.now + SEARCH_MAX);
                        call.state = State::Parked { until };
                    }
                }
                self.set_timer(key);
            }
        }
    }

    fn send(&mut self, cx: &mut Cx<'_>, key: u64, to: NodeId, term: Term) {
        let call = self.calls.get_mut(&key).expect("sent calls are held");
        let closed = self.sessions.closed(call.partition, cx.now);
        let request = call.begin_attempt(key, to, term, &closed, cx.now);
        self.counters.attempts += 1;
        cx.out.push(GatewayEffect::Send { to, request });
        self.set_timer(key);
    }

    /// Waits a little and asks again, whoever leads then.
    fn pause(&mut self, cx: &mut Cx<'_>, key: u64, at_least: Duration) {
        let call = self.calls.get_mut(&key).expect("pausing calls are held");
        let until = cx.now + call.backoff.pause(&mut self.rng).max(at_least);
        call.new_round(None);
        call.state = State::Pausing { until };
        self.set_timer(key);
    }

    fn ask_routes(&mut self, cx: &mut Cx<'_>, partition: PartitionId) {
        if cx.now < self.ask_routes_at {
            return;
        }
        let knows =
            |node: &NodeId| *node != self.me && cx.routes.reachable(*node) == Reachable::Yes;
        if let Some(node) = cx.routes.candidates(partition).into_iter().find(knows) {
            self.ask_routes_at = cx.now + ASK_ROUTES_EVERY;
            cx.out.push(GatewayEffect::AskRoutes(node));
        }
    }

    fn set_timer(&mut self, key: u64) {
        let call = self.calls.get_mut(&key).expect("timed calls are held");
        let due = call.due(self.settings.leader_wait);
        if call.timer == due {
            return;
        }
        if let Some(at) = call.timer {
            self.timers.remove(&(at, key));
        }
        if let Some(at) = due {
            self.timers.insert((at, key));
        }
        call.timer = due;
    }

    fn run_timers(&mut self, cx: &mut Cx<'_>) {
        while let Some((at, key)) = self.timers.first().copied() {
            if at > cx.now {
                break;
            }
            self.timers.pop_first();
            let call = self.calls.get_mut(&key).expect("timers are of held calls");
            call.timer = None;
            let over = call.deadline.is_some_and(|deadline| deadline <= cx.now);
            match call.state {
                _ if over => self.give_up(cx, key),
                State::InFlight { .. } if call.unanswered_at().is_some_and(|at| at <= cx.now) => {
                    call.unanswered();
                    call.state = State::Parked { until: cx.now };
                    self.counters.resent += 1;
                    self.route(cx, key);
                }
                State::InFlight { .. } => self.set_timer(key),
                State::Pausing { .. } | State::Parked { .. } => self.route(cx, key),
            }
        }
    }

    /// Routes parked calls until one of them searches, or none is left.
    fn wake_until_searched(&mut self, cx: &mut Cx<'_>, partition: PartitionId) {
        for key in self.waiting(partition, Waiting::Parked) {
            let search = &self.searches[usize::from(partition.0)];
            if search.searching_until().is_some_and(|until| until > cx.now) {
                return;
            }
            self.route(cx, key);
        }
    }

    /// Routes waiting calls of a partition: somebody leads it.
    fn wake(&mut self, cx: &mut Cx<'_>, partition: PartitionId, which: Waiting) {
        for key in self.waiting(partition, which) {
            let call = self.calls.get_mut(&key).expect("waiting calls are held");
            call.found_leader();
            call.new_round(None);
            self.route(cx, key);
        }
    }

    fn waiting(&self, partition: PartitionId, which: Waiting) -> Vec<u64> {
        let waits = |key: &u64| match (self.calls[key].state, which) {
            (State::InFlight { .. }, _) | (State::Pausing { .. }, Waiting::Parked) => false,
            (State::Pausing { .. }, Waiting::All) | (State::Parked { .. }, _) => true,
        };
        let search = &self.searches[usize::from(partition.0)];
        search.calls.iter().copied().filter(waits).collect()
    }

    fn give_up(&mut self, cx: &mut Cx<'_>, key: u64) {
        let outcome = self.calls[&key].given_up();
        self.finish(cx, key, outcome);
    }

    fn finish(&mut self, cx: &mut Cx<'_>, key: u64, outcome: CallOutcome) {
        let call = &self.calls[&key];
        match &outcome {
            CallOutcome::Reply(_) | CallOutcome::AppReply(_) => self.counters.replies += 1,
            CallOutcome::App(_) => self.counters.app_errors += 1,
            CallOutcome::NotRun(_) => self.counters.not_run += 1,
            CallOutcome::Unknown { .. } => self.counters.unknown += 1,
        }
        match &outcome {
            CallOutcome::Reply(_) | CallOutcome::AppReply(_) | CallOutcome::App(_) => {
                self.sessions.answered(call.partition, &call.id);
            }
            CallOutcome::NotRun(refusal) => {
                assert_eq!(
                    call.may_have_run(),
                    MayHaveRun::No,
                    "{:?} is not known not to have run: {refusal:?}",
                    call.id
                );
                self.sessions.answered(call.partition, &call.id);
            }
            CallOutcome::Unknown { .. } => {
                let open = asked(call);
                self.sessions
                    .given_up(call.partition, &call.id, key, open, cx.now);
            }
        }
        let waiter = call.waiter;
        self.remove(key);
        cx.out.push(GatewayEffect::Done { waiter, outcome });
    }

    fn remove(&mut self, key: u64) -> Pending {
        let call = self.calls.remove(&key).expect("removed calls are held");
        self.waiters.remove(&call.waiter);
        let bytes = call.body_bytes();
        let held = self.held(call.waiter);
        (held.calls, held.bytes) = (held.calls - 1, held.bytes - bytes);
        if let Some(at) = call.timer {
            self.timers.remove(&(at, key));
        }
        let search = &mut self.searches[usize::from(call.partition.0)];
        search.calls.remove(&key);
        if search.stop_searching(key) {
            self.to_wake.insert(call.partition);
        }
        call
    }
}

/// Attempts that have no answer, and who was asked.
fn asked(call: &Pending) -> Vec<(u64, NodeId)> {
    let open = call.open().iter();
    open.map(|attempt| (attempt.number, attempt.to)).collect()
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Waiting {
    Parked,
    All,
}
