//! Expiry at work: each open leadership sweeps its partition, unless this node's clock cannot be
//! believed.

use ghostlight_protocol::command::Kind;
use ghostlight_protocol::ids::PartitionId;

use super::{Local, NodeCore};
use crate::expiry::{ExpiryEffect, ExpiryInput, Times};
use crate::io::{Effect, Now};

impl NodeCore {
    pub(super) fn tick_expiry(&mut self, now: Now, out: &mut Vec<Effect>) {
        let Some(cluster) = &self.cluster else { return };
        if self.links.agreed_wall(now.wall).is_none() {
            return;
        }
        for slot in cluster.slots().filter(|slot| slot.serving().is_some()) {
            self.local
                .push_back(Local::Expiry(slot.partition(), ExpiryInput::Tick));
        }
        self.settle(now, out);
    }

    pub(super) fn feed_expiry(
        &mut self,
        now: Now,
        partition: PartitionId,
        input: ExpiryInput,
        out: &mut Vec<Effect>,
    ) {
        let Some(slot) = self.cluster.as_mut().and_then(|c| c.slot_mut(partition)) else {
            return;
        };
        // By a clock that cannot be believed nothing is over, whatever the input.
        let wall = self.links.agreed_wall(now.wall).unwrap_or_default();
        let age = slot.age(now.instant);
        let Some(term) = slot.serving().map(|(term, _)| term) else {
            return;
        };
        let Some(serving) = slot.serving_mut(term) else {
            return;
        };
        let mut effects = Vec::new();
        let times = Times { age, wall };
        let expiry = &mut serving.expiry;
        expiry.handle(now.instant, times, input, &mut effects);
        for effect in effects {
            match effect {
                ExpiryEffect::Read(rows) => self.read_for_expiry(partition, term, rows, out),
                ExpiryEffect::Propose(expire) => {
                    let believed = self.links.agreed_wall(now.wall).is_some();
                    if !believed || !self.propose(now, partition, term, Kind::Expire(expire)) {
                        self.local
                            .push_front(Local::Expiry(partition, ExpiryInput::Dropped));
                    }
                }
            }
        }
    }
}
