//! The frames of an established connection.

use bytes::Bytes;
use prost::{Message, Oneof};

use super::ephemeral::{EphemeralEvent, InterestFrame};
use super::hello::{ClusterDescriptor, NodeRecord};
use super::host::HostFrame;
use super::topic::TopicFrame;
use crate::call::{CallAnswer, CallRequest, LeaderHint};
use crate::command::Envelope;
use crate::ids::PartitionId;
use crate::marks::MarkWord;

/// One frame.
#[derive(Clone, PartialEq, Message)]
pub struct NodeFrame {
    /// Absent when the peer is newer and says something we do not know.
    #[prost(
        oneof = "Frame",
        tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 20, 21, 22, 23, 24, 25, 26, 27, 30"
    )]
    pub frame: Option<Frame>,
}

/// The variants of [`NodeFrame`].
#[derive(Clone, PartialEq, Oneof)]
pub enum Frame {
    /// Heartbeats, leaderships, clocks.
    #[prost(message, tag = "1")]
    Control(Control),
    /// Raft messages of any groups.
    #[prost(message, tag = "2")]
    Raft(RaftMessages),
    /// A call.
    #[prost(message, tag = "3")]
    Call(CallRequest),
    /// Its answer.
    #[prost(message, tag = "4")]
    Answer(CallAnswer),
    /// Outbox rows for a partition led by the receiver.
    #[prost(message, tag = "5")]
    OutboxPush(OutboxPush),
    /// How far a partition has accepted another's outbox.
    #[prost(message, tag = "6")]
    OutboxMark(OutboxMark),
    /// A piece of a partition's state for a new or lagging replica.
    #[prost(message, tag = "7")]
    SnapshotChunk(SnapshotChunk),
    /// How far a snapshot has arrived.
    #[prost(message, tag = "8")]
    SnapshotAck(SnapshotAck),
    /// A changed node record.
    #[prost(message, tag = "9")]
    Record(NodeRecord),
    /// Asks for the routing table.
    #[prost(message, tag = "10")]
    AskRoutes(AskRoutes),
    /// The routing table.
    #[prost(message, tag = "11")]
    Routes(Routes),
    /// Asks about a replica's standing in a group.
    #[prost(message, tag = "12")]
    AskReplica(AskReplica),
    /// Tells a replica where it stands.
    #[prost(message, tag = "13")]
    ReplicaStanding(ReplicaStanding),
    /// The cluster descriptor, for a node that has none.
    #[prost(message, tag = "14")]
    Descriptor(ClusterDescriptor),
    /// Nobody waits for a call any more.
    #[prost(message, tag = "15")]
    Hangup(Hangup),
    /// An operator's order that only another node can carry out.
    #[prost(message, tag = "16")]
    Order(Order),
    /// What became of one.
    #[prost(message, tag = "20")]
    OrderAnswer(OrderAnswer),
    /// A node whose database is lost asks whether its groups go on without it.
    #[prost(message, tag = "17")]
    AskSurvival(AskSurvival),
    /// The answer of a node, for the groups it leads.
    #[prost(message, tag = "18")]
    Survival(Survival),
    /// Between a leader and the nodes that run turns of its actors.
    #[prost(message, tag = "21")]
    Host(HostFrame),
    /// A leader asks what a replica's rows come to.
    #[prost(message, tag = "22")]
    AskRows(AskRows),
    /// The answer.
    #[prost(message, tag = "23")]
    RowsDigest(RowsDigest),
    /// The leader says that a replica's rows are not those of the majority.
    #[prost(message, tag = "24")]
    RowsDiffer(RowsDigest),
    /// Between a topic partition's leader and the node of a subscriber.
    #[prost(message, tag = "25")]
    Topic(TopicFrame),
    /// Which ephemeral topics its sender wants.
    #[prost(message, tag = "26")]
    Interest(InterestFrame),
    /// An event of an ephemeral topic.
    #[prost(message, tag = "27")]
    Ephemeral(EphemeralEvent),
    /// The first word on a control connection: what the sender remembers of the receiver's mark.
    #[prost(message, tag = "30")]
    Mark(MarkWord),
}

/// What do all rows of a replica come to, as of one index?
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct AskRows {
    /// The partition.
    #[prost(uint32, tag = "1")]
    pub partition: u32,
    /// The peer that is asked.
    #[prost(uint64, tag = "2")]
    pub peer: u64,
    /// The applied index; a replica that is not there, or does not stay there, says nothing.
    #[prost(uint64, tag = "3")]
    pub index: u64,
    /// `ROWS_VERSION` of the leader.
    #[prost(uint32, tag = "4")]
    pub version: u32,
}

/// All rows of a replica, digested.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct RowsDigest {
    /// The partition.
    #[prost(uint32, tag = "1")]
    pub partition: u32,
    /// The replica.
    #[prost(uint64, tag = "2")]
    pub peer: u64,
    /// The applied index.
    #[prost(uint64, tag = "3")]
    pub index: u64,
    /// The digest, 16 bytes.
    #[prost(bytes = "bytes", tag = "4")]
    pub digest: Bytes,
}

impl RowsDigest {
    /// The digest; `None` if the bytes are malformed.
    #[must_use]
    pub fn digest(&self) -> Option<u128> {
        let bytes: [u8; 16] = self.digest.as_ref().try_into().ok()?;
        Some(u128::from_be_bytes(bytes))
    }
}

/// Would every group that a node is in have a live majority without it?
#[derive(Clone, PartialEq, Eq, Message)]
pub struct AskSurvival {
    /// The node whose database is lost, 16 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub node: Bytes,
}

/// What a node can say of the groups that it leads, from their applied memberships and from who
/// answers it. Of groups that it does not lead it says nothing.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Survival {
    /// The node that was asked about, 16 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub node: Bytes,
    /// Partitions that have a live majority without it, or are not on it at all.
    #[prost(uint32, repeated, tag = "2")]
    pub survive: Vec<u32>,
    /// Partitions that have not.
    #[prost(uint32, repeated, tag = "3")]
    pub depend: Vec<u32>,
}

impl Frame {
    /// The partition a frame is about, if it is about just one. The order of frames about one
    /// partition is kept within a lane even when one of them is large.
    #[must_use]
    pub fn partition(&self) -> Option<PartitionId> {
        let partition = match self {
            Self::Raft(raft) => match raft.messages.as_slice() {
                [message] => message.partition,
                _ => return None,
            },
            Self::Call(call) => call.partition,
            Self::OutboxPush(push) => push.destination,
            Self::OutboxMark(mark) => mark.destination,
            Self::SnapshotChunk(chunk) => chunk.partition,
            Self::SnapshotAck(ack) => ack.partition,
            Self::AskReplica(ask) => ask.partition,
            Self::ReplicaStanding(standing) => standing.partition,
            Self::Hangup(hangup) => hangup.partition,
            Self::AskRows(ask) => ask.partition,
            Self::RowsDigest(rows) | Self::RowsDiffer(rows) => rows.partition,
            Self::Topic(topic) => topic.partition,
            Self::Control(_)
            | Self::Answer(_)
            | Self::Record(_)
            | Self::AskRoutes(_)
            | Self::Routes(_)
            | Self::Descriptor(_)
            | Self::Order(_)
            | Self::OrderAnswer(_)
            | Self::AskSurvival(_)
            | Self::Survival(_)
            | Self::Mark(_)
            | Self::Interest(_)
            | Self::Ephemeral(_)
            | Self::Host(_) => return None,
        };
        u16::try_from(partition).ok().map(PartitionId)
    }
}

/// A call whose caller has gone: a waiting one leaves its mailbox.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Hangup {
    /// The partition.
    #[prost(uint32, tag = "1")]
    pub partition: u32,
    /// The gateway's number of the call.
    #[prost(uint64, tag = "2")]
    pub call: u64,
}

/// An order from the node that an operator spoke to.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Order {
    /// What to do.
    #[prost(enumeration = "OrderKind", tag = "1")]
    pub kind: i32,
    /// The node it is about, 16 bytes.
    #[prost(bytes = "bytes", tag = "2")]
    pub node: Bytes,
    /// The sender's number of it, which answers repeat; 0: no answer is waited for.
    #[prost(uint64, tag = "3")]
    pub number: u64,
}

/// What became of an [`Order`].
#[derive(Clone, PartialEq, Eq, Message)]
pub struct OrderAnswer {
    /// The asking node's number of the order.
    #[prost(uint64, tag = "1")]
    pub number: u64,
    /// How far it is.
    #[prost(enumeration = "OrderStage", tag = "2")]
    pub stage: i32,
    /// Of a refusal: number of its code.
    #[prost(uint32, tag = "3")]
    pub code: u32,
    /// Of a refusal: the text for people.
    #[prost(string, tag = "4")]
    pub detail: String,
}

/// See [`OrderAnswer`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, prost::Enumeration)]
#[repr(i32)]
pub enum OrderStage {
    /// The node has taken it and works on it; `Done` or `Refused` follows.
    Taken = 0,
    /// It is carried out.
    Done = 1,
    /// Nothing has changed.
    Refused = 2,
}

/// See [`Order`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, prost::Enumeration)]
#[repr(i32)]
pub enum OrderKind {
    /// The receiver drains itself.
    Drain = 0,
    /// The receiver takes part again.
    Undrain = 1,
    /// The receiver, leader of partition 0, records that the node was removed for good.
    Remove = 2,
    /// The receiver leaves for good.
    Leave = 3,
}

/// What two nodes tell each other every heartbeat, for all their groups at once.
#[derive(Clone, PartialEq, Message)]
pub struct Control {
    /// Raft heartbeats.
    #[prost(message, repeated, tag = "1")]
    pub heartbeats: Vec<Heartbeat>,
    /// Their answers.
    #[prost(message, repeated, tag = "2")]
    pub answers: Vec<Heartbeat>,
    /// Leaderships the sender opened since the last frame, or all of them to a new peer.
    #[prost(message, repeated, tag = "3")]
    pub leaderships: Vec<LeaderHint>,
    /// The sender's calendar clock in milliseconds; 0: says nothing.
    #[prost(uint64, tag = "4")]
    pub wall_ms: u64,
    /// Replicas of the sender that are condemned and wait to be replaced by their leaders.
    #[prost(message, repeated, tag = "5")]
    pub condemned: Vec<CondemnedReplica>,
    /// Nodes that partition 0 says were removed for good, 16 bytes each.
    #[prost(bytes = "bytes", repeated, tag = "6")]
    pub removed: Vec<Bytes>,
    /// Replicas the sender holds, and how many of them it leads.
    #[prost(uint32, tag = "7")]
    pub replicas: u32,
    /// See `replicas`.
    #[prost(uint32, tag = "8")]
    pub leaders: u32,
    /// Whether the sender is fit to lead.
    #[prost(enumeration = "Fitness", tag = "9")]
    pub fitness: i32,
    /// The sender's mark, at least as high as what it has answered here promises; 0: none yet.
    #[prost(uint64, tag = "15")]
    pub mark: u64,
    /// Which of the sender's processes has the mark: the nonce of its record.
    #[prost(fixed64, tag = "14")]
    pub nonce: u64,
}

/// Whether a node is fit to lead. One that is not gives its leaderships away and takes none, as far
/// as others can lead.
#[derive(Clone, Copy, PartialEq, Eq, Debug, prost::Enumeration)]
#[repr(i32)]
pub enum Fitness {
    /// It is.
    Fit = 0,
    /// A batch was not synced in time, or lately was not.
    DiskSlow = 1,
    /// Its calendar clock is too far from the members' median.
    ClockOff = 2,
    /// Its disk has little room left.
    RoomShort = 3,
    /// Its disk has so little room left that it takes no writes either.
    RoomGone = 4,
    /// It gets too little processor time.
    Starved = 5,
}

/// A replica whose data was not whole.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct CondemnedReplica {
    /// The partition.
    #[prost(uint32, tag = "1")]
    pub partition: u32,
    /// Smallest peer id that may exist on that node from now on.
    #[prost(uint64, tag = "2")]
    pub next_peer: u64,
}

/// A Raft heartbeat, or the answer to one.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Heartbeat {
    /// The partition.
    #[prost(uint32, tag = "1")]
    pub partition: u32,
    /// Sending peer.
    #[prost(uint64, tag = "2")]
    pub from: u64,
    /// Receiving peer.
    #[prost(uint64, tag = "3")]
    pub to: u64,
    /// Term of the sender.
    #[prost(uint64, tag = "4")]
    pub term: u64,
    /// Commit index the receiver may take over (heartbeat), or has (answer).
    #[prost(uint64, tag = "5")]
    pub commit: u64,
    /// ReadIndex rides in it.
    #[prost(bytes = "bytes", tag = "6")]
    pub context: Bytes,
}

/// Raft messages of several groups.
#[derive(Clone, PartialEq, Message)]
pub struct RaftMessages {
    /// Each for one group.
    #[prost(message, repeated, tag = "1")]
    pub messages: Vec<RaftMessage>,
    /// The sender's mark, at least as high as what these messages promise; 0: none yet.
    #[prost(uint64, tag = "2")]
    pub mark: u64,
    /// Which of the sender's processes has the mark: the nonce of its record.
    #[prost(fixed64, tag = "3")]
    pub nonce: u64,
}

/// One message of the consensus engine, opaque to everything but its wrapper.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct RaftMessage {
    /// The partition.
    #[prost(uint32, tag = "1")]
    pub partition: u32,
    /// The engine's encoded message.
    #[prost(bytes = "bytes", tag = "2")]
    pub message: Bytes,
}

/// A run of outbox rows, without gaps.
#[derive(Clone, PartialEq, Message)]
pub struct OutboxPush {
    /// Partition that sends.
    #[prost(uint32, tag = "1")]
    pub source: u32,
    /// Its recovery epoch.
    #[prost(uint64, tag = "2")]
    pub source_epoch: u64,
    /// Partition that receives.
    #[prost(uint32, tag = "3")]
    pub destination: u32,
    /// Sequence of the first message.
    #[prost(uint64, tag = "4")]
    pub first: u64,
    /// The messages.
    #[prost(message, repeated, tag = "5")]
    pub messages: Vec<Envelope>,
}

/// The answer to an [`OutboxPush`].
#[derive(Clone, PartialEq, Message)]
pub struct OutboxMark {
    /// Partition that sent the messages.
    #[prost(uint32, tag = "1")]
    pub source: u32,
    /// Its recovery epoch, as in the push.
    #[prost(uint64, tag = "2")]
    pub source_epoch: u64,
    /// Partition that accepted them.
    #[prost(uint32, tag = "3")]
    pub destination: u32,
    /// Highest sequence accepted durably; absent: the receiver does not lead the destination.
    #[prost(uint64, optional, tag = "4")]
    pub through: Option<u64>,
    /// Where to push instead, if known.
    #[prost(message, optional, tag = "5")]
    pub hint: Option<LeaderHint>,
}

/// One chunk of a snapshot.
#[derive(Clone, PartialEq, Message)]
pub struct SnapshotChunk {
    /// The partition.
    #[prost(uint32, tag = "1")]
    pub partition: u32,
    /// Receiving peer: chunks for an older stint are dropped.
    #[prost(uint64, tag = "2")]
    pub to_peer: u64,
    /// Sender's number of this transfer.
    #[prost(uint64, tag = "3")]
    pub transfer: u64,
    /// Position in the transfer, from 0.
    #[prost(uint64, tag = "4")]
    pub number: u64,
    /// Rows: full family keys and values, with the chunk's own checksum inside; opaque to the
    /// cores.
    #[prost(bytes = "bytes", tag = "5")]
    pub rows: Bytes,
    /// Present in the last chunk: the engine's encoded snapshot message, to be stepped when all is
    /// staged.
    #[prost(bytes = "bytes", optional, tag = "6")]
    pub last: Option<Bytes>,
    /// Term of the sender, so that a deposed leader's transfer is dropped.
    #[prost(uint64, tag = "7")]
    pub term: u64,
}

/// The answer to chunks.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct SnapshotAck {
    /// The partition.
    #[prost(uint32, tag = "1")]
    pub partition: u32,
    /// The transfer.
    #[prost(uint64, tag = "2")]
    pub transfer: u64,
    /// Number of the next chunk the receiver wants.
    #[prost(uint64, tag = "3")]
    pub next: u64,
    /// Peer that answers.
    #[prost(uint64, tag = "4")]
    pub from_peer: u64,
}

/// Asks for all routing hints.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct AskRoutes {}

/// Routing hints.
#[derive(Clone, PartialEq, Message)]
pub struct Routes {
    /// One for each partition the sender knows something about.
    #[prost(message, repeated, tag = "1")]
    pub hints: Vec<LeaderHint>,
}

/// A replica that hears nothing from a leader asks where it stands.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct AskReplica {
    /// The partition.
    #[prost(uint32, tag = "1")]
    pub partition: u32,
    /// The asking peer.
    #[prost(uint64, tag = "2")]
    pub peer: u64,
}

/// Said by a member of a newer membership: this peer is not in it, and may go.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct ReplicaStanding {
    /// The partition.
    #[prost(uint32, tag = "1")]
    pub partition: u32,
    /// The peer that asked.
    #[prost(uint64, tag = "2")]
    pub peer: u64,
    /// Applied index of the membership that does not contain it.
    #[prost(uint64, tag = "3")]
    pub membership_index: u64,
    /// Smallest peer id that may exist on that node from now on.
    #[prost(uint64, tag = "4")]
    pub next_peer: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A variant that is missing in the list of tags would be sent, and never be seen by the
    /// receiver.
    #[test]
    fn every_frame_arrives() {
        let frames = [
            Frame::Control(Control::default()),
            Frame::Raft(RaftMessages::default()),
            Frame::Call(CallRequest::default()),
            Frame::Answer(CallAnswer::default()),
            Frame::OutboxPush(OutboxPush::default()),
            Frame::OutboxMark(OutboxMark::default()),
            Frame::SnapshotChunk(SnapshotChunk::default()),
            Frame::SnapshotAck(SnapshotAck::default()),
            Frame::Record(NodeRecord::default()),
            Frame::AskRoutes(AskRoutes::default()),
            Frame::Routes(Routes::default()),
            Frame::AskReplica(AskReplica::default()),
            Frame::ReplicaStanding(ReplicaStanding::default()),
            Frame::Descriptor(ClusterDescriptor::default()),
            Frame::Hangup(Hangup::default()),
            Frame::Order(Order::default()),
            Frame::OrderAnswer(OrderAnswer::default()),
            Frame::AskSurvival(AskSurvival::default()),
            Frame::Survival(Survival::default()),
            Frame::AskRows(AskRows::default()),
            Frame::RowsDigest(RowsDigest::default()),
            Frame::RowsDiffer(RowsDigest::default()),
            Frame::Topic(TopicFrame::default()),
            Frame::Mark(MarkWord::default()),
            Frame::Interest(InterestFrame::default()),
            Frame::Ephemeral(EphemeralEvent::default()),
        ];
        for frame in frames {
            let sent = NodeFrame { frame: Some(frame) };
            let received = NodeFrame::decode(sent.encode_to_vec().as_slice());
            assert_eq!(received.as_ref(), Ok(&sent));
        }
    }
}
