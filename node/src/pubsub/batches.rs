//! Delivery in batches: gathered by count or by time, sent by path and topic, answered one by one.
//!
//! A batch is handled before the next one is gathered. A bus that lets out one event at a time
//! therefore makes batches of one, each after the whole time of gathering, as in Dapr.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::time::Instant;

use super::fresh_id;
use super::line::{Ended, Line, PUBSUB_NAME, UNSENT_PAUSE, UNSENT_TIMES, cut_off};
use super::metadata::{Metadata, Payload};
use super::options::shares;
use super::policy::Attempt;
use super::stop::{self, Stop, Trying};
use super::target::{Batch, BatchContent, BatchEntry, Handed, Said};
use crate::resources::BulkSubscribe;
use crate::topics::{Credits, Delivery, Subscription};

/// Handles events until the bus ends the subscription, or it is to stop; as [`Line::run`].
pub(super) async fn run(line: &Line, bulk: BulkSubscribe, subscription: Subscription, stop: &Stop) {
    let mut left = Vec::new();
    // Dropped before what it has delivered, however this ends.
    let mut subscription = subscription;
    let bounds = Bounds::new(bulk, line.subscribe().credits, shares(&line.component));
    while let Some(gathered) = gather(bounds, &mut subscription, stop).await {
        if stop.is_set() || subscription.is_over() {
            left.extend(gathered);
            break;
        }
        let (stopper, stopping) = stop::pair();
        let work = handle(line, gathered, &stopping);
        tokio::pin!(work);
        let over = async {
            tokio::select! {
                () = stop.wait() => {}
                () = subscription.over() => {}
            }
        };
        let rest = tokio::select! {
            rest = &mut work => rest,
            () = over => {
                stopper.stop();
                if subscription.is_over() {
                    // Gives back at once what waits to be gathered.
                    drop(subscription.next().await);
                }
                work.await
            }
        };
        left.extend(rest);
    }
    drop(subscription);
    drop(left);
}

/// When a batch is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Bounds {
    events: u32,
    /// Of payloads.
    bytes: u64,
    time: Duration,
}

impl Bounds {
    /// What is gathered has no verdict yet, and counts against the credits: a batch that waits for
    /// more than a share of them waits for the end of its time.
    fn new(bulk: BulkSubscribe, credits: Credits, shares: u32) -> Self {
        Self {
            events: bulk.max_messages_count.min(credits.events.div_ceil(shares)),
            // Who gives the credits counts more than payloads.
            bytes: credits.bytes / u64::from(shares) / 2,
            time: Duration::from_millis(u64::from(bulk.max_await_duration_ms)),
        }
    }
}

/// The next batch; `None`: the subscription has ended.
async fn gather(
    bounds: Bounds,
    subscription: &mut Subscription,
    stop: &Stop,
) -> Option<Vec<Delivery>> {
    let first = tokio::select! {
        first = subscription.next() => first?,
        () = stop.wait() => return None,
    };
    let mut bytes = first.event.data.len() as u64;
    let mut gathered = vec![first];
    let end = Instant::now() + bounds.time;
    while gathered.len() < bounds.events as usize && bytes < bounds.bytes {
        tokio::select! {
            delivery = subscription.next() => match delivery {
                Some(delivery) => {
                    bytes += delivery.event.data.len() as u64;
                    gathered.push(delivery);
                }
                None => break,
            },
            () = tokio::time::sleep_until(end) => break,
            () = stop.wait() => break,
        }
    }
    Some(gathered)
}

/// What is left is to be dropped after its subscription.
async fn handle(line: &Line, gathered: Vec<Delivery>, stop: &Stop) -> Vec<Delivery> {
    let mut by_end: BTreeMap<End, Vec<(Delivery, BatchEntry)>> = BTreeMap::new();
    for delivery in gathered {
        match line.opened(&delivery) {
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
                let topic = delivery.topic.topic().to_owned();
                let end = End { path, topic };
                by_end.entry(end).or_default().push((delivery, entry));
            }
        }
    }
    let mut left = Vec::new();
    for (end, mut entries) in by_end {
        for round in 0..=UNSENT_TIMES {
            if round > 0 {
                tokio::select! {
                    () = tokio::time::sleep(UNSENT_PAUSE) => {}
                    () = stop.wait() => {}
                }
            }
            let batch = entries.iter().map(|(_, entry)| entry.clone()).collect();
            let ended = deliver(line, &end, batch, stop).await;
            let waits = round < UNSENT_TIMES && line.is_kept();
            let mut unsent = Vec::new();
            for (pair, ended) in std::mem::take(&mut entries).into_iter().zip(ended) {
                match ended {
                    Ended::Said(Said::Unsent(_)) if waits => unsent.push(pair),
                    ended => left.extend(line.conclude(pair.0, ended).await),
                }
            }
            if unsent.is_empty() {
                break;
            }
            entries = unsent;
        }
    }
    left
}

/// What the events of one batch have in common.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct End {
    path: String,
    topic: String,
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
async fn deliver(line: &Line, end: &End, entries: Vec<BatchEntry>, stop: &Stop) -> Vec<Ended> {
    let count = entries.len();
    let open = Mutex::new(Open {
        entries,
        said: vec![Said::Unsent("it was not delivered".to_owned()); count],
        places: (0..count).collect(),
    });
    let trying = Trying::default();
    let attempt = || -> BoxFuture<'_, Attempt<()>> {
        Box::pin(async {
            let _trying = trying.begin();
            once(line, end, &open, stop).await
        })
    };
    let cut = |cut| {
        let mut open = lock(&open);
        let places = open.places.clone();
        for place in places {
            note(&mut open.said[place], cut_off(cut));
        }
    };
    stop.between(&trying, line.component.inbound.run(attempt, cut))
        .await;
    let said = std::mem::take(&mut lock(&open).said);
    said.into_iter().map(|said| Ended::of(said, stop)).collect()
}

async fn once(line: &Line, end: &End, open: &Mutex<Open>, stop: &Stop) -> Attempt<()> {
    let mut metadata = Metadata::clone(&line.wanted.metadata);
    metadata.insert(PUBSUB_NAME.to_owned(), line.component.name.clone());
    let batch = Batch {
        id: fresh_id(),
        path: end.path.clone(),
        topic: end.topic.clone(),
        pubsub: line.component.name.clone(),
        metadata,
        entries: lock(open).entries.clone(),
    };
    let handed = Handed::default();
    let answer = line.target.deliver_batch(&batch, &handed);
    let Some(said) = stop.guard(&handed, answer).await else {
        return Attempt::Over(());
    };
    let mut open = lock(open);
    let open = &mut *open;
    let (mut still, mut lost) = ((Vec::new(), Vec::new()), false);
    for ((place, entry), said) in open.places.drain(..).zip(batch.entries).zip(said) {
        let again = match &said {
            Said::Done | Said::Never(_) => false,
            Said::Again(_) | Said::Unsent(_) => true,
            Said::Failed(with, _) => {
                let again = line.component.inbound.repeats_after(*with);
                lost |= !again;
                again
            }
        };
        if again {
            still.0.push(place);
            still.1.push(entry);
        }
        note(&mut open.said[place], said);
    }
    (open.places, open.entries) = still;
    match (open.places.is_empty(), lost) {
        (true, false) => Attempt::Over(()),
        (true, true) => Attempt::Lost(()),
        (false, _) => Attempt::Failed(()),
    }
}

/// One attempt that has reached the application counts, whatever became of those after it.
fn note(before: &mut Said, said: Said) {
    let reached = matches!(before, Said::Again(_) | Said::Failed(..));
    if !(reached && matches!(said, Said::Unsent(_))) {
        *before = said;
    }
}

fn lock(open: &Mutex<Open>) -> std::sync::MutexGuard<'_, Open> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}
