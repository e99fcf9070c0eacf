//! Which sequences of a session are closed: a floor, and ranges above it.
//!
//! A closed sequence is never run again, and its record is no longer kept. A gateway closes what
//! has its answer. One call that runs for long holds the floor down, not the records of all later
//! calls: those are closed by ranges.

use prost::Message;

use crate::limits::CLOSED_RANGES_MAX;

/// Sequences `first .. end`.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct ClosedRange {
    /// The first closed one.
    #[prost(uint64, tag = "1")]
    pub first: u64,
    /// The first open one after it.
    #[prost(uint64, tag = "2")]
    pub end: u64,
}

/// A set of closed sequences.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Closed {
    below: u64,
    /// Above `below`, ascending, with an open sequence before each; at most `CLOSED_RANGES_MAX`.
    ranges: Vec<ClosedRange>,
}

impl Closed {
    /// The set that a message or a row names. What does not fit the rules of the set is left out.
    #[must_use]
    pub fn new(below: u64, ranges: &[ClosedRange]) -> Self {
        let mut set = Self {
            below,
            ranges: Vec::new(),
        };
        for range in ranges.iter().take(CLOSED_RANGES_MAX) {
            if range.first < range.end {
                set.insert(*range);
            }
        }
        set
    }

    /// Every lower sequence is closed.
    #[must_use]
    pub fn below(&self) -> u64 {
        self.below
    }

    /// The ranges above the floor, ascending.
    #[must_use]
    pub fn ranges(&self) -> &[ClosedRange] {
        &self.ranges
    }

    /// Whether a sequence is closed.
    #[must_use]
    pub fn contains(&self, sequence: u64) -> bool {
        sequence < self.below || self.range_at(sequence).is_some()
    }

    /// The set without one sequence: a request never closes itself.
    #[must_use]
    pub fn except(mut self, sequence: u64) -> Self {
        let floor = self.below;
        self.below = floor.min(sequence);
        let mut parts = vec![ClosedRange {
            first: sequence.saturating_add(1),
            end: floor,
        }];
        for range in std::mem::take(&mut self.ranges) {
            let before = ClosedRange {
                end: range.end.min(sequence),
                ..range
            };
            let after = ClosedRange {
                first: range.first.max(sequence.saturating_add(1)),
                ..range
            };
            parts.extend([before, after]);
        }
        parts.retain(|range| range.first < range.end);
        parts.truncate(CLOSED_RANGES_MAX);
        self.ranges = parts;
        self
    }

    /// Both sets' sequences, as far as the bound on ranges allows.
    pub fn join(&mut self, other: &Self) {
        self.close(other, u64::MAX, |_| {});
    }

    /// Closes what `told` says, at most `most` sequences that were open before; each is handed to
    /// `newly`. What is left is told again with the next request.
    pub fn close(&mut self, told: &Self, most: u64, mut newly: impl FnMut(u64)) {
        let counted = most != u64::MAX;
        let mut left = most;
        let mut walk = |set: &Self, from: u64, to: u64| {
            let mut at = from;
            while at < to {
                match set.range_at(at) {
                    Some(known) => at = known.end,
                    None if !counted => at = set.next_closed(at).min(to),
                    None if left == 0 => break,
                    None => {
                        newly(at);
                        left -= 1;
                        at += 1;
                    }
                }
            }
            at
        };
        if told.below > self.below {
            self.below = walk(self, self.below, told.below);
            self.settle();
        }
        for range in &told.ranges {
            let first = range.first.max(self.below);
            let touches = first == self.below
                || self
                    .ranges
                    .iter()
                    .any(|r| r.first <= first && first <= r.end);
            if first >= range.end || !(touches || self.ranges.len() < CLOSED_RANGES_MAX) {
                continue;
            }
            let end = walk(self, first, range.end);
            if first < end {
                self.insert(ClosedRange { first, end });
            }
        }
    }

    fn range_at(&self, sequence: u64) -> Option<ClosedRange> {
        let after = self.ranges.partition_point(|r| r.first <= sequence);
        let range = self.ranges.get(after.checked_sub(1)?)?;
        (sequence < range.end).then_some(*range)
    }

    fn next_closed(&self, sequence: u64) -> u64 {
        let after = self.ranges.partition_point(|r| r.first <= sequence);
        self.ranges.get(after).map_or(u64::MAX, |range| range.first)
    }

    fn insert(&mut self, new: ClosedRange) {
        let mut merged = new;
        self.ranges.retain(|range| {
            let apart = range.end < merged.first || merged.end < range.first;
            if !apart {
                merged.first = merged.first.min(range.first);
                merged.end = merged.end.max(range.end);
            }
            apart
        });
        let place = self.ranges.partition_point(|r| r.first < merged.first);
        self.ranges.insert(place, merged);
        self.settle();
    }

    /// Ranges that the floor has reached become part of it.
    fn settle(&mut self) {
        while let Some(first) = self.ranges.first().copied()
            && first.first <= self.below
        {
            self.below = self.below.max(first.end);
            self.ranges.remove(0);
        }
        assert!(self.ranges.len() <= CLOSED_RANGES_MAX);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn set(below: u64, ranges: &[(u64, u64)]) -> Closed {
        let ranges: Vec<_> = ranges
            .iter()
            .map(|(first, end)| ClosedRange {
                first: *first,
                end: *end,
            })
            .collect();
        Closed::new(below, &ranges)
    }

    #[test]
    fn ranges_merge_and_the_floor_takes_them_in() {
        // (floor, ranges, floor after it, ranges after it)
        type Case = (u64, &'static [(u64, u64)], u64, &'static [(u64, u64)]);
        let table: [Case; 6] = [
            (5, &[(7, 9)], 5, &[(7, 9)]),
            (5, &[(5, 9)], 9, &[]),
            (5, &[(2, 4), (9, 9), (12, 10)], 5, &[]),
            (5, &[(9, 11), (7, 9)], 5, &[(7, 11)]),
            (5, &[(7, 8), (9, 10), (6, 12)], 5, &[(6, 12)]),
            (5, &[(9, 11), (3, 7)], 7, &[(9, 11)]),
        ];
        for (below, ranges, after, left) in table {
            let found = set(below, ranges);
            let pairs: Vec<_> = found.ranges().iter().map(|r| (r.first, r.end)).collect();
            assert_eq!((found.below(), &pairs[..]), (after, left), "{ranges:?}");
        }
    }

    #[test]
    fn a_request_is_taken_out_of_what_it_closes() {
        for sequence in 0..14 {
            let all = set(4, &[(6, 9), (11, 12)]);
            let found = all.clone().except(sequence);
            for other in 0..14 {
                let expected = other != sequence && all.contains(other);
                assert_eq!(
                    found.contains(other),
                    expected,
                    "{other} without {sequence}"
                );
            }
        }
    }

    #[test]
    fn a_full_set_takes_no_new_range_and_forgets_none() {
        let islands: Vec<_> = (0..CLOSED_RANGES_MAX as u64)
            .map(|n| (10 * n + 10, 10 * n + 12))
            .collect();
        let mut full = set(1, &islands);
        let before = full.clone();
        full.close(&set(0, &[(5_000, 5_010)]), 100, |_| panic!("no room"));
        assert_eq!(full, before);
        // What touches a range that is there, or the floor, needs no room.
        let mut newly = Vec::new();
        full.close(&set(3, &[(12, 14)]), 100, |s| newly.push(s));
        assert_eq!(newly, [1, 2, 12, 13]);
        assert_eq!(full.ranges().len(), CLOSED_RANGES_MAX);
    }

    #[test]
    fn closing_is_a_union_in_bounded_steps() {
        let mut seed = 7_u64;
        let mut draw = |below: u64| {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        for round in 0..500 {
            let mut any = || {
                let ranges: Vec<_> = (0..draw(5))
                    .map(|_| {
                        let first = draw(60);
                        (first, first + draw(12))
                    })
                    .collect();
                set(draw(20), &ranges)
            };
            let (mut known, told) = (any(), any());
            let members = |set: &Closed| (0..90).filter(|s| set.contains(*s)).collect();
            let before: BTreeSet<u64> = members(&known);
            let union: BTreeSet<u64> = before.union(&members(&told)).copied().collect();
            let most = 1 + draw(5);
            let mut newly = Vec::new();
            let mut joined = known.clone();
            joined.join(&told);
            assert_eq!(members(&joined), union, "round {round}");
            for _ in 0..100 {
                let counted = newly.len();
                known.close(&told, most, |sequence| newly.push(sequence));
                assert!((newly.len() - counted) as u64 <= most, "round {round}");
                let now: BTreeSet<u64> = members(&known);
                assert!(
                    before.iter().all(|s| now.contains(s)),
                    "nothing opens again"
                );
            }
            assert_eq!(members(&known), union, "round {round}");
            let once: BTreeSet<u64> = newly.iter().copied().collect();
            assert_eq!(once.len(), newly.len(), "each is handed over once");
            let expected: BTreeSet<u64> = union.difference(&before).copied().collect();
            assert_eq!(once, expected, "round {round}");
        }
    }
}
