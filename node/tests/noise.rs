//! Whatever the node's shell reads that others have written: configuration, resources, paths, the
//! answers and events of applications. Each takes anything: noise, and what was valid once
//! (`ghostlight_decoders::noise`).
//!
//! Absent: HTTP, gRPC and TLS themselves, which libraries read, and the fuzzer that follows
//! coverage: these would have to be built with it, RocksDB included.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use ghostlight::api::path;
use ghostlight::app;
use ghostlight::config::Settings;
use ghostlight::pubsub::envelope::{Envelope, Place, Stamp};
use ghostlight::pubsub::metadata::Metadata;
use ghostlight::pubsub::routes::{Expression, Routes};
use ghostlight::pubsub::wanted;
use ghostlight::resources::{Resources, Sources};
use ghostlight_decoders::{Decoder, noise};
use ghostlight_protocol::time::WallTime;

const PLACE: Place<'_> = Place {
    pubsub: "pubsub",
    topic: "orders",
    source: "shop",
};

#[track_caller]
fn feed(decoder: &Decoder) {
    let repeats = format!("cargo test -p ghostlight --test noise {}", decoder.name);
    noise::feed(decoder, Vec::new(), &repeats);
}

fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// A file of the configuration is read, or refused with its name.
#[test]
fn configuration() {
    feed(&Decoder {
        name: "configuration",
        what: "the configuration file",
        take: |bytes| {
            let text = String::from_utf8_lossy(bytes);
            if let Err(error) = Settings::parse(&text, "ghostlight.toml") {
                assert!(error.to_string().contains("ghostlight.toml"), "{error}");
            }
        },
        valid: || {
            let example = include_str!("../../deploy/ghostlight.example.toml");
            let all: String = example
                .lines()
                .map(|line| match line.strip_prefix("# ") {
                    Some(setting) if setting.contains(" = ") => format!("{setting}\n"),
                    _ => format!("{line}\n"),
                })
                .collect();
            // One key is shown with two values.
            texts(&[
                example,
                &all,
                "listen = \"10.0.0.1:7400\"\njoin = [\"n2:7400\"]\n",
            ])
        },
    });
}

const COMPONENT: &str = "apiVersion: dapr.io/v1alpha1
kind: Component
metadata:
  name: pubsub
spec:
  type: pubsub.redis
  version: v1
  metadata:
  - name: redisHost
    value: localhost:6379
  - name: processingTimeout
    value: \"15s\"
  - name: redisPassword
    secretKeyRef: { name: secret, key: secret }
scopes: [shop, bank]
";
const SUBSCRIPTION: &str = "apiVersion: dapr.io/v2alpha1
kind: Subscription
metadata: { name: orders }
spec:
  pubsubname: pubsub
  topic: orders
  routes:
    rules:
    - match: event.type == \"order\" && has(event.data.total)
      path: /orders
    default: /others
  bulkSubscribe: { enabled: true, maxMessagesCount: 100, maxAwaitDurationMs: 40 }
  deadLetterTopic: dead
  metadata: { actorType: cart, actorId: event.data.id, actorMethod: ordered }
";
const CONFIGURATION: &str = "apiVersion: dapr.io/v1alpha1
kind: Configuration
metadata: { name: c }
spec:
  features: [{ name: f, enabled: true }]
  api: { allowed: [{ name: actors, version: v1.0, protocol: http }], denied: [] }
---
apiVersion: dapr.io/v1alpha1
kind: Resiliency
metadata: { name: r }
spec:
  policies:
    timeouts: { general: 5s }
    retries: { again: { policy: exponential, maxInterval: 15s, maxRetries: 10, matching: { httpStatusCodes: \"429,500-599\" } } }
    circuitBreakers: { cb: { maxRequests: 1, interval: 8s, timeout: 45s, trip: consecutiveFailures > 8 } }
  targets:
    actors: { cart: { timeout: general, retry: again, circuitBreaker: cb, circuitBreakerScope: id } }
    components: { pubsub: { inbound: { retry: again }, outbound: { timeout: general } } }
";

/// A folder's file is read, or refused with its name. Rules of routes and trips of breakers are
/// compiled on the way.
#[test]
fn resources() {
    feed(&Decoder {
        name: "resources",
        what: "resources",
        take: |bytes| {
            // A folder for each process and thread: tests of one run do not read each other's.
            let folder: PathBuf =
                std::env::temp_dir().join(format!("ghostlight-noise-{}", std::process::id()));
            fs::create_dir_all(&folder).expect("a folder");
            fs::write(folder.join("noise.yaml"), bytes).expect("a file");
            let sources = Sources {
                folders: std::slice::from_ref(&folder),
                configs: &[],
                app_id: "shop",
                builtin: &[],
            };
            let read = Resources::load(sources, &|_| None);
            if let Err(error) = read {
                assert!(error.place.contains("noise.yaml"), "{error:?}");
                assert!(!error.why.is_empty());
            }
        },
        valid: || texts(&[COMPONENT, SUBSCRIPTION, CONFIGURATION]),
    });
    let folder = std::env::temp_dir().join(format!("ghostlight-noise-{}", std::process::id()));
    fs::remove_dir_all(folder).expect("the folder goes");
}

/// A path is cut into names, or refused; names that are put into one come out again.
#[test]
fn paths() {
    feed(&Decoder {
        name: "paths",
        what: "paths of requests",
        take: |bytes| {
            let text = String::from_utf8_lossy(bytes);
            if let Some(names) = path::segments(&text) {
                let again: String = names
                    .iter()
                    .map(|name| format!("/{}", path::encode(name)))
                    .collect();
                let empty = names
                    .iter()
                    .any(|name| ["", ".", ".."].contains(&name.as_str()));
                assert!(empty || path::segments(&again) == Some(names), "{again}");
            }
            assert_eq!(path::decode(&path::encode(&text)).as_deref(), Some(&*text));
        },
        valid: || {
            texts(&[
                "/v1.0/actors/cart/a%2Fb/method/m",
                "//v1.0/./actors/../actors/cart/%2e%2e/state/k",
                "/ghostlight/v1/topics/pubsub/orders%2Feu",
            ])
        },
    });
}

/// The answer to `GET /dapr/config` hosts what it says, or nothing, and says why.
#[test]
fn hosted_types() {
    feed(&Decoder {
        name: "hosted_types",
        what: "the answer to GET /dapr/config",
        take: |bytes| {
            let hosted = app::config::parse(bytes, Duration::from_secs(30));
            let said = !hosted.types.is_empty() || !hosted.warnings.is_empty();
            let is_object = serde_json::from_slice::<serde_json::Value>(bytes)
                .is_ok_and(|json| json.is_object());
            assert!(said || is_object, "it is refused without a word");
        },
        valid: || {
            texts(&[
                concat!(
                    r#"{"entities":["a","b"],"actorIdleTimeout":"1h0m0s0ms","drainOngoingCallTimeout":"30s","#,
                    r#""drainRebalancedActors":true,"reentrancy":{"enabled":true,"maxStackDepth":32},"#,
                    r#""entitiesConfig":[{"entities":["a"],"actorIdleTimeout":"1s"}]}"#,
                ),
                r#"{"entities":null}"#,
            ])
        },
    });
}

/// The answer to `GET /dapr/subscribe` is subscriptions, or a sentence.
#[test]
fn subscriptions() {
    feed(&Decoder {
        name: "subscriptions",
        what: "the answer to GET /dapr/subscribe",
        take: |bytes| {
            if let Err(why) = wanted::parse(bytes, "shop") {
                assert!(!why.is_empty());
            }
        },
        valid: || {
            texts(&[
                concat!(
                    r#"[{"pubsubname":"pubsub","topic":"orders","routes":{"rules":[{"match":"event.type == 'x'","path":"/x"}],"#,
                    r#""default":"/y"},"bulkSubscribe":{"enabled":true},"metadata":{"rawPayload":"true"},"deadLetterTopic":"d"}]"#,
                ),
                r#"[{"pubsubname":"pubsub","topic":"orders","route":"/x"}]"#,
                "null",
            ])
        },
    });
}

/// A rule of a route compiles, or is refused; what compiles can be asked about any event.
#[test]
fn rules() {
    feed(&Decoder {
        name: "rules",
        what: "rules of routes",
        take: |bytes| {
            let text = String::from_utf8_lossy(bytes);
            let event = serde_json::json!({"type": "order", "data": {"id": "7", "total": 7, "list": [1, 2]}});
            if let Ok(rule) = Expression::compile(&text) {
                drop(rule.text(&event));
            }
            if let Ok(routes) = Routes::compile(&[(text.into_owned(), "/x".to_owned())], None) {
                drop(routes.path(&event));
            }
        },
        valid: || {
            texts(&[
                "event.type == \"order\" && has(event.data.total)",
                "event.data.list.filter(x, x > 1).size() > 0 ? event.data.id : 'none'",
                "event.data.total / 0 == -9223372036854775808 - 1",
                "((((((((1))))))))",
            ])
        },
    });
}

/// An envelope that is read is the same when it is written and read again; what is none can be
/// wrapped, whatever it is.
#[test]
fn envelopes() {
    feed(&Decoder {
        name: "envelopes",
        what: "envelopes of events",
        take: |bytes| {
            let stamp = Stamp {
                id: "1".to_owned(),
                time: WallTime(1_700_000_000_000),
            };
            let raw = Envelope::of_raw(bytes, PLACE, &Metadata::new(), stamp);
            let back = Envelope::parse(&raw.to_bytes()).expect("ours");
            assert_eq!(back.text("data_base64"), raw.text("data_base64"));
            let Ok(envelope) = Envelope::parse(bytes) else {
                return;
            };
            let again = Envelope::parse(&envelope.to_bytes()).expect("what was read is written");
            assert_eq!(again.to_bytes(), envelope.to_bytes());
            drop(envelope.payload());
            drop(envelope.to_json());
            let _ = envelope.is_expired(WallTime(1));
        },
        valid: || {
            texts(&[
                concat!(
                    r#"{"id":"7","source":"shop","specversion":"1.0","type":"order","datacontenttype":"application/json","#,
                    r#""data":{"total":7},"expiration":"2026-03-01T12:00:00Z","traceparent":"00-1-2-01"}"#,
                ),
                r#"{"id":"7","data_base64":"AQID"}"#,
                r#"{"data":"text","datacontenttype":"text/plain"}"#,
            ])
        },
    });
}
