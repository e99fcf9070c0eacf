//! Firings of all partitions of a node that run at the same time: a bound that types and partitions
//! share.
//!
//! Nobody has a fixed part of it. A type may have half of what the other types leave: so one alone
//! has half of the bound, two that are busy a third each, and whoever comes next finds something,
//! also where those before never end. Of what a type may have, each partition that fires it or
//! waits to has an equal part, and one firing at least. What one has beyond its part, because it
//! came first, it gives back as they end. Partitions are looked at in another order every time, for
//! where many wait the first ones take what there is.
//!
//! A leadership that ends takes its firings along without a word: they are counted anew at every
//! tick, and so are those that wait.

use std::collections::BTreeMap;

use super::firings::FIRINGS_MAX;

/// Reminders of one node that fire at the same time, and as many timers. Each may hold a connection
/// to an application.
pub const NODE_FIRINGS_MAX: usize = 2_048;
const _: () = assert!(FIRINGS_MAX < NODE_FIRINGS_MAX);

/// Which of so many partitions is looked at first at this tick: all of them are within `partitions`
/// ticks, far apart.
#[must_use]
pub fn rotation(tick: u64, partitions: usize) -> usize {
    const STEP: u64 = 97; // A prime: it reaches all of any number that it does not divide.
    match partitions as u64 {
        0 => 0,
        partitions if partitions % STEP == 0 => (tick % partitions) as usize,
        partitions => (tick.wrapping_mul(STEP) % partitions) as usize,
    }
}

/// What runs on a node.
#[derive(Debug, Default)]
pub struct SharedFirings {
    pub(super) reminders: Shared,
    pub(super) timers: Shared,
}

/// Of one kind.
#[derive(Debug, Default)]
pub(super) struct Shared {
    all: usize,
    types: BTreeMap<String, OfType>,
}

#[derive(Clone, Copy, Debug, Default)]
struct OfType {
    running: usize,
    /// That fire it, or wait to.
    partitions: usize,
}

impl SharedFirings {
    /// Nothing runs, as far as was counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.reminders.all == 0 && self.timers.all == 0
    }
}

impl Shared {
    /// How many of a type a partition may have that runs so many; those it has are never too many.
    pub(super) fn most(&self, of_type: &str, running: usize) -> usize {
        let here = self.types.get(of_type).copied().unwrap_or_default();
        let others = self.all - here.running;
        let most = ((NODE_FIRINGS_MAX - others) / 2).max(1);
        if self.all >= NODE_FIRINGS_MAX {
            return running;
        }
        if here.running >= most {
            // One has nothing only where the node is full: where an application hangs, those of its
            // type elsewhere go on.
            return running.max(1);
        }
        let part = most / here.partitions.max(1);
        part.max(1).max(running)
    }

    /// A partition runs so many of a type, or waits for the first one.
    pub(super) fn count(&mut self, of_type: &str, running: usize) {
        let counted = self.types.entry(of_type.to_owned()).or_default();
        counted.running += running;
        counted.partitions += 1;
        self.all += running;
    }

    pub(super) fn begin(&mut self, of_type: &str) {
        self.all += 1;
        match self.types.get_mut(of_type) {
            Some(of_type) => of_type.running += 1,
            None => {
                let first = OfType {
                    running: 1,
                    partitions: 1,
                };
                self.types.insert(of_type.to_owned(), first);
            }
        }
        assert!(
            self.all <= NODE_FIRINGS_MAX,
            "firings of a node are bounded"
        );
    }

    pub(super) fn end(&mut self, of_type: &str) {
        if let Some(of_type) = self.types.get_mut(of_type) {
            of_type.running -= 1;
            self.all -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn firings_that_never_end_leave_something_to_the_same_type_elsewhere() {
        for hung in [1, 2, 4, 8, 16, 32, 64, 128] {
            let mut node = Shared::default();
            for _ in 0..hung {
                node.count("counter", (NODE_FIRINGS_MAX / 2 / hung).min(FIRINGS_MAX));
            }
            for number in 0..100 {
                assert!(node.most("counter", 0) > 0, "{hung} hang, {number} others");
                node.begin("counter");
            }
        }
    }

    #[test]
    fn every_partition_is_the_first_one_in_its_turn() {
        for partitions in 1..=300 {
            let ticks = 0..partitions as u64;
            let firsts: std::collections::BTreeSet<usize> =
                ticks.map(|tick| rotation(tick, partitions)).collect();
            assert_eq!(firsts.len(), partitions);
        }
    }
}
