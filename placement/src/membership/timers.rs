//! foca's timers, ordered by when they are due; among equals, by when they were set.
//!
//! Bounded by the members known: each has at most one timer that forgets it, and a few short-lived
//! ones. A member that flaps would otherwise leave one forgetting timer per flap behind, for a day.

use std::collections::BTreeMap;

use foca::Timer;
use ghostlight_protocol::ids::NodeId;
use ghostlight_protocol::time::Instant;

use super::identity::Identity;

type Slot = (Instant, u64);

/// The queue of timers.
#[derive(Debug, Default)]
pub(super) struct Timers {
    queue: BTreeMap<Slot, Timer<Identity>>,
    forgetting: BTreeMap<NodeId, Slot>,
    set_count: u64,
}

impl Timers {
    pub(super) fn set(&mut self, due: Instant, timer: Timer<Identity>) {
        let slot = (due, self.set_count);
        self.set_count += 1;
        if let Timer::RemoveDown(identity) = &timer
            && let Some(older) = self.forgetting.insert(identity.node, slot)
        {
            self.queue.remove(&older);
        }
        self.queue.insert(slot, timer);
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        self.queue.first_key_value().map(|((due, _), _)| *due)
    }

    /// Takes the earliest timer that is due.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Timer<Identity>> {
        if self.next_due()? > now {
            return None;
        }
        let (slot, timer) = self.queue.pop_first()?;
        if let Timer::RemoveDown(identity) = &timer
            && self.forgetting.get(&identity.node) == Some(&slot)
        {
            self.forgetting.remove(&identity.node);
        }
        Some(timer)
    }

    pub(super) fn clear(&mut self) {
        self.queue.clear();
        self.forgetting.clear();
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }
}

#[cfg(test)]
mod tests {
    use ghostlight_protocol::ids::Generation;

    use super::*;

    fn identity(node: u128, renewal: u32) -> Identity {
        let address = "127.0.0.1:1".parse().unwrap();
        Identity {
            renewal,
            ..Identity::new(NodeId(node), address, Generation(1))
        }
    }

    #[test]
    fn due_order_then_set_order_and_one_forgetting_per_node() {
        let mut timers = Timers::default();
        timers.set(Instant(20), Timer::PeriodicGossip(0));
        timers.set(Instant(10), Timer::PeriodicAnnounce(0));
        timers.set(Instant(10), Timer::ProbeRandomMember(0));
        timers.set(Instant(15), Timer::RemoveDown(identity(1, 0)));
        timers.set(Instant(30), Timer::RemoveDown(identity(2, 0)));
        timers.set(Instant(40), Timer::RemoveDown(identity(1, 1)));
        assert_eq!(timers.len(), 5);
        assert_eq!(timers.next_due(), Some(Instant(10)));
        assert_eq!(timers.take_due(Instant(9)), None);
        let mut order = Vec::new();
        while let Some(timer) = timers.take_due(Instant(35)) {
            order.push(timer);
        }
        assert_eq!(
            order,
            [
                Timer::PeriodicAnnounce(0),
                Timer::ProbeRandomMember(0),
                Timer::PeriodicGossip(0),
                Timer::RemoveDown(identity(2, 0)),
            ]
        );
        assert_eq!(
            timers.take_due(Instant(40)),
            Some(Timer::RemoveDown(identity(1, 1)))
        );
        assert_eq!((timers.len(), timers.next_due()), (0, None));
    }
}
