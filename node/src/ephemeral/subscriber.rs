//! One subscriber: its ring, and how much it holds without a verdict.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ghostlight_buses::{Source, Taken};
use ghostlight_core::ephemeral::TopicKey;
use ghostlight_core::ephemeral::ring::{Bounds, Ring};
use tokio::sync::Notify;

use super::{Hub, Sample};
use crate::clock::wall_now;
use crate::topics::{Content, Verdict};

/// See the module.
#[derive(Debug)]
pub(super) struct Subscriber {
    pub(super) number: u64,
    topic: TopicKey,
    hub: Arc<Hub>,
    state: Mutex<State>,
    ready: Notify,
    /// Events that it may hold without a verdict.
    most: u32,
}

#[derive(Debug)]
struct State {
    ring: Ring<Arc<Sample>>,
    out: u32,
}

impl Subscriber {
    pub(super) fn new(number: u64, topic: TopicKey, hub: Arc<Hub>, most: u32) -> Self {
        Self {
            number,
            topic,
            hub,
            state: Mutex::new(State {
                ring: Ring::new(Bounds::default()),
                out: 0,
            }),
            ready: Notify::new(),
            most: most.max(1),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Never waits; how many older events had to go.
    pub(super) fn push(&self, sample: &Arc<Sample>, missed: u64) -> u64 {
        let mut state = self.lock();
        let was_empty = state.ring.is_empty();
        let dropped = state.ring.push(Arc::clone(sample), sample.bytes(), missed);
        drop(state);
        if was_empty {
            self.ready.notify_one();
        }
        dropped
    }
}

impl Subscriber {
    /// Lets its oldest events go until no more than so many bytes wait; how many went.
    pub(super) fn shrink(&self, bytes: usize) -> u64 {
        self.lock().ring.shrink(bytes)
    }
}

impl Source for Subscriber {
    fn take(&self) -> Option<Taken> {
        let mut state = self.lock();
        if state.out >= self.most {
            return None;
        }
        loop {
            let taken = state.ring.take()?;
            if taken.event.expires_ms != 0 && taken.event.is_expired(wall_now()) {
                state.ring.pass_over(taken.missed);
                continue;
            }
            state.out += 1;
            drop(state);
            let sample = &taken.event;
            return Some(Taken {
                content: Content {
                    topic: sample.topic.clone(),
                    partition: 0,
                    offset: sample.place.number,
                    attempt: 1,
                    published: sample.published,
                    event: sample.event.clone(),
                },
                missed: taken.missed,
            });
        }
    }

    fn ready(&self) -> &Notify {
        &self.ready
    }

    /// Whatever it says: an event comes once.
    fn settled(&self, _verdict: &Verdict) {
        let mut state = self.lock();
        let was_full = state.out >= self.most;
        state.out = state.out.saturating_sub(1);
        drop(state);
        if was_full {
            self.ready.notify_one();
        }
    }

    fn left(&self) {
        self.hub.unsubscribe(&self.topic, self.number);
    }
}
