//! Messages between partitions are accepted once and in the order in which they were sent (promise G2,
//! reliability A5): by source, sequences follow each other without a gap within an entry, and never go back
//! from one entry to a later one.

use std::collections::BTreeMap;

use ghostlight_core::io::Applied;
use ghostlight_protocol::ids::{LogIndex, LogPosition, PartitionId};
use ghostlight_protocol::replica::EntryOutcome;

/// Where each message of a source was accepted.
#[derive(Default, Debug)]
pub(super) struct Messages(BTreeMap<(PartitionId, PartitionId), BTreeMap<u64, LogIndex>>);

impl Messages {
    pub(super) fn applied(&mut self, applied: &Applied) -> Result<(), String> {
        for (at, outcome) in &applied.outcomes {
            if let EntryOutcome::Accepted {
                source, messages, ..
            } = outcome
            {
                let sequences: Vec<u64> = messages.iter().map(|(_, m)| m.sequence).collect();
                self.accepted(applied.partition, *source, *at, &sequences)?;
            }
        }
        Ok(())
    }

    fn accepted(
        &mut self,
        partition: PartitionId,
        source: PartitionId,
        at: LogPosition,
        sequences: &[u64],
    ) -> Result<(), String> {
        let gap = sequences.windows(2).find(|pair| pair[1] != pair[0] + 1);
        if let Some(gap) = gap {
            return Err(format!(
                "messages have no gap: {partition} {} accepts {gap:?} of {source}",
                at.index
            ));
        }
        let known = self.0.entry((partition, source)).or_default();
        for sequence in sequences {
            let first = *known.entry(*sequence).or_insert(at.index);
            if first != at.index {
                return Err(format!(
                    "a message is accepted once: {partition} took {sequence} of {source} at {first} and at {}",
                    at.index
                ));
            }
            let before = known.range(..*sequence).next_back();
            let after = known.range(sequence + 1..).next();
            let ordered = before.is_none_or(|(_, i)| *i <= at.index)
                && after.is_none_or(|(_, i)| *i >= at.index);
            if !ordered {
                return Err(format!(
                    "messages keep their order: {partition} {} accepts {sequence} of {source} between \
                     {before:?} and {after:?}",
                    at.index
                ));
            }
        }
        Ok(())
    }
}
