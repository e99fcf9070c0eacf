//! The clocks of a process.

use ghostlight_protocol::time::{Instant, WallTime};
use ghostlight_shell::guests::Clocks;

use crate::dice::{MS, SEC};
use crate::machine::Machine;

/// The calendar time at which every run begins.
const WALL_BEGIN_MS: u64 = 1_700_000_000_000;

/// Counts from the start of its process.
#[derive(Clone)]
pub(crate) struct Clock {
    machine: Machine,
    started: u64,
}

impl Clock {
    /// Of a process that starts now.
    pub(crate) fn start(machine: &Machine) -> Self {
        Self {
            machine: machine.clone(),
            started: machine.now(),
        }
    }
}

impl Clocks for Clock {
    fn now(&self) -> Instant {
        Instant(SEC + self.machine.now() - self.started)
    }

    fn wall(&self) -> WallTime {
        WallTime(WALL_BEGIN_MS + self.machine.now() / MS)
    }

    fn to_std(&self, at: Instant) -> std::time::Instant {
        self.machine.to_std(self.started + at.0.saturating_sub(SEC))
    }
}
