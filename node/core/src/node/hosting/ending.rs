//! What a node that ends still owes as a host: turns that run here for other leaders go on to their
//! end, their leaders have heard of it, and no new ones begin here; then the objects of its
//! applications are told to go. Absent: when a node ends, and for how long at most
//! (`node::ending`).

use super::*;
use crate::node::ending::Ending;

/// How long objects are told to go: what a sidecar of Dapr takes at most by default
/// (`--dapr-graceful-shutdown-seconds`).
const DEPARTURE_MAX: Duration = Duration::from_secs(5);

impl NodeCore {
    /// The objects of the applications beside a node that ends go. Whether some have not gone, and
    /// may still.
    pub(in crate::node) fn sends_objects_off(&mut self, now: Now, out: &mut Vec<Effect>) -> bool {
        let since = *self.hosting.departing.get_or_insert(now.instant);
        let mut effects = Vec::new();
        let left = self.hosting.objects.let_all_go(&mut effects);
        self.host_effects(now, effects, out);
        left > 0 && now.instant.since(since) < DEPARTURE_MAX
    }

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
            Ending::No | Ending::Leave { empty: None, .. } => false,
            Ending::Leave { .. }
            | Ending::Drain { .. }
            | Ending::Goodbye { .. }
            | Ending::Halted => true,
        };
        ends && leader != self.me && !self.hosting.objects.may_adopt(start)
    }

    /// A node without copies that ends hosts nothing any more: turns wait for the next one instead.
    pub(super) fn is_going(record: &NodeRecord) -> bool {
        record.weight == 0 && record.duty() == Duty::Leaving
    }
}
