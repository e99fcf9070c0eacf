//! What a node knows of ephemeral topics.

use std::collections::BTreeSet;

use ghostlight_core::ephemeral::TopicKey;
use ghostlight_protocol::topic::TopicName;
use serde::{Deserialize, Serialize};

use super::hub::{Hub, State};

/// An ephemeral topic, as one node knows it.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct EphemeralView {
    /// Its component.
    pub pubsub: String,
    /// Its name.
    pub topic: String,
    /// Subscribers on all nodes.
    pub subscribers: u64,
    /// Nodes that have some.
    pub nodes: u64,
    /// Events that the rings of those subscribers have let go, a second late from other nodes.
    pub dropped: u64,
    /// When the value that this node keeps of it was published, in milliseconds since the Unix
    /// epoch; absent: it keeps none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_value_ms: Option<u64>,
}

impl Hub {
    /// Topics of a namespace that somebody wants, or whose last value is kept here; by name.
    #[must_use]
    pub fn views(&self, namespace: &str) -> Vec<EphemeralView> {
        let state = self.lock();
        let wanted = state.interest.topics().chain(state.topics.keys());
        let all: BTreeSet<&TopicKey> = wanted.chain(state.latch.topics()).collect();
        let views = all.into_iter().filter_map(|topic| {
            let (_, name) = TopicKey::parse(topic.to_bytes())?;
            (name.namespace() == namespace).then(|| state.view(topic, &name))
        });
        let mut views: Vec<EphemeralView> = views.collect();
        views.sort_by(|a, b| (&a.pubsub, &a.topic).cmp(&(&b.pubsub, &b.topic)));
        views
    }

    /// Other nodes that want a topic.
    pub(super) fn reach(&self, name: &TopicName) -> usize {
        self.lock().interest.wanting(&TopicKey::of(name)).count()
    }

    /// One topic; `None`: nobody wants it, and no value of it is kept here.
    #[must_use]
    pub fn view(&self, name: &TopicName) -> Option<EphemeralView> {
        let state = self.lock();
        let topic = TopicKey::of(name);
        let view = state.view(&topic, name);
        (view.subscribers > 0 || view.last_value_ms.is_some()).then_some(view)
    }
}

impl State {
    fn view(&self, topic: &TopicKey, name: &TopicName) -> EphemeralView {
        let mut view = EphemeralView {
            pubsub: name.pubsub().to_owned(),
            topic: name.topic().to_owned(),
            ..EphemeralView::default()
        };
        if let Some(here) = self.topics.get(topic) {
            view.subscribers += here.subscribers.len() as u64;
            view.nodes += 1;
            view.dropped += here.dropped;
        }
        for (_, wants) in self.interest.wanting(topic) {
            view.subscribers += u64::from(wants.subscribers);
            view.nodes += 1;
            view.dropped += wants.dropped;
        }
        let held = self.latch.last(topic);
        view.last_value_ms = held.map(|held| held.stamp.published.0);
        view
    }
}
