//! Resiliency policies at work: calls of an actor type with a timeout, retries and a circuit breaker.
//!
//! In: a call and the policies of its type. Out: its outcome, or the refusal of an open breaker. A call whose
//! outcome is unknown is never repeated: it may have run. One with a request id from outside is not either: its
//! recorded answer would be given again. Types without a policy pass through.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use ghostlight_protocol::outcome::CallOutcome;
use hyper::StatusCode;

use super::breaker::{Breaker, Ended, Passage};
use super::error_map::{Answer, ERR_ACTOR_INVOKE_METHOD};
use crate::handle::{Invoke, NodeHandle};
use crate::resources::{BreakerScope, Resiliency, Target};

/// Breakers of single actors that one type keeps; the one that was used longest ago goes first.
const ACTOR_BREAKERS_MAX: usize = 5_000;

/// The policies of a process.
#[derive(Debug, Default)]
pub struct Resilience {
    types: BTreeMap<String, Policies>,
}

#[derive(Debug)]
struct Policies {
    target: Target,
    breakers: Mutex<Breakers>,
}

/// Which breakers a call asks: that of the type, that of the actor.
type BreakerKey = Option<String>;

#[derive(Debug, Default)]
struct Breakers {
    all: BTreeMap<BreakerKey, (Breaker, u64)>,
    uses: u64,
}

impl Resilience {
    /// The policies of these resources; a later one wins.
    #[must_use]
    pub fn new(resources: &[Resiliency]) -> Self {
        let targets = resources.iter().flat_map(|resource| &resource.actors);
        let types = targets.map(|(actor_type, target)| {
            let policies = Policies {
                target: target.clone(),
                breakers: Mutex::default(),
            };
            (actor_type.clone(), policies)
        });
        Self {
            types: types.collect(),
        }
    }

    /// Calls an actor under its policies.
    ///
    /// # Errors
    /// Its breaker is open; nobody was called.
    pub async fn invoke(&self, handle: &NodeHandle, call: Invoke) -> Result<CallOutcome, Answer> {
        match self.types.get(call.actor.actor_type()) {
            None => Ok(handle.invoke(call).await),
            Some(policies) => policies.invoke(handle, call).await,
        }
    }
}

impl Policies {
    async fn invoke(&self, handle: &NodeHandle, mut call: Invoke) -> Result<CallOutcome, Answer> {
        let keys = self.keys(call.actor.actor_id());
        call.timeout = match (call.timeout, self.target.timeout) {
            (Some(asked), Some(policy)) => Some(asked.min(policy)),
            (asked, policy) => asked.or(policy),
        };
        let mut attempts: u32 = 0;
        let retry = self.target.retry.as_ref();
        let mut pauses = retry.map(|retry| retry.backoff.pauses());
        loop {
            let asked = self.ask(&keys)?;
            let outcome = handle.invoke(call.clone()).await;
            asked.end(match &outcome {
                CallOutcome::Reply(_) | CallOutcome::AppReply(_) => Ended::Well,
                CallOutcome::App(_) | CallOutcome::NotRun(_) | CallOutcome::Unknown { .. } => {
                    Ended::Badly
                }
            });
            attempts = attempts.saturating_add(1);
            if !self.repeats(&call, &outcome, attempts) {
                return Ok(outcome);
            }
            let pause = pauses.as_mut().and_then(Iterator::next);
            tokio::time::sleep(pause.unwrap_or_default()).await;
        }
    }

    fn keys(&self, actor_id: &str) -> Vec<BreakerKey> {
        match &self.target.breaker {
            None => Vec::new(),
            Some((_, BreakerScope::Type)) => vec![None],
            Some((_, BreakerScope::Id)) => vec![Some(actor_id.to_owned())],
            Some((_, BreakerScope::Both)) => vec![None, Some(actor_id.to_owned())],
        }
    }

    /// Whether an attempt is followed by another one.
    fn repeats(&self, call: &Invoke, outcome: &CallOutcome, attempts: u32) -> bool {
        let Some(retry) = &self.target.retry else {
            return false;
        };
        let may_repeat = match outcome {
            CallOutcome::Reply(_) | CallOutcome::AppReply(_) | CallOutcome::Unknown { .. } => false,
            CallOutcome::App(_) | CallOutcome::NotRun(_) => call.request_id.is_none(),
        };
        may_repeat && retry.goes_on_after(attempts)
    }

    fn ask<'a>(&'a self, keys: &'a [BreakerKey]) -> Result<Asked<'a>, Answer> {
        let passed = || Asked {
            policies: self,
            keys,
            ended: Ended::Badly,
        };
        let Some((rule, _)) = &self.target.breaker else {
            return Ok(passed());
        };
        let now = Instant::now();
        let mut breakers = self.breakers.lock().unwrap_or_else(PoisonError::into_inner);
        for (place, key) in keys.iter().enumerate() {
            let breaker = breakers.of(key, || Breaker::new(rule.clone(), now));
            if breaker.ask(now) == Passage::Passes {
                continue;
            }
            // Those that let it pass count it as one that did not fail them.
            for passed in &keys[..place] {
                let breaker = breakers.of(passed, || Breaker::new(rule.clone(), now));
                breaker.ended(Ended::Well, now);
            }
            return Err(Answer::dapr(
                StatusCode::INTERNAL_SERVER_ERROR,
                ERR_ACTOR_INVOKE_METHOD,
                "error invoke actor method: circuit breaker is open",
            ));
        }
        drop(breakers);
        Ok(passed())
    }

    fn tell(&self, keys: &[BreakerKey], ended: Ended) {
        let now = Instant::now();
        let mut breakers = self.breakers.lock().unwrap_or_else(PoisonError::into_inner);
        for key in keys {
            if let Some((breaker, _)) = breakers.all.get_mut(key) {
                breaker.ended(ended, now);
            }
        }
    }
}

/// A call that its breakers let pass. They hear how it ended, also when its caller has gone: then it counts as
/// one that ended badly, because a breaker that waits for ever would refuse for ever.
struct Asked<'a> {
    policies: &'a Policies,
    keys: &'a [BreakerKey],
    ended: Ended,
}

impl Asked<'_> {
    fn end(mut self, ended: Ended) {
        self.ended = ended;
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.policies.tell(self.keys, self.ended);
    }
}

impl Breakers {
    fn of(&mut self, key: &BreakerKey, new: impl FnOnce() -> Breaker) -> &mut Breaker {
        self.uses += 1;
        if self.all.len() >= ACTOR_BREAKERS_MAX && !self.all.contains_key(key) {
            let oldest = self.all.iter().min_by_key(|(_, (_, used))| *used);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                self.all.remove(&oldest);
            }
        }
        let (breaker, used) = self.all.entry(key.clone()).or_insert_with(|| (new(), 0));
        *used = self.uses;
        breaker
    }
}

#[cfg(test)]
mod tests;
