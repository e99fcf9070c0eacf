//! The node core: all groups of a node, its gateway, membership and placement, composed.
//!
//! `handle` takes one input; `flush` ends a turn of the loop: it gathers what every touched group
//! wants and hands out one batch to sync. Sub-cores never call each other: what one wants from
//! another goes through `local`, a queue that is empty again before `handle` returns.

mod applied;
mod audit;
mod calls;
mod control;
mod copies;
mod ending;
mod expiry;
mod facts;
mod fitness;
mod flush;
mod handover;
mod hints;
mod hosting;
mod inbox;
mod inspect;
mod leading;
mod links;
mod marks;
mod operators;
mod orders;
mod pauses;
mod reads;
mod reconcile;
mod refusal;
mod settings;
mod slot;
mod snapshots;
mod standing;
mod stuck;
mod survival;
#[cfg(test)]
mod tests;
mod topics;
mod truncation;
mod views;
mod waiting;
mod wakeups;
mod wall;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use ghostlight_placement::membership::Membership;
use ghostlight_placement::ring::{Candidate, PreferenceTable, Ring};
use ghostlight_placement::routing::RoutingTable;
use ghostlight_protocol::code::Code;
use ghostlight_protocol::ids::{Generation, NodeId, PartitionId, PeerId, Term};
use ghostlight_protocol::time::{Instant, WallTime};
use ghostlight_protocol::wire::border;
use ghostlight_protocol::wire::frame::Frame;
use ghostlight_protocol::wire::hello::{ClusterDescriptor, Duty, NodeRecord};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use self::ending::Ending;
pub use self::inspect::ReplicaView;
pub use self::settings::{Start, Trust};
use self::slot::Slot;
use crate::backlog::Backlog;
use crate::expiry::ExpiryInput;
use crate::gateway::{Gateway, GatewayInput};
use crate::io::{Effect, Event, HaltReason, Input, Now, StoreInput};
use crate::outbox::OutboxInput;
use crate::replica::AllLogs;
use crate::topics::subscribers::{Subscribers, SubscribersInput};
use crate::topics::{TopicCounters, TopicsInput};
use crate::turns::{NativeTypes, TurnsInput};
use crate::wakeups::SharedFirings;
use crate::wakeups::WakeupsInput;

/// One tick of every group.
pub const TICK: Duration = Duration::from_millis(50);
/// Ticks made up for after a pause; more are dropped.
const TICKS_AT_ONCE_MAX: u64 = 2;
/// Ticks between two control frames to a member.
const CONTROL_TICKS: u64 = 3;

/// All that a node decides.
pub struct NodeCore {
    me: NodeId,
    record: NodeRecord,
    introduced: Introduced,
    cluster: Option<Cluster>,
    links: links::Links,
    membership: Membership,
    tombstones: BTreeMap<PartitionId, PeerId>,
    condemned: BTreeMap<PartitionId, PeerId>,
    removed: BTreeSet<NodeId>,
    /// Removals of replaced nodes that are proposed and not committed yet, and the term they were
    /// in.
    recording: BTreeMap<NodeId, Term>,
    /// When this core began: since then at least, an unknown member is down.
    begun: Instant,
    /// What `table` was computed over.
    candidates: Vec<Candidate>,
    start: Start,
    flush: flush::Outbound,
    transfers: snapshots::Transfers,
    reads: reads::Reads,
    local: VecDeque<Local>,
    rng: ChaCha8Rng,
    next_tick: Instant,
    ticks: u64,
    ending: Ending,
    fitness: fitness::Watch,
    /// Too few copies for writes.
    few: copies::Few,
    orders: orders::Orders,
    pauses: pauses::Pauses,
    hosting: hosting::Hosting,
    audits: audit::Audits,
    marks: marks::Marks,
    wall: wall::Wall,
    /// What the machine's calendar clock said last: compared with the members', and nothing else.
    machine: WallTime,
}

/// What exists once the node knows its cluster.
struct Cluster {
    descriptor: ClusterDescriptor,
    slots: Vec<Option<Slot>>,
    logs: AllLogs,
    /// Reminders and timers under way.
    firings: SharedFirings,
    ring: Ring,
    table: PreferenceTable,
    routes: RoutingTable,
    gateway: Gateway,
    /// Partitions whose turn engine was fed since the last flush.
    touched: BTreeSet<PartitionId>,
    /// Partitions whose group may have something ready.
    dirty: BTreeSet<PartitionId>,
    /// Partitions whose newer leaders the outboxes have not been told of.
    moved: BTreeSet<PartitionId>,
    /// Bodies of the calls that the leaderships here hold, in bytes.
    call_bytes: usize,
    /// Turns of these leaderships that wait for the log.
    backlog: Backlog,
    /// Subscribers of this node.
    subscribers: Subscribers,
    /// Partitions whose topics have something to propose or to deliver.
    topics_touched: BTreeSet<PartitionId>,
    /// When topics are to be looked at again: in order, and by partition.
    topics_due: BTreeSet<(Instant, PartitionId)>,
    topics_due_of: BTreeMap<PartitionId, Instant>,
    topic_counts: TopicCounters,
}

/// From one sub-core to another.
enum Local {
    Gateway(GatewayInput),
    Turns(PartitionId, TurnsInput),
    Outbox(PartitionId, OutboxInput),
    Expiry(PartitionId, ExpiryInput),
    Wakeups(PartitionId, WakeupsInput),
    Topics(PartitionId, TopicsInput),
    Subscribers(SubscribersInput),
}

/// Whether the shell knows what our `Hello` says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Introduced {
    Current,
    Outdated,
}

impl NodeCore {
    /// A node that begins or comes back.
    #[must_use]
    pub fn new(now: Now, start: Start) -> Self {
        let me = start.me();
        let mut rng = ChaCha8Rng::seed_from_u64(start.seed);
        let links = links::Links::new(&start);
        let membership = links::membership(&start, &mut rng);
        let condemned = start
            .condemned
            .iter()
            .map(|(partition, _)| {
                let floor = start
                    .tombstones
                    .get(partition)
                    .copied()
                    .unwrap_or(PeerId(1));
                (*partition, floor)
            })
            .collect();
        let mut core = Self {
            me,
            record: start.record.clone(),
            introduced: Introduced::Outdated,
            cluster: None,
            links,
            membership,
            tombstones: start.tombstones.clone(),
            condemned,
            removed: BTreeSet::new(),
            recording: BTreeMap::new(),
            begun: now.instant,
            candidates: Vec::new(),
            flush: flush::Outbound::default(),
            transfers: snapshots::Transfers::new(me, Generation(start.record.generation)),
            reads: reads::Reads::default(),
            local: VecDeque::new(),
            rng,
            next_tick: now.instant + TICK,
            ticks: 0,
            ending: Ending::No,
            fitness: fitness::Watch::default(),
            few: copies::Few::default(),
            orders: orders::Orders::default(),
            pauses: pauses::Pauses::new(now.instant),
            hosting: hosting::Hosting::new(NativeTypes::new(start.record.actor_types.clone())),
            audits: audit::Audits::default(),
            marks: marks::Marks::new(now.instant, &start),
            wall: wall::Wall::new(now.instant, now.wall),
            machine: now.wall,
            start,
        };
        if let Some(descriptor) = core.start.descriptor.clone() {
            core.enter(now, descriptor);
        }
        core
    }

    /// Feeds one input. Whoever drives the core feeds everything that waits before a due `Tick`: a
    /// node that was frozen must hear before it judges. Wanted effects are pushed to `out`, in the
    /// order in which they must happen.
    pub fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Effect>) {
        if self.ending == Ending::Halted {
            return;
        }
        let lag = self.pauses.woke(now.instant);
        let now = self.read_wall(now);
        self.membership.set_lag_score(lag);
        match input {
            Input::Tick => self.tick_if_due(now, out),
            Input::Frame { from, frame } => self.take_frame(now, from, frame, out),
            Input::Gossip(data) => self.take_gossip(now, data, out),
            Input::Connected {
                peer,
                descriptor,
                kind,
            } => {
                self.connected(now, peer, descriptor, kind, out);
            }
            Input::Dialed { address, node } => self.links.found_at(address, node),
            Input::Disconnected { node, kind } => {
                self.disconnected(now, node, kind);
                self.orders_disconnected(now, node, kind, out);
            }
            Input::Refused(refused) => self.take_refused(&refused, out),
            Input::CallNotSent { to, call } => {
                self.local
                    .push_back(Local::Gateway(GatewayInput::NotSent { to, call }));
            }
            Input::AppendsNotSent { to, partitions } => self.appends_not_sent(to, &partitions),
            Input::DeliveryNotSent { to, unsent } => {
                let partition = unsent.partition;
                let input = TopicsInput::NotSent { to, unsent };
                self.local.push_back(Local::Topics(partition, input));
            }
            Input::Call { ticket, call } => self.client_call(now, ticket, call, out),
            Input::Hangup(ticket) => {
                self.local
                    .push_back(Local::Gateway(GatewayInput::Hangup(ticket)));
            }
            Input::Runner(input) => self.tell_leader(now, input, out),
            Input::App(input) => self.take_app(now, input, out),
            Input::Subscriber(input) => self.local.push_back(Local::Subscribers(input)),
            Input::Admin { ticket, request } => self.admin(now, ticket, request, out),
            Input::Store(input) => self.take_store(now, input, out),
            Input::Shutdown { deadline } => self.begin_shutdown(now, deadline, out),
        }
        self.settle(now, out);
    }

    /// Ends a turn of the loop: one batch to sync, one frame per peer and lane.
    pub fn flush(&mut self, now: Now, out: &mut Vec<Effect>) {
        if self.ending == Ending::Halted {
            return;
        }
        let now = self.read_wall(now);
        self.flush_turns(now, out);
        self.flush_topics(now, out);
        self.flush_groups(now, out);
        self.tell_outboxes();
        self.settle(now, out);
        self.flush_hosting(out);
        self.flush_outbound(out);
        if self.introduced == Introduced::Outdated {
            self.introduced = Introduced::Current;
            out.push(Effect::Introduce {
                record: self.record.clone(),
                descriptor: self.cluster.as_ref().map(|c| c.descriptor.clone()),
                removed: self.removed.iter().copied().collect(),
            });
        }
    }

    /// Both clocks as this node goes by them: the calendar is its own one from here on.
    fn read_wall(&mut self, now: Now) -> Now {
        self.machine = now.wall;
        Now {
            instant: now.instant,
            wall: self.wall.read(now.instant, now.wall),
        }
    }

    /// When to call `handle` with `Tick`, if nothing else arrives first.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        if self.ending == Ending::Halted {
            return None;
        }
        if self.cluster.as_ref().is_some_and(|c| c.has_work()) {
            return Some(Instant::default());
        }
        let gossip = self
            .membership
            .next_deadline()
            .map(|at| self.pauses.real(at));
        let gateway = self
            .cluster
            .as_ref()
            .and_then(|c| c.gateway.next_deadline());
        [Some(self.next_tick), gossip, gateway]
            .into_iter()
            .flatten()
            .min()
    }

    fn take_frame(&mut self, now: Now, from: NodeId, frame: Frame, out: &mut Vec<Effect>) {
        if let Err(error) = border::check(&frame) {
            return Self::say(out, format!("a frame from node {from} is dropped: {error}"));
        }
        if self.note_mark(from, &frame, out) == marks::Speaker::AnotherProcess {
            return;
        }
        match frame {
            Frame::Control(control) => self.take_control(now, from, control, out),
            Frame::Mark(word) => self.take_mark_word(now, from, &word, out),
            Frame::Raft(_) | Frame::SnapshotChunk(_) if !self.marks.is_met(from) => {}
            Frame::Raft(messages) => {
                for message in messages.messages {
                    self.take_raft(now, from, message, out);
                }
            }
            Frame::Call(request) => self.remote_call(now, from, request, out),
            Frame::Answer(answer) => {
                self.local
                    .push_back(Local::Gateway(GatewayInput::Answer { from, answer }));
            }
            Frame::Hangup(hangup) => self.take_hangup(from, hangup, out),
            Frame::OutboxPush(push) => self.take_push(from, push, out),
            Frame::OutboxMark(mark) => self.take_mark(mark),
            Frame::SnapshotChunk(chunk) => self.take_chunk(now, from, chunk, out),
            Frame::SnapshotAck(ack) => self.take_ack(now, ack, out),
            Frame::Record(record) => self.take_record(now, record),
            Frame::AskRoutes(_) => self.tell_routes(from, out),
            Frame::Routes(routes) => self.take_hints(routes.hints),
            Frame::AskReplica(ask) => self.tell_standing(from, ask, out),
            Frame::AskRows(ask) => self.take_ask_rows(now, from, ask, out),
            Frame::RowsDigest(answer) => self.take_digest(now, from, &answer, out),
            Frame::RowsDiffer(word) => self.take_rows_differ(now, from, &word, out),
            Frame::ReplicaStanding(standing) => self.take_standing(now, standing, out),
            Frame::Descriptor(descriptor) => self.adopt(now, descriptor, out),
            Frame::Order(order) => self.take_order(now, from, &order, out),
            Frame::OrderAnswer(answer) => self.order_answered(from, answer, out),
            Frame::Host(host) => self.take_host_frame(now, from, host, out),
            Frame::Topic(topic) => self.take_topic_frame(from, topic, out),
            Frame::AskSurvival(ask) => self.tell_survival(from, &ask, out),
            // Only a node that is not a member yet asks.
            Frame::Survival(_) => {}
            // Beside the groups: `crate::ephemeral` has them, and they do not come here.
            Frame::Interest(_) | Frame::Ephemeral(_) => {}
        }
    }

    fn take_store(&mut self, now: Now, input: StoreInput, out: &mut Vec<Effect>) {
        match input {
            StoreInput::Persisted(ticket) => self.persisted(now, ticket, out),
            StoreInput::Applied(batch) => {
                for applied in batch {
                    self.applied(now, applied, out);
                }
            }
            StoreInput::Rows { ticket, rows, rest } => self.rows_read(ticket, rows, rest, out),
            StoreInput::SnapshotOpened {
                transfer,
                at,
                membership,
            } => {
                self.snapshot_opened(transfer, at, &membership, out);
            }
            StoreInput::Digested {
                transfer,
                digest,
                rest,
            } => {
                self.digested(now, transfer, digest, rest, out);
            }
            StoreInput::SnapshotChunk {
                transfer,
                number,
                rows,
                rest,
            } => {
                self.chunk_read(now, transfer, number, rows, rest, out);
            }
            StoreInput::Staged {
                partition,
                peer,
                transfer,
                number,
                verdict,
            } => {
                self.staged(partition, peer, transfer, number, verdict, out);
            }
            StoreInput::Destroyed(_) => {}
            StoreInput::Room(room) => self.measured(room),
            StoreInput::Installed { partition, row } => self.installed(partition, row),
            StoreInput::InstallRefused { replica, why } => {
                self.install_refused(now, &replica, &why, out);
            }
            StoreInput::Condemned {
                partition,
                floor,
                why,
            } => {
                self.condemn(now, partition, floor, why, out);
            }
        }
    }

    fn tick_if_due(&mut self, now: Now, out: &mut Vec<Effect>) {
        self.drive_membership(now, out);
        let gateway = self
            .cluster
            .as_ref()
            .and_then(|c| c.gateway.next_deadline());
        if gateway.is_some_and(|deadline| deadline <= now.instant) {
            self.local.push_back(Local::Gateway(GatewayInput::Tick));
        }
        if now.instant < self.next_tick {
            return;
        }
        let late = now.instant.since(self.next_tick);
        let missed = u64::try_from(late.as_nanos() / TICK.as_nanos()).unwrap_or(u64::MAX);
        let due = (1 + missed).min(TICKS_AT_ONCE_MAX);
        self.next_tick = now.instant + TICK;
        for _ in 0..due {
            self.ticks += 1;
            self.tick_groups();
        }
        self.tick_fitness(now, out);
        self.tick_truncation(out);
        self.tick_turns();
        self.tick_confirms(now);
        self.tick_expiry(now, out);
        self.tick_wakeups(now);
        self.tick_topics(now);
        self.tick_links(now, out);
        self.tick_hosting(now, out);
        self.tick_control(now);
        self.tick_transfers(now, out);
        self.tick_audits(now, out);
        self.tick_stuck(now, out);
        self.tick_copies(now, out);
        self.tick_handovers(now, out);
        self.tick_standing(now, out);
        self.tick_replaced(now);
        self.tick_reconcile(now, out);
        self.tick_orders(now, out);
        self.tick_ending(now, out);
    }

    /// Takes part in a cluster: from the data directory, as founder, or told by the first member
    /// met.
    fn enter(&mut self, now: Now, descriptor: ClusterDescriptor) {
        let partitions = u16::try_from(descriptor.partitions).unwrap_or(u16::MAX);
        let factor = u8::try_from(descriptor.factor).unwrap_or(u8::MAX);
        let ring = Ring::new(partitions, descriptor.virtual_nodes, factor);
        let table = PreferenceTable::compute(&ring, &[]);
        let generation = Generation(self.record.generation);
        let gateway = Gateway::new(
            self.me,
            generation,
            partitions,
            crate::gateway::GatewaySettings::default(),
            self.start.seed,
        );
        let mut slots: Vec<Option<Slot>> = Vec::new();
        slots.resize_with(usize::from(partitions), || None);
        let mut cluster = Cluster {
            descriptor,
            slots,
            logs: AllLogs::default(),
            firings: SharedFirings::default(),
            ring,
            table,
            routes: RoutingTable::new(partitions),
            gateway,
            touched: BTreeSet::new(),
            dirty: BTreeSet::new(),
            moved: BTreeSet::new(),
            call_bytes: 0,
            backlog: Backlog::default(),
            subscribers: Subscribers::new(self.me, generation, partitions),
            topics_touched: BTreeSet::new(),
            topics_due: BTreeSet::new(),
            topics_due_of: BTreeMap::new(),
            topic_counts: TopicCounters::default(),
        };
        for replica in std::mem::take(&mut self.start.replicas) {
            cluster.dirty.insert(replica.partition);
            cluster.put_slot(Slot::recovered(now.instant, &replica, self.start.group()));
        }
        self.cluster = Some(cluster);
        self.introduced = Introduced::Outdated;
        self.recompute_table(now);
    }

    fn set_duty(&mut self, duty: Duty) {
        if self.record.duty() != duty {
            self.record.set_duty(duty);
            self.record.revision += 1;
            self.introduced = Introduced::Outdated;
            self.links.tell_record(&self.record, &mut self.flush);
        }
    }

    /// Ends the node at once: it must not go on.
    fn stop(&mut self, code: Code, detail: String, out: &mut Vec<Effect>) {
        self.ending = Ending::Halted;
        out.push(Effect::Halt(HaltReason::Refused { code, detail }));
    }

    fn say(out: &mut Vec<Effect>, text: String) {
        out.push(Effect::Event(Event::Said(text)));
    }
}

impl Cluster {
    fn partitions(&self) -> u16 {
        self.ring.partitions()
    }

    /// Whether the end of a turn of the loop has something to do.
    fn has_work(&self) -> bool {
        !self.touched.is_empty()
            || !self.dirty.is_empty()
            || !self.topics_touched.is_empty()
            || self.subscribers.wants_flush()
    }

    /// A replica begins here, in the place of what was there.
    fn put_slot(&mut self, mut slot: Slot) {
        slot.group.count_log_among(&self.logs);
        let place = usize::from(slot.partition().0);
        self.slots[place] = Some(slot);
    }

    fn slot(&self, partition: PartitionId) -> Option<&Slot> {
        self.slots.get(usize::from(partition.0))?.as_ref()
    }

    fn slot_mut(&mut self, partition: PartitionId) -> Option<&mut Slot> {
        self.slots.get_mut(usize::from(partition.0))?.as_mut()
    }

    fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter().flatten()
    }
}
