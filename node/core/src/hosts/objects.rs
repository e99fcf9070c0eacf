//! The objects that applications beside this node keep in memory, and what they have staged.
//!
//! Applications cache state in their objects: an object is called again only if the actor's version
//! is the one that it had after its last turn in that process, else it is *reset* first. What an
//! application stages in a turn waits here for the turn's answer. An object that was told to go may
//! still run what it was given: until that has returned, nothing else runs in it here. Absent:
//! which node hosts an actor, and when a turn counts.

mod adoption;
mod calls;
mod ending;
mod entries;
mod held;
mod joining;
mod parting;
mod schedule;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use bytes::Bytes;
use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::call::{AppReply, Ask};
use ghostlight_protocol::command::{ScheduleKind, ScheduleWrite, StateWrite};
use ghostlight_protocol::hash::{domain, hash128};
use ghostlight_protocol::ids::{ActorVersion, PartitionId};
use ghostlight_protocol::outcome::AppError;
use ghostlight_protocol::time::{Instant, WallTime};
use ghostlight_protocol::wire::host::{Wakeup, Wish};

use self::adoption::{CallId, Unconfirmed};
use self::calls::PendingCall;
use self::ending::Departure;
use self::held::{Held, Needs, Trust};
use self::joining::Joined;
use super::words::{
    AnswerKind, AppAnswer, AppEffect, AppInstance, AppOutcome, AppRequest, AppTicket, AppType,
    Callback, Exchange, Sent,
};
use crate::turn_io::{
    ActivationId, Answered, OutMessage, RunnerEffect, RunnerInput, Staged, TurnEnd, TurnId,
    TurnStart,
};

/// Why a turn does not start.
const NO_APPLICATION: &str = "no application beside this node has the type";
const ANOTHER_ACTIVATION: &str = "another activation of the actor runs here";
/// Name of the error of an application that answered with another status than 200.
pub const APP_STATUS: &str = "AppStatus";
/// Beginnings of the texts of such errors, in Dapr's words.
const FROM_SERVICE: &str = "error from actor service: (";
const NO_METHOD: &str = "actor method not found: ";

/// What the table wants.
#[derive(Clone, PartialEq, Debug)]
pub enum HostEffect {
    /// For the shell.
    App(AppEffect),
    /// For the leader of a turn.
    Leader(RunnerInput),
    /// Ask the actor's leader, through the gateway; `operated` follows.
    Operate {
        /// The call that it is for.
        ticket: AppTicket,
        /// The actor.
        actor: ActorKey,
        /// The partition that is asked; `None`: the actor's own.
        partition: Option<PartitionId>,
        /// What.
        ask: Ask,
    },
}

/// The applications beside this node, and their objects.
#[derive(Debug, Default)]
pub struct Objects {
    apps: BTreeMap<String, App>,
    table: BTreeMap<ActorKey, Object>,
    activations: BTreeMap<ActivationId, ActorKey>,
    exchanges: BTreeMap<Exchange, ActorKey>,
    calls: BTreeMap<AppTicket, PendingCall>,
    last_exchange: u64,
    /// Turns that run and whose leadership is over.
    orphans: BTreeMap<ActorKey, Instant>,
    unconfirmed: Unconfirmed,
    /// `None`: the node goes on.
    departure: Option<Departure>,
    /// Time of the last tick.
    clock: Instant,
}

#[derive(Debug)]
struct App {
    instance: AppInstance,
    reach: Reach,
    types: BTreeMap<String, AppType>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Reach {
    Up,
    Gone,
}

/// One actor in the applications beside this node.
#[derive(Debug)]
struct Object {
    /// The process that its stage is about.
    instance: AppInstance,
    /// The activation that it serves; `None`: it was told to go, or waits to be told.
    serves: Option<ActivationId>,
    /// What each process has of it.
    held: Vec<Held>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Idle,
    /// A `DELETE` is under way; then the turn, if there is one.
    Resetting {
        exchange: Exchange,
        then: Option<Box<TurnStart>>,
    },
    Running(Box<Running>),
    /// It still runs what was given up.
    GivenUp(Exchange),
}

#[derive(Debug)]
struct Running {
    turn: TurnId,
    /// Handed to the application; the same under every leader.
    token: String,
    call: CallId,
    exchange: Exchange,
    /// Shown in the error of a method that is not there.
    method: String,
    is_wakeup: IsWakeup,
    staged: BTreeMap<Bytes, StateWrite>,
    schedule: BTreeMap<(ScheduleKind, String), ScheduleWrite>,
    /// Messages that have joined it, in their order.
    sends: Vec<OutMessage>,
    /// Calls that have joined it so far.
    calls: u32,
    /// Version after its last part.
    base: ActorVersion,
    parts: u32,
    asks: u32,
    /// Calls of the application that wait for the leader.
    waiting: BTreeMap<u32, Waiting>,
    /// Its answer, while calls wait.
    answer: Option<AppAnswer>,
    /// Calls of its chain that run inside it.
    inside: BTreeMap<Exchange, Inside>,
    /// Whether a change of state was refused: the object believes what is not so.
    refused: Refused,
}

/// A call inside a running turn.
#[derive(Debug)]
struct Inside {
    entry: u32,
    method: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum IsWakeup {
    No,
    Yes,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Refused {
    Nothing,
    Something,
}

#[derive(Debug)]
enum Waiting {
    /// A value, by its key.
    Get(AppTicket, Bytes),
    /// A reminder that is set, behind a part that is under way.
    Next(AppTicket, Box<ScheduleWrite>),
    /// What was taken out of the stage for it.
    Part(AppTicket, Box<Staged>),
    /// The same, of a turn without a leader: the next one is asked.
    Unsent(AppTicket, Box<Staged>),
    /// The same, for the answer of a call inside the turn.
    Left(Box<Staged>),
    /// A call that has joined the turn.
    Call(AppTicket, Box<Joined>),
}

impl Objects {
    /// Types that applications here host at the moment.
    pub fn types(&self) -> impl Iterator<Item = &AppType> {
        let up = self.apps.values().filter(|app| app.reach == Reach::Up);
        up.flat_map(|app| app.types.values())
    }

    /// Objects of each hosted type that serve an activation, by name.
    #[must_use]
    pub fn counts(&self) -> Vec<(String, u32)> {
        let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
        for hosted in self.types() {
            counts.entry(&hosted.name).or_default();
        }
        for (actor, object) in &self.table {
            let count = counts.get_mut(actor.actor_type());
            if let (Some(count), Some(_)) = (count, object.serves) {
                *count += 1;
            }
        }
        let counts = counts.into_iter();
        counts
            .map(|(name, count)| (name.to_owned(), count))
            .collect()
    }

    /// A process is ready. It has the objects that it had; of all other processes of the
    /// application only those in `living` still have theirs.
    pub fn hosting(
        &mut self,
        app: String,
        instance: AppInstance,
        types: Vec<AppType>,
        living: &[AppInstance],
        out: &mut Vec<HostEffect>,
    ) {
        let lives = |process| process == instance || living.contains(&process);
        self.forget_ended(&app, lives, out);
        let before = self.apps.get(&app).map(|app| app.instance);
        if let Some(before) = before.filter(|before| *before != instance) {
            self.gone(&app, before, out);
        }
        let types = types.into_iter().map(|t| (t.name.clone(), t)).collect();
        let reach = Reach::Up;
        self.apps.insert(
            app,
            App {
                instance,
                reach,
                types,
            },
        );
        self.let_go_of_left(instance, out);
    }

    /// Ends a running turn without an answer.
    fn end_running(&mut self, actor: &ActorKey, why: &str, out: &mut Vec<HostEffect>) {
        let Some(object) = self.table.get_mut(actor) else {
            return;
        };
        match std::mem::replace(&mut object.stage, Stage::Idle) {
            Stage::Running(running) => {
                object.stage = running.given_up();
                object.mark_unclean();
                Self::drop_waiting(&running, out);
                let detail = why.to_owned();
                let end = TurnEnd::Lost { detail };
                self.end(actor, &running, end, out);
            }
            Stage::Resetting { exchange, then } => {
                object.stage = Stage::GivenUp(exchange);
                Self::not_started(then, why, out);
            }
            stage @ (Stage::Idle | Stage::GivenUp(_)) => object.stage = stage,
        }
    }

    fn not_started(start: Option<Box<TurnStart>>, why: &str, out: &mut Vec<HostEffect>) {
        if let Some(start) = start {
            let end = TurnEnd::NotStarted {
                detail: why.to_owned(),
            };
            let turn = start.turn;
            out.push(HostEffect::Leader(RunnerInput::Ended { turn, end }));
        }
    }

    fn drop_waiting(running: &Running, out: &mut Vec<HostEffect>) {
        for waiting in running.waiting.values() {
            match waiting {
                Waiting::Get(ticket, _)
                | Waiting::Next(ticket, _)
                | Waiting::Part(ticket, _)
                | Waiting::Unsent(ticket, _) => {
                    tell(*ticket, AppOutcome::InstanceMissing, out);
                }
                Waiting::Call(ticket, _) => tell(*ticket, joining::unawaited(), out),
                Waiting::Left(_) => {}
            }
        }
    }

    fn remove(&mut self, actor: &ActorKey) {
        if let Some(object) = self.table.remove(actor)
            && let Some(activation) = object.serves
        {
            self.activations.remove(&activation);
        }
    }

    /// The time; what is asked with a time limit counts from it.
    pub fn at(&mut self, now: Instant) {
        self.clock = self.clock.max(now);
    }

    /// What a leader wants.
    pub fn perform(&mut self, now: WallTime, effect: RunnerEffect, out: &mut Vec<HostEffect>) {
        match effect {
            RunnerEffect::Run(start) => self.run(start, out),
            RunnerEffect::Enter(entry) => self.enter(entry, out),
            RunnerEffect::Tell { turn, ask, told } => self.told(now, turn, ask, told, out),
            RunnerEffect::Reset(activation) => {
                if let Some(object) = self.serving(activation) {
                    object.mark_unclean();
                }
            }
            RunnerEffect::Drop(activation) => self.drop_activation(activation, out),
            RunnerEffect::Depose(activation) => self.depose(activation, out),
        }
    }

    fn serving(&mut self, activation: ActivationId) -> Option<&mut Object> {
        let actor = self.activations.get(&activation)?;
        self.table.get_mut(actor)
    }

    /// The application here that has the type; of several the one that the actor's hash prefers.
    fn app_for(&self, actor: &ActorKey) -> Option<(String, AppInstance)> {
        let up = self.apps.iter().filter(|(_, app)| {
            app.reach == Reach::Up && app.types.contains_key(actor.actor_type())
        });
        up.max_by_key(|(name, _)| hash128(domain::DERIVED, &[name.as_bytes(), actor.as_bytes()]))
            .map(|(name, app)| (name.clone(), app.instance))
    }

    fn run(&mut self, start: TurnStart, out: &mut Vec<HostEffect>) {
        let refuse = |start, why: &str, out: &mut Vec<HostEffect>| {
            Self::not_started(Some(Box::new(start)), why, out);
        };
        let actor = start.actor.clone();
        let Some((_, instance)) = self.app_for(&actor) else {
            return refuse(start, NO_APPLICATION, out);
        };
        let activation = start.turn.activation;
        let object = self
            .table
            .entry(actor.clone())
            .or_insert_with(|| Object::absent(instance));
        if object.serves.is_some_and(|served| served > activation) {
            return refuse(start, "the actor has a newer activation here", out);
        }
        if let Some(before) = object.serves.replace(activation)
            && before != activation
        {
            self.activations.remove(&before);
        }
        self.activations.insert(activation, actor.clone());
        if self.adopt(&start, out) {
            return;
        }
        let Some(object) = self.table.get_mut(&actor) else {
            unreachable!("just obtained");
        };
        match &mut object.stage {
            Stage::Idle => self.begin(start, out),
            Stage::Resetting { then, .. } => {
                let earlier = then.replace(Box::new(start));
                Self::not_started(earlier, ANOTHER_ACTIVATION, out);
            }
            Stage::Running(_) => {
                // Its leadership is over: what it answers counts for nobody.
                self.end_running(&actor, ANOTHER_ACTIVATION, out);
                // The call may be started again when its turn has returned.
                self.unconfirmed.forget(&actor);
                refuse(
                    start,
                    "the application still runs an earlier turn of it",
                    out,
                );
            }
            Stage::GivenUp(_) => {
                refuse(
                    start,
                    "the application still runs an earlier turn of it",
                    out,
                );
            }
        }
    }

    /// Calls the object in the process that the actor belongs to now, or resets it there first.
    fn begin(&mut self, start: TurnStart, out: &mut Vec<HostEffect>) {
        let actor = start.actor.clone();
        let Some(process) = self.app_for(&actor) else {
            return Self::not_started(Some(Box::new(start)), NO_APPLICATION, out);
        };
        let Some(object) = self.table.get_mut(&actor) else {
            unreachable!("a turn begins in an object");
        };
        match object.enter(process, start.token.base, start.turn.activation) {
            Needs::Reset => self.reset(&actor, Some(Box::new(start)), out),
            Needs::Nothing => self.invoke(start, out),
        }
    }

    fn reset(&mut self, actor: &ActorKey, then: Option<Box<TurnStart>>, out: &mut Vec<HostEffect>) {
        let exchange = self.ask(actor, Callback::Deactivate, Vec::new(), None, out);
        if let Some(object) = self.table.get_mut(actor) {
            object.stage = Stage::Resetting { exchange, then };
        }
    }

    fn invoke(&mut self, start: TurnStart, out: &mut Vec<HostEffect>) {
        let call = CallId::of(&start);
        let TurnStart {
            turn,
            actor,
            method,
            body,
            token,
            metadata,
            wakeup,
            ..
        } = start;
        let is_wakeup = match &wakeup {
            Some(_) => IsWakeup::Yes,
            None => IsWakeup::No,
        };
        let callback = match wakeup {
            Some(wakeup) => woken(*wakeup),
            None => Callback::Method {
                method: method.clone(),
                body,
            },
        };
        let base = token.base;
        let token = joining::token_of(turn, &actor);
        let exchange = self.ask(&actor, callback, metadata, Some(token.clone()), out);
        if let Some(object) = self.table.get_mut(&actor) {
            object.stage = Stage::Running(Box::new(Running {
                turn,
                token,
                call,
                exchange,
                method,
                is_wakeup,
                staged: BTreeMap::new(),
                schedule: BTreeMap::new(),
                sends: Vec::new(),
                calls: 0,
                base,
                parts: 0,
                asks: 0,
                waiting: BTreeMap::new(),
                answer: None,
                inside: BTreeMap::new(),
                refused: Refused::Nothing,
            }));
        }
    }

    fn ask(
        &mut self,
        actor: &ActorKey,
        callback: Callback,
        metadata: Vec<ghostlight_protocol::call::Metadata>,
        turn: Option<String>,
        out: &mut Vec<HostEffect>,
    ) -> Exchange {
        self.last_exchange += 1;
        let exchange = Exchange(self.last_exchange);
        self.exchanges.insert(exchange, actor.clone());
        let Some(object) = self.table.get(actor) else {
            unreachable!("only objects are asked");
        };
        out.push(HostEffect::App(AppEffect::Ask {
            exchange,
            instance: object.instance,
            request: AppRequest {
                actor: actor.clone(),
                callback,
                metadata,
                turn,
            },
        }));
        exchange
    }

    /// An application's answer, or that there is none.
    pub fn answered(&mut self, exchange: Exchange, answer: AppAnswer, out: &mut Vec<HostEffect>) {
        let Some(actor) = self.exchanges.remove(&exchange) else {
            return;
        };
        let Some(object) = self.table.get_mut(&actor) else {
            return;
        };
        match &mut object.stage {
            Stage::Resetting { exchange: of, then } if *of == exchange => {
                let then = then.take();
                object.stage = Stage::Idle;
                if let AppAnswer::NoAnswer {
                    why,
                    sent: Sent::CertainlyNot,
                } = answer
                {
                    // It was never told, so it is still there.
                    object.mark_unclean();
                    return Self::not_started(then, &why, out);
                }
                // Whatever it says, the object counts as gone.
                let told = object.instance;
                object.held.retain(|held| held.process != told);
                match then {
                    Some(start) => self.begin(*start, out),
                    None if object.serves.is_none() => self.let_go(&actor, out),
                    None => {}
                }
            }
            Stage::Running(running) if running.inside.contains_key(&exchange) => {
                self.left(&actor, exchange, answer, out);
            }
            Stage::Running(running) if running.exchange == exchange => {
                let unanswered = matches!(answer, AppAnswer::NoAnswer { .. });
                running.answer = Some(answer);
                running.leave_calls(out);
                if unanswered || running.is_over() {
                    self.finish(&actor, out);
                }
            }
            Stage::GivenUp(of) if *of == exchange => {
                object.stage = Stage::Idle;
                if let Some(held) = object.here() {
                    held.trust = Trust::Unclean;
                    held.learn(&answer);
                }
                if object.serves.is_none() {
                    self.let_go(&actor, out);
                }
            }
            Stage::Idle | Stage::Resetting { .. } | Stage::Running(_) | Stage::GivenUp(_) => {}
        }
    }

    /// A running turn has its answer, and nothing of it waits any more.
    fn finish(&mut self, actor: &ActorKey, out: &mut Vec<HostEffect>) {
        let Some(object) = self.table.get_mut(actor) else {
            return;
        };
        let Stage::Running(running) = std::mem::replace(&mut object.stage, Stage::Idle) else {
            unreachable!("only running turns end");
        };
        Self::drop_waiting(&running, out);
        let mut running = *running;
        let Some(answer) = running.answer.take() else {
            unreachable!("a turn ends with its answer");
        };
        if let Some(held) = object.here() {
            held.learn(&answer);
        }
        let end = match answer {
            AppAnswer::NoAnswer {
                why,
                sent: Sent::CertainlyNot,
            } if running.parts == 0 => TurnEnd::NotStarted { detail: why },
            AppAnswer::NoAnswer { why, .. } => {
                object.mark_unclean();
                TurnEnd::Lost { detail: why }
            }
            AppAnswer::Answered {
                status,
                headers,
                body,
                kind,
                wish,
            } => {
                let staged = running.take_staged();
                let version = ActorVersion(running.base.0 + u64::from(staged.raises_version()));
                let verdict = judge(
                    actor,
                    (&running.method, running.is_wakeup),
                    (status, kind),
                    &body,
                );
                if let Some(held) = object.here() {
                    let by = running.turn.activation;
                    held.raised_by = staged.raises_version().then_some(by);
                    held.trust = match (verdict.trust, running.refused) {
                        (Keeps::Yes, Refused::Nothing) => Trust::Clean(version),
                        (Keeps::No, _) | (_, Refused::Something) => Trust::Unclean,
                    };
                }
                let answer = match verdict.error {
                    None => Ok(AppReply {
                        metadata: headers,
                        body,
                    }),
                    Some(error) => Err(error),
                };
                TurnEnd::Answered(Box::new(Answered {
                    answer,
                    staged,
                    wish: if verdict_ends(status, wish) {
                        Wish::Ends
                    } else {
                        Wish::GoesOn
                    },
                }))
            }
        };
        self.end(actor, &running, end, out);
    }

    fn drop_activation(&mut self, activation: ActivationId, out: &mut Vec<HostEffect>) {
        let Some(actor) = self.activations.remove(&activation) else {
            return;
        };
        let Some(object) = self.table.get_mut(&actor) else {
            return;
        };
        object.serves = None;
        match &mut object.stage {
            Stage::Idle => self.let_go(&actor, out),
            Stage::Resetting { then, .. } => *then = None,
            Stage::Running(_) => self.give_up(&actor, out),
            Stage::GivenUp(_) => {}
        }
    }

    /// Nobody waits any more for the turn that runs.
    fn give_up(&mut self, actor: &ActorKey, out: &mut Vec<HostEffect>) {
        let Some(object) = self.table.get_mut(actor) else {
            return;
        };
        if let Stage::Running(running) = &object.stage {
            Self::drop_waiting(running, out);
            object.stage = running.given_up();
            object.mark_unclean();
        }
        if object.is_left() {
            self.let_go(actor, out);
        }
    }
}

impl Running {
    /// It is answered, nothing waits for the leader, and no call is inside.
    fn is_over(&self) -> bool {
        self.answer.is_some() && self.waiting.is_empty() && self.inside.is_empty()
    }

    /// What its object still does when nobody waits for it any more: it may have its answer, and a
    /// call inside not.
    fn given_up(&self) -> Stage {
        let exchange = match self.answer {
            None => Some(self.exchange),
            Some(_) => self.inside.keys().next().copied(),
        };
        exchange.map_or(Stage::Idle, Stage::GivenUp)
    }

    fn take_staged(&mut self) -> Staged {
        Staged {
            writes: std::mem::take(&mut self.staged).into_values().collect(),
            sends: std::mem::take(&mut self.sends),
            schedule: std::mem::take(&mut self.schedule).into_values().collect(),
        }
    }

    fn restore(&mut self, staged: Staged) {
        for write in staged.writes {
            self.staged.entry(write.key.clone()).or_insert(write);
        }
        for write in staged.schedule {
            let key = (write.kind(), write.name.clone());
            self.schedule.entry(key).or_insert(write);
        }
        // Those came before what has joined since.
        let later = std::mem::replace(&mut self.sends, staged.sends);
        self.sends.extend(later);
    }
}

/// The status that an application answered; `None`: the error is not one of those.
#[must_use]
pub fn app_status(error: &AppError) -> Option<u16> {
    if error.name != APP_STATUS {
        return None;
    }
    match error.message.strip_prefix(FROM_SERVICE) {
        Some(rest) => rest.split_once(')')?.0.parse().ok(),
        None => error.message.starts_with(NO_METHOD).then_some(404),
    }
}

/// Whether an object may be called again without a reset, by its answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keeps {
    Yes,
    No,
}

struct Verdict {
    error: Option<AppError>,
    trust: Keeps,
}

fn judge(
    actor: &ActorKey,
    (method, is_wakeup): (&str, IsWakeup),
    (status, kind): (u16, AnswerKind),
    body: &Bytes,
) -> Verdict {
    let error = |message: String| {
        Some(AppError {
            name: APP_STATUS.to_owned(),
            message,
            payload: Bytes::new(),
        })
    };
    match (status, kind, is_wakeup) {
        (200, AnswerKind::Plain | AnswerKind::ActorError, _) => Verdict {
            error: None,
            trust: Keeps::Yes,
        },
        (404, _, IsWakeup::No) => Verdict {
            error: error(format!(
                "{NO_METHOD}actors/{}/{}/method/{}",
                actor.actor_type(),
                actor.actor_id(),
                method
            )),
            trust: Keeps::Yes,
        },
        (status, ..) => Verdict {
            error: error(format!(
                "{FROM_SERVICE}{status}) {}",
                String::from_utf8_lossy(body)
            )),
            trust: if status == 404 { Keeps::Yes } else { Keeps::No },
        },
    }
}

/// The header that ends a reminder or timer counts with a success only.
fn verdict_ends(status: u16, wish: Wish) -> bool {
    status == 200 && wish == Wish::Ends
}

fn woken(wakeup: Wakeup) -> Callback {
    let form = wakeup.form();
    match wakeup.kind() {
        ScheduleKind::Reminder => Callback::Reminder {
            name: wakeup.name,
            data: wakeup.data,
            form,
        },
        ScheduleKind::Timer => Callback::Timer {
            name: wakeup.name,
            callback: wakeup.callback,
            data: wakeup.data,
            form,
            due_time: wakeup.due_time,
            period: wakeup.period,
        },
    }
}

fn tell(ticket: AppTicket, outcome: AppOutcome, out: &mut Vec<HostEffect>) {
    out.push(HostEffect::App(AppEffect::Answer { ticket, outcome }));
}
