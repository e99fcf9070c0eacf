//! Which node runs an actor's turns, and the way of a turn there and back.
//!
//! Turns of types that are built into the leader's process run there. All others go to a *host*:
//! the first node of the partition's preference list computed over the nodes that have the type and
//! answer. A host that falls silent loses its activations: what ran there has no answer, and the
//! next turn runs elsewhere under a newer activation. Absent: what an application may do in a turn
//! (`hosts::objects`).

mod ending;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use ghostlight_placement::ring::{Candidate, PreferenceTable};
use ghostlight_protocol::call::Standing;
use ghostlight_protocol::code::Code;
use ghostlight_protocol::ids::{NodeId, PartitionId};
use ghostlight_protocol::outcome::{CallOutcome, NotRun};
use ghostlight_protocol::time::Instant;
use ghostlight_protocol::wire::frame::Frame;
use ghostlight_protocol::wire::hello::{AppTypeRecord, Duty, NodeRecord};
use ghostlight_protocol::wire::host::{HostFrame, HostRole};

use super::{Introduced, Local, NodeCore};
use crate::gateway::GatewayInput;
use crate::hosts::channel::{Channel, Met, Queued, Resend};
use crate::hosts::convert::{self, Heard};
use crate::hosts::objects::{HostEffect, Objects};
use crate::hosts::words::{AppInput, AppTicket, Drains, Reentrancy};
use crate::io::{Effect, Lane, Now};
use crate::turn_io::{
    ActivationId, RunnerEffect, RunnerInput, TurnAsk, TurnEnd, TurnEntry, TurnId, TurnStart,
};
use crate::turns::{NativeTypes, ReentrantTypes, TurnsInput};

/// A host whose control connection is silent for so long has lost its activations.
const HOST_SILENT: Duration = Duration::from_millis(900);
/// How long a turn waits for a host of its type: Dapr asks five times, a second apart.
const HOST_WAIT: Duration = Duration::from_secs(5);
/// Turns that wait for a host; beyond it they are refused at once.
const WAITING_MAX: usize = 16_384;
/// Ticks between two looks at where activations should be.
const MOVE_TICKS: u64 = 20;
/// Idle time of activations of native types that run on another node.
const NATIVE_IDLE: Duration = Duration::from_secs(3_600);
/// How long a running turn of a native type may go on when its actor is to run elsewhere.
const NATIVE_DRAIN: Duration = Duration::from_secs(60);
/// All messages of a node pair travel on one lane, so that most come in order.
const LANE: Lane = Lane::Call(1);
/// Bits of an incarnation that count within one run of the node.
const INCARNATION_BITS: u32 = 24;

/// See the module.
pub(super) struct Hosting {
    /// Types whose code is built into this process.
    pub(super) native: NativeTypes,
    objects: Objects,
    /// By the peer and what this node is to it: that a host is given up takes nothing from what
    /// this node has to say as its host.
    channels: BTreeMap<(NodeId, HostRole), Channel>,
    /// Activations of this leader that run for a host, this node included.
    placed: BTreeMap<ActivationId, Placed>,
    /// Leaders of the activations that run here.
    leaders: BTreeMap<ActivationId, Led>,
    waiting: Vec<(Instant, TurnStart)>,
    tables: BTreeMap<String, Table>,
    /// Types that some application here or elsewhere hosts as re-entrant.
    pub(super) reentrant: ReentrantTypes,
    incarnations: u64,
    /// Since when the objects here are told to go, because this node ends.
    departing: Option<Instant>,
}

struct Placed {
    host: NodeId,
    actor_type: String,
    running: Option<TurnId>,
    used: Instant,
    /// Since when it should run elsewhere.
    leaving: Option<Instant>,
}

/// Who leads an activation that runs here, and what runs it.
#[derive(Clone, Copy)]
struct Led {
    leader: NodeId,
    by: By,
    /// Its turn that runs here.
    turn: Option<TurnId>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    /// The executor of this process.
    Native,
    /// An application beside this node.
    App,
}

struct Table {
    hosts: Vec<Candidate>,
    lists: PreferenceTable,
}

impl Hosting {
    pub(super) fn new(native: NativeTypes) -> Self {
        Self {
            native,
            objects: Objects::default(),
            channels: BTreeMap::new(),
            placed: BTreeMap::new(),
            leaders: BTreeMap::new(),
            waiting: Vec::new(),
            tables: BTreeMap::new(),
            reentrant: ReentrantTypes::default(),
            incarnations: 0,
            departing: None,
        }
    }
}

impl NodeCore {
    /// A turn engine speaks to whoever runs its turns.
    pub(super) fn tell_runner(&mut self, now: Now, effect: RunnerEffect, out: &mut Vec<Effect>) {
        match effect {
            RunnerEffect::Run(start) if !self.hosting.native.have(&start.actor) => {
                self.place(now, start, out);
            }
            RunnerEffect::Run(_) => out.push(Effect::Runner(effect)),
            RunnerEffect::Enter(entry) => self.let_enter(now, entry, out),
            RunnerEffect::Tell { turn, .. } => self.tell_placed(now, turn.activation, effect, out),
            RunnerEffect::Reset(activation) => self.tell_placed(now, activation, effect, out),
            RunnerEffect::Drop(activation) | RunnerEffect::Depose(activation) => {
                self.hosting
                    .waiting
                    .retain(|(_, start)| start.turn.activation != activation);
                self.tell_placed(now, activation, effect, out);
                self.hosting.placed.remove(&activation);
            }
        }
    }

    /// A call enters a turn that a host runs.
    fn let_enter(&mut self, now: Now, entry: TurnEntry, out: &mut Vec<Effect>) {
        let (turn, number) = (entry.turn, entry.entry);
        if let Some(placed) = self.hosting.placed.get(&turn.activation) {
            let host = placed.host;
            return self.tell_host(now, host, RunnerEffect::Enter(entry), out);
        }
        let detail = "the turn that it was to enter waits for a host itself".to_owned();
        let what = TurnAsk::Left {
            entry: number,
            end: Box::new(TurnEnd::NotStarted { detail }),
        };
        let input = TurnsInput::Runner(RunnerInput::Asked { turn, ask: 0, what });
        self.local
            .push_back(Local::Turns(turn.activation.partition, input));
    }

    fn tell_placed(
        &mut self,
        now: Now,
        activation: ActivationId,
        effect: RunnerEffect,
        out: &mut Vec<Effect>,
    ) {
        match self
            .hosting
            .placed
            .get(&activation)
            .map(|placed| placed.host)
        {
            Some(host) => self.tell_host(now, host, effect, out),
            None => out.push(Effect::Runner(effect)),
        }
    }

    /// Gives a turn to the host of its actor.
    fn place(&mut self, now: Now, start: TurnStart, out: &mut Vec<Effect>) {
        let activation = start.turn.activation;
        let actor_type = start.actor.actor_type().to_owned();
        let before = self.hosting.placed.get(&activation).map(|p| p.host);
        if let Some(before) = before
            && !(self.is_there(before) && self.has_type(before, &actor_type))
        {
            // Another host needs a newer activation: the old one then refuses whatever comes late.
            let detail = "the host of the actor does not answer".to_owned();
            let end = TurnEnd::NotStarted { detail };
            return self.end_turn(start.turn, end);
        }
        let best = self.best_host(activation.partition, &actor_type);
        let Some(host) = before.or(best) else {
            return self.await_host(now, start);
        };
        self.hosting.placed.insert(
            activation,
            Placed {
                host,
                actor_type,
                running: Some(start.turn),
                used: now.instant,
                leaving: None,
            },
        );
        self.tell_host(now, host, RunnerEffect::Run(start), out);
    }

    /// Where the turns of an activation run.
    pub(super) fn add_host(&self, activation: ActivationId, standing: &mut Standing) {
        if let Some(placed) = self.hosting.placed.get(&activation) {
            standing.host = Bytes::copy_from_slice(&placed.host.to_bytes());
        }
        let mut waiting = self.hosting.waiting.iter();
        if waiting.any(|(_, start)| start.turn.activation == activation) {
            "waiting for a host".clone_into(&mut standing.stage);
        }
    }

    fn await_host(&mut self, now: Now, start: TurnStart) {
        // A firing comes again by itself, and takes the place of nobody who waits.
        let waits = start.wakeup.is_none();
        if waits && self.hosting.waiting.len() < WAITING_MAX {
            self.hosting.waiting.push((now.instant + HOST_WAIT, start));
        } else {
            self.refuse_unhosted(&start);
        }
    }

    fn refuse_unhosted(&mut self, start: &TurnStart) {
        let known = self.type_views().into_iter().map(|view| view.actor_type);
        let known: Vec<String> = known.collect();
        let others = match known.is_empty() {
            true => "Nor is there a host of any other type".to_owned(),
            false => format!("Known: {}", known.join(", ")),
        };
        let text = format!(
            "no node hosts actor type `{}`. {others}",
            start.actor.actor_type()
        );
        let refusal = NotRun::new(Code::UnknownActorType, text);
        self.end_turn(start.turn, TurnEnd::Refused(refusal));
    }

    fn end_turn(&mut self, turn: TurnId, end: TurnEnd) {
        if let Some(placed) = self.hosting.placed.get_mut(&turn.activation) {
            placed.running = None;
        }
        let input = TurnsInput::Runner(RunnerInput::Ended { turn, end });
        self.local
            .push_back(Local::Turns(turn.activation.partition, input));
    }

    fn tell_host(&mut self, now: Now, host: NodeId, effect: RunnerEffect, out: &mut Vec<Effect>) {
        if host == self.me {
            return self.host_perform(now, self.me, effect, out);
        }
        let message = convert::effect_out(now.instant, effect);
        let queued = self
            .channel(now, host, HostRole::Leader)
            .push(now.instant, message);
        if queued == Queued::Full {
            self.host_lost(now, host, "the host takes nothing");
        }
    }

    /// The conversation in which this node is `role`.
    fn channel(&mut self, now: Now, peer: NodeId, role: HostRole) -> &mut Channel {
        let hosting = &mut self.hosting;
        let generation = life(&self.record);
        let link = self.links.link(peer);
        hosting.channels.entry((peer, role)).or_insert_with(|| {
            hosting.incarnations += 1;
            let incarnation = generation + hosting.incarnations;
            let mut channel = Channel::new(now.instant, role, incarnation);
            channel.met(now.instant, link.map_or(0, |link| life(&link.record)));
            channel
        })
    }

    /// As the host of an activation that `leader` leads.
    fn host_perform(
        &mut self,
        now: Now,
        leader: NodeId,
        effect: RunnerEffect,
        out: &mut Vec<Effect>,
    ) {
        let activation = match &effect {
            RunnerEffect::Run(start) => {
                let by = if self.hosting.native.have(&start.actor) {
                    By::Native
                } else {
                    By::App
                };
                let turn = start.turn;
                let led = Led {
                    leader,
                    by,
                    turn: Some(turn),
                };
                if self.begins_elsewhere(leader, start) {
                    let known = self.hosting.leaders.entry(turn.activation);
                    known.or_insert(Led { turn: None, ..led });
                    let detail = "the node that hosts the actor is ending".to_owned();
                    let end = TurnEnd::NotStarted { detail };
                    return self.tell_leader(now, RunnerInput::Ended { turn, end }, out);
                }
                self.hosting.leaders.insert(turn.activation, led);
                turn.activation
            }
            RunnerEffect::Tell { turn, .. } => turn.activation,
            RunnerEffect::Enter(entry) => entry.turn.activation,
            RunnerEffect::Reset(activation)
            | RunnerEffect::Drop(activation)
            | RunnerEffect::Depose(activation) => *activation,
        };
        let Some(led) = self.hosting.leaders.get(&activation).copied() else {
            return;
        };
        if led.leader != leader {
            return;
        }
        let over = matches!(effect, RunnerEffect::Drop(_) | RunnerEffect::Depose(_));
        match led.by {
            By::Native => out.push(Effect::Runner(effect)),
            By::App => {
                let mut effects = Vec::new();
                let wall = self.links.members_wall(now.wall, self.machine);
                self.hosting.objects.perform(wall, effect, &mut effects);
                self.host_effects(now, effects, out);
            }
        }
        if over {
            self.hosting.leaders.remove(&activation);
        }
    }

    fn host_effects(&mut self, now: Now, effects: Vec<HostEffect>, out: &mut Vec<Effect>) {
        for effect in effects {
            match effect {
                HostEffect::App(effect) => out.push(Effect::App(effect)),
                HostEffect::Leader(input) => self.tell_leader(now, input, out),
                HostEffect::Operate {
                    ticket,
                    actor,
                    partition,
                    ask,
                } => {
                    // Without a cluster there is no gateway that would ever answer.
                    if self.cluster.is_none() {
                        let outcome = CallOutcome::NotRun(super::calls::not_joined());
                        self.operated(now, ticket, outcome, out);
                        continue;
                    }
                    let input = GatewayInput::Operate {
                        ticket,
                        actor,
                        partition,
                        ask,
                    };
                    self.local.push_back(Local::Gateway(input));
                }
            }
        }
    }

    /// What runs a turn here speaks to its leader.
    pub(super) fn tell_leader(&mut self, now: Now, input: RunnerInput, out: &mut Vec<Effect>) {
        let turn = turn_of(&input);
        if let (RunnerInput::Ended { .. }, Some(led)) =
            (&input, self.hosting.leaders.get_mut(&turn.activation))
            && led.turn == Some(turn)
        {
            led.turn = None;
        }
        match self.hosting.leaders.get(&turn.activation) {
            Some(led) if led.leader != self.me => {
                let leader = led.leader;
                let message = convert::input_out(now.instant, input);
                let channel = self.channel(now, leader, HostRole::Host);
                if channel.push(now.instant, message) == Queued::Full {
                    channel.begin_anew(now.instant);
                    self.leader_lost(now, leader, out);
                }
            }
            Some(_) | None => self.heard_of_host(now, self.me, input, out),
        }
    }

    fn heard_of_host(&mut self, now: Now, host: NodeId, input: RunnerInput, out: &mut Vec<Effect>) {
        let turn = turn_of(&input);
        let placed = self.hosting.placed.get_mut(&turn.activation);
        if placed.as_ref().is_some_and(|placed| placed.host != host) {
            return;
        }
        if let (Some(placed), RunnerInput::Ended { .. }) = (placed, &input) {
            placed.running = None;
        }
        self.take_runner(now, input, out);
    }

    /// A peer's messages: of a leader whose turns run here, or of a host of ours.
    pub(super) fn take_host_frame(
        &mut self,
        now: Now,
        from: NodeId,
        frame: HostFrame,
        out: &mut Vec<Effect>,
    ) {
        let Ok(theirs) = HostRole::try_from(frame.sender) else {
            return;
        };
        let taken = self
            .channel(now, from, theirs.other())
            .take(now.instant, frame);
        if taken.began_anew {
            match theirs {
                HostRole::Leader => self.leader_lost(now, from, out),
                HostRole::Host => self.placements_lost(from, "the host has begun anew"),
            }
        }
        for message in taken.messages {
            match (theirs, convert::heard(now.instant, message)) {
                (HostRole::Leader, Some(Heard::Effect(effect))) => {
                    self.host_perform(now, from, effect, out);
                }
                (HostRole::Host, Some(Heard::Input(input))) => {
                    self.remote_input(now, from, input, out);
                }
                // Unknown to this build, or nothing that one in this role has to say.
                (_, None | Some(_)) => {}
            }
        }
    }

    fn remote_input(&mut self, now: Now, from: NodeId, input: RunnerInput, out: &mut Vec<Effect>) {
        let turn = turn_of(&input);
        let known = self.hosting.placed.get(&turn.activation);
        if known.is_some_and(|placed| placed.host == from) {
            return self.heard_of_host(now, from, input, out);
        }
        if let RunnerInput::Asked { turn, ask, .. } = input {
            let told = crate::turn_io::TurnTold::Deposed;
            let effect = RunnerEffect::Tell { turn, ask, told };
            self.tell_host(now, from, effect, out);
        }
    }

    /// A leader's activations here are over: it has begun anew, or cannot be told anything.
    fn leader_lost(&mut self, now: Now, leader: NodeId, out: &mut Vec<Effect>) {
        let led = self.hosting.leaders.iter();
        let of_it = led.filter(|(_, led)| led.leader == leader);
        let activations: Vec<ActivationId> = of_it.map(|(activation, _)| *activation).collect();
        for activation in activations {
            self.host_perform(now, leader, RunnerEffect::Depose(activation), out);
        }
    }

    /// A host does not answer: the sequence to it begins anew, and it has lost its activations.
    fn host_lost(&mut self, now: Now, host: NodeId, why: &str) {
        self.channel(now, host, HostRole::Leader)
            .begin_anew(now.instant);
        self.placements_lost(host, why);
    }

    fn placements_lost(&mut self, host: NodeId, why: &str) {
        let placed = self.hosting.placed.iter().filter(|(_, p)| p.host == host);
        let lost: Vec<(ActivationId, Option<TurnId>)> = placed
            .map(|(activation, p)| (*activation, p.running))
            .collect();
        for (activation, running) in lost {
            match running {
                Some(turn) => {
                    let detail = format!("{why} while the turn ran there");
                    self.end_turn(turn, TurnEnd::Lost { detail });
                }
                None => self.deactivate(activation),
            }
        }
    }

    fn deactivate(&mut self, activation: ActivationId) {
        let input = TurnsInput::Deactivate(activation);
        self.local
            .push_back(Local::Turns(activation.partition, input));
    }

    /// An application beside this node, or its channel, has something to say.
    pub(super) fn take_app(&mut self, now: Now, input: AppInput, out: &mut Vec<Effect>) {
        let objects = &mut self.hosting.objects;
        objects.at(now.instant);
        let mut effects = Vec::new();
        match input {
            AppInput::Hosting {
                app,
                instance,
                types,
                objects: held,
                living,
            } => {
                objects.hosting(app.clone(), instance, types, &living, &mut effects);
                objects.held_before(&app, instance, held);
                self.tell_types();
            }
            AppInput::Gone { app, instance, .. } => {
                objects.gone(&app, instance, &mut effects);
                self.tell_types();
            }
            AppInput::Answered { exchange, answer } => {
                objects.answered(exchange, answer, &mut effects);
            }
            AppInput::Call {
                ticket,
                actor,
                call,
            } => {
                let wall = self.links.members_wall(now.wall, self.machine);
                objects.call(wall, ticket, actor, call, &mut effects);
            }
        }
        self.host_effects(now, effects, out);
    }

    /// Objects of each type that applications here host.
    pub(super) fn hosted_counts(&self) -> Vec<(String, u32)> {
        self.hosting.objects.counts()
    }

    /// The gateway has the outcome of an application's operation.
    pub(super) fn operated(
        &mut self,
        now: Now,
        ticket: AppTicket,
        outcome: CallOutcome,
        out: &mut Vec<Effect>,
    ) {
        let mut effects = Vec::new();
        self.hosting.objects.operated(ticket, outcome, &mut effects);
        self.host_effects(now, effects, out);
    }

    /// Everybody hears at once which types can run here.
    fn tell_types(&mut self) {
        let mut types: Vec<AppTypeRecord> = Vec::new();
        for hosted in self.hosting.objects.types() {
            if types.iter().any(|known| known.name == hosted.name) {
                continue;
            }
            types.push(AppTypeRecord {
                name: hosted.name.clone(),
                idle_ms: hosted.idle.as_millis() as u64,
                drain_ms: match hosted.drains {
                    Drains::Yes => hosted.drain.as_millis() as u64,
                    Drains::No => 0,
                },
                depth: match hosted.depth {
                    Reentrancy::Off => 0,
                    Reentrancy::Depth(depth) => depth,
                },
            });
        }
        if self.record.app_types == types {
            return;
        }
        self.record.app_types = types;
        self.record.revision += 1;
        self.introduced = Introduced::Outdated;
        self.links.tell_record(&self.record, &mut self.flush);
        self.hosts_changed();
    }

    /// Which nodes have which types, or which of them answer, may be otherwise than before.
    pub(super) fn hosts_changed(&mut self) {
        self.hosting.tables.clear();
        let others = self.links.iter().map(|(_, link)| &link.record);
        let records = std::iter::once(&self.record).chain(others);
        let types = records.flat_map(|record| record.app_types.iter());
        let reentrant = types.filter(|hosted| hosted.depth > 0);
        let types = reentrant.map(|hosted| (hosted.name.clone(), hosted.depth));
        let types = ReentrantTypes::new(types);
        if self.hosting.reentrant != types {
            self.hosting.reentrant = types;
        }
    }

    /// A new connection to a peer: what the one before may have lost is sent again. If its process
    /// is another one, what ran there for this node, and here for it, is over.
    pub(super) fn host_connected(&mut self, now: Now, peer: NodeId, out: &mut Vec<Effect>) {
        let Some(link) = self.links.link(peer) else {
            return;
        };
        let life = life(&link.record);
        for role in [HostRole::Leader, HostRole::Host] {
            let Some(channel) = self.hosting.channels.get_mut(&(peer, role)) else {
                continue;
            };
            match (channel.met(now.instant, life), role) {
                (Met::Before, _) => channel.resend(now.instant, Resend::Connected),
                (Met::New, HostRole::Host) => self.leader_lost(now, peer, out),
                (Met::New, HostRole::Leader) => {
                    self.placements_lost(peer, "the host was started again");
                }
            }
        }
    }

    pub(super) fn tick_hosting(&mut self, now: Now, out: &mut Vec<Effect>) {
        for channel in self.hosting.channels.values_mut() {
            channel.resend(now.instant, Resend::Time);
        }
        // Activations are many, peers are few: only those of a silent one are looked for.
        let led = self.hosting.channels.keys().copied();
        let hosts = led.filter(|(_, role)| *role == HostRole::Leader);
        let silent: Vec<NodeId> = hosts
            .map(|(peer, _)| peer)
            .filter(|peer| self.links.silence(*peer, now.instant) >= HOST_SILENT)
            .collect();
        for host in silent {
            if self.hosting.placed.values().any(|p| p.host == host) {
                self.host_lost(now, host, "the host does not answer");
            }
        }
        let mut effects = Vec::new();
        self.hosting.objects.tick(now.instant, &mut effects);
        self.host_effects(now, effects, out);
        self.tick_waiting(now, out);
        if self.ticks.is_multiple_of(MOVE_TICKS) {
            self.hosts_changed();
            self.tick_moves(now);
            self.forget_removed(now, out);
        }
    }

    /// A node that was removed comes back as another one, if at all: nobody leads what it led here,
    /// and nobody waits for what it was told.
    fn forget_removed(&mut self, now: Now, out: &mut Vec<Effect>) {
        let peers = self.hosting.channels.keys().map(|(peer, _)| *peer);
        let removed: BTreeSet<NodeId> = peers.filter(|peer| self.removed.contains(peer)).collect();
        for peer in removed {
            self.leader_lost(now, peer, out);
            self.placements_lost(peer, "the host was removed from the cluster");
            self.hosting.channels.retain(|(at, _), _| *at != peer);
        }
    }

    fn tick_waiting(&mut self, now: Now, out: &mut Vec<Effect>) {
        for (until, start) in std::mem::take(&mut self.hosting.waiting) {
            let actor_type = start.actor.actor_type().to_owned();
            if self
                .best_host(start.turn.activation.partition, &actor_type)
                .is_some()
            {
                self.place(now, start, out);
            } else if until <= now.instant {
                self.refuse_unhosted(&start);
            } else {
                self.hosting.waiting.push((until, start));
            }
        }
    }

    /// Activations follow their host, and go when they are idle for long enough.
    fn tick_moves(&mut self, now: Now) {
        let placed: Vec<ActivationId> = self.hosting.placed.keys().copied().collect();
        for activation in placed {
            let Some(placed) = self.hosting.placed.get(&activation) else {
                continue;
            };
            let (host, running) = (placed.host, placed.running);
            let (used, leaving) = (placed.used, placed.leaving);
            let actor_type = placed.actor_type.clone();
            let best = self.best_host(activation.partition, &actor_type);
            let (idle, drain) = self.times_of(host, &actor_type);
            let moves = best.is_some_and(|best| best != host);
            if !moves {
                let idle_over = running.is_none() && now.instant.since(used) >= idle;
                if idle_over {
                    self.deactivate(activation);
                }
                continue;
            }
            let since = leaving.unwrap_or(now.instant);
            if let Some(placed) = self.hosting.placed.get_mut(&activation) {
                placed.leaving = Some(since);
            }
            match running {
                Some(turn) if now.instant.since(since) >= drain => {
                    let detail =
                        "the actor runs elsewhere, and its turn did not end in time".to_owned();
                    self.end_turn(turn, TurnEnd::Lost { detail });
                }
                Some(_) | None => self.deactivate(activation),
            }
        }
    }

    /// Idle time and drain time of a type on a host.
    fn times_of(&self, host: NodeId, actor_type: &str) -> (Duration, Duration) {
        let record = self.record_of(host);
        let app = record.and_then(|r| r.app_types.iter().find(|t| t.name == actor_type));
        app.map_or((NATIVE_IDLE, NATIVE_DRAIN), |app| {
            (
                Duration::from_millis(app.idle_ms),
                Duration::from_millis(app.drain_ms),
            )
        })
    }

    fn record_of(&self, node: NodeId) -> Option<&NodeRecord> {
        if node == self.me {
            return Some(&self.record);
        }
        self.links.link(node).map(|link| &link.record)
    }

    fn has_type(&self, node: NodeId, actor_type: &str) -> bool {
        self.record_of(node).is_some_and(|r| hosts(r, actor_type))
    }

    pub(super) fn is_there(&self, node: NodeId) -> bool {
        node == self.me || self.links.answers(node)
    }

    /// The node that should run the turns of a partition's actors of a type.
    fn best_host(&mut self, partition: PartitionId, actor_type: &str) -> Option<NodeId> {
        let Some(cluster) = &self.cluster else {
            return None;
        };
        if !self.hosting.tables.contains_key(actor_type) {
            let hosts = self.hosts_of(actor_type);
            let lists = PreferenceTable::compute_hosts(&cluster.ring, &hosts);
            let table = Table { hosts, lists };
            self.hosting.tables.insert(actor_type.to_owned(), table);
        }
        let table = &self.hosting.tables[actor_type];
        if table.hosts.is_empty() {
            return None;
        }
        let first = table.lists.list(partition).iter().copied();
        let rest = table.hosts.iter().map(|candidate| candidate.node);
        first.chain(rest).find(|node| self.is_there(*node))
    }

    fn hosts_of(&self, actor_type: &str) -> Vec<Candidate> {
        let others = self.links.iter().map(|(node, link)| (node, &link.record));
        let all: Vec<(NodeId, &NodeRecord)> = std::iter::once((self.me, &self.record))
            .chain(others)
            .collect();
        let with = |duty: Option<Duty>| -> Vec<Candidate> {
            all.iter()
                .filter(|(node, record)| self.is_there(*node) && hosts(record, actor_type))
                .filter(|(_, record)| !Self::is_going(record))
                .filter(|(_, record)| duty.is_none_or(|duty| record.duty() == duty))
                .map(|(node, record)| Candidate::new(*node, record.weight, record.zone.clone()))
                .collect()
        };
        let serving = with(Some(Duty::Serving));
        if serving.is_empty() {
            return with(None);
        }
        serving
    }

    pub(super) fn flush_hosting(&mut self, out: &mut Vec<Effect>) {
        let mut frames = Vec::new();
        for ((peer, _), channel) in &mut self.hosting.channels {
            channel.flush(&mut frames);
            for frame in frames.drain(..) {
                out.push(Effect::Send {
                    to: *peer,
                    lane: LANE,
                    frame: Frame::Host(frame),
                });
            }
        }
    }
}

fn hosts(record: &NodeRecord, actor_type: &str) -> bool {
    let native = record.actor_types.iter().any(|name| name == actor_type);
    native || record.app_types.iter().any(|t| t.name == actor_type)
}

/// Below all incarnations of the channels of a node's process, see [`Channel::met`].
fn life(record: &NodeRecord) -> u64 {
    record.generation << INCARNATION_BITS
}

fn turn_of(input: &RunnerInput) -> TurnId {
    match input {
        RunnerInput::Asked { turn, .. } | RunnerInput::Ended { turn, .. } => *turn,
    }
}
