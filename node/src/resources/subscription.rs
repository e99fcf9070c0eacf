//! Declared subscriptions: both versions of the file become one form.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::Error;
use super::document::Document;

/// A declared subscription.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Subscription {
    /// Its name.
    pub name: String,
    /// Name of the component.
    pub pubsub: String,
    /// The topic.
    pub topic: String,
    /// Expression and path, in order. An empty expression matches everything.
    pub rules: Vec<(String, String)>,
    /// Path of what no rule matches; `None`: it is dropped.
    pub default_path: Option<String>,
    /// Its metadata.
    pub metadata: BTreeMap<String, String>,
    /// Where dead letters go.
    pub dead_letter_topic: Option<String>,
    /// Delivery in batches.
    pub bulk: Option<BulkSubscribe>,
    /// Applications that it is for; empty: all.
    pub scopes: Vec<String>,
    /// File and line.
    pub place: String,
}

/// Delivery in batches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BulkSubscribe {
    /// Most events of a batch.
    pub max_messages_count: u32,
    /// How long a batch is gathered, in milliseconds.
    pub max_await_duration_ms: u32,
}

impl BulkSubscribe {
    /// With Dapr's defaults for what is not said, or zero.
    #[must_use]
    pub fn of(count: Option<u32>, await_ms: Option<u32>) -> Self {
        Self {
            max_messages_count: count.filter(|count| *count > 0).unwrap_or(100),
            max_await_duration_ms: await_ms.filter(|ms| *ms > 0).unwrap_or(1_000),
        }
    }
}

#[derive(Deserialize)]
struct File {
    spec: Spec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(default)]
    pubsubname: String,
    #[serde(default)]
    topic: String,
    #[serde(default)]
    route: Option<String>,
    #[serde(default)]
    routes: Option<Routes>,
    #[serde(default)]
    metadata: Option<BTreeMap<String, String>>,
    #[serde(default)]
    dead_letter_topic: Option<String>,
    #[serde(default)]
    bulk_subscribe: Option<Bulk>,
}

#[derive(Deserialize)]
struct Routes {
    #[serde(default)]
    rules: Option<Vec<Rule>>,
    #[serde(default)]
    default: Option<String>,
}

#[derive(Deserialize)]
struct Rule {
    #[serde(rename = "match", default)]
    expression: String,
    #[serde(default)]
    path: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bulk {
    #[serde(default)]
    enabled: bool,
    #[serde(default)]
    max_messages_count: Option<i64>,
    #[serde(default)]
    max_await_duration_ms: Option<i64>,
}

fn filled(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

impl Subscription {
    pub(super) fn read(document: &Document, warnings: &mut Vec<String>) -> Result<Self, Error> {
        let name = document.name()?;
        let File { spec } = document.decode()?;
        for (field, value) in [("pubsubname", &spec.pubsubname), ("topic", &spec.topic)] {
            if value.is_empty() {
                return Err(document.error(format!("subscription {name} has no spec.{field}")));
            }
        }
        document.warn_unknown(
            &["spec"],
            &[
                "pubsubname",
                "topic",
                "route",
                "routes",
                "metadata",
                "deadLetterTopic",
                "bulkSubscribe",
            ],
            warnings,
        );
        let (rules, default_path) = match (document.api_version(), spec.routes) {
            ("dapr.io/v1alpha1", _) => (Vec::new(), filled(spec.route)),
            (_, Some(routes)) => {
                let rules = routes.rules.unwrap_or_default().into_iter();
                let rules = rules.map(|rule| (rule.expression, rule.path)).collect();
                (rules, filled(routes.default))
            }
            (_, None) => (Vec::new(), filled(spec.route)),
        };
        let metadata = spec.metadata.unwrap_or_default();
        let for_actors = metadata
            .keys()
            .any(|name| name.eq_ignore_ascii_case("actorType"));
        if rules.is_empty() && default_path.is_none() && !for_actors {
            return Err(document.error(format!(
                "subscription {name} has no route: the application could not be asked. Write spec.routes.default, or \
                 metadata.actorType for events that go to actors"
            )));
        }
        let bulk = spec.bulk_subscribe.filter(|bulk| bulk.enabled);
        Ok(Self {
            name,
            pubsub: spec.pubsubname,
            topic: spec.topic,
            rules,
            default_path,
            metadata,
            dead_letter_topic: filled(spec.dead_letter_topic),
            bulk: bulk.map(|bulk| {
                let number = |given: Option<i64>| given.and_then(|n| u32::try_from(n).ok());
                let (count, time) = (bulk.max_messages_count, bulk.max_await_duration_ms);
                BulkSubscribe::of(number(count), number(time))
            }),
            scopes: document.scopes(),
            place: document.place(),
        })
    }
}
