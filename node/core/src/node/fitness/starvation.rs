//! Whether this node gets the processor time that leading needs: ticks that come late again and
//! again.
//!
//! Each late tick fills a bucket that leaks. One long pause says nothing (a node that was frozen
//! has lost its leaderships by elections), so that a single tick counts for little; many short ones
//! are what a throttled container or a starved machine looks like, and no election ever ends them:
//! heartbeats still arrive.

use std::time::Duration;

use ghostlight_protocol::time::Instant;

use super::super::TICK;

/// Most that a single late tick counts.
const LATE_MAX: Duration = Duration::from_millis(200);
/// One part of so many of the time that passes leaks: below that share of lost time nothing
/// gathers.
const LEAK: u32 = 3;
/// What must have gathered.
const STARVED: Duration = Duration::from_secs(1);
/// A starved node leads nothing for so long after it was last seen to be starved.
const PAUSE: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Starvation {
    last: Option<Instant>,
    gathered: Duration,
    until: Option<Instant>,
}

impl Starvation {
    /// A tick is handled. Whether the node is starved.
    pub(super) fn ticked(&mut self, now: Instant) -> bool {
        let gap = self.last.map_or(TICK, |last| now.since(last));
        self.last = Some(now);
        let late = gap.saturating_sub(TICK).min(LATE_MAX);
        self.gathered = (self.gathered + late)
            .saturating_sub(gap / LEAK)
            .min(STARVED);
        if self.gathered == STARVED {
            self.until = Some(now + PAUSE);
        }
        self.until.is_some_and(|until| now < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ticks with these gaps in turn, in milliseconds; after how many of them the node is starved.
    fn starved_after(gaps: &[u64]) -> Option<usize> {
        let mut starvation = Starvation::default();
        let mut now = Instant(0);
        (0..2_000).find(|number| {
            now = now + Duration::from_millis(gaps[number % gaps.len()]);
            starvation.ticked(now)
        })
    }

    #[test]
    fn many_late_ticks_are_starvation_and_one_pause_is_not() {
        for (what, gaps, starved) in [
            ("in time", &[50][..], false),
            ("a busy machine", &[50, 55, 70, 50, 62], false),
            (
                "a pause of a second each ten",
                &[1_000, 50, 50, 50, 50, 50, 50, 50, 50, 50],
                false,
            ),
            ("a busier machine", &[70], false),
            ("a tenth of a processor", &[100], true),
            ("a fifth of a processor", &[150, 50], true),
            ("frozen again and again", &[300], true),
        ] {
            let after = starved_after(gaps);
            assert_eq!(after.is_some(), starved, "{what}: {after:?}");
        }
    }

    #[test]
    fn it_is_over_ten_seconds_after_the_last_sign() {
        let mut starvation = Starvation::default();
        let mut now = Instant(0);
        let mut tick = |gap: u64, times: u32| {
            let mut starved = false;
            for _ in 0..times {
                now = now + Duration::from_millis(gap);
                starved = starvation.ticked(now);
            }
            starved
        };
        assert!(tick(110, 60));
        // What has gathered leaks first.
        assert!(tick(50, 200 - 1));
        assert!(!tick(50, 100));
    }
}
