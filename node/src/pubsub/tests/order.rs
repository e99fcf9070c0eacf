//! In which order events are begun that are handled side by side.

use std::time::Duration;

use futures::future::BoxFuture;

use super::*;
use crate::pubsub::stop;
use crate::pubsub::target::{Batch, Handed, Letter, Said, Target};
use crate::pubsub::wanted::parse;
use crate::topics::{Content, Feature};

/// Notes what reaches it, and takes its time.
#[derive(Debug, Default)]
struct Noting(Mutex<Vec<String>>);

impl Target for Noting {
    fn deliver<'a>(&'a self, letter: &'a Letter, handed: &'a Handed) -> BoxFuture<'a, Said> {
        Box::pin(async {
            handed.set();
            let id = letter.envelope.text("id").unwrap_or_default();
            self.0.lock().unwrap().push(id);
            tokio::time::sleep(Duration::from_millis(5)).await;
            Said::Done
        })
    }

    fn deliver_batch<'a>(
        &'a self,
        _batch: &'a Batch,
        _handed: &'a Handed,
    ) -> BoxFuture<'a, Vec<Said>> {
        unreachable!("no batches here")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_begun_as_they_came_and_handled_side_by_side() {
    const EVENTS: u64 = 500;
    let bus = ScriptedBus {
        features: &[Feature::Redelivery],
        ..ScriptedBus::default()
    };
    let pubsub = of([component("bus", Arc::new(bus))]);
    let wanted = parse(
        br#"[{"pubsubname":"bus","topic":"t","route":"/x"}]"#,
        "shop",
    )
    .unwrap();
    let noting = Arc::new(Noting::default());
    let target: Arc<dyn Target> = noting.clone();
    let line = pubsub.line(&owner(), wanted[0].clone(), &target).unwrap();
    let (feed, subscription, mut settled) = Subscription::channel(EVENTS as u32);
    let begun = std::time::Instant::now();
    let (_stopper, stop) = stop::pair();
    let running = tokio::spawn(async move { line.run(subscription, &stop).await });
    for number in 0..EVENTS {
        let event = Event {
            data: format!(r#"{{"id":"{number}"}}"#).into(),
            ..Event::default()
        };
        let content = Content {
            topic: TopicName::new("default", "bus", "t").unwrap(),
            partition: 0,
            offset: number,
            attempt: 1,
            published: ghostlight_protocol::time::WallTime(1),
            event,
        };
        feed.deliver(number, content).unwrap();
        tokio::task::yield_now().await;
    }
    for _ in 0..EVENTS {
        settled.recv().await.unwrap();
    }
    assert!(
        begun.elapsed() < Duration::from_millis(5 * EVENTS / 2),
        "side by side: {:?}",
        begun.elapsed()
    );
    let wanted: Vec<String> = (0..EVENTS).map(|number| number.to_string()).collect();
    assert_eq!(*noting.0.lock().unwrap(), wanted);
    running.abort();
}
