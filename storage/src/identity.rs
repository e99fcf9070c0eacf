//! Who this node is, and whom it knew: the node's own facts.
//!
//! A copy is kept as a note outside of the database, so that a node whose database is lost can
//! still say which node it replaces and ask the others.

use bytes::{BufMut, Bytes};
use ghostlight_protocol::ids::{Generation, NodeId};
use ghostlight_protocol::wire::hello::{ClusterDescriptor, NodeRecord};
use prost::Message;

/// The node's own facts.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct NodeIdentity {
    /// Node id, 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub node: Vec<u8>,
    /// The run; one more at every start.
    #[prost(uint64, tag = "2")]
    pub generation: u64,
    /// The cluster, once it has one.
    #[prost(message, optional, tag = "3")]
    pub cluster: Option<ClusterDescriptor>,
    /// Its name for people.
    #[prost(string, tag = "4")]
    pub name: String,
    /// Ports chosen because the default ones were taken.
    #[prost(message, repeated, tag = "5")]
    pub ports: Vec<ChosenPort>,
    /// Node id that this one replaces, 16 bytes, else empty.
    #[prost(bytes = "vec", tag = "6")]
    pub replaces: Vec<u8>,
}

/// A port that this node keeps.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ChosenPort {
    /// What listens there, such as `peer`.
    #[prost(string, tag = "1")]
    pub listener: String,
    /// The port.
    #[prost(uint32, tag = "2")]
    pub port: u32,
}

impl NodeIdentity {
    /// A new node's first run.
    #[must_use]
    pub fn new(node: NodeId, name: &str) -> Self {
        Self {
            node: node.to_bytes().to_vec(),
            generation: 1,
            name: name.to_owned(),
            ..Self::default()
        }
    }

    /// The node id; `None` if the bytes are malformed.
    #[must_use]
    pub fn id(&self) -> Option<NodeId> {
        NodeId::from_slice(&self.node)
    }

    /// The run.
    #[must_use]
    pub fn run(&self) -> Generation {
        Generation(self.generation)
    }

    /// The node it replaces, if it replaces one.
    #[must_use]
    pub fn replaced(&self) -> Option<NodeId> {
        NodeId::from_slice(&self.replaces)
    }
}

/// The last known records of other nodes.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct AddressBook {
    #[prost(message, repeated, tag = "1")]
    pub(crate) nodes: Vec<NodeRecord>,
}

/// What is kept outside of the database.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Note {
    /// Who the node was.
    #[prost(message, optional, tag = "1")]
    pub identity: Option<NodeIdentity>,
    /// Whom it knew.
    #[prost(message, repeated, tag = "2")]
    pub nodes: Vec<NodeRecord>,
}

impl Note {
    /// The note with its checksum.
    #[must_use]
    pub fn seal(&self) -> Vec<u8> {
        let mut bytes = self.encode_to_vec();
        let sum = crc32fast::hash(&bytes);
        bytes.put_u32(sum);
        bytes
    }

    /// Reads a sealed note; `None` if it is damaged.
    #[must_use]
    pub fn open(bytes: &[u8]) -> Option<Self> {
        let (payload, sum) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
        let stored = u32::from_be_bytes(sum.try_into().ok()?);
        if crc32fast::hash(payload) != stored {
            return None;
        }
        Self::decode(Bytes::copy_from_slice(payload)).ok()
    }
}
