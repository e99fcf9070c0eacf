//! Replicas at the same applied index hold the same state (reliability S5): their chain hashes
//! agree.

use std::collections::BTreeMap;

use ghostlight_protocol::ids::PartitionId;
use ghostlight_protocol::partition_row::PartitionRow;

use crate::net::Place;

/// The row first seen at each applied index.
#[derive(Default, Debug)]
pub(super) struct States(BTreeMap<(PartitionId, u64), (PartitionRow, Place)>);

impl States {
    pub(super) fn row(
        &mut self,
        place: Place,
        partition: PartitionId,
        row: &PartitionRow,
    ) -> Result<(), String> {
        let key = (partition, row.applied_index);
        let (first, at) = self.0.entry(key).or_insert_with(|| (row.clone(), place));
        if first == row {
            return Ok(());
        }
        Err(format!(
            "state is equal at equal index: {partition} i{}: node {at} has {first:?}, node {place} has \
             {row:?}",
            row.applied_index
        ))
    }
}
