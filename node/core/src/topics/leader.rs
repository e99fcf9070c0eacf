//! The topics of one partition during one leadership: takes inputs in, hands them to the part they
//! concern, and proposes.
//!
//! It lives exactly as long as the leadership. A publish is answered when its entry is applied,
//! never before; what repeats it finds its record in apply.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::call::{AnswerKind, LeaderHint, MayHaveRun, Redirect};
use ghostlight_protocol::command::Kind;
use ghostlight_protocol::ids::{NodeId, PartitionId, Term};
use ghostlight_protocol::limits::ENTRY_BYTES_MAX;
use ghostlight_protocol::partition_row::Kept;
use ghostlight_protocol::replica::{Appended, GroupChanged, TopicOutcome, TopicRefusal};
use ghostlight_protocol::time::{Age, Instant, WallTime};
use ghostlight_protocol::topic::{TopicAct, TopicOps, TopicPartition, TopicRow};
use ghostlight_protocol::wire::topic::{Attached, SpeakUp, TopicFrame, TopicSaid};
use prost::Message;

use super::ask::Ask;
use super::group::{Along, Changed, Confirms, Group, MayPropose, Room, Sent, SubscriberId, Word};
use super::leases::Leases;
use super::load::{GroupId, Loading, refusal_of};
use super::proposals::{InLog, Proposals, Wanted, Who};
use super::sweep::Sweep;
use super::{TopicsEffect, TopicsInput};
use crate::turns::{Load, ReadId, RowsWanted, Writes};

/// Bytes of an entry, with room for what wraps its operations; a single operation is smaller in any
/// case.
const ENTRY_BYTES: usize = ENTRY_BYTES_MAX - (256 << 10);
/// How long subscribers of the leadership before may take to say what they hold.
const QUIET: Duration = Duration::from_millis(400);

/// Bounds of the topics of one partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// Records of requests, in bytes.
    pub dedup_bytes_max: u64,
    /// Messages in the outbox: beyond it no event is forwarded to an actor.
    pub messages_max: Kept,
}

/// What a leadership begins with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicsOpening {
    /// This node.
    pub me: NodeId,
    /// The partition.
    pub partition: PartitionId,
    /// How many the cluster has.
    pub partitions: u16,
    /// The leadership.
    pub term: Term,
    /// Whether writes are taken.
    pub writes: Writes,
    /// Bounds.
    pub bounds: Bounds,
}

/// What happened so far in this leadership.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct TopicCounters {
    /// Publishes appended.
    pub published: u64,
    /// Publishes that found their record.
    pub repeated: u64,
    /// Requests refused because something was full.
    pub refused: u64,
    /// Events delivered to subscribers.
    pub delivered: u64,
    /// Those of them that were not the first delivery of their event.
    pub redelivered: u64,
    /// Events that became dead letters, as proposed.
    pub dead: u64,
    /// Events that became messages to actors, as proposed.
    pub forwarded: u64,
}

impl TopicCounters {
    /// What has happened between two looks at one leadership, added to a sum.
    pub(crate) fn add(&mut self, before: Self, after: Self) {
        for (sum, before, after) in [
            (&mut self.published, before.published, after.published),
            (&mut self.repeated, before.repeated, after.repeated),
            (&mut self.refused, before.refused, after.refused),
            (&mut self.delivered, before.delivered, after.delivered),
            (&mut self.redelivered, before.redelivered, after.redelivered),
            (&mut self.dead, before.dead, after.dead),
            (&mut self.forwarded, before.forwarded, after.forwarded),
        ] {
            *sum += after.saturating_sub(before);
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Topics {
    me: NodeId,
    pub(super) partition: PartitionId,
    pub(super) partitions: u16,
    pub(super) term: Term,
    pub(super) writes: Writes,
    pub(super) bounds: Bounds,
    pub(super) dedup_bytes: u64,
    pub(super) outbox: Room,
    pub(super) held: Held,
    pub(super) wall: Option<WallTime>,
    pub(super) age: Age,
    pub(super) proposals: Proposals,
    next_entry: NextEntry,
    pub(super) groups: BTreeMap<GroupId, Live>,
    /// Groups with work since the last flush.
    pub(super) touched: BTreeSet<GroupId>,
    pub(super) due: BTreeSet<(Instant, GroupId)>,
    pub(super) leases: Leases,
    pub(super) reads: BTreeMap<ReadId, ReadFor>,
    pub(super) next_read: u64,
    pub(super) asks: VecDeque<Ask>,
    pub(super) sweep: Sweep,
    pub(super) counters: TopicCounters,
}

/// Whether entries may be proposed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Held {
    No,
    /// Leadership is about to be handed over.
    Yes,
}

/// What the next entry begins with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum NextEntry {
    /// What operators and publishers want; verdicts fill it.
    Publishes,
    /// Verdicts that had no room in the entry before.
    Verdicts,
}

/// A group that somebody subscribes to.
#[derive(Debug)]
pub(super) enum Live {
    /// Its rows are read, or it is made.
    Loading(Box<Loading>),
    /// It serves.
    Ready(Box<Serving>),
}

#[derive(Debug)]
pub(super) struct Serving {
    pub(super) group: Group,
    pub(super) topic: TopicRow,
    /// The read of its log that is under way; pages of other ones are for a cursor that is no
    /// longer.
    pub(super) reading: Option<ReadId>,
    /// What `due` holds for it.
    deadline: Option<Instant>,
}

/// Whom a read is for.
#[derive(Debug)]
pub(super) enum ReadFor {
    /// A group that loads.
    Load(GroupId),
    /// Events for a group.
    Events(GroupId),
    /// An operator's question.
    Ask(Box<Ask>),
    /// The sweep.
    Sweep,
}

impl Topics {
    /// Opens a leadership whose first entry has been applied.
    #[must_use]
    pub fn open(now: Instant, opening: TopicsOpening) -> Self {
        Self {
            me: opening.me,
            partition: opening.partition,
            partitions: opening.partitions,
            term: opening.term,
            writes: opening.writes,
            bounds: opening.bounds,
            dedup_bytes: 0,
            outbox: Room::Some,
            held: Held::No,
            wall: None,
            age: Age(0),
            proposals: Proposals::default(),
            next_entry: NextEntry::Publishes,
            groups: BTreeMap::new(),
            touched: BTreeSet::new(),
            due: BTreeSet::new(),
            leases: Leases::default(),
            reads: BTreeMap::new(),
            next_read: 0,
            asks: VecDeque::new(),
            sweep: Sweep::new(now, opening.partition),
            counters: TopicCounters::default(),
        }
    }

    /// What it cannot see itself: the calendar, if it can be believed, the log's age, what the
    /// partition holds. To be told before each input.
    pub fn note(&mut self, wall: Option<WallTime>, age: Age, load: Load) {
        self.wall = wall;
        self.age = age;
        self.dedup_bytes = load.dedup_bytes;
        self.outbox = match load.outbox.is_full(self.bounds.messages_max) {
            true => Room::None,
            false => Room::Some,
        };
        self.sweep.note(load.topics);
    }

    /// Feeds one input.
    pub fn handle(&mut self, now: Instant, input: TopicsInput, out: &mut Vec<TopicsEffect>) {
        match input {
            TopicsInput::Call { from, request } => self.on_call(from, request, out),
            TopicsInput::Frame { from, frame } => self.on_frame(now, from, frame, out),
            TopicsInput::NotSent { to, unsent } => self.not_sent(now, to, &unsent),
            TopicsInput::NodeSilent(node) => self.on_word(now, node, Word::Silence),
            TopicsInput::NodeHeard(node, run) => self.on_word(now, node, Word::Speech(run)),
            TopicsInput::Rows { read, rows, rest } => self.on_rows(now, read, rows, rest, out),
            TopicsInput::Applied(outcomes) => self.on_applied(now, outcomes, out),
            TopicsInput::Appended(appended) => self.on_appended(&appended),
            TopicsInput::Dropped => self.on_dropped(now, out),
            TopicsInput::Pause => {
                self.held = Held::Yes;
                self.reschedule_all();
            }
            TopicsInput::Resume => {
                self.held = Held::No;
                self.reschedule_all();
            }
            TopicsInput::Writes(writes) => {
                self.writes = writes;
                self.reschedule_all();
            }
            TopicsInput::Tick => self.on_tick(now, out),
        }
    }

    /// Proposes what waits, and delivers what may be delivered.
    pub fn flush(&mut self, now: Instant, out: &mut Vec<TopicsEffect>) {
        for id in std::mem::take(&mut self.touched) {
            self.drive(now, &id, out);
        }
        self.propose(now, out);
    }

    /// When to call `handle` with `Tick`, if nothing else happens first.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let groups = self.due.first().map(|(at, _)| *at);
        let (leases, sweep) = (self.leases.next_deadline(), self.sweep.next_deadline());
        [groups, leases, sweep].into_iter().flatten().min()
    }

    /// Bytes of the requests that it holds.
    #[must_use]
    pub fn call_bytes(&self) -> usize {
        self.proposals.bytes()
    }

    /// Whether nothing of it is in the log without an outcome.
    #[must_use]
    pub fn settled(&self) -> bool {
        self.proposals.settled()
    }

    /// Whether it has something to propose that it may propose.
    #[must_use]
    pub fn wants_flush(&self) -> bool {
        let may = self.may_propose() == MayPropose::Yes;
        !self.touched.is_empty() || (may && self.proposals.is_waiting())
    }

    fn may_propose(&self) -> MayPropose {
        match (self.held, self.writes) {
            (Held::No, Writes::Taken) => MayPropose::Yes,
            (Held::No | Held::Yes, _) => MayPropose::No,
        }
    }

    /// Whether entries may be proposed has changed: verdicts that wait become due, or cease to be.
    fn reschedule_all(&mut self) {
        let ids: Vec<GroupId> = self.groups.keys().cloned().collect();
        for id in ids {
            self.reschedule(&id);
        }
    }

    /// Whether any subscriber of a node is attached.
    #[must_use]
    pub fn knows_node(&self, node: NodeId) -> bool {
        self.groups.values().any(|live| match live {
            Live::Ready(serving) => serving.group.subscribers().any(|id| id.node == node),
            Live::Loading(_) => false,
        })
    }

    /// What happened so far.
    #[must_use]
    pub fn counters(&self) -> TopicCounters {
        self.counters
    }

    /// The leadership is over: every caller hears what may have happened.
    pub fn close(self, hint: Option<LeaderHint>, out: &mut Vec<TopicsEffect>) {
        let mut tell = |to, may: MayHaveRun| {
            let redirect = Redirect {
                hint: hint.clone(),
                may_have_run: may as i32,
            };
            let kind = AnswerKind::Redirect(redirect);
            out.push(TopicsEffect::Answer { to, kind });
        };
        for (caller, in_log) in self.proposals.close() {
            tell(
                caller,
                match in_log {
                    InLog::Yes => MayHaveRun::Yes,
                    InLog::No => MayHaveRun::No,
                },
            );
        }
        let reading = self.reads.into_values().filter_map(|read| match read {
            ReadFor::Ask(ask) => Some(*ask),
            ReadFor::Load(_) | ReadFor::Events(_) | ReadFor::Sweep => None,
        });
        for ask in self.asks.into_iter().chain(reading) {
            tell(ask.from, MayHaveRun::No);
        }
    }

    pub(super) fn read(
        &mut self,
        what: ReadFor,
        rows: RowsWanted,
        out: &mut Vec<TopicsEffect>,
    ) -> ReadId {
        self.next_read += 1;
        let read = ReadId(self.next_read);
        self.reads.insert(read, what);
        out.push(TopicsEffect::Read { read, rows });
        read
    }

    fn propose(&mut self, now: Instant, out: &mut Vec<TopicsEffect>) {
        if self.may_propose() == MayPropose::No {
            return;
        }
        let along = if self.proposals.publishes_wait() {
            Along::WithAppend
        } else {
            Along::No
        };
        let mut waiting = match self.next_entry {
            NextEntry::Publishes => self.proposals.gather(),
            NextEntry::Verdicts => Vec::new(),
        };
        self.add_verdicts(now, along, &mut waiting);
        if waiting.is_empty() {
            return;
        }
        let ops = self.proposals.propose(waiting);
        let kind = Kind::Topics(TopicOps { ops });
        out.push(TopicsEffect::Propose(kind));
    }

    /// Adds verdicts that are due, or all that wait if an append is written in any case, as many as
    /// the entry has room for. What has none is due still, and stands before publishes in the next
    /// entry.
    fn add_verdicts(&mut self, now: Instant, along: Along, waiting: &mut Vec<Wanted>) {
        let ids: Vec<GroupId> = match along {
            Along::WithAppend => self.due.iter().map(|(_, id)| id.clone()).collect(),
            Along::No => {
                let due = self.due.iter().take_while(|(at, _)| *at <= now);
                due.map(|(_, id)| id.clone()).collect()
            }
        };
        let mut bytes: usize = waiting.iter().map(|wanted| wanted.bytes).sum();
        self.next_entry = NextEntry::Publishes;
        for id in ids {
            let Some(Live::Ready(serving)) = self.groups.get_mut(&id) else {
                continue;
            };
            if bytes > 0 && bytes + serving.group.proposal_bytes() > ENTRY_BYTES {
                self.next_entry = NextEntry::Verdicts;
                self.touched.insert(id);
                continue;
            }
            let Some(settle) = serving.group.propose(now, along) else {
                continue;
            };
            self.counters.dead += settle.dead.len() as u64;
            self.counters.forwarded += settle.forwards.len() as u64;
            let act = TopicAct::Settle(settle);
            let wanted = Wanted {
                who: Who::Verdicts(id.clone()),
                topic: id.topic.clone(),
                request: None,
                bytes: super::proposals::act_bytes(&id.topic, &act),
                act: Some(act),
            };
            bytes += wanted.bytes;
            waiting.push(wanted);
            self.reschedule(&id);
        }
    }

    /// Delivers what may be delivered to a group, reads what it lacks, forgets it when nobody needs
    /// it.
    fn drive(&mut self, now: Instant, id: &GroupId, out: &mut Vec<TopicsEffect>) {
        let wall = self.wall;
        let Some(Live::Ready(serving)) = self.groups.get_mut(id) else {
            return;
        };
        let known = serving.group.take_known();
        let before = serving.group.counters();
        let sent = serving.group.drive(now, wall, self.outbox);
        let after = serving.group.counters();
        self.counters.delivered += after.delivered - before.delivered;
        self.counters.redelivered += after.redelivered - before.redelivered;
        serving.group.check();
        let silent = serving.group.those_to_speak_up(now);
        let idle = serving.group.is_idle();
        self.confirm(id, known, out);
        self.deliver(id, sent, out);
        for to in silent {
            self.say(id, to, TopicSaid::SpeakUp(SpeakUp {}), out);
        }
        self.feed(id, out);
        if idle {
            self.forget(id);
        } else {
            self.reschedule(id);
        }
    }

    pub(super) fn forget(&mut self, id: &GroupId) {
        if let Some(Live::Ready(serving)) = self.groups.remove(id)
            && let Some(at) = serving.deadline
        {
            self.due.remove(&(at, id.clone()));
        }
    }

    fn reschedule(&mut self, id: &GroupId) {
        let may = self.may_propose();
        let Some(Live::Ready(serving)) = self.groups.get_mut(id) else {
            return;
        };
        let deadline = serving.group.next_deadline(may);
        if deadline == serving.deadline {
            return;
        }
        if let Some(at) = serving.deadline {
            self.due.remove(&(at, id.clone()));
        }
        serving.deadline = deadline;
        if let Some(at) = deadline {
            self.due.insert((at, id.clone()));
        }
    }

    fn on_tick(&mut self, now: Instant, out: &mut Vec<TopicsEffect>) {
        let due = self.due.iter().take_while(|(at, _)| *at <= now);
        let due: Vec<GroupId> = due.map(|(_, id)| id.clone()).collect();
        self.touched.extend(due);
        self.tick_leases(now);
        self.tick_sweep(now, out);
    }

    fn on_word(&mut self, now: Instant, node: NodeId, word: Word) {
        for (id, live) in &mut self.groups {
            if let Live::Ready(serving) = live
                && serving.group.subscribers().any(|id| id.node == node)
            {
                serving.group.heard(now, node, word);
                self.touched.insert(id.clone());
            }
        }
    }

    pub(super) fn on_appended(&mut self, appended: &[Appended]) {
        for appended in appended {
            self.note_appended(appended);
            let Appended { topic, batch, row } = appended;
            self.sweep.appended(topic, row);
            let bytes = batch.encoded_len();
            let batch = Arc::new(batch.clone());
            let first = GroupId::first_of(topic);
            for (id, live) in self.groups.range_mut(first..) {
                if id.topic != *topic {
                    break;
                }
                if let Live::Ready(serving) = live {
                    serving.topic = row.clone();
                    serving.group.appended(&batch, bytes);
                    self.touched.insert(id.clone());
                }
            }
        }
    }

    /// The front of a log has gone.
    pub(super) fn trimmed(&mut self, topic: &ActorKey, row: &TopicRow) {
        let groups = self.groups.range_mut(GroupId::first_of(topic)..);
        for (_, live) in groups.take_while(|(id, _)| id.topic == *topic) {
            match live {
                Live::Ready(serving) => {
                    serving.topic = row.clone();
                    serving.group.trimmed(row.first);
                }
                Live::Loading(loading) => loading.noted(row),
            }
        }
    }

    fn on_applied(
        &mut self,
        now: Instant,
        outcomes: Vec<TopicOutcome>,
        out: &mut Vec<TopicsEffect>,
    ) {
        let entry = self.proposals.applied();
        let entry_number = entry.number;
        assert_eq!(entry.waiting.len(), outcomes.len(), "one outcome for each");
        for (wanted, outcome) in entry.waiting.into_iter().zip(outcomes) {
            match &outcome {
                TopicOutcome::Appended { appended, .. } => {
                    self.on_appended(appended.as_slice());
                }
                TopicOutcome::Group(changed) | TopicOutcome::Settled(changed) => {
                    self.on_appended(&changed.appended);
                }
                TopicOutcome::Trimmed(row) => self.trimmed(&wanted.topic, row),
                TopicOutcome::Skipped(_) | TopicOutcome::Refused(_) => {}
            }
            self.outcome(now, wanted, outcome, out);
        }
        // Everything before them is applied: what is read now is at least as new as when they were
        // asked.
        for ask in self.asks_before(entry_number) {
            self.begin_ask(ask, out);
        }
    }

    fn outcome(
        &mut self,
        now: Instant,
        wanted: Wanted,
        outcome: TopicOutcome,
        out: &mut Vec<TopicsEffect>,
    ) {
        match wanted.who {
            Who::Publishers(callers) => self.published(&wanted.topic, callers, outcome, out),
            Who::Asker(caller) => {
                self.tell_group(&wanted.topic, &outcome, out);
                self.answer_change(&wanted.topic, caller, outcome, out);
            }
            Who::Verdicts(id) => {
                if let TopicOutcome::Refused(refusal @ TopicRefusal::UnknownGroup) = outcome {
                    return self.gone(&id, refusal, out);
                }
                let changed = match &outcome {
                    TopicOutcome::Settled(changed) => Some(changed),
                    TopicOutcome::Appended { .. }
                    | TopicOutcome::Group(_)
                    | TopicOutcome::Trimmed(_)
                    | TopicOutcome::Skipped(_)
                    | TopicOutcome::Refused(_) => None,
                };
                let Some(Live::Ready(serving)) = self.groups.get_mut(&id) else {
                    return;
                };
                if let Some(changed) = changed {
                    serving.topic = changed.topic.clone();
                }
                let confirms = serving.group.settled(now, changed);
                self.confirm(&id, confirms, out);
                self.touched.insert(id);
            }
            Who::Load(id) => self.made(now, id, outcome, out),
            Who::Sweep => {
                self.tell_group(&wanted.topic, &outcome, out);
                self.swept(out);
            }
            Who::Barrier => self.tell_group(&wanted.topic, &outcome, out),
        }
    }

    /// A group that others have deleted: its verdicts are recorded nowhere, and none is confirmed.
    fn gone(&mut self, id: &GroupId, refusal: TopicRefusal, out: &mut Vec<TopicsEffect>) {
        let Some(Live::Ready(serving)) = self.groups.get(id) else {
            return;
        };
        let subscribers: Vec<SubscriberId> = serving.group.subscribers().collect();
        self.forget(id);
        let refusal = refusal_of(&id.topic, refusal);
        for subscriber in subscribers {
            self.refuse_attach(id, subscriber, &refusal, out);
        }
    }

    fn tell_group(
        &mut self,
        topic: &ActorKey,
        outcome: &TopicOutcome,
        out: &mut Vec<TopicsEffect>,
    ) {
        if let TopicOutcome::Group(changed) = outcome {
            self.group_changed(topic, changed, out);
        }
    }

    /// An operator or the sweep has changed a group that may have subscribers here.
    pub(super) fn group_changed(
        &mut self,
        topic: &ActorKey,
        changed: &GroupChanged,
        out: &mut Vec<TopicsEffect>,
    ) {
        let id = GroupId::new(topic, &changed.group);
        let serving = match self.groups.get_mut(&id) {
            Some(Live::Ready(serving)) => serving,
            Some(Live::Loading(loading)) => return loading.changed(changed),
            None => return,
        };
        let Some(row) = &changed.row else {
            // Who subscribes attaches again at once, and makes it anew.
            let subscribers: Vec<SubscriberId> = serving.group.subscribers().collect();
            self.forget(&id);
            for subscriber in subscribers {
                self.not_attached(&id, subscriber, out);
            }
            return;
        };
        serving.topic = changed.topic.clone();
        let what = serving.group.changed(row.clone(), &changed.topic);
        let subscribers: Vec<SubscriberId> = serving.group.subscribers().collect();
        if what == Changed::Epoch {
            serving.reading = None;
            for subscriber in subscribers {
                self.say_attached(&id, subscriber, row.epoch, out);
            }
        }
        self.touched.insert(id);
    }

    fn on_dropped(&mut self, now: Instant, out: &mut Vec<TopicsEffect>) {
        let Some(entry) = self.proposals.dropped() else {
            return;
        };
        let entry_number = entry.number;
        for wanted in entry.waiting {
            match wanted.who {
                Who::Verdicts(id) => {
                    if let Some(Live::Ready(serving)) = self.groups.get_mut(&id) {
                        serving.group.settle_dropped(now);
                    }
                    self.reschedule(&id);
                }
                // Its subscribers attach again.
                Who::Load(id) => {
                    if let Some(Live::Loading(_)) = self.groups.get(&id) {
                        self.groups.remove(&id);
                    }
                }
                Who::Sweep => self.sweep.refused(now),
                who @ (Who::Publishers(_) | Who::Asker(_) | Who::Barrier) => {
                    for to in who.callers() {
                        let redirect = Redirect {
                            hint: None,
                            may_have_run: MayHaveRun::No as i32,
                        };
                        let kind = AnswerKind::Redirect(redirect);
                        out.push(TopicsEffect::Answer { to, kind });
                    }
                }
            }
        }
        for ask in self.asks_before(entry_number) {
            let redirect = Redirect {
                hint: None,
                may_have_run: MayHaveRun::No as i32,
            };
            let (to, kind) = (ask.from, AnswerKind::Redirect(redirect));
            out.push(TopicsEffect::Answer { to, kind });
        }
    }

    fn confirm(&self, id: &GroupId, confirms: Confirms, out: &mut Vec<TopicsEffect>) {
        for (to, confirm) in confirms {
            self.say(id, to, TopicSaid::Confirm(confirm), out);
        }
    }

    fn deliver(&self, id: &GroupId, sent: Vec<Sent>, out: &mut Vec<TopicsEffect>) {
        for Sent { to, deliver } in sent {
            self.say(id, to, TopicSaid::Deliver(deliver), out);
        }
    }

    pub(super) fn say_attached(
        &self,
        id: &GroupId,
        to: SubscriberId,
        epoch: u64,
        out: &mut Vec<TopicsEffect>,
    ) {
        self.say(id, to, TopicSaid::Attached(Attached { epoch }), out);
    }

    pub(super) fn say(
        &self,
        id: &GroupId,
        to: SubscriberId,
        said: TopicSaid,
        out: &mut Vec<TopicsEffect>,
    ) {
        let frame = TopicFrame {
            partition: u32::from(self.partition.0),
            topic: id.topic.to_bytes(),
            subscriber: to.number,
            term: self.term.0,
            said: Some(said),
        };
        let to = to.node;
        out.push(TopicsEffect::Send { to, frame });
    }

    /// A group serves from now on.
    pub(super) fn serve(&mut self, now: Instant, id: &GroupId, changed: &GroupChanged) {
        let Some(row) = changed.row.clone() else {
            return;
        };
        let mut group = Group::new(now, row, &changed.topic, QUIET);
        let home = TopicPartition::of_key(&id.topic).map(|topic| super::group::Home {
            node: self.me,
            topic,
            partitions: self.partitions,
        });
        if let Some(home) = home {
            group.set_home(home, &id.group);
        }
        let serving = Serving {
            group,
            topic: changed.topic.clone(),
            reading: None,
            deadline: None,
        };
        self.groups
            .insert(id.clone(), Live::Ready(Box::new(serving)));
        self.touched.insert(id.clone());
    }
}
