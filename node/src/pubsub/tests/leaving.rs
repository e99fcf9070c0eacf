//! What becomes of events under way when their application dies, or the bus ends the subscription:
//! only what the application may have seen counts.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use ghostlight_protocol::time::WallTime;
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc, oneshot};

use super::*;
use crate::app::AppChannel;
use crate::app::scripted::{Act, PATIENCE, ScriptedApp, ok, status};
use crate::app::settings::AppSettings;
use crate::resources::Target as PolicyTarget;
use crate::topics::{Content, Settlement, SubscriptionFeed, Verdict};

type Ends = (SubscriptionFeed, mpsc::Receiver<Settlement>);

/// Hands its end of the first subscription to the test, and notes what is published.
struct HandedOver {
    ends: Mutex<Option<oneshot::Sender<Ends>>>,
    published: Mutex<Vec<Publish>>,
    features: &'static [Feature],
}

impl Bus for HandedOver {
    fn publish(&self, publish: Publish) -> BusFuture<'_, PublishOutcome> {
        self.published.lock().unwrap().push(publish);
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
            let Some(test) = self.ends.lock().unwrap().take() else {
                return std::future::pending().await;
            };
            drop(test.send((feed, settled)));
            Ok(subscription)
        })
    }

    fn features(&self) -> &'static [Feature] {
        self.features
    }
}

struct Bed {
    app: ScriptedApp,
    feed: SubscriptionFeed,
    settled: mpsc::Receiver<Settlement>,
    bus: Arc<HandedOver>,
    pubsub: Arc<PubSub>,
}

/// Ghostlight's own topics, and a bus elsewhere.
const OURS: &[Feature] = &[Feature::Redelivery];
const THEIRS: &[Feature] = &[];

/// An application that takes one request at a time, with three events on their way to it; it has
/// seen the first.
async fn bed(subscription: &Value, act: Act, features: &'static [Feature]) -> Bed {
    bed_with(subscription, act, features, Policy::default()).await
}

async fn bed_with(
    subscription: &Value,
    act: Act,
    features: &'static [Feature],
    inbound: Policy,
) -> Bed {
    let (test, ends) = oneshot::channel();
    let bus = Arc::new(HandedOver {
        ends: Mutex::new(Some(test)),
        published: Mutex::default(),
        features,
    });
    let mut component = component("bus", bus.clone());
    component.inbound = inbound;
    let pubsub = Arc::new(of([component]));
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
        bus,
        pubsub,
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
        for features in [OURS, THEIRS] {
            let mut bed = bed(&subscription, Act::Hang, features).await;
            bed.app.down().await;
            let found = bed.three().await;
            let wanted = ["give back", "give back", "retry"];
            assert_eq!(found, wanted, "{subscription} {features:?}");
            assert!(bed.feed.is_closed(), "{subscription}");
        }
    }
}

#[tokio::test]
async fn a_bus_that_ends_gets_the_rest_back_at_once_and_waits_for_what_has_begun() {
    let done = json!({"status": "SUCCESS"}).to_string();
    for subscription in [single(), bulk()] {
        let gate = Arc::new(Notify::new());
        let act = Act::When(Arc::clone(&gate), Box::new(ok(done.clone())));
        let mut bed = bed(&subscription, act, OURS).await;
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

/// The first event goes to `/orders` alone, and the others wait behind it.
fn two_batches() -> Value {
    let rules = json!([{"match": "event.id == '0'", "path": "/orders"}]);
    json!({
        "pubsubname": "bus", "topic": "orders", "routes": {"rules": rules, "default": "/others"},
        "bulkSubscribe": {"enabled": true, "maxMessagesCount": 3, "maxAwaitDurationMs": 60_000},
    })
}

/// Where the subscription itself makes dead letters: what nobody saw is none, and neither is what
/// failed as it ended.
#[tokio::test]
async fn the_end_of_a_subscription_makes_no_dead_letters() {
    for mut subscription in [single(), two_batches()] {
        subscription["deadLetterTopic"] = json!("dead");
        subscription["metadata"] = json!({"maxDeliver": "1"});
        for ends in ["subscriber", "bus"] {
            let gate = Arc::new(Notify::new());
            let act = Act::When(Arc::clone(&gate), Box::new(ok(r#"{"status": "RETRY"}"#)));
            let mut bed = bed(&subscription, act, THEIRS).await;
            match ends {
                "bus" => bed.feed.end(),
                _ => bed.pubsub.close(),
            }
            gate.notify_one();
            let found = bed.three().await;
            let wanted = ["give back", "give back", "retry"];
            assert_eq!(found, wanted, "{ends}: {subscription}");
            assert!(bed.bus.published.lock().unwrap().is_empty());
            assert!(bed.app.seen_of("/others").is_empty());
        }
    }
}

/// Of a policy that waits for an hour, before the end and after it.
#[tokio::test]
async fn the_pause_of_a_policy_ends_with_the_subscription() {
    for (subscription, first) in [(single(), "answer"), (single(), "end"), (bulk(), "end")] {
        let gate = Arc::new(Notify::new());
        let act = Act::When(Arc::clone(&gate), Box::new(status(500)));
        let hourly = Policy::new(PolicyTarget {
            retry: Some(Retry {
                backoff: Backoff::Constant(Duration::from_secs(3_600)),
                max_retries: None,
                matching: Matching::default(),
            }),
            ..PolicyTarget::default()
        });
        let mut bed = bed_with(&subscription, act, THEIRS, hourly).await;
        if first == "answer" {
            gate.notify_one();
            // The application takes the next one when it has answered.
            bed.app.until_seen("/orders", 2).await;
        }
        bed.feed.end();
        gate.notify_one();
        let mut found = bed.three().await;
        found.dedup();
        let wanted = ["give back", "retry"];
        assert_eq!(found, wanted, "{first} first: {subscription}");
    }
}
