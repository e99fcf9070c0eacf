mod batches;
mod dead_letters;
mod delivery;
mod grpc;
mod leaving;
mod order;
mod reload;

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use ghostlight_protocol::code::Code;
use ghostlight_protocol::outcome::NotRun;
use serde_json::Value;

use super::bulk_publish::Entry;
use super::envelope::Body;
use super::metadata::Metadata;
use super::policy::Policy;
use super::publish::{Beside, BusError};
use super::registry::{Retired, Server};
use super::scopes::Scopes;
use super::*;
use crate::resources::{Backoff, Matching, Retry, Target};
use crate::topics::{
    BulkPublish, Bus, BusFuture, Classes, Event, EventName, Feature, Publish, PublishOutcome,
    Subscribe, SubscribeError, Subscription,
};

/// Notes what is published, and answers as it is told; at last that it is done.
#[derive(Default)]
pub(crate) struct ScriptedBus {
    pub(crate) outcomes: Mutex<Vec<PublishOutcome>>,
    pub(crate) seen: Mutex<Vec<Publish>>,
    pub(crate) features: &'static [Feature],
}

impl ScriptedBus {
    pub(crate) fn answers(outcomes: impl IntoIterator<Item = PublishOutcome>) -> Arc<Self> {
        let mut outcomes: Vec<_> = outcomes.into_iter().collect();
        outcomes.reverse();
        Arc::new(Self {
            outcomes: Mutex::new(outcomes),
            ..Self::default()
        })
    }

    fn next(&self) -> PublishOutcome {
        let next = self.outcomes.lock().unwrap().pop();
        next.unwrap_or(PublishOutcome::Done(None))
    }

    fn events(&self) -> Vec<Event> {
        let seen = self.seen.lock().unwrap();
        seen.iter().map(|publish| publish.event.clone()).collect()
    }
}

impl Bus for ScriptedBus {
    fn publish(&self, publish: Publish) -> BusFuture<'_, PublishOutcome> {
        self.seen.lock().unwrap().push(publish);
        let next = self.next();
        Box::pin(async { next })
    }

    fn bulk_publish(&self, bulk: BulkPublish) -> BusFuture<'_, Vec<PublishOutcome>> {
        let outcomes = bulk.entries.into_iter().map(|entry| {
            self.seen.lock().unwrap().push(Publish {
                topic: bulk.topic.clone(),
                event: entry.event,
                dedup: None,
                name: entry.name,
                ttl: entry.ttl,
                timeout: None,
                retention: None,
            });
            self.next()
        });
        let outcomes = outcomes.collect();
        Box::pin(async { outcomes })
    }

    fn subscribe(
        &self,
        _subscribe: Subscribe,
    ) -> BusFuture<'_, Result<Subscription, SubscribeError>> {
        Box::pin(async { Ok(Subscription::channel(1).1) })
    }

    fn features(&self) -> &'static [Feature] {
        self.features
    }
}

pub(crate) fn owner() -> Owner {
    Owner {
        app_id: "shop".to_owned(),
        namespace: "default".to_owned(),
        pod: "n1".to_owned(),
    }
}

pub(crate) fn component(name: &str, bus: Arc<dyn Bus>) -> Component {
    Component {
        name: name.to_owned(),
        kind: "pubsub.scripted".to_owned(),
        version: "v1".to_owned(),
        metadata: Metadata::new(),
        consumer_id: String::new(),
        scopes: Scopes::default(),
        outbound: Policy::default(),
        inbound: Policy::default(),
        classes: Classes::default(),
        bus,
        server: Server::ItsSystem,
        retired: Retired::default(),
    }
}

pub(crate) fn of(components: impl IntoIterator<Item = Component>) -> PubSub {
    let absent: Arc<dyn Bus> = ScriptedBus::answers([]);
    PubSub {
        owner: owner(),
        registry: Mutex::new(Arc::new(Registry::of(components))),
        parts: Parts {
            resiliency: Vec::new(),
            ours: OwnTopics {
                durable: Arc::clone(&absent),
                ephemeral: Arc::clone(&absent),
                latched: absent,
            },
            buses: Buses::default(),
        },
        subscriptions: Subscriptions::default(),
        not_taken: Mutex::default(),
    }
}

fn not_run(code: Code) -> PublishOutcome {
    PublishOutcome::NotRun(NotRun::new(code, "why"))
}

fn metadata(pairs: &[(&str, &str)]) -> Metadata {
    let pairs = pairs.iter();
    pairs
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

async fn publish(pubsub: &PubSub, given: &[(&str, &str)]) -> Result<(), PublishError> {
    let component = pubsub.find("bus", "orders").unwrap();
    let body = Body {
        data: b"{\"n\": 1}",
        content_type: "application/json",
    };
    let beside = Beside {
        metadata: metadata(given),
        trace_parent: "00-1-2-01".to_owned(),
        trace_state: "a=b".to_owned(),
        ..Beside::default()
    };
    pubsub.publish(&component, "orders", body, beside).await
}

#[tokio::test]
async fn what_reaches_the_bus() {
    let bus = ScriptedBus::answers([]);
    let pubsub = of([component("bus", bus.clone())]);
    publish(
        &pubsub,
        &[("partitionKey", "k"), ("ttlInSeconds", "30"), ("x", "y")],
    )
    .await
    .unwrap();
    let seen = bus.seen.lock().unwrap().pop().unwrap();
    assert_eq!(seen.topic.to_string(), "bus/orders");
    assert_eq!(seen.ttl, Some(Duration::from_secs(30)));
    assert_eq!(seen.event.key.as_deref(), Some("k"));
    assert_eq!(seen.event.source, "shop");
    assert_eq!(seen.event.content_type, envelope::CLOUD_EVENT);
    assert_eq!(seen.event.attributes["x"], "y");
    let value: Value = serde_json::from_slice(&seen.event.data).unwrap();
    assert_eq!(value["data"]["n"], 1);
    assert_eq!(value["traceparent"], "00-1-2-01");
    // The bus has no time to live of its own.
    assert!(value["expiration"].is_string(), "{value}");
}

#[tokio::test]
async fn a_bus_with_its_own_time_to_live_gets_no_expiration() {
    let bus = Arc::new(ScriptedBus {
        features: &[Feature::MessageTtl],
        ..ScriptedBus::default()
    });
    let pubsub = of([component("bus", bus.clone())]);
    publish(&pubsub, &[("ttl", "30s")]).await.unwrap();
    let event = bus.events().pop().unwrap();
    let value: Value = serde_json::from_slice(&event.data).unwrap();
    assert!(value.get("expiration").is_none(), "{value}");
}

#[tokio::test]
async fn raw_payloads_go_as_they_are_with_their_trace_beside_them() {
    let bus = ScriptedBus::answers([]);
    let pubsub = of([component("bus", bus.clone())]);
    publish(&pubsub, &[("rawPayload", "true")]).await.unwrap();
    let event = bus.events().pop().unwrap();
    assert_eq!(&event.data[..], b"{\"n\": 1}");
    assert_eq!(event.content_type, "application/json");
    assert_eq!(event.attributes["traceid"], "00-1-2-01");
    assert_eq!(event.attributes["tracestate"], "a=b");
}

fn id_of(publish: &Publish) -> Option<String> {
    publish.name.as_ref().map(|name| name.id.clone())
}

/// What a publisher calls an event, by which it knows it again.
#[tokio::test]
async fn an_id_of_the_publishers_own_is_the_name_of_the_event() {
    let own = br#"{"id": "own", "source": "till", "data": 1}"#;
    let nameless = br#"{"source": "till", "data": 1}"#;
    let plain = "application/json";
    let event = "application/cloudevents+json; charset=utf-8";
    let (id, source) = (("CloudEvent.Id", "mine"), ("cloudevent.source", "desk"));
    let raw = ("rawPayload", "true");
    for (content_type, data, given, wanted) in [
        (plain, &b"1"[..], &[][..], None),
        (plain, b"1", &[id], Some(("shop", "mine"))),
        (plain, b"1", &[id, source], Some(("desk", "mine"))),
        (plain, b"1", &[id, raw], Some(("shop", "mine"))),
        (plain, b"1", &[raw], None),
        (event, own, &[], Some(("till", "own"))),
        (event, nameless, &[], None),
    ] {
        let wanted = wanted.map(|(source, id): (&str, &str)| EventName {
            source: source.to_owned(),
            id: id.to_owned(),
        });
        let bus = ScriptedBus::answers([]);
        let pubsub = of([component("bus", bus.clone())]);
        let component = pubsub.find("bus", "orders").unwrap();
        let body = Body { data, content_type };
        let beside = Beside {
            metadata: metadata(given),
            ..Beside::default()
        };
        let one = pubsub.publish(&component, "orders", body, beside.clone());
        one.await.unwrap();
        let entry = Entry {
            id: "1".to_owned(),
            data: Bytes::copy_from_slice(data),
            content_type: content_type.to_owned(),
            metadata: beside.metadata,
        };
        let beside = Beside::default();
        let several = pubsub.bulk_publish(&component, "orders", vec![entry], &beside);
        assert!(several.await.unwrap().is_empty());
        for publish in bus.seen.lock().unwrap().iter() {
            assert_eq!(publish.name, wanted, "{content_type} {given:?}");
        }
    }
}

#[tokio::test]
async fn repeated_publishes_have_one_name() {
    let outcomes = [not_run(Code::NoLeader), not_run(Code::NoLeader)];
    let bus = ScriptedBus::answers(outcomes);
    let mut component = component("bus", bus.clone());
    component.outbound = Policy::new(Target {
        retry: Some(Retry {
            backoff: Backoff::Constant(Duration::ZERO),
            max_retries: Some(2),
            matching: Matching::default(),
        }),
        ..Target::default()
    });
    publish(&of([component]), &[]).await.unwrap();
    let seen = bus.seen.lock().unwrap();
    let names: BTreeSet<_> = seen.iter().map(id_of).collect();
    assert_eq!((seen.len(), names.len()), (3, 1));
    assert!(names.iter().all(Option::is_some));
    let forgotten = seen.iter().all(|publish| publish.dedup.is_none());
    assert!(
        forgotten,
        "a record is kept for a day, and there is not room for so many"
    );
}

/// With a policy that never ends.
#[tokio::test]
async fn what_will_never_pass_is_not_repeated() {
    let endless = || {
        Policy::new(Target {
            retry: Some(Retry {
                backoff: Backoff::Constant(Duration::ZERO),
                max_retries: None,
                matching: Matching::default(),
            }),
            ..Target::default()
        })
    };
    let bus = ScriptedBus::answers([not_run(Code::NoLeader), not_run(Code::BodyTooLarge)]);
    let mut one = component("bus", bus.clone());
    one.outbound = endless();
    let refused = publish(&of([one]), &[]).await;
    let Err(PublishError::Bus(BusError::NotRun(refusal))) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!((refusal.code, bus.events().len()), (Code::BodyTooLarge, 2));
    let bus = ScriptedBus::answers([not_run(Code::BodyTooLarge), not_run(Code::NoLeader)]);
    let mut several = component("bus", bus.clone());
    several.outbound = endless();
    let pubsub = of([several]);
    let component = pubsub.find("bus", "orders").unwrap();
    let entries = ["a", "b"].map(entry).to_vec();
    let beside = Beside::default();
    let failed = pubsub.bulk_publish(&component, "orders", entries, &beside);
    let failed = failed.await.unwrap();
    let ids: Vec<_> = failed.iter().map(|failed| failed.id.as_str()).collect();
    assert_eq!((ids, bus.events().len()), (vec!["a"], 3));
}

#[tokio::test]
async fn without_a_policy_a_failure_is_told_at_once() {
    let bus = ScriptedBus::answers([not_run(Code::NoLeader)]);
    let refused = publish(&of([component("bus", bus.clone())]), &[]).await;
    let Err(PublishError::Bus(BusError::NotRun(refusal))) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(refusal.code, Code::NoLeader);
    assert_eq!(bus.events().len(), 1);
}

fn entry(id: &str) -> Entry {
    Entry {
        id: id.to_owned(),
        data: Bytes::from_static(b"hi"),
        content_type: "text/plain".to_owned(),
        metadata: metadata(&[("partitionKey", id)]),
    }
}

#[tokio::test]
async fn a_bulk_publish_tells_which_entries_failed_and_repeats_those_alone() {
    let script = || {
        [
            PublishOutcome::Done(None),
            not_run(Code::NoLeader),
            PublishOutcome::Done(None),
        ]
    };
    let beside = Beside {
        metadata: metadata(&[("partitionKey", "all"), ("ttl", "5s")]),
        ..Beside::default()
    };
    for (retries, failed, keys) in [(None, vec!["b"], "a b c"), (Some(1), vec![], "a b c b")] {
        let bus = ScriptedBus::answers(script());
        let mut component = component("bus", bus.clone());
        component.outbound = Policy::new(Target {
            retry: retries.map(|times| Retry {
                backoff: Backoff::Constant(Duration::ZERO),
                max_retries: Some(times),
                matching: Matching::default(),
            }),
            ..Target::default()
        });
        let pubsub = of([component]);
        let component = pubsub.find("bus", "orders").unwrap();
        let entries = ["a", "b", "c"].map(entry).to_vec();
        let found = pubsub.bulk_publish(&component, "orders", entries, &beside);
        let found = found.await.unwrap();
        let ids: Vec<_> = found.iter().map(|failed| failed.id.as_str()).collect();
        assert_eq!(ids, failed);
        let seen: Vec<_> = bus
            .events()
            .into_iter()
            .filter_map(|event| event.key)
            .collect();
        assert_eq!(seen.join(" "), keys, "its own metadata wins");
        let ttl = bus.seen.lock().unwrap()[0].ttl;
        assert_eq!(ttl, Some(Duration::from_secs(5)));
    }
}

#[tokio::test]
async fn entries_have_ids_of_their_own() {
    let bus = ScriptedBus::answers([]);
    let pubsub = of([component("bus", bus.clone())]);
    let component = pubsub.find("bus", "orders").unwrap();
    for wrong in [&["a", "a"][..], &["a", ""]] {
        let entries = wrong.iter().map(|id| entry(id)).collect();
        let beside = Beside::default();
        let refused = pubsub.bulk_publish(&component, "orders", entries, &beside);
        let wanted = PublishError::Entries(bulk_publish::ENTRY_ID.to_owned());
        assert_eq!(refused.await, Err(wanted), "{wrong:?}");
    }
    let named = Beside {
        dedup: Some(Bytes::from_static(b"once")),
        ..Beside::default()
    };
    let refused = pubsub.bulk_publish(&component, "orders", vec![entry("a")], &named);
    let wanted = PublishError::Entries(bulk_publish::ONE_NAME.to_owned());
    assert_eq!(refused.await, Err(wanted), "not silently ignored");
    assert!(bus.events().is_empty());
}

#[test]
fn fresh_ids_are_of_version_4() {
    let ids: BTreeSet<_> = (0..100).map(|_| fresh_id()).collect();
    assert_eq!(ids.len(), 100);
    for id in ids {
        let lengths: Vec<_> = id.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12], "{id}");
        assert_eq!(&id[14..15], "4", "{id}");
        assert!("89ab".contains(&id[19..20]), "{id}");
    }
}
