//! Opening a data directory: who this node is, and what it has.

use std::path::{Path, PathBuf};

use ghostlight_core::io::HaltReason;
use ghostlight_core::node::{Start, Trust};
use ghostlight_protocol::code::Code;
use ghostlight_protocol::ids::{ClusterId, NodeId};
use ghostlight_protocol::limits::{PARTITIONS_DEFAULT, REPLICATION_FACTOR_DEFAULT};
use ghostlight_protocol::replica::log::RecoveredReplica;
use ghostlight_protocol::wire::hello::{Company, NodeRecord, new_descriptor};
use ghostlight_storage::{
    DataDir, DataDirError, Engine, MemoryDisk, MemoryEngine, NodeIdentity, Note, Reader, Recovered,
    RocksEngine, StorageError, Store,
};
use rand::Rng;

use super::StartError;
use crate::config::NodeConfig;

/// Damaged copies that are named one by one at the start.
const CONDEMNED_NAMED_MAX: usize = 4;

/// An opened store, and what it says of this node.
pub(super) struct Opened<E: Engine> {
    pub(super) store: Store<E>,
    pub(super) reader: Reader<E>,
    pub(super) identity: NodeIdentity,
    pub(super) recovered: Recovered,
    pub(super) addresses: Vec<NodeRecord>,
    /// Whether it may lack something that was synced.
    pub(super) trust: Trust,
}

/// What a data directory holds.
pub(super) enum Directory {
    /// A database that is whole, or whose damage concerns single replicas.
    Opened(Box<Opened<RocksEngine>>),
    /// A database that cannot be trusted any more.
    Lost(Box<LostDatabase>),
}

/// See [`Directory::Lost`]. Nothing was changed yet.
pub(super) struct LostDatabase {
    pub(super) path: PathBuf,
    /// What is damaged.
    pub(super) why: String,
    /// Who the node was and whom it knew.
    pub(super) note: Option<Note>,
}

/// Opens RocksDB in a directory that only this process uses.
pub(super) fn open_directory(path: &Path, config: &NodeConfig) -> Result<Directory, StartError> {
    let dir = DataDir::open(path).map_err(unusable)?;
    let note = dir.note();
    let lost = |why| {
        Ok(Directory::Lost(Box::new(LostDatabase {
            path: path.to_owned(),
            why,
            note: note.clone(),
        })))
    };
    if let Some(why) = dir.damage() {
        return lost(why);
    }
    let engine = match RocksEngine::open(dir) {
        Ok(engine) => engine,
        Err(error) if error.code() == Code::DataDirCorrupt => {
            return match up_to_damage(path, &error.to_string(), note.as_ref(), config)? {
                Some(opened) => Ok(Directory::Opened(Box::new(opened))),
                None => lost(error.to_string()),
            };
        }
        Err(error) => return Err(unusable(error)),
    };
    let found = match Found::in_engine(engine) {
        Ok(found) => found,
        Err(error) if error.code() == Code::DataDirCorrupt => return lost(error.to_string()),
        Err(error) => return Err(failed(error)),
    };
    let noted = note.as_ref().and_then(|note| note.identity.as_ref()?.id());
    if let (None, Some(node)) = (&found.recovered.identity, noted) {
        return lost(format!(
            "the directory {} belongs to {node}, but its database is empty",
            path.display()
        ));
    }
    Ok(Directory::Opened(Box::new(take_up(found, config)?)))
}

/// Opens a database whose log is damaged, with what stands before the damage. `None`: more is
/// damaged, or nobody could tell whether anything that was synced is missing.
fn up_to_damage(
    path: &Path,
    why: &str,
    note: Option<&Note>,
    config: &NodeConfig,
) -> Result<Option<Opened<RocksEngine>>, StartError> {
    let cluster = note.and_then(|note| note.identity.as_ref()?.cluster.as_ref());
    if cluster.is_none_or(|cluster| cluster.company() == Company::Alone) {
        return Ok(None);
    }
    let dir = DataDir::open(path).map_err(unusable)?;
    let aside = dir.keep_log_aside().map_err(unusable)?;
    let engine = match RocksEngine::open_up_to_damage(dir) {
        Ok(engine) => engine,
        Err(error) if error.code() == Code::DataDirCorrupt => return Ok(None),
        Err(error) => return Err(unusable(error)),
    };
    let found = match Found::in_engine(engine) {
        Ok(found) if found.recovered.identity.is_some() => found,
        Ok(_) => return Ok(None),
        Err(error) if error.code() == Code::DataDirCorrupt => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let alone = |replica: &RecoveredReplica| {
        let membership = replica.row.as_ref().and_then(|row| row.membership.as_ref());
        membership.is_some_and(|m| m.voters == [replica.peer.0] && !m.is_joint())
    };
    if found.recovered.replicas.iter().any(alone) {
        DataDir::mark_damaged(path, why).map_err(unusable)?;
        return Ok(None);
    }
    tracing::error!(
        "{why}. It was opened with what stands before the damage (the log as it was found is in {}); \
         copies here promise nothing before the other nodes have told what they remember [E0311]",
        aside.display()
    );
    let mut opened = take_up(found, config)?;
    opened.trust = Trust::InDoubt;
    Ok(Some(opened))
}

/// An edge keeps nothing.
pub(super) fn open_nothing(config: &NodeConfig) -> Result<Opened<MemoryEngine>, StartError> {
    let engine = MemoryDisk::new(rand::rng().random()).open();
    take_up(Found::in_engine(engine).map_err(failed)?, config)
}

/// Moves a lost database aside and begins in the same directory as a new node that names the one it
/// replaces. Returns also where the damaged files went.
pub(super) fn begin_anew(
    path: &Path,
    note: Note,
    config: &NodeConfig,
) -> Result<(Opened<RocksEngine>, Option<PathBuf>), StartError> {
    let dir = DataDir::open(path).map_err(unusable)?;
    let aside = dir.move_database_aside().map_err(unusable)?;
    let engine = RocksEngine::open(dir).map_err(unusable)?;
    let Found {
        mut store,
        recovered,
        ..
    } = Found::in_engine(engine).map_err(failed)?;
    let lost = note.identity.unwrap_or_default();
    let identity = NodeIdentity {
        cluster: lost.cluster,
        ports: lost.ports,
        replaces: lost.node,
        ..NodeIdentity::new(NodeId(rand::rng().random()), &config.name)
    };
    store.begin(&identity, &note.nodes).map_err(failed)?;
    let opened = Opened {
        reader: store.reader(),
        store,
        identity,
        recovered,
        addresses: note.nodes,
        trust: Trust::Whole,
    };
    Ok((opened, aside))
}

/// A node that ended because its database is damaged must not trust it at the next start either.
pub(super) fn mark_if_damaged(path: &Path, reason: &HaltReason) {
    if let HaltReason::Refused {
        code: Code::DataDirCorrupt | Code::PromisesLost,
        detail,
    } = reason
        && let Err(error) = DataDir::mark_damaged(path, detail)
    {
        tracing::warn!("the damage could not be noted: {error}");
    }
}

fn unusable(error: DataDirError) -> StartError {
    StartError::new(error.code(), error.to_string())
}

pub(super) fn failed(error: StorageError) -> StartError {
    StartError::new(error.code(), error.to_string())
}

/// A store that could be read.
struct Found<E: Engine> {
    store: Store<E>,
    recovered: Recovered,
    addresses: Vec<NodeRecord>,
}

impl<E: Engine> Found<E> {
    fn in_engine(engine: E) -> Result<Self, StorageError> {
        let (store, recovered) = Store::open(engine)?;
        let addresses = store.addresses()?;
        Ok(Self {
            store,
            recovered,
            addresses,
        })
    }
}

/// Makes or takes up the identity (one more run), and founds a cluster if that is asked.
fn take_up<E: Engine>(found: Found<E>, config: &NodeConfig) -> Result<Opened<E>, StartError> {
    let Found {
        mut store,
        mut recovered,
        addresses,
    } = found;
    tell_condemned(&recovered);
    let new = recovered.identity.is_none();
    let mut identity = match recovered.identity.take() {
        Some(mut identity) => {
            identity.generation += 1;
            identity
        }
        None => NodeIdentity::new(NodeId(rand::rng().random()), &config.name),
    };
    identity.name.clone_from(&config.name);
    if let (Some(cluster), Some(asked)) = (&identity.cluster, config.partitions)
        && cluster.partitions != u32::from(asked)
    {
        return Err(StartError::new(
            Code::ShapeMismatch,
            format!(
                "this data directory belongs to a cluster of {} partitions, --partitions says {asked}. \
                 The number is fixed when a cluster is founded: leave the flag out",
                cluster.partitions
            ),
        ));
    }
    if identity.cluster.is_none() && config.join.is_empty() {
        if !new && addresses.is_empty() {
            return Err(StartError::new(
                Code::SeedsSilent,
                "this data directory was made by a node that never reached its seeds. Start it with \
                 --join, or delete the directory to found a new cluster",
            ));
        }
        if new {
            found_cluster(&mut store, &mut identity, config, &mut recovered).map_err(failed)?;
        }
    }
    store.save_identity(&identity).map_err(failed)?;
    let reader = store.reader();
    Ok(Opened {
        store,
        reader,
        identity,
        recovered,
        addresses,
        trust: Trust::Whole,
    })
}

/// One line for all of them: a disk that fails may damage every copy.
fn tell_condemned(recovered: &Recovered) {
    let all = &recovered.condemned;
    if all.is_empty() {
        return;
    }
    let named = all.iter().take(CONDEMNED_NAMED_MAX);
    let named: Vec<String> = named
        .map(|condemned| format!("{}: {}", condemned.partition, condemned.why))
        .collect();
    let more = if all.len() > named.len() { "; ..." } else { "" };
    tracing::error!(
        "{} copies on this node are damaged ({}{more}): they are set aside and made anew from the other \
         nodes [E0308]",
        all.len(),
        named.join("; ")
    );
}

fn found_cluster<E: Engine>(
    store: &mut Store<E>,
    identity: &mut NodeIdentity,
    config: &NodeConfig,
    recovered: &mut Recovered,
) -> Result<(), StorageError> {
    let partitions = config.partitions.unwrap_or(PARTITIONS_DEFAULT);
    let founder = identity.id().expect("made above");
    let cluster = ClusterId(rand::rng().random());
    let descriptor = new_descriptor(cluster, founder, partitions, REPLICATION_FACTOR_DEFAULT);
    identity.cluster = Some(descriptor);
    recovered.replicas = store.found(partitions, identity)?;
    Ok(())
}

/// What the core begins with.
pub(super) fn core_start(
    config: &NodeConfig,
    record: NodeRecord,
    identity: &NodeIdentity,
    recovered: Recovered,
    addresses: Vec<NodeRecord>,
    trust: Trust,
) -> Start {
    let mut seeds = config.join.clone();
    seeds.extend(addresses.iter().map(|record| record.address.clone()));
    Start {
        record,
        descriptor: identity.cluster.clone(),
        partitions: config.partitions,
        seeds,
        addresses,
        replicas: recovered.replicas,
        condemned: recovered
            .condemned
            .into_iter()
            .map(|c| (c.partition, c.why))
            .collect(),
        tombstones: recovered.tombstones,
        marks: recovered.marks,
        trust,
        seed: rand::rng().random(),
        min_copies: config.min_copies,
        turns: ghostlight_core::turns::Settings::default(),
        log: ghostlight_core::replica::LogBounds::default(),
    }
}
