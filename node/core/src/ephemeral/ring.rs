//! What waits for one subscriber: a bounded ring that lets go of the oldest.
//!
//! A subscriber that is slow loses events, and nobody else does: pushing never waits and never
//! fails. How many were lost stands before the first event after them, also those that were lost on
//! their way here.

use std::collections::VecDeque;

/// Events of a ring, by default.
pub const RING_EVENTS_DEFAULT: usize = 1_024;
/// Their bytes, by default; one event may exceed them alone.
pub const RING_BYTES_DEFAULT: usize = 4 << 20;

/// Bounds of a ring.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// Events; at least 1.
    pub events: usize,
    /// Their bytes; one event may exceed them alone.
    pub bytes: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            events: RING_EVENTS_DEFAULT,
            bytes: RING_BYTES_DEFAULT,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Ring<T> {
    bounds: Bounds,
    waiting: VecDeque<Waiting<T>>,
    bytes: usize,
    /// Lost behind the last event that waits.
    lost: u64,
}

#[derive(Debug)]
struct Waiting<T> {
    missed: u64,
    bytes: usize,
    event: T,
}

/// The oldest event of a ring.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Taken<T> {
    /// The event.
    pub event: T,
    /// Events before it, since the last one that was taken, that the subscriber does not get.
    pub missed: u64,
}

impl<T> Ring<T> {
    /// An empty one.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            waiting: VecDeque::new(),
            bytes: 0,
            lost: 0,
        }
    }

    /// Puts an event behind the others, before which `missed` were lost. How many had to go for it.
    pub fn push(&mut self, event: T, bytes: usize, missed: u64) -> u64 {
        let mut dropped = 0;
        while self.waiting.len() >= self.bounds.events.max(1)
            || (!self.waiting.is_empty() && self.bytes + bytes > self.bounds.bytes)
        {
            dropped += self.let_go();
        }
        self.bytes += bytes;
        self.waiting.push_back(Waiting {
            missed: std::mem::take(&mut self.lost) + missed,
            bytes,
            event,
        });
        dropped
    }

    /// Lets the oldest go until no more than so many bytes wait; how many went.
    pub fn shrink(&mut self, bytes: usize) -> u64 {
        let mut dropped = 0;
        while self.bytes > bytes {
            dropped += self.let_go();
        }
        dropped
    }

    /// The oldest goes, and leaves a gap; 0: none waits.
    fn let_go(&mut self) -> u64 {
        let Some(oldest) = self.waiting.pop_front() else {
            return 0;
        };
        self.bytes -= oldest.bytes;
        let gap = oldest.missed + 1;
        match self.waiting.front_mut() {
            Some(next) => next.missed += gap,
            None => self.lost += gap,
        }
        1
    }

    /// Takes the oldest.
    pub fn take(&mut self) -> Option<Taken<T>> {
        let Waiting {
            missed,
            bytes,
            event,
        } = self.waiting.pop_front()?;
        self.bytes -= bytes;
        Some(Taken { event, missed })
    }

    /// An event that was taken, and is of no use to the subscriber after all: it does not count as
    /// missed, what was missed before it does.
    pub fn pass_over(&mut self, missed: u64) {
        match self.waiting.front_mut() {
            Some(next) => next.missed += missed,
            None => self.lost += missed,
        }
    }

    /// Events that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ring(events: usize, bytes: usize) -> Ring<u64> {
        Ring::new(Bounds { events, bytes })
    }

    fn all(ring: &mut Ring<u64>) -> Vec<(u64, u64)> {
        std::iter::from_fn(|| ring.take().map(|taken| (taken.event, taken.missed))).collect()
    }

    #[test]
    fn the_oldest_goes_and_the_gap_stands_where_it_was() {
        let mut ring = ring(2, 100);
        for event in 1..=5 {
            ring.push(event, 1, 0);
        }
        assert_eq!(all(&mut ring), [(4, 3), (5, 0)]);
        // A gap that came with an event goes with it.
        ring.push(6, 1, 7);
        ring.push(7, 1, 0);
        ring.push(8, 1, 0);
        assert_eq!(all(&mut ring), [(7, 8), (8, 0)]);
    }

    #[test]
    fn bytes_bound_it_too_and_one_large_event_stands_alone() {
        let mut ring = ring(10, 10);
        assert_eq!(ring.push(1, 4, 0), 0);
        assert_eq!(ring.push(2, 6, 0), 0);
        assert_eq!(ring.push(3, 1, 0), 1);
        assert_eq!(ring.push(4, 50, 0), 2);
        assert_eq!(all(&mut ring), [(4, 3)]);
    }

    #[test]
    fn what_is_passed_over_keeps_the_gap_before_it() {
        let mut ring = ring(1, 10);
        ring.push(1, 1, 0);
        ring.push(2, 1, 0);
        let taken = ring.take().unwrap();
        ring.pass_over(taken.missed);
        ring.push(3, 1, 0);
        assert_eq!(all(&mut ring), [(3, 1)]);
    }

    proptest! {
        /// Events come in order, gaps and events together are all that was pushed, and the bounds
        /// hold after each push.
        #[test]
        fn nothing_is_lost_without_being_counted(
            events in 1_usize..8, bytes in 1_usize..64,
            steps in proptest::collection::vec((0_usize..40, 0_u64..3, 0_usize..3, 0_usize..200), 0..80),
        ) {
            let mut ring = ring(events, bytes);
            let (mut pushed, mut seen, mut last, mut dropped) = (0, 0, 0, 0);
            let mut lost = 0;
            let mut accept = |taken: Taken<u64>, seen: &mut u64| {
                prop_assert!(taken.event > last, "order");
                last = taken.event;
                lost += taken.missed;
                *seen += 1;
                Ok(())
            };
            let mut missed_before = 0;
            for (size, missed, takes, left) in steps {
                pushed += 1;
                missed_before += missed;
                dropped += ring.push(pushed, size, missed);
                prop_assert!(ring.len() <= events);
                prop_assert!(ring.bytes <= bytes || ring.len() == 1);
                dropped += ring.shrink(left);
                prop_assert!(ring.bytes <= left);
                for _ in 0..takes {
                    if let Some(taken) = ring.take() {
                        accept(taken, &mut seen)?;
                    }
                }
            }
            while let Some(taken) = ring.take() {
                accept(taken, &mut seen)?;
            }
            let lost = lost + ring.lost;
            prop_assert_eq!(seen + dropped, pushed);
            prop_assert_eq!(lost, dropped + missed_before);
            prop_assert_eq!(ring.bytes, 0);
        }
    }
}
