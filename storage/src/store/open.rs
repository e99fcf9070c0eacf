//! Opening: what the disk gives back, and which replicas are still whole.
//!
//! Nothing here trusts a record: each is checked by itself and against its neighbours. A replica
//! that fails any check is condemned, alone. Records of the node itself have nobody to replace them
//! from, so that damage there refuses the start. Opening again finds the same.

use std::collections::BTreeMap;

use bytes::Bytes;
use ghostlight_protocol::family::Family;
use ghostlight_protocol::ids::{LogIndex, LogPosition, NodeId, PartitionId, PeerId, Term};
use ghostlight_protocol::partition_row::PartitionRow;
use ghostlight_protocol::replica::log::RecoveredReplica;
use ghostlight_protocol::replica::{HardState, LogEntry};
use prost::Message;

use super::condemn::{SetAside, condemned_peer, set_aside};
use super::recent::RecentRows;
use super::replicas::delete_prefix;
use super::{Condemned, INSTALL_BATCH_BYTES_MAX, Recovered, Replica, Store};
use crate::engine::{Cf, Durability, Engine, EngineError, Limit, Row, WriteBatch};
use crate::error::StorageError;
use crate::layout::{
    DISK_FORMAT, FORMAT_KEY, Own, after, log_index, log_key, log_range, own_key, row_prefix,
};
use crate::reader::Reader;
use crate::record::{self, Damaged, Stint, decode_entry, decode_hard_state, decode_number};

/// Rows and bytes read at once while opening.
const PAGE: Limit = Limit {
    rows: 4_096,
    bytes: 4 << 20,
};

/// The stored values of one partition, unchecked.
#[derive(Default)]
struct Found {
    stint: Option<Bytes>,
    hard_state: Option<Bytes>,
    row: Option<Bytes>,
    installing: Option<Bytes>,
    tombstone: Option<Bytes>,
    condemned: Vec<Row>,
}

impl<E: Engine> Store<E> {
    /// Opens what is on the disk, checks every replica, and condemns those that are not whole.
    ///
    /// # Errors
    /// The engine failed, the node's own records are damaged, or the disk format is newer. A
    /// replica's damage is no error: it is in `Recovered::condemned`.
    pub fn open(engine: E) -> Result<(Self, Recovered), StorageError> {
        let mut store = Self {
            engine,
            replicas: BTreeMap::new(),
            tombstones: BTreeMap::new(),
            batch: WriteBatch::default(),
            recent: RecentRows::default(),
            install_batch_bytes_max: INSTALL_BATCH_BYTES_MAX,
        };
        store.check_format()?;
        let identity = Reader::new(store.engine.clone()).identity()?;
        let node = identity.as_ref().and_then(|identity| identity.id());
        let mut recovered = Recovered {
            identity,
            ..Recovered::default()
        };
        for (partition, found) in store.raft_records()? {
            store.recover(partition, found, node, &mut recovered)?;
        }
        recovered.tombstones.clone_from(&store.tombstones);
        recovered.marks = store.marks()?;
        if !store.batch.is_empty() {
            store.commit("condemn replicas", Durability::Synced)?;
        }
        Ok((store, recovered))
    }

    /// A living replica as opening would give it back, for an owner that begins it again. `None`:
    /// none lives here.
    ///
    /// # Errors
    /// `Damaged`: condemn the replica. Else the engine failed. Nothing is changed.
    pub fn read_back(
        &self,
        partition: PartitionId,
    ) -> Result<Option<RecoveredReplica>, StorageError> {
        let Some(replica) = self.replicas.get(&partition) else {
            return Ok(None);
        };
        match self.log_tail(partition, replica.stint())? {
            Ok(tail) => Ok(Some(replica.recovered(partition, tail))),
            Err(what) => Err(StorageError::Damaged { partition, what }),
        }
    }

    fn check_format(&mut self) -> Result<(), StorageError> {
        let damaged = |_| StorageError::NodeDamaged {
            what: "the disk format",
        };
        let stored = self
            .engine
            .get(Cf::Meta, FORMAT_KEY)
            .map_err(StorageError::engine("read the disk format"))?;
        let Some(value) = stored else {
            self.batch.put(
                Cf::Meta,
                FORMAT_KEY,
                &[&u64::from(DISK_FORMAT).to_be_bytes()],
            );
            return self.commit("write the disk format", Durability::Buffered);
        };
        let found = record::open(Cf::Meta, FORMAT_KEY, value)
            .and_then(|payload| decode_number(&payload))
            .map_err(damaged)? as u32;
        if found > DISK_FORMAT {
            return Err(StorageError::Newer {
                found,
                known: DISK_FORMAT,
            });
        }
        Ok(())
    }

    /// Everything in the small column family of the replicas' own records.
    fn raft_records(&self) -> Result<BTreeMap<PartitionId, Found>, StorageError> {
        let damaged = || StorageError::NodeDamaged {
            what: "its list of replicas",
        };
        let mut all: BTreeMap<PartitionId, Found> = BTreeMap::new();
        let mut from = vec![0];
        loop {
            let rows = self
                .engine
                .scan(Cf::Raft, &from, &[u8::MAX; 2], PAGE)
                .map_err(StorageError::engine("read the replicas"))?;
            let Some((last, _)) = rows.last() else {
                return Ok(all);
            };
            from = last.to_vec();
            from.push(0);
            for (key, value) in rows {
                let (high, low, kind) = match key[..] {
                    [high, low, kind] => (high, low, kind),
                    [high, low, kind, ..] if kind == Own::Condemned as u8 => (high, low, kind),
                    _ => return Err(damaged()),
                };
                let found = all
                    .entry(PartitionId(u16::from_be_bytes([high, low])))
                    .or_default();
                match kind {
                    k if k == Family::Partition as u8 => found.row = Some(value),
                    k if k == Own::Stint as u8 => found.stint = Some(value),
                    k if k == Own::HardState as u8 => found.hard_state = Some(value),
                    k if k == Own::Tombstone as u8 => found.tombstone = Some(value),
                    k if k == Own::Condemned as u8 => found.condemned.push((key, value)),
                    k if k == Own::Installing as u8 => found.installing = Some(value),
                    _ => return Err(damaged()),
                }
            }
        }
    }

    fn recover(
        &mut self,
        partition: PartitionId,
        found: Found,
        node: Option<NodeId>,
        recovered: &mut Recovered,
    ) -> Result<(), StorageError> {
        let floor = tombstone(partition, &found)?;
        if let Some(floor) = floor {
            self.tombstones.insert(partition, floor);
        }
        let floor = floor.unwrap_or_default();
        for (key, value) in &found.condemned {
            recovered
                .condemned
                .push(condemned_before(partition, key, value)?);
        }
        let staged = self.discard_staged(partition)?;
        if found.stint.is_none() && found.hard_state.is_none() && found.row.is_none() {
            return Ok(());
        }
        let whole = self.whole(partition, &found, floor)?;
        let why = match staged.and(whole) {
            Ok((replica, tail)) => {
                recovered.replicas.push(replica.recovered(partition, tail));
                self.replicas.insert(partition, replica);
                return Ok(());
            }
            Err(why) => why,
        };
        let peer = peer_of(partition, &found, node).ok_or(StorageError::NodeDamaged {
            what: "which peer it was in a group",
        })?;
        let floor = floor.max(peer.after_condemned());
        let aside = SetAside {
            why: why.clone(),
            stint: found.stint,
            hard_state: found.hard_state,
            row: found.row,
        };
        set_aside(&mut self.batch, partition, peer, floor, &aside);
        self.tombstones.insert(partition, floor);
        recovered.condemned.push(Condemned {
            partition,
            peer,
            why,
        });
        Ok(())
    }

    /// Chunks of a transfer that a crash cut: their sender begins again. The inner error says what
    /// is wrong: the file that they would be in is damaged, and the partition's rows are their
    /// neighbours.
    fn discard_staged(
        &mut self,
        partition: PartitionId,
    ) -> Result<Result<(), String>, StorageError> {
        let prefix = own_key(partition, Own::Staged);
        let found = self
            .engine
            .scan(Cf::State, &prefix, &after(&prefix), Limit::rows(1));
        let (staged, whole) = match found {
            Ok(rows) => (!rows.is_empty(), Ok(())),
            Err(EngineError::Corrupt(why)) => (true, Err(format!("its staged snapshot: {why}"))),
            Err(source) => {
                return Err(StorageError::Engine {
                    doing: "look for staged snapshots",
                    source,
                });
            }
        };
        if staged {
            delete_prefix(&mut self.batch, Cf::State, &prefix);
        }
        Ok(whole)
    }

    /// Checks everything a replica needs to keep its promises. The inner error says what is wrong.
    fn whole(
        &self,
        partition: PartitionId,
        found: &Found,
        floor: PeerId,
    ) -> Result<Result<(Replica, Vec<LogEntry>), String>, StorageError> {
        let numbers = match numbers(partition, found, floor) {
            Ok(numbers) => numbers,
            Err(why) => return Ok(Err(why)),
        };
        let (stint, mut hard_state, row) = numbers;
        // Trap 15: the engine refuses to start when applied is past commit. What is applied is
        // committed, so that an apply need not write the hard state.
        let applied = row.as_ref().map_or(0, |row| row.applied_index);
        hard_state.commit = hard_state.commit.max(LogIndex(applied));
        let tail = match self.log_tail(partition, stint)? {
            Ok(tail) => tail,
            Err(why) => return Ok(Err(why)),
        };
        if let Err(why) = consistent(stint, hard_state, row.as_ref(), &tail) {
            return Ok(Err(why));
        }
        let replica = Replica {
            peer: stint.peer,
            hard_state,
            truncated: stint.truncated,
            last: tail
                .last()
                .map_or(stint.truncated.index, |entry| entry.at.index),
            row,
            staging: None,
        };
        replica.check_invariants(partition);
        Ok(Ok((replica, tail)))
    }

    fn log_tail(
        &self,
        partition: PartitionId,
        stint: Stint,
    ) -> Result<Result<Vec<LogEntry>, String>, StorageError> {
        let mut tail: Vec<LogEntry> = Vec::new();
        let (_, end) = log_range(partition, stint.peer);
        let (mut next, mut term) = (stint.truncated.index.next(), stint.truncated.term);
        loop {
            let begin = log_key(partition, stint.peer, next);
            let rows = match self.engine.scan(Cf::Log, &begin, &end, PAGE) {
                Ok(rows) => rows,
                Err(EngineError::Corrupt(why)) => return Ok(Err(format!("its log: {why}"))),
                Err(source) => {
                    return Err(StorageError::Engine {
                        doing: "read the log",
                        source,
                    });
                }
            };
            if rows.is_empty() {
                return Ok(Ok(tail));
            }
            for (key, value) in rows {
                if log_index(&key) != Some(next) {
                    return Ok(Err(format!("log entry {next} is missing")));
                }
                let entry = record::open(Cf::Log, &key, value)
                    .and_then(|payload| decode_entry(next, payload));
                let Ok(entry) = entry else {
                    return Ok(Err(format!("log entry {next} is damaged")));
                };
                if entry.at.term < term {
                    return Ok(Err(format!(
                        "log entry {next} has an older term than the one before"
                    )));
                }
                term = entry.at.term;
                next = next.next();
                tail.push(entry);
            }
        }
    }
}

type Numbers = (Stint, HardState, Option<PartitionRow>);

/// Reads the records of a replica, each checked by itself.
fn numbers(partition: PartitionId, found: &Found, floor: PeerId) -> Result<Numbers, String> {
    if found.installing.is_some() {
        return Err("the installation of a snapshot was interrupted".to_owned());
    }
    let stint = stint(partition, found).map_err(|_| "the record of its stint is damaged")?;
    let (peer, hard_state) =
        hard_state(partition, found).map_err(|_| "its hard state is damaged")?;
    if peer != stint.peer {
        return Err(format!(
            "its hard state is that of peer {peer}, not of {}",
            stint.peer
        ));
    }
    if stint.peer < floor {
        return Err(format!(
            "peer {} is below the tombstone {floor}",
            stint.peer
        ));
    }
    let row = row(partition, found).map_err(|_| "its partition row is damaged")?;
    Ok((stint, hard_state, row))
}

/// Checks that the parts of a replica fit each other: truncated <= applied <= last, commit <= last,
/// and terms.
fn consistent(
    stint: Stint,
    hard_state: HardState,
    row: Option<&PartitionRow>,
    tail: &[LogEntry],
) -> Result<(), String> {
    let end = tail.last().map_or(stint.truncated, |entry| entry.at);
    let applied = row.map_or(LogPosition::default(), |row| LogPosition {
        term: Term(row.applied_term),
        index: LogIndex(row.applied_index),
    });
    if hard_state.commit > end.index {
        return Err(format!(
            "the log ends at {}, before commit {}",
            end.index, hard_state.commit
        ));
    }
    if stint.truncated.index > applied.index {
        return Err(format!(
            "the log is cut at {}, past applied {}",
            stint.truncated.index, applied.index
        ));
    }
    if hard_state.term < end.term {
        return Err(format!(
            "its term {} is older than the log's {}",
            hard_state.term, end.term
        ));
    }
    let at_applied = match applied.index.0 - stint.truncated.index.0 {
        0 => stint.truncated,
        distance => tail[distance as usize - 1].at,
    };
    if at_applied != applied {
        return Err(format!(
            "the rows are those of {applied:?}, the log has {at_applied:?}"
        ));
    }
    Ok(())
}

fn stint(partition: PartitionId, found: &Found) -> Result<Stint, Damaged> {
    let key = own_key(partition, Own::Stint);
    let value = found.stint.clone().ok_or(Damaged)?;
    Stint::decode(&record::open(Cf::Raft, &key, value)?)
}

fn hard_state(partition: PartitionId, found: &Found) -> Result<(PeerId, HardState), Damaged> {
    let key = own_key(partition, Own::HardState);
    let value = found.hard_state.clone().ok_or(Damaged)?;
    decode_hard_state(&record::open(Cf::Raft, &key, value)?)
}

fn row(partition: PartitionId, found: &Found) -> Result<Option<PartitionRow>, Damaged> {
    let key = row_prefix(partition, Family::Partition);
    let Some(value) = found.row.clone() else {
        return Ok(None);
    };
    let row = PartitionRow::decode(record::open(Cf::Raft, &key, value)?).map_err(|_| Damaged)?;
    if row.membership.is_some() && row.state_chain.len() == 16 {
        Ok(Some(row))
    } else {
        Err(Damaged)
    }
}

/// Whose records these are, from whichever of them can still be read.
fn peer_of(partition: PartitionId, found: &Found, node: Option<NodeId>) -> Option<PeerId> {
    let by_stint = stint(partition, found).ok().map(|stint| stint.peer);
    let by_hard_state = hard_state(partition, found).ok().map(|(peer, _)| peer);
    let by_row = || {
        let membership = row(partition, found).ok()??.membership?;
        record::peer_id(membership.peer_on(node?)?.0).ok()
    };
    // The larger one, should they differ: the tombstone must rise above both.
    by_stint.max(by_hard_state).or_else(by_row)
}

fn tombstone(partition: PartitionId, found: &Found) -> Result<Option<PeerId>, StorageError> {
    let key = own_key(partition, Own::Tombstone);
    let Some(value) = found.tombstone.clone() else {
        return Ok(None);
    };
    record::open(Cf::Raft, &key, value)
        .and_then(|payload| decode_number(&payload))
        .map(|number| Some(PeerId(number)))
        .map_err(|_| StorageError::NodeDamaged {
            what: "a tombstone",
        })
}

/// What an earlier start condemned.
fn condemned_before(
    partition: PartitionId,
    key: &Bytes,
    value: &Bytes,
) -> Result<Condemned, StorageError> {
    let damaged = StorageError::NodeDamaged {
        what: "a condemned replica",
    };
    let peer = condemned_peer(key).ok_or(damaged)?;
    let aside = record::open(Cf::Raft, key, value.clone())
        .ok()
        .and_then(|payload| SetAside::decode(payload).ok());
    let why = aside.map_or_else(|| "why was not kept".to_owned(), |aside| aside.why);
    Ok(Condemned {
        partition,
        peer,
        why,
    })
}
