//! Random writes and crashes against a model: what was synced is never lost, rows and log always
//! fit.

use std::collections::BTreeMap;

use bytes::Bytes;
use ghostlight_protocol::ids::{LogIndex, PartitionId};
use ghostlight_protocol::partition_row::PartitionRow;
use ghostlight_protocol::replica::{LogEntry, LogWrite};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::for_seeds;
use crate::conformance::material::{
    actor, at, command, entry, founded, hard_state, items, turn, write,
};
use crate::memory::{CrashKind, Fault, MemoryDisk, MemoryEngine, Operation};
use crate::store::{Recovered, Store};

const PARTITIONS: u16 = 3;
const STEPS: u32 = 120;

/// What must be true of one partition.
#[derive(Clone)]
struct Model {
    /// Every entry since index 6, also the cut ones.
    log: Vec<LogEntry>,
    term: u64,
    commit: u64,
    applied: u64,
    truncated: u64,
    /// The last two as of the last sync: a crash may bring back anything from there on.
    applied_synced: u64,
    truncated_synced: u64,
    /// What the rows were at each applied index.
    rows: BTreeMap<u64, (PartitionRow, u32)>,
}

impl Model {
    fn last(&self) -> u64 {
        5 + self.log.len() as u64
    }

    fn after(&self, index: u64) -> &[LogEntry] {
        &self.log[(index - 5) as usize..]
    }
}

struct Run {
    disk: MemoryDisk,
    store: Store<MemoryEngine>,
    models: Vec<Model>,
    rng: ChaCha8Rng,
    requests: u64,
}

#[derive(Default, Debug)]
struct Seen {
    lost: usize,
    reapplied: usize,
    doubtful_kept: usize,
    doubtful_lost: usize,
}

#[test]
fn synced_is_never_lost_and_recovery_is_consistent() {
    let mut seen = Seen::default();
    for_seeds("synced_is_never_lost", 60, |seed| {
        let mut run = Run::new(seed);
        for _ in 0..STEPS {
            run.step(&mut seen);
        }
    });
    if std::env::var("SEED").is_err() {
        let all = [
            seen.lost,
            seen.reapplied,
            seen.doubtful_kept,
            seen.doubtful_lost,
        ];
        assert!(
            all.iter().all(|count| *count > 0),
            "the seeds miss a case: {seen:?}"
        );
    }
}

fn fingerprint(store: &Store<MemoryEngine>, partition: u16) -> u32 {
    let mut snapshot = store
        .reader()
        .open_snapshot(PartitionId(partition))
        .unwrap()
        .unwrap();
    let mut hasher = crc32fast::Hasher::new();
    while let Some(chunk) = snapshot.next_chunk(1 << 20).unwrap() {
        hasher.update(&chunk);
    }
    hasher.finalize()
}

impl Run {
    fn new(seed: u64) -> Self {
        let disk = MemoryDisk::new(seed);
        let store = founded(disk.open(), PARTITIONS);
        let models = (0..PARTITIONS)
            .map(|partition| {
                let row = store.row(PartitionId(partition)).unwrap().clone();
                Model {
                    log: Vec::new(),
                    term: 5,
                    commit: 5,
                    applied: 5,
                    truncated: 5,
                    applied_synced: 5,
                    truncated_synced: 5,
                    rows: BTreeMap::from([(5, (row, fingerprint(&store, partition)))]),
                }
            })
            .collect();
        Self {
            disk,
            store,
            models,
            rng: ChaCha8Rng::seed_from_u64(seed ^ 0xc0ffee),
            requests: 0,
        }
    }

    fn step(&mut self, seen: &mut Seen) {
        match self.rng.random_range(0..20) {
            0..8 => self.persist(),
            8..15 => self.apply(),
            15..17 => self.truncate(),
            17 => self.persist_in_doubt(seen),
            _ => self.crash(seen),
        }
    }

    /// Appends to some groups, sometimes as a new leader over entries that were not committed.
    fn collect(&mut self) -> Vec<LogWrite> {
        let mut writes = Vec::new();
        for partition in 0..PARTITIONS {
            if self.rng.random_bool(0.4) {
                continue;
            }
            let model = &mut self.models[usize::from(partition)];
            let mut first = model.last() + 1;
            if self.rng.random_bool(0.3) {
                model.term += self.rng.random_range(1..3);
                first = self.rng.random_range(model.commit + 1..=model.last() + 1);
                model.log.truncate((first - 6) as usize);
            }
            for index in first..first + self.rng.random_range(0..4) {
                self.requests += 1;
                let value = Bytes::from(vec![index as u8; self.rng.random_range(0..40)]);
                // Every entry is a turn of one actor, so that the version is a function of the
                // index.
                let kind = turn(&actor("a"), index - 6, self.requests, value, 1);
                model
                    .log
                    .push(entry(at(model.term, index), command(model.term, kind)));
            }
            model.commit = self.rng.random_range(model.commit..=model.last());
            let hard = hard_state(model.term, model.commit);
            let entries = self.models[usize::from(partition)]
                .after(first - 1)
                .to_vec();
            // Entries that were replaced by none are cut with the next append; raft never asks for
            // an empty suffix, and neither do we.
            writes.push(write(partition, 1, Some(hard), entries));
        }
        writes
    }

    fn persist(&mut self) {
        let before = self.models.clone();
        let mut writes = self.collect();
        self.keep_whole_suffixes(&before, &mut writes);
        self.store.persist(&writes).unwrap();
        if !writes.is_empty() {
            self.synced();
        }
    }

    /// A write that replaces a suffix by nothing is not a thing: such a group keeps its log.
    fn keep_whole_suffixes(&mut self, before: &[Model], writes: &mut [LogWrite]) {
        for write in writes.iter_mut().filter(|write| write.entries.is_empty()) {
            let partition = usize::from(write.partition.0);
            let model = &mut self.models[partition];
            model.log.clone_from(&before[partition].log);
            model.commit = model.commit.min(model.last());
        }
    }

    fn synced(&mut self) {
        for model in &mut self.models {
            model.applied_synced = model.applied;
            model.truncated_synced = model.truncated;
        }
    }

    fn apply(&mut self) {
        let partition = self.rng.random_range(0..PARTITIONS);
        let model = &mut self.models[usize::from(partition)];
        if model.applied == model.commit {
            return;
        }
        let through = self.rng.random_range(model.applied + 1..=model.commit);
        let entries = &model.after(model.applied)[..(through - model.applied) as usize];
        let mut out = Vec::new();
        self.store
            .apply(PartitionId(partition), &items(entries), &mut out)
            .unwrap();
        assert_eq!(out.len(), entries.len());
        model.applied = through;
        let row = self.store.row(PartitionId(partition)).unwrap().clone();
        let now = (row, fingerprint(&self.store, partition));
        let first = model.rows.entry(through).or_insert_with(|| now.clone());
        assert_eq!(*first, now, "applying again at {through} gives the same");
        assert_eq!(now.0.outbox_rows, through - 5, "every turn counted once");
    }

    fn truncate(&mut self) {
        let partition = self.rng.random_range(0..PARTITIONS);
        let model = &mut self.models[usize::from(partition)];
        let through = self.rng.random_range(model.truncated..=model.applied);
        if through > model.truncated {
            let position = model.log[(through - 6) as usize].at;
            self.store
                .truncate_log(PartitionId(partition), position)
                .unwrap();
            model.truncated = through;
        }
    }

    /// The sync of a write fails: the process ends, and the write may or may not be there.
    fn persist_in_doubt(&mut self, seen: &mut Seen) {
        let before = self.models.clone();
        let mut writes = self.collect();
        self.keep_whole_suffixes(&before, &mut writes);
        if writes.is_empty() {
            return;
        }
        self.disk.fail(Operation::Sync, 1, Fault::Io);
        let failed = self.store.persist(&writes).unwrap_err();
        assert_eq!(failed.remedy(), crate::error::Remedy::EndProcess);
        let kind = self.crash_kind();
        self.disk.crash(kind);
        let (store, recovered) = Store::open(self.disk.open()).unwrap();
        self.store = store;
        let fits = |models: &[Model]| {
            models
                .iter()
                .zip(&recovered.replicas)
                .all(|(model, found)| {
                    (found.hard_state.term.0, found.hard_state.commit.0)
                        == (model.term, model.commit)
                        && found.tail == model.after(found.truncated.index.0)
                })
        };
        let is_new = fits(&self.models) && !fits(&before);
        if is_new {
            // It was written after everything before it.
            self.synced();
            seen.doubtful_kept += 1;
        } else {
            self.models = before;
            seen.doubtful_lost += 1;
        }
        self.adopt(&recovered, seen);
    }

    fn crash_kind(&mut self) -> CrashKind {
        let kinds = [
            CrashKind::Process,
            CrashKind::PowerLoss,
            CrashKind::PowerLossAll,
            CrashKind::TornTail,
        ];
        kinds[self.rng.random_range(0..kinds.len())]
    }

    fn crash(&mut self, seen: &mut Seen) {
        let kind = self.crash_kind();
        seen.lost += self.disk.crash(kind).lost;
        let (_, first) = Store::open(self.disk.open()).unwrap();
        let (store, recovered) = Store::open(self.disk.open()).unwrap();
        assert_eq!(first, recovered, "recovery is idempotent");
        self.store = store;
        self.adopt(&recovered, seen);
    }

    /// Checks what was found, and goes on from there.
    fn adopt(&mut self, recovered: &Recovered, seen: &mut Seen) {
        assert_eq!(recovered.condemned, []);
        assert_eq!(recovered.replicas.len(), usize::from(PARTITIONS));
        for (partition, found) in (0..PARTITIONS).zip(&recovered.replicas) {
            let model = &mut self.models[usize::from(partition)];
            let row = found.row.as_ref().unwrap();
            let (applied, truncated) = (row.applied_index, found.truncated.index.0);
            assert!((model.applied_synced..=model.applied).contains(&applied));
            assert!((model.truncated_synced..=model.truncated).contains(&truncated));
            assert_eq!(found.tail, model.after(truncated), "the log is whole");
            assert_eq!(found.hard_state.term.0, model.term);
            assert!(
                found.hard_state.commit >= LogIndex(model.commit),
                "commit never sinks"
            );
            assert!(found.hard_state.commit >= LogIndex(applied), "trap 15");
            assert_eq!(*row, model.rows[&applied].0);
            assert_eq!(fingerprint(&self.store, partition), model.rows[&applied].1);
            seen.reapplied += (model.applied - applied) as usize;
            model.applied = applied;
            model.truncated = truncated;
            model.applied_synced = applied;
            model.truncated_synced = truncated;
            model.commit = found.hard_state.commit.0;
        }
    }
}
