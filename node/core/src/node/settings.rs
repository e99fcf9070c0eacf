//! What a node core is started with.

use std::collections::BTreeMap;

use ghostlight_protocol::ids::{NodeId, PartitionId, PeerId};
use ghostlight_protocol::marks::Marks;
use ghostlight_protocol::replica::log::RecoveredReplica;
use ghostlight_protocol::wire::hello::{ClusterDescriptor, NodeRecord};

use crate::replica::{GroupSettings, LogBounds};

/// Everything that comes from configuration, the data directory and the command line.
#[derive(Clone, Debug)]
pub struct Start {
    /// This node's record, generation included.
    pub record: NodeRecord,
    /// The cluster, unless this node has yet to join one.
    pub descriptor: Option<ClusterDescriptor>,
    /// Partition count that the operator asked for; joining a cluster with another one is refused.
    pub partitions: Option<u16>,
    /// `host:port` of nodes to join by.
    pub seeds: Vec<String>,
    /// Where nodes were last seen.
    pub addresses: Vec<NodeRecord>,
    /// Replicas that the disk gave back whole.
    pub replicas: Vec<RecoveredReplica>,
    /// Replicas that were not whole, and why.
    pub condemned: Vec<(PartitionId, String)>,
    /// Smallest peer id allowed, per partition.
    pub tombstones: BTreeMap<PartitionId, PeerId>,
    /// What the disk says of marks.
    pub marks: Marks,
    /// Whether the disk may lack something that was synced.
    pub trust: Trust,
    /// Seed of everything random here.
    pub seed: u64,
    /// Writes are refused below this many voters.
    pub min_copies: u8,
    /// Limits of activations.
    pub turns: crate::turns::Settings,
    /// How much of a log is kept.
    pub log: LogBounds,
}

/// Whether a disk gave back everything that was synced.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub enum Trust {
    /// As far as can be seen.
    #[default]
    Whole,
    /// Its log was cut at a damaged place: its replicas promise nothing before the others have told
    /// what they remember.
    InDoubt,
}

impl Start {
    /// This node's id.
    ///
    /// # Panics
    /// When the record has none: the shell made it.
    #[must_use]
    pub fn me(&self) -> NodeId {
        self.record.id().expect("the shell writes its own record")
    }

    /// What each of its groups is begun with.
    pub(super) fn group(&self) -> GroupSettings {
        GroupSettings {
            seed: self.seed,
            log: self.log,
        }
    }
}
