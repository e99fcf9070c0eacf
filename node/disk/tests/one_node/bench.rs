//! The node: its core, its store in memory, its runner, and a clock that the test moves.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use ghostlight_core::admin::{AdminAnswer, AdminRequest, AdminTicket};
use ghostlight_core::gateway::{CallTicket, ClientCall};
use ghostlight_core::io::{
    Effect, Event, HaltReason, Input, Now, ReadTicket, StoreEffect, StoreInput,
};
use ghostlight_core::node::{NodeCore, Start, TICK, Trust};
use ghostlight_core::sdk::local_runner::LocalRunner;
use ghostlight_core::turns::RowsWanted;
use ghostlight_disk::{Disk, PAGE_BYTES, Snapshots, read_rows};
use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::call::Stamp;
use ghostlight_protocol::ids::{ClusterId, NodeId, PartitionId};
use ghostlight_protocol::marks::MarkWord;
use ghostlight_protocol::outcome::CallOutcome;
use ghostlight_protocol::time::{Instant, WallTime};
use ghostlight_protocol::wire::frame::Frame;
use ghostlight_protocol::wire::hello::{ConnectionKind, NodeRecord, new_descriptor};
use ghostlight_storage::memory::CrashKind;
use ghostlight_storage::{MemoryDisk, MemoryEngine, NodeIdentity, Reader, Store};

pub(crate) const ME: NodeId = NodeId(1);
pub(crate) const PEER: NodeId = NodeId(2);
pub(crate) const PARTITIONS: u16 = 2;

/// Whether the node has a cluster of its own.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    Founds,
    Joins,
}

/// Whether a turn of the loop led to more.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moved {
    Yes,
    No,
}

pub(crate) struct OneNode {
    memory: MemoryDisk,
    pub(crate) core: NodeCore,
    disk: Disk<MemoryEngine>,
    reader: Reader<MemoryEngine>,
    snapshots: Snapshots<MemoryEngine>,
    runner: LocalRunner,
    pub(crate) now: Now,
    inbox: VecDeque<Input>,
    store: Vec<StoreEffect>,
    reads: Vec<(ReadTicket, PartitionId, RowsWanted)>,
    pub(crate) page_bytes: usize,
    pub(crate) sent: Vec<(NodeId, Frame)>,
    pub(crate) closed: Vec<NodeId>,
    pub(crate) condemned: Vec<PartitionId>,
    replies: BTreeMap<u64, CallOutcome>,
    pub(crate) admin: Vec<AdminAnswer>,
    pub(crate) halted: Option<HaltReason>,
    tickets: u64,
}

impl OneNode {
    pub(crate) fn new(origin: Origin) -> Self {
        let memory = MemoryDisk::new(7);
        let (mut store, _) = Store::open(memory.open()).unwrap();
        let mut identity = NodeIdentity::new(ME, "one");
        if origin == Origin::Founds {
            identity.cluster = Some(new_descriptor(ClusterId(9), ME, PARTITIONS, 1));
            store.found(PARTITIONS, &identity).unwrap();
        } else {
            store.save_identity(&identity).unwrap();
        }
        drop(store);
        Self::start(memory, 0)
    }

    fn start(memory: MemoryDisk, at: u64) -> Self {
        let (mut store, recovered) = Store::open(memory.open()).unwrap();
        let mut identity = recovered.identity.clone().unwrap();
        identity.generation += 1;
        store.save_identity(&identity).unwrap();
        let record = NodeRecord {
            actor_types: ["account", "counter", "echo", "log"]
                .map(str::to_owned)
                .to_vec(),
            node: identity.node.clone(),
            generation: identity.generation,
            address: "10.0.0.1:7400".to_owned(),
            weight: 1,
            ..NodeRecord::default()
        };
        let now = Now {
            instant: Instant(1_000_000_000 + at),
            wall: WallTime(1_700_000_000_000),
        };
        let start = Start {
            record,
            descriptor: identity.cluster.clone(),
            partitions: None,
            seeds: Vec::new(),
            addresses: store.addresses().unwrap(),
            replicas: recovered.replicas,
            condemned: Vec::new(),
            tombstones: recovered.tombstones,
            marks: recovered.marks,
            trust: Trust::Whole,
            seed: 5,
            min_copies: 1,
            turns: ghostlight_core::turns::Settings::default(),
            log: ghostlight_core::replica::LogBounds::default(),
        };
        let reader = store.reader();
        Self {
            memory,
            core: NodeCore::new(now, start),
            disk: Disk::new(store, identity),
            snapshots: Snapshots::new(reader.clone()),
            reader,
            runner: LocalRunner::new(ghostlight_core::samples::registry()),
            now,
            inbox: VecDeque::new(),
            store: Vec::new(),
            reads: Vec::new(),
            page_bytes: PAGE_BYTES,
            sent: Vec::new(),
            closed: Vec::new(),
            condemned: Vec::new(),
            replies: BTreeMap::new(),
            admin: Vec::new(),
            halted: None,
            tickets: 0,
        }
    }

    /// The process dies and comes back on the same disk.
    pub(crate) fn restart(self) -> Self {
        let memory = self.memory.clone();
        let (at, page_bytes) = (self.now.instant.0, self.page_bytes);
        drop(self);
        memory.crash(CrashKind::Process);
        let mut node = Self::start(memory, at);
        node.page_bytes = page_bytes;
        node
    }

    /// Connections of both kinds to a peer.
    pub(crate) fn connect(&mut self, peer: NodeId) {
        for kind in [ConnectionKind::Control, ConnectionKind::Bulk] {
            let record = NodeRecord {
                node: peer.to_bytes().to_vec(),
                generation: 1,
                name: format!("peer-{}", peer.0),
                address: format!("10.0.0.{}:7400", peer.0),
                weight: 0,
                ..NodeRecord::default()
            };
            self.feed(Input::Connected {
                peer: record,
                descriptor: None,
                kind,
            });
        }
        // The first word of every node: this one remembers nothing.
        self.frame(peer, Frame::Mark(MarkWord::default()));
    }

    pub(crate) fn disconnect(&mut self, peer: NodeId) {
        for kind in [ConnectionKind::Control, ConnectionKind::Bulk] {
            self.feed(Input::Disconnected { node: peer, kind });
        }
    }

    pub(crate) fn frame(&mut self, from: NodeId, frame: Frame) {
        self.feed(Input::Frame { from, frame });
    }

    pub(crate) fn feed(&mut self, input: Input) {
        self.inbox.push_back(input);
        self.run();
    }

    /// Feeds what waits, without the store.
    pub(crate) fn feed_only(&mut self, input: Input) {
        self.inbox.push_back(input);
        self.handle_all();
    }

    /// Turns of the loop until nothing moves any more.
    pub(crate) fn run(&mut self) {
        while self.step() == Moved::Yes {}
    }

    /// One turn of the loop, and what it gives the store to do.
    pub(crate) fn step(&mut self) -> Moved {
        self.handle_all();
        let mut out = Vec::new();
        self.core.flush(self.now, &mut out);
        self.perform(out);
        if self.work_store() || !self.inbox.is_empty() {
            Moved::Yes
        } else {
            Moved::No
        }
    }

    /// Accepted messages of a partition that its store holds.
    pub(crate) fn inbox_rows(&self, partition: u16) -> u64 {
        let row = self.reader.partition_row(PartitionId(partition)).unwrap();
        row.map_or(0, |row| row.inbox_rows)
    }

    fn handle_all(&mut self) {
        while let Some(input) = self.inbox.pop_front() {
            let mut out = Vec::new();
            self.core.handle(self.now, input, &mut out);
            self.perform(out);
        }
    }

    fn work_store(&mut self) -> bool {
        let worked = !self.store.is_empty() || !self.reads.is_empty();
        let mut inputs = Vec::new();
        let effects = std::mem::take(&mut self.store);
        self.disk.perform(effects, &mut inputs).unwrap();
        for (ticket, partition, rows) in std::mem::take(&mut self.reads) {
            let (rows, rest) = read_rows(&self.reader, partition, &rows, self.page_bytes).unwrap();
            inputs.push(StoreInput::Rows { ticket, rows, rest });
        }
        self.inbox.extend(inputs.into_iter().map(Input::Store));
        worked
    }

    fn perform(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Send { to, frame, .. } => self.sent.push((to, frame)),
                Effect::Close(node) => self.closed.push(node),
                Effect::Store(effect) => self.store.push(effect),
                Effect::Read {
                    ticket,
                    partition,
                    rows,
                } => self.reads.push((ticket, partition, rows)),
                Effect::Snapshot(effect) => {
                    let read = self.snapshots.perform(effect).unwrap();
                    self.inbox.extend(read.map(Input::Store));
                }
                Effect::App(effect) => panic!("no application here: {effect:?}"),
                Effect::Runner(effect) => {
                    let mut inputs = Vec::new();
                    self.runner.perform(self.now.instant, effect, &mut inputs);
                    self.inbox.extend(inputs.into_iter().map(Input::Runner));
                }
                Effect::Reply { ticket, outcome } => {
                    self.replies.insert(ticket.0, outcome);
                }
                Effect::AdminReply { answer, .. } => self.admin.push(answer),
                Effect::Subscriber(id, told) => panic!("nobody subscribes: {id:?}, {told:?}"),
                Effect::Halt(reason) => self.halted = Some(reason),
                Effect::Event(Event::Condemned { partition, .. }) => {
                    self.condemned.push(partition);
                }
                Effect::Gossip { .. }
                | Effect::Reconnect { .. }
                | Effect::Dial { .. }
                | Effect::Introduce { .. }
                | Effect::Overrun { .. }
                | Effect::Event(_) => {}
            }
        }
    }

    /// Lets time pass, tick by tick.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.now.instant + time;
        while self.now.instant < end {
            self.now.instant = self.now.instant + TICK;
            self.now.wall.0 += TICK.as_millis() as u64;
            self.feed(Input::Tick);
        }
    }

    /// Calls an actor and gives it time to answer.
    pub(crate) fn call(
        &mut self,
        actor: (&str, &str),
        method: &str,
        body: &str,
    ) -> Option<CallOutcome> {
        self.tickets += 1;
        let ticket = self.tickets;
        let call = ClientCall {
            metadata: Vec::new(),
            actor: ActorKey::new("default", actor.0, actor.1).unwrap(),
            method: method.to_owned(),
            body: Bytes::copy_from_slice(body.as_bytes()),
            request_id: None,
            deadline: None,
            stamp: Stamp::default(),
        };
        let ticket_id = CallTicket(ticket);
        self.feed(Input::Call {
            ticket: ticket_id,
            call,
        });
        for _ in 0..200 {
            if let Some(outcome) = self.replies.remove(&ticket) {
                return Some(outcome);
            }
            self.pass(TICK);
        }
        None
    }

    pub(crate) fn order(&mut self, request: AdminRequest) {
        self.tickets += 1;
        let ticket = AdminTicket(self.tickets);
        self.feed_only(Input::Admin { ticket, request });
    }
}
