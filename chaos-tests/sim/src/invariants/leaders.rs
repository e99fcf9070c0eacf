//! Election safety (Raft, figure 3; promise G1): at most one leader in a term of a group, and only
//! it proposes in that term: what a deposed leader began enters no log by way of its successor.

use std::collections::BTreeMap;

use ghostlight_core::node::ReplicaView;
use ghostlight_core::replica::Role;
use ghostlight_protocol::ids::{LogPosition, PartitionId, Term};

use crate::net::Place;

/// Who led, by group and term.
#[derive(Default, Debug)]
pub(super) struct Leaders(BTreeMap<(PartitionId, Term), (Place, u64)>);

impl Leaders {
    pub(super) fn serves(
        &mut self,
        partition: PartitionId,
        term: Term,
        place: Place,
        run: u64,
    ) -> Result<(), String> {
        let first = *self.0.entry((partition, term)).or_insert((place, run));
        if first == (place, run) {
            return Ok(());
        }
        Err(format!(
            "one leader per term: {partition} {term} was led by node {} in run {}, now by node {place} \
             in run {run}",
            first.0, first.1
        ))
    }

    pub(super) fn replica(
        &mut self,
        place: Place,
        run: u64,
        replica: &ReplicaView<'_>,
    ) -> Result<(), String> {
        // A sole voter elects itself in one step, and tells nobody before its vote is synced: until
        // it serves, a crash may undo that election, and the next one may be of the same term.
        let voters = &replica.membership.voters;
        let alone = *voters == [replica.peer.0] && replica.membership.voters_outgoing.is_empty();
        if replica.role == Role::Leader && !alone {
            self.serves(replica.partition, replica.term, place, run)?;
        }
        match replica.serves {
            Some(term) if (term, Role::Leader) != (replica.term, replica.role) => Err(format!(
                "{}: node {place} serves {term} as {:?} of {}",
                replica.partition, replica.role, replica.term
            )),
            Some(_) | None => Ok(()),
        }
    }
}

/// An entry was proposed by the leadership of this term.
///
/// # Errors
/// It stands in the log as an entry of another term.
pub(super) fn proposed(partition: PartitionId, at: LogPosition, term: Term) -> Result<(), String> {
    if term == at.term {
        return Ok(());
    }
    Err(format!(
        "only a leader proposes, in its own term: {partition} {} of {} was proposed in {term}",
        at.index, at.term
    ))
}
