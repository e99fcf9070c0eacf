//! Who may publish to, and subscribe to, which topics of a component.
//!
//! Pure. In Dapr's order: what is not among the allowed topics is nobody's; a protected topic needs
//! a scope that names it; an application without a scope may do everything else, one with a scope
//! only what it names.

use std::collections::{BTreeMap, BTreeSet};

use crate::resources::Component;

/// What an application wants to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Act {
    /// Publish.
    Publish,
    /// Subscribe.
    Subscribe,
}

/// The rules of one component.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Scopes {
    /// Empty: all.
    allowed: BTreeSet<String>,
    protected: BTreeSet<String>,
    publishing: BTreeMap<String, BTreeSet<String>>,
    subscription: BTreeMap<String, BTreeSet<String>>,
}

impl Scopes {
    /// The rules in a component's metadata.
    #[must_use]
    pub fn of(component: &Component) -> Self {
        let value = |name| component.value(name).unwrap_or_default();
        Self {
            allowed: names(value("allowedTopics")),
            protected: names(value("protectedTopics")),
            publishing: by_app(value("publishingScopes")),
            subscription: by_app(value("subscriptionScopes")),
        }
    }

    /// Whether an application may.
    #[must_use]
    pub fn allow(&self, act: Act, app_id: &str, topic: &str) -> bool {
        if !self.allowed.is_empty() && !self.allowed.contains(topic) {
            return false;
        }
        let scopes = match act {
            Act::Publish => &self.publishing,
            Act::Subscribe => &self.subscription,
        };
        match scopes.get(app_id) {
            Some(topics) => topics.contains(topic),
            None => !self.protected.contains(topic),
        }
    }
}

/// `a, b`.
fn names(text: &str) -> BTreeSet<String> {
    let names = text.split(',').map(str::trim);
    names
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

/// `app1=a,b;app2=`.
fn by_app(text: &str) -> BTreeMap<String, BTreeSet<String>> {
    let apps = text.split(';').filter_map(|scope| scope.split_once('='));
    apps.map(|(app, topics)| (app.trim().to_owned(), names(topics)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scopes(pairs: &[(&str, &str)]) -> Scopes {
        let pairs = pairs.iter();
        let metadata = pairs.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Scopes::of(&Component {
            name: "bus".to_owned(),
            kind: "pubsub.in-memory".to_owned(),
            version: "v1".to_owned(),
            ignore_errors: false,
            metadata: metadata.collect(),
            scopes: Vec::new(),
            place: "bus.yaml:1".to_owned(),
        })
    }

    #[test]
    fn every_rule_in_its_order() {
        let allowed: &[(&str, &str)] = &[("allowedTopics", "a, b")];
        let protected: &[(&str, &str)] = &[("protectedTopics", "a")];
        let scoped: &[(&str, &str)] = &[("publishingScopes", "app1=a, b; app2=")];
        let both: &[(&str, &str)] = &[("protectedTopics", "a"), ("publishingScopes", "app1=a")];
        let narrow: &[(&str, &str)] = &[("allowedTopics", "b"), ("publishingScopes", "app1=a")];
        for (pairs, app, topic, wanted) in [
            (&[][..], "app1", "a", true),
            (allowed, "app1", "a", true),
            (allowed, "app1", "c", false),
            (protected, "app1", "a", false),
            (protected, "app1", "b", true),
            (scoped, "app1", "a", true),
            (scoped, "app1", "c", false),
            // Listed with nothing: nothing.
            (scoped, "app2", "a", false),
            // Not listed: everything.
            (scoped, "app3", "a", true),
            (both, "app1", "a", true),
            (both, "app3", "a", false),
            (narrow, "app1", "a", false),
        ] {
            let scopes = scopes(pairs);
            let found = scopes.allow(Act::Publish, app, topic);
            assert_eq!(found, wanted, "{pairs:?} {app} {topic}");
        }
    }

    #[test]
    fn publishing_and_subscribing_are_apart() {
        let scopes = scopes(&[
            ("publishingScopes", "app1="),
            ("subscriptionScopes", "app1=a"),
        ]);
        assert!(!scopes.allow(Act::Publish, "app1", "a"));
        assert!(scopes.allow(Act::Subscribe, "app1", "a"));
        assert!(!scopes.allow(Act::Subscribe, "app1", "b"));
    }
}
