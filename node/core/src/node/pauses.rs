//! This node's own pauses: a frozen or overloaded process must not take its own silence for that of
//! others.
//!
//! The failure detector lives in *awake time*, which stands still while this node did nothing. What
//! came in meanwhile still waits in queues (of the kernel, of the transport's thread), so that
//! timers that ran out during a pause say nothing: after it they have as much time left as before.
//! A node that lags is also slower to accuse (`Membership::set_lag_score`). Deliberately absent:
//! elections, which have a rule of their own (missed ticks are dropped), and any report to others.

use std::time::Duration;

use ghostlight_protocol::time::Instant;

/// An input comes at least once a tick (50 ms); a gap above this is a pause.
const PAUSE_MIN: Duration = Duration::from_millis(200);
/// One more step of the lag score for each.
const LAG_STEP: Duration = Duration::from_millis(200);
/// The score sinks by one after this time without a worse gap.
const LAG_SINKS_AFTER: Duration = Duration::from_secs(2);
/// What waited during a pause has been handled after this, also if the transport's threads are
/// behind.
const STALE_FOR: Duration = Duration::from_millis(500);
/// Highest score that is told; the failure detector bounds it again.
const LAG_MAX: u32 = 8;

/// See the module.
#[derive(Debug)]
pub(super) struct Pauses {
    /// The latest input.
    last: Instant,
    /// All pauses together.
    asleep: Duration,
    score: u32,
    /// When the score was last raised or lowered.
    scored: Instant,
    /// When the last pause ended.
    woke: Option<Instant>,
}

impl Pauses {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            last: now,
            asleep: Duration::ZERO,
            score: 0,
            scored: now,
            woke: None,
        }
    }

    /// An input is about to be handled. Returns the lag score.
    pub(super) fn woke(&mut self, now: Instant) -> u32 {
        let gap = now.since(self.last);
        self.last = self.last.max(now);
        if gap >= PAUSE_MIN {
            self.asleep += gap;
            self.woke = Some(now);
        }
        let steps = u32::try_from(gap.as_millis() / LAG_STEP.as_millis()).unwrap_or(LAG_MAX);
        let steps = steps.min(LAG_MAX);
        if steps > 0 && steps >= self.score {
            (self.score, self.scored) = (steps, now);
        } else if self.score > 0 && now.since(self.scored) >= LAG_SINKS_AFTER {
            (self.score, self.scored) = (self.score - 1, now);
        }
        self.score
    }

    /// Whether what comes in now may be older than the end of the last pause.
    pub(super) fn may_be_stale(&self, now: Instant) -> bool {
        self.woke.is_some_and(|woke| now.since(woke) < STALE_FOR)
    }

    /// The time that the failure detector lives in.
    pub(super) fn awake(&self, now: Instant) -> Instant {
        let asleep = u64::try_from(self.asleep.as_nanos()).unwrap_or(u64::MAX);
        Instant(now.0.saturating_sub(asleep))
    }

    /// When it will be that time, if no pause comes between.
    pub(super) fn real(&self, awake: Instant) -> Instant {
        awake + self.asleep
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Instant {
        Instant(n * 1_000_000)
    }

    #[test]
    fn time_stands_still_in_a_pause_and_nowhere_else() {
        let mut pauses = Pauses::new(ms(1_000));
        for now in (1_050..=2_000).step_by(50) {
            assert_eq!(pauses.woke(ms(now)), 0);
        }
        assert_eq!(
            pauses.awake(ms(2_000)),
            ms(2_000),
            "no pause, no difference"
        );
        pauses.woke(ms(7_000));
        assert_eq!(pauses.awake(ms(7_000)), ms(2_000), "5 s of nothing");
        assert_eq!(pauses.awake(ms(7_300)), ms(2_300));
        assert_eq!(pauses.real(ms(2_300)), ms(7_300));
        pauses.woke(ms(6_000));
        assert_eq!(
            pauses.awake(ms(7_300)),
            ms(2_300),
            "an older time is no pause"
        );
    }

    #[test]
    fn what_comes_soon_after_a_pause_may_be_old() {
        let mut pauses = Pauses::new(ms(1_000));
        pauses.woke(ms(1_050));
        assert!(!pauses.may_be_stale(ms(1_050)));
        pauses.woke(ms(11_050));
        assert!(pauses.may_be_stale(ms(11_050)) && pauses.may_be_stale(ms(11_549)));
        assert!(!pauses.may_be_stale(ms(11_550)));
    }

    #[test]
    fn the_score_rises_at_once_and_sinks_slowly() {
        let mut pauses = Pauses::new(ms(0));
        assert_eq!(pauses.woke(ms(450)), 2);
        assert_eq!(pauses.woke(ms(500)), 2);
        assert_eq!(pauses.woke(ms(5_500)), LAG_MAX);
        let mut now = 5_500;
        let mut at = |seconds: u64, pauses: &mut Pauses| {
            let end = now + seconds * 1_000;
            let mut score = 0;
            while now < end {
                now += 50;
                score = pauses.woke(ms(now));
            }
            score
        };
        assert_eq!(at(2, &mut pauses), LAG_MAX - 1);
        assert_eq!(at(14, &mut pauses), 0);
    }
}
