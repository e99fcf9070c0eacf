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
use super::publish::{Beside, BusError, PublishError, cut_off, judged, read};
use super::registry::Component;
use crate::topics::{BulkEntry, BulkPublish, Event};

/// Dapr's text about ids of entries.
pub const ENTRY_ID: &str = "entryId is duplicated or not present for entry";

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
        let mut known = BTreeSet::new();
        if !entries
            .iter()
            .all(|entry| !entry.id.is_empty() && known.insert(&entry.id))
        {
            return Err(PublishError::Entries(ENTRY_ID.to_owned()));
        }
        let mut waiting = Vec::with_capacity(entries.len());
        for entry in entries {
            waiting.push(self.prepared(component, topic, entry, beside)?);
        }
        let topic = self.allowed(component, topic)?;
        Ok(hand_over(component, &topic, waiting).await)
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
        let data = self.enveloped(component, topic, body, beside, &wishes, &mut attributes)?;
        let event: Event = self.event(data, &entry.content_type, &wishes, attributes);
        let ttl = wishes.ttl;
        Ok((entry.id, BulkEntry { event, ttl }))
    }
}

/// Publishes under the component's policy: what failed is repeated, what did not is not.
async fn hand_over(
    component: &Arc<Component>,
    topic: &TopicName,
    entries: Vec<(String, BulkEntry)>,
) -> Vec<Failed> {
    let waiting = Arc::new(std::sync::Mutex::new(entries));
    let attempt = || -> BoxFuture<'_, Attempt<Vec<Failed>>> {
        let waiting = Arc::clone(&waiting);
        Box::pin(async move { once(component, topic, &waiting).await })
    };
    let cut = |cut| {
        let waiting = lock(&waiting);
        let failed = waiting.iter().map(|(id, _)| Failed {
            id: id.clone(),
            error: cut_off(cut),
        });
        failed.collect()
    };
    component.outbound.run(attempt, cut).await
}

type Waiting = std::sync::Mutex<Vec<(String, BulkEntry)>>;

fn lock(waiting: &Waiting) -> std::sync::MutexGuard<'_, Vec<(String, BulkEntry)>> {
    waiting
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

async fn once(component: &Component, topic: &TopicName, waiting: &Waiting) -> Attempt<Vec<Failed>> {
    let asked: Vec<_> = lock(waiting).clone();
    let entries = asked.iter().map(|(_, entry)| entry.clone());
    let bulk = BulkPublish {
        topic: topic.clone(),
        entries: entries.collect(),
        timeout: None,
        retention: None,
    };
    let outcomes = component.bus.bulk_publish(bulk).await;
    let mut failed = Vec::new();
    let mut again = Vec::new();
    for (one, outcome) in asked.into_iter().zip(outcomes) {
        if let Err(error) = judged(outcome) {
            let id = one.0.clone();
            failed.push(Failed { id, error });
            again.push(one);
        }
    }
    *lock(waiting) = again;
    match failed.is_empty() {
        true => Attempt::Over(failed),
        false => Attempt::Failed(failed),
    }
}
