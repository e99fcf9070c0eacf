//! What an operator may ask a node, and what it answers: the views behind the command line, the
//! admin port and the metrics.
//!
//! Ids are shown in full here; people's programs read them. Field names are part of the `--json`
//! contract.

use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::code::Code;
use serde::{Deserialize, Serialize};

/// The shell's number of an admin request.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct AdminTicket(pub u64);

/// An operator's request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AdminRequest {
    /// Health sentence and one row per node.
    Status,
    /// Every partition as this node sees it.
    Partitions,
    /// Activations on this node.
    Actors,
    /// Actor types that some node has, and which.
    Types,
    /// How many objects the applications beside this node have of each type.
    Hosted,
    /// Where an actor lives.
    Where(ActorKey),
    /// Leaderships and activations move away from a node; it stays, and keeps its copies.
    Drain {
        /// Node id or name; `None`: this node.
        node: Option<String>,
        /// Begin or end it.
        change: DrainChange,
    },
    /// A node's copies move away for good; answered when it may be stopped for ever.
    Leave {
        /// Node id or name; `None`: this node.
        node: Option<String>,
    },
    /// A dead node's copies are replaced at once, and it may never come back. Node id or name.
    Remove(String),
}

/// What an operator is told whose name for a node is that of several, each with its id and what it
/// is believed to be.
#[must_use]
pub fn several_called(name: &str, nodes: &[(String, String)]) -> String {
    let each = nodes.iter().map(|(id, state)| format!("{id} ({state})"));
    let each: Vec<String> = each.collect();
    format!(
        "{} nodes are called {name:?}, and nothing was done: {}. Say the id of the one that is meant",
        nodes.len(),
        each.join(", ")
    )
}

/// See [`AdminRequest::Drain`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DrainChange {
    /// Give everything away.
    Begin,
    /// Take part again.
    Undo,
}

/// The answer.
#[derive(Clone, PartialEq, Debug)]
pub enum AdminAnswer {
    /// To `Status`.
    Status(StatusView),
    /// To `Partitions`.
    Partitions(Vec<PartitionView>),
    /// To `Actors`.
    Actors(Vec<ActorView>),
    /// To `Types`, by name.
    Types(Vec<TypeView>),
    /// To `Hosted`, by name.
    Hosted(Vec<(String, u32)>),
    /// To `Where`.
    Where(WhereView),
    /// Done, with a sentence for people.
    Done(String),
    /// Refused; nothing has changed.
    Refused {
        /// Which case.
        code: Code,
        /// What failed, why, and what to do.
        detail: String,
    },
}

/// Health in one word.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// Every partition is led and has all its copies.
    Healthy,
    /// It works, but something needs repair or is being repaired.
    Degraded,
    /// Some partitions cannot be served.
    Unhealthy,
}

/// The cluster as one node sees it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct StatusView {
    /// In one word.
    pub health: Health,
    /// In one sentence per reason: how many copies, who is suspect, what moves.
    pub reasons: Vec<String>,
    /// Cluster id in full; empty while the node has none.
    pub cluster: String,
    /// Id of the node that answers.
    pub node: String,
    /// Partition count.
    pub partitions: u32,
    /// Replication factor.
    pub factor: u32,
    /// Partitions with a known leader.
    pub partitions_led: u32,
    /// Fewest voters that any partition has.
    pub copies_min: u32,
    /// Replicas being added, removed or caught up.
    pub moves: u32,
    /// Settings that weaken a guarantee, such as an API address outside loopback.
    pub weakened: Vec<String>,
    /// Applications beside the node that answers, with their API listeners, in the order of its
    /// command line.
    #[serde(default)]
    pub applications: Vec<ApplicationView>,
    /// One row per node, by name.
    pub members: Vec<MemberView>,
}

/// An application beside a node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ApplicationView {
    /// Its name.
    pub app: String,
    /// Its Dapr HTTP API.
    pub http: String,
    /// Its Dapr gRPC API.
    pub grpc: String,
}

/// One node of the cluster.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct MemberView {
    /// Node id in full.
    pub id: String,
    /// Its name.
    pub name: String,
    /// `alive`, `silent` (nothing heard for 400 ms, not doubted by gossip yet), `suspect`, `down`,
    /// or `left` for one that left for good.
    pub state: String,
    /// `serving`, `draining` or `leaving`.
    pub duty: String,
    /// Run of the node.
    pub generation: u64,
    /// Peer address.
    pub address: String,
    /// Dapr HTTP API.
    pub http: String,
    /// Admin API.
    pub admin: String,
    /// Zone.
    pub zone: String,
    /// Weight; 0: an edge.
    pub weight: u32,
    /// Partitions it leads.
    pub leaders: u32,
    /// Copies it holds, leaders included.
    pub replicas: u32,
    /// Its process.
    pub pid: u32,
    /// Version of the program.
    pub version: String,
}

/// One partition.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct PartitionView {
    /// Its number.
    pub partition: u16,
    /// Leader as far as this node knows.
    pub leader: Option<NodeRef>,
    /// Term of that leadership.
    pub term: u64,
    /// Role of this node's replica: `leader`, `follower`, `candidate`, `learner` or `none`.
    pub role: String,
    /// Nodes that vote.
    pub voters: Vec<NodeRef>,
    /// Nodes that only follow.
    pub learners: Vec<NodeRef>,
    /// Commit index of this node's replica.
    pub commit: u64,
    /// Applied index of this node's replica.
    pub applied: u64,
    /// State chain hash at the applied index, in hexadecimal.
    pub state_hash: String,
    /// Messages waiting to be accepted elsewhere.
    pub outbox: u64,
    /// Accepted messages waiting to run.
    pub inbox: u64,
}

/// A node, as other views name it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NodeRef {
    /// Node id in full.
    pub id: String,
    /// Its name.
    pub name: String,
}

/// One activation.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ActorView {
    /// `type/id`.
    pub actor: String,
    /// Its namespace.
    pub namespace: String,
    /// Its partition.
    pub partition: u16,
    /// Node it runs on.
    pub node: NodeRef,
    /// Calls waiting.
    pub mailbox: u32,
    /// Whether a turn runs: `idle` or `in_turn`.
    pub state: String,
    /// Turns since activation.
    pub turns: u64,
    /// Version, uncommitted turns included.
    pub version: u64,
}

/// An actor type, and who has its code.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TypeView {
    /// Its name.
    pub actor_type: String,
    /// Nodes that have it built in.
    pub native: Vec<NodeRef>,
    /// Nodes beside which an application has it.
    pub applications: Vec<NodeRef>,
}

/// Where an actor lives.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct WhereView {
    /// `type/id`.
    pub actor: String,
    /// Its partition.
    pub partition: u16,
    /// Leader of the partition, as far as known.
    pub leader: Option<NodeRef>,
    /// Nodes with a voting copy.
    pub replicas: Vec<NodeRef>,
}
