//! Node cores, the frames between them, and disks that may be held back.

pub(in crate::node) mod by_hand;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use ghostlight_protocol::ids::{ClusterId, LogPosition, NodeId, PartitionId, PeerId, Term};
use ghostlight_protocol::outcome::CallOutcome;
use ghostlight_protocol::partition_row::{Membership, PartitionRow, Peer};
use ghostlight_protocol::replica::log::RecoveredReplica;
use ghostlight_protocol::replica::rows::digest_row;
use ghostlight_protocol::replica::{ApplyItem, EntryOutcome, HardState, apply_command};
use ghostlight_protocol::time::{Instant, WallTime};
use ghostlight_protocol::wire::frame::Frame;
use ghostlight_protocol::wire::hello::{
    ClusterDescriptor, ConnectionKind, NodeRecord, new_descriptor,
};

use crate::admin::AdminAnswer;
use crate::gateway::CallTicket;
use crate::io::{
    Applied, Effect, Event, HaltReason, Input, Lane, Now, Rest, SnapshotEffect, StageVerdict,
    StoreEffect, StoreInput, TransferId,
};
use crate::map_rows::MapRows;
use crate::node::{NodeCore, Start};
use crate::sdk::local_runner::LocalRunner;
use crate::topics::subscribers::{SubscriptionId, Told};
use crate::turn_io::RunnerEffect;
use crate::turns::RowsWanted;

/// Turns of all loops in one go; more would be a loop.
const TURNS_MAX: usize = 100_000;
/// When every bench begins.
const BEGIN: Now = Now {
    instant: Instant(1_000_000_000),
    wall: WallTime(1_700_000_000_000),
};
/// Both kinds of connections.
const KINDS: [ConnectionKind; 2] = [ConnectionKind::Control, ConnectionKind::Bulk];

pub(in crate::node) fn node_id(number: u64) -> NodeId {
    NodeId(u128::from(number))
}

/// Whether something is done when it is wanted, or when the test says so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::node) enum Speed {
    AtOnce,
    Held,
}

/// A frame that a node wanted to send.
#[derive(Clone, Debug)]
pub(in crate::node) struct Sent {
    pub(in crate::node) from: NodeId,
    pub(in crate::node) to: NodeId,
    pub(in crate::node) lane: Lane,
    pub(in crate::node) frame: Frame,
}

pub(in crate::node) struct Member {
    pub(in crate::node) id: NodeId,
    pub(in crate::node) core: NodeCore,
    inbox: VecDeque<Input>,
    rows: BTreeMap<PartitionId, (PartitionRow, MapRows)>,
    runner: LocalRunner,
    pub(in crate::node) sync: Speed,
    pub(in crate::node) apply: Speed,
    pub(in crate::node) stage: Speed,
    pub(in crate::node) turns: Speed,
    /// Snapshots that are digested. Held: nobody opens any.
    pub(in crate::node) views: Speed,
    viewed: BTreeMap<TransferId, PartitionId>,
    pub(in crate::node) held: VecDeque<StoreEffect>,
    pub(in crate::node) runs: Vec<RunnerEffect>,
    pub(in crate::node) events: Vec<Event>,
    pub(in crate::node) replies: Vec<(CallTicket, CallOutcome)>,
    pub(in crate::node) admin: Vec<AdminAnswer>,
    pub(in crate::node) told: Vec<(SubscriptionId, Told)>,
}

pub(in crate::node) struct Bench {
    pub(in crate::node) now: Now,
    pub(in crate::node) members: Vec<Member>,
    /// Everything that was sent, lost or not.
    pub(in crate::node) sent: Vec<Sent>,
    /// Frames that are lost.
    pub(in crate::node) lose: fn(&Sent) -> bool,
    /// Nodes that are gone: nothing is done there, and nothing goes to or from them.
    pub(in crate::node) gone: BTreeSet<NodeId>,
    /// Nodes that have ended because they were told to.
    pub(in crate::node) ended: BTreeSet<NodeId>,
}

impl Bench {
    /// Nodes 1 to `nodes`, connected, each with a voter of every partition; nobody leads yet.
    pub(in crate::node) fn new(nodes: u64, partitions: u16) -> Self {
        let mut bench = Self {
            now: BEGIN,
            members: Vec::new(),
            sent: Vec::new(),
            lose: |_| false,
            gone: BTreeSet::new(),
            ended: BTreeSet::new(),
        };
        for number in 1..=nodes {
            let member = member(bench.now, number, nodes, partitions);
            bench.members.push(member);
        }
        for at in 1..=nodes {
            for peer in (1..=nodes).filter(|peer| *peer != at) {
                for kind in KINDS {
                    bench.connect(at, peer, kind);
                }
            }
        }
        bench.settle();
        bench
    }

    /// The same, with a node that serves every partition.
    pub(in crate::node) fn led(nodes: u64, partitions: u16) -> (Self, u64) {
        let mut bench = Self::new(nodes, partitions);
        bench.until("every partition is served", |b| {
            let replicas = b.members.iter().flat_map(|member| member.core.replicas());
            replicas.filter(|r| r.serves.is_some()).count() == usize::from(partitions)
        });
        let leader = bench.server(PartitionId(0)).expect("just seen");
        (bench, leader)
    }

    pub(in crate::node) fn at(&mut self, number: u64) -> &mut Member {
        &mut self.members[number as usize - 1]
    }

    /// The node that serves a partition.
    pub(in crate::node) fn server(&self, partition: PartitionId) -> Option<u64> {
        let serves = |member: &Member| {
            let mut replicas = member.core.replicas();
            replicas.any(|r| r.partition == partition && r.serves.is_some())
        };
        let found = self.members.iter().position(serves)?;
        Some(found as u64 + 1)
    }

    /// The term in which a node serves a partition.
    pub(in crate::node) fn serves(&self, number: u64, partition: PartitionId) -> Option<Term> {
        let core = &self.members[number as usize - 1].core;
        let mut replicas = core.replicas();
        replicas.find(|r| r.partition == partition)?.serves
    }

    /// Node `at` hears that it is connected to `peer`.
    pub(in crate::node) fn connect(&mut self, at: u64, peer: u64, kind: ConnectionKind) {
        let peer = record(peer);
        self.at(at).inbox.push_back(Input::Connected {
            peer,
            descriptor: None,
            kind,
        });
    }

    pub(in crate::node) fn feed(&mut self, at: u64, input: Input) {
        self.at(at).inbox.push_back(input);
        self.settle();
    }

    /// A frame from node `from` arrives.
    pub(in crate::node) fn frame(&mut self, at: u64, from: u64, frame: Frame) {
        let from = node_id(from);
        self.feed(at, Input::Frame { from, frame });
    }

    /// What has been sent since the last call.
    pub(in crate::node) fn take_sent(&mut self) -> Vec<Sent> {
        std::mem::take(&mut self.sent)
    }

    /// Lets time pass in steps of 10 ms.
    pub(in crate::node) fn pass(&mut self, millis: u64) {
        for _ in 0..millis / 10 {
            self.now.instant = self.now.instant + Duration::from_millis(10);
            self.now.wall = WallTime(self.now.wall.0 + 10);
            self.settle();
        }
    }

    pub(in crate::node) fn until(&mut self, what: &str, mut reached: impl FnMut(&Self) -> bool) {
        for _ in 0..1_000 {
            if reached(self) {
                return;
            }
            self.pass(10);
        }
        panic!("not reached: {what}");
    }

    /// Runs every loop until nobody has anything to do at this moment.
    pub(in crate::node) fn settle(&mut self) {
        for _ in 0..TURNS_MAX {
            let now = self.now;
            let (gone, ended) = (&self.gone, &self.ended);
            let due = |member: &Member| {
                if gone.contains(&member.id) || ended.contains(&member.id) {
                    return false;
                }
                let deadline = member.core.next_deadline();
                !member.inbox.is_empty() || deadline.is_some_and(|at| at <= now.instant)
            };
            let Some(index) = self.members.iter().position(due) else {
                return;
            };
            self.turn(index);
        }
        panic!("the loops never rest");
    }

    fn turn(&mut self, index: usize) {
        let now = self.now;
        let member = &mut self.members[index];
        let mut effects = Vec::new();
        for input in std::mem::take(&mut member.inbox) {
            member.core.handle(now, input, &mut effects);
        }
        member.core.handle(now, Input::Tick, &mut effects);
        member.core.flush(now, &mut effects);
        self.perform(index, effects);
    }

    pub(in crate::node) fn perform(&mut self, index: usize, effects: Vec<Effect>) {
        let now = self.now;
        for effect in effects {
            let member = &mut self.members[index];
            match effect {
                Effect::Send { to, lane, frame } => {
                    let from = member.id;
                    self.send(Sent {
                        from,
                        to,
                        lane,
                        frame,
                    });
                }
                Effect::Store(effect) => member.want(effect),
                Effect::Read {
                    ticket,
                    partition,
                    rows,
                } => {
                    let (rows, rest) = member.read(partition, &rows);
                    let input = StoreInput::Rows { ticket, rows, rest };
                    member.inbox.push_back(Input::Store(input));
                }
                Effect::Runner(effect) => {
                    member.runs.push(effect.clone());
                    if member.turns == Speed::AtOnce {
                        let mut inputs = Vec::new();
                        member.runner.perform(now.instant, effect, &mut inputs);
                        member.inbox.extend(inputs.into_iter().map(Input::Runner));
                    }
                }
                Effect::Reply { ticket, outcome } => member.replies.push((ticket, outcome)),
                Effect::Subscriber(id, told) => member.told.push((id, told)),
                Effect::App(effect) => panic!("no application here: {effect:?}"),
                Effect::Event(event) => member.events.push(event),
                Effect::AdminReply { answer, .. } => member.admin.push(answer),
                Effect::Snapshot(effect) => member.view(effect),
                Effect::Gossip { to, data } => {
                    if let Some(target) = self.members.iter_mut().find(|m| m.id == to) {
                        target.inbox.push_back(Input::Gossip(data));
                    }
                }
                Effect::Reconnect { .. }
                | Effect::Dial { .. }
                | Effect::Close(_)
                | Effect::Overrun { .. }
                | Effect::Introduce { .. } => {}
                Effect::Halt(HaltReason::ShutDown) => {
                    self.ended.insert(member.id);
                }
                Effect::Halt(reason) => panic!("{:?} halts: {reason:?}", member.id),
            }
        }
    }

    fn send(&mut self, sent: Sent) {
        let lost = (self.lose)(&sent) || self.gone.contains(&sent.from);
        if !lost && let Some(target) = self.members.iter_mut().find(|m| m.id == sent.to) {
            let (from, frame) = (sent.from, sent.frame.clone());
            target.inbox.push_back(Input::Frame { from, frame });
        }
        self.sent.push(sent);
    }

    /// What the disk of a node held back is done now, and what comes from now on at once.
    pub(in crate::node) fn release(&mut self, number: u64) {
        let member = self.at(number);
        (member.sync, member.apply) = (Speed::AtOnce, Speed::AtOnce);
        for effect in std::mem::take(&mut member.held) {
            member.store(effect);
        }
        self.settle();
    }
}

impl Member {
    fn new(
        core: NodeCore,
        number: u64,
        rows: BTreeMap<PartitionId, (PartitionRow, MapRows)>,
    ) -> Self {
        Self {
            id: node_id(number),
            core,
            inbox: VecDeque::new(),
            rows,
            runner: LocalRunner::new(super::registry()),
            sync: Speed::AtOnce,
            apply: Speed::AtOnce,
            stage: Speed::AtOnce,
            turns: Speed::AtOnce,
            views: Speed::Held,
            viewed: BTreeMap::new(),
            held: VecDeque::new(),
            runs: Vec::new(),
            events: Vec::new(),
            replies: Vec::new(),
            admin: Vec::new(),
            told: Vec::new(),
        }
    }

    fn want(&mut self, effect: StoreEffect) {
        let speed = match &effect {
            StoreEffect::Persist { .. } => self.sync,
            StoreEffect::Apply(_) => self.apply,
            StoreEffect::Stage { .. } => self.stage,
            _ => Speed::AtOnce,
        };
        match speed {
            Speed::AtOnce => self.store(effect),
            Speed::Held => self.held.push_back(effect),
        }
    }

    fn store(&mut self, effect: StoreEffect) {
        let answer = match effect {
            StoreEffect::Persist { ticket, .. } => StoreInput::Persisted(ticket),
            StoreEffect::Apply(work) => {
                let applied = work
                    .into_iter()
                    .map(|(partition, items)| self.apply(partition, items));
                StoreInput::Applied(applied.collect())
            }
            StoreEffect::Stage {
                partition,
                peer,
                transfer,
                number,
                ..
            } => StoreInput::Staged {
                partition,
                peer,
                transfer,
                number,
                verdict: StageVerdict::Whole,
            },
            _ => return,
        };
        self.inbox.push_back(Input::Store(answer));
    }

    fn view(&mut self, effect: SnapshotEffect) {
        if self.views == Speed::Held {
            return;
        }
        let answer = match effect {
            SnapshotEffect::Open {
                transfer,
                partition,
            } => {
                self.viewed.insert(transfer, partition);
                let Some((row, _)) = self.rows.get(&partition) else {
                    return;
                };
                let (index, term) = row.applied();
                StoreInput::SnapshotOpened {
                    transfer,
                    at: LogPosition { index, term },
                    membership: row.membership.clone().unwrap_or_default(),
                }
            }
            SnapshotEffect::Digest(transfer) => {
                let rows = &self.rows[&self.viewed[&transfer]].1.0;
                let digest = rows.iter().fold(0, |digest, ((family, key), value)| {
                    digest_row(digest, *family, key, value)
                });
                StoreInput::Digested {
                    transfer,
                    digest,
                    rest: Rest::Last,
                }
            }
            SnapshotEffect::ReadChunk(_) => return,
            SnapshotEffect::Close(transfer) => {
                self.viewed.remove(&transfer);
                return;
            }
        };
        self.inbox.push_back(Input::Store(answer));
    }

    /// What the disk holds of a partition.
    pub(in crate::node) fn rows(&mut self, partition: PartitionId) -> &mut MapRows {
        &mut self.rows.get_mut(&partition).expect("it has a replica").1
    }

    fn apply(&mut self, partition: PartitionId, items: Vec<ApplyItem>) -> Applied {
        let (row, rows) = self.rows.get_mut(&partition).expect("it has a replica");
        let mut outcomes = Vec::new();
        for item in items {
            let at = item.at();
            let outcome = match item {
                ApplyItem::Command { data, .. } => {
                    apply_command(partition, rows, row, at, &data).expect("a map never fails")
                }
                ApplyItem::Membership { membership, .. } => {
                    (row.applied_index, row.applied_term) = (at.index.0, at.term.0);
                    row.membership = Some(membership);
                    EntryOutcome::Nothing
                }
            };
            outcomes.push((at, outcome));
        }
        Applied {
            partition,
            outcomes,
            row: row.clone(),
        }
    }

    fn read(
        &self,
        partition: PartitionId,
        wanted: &RowsWanted,
    ) -> (Vec<(Bytes, Option<Bytes>)>, Rest) {
        let rows = &self.rows[&partition].1;
        rows.read(wanted, usize::MAX, usize::MAX)
    }
}

pub(in crate::node) fn record(number: u64) -> NodeRecord {
    NodeRecord {
        node: node_id(number).to_bytes().to_vec(),
        generation: 1,
        address: format!("10.0.0.{number}:7400"),
        weight: 1,
        actor_types: ["counter", "tally", "log", "alarm"]
            .map(str::to_owned)
            .to_vec(),
        ..NodeRecord::default()
    }
}

pub(in crate::node) fn founded(voters: u64) -> PartitionRow {
    let mut row = PartitionRow::founded(node_id(1));
    row.membership = Some(Membership {
        index: row.applied_index,
        voters: (1..=voters).collect(),
        peers: (1..=voters)
            .map(|peer| Peer {
                peer,
                node: node_id(peer).to_bytes().to_vec(),
            })
            .collect(),
        next_peer: voters + 1,
        ..Membership::default()
    });
    row
}

fn recovered(number: u64, partition: u16, row: PartitionRow) -> RecoveredReplica {
    let (index, term) = row.applied();
    RecoveredReplica {
        partition: PartitionId(partition),
        peer: PeerId(number),
        hard_state: HardState {
            term,
            vote: PeerId(0),
            commit: index,
        },
        truncated: LogPosition { index, term },
        tail: Vec::new(),
        row: Some(row),
    }
}

pub(in crate::node) fn start(
    number: u64,
    descriptor: ClusterDescriptor,
    replicas: Vec<RecoveredReplica>,
) -> Start {
    Start {
        partitions: None,
        record: record(number),
        descriptor: Some(descriptor),
        seeds: Vec::new(),
        addresses: Vec::new(),
        replicas,
        condemned: Vec::new(),
        tombstones: BTreeMap::new(),
        marks: Default::default(),
        trust: Default::default(),
        seed: number,
        min_copies: 1,
        turns: crate::turns::Settings::default(),
        log: crate::replica::LogBounds::default(),
    }
}

fn member(now: Now, number: u64, nodes: u64, partitions: u16) -> Member {
    let row = founded(nodes);
    let replica = |partition| recovered(number, partition, row.clone());
    let descriptor = new_descriptor(ClusterId(7), node_id(1), partitions, nodes as u8);
    let start = start(number, descriptor, (0..partitions).map(replica).collect());
    let rows = (0..partitions).map(|p| (PartitionId(p), (row.clone(), MapRows::default())));
    Member::new(NodeCore::new(now, start), number, rows.collect())
}
