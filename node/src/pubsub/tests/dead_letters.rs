//! Dead letters of a bus that keeps none: published by the subscription, before the event is over.

use futures::future::BoxFuture;
use ghostlight_protocol::time::WallTime;

use super::*;
use crate::pubsub::stop;
use crate::pubsub::target::{Batch, Handed, Letter, Said, Target};
use crate::pubsub::wanted::parse;
use crate::topics::{Content, Verdict};

/// Says the same about every event.
#[derive(Debug)]
struct Saying(Said);

impl Target for Saying {
    fn deliver<'a>(&'a self, _: &'a Letter, handed: &'a Handed) -> BoxFuture<'a, Said> {
        handed.set();
        Box::pin(async { self.0.clone() })
    }

    fn deliver_batch<'a>(&'a self, batch: &'a Batch, _: &'a Handed) -> BoxFuture<'a, Vec<Said>> {
        Box::pin(async { batch.entries.iter().map(|_| self.0.clone()).collect() })
    }
}

/// While its dead letter cannot be published an event comes again, whatever was said of it and
/// however often it came.
#[tokio::test]
async fn an_event_ends_when_its_letter_is_published() {
    let expired = r#"{"id": "1", "expiration": "2001-01-01T00:00:00Z"}"#;
    let why = String::new;
    for (said, data) in [
        (Said::Never(why()), r#"{"id": "1"}"#),
        (Said::Again(why()), r#"{"id": "1"}"#),
        (Said::Done, expired),
        (Said::Done, "no event"),
    ] {
        let unknown = PublishOutcome::Unknown {
            code: Code::OutcomeUnknown,
            detail: why(),
        };
        let bus = ScriptedBus::answers([not_run(Code::BusUnavailable), unknown]);
        let pubsub = of([component("bus", bus.clone())]);
        let wanted =
            br#"[{"pubsubname": "bus", "topic": "t", "route": "/x", "deadLetterTopic": "dead",
            "metadata": {"maxDeliver": "2"}}]"#;
        let wanted = parse(wanted, "shop").unwrap().remove(0);
        let target: Arc<dyn Target> = Arc::new(Saying(said.clone()));
        let line = pubsub.line(&owner(), wanted, &target).unwrap();
        let asked = line.subscribe();
        let (feed, subscription, mut settled) = Subscription::channel(1);
        let (_stopper, stop) = stop::pair();
        let running = tokio::spawn(async move { line.run(subscription, &stop).await });
        for attempt in 1..=3 {
            let content = Content {
                topic: asked.topic.clone(),
                partition: 0,
                offset: 0,
                attempt,
                published: WallTime(1),
                event: Event {
                    data: Bytes::copy_from_slice(data.as_bytes()),
                    ..Event::default()
                },
            };
            feed.deliver(attempt.into(), content).unwrap();
            let verdict = settled.recv().await.unwrap().verdict;
            match attempt {
                3 => assert_eq!(verdict, Verdict::Ack, "{said:?} {data}"),
                _ => assert!(matches!(verdict, Verdict::Retry(_)), "{verdict:?}"),
            }
        }
        let seen = bus.seen.lock().unwrap();
        let letters = seen
            .iter()
            .filter(|publish| publish.topic.topic() == "dead");
        assert_eq!(letters.count(), 3, "{said:?} {data}");
        assert_eq!(asked.max_deliver, None, "the bus gives nothing up");
        running.abort();
    }
}
