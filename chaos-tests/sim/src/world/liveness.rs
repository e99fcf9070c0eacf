//! The second half of a run: the nodes must make progress while one of them is left out.

use ghostlight_core::admin::DrainChange;
use ghostlight_storage::memory::CrashKind;

use super::boot::Origin;
use super::{Repair, World};
use crate::net::Place;
use crate::process::Fate;

impl World {
    /// Ends every fault but one: a node that is dead and stays so until `calm`. `None`: the others
    /// could not be asked for progress, because there are too few, or copies are still being made
    /// anew.
    pub(crate) fn leave_one_out(&mut self) -> Option<Place> {
        let places = 0..self.nodes.len();
        let mut ours: Vec<Place> = places
            .filter(|p| self.nodes[*p].fate == Fate::Returns)
            .collect();
        ours.retain(|place| !self.foreign.contains(place));
        // A cluster that grew from one node may have its copies on that one still.
        let whole = self.repair == Repair::Nothing
            && self.params.factor >= 3
            && self.checks.is_strong(self.params.partitions);
        if !whole || ours.len() < 3 {
            return None;
        }
        let place = *self.dice.fault.pick(&ours);
        self.trace.line(
            self.now,
            format_args!("all faults end but one: node {place}"),
        );
        self.left_out = Some(place);
        self.end_faults();
        self.crash(place, CrashKind::PowerLossAll);
        self.closing.remove(&place);
        for other in ours.into_iter().filter(|other| *other != place) {
            if self.nodes[other].process.is_none() {
                self.closing.remove(&other);
                self.start(other, Origin::Joins);
            }
            if self.nodes[other].process.is_some() && !self.closing.contains(&other) {
                self.drain(other, DrainChange::Undo);
            }
        }
        Some(place)
    }

    /// Nothing goes wrong any more, as far as network, disks and clocks go.
    pub(crate) fn end_faults(&mut self) {
        self.phase = super::Phase::Quiet;
        self.apart.clear();
        self.heal();
        self.end_mishaps();
        for node in &mut self.nodes {
            node.slowness = 1;
            node.loop_slowness = 1;
            node.stalled_until = 0;
            node.disk.disarm();
            node.set_right();
        }
    }
}
