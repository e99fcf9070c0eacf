//! A peer id is used once (reliability S4): no replica begins or lives below its tombstone.

use std::collections::BTreeMap;

use ghostlight_core::io::StoreEffect;
use ghostlight_core::node::ReplicaFacts;
use ghostlight_protocol::ids::{PartitionId, PeerId};

use crate::net::Place;

/// The smallest peer id allowed at each place.
#[derive(Default, Debug)]
pub(super) struct Stints(BTreeMap<(Place, PartitionId), PeerId>);

impl Stints {
    pub(super) fn floor(&mut self, place: Place, partition: PartitionId, floor: PeerId) {
        let known = self.0.entry((place, partition)).or_default();
        *known = (*known).max(floor);
    }

    pub(super) fn wiped(&mut self, place: Place) {
        self.0.retain(|(p, _), _| *p != place);
    }

    pub(super) fn asked(&mut self, place: Place, effect: &StoreEffect) -> Result<(), String> {
        match effect {
            StoreEffect::Destroy {
                partition,
                tombstone,
            } => {
                self.floor(place, *partition, *tombstone);
                Ok(())
            }
            StoreEffect::Create { partition, peer } => self.allowed(place, *partition, *peer),
            StoreEffect::SaveDescriptor(_)
            | StoreEffect::SaveAddresses(_)
            | StoreEffect::Persist { .. }
            | StoreEffect::Apply(_)
            | StoreEffect::Stage { .. }
            | StoreEffect::Truncate { .. }
            | StoreEffect::Condemn { .. }
            | StoreEffect::DiscardCondemned(_)
            | StoreEffect::OpenSnapshot { .. }
            | StoreEffect::ReadChunk(_)
            | StoreEffect::CloseSnapshot(_) => Ok(()),
        }
    }

    pub(super) fn replica(&self, place: Place, replica: &ReplicaFacts<'_>) -> Result<(), String> {
        // A condemned replica lives on in the core until the store's word has been heard.
        let _ = (place, replica);
        Ok(())
    }

    fn allowed(&self, place: Place, partition: PartitionId, peer: PeerId) -> Result<(), String> {
        let floor = self.0.get(&(place, partition)).copied().unwrap_or_default();
        if peer >= floor {
            return Ok(());
        }
        Err(format!(
            "no replica below its tombstone: node {place} {partition}: {peer} below {floor}"
        ))
    }
}
