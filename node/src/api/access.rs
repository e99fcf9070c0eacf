//! Which groups of Dapr's API a Configuration lets through (`spec.api.allowed`, `spec.api.denied`).
//!
//! Dapr's rules: what is denied is refused; where anything is allowed, all else is refused too. A
//! rule counts for the protocol that it names, and for none without one. It names a group
//! (`actors`, `v1`); over HTTP, as before there were groups, also the beginning of a path
//! (`actors`, `v1.0`). Health is always answered. Ours: paths below `/ghostlight/v1` belong to the
//! group of actors, because they read and delete these. Over gRPC a list of allowed groups that
//! names no group of Dapr's refuses everything; in Dapr it refuses nothing.

use hyper::StatusCode;

use super::error_map::Answer;
use crate::resources::{ApiRule, Configuration};

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Access {
    http: Rules,
    grpc: Rules,
}

/// The rules of one protocol.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Rules {
    allowed: Vec<ApiRule>,
    denied: Vec<ApiRule>,
}

/// A group of the API.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Group {
    name: &'static str,
    version: &'static str,
}

/// What one path of HTTP is.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Endpoint {
    group: Group,
    /// Version and route as Dapr writes them, such as `v1.0/actors/{actorType}/{actorId}/state`.
    route: &'static str,
}

impl Access {
    /// What this configuration lets through.
    #[must_use]
    pub fn new(configuration: &Configuration) -> Self {
        let rules = |protocol: &str| {
            let of = |rules: &[ApiRule]| {
                let of_it = rules.iter().filter(|rule| rule.protocol == protocol);
                of_it.cloned().collect()
            };
            Rules {
                allowed: of(&configuration.allowed),
                denied: of(&configuration.denied),
            }
        };
        Self {
            http: rules("http"),
            grpc: rules("grpc"),
        }
    }

    /// The answer to a path that is not let through; `None` to any other. Health is not asked
    /// about.
    #[must_use]
    pub fn refuses_path(&self, parts: &[&str]) -> Option<Answer> {
        let endpoint = endpoint(parts)?;
        let matches = |rule: &ApiRule| {
            let beginning = format!("{}/{}", rule.version, rule.name);
            endpoint.group.is(rule) || endpoint.route.starts_with(&beginning)
        };
        self.http
            .refuse(matches)
            .then(|| Answer::no_route(StatusCode::NOT_FOUND, unavailable(endpoint.group)))
    }

    /// The answer to a method of Dapr's service that is not let through; `None` to any other.
    #[must_use]
    pub fn refuses_method(&self, method: &str) -> Option<Answer> {
        let group = group(method)?;
        self.grpc.refuse(|rule| group.is(rule)).then(|| {
            let message = format!("Not Implemented: {}", unavailable(group));
            Answer::no_route(StatusCode::NOT_IMPLEMENTED, message)
        })
    }
}

fn unavailable(group: Group) -> String {
    let Group { name, version } = group;
    format!(
        "requested endpoint is not available: the Configuration's spec.api leaves {name} {version} out"
    )
}

impl Rules {
    fn refuse(&self, matches: impl Fn(&ApiRule) -> bool) -> bool {
        let left_out = !self.allowed.is_empty() && !self.allowed.iter().any(&matches);
        left_out || self.denied.iter().any(matches)
    }
}

impl Group {
    const fn v1(name: &'static str) -> Self {
        let version = "v1";
        Self { name, version }
    }

    const fn v1_alpha1(name: &'static str) -> Self {
        let version = "v1alpha1";
        Self { name, version }
    }

    fn is(self, rule: &ApiRule) -> bool {
        (self.name, self.version) == (rule.name.as_str(), rule.version.as_str())
    }
}

/// What a path asks for; `None`: nothing that is here.
fn endpoint(parts: &[&str]) -> Option<Endpoint> {
    let of = |group, route| Some(Endpoint { group, route });
    let actors = Group::v1("actors");
    match parts {
        ["v1.0", "actors", _, _, what, ..] => of(
            actors,
            match *what {
                "state" => "v1.0/actors/{actorType}/{actorId}/state",
                "reminders" => "v1.0/actors/{actorType}/{actorId}/reminders/{name}",
                "timers" => "v1.0/actors/{actorType}/{actorId}/timers/{name}",
                _ => "v1.0/actors/{actorType}/{actorId}/method/{method}",
            },
        ),
        ["ghostlight", "v1", ..] => of(actors, "v1.0/actors/"),
        ["v1.0-alpha1", "publish", "bulk", ..] => of(
            Group::v1_alpha1("publish"),
            "v1.0-alpha1/publish/bulk/{pubsubname}/*",
        ),
        ["v1.0", "publish", "bulk", _, _, ..] => {
            of(Group::v1("publish"), "v1.0/publish/bulk/{pubsubname}/*")
        }
        ["v1.0", "publish", ..] => of(Group::v1("publish"), "v1.0/publish/{pubsubname}/*"),
        ["v1.0", "metadata"] => of(Group::v1("metadata"), "v1.0/metadata"),
        ["v1.0", "metadata", _] => of(Group::v1("metadata"), "v1.0/metadata/{key}"),
        ["v1.0", "shutdown"] => of(Group::v1("shutdown"), "v1.0/shutdown"),
        _ => None,
    }
}

/// What a method of Dapr's service belongs to; `None`: it is not here.
fn group(method: &str) -> Option<Group> {
    Some(match method {
        "PublishEvent" | "BulkPublishEvent" => Group::v1("publish"),
        "BulkPublishEventAlpha1" => Group::v1_alpha1("publish"),
        "RegisterActorTimer"
        | "UnregisterActorTimer"
        | "RegisterActorReminder"
        | "GetActorReminder"
        | "UnregisterActorReminder"
        | "UnregisterActorRemindersByType"
        | "ListActorReminders"
        | "GetActorState"
        | "ExecuteActorStateTransaction"
        | "InvokeActor" => Group::v1("actors"),
        "SubscribeActorEventsAlpha1" => Group::v1_alpha1("actors"),
        "GetMetadata" | "SetMetadata" => Group::v1("metadata"),
        "Shutdown" => Group::v1("shutdown"),
        "SubscribeTopicEventsAlpha1" => Group::v1_alpha1("subscribe"),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::grpc::METHODS;

    /// `actors/v1/http actors/v1/grpc`: one rule a word.
    fn rules(text: &str) -> Vec<ApiRule> {
        let rule = |word: &str| {
            let mut parts = word.rsplitn(3, '/').map(str::to_owned);
            let mut next = || parts.next().unwrap_or_default();
            let (protocol, version, name) = (next(), next(), next());
            ApiRule {
                name,
                version,
                protocol,
            }
        };
        text.split_whitespace().map(rule).collect()
    }

    fn access(allowed: &str, denied: &str) -> Access {
        Access::new(&Configuration {
            allowed: rules(allowed),
            denied: rules(denied),
            ..Configuration::default()
        })
    }

    #[test]
    fn paths_that_are_let_through() {
        const STATE: &str = "v1.0/actors/T/i/state";
        const ACTORS: &str = "actors/v1/http";
        for (allowed, denied, path, refused) in [
            ("", "", STATE, false),
            (ACTORS, "", STATE, false),
            (ACTORS, "", "v1.0/publish/p/t", true),
            (ACTORS, "", "v1.0/metadata", true),
            (ACTORS, "", "v1.0/shutdown", true),
            (ACTORS, "", "ghostlight/v1/actors/T", false),
            ("", ACTORS, STATE, true),
            ("", ACTORS, "v1.0/actors/T/i/method/a/b", true),
            ("", ACTORS, "ghostlight/v1/actors/T", true),
            ("", ACTORS, "v1.0/publish/p/t", false),
            // What is denied is refused also where it is allowed.
            (ACTORS, ACTORS, STATE, true),
            // Rules of the other protocol, and of none.
            ("publish/v1/grpc", "actors/v1/grpc", STATE, false),
            ("", "actors/v1/", STATE, false),
            // One that names what is not here still lets nothing else through.
            ("state/v1/http", "", STATE, true),
            // Versions of groups.
            ("", "publish/v1alpha1/http", "v1.0/publish/p/t", false),
            (
                "",
                "publish/v1alpha1/http",
                "v1.0-alpha1/publish/bulk/p/t",
                true,
            ),
            ("", "publish/v1/http", "v1.0/publish/bulk/p/t", true),
            // Beginnings of paths.
            ("", "actors/v1.0/http", STATE, true),
            ("", "publish/bulk/v1.0/http", "v1.0/publish/bulk/p/t", true),
            ("", "publish/bulk/v1.0/http", "v1.0/publish/p/t", false),
            ("metadata/v1.0/http", "", "v1.0/metadata/key", false),
            // Nothing of ours: others say what it is.
            (ACTORS, "", "v1.0/invoke/a/method/m", false),
        ] {
            let parts: Vec<&str> = path.split('/').collect();
            let answer = access(allowed, denied).refuses_path(&parts);
            assert_eq!(
                answer.map(|answer| answer.status()),
                refused.then_some(StatusCode::NOT_FOUND),
                "+{allowed} -{denied} {path}"
            );
        }
    }

    #[test]
    fn methods_that_are_let_through() {
        for (allowed, denied, method, refused) in [
            ("", "", "InvokeActor", false),
            ("actors/v1/grpc", "", "InvokeActor", false),
            ("actors/v1/grpc", "", "SubscribeActorEventsAlpha1", true),
            ("actors/v1/grpc", "", "PublishEvent", true),
            ("", "actors/v1/grpc", "InvokeActor", true),
            ("", "actors/v1.0/grpc", "InvokeActor", false),
            ("", "actors/v1/http", "InvokeActor", false),
            (
                "",
                "subscribe/v1alpha1/grpc",
                "SubscribeTopicEventsAlpha1",
                true,
            ),
            ("state/v1/grpc", "", "GetMetadata", true),
        ] {
            let answer = access(allowed, denied).refuses_method(method);
            let code = answer.map(|answer| answer.grpc_code());
            let wanted = refused.then_some(tonic::Code::Unimplemented);
            assert_eq!(code, wanted, "+{allowed} -{denied} {method}");
        }
    }

    #[test]
    fn every_method_has_a_group() {
        for method in METHODS {
            assert!(group(method).is_some(), "{method}");
        }
    }
}
