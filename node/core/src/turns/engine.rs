//! The owner of the engine's parts: takes inputs in and hands them to the part they concern.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::code::Code;
use ghostlight_protocol::ids::{ActorVersion, PartitionId, Term};
use ghostlight_protocol::limits::{
    DEDUP_BYTES_MAX, ENTRY_BYTES_MAX, MAILBOX_CALLS_MAX, SPECULATION_BYTES_MAX,
    SPECULATION_TURNS_MAX, TURN_SENDS_MAX,
};
use ghostlight_protocol::outcome::NotRun;
use ghostlight_protocol::partition_row::{Kept, PartitionRow};
use ghostlight_protocol::time::{Instant, WallTime};

use super::activation::{Actors, Leaves, Rest, Stage};
use super::answers::nothing_ran;
use super::dedup::PendingReads;
use super::entered::ReentrantTypes;
use super::fixed_hash::FixedHash;
use super::idle::IdleList;
use super::inbox::Inbox;
use super::jobs::{Jobs, Left, Place};
use super::log::{Log, Room};
use super::mailbox::Gate;
use super::reads::Rounds;
use super::{TurnsEffect, TurnsInput};
use crate::turn_io::{ActivationId, RunnerEffect, RunnerInput};

/// Bounds of one engine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// How long an activation without work is kept.
    pub idle: Duration,
    /// Actors of one partition that are in memory.
    pub activations_max: usize,
    /// Calls waiting for one actor.
    pub mailbox_calls_max: usize,
    /// Dedup records of the partition, in bytes.
    pub dedup_bytes_max: u64,
    /// Messages in the outbox, the inbox or the dead letters of the partition.
    pub messages_max: Kept,
    /// Turns on results not yet committed.
    pub speculation_turns_max: usize,
    /// Bytes of their write sets.
    pub speculation_bytes_max: usize,
    /// One entry of the log, in bytes.
    pub entry_bytes_max: usize,
    /// Outgoing messages of one turn.
    pub turn_sends_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(3_600),
            activations_max: 100_000,
            mailbox_calls_max: MAILBOX_CALLS_MAX,
            dedup_bytes_max: DEDUP_BYTES_MAX,
            messages_max: Kept::MAX,
            speculation_turns_max: SPECULATION_TURNS_MAX,
            speculation_bytes_max: SPECULATION_BYTES_MAX,
            entry_bytes_max: ENTRY_BYTES_MAX,
            turn_sends_max: TURN_SENDS_MAX,
        }
    }
}

/// The actor types whose code runs in this process. Turns of all others are run by a host: the next
/// one starts when the last one is committed or dropped, because nothing can hold back what it does
/// outside.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct NativeTypes(Arc<BTreeSet<String>>);

impl NativeTypes {
    /// These.
    #[must_use]
    pub fn new(types: impl IntoIterator<Item = String>) -> Self {
        Self(Arc::new(types.into_iter().collect()))
    }

    /// Whether turns of the actor run in this process.
    #[must_use]
    pub fn have(&self, actor: &ActorKey) -> bool {
        self.0.contains(actor.actor_type())
    }
}

/// What a partition holds, as its row counts it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Load {
    /// Bytes of dedup records.
    pub dedup_bytes: u64,
    /// Messages that wait to be accepted elsewhere.
    pub outbox: Kept,
    /// Messages that wait to be run.
    pub inbox: Kept,
    /// Topic partitions.
    pub topics: u64,
}

impl Load {
    /// What a row says.
    #[must_use]
    pub fn of(row: &PartitionRow) -> Self {
        Self {
            dedup_bytes: row.dedup_bytes,
            outbox: row.outbox(),
            inbox: row.inbox(),
            topics: row.topics,
        }
    }
}

/// What a leadership begins with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Opening {
    /// The partition.
    pub partition: PartitionId,
    /// How many the cluster has.
    pub partitions: u16,
    /// The leadership; its first entry is applied.
    pub term: Term,
    /// The node's calendar clock.
    pub wall: WallTime,
    /// What the partition holds.
    pub load: Load,
    /// Whether writes are taken.
    pub writes: Writes,
    /// Bounds.
    pub settings: Settings,
    /// Types that run in this process.
    pub native: NativeTypes,
}

/// What happened so far in this leadership, for metrics.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counters {
    /// Turns started, also those that were run again.
    pub turns_started: u64,
    /// Entries that count.
    pub turns_committed: u64,
    /// Entries that apply skipped.
    pub turns_skipped: u64,
    /// Turns whose proposal Raft refused.
    pub turns_dropped: u64,
    /// Turns put back into the mailbox because something before them did not count.
    pub turns_rerun: u64,
    /// Turns that panicked.
    pub turns_panicked: u64,
    /// Answers that needed no entry.
    pub answers_without_entry: u64,
    /// Requests that found their answer recorded.
    pub answers_recorded: u64,
    /// Requests that joined one in flight.
    pub calls_joined: u64,
    /// Requests refused because something was full.
    pub calls_refused: u64,
    /// Messages that failed and will be tried again.
    pub messages_failed: u64,
    /// Messages that went to the dead letters.
    pub messages_dead: u64,
    /// Activations ended because they were idle.
    pub activations_evicted: u64,
}

/// How far the turns of one leadership are.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Progress {
    /// Turns that have ended and wait for the log.
    pub waiting: usize,
    /// Turns of which the log has spoken, since the leadership opened.
    pub settled: u64,
}

/// One activation, as the admin views show it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ActivationView<'a> {
    /// The actor.
    pub actor: &'a ActorKey,
    /// Calls waiting.
    pub mailbox: usize,
    /// `idle` or `in_turn`.
    pub state: &'static str,
    /// Turns since activation.
    pub turns: u64,
    /// Version, uncommitted turns included.
    pub version: ActorVersion,
}

/// Whether writes are taken. Turns run in any case: which of them write is known when they end.
/// Where they are not taken, turns that write are rolled back and refused, and messages wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Writes {
    /// They are.
    Taken,
    /// The partition has fewer copies than its operator asks for.
    FewCopies {
        /// Voters it has.
        voters: usize,
        /// Voters it should have.
        wanted: usize,
    },
    /// The disk of this node has no room left for them.
    NoRoom,
}

/// Pause that a writer is asked to make while writes are refused.
const UNWANTED_PAUSE: Duration = Duration::from_secs(1);

impl Writes {
    /// What a writer is told; `None`: writes are taken.
    #[must_use]
    pub fn refusal(self, partition: PartitionId) -> Option<NotRun> {
        let (code, text) = match self {
            Self::Taken => return None,
            Self::FewCopies { voters, wanted } => (
                Code::MinCopies,
                format!(
                    "{partition} has {voters} voting {}, --min-copies asks for {wanted}: writes are refused. Start or \
                     bring back nodes, or lower --min-copies",
                    if voters == 1 { "copy" } else { "copies" }
                ),
            ),
            Self::NoRoom => (
                Code::DiskRoomShort,
                format!(
                    "the disk of the node that leads {partition} is all but full: writes are refused, reads \
                     are served. Make room on it; it takes writes again by itself"
                ),
            ),
        };
        Some(NotRun::retry(code, text, UNWANTED_PAUSE))
    }
}

/// Whether turns may start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Admission {
    Open,
    /// Only those that a running turn waits for.
    Paused,
}

/// The turn engine of one partition during one leadership.
#[derive(Debug)]
pub struct Turns {
    pub(super) partition: PartitionId,
    pub(super) partitions: u16,
    pub(super) term: Term,
    pub(super) wall: WallTime,
    pub(super) load: Load,
    pub(super) settings: Settings,
    pub(super) native: NativeTypes,
    pub(super) reentrant: ReentrantTypes,
    pub(super) admission: Admission,
    pub(super) writes: Writes,
    pub(super) jobs: Jobs,
    pub(super) actors: Actors,
    pub(super) log: Log,
    pub(super) rounds: Rounds,
    pub(super) reads: PendingReads,
    pub(super) inbox: Inbox,
    pub(super) idle: IdleList,
    /// Actors that could run if less were uncommitted.
    pub(super) stalled: VecDeque<ActorKey>,
    /// Actors whose failed message waits, by when it may run again.
    pub(super) gates: BTreeSet<(Instant, ActorKey)>,
    /// Turns that run.
    pub(super) running: usize,
    pub(super) last_order: u64,
    pub(super) counters: Counters,
}

impl Turns {
    /// Opens a leadership whose first entry has been applied.
    #[must_use]
    pub fn open(opening: Opening) -> Self {
        let hash = FixedHash::new(u64::from(opening.partition.0), opening.term.0);
        Self {
            partition: opening.partition,
            partitions: opening.partitions,
            term: opening.term,
            wall: opening.wall,
            load: opening.load,
            settings: opening.settings,
            native: opening.native,
            reentrant: ReentrantTypes::default(),
            admission: Admission::Open,
            writes: opening.writes,
            jobs: Jobs::new(hash),
            actors: Actors::new(hash),
            log: Log::default(),
            rounds: Rounds::default(),
            reads: PendingReads::new(hash),
            inbox: Inbox::default(),
            idle: IdleList::default(),
            stalled: VecDeque::new(),
            gates: BTreeSet::new(),
            running: 0,
            last_order: 0,
            counters: Counters::default(),
        }
    }

    /// What the engine cannot see itself: the node's calendar clock, and what the partition row
    /// counts. To be told before the inputs of each loop turn.
    pub fn note(&mut self, wall: WallTime, load: Load) {
        self.wall = wall;
        self.load = load;
    }

    /// Feeds one input. Wanted effects are pushed to `out`, in the order they must happen.
    pub fn handle(&mut self, now: Instant, input: TurnsInput, out: &mut Vec<TurnsEffect>) {
        self.expire(now, out);
        match input {
            TurnsInput::Call { from, request } => self.on_call(now, from, request, out),
            TurnsInput::Hangup(caller) => match self.jobs.leave(caller) {
                Left::Waits => {}
                Left::Unknown => nothing_ran(caller, out),
                Left::Abandoned(job) => self.abandon(now, job, out),
            },
            TurnsInput::Runner(RunnerInput::Asked { turn, ask, what }) => {
                self.on_asked(now, turn, ask, what, out);
            }
            TurnsInput::Runner(RunnerInput::Ended { turn, end }) => {
                self.on_ended(now, turn, end, out);
            }
            TurnsInput::Called { turn, ask, outcome } => self.on_called(turn, ask, outcome, out),
            TurnsInput::RowsRead { read, rows, rest } => self.on_rows(now, read, rows, rest, out),
            TurnsInput::Applied(outcome) => self.on_applied(now, outcome, out),
            TurnsInput::Dropped => self.on_dropped(now, out),
            TurnsInput::Confirmed(round) => {
                for actor in self.rounds.confirm(round) {
                    self.touch(now, &actor, out);
                }
                self.wake_stalled(now, out);
            }
            TurnsInput::Inbox(messages) => self.on_inbox(now, messages, out),
            TurnsInput::Pause => self.admission = Admission::Paused,
            TurnsInput::Resume => {
                self.admission = Admission::Open;
                self.touch_all(now, out);
            }
            TurnsInput::Writes(writes) => {
                self.writes = writes;
                self.touch_all(now, out);
            }
            TurnsInput::Due(due) => self.on_due(now, *due, out),
            TurnsInput::Deactivate(activation) => self.on_deactivate(now, activation, out),
            TurnsInput::Tick => {}
        }
        self.check_invariants();
    }

    /// Ends a loop turn: at most one proposal with the turns that ended since, at most one
    /// ReadIndex.
    pub fn flush(&mut self, _now: Instant, out: &mut Vec<TurnsEffect>) {
        self.propose(out);
        if let Some(round) = self.rounds.begin() {
            out.push(TurnsEffect::Confirm(round));
        }
        self.check_invariants();
    }

    /// When to call `handle` with `Tick` (and `flush` after it), if nothing else arrives first.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        if self.log.can_propose() {
            // A proposal was split: the rest goes with the next loop turn.
            return Some(Instant(0));
        }
        let gate = self.gates.first().map(|(at, _)| *at);
        let idle = self
            .idle
            .oldest()
            .map(|(since, _)| since + self.settings.idle);
        gate.into_iter().chain(idle).min()
    }

    /// Nothing is proposed and unapplied, and no turn runs: leadership may be handed over.
    #[must_use]
    pub fn settled(&self) -> bool {
        self.running == 0 && self.log.is_empty()
    }

    /// Bodies of all calls held here, in bytes.
    #[must_use]
    pub fn call_bytes(&self) -> usize {
        self.jobs.call_bytes()
    }

    /// What this engine adds to the line of its node.
    #[must_use]
    pub fn progress(&self) -> Progress {
        Progress {
            waiting: self.log.turns(),
            settled: self.counters.turns_committed + self.counters.turns_skipped,
        }
    }

    /// Every activation.
    pub fn activations(&self) -> impl Iterator<Item = ActivationView<'_>> {
        self.actors
            .activations()
            .map(|(actor, state, activation)| ActivationView {
                actor,
                mailbox: state.mailbox.waiting(),
                state: match state.stage {
                    Stage::Running(_) => "in_turn",
                    Stage::Idle | Stage::Loading | Stage::Parked(_) | Stage::Undoing { .. } => {
                        "idle"
                    }
                },
                turns: activation.turns,
                version: state.version.unwrap_or_default(),
            })
    }

    /// What happened so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    pub(super) fn activation_id(&self, number: u64) -> ActivationId {
        ActivationId {
            partition: self.partition,
            term: self.term,
            number,
        }
    }

    /// Brings an actor forward after anything about it has changed.
    pub(super) fn touch(&mut self, now: Instant, key: &ActorKey, out: &mut Vec<TurnsEffect>) {
        if self.actors.get(key).is_none() {
            return;
        }
        self.release_held(key, out);
        let actor = self.actors.at(key);
        match &actor.stage {
            Stage::Undoing { .. } if actor.ledger.is_settled() => self.restart(key, out),
            Stage::Parked(p) if p.conclusion.may_count(actor.ledger) => self.unpark(key, out),
            Stage::Running(_) if actor.ledger.is_settled() => {
                self.send_held_calls(key, out);
                self.commit_held_part(now, key, out);
                self.let_leave(key, out);
                // The answers of those that left, whose round may have been confirmed long ago.
                self.release_held(key, out);
            }
            Stage::Idle
            | Stage::Loading
            | Stage::Running(_)
            | Stage::Parked(_)
            | Stage::Undoing { .. } => {}
        }
        self.advance(now, key, out);
    }

    fn touch_all(&mut self, now: Instant, out: &mut Vec<TurnsEffect>) {
        for actor in self.actors.keys() {
            self.touch(now, &actor, out);
        }
    }

    /// Lets actors go on that waited for others to commit.
    pub(super) fn wake_stalled(&mut self, now: Instant, out: &mut Vec<TurnsEffect>) {
        for _ in 0..self.stalled.len() {
            if self.log.room(1, &self.settings) == Room::Later {
                break;
            }
            let Some(key) = self.stalled.pop_front() else {
                break;
            };
            let Some(actor) = self.actors.get_mut(&key) else {
                continue;
            };
            if actor.rest == Rest::Stalled {
                actor.rest = Rest::Busy;
                self.advance(now, &key, out);
            }
        }
    }

    /// An actor has nothing to do: it becomes idle, or is forgotten.
    pub(super) fn rest(&mut self, now: Instant, key: &ActorKey) {
        let actor = self.actors.at(key);
        if !actor.is_quiet() {
            return;
        }
        if actor.activation.is_none() {
            if let Rest::Idle(number) = actor.rest {
                self.idle.leave(number);
            }
            self.actors.remove(key);
        } else if actor.rest == Rest::Busy {
            actor.mailbox.shrink();
            actor.rest = Rest::Idle(self.idle.enter(now, key.clone()));
        }
    }

    /// An actor has something to do again.
    pub(super) fn rouse(&mut self, key: &ActorKey) {
        let actor = self.actors.obtain(key);
        if let Rest::Idle(number) = actor.rest {
            actor.rest = Rest::Busy;
            self.idle.leave(number);
        }
    }

    /// Ends the activation that has been idle longest.
    pub(super) fn evict(&mut self, out: &mut Vec<TurnsEffect>) -> Evicted {
        let Some((_, key)) = self.idle.oldest() else {
            return Evicted::Nothing;
        };
        let key = key.clone();
        self.rouse(&key);
        self.drop_activation(&key, out);
        self.actors.remove(&key);
        self.counters.activations_evicted += 1;
        Evicted::One
    }

    /// The actor is to run elsewhere: its activation ends as soon as no turn of it runs.
    fn on_deactivate(
        &mut self,
        now: Instant,
        activation: ActivationId,
        out: &mut Vec<TurnsEffect>,
    ) {
        if activation != self.activation_id(activation.number) {
            return;
        }
        let Some(key) = self.actors.of_activation(activation.number).cloned() else {
            return;
        };
        self.rouse(&key);
        if matches!(self.actors.at(&key).stage, Stage::Running(_)) {
            self.actors.at(&key).leaves = Leaves::AfterTurn;
        } else {
            self.drop_activation(&key, out);
            self.touch(now, &key, out);
        }
    }

    pub(super) fn drop_activation(&mut self, key: &ActorKey, out: &mut Vec<TurnsEffect>) {
        if let Some(number) = self.actors.deactivate(key) {
            let id = self.activation_id(number);
            out.push(TurnsEffect::Runner(RunnerEffect::Drop(id)));
        }
    }

    fn expire(&mut self, now: Instant, out: &mut Vec<TurnsEffect>) {
        while let Some((at, _)) = self.gates.first()
            && *at <= now
        {
            let Some((_, key)) = self.gates.pop_first() else {
                break;
            };
            self.actors.at(&key).mailbox.gate = Gate::Open;
            self.touch(now, &key, out);
        }
        while let Some((since, _)) = self.idle.oldest()
            && since + self.settings.idle <= now
        {
            self.evict(out);
        }
    }

    fn check_invariants(&self) {
        self.log.check();
        self.jobs.check();
        assert!(self.running <= self.actors.activation_count());
        assert!(self.actors.activation_count() <= self.actors.len());
        if cfg!(test) {
            self.check_everything();
        }
    }

    /// Too slow for every input of a busy partition; tests do it after each.
    fn check_everything(&self) {
        let mut running = 0;
        for (key, actor) in self.actors.iter() {
            actor.check(key);
            running += usize::from(matches!(actor.stage, Stage::Running(_)));
            let done = actor.ledger.done;
            let mut held = actor.held.iter();
            assert!(
                held.all(|held| held.after > done || !self.rounds.is_confirmed(held.round)),
                "{key}: an answer is held that may go, and nothing more will let it"
            );
            assert!(
                !actor.is_quiet() || actor.rest != Rest::Busy,
                "{key}: a quiet actor is idle or forgotten"
            );
        }
        assert_eq!(running, self.running);
        let calls = self.jobs.iter().filter(|(_, j)| j.call().is_some());
        let waiting = calls.filter(|(_, job)| matches!(job.place, Place::Lookup | Place::Waiting));
        let counted: usize = self.actors.iter().map(|(_, a)| a.mailbox.waiting()).sum();
        assert_eq!(waiting.count(), counted, "mailboxes count what waits");
    }
}

/// See [`Turns::evict`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Evicted {
    One,
    Nothing,
}
