//! One subscriber, as the leader knows it: its credits, what is out at it, and whether it is there.
//!
//! Its lease is no deadline of its own (`topics/leases.rs`). What is: that its node is silent, that
//! what was sent to it did not leave this node, and that it has said nothing since something was
//! sent to it: then that may be lost, and it is asked to speak up.

use std::collections::BTreeMap;
use std::time::Duration;

use ghostlight_protocol::closed::ClosedRange;
use ghostlight_protocol::ids::{Generation, NodeId};
use ghostlight_protocol::time::Instant;
use ghostlight_protocol::wire::topic::{Attach, Mark, Roll};

use crate::topics::subscribers::NUMBER_BITS;

/// After its node has fallen silent a subscriber is waited for so long.
pub(super) const SILENT_MAX: Duration = Duration::from_millis(250);
/// A subscriber that has said nothing for so long since something was sent to it is asked. A
/// delivery of that age that it does not know of is lost.
pub(super) const ASK_AFTER: Duration = Duration::from_millis(2_500);
const _: () = assert!(ASK_AFTER.as_millis() > super::deliver::LOST_AFTER.as_millis());
/// Nothing is sent for so long after a delivery that its node's lane had no room for.
pub(super) const NOT_SENT_PAUSE: Duration = Duration::from_millis(100);

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
    /// Since when it has said nothing of what is out at it; `None`: it has said that it holds all
    /// that.
    unanswered: Option<Instant>,
    /// Nothing is sent until then.
    held_up: Option<Instant>,
    mark: Mark,
}

impl Subscriber {
    pub(super) fn new(now: Instant, attach: &Attach, mark: Mark) -> Self {
        let mut new = Self {
            credit_events: 0,
            credit_bytes: 0,
            out: BTreeMap::new(),
            // Above all that it has seen: a leader that has forgotten it may still have frames on
            // their way to it.
            sent: attach.seen,
            heard: now,
            silent: None,
            unanswered: None,
            held_up: None,
            mark,
        };
        new.hear(now);
        new.set_credits(attach);
        new
    }

    pub(super) fn set_credits(&mut self, attach: &Attach) {
        self.credit_events = attach.credit_events as usize;
        self.credit_bytes = usize::try_from(attach.credit_bytes).unwrap_or(usize::MAX);
    }

    /// Whether it takes events still, as far as is known: one that leaves says what it owes, and
    /// wants nothing.
    pub(super) fn takes_any(&self) -> bool {
        self.credit_events > 0 && self.silent.is_none()
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

    /// When it was last heard of, by itself.
    pub(super) fn heard(&self) -> Instant {
        self.heard
    }

    /// Stands on a roll under this epoch, unless it has to speak for itself.
    pub(super) fn answer_to(&self, roll: &mut Roll, epoch: u64) {
        if self.silent.is_none() {
            roll.add(self.mark, epoch);
        }
    }

    /// When what is out at it goes to others because its node is silent. Where nothing is, it is
    /// remembered for as long as its lease: an idle one has nothing to say when its node speaks
    /// again, and nobody else would tell that it is still there.
    pub(super) fn patience(&self) -> Option<Instant> {
        let silent = self.silent.filter(|_| !self.out.is_empty());
        silent.map(|since| since + SILENT_MAX)
    }

    /// When it must be looked at, if nothing happens before.
    pub(super) fn deadline(&self) -> Option<Instant> {
        [self.patience(), self.to_be_asked(), self.held_up]
            .into_iter()
            .flatten()
            .min()
    }

    /// When it is to be asked what it holds.
    pub(super) fn to_be_asked(&self) -> Option<Instant> {
        let since = self.unanswered.filter(|_| !self.out.is_empty());
        since.map(|since| since + ASK_AFTER)
    }

    /// Something is sent to it.
    pub(super) fn given(&mut self, now: Instant, offset: u64, bytes: usize) {
        if self.out.is_empty() {
            self.unanswered = Some(now);
        }
        self.unanswered.get_or_insert(now);
        self.out.insert(offset, bytes);
    }

    /// It says what it holds.
    pub(super) fn says_it_holds(&mut self, now: Instant, held: &[ClosedRange]) {
        let holds = |offset: &u64| {
            let mut ranges = held.iter();
            ranges.any(|range| (range.first..range.end).contains(offset))
        };
        let all = self.out.keys().all(holds);
        self.unanswered = (!all).then_some(now);
    }

    /// It speaks of some of it, or is asked: it has as long again for the rest.
    pub(super) fn has_longer(&mut self, now: Instant) {
        self.unanswered = self.unanswered.map(|_| now);
    }

    /// What was meant for it had no room on its way.
    pub(super) fn hold_up(&mut self, now: Instant) {
        self.held_up = Some(now + NOT_SENT_PAUSE);
    }

    pub(super) fn wake(&mut self, now: Instant) {
        self.held_up = self.held_up.filter(|until| *until > now);
    }

    pub(super) fn free_events(&self) -> usize {
        if self.silent.is_some() || self.held_up.is_some() {
            return 0;
        }
        self.credit_events.saturating_sub(self.out.len())
    }

    /// Whether an event may be sent to it. The one that reaches its bytes may exceed them: whoever
    /// takes an event takes one of any size, so that no large one is overtaken by those behind it.
    pub(super) fn takes(&self) -> bool {
        let held: usize = self.out.values().sum();
        self.free_events() > 0 && (held == 0 || held < self.credit_bytes)
    }

    /// What is out is void: it was delivered before a seek.
    pub(super) fn void(&mut self) {
        self.out.clear();
    }
}
