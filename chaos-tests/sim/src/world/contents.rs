//! What really lies on the disks: the replicas of a healed group hold the same rows, family by
//! family.
//!
//! The chain hash in a partition's row says that replicas applied the same; this looks at what they
//! have, snapshots and all.

use std::collections::BTreeMap;

use ghostlight_protocol::family::Family;
use ghostlight_protocol::hash::hash64;
use ghostlight_protocol::ids::PartitionId;
use ghostlight_storage::{Limit, StorageError};

use super::World;
use crate::net::Place;

/// A hash over the rows of each family.
type Contents = Vec<(Family, u64)>;

impl World {
    /// Compares the rows of all replicas that stand at the same applied index. Returns how many
    /// partitions were compared between two replicas or more.
    ///
    /// # Errors
    /// The broken promise.
    pub(crate) fn compare_contents(&self) -> Result<usize, String> {
        let mut compared = 0;
        for partition in (0..self.params.partitions).map(PartitionId) {
            let mut seen: BTreeMap<u64, (Place, Contents)> = BTreeMap::new();
            let mut pairs = 0;
            for place in self.ours() {
                let (applied, contents) = match self.contents(place, partition) {
                    Ok(Some(found)) => found,
                    // A flipped bit that nobody has read yet.
                    Ok(None) | Err(StorageError::Damaged { .. }) => continue,
                    Err(error) => return Err(format!("{partition}: {error}")),
                };
                let Some((other, theirs)) = seen.get(&applied) else {
                    seen.insert(applied, (place, contents));
                    continue;
                };
                pairs += 1;
                let differs = theirs.iter().zip(&contents).find(|(a, b)| a != b);
                if let Some(((family, _), _)) = differs {
                    return Err(format!(
                        "state is equal at equal index: {partition} i{applied}: {family:?} differs \
                         between node {other} and node {place}"
                    ));
                }
            }
            compared += usize::from(pairs > 0);
        }
        Ok(compared)
    }

    fn contents(
        &self,
        place: Place,
        partition: PartitionId,
    ) -> Result<Option<(u64, Contents)>, StorageError> {
        let Some(process) = &self.nodes[place].process else {
            return Ok(None);
        };
        // A replica that its node has given up is none, whatever still lies there.
        let lives = process.core.replicas().any(|r| r.partition == partition);
        let Some(row) = process.reader.partition_row(partition)?.filter(|_| lives) else {
            return Ok(None);
        };
        let limit = Limit {
            rows: 1 << 30,
            bytes: 1 << 30,
        };
        let mut contents = Vec::new();
        for family in Family::ALL {
            let page = process.reader.scan(partition, family, b"", None, limit)?;
            let mut bytes = Vec::new();
            for (key, value) in page.rows {
                for part in [&key, &value] {
                    bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
                    bytes.extend_from_slice(part);
                }
            }
            contents.push((family, hash64(b'F', &bytes)));
        }
        Ok(Some((row.applied_index, contents)))
    }
}
