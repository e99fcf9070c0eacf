//! The objects that applications beside this node keep in memory, and what they have staged.
//!
//! Applications cache state in their objects: an object is called again only if the actor's version is the
//! one that it had after its last turn, else it is *reset* first. What an application stages in a turn waits
//! here for the turn's answer. An object that was told to go may still run what it was given: until that has
//! returned, nothing else runs in it here. Absent: which node hosts an actor, and when a turn counts.

mod calls;
mod entries;
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
use ghostlight_protocol::time::WallTime;
use ghostlight_protocol::wire::host::{Wakeup, Wish};

use self::calls::PendingCall;
use super::words::{
    AnswerKind, AppAnswer, AppEffect, AppInstance, AppOutcome, AppRequest, AppTicket, AppType,
    Callback, Exchange, Sent,
};
use crate::turn_io::{
    ActivationId, Answered, RunnerEffect, RunnerInput, Staged, TurnEnd, TurnId, TurnStart,
};

/// Name of the error of an application that answered with another status than 200.
pub const APP_STATUS: &str = "AppStatus";

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

/// One actor's object in an application.
#[derive(Debug)]
struct Object {
    app: String,
    instance: AppInstance,
    /// The activation that it serves; `None`: it was told to go.
    epoch: Option<ActivationId>,
    trust: Trust,
    /// Whether it is known to exist: only then may it be told to go.
    made: Made,
    stage: Stage,
}

/// What is known of the state in its memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Trust {
    /// It has none.
    Nothing,
    /// It is that of this version.
    Clean(ActorVersion),
    /// Nobody knows.
    Unclean,
}

/// Known by a turn that it answered with success, or by what its code asked about its state or schedule while a
/// turn ran: a failed turn leaves nothing to save in an object that has not even asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Made {
    No,
    Yes,
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
    exchange: Exchange,
    /// Shown in the error of a method that is not there.
    method: String,
    is_wakeup: IsWakeup,
    staged: BTreeMap<Bytes, StateWrite>,
    schedule: BTreeMap<(ScheduleKind, String), ScheduleWrite>,
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
    Get(AppTicket),
    /// What was taken out of the stage for it.
    Part(AppTicket, Box<Staged>),
    /// The same, for the answer of a call inside the turn.
    Left(Box<Staged>),
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
            if let (Some(count), Some(_)) = (count, object.epoch) {
                *count += 1;
            }
        }
        let counts = counts.into_iter();
        counts
            .map(|(name, count)| (name.to_owned(), count))
            .collect()
    }

    /// A process is ready. Another one than before has none of the objects of the one before.
    pub fn hosting(
        &mut self,
        app: String,
        instance: AppInstance,
        types: Vec<AppType>,
        out: &mut Vec<HostEffect>,
    ) {
        let before = self.apps.get(&app).map(|app| app.instance);
        if before != Some(instance) {
            self.forget_objects(&app, out);
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
    }

    /// What a process may hold that this table does not know: a node that ran here before called it into being. It
    /// is told to go before its first turn.
    pub fn held_before(&mut self, app: &str, instance: AppInstance, actors: Vec<ActorKey>) {
        for actor in actors {
            self.table.entry(actor).or_insert_with(|| Object {
                app: app.to_owned(),
                instance,
                epoch: None,
                trust: Trust::Unclean,
                made: Made::Yes,
                stage: Stage::Idle,
            });
        }
    }

    /// A process cannot be reached. What it keeps in memory is there when it comes back.
    pub fn gone(&mut self, app: &str, instance: AppInstance, out: &mut Vec<HostEffect>) {
        let Some(known) = self.apps.get_mut(app) else {
            return;
        };
        if known.instance != instance {
            return;
        }
        known.reach = Reach::Gone;
        let actors: Vec<ActorKey> = self.of_app(app);
        for actor in actors {
            if let Some(object) = self.table.get_mut(&actor) {
                object.trust = match object.trust {
                    Trust::Nothing => Trust::Nothing,
                    Trust::Clean(_) | Trust::Unclean => Trust::Unclean,
                };
            }
            self.end_running(&actor, "the application is gone", out);
        }
    }

    fn of_app(&self, app: &str) -> Vec<ActorKey> {
        let objects = self.table.iter().filter(|(_, object)| object.app == app);
        objects.map(|(actor, _)| actor.clone()).collect()
    }

    /// The process that had them has ended: no `DELETE`, another one would not know them.
    fn forget_objects(&mut self, app: &str, out: &mut Vec<HostEffect>) {
        for actor in self.of_app(app) {
            self.end_running(&actor, "the application was started again", out);
            self.remove(&actor);
        }
    }

    /// Ends a running turn without an answer.
    fn end_running(&mut self, actor: &ActorKey, why: &str, out: &mut Vec<HostEffect>) {
        let Some(object) = self.table.get_mut(actor) else {
            return;
        };
        match std::mem::replace(&mut object.stage, Stage::Idle) {
            Stage::Running(running) => {
                object.stage = Stage::GivenUp(running.exchange);
                object.trust = Trust::Unclean;
                Self::drop_waiting(&running, out);
                let detail = why.to_owned();
                let end = TurnEnd::Lost { detail };
                let turn = running.turn;
                out.push(HostEffect::Leader(RunnerInput::Ended { turn, end }));
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
                Waiting::Get(ticket) | Waiting::Part(ticket, _) => {
                    tell(*ticket, AppOutcome::InstanceMissing, out);
                }
                Waiting::Left(_) => {}
            }
        }
    }

    fn remove(&mut self, actor: &ActorKey) {
        if let Some(object) = self.table.remove(actor)
            && let Some(epoch) = object.epoch
        {
            self.activations.remove(&epoch);
        }
    }

    /// What a leader wants.
    pub fn perform(&mut self, now: WallTime, effect: RunnerEffect, out: &mut Vec<HostEffect>) {
        match effect {
            RunnerEffect::Run(start) => self.run(start, out),
            RunnerEffect::Enter(entry) => self.enter(entry, out),
            RunnerEffect::Tell { turn, ask, told } => self.told(now, turn, ask, told, out),
            RunnerEffect::Reset(activation) => {
                if let Some(object) = self.serving(activation) {
                    object.trust = Trust::Unclean;
                }
            }
            RunnerEffect::Drop(activation) => self.drop_activation(activation, out),
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
        let Some((app, instance)) = self.app_for(&actor) else {
            return refuse(start, "no application beside this node has the type", out);
        };
        let activation = start.turn.activation;
        let object = self.table.entry(actor.clone()).or_insert_with(|| Object {
            app: app.clone(),
            instance,
            epoch: None,
            trust: Trust::Nothing,
            made: Made::No,
            stage: Stage::Idle,
        });
        if object.instance != instance && matches!(object.stage, Stage::Idle) {
            (object.app, object.instance) = (app, instance);
            (object.trust, object.made) = (Trust::Nothing, Made::No);
        }
        if object.epoch.is_some_and(|epoch| epoch > activation) {
            return refuse(start, "the actor has a newer activation here", out);
        }
        if let Some(before) = object.epoch.replace(activation)
            && before != activation
        {
            self.activations.remove(&before);
        }
        self.activations.insert(activation, actor.clone());
        let Some(object) = self.table.get_mut(&actor) else {
            unreachable!("just obtained");
        };
        match &mut object.stage {
            Stage::Idle => self.begin(start, out),
            Stage::Resetting { then, .. } => {
                let earlier = then.replace(Box::new(start));
                Self::not_started(earlier, "another activation of the actor runs here", out);
            }
            Stage::Running(_) => {
                // Its leadership is over: what it answers counts for nobody.
                self.end_running(&actor, "another activation of the actor runs here", out);
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

    /// Calls the object, or resets it first.
    fn begin(&mut self, start: TurnStart, out: &mut Vec<HostEffect>) {
        let Some(object) = self.table.get_mut(&start.actor) else {
            unreachable!("a turn begins in an object");
        };
        let base = start.token.base;
        let fits = object.trust == Trust::Nothing || object.trust == Trust::Clean(base);
        if !fits && object.made == Made::Yes {
            let actor = start.actor.clone();
            return self.reset(&actor, Some(Box::new(start)), out);
        }
        self.invoke(start, out);
    }

    fn reset(&mut self, actor: &ActorKey, then: Option<Box<TurnStart>>, out: &mut Vec<HostEffect>) {
        let exchange = self.ask(actor, Callback::Deactivate, Vec::new(), None, out);
        if let Some(object) = self.table.get_mut(actor) {
            object.stage = Stage::Resetting { exchange, then };
        }
    }

    fn invoke(&mut self, start: TurnStart, out: &mut Vec<HostEffect>) {
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
        let exchange = self.ask(&actor, callback, metadata, Some(format!("{turn:?}")), out);
        if let Some(object) = self.table.get_mut(&actor) {
            object.stage = Stage::Running(Box::new(Running {
                turn,
                exchange,
                method,
                is_wakeup,
                staged: BTreeMap::new(),
                schedule: BTreeMap::new(),
                base: token.base,
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
                    object.trust = Trust::Unclean;
                    return Self::not_started(then, &why, out);
                }
                // Whatever it says, the object counts as gone.
                (object.trust, object.made) = (Trust::Nothing, Made::No);
                match then {
                    Some(start) => self.invoke(*start, out),
                    None if object.epoch.is_none() => self.remove(&actor),
                    None => {}
                }
            }
            Stage::Running(running) if running.inside.contains_key(&exchange) => {
                self.left(&actor, exchange, answer, out);
            }
            Stage::Running(running) if running.exchange == exchange => {
                let unanswered = matches!(answer, AppAnswer::NoAnswer { .. });
                running.answer = Some(answer);
                if unanswered || running.is_over() {
                    self.finish(&actor, out);
                }
            }
            Stage::GivenUp(of) if *of == exchange => {
                object.stage = Stage::Idle;
                object.trust = Trust::Unclean;
                if object.epoch.is_none() {
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
        let turn = running.turn;
        let end = match answer {
            AppAnswer::NoAnswer {
                why,
                sent: Sent::CertainlyNot,
            } if running.parts == 0 => TurnEnd::NotStarted { detail: why },
            AppAnswer::NoAnswer { why, .. } => {
                object.trust = Trust::Unclean;
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
                if status == 200 {
                    object.made = Made::Yes;
                }
                object.trust = match (verdict.trust, running.refused) {
                    (Keeps::Yes, Refused::Nothing) => Trust::Clean(version),
                    (Keeps::No, _) | (_, Refused::Something) => Trust::Unclean,
                };
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
        out.push(HostEffect::Leader(RunnerInput::Ended { turn, end }));
    }

    fn drop_activation(&mut self, activation: ActivationId, out: &mut Vec<HostEffect>) {
        let Some(actor) = self.activations.remove(&activation) else {
            return;
        };
        let Some(object) = self.table.get_mut(&actor) else {
            return;
        };
        object.epoch = None;
        match &mut object.stage {
            Stage::Idle => self.let_go(&actor, out),
            Stage::Resetting { then, .. } => *then = None,
            Stage::Running(running) => {
                let exchange = running.exchange;
                Self::drop_waiting(running, out);
                object.stage = Stage::GivenUp(exchange);
                object.trust = Trust::Unclean;
            }
            Stage::GivenUp(_) => {}
        }
    }

    /// Nothing serves here any more: the object goes. It is told so only if it was made.
    fn let_go(&mut self, actor: &ActorKey, out: &mut Vec<HostEffect>) {
        let Some(object) = self.table.get(actor) else {
            return;
        };
        let app = self.apps.get(&object.app);
        let reach = app.filter(|app| app.instance == object.instance);
        match (object.made, reach.map(|app| app.reach)) {
            (Made::Yes, Some(Reach::Up)) => self.reset(actor, None, out),
            // It is told when its process can be reached again, before its next turn.
            (Made::Yes, Some(Reach::Gone)) => {}
            (Made::No, _) | (Made::Yes, None) => self.remove(actor),
        }
    }
}

impl Running {
    /// It is answered, nothing waits for the leader, and no call is inside.
    fn is_over(&self) -> bool {
        self.answer.is_some() && self.waiting.is_empty() && self.inside.is_empty()
    }

    fn take_staged(&mut self) -> Staged {
        Staged {
            writes: std::mem::take(&mut self.staged).into_values().collect(),
            sends: Vec::new(),
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
                "actor method not found: actors/{}/{}/method/{}",
                actor.actor_type(),
                actor.actor_id(),
                method
            )),
            trust: Keeps::Yes,
        },
        (status, ..) => Verdict {
            error: error(format!(
                "error from actor service: ({status}) {}",
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
