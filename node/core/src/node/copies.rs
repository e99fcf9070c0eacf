//! Whether the partitions that are led here have as many copies as the operator asks for, and what
//! is said if not.

use std::time::Duration;

use ghostlight_protocol::code::Code;
use ghostlight_protocol::ids::PartitionId;
use ghostlight_protocol::time::Instant;

use super::slot::{Leading, Stage};
use super::{Local, NodeCore};
use crate::io::{Effect, Now};
use crate::topics::TopicsInput;
use crate::turns::{TurnsInput, Writes};

/// Writes are refused for so long before the log says why: a cluster that forms has few copies for
/// a moment.
const SAID_AFTER: Duration = Duration::from_secs(1);
/// It is said again every so often.
const SAID_EVERY: Duration = Duration::from_secs(60);
/// Ticks between two looks.
const LOOK_TICKS: u64 = 5;

/// How long there have been too few copies, and when that was said.
#[derive(Default, Debug)]
pub(super) struct Few {
    since: Option<Instant>,
    said: Option<Instant>,
}

impl NodeCore {
    /// Tells an open leadership whether there are copies enough, and room enough here, to take
    /// writes.
    pub(super) fn count_copies(&mut self, partition: PartitionId) {
        let (min_copies, room) = (self.start.min_copies, self.fitness.room());
        let Some(slot) = self.cluster.as_mut().and_then(|c| c.slot_mut(partition)) else {
            return;
        };
        let writes = slot.writes(min_copies, room);
        let Some(Leading {
            stage: Stage::Open(serving),
            ..
        }) = &mut slot.leading
        else {
            return;
        };
        if serving.writes != writes {
            serving.writes = writes;
            self.local
                .push_back(Local::Turns(partition, TurnsInput::Writes(writes)));
            self.local
                .push_back(Local::Topics(partition, TopicsInput::Writes(writes)));
        }
    }

    /// Says why writes are refused; whoever writes hears it too.
    pub(super) fn tick_copies(&mut self, now: Now, out: &mut Vec<Effect>) {
        if !self.ticks.is_multiple_of(LOOK_TICKS) {
            return;
        }
        let slots = self.cluster.iter().flat_map(|cluster| cluster.slots());
        let few = slots.filter_map(|slot| match slot.serving()?.1.writes {
            Writes::FewCopies { voters, .. } => Some(voters),
            Writes::Taken | Writes::NoRoom => None,
        });
        let few: Vec<usize> = few.collect();
        let Some(fewest) = few.iter().min() else {
            self.few = Few::default();
            return;
        };
        let since = *self.few.since.get_or_insert(now.instant);
        let lately = |at: Instant| now.instant.since(at) < SAID_EVERY;
        if now.instant.since(since) < SAID_AFTER || self.few.said.is_some_and(lately) {
            return;
        }
        self.few.said = Some(now.instant);
        let text = format!(
            "writes to {} partitions are refused: --min-copies asks for {} copies, and the fewest have {fewest}. Reads are \
             served. Start more nodes with --join, or lower --min-copies [{}]",
            few.len(),
            self.start.min_copies,
            Code::MinCopies
        );
        Self::say(out, text);
    }
}
