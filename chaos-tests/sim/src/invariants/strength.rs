//! Replace, never shrink (consensus notes 8.2, 5): a group that has had its full strength keeps it
//! in every committed membership.

use std::collections::BTreeMap;

use ghostlight_protocol::ids::{LogIndex, PartitionId};
use ghostlight_protocol::replica::ApplyItem;

/// The most voters that each group has had, up to the factor, and the last membership that was
/// looked at: replicas that lag, or that apply again after a crash, come to older ones.
#[derive(Default, Debug)]
pub(super) struct Strength {
    factor: usize,
    most: BTreeMap<PartitionId, (LogIndex, usize)>,
}

impl Strength {
    pub(super) fn of(factor: u8) -> Self {
        Self {
            factor: usize::from(factor),
            most: BTreeMap::new(),
        }
    }

    /// Whether every group has had its full strength, and so has it.
    pub(super) fn is_full(&self, partitions: u16) -> bool {
        let most = |partition| {
            self.most
                .get(&PartitionId(partition))
                .map_or(0, |(_, most)| *most)
        };
        (0..partitions).all(|partition| most(partition) >= self.factor)
    }

    pub(super) fn committed(
        &mut self,
        partition: PartitionId,
        item: &ApplyItem,
    ) -> Result<(), String> {
        let ApplyItem::Membership { at, membership } = item else {
            return Ok(());
        };
        let voters = membership.voters.len();
        let (last, most) = self.most.entry(partition).or_default();
        if at.index <= *last {
            return Ok(());
        }
        *last = at.index;
        if voters < *most {
            return Err(format!(
                "a group never shrinks: {partition} had {most} voters, {membership:?} is committed"
            ));
        }
        *most = (*most).max(voters.min(self.factor));
        Ok(())
    }
}
