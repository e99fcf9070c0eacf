//! One replica of one partition: the consensus engine behind a small wall of our own words.
//!
//! Decides: nothing that Raft does not decide. Adds: no forwarding (a proposal is refused unless
//! this replica leads), ranked election timeouts, heartbeats taken out to be sent together with
//! those of all other groups, memberships that know their nodes, who answered of late, snapshots
//! built and carried elsewhere.
//!
//! Absent: disk and network. `ready` says what to write and what to send, and when.

mod border;
mod convert;
mod group;
mod heard;
mod ranks;
mod tail;
#[cfg(test)]
mod traps;

pub use group::{
    Candidacy, Change, Group, GroupReady, GroupSettings, Install, LogBounds, LogRoom, Outgoing,
    Peek, PeerProgress, Promise, ProposeRefused, ReadIndex, Role, Sender, SnapshotResult, peek,
};
pub use heard::Heard;
pub use tail::AllLogs;
