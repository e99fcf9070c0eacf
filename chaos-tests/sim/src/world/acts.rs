//! What a scenario does to the cluster, beside what the nemesis may do by chance.

use ghostlight_protocol::ids::PartitionId;
use ghostlight_storage::Cf;
use ghostlight_storage::memory::CrashKind;

use super::World;
use super::boot::Origin;
use crate::net::Place;
use crate::process::Fate;

impl World {
    /// A node dies, and nobody starts it again by himself.
    pub fn abandon(&mut self, place: Place, kind: CrashKind) {
        self.crash(place, kind);
        self.nodes[place].fate = Fate::Gone;
    }

    /// Somebody starts an abandoned node after all.
    pub fn bring_back(&mut self, place: Place) {
        self.nodes[place].fate = Fate::Returns;
        self.start(place, Origin::Joins);
    }

    /// A node's disk is replaced by an empty one, at the same address; what starts there is a new
    /// node.
    pub fn wipe(&mut self, place: Place) {
        self.crash(place, CrashKind::Process);
        self.nodes[place].fate = Fate::Returns;
        self.replace_disk(place);
        self.foreign.remove(&place);
        self.checks.ours(place);
    }

    /// A wiped node founds a cluster of its own. What goes on in that one is not compared with
    /// ours.
    pub fn found_again(&mut self, place: Place) {
        self.foreign.insert(place);
        self.checks.foreign(place);
        self.start(place, Origin::Founds);
    }

    /// Nothing passes between a place and all others.
    pub fn isolate(&mut self, place: Place) {
        for other in (0..self.nodes.len()).filter(|other| *other != place) {
            self.cut(place, other);
            self.cut(other, place);
        }
    }

    /// A bit of a partition's rows flips while its node is down, and the node is started again.
    /// Returns whether there was a row to damage.
    pub fn damage(&mut self, place: Place, cf: Cf, partition: PartitionId) -> Option<()> {
        self.crash(place, CrashKind::Process);
        let disk = &self.nodes[place].disk;
        let flipped = disk.flip_any_bit(cf, &partition.0.to_be_bytes());
        self.start(place, Origin::Joins);
        flipped.map(|_| ())
    }

    /// Whether a node that was told to end has ended, and is back.
    #[must_use]
    pub fn is_back(&self, place: Place) -> bool {
        self.nodes[place].process.is_some() && !self.closing.contains(&place)
    }

    /// Whether a node has left for good.
    #[must_use]
    pub fn has_left(&self, place: Place) -> bool {
        self.nodes[place].process.is_none() && self.nodes[place].fate == Fate::Gone
    }
}
