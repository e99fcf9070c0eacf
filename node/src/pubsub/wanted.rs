//! What an application wants to subscribe to, from whatever source, in one form; and which source
//! wins.
//!
//! Pure. Sources: files, the application's answer to `GET /dapr/subscribe` or
//! `ListTopicSubscriptions`, streams.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::metadata::{Metadata, find};
use crate::api::sidecar::{SubscriptionOrigin, SubscriptionView};
use crate::resources::{BulkSubscribe, Subscription};

/// Most subscriptions that one application may ask for.
pub const WANTED_MAX: usize = 4_096;

/// One subscription as it is wanted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wanted {
    /// Name of the component.
    pub pubsub: String,
    /// The topic.
    pub topic: String,
    /// Its metadata.
    pub metadata: Metadata,
    /// Expression and path, in order.
    pub rules: Vec<(String, String)>,
    /// Path of what no rule matches.
    pub default_path: Option<String>,
    /// Where dead letters go.
    pub dead_letter_topic: Option<String>,
    /// Delivery in batches.
    pub bulk: Option<BulkSubscribe>,
    /// Who wants it.
    pub origin: SubscriptionOrigin,
    /// Where it was read, for messages.
    pub place: String,
}

impl Wanted {
    /// As metadata shows it.
    #[must_use]
    pub fn view(&self) -> SubscriptionView {
        let default = self.default_path.iter();
        let default = default.map(|path| (String::new(), path.clone()));
        SubscriptionView {
            pubsub: self.pubsub.clone(),
            topic: self.topic.clone(),
            metadata: self.metadata.clone(),
            rules: self.rules.iter().cloned().chain(default).collect(),
            dead_letter_topic: self.dead_letter_topic.clone().unwrap_or_default(),
            origin: self.origin,
        }
    }
}

impl Wanted {
    /// Whether two say the same, wherever they stand.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let placeless = Self {
            place: other.place.clone(),
            ..self.clone()
        };
        placeless == *other
    }

    /// One subscription of an application has it. Those for actors stand beside that of the
    /// application itself.
    fn identity(&self) -> [&str; 4] {
        let said = |name| find(&self.metadata, name).unwrap_or_default();
        [
            &self.pubsub,
            &self.topic,
            said("actorType"),
            said("actorMethod"),
        ]
    }
}

impl From<&Subscription> for Wanted {
    fn from(declared: &Subscription) -> Self {
        Self {
            pubsub: declared.pubsub.clone(),
            topic: declared.topic.clone(),
            metadata: declared.metadata.clone(),
            rules: declared.rules.clone(),
            default_path: declared.default_path.clone(),
            dead_letter_topic: declared.dead_letter_topic.clone(),
            bulk: declared.bulk,
            origin: SubscriptionOrigin::Declarative,
            place: declared.place.clone(),
        }
    }
}

/// What runs: the first declared one of a topic, unless the application itself says something about
/// that topic. Of what it says, the last counts. A topic keeps its place.
#[must_use]
pub fn merged(declared: &[Wanted], programmatic: &[Wanted]) -> Vec<Wanted> {
    let mut all: Vec<Wanted> = Vec::new();
    let at = |all: &[Wanted], wanted: &Wanted| {
        all.iter()
            .position(|known| known.identity() == wanted.identity())
    };
    for wanted in declared {
        if at(&all, wanted).is_none() {
            all.push(wanted.clone());
        }
    }
    for wanted in programmatic {
        match at(&all, wanted) {
            Some(place) => all[place] = wanted.clone(),
            None => all.push(wanted.clone()),
        }
    }
    all
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "lowercase", default)]
struct Item {
    pubsubname: String,
    topic: String,
    route: Option<String>,
    routes: Option<Value>,
    metadata: Option<serde_json::Map<String, Value>>,
    #[serde(rename = "deadlettertopic")]
    dead_letter_topic: Option<String>,
    #[serde(rename = "bulksubscribe")]
    bulk_subscribe: Option<Value>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Routes {
    rules: Option<Vec<Value>>,
    default: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Rule {
    #[serde(rename = "match")]
    expression: String,
    path: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Bulk {
    enabled: bool,
    #[serde(rename = "maxmessagescount")]
    max_messages_count: Option<i64>,
    #[serde(rename = "maxawaitdurationms")]
    max_await_duration_ms: Option<i64>,
}

/// Reads an object as Go does: names in whatever case, and null as if it were not there.
fn read<T: DeserializeOwned>(value: Value) -> serde_json::Result<T> {
    let Value::Object(fields) = value else {
        return serde_json::from_value(value);
    };
    let there = fields.into_iter().filter(|(_, value)| !value.is_null());
    let lowered = there.map(|(name, value)| (name.to_lowercase(), value));
    serde_json::from_value(Value::Object(lowered.collect()))
}

/// Reads the answer to `GET /dapr/subscribe`; an empty one is none.
///
/// # Errors
/// It is no list of subscriptions: a sentence that follows a colon.
pub fn parse(body: &[u8], app_id: &str) -> Result<Vec<Wanted>, String> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(Vec::new());
    }
    let place = format!("GET /dapr/subscribe of {app_id}");
    let none = |error: serde_json::Error| format!("it is no list ({error})");
    let items: Option<Vec<Value>> = serde_json::from_slice(body).map_err(none)?;
    let items = items.unwrap_or_default();
    if items.len() > WANTED_MAX {
        return Err(format!(
            "it has {} subscriptions, at most {WANTED_MAX} are allowed",
            items.len()
        ));
    }
    let items = items.into_iter().map(|item| {
        let item: Item = read(item).map_err(none)?;
        item.wanted(&place)
    });
    items.collect()
}

fn filled(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

impl Item {
    fn wanted(self, place: &str) -> Result<Wanted, String> {
        let wrong = |error| format!("routes of topic {:?}: {error}", self.topic);
        let routes: Routes = match self.routes {
            // Some SDKs write an empty list where there are none.
            None | Some(Value::Null | Value::Array(_)) => Routes::default(),
            Some(routes) => read(routes).map_err(wrong)?,
        };
        let rules = routes.rules.unwrap_or_default().into_iter().map(read);
        let rules: Vec<Rule> = rules.collect::<Result<_, _>>().map_err(wrong)?;
        let bulk = self.bulk_subscribe.map(read::<Bulk>).transpose();
        let bulk = bulk.map_err(|error| format!("bulkSubscribe of {:?}: {error}", self.topic))?;
        let text = |value: Value| match value {
            Value::String(text) => text,
            other => other.to_string(),
        };
        let metadata = self.metadata.unwrap_or_default().into_iter();
        Ok(Wanted {
            pubsub: self.pubsubname,
            topic: self.topic,
            metadata: metadata.map(|(name, value)| (name, text(value))).collect(),
            rules: rules
                .into_iter()
                .map(|rule| (rule.expression, rule.path))
                .collect(),
            default_path: filled(routes.default).or_else(|| filled(self.route)),
            dead_letter_topic: filled(self.dead_letter_topic),
            bulk: bulk.filter(|bulk| bulk.enabled).map(|bulk| {
                let number = |given: Option<i64>| given.and_then(|n| u32::try_from(n).ok());
                let (count, time) = (bulk.max_messages_count, bulk.max_await_duration_ms);
                BulkSubscribe::of(number(count), number(time))
            }),
            origin: SubscriptionOrigin::Programmatic,
            place: place.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn wanted(topic: &str, path: &str, origin: SubscriptionOrigin) -> Wanted {
        Wanted {
            pubsub: "bus".to_owned(),
            topic: topic.to_owned(),
            metadata: Metadata::new(),
            rules: Vec::new(),
            default_path: Some(path.to_owned()),
            dead_letter_topic: None,
            bulk: None,
            origin,
            place: "x".to_owned(),
        }
    }

    #[test]
    fn who_wins() {
        use SubscriptionOrigin::{Declarative, Programmatic};
        let declared = [("a", "/1"), ("b", "/2"), ("a", "/3")];
        let programmatic = [("b", "/4"), ("c", "/5"), ("b", "/6")];
        let declared = declared.map(|(topic, path)| wanted(topic, path, Declarative));
        let programmatic = programmatic.map(|(topic, path)| wanted(topic, path, Programmatic));
        let found = merged(&declared, &programmatic);
        let found: Vec<_> = found
            .iter()
            .map(|one| (one.topic.as_str(), one.default_path.as_deref().unwrap()))
            .collect();
        assert_eq!(found, [("a", "/1"), ("b", "/6"), ("c", "/5")]);
    }

    #[test]
    fn every_form_of_the_answer() {
        let body = json!([
            {"pubsubname": "bus", "topic": "a", "route": "orders", "deadLetterTopic": ""},
            {"pubsubname": "bus", "topic": "b", "routes": {"default": "/d", "rules": [
                {"match": "event.type == 'x'", "path": "/x"}]}, "deadLetterTopic": "dead",
                "metadata": {"rawPayload": "true", "n": 1},
                "bulkSubscribe": {"enabled": true, "maxMessagesCount": 5}},
            {"pubsubname": "bus", "topic": "c", "route": "/r", "routes": [],
                "bulkSubscribe": {"enabled": false}},
            {"pubsubname": "bus", "topic": "d"},
        ]);
        let found = parse(body.to_string().as_bytes(), "shop").unwrap();
        let paths: Vec<_> = found
            .iter()
            .map(|one| one.default_path.as_deref())
            .collect();
        assert_eq!(paths, [Some("orders"), Some("/d"), Some("/r"), None]);
        assert_eq!(found[0].dead_letter_topic, None);
        assert_eq!(found[1].dead_letter_topic.as_deref(), Some("dead"));
        assert_eq!(found[1].metadata["n"], "1");
        assert_eq!(found[1].bulk, Some(BulkSubscribe::of(Some(5), None)));
        assert_eq!(found[2].bulk, None);
        let view = found[1].view();
        let rules = [("event.type == 'x'", "/x"), ("", "/d")];
        let rules = rules.map(|(rule, path)| (rule.to_owned(), path.to_owned()));
        assert_eq!(view.rules, rules);
    }

    /// Dapr reads it with Go's decoder.
    #[test]
    fn one_odd_item_takes_nothing_from_the_others() {
        let body = json!([
            {"PubsubName": "bus", "TOPIC": "a", "Route": "/a", "deadLetterTopic": null},
            {"pubsubname": null, "topic": null, "routes": {"Default": "/b", "RULES": [
                {"Match": "true", "PATH": "/x"}]}},
            {"pubsubname": "bus", "topic": "c", "route": "/c",
                "bulkSubscribe": {"Enabled": true, "maxMessagesCount": -1}},
        ]);
        let found = parse(body.to_string().as_bytes(), "shop").unwrap();
        let topics: Vec<_> = found.iter().map(|one| one.topic.as_str()).collect();
        assert_eq!(topics, ["a", "", "c"]);
        assert_eq!(found[0].default_path.as_deref(), Some("/a"));
        assert_eq!(found[1].rules, [("true".to_owned(), "/x".to_owned())]);
        assert_eq!(found[2].bulk, Some(BulkSubscribe::of(None, None)));
    }

    #[test]
    fn no_subscriptions_and_none_at_all() {
        for none in ["", "  ", "[]", "null"] {
            assert_eq!(parse(none.as_bytes(), "shop"), Ok(Vec::new()), "{none}");
        }
        for wrong in ["{", "{}", "7", r#"[{"topic": 7}]"#, r#"[{"routes": 7}]"#] {
            assert!(parse(wrong.as_bytes(), "shop").is_err(), "{wrong}");
        }
    }
}
