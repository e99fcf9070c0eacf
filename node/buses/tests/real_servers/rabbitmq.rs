//! What RabbitMQ alone does: resource alarms.

use std::process::Command;
use std::time::Duration;

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
