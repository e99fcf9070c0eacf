//! Delivery to a scripted application over HTTP, on the bus of one process.

use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::app::scripted::{Act, PATIENCE, ScriptedApp, Seen, ok, status};
use crate::app::settings::AppSettings;
use crate::app::{AppChannel, AppEvent};
use crate::buses::in_memory::InMemory;
use crate::config::Secret;
use crate::pubsub::wanted::parse;
use crate::resources::{Backoff, Matching, Retry, Target as PolicyTarget};

/// The application `shop`, and the component `bus`.
struct Bed {
    pubsub: Arc<PubSub>,
    app: ScriptedApp,
    bus: Arc<InMemory>,
}

impl Bed {
    /// With this answer to `GET /dapr/subscribe`.
    async fn new(subscriptions: &Value) -> Self {
        Self::with(subscriptions, |_| {}, &json!([])).await
    }

    async fn with(
        subscriptions: &Value,
        change: impl FnOnce(&mut Component),
        declared: &Value,
    ) -> Self {
        let bus = Arc::new(InMemory::default());
        let mut component = component("bus", bus.clone());
        change(&mut component);
        let pubsub = Arc::new(of([component]));
        let declared = parse(declared.to_string().as_bytes(), "a file").unwrap();
        pubsub.declare("shop", declared);
        let app = ScriptedApp::start().await;
        app.on("GET /dapr/subscribe", [ok(subscriptions.to_string())]);
        let mut settings = AppSettings::local("shop", app.port);
        settings.token = Some(Secret::new("secret"));
        let (channel, mut events) = AppChannel::start(vec![settings]);
        let heard = Arc::clone(&pubsub);
        drop(tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                heard.heard(&channel, &event);
                if matches!(event, AppEvent::Gone { .. }) {
                    tracing::debug!("gone");
                }
            }
        }));
        Self { pubsub, app, bus }
    }

    async fn until_subscribed(&self, count: usize) {
        let wait = async {
            while self.bus.count() != count {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, wait).await;
        assert!(waited.is_ok(), "{} of {count}", self.bus.count());
    }

    async fn publish(&self, topic: &str, data: &str, given: &[(&str, &str)]) {
        let component = self.pubsub.find("bus", topic).unwrap();
        let body = Body {
            data: data.as_bytes(),
            content_type: "application/json",
        };
        let beside = Beside {
            metadata: metadata(given),
            trace_parent: "00-1-2-01".to_owned(),
            trace_state: "a=b".to_owned(),
            ..Beside::default()
        };
        let published = self.pubsub.publish(&component, topic, body, beside);
        tokio::time::timeout(PATIENCE, published)
            .await
            .expect("in time")
            .unwrap();
    }

    /// Publishes with this id.
    async fn publish_as(&self, topic: &str, id: &str) {
        self.publish(topic, "1", &[("cloudevent.id", id)]).await;
    }

    /// Ids of the events that reached a path.
    fn ids(&self, path: &str) -> Vec<String> {
        let seen = self.app.seen_of(path);
        seen.iter().map(id).collect()
    }
}

fn body(seen: &Seen) -> Value {
    serde_json::from_str(&seen.body).unwrap()
}

fn id(seen: &Seen) -> String {
    body(seen)["id"].as_str().unwrap().to_owned()
}

fn subscription(topic: &str, route: &str) -> Value {
    json!({"pubsubname": "bus", "topic": topic, "route": route})
}

#[tokio::test]
async fn an_event_arrives_with_everything_beside_it() {
    let bed = Bed::new(&json!([subscription("orders", "orders/new")])).await;
    bed.until_subscribed(1).await;
    bed.app.on("POST /orders/new", [ok("")]);
    bed.publish(
        "orders",
        "{\"n\": 1}",
        &[("partitionKey", "k"), ("content-type", "x/y")],
    )
    .await;
    let seen = bed.app.until_seen("/orders/new", 1).await.remove(0);
    assert_eq!(seen.line, "POST /orders/new");
    for (name, value) in [
        ("content-type", "application/cloudevents+json"),
        ("pubsubname", "bus"),
        ("partitionkey", "k"),
        ("traceparent", "00-1-2-01"),
        ("tracestate", "a=b"),
        ("dapr-api-token", "secret"),
    ] {
        assert_eq!(seen.header(name), Some(value), "{name}");
    }
    let event = body(&seen);
    for (name, value) in [
        ("topic", json!("orders")),
        ("pubsubname", json!("bus")),
        ("source", json!("shop")),
        ("data", json!({"n": 1})),
        ("datacontenttype", json!("application/json")),
    ] {
        assert_eq!(event[name], value, "{name}");
    }
}

/// What is not taken, and what says so. In order; the number of a row is its event's id.
const ANSWERS: &[(u16, &str, bool)] = &[
    (200, "", false),
    (204, "", false),
    (200, "thanks", false),
    (200, r#"{"status": "SUCCESS"}"#, false),
    (200, r#"{"status": ""}"#, false),
    (200, r#"{"status": "RETRY"}"#, true),
    (200, r#"{"status": "DROP"}"#, true),
    (200, r#"{"status": "LATER"}"#, true),
    (404, "", true),
    (400, "", true),
    (500, r#"{"status": "SUCCESS"}"#, true),
    (503, "", true),
];

#[tokio::test]
async fn what_is_not_taken_becomes_a_dead_letter() {
    let mut orders = subscription("orders", "/orders");
    orders["deadLetterTopic"] = json!("dead");
    let bed = Bed::new(&json!([orders, subscription("dead", "/buried")])).await;
    bed.until_subscribed(2).await;
    let acts = ANSWERS
        .iter()
        .map(|(status, body, _)| Act::Say(*status, vec![], Bytes::from_static(body.as_bytes())));
    // The last one breaks its connection; one more says that everything before has its verdict.
    bed.app.on("POST /orders", acts.chain([Act::Die, ok("")]));
    bed.app.on("POST /buried", [ok("")]);
    for row in 0..=ANSWERS.len() {
        bed.publish_as("orders", &format!("row {row}")).await;
    }
    bed.publish_as("orders", "last").await;
    let rows = ANSWERS.iter().enumerate();
    let dead = rows.filter(|(_, (_, _, dead))| *dead).map(|(row, _)| row);
    let dead: Vec<_> = dead
        .chain([ANSWERS.len()])
        .map(|row| format!("row {row}"))
        .collect();
    bed.app.until_seen("/buried", dead.len()).await;
    bed.app.until_seen("/orders", ANSWERS.len() + 2).await;
    assert_eq!(bed.ids("/buried"), dead);
    // Nothing came twice.
    assert_eq!(bed.ids("/orders").len(), ANSWERS.len() + 2);
}

#[tokio::test]
async fn a_policy_repeats_what_may_be_repeated() {
    let retried = |component: &mut Component| {
        component.inbound = Policy::new(PolicyTarget {
            retry: Some(Retry {
                backoff: Backoff::Constant(Duration::ZERO),
                max_retries: Some(2),
                matching: Matching::default(),
            }),
            ..PolicyTarget::default()
        });
    };
    let mut orders = subscription("orders", "/orders");
    orders["deadLetterTopic"] = json!("dead");
    let all = json!([orders, subscription("dead", "/buried")]);
    let bed = Bed::with(&all, retried, &json!([])).await;
    bed.until_subscribed(2).await;
    bed.app.on("POST /buried", [ok("")]);
    bed.app.on(
        "POST /orders",
        [
            // The third attempt works.
            status(500),
            ok(r#"{"status": "RETRY"}"#),
            ok(""),
            // Never.
            status(500),
            status(503),
            Act::Die,
            // Once.
            ok(r#"{"status": "DROP"}"#),
            status(404),
            ok(""),
        ],
    );
    for id in ["works", "fails", "drops", "lost", "last"] {
        bed.publish_as("orders", id).await;
    }
    bed.app.until_seen("/orders", 9).await;
    let wanted = [
        "works", "works", "works", "fails", "fails", "fails", "drops", "lost", "last",
    ];
    assert_eq!(bed.ids("/orders"), wanted);
    bed.app.until_seen("/buried", 3).await;
    assert_eq!(bed.ids("/buried"), ["fails", "drops", "lost"]);
}

#[tokio::test]
async fn rules_choose_the_path_and_what_goes_nowhere_is_a_dead_letter() {
    let orders = json!({
        "pubsubname": "bus", "topic": "orders", "deadLetterTopic": "dead",
        "routes": {"rules": [
            {"match": "event.type == 'order.v2'", "path": "/v2"},
            {"match": "has(event.data.amount) && event.data.amount > 10", "path": "/large"},
            {"match": "event.type == 'broken' && event.data.nothing == 1", "path": "/never"},
        ]},
    });
    let bed = Bed::new(&json!([orders, subscription("dead", "/buried")])).await;
    bed.until_subscribed(2).await;
    for path in ["/v2", "/large", "/buried"] {
        bed.app.on(&format!("POST {path}"), [ok("")]);
    }
    for (id, kind, data) in [
        ("typed", "order.v2", "{\"amount\": 50}"),
        ("large", "order.v1", "{\"amount\": 11}"),
        ("small", "order.v1", "{\"amount\": 1}"),
        ("broken", "broken", "{\"amount\": 1}"),
    ] {
        let given = [("cloudevent.id", id), ("cloudevent.type", kind)];
        bed.publish("orders", data, &given).await;
    }
    bed.app.until_seen("/buried", 2).await;
    assert_eq!(bed.ids("/v2"), ["typed"]);
    assert_eq!(bed.ids("/large"), ["large"]);
    assert_eq!(bed.ids("/buried"), ["small", "broken"]);
}

#[tokio::test]
async fn what_has_expired_is_not_delivered() {
    let mut orders = subscription("orders", "/orders");
    orders["deadLetterTopic"] = json!("dead");
    let bed = Bed::new(&json!([orders, subscription("dead", "/buried")])).await;
    bed.until_subscribed(2).await;
    bed.app.on("POST /orders", [ok("")]);
    let event = json!({"id": "old", "expiration": "2001-01-01T00:00:00Z", "data": 1});
    let component = bed.pubsub.find("bus", "orders").unwrap();
    let event = event.to_string();
    let body = Body {
        data: event.as_bytes(),
        content_type: envelope::CLOUD_EVENT,
    };
    let published = bed
        .pubsub
        .publish(&component, "orders", body, Beside::default());
    published.await.unwrap();
    bed.publish(
        "orders",
        "1",
        &[("cloudevent.id", "new"), ("ttlInSeconds", "60")],
    )
    .await;
    bed.app.until_seen("/orders", 1).await;
    assert_eq!(bed.ids("/orders"), ["new"]);
    // A dead letter that has expired goes nowhere, like any event: the application never saw it.
    assert!(bed.app.seen_of("/buried").is_empty());
}

#[tokio::test]
async fn raw_payloads_are_wrapped_on_their_way_to_the_application() {
    let mut orders = subscription("orders", "/orders");
    orders["metadata"] = json!({"rawPayload": "true"});
    let bed = Bed::new(&json!([orders])).await;
    bed.until_subscribed(1).await;
    bed.app.on("POST /orders", [ok("")]);
    bed.publish("orders", "not json", &[("rawPayload", "true")])
        .await;
    let seen = bed.app.until_seen("/orders", 1).await.remove(0);
    let event = body(&seen);
    for (name, value) in [("traceparent", "00-1-2-01"), ("tracestate", "a=b")] {
        assert_eq!(seen.header(name), Some(value), "{name}");
        assert_eq!(event[name], value, "{name}");
    }
    assert_eq!(event["traceid"], "00-1-2-01");
    assert_eq!(event["data_base64"], "bm90IGpzb24=");
    assert_eq!(event["datacontenttype"], "application/octet-stream");
    assert_eq!(event["source"], "Dapr");
}

/// Of a subscription with a wildcard, one by one and in batches.
#[tokio::test]
async fn an_event_says_what_it_was_published_to() {
    let mut single = subscription("sensors/*", "/single");
    single["metadata"] = json!({"rawPayload": "true"});
    let mut bulk = subscription("*", "/bulk");
    bulk["bulkSubscribe"] = json!({"enabled": true, "maxAwaitDurationMs": 20});
    let bed = Bed::new(&json!([single, bulk])).await;
    bed.until_subscribed(2).await;
    for path in ["/single", "/bulk"] {
        bed.app.on(&format!("POST {path}"), [ok("")]);
    }
    bed.publish("sensors/7/temp", "21", &[]).await;
    let event = body(&bed.app.until_seen("/single", 1).await[0]);
    assert_eq!(event["topic"], "sensors/7/temp");
    let batch = body(&bed.app.until_seen("/bulk", 1).await[0]);
    assert_eq!(batch["topic"], "sensors/7/temp");
}

#[tokio::test]
async fn batches_are_gathered_and_answered_one_by_one() {
    let mut orders = subscription("orders", "/orders");
    orders["deadLetterTopic"] = json!("dead");
    orders["bulkSubscribe"] = json!({"enabled": true, "maxAwaitDurationMs": 20});
    let bed = Bed::new(&json!([orders, subscription("dead", "/buried")])).await;
    bed.until_subscribed(2).await;
    bed.app.on("POST /buried", [ok("")]);
    let answer = |status: &'static str| {
        Act::Run(Arc::new(move |seen: Seen| {
            let entry = body(&seen)["entries"][0]["entryId"].clone();
            let said = json!({"statuses": [{"entryId": entry, "status": status}]});
            Box::pin(async move { ok(said.to_string()) })
        }))
    };
    bed.app.on(
        "POST /orders",
        [answer("SUCCESS"), answer("DROP"), status(404), ok("{}")],
    );
    for id in ["a", "b", "c", "d", "e"] {
        bed.publish_as("orders", id).await;
    }
    let seen = bed.app.until_seen("/orders", 4).await;
    let batch = body(&seen[0]);
    assert_eq!(seen[0].header("content-type"), Some("application/json"));
    for (name, value) in [
        ("type", json!("com.dapr.event.sent.bulk")),
        ("metadata", json!({"pubsubName": "bus"})),
        ("topic", json!("orders")),
        ("pubsubname", json!("bus")),
    ] {
        assert_eq!(batch[name], value, "{name}");
    }
    // This bus lets out one event at a time.
    assert_eq!(batch["entries"].as_array().unwrap().len(), 1);
    let entry = &batch["entries"][0];
    assert_eq!(entry["event"]["id"], "a");
    assert_eq!(entry["contentType"], "application/cloudevents+json");
    bed.app.until_seen("/buried", 3).await;
    assert_eq!(bed.ids("/buried")[..3], ["b", "c", "d"]);
}

#[tokio::test]
async fn subscriptions_end_with_the_application_and_are_read_again() {
    let declared = json!([
        subscription("declared", "/d"),
        subscription("both", "/file")
    ]);
    let said = json!([subscription("both", "/said"), subscription("said", "/s")]);
    let mut bed = Bed::with(&said, |_| {}, &declared).await;
    bed.until_subscribed(3).await;
    let views = |bed: &Bed| -> Vec<String> {
        let views = bed.pubsub.views();
        let views = views.iter().map(|view| (&view.topic, &view.rules[0].1));
        views
            .map(|(topic, path)| format!("{topic} {path}"))
            .collect()
    };
    assert_eq!(views(&bed), ["declared /d", "both /said", "said /s"]);
    bed.app.down().await;
    // It listens no more, and somebody notices.
    bed.publish_as("declared", "unheard").await;
    bed.until_subscribed(0).await;
    assert_eq!(views(&bed), ["declared /d", "both /file"]);
    bed.app.on(
        "GET /dapr/subscribe",
        [ok(json!([subscription("other", "/o")]).to_string())],
    );
    bed.app.up().await;
    bed.until_subscribed(3).await;
    assert_eq!(views(&bed), ["declared /d", "both /file", "other /o"]);
    bed.app.on("POST /o", [ok("")]);
    bed.publish_as("other", "again").await;
    bed.app.until_seen("/o", 1).await;
}

#[tokio::test]
async fn what_cannot_be_subscribed_is_left_out() {
    let mut broken = subscription("broken", "/b");
    broken["routes"] = json!({"rules": [{"match": "event.type ==", "path": "/x"}]});
    let mut odd = subscription("odd", "/b");
    odd["metadata"] = json!({"rawPayload": "perhaps"});
    let mut elsewhere = subscription("elsewhere", "/e");
    elsewhere["pubsubname"] = json!("nobody");
    let said = json!([
        broken,
        odd,
        elsewhere,
        subscription("secret", "/s"),
        // Without a route its events wait, as in Dapr.
        json!({"pubsubname": "bus", "topic": "nowhere"}),
        subscription("a", "/a")
    ]);
    let scoped = |component: &mut Component| {
        component.scopes = Scopes::of(&crate::resources::Component {
            name: "bus".into(),
            kind: "pubsub.in-memory".into(),
            version: "v1".into(),
            ignore_errors: false,
            metadata: metadata(&[("protectedTopics", "secret")]),
            scopes: Vec::new(),
            place: "x:1".into(),
        });
    };
    let bed = Bed::with(&said, scoped, &json!([])).await;
    bed.until_subscribed(1).await;
    bed.app.on("POST /a", [ok("")]);
    bed.publish_as("a", "1").await;
    bed.app.until_seen("/a", 1).await;
}
