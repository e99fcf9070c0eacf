//! One subscriber, as the leader knows it: its credits, what is out at it, and whether it is there.

use std::collections::BTreeMap;
use std::time::Duration;

use ghostlight_protocol::ids::{Generation, NodeId};
use ghostlight_protocol::limits::DELIVERY_LEASE;
use ghostlight_protocol::time::Instant;
use ghostlight_protocol::wire::topic::Attach;

use crate::topics::subscribers::NUMBER_BITS;

/// After its node has fallen silent a subscriber is waited for so long.
pub(super) const SILENT_MAX: Duration = Duration::from_millis(250);

/// A subscriber in the cluster.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(in crate::topics) struct SubscriberId {
    pub(in crate::topics) node: NodeId,
    /// As its node counts them.
    pub(in crate::topics) number: u64,
}

impl SubscriberId {
    /// The run of its node.
    pub(in crate::topics) fn run(self) -> Generation {
        Generation(self.number >> NUMBER_BITS)
    }
}

#[derive(Debug)]
pub(super) struct Subscriber {
    credit_events: usize,
    credit_bytes: usize,
    /// Offsets at it, with the bytes of their events.
    pub(super) out: BTreeMap<u64, usize>,
    /// Frames of events that were sent to it.
    pub(super) sent: u64,
    heard: Instant,
    silent: Option<Instant>,
}

impl Subscriber {
    pub(super) fn new(now: Instant, attach: &Attach) -> Self {
        let mut new = Self {
            credit_events: 0,
            credit_bytes: 0,
            out: BTreeMap::new(),
            // Above all that it has seen: a leader that has forgotten it may still have frames on their way to it.
            sent: attach.seen,
            heard: now,
            silent: None,
        };
        new.hear(now);
        new.set_credits(attach);
        new
    }

    pub(super) fn set_credits(&mut self, attach: &Attach) {
        self.credit_events = attach.credit_events as usize;
        self.credit_bytes = usize::try_from(attach.credit_bytes).unwrap_or(usize::MAX);
    }

    /// Whether it takes events still: one that leaves says what it owes, and wants nothing.
    pub(super) fn takes_any(&self) -> bool {
        self.credit_events > 0
    }

    /// It speaks: everything that it holds is leased anew.
    pub(super) fn hear(&mut self, now: Instant) {
        self.heard = now;
        self.silent = None;
    }

    /// Its node is silent, or frames to it may be lost.
    pub(super) fn fall_silent(&mut self, now: Instant) {
        self.silent.get_or_insert(now);
    }

    /// When it counts as gone.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let lease = self.heard + DELIVERY_LEASE;
        Some(match self.silent {
            Some(since) => lease.min(since + SILENT_MAX),
            None => lease,
        })
    }

    pub(super) fn free_events(&self) -> usize {
        if self.silent.is_some() {
            return 0;
        }
        self.credit_events.saturating_sub(self.out.len())
    }

    /// Whether an event may be sent to it. The one that reaches its bytes may exceed them: whoever takes an event takes one of any
    /// size, so that no large one is overtaken by those behind it.
    pub(super) fn takes(&self) -> bool {
        let held: usize = self.out.values().sum();
        self.free_events() > 0 && (held == 0 || held < self.credit_bytes)
    }

    /// What is out is void: it was delivered before a seek.
    pub(super) fn void(&mut self) {
        self.out.clear();
    }
}
