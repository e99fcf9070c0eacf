//! State machine safety (Raft, figure 3): what is applied at an index is the same on every replica.

use std::collections::BTreeMap;

use ghostlight_protocol::hash::hash64;
use ghostlight_protocol::ids::PartitionId;
use ghostlight_protocol::replica::ApplyItem;
use prost::Message as _;

use crate::net::Place;

/// Whether an entry was seen before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Seen {
    /// It was not.
    First,
    /// Some replica has applied it, or this one before it died.
    Before,
}

/// Term and hash of each committed entry.
#[derive(Debug)]
pub(super) struct Committed(Vec<BTreeMap<u64, (u64, u64, Place)>>);

impl Committed {
    pub(super) fn new(partitions: u16) -> Self {
        Self(vec![BTreeMap::new(); usize::from(partitions)])
    }

    pub(super) fn seen(
        &mut self,
        place: Place,
        partition: PartitionId,
        item: &ApplyItem,
    ) -> Result<Seen, String> {
        let at = item.at();
        let hash = match item {
            ApplyItem::Command { data, .. } => hash64(b'c', data),
            ApplyItem::Membership { membership, .. } => hash64(b'm', &membership.encode_to_vec()),
        };
        let log = &mut self.0[usize::from(partition.0)];
        let Some(first) = log.get(&at.index.0) else {
            log.insert(at.index.0, (at.term.0, hash, place));
            return Ok(Seen::First);
        };
        if (first.0, first.1) == (at.term.0, hash) {
            return Ok(Seen::Before);
        }
        Err(format!(
            "committed entries are equal: {partition} {} is of term {} at node {}, of {} at node \
             {place}, or has other content",
            at.index, first.0, first.2, at.term
        ))
    }
}
