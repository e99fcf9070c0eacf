//! Replace, never shrink (consensus notes 8.2, 5): a group that has had its full strength keeps it in every
//! committed membership.

use std::collections::BTreeMap;

use ghostlight_protocol::ids::PartitionId;
use ghostlight_protocol::replica::ApplyItem;

/// The most voters that each group has had, up to the factor.
#[derive(Default, Debug)]
pub(super) struct Strength {
    factor: usize,
    most: BTreeMap<PartitionId, usize>,
}

impl Strength {
    pub(super) fn of(factor: u8) -> Self {
        Self {
            factor: usize::from(factor),
            most: BTreeMap::new(),
        }
    }

    pub(super) fn committed(
        &mut self,
        partition: PartitionId,
        item: &ApplyItem,
    ) -> Result<(), String> {
        let ApplyItem::Membership { membership, .. } = item else {
            return Ok(());
        };
        let voters = membership.voters.len();
        let most = self.most.entry(partition).or_default();
        if voters < *most {
            return Err(format!(
                "a group never shrinks: {partition} had {most} voters, {membership:?} is committed"
            ));
        }
        *most = (*most).max(voters.min(self.factor));
        Ok(())
    }
}
