//! How batches fill where each topic partition has its share of the credits.

use std::time::Instant;

use futures::future::BoxFuture;
use ghostlight_protocol::limits::TOPIC_PARTITIONS;
use ghostlight_protocol::time::WallTime;

use super::*;
use crate::pubsub::batches;
use crate::pubsub::stop;
use crate::pubsub::target::{Batch, Handed, Letter, Said, Target};
use crate::pubsub::wanted::parse;
use crate::topics::Content;

/// Notes how long batches are.
#[derive(Debug, Default)]
struct Lengths(Mutex<Vec<usize>>);

impl Target for Lengths {
    fn deliver<'a>(&'a self, _: &'a Letter, _: &'a Handed) -> BoxFuture<'a, Said> {
        unreachable!("batches alone")
    }

    fn deliver_batch<'a>(
        &'a self,
        batch: &'a Batch,
        handed: &'a Handed,
    ) -> BoxFuture<'a, Vec<Said>> {
        handed.set();
        self.0.lock().unwrap().push(batch.entries.len());
        Box::pin(async { vec![Said::Done; batch.entries.len()] })
    }
}

/// Of one publisher, in one topic partition; which gets no more than its share, by count or by
/// bytes.
#[tokio::test]
async fn a_batch_does_not_wait_for_what_cannot_come() {
    for (metadata, events, bytes, wanted) in [
        ("{}", 1_000, 10, 100),
        ("{}", 400, 10_000, 27),
        (r#"{"maxInFlight": "20"}"#, 30, 10, 3),
    ] {
        let mut component = component("bus", ScriptedBus::answers([]));
        component.server = Server::Ghostlight;
        let pubsub = of([component]);
        let asked = format!(
            r#"[{{"pubsubname": "bus", "topic": "t", "route": "/x", "metadata": {metadata},
            "bulkSubscribe": {{"enabled": true}}}}]"#
        );
        let asked = parse(asked.as_bytes(), "shop").unwrap().remove(0);
        let bulk = asked.bulk.unwrap();
        let lengths = Arc::new(Lengths::default());
        let target: Arc<dyn Target> = lengths.clone();
        let line = pubsub.line(&owner(), asked, &target).unwrap();
        let subscribe = line.subscribe();
        let share = subscribe.credits.events.div_ceil(TOPIC_PARTITIONS.into());
        let share_bytes = subscribe.credits.bytes as usize / usize::from(TOPIC_PARTITIONS);
        let (feed, subscription, mut settled) = Subscription::channel(subscribe.credits.events);
        let (_stopper, stop) = stop::pair();
        let running =
            tokio::spawn(async move { batches::run(&line, bulk, subscription, &stop).await });
        let begun = Instant::now();
        let data = format!(r#"{{"id": "{}"}}"#, "x".repeat(bytes));
        let mut out = 0;
        for number in 0..events {
            while out >= share || out as usize * data.len() >= share_bytes {
                settled.recv().await.unwrap();
                out -= 1;
            }
            let content = Content {
                topic: subscribe.topic.clone(),
                partition: 3,
                offset: number,
                attempt: 1,
                published: WallTime(1),
                event: Event {
                    data: data.clone().into(),
                    ..Event::default()
                },
            };
            feed.deliver(number, content).unwrap();
            out += 1;
        }
        while out > 0 {
            settled.recv().await.unwrap();
            out -= 1;
        }
        // The last one may wait for more.
        assert!(
            begun.elapsed() < Duration::from_secs(2),
            "{metadata} {bytes}"
        );
        assert_eq!(lengths.0.lock().unwrap()[0], wanted, "{metadata} {bytes}");
        running.abort();
    }
}
