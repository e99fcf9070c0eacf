//! Topics, as the node's own process uses them: publish, bulk publish, subscribe.
//!
//! [`Bus`] is what every pub/sub component offers, ours and external ones alike
//! (`ghostlight-buses`); `NodeHandle` offers our durable topics, `ephemeral` those that are stored
//! nowhere, `classes` both behind one component. Everything here is about events as bytes:
//! envelopes, routing and the callbacks of applications belong to the API above. Errors are honest
//! as those of calls: `NotRun` certainly published nothing, `Unknown` may have.

mod classes;
mod keep;
pub mod look;
mod own;

pub use classes::{Class, Classes, OwnTopics};
pub use ghostlight_buses::{
    BulkEntry, BulkPublish, Bus, BusFuture, Content, Credits, Delivery, Ending, Event, EventName,
    Existing, Farewell, Feature, ForActor, GiveUp, Group, Order, Promise, Publish, PublishOutcome,
    Published, Purpose, Retention, Settlement, Standing, Start, Subscribe, SubscribeError,
    Subscription, SubscriptionFeed, TopicName, TurnMessage, Verdict,
};

pub(crate) use classes::{EPHEMERAL, LATCHED};
pub(crate) use keep::keep;
pub(crate) use own::{ended, given, stored};
