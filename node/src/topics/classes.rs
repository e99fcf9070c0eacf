//! Which topics of a component of ours are ephemeral, by its metadata.
//!
//! `ephemeralTopics` and `latchedTopics` are lists of names, separated by commas; one that ends
//! with `*` stands for all that begin so. Latched topics are ephemeral ones that keep their last
//! value. All others are durable. Every node must say the same of a topic: the publisher's node
//! decides where an event goes, the subscriber's where it is waited for.

use std::sync::Arc;

use ghostlight_protocol::topic::TopicName;

use super::{
    BulkPublish, Bus, BusFuture, Feature, Promise, Publish, PublishOutcome, Standing, Subscribe,
    SubscribeError, Subscription, TurnMessage,
};

/// Names of the lists.
pub(crate) const EPHEMERAL: &str = "ephemeralTopics";
/// See [`EPHEMERAL`].
pub(crate) const LATCHED: &str = "latchedTopics";

/// What a topic is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// Its events are kept, and delivered until they are acknowledged.
    Durable,
    /// Its events go to whoever listens.
    Ephemeral,
    /// The same, and its last one to who comes later.
    Latched,
}

/// The classes of a component's topics.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Classes {
    ephemeral: Vec<Pattern>,
    latched: Vec<Pattern>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Pattern {
    Name(String),
    Prefix(String),
}

impl Pattern {
    fn fits(&self, topic: &str) -> bool {
        match self {
            Self::Name(name) => name == topic,
            Self::Prefix(prefix) => topic.starts_with(prefix),
        }
    }
}

impl Classes {
    /// From the two lists of a component; absent: none.
    #[must_use]
    pub fn new(ephemeral: Option<&str>, latched: Option<&str>) -> Self {
        Self {
            ephemeral: patterns(ephemeral.unwrap_or_default()),
            latched: patterns(latched.unwrap_or_default()),
        }
    }

    /// What a topic is.
    #[must_use]
    pub fn of(&self, topic: &str) -> Class {
        let fits = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.fits(topic));
        match () {
            () if fits(&self.latched) => Class::Latched,
            () if fits(&self.ephemeral) => Class::Ephemeral,
            () => Class::Durable,
        }
    }
}

fn patterns(list: &str) -> Vec<Pattern> {
    let names = list.split(',').map(str::trim);
    let names = names.filter(|name| !name.is_empty());
    names
        .map(|name| match name.strip_suffix('*') {
            Some(prefix) => Pattern::Prefix(prefix.to_owned()),
            None => Pattern::Name(name.to_owned()),
        })
        .collect()
}

/// Ghostlight's own topics, of every class.
#[derive(Clone)]
pub struct OwnTopics {
    /// Durable ones.
    pub durable: Arc<dyn Bus>,
    /// Ephemeral ones.
    pub ephemeral: Arc<dyn Bus>,
    /// Ephemeral ones that keep their last value.
    pub latched: Arc<dyn Bus>,
}

impl OwnTopics {
    /// The bus of a component with these classes.
    #[must_use]
    pub fn with(&self, classes: Classes) -> Arc<dyn Bus> {
        Arc::new(Classed {
            own: self.clone(),
            classes,
        })
    }
}

/// Topics of several classes behind one component.
struct Classed {
    own: OwnTopics,
    classes: Classes,
}

impl Classed {
    fn bus(&self, topic: &TopicName) -> &Arc<dyn Bus> {
        match self.classes.of(topic.topic()) {
            Class::Durable => &self.own.durable,
            Class::Ephemeral => &self.own.ephemeral,
            Class::Latched => &self.own.latched,
        }
    }
}

impl Bus for Classed {
    fn publish(&self, publish: Publish) -> BusFuture<'_, PublishOutcome> {
        self.bus(&publish.topic).publish(publish)
    }

    fn bulk_publish(&self, bulk: BulkPublish) -> BusFuture<'_, Vec<PublishOutcome>> {
        self.bus(&bulk.topic).bulk_publish(bulk)
    }

    fn subscribe(
        &self,
        subscribe: Subscribe,
    ) -> BusFuture<'_, Result<Subscription, SubscribeError>> {
        self.bus(&subscribe.topic).subscribe(subscribe)
    }

    fn message(&self, publish: Publish) -> Option<Result<TurnMessage, String>> {
        self.bus(&publish.topic).message(publish)
    }

    fn features(&self) -> &'static [Feature] {
        self.own.durable.features()
    }

    fn promise(&self, topic: &TopicName) -> Promise {
        self.bus(topic).promise(topic)
    }

    fn standing(&self) -> Standing {
        self.own.durable.standing()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_say_what_a_topic_is() {
        let classes = Classes::new(Some(" prices/*, signals ,,"), Some("prices/last*"));
        for (topic, wanted) in [
            ("orders", Class::Durable),
            ("signals", Class::Ephemeral),
            ("signals2", Class::Durable),
            ("prices/", Class::Ephemeral),
            ("prices/eur", Class::Ephemeral),
            ("prices", Class::Durable),
            ("prices/last", Class::Latched),
            ("prices/last/eur", Class::Latched),
        ] {
            assert_eq!(classes.of(topic), wanted, "{topic}");
        }
        assert_eq!(Classes::new(None, None).of("x"), Class::Durable);
        assert_eq!(Classes::new(Some("*"), None).of("x"), Class::Ephemeral);
    }
}
