//! Who leads a partition and who votes there, as a hint: of this node's leaderships, and of those
//! that it follows. Absent: who is told (`control`), and what a hint changes (`waiting`, the
//! gateway).

use bytes::Bytes;
use ghostlight_protocol::call::LeaderHint;
use ghostlight_protocol::ids::{NodeId, PartitionId, Term};

use super::NodeCore;
use super::slot::Slot;
use crate::replica::Role;

impl NodeCore {
    fn own_hint(&self, partition: PartitionId) -> Option<LeaderHint> {
        let slot = self.cluster.as_ref()?.slot(partition)?;
        let leading = slot.leading.as_ref()?;
        Some(hint_of(slot, leading.term, self.me))
    }

    /// Says who leads a partition and who votes there, to all others and to the calls that wait
    /// here.
    pub(super) fn announce_own(&mut self, partition: PartitionId) {
        if let Some(hint) = self.own_hint(partition) {
            self.announce(hint.clone());
            self.take_hints(vec![hint]);
        }
    }

    /// All leaderships that are open, for a member that has just appeared.
    pub(super) fn own_hints(&self) -> Vec<LeaderHint> {
        let Some(cluster) = &self.cluster else {
            return Vec::new();
        };
        let open = cluster.slots().filter(|slot| slot.serving().is_some());
        open.filter_map(|slot| self.own_hint(slot.partition()))
            .collect()
    }

    /// A follower knows its leader: that is a hint like any other.
    pub(super) fn learn_from_group(&mut self, partition: PartitionId) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let Some(slot) = cluster.slot(partition) else {
            return;
        };
        let Role::Follower {
            leader: Some(leader),
        } = slot.group.role()
        else {
            return;
        };
        let Some(node) = slot.group.node_of(leader) else {
            return;
        };
        let term = slot.group.term();
        if cluster
            .routes
            .leader(partition)
            .is_some_and(|known| known.1 >= term)
        {
            return;
        }
        let hint = hint_of(slot, term, node);
        self.take_hints(vec![hint]);
    }

    /// Who votes has changed: nodes that have no copy, or no longer, know it from their leader
    /// alone.
    pub(super) fn announce_membership(&mut self, partition: PartitionId) {
        let slot = self.cluster.as_ref().and_then(|c| c.slot(partition));
        if slot.is_none_or(|slot| slot.serving().is_none()) {
            return;
        }
        self.announce_own(partition);
    }
}

fn hint_of(slot: &Slot, term: Term, leader: NodeId) -> LeaderHint {
    let membership = slot.group.membership();
    let voters = membership
        .nodes()
        .filter(|(peer, _)| membership.is_voter(*peer));
    LeaderHint {
        partition: u32::from(slot.partition().0),
        term: term.0,
        leader: Bytes::copy_from_slice(&leader.to_bytes()),
        membership_index: membership.index,
        voters: voters
            .map(|(_, node)| Bytes::copy_from_slice(&node.to_bytes()))
            .collect(),
    }
}
