//! The first frame of every connection, both ways: who speaks, and whether the two may speak at all.
//!
//! TLS has proved that the peer holds the cluster key. `Hello` decides the rest: same protocol, same
//! cluster (or one of the two has none yet), same shape, and a generation not older than the one known.

use prost::Message;

use crate::code::Code;
use crate::hash::HASH_VERSION;
use crate::ids::{ClusterId, Generation, NodeId};

/// Version of the frames; nodes with other versions refuse each other.
pub const PROTOCOL_VERSION: u32 = 1;

/// The first frame of a connection.
#[derive(Clone, PartialEq, Message)]
pub struct Hello {
    /// [`PROTOCOL_VERSION`] of the speaker.
    #[prost(uint32, tag = "1")]
    pub protocol: u32,
    /// The cluster, absent while the speaker has none.
    #[prost(message, optional, tag = "2")]
    pub cluster: Option<ClusterDescriptor>,
    /// Who speaks.
    #[prost(message, optional, tag = "3")]
    pub node: Option<NodeRecord>,
    /// What this connection is for.
    #[prost(enumeration = "ConnectionKind", tag = "4")]
    pub connection: i32,
    /// Present in an answer that refuses; the connection closes after it.
    #[prost(message, optional, tag = "5")]
    pub refusal: Option<HelloRefusal>,
}

/// The two connections of a node pair.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, prost::Enumeration)]
#[repr(i32)]
pub enum ConnectionKind {
    /// Gossip, heartbeats, votes.
    Control = 0,
    /// Appends, calls, snapshots.
    Bulk = 1,
}

/// What a cluster is, fixed when it is founded.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ClusterDescriptor {
    /// Cluster id, 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub cluster: Vec<u8>,
    /// Partition count, a power of two.
    #[prost(uint32, tag = "2")]
    pub partitions: u32,
    /// Replication factor.
    #[prost(uint32, tag = "3")]
    pub factor: u32,
    /// Virtual nodes per unit of weight.
    #[prost(uint32, tag = "4")]
    pub virtual_nodes: u32,
    /// Version of the hash rules.
    #[prost(uint32, tag = "5")]
    pub hash_version: u32,
    /// Node that founded it, 16 bytes.
    #[prost(bytes = "vec", tag = "6")]
    pub founder: Vec<u8>,
    /// Whether it ever had a second member. A cluster that never had one yields to one that did.
    #[prost(enumeration = "Company", tag = "7")]
    pub company: i32,
}

/// Whether a cluster has ever had a second member.
#[derive(Clone, Copy, PartialEq, Eq, Debug, prost::Enumeration)]
#[repr(i32)]
pub enum Company {
    /// Only its founder so far.
    Alone = 0,
    /// It has had a second member.
    Shared = 1,
}

impl ClusterDescriptor {
    /// The cluster id; `None` if the bytes are malformed.
    #[must_use]
    pub fn id(&self) -> Option<ClusterId> {
        ClusterId::from_slice(&self.cluster)
    }
}

/// What every node knows of another: its small public record.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct NodeRecord {
    /// Node id, 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub node: Vec<u8>,
    /// Run of the node.
    #[prost(uint64, tag = "2")]
    pub generation: u64,
    /// Its name for people, unique by habit only.
    #[prost(string, tag = "3")]
    pub name: String,
    /// Peer address that others dial, `ip:port`.
    #[prost(string, tag = "4")]
    pub address: String,
    /// Zone, may be empty.
    #[prost(string, tag = "5")]
    pub zone: String,
    /// Weight on the ring; 0: an edge.
    #[prost(uint32, tag = "6")]
    pub weight: u32,
    /// Address of its Dapr HTTP API.
    #[prost(string, tag = "7")]
    pub http: String,
    /// Address of its admin API.
    #[prost(string, tag = "8")]
    pub admin: String,
    /// Version of the program.
    #[prost(string, tag = "9")]
    pub version: String,
    /// Whether it gives its leaders and activations away.
    #[prost(enumeration = "Duty", tag = "10")]
    pub duty: i32,
    /// Raised with every change of the record within a generation.
    #[prost(uint64, tag = "11")]
    pub revision: u64,
    /// Actor types it can run in process.
    #[prost(string, repeated, tag = "12")]
    pub actor_types: Vec<String>,
    /// Node id that this one replaces after its database was lost, 16 bytes, else empty.
    #[prost(bytes = "vec", tag = "13")]
    pub replaces: Vec<u8>,
    /// Operating system process, for the table of the demo.
    #[prost(uint32, tag = "14")]
    pub pid: u32,
}

/// What a node takes part in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, prost::Enumeration)]
#[repr(i32)]
pub enum Duty {
    /// Leads and replicates.
    Serving = 0,
    /// Gives its leaderships away and takes none, keeps its copies.
    Draining = 1,
    /// Gives its copies away as well, for good.
    Leaving = 2,
}

impl NodeRecord {
    /// The node id; `None` if the bytes are malformed.
    #[must_use]
    pub fn id(&self) -> Option<NodeId> {
        NodeId::from_slice(&self.node)
    }

    /// Orders two records of one node: later run, then later revision.
    #[must_use]
    pub fn freshness(&self) -> (u64, u64) {
        (self.generation, self.revision)
    }
}

/// Why a connection was refused.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct HelloRefusal {
    /// Number of the code.
    #[prost(uint32, tag = "1")]
    pub code: u32,
    /// What failed, why, and what to do.
    #[prost(string, tag = "2")]
    pub detail: String,
}

impl HelloRefusal {
    fn new(code: Code, detail: String) -> Self {
        Self {
            code: u32::from(code.number()),
            detail,
        }
    }

    /// The code, if this build knows it.
    #[must_use]
    pub fn code(&self) -> Option<Code> {
        Code::from_number(u16::try_from(self.code).ok()?)
    }
}

/// What this node knows when it judges a peer's `Hello`.
#[derive(Clone, Debug)]
pub struct Judge<'a> {
    /// Our own id.
    pub me: NodeId,
    /// Our cluster, if we have one.
    pub cluster: Option<&'a ClusterDescriptor>,
    /// Latest generation of that peer we know of.
    pub known_generation: Option<Generation>,
    /// Whether partition 0 says that this node was removed for good.
    pub removed: Removed,
}

/// Whether a node was removed from the cluster for good.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Removed {
    /// Not as far as we know.
    No,
    /// It was.
    Yes,
}

impl Judge<'_> {
    /// Decides whether we may speak with the node behind `hello`.
    ///
    /// # Errors
    /// The refusal to send, which names both sides' values. Nothing changes.
    pub fn judge(&self, hello: &Hello) -> Result<(), HelloRefusal> {
        if hello.protocol != PROTOCOL_VERSION {
            let detail = format!(
                "this node speaks wire version {PROTOCOL_VERSION}, the peer speaks {}. Upgrade the \
                 older of the two",
                hello.protocol
            );
            return Err(HelloRefusal::new(Code::ProtocolMismatch, detail));
        }
        let record = hello.node.clone().unwrap_or_default();
        let Some(peer) = record.id() else {
            let detail = "the peer did not say which node it is".to_owned();
            return Err(HelloRefusal::new(Code::ProtocolMismatch, detail));
        };
        self.judge_run(peer, Generation(record.generation))?;
        match (self.cluster, &hello.cluster) {
            (Some(ours), Some(theirs)) => judge_cluster(ours, theirs),
            _ => Ok(()),
        }
    }

    fn judge_run(&self, peer: NodeId, generation: Generation) -> Result<(), HelloRefusal> {
        if peer == self.me {
            let detail = format!(
                "node {peer} was met under its own id: two nodes run from copies of one data \
                 directory. Stop one and give it an empty directory"
            );
            return Err(HelloRefusal::new(Code::StaleGeneration, detail));
        }
        if let Some(known) = self.known_generation.filter(|known| generation < *known) {
            let detail = format!(
                "node {peer} comes as run {generation}, but run {known} of it is known: an old \
                 copy of its data directory was started. Stop it, or give it an empty directory"
            );
            return Err(HelloRefusal::new(Code::StaleGeneration, detail));
        }
        if self.removed == Removed::Yes {
            let detail = format!(
                "node {peer} was removed from this cluster for good. Give it an empty data \
                 directory to join as a new node"
            );
            return Err(HelloRefusal::new(Code::Decommissioned, detail));
        }
        Ok(())
    }
}

fn judge_cluster(ours: &ClusterDescriptor, theirs: &ClusterDescriptor) -> Result<(), HelloRefusal> {
    if ours.cluster != theirs.cluster {
        let show =
            |d: &ClusterDescriptor| d.id().map_or_else(|| "?".to_owned(), |c| format!("{c:?}"));
        let detail = format!(
            "this node belongs to cluster {}, the peer to {}. Clusters do not merge: wipe the one \
             to give up and start its nodes with --join",
            show(ours),
            show(theirs)
        );
        return Err(HelloRefusal::new(Code::ClusterIdMismatch, detail));
    }
    let shape = |d: &ClusterDescriptor| (d.partitions, d.factor, d.virtual_nodes, d.hash_version);
    if shape(ours) != shape(theirs) {
        let detail = format!(
            "partitions, factor, virtual nodes and hash version are {:?} here and {:?} at the peer; \
             they are fixed when a cluster is founded",
            shape(ours),
            shape(theirs)
        );
        return Err(HelloRefusal::new(Code::ShapeMismatch, detail));
    }
    Ok(())
}

/// The descriptor of a cluster founded now.
#[must_use]
pub fn new_descriptor(
    cluster: ClusterId,
    founder: NodeId,
    partitions: u16,
    factor: u8,
) -> ClusterDescriptor {
    ClusterDescriptor {
        cluster: cluster.to_bytes().to_vec(),
        partitions: u32::from(partitions),
        factor: u32::from(factor),
        virtual_nodes: crate::limits::VIRTUAL_NODES_PER_WEIGHT,
        hash_version: HASH_VERSION,
        founder: founder.to_bytes().to_vec(),
        company: Company::Alone as i32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(node: u128, generation: u64, cluster: Option<ClusterDescriptor>) -> Hello {
        Hello {
            protocol: PROTOCOL_VERSION,
            cluster,
            node: Some(NodeRecord {
                node: NodeId(node).to_bytes().to_vec(),
                generation,
                ..NodeRecord::default()
            }),
            ..Hello::default()
        }
    }

    #[test]
    fn judgements() {
        let ours = new_descriptor(ClusterId(1), NodeId(1), 256, 3);
        let other = new_descriptor(ClusterId(2), NodeId(9), 256, 3);
        let shape = new_descriptor(ClusterId(1), NodeId(1), 64, 3);
        let judge = Judge {
            me: NodeId(1),
            cluster: Some(&ours),
            known_generation: Some(Generation(3)),
            removed: Removed::No,
        };
        let mut old_wire = hello(2, 3, None);
        old_wire.protocol = 0;
        let rows = [
            (hello(2, 3, None), None),
            (hello(2, 4, Some(ours.clone())), None),
            (hello(2, 2, None), Some(Code::StaleGeneration)),
            (hello(1, 9, None), Some(Code::StaleGeneration)),
            (hello(2, 3, Some(other)), Some(Code::ClusterIdMismatch)),
            (hello(2, 3, Some(shape)), Some(Code::ShapeMismatch)),
            (old_wire, Some(Code::ProtocolMismatch)),
        ];
        for (hello, refused) in rows {
            let found = judge.judge(&hello).err().and_then(|refusal| refusal.code());
            assert_eq!(found, refused, "{hello:?}");
        }
        let removed = Judge {
            removed: Removed::Yes,
            ..judge
        };
        let found = removed.judge(&hello(2, 3, None)).unwrap_err();
        assert_eq!(found.code(), Some(Code::Decommissioned));
    }
}
