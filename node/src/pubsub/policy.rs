//! A resiliency policy at work on one component: timeout, retries, circuit breaker.
//!
//! In: attempts, each of which says whether another one makes sense. Out: what the last one said.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;

use crate::api::breaker::{Breaker, Ended, Passage};
use crate::resources::{FailedWith, Target};

/// See the module.
#[derive(Debug, Default)]
pub struct Policy {
    target: Target,
    breaker: Option<Mutex<Breaker>>,
}

/// How one attempt ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Attempt<T> {
    /// For good, well or not.
    Over(T),
    /// It failed, and another one may not.
    Failed(T),
    /// It failed in a way that the policy does not repeat.
    Lost(T),
}

/// What the policy itself has to say about an attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cut {
    /// It took longer than this.
    Late(Duration),
    /// The circuit breaker is open; it was not begun.
    Open,
}

impl Policy {
    /// The policy of a target.
    #[must_use]
    pub fn new(target: Target) -> Self {
        let rule = target.breaker.as_ref();
        let breaker = rule.map(|(rule, _)| Mutex::new(Breaker::new(rule.clone(), Instant::now())));
        Self { target, breaker }
    }

    /// A failure with this status: for good, if the policy leaves such ones out.
    pub fn failed<T>(&self, said: T, with: FailedWith) -> Attempt<T> {
        match self.repeats_after(with) {
            true => Attempt::Failed(said),
            false => Attempt::Lost(said),
        }
    }

    /// Whether its `matching` takes such a failure.
    #[must_use]
    pub fn repeats_after(&self, failed: FailedWith) -> bool {
        let retry = self.target.retry.as_ref();
        retry.is_none_or(|retry| retry.matching.takes(failed))
    }

    /// Whether an attempt may be followed by another one.
    #[must_use]
    pub fn repeats(&self) -> bool {
        self.target.retry.is_some()
    }

    /// Attempts until one is over, or the policy allows no more. `cut` says what it means to be cut
    /// off.
    pub async fn run<'a, T>(
        &self,
        mut attempt: impl FnMut() -> BoxFuture<'a, Attempt<T>>,
        cut: impl Fn(Cut) -> T,
    ) -> T {
        let retry = self.target.retry.as_ref();
        let mut pauses = retry.map(|retry| retry.backoff.pauses());
        let mut attempts: u32 = 0;
        loop {
            let failed = match self.once(attempt(), &cut).await {
                Attempt::Over(said) | Attempt::Lost(said) => return said,
                Attempt::Failed(said) => said,
            };
            attempts = attempts.saturating_add(1);
            if !retry.is_some_and(|retry| retry.goes_on_after(attempts)) {
                return failed;
            }
            let pause = pauses.as_mut().and_then(Iterator::next);
            tokio::time::sleep(pause.unwrap_or_default()).await;
        }
    }

    async fn once<T>(
        &self,
        attempt: BoxFuture<'_, Attempt<T>>,
        cut: &impl Fn(Cut) -> T,
    ) -> Attempt<T> {
        if self.ask() == Passage::Refused {
            // It will not be closed by asking again.
            return Attempt::Over(cut(Cut::Open));
        }
        // A caller that goes in the middle counts as an end that was bad: else the breaker would
        // wait for ever.
        let mut told = Told(self, Ended::Badly);
        let ended = match self.target.timeout {
            None => attempt.await,
            Some(timeout) => match tokio::time::timeout(timeout, attempt).await {
                Ok(ended) => ended,
                Err(_) => Attempt::Failed(cut(Cut::Late(timeout))),
            },
        };
        told.1 = match &ended {
            Attempt::Over(_) => Ended::Well,
            Attempt::Failed(_) | Attempt::Lost(_) => Ended::Badly,
        };
        ended
    }

    fn ask(&self) -> Passage {
        match &self.breaker {
            None => Passage::Passes,
            Some(breaker) => {
                let mut breaker = breaker.lock().unwrap_or_else(PoisonError::into_inner);
                breaker.ask(Instant::now())
            }
        }
    }
}

/// Tells the breaker how an attempt ended.
struct Told<'a>(&'a Policy, Ended);

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if let Some(breaker) = &self.0.breaker {
            let mut breaker = breaker.lock().unwrap_or_else(PoisonError::into_inner);
            breaker.ended(self.1, Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::resources::{Backoff, BreakerScope, CircuitBreaker, Matching, Retry, TripRule};

    /// Fails so many times; returns what is said at last, and the number of attempts.
    async fn play(policy: &Policy, failures: u32) -> (String, u32) {
        let count = Arc::new(AtomicU32::new(0));
        let attempt = || -> BoxFuture<'static, Attempt<String>> {
            let count = Arc::clone(&count);
            Box::pin(async move {
                match count.fetch_add(1, Ordering::Relaxed) {
                    n if n < failures => Attempt::Failed(format!("no {n}")),
                    n => Attempt::Over(format!("yes {n}")),
                }
            })
        };
        let said = policy.run(attempt, |cut| format!("{cut:?}")).await;
        (said, count.load(Ordering::Relaxed))
    }

    fn retries(max_retries: Option<u32>) -> Target {
        Target {
            retry: Some(Retry {
                backoff: Backoff::Constant(Duration::ZERO),
                max_retries,
                matching: Matching::read("500-599", "14").unwrap(),
            }),
            ..Target::default()
        }
    }

    #[tokio::test]
    async fn attempts_are_repeated_as_often_as_allowed() {
        for (target, failures, said, attempts) in [
            (Target::default(), 0, "yes 0", 1),
            (Target::default(), 1, "no 0", 1),
            (retries(Some(2)), 2, "yes 2", 3),
            (retries(Some(2)), 9, "no 2", 3),
            (retries(None), 20, "yes 20", 21),
        ] {
            let policy = Policy::new(target);
            let wanted = (said.to_owned(), attempts);
            assert_eq!(play(&policy, failures).await, wanted);
        }
    }

    #[tokio::test]
    async fn what_matching_leaves_out_is_not_repeated() {
        use FailedWith::{Grpc, Http};
        for (target, with, attempts) in [
            (retries(Some(2)), Http(503), 3),
            (retries(Some(2)), Http(409), 1),
            (retries(Some(2)), Grpc(14), 3),
            (retries(Some(2)), Grpc(13), 1),
            (Target::default(), Http(409), 1),
        ] {
            let policy = Policy::new(target);
            let count = AtomicU32::new(0);
            let attempt = || -> BoxFuture<'_, Attempt<()>> {
                count.fetch_add(1, Ordering::Relaxed);
                Box::pin(async { policy.failed((), with) })
            };
            policy.run(attempt, |_| ()).await;
            assert_eq!(count.load(Ordering::Relaxed), attempts, "{with:?}");
        }
        // It counts as a failure all the same.
        let policy = Policy::new(Target {
            retry: retries(None).retry,
            ..broken_by_one()
        });
        let lost = || -> BoxFuture<'_, Attempt<&str>> {
            Box::pin(async { policy.failed("lost", Http(409)) })
        };
        assert_eq!(policy.run(lost, |_| "cut").await, "lost");
        assert_eq!(policy.run(lost, |_| "cut").await, "cut");
    }

    #[tokio::test]
    async fn late_and_open() {
        let policy = Policy::new(Target {
            retry: Some(Retry {
                backoff: Backoff::Constant(Duration::from_secs(3_600)),
                max_retries: Some(1),
                matching: Matching::default(),
            }),
            ..broken_by_one()
        });
        let never = || -> BoxFuture<'static, Attempt<Cut>> { Box::pin(std::future::pending()) };
        let cut = |cut| cut;
        let trips = tokio::time::timeout(Duration::from_millis(100), policy.run(never, cut));
        assert!(trips.await.is_err(), "its second attempt comes in an hour");
        // Nobody waits an hour for a breaker that is open.
        let refused = tokio::time::timeout(Duration::from_secs(20), policy.run(never, cut));
        assert_eq!(refused.await, Ok(Cut::Open));
        let policy = Policy::new(broken_by_one());
        let late = policy.run(never, |cut| cut).await;
        assert_eq!(late, Cut::Late(Duration::from_millis(5)));
        assert_eq!(policy.run(never, |cut| cut).await, Cut::Open);
    }

    fn broken_by_one() -> Target {
        Target {
            timeout: Some(Duration::from_millis(5)),
            breaker: Some((
                CircuitBreaker {
                    max_requests: 1,
                    interval: Duration::ZERO,
                    timeout: Duration::from_secs(60),
                    trip: TripRule::ConsecutiveFailuresOver(0),
                },
                BreakerScope::Type,
            )),
            ..Target::default()
        }
    }
}
