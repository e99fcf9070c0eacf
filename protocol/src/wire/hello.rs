//! The first frame of every connection, both ways: who speaks, and whether the two may speak at
//! all.
//!
//! TLS has proved that the peer holds the cluster key. `Hello` decides the rest: same protocol,
//! same cluster (or one of the two has none yet), same shape, and a generation not older than the
//! one known.

use prost::Message;

use crate::code::Code;
use crate::hash::HASH_VERSION;
use crate::ids::{ClusterId, Generation, NodeId};

/// Version of the frames; nodes with other versions refuse each other.
pub const PROTOCOL_VERSION: u32 = 5;

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
    /// The node that the dialing side means to reach, 16 bytes; empty: whoever is there.
    #[prost(bytes = "vec", tag = "6")]
    pub expected: Vec<u8>,
    /// Partition count that the speaker was started with while it has no cluster; 0: any.
    #[prost(uint32, tag = "7")]
    pub partitions: u32,
    /// [`HASH_VERSION`] of the speaker's build; 0: a build that did not say, whose rules are
    /// version 1.
    #[prost(uint32, tag = "8")]
    pub hash_version: u32,
}

/// The two connections of a node pair, and the one of a node that only asks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, prost::Enumeration)]
#[repr(i32)]
pub enum ConnectionKind {
    /// Gossip, heartbeats, votes.
    Control = 0,
    /// Appends, calls, snapshots.
    Bulk = 1,
    /// A node that lost its database asks whether it may give it up. It is no member.
    Inquiry = 2,
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
    /// Drawn at every start: tells two processes apart that run as the same generation of one node.
    #[prost(uint64, tag = "15")]
    pub nonce: u64,
    /// Actor types that applications beside it host.
    #[prost(message, repeated, tag = "16")]
    pub app_types: Vec<AppTypeRecord>,
}

/// An actor type that an application hosts, and how.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct AppTypeRecord {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// How long an object without work is kept, in milliseconds.
    #[prost(uint64, tag = "2")]
    pub idle_ms: u64,
    /// How long a running turn may go on when its actor is to run elsewhere, in milliseconds.
    #[prost(uint64, tag = "3")]
    pub drain_ms: u64,
    /// Calls of one chain that may be inside the actor at once; 0: reentrancy is off.
    #[prost(uint32, tag = "4")]
    pub depth: u32,
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

    /// The node whose place this one takes, because that one's database was lost.
    #[must_use]
    pub fn replaced(&self) -> Option<NodeId> {
        NodeId::from_slice(&self.replaces)
    }

    /// Which process wrote it.
    #[must_use]
    pub fn run(&self) -> Run {
        Run {
            generation: Generation(self.generation),
            nonce: self.nonce,
        }
    }

    /// Whether another process with the same run is meant, which was started from a copy of the
    /// directory.
    #[must_use]
    pub fn is_of_a_twin(&self, other: &Self) -> bool {
        self.generation == other.generation && self.nonce != other.nonce
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

/// One process of a node. Two that differ in nothing but the nonce were started from copies of one
/// data directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Run {
    /// One more at every start.
    pub generation: Generation,
    /// Drawn at every start.
    pub nonce: u64,
}

/// What this node knows when it judges a peer's `Hello`.
#[derive(Clone, Debug)]
pub struct Judge<'a> {
    /// Our own record.
    pub ours: &'a NodeRecord,
    /// Our cluster, if we have one.
    pub cluster: Option<&'a ClusterDescriptor>,
    /// Latest run of that peer we know of.
    pub known: Option<Run>,
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
                "{} speaks wire version {PROTOCOL_VERSION}, the other node {}. Upgrade the older of \
                 the two",
                self.ours.name, hello.protocol
            );
            return Err(HelloRefusal::new(Code::ProtocolMismatch, detail));
        }
        let theirs = hello.hash_version.max(1);
        if theirs != HASH_VERSION {
            let detail = format!(
                "{} places actors by hash rules of version {HASH_VERSION}, the other node by version \
                 {theirs}: they would look for one actor in two partitions. Run a build with the \
                 cluster's rules",
                self.ours.name
            );
            return Err(HelloRefusal::new(Code::HashRulesMismatch, detail));
        }
        let record = hello.node.clone().unwrap_or_default();
        let Some(peer) = record.id() else {
            let detail = "the peer did not say which node it is".to_owned();
            return Err(HelloRefusal::new(Code::ProtocolMismatch, detail));
        };
        self.judge_run(peer, &record)?;
        if let (Some(ours), Some(theirs)) = (self.cluster, &hello.cluster) {
            judge_cluster((&self.ours.name, ours), (&record.name, theirs))?;
        }
        if let (Some(ours), None) = (self.cluster, &hello.cluster)
            && hello.partitions != 0
            && hello.partitions != ours.partitions
        {
            let detail = format!(
                "the cluster has {} partitions, {} was started with --partitions {}. The number is fixed \
                 when a cluster is founded: leave the flag out",
                ours.partitions, record.name, hello.partitions
            );
            return Err(HelloRefusal::new(Code::ShapeMismatch, detail));
        }
        let expected = NodeId::from_slice(&hello.expected);
        if let (Some(expected), Some(me)) = (expected, self.ours.id())
            && expected != me
        {
            return Err(not_here(format!("{expected} is not here, {me} is")));
        }
        Ok(())
    }

    fn judge_run(&self, peer: NodeId, record: &NodeRecord) -> Result<(), HelloRefusal> {
        let run = record.run();
        let refused = |detail| Err(HelloRefusal::new(Code::StaleGeneration, detail));
        if Some(peer) == self.ours.id() {
            if run == self.ours.run() {
                return Err(not_here("this is the node's own address".to_owned()));
            }
            return refused(format!(
                "{peer} met itself: two nodes run from copies of one data directory. Stop one and \
                 give it an empty directory and --join"
            ));
        }
        if let Some(known) = self.known {
            if run.generation < known.generation {
                return refused(format!(
                    "{peer} comes as run {}, but run {} of it is known: an old copy of its data \
                     directory was started, or a newer copy runs elsewhere. Stop it, or give it an \
                     empty directory and --join",
                    run.generation.0, known.generation.0
                ));
            }
            if run.generation == known.generation && run.nonce != known.nonce {
                return refused(format!(
                    "{peer} runs twice as run {}: two nodes were started from copies of one data \
                     directory. Stop this one, or give it an empty directory and --join",
                    run.generation.0
                ));
            }
        }
        if self.removed == Removed::Yes {
            let detail = format!(
                "{peer} was removed from this cluster for good. Give it an empty data directory and \
                 --join to come back as a new node"
            );
            return Err(HelloRefusal::new(Code::Decommissioned, detail));
        }
        Ok(())
    }
}

/// Somebody else lives at an address: nothing is wrong, and nothing is to be said there.
fn not_here(detail: String) -> HelloRefusal {
    HelloRefusal::new(Code::UnknownNode, detail)
}

/// Whether a cluster gives way to another one that holds the same key: it never had a second
/// member, and the other one had. So ends what a wiped founder has founded again.
#[must_use]
pub fn yields(ours: &ClusterDescriptor, theirs: &ClusterDescriptor) -> bool {
    ours.cluster != theirs.cluster
        && (ours.company(), theirs.company()) == (Company::Alone, Company::Shared)
}

/// Each side: a node's name, and its cluster.
fn judge_cluster(
    (here, ours): (&str, &ClusterDescriptor),
    (there, theirs): (&str, &ClusterDescriptor),
) -> Result<(), HelloRefusal> {
    if ours.cluster != theirs.cluster {
        let show = |d: &ClusterDescriptor| d.id().map_or_else(|| "?".to_owned(), |c| c.to_string());
        let clusters = format!(
            "{here} belongs to cluster {}, {there} to cluster {}",
            show(ours),
            show(theirs)
        );
        let gives_way = |name: &str| {
            format!(
                "{clusters}. {name} has never had a second member in its cluster, so it gives way: \
                 wipe its data directory and start it with --join"
            )
        };
        let detail = if yields(ours, theirs) {
            gives_way(here)
        } else if yields(theirs, ours) {
            gives_way(there)
        } else {
            format!(
                "{clusters}. Clusters do not merge: wipe the data directories of the one to give up \
                 and start its nodes with --join, or correct the address"
            )
        };
        return Err(HelloRefusal::new(Code::ClusterIdMismatch, detail));
    }
    let shape = |d: &ClusterDescriptor| (d.partitions, d.factor, d.virtual_nodes, d.hash_version);
    if shape(ours) != shape(theirs) {
        let detail = format!(
            "partitions, factor, virtual nodes and hash version are {:?} at {here} and {:?} at \
             {there}; they are fixed when a cluster is founded",
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
                nonce: 7,
                ..NodeRecord::default()
            }),
            ..Hello::default()
        }
    }

    fn run(generation: u64) -> Option<Run> {
        let generation = Generation(generation);
        Some(Run {
            generation,
            nonce: 7,
        })
    }

    #[test]
    fn judgements() {
        let ours = new_descriptor(ClusterId(1), NodeId(1), 256, 3);
        let other = new_descriptor(ClusterId(2), NodeId(9), 256, 3);
        let shape = new_descriptor(ClusterId(1), NodeId(1), 64, 3);
        let me = hello(1, 5, None).node.unwrap();
        let judge = Judge {
            ours: &me,
            cluster: Some(&ours),
            known: run(3),
            removed: Removed::No,
        };
        let mut old_wire = hello(2, 3, None);
        old_wire.protocol = 0;
        let hashing = |hash_version| Hello {
            hash_version,
            ..hello(2, 3, None)
        };
        let mut clone = hello(2, 3, None);
        clone.node.as_mut().unwrap().nonce = 8;
        let expecting = |node: u128| Hello {
            expected: NodeId(node).to_bytes().to_vec(),
            ..hello(2, 3, None)
        };
        let asking = |partitions| Hello {
            partitions,
            ..hello(2, 3, None)
        };
        let rows = [
            (asking(256), None),
            (asking(64), Some(Code::ShapeMismatch)),
            (hello(2, 3, None), None),
            (hello(2, 4, Some(ours.clone())), None),
            (hello(2, 2, None), Some(Code::StaleGeneration)),
            (clone, Some(Code::StaleGeneration)),
            (hello(1, 9, None), Some(Code::StaleGeneration)),
            (hello(1, 5, None), Some(Code::UnknownNode)),
            (hello(2, 3, Some(other)), Some(Code::ClusterIdMismatch)),
            (hello(2, 3, Some(shape)), Some(Code::ShapeMismatch)),
            (old_wire, Some(Code::ProtocolMismatch)),
            (hashing(0), None),
            (hashing(HASH_VERSION), None),
            (hashing(HASH_VERSION + 1), Some(Code::HashRulesMismatch)),
            (expecting(1), None),
            (expecting(3), Some(Code::UnknownNode)),
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

    #[test]
    fn only_a_cluster_without_company_gives_way_and_only_to_one_with_it() {
        use Company::{Alone, Shared};
        let cluster = |id: u128, company| {
            let mut cluster = new_descriptor(ClusterId(id), NodeId(id), 256, 3);
            cluster.set_company(company);
            cluster
        };
        let rows = [
            (Alone, Shared, true),
            (Alone, Alone, false),
            (Shared, Alone, false),
            (Shared, Shared, false),
        ];
        for (ours, theirs, expected) in rows {
            let found = yields(&cluster(1, ours), &cluster(2, theirs));
            assert_eq!(found, expected, "{ours:?} meets {theirs:?}");
            assert!(!yields(&cluster(1, ours), &cluster(1, theirs)), "the same");
        }
    }
}
