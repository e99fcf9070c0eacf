//! `tally`: counts the events of a topic, each exactly once.
//!
//! `{"of":"apples","amount":3}` published to the topic `tallies` of the component `samples` changes
//! the tally `apples`. Every tenth event makes one on the topic `tens`, which commits with what it
//! counted.

use crate::sdk::prelude::*;

/// A tally.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct Tally {
    /// Events that were counted.
    pub events: u64,
    /// Their amounts together.
    pub total: u64,
}

/// An event that is counted.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Tallied {
    /// Whose tally.
    pub of: String,
    /// By how much.
    pub amount: u64,
}

#[actor(name = "tally")]
impl Tally {
    /// Counts an event.
    #[on_event(pubsub = "samples", topic = "tallies", id = tallied.of)]
    fn count(&mut self, cx: &Turn, tallied: Tallied) {
        self.events += 1;
        self.total += tallied.amount;
        if self.events.is_multiple_of(10) {
            cx.publish(Topic::new("tens").of("samples"), self);
        }
    }

    /// How it stands.
    #[read]
    fn get(&self) -> Tally {
        self.clone()
    }
}
