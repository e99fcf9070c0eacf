//! Reminders and timers at work: each open leadership fires its own, unless this node's clock
//! cannot be believed.

use ghostlight_protocol::ids::PartitionId;

use super::{Local, NodeCore, Slot};
use crate::io::{Effect, Now};
use crate::turns::TurnsInput;
use crate::wakeups::{SharedFirings, WakeupsEffect, WakeupsInput, rotation};

impl NodeCore {
    pub(super) fn tick_wakeups(&mut self, now: Now) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        // Leaderships that have ended since took theirs along.
        if !cluster.firings.is_empty() {
            let mut firings = SharedFirings::default();
            for (_, serving) in cluster.slots().filter_map(Slot::serving) {
                serving.wakeups.count_among(&mut firings);
            }
            cluster.firings = firings;
        }
        if self.links.agreed_wall(now.wall).is_none() {
            return;
        }
        let leading = cluster.slots().filter(|slot| slot.serving().is_some());
        let leading: Vec<PartitionId> = leading.map(Slot::partition).collect();
        // Whoever comes first takes what has become free: somebody else every time.
        let first = rotation(self.ticks, leading.len());
        let (later, sooner) = leading.split_at(first);
        for partition in sooner.iter().chain(later) {
            self.local
                .push_back(Local::Wakeups(*partition, WakeupsInput::Tick));
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
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let mut firings = std::mem::take(&mut cluster.firings);
        let effects = cluster.slot_mut(partition).and_then(|slot| {
            let (term, _) = slot.serving()?;
            let serving = slot.serving_mut(term)?;
            let mut effects = Vec::new();
            let wakeups = &mut serving.wakeups;
            wakeups.handle(now.instant, wall, &mut firings, input, &mut effects);
            Some((term, effects))
        });
        cluster.firings = firings;
        let Some((term, effects)) = effects else {
            return;
        };
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
