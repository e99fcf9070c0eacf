//! Processes begin and end, as the shell does it: open the store, raise the generation, make the
//! core.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ghostlight_core::node::{NodeCore, Start, Trust};
use ghostlight_core::sdk::local_runner::LocalRunner;
use ghostlight_disk::{Disk, Snapshots};
use ghostlight_protocol::code::Code;
use ghostlight_protocol::ids::{ClusterId, NodeId, PartitionId};
use ghostlight_protocol::replica::log::RecoveredReplica;
use ghostlight_protocol::wire::hello::{Company, NodeRecord, new_descriptor};
use ghostlight_storage::memory::CrashKind;
use ghostlight_storage::{
    MemoryDisk, MemoryEngine, NodeIdentity, Note, Recovered, StorageError, Store,
};

use super::{Event, World};
use crate::dice::{Dice, MS, SEC};
use crate::net::{KINDS, Place, key};
use crate::process::{Build, Drift, Fallen, Fate, Introduced, Node, Process, StoreQueue};

/// How a new node comes to its cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// It founds one.
    Founds,
    /// It joins by its seeds.
    Joins,
}

impl World {
    /// Adds a place with an empty disk, and starts a node there.
    pub fn add_node(&mut self, origin: Origin) -> Place {
        let place = self.nodes.len();
        let node = self.empty_place(place);
        self.nodes.push(node);
        self.start(place, origin);
        place
    }

    /// A place where nothing has run yet.
    pub(super) fn empty_place(&mut self, place: Place) -> Node {
        Node {
            address: format!("10.0.0.{}:7400", place + 1),
            disk: MemoryDisk::new(self.dice.node.any()),
            process: None,
            last_id: None,
            run: 0,
            skew_ms: 0,
            drift: Drift::default(),
            pace: self.draw_pace(place),
            build: Build::Usual,
            copy_of: None,
            fate: Fate::Returns,
            slowness: 1,
            loop_slowness: 1,
            stalled_until: 0,
            image: None,
            trust: Trust::Whole,
            fallen: Fallen::No,
            subscriptions: BTreeMap::new(),
        }
    }

    /// By how much the monotonic clock of a place is off: drawn apart, so that other draws stay
    /// what they were.
    fn draw_pace(&self, place: Place) -> i64 {
        let most = self.params.pace_max;
        let dice = &mut Dice::new(self.params.seed.wrapping_add(place as u64), "pace");
        dice.between(0, 2 * most).cast_signed() - most.cast_signed()
    }

    /// Starts a process on a place's disk.
    ///
    /// # Panics
    /// When one runs there.
    pub fn start(&mut self, place: Place, origin: Origin) {
        assert!(
            self.nodes[place].process.is_none(),
            "node {place} runs already"
        );
        if self.nodes[place].fallen == Fallen::Known {
            // As the shell notes it beside the database.
            let what = "what it has promised";
            return self.cannot_start(place, &StorageError::NodeDamaged { what });
        }
        let opened = Store::open(self.nodes[place].disk.open());
        let (mut store, mut recovered) = match opened {
            Ok(opened) => opened,
            Err(error) => return self.cannot_start(place, &error),
        };
        if let Err(error) = self.is_usable(place, &recovered) {
            return self.cannot_start(place, &error);
        }
        for condemned in &recovered.condemned {
            self.sometimes.hit("replica found condemned on open");
            let (partition, why) = (condemned.partition, &condemned.why);
            self.trace.line(
                self.now,
                format_args!("node {place}: {partition} condemned: {why}"),
            );
        }
        let identity = match self.identity(place, origin, &mut store, &mut recovered) {
            Ok(identity) => identity,
            Err(error) => return self.cannot_start(place, &error),
        };
        if self.nodes[place].trust == Trust::InDoubt {
            self.sometimes.hit("replica in doubt");
        }
        let addresses = store.addresses().unwrap_or_default();
        let record = self.record(place, &identity);
        let Recovered {
            replicas,
            condemned,
            tombstones,
            marks,
            ..
        } = recovered;
        let copy = self.nodes[place].copy_of;
        if let Err(what) = self.checks.started(place, copy, &replicas) {
            self.violate(what);
        }
        let start = Start {
            record: record.clone(),
            descriptor: identity.cluster.clone(),
            partitions: None,
            seeds: self.seeds(place, origin),
            addresses,
            replicas,
            condemned: condemned
                .into_iter()
                .map(|c| (c.partition, c.why))
                .collect(),
            tombstones,
            marks,
            // Of this start alone: the log that is left has no damage any more.
            trust: std::mem::take(&mut self.nodes[place].trust),
            seed: self.dice.node.any(),
            min_copies: self.params.min_copies,
            turns: ghostlight_core::turns::Settings::default(),
            log: self.params.log,
        };
        self.begin(place, store, identity, record, start);
    }

    fn begin(
        &mut self,
        place: Place,
        store: Store<MemoryEngine>,
        identity: NodeIdentity,
        record: NodeRecord,
        start: Start,
    ) {
        let now = self.now;
        let node = &mut self.nodes[place];
        node.run += 1;
        let run = node.run;
        let id = start.me();
        node.last_id = Some(id);
        let descriptor = start.descriptor.clone();
        let clocks = ghostlight_core::io::Now {
            instant: ghostlight_protocol::time::Instant(SEC),
            wall: ghostlight_protocol::time::WallTime(1_700_000_000_000 + now / MS),
        };
        let reader = store.reader();
        let process = Process {
            core: NodeCore::new(clocks, start),
            id,
            disk: Disk::new(store, identity),
            snapshots: Snapshots::new(reader.clone()),
            snapshots_latest: 0,
            reader,
            runner: LocalRunner::new(crate::heralds::registry()),
            inbox: VecDeque::new(),
            scheduled: true,
            busy_until: now,
            tick_at: None,
            started: now,
            pace: node.pace,
            build: node.build,
            store: StoreQueue::default(),
            runner_latest: BTreeMap::new(),
            introduced: Introduced {
                record,
                descriptor,
                removed: Vec::new(),
            },
            met: BTreeMap::new(),
        };
        node.process = Some(process);
        self.trace
            .line(now, format_args!("node {place} starts: {id}, run {run}"));
        self.at(now, Event::Turn { place, run });
    }

    fn cannot_start(&mut self, place: Place, why: &StorageError) {
        self.sometimes.hit("store refused to open");
        if why.code() == Code::DataDirCorrupt && self.ask_about(place, why) {
            return;
        }
        self.trace
            .line(self.now, format_args!("node {place} cannot start: {why}"));
        self.replace_disk(place);
        self.start(place, Origin::Joins);
    }

    /// Whether a database that opened may be used, as the shell judges it: not one that has
    /// forgotten whose it is, and not one that was cut at a damaged place if nobody else could tell
    /// what it lacks.
    fn is_usable(&self, place: Place, recovered: &Recovered) -> Result<(), StorageError> {
        let node = &self.nodes[place];
        let lost = |what| Err(StorageError::NodeDamaged { what });
        let noted = node.disk.note().and_then(|bytes| Note::open(&bytes));
        let noted = noted.and_then(|note| note.identity);
        if recovered.identity.is_none() && noted.as_ref().is_some_and(|noted| noted.id().is_some())
        {
            return lost("who it is");
        }
        let alone = |replica: &RecoveredReplica| {
            let membership = replica.row.as_ref().and_then(|row| row.membership.as_ref());
            membership.is_some_and(|m| m.voters == [replica.peer.0] && !m.is_joint())
        };
        let cluster = noted.as_ref().and_then(|noted| noted.cluster.as_ref());
        let company = cluster.is_some_and(|cluster| cluster.company() == Company::Shared);
        if node.trust == Trust::InDoubt && (!company || recovered.replicas.iter().any(alone)) {
            return lost("its log");
        }
        Ok(())
    }

    /// Empties a disk: what starts there next is a new node.
    pub(crate) fn replace_disk(&mut self, place: Place) {
        self.nodes[place].disk = MemoryDisk::new(self.dice.node.any());
        self.nodes[place].begins_anew();
        self.checks.wiped(place);
    }

    fn identity(
        &mut self,
        place: Place,
        origin: Origin,
        store: &mut Store<MemoryEngine>,
        recovered: &mut Recovered,
    ) -> Result<NodeIdentity, StorageError> {
        if let Some(mut identity) = recovered.identity.take() {
            identity.generation += 1;
            store.save_identity(&identity)?;
            return Ok(identity);
        }
        let id = NodeId(self.dice.node.any128());
        let mut identity = NodeIdentity::new(id, &format!("node-{}", place + 1));
        match origin {
            Origin::Founds => {
                let cluster = ClusterId(self.dice.node.any128());
                let (partitions, factor) = (self.params.partitions, self.params.factor);
                identity.cluster = Some(new_descriptor(cluster, id, partitions, factor));
                let founded: Vec<RecoveredReplica> = store.found(partitions, &identity)?;
                recovered.replicas = founded;
            }
            Origin::Joins => store.save_identity(&identity)?,
        }
        Ok(identity)
    }

    fn record(&self, place: Place, identity: &NodeIdentity) -> NodeRecord {
        NodeRecord {
            node: identity.node.clone(),
            generation: identity.generation,
            name: format!("node-{}-{}", place + 1, identity.id().unwrap_or_default()),
            address: self.nodes[place].address.clone(),
            nonce: self.nodes[place].run,
            replaces: identity.replaces.clone(),
            weight: 1,
            actor_types: ["account", "counter", "echo", "herald", "log"]
                .map(str::to_owned)
                .to_vec(),
            ..NodeRecord::default()
        }
    }

    fn seeds(&self, place: Place, origin: Origin) -> Vec<String> {
        if origin == Origin::Founds {
            return Vec::new();
        }
        let others = self
            .nodes
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != place);
        others.map(|(_, node)| node.address.clone()).collect()
    }

    /// A process dies. What of its unsynced writes survives, `kind` says.
    pub fn crash(&mut self, place: Place, kind: CrashKind) {
        self.perform_some(place);
        self.leaderships_end(place);
        let node = &mut self.nodes[place];
        if node.process.take().is_none() {
            return;
        }
        node.run += 1;
        let report = node.disk.crash(kind);
        if report.lost > 0 {
            self.sometimes.hit("crash lost unsynced writes");
        }
        self.trace.line(
            self.now,
            format_args!("node {place} dies: {kind:?}, {report:?}"),
        );
        self.checks.stopped(place);
        self.connections_of_dead(place);
        self.clients_lose(place);
    }

    /// What a leader had not sent yet, another one must.
    fn leaderships_end(&mut self, place: Place) {
        let Some(process) = &self.nodes[place].process else {
            return;
        };
        let serves = process.core.replicas().filter(|r| r.serves.is_some());
        let own: BTreeSet<PartitionId> = serves.map(|r| r.partition).collect();
        for partition in &own {
            self.checks.topics.leader_dies(*partition, &own);
        }
    }

    /// Its peers learn at once, or only when nothing comes for long enough.
    fn connections_of_dead(&mut self, place: Place) {
        for other in 0..self.nodes.len() {
            if other == place {
                continue;
            }
            for kind in KINDS {
                let key = key(place, other, kind);
                let Some(epoch) = self.net.conns.get(&key).map(|conn| conn.epoch) else {
                    continue;
                };
                self.net.side_down(&key, epoch, place);
                let (low, high) = self.params.net.idle;
                let delay = if self.dice.net.chance(0.5) {
                    self.dice.net.between(0, 20 * MS)
                } else {
                    self.dice.net.between(low, high)
                };
                self.after(
                    delay,
                    Event::SideDown {
                        key,
                        epoch,
                        place: other,
                    },
                );
            }
        }
    }

    /// The node of a place, while a process runs there.
    #[must_use]
    pub fn id_of(&self, place: Place) -> Option<NodeId> {
        self.nodes[place].process.as_ref().map(|process| process.id)
    }

    /// The place where a node runs.
    #[must_use]
    pub fn place_of(&self, node: NodeId) -> Option<Place> {
        self.nodes
            .iter()
            .position(|n| n.process.as_ref().is_some_and(|p| p.id == node))
    }

    /// Places where a process runs.
    #[must_use]
    pub fn alive(&self) -> Vec<Place> {
        let all = 0..self.nodes.len();
        all.filter(|place| self.nodes[*place].process.is_some())
            .collect()
    }
}
