//! Leader completeness (Raft, figure 3): what is committed stands in the log of every leader of a
//! later term.
//!
//! That a log which reaches as far also holds the same entries is judged by log matching.

use std::collections::BTreeMap;

use ghostlight_core::node::ReplicaView;
use ghostlight_core::replica::Role;
use ghostlight_protocol::ids::{LogIndex, PartitionId, Term};
use ghostlight_protocol::replica::ApplyItem;

use crate::net::Place;

/// The last entry of each term that is known to be committed.
#[derive(Default, Debug)]
pub(super) struct Completeness {
    committed: BTreeMap<(PartitionId, Term), LogIndex>,
    judged: BTreeMap<(Place, PartitionId), Term>,
}

impl Completeness {
    pub(super) fn committed(&mut self, partition: PartitionId, item: &ApplyItem) {
        let at = item.at();
        let last = self.committed.entry((partition, at.term)).or_default();
        *last = (*last).max(at.index);
    }

    pub(super) fn stopped(&mut self, place: Place) {
        self.judged.retain(|(p, _), _| *p != place);
    }

    pub(super) fn replica(
        &mut self,
        place: Place,
        replica: &ReplicaView<'_>,
    ) -> Result<(), String> {
        let key = (place, replica.partition);
        if replica.role != Role::Leader || self.judged.get(&key) == Some(&replica.term) {
            return Ok(());
        }
        self.judged.insert(key, replica.term);
        let earlier = (replica.partition, Term(0))..(replica.partition, replica.term);
        let last = self.committed.range(earlier).map(|(_, last)| *last).max();
        match last {
            Some(last) if last > replica.last.index => Err(format!(
                "a leader has all that is committed: {} {} begins at node {place} with a log up to {}, {last} \
                 is committed",
                replica.partition, replica.term, replica.last.index
            )),
            Some(_) | None => Ok(()),
        }
    }
}
