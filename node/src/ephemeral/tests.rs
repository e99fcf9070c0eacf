//! One node's hub: its subscribers, what arrives from others, last values.

use std::sync::Arc;
use std::time::Duration;

use ghostlight_protocol::code::Code;
use ghostlight_protocol::wire::hello::NodeRecord;

use super::*;
use crate::clock::wall_now;
use crate::handle::NodeHandle;
use crate::topics::{
    BulkEntry, BulkPublish, Bus, Delivery, Publish, PublishOutcome, Subscribe, Subscription, stored,
};
use crate::transport::EphemeralSink;

const ME: NodeId = NodeId(7);
const OTHER: NodeId = NodeId(9);

fn node() -> NodeHandle {
    let (handle, _requests) = NodeHandle::new();
    handle.hub().begin(&NodeRecord {
        node: ME.to_bytes().to_vec(),
        generation: 3,
        ..NodeRecord::default()
    });
    handle
}

fn topic(name: &str) -> TopicName {
    TopicName::new("default", "pubsub", name).unwrap()
}

fn event(text: &str) -> Event {
    Event {
        data: Bytes::copy_from_slice(text.as_bytes()),
        content_type: "text/plain".to_owned(),
        source: "me".to_owned(),
        ..Event::default()
    }
}

fn publish(name: &str, text: &str) -> Publish {
    Publish {
        topic: topic(name),
        event: event(text),
        dedup: None,
        name: None,
        ttl: None,
        timeout: None,
        retention: None,
    }
}

async fn listen(node: &NodeHandle, name: &str) -> Subscription {
    let bus = node.ephemeral(Keep::Nothing);
    bus.subscribe(Subscribe::new(topic(name), ""))
        .await
        .unwrap()
}

/// What is there now, and what was lost before it.
async fn now(subscription: &mut Subscription) -> Option<(String, u64)> {
    let next = tokio::time::timeout(Duration::ZERO, subscription.next());
    let delivery: Delivery = next.await.ok()??;
    let text = String::from_utf8(delivery.event.data.to_vec()).unwrap();
    let found = Some((text, delivery.missed));
    delivery.ack();
    found
}

/// An event as another node sends it.
fn remote(name: &str, text: &str, number: u64, published: u64, latch: Latch) -> EphemeralEvent {
    let stored = stored(event(text), None, published);
    let sample = Sample {
        held: Arc::<room::Room>::default().hold(0),
        topic: topic(name),
        event: event(text),
        published: WallTime(published),
        expires_ms: 0,
        origin: OTHER,
        place: Place { epoch: 1, number },
        encoded: prost::Message::encode_to_vec(&stored).into(),
    };
    sample.to_frame(&TopicKey::of(&topic(name)), latch, &[])
}

#[tokio::test]
async fn every_subscriber_gets_every_event_whatever_its_group() {
    let node = node();
    let mut all = Vec::new();
    for name in ["t", "t", "u"] {
        all.push(listen(&node, name).await);
    }
    let bus = node.ephemeral(Keep::Nothing);
    let sent = bus.send(publish("t", "1")).unwrap();
    assert_eq!((sent.number, sent.nodes, sent.subscribers), (1, 0, 2));
    let bulk = BulkPublish {
        topic: topic("t"),
        entries: ["2", "3"]
            .map(|text| BulkEntry {
                event: event(text),
                name: None,
                ttl: None,
            })
            .to_vec(),
        timeout: None,
        retention: None,
    };
    let done = Bus::bulk_publish(&bus, bulk).await;
    assert_eq!(done, vec![PublishOutcome::Done(None); 2]);
    for subscription in &mut all[..2] {
        for text in ["1", "2", "3"] {
            assert_eq!(now(subscription).await, Some((text.to_owned(), 0)));
        }
        assert_eq!(now(subscription).await, None);
    }
    assert_eq!(now(&mut all[2]).await, None);
    all.clear();
    assert_eq!(node.hub().counts().subscribers, 0);
    assert_eq!(
        node.hub().view(&topic("t")),
        None,
        "nobody wants it any more"
    );
}

#[tokio::test]
async fn a_slow_subscriber_loses_its_oldest_events_and_nobody_elses() {
    let node = node();
    let (mut slow, mut fast) = (listen(&node, "t").await, listen(&node, "t").await);
    let bus = node.ephemeral(Keep::Nothing);
    let all = 3_000;
    for number in 1..=all {
        bus.send(publish("t", &number.to_string())).unwrap();
        assert_eq!(now(&mut fast).await, Some((number.to_string(), 0)));
    }
    let kept = ghostlight_core::ephemeral::ring::RING_EVENTS_DEFAULT as u64;
    let first = all - kept + 1;
    assert_eq!(now(&mut slow).await, Some((first.to_string(), all - kept)));
    assert_eq!(now(&mut slow).await, Some(((first + 1).to_string(), 0)));
    let view = node.hub().view(&topic("t")).unwrap();
    assert_eq!((view.subscribers, view.dropped), (2, all - kept));
}

/// What others get in so many rounds of a publish to all, and how long that takes.
async fn rounds(node: &NodeHandle, others: &mut [Subscription], count: u64) -> Duration {
    let bus = node.ephemeral(Keep::Nothing);
    let begun = std::time::Instant::now();
    for number in 0..count {
        let text = number.to_string();
        bus.send(publish("t", &text)).unwrap();
        for other in &mut *others {
            assert_eq!(now(other).await, Some((text.clone(), 0)));
        }
    }
    begun.elapsed()
}

/// One of nine subscribers takes nothing, at some times of one run: the best time of the others
/// beside it, and that without it.
#[tokio::test]
async fn a_stuck_subscriber_does_not_slow_the_others() {
    const ROUNDS: u64 = 1_500;
    let node = node();
    let mut others = Vec::new();
    for _ in 0..8 {
        others.push(listen(&node, "t").await);
    }
    rounds(&node, &mut others, ROUNDS).await;
    let (mut alone, mut beside) = (Duration::MAX, Duration::MAX);
    for _ in 0..7 {
        alone = alone.min(rounds(&node, &mut others, ROUNDS).await);
        let stuck = listen(&node, "t").await;
        // Its ring is full before the clock runs.
        rounds(&node, &mut others, ROUNDS).await;
        beside = beside.min(rounds(&node, &mut others, ROUNDS).await);
        drop(stuck);
    }
    println!("{ROUNDS} events to 8 subscribers: alone {alone:?}, beside a stuck one {beside:?}");
    // A ninth ring is filled for it: an eighth more than alone, and room for what the machine does
    // beside.
    assert!(beside < alone * 3 / 2, "{beside:?}, alone {alone:?}");
}

#[tokio::test]
async fn when_too_much_waits_those_who_are_behind_give_way() {
    const MOST: usize = 256 << 10;
    let node = node();
    node.hub().lock().room = Arc::new(room::Room::of(MOST));
    let used = || node.hub().lock().room.used();
    let mut stuck = Vec::new();
    for name in ["a", "b", "c"] {
        stuck.push(listen(&node, name).await);
    }
    let mut fast = listen(&node, "t").await;
    let bus = node.ephemeral(Keep::Nothing);
    let text = "x".repeat(1_000);
    let all = 900;
    for number in 1..=all {
        for name in ["a", "b", "c", "t"] {
            bus.send(publish(name, &text)).unwrap();
        }
        assert_eq!(now(&mut fast).await, Some((text.clone(), 0)), "{number}");
        assert!(used() <= MOST, "{number}: {}", used());
    }
    for (name, behind) in ["a", "b", "c"].into_iter().zip(&mut stuck) {
        let (mut seen, mut lost) = (0, 0);
        while let Some((_, missed)) = now(behind).await {
            seen += 1;
            lost += missed;
        }
        assert_eq!(seen + lost, all, "{name}: it is told what it has lost");
        assert!(lost > 0 && seen > 0, "{name}: {seen} seen, {lost} lost");
    }
    drop((stuck, fast));
    assert_eq!(used(), 0, "all of it is given back");
}

#[tokio::test]
async fn a_subscriber_holds_no_more_than_its_credits() {
    let node = node();
    let bus = node.ephemeral(Keep::Nothing);
    let mut wanted = Subscribe::new(topic("t"), "");
    wanted.credits.events = 2;
    let mut subscription = bus.subscribe(wanted).await.unwrap();
    for text in ["1", "2", "3"] {
        bus.send(publish("t", text)).unwrap();
    }
    let held = [
        subscription.next().await.unwrap(),
        subscription.next().await.unwrap(),
    ];
    assert_eq!(now(&mut subscription).await, None);
    let [one, _two] = held;
    // Whatever its verdict: it does not come again.
    one.retry("no");
    assert_eq!(now(&mut subscription).await, Some(("3".to_owned(), 0)));
}

#[tokio::test]
async fn a_pause_takes_nothing_and_loses_nothing_that_fits() {
    let node = node();
    let mut subscription = listen(&node, "t").await;
    subscription.pause();
    node.ephemeral(Keep::Nothing)
        .send(publish("t", "1"))
        .unwrap();
    assert_eq!(now(&mut subscription).await, None);
    subscription.resume();
    assert_eq!(now(&mut subscription).await, Some(("1".to_owned(), 0)));
}

#[tokio::test]
async fn the_last_value_waits_for_who_comes_later_until_its_time_is_over() {
    let node = node();
    let bus = node.ephemeral(Keep::LastValue);
    bus.send(publish("t", "1")).unwrap();
    bus.send(publish("t", "2")).unwrap();
    let mut late = listen(&node, "t").await;
    assert_eq!(now(&mut late).await, Some(("2".to_owned(), 0)));
    assert_eq!(now(&mut late).await, None);
    let short = Publish {
        ttl: Some(Duration::from_millis(1)),
        ..publish("t", "3")
    };
    bus.send(short).unwrap();
    let published = wall_now();
    while wall_now().0 < published.0 + 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(now(&mut late).await, None, "it has expired in the ring");
    assert_eq!(now(&mut listen(&node, "t").await).await, None);
    // An ephemeral publish leaves the last value alone.
    bus.send(publish("t", "4")).unwrap();
    node.ephemeral(Keep::Nothing)
        .send(publish("t", "5"))
        .unwrap();
    let mut later = listen(&node, "t").await;
    assert_eq!(now(&mut later).await, Some(("4".to_owned(), 0)));
}

#[tokio::test]
async fn what_was_lost_on_the_way_is_told_and_late_ones_are_dropped() {
    let node = node();
    let hub = node.hub();
    let mut subscription = listen(&node, "t").await;
    let passing = |number: u64| remote("t", &number.to_string(), number, 5, Latch::Passing);
    hub.arrived(OTHER, [40, 41, 45, 44, 46].map(passing).to_vec());
    for (text, missed) in [("40", 0), ("41", 0), ("45", 3), ("46", 0)] {
        assert_eq!(
            now(&mut subscription).await,
            Some((text.to_owned(), missed))
        );
    }
    assert_eq!((hub.counts().received, hub.counts().late), (5, 1));
    // Nobody wants it here, and bytes that are no event hurt nobody.
    hub.arrived(OTHER, vec![remote("u", "x", 1, 5, Latch::Passing)]);
    let odd = EphemeralEvent {
        event: Bytes::from_static(&[0xff]),
        ..passing(47)
    };
    hub.arrived(OTHER, vec![odd, passing(48)]);
    let next = now(&mut subscription).await;
    assert_eq!(next, Some(("48".to_owned(), 1)));
    assert_eq!(hub.counts().unreadable, 1);
}

#[tokio::test]
async fn of_several_last_values_the_latest_counts() {
    let node = node();
    let hub = node.hub();
    let mut first = listen(&node, "t").await;
    let replay = |text, published| remote("t", text, published, published, Latch::Replay);
    hub.arrived(OTHER, vec![replay("7", 7), replay("6", 6), replay("7", 7)]);
    assert_eq!(now(&mut first).await, Some(("7".to_owned(), 0)));
    assert_eq!(now(&mut first).await, None);
    hub.arrived(OTHER, vec![remote("t", "8", 8, 8, Latch::LastValue)]);
    assert_eq!(now(&mut first).await, Some(("8".to_owned(), 0)));
    assert_eq!(
        now(&mut listen(&node, "t").await).await,
        Some(("8".to_owned(), 0))
    );
    drop(first);
    // Kept for its subscribers alone: it is not this node's own.
    assert_eq!(now(&mut listen(&node, "t").await).await, None);
}

#[tokio::test]
async fn before_the_node_and_after_it_nothing_is_sent() {
    let (handle, _requests) = NodeHandle::new();
    let bus = handle.ephemeral(Keep::Nothing);
    let refused = |sent: Result<Sent, _>| sent.unwrap_err();
    let early: ghostlight_protocol::outcome::NotRun = refused(bus.send(publish("t", "1")));
    assert_eq!(early.code, Code::NotJoined);
    let node = node();
    let bus = node.ephemeral(Keep::Nothing);
    let mut subscription = listen(&node, "t").await;
    let waiting = tokio::spawn(async move { subscription.next().await.is_none() });
    node.hub().end();
    assert!(waiting.await.unwrap(), "it is over");
    assert_eq!(
        refused(bus.send(publish("t", "1"))).code,
        Code::ShuttingDown
    );
    let again = bus.subscribe(Subscribe::new(topic("t"), "")).await;
    assert_eq!(again.err().map(|e| e.code), Some(Code::ShuttingDown));
}

#[tokio::test]
async fn what_cannot_be_sent_is_refused_by_name() {
    let node = node();
    let bus = node.ephemeral(Keep::Nothing);
    let mut large = publish("t", "");
    large.event.data = vec![0; ghostlight_protocol::limits::REQUEST_BODY_BYTES_MAX + 1].into();
    assert_eq!(bus.send(large).unwrap_err().code, Code::BodyTooLarge);
    let mut header = publish("t", "");
    header.event.key = Some("k".repeat(17 << 10));
    assert_eq!(bus.send(header).unwrap_err().code, Code::InvalidArgument);
    let actors = bus.subscribe(Subscribe::for_actors(topic("t"), "g")).await;
    assert_eq!(actors.err().map(|e| e.code), Some(Code::InvalidArgument));
}
