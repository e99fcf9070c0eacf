#![doc = include_str!("../README.md")]

mod bus;
pub mod clock;
mod component;
mod event;
mod external;
mod jetstream;
#[cfg(feature = "kafka")]
mod kafka;
mod keeper;
mod mqtt;
mod outcomes;
mod pump;
mod rabbitmq;
mod redis;
mod settings;
mod source;
mod subscription;
mod tls;

pub use bus::{Bus, BusFuture, Feature, Promise, Standing, SubscribeError, TurnMessage};
pub use component::{Declared, KINDS, Opened, open};
pub use event::{
    BulkEntry, BulkPublish, Event, EventName, Publish, PublishOutcome, Published, Retention,
};
pub use source::{Source, Taken};
pub use subscription::{
    Content, Credits, Delivery, Ending, Existing, Farewell, GiveUp, Group, Settlement, Start,
    Subscribe, Subscription, SubscriptionFeed, Verdict,
};

pub use ghostlight_protocol::topic::{ForActor, Order, Purpose, TopicName};
