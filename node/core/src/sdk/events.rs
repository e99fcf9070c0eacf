//! Topics that actors of a type are subscribed to: `#[on_event(topic = "orders", id =
//! order.customer)]`.
//!
//! Every node that hosts the type takes part in one group for each method. An event becomes a
//! message to the actor that its content names, in the very entry that settles its offset: it
//! changes the actor's state exactly once.

use std::fmt;

use bytes::Bytes;

/// A method that runs for each event of a topic.
#[derive(Clone, Copy)]
pub struct EventHandler {
    /// The method.
    pub method: &'static str,
    /// Component that the topic is of.
    pub pubsub: &'static str,
    /// The topic.
    pub topic: &'static str,
    /// The actor that an event is for, from the event's data; else why there is none.
    pub actor_id: fn(&Bytes) -> Result<String, String>,
}

impl EventHandler {
    /// The group that takes the events for all actors of a type.
    #[must_use]
    pub fn group(&self, actor_type: &str) -> String {
        actor_group(actor_type, self.method)
    }
}

/// Name of the group that takes events for a method of all actors of a type.
#[must_use]
pub fn actor_group(actor_type: &str, method: &str) -> String {
    format!("actors/{actor_type}/{method}")
}

impl fmt::Debug for EventHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} <- {}/{}", self.method, self.pubsub, self.topic)
    }
}
