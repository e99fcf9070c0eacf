//! A circuit breaker: closed, open, half open. Time comes in as an argument.
//!
//! Closed: calls pass, and failures are counted; the trip rule opens it. Open: calls are refused
//! until its timeout is over. Half open: a few calls pass; so many successes in a row close it, one
//! failure opens it again.

use std::time::{Duration, Instant};

use crate::resources::{CircuitBreaker, Counts};

/// See the module.
#[derive(Clone, Debug)]
pub struct Breaker {
    rule: CircuitBreaker,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Closed { counts: Counts, since: Instant },
    Open { until: Instant },
    HalfOpen { passed: u32, succeeded: u32 },
}

/// How a call ended, for the breaker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// It worked.
    Well,
    /// It did not.
    Badly,
}

/// Whether a call may pass.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Passage {
    /// It may; say how it ended.
    Passes,
    /// It may not.
    Refused,
}

impl Breaker {
    /// One that is closed.
    #[must_use]
    pub fn new(rule: CircuitBreaker, now: Instant) -> Self {
        let counts = Counts::default();
        let state = State::Closed { counts, since: now };
        Self { rule, state }
    }

    /// Asks for one call.
    pub fn ask(&mut self, now: Instant) -> Passage {
        match &mut self.state {
            State::Closed { counts, since } => {
                let interval = self.rule.interval;
                if interval > Duration::ZERO && now.duration_since(*since) >= interval {
                    (*counts, *since) = (Counts::default(), now);
                }
                counts.requests = counts.requests.saturating_add(1);
                Passage::Passes
            }
            State::Open { until } if now < *until => Passage::Refused,
            State::Open { .. } => {
                let (passed, succeeded) = (1, 0);
                self.state = State::HalfOpen { passed, succeeded };
                Passage::Passes
            }
            State::HalfOpen { passed, .. } if *passed >= self.rule.max_requests => Passage::Refused,
            State::HalfOpen { passed, .. } => {
                *passed += 1;
                Passage::Passes
            }
        }
    }

    /// Hears how a call ended that has passed.
    pub fn ended(&mut self, ended: Ended, now: Instant) {
        match (&mut self.state, ended) {
            (State::Closed { counts, .. }, Ended::Well) => {
                counts.successes = counts.successes.saturating_add(1);
                counts.successes_in_a_row = counts.successes_in_a_row.saturating_add(1);
                counts.failures_in_a_row = 0;
            }
            (State::Closed { counts, .. }, Ended::Badly) => {
                counts.failures = counts.failures.saturating_add(1);
                counts.failures_in_a_row = counts.failures_in_a_row.saturating_add(1);
                counts.successes_in_a_row = 0;
                if self.rule.trip.trips(counts) {
                    self.open(now);
                }
            }
            (State::HalfOpen { succeeded, .. }, Ended::Well) => {
                *succeeded += 1;
                if *succeeded >= self.rule.max_requests {
                    *self = Self::new(self.rule.clone(), now);
                }
            }
            (State::HalfOpen { .. }, Ended::Badly) => self.open(now),
            // It passed before the breaker opened.
            (State::Open { .. }, _) => {}
        }
    }

    fn open(&mut self, now: Instant) {
        let until = now + self.rule.timeout;
        self.state = State::Open { until };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::TripRule;

    fn rule(trip: TripRule, max_requests: u32) -> CircuitBreaker {
        CircuitBreaker {
            max_requests,
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(5),
            trip,
        }
    }

    /// One step a character: `+` and `-` ask, pass and end well or badly, `x` asks and is refused,
    /// `a` asks and does not end, a digit lets so many seconds pass.
    fn play(rule: CircuitBreaker, steps: &str) {
        let mut now = Instant::now();
        let mut breaker = Breaker::new(rule, now);
        for (place, step) in steps.chars().enumerate() {
            let at = format!("{step} at {place} of {steps}");
            match step {
                '+' | '-' => {
                    assert_eq!(breaker.ask(now), Passage::Passes, "{at}");
                    let ended = if step == '+' {
                        Ended::Well
                    } else {
                        Ended::Badly
                    };
                    breaker.ended(ended, now);
                }
                'x' => assert_eq!(breaker.ask(now), Passage::Refused, "{at}"),
                'a' => assert_eq!(breaker.ask(now), Passage::Passes, "{at}"),
                seconds => {
                    let seconds = seconds.to_digit(10).expect("a digit");
                    now += Duration::from_secs(u64::from(seconds));
                }
            }
        }
    }

    #[test]
    fn every_way_between_the_states() {
        use TripRule::{ConsecutiveFailuresOver, RequestsOver, TotalFailuresOver};
        for (trip, max_requests, steps) in [
            // Three in a row open it; a success begins anew.
            (ConsecutiveFailuresOver(2), 1, "--+--+---x4x1+++"),
            // Half open: one failure opens it again, for the whole time.
            (ConsecutiveFailuresOver(0), 1, "-x5-x4x1+"),
            // Half open: so many pass, so many successes close it.
            (ConsecutiveFailuresOver(0), 2, "-5aax"),
            (ConsecutiveFailuresOver(0), 2, "-5++-x"),
            // Counts of another interval do not count.
            (TotalFailuresOver(2), 1, "-+-+9-x"),
            (TotalFailuresOver(2), 1, "-+-+91--+-x"),
            (RequestsOver(3), 1, "+++-x"),
            (RequestsOver(3), 1, "+-+-x"),
        ] {
            play(rule(trip, max_requests), steps);
        }
    }
}
