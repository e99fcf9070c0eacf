//! What an application hosts: its answer to `GET /dapr/config`, or the first message of its stream.
//!
//! Pure. Dapr's rules: fields are found whatever their case, values that cannot be read fall back
//! to their default with a warning, per-type settings count for types that are also in the
//! top-level list, and a drain longer than the dissemination timeout becomes 80 % of it.

use std::time::Duration;

use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::schedule::{Signed, parse_go};
use serde_json::{Map, Value};

use super::settings::{Actors, AppSettings};

/// Idle time after which an object is deactivated.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(3_600);
/// Time for a running call before its actor moves.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
/// Nested calls into one actor.
pub const STACK_DEPTH: u32 = 32;
/// Types one application may host; more are left out with a warning.
pub const TYPES_MAX: usize = 1_024;
/// Types of Dapr's own workflow runtime, which no application may host.
const RESERVED: &str = "dapr.internal.";

/// An actor type that an application hosts, and how.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostedType {
    /// Name of the type, checked.
    pub name: String,
    /// Idle time after which an object is deactivated.
    pub idle_timeout: Duration,
    /// Time for a running call before its actor moves.
    pub drain_timeout: Duration,
    /// Whether a running call is waited for at all when its actor moves.
    pub drain_rebalanced: bool,
    /// Nested calls allowed; `None`: no reentrancy.
    pub reentrancy: Option<u32>,
}

/// What an application said, and what of it could not be taken.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Hosted {
    /// The types, in its order, each once.
    pub types: Vec<HostedType>,
    /// One sentence for each thing that was not taken as it was meant.
    pub warnings: Vec<String>,
}

/// Settings as far as they were given.
#[derive(Clone, Default, Debug)]
pub(super) struct Wishes {
    pub(super) idle_timeout: Option<Duration>,
    pub(super) drain_timeout: Option<Duration>,
    pub(super) drain_rebalanced: Option<bool>,
    pub(super) reentrancy: Option<Reentrancy>,
}

/// Reentrancy as it was given.
#[derive(Clone, Copy, Debug)]
pub(super) enum Reentrancy {
    Off,
    On { depth: Option<u32> },
}

/// Everything an application said, before defaults and clamps.
#[derive(Clone, Default, Debug)]
pub(super) struct Announced {
    pub(super) entities: Vec<String>,
    pub(super) common: Wishes,
    pub(super) special: Vec<(Vec<String>, Wishes)>,
    pub(super) warnings: Vec<String>,
}

/// Reads the answer to `GET /dapr/config`. What is no JSON object hosts nothing.
#[must_use]
pub fn parse(body: &[u8], disseminate_timeout: Duration) -> Hosted {
    match serde_json::from_slice::<Value>(body) {
        Ok(Value::Object(fields)) => announced(&fields).hosted(disseminate_timeout),
        Ok(_) => nothing("the answer to GET /dapr/config is not a JSON object"),
        Err(error) => nothing(&format!(
            "the answer to GET /dapr/config is not JSON ({error})"
        )),
    }
}

fn nothing(why: &str) -> Hosted {
    Hosted {
        types: Vec::new(),
        warnings: vec![format!("{why}: the application hosts no actors")],
    }
}

fn announced(fields: &Map<String, Value>) -> Announced {
    let mut warnings = Vec::new();
    let entities = names(fields, &mut warnings);
    let common = wishes(fields, &mut warnings);
    let special = match field(fields, "entitiesConfig") {
        Some(Value::Array(all)) => all
            .iter()
            .filter_map(Value::as_object)
            .map(|one| (names(one, &mut warnings), wishes(one, &mut warnings)))
            .collect(),
        Some(_) => {
            warnings.push("entitiesConfig is not a list; it is left out".to_owned());
            Vec::new()
        }
        None => Vec::new(),
    };
    Announced {
        entities,
        common,
        special,
        warnings,
    }
}

/// A field that is there and not null, whatever the case of its name.
fn field<'a>(fields: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    let exact = fields.get(name);
    let any = || {
        let found = fields
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value)
    };
    exact.or_else(any).filter(|value| !value.is_null())
}

fn names(fields: &Map<String, Value>, warnings: &mut Vec<String>) -> Vec<String> {
    match field(fields, "entities") {
        Some(Value::Array(names)) => {
            let names = names.iter().filter_map(Value::as_str);
            names.map(str::to_owned).collect()
        }
        Some(_) => {
            warnings.push("entities is not a list of names; it is left out".to_owned());
            Vec::new()
        }
        None => Vec::new(),
    }
}

fn wishes(fields: &Map<String, Value>, warnings: &mut Vec<String>) -> Wishes {
    Wishes {
        idle_timeout: duration(fields, "actorIdleTimeout", warnings),
        drain_timeout: duration(fields, "drainOngoingCallTimeout", warnings),
        drain_rebalanced: flag(fields, "drainRebalancedActors", warnings),
        reentrancy: match field(fields, "reentrancy") {
            Some(Value::Object(inner)) => Some(reentrancy(inner, warnings)),
            Some(other) => {
                warnings.push(format!("reentrancy = {other} is not an object; it is off"));
                None
            }
            None => None,
        },
    }
}

fn reentrancy(fields: &Map<String, Value>, warnings: &mut Vec<String>) -> Reentrancy {
    if flag(fields, "enabled", warnings) != Some(true) {
        return Reentrancy::Off;
    }
    let depth = match field(fields, "maxStackDepth") {
        None => None,
        Some(value) => {
            let depth = value.as_u64().and_then(|depth| u32::try_from(depth).ok());
            if depth.is_none() {
                warnings.push(format!(
                    "maxStackDepth = {value} is not a number; {STACK_DEPTH} is used"
                ));
            }
            depth
        }
    };
    Reentrancy::On { depth }
}

fn flag(fields: &Map<String, Value>, name: &str, warnings: &mut Vec<String>) -> Option<bool> {
    let value = field(fields, name)?;
    if value.as_bool().is_none() {
        warnings.push(format!(
            "{name} = {value} is neither true nor false; the default is used"
        ));
    }
    value.as_bool()
}

fn duration(
    fields: &Map<String, Value>,
    name: &str,
    warnings: &mut Vec<String>,
) -> Option<Duration> {
    let value = field(fields, name)?;
    let text = value.as_str();
    if text == Some("") {
        return None;
    }
    let parsed = match text.and_then(parse_go) {
        Some(Signed::Forward(time)) => Some(time),
        Some(Signed::Backward(_)) | None => None,
    };
    if parsed.is_none() {
        warnings.push(format!(
            "{name} = {value} is not a duration such as 1h0m0s; the default is used"
        ));
    }
    parsed
}

impl Announced {
    /// Applies defaults, per-type settings and clamps, and leaves out names that no actor can have.
    pub(super) fn hosted(self, disseminate_timeout: Duration) -> Hosted {
        let mut warnings = self.warnings;
        let mut types: Vec<HostedType> = Vec::new();
        for name in &self.entities {
            if types.iter().any(|hosted| hosted.name == *name) {
                continue;
            }
            if let Some(why) = refused(name) {
                warnings.push(format!("actor type {name:?} is left out: {why}"));
                continue;
            }
            if types.len() == TYPES_MAX {
                warnings.push(format!("only the first {TYPES_MAX} actor types are hosted"));
                break;
            }
            let special = self.special.iter().find(|(names, _)| names.contains(name));
            let special = special.map(|(_, wishes)| wishes);
            types.push(settled(name, &self.common, special, disseminate_timeout));
        }
        Hosted { types, warnings }
    }
}

fn refused(name: &str) -> Option<String> {
    if name.starts_with(RESERVED) {
        return Some("the prefix is reserved for Dapr's workflow runtime".to_owned());
    }
    let checked = ActorKey::new("default", name, "id");
    checked.err().map(|error| error.to_string())
}

/// A type's settings: its own if it has any, else the common ones. Of what its own leave out, only
/// the drain is taken from the common ones, and everything else is Dapr's default, as in Dapr.
fn settled(
    name: &str,
    common: &Wishes,
    special: Option<&Wishes>,
    disseminate_timeout: Duration,
) -> HostedType {
    let own = special.unwrap_or(common);
    let drain = own.drain_timeout.or(common.drain_timeout);
    let reentrancy = match own.reentrancy {
        Some(Reentrancy::On { depth }) => Some(depth.unwrap_or(STACK_DEPTH)),
        Some(Reentrancy::Off) | None => None,
    };
    HostedType {
        name: name.to_owned(),
        idle_timeout: own.idle_timeout.unwrap_or(IDLE_TIMEOUT),
        drain_timeout: clamped(drain.unwrap_or(DRAIN_TIMEOUT), disseminate_timeout),
        drain_rebalanced: own
            .drain_rebalanced
            .or(common.drain_rebalanced)
            .unwrap_or(true),
        reentrancy,
    }
}

impl AppSettings {
    /// What an application may host of what it said; a warning names what it may not, and why.
    pub(super) fn admitted(&self, mut said: Hosted) -> Hosted {
        if self.actors == Actors::Ignored && !said.types.is_empty() {
            let names: Vec<&str> = said
                .types
                .iter()
                .map(|hosted| hosted.name.as_str())
                .collect();
            said.warnings.push(format!(
                "the application has actors ({}), and nobody can call them here: actors are switched off. Mark a state \
                 store with actorStateStore: \"true\" in a file of --resources-path, and name the cluster with \
                 --placement-host-address",
                names.join(", ")
            ));
            said.types.clear();
        }
        said
    }
}

fn clamped(drain: Duration, disseminate_timeout: Duration) -> Duration {
    if drain < disseminate_timeout {
        return drain;
    }
    (disseminate_timeout * 4 / 5).max(DRAIN_TIMEOUT)
}

#[cfg(test)]
mod tests;
