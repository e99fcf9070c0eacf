//! What a group of subscribers wants, and which offsets it has settled.

use prost::Message;

use crate::closed::{Closed, ClosedRange};

/// How a group is served. Replicated with the group; the latest subscriber's count.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct GroupSettings {
    /// Where a new group begins.
    #[prost(enumeration = "StartFrom", tag = "1")]
    pub start: i32,
    /// Of `StartFrom::Time`: milliseconds since the Unix epoch.
    #[prost(uint64, tag = "2")]
    pub start_ms: u64,
    /// Which events wait for each other.
    #[prost(enumeration = "Order", tag = "3")]
    pub order: i32,
    /// Deliveries of one event, the first included, before it is a dead letter; 0:
    /// `MAX_DELIVER_DEFAULT`.
    #[prost(uint32, tag = "4")]
    pub max_deliver: u32,
    /// Topic of the same component that takes the dead letters; empty: they are parked with the
    /// group.
    #[prost(string, tag = "5")]
    pub dead_letter_topic: String,
    /// First pause before a redelivery, in milliseconds; doubles with each; 0: `RETRY_PAUSE_MIN`.
    #[prost(uint64, tag = "6")]
    pub retry_pause_ms: u64,
    /// Longest such pause, in milliseconds; 0: `RETRY_PAUSE_MAX`.
    #[prost(uint64, tag = "7")]
    pub retry_pause_max_ms: u64,
    /// A group without subscribers for this long is deleted, in milliseconds of log age; 0: never.
    #[prost(uint64, tag = "8")]
    pub idle_ms: u64,
    /// What becomes of its events.
    #[prost(enumeration = "Purpose", tag = "9")]
    pub purpose: i32,
}

/// What becomes of a group's events.
#[derive(Clone, Copy, PartialEq, Eq, Debug, prost::Enumeration)]
#[repr(i32)]
pub enum Purpose {
    /// Subscribers handle them.
    Handle = 0,
    /// Subscribers name an actor for each: it becomes a message to that actor, and is settled by
    /// the same entry. What names none is a dead letter, never passed over.
    Forward = 1,
}

/// Where a new group begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug, prost::Enumeration)]
#[repr(i32)]
pub enum StartFrom {
    /// At the oldest event that is kept.
    First = 0,
    /// After the newest one.
    Last = 1,
    /// At the first event appended at or after a time.
    Time = 2,
}

/// Which events wait for each other.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, prost::Enumeration)]
#[repr(i32)]
pub enum Order {
    /// Those with the same key; those without a key wait for none.
    Key = 0,
    /// None: events are shared out as they come.
    None = 1,
    /// All of one topic partition: a redelivery holds up all behind it.
    Partition = 2,
}

/// Where the dead letters of a group go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DeadLetterRule {
    /// Kept beside the group.
    Park,
    /// Published to this topic of the same component.
    Topic(String),
}

impl GroupSettings {
    /// Where its dead letters go.
    #[must_use]
    pub fn dead_letters(&self) -> DeadLetterRule {
        if self.dead_letter_topic.is_empty() {
            DeadLetterRule::Park
        } else {
            DeadLetterRule::Topic(self.dead_letter_topic.clone())
        }
    }
}

/// Offsets that a group has settled: a floor, and ranges above it. Unlike a session's closed
/// sequences the ranges are not bounded here: the leader delivers only `GROUP_WINDOW` offsets
/// beyond the floor.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct AckSet {
    floor: u64,
    ranges: Vec<ClosedRange>,
}

impl AckSet {
    /// The set that a row names; what does not fit the rules of the set is left out.
    #[must_use]
    pub fn new(floor: u64, ranges: &[ClosedRange]) -> Self {
        let mut set = Self {
            floor,
            ranges: Vec::new(),
        };
        for range in ranges {
            set.add(range.first, range.end);
        }
        set
    }

    /// Every lower offset is settled.
    #[must_use]
    pub fn floor(&self) -> u64 {
        self.floor
    }

    /// Settled ranges above the floor, ascending, with an open offset before each.
    #[must_use]
    pub fn ranges(&self) -> &[ClosedRange] {
        &self.ranges
    }

    /// Whether an offset is settled.
    #[must_use]
    pub fn contains(&self, offset: u64) -> bool {
        if offset < self.floor {
            return true;
        }
        let after = self.ranges.partition_point(|r| r.first <= offset);
        let range = after.checked_sub(1).map(|at| self.ranges[at]);
        range.is_some_and(|range| offset < range.end)
    }

    /// Settles `first .. end`.
    pub fn add(&mut self, first: u64, end: u64) {
        if first >= end {
            return;
        }
        let mut merged = ClosedRange { first, end };
        let from = self.ranges.partition_point(|r| r.end < first);
        let to = self.ranges.partition_point(|r| r.first <= end);
        for range in self.ranges.drain(from..to) {
            merged.first = merged.first.min(range.first);
            merged.end = merged.end.max(range.end);
        }
        self.ranges.insert(from, merged);
        self.settle();
    }

    /// Everything below is settled.
    pub fn raise(&mut self, floor: u64) {
        if floor > self.floor {
            self.floor = floor;
            self.ranges.retain(|range| range.end > floor);
            if let Some(first) = self.ranges.first_mut() {
                first.first = first.first.max(floor);
            }
            self.settle();
        }
    }

    fn settle(&mut self) {
        let reached = self.ranges.iter().take_while(|r| r.first <= self.floor);
        // Ranges are apart, so only one can touch the floor; what a row says may be anything.
        let count = reached.count();
        for range in self.ranges.drain(..count) {
            self.floor = self.floor.max(range.end);
        }
    }
}

/// Both sets of numbers are told in the same form.
impl From<Closed> for AckSet {
    fn from(closed: Closed) -> Self {
        Self::new(closed.below(), closed.ranges())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_set_of_offsets_is_a_set() {
        let mut seed = 11_u64;
        let mut draw = |below: u64| {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        for round in 0..300 {
            let mut set = AckSet::new(draw(10), &[]);
            let mut model: BTreeSet<u64> = (0..set.floor()).collect();
            for step in 0..40 {
                if draw(10) == 0 {
                    let floor = draw(80);
                    set.raise(floor);
                    model.extend(0..floor);
                } else {
                    let first = draw(80);
                    let end = first + draw(6);
                    set.add(first, end);
                    model.extend(first..end);
                }
                let found: BTreeSet<u64> = (0..100).filter(|o| set.contains(*o)).collect();
                assert_eq!(found, model, "round {round}, step {step}: {set:?}");
                let again = AckSet::new(set.floor(), set.ranges());
                assert_eq!(again, set, "round {round}");
                let mut last = set.floor();
                for range in set.ranges() {
                    assert!(range.first > last && range.end > range.first, "{set:?}");
                    last = range.end;
                }
            }
        }
    }
}
