//! What waits for one actor: calls (bounded) and messages, first come first served. While a leadership is
//! handed over, a call that a running turn waits for is taken from between the others.
//!
//! A failing message holds back the later messages of its actor, never calls. The mailbox holds numbers
//! only; a call that hung up leaves a stale number behind, which is skipped, and swept when such numbers
//! would outweigh the live ones.

use std::collections::VecDeque;

use ghostlight_protocol::time::Instant;

use super::jobs::{JobId, Jobs, Place};

/// Stale numbers tolerated before a sweep.
const STALE_MAX: usize = 32;
/// Places that an idle mailbox keeps.
const KEPT_MAX: usize = 8;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    calls: VecDeque<JobId>,
    /// Live calls: in `calls`, or on their way into it through a lookup.
    waiting: usize,
    messages: VecDeque<JobId>,
    pub(super) gate: Gate,
}

/// Whether the next message may run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Gate {
    /// Yes.
    #[default]
    Open,
    /// The failure of the one before is on its way into the log.
    Failing,
    /// Not before this moment.
    Until(Instant),
}

/// Whether messages run at all at the moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Messages {
    /// They do.
    Run,
    /// They wait for copies: what a message leaves behind is always a write.
    Wait,
}

/// Which end of the queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    /// It waited before.
    Front,
    /// It is new.
    Back,
}

impl Mailbox {
    /// A call is admitted: it counts from now on, wherever it waits.
    pub(super) fn admit(&mut self) {
        self.waiting += 1;
    }

    /// A call stops waiting without having run.
    pub(super) fn dismiss(&mut self, jobs: &Jobs) {
        self.waiting -= 1;
        if self.calls.len() > 2 * self.waiting + STALE_MAX {
            self.calls.retain(|id| jobs.get(*id).is_some());
        }
    }

    pub(super) fn push_call(&mut self, id: JobId, end: End) {
        match end {
            End::Front => self.calls.push_front(id),
            End::Back => self.calls.push_back(id),
        }
    }

    pub(super) fn push_message(&mut self, id: JobId, end: End) {
        match end {
            End::Front => self.messages.push_front(id),
            End::Back => self.messages.push_back(id),
        }
    }

    /// Who would be next; skips calls that have gone.
    pub(super) fn peek(&mut self, jobs: &Jobs, messages: Messages) -> Option<JobId> {
        while let Some(front) = self.calls.front()
            && jobs.get(*front).is_none_or(|j| j.place != Place::Waiting)
        {
            self.calls.pop_front();
        }
        let message = match (self.gate, messages) {
            (Gate::Open, Messages::Run) => self.messages.front(),
            (Gate::Failing | Gate::Until(_), _) | (Gate::Open, Messages::Wait) => None,
        };
        match (self.calls.front(), message) {
            (Some(call), Some(message)) => Some(*call.min(message)),
            (call, message) => call.or(message).copied(),
        }
    }

    /// Waiting calls, in order.
    pub(super) fn calls<'a>(&'a self, jobs: &'a Jobs) -> impl Iterator<Item = JobId> + 'a {
        let waits = |id: &JobId| jobs.get(*id).is_some_and(|j| j.place == Place::Waiting);
        self.calls.iter().copied().filter(waits)
    }

    /// Takes out what `peek` or `calls` returned.
    pub(super) fn pop(&mut self, id: JobId) {
        if let Some(at) = self.calls.iter().position(|call| *call == id) {
            self.calls.remove(at);
            self.waiting -= 1;
        } else {
            let front = self.messages.pop_front();
            assert_eq!(front, Some(id), "only what was peeked is taken");
        }
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting == 0 && self.messages.is_empty() && self.gate == Gate::Open
    }

    /// Gives memory of a burst back.
    pub(super) fn shrink(&mut self) {
        if self.calls.capacity() > KEPT_MAX || self.messages.capacity() > KEPT_MAX {
            self.calls = VecDeque::new();
            self.messages = VecDeque::new();
        }
    }
}
