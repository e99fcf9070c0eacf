//! Publishing several events at once: each with its own metadata, each with its own end.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use ghostlight_protocol::topic::TopicName;

use super::PubSub;
use super::envelope::Body;
use super::metadata::Metadata;
use super::policy::Attempt;
use super::publish::{Beside, BusError, PublishError, cut_off, judged, message, named, read};
use super::registry::Component;
use crate::api::error_map::pubsub::failed_with;
use crate::api::resilience::Transport;
use crate::topics::{BulkEntry, BulkPublish, Event, Publish, TurnMessage};

/// Dapr's text about ids of entries.
pub const ENTRY_ID: &str = "entryId is duplicated or not present for entry";

/// A name is of one append, and a bulk has several: to ignore it would be a promise that is not
/// kept.
pub const ONE_NAME: &str =
    "Idempotency-Key names a single publish. Publish the events one by one, each with its own";

/// One event of a bulk.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Entry {
    /// Its name in the request and the answer.
    pub id: String,
    /// Its payload.
    pub data: Bytes,
    /// The payload's media type; empty: none was said.
    pub content_type: String,
    /// Its metadata, which wins over the request's.
    pub metadata: Metadata,
}

/// An entry that was not published, and why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failed {
    /// The entry.
    pub id: String,
    /// What happened.
    pub error: BusError,
}

impl PubSub {
    /// Publishes all entries; those that failed come back.
    ///
    /// # Errors
    /// An entry that cannot be published at all: then none was.
    pub async fn bulk_publish(
        &self,
        component: &Arc<Component>,
        topic: &str,
        entries: Vec<Entry>,
        beside: &Beside,
    ) -> Result<Vec<Failed>, PublishError> {
        check(&entries, beside)?;
        let mut waiting = Vec::with_capacity(entries.len());
        for entry in entries {
            waiting.push(self.prepared(component, topic, entry, beside)?);
        }
        let topic = self.allowed(component, topic)?;
        Ok(hand_over(component, &topic, waiting, beside.over).await)
    }

    /// The messages by which several events leave with what a turn commits, all or none.
    ///
    /// # Errors
    /// As [`PubSub::bulk_publish`], and as [`PubSub::message`].
    pub fn messages(
        &self,
        component: &Component,
        topic: &str,
        entries: Vec<Entry>,
        beside: &Beside,
    ) -> Result<Vec<TurnMessage>, PublishError> {
        check(&entries, beside)?;
        let name = self.allowed(component, topic)?;
        let messages = entries.into_iter().map(|entry| {
            let (_, entry) = self.prepared(component, topic, entry, beside)?;
            let publish = Publish {
                topic: name.clone(),
                event: entry.event,
                dedup: None,
                name: entry.name,
                ttl: entry.ttl,
                timeout: None,
                retention: None,
            };
            message(component, publish)
        });
        messages.collect()
    }

    fn prepared(
        &self,
        component: &Component,
        topic: &str,
        entry: Entry,
        beside: &Beside,
    ) -> Result<(String, BulkEntry), PublishError> {
        let mut attributes = beside.metadata.clone();
        attributes.extend(entry.metadata);
        let wishes = read(&attributes)?;
        let body = Body {
            data: &entry.data,
            content_type: &entry.content_type,
        };
        let (data, name) =
            self.enveloped(component, topic, body, beside, &wishes, &mut attributes)?;
        let event: Event = self.event(data, &entry.content_type, &wishes, attributes);
        let (name, ttl) = (named(component, name), wishes.ttl);
        Ok((entry.id, BulkEntry { event, name, ttl }))
    }
}

/// Each entry has an id of its own, and none has the name that a single publish may have.
fn check(entries: &[Entry], beside: &Beside) -> Result<(), PublishError> {
    if beside.dedup.is_some() {
        return Err(PublishError::Entries(ONE_NAME.to_owned()));
    }
    let mut known = BTreeSet::new();
    let mut entries = entries.iter();
    match entries.all(|entry| !entry.id.is_empty() && known.insert(&entry.id)) {
        true => Ok(()),
        false => Err(PublishError::Entries(ENTRY_ID.to_owned())),
    }
}

/// Publishes under the component's policy: what failed is repeated, what did not is not.
async fn hand_over(
    component: &Arc<Component>,
    topic: &TopicName,
    entries: Vec<(String, BulkEntry)>,
    over: Transport,
) -> Vec<Failed> {
    let lost = Vec::new();
    let waiting = Arc::new(std::sync::Mutex::new(Waits { entries, lost }));
    let attempt = || -> BoxFuture<'_, Attempt<Vec<Failed>>> {
        let waiting = Arc::clone(&waiting);
        Box::pin(async move { once(component, topic, &waiting, over).await })
    };
    let cut = |cut| {
        let waiting = lock(&waiting);
        let cut = waiting.entries.iter().map(|(id, _)| Failed {
            id: id.clone(),
            error: cut_off(cut),
        });
        waiting.lost.iter().cloned().chain(cut).collect()
    };
    component.outbound.run(attempt, cut).await
}

/// What is tried again, and what never will be published.
#[derive(Clone, Debug)]
struct Waits {
    entries: Vec<(String, BulkEntry)>,
    lost: Vec<Failed>,
}

type Waiting = std::sync::Mutex<Waits>;

fn lock(waiting: &Waiting) -> std::sync::MutexGuard<'_, Waits> {
    waiting
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

async fn once(
    component: &Component,
    topic: &TopicName,
    waiting: &Waiting,
    over: Transport,
) -> Attempt<Vec<Failed>> {
    let Waits {
        entries: asked,
        lost,
    } = lock(waiting).clone();
    let entries = asked.iter().map(|(_, entry)| entry.clone());
    let bulk = BulkPublish {
        topic: topic.clone(),
        entries: entries.collect(),
        timeout: None,
        retention: None,
    };
    let outcomes = component.bus.bulk_publish(bulk).await;
    let (mut failed, mut left_out) = (lost.clone(), false);
    let mut waits = Waits {
        entries: Vec::new(),
        lost,
    };
    for (one, outcome) in asked.into_iter().zip(outcomes) {
        if let Err(error) = judged(outcome) {
            let id = one.0.clone();
            let again = component.outbound.repeats_after(failed_with(&error, over));
            let passes = error.passes() && again;
            left_out |= error.passes() && !again;
            let one_failed = Failed { id, error };
            failed.push(one_failed.clone());
            match passes {
                true => waits.entries.push(one),
                false => waits.lost.push(one_failed),
            }
        }
    }
    let none = waits.entries.is_empty();
    *lock(waiting) = waits;
    match (none, left_out) {
        (true, false) => Attempt::Over(failed),
        (true, true) => Attempt::Lost(failed),
        (false, _) => Attempt::Failed(failed),
    }
}
