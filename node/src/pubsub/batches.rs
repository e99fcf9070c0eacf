//! Delivery in batches: gathered by count or by time, sent by path, answered one by one.
//!
//! A batch is handled before the next one is gathered. A bus that lets out one event at a time therefore makes batches of
//! one, each after the whole time of gathering, as in Dapr.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::time::Instant;

use super::fresh_id;
use super::line::{Line, cut_off};
use super::metadata::{Metadata, Payload};
use super::policy::Attempt;
use super::target::{Batch, BatchContent, BatchEntry, Said};
use crate::resources::BulkSubscribe;
use crate::topics::{Delivery, Subscription};

/// Handles events until the bus ends the subscription.
pub(super) async fn run(line: &Line, bulk: BulkSubscribe, mut subscription: Subscription) {
    while let Some(gathered) = gather(bulk, &mut subscription).await {
        handle(line, gathered).await;
    }
}

/// The next batch; `None`: the subscription has ended.
async fn gather(bulk: BulkSubscribe, subscription: &mut Subscription) -> Option<Vec<Delivery>> {
    let most = bulk.max_messages_count as usize;
    let mut gathered = vec![subscription.next().await?];
    let time = Duration::from_millis(u64::from(bulk.max_await_duration_ms));
    let end = Instant::now() + time;
    while gathered.len() < most {
        match tokio::time::timeout_at(end, subscription.next()).await {
            Ok(Some(delivery)) => gathered.push(delivery),
            Ok(None) | Err(_) => break,
        }
    }
    Some(gathered)
}

async fn handle(line: &Line, gathered: Vec<Delivery>) {
    let mut by_path: BTreeMap<String, Vec<(Delivery, BatchEntry)>> = BTreeMap::new();
    for delivery in gathered {
        match line.opened(&delivery.event) {
            Err(said) => line.settle(delivery, said).await,
            Ok((envelope, path)) => {
                let content = match line.payload {
                    Payload::Wrapped => BatchContent::Event(envelope),
                    Payload::Raw => BatchContent::Raw(delivery.event.data.clone()),
                };
                let entry = BatchEntry {
                    id: fresh_id(),
                    content,
                    metadata: line.metadata(&delivery.event),
                };
                by_path.entry(path).or_default().push((delivery, entry));
            }
        }
    }
    for (path, entries) in by_path {
        let (deliveries, entries): (Vec<_>, Vec<_>) = entries.into_iter().unzip();
        let said = deliver(line, &path, entries).await;
        for (delivery, said) in deliveries.into_iter().zip(said) {
            line.settle(delivery, said).await;
        }
    }
}

/// Entries that have no good answer yet, and the last answer of each.
struct Open {
    entries: Vec<BatchEntry>,
    /// Of all entries, in the order of the batch.
    said: Vec<Said>,
    /// Place of each open entry among all.
    places: Vec<usize>,
}

/// Delivers under the component's policy: what is to come again does, what is done does not.
async fn deliver(line: &Line, path: &str, entries: Vec<BatchEntry>) -> Vec<Said> {
    let count = entries.len();
    let open = Mutex::new(Open {
        entries,
        said: vec![Said::Again("it was not delivered".to_owned()); count],
        places: (0..count).collect(),
    });
    let open = Arc::new(open);
    let attempt = || -> BoxFuture<'_, Attempt<()>> {
        let open = Arc::clone(&open);
        Box::pin(async move { once(line, path, &open).await })
    };
    let cut = |cut| {
        let mut open = lock(&open);
        let places = open.places.clone();
        for place in places {
            open.said[place] = cut_off(cut);
        }
    };
    line.component.inbound.run(attempt, cut).await;
    lock(&open).said.clone()
}

async fn once(line: &Line, path: &str, open: &Mutex<Open>) -> Attempt<()> {
    let batch = Batch {
        id: fresh_id(),
        path: path.to_owned(),
        topic: line.topic.topic().to_owned(),
        pubsub: line.component.name.clone(),
        metadata: Metadata::clone(&line.wanted.metadata),
        entries: lock(open).entries.clone(),
    };
    let said = line.target.deliver_batch(&batch).await;
    let mut open = lock(open);
    let open = &mut *open;
    let mut still = (Vec::new(), Vec::new());
    for ((place, entry), said) in open.places.drain(..).zip(batch.entries).zip(said) {
        if matches!(said, Said::Again(_)) {
            still.0.push(place);
            still.1.push(entry);
        }
        open.said[place] = said;
    }
    (open.places, open.entries) = still;
    match open.places.is_empty() {
        true => Attempt::Over(()),
        false => Attempt::Failed(()),
    }
}

fn lock(open: &Mutex<Open>) -> std::sync::MutexGuard<'_, Open> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}
