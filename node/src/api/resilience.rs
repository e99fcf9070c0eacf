//! Resiliency policies at work: calls of an actor type with a timeout, retries and a circuit
//! breaker.
//!
//! In: a call and the policies of its type. Out: its outcome, or the refusal of an open breaker. A
//! call whose outcome is unknown is never repeated: it may have run. One with a request id from
//! outside is not either: its recorded answer would be given again. Types without a target of their
//! own have the policies of Dapr's default names (`DefaultActorRetryPolicy`), and without any
//! retries those of `DaprBuiltInActorRetries`, for calls that certainly did not run.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use futures::future::BoxFuture;
use ghostlight_core::hosts::objects::app_status;
use ghostlight_protocol::code::Class;
use ghostlight_protocol::outcome::{CallOutcome, NotRun};
use hyper::StatusCode;

use super::app_calls::{AppCallOutcome, AppRefusal};
use super::breaker::{Breaker, Ended, Passage};
use super::error_map::{self, Answer, ERR_ACTOR_INVOKE_METHOD};
use crate::handle::{Invoke, NodeHandle};
use crate::resources::{
    ACTOR_RETRIES, BreakerScope, FailedWith, REMINDER_RETRIES, Resiliency, Retry, Target,
    built_in_retry, of_actors,
};

/// Breakers that one target keeps; the one that was used longest ago goes first.
const BREAKERS_MAX: usize = 5_000;

/// How a request came, and how its end is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Transport {
    /// HTTP.
    #[default]
    Http,
    /// gRPC.
    Grpc,
}

/// The policies of a process.
#[derive(Debug, Default)]
pub struct Resilience {
    types: BTreeMap<String, Policies>,
    /// Of types that have none of their own.
    others: Option<Policies>,
    /// Of reminders that are registered.
    reminders: Option<Retry>,
}

#[derive(Debug)]
struct Policies {
    target: Target,
    repeated: Repeated,
    breakers: Mutex<Breakers>,
}

/// What retries are for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Repeated {
    /// Whatever failed, and can be repeated.
    Failures,
    /// What nobody took.
    NotTaken,
}

/// Which breaker: that of a type, or that of one of its actors.
type BreakerKey = (String, Option<String>);

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
            let policies = Policies::new(target.clone(), Repeated::Failures);
            (actor_type.clone(), policies)
        });
        Self {
            types: types.collect(),
            others: Policies::of_others(resources),
            reminders: built_in_retry(resources, REMINDER_RETRIES),
        }
    }

    /// Calls an actor under its policies.
    ///
    /// # Errors
    /// Its breaker is open; nobody was called.
    pub async fn invoke(
        &self,
        handle: &NodeHandle,
        call: Invoke,
        over: Transport,
    ) -> Result<CallOutcome, Answer> {
        let own = self.types.get(call.actor.actor_type());
        match own.or(self.others.as_ref()) {
            None => Ok(handle.invoke(call).await),
            Some(policies) => policies.invoke(handle, call, over).await,
        }
    }

    /// Registers a reminder, again and again if nobody has taken it and the policy says so.
    pub async fn register<'a>(
        &self,
        mut register: impl FnMut() -> BoxFuture<'a, AppCallOutcome>,
    ) -> AppCallOutcome {
        let mut pauses = self.reminders.as_ref().map(|retry| retry.backoff.pauses());
        let mut attempts: u32 = 0;
        loop {
            let outcome = register().await;
            attempts = attempts.saturating_add(1);
            let again = match (&outcome, &self.reminders) {
                (Err(AppRefusal::NotRun(refusal)), Some(retry)) => {
                    not_taken(refusal) && retry.goes_on_after(attempts)
                }
                _ => false,
            };
            if !again {
                return outcome;
            }
            let pause = pauses.as_mut().and_then(Iterator::next);
            tokio::time::sleep(pause.unwrap_or_default()).await;
        }
    }
}

/// Whether somebody else, or the same one later, may take it.
fn not_taken(refusal: &NotRun) -> bool {
    refusal.code.class() == Class::Retry
}

impl Policies {
    fn new(target: Target, repeated: Repeated) -> Self {
        Self {
            target,
            repeated,
            breakers: Mutex::default(),
        }
    }

    /// Of types without a target; `None`: nothing is said about them.
    fn of_others(resources: &[Resiliency]) -> Option<Self> {
        let mut target = of_actors(resources);
        let mut repeated = Repeated::Failures;
        if target.retry.is_none() {
            target.retry = built_in_retry(resources, ACTOR_RETRIES);
            repeated = Repeated::NotTaken;
        }
        (target != Target::default()).then(|| Self::new(target, repeated))
    }

    async fn invoke(
        &self,
        handle: &NodeHandle,
        mut call: Invoke,
        over: Transport,
    ) -> Result<CallOutcome, Answer> {
        let keys = self.keys(call.actor.actor_type(), call.actor.actor_id());
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
            if !self.repeats(&call, &outcome, attempts, over) {
                return Ok(outcome);
            }
            let pause = pauses.as_mut().and_then(Iterator::next);
            tokio::time::sleep(pause.unwrap_or_default()).await;
        }
    }

    fn keys(&self, actor_type: &str, actor_id: &str) -> Vec<BreakerKey> {
        let of_type = || (actor_type.to_owned(), None);
        let of_actor = || (actor_type.to_owned(), Some(actor_id.to_owned()));
        match &self.target.breaker {
            None => Vec::new(),
            Some((_, BreakerScope::Type)) => vec![of_type()],
            Some((_, BreakerScope::Id)) => vec![of_actor()],
            Some((_, BreakerScope::Both)) => vec![of_type(), of_actor()],
        }
    }

    /// Whether an attempt is followed by another one.
    fn repeats(
        &self,
        call: &Invoke,
        outcome: &CallOutcome,
        attempts: u32,
        over: Transport,
    ) -> bool {
        let Some(retry) = &self.target.retry else {
            return false;
        };
        let failed = match (outcome, self.repeated) {
            (CallOutcome::App(error), Repeated::Failures) => match app_status(error) {
                Some(status) => FailedWith::Http(status),
                None => error_map::app_error(error.clone()).failed_with(over),
            },
            (CallOutcome::NotRun(refusal), repeated)
                if repeated == Repeated::Failures || not_taken(refusal) =>
            {
                error_map::not_run(refusal.clone()).failed_with(over)
            }
            _ => return false,
        };
        let may_repeat = call.request_id.is_none() && retry.matching.takes(failed);
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

/// A call that its breakers let pass. They hear how it ended, also when its caller has gone: then
/// it counts as one that ended badly, because a breaker that waits for ever would refuse for ever.
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
        if self.all.len() >= BREAKERS_MAX && !self.all.contains_key(key) {
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
