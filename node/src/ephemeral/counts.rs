//! What a hub counts, for metrics.

/// Counts since the process began.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counts {
    /// Events published on this node.
    pub published: u64,
    /// Copies that went into a lane to another node, those of others that this node passed on
    /// included.
    pub sent: u64,
    /// Of these, those passed on.
    pub passed_on: u64,
    /// Copies that came from other nodes.
    pub received: u64,
    /// Events put into the ring of a subscriber here.
    pub queued: u64,
    /// Events that a ring let go because its subscriber is slow.
    pub ring_full: u64,
    /// Copies without room in the lane to their node.
    pub lane_full: u64,
    /// Copies for a node without a connection.
    pub unreachable: u64,
    /// Copies that came behind a later event of their publisher's node, or twice.
    pub late: u64,
    /// Last values that could not be kept here.
    pub not_kept: u64,
    /// Events that could not be read, or named no topic.
    pub unreadable: u64,
    /// Subscribers here.
    pub subscribers: u64,
}
