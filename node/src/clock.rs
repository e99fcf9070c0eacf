//! The one place of the shell that reads a clock.
//!
//! Cores get [`Instant`] and [`WallTime`] as arguments; whatever drives a core takes them from
//! here. Sleeping is not here: drivers sleep until a core's next deadline with their own runtime's
//! timer.

use std::time::Duration;

use ghostlight_protocol::time::{Instant, WallTime};

/// This process's clocks. Copies agree with each other.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: std::time::Instant,
}

impl Clock {
    /// Starts the monotonic clock at zero.
    #[must_use]
    pub fn start() -> Self {
        Self {
            start: std::time::Instant::now(),
        }
    }

    /// Monotonic time since the start; never jumps.
    #[must_use]
    pub fn now(&self) -> Instant {
        Instant(u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// The calendar clock of the machine, which may jump. Before 1970 it reads as 1970.
    #[must_use]
    pub fn wall(&self) -> WallTime {
        wall_now()
    }

    /// The standard library's form of a core's instant, for timers.
    #[must_use]
    pub fn to_std(&self, at: Instant) -> std::time::Instant {
        self.start + Duration::from_nanos(at.0)
    }
}

/// The calendar clock, for those who have no other.
pub use ghostlight_buses::clock::wall_now;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_convert_and_never_go_back() {
        let clock = Clock::start();
        let (first, second) = (clock.now(), clock.now());
        assert!(first <= second);
        assert_eq!(
            clock.to_std(second) - clock.to_std(first),
            second.since(first)
        );
        // 2020-01-01: the calendar clock of a machine that runs this is later.
        assert!(clock.wall() > WallTime(1_577_836_800_000));
    }
}
