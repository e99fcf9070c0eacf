//! What is going to happen, in the order of (time, number): the same seed gives the same run.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use super::Event;

/// All events that have not happened yet.
#[derive(Default, Debug)]
pub(super) struct Queue {
    heap: BinaryHeap<Reverse<Queued>>,
    number: u64,
}

/// One of them. Its event lies elsewhere: what is sorted should be small.
#[derive(Debug)]
struct Queued {
    time: u64,
    number: u64,
    event: Box<Event>,
}

impl Queue {
    /// Adds an event after all of the same time.
    pub(super) fn add(&mut self, time: u64, event: Event) {
        self.number += 1;
        self.heap.push(Reverse(Queued {
            time,
            number: self.number,
            event: Box::new(event),
        }));
    }

    /// Takes the next one, with its time, unless that is after `end`.
    pub(super) fn next_until(&mut self, end: u64) -> Option<(u64, Event)> {
        self.heap.peek().filter(|next| next.0.time <= end)?;
        let Reverse(next) = self.heap.pop()?;
        Some((next.time, *next.event))
    }
}

impl Ord for Queued {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.time, self.number).cmp(&(other.time, other.number))
    }
}

impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Queued {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Queued {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_and_then_by_number() {
        let mut queue = Queue::default();
        for (time, client) in [(30, 1), (10, 2), (20, 3), (10, 4), (31, 5)] {
            queue.add(time, Event::Client(client));
        }
        let mut order = Vec::new();
        while let Some((time, Event::Client(client))) = queue.next_until(30) {
            order.push((time, client));
        }
        assert_eq!(order, [(10, 2), (10, 4), (20, 3), (30, 1)]);
    }
}
