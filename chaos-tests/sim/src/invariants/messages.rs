//! Messages between partitions are accepted once and in the order in which they were sent (promise
//! G2, reliability A5): by source, an entry takes as many as it moves the mark by, and sequences
//! never go back from one entry to a later one.

use std::collections::BTreeMap;

use ghostlight_core::io::Applied;
use ghostlight_protocol::ids::{LogIndex, LogPosition, PartitionId};
use ghostlight_protocol::replica::EntryOutcome;

/// What was accepted of each source.
#[derive(Default, Debug)]
pub(super) struct Messages(BTreeMap<(PartitionId, PartitionId), Taken>);

#[derive(Default, Debug)]
struct Taken {
    /// Where each message was.
    places: BTreeMap<u64, LogIndex>,
    /// The mark after each entry.
    marks: BTreeMap<LogIndex, u64>,
}

impl Messages {
    pub(super) fn applied(&mut self, applied: &Applied) -> Result<(), String> {
        for (at, outcome) in &applied.outcomes {
            if let EntryOutcome::Accepted {
                source,
                messages,
                appended,
                through,
            } = outcome
            {
                let sequences: Vec<u64> = messages.iter().map(|(_, m)| m.sequence).collect();
                // What is for a topic stands in its log, and in no inbox.
                let events = appended.iter().map(|appended| appended.batch.events.len());
                let count = sequences.len() + events.sum::<usize>();
                self.moved(applied.partition, *source, *at, (count as u64, *through))?;
                self.accepted(applied.partition, *source, *at, &sequences)?;
            }
        }
        Ok(())
    }

    fn moved(
        &mut self,
        partition: PartitionId,
        source: PartitionId,
        at: LogPosition,
        (count, through): (u64, u64),
    ) -> Result<(), String> {
        let marks = &mut self.0.entry((partition, source)).or_default().marks;
        let before = marks.range(..at.index).next_back();
        let before = before.map_or(0, |(_, mark)| *mark);
        if before + count != through {
            return Err(format!(
                "messages have no gap: {partition} {} takes {count} of {source} after {before}, and is at {through}",
                at.index
            ));
        }
        marks.insert(at.index, through);
        Ok(())
    }

    fn accepted(
        &mut self,
        partition: PartitionId,
        source: PartitionId,
        at: LogPosition,
        sequences: &[u64],
    ) -> Result<(), String> {
        let known = &mut self.0.entry((partition, source)).or_default().places;
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
