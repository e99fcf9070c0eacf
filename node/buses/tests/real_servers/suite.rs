//! What every bus must do, whatever server is behind it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use ghostlight_buses::{
    BulkEntry, BulkPublish, Bus, Declared, Delivery, Event, EventName, Order, Publish,
    PublishOutcome, Standing, Subscribe, Subscription, TopicName, open,
};
use ghostlight_protocol::code::Code;

use crate::server::{Program, Serves};

/// How long anything here may take.
pub(crate) const TIME_MAX: Duration = Duration::from_secs(60);

/// A kind of bus under test.
#[derive(Clone, Copy)]
pub(crate) struct Kind {
    /// Its type.
    pub(crate) name: &'static str,
    /// Metadata of a component, with short leases.
    pub(crate) metadata: fn(port: u16) -> Vec<(&'static str, String)>,
    /// Makes what an operator of its server has to make, such as a stream.
    pub(crate) prepare: fn(port: u16),
    /// How long an event is lent without renewal; `None`: as long as its connection.
    pub(crate) lease: Option<Duration>,
    /// How processes of a group share its events.
    pub(crate) sharing: Sharing,
    /// Who counts how often an event was delivered.
    pub(crate) count: Count,
    /// What a member that joins a group means for what was acknowledged.
    pub(crate) joining: Joining,
}

/// What a member that joins a group means for what was acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Joining {
    /// Nothing.
    RepeatsNothing,
    /// What was acknowledged while it joined may come again: the mock cluster takes no commits
    /// meanwhile, as Kafka would.
    RepeatsTheLast,
}

/// Who counts how often an event was delivered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Count {
    /// The bus: the next process goes on.
    Bus,
    /// Each process for itself.
    #[cfg_attr(not(feature = "kafka"), expect(dead_code, reason = "Kafka's"))]
    Process,
}

impl Kind {
    /// A bus with a server of its own.
    pub(crate) const fn of(program: &Program, lease: Option<Duration>, sharing: Sharing) -> Self {
        Self {
            name: program.kind,
            metadata: program.metadata,
            prepare: program.prepare,
            lease,
            sharing,
            count: Count::Bus,
            joining: Joining::RepeatsNothing,
        }
    }
}

/// How processes of a group share its events.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sharing {
    /// Each takes some.
    SideBySide,
    /// One takes all, and another one when it has gone.
    OneAtATime,
}

/// One component on the server, as one process would have it.
pub(crate) fn component(kind: &Kind, port: u16, instance: &str) -> Arc<dyn Bus> {
    let metadata = (kind.metadata)(port).into_iter();
    let declared = Declared {
        name: "orders".to_owned(),
        kind: kind.name.to_owned(),
        metadata: metadata
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
        consumer: "shop".to_owned(),
        instance: instance.to_owned(),
    };
    let opened = open(&declared)
        .expect("a known kind")
        .expect("metadata that can be");
    opened.bus
}

pub(crate) fn topic(name: &str) -> TopicName {
    TopicName::new("default", "orders", name).expect("a valid name")
}

fn event(data: impl Into<String>) -> Event {
    Event {
        data: data.into().into_bytes().into(),
        attributes: BTreeMap::from([("colour".to_owned(), "grün".to_owned())]),
        ..Event::default()
    }
}

pub(crate) fn publish(name: &str, data: impl Into<String>) -> Publish {
    Publish {
        topic: topic(name),
        event: event(data),
        dedup: None,
        name: None,
        ttl: None,
        timeout: Some(Duration::from_secs(5)),
        retention: None,
    }
}

/// Publishes until the bus has it.
pub(crate) async fn surely(bus: &dyn Bus, name: &str, data: &str) {
    surely_this(bus, publish(name, data)).await;
}

async fn surely_this(bus: &dyn Bus, publish: Publish) {
    within(async {
        while !matches!(bus.publish(publish.clone()).await, PublishOutcome::Done(_)) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

/// Subscribes as soon as the bus lets it.
pub(crate) async fn subscribe(bus: &dyn Bus, name: &str, group: &str) -> Subscription {
    subscribe_as(bus, Subscribe::new(topic(name), group)).await
}

pub(crate) async fn subscribe_as(bus: &dyn Bus, wanted: Subscribe) -> Subscription {
    within(async {
        loop {
            match bus.subscribe(wanted.clone()).await {
                Ok(subscription) => return subscription,
                Err(error) => assert_eq!(error.code, Code::BusUnavailable, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
}

pub(crate) async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(TIME_MAX, work)
        .await
        .expect("not within the time for anything")
}

pub(crate) async fn next(subscription: &mut Subscription) -> Delivery {
    within(subscription.next())
        .await
        .expect("a subscription that goes on")
}

pub(crate) fn text(delivery: &Delivery) -> String {
    String::from_utf8(delivery.event.data.to_vec()).expect("text")
}

/// Takes and acknowledges so many.
pub(crate) async fn take(subscription: &mut Subscription, count: usize) -> BTreeSet<String> {
    let mut got = BTreeSet::new();
    for _ in 0..count {
        let delivery = next(subscription).await;
        got.insert(text(&delivery));
        delivery.ack();
    }
    got
}

fn numbered(count: usize) -> BTreeSet<String> {
    (0..count).map(|n| format!("e{n}")).collect()
}

/// Everything that needs no crash, on one server.
pub(crate) async fn serves(kind: Kind, server: &mut dyn Serves) {
    server.start();
    let port = server.port();
    (kind.prepare)(port);
    published_is_delivered(&kind, port).await;
    bulk(&kind, port).await;
    a_group_shares(&kind, port).await;
    groups_get_everything_each(&kind, port).await;
    what_failed_comes_again(&kind, port).await;
    what_failed_comes_before_those_behind_it(&kind, port).await;
    what_always_fails_is_given_up(&kind, port).await;
    a_slow_handler_is_not_a_dead_one(&kind, port).await;
    what_a_subscriber_held_goes_to_the_next(&kind, port).await;
    what_a_dead_process_held_comes_again(&kind, port).await;
}

/// The least that a server must do.
pub(crate) async fn delivers(kind: Kind, server: &mut dyn Serves) {
    server.start();
    (kind.prepare)(server.port());
    published_is_delivered(&kind, server.port()).await;
}

/// A server that is not to be believed gets nothing.
pub(crate) async fn is_refused(kind: Kind, server: &mut dyn Serves) {
    server.start();
    (kind.prepare)(server.port());
    let bus = component(&kind, server.port(), "a");
    within(async {
        while !matches!(bus.standing(), Standing::Unreachable(_)) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let refused = bus.publish(publish("plain", "secret")).await;
    let PublishOutcome::NotRun(refusal) = refused else {
        panic!("published to a server that nobody vouches for: {refused:?}");
    };
    assert_eq!(refusal.code, Code::BusUnavailable, "{refusal:?}");
    let Standing::Unreachable(why) = bus.standing() else {
        panic!("{:?}", bus.standing());
    };
    assert!(why.to_lowercase().contains("cert"), "{why}");
}

async fn published_is_delivered(kind: &Kind, port: u16) {
    let bus = component(kind, port, "a");
    let mut subscription = subscribe(&*bus, "plain", "g").await;
    surely(&*bus, "plain", "Grüße").await;
    let delivery = next(&mut subscription).await;
    assert_eq!(text(&delivery), "Grüße");
    assert_eq!(delivery.attempt, 1);
    delivery.ack();
    assert_eq!(bus.standing(), Standing::Ready);
}

async fn bulk(kind: &Kind, port: u16) {
    let bus = component(kind, port, "a");
    let mut subscription = subscribe(&*bus, "bulk", "g").await;
    let outcomes = publish_many(&*bus, "bulk", 300).await;
    assert_eq!(outcomes, vec![PublishOutcome::Done(None); 300]);
    assert_eq!(take(&mut subscription, 300).await, numbered(300));
}

/// Publishes so many at once.
pub(crate) async fn publish_many(bus: &dyn Bus, name: &str, count: u32) -> Vec<PublishOutcome> {
    let entries = numbered(count as usize).into_iter().map(|data| BulkEntry {
        event: event(data),
        name: None,
        ttl: None,
    });
    let entries = entries.collect();
    bus.bulk_publish(BulkPublish {
        topic: topic(name),
        entries,
        timeout: None,
        retention: None,
    })
    .await
}

async fn a_group_shares(kind: &Kind, port: u16) {
    let (one, two) = (component(kind, port, "a"), component(kind, port, "b"));
    let mut first = subscribe(&*one, "shared", "g").await;
    let mut second = subscribe(&*two, "shared", "g").await;
    for data in numbered(200) {
        surely(&*one, "shared", &data).await;
    }
    let (mut mine, mut theirs) = (BTreeSet::new(), BTreeSet::new());
    within(async {
        while mine.len() + theirs.len() < 200 {
            let (delivery, whose) = tokio::select! {
                delivery = first.next() => (delivery, &mut mine),
                delivery = second.next() => (delivery, &mut theirs),
            };
            let delivery = delivery.expect("a subscription that goes on");
            assert!(
                whose.insert(text(&delivery)),
                "{} came twice",
                text(&delivery)
            );
            delivery.ack();
        }
    })
    .await;
    assert!(
        mine.is_disjoint(&theirs),
        "both have {:?}",
        mine.intersection(&theirs)
    );
    if kind.sharing == Sharing::OneAtATime {
        assert!(mine.is_empty() || theirs.is_empty());
        return;
    }
    assert!(
        mine.len() > 10 && theirs.len() > 10,
        "{} and {}",
        mine.len(),
        theirs.len()
    );
}

async fn groups_get_everything_each(kind: &Kind, port: u16) {
    let bus = component(kind, port, "a");
    let mut first = subscribe(&*bus, "each", "g").await;
    let mut second = subscribe(&*bus, "each", "h").await;
    for data in numbered(20) {
        surely(&*bus, "each", &data).await;
    }
    assert_eq!(take(&mut first, 20).await, numbered(20));
    assert_eq!(take(&mut second, 20).await, numbered(20));
}

async fn what_failed_comes_again(kind: &Kind, port: u16) {
    let bus = component(kind, port, "a");
    let mut subscription = subscribe(&*bus, "failing", "g").await;
    surely(&*bus, "failing", "poor").await;
    let delivery = next(&mut subscription).await;
    delivery.retry("not now");
    let again = next(&mut subscription).await;
    assert_eq!((text(&again).as_str(), again.attempt), ("poor", 2));
    again.ack();
    // What is over is over: the next one that comes is a new one.
    surely(&*bus, "failing", "fresh").await;
    assert_eq!(
        take(&mut subscription, 1).await,
        BTreeSet::from(["fresh".to_owned()])
    );
}

/// Where one is handled after the other.
async fn what_failed_comes_before_those_behind_it(kind: &Kind, port: u16) {
    let bus = component(kind, port, "a");
    let wanted = Subscribe {
        order: Order::Partition,
        ..Subscribe::new(topic("ordered"), "g")
    };
    let mut subscription = subscribe_as(&*bus, wanted).await;
    for data in ["a", "b", "c"] {
        let mut publish = publish("ordered", data);
        // Of one partition, where the bus has several.
        publish.event.key = Some("one".to_owned());
        surely_this(&*bus, publish).await;
    }
    let failing = next(&mut subscription).await;
    assert_eq!(text(&failing), "a");
    failing.retry("not now");
    assert_eq!(in_order(&mut subscription, 3).await, ["a", "b", "c"]);
}

/// An event that no handler can take neither comes for ever nor keeps others waiting.
async fn what_always_fails_is_given_up(kind: &Kind, port: u16) {
    let bus = component(kind, port, "a");
    let wanted = Subscribe {
        max_deliver: Some(3),
        ..Subscribe::new(topic("poison"), "g")
    };
    let mut subscription = subscribe_as(&*bus, wanted.clone()).await;
    surely(&*bus, "poison", "bad").await;
    for data in numbered(5) {
        surely(&*bus, "poison", &data).await;
    }
    let (mut good, mut attempts) = (BTreeSet::new(), Vec::new());
    while good.len() < 5 || attempts.len() < 3 {
        let delivery = next(&mut subscription).await;
        match text(&delivery).as_str() {
            "bad" => {
                attempts.push(delivery.attempt);
                delivery.retry("never");
            }
            data => {
                good.insert(data.to_owned());
                delivery.ack();
            }
        }
    }
    assert_eq!(attempts, [1, 2, 3]);
    // It has gone from the bus as well.
    let quiet = kind.lease.unwrap_or(Duration::from_millis(300)) * 2;
    assert!(
        tokio::time::timeout(quiet, subscription.next())
            .await
            .is_err()
    );
    drop(subscription);
    let mut subscription = subscribe_as(&*bus, wanted).await;
    surely(&*bus, "poison", "last").await;
    assert_eq!(text(&next(&mut subscription).await), "last");
}

async fn a_slow_handler_is_not_a_dead_one(kind: &Kind, port: u16) {
    let lease = kind.lease.unwrap_or(Duration::from_millis(300));
    let (one, two) = (component(kind, port, "a"), component(kind, port, "b"));
    let mut slow = subscribe(&*one, "slow", "g").await;
    surely(&*one, "slow", "long").await;
    let delivery = next(&mut slow).await;
    let mut other = subscribe(&*two, "slow", "g").await;
    // The handler takes its time; nobody else gets the event meanwhile.
    let stolen = tokio::time::timeout(lease * 3, other.next()).await;
    assert!(stolen.is_err(), "delivered elsewhere while it was handled");
    delivery.ack();
    surely(&*one, "slow", "last").await;
    loop {
        let last = within(async {
            tokio::select! {
                delivery = slow.next() => delivery,
                delivery = other.next() => delivery,
            }
        });
        let last = last.await.expect("a subscription that goes on");
        let repeated = kind.joining == Joining::RepeatsTheLast && text(&last) == "long";
        assert!(repeated || text(&last) == "last", "{}", text(&last));
        last.ack();
        if !repeated {
            return;
        }
    }
}

async fn what_a_subscriber_held_goes_to_the_next(kind: &Kind, port: u16) {
    let bus = component(kind, port, "a");
    let mut leaving = subscribe(&*bus, "left", "g").await;
    surely(&*bus, "left", "kept").await;
    let held = next(&mut leaving).await;
    drop(leaving);
    drop(held);
    drop(bus);
    let bus = component(kind, port, "a");
    let mut subscription = subscribe(&*bus, "left", "g").await;
    assert_eq!(
        take(&mut subscription, 1).await,
        BTreeSet::from(["kept".to_owned()])
    );
}

/// Nobody says good-bye: the connections break, and leases end.
async fn what_a_dead_process_held_comes_again(kind: &Kind, port: u16) {
    let process = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let dying = *kind;
    let held = process.spawn(async move {
        let bus = component(&dying, port, "a");
        let mut subscription = subscribe(&*bus, "dead", "g").await;
        surely(&*bus, "dead", "kept").await;
        let delivery = next(&mut subscription).await;
        (delivery, subscription, bus)
    });
    let held = held.await.expect("a delivery");
    process.shutdown_background();
    let bus = component(kind, port, "b");
    let mut subscription = subscribe(&*bus, "dead", "g").await;
    let again = next(&mut subscription).await;
    assert_eq!(text(&again), "kept");
    let least = match kind.count {
        Count::Bus => 2,
        Count::Process => 1,
    };
    assert!(again.attempt >= least, "{}", again.attempt);
    again.ack();
    drop(held);
}

/// A dead letter has the id of the event that it was: a bus that knows ids must not take it for a
/// repetition.
pub(crate) async fn same_id_on_two_topics(kind: Kind, server: &mut dyn Serves) {
    server.start();
    (kind.prepare)(server.port());
    let bus = component(&kind, server.port(), "a");
    let mut letters = subscribe(&*bus, "letters", "g").await;
    let mut orders = subscribe(&*bus, "orders", "g").await;
    let envelope = r#"{"id":"same","source":"till","data":1}"#;
    let other = r#"{"id":"same","source":"desk","data":1}"#;
    // What an application calls its own order names no event.
    let raw = [r#"{"id":"same","n":1}"#, r#"{"id":"same","n":2}"#];
    let name = |source: &str| {
        Some(EventName {
            source: source.to_owned(),
            id: "named".to_owned(),
        })
    };
    for (topic, data, content_type, name) in [
        ("orders", envelope, ENVELOPE, None),
        ("letters", envelope, ENVELOPE, None),
        // Said twice on one topic it is one event.
        ("letters", envelope, ENVELOPE, None),
        ("letters", other, ENVELOPE, None),
        ("letters", raw[0], "application/json", None),
        ("letters", raw[1], "application/json", None),
        ("letters", "one", "text/plain", name("till")),
        ("letters", "other", "text/plain", name("desk")),
        ("letters", "one", "text/plain", name("till")),
        ("letters", "last", "text/plain", None),
    ] {
        let mut publish = publish(topic, data);
        publish.event.content_type = content_type.to_owned();
        publish.name = name;
        let outcome = bus.publish(publish).await;
        assert_eq!(outcome, PublishOutcome::Done(None), "{topic} {data}");
    }
    assert_eq!(in_order(&mut orders, 1).await, [envelope]);
    let wanted = [envelope, other, raw[0], raw[1], "one", "other", "last"];
    assert_eq!(in_order(&mut letters, 7).await, wanted);
}

/// Media type of an event with its envelope.
const ENVELOPE: &str = "application/cloudevents+json";

/// Takes and acknowledges so many, as they come.
async fn in_order(subscription: &mut Subscription, count: usize) -> Vec<String> {
    let mut got = Vec::new();
    for _ in 0..count {
        let delivery = next(subscription).await;
        got.push(text(&delivery));
        delivery.ack();
    }
    got
}

/// By a subscription with a wildcard, what was published where.
pub(crate) async fn wildcards_tell_topics(kind: Kind, server: &mut dyn Serves) {
    server.start();
    let bus = component(&kind, server.port(), "a");
    let mut subscription = subscribe(&*bus, "sensors/+/temp", "g").await;
    surely(&*bus, "sensors/7/temp", "21").await;
    let mut kept = publish("sensors/8/temp", "22");
    kept.event.attributes = BTreeMap::from([("retain".to_owned(), "true".to_owned())]);
    assert_eq!(bus.publish(kept).await, PublishOutcome::Done(None));
    for (wanted, retained) in [("sensors/7/temp", "false"), ("sensors/8/temp", "false")] {
        let delivery = next(&mut subscription).await;
        assert_eq!(delivery.topic, topic(wanted));
        assert_eq!(delivery.event.attributes["retained"], retained, "{wanted}");
        delivery.ack();
    }
    let mut later = subscribe(&*bus, "sensors/+/temp", "h").await;
    let delivery = next(&mut later).await;
    assert_eq!(delivery.topic, topic("sensors/8/temp"));
    assert_eq!(delivery.event.attributes["retained"], "true");
}

/// Leases end while nobody can renew them: what is being handled is handled by nobody else for
/// that.
pub(crate) async fn away_for_longer_than_a_lease(kind: Kind, server: &mut dyn Serves) {
    server.start();
    let port = server.port();
    (kind.prepare)(port);
    let (one, two) = (component(&kind, port, "a"), component(&kind, port, "b"));
    let mut slow = subscribe(&*one, "slow", "g").await;
    surely(&*one, "slow", "long").await;
    let delivery = next(&mut slow).await;
    let mut other = subscribe(&*two, "slow", "g").await;
    let lease = kind.lease.expect("a bus that lends for a time");
    server.end();
    // As long as it takes for the leases to end.
    tokio::time::sleep(lease * 2).await;
    server.start();
    let again = async {
        tokio::select! {
            delivery = slow.next() => delivery,
            delivery = other.next() => delivery,
        }
    };
    // Until everybody has looked for what is left of dead processes.
    let again = tokio::time::timeout(lease * 3 + Duration::from_secs(7), again).await;
    assert!(again.is_err(), "delivered while it was handled: {again:?}");
    delivery.ack();
    surely(&*one, "slow", "last").await;
    let last = within(async {
        tokio::select! {
            delivery = slow.next() => delivery,
            delivery = other.next() => delivery,
        }
    });
    let last = last.await.expect("a subscription that goes on");
    assert_eq!(text(&last), "last");
}

/// A bus that is not there yet, and then goes in the middle.
pub(crate) async fn comes_and_goes(kind: Kind, server: &mut dyn Serves) {
    let bus = component(&kind, server.port(), "a");
    let refused = bus.publish(publish("stream", "early")).await;
    let PublishOutcome::NotRun(refusal) = refused else {
        panic!("published to a server that does not run: {refused:?}");
    };
    assert_eq!(refusal.code, Code::BusUnavailable, "{refusal:?}");
    assert!(refusal.retry_after.is_some(), "{refusal:?}");
    within(async {
        while !matches!(bus.standing(), Standing::Unreachable(_)) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let refused = bus.subscribe(Subscribe::new(topic("stream"), "g")).await;
    assert_eq!(
        refused.err().map(|error| error.code),
        Some(Code::BusUnavailable)
    );
    server.start();
    (kind.prepare)(server.port());
    restarted_in_the_middle(&kind, server, bus).await;
}

/// Events are published all the time while the server is killed twice; what was acknowledged is
/// delivered.
async fn restarted_in_the_middle(kind: &Kind, server: &mut dyn Serves, bus: Arc<dyn Bus>) {
    let subscription = subscribe(&*bus, "stream", "g").await;
    let over = Arc::new(AtomicBool::new(false));
    let done = Arc::new(AtomicU32::new(0));
    let publishing = tokio::spawn(publish_all_the_time(
        component(kind, server.port(), "p"),
        Arc::clone(&over),
        Arc::clone(&done),
    ));
    let (wanted, wants) = tokio::sync::oneshot::channel();
    let consuming = tokio::spawn(consume(subscription, wants));
    for _ in 0..2 {
        more(&done, 200).await;
        server.end();
        server.start();
    }
    more(&done, 200).await;
    over.store(true, Ordering::Relaxed);
    let acknowledged = within(publishing).await.expect("a publisher");
    assert!(acknowledged.len() >= 600, "{}", acknowledged.len());
    wanted.send(acknowledged).expect("a consumer");
    within(consuming)
        .await
        .expect("a consumer that got everything");
}

/// Waits for so many more acknowledgements.
async fn more(done: &AtomicU32, count: u32) {
    let target = done.load(Ordering::Relaxed) + count;
    within(async {
        while done.load(Ordering::Relaxed) < target {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

async fn publish_all_the_time(
    bus: Arc<dyn Bus>,
    over: Arc<AtomicBool>,
    done: Arc<AtomicU32>,
) -> BTreeSet<String> {
    let mut acknowledged = BTreeSet::new();
    let mut number = 0_u32;
    while !over.load(Ordering::Relaxed) {
        number += 1;
        let data = format!("e{number}");
        match bus.publish(publish("stream", &data)).await {
            PublishOutcome::Done(_) => {
                acknowledged.insert(data);
                done.fetch_add(1, Ordering::Relaxed);
            }
            PublishOutcome::NotRun(_) | PublishOutcome::Unknown { .. } => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
    acknowledged
}

/// Acknowledges what comes, until it has everything that is wanted.
async fn consume(
    mut subscription: Subscription,
    mut wants: tokio::sync::oneshot::Receiver<BTreeSet<String>>,
) {
    let mut got = BTreeSet::new();
    let wanted = loop {
        tokio::select! {
            wanted = &mut wants => break wanted.expect("a test that goes on"),
            delivery = subscription.next() => {
                let delivery = delivery.expect("a subscription that goes on");
                got.insert(text(&delivery));
                delivery.ack();
            }
        }
    };
    while let Some(missing) = wanted.difference(&got).next() {
        let delivery = tokio::time::timeout(TIME_MAX, subscription.next()).await;
        let Ok(Some(delivery)) = delivery else {
            panic!(
                "{missing} was acknowledged and is not delivered, nor {} more",
                wanted.difference(&got).count() - 1
            );
        };
        got.insert(text(&delivery));
        delivery.ack();
    }
}
