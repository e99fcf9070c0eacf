//! Topics, as the node's own process uses them: publish, bulk publish, subscribe.
//!
//! [`Bus`] is what every pub/sub component offers, ours and external ones alike; `NodeHandle` offers ours.
//! Everything here is about events as bytes: envelopes, routing and the callbacks of applications belong to the
//! API above. Errors are honest as those of calls: `NotRun` certainly published nothing, `Unknown` may have.

mod bus;
mod event;
pub mod look;
mod own;
mod subscription;

pub use bus::{Bus, BusFuture, Feature, SubscribeError};
pub use event::{BulkEntry, BulkPublish, Event, Publish, PublishOutcome, Published, Retention};
pub use subscription::{
    Content, Credits, Delivery, Group, Settlement, Start, Subscribe, Subscription,
    SubscriptionFeed, Verdict,
};

pub(crate) use own::{ended, given};

pub use ghostlight_protocol::topic::{Order, TopicName};
