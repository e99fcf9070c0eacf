//! Resiliency policies: timeouts, retries and circuit breakers by name, and what each actor type uses.

use std::collections::BTreeMap;
use std::time::Duration;

use ghostlight_protocol::schedule::{Signed, parse_go};
use serde::Deserialize;

use super::Error;
use super::document::Document;

/// Policies of one resource.
#[derive(Clone, PartialEq, Debug)]
pub struct Resiliency {
    /// Its name.
    pub name: String,
    /// Applications that it is for; empty: all.
    pub scopes: Vec<String>,
    /// What calls of an actor type use.
    pub actors: BTreeMap<String, Target>,
    /// What retries there are beside those, by name: the built-in ones may be overridden.
    pub retries: BTreeMap<String, Retry>,
}

/// What the calls of one actor type use. Names are resolved.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Target {
    /// Longest time of one attempt.
    pub timeout: Option<Duration>,
    /// When an attempt is repeated.
    pub retry: Option<Retry>,
    /// When calls are refused at once.
    pub breaker: Option<(CircuitBreaker, BreakerScope)>,
}

/// When an attempt is repeated.
#[derive(Clone, PartialEq, Debug)]
pub struct Retry {
    /// Pause between attempts.
    pub backoff: Backoff,
    /// Attempts after the first; `None`: for ever.
    pub max_retries: Option<u32>,
}

/// Pause between attempts.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Backoff {
    /// The same each time.
    Constant(Duration),
    /// Growing by half each time, from half a second to this.
    Exponential {
        /// Longest pause.
        max: Duration,
    },
}

/// When calls are refused at once.
#[derive(Clone, PartialEq, Debug)]
pub struct CircuitBreaker {
    /// Calls let through while it is half open.
    pub max_requests: u32,
    /// After this time counts begin anew; zero: never.
    pub interval: Duration,
    /// How long it stays open.
    pub timeout: Duration,
    /// What opens it.
    pub trip: TripRule,
}

/// What opens a breaker. Dapr takes any expression; these are the forms it documents.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TripRule {
    /// More failures in a row than this.
    ConsecutiveFailuresOver(u32),
    /// More failures in all than this.
    TotalFailuresOver(u32),
    /// More requests than this.
    RequestsOver(u32),
}

/// What one breaker stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum BreakerScope {
    /// Each actor has its own.
    Id,
    /// One for the type.
    #[default]
    Type,
    /// Both.
    Both,
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    scopes: Option<Vec<String>>,
}

#[derive(Deserialize, Default)]
struct Spec {
    #[serde(default)]
    policies: Policies,
    #[serde(default)]
    targets: Targets,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Policies {
    timeouts: BTreeMap<String, String>,
    retries: BTreeMap<String, RetryFile>,
    circuit_breakers: BTreeMap<String, BreakerFile>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RetryFile {
    policy: String,
    duration: String,
    max_interval: String,
    max_retries: Option<i64>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct BreakerFile {
    max_requests: u32,
    interval: String,
    timeout: String,
    trip: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Targets {
    actors: BTreeMap<String, TargetFile>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct TargetFile {
    timeout: String,
    retry: String,
    circuit_breaker: String,
    circuit_breaker_scope: BreakerScope,
}

impl Resiliency {
    pub(super) fn read(document: &Document, warnings: &mut Vec<String>) -> Result<Self, Error> {
        let name = document.name()?;
        let File { spec, scopes } = document.decode()?;
        document.warn_unknown(&["spec"], &["policies", "targets"], warnings);
        let policies = ["timeouts", "retries", "circuitBreakers"];
        document.warn_unknown(&["spec", "policies"], &policies, warnings);
        document.warn_unknown(&["spec", "targets"], &["actors"], warnings);
        let wrong = |why: String| document.error(format!("resiliency {name}: {why}"));
        let Policies {
            timeouts,
            retries,
            circuit_breakers,
        } = spec.policies;
        let timeouts = resolve(timeouts, |text| duration(&text, Duration::ZERO)).map_err(wrong)?;
        let retries = resolve(retries, RetryFile::read).map_err(wrong)?;
        let breakers = resolve(circuit_breakers, BreakerFile::read).map_err(wrong)?;
        let mut actors = BTreeMap::new();
        for (actor_type, target) in spec.targets.actors {
            let breaker = named(&breakers, &target.circuit_breaker, "circuit breaker");
            let read = Target {
                timeout: named(&timeouts, &target.timeout, "timeout")
                    .map_err(wrong)?
                    .filter(|timeout| !timeout.is_zero()),
                retry: named(&retries, &target.retry, "retry").map_err(wrong)?,
                breaker: breaker
                    .map_err(wrong)?
                    .map(|breaker| (breaker, target.circuit_breaker_scope)),
            };
            actors.insert(actor_type, read);
        }
        let scopes = scopes.unwrap_or_default();
        Ok(Self {
            name,
            scopes,
            actors,
            retries,
        })
    }
}

fn resolve<A, B>(
    given: BTreeMap<String, A>,
    read: impl Fn(A) -> Result<B, String>,
) -> Result<BTreeMap<String, B>, String> {
    let read = given.into_iter().map(|(name, policy)| {
        let policy = read(policy).map_err(|why| format!("policy {name}: {why}"))?;
        Ok((name, policy))
    });
    read.collect()
}

/// The policy of a name; an empty name is none.
fn named<T: Clone>(all: &BTreeMap<String, T>, name: &str, what: &str) -> Result<Option<T>, String> {
    match (name, all.get(name)) {
        ("", _) => Ok(None),
        (_, Some(policy)) => Ok(Some(policy.clone())),
        (name, None) => Err(format!(
            "there is no {what} named {name:?} among its policies"
        )),
    }
}

/// A Go duration; a bare number is milliseconds, as in Dapr.
fn duration(text: &str, default: Duration) -> Result<Duration, String> {
    if text.is_empty() {
        return Ok(default);
    }
    if let Ok(millis) = text.parse::<u64>() {
        return Ok(Duration::from_millis(millis));
    }
    match parse_go(text) {
        Some(Signed::Forward(time)) => Ok(time),
        Some(Signed::Backward(_)) | None => Err(format!(
            "{text:?} is no duration. Write one such as 500ms or 5s"
        )),
    }
}

impl RetryFile {
    fn read(self) -> Result<Retry, String> {
        let backoff = match self.policy.as_str() {
            "" | "constant" => Backoff::Constant(duration(&self.duration, Duration::from_secs(5))?),
            "exponential" => Backoff::Exponential {
                max: duration(&self.max_interval, Duration::from_secs(60))?,
            },
            other => {
                return Err(format!(
                    "policy {other:?} is neither constant nor exponential"
                ));
            }
        };
        let max_retries = match self.max_retries {
            None => None,
            Some(times) => u32::try_from(times).ok(),
        };
        Ok(Retry {
            backoff,
            max_retries,
        })
    }
}

impl BreakerFile {
    fn read(self) -> Result<CircuitBreaker, String> {
        Ok(CircuitBreaker {
            max_requests: self.max_requests.max(1),
            interval: duration(&self.interval, Duration::ZERO)?,
            timeout: duration(&self.timeout, Duration::from_secs(60))?,
            trip: trip(&self.trip)?,
        })
    }
}

fn trip(text: &str) -> Result<TripRule, String> {
    if text.trim().is_empty() {
        return Ok(TripRule::ConsecutiveFailuresOver(5));
    }
    let unreadable = || {
        format!(
            "trip {text:?} is not understood here. Write consecutiveFailures, totalFailures or requests, then > \
             or >= and a number"
        )
    };
    let (name, number) = text.split_once('>').ok_or_else(unreadable)?;
    let (least, number) = match number.strip_prefix('=') {
        Some(number) => (1, number),
        None => (0, number),
    };
    let number: u32 = number.trim().parse().map_err(|_| unreadable())?;
    let over = number.checked_sub(least).ok_or_else(unreadable)?;
    match name.trim() {
        "consecutiveFailures" => Ok(TripRule::ConsecutiveFailuresOver(over)),
        "totalFailures" => Ok(TripRule::TotalFailuresOver(over)),
        "requests" => Ok(TripRule::RequestsOver(over)),
        _ => Err(unreadable()),
    }
}
