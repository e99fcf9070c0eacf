//! A peer id is used once (reliability S4): no replica begins below its tombstone. And a replica's
//! data is deleted only when a committed membership has left its peer out, whatever gossip and ring
//! say.

use std::collections::BTreeMap;

use ghostlight_core::io::StoreEffect;
use ghostlight_protocol::ids::{PartitionId, PeerId};
use ghostlight_protocol::partition_row::Membership;
use ghostlight_protocol::replica::ApplyItem;
use ghostlight_protocol::replica::log::RecoveredReplica;

use crate::net::Place;

/// What is known of each place's stints.
#[derive(Default, Debug)]
pub(super) struct Stints {
    /// The smallest peer id allowed.
    floors: BTreeMap<(Place, PartitionId), PeerId>,
    /// The peer whose data lies there.
    peers: BTreeMap<(Place, PartitionId), PeerId>,
    /// The newest membership that was committed, seen by whomever.
    memberships: BTreeMap<PartitionId, Membership>,
}

impl Stints {
    pub(super) fn started(&mut self, place: Place, replicas: &[RecoveredReplica]) {
        self.peers.retain(|(p, _), _| *p != place);
        for replica in replicas {
            self.peers.insert((place, replica.partition), replica.peer);
        }
    }

    pub(super) fn committed(&mut self, partition: PartitionId, item: &ApplyItem) {
        let ApplyItem::Membership { membership, .. } = item else {
            return;
        };
        let known = self.memberships.entry(partition).or_default();
        if membership.index > known.index {
            *known = membership.clone();
        }
    }

    pub(super) fn floor(&mut self, place: Place, partition: PartitionId, floor: PeerId) {
        let known = self.floors.entry((place, partition)).or_default();
        *known = (*known).max(floor);
    }

    pub(super) fn wiped(&mut self, place: Place) {
        self.floors.retain(|(p, _), _| *p != place);
        self.peers.retain(|(p, _), _| *p != place);
    }

    pub(super) fn asked(&mut self, place: Place, effect: &StoreEffect) -> Result<(), String> {
        match effect {
            StoreEffect::Destroy {
                partition,
                tombstone,
            } => {
                self.floor(place, *partition, *tombstone);
                self.deleted(place, *partition)
            }
            StoreEffect::Create { partition, peer } => {
                self.peers.insert((place, *partition), *peer);
                self.allowed(place, *partition, *peer)
            }
            StoreEffect::SaveDescriptor(_)
            | StoreEffect::SaveAddresses(_)
            | StoreEffect::Persist { .. }
            | StoreEffect::Apply(_)
            | StoreEffect::Stage { .. }
            | StoreEffect::Truncate { .. }
            | StoreEffect::Condemn { .. }
            | StoreEffect::DiscardCondemned(_) => Ok(()),
        }
    }

    fn deleted(&mut self, place: Place, partition: PartitionId) -> Result<(), String> {
        let Some(peer) = self.peers.remove(&(place, partition)) else {
            return Ok(());
        };
        let known = self.memberships.get(&partition);
        if known.is_some_and(|m| m.index > 0 && m.node_of(peer).is_none()) {
            return Ok(());
        }
        Err(format!(
            "data is deleted only on the word of a newer membership: node {place} deletes {partition} \
             {peer}, which is in {known:?}"
        ))
    }

    fn allowed(&self, place: Place, partition: PartitionId, peer: PeerId) -> Result<(), String> {
        let floor = self
            .floors
            .get(&(place, partition))
            .copied()
            .unwrap_or_default();
        if peer >= floor {
            return Ok(());
        }
        Err(format!(
            "no replica below its tombstone: node {place} {partition}: {peer} below {floor}"
        ))
    }
}
