//! Bytes of the events that wait in rings, or are kept as last values, in this process; and who
//! gives way when there are too many.
//!
//! Events are shared: one that waits in a thousand rings counts once. When more than
//! [`EVENTS_BYTES_MAX`] wait, every ring is cut to its share of half of that, the oldest events
//! first: who keeps up has less than a share waiting and loses nothing. Absent: what subscribers
//! hold without a verdict, which their credits bound.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::hub::State;

/// Bytes of the events that wait in all rings and as last values; above it rings give way.
const EVENTS_BYTES_MAX: usize = 256 << 20;

/// See the module.
#[derive(Debug)]
pub(crate) struct Room {
    most: usize,
    used: AtomicUsize,
}

impl Default for Room {
    fn default() -> Self {
        Self::of(EVENTS_BYTES_MAX)
    }
}

/// Room that an event takes; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    room: Arc<Room>,
    bytes: usize,
}

impl Room {
    /// For so many bytes.
    pub(super) fn of(most: usize) -> Self {
        Self {
            most,
            used: AtomicUsize::new(0),
        }
    }

    /// Takes room. There always is: what is beyond the bound is made up for by `relieve`.
    pub(super) fn hold(self: &Arc<Self>, bytes: usize) -> Held {
        self.used.fetch_add(bytes, Ordering::Relaxed);
        Held {
            room: Arc::clone(self),
            bytes,
        }
    }

    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.room.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl State {
    /// Cuts all rings when too much waits in them. Half of the bound comes in before the next time:
    /// what looking at every ring costs is shared by as many events.
    pub(super) fn relieve(&mut self) {
        if self.room.used() <= self.room.most {
            return;
        }
        let rings = self.counts.subscribers.max(1);
        let share = self.room.most / 2 / usize::try_from(rings).unwrap_or(usize::MAX);
        for topic in self.topics.values_mut() {
            let dropped: u64 = topic
                .subscribers
                .iter()
                .map(|(subscriber, _)| subscriber.shrink(share))
                .sum();
            topic.dropped += dropped;
            self.counts.ring_full += dropped;
        }
    }
}
