//! Reminders and timers at work: each open leadership fires its own, unless this node's clock cannot be believed.

use ghostlight_protocol::ids::PartitionId;

use super::{Local, NodeCore};
use crate::io::{Effect, Now};
use crate::turns::TurnsInput;
use crate::wakeups::{WakeupsEffect, WakeupsInput};

impl NodeCore {
    pub(super) fn tick_wakeups(&mut self, now: Now) {
        let Some(cluster) = &self.cluster else { return };
        if self.links.agreed_wall(now.wall).is_none() {
            return;
        }
        for slot in cluster.slots().filter(|slot| slot.serving().is_some()) {
            self.local
                .push_back(Local::Wakeups(slot.partition(), WakeupsInput::Tick));
        }
    }

    pub(super) fn feed_wakeups(
        &mut self,
        now: Now,
        partition: PartitionId,
        input: WakeupsInput,
        out: &mut Vec<Effect>,
    ) {
        // By a clock that cannot be believed nothing is due, whatever the input.
        let wall = self.links.agreed_wall(now.wall).unwrap_or_default();
        let Some(slot) = self.cluster.as_mut().and_then(|c| c.slot_mut(partition)) else {
            return;
        };
        let Some(term) = slot.serving().map(|(term, _)| term) else {
            return;
        };
        let Some(serving) = slot.serving_mut(term) else {
            return;
        };
        let mut effects = Vec::new();
        let wakeups = &mut serving.wakeups;
        wakeups.handle(now.instant, wall, input, &mut effects);
        for effect in effects {
            match effect {
                WakeupsEffect::Read(rows) => self.read_for_wakeups(partition, term, rows, out),
                WakeupsEffect::Fire(due) => {
                    let input = TurnsInput::Due(due);
                    self.local.push_back(Local::Turns(partition, input));
                }
            }
        }
    }
}
