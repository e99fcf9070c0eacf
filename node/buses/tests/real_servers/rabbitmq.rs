//! What RabbitMQ alone does: resource alarms, events that are over when they are sent.

use std::process::Command;
use std::time::Duration;

use amqprs::channel::QueueDeclareArguments;
use amqprs::connection::{Connection, OpenConnectionArguments};
use ghostlight_buses::{GiveUp, PublishOutcome, Standing, Subscribe};
use ghostlight_protocol::code::Code;
use libtest_mimic::Trial;

use crate::programs::RABBITMQ;
use crate::server::{Server, Serves as _};
use crate::suite::{self, TIME_MAX};

pub(crate) fn trials() -> Vec<Trial> {
    let kind = RABBITMQ.kind;
    let trials = [
        crate::trial(kind, "comes back from an alarm", alarm),
        crate::trial(kind, "keeps what its subscriber ends", comes_again),
        crate::trial(kind, "sends no more than is handled", backlog),
    ];
    trials.map(|trial| RABBITMQ.judged(trial)).into()
}

/// An operator's word to a server.
fn control(server: &Server, words: &[&str]) {
    let mut command = Command::new("sh");
    command.args([
        "-c",
        r#"exec /usr/lib/rabbitmq/bin/rabbitmqctl "$@""#,
        "rabbitmqctl",
    ]);
    command.args(words).env("HOME", server.directory()).env(
        "RABBITMQ_NODENAME",
        format!("ghostlight{}@localhost", server.port()),
    );
    let said = command.output().expect("rabbitmqctl");
    let why = String::from_utf8_lossy(&said.stderr);
    assert!(said.status.success(), "{words:?}: {why}");
}

/// A server that reads no publishes for a while, and publishers that do not wait for it.
async fn alarm() {
    let mut server = Server::new(RABBITMQ);
    server.start();
    let bus = suite::component(&crate::kind(RABBITMQ), server.port(), "a");
    let mut subscription = suite::subscribe(&*bus, "orders", "g").await;
    suite::surely(&*bus, "orders", "before").await;
    control(&server, &["set_vm_memory_high_watermark", "0"]);
    let mut leaving = Vec::new();
    for number in 0..500 {
        let mut publish = suite::publish("orders", format!("left {number}"));
        publish.timeout = Some(Duration::from_millis(200));
        leaving.push(bus.publish(publish));
    }
    for outcome in futures::future::join_all(leaving).await {
        assert!(
            matches!(outcome, PublishOutcome::Unknown { .. }),
            "{outcome:?}"
        );
    }
    suite::within(async {
        while !matches!(bus.standing(), Standing::Unreachable(_)) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let refused = bus.publish(suite::publish("orders", "refused")).await;
    let PublishOutcome::NotRun(refusal) = refused else {
        panic!("published to a server that takes nothing: {refused:?}");
    };
    assert_eq!(refusal.code, Code::BusUnavailable, "{refusal:?}");
    assert!(refusal.detail.contains("alarm"), "{refusal:?}");
    control(&server, &["set_vm_memory_high_watermark", "0.4"]);
    suite::within(async {
        while bus.standing() != Standing::Ready {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    for number in 0..10 {
        let publish = suite::publish("orders", format!("after {number}"));
        let outcome = bus.publish(publish).await;
        assert_eq!(outcome, PublishOutcome::Done(None), "after {number}");
    }
    // What was not refused before is there as well, and nothing else.
    let got = suite::take(&mut subscription, 511).await;
    assert_eq!(got.len(), 511);
    assert!(!got.contains("refused"));
}

/// With `autoAck` events are over when they are sent. That is no reason to send them all.
async fn backlog() {
    const EVENTS: u32 = 2_000;
    let mut server = Server::new(RABBITMQ);
    server.start();
    let mut kind = crate::kind(RABBITMQ);
    kind.metadata = |port| {
        let mut metadata = (RABBITMQ.metadata)(port);
        metadata.push(("autoAck", "true".to_owned()));
        metadata
    };
    let bus = suite::component(&kind, server.port(), "a");
    let mut wanted = Subscribe::new(suite::topic("bulk"), "g");
    wanted.credits.events = 10;
    // The queue is there from now on.
    drop(suite::subscribe_as(&*bus, wanted.clone()).await);
    for outcome in suite::publish_many(&*bus, "bulk", EVENTS).await {
        assert_eq!(outcome, PublishOutcome::Done(None));
    }
    let mut subscription = suite::subscribe_as(&*bus, wanted).await;
    let mut hanging = Vec::new();
    for _ in 0..10 {
        hanging.push(suite::next(&mut subscription).await);
    }
    let more = tokio::time::timeout(Duration::from_secs(1), subscription.next()).await;
    assert!(more.is_err(), "more than are handled at once");
    let left = queue_length(server.port(), "g-bulk").await;
    assert!(left >= EVENTS - 100, "{left} of {EVENTS} are left");
    for delivery in hanging {
        delivery.ack();
    }
    suite::take(&mut subscription, EVENTS as usize - 10).await;
    assert_eq!(queue_length(server.port(), "g-bulk").await, 0);
}

/// Events that wait in a queue.
async fn queue_length(port: u16, queue: &str) -> u32 {
    let arguments = OpenConnectionArguments::new("127.0.0.1", port, "guest", "guest");
    let connection = Connection::open(&arguments).await.expect("a connection");
    let channel = connection.open_channel(None).await.expect("a channel");
    let mut asking = QueueDeclareArguments::new(queue);
    asking.passive(true);
    let said = channel.queue_declare(asking).await.expect("a queue");
    let (_, length, _) = said.expect("an answer");
    // It has said what it was asked for.
    drop(connection.close().await);
    length
}

/// A component that drops what failed does not drop what its subscriber makes dead letters of.
async fn comes_again() {
    let mut server = Server::new(RABBITMQ);
    server.start();
    let mut kind = crate::kind(RABBITMQ);
    kind.metadata = |port| {
        let mut metadata = (RABBITMQ.metadata)(port);
        metadata.retain(|(name, _)| !["requeueInFailure", "enableDeadLetter"].contains(name));
        metadata
    };
    let bus = suite::component(&kind, server.port(), "a");
    for give_up in [GiveUp::Subscriber, GiveUp::Bus] {
        let wanted = Subscribe {
            give_up,
            ..Subscribe::new(suite::topic("failing"), "g")
        };
        let mut subscription = suite::subscribe_as(&*bus, wanted).await;
        suite::surely(&*bus, "failing", "bad").await;
        suite::next(&mut subscription).await.retry("no letter");
        suite::surely(&*bus, "failing", "last").await;
        let wanted: &[&str] = match give_up {
            GiveUp::Subscriber => &["bad", "last"],
            GiveUp::Bus => &["last"],
        };
        let mut got = Vec::new();
        while got.len() < wanted.len() {
            let delivery = tokio::time::timeout(TIME_MAX, subscription.next()).await;
            let delivery = delivery
                .expect("in time")
                .expect("a subscription that goes on");
            got.push(suite::text(&delivery));
            delivery.ack();
        }
        got.sort();
        assert_eq!(got, wanted, "{give_up:?}");
    }
}
