//! What waits for one actor: calls (bounded), messages and wake-ups, first come first served. While
//! a leadership is handed over, a call that a running turn waits for is taken from between the
//! others.
//!
//! A failing message holds back the later messages of its actor, never calls or wake-ups. The
//! mailbox holds numbers only; a call that hung up leaves a stale number behind, which is skipped,
//! and swept when such numbers would outweigh the live ones.

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
    /// As many as the actor has reminders and timers at most.
    wakeups: VecDeque<JobId>,
    pub(super) gate: Gate,
}

/// One of the queues.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Line {
    Calls,
    Messages,
    Wakeups,
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

/// Whether messages and wake-ups run at all at the moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Messages {
    /// They do.
    Run,
    /// They wait for copies: what they leave behind is always a write.
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

    pub(super) fn push(&mut self, line: Line, id: JobId, end: End) {
        let queue = match line {
            Line::Calls => &mut self.calls,
            Line::Messages => &mut self.messages,
            Line::Wakeups => &mut self.wakeups,
        };
        match end {
            End::Front => queue.push_front(id),
            End::Back => queue.push_back(id),
        }
    }

    /// Who would be next; skips calls that have gone.
    pub(super) fn peek(&mut self, jobs: &Jobs, messages: Messages) -> Option<JobId> {
        while let Some(front) = self.calls.front()
            && jobs.get(*front).is_none_or(|j| j.place != Place::Waiting)
        {
            self.calls.pop_front();
        }
        let (message, wakeup) = match (messages, self.gate) {
            (Messages::Wait, _) => (None, None),
            (Messages::Run, Gate::Failing | Gate::Until(_)) => (None, self.wakeups.front()),
            (Messages::Run, Gate::Open) => (self.messages.front(), self.wakeups.front()),
        };
        let heads = [self.calls.front(), message, wakeup];
        heads.into_iter().flatten().min().copied()
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
            let lines = [&mut self.messages, &mut self.wakeups];
            let line = lines.into_iter().find(|line| line.front() == Some(&id));
            line.expect("only what was peeked is taken").pop_front();
        }
    }

    /// Waiting wake-ups, in order.
    pub(super) fn wakeups(&self) -> Vec<JobId> {
        self.wakeups.iter().copied().collect()
    }

    /// A wake-up stops waiting without having run.
    pub(super) fn withdraw(&mut self, id: JobId) {
        self.wakeups.retain(|waiting| *waiting != id);
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting == 0
            && self.messages.is_empty()
            && self.wakeups.is_empty()
            && self.gate == Gate::Open
    }

    /// Gives memory of a burst back.
    pub(super) fn shrink(&mut self) {
        for line in [&mut self.calls, &mut self.messages, &mut self.wakeups] {
            if line.capacity() > KEPT_MAX {
                *line = VecDeque::new();
            }
        }
    }
}
