//! Resiliency policies: timeouts, retries and circuit breakers by name, and what each actor type
//! uses.

use std::collections::BTreeMap;
use std::time::Duration;

use ghostlight_protocol::schedule::{Signed, parse_go};
use serde::Deserialize;

use super::Error;
use super::document::Document;
use super::matching::Matching;
use super::trip::TripRule;

/// Policies of one resource.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Resiliency {
    /// Its name.
    pub name: String,
    /// Applications that it is for; empty: all.
    pub scopes: Vec<String>,
    /// What calls of an actor type use.
    pub actors: BTreeMap<String, Target>,
    /// What components use, by their names.
    pub components: BTreeMap<String, ComponentTargets>,
    /// All timeouts by name: those of built-in names count where no target says anything.
    pub timeouts: BTreeMap<String, Duration>,
    /// All retries by name.
    pub retries: BTreeMap<String, Retry>,
    /// All circuit breakers by name.
    pub breakers: BTreeMap<String, CircuitBreaker>,
}

/// What a component uses. Names are resolved.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct ComponentTargets {
    /// Towards the application.
    pub inbound: Target,
    /// From the application.
    pub outbound: Target,
}

/// Which way a component is used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// Towards the application.
    Inbound,
    /// From the application.
    Outbound,
}

/// The target of a pub/sub component: its own, or what built-in names say, the most particular name
/// first. A later resource wins.
#[must_use]
pub fn of_pubsub(resources: &[Resiliency], component: &str, direction: Direction) -> Target {
    let own = resources
        .iter()
        .rev()
        .find_map(|one| one.components.get(component));
    if let Some(targets) = own {
        return match direction {
            Direction::Inbound => targets.inbound.clone(),
            Direction::Outbound => targets.outbound.clone(),
        };
    }
    let prefixes = match direction {
        Direction::Inbound => [
            "PubsubComponentInbound",
            "ComponentInbound",
            "Component",
            "",
        ],
        Direction::Outbound => [
            "PubsubComponentOutbound",
            "ComponentOutbound",
            "Component",
            "",
        ],
    };
    of_default_names(resources, &prefixes)
}

/// The target of actor types that have none of their own: what default names say.
#[must_use]
pub fn of_actors(resources: &[Resiliency]) -> Target {
    of_default_names(resources, &["Actor", ""])
}

/// The retries that a name of Dapr's own stands for, if these resources say anything of it.
#[must_use]
pub fn built_in_retry(resources: &[Resiliency], name: &str) -> Option<Retry> {
    let mut all = resources.iter().rev();
    all.find_map(|one| one.retries.get(name)).cloned()
}

fn of_default_names(resources: &[Resiliency], prefixes: &[&str]) -> Target {
    Target {
        timeout: built_in(resources, prefixes, "Timeout", |one| &one.timeouts)
            .filter(|timeout| !timeout.is_zero()),
        retry: built_in(resources, prefixes, "Retry", |one| &one.retries),
        breaker: built_in(resources, prefixes, "CircuitBreaker", |one| &one.breakers)
            .map(|breaker| (breaker, BreakerScope::Type)),
    }
}

fn built_in<T: Clone>(
    resources: &[Resiliency],
    prefixes: &[&str],
    what: &str,
    policies: impl Fn(&Resiliency) -> &BTreeMap<String, T>,
) -> Option<T> {
    let mut names = prefixes
        .iter()
        .map(|prefix| format!("Default{prefix}{what}Policy"));
    names.find_map(|name| {
        let mut all = resources.iter().rev();
        all.find_map(|one| policies(one).get(&name).cloned())
    })
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
    /// Which failures are repeated.
    pub matching: Matching,
}

impl Retry {
    /// Whether so many attempts are followed by another one.
    #[must_use]
    pub fn goes_on_after(&self, attempts: u32) -> bool {
        self.max_retries.is_none_or(|most| attempts <= most)
    }
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

/// First pause of an exponential backoff.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

impl Backoff {
    /// Its pauses, one after the other, without an end.
    #[must_use]
    pub fn pauses(self) -> Pauses {
        let next = FIRST_PAUSE;
        Pauses {
            backoff: self,
            next,
        }
    }
}

/// See [`Backoff::pauses`].
#[derive(Clone, Debug)]
pub struct Pauses {
    backoff: Backoff,
    next: Duration,
}

impl Iterator for Pauses {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(match self.backoff {
            Backoff::Constant(pause) => pause,
            Backoff::Exponential { max } => {
                let pause = self.next.min(max);
                self.next = self.next.saturating_mul(3) / 2;
                pause
            }
        })
    }
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
    matching: MatchingFile,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct MatchingFile {
    #[serde(rename = "httpStatusCodes")]
    http: String,
    #[serde(rename = "gRPCStatusCodes")]
    grpc: String,
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
    components: BTreeMap<String, ComponentFile>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ComponentFile {
    inbound: TargetFile,
    outbound: TargetFile,
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
        let File { spec } = document.decode()?;
        document.warn_unknown(&["spec"], &["policies", "targets"], warnings);
        let policies = ["timeouts", "retries", "circuitBreakers"];
        document.warn_unknown(&["spec", "policies"], &policies, warnings);
        document.warn_unknown(&["spec", "targets"], &["actors", "components"], warnings);
        let wrong = |why: String| document.error(format!("resiliency {name}: {why}"));
        let mut policies = spec.policies.resolve().map_err(wrong)?;
        let place = document.place();
        let said = policies.overrides().into_iter();
        warnings.extend(said.map(|why| format!("{place}: {why}")));
        let mut actors = BTreeMap::new();
        for (actor_type, target) in spec.targets.actors {
            actors.insert(actor_type, target.read(&policies).map_err(wrong)?);
        }
        let mut components = BTreeMap::new();
        for (component, target) in spec.targets.components {
            let targets = ComponentTargets {
                inbound: target.inbound.read(&policies).map_err(wrong)?,
                outbound: target.outbound.read(&policies).map_err(wrong)?,
            };
            components.insert(component, targets);
        }
        let Resolved {
            timeouts,
            retries,
            breakers,
        } = policies;
        Ok(Self {
            name,
            scopes: document.scopes(),
            actors,
            components,
            timeouts,
            retries,
            breakers,
        })
    }
}

/// Policies by name, read.
struct Resolved {
    timeouts: BTreeMap<String, Duration>,
    retries: BTreeMap<String, Retry>,
    breakers: BTreeMap<String, CircuitBreaker>,
}

/// Retries of actor calls that found nobody; calls that may have run are not among them.
pub const ACTOR_RETRIES: &str = "DaprBuiltInActorRetries";
/// Retries of reminders that were not registered.
pub const REMINDER_RETRIES: &str = "DaprBuiltInActorReminderRetries";
/// Fewest retries of a name that is Dapr's own.
const OVERRIDE_RETRIES_MIN: u32 = 3;

impl Resolved {
    /// What becomes of retries with names of Dapr's own: one with fewer than three has three, as in
    /// Dapr. Returns a sentence for each thing that is not as it was written.
    fn overrides(&mut self) -> Vec<String> {
        let enough = |retry: &Retry| {
            retry
                .max_retries
                .is_some_and(|most| most >= OVERRIDE_RETRIES_MIN)
        };
        let mut said = Vec::new();
        for (name, retry) in &mut self.retries {
            match name.as_str() {
                ACTOR_RETRIES | REMINDER_RETRIES if !enough(retry) => {
                    retry.max_retries = Some(OVERRIDE_RETRIES_MIN);
                    said.push(format!(
                        "policy {name} has {OVERRIDE_RETRIES_MIN} retries: it must have as many, and an end"
                    ));
                }
                "DaprBuiltInActorNotFoundRetries" => {
                    said.push(format!("policy {name} cannot be overridden, as in Dapr"));
                }
                "DaprBuiltInServiceRetries" | "DaprBuiltInInitializationRetries" => {
                    said.push(format!("policy {name} has no effect here"));
                }
                _ => {}
            }
        }
        said
    }
}

impl Policies {
    fn resolve(self) -> Result<Resolved, String> {
        Ok(Resolved {
            timeouts: resolve(self.timeouts, |text| duration(&text, Duration::ZERO))?,
            retries: resolve(self.retries, RetryFile::read)?,
            breakers: resolve(self.circuit_breakers, BreakerFile::read)?,
        })
    }
}

impl TargetFile {
    fn read(self, policies: &Resolved) -> Result<Target, String> {
        let breaker = named(&policies.breakers, &self.circuit_breaker, "circuit breaker")?;
        Ok(Target {
            timeout: named(&policies.timeouts, &self.timeout, "timeout")?
                .filter(|timeout| !timeout.is_zero()),
            retry: named(&policies.retries, &self.retry, "retry")?,
            breaker: breaker.map(|breaker| (breaker, self.circuit_breaker_scope)),
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
            matching: Matching::read(&self.matching.http, &self.matching.grpc)?,
        })
    }
}

impl BreakerFile {
    fn read(self) -> Result<CircuitBreaker, String> {
        Ok(CircuitBreaker {
            max_requests: self.max_requests.max(1),
            interval: duration(&self.interval, Duration::ZERO)?,
            timeout: duration(&self.timeout, Duration::from_secs(60))?,
            trip: TripRule::read(&self.trip)?,
        })
    }
}
