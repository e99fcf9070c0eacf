//! How much this node has begun and not finished as a leader, and whether one more call would be
//! done in its time.
//!
//! The line is turns that have ended and wait for the log, over all leaderships here; the wait is
//! the line by the rate at which it is worked off (Little's law). A call whose wait would take more
//! than half of its time is refused before anything is done for it: done late, it would be done for
//! nobody, and those behind it late as well (reliability: goodput holds at ten times the load).
//! Absent on purpose: turns whose body runs, and calls that wait behind their own actor; a slow
//! application says nothing about the node, and mailboxes have bounds of their own.

use std::time::Duration;

use ghostlight_protocol::time::Instant;

use crate::turns::Progress;

/// So many are always admitted: a line this short is a batch.
const LINE_MIN: usize = 512;
/// So many are admitted as long as no rate was measured, right after the first leaderships opened.
const UNMEASURED_MAX: usize = 4_096;
/// How long the line must have been longer than [`LINE_MIN`] for one measurement.
const SAMPLE: Duration = Duration::from_millis(100);
/// No call waits longer than this in the line, whatever its deadline.
const PATIENCE_MAX: Duration = Duration::from_secs(2);
/// Bounds of the pause that a refused caller is asked to make.
const PAUSE: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(20)..=Duration::from_secs(1);

/// Why one more call would come too late.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TooLate {
    /// Turns in the line.
    pub(crate) waiting: usize,
    /// How long one more would wait, as far as measured.
    pub(crate) wait: Duration,
    /// How long the caller is asked to wait before it tries again.
    pub(crate) pause: Duration,
}

/// The line of a node. See the module.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Backlog {
    waiting: usize,
    /// Since the node began; wraps never.
    settled: u64,
    /// Where the present measurement began; none while the line is short.
    since: Option<(Instant, u64)>,
    /// Turns a second, of late.
    rate: Option<u64>,
}

/// How long a call may wait in the line that has `remaining` time: for half of it, and two seconds
/// at most.
#[must_use]
pub fn patience(remaining: Option<Duration>) -> Duration {
    remaining.map_or(PATIENCE_MAX, |left| (left / 2).min(PATIENCE_MAX))
}

impl Backlog {
    /// An engine's part has become another.
    pub(crate) fn changed(&mut self, before: Progress, after: Progress) {
        self.waiting = (self.waiting + after.waiting)
            .checked_sub(before.waiting)
            .expect("what a leadership has in the line was counted");
        self.settled += after
            .settled
            .checked_sub(before.settled)
            .expect("an engine settles ever more");
    }

    /// A leadership is over, and what it had in the line with it.
    pub(crate) fn closed(&mut self, progress: Progress) {
        let gone = Progress {
            waiting: 0,
            ..progress
        };
        self.changed(progress, gone);
    }

    /// Measures. To be told once in each turn of the loop.
    pub(crate) fn note(&mut self, now: Instant) {
        if self.waiting < LINE_MIN {
            self.since = None;
            return;
        }
        let (since, settled) = *self.since.get_or_insert((now, self.settled));
        let took = now.since(since);
        if took < SAMPLE {
            return;
        }
        let sample = (self.settled - settled) * 1_000 / took.as_millis() as u64;
        self.rate = Some(match self.rate {
            Some(rate) => (rate * 7 + sample * 3) / 10,
            None => sample,
        });
        self.since = Some((now, self.settled));
    }

    /// Whether one more call, which may wait `patience`, would be done in time.
    pub(crate) fn judge(&self, patience: Duration) -> Result<(), TooLate> {
        let longest = match self.rate {
            Some(rate) => rate as usize * patience.as_millis() as usize / 1_000,
            None => UNMEASURED_MAX,
        };
        if self.waiting < LINE_MIN.max(longest) {
            return Ok(());
        }
        let rate = self.rate.unwrap_or_default().max(1);
        let wait = Duration::from_millis(self.waiting as u64 * 1_000 / rate);
        let pause = wait.saturating_sub(patience);
        Err(TooLate {
            waiting: self.waiting,
            wait,
            pause: pause.clamp(*PAUSE.start(), *PAUSE.end()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn line(waiting: usize, settled: u64) -> Progress {
        Progress { waiting, settled }
    }

    /// A node that has `waiting` in the line and settles `rate` a second, measured for two seconds.
    fn measured(waiting: usize, rate: u64) -> Backlog {
        let mut backlog = Backlog::default();
        let mut before = line(0, 0);
        for tick in 0..=200_u64 {
            let after = line(waiting, rate * tick / 100);
            backlog.changed(before, after);
            backlog.note(Instant(tick * 10_000_000));
            before = after;
        }
        backlog
    }

    #[test]
    fn a_call_is_admitted_if_the_line_is_worked_off_in_half_of_its_time() {
        // Waiting, rate, remaining ms, admitted.
        let cases = [
            (511, 10, Some(10), true),
            (999, 2_000, Some(1_000), true),
            (1_001, 2_000, Some(1_000), false),
            (3_900, 2_000, Some(60_000), true),
            (4_100, 2_000, Some(60_000), false),
            (3_900, 2_000, None, true),
            (4_100, 2_000, None, false),
            (30_000, 100_000, Some(1_000), true),
        ];
        for (waiting, rate, remaining, admitted) in cases {
            let backlog = measured(waiting, rate);
            let judged = backlog.judge(patience(remaining.map(Duration::from_millis)));
            assert_eq!(
                judged.is_ok(),
                admitted,
                "{waiting} at {rate}: {remaining:?} {judged:?} {backlog:?}"
            );
        }
    }

    #[test]
    fn a_refusal_tells_the_wait_and_a_pause_until_the_line_is_short_enough() {
        let refusal = measured(3_000, 2_000).judge(SECOND / 2);
        let wait = Duration::from_millis(1_500);
        assert_eq!(
            refusal,
            Err(TooLate {
                waiting: 3_000,
                wait,
                pause: SECOND
            })
        );
        let near = measured(1_010, 2_000)
            .judge(SECOND / 2)
            .map_err(|late| late.pause);
        assert_eq!(near, Err(Duration::from_millis(20)));
    }

    #[test]
    fn a_line_that_nobody_has_measured_is_bounded_by_number() {
        let mut backlog = Backlog::default();
        backlog.changed(line(0, 0), line(UNMEASURED_MAX - 1, 0));
        assert_eq!(backlog.judge(SECOND), Ok(()));
        backlog.changed(line(0, 0), line(1, 0));
        assert!(backlog.judge(SECOND).is_err());
    }

    #[test]
    fn a_stall_lengthens_the_wait_and_its_end_shortens_it() {
        let mut backlog = measured(900, 4_000);
        assert_eq!(backlog.judge(SECOND / 2), Ok(()));
        let mut now = Instant(2_000_000_000);
        for _ in 0..10 {
            now = now + SAMPLE;
            backlog.note(now);
        }
        assert!(backlog.judge(SECOND / 2).is_err(), "{backlog:?}");
        let mut settled = 8_000;
        for _ in 0..10 {
            now = now + SAMPLE;
            backlog.changed(line(900, settled), line(900, settled + 400));
            settled += 400;
            backlog.note(now);
        }
        assert_eq!(backlog.judge(SECOND / 2), Ok(()), "{backlog:?}");
    }

    #[test]
    fn what_a_closed_leadership_had_in_the_line_is_gone() {
        let mut backlog = measured(5_000, 100);
        assert!(backlog.judge(SECOND).is_err());
        backlog.closed(line(5_000, 200));
        assert_eq!(backlog.judge(SECOND), Ok(()));
    }
}
