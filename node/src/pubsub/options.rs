//! What a subscription's metadata asks of the bus, beyond topic and group. The component's metadata
//! is the default.
//!
//! Pure. Names: `maxDeliver`, `order` (`key`, `partition`, `none`), `startFrom` (`first`, `last`, a
//! time of RFC 3339), `maxInFlight`. Of a subscription for actors the order is always `partition`.

use ghostlight_protocol::calendar::parse_rfc3339;
use ghostlight_protocol::limits::TOPIC_PARTITIONS;
use ghostlight_protocol::topic::TopicName;

use super::actor_route::ActorRoute;
use super::metadata::find;
use super::registry::{Component, Owner, Server};
use super::wanted::Wanted;
use crate::topics::{Credits, Existing, GiveUp, Group, Order, Purpose, Start, Subscribe};

/// Into how many parts the credits of a subscription fall. Each topic partition of Ghostlight's own
/// topics has its share, and those of one publisher may all be in one.
pub(super) fn shares(component: &Component) -> u32 {
    match component.server {
        Server::Ghostlight => TOPIC_PARTITIONS.into(),
        Server::ItsSystem => 1,
    }
}

/// The request to the bus.
///
/// # Errors
/// An option that cannot be read: a sentence.
pub(super) fn subscribe(
    owner: &Owner,
    component: &Component,
    wanted: &Wanted,
    topic: TopicName,
    actor: Option<&ActorRoute>,
) -> Result<Subscribe, String> {
    let option =
        |name: &str| find(&wanted.metadata, name).or_else(|| find(&component.metadata, name));
    let whole = |name: &str| match option(name) {
        None => Ok(None),
        Some(text) => match text.parse::<u32>() {
            Ok(number) if number > 0 => Ok(Some(number)),
            _ => Err(format!("{name} is {text:?}. Write a whole number above 0")),
        },
    };
    // Where nothing comes again, the line publishes dead letters: then it alone ends an event.
    let redelivers = component.redelivers(&topic);
    let give_up = match &wanted.dead_letter_topic {
        Some(_) if !redelivers => GiveUp::Subscriber,
        Some(_) | None => GiveUp::Bus,
    };
    let max_deliver = whole("maxDeliver")?;
    let mut credits = Credits::default();
    if let Some(bulk) = wanted.bulk {
        let all = bulk.max_messages_count.saturating_mul(shares(component));
        credits.events = credits.events.max(all);
    }
    Ok(Subscribe {
        topic,
        group: actor.map_or_else(|| component.group(owner), |a| Group::Shared(a.group())),
        existing: Existing::Change,
        start: match option("startFrom") {
            None | Some("first") => Start::First,
            Some("last") => Start::Last,
            Some(text) => Start::Time(parse_rfc3339(text).ok_or_else(|| {
                format!("startFrom is {text:?}. Write first, last, or a time such as 2026-03-01T12:00:00Z")
            })?),
        },
        purpose: actor.map_or(Purpose::Handle, |_| Purpose::Forward),
        order: match option("order") {
            _ if actor.is_some() => Order::Partition,
            None | Some("key") => Order::Key,
            Some("partition") => Order::Partition,
            Some("none") => Order::None,
            Some(text) => {
                return Err(format!("order is {text:?}. Write key, partition or none"));
            }
        },
        credits: Credits {
            events: whole("maxInFlight")?.unwrap_or(credits.events),
            ..credits
        },
        max_deliver: max_deliver.filter(|_| give_up == GiveUp::Bus),
        give_up,
        dead_letter_topic: wanted
            .dead_letter_topic
            .clone()
            .filter(|_| redelivers),
        retry_pauses: None,
        metadata: wanted.metadata.clone(),
    })
}
