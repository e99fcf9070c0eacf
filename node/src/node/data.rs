//! Opening a data directory: who this node is, and what it has.

use std::path::Path;

use ghostlight_core::node::Start;
use ghostlight_protocol::code::Code;
use ghostlight_protocol::ids::{ClusterId, NodeId};
use ghostlight_protocol::limits::{PARTITIONS_DEFAULT, REPLICATION_FACTOR_DEFAULT};
use ghostlight_protocol::wire::hello::{NodeRecord, new_descriptor};
use ghostlight_storage::{
    DataDir, Engine, MemoryDisk, NodeIdentity, Reader, Recovered, RocksEngine, StorageError, Store,
};
use rand::Rng;

use super::StartError;
use crate::config::NodeConfig;

/// An opened store, and what it says of this node.
pub(super) struct Opened<E: Engine> {
    pub(super) store: Store<E>,
    pub(super) reader: Reader<E>,
    pub(super) identity: NodeIdentity,
    pub(super) recovered: Recovered,
    pub(super) addresses: Vec<NodeRecord>,
}

/// Opens RocksDB in a directory that only this process uses.
pub(super) fn open_directory(path: &Path) -> Result<RocksEngine, StartError> {
    let refused =
        |error: ghostlight_storage::DataDirError| StartError::new(error.code(), error.to_string());
    RocksEngine::open(DataDir::open(path).map_err(refused)?).map_err(refused)
}

/// An edge keeps nothing.
pub(super) fn open_nothing() -> ghostlight_storage::MemoryEngine {
    MemoryDisk::new(rand::rng().random()).open()
}

/// Opens the store, makes or takes up the identity (one more run), and founds a cluster if that is asked.
pub(super) fn open_store<E: Engine>(
    engine: E,
    config: &NodeConfig,
) -> Result<Opened<E>, StartError> {
    let failed = |error: StorageError| StartError::new(error.code(), error.to_string());
    let (mut store, mut recovered) = Store::open(engine).map_err(failed)?;
    let addresses = store.addresses().map_err(failed)?;
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
            found(&mut store, &mut identity, config, &mut recovered).map_err(failed)?;
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
    })
}

fn found<E: Engine>(
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
) -> Start {
    let mut seeds = config.join.clone();
    seeds.extend(addresses.iter().map(|record| record.address.clone()));
    Start {
        record,
        descriptor: identity.cluster.clone(),
        seeds,
        addresses,
        replicas: recovered.replicas,
        condemned: recovered
            .condemned
            .into_iter()
            .map(|c| (c.partition, c.why))
            .collect(),
        tombstones: recovered.tombstones,
        seed: rand::rng().random(),
        min_copies: config.min_copies,
        turns: ghostlight_core::turns::Settings::default(),
    }
}
