//! Order within a replica (Raft, figure 3): applied never passes commit, and never goes back in a
//! process.

use std::collections::BTreeMap;

use ghostlight_core::node::ReplicaView;
use ghostlight_protocol::ids::{LogIndex, PartitionId, PeerId, Term};
use ghostlight_protocol::replica::log::RecoveredReplica;

use crate::net::Place;

/// Where each replica of the present processes stood.
#[derive(Default, Debug)]
pub(super) struct AppliedMarks(BTreeMap<(Place, PartitionId, PeerId), (LogIndex, LogIndex, Term)>);

impl AppliedMarks {
    pub(super) fn started(&mut self, place: Place, replicas: &[RecoveredReplica]) {
        for replica in replicas {
            let applied = replica
                .row
                .as_ref()
                .map_or(LogIndex(0), |row| row.applied().0);
            let mark = (applied, replica.hard_state.commit, replica.hard_state.term);
            self.0
                .insert((place, replica.partition, replica.peer), mark);
        }
    }

    pub(super) fn stopped(&mut self, place: Place) {
        self.0.retain(|(p, ..), _| *p != place);
    }

    pub(super) fn replica(
        &mut self,
        place: Place,
        replica: &ReplicaView<'_>,
    ) -> Result<(), String> {
        let key = (place, replica.partition, replica.peer);
        let mark = self.0.entry(key).or_default();
        let now = (replica.applied, replica.commit, replica.term);
        let told = replica.row.map_or(LogIndex(0), |row| row.applied().0);
        if now.0 < mark.0 || now.1 < mark.1 || now.2 < mark.2 {
            return Err(format!(
                "applied, commit and term never go back: {} {} at node {place}: {mark:?}, now {now:?}",
                replica.partition, replica.peer
            ));
        }
        if replica.applied > replica.commit || replica.commit > replica.last.index {
            return Err(format!(
                "applied, commit, end are in order: node {place} {replica:?}"
            ));
        }
        if told > replica.commit {
            return Err(format!(
                "the store is not ahead of commit: node {place} {replica:?}"
            ));
        }
        *mark = now;
        Ok(())
    }
}
