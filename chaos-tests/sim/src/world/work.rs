//! Clients at work: what they call, where, and what they do with an answer.

use std::time::Duration;

use bytes::Bytes;
use ghostlight_core::gateway::{CallTicket, ClientCall};
use ghostlight_core::io::Input;
use ghostlight_protocol::call::Stamp;
use ghostlight_protocol::code::Code;
use ghostlight_protocol::limits::REQUEST_BODY_BYTES_MAX;
use ghostlight_protocol::outcome::CallOutcome;

use super::{Event, Phase, World};
use crate::clients::{Admission, Call, End, Op, Record, key_name};
use crate::dice::{MS, SEC};
use crate::heralds;
use crate::net::Place;

/// A client without an answer for this long gives the attempt up.
const PATIENCE: u64 = 25 * SEC;
/// Deadlines of clients in a hurry.
const HASTY: (u64, u64) = (5 * MS, 500 * MS);
/// Attempts of one operation.
const ATTEMPTS_MAX: u32 = 60;
/// Chance that a publish is one that was made before, among how many, how long ago: well within the
/// time for which names are remembered.
const AGAIN: f64 = 0.2;
const AGAIN_OF_MAX: usize = 8;
const AGAIN_TIME_MAX: u64 = 60 * SEC;
/// Chance that an actor refuses what it is to say, when it has published.
const REFUSED: f64 = 0.1;
/// Large bodies of one run, and their sizes: up to the limit of a request, quotes included.
const BULK_OPS_MAX: usize = 24;
const BULK_BYTES: (u64, u64) = (64 << 10, (REQUEST_BODY_BYTES_MAX - 2) as u64);

impl World {
    /// Clients begin to work.
    pub fn begin_work(&mut self) {
        self.clients.admission = Admission::Open;
        self.begin_topics();
        for client in 0..self.clients.clients.len() {
            if self.clients.clients[client].call.is_none() {
                let pause = self.dice.work.between(0, self.params.work.think);
                self.after(pause, Event::Client(client));
            }
        }
    }

    /// No new operations begin.
    pub fn end_work(&mut self) {
        self.clients.admission = Admission::Closed;
    }

    /// Puts money into every account; returns whether all could be filled.
    pub fn fill_accounts(&mut self) -> bool {
        for account in 0..self.params.work.actors {
            let op = Op::Deposit { account };
            let Some(place) = self.alive().first().copied() else {
                return false;
            };
            let invoked = self.now;
            let Some(CallOutcome::Reply(_)) = self.ask(place, &op) else {
                return false;
            };
            let end = End::Reply(serde_json::Value::Null);
            let returned = self.now;
            self.clients.history.push(Record {
                client: 0,
                op,
                invoked,
                returned,
                end,
                attempts: 1,
            });
        }
        true
    }

    pub(crate) fn client_acts(&mut self, client: usize) {
        if let Some(call) = self.clients.clients[client].call.clone() {
            if call.ticket == 0 {
                self.attempt(client);
            }
            return;
        }
        if self.clients.admission == Admission::Closed {
            return;
        }
        let then = self.clients.clients[client].then.take();
        let not = then.as_ref().map(|then| then.not);
        let op = match then {
            Some(then) => then.op,
            None => self.draw_op(client),
        };
        if let Op::Publish { .. } = op {
            self.checks.topics.born(op.event().data, self.now);
        }
        let id = self.dice.work.chance(self.params.work.outside);
        let record = self.clients.history.len();
        self.clients.history.push(Record {
            client,
            op,
            invoked: self.now,
            returned: u64::MAX,
            end: End::Running,
            attempts: 0,
        });
        self.clients.clients[client].call = Some(Call {
            record,
            ticket: 0,
            place: 0,
            id: id.then(|| format!("op-{record}")),
            may_have_run: false,
            not,
        });
        self.attempt(client);
    }

    fn draw_op(&mut self, client: usize) -> Op {
        let actors = self.params.work.actors;
        let dice = &mut self.dice.work;
        if dice.chance(self.params.work.bulk) && self.clients.bulk_ops < BULK_OPS_MAX {
            self.clients.bulk_ops += 1;
            self.sometimes.hit("large body");
            return Op::Bulk {
                log: self.clients.bulk_ops,
                bytes: dice.log_uniform(BULK_BYTES.0, BULK_BYTES.1) as usize,
            };
        }
        if self.params.topics.groups > 0 && self.dice.topics.chance(self.params.topics.publishes) {
            if self.dice.topics.chance(self.params.topics.operators) {
                return self.steering();
            }
            if self.dice.turns.chance(self.params.topics.turns) {
                return self.saying(client);
            }
            let op = Op::Publish {
                key: self.dice.topics.index(self.params.topics.keys),
                number: self.clients.history.len(),
                keeps: (
                    self.params.topics.retention_ms,
                    self.params.topics.retention_bytes,
                ),
            };
            return self.published_lately().unwrap_or(op);
        }
        let dice = &mut self.dice.work;
        let actor = dice.index(actors);
        let read = dice.chance(self.params.work.reads);
        match (dice.index(3), read) {
            (0, false) => {
                let line = format!("{client}.{}", self.clients.history.len());
                Op::Append { log: actor, line }
            }
            (0, true) => Op::Read { log: actor },
            (1, false) => Op::Add { counter: actor },
            (1, true) => Op::Get { counter: actor },
            (_, false) if actors > 1 => {
                let to = (actor + 1 + dice.index(actors - 1)) % actors;
                Op::Transfer {
                    from: actor,
                    to,
                    amount: dice.between(1, 300),
                }
            }
            (_, false) => Op::Add { counter: actor },
            (_, true) => Op::Balance { account: actor },
        }
    }

    /// Something for an actor to publish in its turn: a few events at most, now and then in vain.
    fn saying(&mut self, client: usize) -> Op {
        let dice = &mut self.dice.turns;
        let keys: Vec<Option<String>> = (0..*dice.pick(&[1, 1, 2, 3]))
            .map(|_| {
                let key = dice.index(self.params.topics.keys + 1);
                (key < self.params.topics.keys).then(|| key_name(key))
            })
            .collect();
        let said = format!("{client}.{}", self.clients.history.len());
        let line = heralds::line(&said, &keys);
        Op::Say {
            herald: dice.index(self.params.work.actors),
            line: match dice.chance(REFUSED) {
                true => heralds::refused(&line),
                false => line,
            },
        }
    }

    /// Now and then, what some client has published a moment ago, whatever it was told, or is
    /// publishing now.
    fn published_lately(&mut self) -> Option<Op> {
        if !self.dice.names.chance(AGAIN) {
            return None;
        }
        let since = self.now.saturating_sub(AGAIN_TIME_MAX);
        let history = &self.clients.history;
        // A name is remembered from when it was first said: an event has the number of that record.
        let is_lately = |op: &Op| match op {
            Op::Publish { number, .. } => history[*number].invoked >= since,
            _ => false,
        };
        let lately = history.iter().rev();
        let lately = lately.take_while(|record| record.invoked >= since);
        let published: Vec<Op> = lately
            .filter(|record| is_lately(&record.op))
            .take(AGAIN_OF_MAX)
            .map(|record| record.op.clone())
            .collect();
        if published.is_empty() {
            return None;
        }
        self.sometimes.hit("event published again under its name");
        Some(self.dice.names.pick(&published).clone())
    }

    /// Sends the client's call once more, to some node that runs.
    fn attempt(&mut self, client: usize) {
        let mut alive = self.open_places(client);
        let Some(call) = &self.clients.clients[client].call else {
            return;
        };
        let (record, id, not) = (call.record, call.id.clone(), call.not);
        if !self.clients.history[record].op.reads() {
            alive.retain(|place| !self.apart.contains(place));
        }
        if alive.is_empty() {
            self.after(50 * MS, Event::Client(client));
            return;
        }
        let home = self.clients.clients[client].home % self.nodes.len();
        let first = self.clients.history[record].attempts == 0;
        let op = self.clients.history[record].op.clone();
        let elsewhere = not
            .filter(|_| first)
            .and_then(|not| self.elsewhere(&op, not, &alive));
        let place = if let Some(place) = elsewhere {
            place
        } else if first && alive.contains(&home) && self.dice.work.chance(0.8) {
            home
        } else {
            *self.dice.work.pick(&alive)
        };
        self.clients.history[record].attempts += 1;
        let deadline = self.draw_deadline();
        let ticket = self.call(place, &op, id.as_deref(), deadline);
        if let Some(call) = &mut self.clients.clients[client].call {
            (call.ticket, call.place) = (ticket.0, place);
        }
        self.clients.tickets.insert(ticket.0, client);
        self.after(
            PATIENCE,
            Event::GiveUp {
                client,
                ticket: ticket.0,
            },
        );
    }

    /// How long a client waits for this attempt, if it says so.
    fn draw_deadline(&mut self) -> Option<u64> {
        let dice = &mut self.dice.work;
        if dice.chance(self.params.work.hasty) {
            return Some(dice.log_uniform(HASTY.0, HASTY.1));
        }
        let deadline = dice.log_uniform(SEC, 20 * SEC);
        dice.chance(0.7).then_some(deadline)
    }

    /// Nodes that a client calls: as a load balancer sees it, those that say they are ready, and
    /// every other client has noticed which stand still.
    pub(super) fn open_places(&self, client: usize) -> Vec<Place> {
        let is_joined = |place: &Place| {
            let process = self.nodes[*place].process.as_ref();
            process.is_some_and(|process| process.introduced.descriptor.is_some())
        };
        let noticed = |place: &Place| client.is_multiple_of(2) && self.noticed.contains(place);
        let alive = self.alive().into_iter();
        alive
            .filter(|place| !self.closing.contains(place) && !self.foreign.contains(place))
            .filter(|place| is_joined(place) && !noticed(place))
            .collect()
    }

    pub(crate) fn call(
        &mut self,
        place: Place,
        op: &Op,
        id: Option<&str>,
        deadline: Option<u64>,
    ) -> CallTicket {
        let (actor, method, body) = op.call();
        let ticket = self.clients.ticket();
        let seed = self.dice.work.any();
        let now = self.now;
        let skew = self.nodes[place].clock_off_ms(now);
        let Some(process) = &self.nodes[place].process else {
            return ticket;
        };
        let clocks = process.now(now, skew);
        let call = ClientCall {
            metadata: Vec::new(),
            actor,
            method: method.to_owned(),
            body,
            request_id: id.map(|id| Bytes::copy_from_slice(id.as_bytes())),
            deadline: deadline.map(|d| clocks.instant + Duration::from_nanos(d)),
            stamp: Stamp {
                wall_ms: clocks.wall.0,
                seed,
            },
        };
        self.trace
            .detail(now, || format!("  call {ticket:?} at {place}: {call:?}"));
        self.arrive(place, Input::Call { ticket, call });
        ticket
    }

    /// Calls from outside of the workload, and waits for the outcome; `None`: there was none.
    pub fn ask(&mut self, place: Place, op: &Op) -> Option<CallOutcome> {
        let ticket = self.call(place, op, None, Some(20 * SEC)).0;
        self.clients.asked.insert(ticket, None);
        self.run_while(30 * SEC, MS, |world| {
            world
                .clients
                .asked
                .get(&ticket)
                .is_some_and(Option::is_none)
        });
        self.clients.asked.remove(&ticket).flatten()
    }

    pub(crate) fn replied(&mut self, place: Place, ticket: CallTicket, outcome: CallOutcome) {
        self.trace.answer(self.now, place, ticket, &outcome);
        if let Some(asked) = self.clients.asked.get_mut(&ticket.0) {
            *asked = Some(outcome);
            return;
        }
        let Some(client) = self.clients.tickets.remove(&ticket.0) else {
            return;
        };
        let Some(call) = &mut self.clients.clients[client].call else {
            return;
        };
        if call.ticket != ticket.0 {
            return;
        }
        call.ticket = 0;
        match outcome {
            CallOutcome::Reply(body)
                if matches!(self.clients.op_of(client), Some(Op::Publish { .. })) =>
            {
                self.published(client, &body);
            }
            CallOutcome::Reply(_)
                if matches!(self.clients.op_of(client), Some(Op::Steer { .. })) =>
            {
                self.steered(client);
            }
            CallOutcome::Reply(body) => match serde_json::from_slice(&body) {
                Ok(value) => self.ended(client, End::Reply(value)),
                Err(error) => self.violate(format!("a reply is not JSON: {error}: {body:?}")),
            },
            CallOutcome::AppReply(_) => {
                self.violate("no application is here that could reply".to_owned())
            }
            CallOutcome::App(_) => {
                if let Some(Op::Say { .. }) = self.clients.op_of(client) {
                    self.sometimes.hit("turn refused what it had published");
                }
                self.ended(client, End::Refused);
            }
            CallOutcome::NotRun(refusal) => {
                self.sometimes.hit("call answered not run");
                if !is_of_the_node(refusal.code) {
                    self.clients.not_run += 1;
                    self.note_failed(place, client, &format!("{refusal:?}"));
                }
                // There is no such offset, or no such group yet.
                let is_order = matches!(self.clients.op_of(client), Some(Op::Steer { .. }));
                if is_order && refusal.retry_after.is_none() {
                    return self.ended(client, End::NotRun);
                }
                let pause = refusal.retry_after.unwrap_or_default();
                self.again(client, pause.as_nanos() as u64);
            }
            CallOutcome::Unknown { code, detail } => {
                self.sometimes.hit("call answered unknown");
                self.clients.unknown += 1;
                self.note_failed(place, client, &format!("{code:?}: {detail}"));
                if let Some(call) = &mut self.clients.clients[client].call {
                    call.may_have_run = true;
                }
                self.again(client, 0);
            }
        }
    }

    fn note_failed(&mut self, place: Place, client: usize, why: &str) {
        let Some(call) = &self.clients.clients[client].call else {
            return;
        };
        let op = &self.clients.history[call.record].op;
        self.trace.line(
            self.now,
            format_args!("node {place}: {op:?} of client {client}: {why}"),
        );
    }

    /// An attempt is over without an answer that counts: repeats it if that is safe, and not before
    /// the pause that the answer asked for.
    fn again(&mut self, client: usize, asked: u64) {
        let Some(call) = &self.clients.clients[client].call else {
            return;
        };
        let safe = call.id.is_some() || !call.may_have_run;
        let attempts = self.clients.history[call.record].attempts;
        if safe && attempts < ATTEMPTS_MAX {
            if call.may_have_run {
                self.sometimes.hit("unknown call repeated with its id");
            }
            let pause = self.dice.work.log_uniform(10 * MS, SEC);
            self.after(asked + pause, Event::Client(client));
        } else if call.may_have_run {
            self.ended(client, End::Unknown);
        } else {
            self.ended(client, End::NotRun);
        }
    }

    pub(super) fn ended(&mut self, client: usize, end: End) {
        let Some(call) = self.clients.clients[client].call.take() else {
            return;
        };
        let record = &mut self.clients.history[call.record];
        record.returned = self.now;
        if let End::Reply(_) = &end {
            self.clients.slowest = self.clients.slowest.max(self.now - record.invoked);
            if record.attempts > 1 && call.may_have_run {
                self.sometimes.hit("repeated call acknowledged");
            }
        }
        let op = record.op.clone();
        let acknowledged = matches!(end, End::Reply(_));
        record.end = end;
        if acknowledged {
            self.perhaps_elsewhere(client, &op, call.place);
        }
        let pause = match self.clients.clients[client].then {
            Some(_) => 0,
            None => self.think(),
        };
        self.after(pause, Event::Client(client));
    }

    pub(crate) fn client_gives_up(&mut self, client: usize, ticket: u64) {
        let Some(call) = &mut self.clients.clients[client].call else {
            return;
        };
        if call.ticket != ticket {
            return;
        }
        call.ticket = 0;
        call.may_have_run = true;
        let place = call.place;
        self.clients.tickets.remove(&ticket);
        self.sometimes.hit("client gave up");
        self.arrive(place, Input::Hangup(CallTicket(ticket)));
        if self.phase == Phase::Quiet {
            return self.violate(format!("client {client} got no answer in a healed cluster"));
        }
        self.again(client, 0);
    }

    /// A process died: what its clients waited for may have run.
    pub(crate) fn clients_lose(&mut self, place: Place) {
        for client in 0..self.clients.clients.len() {
            let Some(call) = &mut self.clients.clients[client].call else {
                continue;
            };
            if call.ticket == 0 || call.place != place {
                continue;
            }
            let ticket = std::mem::take(&mut call.ticket);
            call.may_have_run = true;
            self.clients.lost += 1;
            self.clients.tickets.remove(&ticket);
            self.again(client, 0);
        }
    }
}

/// Whether an answer says that this node takes no calls, now or any more: any other node would have
/// taken it, and a balancer that asks nodes whether they are ready sends them none. The cluster
/// failed nobody.
fn is_of_the_node(code: Code) -> bool {
    matches!(code, Code::ShuttingDown | Code::NotJoined)
}
