//! Everything that passes between the node core and the shell (or the simulator).
//!
//! Effects are performed in order. Store effects go to one thread, in order; each that others wait
//! for comes back as an input. Nothing blocks.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use ghostlight_protocol::code::Code;
use ghostlight_protocol::ids::{LogPosition, NodeId, PartitionId, PeerId, Term};
use ghostlight_protocol::marks::{self, Mark};
use ghostlight_protocol::outcome::CallOutcome;
use ghostlight_protocol::partition_row::{Membership, PartitionRow};
use ghostlight_protocol::replica::log::RecoveredReplica;
use ghostlight_protocol::replica::{ApplyItem, EntryOutcome, HardState, LogWrite};
use ghostlight_protocol::time::{Instant, WallTime};
use ghostlight_protocol::wire::frame::Frame;
use ghostlight_protocol::wire::hello::{ClusterDescriptor, ConnectionKind, NodeRecord};

use crate::admin::{AdminAnswer, AdminRequest, AdminTicket};
use crate::gateway::{CallTicket, ClientCall};
use crate::hosts::words::{AppEffect, AppInput};
use crate::topics::UnsentDelivery;
use crate::topics::subscribers::{SubscribersInput, SubscriptionId, Told};
use crate::turn_io::{RunnerEffect, RunnerInput};
use crate::turns::RowsWanted;

/// Both clocks, read once per input.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Now {
    /// Monotonic; decides everything on this node.
    pub instant: Instant,
    /// Calendar; only ever stamped into requests and commands.
    pub wall: WallTime,
}

/// Which stream a frame travels on. Order is kept within one lane only.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Lane {
    /// Control connection: heartbeats, votes, leaderships, records.
    Control,
    /// Bulk connection: Raft appends and their answers.
    Append,
    /// Bulk connection: calls and answers; the number comes from a hash of the actor or call.
    Call(u8),
    /// Bulk connection: messages between partitions.
    Push,
    /// Bulk connection, lowest priority: snapshots.
    Snapshot,
    /// Bulk connection: events of ephemeral topics. They come from beside the core, which sends
    /// nothing here.
    Ephemeral,
    /// Connection of a node that only asks: the question and the answers.
    Inquiry,
}

/// Lanes that calls are spread over.
pub const CALL_LANES: u8 = 4;

/// Number of a batch that is being synced.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PersistTicket(pub u64);

/// Number of a read of rows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ReadTicket(pub u64);

/// This node's number of a snapshot: of those it sends, or, counted apart, of those that arrive.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TransferId(pub u64);

/// What the core is fed.
#[derive(Clone, PartialEq, Debug)]
pub enum Input {
    /// A deadline has passed.
    Tick,
    /// A frame arrived.
    Frame {
        /// Authenticated sender.
        from: NodeId,
        /// The frame.
        frame: Frame,
    },
    /// A gossip datagram arrived.
    Gossip(Bytes),
    /// A connection is up and its `Hello` was accepted.
    Connected {
        /// The peer's record.
        peer: NodeRecord,
        /// The peer's cluster, if it has one.
        descriptor: Option<ClusterDescriptor>,
        /// Which connection.
        kind: ConnectionKind,
    },
    /// A dial to this address led to this node: a seed may be a name, and the node has another
    /// address.
    Dialed {
        /// As it was dialed.
        address: String,
        /// Who is there.
        node: NodeId,
    },
    /// A connection is gone.
    Disconnected {
        /// The peer.
        node: NodeId,
        /// Which connection.
        kind: ConnectionKind,
    },
    /// A connection did not come about, because one side refused the other.
    Refused(Refused),
    /// A call's frame could not be queued: it certainly was not sent.
    CallNotSent {
        /// The receiver it was meant for.
        to: NodeId,
        /// The gateway's number of the call.
        call: u64,
    },
    /// Raft messages could not be queued: they certainly were not sent.
    AppendsNotSent {
        /// The receiver they were meant for.
        to: NodeId,
        /// Of these groups.
        partitions: Vec<PartitionId>,
    },
    /// Events for a subscriber could not be queued: they certainly were not sent.
    DeliveryNotSent {
        /// The receiver they were meant for.
        to: NodeId,
        /// Which.
        unsent: UnsentDelivery,
    },
    /// A client of this node calls.
    Call {
        /// The shell's number.
        ticket: CallTicket,
        /// The call.
        call: ClientCall,
    },
    /// The client has gone.
    Hangup(CallTicket),
    /// From whoever runs turns.
    Runner(RunnerInput),
    /// From the applications beside this node.
    App(AppInput),
    /// From a program of this process that subscribes to topics.
    Subscriber(SubscribersInput),
    /// An operator asks.
    Admin {
        /// The shell's number.
        ticket: AdminTicket,
        /// The request.
        request: AdminRequest,
    },
    /// From the store.
    Store(StoreInput),
    /// The node is to end: give leaderships away, then halt.
    Shutdown {
        /// When to end in any case.
        deadline: Instant,
    },
}

impl Input {
    /// What the core is to hear of a frame that could not be queued; `None`: nothing, it is made
    /// good by itself.
    #[must_use]
    pub fn not_sent(to: NodeId, frame: &Frame) -> Option<Self> {
        match frame {
            Frame::Call(request) => Some(Self::CallNotSent {
                to,
                call: request.call,
            }),
            Frame::Raft(raft) => {
                let partitions = raft.messages.iter();
                let partitions = partitions.filter_map(|m| u16::try_from(m.partition).ok());
                Some(Self::AppendsNotSent {
                    to,
                    partitions: partitions.map(PartitionId).collect(),
                })
            }
            frame => {
                let unsent = UnsentDelivery::of(frame)?;
                Some(Self::DeliveryNotSent { to, unsent })
            }
        }
    }
}

/// See [`Input::Refused`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refused {
    /// Who refused.
    pub by: Refuser,
    /// Why; `None`: a code that this build does not know.
    pub code: Option<Code>,
    /// The same in words.
    pub detail: String,
    /// The cluster of the other side, if it has one.
    pub cluster: Option<ClusterDescriptor>,
}

/// One side of a connection that did not come about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refuser {
    /// This node.
    Us,
    /// The other one.
    Peer,
}

/// What the store answers.
#[derive(Clone, PartialEq, Debug)]
pub enum StoreInput {
    /// A batch and all before it are synced.
    Persisted(PersistTicket),
    /// Entries were applied, in order.
    Applied(Vec<Applied>),
    /// Rows of a read: key and value, or `None` for a wanted key that is absent.
    Rows {
        /// Which read.
        ticket: ReadTicket,
        /// The rows.
        rows: Vec<(Bytes, Option<Bytes>)>,
        /// Of a scan, whether more rows may follow: a page is also cut by bytes, so how many rows
        /// it has says nothing.
        rest: Rest,
    },
    /// A snapshot is open for sending.
    SnapshotOpened {
        /// Which transfer.
        transfer: TransferId,
        /// The position it stands for.
        at: LogPosition,
        /// Who replicates the partition, as of it.
        membership: Membership,
    },
    /// A chunk of it. An empty partition has one empty last chunk.
    SnapshotChunk {
        /// Which transfer.
        transfer: TransferId,
        /// Position in the transfer, from 0.
        number: u64,
        /// Opaque rows.
        rows: Bytes,
        /// Whether more follow.
        rest: Rest,
    },
    /// The next rows of a snapshot are digested.
    Digested {
        /// Which transfer.
        transfer: TransferId,
        /// All rows up to here.
        digest: u128,
        /// Whether more follow.
        rest: Rest,
    },
    /// A chunk that arrived is staged.
    Staged {
        /// The partition.
        partition: PartitionId,
        /// The receiving peer.
        peer: PeerId,
        /// This node's number of the arriving transfer.
        transfer: TransferId,
        /// The chunk's number.
        number: u64,
        /// Whether it was whole.
        verdict: StageVerdict,
    },
    /// A replica is gone from the disk.
    Destroyed(PartitionId),
    /// A staged snapshot is the replica's state now; `Persisted` of its batch follows.
    Installed {
        /// The partition.
        partition: PartitionId,
        /// Where the replica stands.
        row: PartitionRow,
    },
    /// A staged snapshot was not what it should be: nothing of it, nor of what its replica would
    /// have written with it, is on the disk. The replica is whole, and stands where it stood.
    InstallRefused {
        /// The replica as its disk has it.
        replica: Box<RecoveredReplica>,
        /// What was wrong.
        why: String,
    },
    /// How much room the file system of the data directory has; told every few seconds.
    Room(Room),
    /// A replica's records were found damaged: it is set aside.
    Condemned {
        /// The partition.
        partition: PartitionId,
        /// Smallest peer id that may exist here from now on.
        floor: PeerId,
        /// What was found.
        why: String,
    },
}

/// Room on a file system, as a process without privileges sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Room {
    /// Bytes that can still be written.
    pub free_bytes: u64,
    /// Bytes that it has in all.
    pub total_bytes: u64,
}

impl Room {
    /// Free share in thousandths, rounded down. A file system that says nothing of its size is
    /// never full.
    #[must_use]
    pub fn free_per_mille(self) -> u64 {
        let per_mille = (u128::from(self.free_bytes) * 1_000).checked_div(self.total_bytes.into());
        per_mille.map_or(1_000, |share| u64::try_from(share).unwrap_or(1_000))
    }
}

/// Whether more follows: chunks of a snapshot, rows of a scan.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rest {
    /// Perhaps.
    More,
    /// This was the last.
    Last,
}

/// See [`StoreInput::Staged`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StageVerdict {
    /// Checked and kept.
    Whole,
    /// Damaged or out of order: the transfer must begin again.
    Refused,
}

/// What applying did in one partition.
#[derive(Clone, PartialEq, Debug)]
pub struct Applied {
    /// The partition.
    pub partition: PartitionId,
    /// Each entry with its outcome, in order.
    pub outcomes: Vec<(LogPosition, EntryOutcome)>,
    /// The partition's row after it.
    pub row: PartitionRow,
}

/// What the core wants.
#[derive(Clone, PartialEq, Debug)]
pub enum Effect {
    /// Send a frame. Dropped if there is no connection, or no room in its lane: everything here is
    /// asked again, an answer by the gateway that misses it.
    Send {
        /// Receiver.
        to: NodeId,
        /// Which stream.
        lane: Lane,
        /// The frame.
        frame: Frame,
    },
    /// Send a gossip datagram over the control connection.
    Gossip {
        /// Receiver.
        to: NodeId,
        /// The datagram.
        data: Bytes,
    },
    /// Try once to connect; the result comes as `Connected`, or not at all.
    Dial {
        /// `host:port`.
        address: String,
        /// Who is expected there.
        node: Option<NodeId>,
        /// Which connection.
        kind: ConnectionKind,
    },
    /// Close both connections to a node.
    Close(NodeId),
    /// Close one connection to a node that nothing moves on; it is dialed again when it is gone.
    Reconnect {
        /// The node.
        node: NodeId,
        /// Which connection.
        kind: ConnectionKind,
    },
    /// For the store's thread.
    Store(StoreEffect),
    /// Read rows, from any thread, at any time from now on. What `Applied` has told of is visible;
    /// an `Apply` that is still under way may be, or not.
    Read {
        /// The answer repeats it.
        ticket: ReadTicket,
        /// The partition.
        partition: PartitionId,
        /// Which rows.
        rows: RowsWanted,
    },
    /// Read a snapshot, from any thread, in the order of these effects. What `Applied` has told of
    /// is in it.
    Snapshot(SnapshotEffect),
    /// For whoever runs turns.
    Runner(RunnerEffect),
    /// For the applications beside this node.
    App(AppEffect),
    /// For a program of this process that subscribes to topics.
    Subscriber(SubscriptionId, Told),
    /// A client's call is over.
    Reply {
        /// The shell's number.
        ticket: CallTicket,
        /// The outcome.
        outcome: CallOutcome,
    },
    /// An operator's answer.
    AdminReply {
        /// The shell's number.
        ticket: AdminTicket,
        /// The answer.
        answer: AdminAnswer,
    },
    /// What our `Hello` says from now on.
    Introduce {
        /// Our record.
        record: NodeRecord,
        /// Our cluster.
        descriptor: Option<ClusterDescriptor>,
        /// Nodes that may never come back.
        removed: Vec<NodeId>,
    },
    /// All that lead have more to do than they can: for so long, calls of clients that can wait for
    /// no longer than `patience` ([`crate::patience`]) need not come here.
    Overrun {
        /// For how long.
        pause: Duration,
        /// See above.
        patience: Duration,
    },
    /// Something an operator may want to know.
    Event(Event),
    /// End the process.
    Halt(HaltReason),
}

/// Work for the store's thread, in order.
#[derive(Clone, PartialEq, Debug)]
pub enum StoreEffect {
    /// Remember the cluster (synced).
    SaveDescriptor(ClusterDescriptor),
    /// Remember where nodes were last seen.
    SaveAddresses(Vec<NodeRecord>),
    /// Installs, then writes, in one synced batch; then `Persisted`.
    Persist {
        /// The answer repeats it.
        ticket: PersistTicket,
        /// Staged snapshots that become the state of their replicas.
        installs: Vec<InstallWrite>,
        /// Hard states and entries.
        writes: Vec<LogWrite>,
        /// The mark of this batch.
        marks: MarkWrite,
    },
    /// Apply committed entries (buffered); then `Applied`.
    Apply(Vec<(PartitionId, Vec<ApplyItem>)>),
    /// Create a replica without state for a learner (synced).
    Create {
        /// The partition.
        partition: PartitionId,
        /// Its stint.
        peer: PeerId,
    },
    /// Stage one chunk of an arriving snapshot; then `Staged`.
    Stage {
        /// The partition.
        partition: PartitionId,
        /// The receiving peer.
        peer: PeerId,
        /// This node's number of the arriving transfer.
        transfer: TransferId,
        /// The chunk's number.
        number: u64,
        /// Opaque rows.
        rows: Bytes,
    },
    /// Cut the front of a log.
    Truncate {
        /// The partition.
        partition: PartitionId,
        /// Last position to go.
        through: LogPosition,
    },
    /// Delete a replica and remember the smallest peer id allowed from now on (synced); then
    /// `Destroyed`.
    Destroy {
        /// The partition.
        partition: PartitionId,
        /// Smallest peer id allowed.
        tombstone: PeerId,
    },
    /// A read found damage: set the replica aside (synced); then `Condemned`.
    Condemn {
        /// The partition.
        partition: PartitionId,
        /// What was found.
        why: String,
    },
    /// The group has replaced a condemned replica: its data may go.
    DiscardCondemned(PartitionId),
}

/// What a batch says of marks.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct MarkWrite {
    /// This node's own one, from this batch on; 0: says nothing.
    pub own: Mark,
    /// What all others have told, if that has changed.
    pub others: Option<BTreeMap<NodeId, marks::Told>>,
}

/// Work on snapshots that are sent, in order. It only reads, so it keeps nobody from writing: a
/// chunk may take longer than a sync.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SnapshotEffect {
    /// Open a snapshot for sending, of what is applied; then `SnapshotOpened`.
    Open {
        /// The answer repeats it.
        transfer: TransferId,
        /// The partition.
        partition: PartitionId,
    },
    /// Read its next chunk; then `SnapshotChunk`.
    ReadChunk(TransferId),
    /// Digest its next rows instead; then `Digested`.
    Digest(TransferId),
    /// Forget it.
    Close(TransferId),
}

/// One staged snapshot to put in place.
#[derive(Clone, PartialEq, Debug)]
pub struct InstallWrite {
    /// The partition.
    pub partition: PartitionId,
    /// The replica.
    pub peer: PeerId,
    /// This node's number of the arriving transfer.
    pub transfer: TransferId,
    /// Chunks it consists of.
    pub chunks: u64,
    /// The position it stands for.
    pub at: LogPosition,
    /// The hard state to write with it.
    pub hard_state: HardState,
}

/// Why the process ends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HaltReason {
    /// Drained after a shutdown, or its time was up.
    ShutDown,
    /// It left the cluster for good.
    Left,
    /// It may not go on.
    Refused {
        /// Which case.
        code: Code,
        /// What failed, why, and what to do.
        detail: String,
    },
}

/// A node with its name for people; its short id while nothing else is known.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Named {
    /// Which.
    pub node: NodeId,
    /// Its name.
    pub name: String,
}

/// What the core tells about itself; the shell logs and counts it.
#[derive(Clone, PartialEq, Debug)]
pub enum Event {
    /// A node is a member now.
    MemberUp(Named),
    /// SWIM suspects it.
    MemberSuspect(Named),
    /// SWIM says that it is down.
    MemberDown(Named),
    /// This node has joined a cluster.
    Joined(ClusterDescriptor),
    /// This node leads and serves a partition.
    Opened {
        /// The partition.
        partition: PartitionId,
        /// Its term.
        term: Term,
    },
    /// It does so no longer.
    Closed {
        /// The partition.
        partition: PartitionId,
        /// The term that is over.
        term: Term,
    },
    /// A replica was condemned and waits to be replaced.
    Condemned {
        /// The partition.
        partition: PartitionId,
        /// What was found.
        why: String,
    },
    /// Replicas of a partition that this node leads have applied the same entries and hold other
    /// rows.
    StatesDiffer {
        /// The partition.
        partition: PartitionId,
        /// Who holds what, and what becomes of it.
        why: String,
    },
    /// Nobody answers at the seeds.
    SeedsSilent(Vec<String>),
    /// A sentence for the log.
    Said(String),
}
