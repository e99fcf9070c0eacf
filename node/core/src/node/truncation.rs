//! Forgetting the front of logs, a few groups at every tick, so that no tick pays for all of them.

use ghostlight_protocol::ids::PartitionId;

use super::NodeCore;
use crate::io::{Effect, StoreEffect};
use crate::replica::LogRoom;

/// Every group is looked at once in so many ticks.
const TRUNCATE_TICKS: u64 = 40;

impl NodeCore {
    /// What was just applied may be all that a crowded log waited for: its bound is one of memory,
    /// so it is not left to the next tick.
    pub(super) fn truncate_if_crowded(&mut self, partition: PartitionId, out: &mut Vec<Effect>) {
        let slot = self.cluster.as_mut().and_then(|c| c.slot_mut(partition));
        if let Some(slot) = slot.filter(|slot| slot.group.is_crowded())
            && let Some(through) = slot.group.truncate(LogRoom::Ample)
        {
            out.push(Effect::Store(StoreEffect::Truncate { partition, through }));
        }
    }

    pub(super) fn tick_truncation(&mut self, out: &mut Vec<Effect>) {
        let turn = self.ticks % TRUNCATE_TICKS;
        let bounds = self.start.log;
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let each = || cluster.slots().map(|slot| slot.group.log_bytes());
        let room = bounds.room(cluster.logs.bytes(), each);
        for slot in cluster.slots.iter_mut().flatten() {
            let partition = slot.group.partition();
            // Memory that is scarce cannot wait until it is each one's turn.
            if room == LogRoom::Ample && u64::from(partition.0) % TRUNCATE_TICKS != turn {
                continue;
            }
            if let Some(through) = slot.group.truncate(room) {
                out.push(Effect::Store(StoreEffect::Truncate { partition, through }));
            }
        }
    }
}
