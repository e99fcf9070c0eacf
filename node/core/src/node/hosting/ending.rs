//! What a node that ends still owes as a host: turns that run here for other leaders go on to their end, their leaders have
//! heard of it, and no new ones begin here. Absent: when a node ends, and for how long at most (`facts`).

use super::*;
use crate::node::Ending;

impl NodeCore {
    /// Whether other nodes wait for what runs here for them.
    pub(in crate::node) fn is_hosting(&self) -> bool {
        if self.links.connected().is_empty() {
            return false;
        }
        let hosting = &self.hosting;
        let mut led = hosting.leaders.values();
        let runs = led.any(|led| led.leader != self.me && led.turn.is_some());
        let mut channels = hosting.channels.iter();
        let says =
            channels.any(|((peer, _), channel)| channel.waits() && self.links.answers(*peer));
        runs || says || hosting.objects.runs_without_leader()
    }

    /// Whether a turn of another leader must begin elsewhere. One that runs here already goes on.
    pub(super) fn begins_elsewhere(&self, leader: NodeId, start: &TurnStart) -> bool {
        let ends = match self.ending {
            Ending::No | Ending::Leave { .. } => false,
            Ending::Drain { .. } | Ending::Goodbye { .. } | Ending::Halted => true,
        };
        ends && leader != self.me && !self.hosting.objects.may_adopt(start)
    }

    /// A node without copies that ends hosts nothing any more: turns wait for the next one instead.
    pub(super) fn is_going(record: &NodeRecord) -> bool {
        record.weight == 0 && record.duty() == Duty::Leaving
    }
}
