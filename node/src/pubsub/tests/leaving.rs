//! What becomes of events under way when their application dies, or the bus ends the subscription: only what the
//! application may have seen counts.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use ghostlight_protocol::time::WallTime;
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc, oneshot};

use super::*;
use crate::app::AppChannel;
use crate::app::scripted::{Act, PATIENCE, ScriptedApp, ok};
use crate::app::settings::AppSettings;
use crate::topics::{Content, Settlement, SubscriptionFeed, Verdict};

type Ends = (SubscriptionFeed, mpsc::Receiver<Settlement>);

/// Hands its end of the first subscription to the test.
struct HandedOver(Mutex<Option<oneshot::Sender<Ends>>>);

impl Bus for HandedOver {
    fn publish(&self, _publish: Publish) -> BusFuture<'_, PublishOutcome> {
        Box::pin(async { PublishOutcome::Done(None) })
    }

    fn bulk_publish(&self, _bulk: BulkPublish) -> BusFuture<'_, Vec<PublishOutcome>> {
        Box::pin(async { Vec::new() })
    }

    fn subscribe(
        &self,
        _subscribe: Subscribe,
    ) -> BusFuture<'_, Result<Subscription, SubscribeError>> {
        Box::pin(async {
            let (feed, subscription, settled) = Subscription::channel(16);
            let Some(test) = self.0.lock().unwrap().take() else {
                return std::future::pending().await;
            };
            drop(test.send((feed, settled)));
            Ok(subscription)
        })
    }

    fn features(&self) -> &'static [Feature] {
        &[Feature::Redelivery]
    }
}

struct Bed {
    app: ScriptedApp,
    feed: SubscriptionFeed,
    settled: mpsc::Receiver<Settlement>,
    _pubsub: Arc<PubSub>,
}

/// An application that takes one request at a time, with three events on their way to it; it has seen the first.
async fn bed(subscription: &Value, act: Act) -> Bed {
    let (test, ends) = oneshot::channel();
    let bus = Arc::new(HandedOver(Mutex::new(Some(test))));
    let pubsub = Arc::new(of([component("bus", bus)]));
    let app = ScriptedApp::start().await;
    let subscriptions = json!([subscription]).to_string();
    app.on("GET /dapr/subscribe", [ok(subscriptions)]);
    app.on("POST /orders", [act]);
    let mut settings = AppSettings::local("shop", app.port);
    settings.concurrency = NonZeroUsize::new(1);
    let (channel, mut events) = AppChannel::start(vec![settings]);
    let heard = Arc::clone(&pubsub);
    drop(tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            heard.heard(&channel, &event);
        }
    }));
    let ends = tokio::time::timeout(PATIENCE, ends).await.expect("in time");
    let (feed, settled) = ends.unwrap();
    for token in 0..3 {
        let content = Content {
            topic: TopicName::new("default", "bus", "orders").unwrap(),
            partition: 0,
            offset: token,
            attempt: 1,
            published: WallTime(5),
            event: Event {
                data: Bytes::from(format!("{{\"id\": \"{token}\"}}")),
                ..Event::default()
            },
        };
        feed.deliver(token, content).unwrap();
    }
    app.until_seen("/orders", 1).await;
    Bed {
        app,
        feed,
        settled,
        _pubsub: pubsub,
    }
}

impl Bed {
    async fn next(&mut self) -> (u64, &'static str) {
        let next = tokio::time::timeout(PATIENCE, self.settled.recv()).await;
        let Settlement { token, verdict } = next.expect("in time").unwrap();
        let word = match verdict {
            Verdict::Ack => "ack",
            Verdict::Retry(_) => "retry",
            Verdict::Drop(_) => "drop",
            Verdict::GiveBack => "give back",
            Verdict::Forward(_) => "forward",
        };
        (token, word)
    }

    async fn three(&mut self) -> Vec<&'static str> {
        let mut all = [self.next().await, self.next().await, self.next().await];
        // Which of them the application saw first is nobody's business.
        all.sort_by_key(|(_, word)| *word);
        all.map(|(_, word)| word).to_vec()
    }
}

fn single() -> Value {
    json!({"pubsubname": "bus", "topic": "orders", "route": "/orders"})
}

fn bulk() -> Value {
    let mut bulk = single();
    bulk["bulkSubscribe"] =
        json!({"enabled": true, "maxMessagesCount": 1, "maxAwaitDurationMs": 10});
    bulk
}

#[tokio::test]
async fn an_application_that_dies_fails_what_it_has_seen_alone() {
    for subscription in [single(), bulk()] {
        let mut bed = bed(&subscription, Act::Hang).await;
        bed.app.down().await;
        let found = bed.three().await;
        assert_eq!(found, ["give back", "give back", "retry"], "{subscription}");
        assert!(bed.feed.is_closed(), "{subscription}");
    }
}

#[tokio::test]
async fn a_bus_that_ends_gets_the_rest_back_at_once_and_waits_for_what_has_begun() {
    let done = json!({"status": "SUCCESS"}).to_string();
    for subscription in [single(), bulk()] {
        let gate = Arc::new(Notify::new());
        let act = Act::When(Arc::clone(&gate), Box::new(ok(done.clone())));
        let mut bed = bed(&subscription, act).await;
        bed.feed.end();
        for _ in 0..2 {
            assert_eq!(bed.next().await.1, "give back", "{subscription}");
        }
        assert!(!bed.feed.is_closed(), "one delivery is under way");
        gate.notify_one();
        let last = bed.next().await.1;
        // An answer to a batch that leaves an event out counts as none.
        let wanted = if subscription == single() {
            "ack"
        } else {
            "retry"
        };
        assert_eq!(last, wanted, "{subscription}");
        let gone = async {
            while !bed.feed.is_closed() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let gone = tokio::time::timeout(PATIENCE, gone).await;
        assert!(gone.is_ok(), "{subscription}");
        assert_eq!(bed.app.seen_of("/orders").len(), 1, "{subscription}");
    }
}
