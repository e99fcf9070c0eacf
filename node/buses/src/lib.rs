#![doc = include_str!("../README.md")]

mod bus;
mod event;
mod subscription;

pub use bus::{Bus, BusFuture, Feature, SubscribeError};
pub use event::{BulkEntry, BulkPublish, Event, Publish, PublishOutcome, Published, Retention};
pub use subscription::{
    Content, Credits, Delivery, Group, Settlement, Start, Subscribe, Subscription,
    SubscriptionFeed, Verdict,
};

pub use ghostlight_protocol::topic::{ForActor, Order, Purpose, TopicName};
