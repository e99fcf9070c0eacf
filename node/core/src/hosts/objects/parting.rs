//! Reminders that a running turn sets: each commits at once, with all that is staged so far.
//!
//! One part is under way at a time. The next one takes what is staged when its turn comes: what a
//! refused part gives back is older than what it finds there, and must not overwrite what a later
//! part has committed.

use ghostlight_protocol::command::ScheduleWrite;

use super::{HostEffect, Running, Waiting};
use crate::turn_io::{RunnerInput, TurnAsk};

/// Whether somebody can be asked to commit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum HasLeader {
    Yes,
    /// Its leadership is over; the next one is asked.
    No,
}

impl Running {
    /// Sends the first reminder that waits, unless a part is under way.
    pub(super) fn send_next_part(&mut self, has_leader: HasLeader, out: &mut Vec<HostEffect>) {
        let under_way = |waiting: &Waiting| {
            matches!(
                waiting,
                Waiting::Part(..) | Waiting::Unsent(..) | Waiting::Left(_)
            )
        };
        if self.waiting.values().any(under_way) {
            return;
        }
        let mut next = self
            .waiting
            .iter()
            .filter_map(|(ask, waiting)| match waiting {
                Waiting::Next(ticket, write) => Some((*ask, *ticket, ScheduleWrite::clone(write))),
                _ => None,
            });
        let Some((ask, ticket, write)) = next.next() else {
            return;
        };
        // A wake-up that is set before risky work must survive a crash: it commits now, with what
        // led to it.
        let mut staged = self.take_staged();
        let other = |w: &ScheduleWrite| w.kind != write.kind || w.name != write.name;
        staged.schedule.retain(other);
        staged.schedule.push(write);
        let staged = Box::new(staged);
        if has_leader == HasLeader::No {
            self.waiting.insert(ask, Waiting::Unsent(ticket, staged));
            return;
        }
        self.waiting
            .insert(ask, Waiting::Part(ticket, staged.clone()));
        let what = TurnAsk::Commit(staged);
        let turn = self.turn;
        out.push(HostEffect::Leader(RunnerInput::Asked { turn, ask, what }));
    }
}
