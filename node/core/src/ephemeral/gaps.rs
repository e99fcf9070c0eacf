//! What was lost between a publisher's node and this one, and what comes too late.
//!
//! Each node counts its events of a topic, and every event says its place. So whatever loses events
//! (a full lane, a broken connection, a relay that died) is seen here by the hole that it leaves.
//! One that comes behind a later one of the same node, because the plan changed in between, is
//! dropped: a publisher's events have their order, and none comes twice.

use std::collections::BTreeMap;

use ghostlight_protocol::ids::NodeId;

/// Publishers' nodes of one topic that are remembered; of more, those heard of least lately begin
/// anew.
pub const ORIGINS_MAX: usize = 1_024;

/// What was heard of each publisher's node, for one topic.
#[derive(Debug, Default)]
pub struct Gaps {
    last: BTreeMap<NodeId, Last>,
    clock: u64,
}

#[derive(Debug)]
struct Last {
    place: Place,
    heard: u64,
}

/// A place among the events of one node and one topic.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Place {
    /// Raised when the node counts anew.
    pub epoch: u64,
    /// Its count.
    pub number: u64,
}

/// What an event is, after those before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Heard {
    /// The next one; so many before it were lost.
    Next {
        /// How many.
        missed: u64,
    },
    /// It was here, or a later one was.
    Late,
}

impl Gaps {
    /// An event has come.
    pub fn heard(&mut self, origin: NodeId, place: Place) -> Heard {
        self.clock += 1;
        let heard = self.clock;
        let Some(last) = self.last.get_mut(&origin) else {
            self.make_room();
            self.last.insert(origin, Last { place, heard });
            // What was published before this node wanted the topic is not missed.
            return Heard::Next { missed: 0 };
        };
        if place <= last.place {
            return Heard::Late;
        }
        let missed = match place.epoch == last.place.epoch {
            true => place.number.saturating_sub(last.place.number + 1),
            false => 0,
        };
        *last = Last { place, heard };
        Heard::Next { missed }
    }

    fn make_room(&mut self) {
        if self.last.len() < ORIGINS_MAX {
            return;
        }
        let oldest = self.last.iter().min_by_key(|(_, last)| last.heard);
        if let Some(oldest) = oldest.map(|(node, _)| *node) {
            self.last.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(epoch: u64, number: u64) -> Place {
        Place { epoch, number }
    }

    #[test]
    fn holes_are_counted_and_late_ones_dropped() {
        let mut gaps = Gaps::default();
        let next = |missed| Heard::Next { missed };
        for (origin, epoch, number, wanted) in [
            (1, 1, 40, next(0)),
            (1, 1, 41, next(0)),
            (1, 1, 45, next(3)),
            (1, 1, 45, Heard::Late),
            (1, 1, 43, Heard::Late),
            (1, 1, 46, next(0)),
            // Another publisher has its own count.
            (2, 1, 7, next(0)),
            // The first one has begun anew; what its run before sent is late.
            (1, 2, 3, next(0)),
            (1, 1, 47, Heard::Late),
            (1, 2, 5, next(1)),
        ] {
            let heard = gaps.heard(NodeId(origin), place(epoch, number));
            assert_eq!(heard, wanted, "{origin} {epoch} {number}");
        }
    }

    #[test]
    fn the_one_heard_of_least_lately_is_forgotten() {
        let mut gaps = Gaps::default();
        for origin in 0..ORIGINS_MAX as u128 {
            gaps.heard(NodeId(origin), place(1, 1));
        }
        gaps.heard(NodeId(0), place(1, 2));
        gaps.heard(NodeId(9_999), place(1, 1));
        assert_eq!(gaps.last.len(), ORIGINS_MAX);
        assert_eq!(
            gaps.heard(NodeId(0), place(1, 4)),
            Heard::Next { missed: 1 }
        );
        assert_eq!(
            gaps.heard(NodeId(1), place(1, 4)),
            Heard::Next { missed: 0 }
        );
    }
}
