//! The calendar clock that this node goes by: for what is stamped into requests and into the log.
//!
//! The machine's clock may jump; this one runs with the monotonic clock and never goes back. Small
//! differences are made up for slowly. A large one is followed only when the median of the members'
//! clocks agrees with the machine's, and both have stood by it for a while: forwards in one step,
//! backwards by going at half speed. So a jump of one machine's clock, or one that is taken back at
//! once, changes nothing here. Absent: whether this node may lead with such a clock (`fitness.rs`),
//! and log age (`expiry.rs`).

use std::time::Duration;

use ghostlight_protocol::time::{Instant, WallTime};

/// Up to here a difference is made up for little by little, in microseconds.
const SLEW_MAX_US: u64 = 2_000_000;
/// What is made up for in so much time: one part of it.
const SLEW_PART: u64 = 10;
/// A larger difference is believed after this.
const BELIEVED_AFTER: Duration = Duration::from_secs(10);
/// While it is far ahead, this clock loses one part of the time that passes.
const HOLD_BACK_PART: u64 = 2;

/// Whether the members' clocks say what the machine's clock says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Agreement {
    /// They do, or nobody else has said anything.
    Agrees,
    /// Their median is another.
    Differs,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Wall {
    read: Instant,
    /// Microseconds since the epoch, as of `read`.
    micros: u64,
    agreement: Agreement,
    /// Since when the machine's clock, with the members' agreement, has been far from this one.
    far: Option<Instant>,
}

impl Wall {
    pub(super) fn new(now: Instant, machine: WallTime) -> Self {
        Self {
            read: now,
            micros: micros(machine),
            agreement: Agreement::Agrees,
            far: None,
        }
    }

    /// The members' clocks were compared with the machine's.
    pub(super) fn compared(&mut self, agreement: Agreement) {
        self.agreement = agreement;
    }

    /// What this clock says now, when the machine's says `machine`. Never less than before.
    pub(super) fn read(&mut self, now: Instant, machine: WallTime) -> WallTime {
        let agreement = self.agreement;
        let passed = u64::try_from(now.since(self.read).as_micros()).unwrap_or(u64::MAX);
        self.read = self.read.max(now);
        let free = self.micros.saturating_add(passed);
        let machine = micros(machine);
        let distance = machine.abs_diff(free);
        if agreement == Agreement::Differs || distance <= SLEW_MAX_US {
            self.far = None;
        }
        let believed = match (agreement, self.far) {
            (Agreement::Differs, _) => false,
            _ if distance <= SLEW_MAX_US => true,
            (Agreement::Agrees, Some(since)) => now.since(since) >= BELIEVED_AFTER,
            (Agreement::Agrees, None) => {
                self.far = Some(now);
                false
            }
        };
        self.micros = if !believed {
            free
        } else if distance <= SLEW_MAX_US {
            let step = distance.min(passed / SLEW_PART);
            if machine >= free {
                free + step
            } else {
                free - step
            }
        } else if machine > free {
            machine
        } else {
            free - passed / HOLD_BACK_PART
        };
        WallTime(self.micros / 1_000)
    }
}

fn micros(wall: WallTime) -> u64 {
    wall.0.saturating_mul(1_000)
}

#[cfg(test)]
mod tests {
    use super::Agreement::{Agrees, Differs};
    use super::*;

    const HOUR: i64 = 3_600_000;
    /// When it begins.
    const BEGIN: i64 = 1_700_000_000_000;

    /// Time passes in ticks of 50 ms; after each, how far the clock is from the truth, in
    /// milliseconds.
    struct Bench {
        wall: Wall,
        passed: i64,
        said: u64,
    }

    impl Bench {
        fn new() -> Self {
            Self {
                wall: Wall::new(Instant(0), WallTime(BEGIN as u64)),
                passed: 0,
                said: 0,
            }
        }

        /// The machine's clock is `off` ms from the truth for so many seconds.
        fn run(&mut self, seconds: i64, off: i64, agreement: Agreement) -> i64 {
            let mut error = 0;
            for _ in 0..seconds * 20 {
                self.passed += 50;
                let machine = WallTime((BEGIN + self.passed + off) as u64);
                let now = Instant(self.passed as u64 * 1_000_000);
                self.wall.compared(agreement);
                let said = self.wall.read(now, machine).0;
                assert!(
                    said >= self.said,
                    "it goes back from {} to {said}",
                    self.said
                );
                self.said = said;
                error = said as i64 - (BEGIN + self.passed);
            }
            error
        }
    }

    #[test]
    fn a_jump_of_one_machine_is_not_followed() {
        for jump in [HOUR, -HOUR] {
            let mut bench = Bench::new();
            assert_eq!(bench.run(60, 0, Agrees), 0);
            // For a moment nobody has said yet that the clock is off.
            assert_eq!(bench.run(5, jump, Agrees), 0, "{jump}");
            assert_eq!(bench.run(7_200, jump, Differs), 0, "{jump}");
            assert_eq!(bench.run(60, 0, Agrees), 0, "{jump}");
        }
    }

    #[test]
    fn a_jump_that_is_taken_back_is_not_followed_even_by_a_lone_node() {
        for jump in [HOUR, -HOUR] {
            let mut bench = Bench::new();
            for _ in 0..10 {
                assert_eq!(bench.run(9, jump, Agrees), 0, "{jump}");
                assert_eq!(bench.run(9, 0, Agrees), 0, "{jump}");
            }
        }
    }

    #[test]
    fn when_all_clocks_are_set_it_follows_without_going_back() {
        let mut bench = Bench::new();
        assert_eq!(bench.run(12, HOUR, Agrees), HOUR, "forwards in one step");
        let mut bench = Bench::new();
        let after_an_hour = bench.run(3_600, -HOUR, Agrees);
        assert!((-HOUR / 2 - 10_000..-HOUR / 2 + 10_000).contains(&after_an_hour));
        assert_eq!(bench.run(2 * 3_600, -HOUR, Agrees), -HOUR);
    }

    #[test]
    fn a_small_difference_is_made_up_for_slowly() {
        for off in [1_500, -1_500] {
            let mut bench = Bench::new();
            let after_a_second = bench.run(1, off, Agrees);
            assert_eq!(after_a_second, off.signum() * 100, "{off}");
            assert_eq!(bench.run(20, off, Agrees), off);
        }
    }

    #[test]
    fn a_clock_that_was_wrong_from_the_start_is_corrected_when_the_machine_is() {
        let mut bench = Bench::new();
        bench.wall = Wall::new(Instant(0), WallTime((BEGIN - HOUR) as u64));
        assert_eq!(bench.run(60, -HOUR, Differs), -HOUR);
        assert_eq!(bench.run(11, 0, Agrees), 0);
    }
}
