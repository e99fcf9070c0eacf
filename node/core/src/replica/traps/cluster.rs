//! A group of replicas in one thread: mail, disks and applying are moved by hand or at once.
//!
//! After every step it checks what Raft promises: one leader per term, one command per index.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ghostlight_protocol::ids::{LogIndex, LogPosition, NodeId, PartitionId, PeerId};
use ghostlight_protocol::replica::{ApplyItem, LogWrite};

use super::disk::{Carried, Disk};
use crate::replica::{
    Change, Group, GroupReady, GroupSettings, Install, LogBounds, LogRoom, Outgoing, Promise, Role,
    SnapshotResult,
};

/// More mail than any test exchanges in one go.
const MAIL_MAX: usize = 100_000;

pub(super) fn node_id(number: u64) -> NodeId {
    NodeId(u128::from(number))
}

/// One message under way.
#[derive(Clone, Debug)]
pub(super) struct Mail {
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) body: Outgoing,
    carried: Option<Carried>,
}

/// How snapshots that the engine wants are served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Snapshots {
    /// Opened, carried and reported at once.
    Carried,
    /// Noted in `wanted`; the test serves them.
    Held,
}

pub(super) struct Replica {
    pub(super) group: Group,
    pub(super) disk: Disk,
    /// Written, not synced.
    pub(super) unsynced: VecDeque<(u64, Option<Install>, Option<LogWrite>)>,
    pub(super) unapplied: VecDeque<ApplyItem>,
    pub(super) reads: Vec<(u64, LogIndex)>,
    /// Snapshots the engine asked for.
    pub(super) wanted: Vec<PeerId>,
    opened: BTreeMap<u64, Carried>,
    staged: Option<Carried>,
}

pub(super) struct Cluster {
    pub(super) partition: PartitionId,
    pub(super) replicas: BTreeMap<u64, Replica>,
    pub(super) mail: VecDeque<Mail>,
    /// Nodes whose disk syncs only when `persist` is called.
    pub(super) slow: BTreeSet<u64>,
    /// Nodes that apply only when `apply` is called.
    pub(super) lazy: BTreeSet<u64>,
    /// Nodes without network.
    pub(super) cut: BTreeSet<u64>,
    /// Mail that is lost.
    pub(super) lose: fn(&Mail) -> bool,
    pub(super) snapshots: Snapshots,
    pub(super) snapshots_sent: usize,
    disks: BTreeMap<u64, Disk>,
    leaders: BTreeMap<u64, PeerId>,
    history: BTreeMap<u64, ApplyItem>,
}

impl Cluster {
    /// Voters 1 to `voters`, nobody leading.
    pub(super) fn new(partition: u16, voters: u64) -> Self {
        let mut cluster = Self {
            partition: PartitionId(partition),
            replicas: BTreeMap::new(),
            mail: VecDeque::new(),
            slow: BTreeSet::new(),
            lazy: BTreeSet::new(),
            cut: BTreeSet::new(),
            lose: |_| false,
            snapshots: Snapshots::Carried,
            snapshots_sent: 0,
            disks: BTreeMap::new(),
            leaders: BTreeMap::new(),
            history: BTreeMap::new(),
        };
        for node in 1..=voters {
            cluster.start(node, Disk::founded(PeerId(node), voters));
        }
        cluster
    }

    /// Voters 1 to `voters` with a leader that may open.
    pub(super) fn led(partition: u16, voters: u64) -> (Self, u64) {
        let mut cluster = Self::new(partition, voters);
        let leader = cluster.elect();
        (cluster, leader)
    }

    /// Starts a replica from its disk.
    pub(super) fn start(&mut self, node: u64, disk: Disk) {
        let settings = GroupSettings {
            seed: node,
            log: LogBounds::default(),
        };
        let replica = Replica {
            group: Group::new(&disk.recovered(self.partition), &settings),
            disk,
            unsynced: VecDeque::new(),
            unapplied: VecDeque::new(),
            reads: Vec::new(),
            wanted: Vec::new(),
            opened: BTreeMap::new(),
            staged: None,
        };
        self.replicas.insert(node, replica);
    }

    /// Everything unsynced is lost.
    pub(super) fn crash(&mut self, node: u64) {
        let replica = self.replicas.remove(&node).expect("it runs");
        self.disks.insert(node, replica.disk);
        self.mail.retain(|mail| mail.from != node);
    }

    pub(super) fn restart(&mut self, node: u64) {
        let disk = self.disks.remove(&node).expect("it crashed");
        self.start(node, disk);
    }

    /// What a crashed node has on its disk.
    pub(super) fn disk(&self, node: u64) -> Disk {
        self.disks[&node].clone()
    }

    pub(super) fn at(&mut self, node: u64) -> &mut Replica {
        self.replicas.get_mut(&node).expect("the node runs")
    }

    pub(super) fn group(&mut self, node: u64) -> &mut Group {
        &mut self.at(node).group
    }

    /// The node that leads in the highest term.
    pub(super) fn leader(&self) -> Option<u64> {
        let leading = self
            .replicas
            .iter()
            .filter(|(_, r)| r.group.role() == Role::Leader);
        leading
            .max_by_key(|(_, r)| r.group.term())
            .map(|(node, _)| *node)
    }

    /// Ticks until a leader that is not cut off may open.
    pub(super) fn elect(&mut self) -> u64 {
        self.until("a leader", |c| {
            c.leader()
                .is_some_and(|n| !c.cut.contains(&n) && c.replicas[&n].group.may_open())
        });
        self.leader().expect("just seen")
    }

    pub(super) fn until(&mut self, what: &str, mut reached: impl FnMut(&Self) -> bool) {
        for _ in 0..600 {
            if reached(self) {
                return;
            }
            self.tick();
        }
        panic!("{:?}: not reached: {what}", self.partition);
    }

    /// One tick everywhere, and all mail it brings.
    pub(super) fn tick(&mut self) {
        let nodes: Vec<u64> = self.replicas.keys().copied().collect();
        for node in nodes {
            self.tick_node(node);
        }
    }

    pub(super) fn ticks(&mut self, count: usize) {
        for _ in 0..count {
            self.tick();
        }
    }

    pub(super) fn tick_node(&mut self, node: u64) {
        self.group(node).tick();
        self.pump(node);
        self.settle();
    }

    pub(super) fn propose(&mut self, node: u64, data: &str) {
        let proposed = self.group(node).propose(data.as_bytes().to_vec());
        assert_eq!(proposed, Ok(()), "{data}");
        self.pump(node);
        self.settle();
    }

    /// Proposes a change and lets it work.
    pub(super) fn change(&mut self, node: u64, change: &Change) {
        let proposed = self.group(node).change(change);
        assert_eq!(proposed, Ok(()), "{change:?}");
        self.pump(node);
        self.settle();
    }

    /// Delivers everything.
    pub(super) fn settle(&mut self) {
        for _ in 0..MAIL_MAX {
            let Some(mail) = self.mail.pop_front() else {
                return;
            };
            self.deliver(mail);
        }
        panic!("the mail never ends");
    }

    pub(super) fn deliver(&mut self, mail: Mail) {
        let Mail { from, to, .. } = mail;
        if self.cut.contains(&from) || self.cut.contains(&to) || (self.lose)(&mail) {
            return;
        }
        let Some(replica) = self.replicas.get_mut(&to) else {
            return;
        };
        let group = &mut replica.group;
        let sender = node_id(from);
        match &mail.body {
            Outgoing::Heartbeat(_, heartbeat) => {
                assert_eq!(group.step_heartbeat(sender, heartbeat), Promise::Kept);
            }
            Outgoing::HeartbeatAnswer(_, answer) => group.step_heartbeat_answer(sender, answer),
            Outgoing::Vote(_, bytes) | Outgoing::Append(_, bytes) => group.step(sender, bytes),
            Outgoing::Snapshot { message, .. } => {
                replica.staged = mail.carried;
                group.step_snapshot(sender, message);
            }
        }
        self.pump(to);
        if let Outgoing::Snapshot { to: peer, .. } = mail.body {
            if let Some(sender) = self.replicas.get_mut(&from) {
                sender.opened.remove(&peer.0);
                sender.group.snapshot_over(peer, SnapshotResult::Arrived);
            }
            self.pump(from);
        }
    }

    /// Carries out what the group wants, as far as its disk is not held.
    pub(super) fn pump(&mut self, node: u64) {
        while let Some(replica) = self.replicas.get_mut(&node) {
            let ready = replica.group.ready();
            self.take(node, ready);
            if !self.slow.contains(&node) {
                self.persist(node);
            }
            if !self.lazy.contains(&node) {
                self.apply(node);
            }
            if self.snapshots == Snapshots::Carried {
                self.open_wanted(node);
            }
            if !self.group(node).has_ready() {
                return;
            }
        }
    }

    fn take(&mut self, node: u64, ready: GroupReady) {
        let replica = self.replicas.get_mut(&node).expect("the node runs");
        let writes = ready.write.is_some() || ready.install.is_some();
        assert_eq!(ready.number.is_some(), writes, "a number for every write");
        if let Some(number) = ready.number {
            let unsynced = (number, ready.install, ready.write);
            replica.unsynced.push_back(unsynced);
        }
        replica.unapplied.extend(ready.apply);
        replica.reads.extend(ready.reads);
        replica.wanted.extend(ready.open_snapshots);
        if replica.group.role() == Role::Leader {
            let (term, peer) = (replica.group.term().0, replica.group.peer());
            let first = *self.leaders.entry(term).or_insert(peer);
            assert_eq!(first, peer, "two leaders in term {term}");
        }
        self.post(node, ready.send);
    }

    fn post(&mut self, from: u64, send: Vec<Outgoing>) {
        for body in send {
            let (to, carried) = match &body {
                Outgoing::Heartbeat(node, _)
                | Outgoing::HeartbeatAnswer(node, _)
                | Outgoing::Vote(node, _)
                | Outgoing::Append(node, _) => (*node, None),
                Outgoing::Snapshot { to, node, .. } => {
                    self.snapshots_sent += 1;
                    (*node, self.replicas[&from].opened.get(&to.0).cloned())
                }
            };
            let to = u64::try_from(to.0).expect("nodes have small numbers");
            let mail = Mail {
                from,
                to,
                body,
                carried,
            };
            self.mail.push_back(mail);
        }
    }

    /// Syncs everything written on the node, and only then lets go what waited for it.
    pub(super) fn persist(&mut self, node: u64) {
        while self.persist_one(node).is_some() {}
    }

    /// Syncs the oldest write on the node; its number.
    pub(super) fn persist_one(&mut self, node: u64) -> Option<u64> {
        let replica = self.at(node);
        let (number, install, write) = replica.unsynced.pop_front()?;
        if let Some(install) = &install {
            let carried = replica.staged.take().expect("it came with its rows");
            replica.unapplied.clear();
            replica.disk.install(install, carried);
        }
        if let Some(write) = write {
            replica.disk.write(write);
        }
        let send = replica.group.persisted(number);
        if let Some(install) = install {
            replica.group.installed(install.at);
        }
        self.post(node, send);
        Some(number)
    }

    pub(super) fn apply(&mut self, node: u64) {
        while self.apply_one(node).is_some() {}
    }

    /// Applies the next committed entry on the node; its index. Raft's own entries count with it.
    pub(super) fn apply_one(&mut self, node: u64) -> Option<LogIndex> {
        let item = self.at(node).unapplied.pop_front()?;
        let index = item.at().index;
        let first = self.history.entry(index.0).or_insert_with(|| item.clone());
        assert_eq!(*first, item, "two histories at {index}");
        let replica = self.at(node);
        replica.disk.apply(item);
        replica.group.set_applied(index);
        Some(index)
    }

    /// Cuts the log as the group likes; the position of the cut.
    pub(super) fn truncate(&mut self, node: u64) -> Option<LogPosition> {
        self.truncate_in(node, LogRoom::Ample)
    }

    pub(super) fn truncate_in(&mut self, node: u64, room: LogRoom) -> Option<LogPosition> {
        let replica = self.at(node);
        let through = replica.group.truncate(room)?;
        replica.disk.truncate(through);
        Some(through)
    }

    /// Opens the snapshots that the engine wants, at what is applied.
    pub(super) fn open_wanted(&mut self, node: u64) {
        let replica = self.at(node);
        for to in std::mem::take(&mut replica.wanted) {
            let row = replica.disk.row.clone().expect("a leader has a row");
            let (index, term) = row.applied();
            let at = LogPosition { index, term };
            let membership = row.membership.clone().expect("a leader has members");
            let rows = replica.disk.rows.clone();
            replica.opened.insert(to.0, Carried { row, rows });
            replica.group.snapshot_opened(to, at, &membership);
        }
    }

    /// Gives a transfer up.
    pub(super) fn give_up(&mut self, node: u64, to: PeerId, result: SnapshotResult) {
        self.at(node).opened.remove(&to.0);
        self.group(node).snapshot_over(to, result);
        self.pump(node);
    }

    /// Every node has applied all that its leader has, and holds `rows` rows.
    pub(super) fn assert_agree(&mut self, rows: usize) {
        self.until("everybody has applied the same", |c| {
            let applied: BTreeSet<_> = c.replicas.values().map(|r| r.disk.applied()).collect();
            applied.len() == 1
        });
        let first = self.replicas.values().next().expect("not empty");
        assert_eq!(first.disk.rows.len(), rows, "{:?}", first.disk.rows);
        for replica in self.replicas.values() {
            assert_eq!(
                replica.disk.rows, first.disk.rows,
                "{:?}",
                replica.disk.peer
            );
        }
    }
}
