//! Load on topics from inside a node's process: durable publishes, and events that a group takes
//! and acknowledges.
//!
//! With subscribers a call lasts until one of them has the event: publish, sync, delivery and
//! hand-over together.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::closed_loop;
use super::order::{Report, TopicLoad};
use crate::handle::NodeHandle;
use crate::topics::{Event, Publish, PublishOutcome, Start, Subscribe, Subscription, TopicName};

/// Name of the component.
const PUBSUB: &str = "bench";

/// Who waits for an event, by its number.
type Waiting = Rc<RefCell<BTreeMap<u64, oneshot::Sender<Result<(), String>>>>>;

/// Publishes, and waits for subscribers if there are any, on this thread.
pub(super) fn run(node: &NodeHandle, namespace: &str, load: &TopicLoad) -> Result<Report, String> {
    let load = *load;
    let names = (0..load.topics).map(|number| {
        let topic = format!("bench-{}-{number}", load.series);
        TopicName::new(namespace, PUBSUB, &topic).map_err(|error| error.to_string())
    });
    let names: Vec<TopicName> = names.collect::<Result<_, _>>()?;
    let node = node.clone();
    closed_loop::run_with(&load.run, async move {
        let waiting = Waiting::default();
        for name in &names {
            for _ in 0..load.subscribers {
                let wanted = Subscribe {
                    start: Start::Last,
                    ..Subscribe::new(name.clone(), "bench")
                };
                let subscription = node.subscribe(wanted).await;
                let subscription = subscription.map_err(|error| error.to_string())?;
                drop(tokio::task::spawn_local(take(
                    subscription,
                    Rc::clone(&waiting),
                )));
            }
        }
        Ok(move |number: u64| {
            let name = names[number as usize % names.len()].clone();
            let publish = publish(name, &load, number);
            let (node, waiting) = (node.clone(), Rc::clone(&waiting));
            async move {
                let (seen, sees) = oneshot::channel();
                if load.subscribers > 0 {
                    waiting.borrow_mut().insert(number, seen);
                }
                match node.publish(publish).await {
                    PublishOutcome::Done(_) => {}
                    PublishOutcome::NotRun(refusal) => return Err(refusal.detail),
                    PublishOutcome::Unknown { detail, .. } => return Err(detail),
                }
                match load.subscribers {
                    0 => Ok(()),
                    _ => sees.await.map_err(|error| error.to_string())?,
                }
            }
        })
    })
}

fn publish(topic: TopicName, load: &TopicLoad, number: u64) -> Publish {
    Publish {
        topic,
        event: Event {
            key: Some(format!("k{}", number % load.keys)),
            data: payload(number, load.bytes),
            content_type: "application/octet-stream".to_owned(),
            source: "bench".to_owned(),
            ..Event::default()
        },
        dedup: None,
        name: None,
        ttl: None,
        timeout: None,
        retention: None,
    }
}

/// Its number, and as many bytes as are wanted.
pub(super) fn payload(number: u64, bytes: usize) -> Bytes {
    let mut data = vec![b'x'; bytes.max(8)];
    data[..8].copy_from_slice(&number.to_be_bytes());
    data.into()
}

/// The number of a payload.
pub(super) fn number_of(data: &[u8]) -> u64 {
    let first = data.get(..8).and_then(|bytes| bytes.try_into().ok());
    first.map_or(u64::MAX, u64::from_be_bytes)
}

async fn take(mut subscription: Subscription, waiting: Waiting) {
    while let Some(delivery) = subscription.next().await {
        let number = number_of(&delivery.event.data);
        delivery.ack();
        if let Some(seen) = waiting.borrow_mut().remove(&number) {
            // Whoever waited may have given up.
            drop(seen.send(Ok(())));
        }
    }
}
