//! What each replica of this node is at this moment, for checkers and metrics. Changes nothing.

use std::collections::BTreeSet;

use ghostlight_placement::membership::MemberState;
use ghostlight_placement::plan::Decision;
use ghostlight_protocol::ids::{LogIndex, LogPosition, NodeId, PartitionId, PeerId, Term};
use ghostlight_protocol::partition_row::{Membership, PartitionRow};

use super::NodeCore;
use crate::replica::Role;

/// One replica, as seen from inside.
#[derive(Clone, Debug)]
pub struct ReplicaView<'a> {
    /// The partition.
    pub partition: PartitionId,
    /// The stint.
    pub peer: PeerId,
    /// The role.
    pub role: Role,
    /// The term.
    pub term: Term,
    /// The term in which this node serves the partition.
    pub serves: Option<Term>,
    /// Commit index.
    pub commit: LogIndex,
    /// What the store has applied.
    pub applied: LogIndex,
    /// End of the log.
    pub last: LogPosition,
    /// The membership the engine works with.
    pub membership: &'a Membership,
    /// The partition's row, as the store last told.
    pub row: Option<&'a PartitionRow>,
    /// Who should hold the copies, the leader first, as this node sees it.
    pub wish: &'a [NodeId],
    /// What its leader decided last about its copies and its leadership.
    pub decided: Option<&'a Decision>,
}

impl NodeCore {
    /// Every replica of this node, by partition.
    pub fn replicas(&self) -> impl Iterator<Item = ReplicaView<'_>> {
        let clusters = self.cluster.iter();
        let slots = clusters.flat_map(|c| c.slots().map(move |slot| (c, slot)));
        slots.map(|(cluster, slot)| ReplicaView {
            partition: slot.partition(),
            peer: slot.group.peer(),
            role: slot.group.role(),
            term: slot.group.term(),
            serves: slot.serving().map(|(term, _)| term),
            commit: slot.group.commit(),
            applied: slot.group.applied(),
            last: slot.group.last(),
            membership: slot.group.membership(),
            row: slot.row.as_ref(),
            wish: cluster.table.list(slot.partition()),
            decided: slot.reconciler.decided(slot.group.term()),
        })
    }

    /// Every other node that is or was a member, and what this node believes it to be.
    pub fn member_states(&self) -> impl Iterator<Item = (NodeId, MemberState)> {
        let members = self.membership.members();
        members.map(|member| (member.identity.node, member.state))
    }

    /// Who votes in a partition's group, by its own copy or by what its leader has told.
    #[must_use]
    pub fn known_voters(&self, partition: PartitionId) -> BTreeSet<NodeId> {
        let Some(cluster) = &self.cluster else {
            return BTreeSet::new();
        };
        match cluster.slot(partition) {
            Some(slot) if slot.group.is_initialized() => {
                let membership = slot.group.membership();
                let voters = membership.voters.iter();
                voters
                    .filter_map(|voter| membership.node_of(PeerId(*voter)))
                    .collect()
            }
            Some(_) | None => cluster.routes.voters(partition).iter().copied().collect(),
        }
    }

    /// Calls that this node's gateway holds.
    #[must_use]
    pub fn calls_pending(&self) -> usize {
        self.cluster.as_ref().map_or(0, |c| c.gateway.pending())
    }
}
