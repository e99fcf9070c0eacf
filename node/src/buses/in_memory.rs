//! `pubsub.in-memory`: topics of one process, gone with it, as Dapr has them.
//!
//! Every subscription gets a copy of each event; there are no groups. A subscription handles one
//! event at a time, in the order of publishing: a publish waits until the event before has its
//! verdict, which is all the queue there is. What fails is not delivered again. A subscribed topic
//! may end with `*`.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ghostlight_protocol::code::Code;
use ghostlight_protocol::outcome::NotRun;
use ghostlight_protocol::topic::TopicName;
use tokio::sync::Semaphore;

use crate::clock::wall_now;
use crate::topics::{
    BulkPublish, Bus, BusFuture, Content, Event, Feature, Publish, PublishOutcome, Subscribe,
    SubscribeError, Subscription, SubscriptionFeed,
};

/// Subscriptions of one process; more are refused.
pub const SUBSCRIPTIONS_MAX: usize = 4_096;

/// See the module.
#[derive(Debug, Default)]
pub struct InMemory {
    subscribers: Mutex<Vec<Arc<Subscriber>>>,
}

#[derive(Debug)]
struct Subscriber {
    topic: TopicName,
    feed: SubscriptionFeed,
    /// One permit: nothing is under way.
    idle: Arc<Semaphore>,
}

impl Subscriber {
    fn wants(&self, topic: &TopicName) -> bool {
        match self.topic.topic().strip_suffix('*') {
            Some(prefix) => topic.topic().starts_with(prefix),
            None => self.topic.topic() == topic.topic(),
        }
    }

    /// Waits until it is idle, then hands the event over. One that has gone wants nothing.
    async fn take(&self, content: Content) {
        // Never closed.
        if let Ok(permit) = self.idle.acquire().await
            && self.feed.deliver(0, content).is_ok()
        {
            // Given back with the verdict.
            permit.forget();
        }
    }
}

impl InMemory {
    async fn hand_out(&self, topic: &TopicName, event: Event) {
        let wanting: Vec<_> = {
            let mut all = self.lock();
            all.retain(|subscriber| !subscriber.feed.is_closed());
            let wanting = all.iter().filter(|subscriber| subscriber.wants(topic));
            wanting.map(Arc::clone).collect()
        };
        for subscriber in wanting {
            let content = Content {
                topic: topic.clone(),
                partition: 0,
                offset: 0,
                attempt: 1,
                published: wall_now(),
                event: event.clone(),
            };
            subscriber.take(content).await;
        }
    }

    /// Subscriptions that are there.
    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        let all = self.lock();
        all.iter().filter(|one| !one.feed.is_closed()).count()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Subscriber>>> {
        self.subscribers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits at most so long. What was cut off may have reached some of the subscribers.
async fn within(timeout: Option<Duration>, work: impl Future<Output = ()>) -> PublishOutcome {
    let Some(timeout) = timeout else {
        work.await;
        return PublishOutcome::Done(None);
    };
    match tokio::time::timeout(timeout, work).await {
        Ok(()) => PublishOutcome::Done(None),
        Err(_) => PublishOutcome::Unknown {
            code: Code::OutcomeUnknown,
            detail: format!(
                "its subscribers were busy for {timeout:?}, and only some of them may have the event"
            ),
        },
    }
}

impl Bus for InMemory {
    fn publish(&self, publish: Publish) -> BusFuture<'_, PublishOutcome> {
        Box::pin(async move {
            let handed = self.hand_out(&publish.topic, publish.event);
            within(publish.timeout, handed).await
        })
    }

    fn bulk_publish(&self, bulk: BulkPublish) -> BusFuture<'_, Vec<PublishOutcome>> {
        Box::pin(async move {
            let mut outcomes = Vec::with_capacity(bulk.entries.len());
            for entry in bulk.entries {
                let handed = self.hand_out(&bulk.topic, entry.event);
                outcomes.push(within(bulk.timeout, handed).await);
            }
            outcomes
        })
    }

    fn subscribe(
        &self,
        subscribe: Subscribe,
    ) -> BusFuture<'_, Result<Subscription, SubscribeError>> {
        Box::pin(async move {
            subscribe.handled_here()?;
            let (feed, subscription, mut settled) = Subscription::channel(1);
            let idle = Arc::new(Semaphore::new(1));
            let subscriber = Arc::new(Subscriber {
                topic: subscribe.topic,
                feed,
                idle: Arc::clone(&idle),
            });
            let mut all = self.lock();
            all.retain(|subscriber| !subscriber.feed.is_closed());
            if all.len() == SUBSCRIPTIONS_MAX {
                let refusal = NotRun::new(
                    Code::TopicBusy,
                    format!("{SUBSCRIPTIONS_MAX} subscriptions are open in this process"),
                );
                let (code, detail) = (refusal.code, refusal.detail);
                return Err(SubscribeError { code, detail });
            }
            all.push(subscriber);
            drop(all);
            // Ends when the subscriber has left the list.
            drop(tokio::spawn(async move {
                while settled.recv().await.is_some() {
                    idle.add_permits(1);
                }
            }));
            Ok(subscription)
        })
    }

    fn features(&self) -> &'static [Feature] {
        &[Feature::SubscribeWildcards]
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn publish(topic: &str, data: &'static [u8]) -> Publish {
        Publish {
            topic: TopicName::new("default", "bus", topic).unwrap(),
            event: Event {
                data: Bytes::from_static(data),
                ..Event::default()
            },
            dedup: None,
            name: None,
            ttl: None,
            timeout: None,
            retention: None,
        }
    }

    async fn subscribe(bus: &InMemory, topic: &str) -> Subscription {
        let topic = TopicName::new("default", "bus", topic).unwrap();
        bus.subscribe(Subscribe::new(topic, "g")).await.unwrap()
    }

    #[tokio::test]
    async fn events_do_not_become_messages_to_actors_here() {
        let topic = TopicName::new("default", "bus", "orders").unwrap();
        let refused = InMemory::default()
            .subscribe(Subscribe::for_actors(topic, "g"))
            .await;
        assert_eq!(
            refused.err().map(|error| error.code),
            Some(Code::InvalidArgument)
        );
    }

    #[tokio::test]
    async fn every_subscription_gets_a_copy_and_wildcards_match_the_end() {
        let bus = InMemory::default();
        let mut all = Vec::new();
        for topic in ["orders", "orders", "ord*", "*", "order", "ordersx*"] {
            all.push((topic, subscribe(&bus, topic).await));
        }
        let done = bus.publish(publish("orders", b"1")).await;
        assert_eq!(done, PublishOutcome::Done(None));
        for (topic, subscription) in &mut all {
            let got = tokio::time::timeout(Duration::ZERO, subscription.next()).await;
            let wanted = !["order", "ordersx*"].contains(topic);
            assert_eq!(got.is_ok(), wanted, "{topic}");
        }
    }

    #[tokio::test]
    async fn a_publish_waits_for_the_verdict_on_the_event_before() {
        let bus = InMemory::default();
        let mut subscription = subscribe(&bus, "t").await;
        assert_eq!(
            bus.publish(publish("t", b"1")).await,
            PublishOutcome::Done(None)
        );
        let short = Publish {
            timeout: Some(Duration::from_millis(20)),
            ..publish("t", b"late")
        };
        assert!(matches!(
            bus.publish(short).await,
            PublishOutcome::Unknown { .. }
        ));
        let first = subscription.next().await.unwrap();
        assert_eq!(&first.event.data[..], b"1");
        // Whatever the verdict: it does not come again.
        first.retry("no");
        assert_eq!(
            bus.publish(publish("t", b"2")).await,
            PublishOutcome::Done(None)
        );
        let second = subscription.next().await.unwrap();
        assert_eq!(&second.event.data[..], b"2");
        second.ack();
    }

    #[tokio::test]
    async fn nobody_waits_for_a_subscriber_that_has_gone() {
        let bus = InMemory::default();
        let subscription = subscribe(&bus, "t").await;
        bus.publish(publish("t", b"1")).await;
        let (waiting, ()) = tokio::join!(bus.publish(publish("t", b"2")), async {
            tokio::task::yield_now().await;
            drop(subscription);
        });
        assert_eq!(waiting, PublishOutcome::Done(None));
        bus.publish(publish("t", b"3")).await;
        assert!(bus.lock().is_empty());
    }
}
