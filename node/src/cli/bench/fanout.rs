//! One publisher to many subscribers, from inside nodes' processes: what an ephemeral topic costs
//! for each delivery.
//!
//! An event says when it was sent, by the machine's clock, which all processes share. So many
//! events are under way at most: listeners on other nodes say now and then how far the slowest of
//! their subscribers is, by an ephemeral topic too.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use hdrhistogram::Histogram;
use tokio::sync::Notify;
use tokio::task::LocalSet;

use super::order::{FanLoad, Report, buckets, histogram};
use crate::ephemeral::{Ephemeral, Keep, Sent};
use crate::handle::NodeHandle;
use crate::topics::{Event, Publish, Subscribe, Subscription, TopicName};

type Result<T> = std::result::Result<T, String>;

/// Name of the component.
const PUBSUB: &str = "bench";
/// A listener says how far it is after so many events.
const TOLD_EVERY: u64 = 64;
/// Events that are published at once, as a busy publisher does.
const AT_ONCE: u64 = 16;
/// How long listeners may take to be known, and the last events to come.
const WAIT_MAX: Duration = Duration::from_secs(20);
/// Number of the event after the last.
const END: u64 = u64::MAX;

/// What the subscribers of one process have seen.
pub(super) struct Seen {
    /// Number of the last event, for each subscriber; `END` at the end.
    at: Vec<Cell<u64>>,
    deliveries: Cell<u64>,
    missed: Cell<u64>,
    latencies: RefCell<Histogram<u64>>,
    moved: Notify,
}

impl Seen {
    pub(super) fn by(subscribers: u32) -> Rc<Self> {
        Rc::new(Self {
            at: (0..subscribers).map(|_| Cell::new(0)).collect(),
            deliveries: Cell::new(0),
            missed: Cell::new(0),
            latencies: RefCell::new(histogram()),
            moved: Notify::new(),
        })
    }

    /// A subscriber has an event; whether more follow.
    pub(super) fn has(&self, subscriber: usize, data: &[u8], missed: u64) -> bool {
        let (number, sent) = (word(data, 0), word(data, 8));
        self.at[subscriber].set(number);
        self.missed.set(self.missed.get() + missed);
        if number != END {
            self.deliveries.set(self.deliveries.get() + 1);
            let latency = now_ns().saturating_sub(sent).max(1);
            self.latencies.borrow_mut().saturating_record(latency);
        }
        self.moved.notify_one();
        number != END
    }

    /// How far the slowest is.
    pub(super) fn slowest(&self) -> u64 {
        self.at.iter().map(Cell::get).min().unwrap_or(END)
    }

    pub(super) async fn moved(&self) {
        self.moved.notified().await;
    }

    pub(super) fn report(&self, seconds: f64) -> Report {
        Report {
            calls: self.deliveries.get(),
            failed: self.missed.get(),
            failure: (self.missed.get() > 0).then(|| "a subscriber was too slow".to_owned()),
            seconds,
            latencies: buckets(&self.latencies.borrow()),
            ..Report::default()
        }
    }
}

fn word(data: &[u8], at: usize) -> u64 {
    let bytes = data.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
    bytes.map_or(0, u64::from_be_bytes)
}

fn now_ns() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| u64::try_from(now.as_nanos()).unwrap_or(u64::MAX))
}

/// The event with a number, sent now.
pub(super) fn event(number: u64, bytes: usize) -> Vec<u8> {
    let mut data = vec![b'x'; bytes.max(16)];
    data[..8].copy_from_slice(&number.to_be_bytes());
    data[8..16].copy_from_slice(&now_ns().to_be_bytes());
    data
}

/// Publishes by `send` until the time is up: `behind` says how far the slowest subscriber is,
/// `moved` that it has moved on.
pub(super) async fn drive<F: Future<Output = ()>>(
    load: &FanLoad,
    mut send: impl FnMut(u64) -> Result<()>,
    slowest: impl Fn() -> u64,
    moved: impl Fn() -> F,
) -> Result<f64> {
    let begun = Instant::now();
    let time = Duration::from_millis(load.time_ms);
    let mut number = 0;
    while begun.elapsed() < time {
        let due = match load.per_second {
            None => number + AT_ONCE,
            Some(rate) => {
                tokio::time::sleep(Duration::from_millis(1)).await;
                (begun.elapsed().as_secs_f64() * f64::from(rate)) as u64
            }
        };
        while number < due {
            if number.saturating_sub(slowest()) >= load.window {
                let waited = tokio::time::timeout(WAIT_MAX, moved()).await;
                waited.map_err(|_| format!("nothing has come for {WAIT_MAX:?}"))?;
                continue;
            }
            number += 1;
            send(number)?;
        }
        tokio::task::yield_now().await;
    }
    let seconds = begun.elapsed().as_secs_f64();
    send(END)?;
    let over = async {
        while slowest() != END {
            moved().await;
        }
    };
    let over = tokio::time::timeout(WAIT_MAX, over).await;
    over.map_err(|_| "the last events did not come".to_owned())?;
    Ok(seconds)
}

/// Runs something on this thread.
pub(super) fn on_this_thread<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start a runtime: {error}"))?;
    LocalSet::new().block_on(&runtime, work)
}

/// A topic of one measurement, and the bus that it is on.
struct Topic {
    bus: Ephemeral,
    name: TopicName,
}

impl Topic {
    fn of(node: &NodeHandle, namespace: &str, load: &FanLoad, what: &str) -> Result<Self> {
        let topic = format!("fan-{}-{what}", load.series);
        let name = TopicName::new(namespace, PUBSUB, &topic);
        Ok(Self {
            bus: node.ephemeral(Keep::Nothing),
            name: name.map_err(|error| error.to_string())?,
        })
    }

    fn send(&self, data: Vec<u8>) -> Result<Sent> {
        let sent = self.bus.send(Publish {
            topic: self.name.clone(),
            event: Event {
                data: Bytes::from(data),
                content_type: "application/octet-stream".to_owned(),
                source: "bench".to_owned(),
                ..Event::default()
            },
            dedup: None,
            name: None,
            ttl: None,
            timeout: None,
            retention: None,
        });
        sent.map_err(|refusal| refusal.detail)
    }

    async fn subscribe(&self) -> Result<Subscription> {
        let wanted = Subscribe::new(self.name.clone(), "");
        let subscription = self.bus.subscribe(wanted).await;
        subscription.map_err(|error| error.to_string())
    }

    /// Subscribes as often as is wanted, each on a task of its own.
    async fn listen(&self, seen: &Rc<Seen>) -> Result<()> {
        for subscriber in 0..seen.at.len() {
            let mut subscription = self.subscribe().await?;
            let seen = Rc::clone(seen);
            drop(tokio::task::spawn_local(async move {
                while let Some(delivery) = subscription.next().await {
                    let more = seen.has(subscriber, &delivery.event.data, delivery.missed);
                    delivery.ack();
                    if !more {
                        break;
                    }
                }
            }));
        }
        Ok(())
    }
}

/// Publishes to subscribers here and to `load.listeners` other nodes; reports what those here saw.
pub(super) fn publish(node: &NodeHandle, namespace: &str, load: &FanLoad) -> Result<Report> {
    on_this_thread(async {
        let events = Topic::of(node, namespace, load, "events")?;
        let far = Topic::of(node, namespace, load, "far")?;
        let told = Seen::by(load.listeners);
        let mut words = far.subscribe().await?;
        let hears = Rc::clone(&told);
        drop(tokio::task::spawn_local(async move {
            while let Some(word) = words.next().await {
                let data = word.event.data.clone();
                word.ack();
                let listener = word_of_listener(&data);
                if let Some(at) = hears.at.get(listener) {
                    at.set(self::word(&data, 0));
                    hears.moved.notify_one();
                }
            }
        }));
        let seen = Seen::by(load.subscribers);
        events.listen(&seen).await?;
        let mut stuck = Vec::new();
        for _ in 0..load.stuck {
            stuck.push(events.subscribe().await?);
        }
        let known = async {
            while events.bus.reach(&events.name) != load.listeners as usize {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let known = tokio::time::timeout(WAIT_MAX, known).await;
        known.map_err(|_| "the listeners did not come".to_owned())?;
        let seconds = drive(
            load,
            |number| events.send(event(number, load.bytes)).map(drop),
            || told.slowest().min(seen.slowest()),
            || async {
                tokio::select! {
                    () = told.moved() => {}
                    () = seen.moved() => {}
                }
            },
        );
        let seconds = seconds.await?;
        drop(stuck);
        Ok(seen.report(seconds))
    })
}

/// Listens until the publisher says that it is over.
pub(super) fn listen(node: &NodeHandle, namespace: &str, load: &FanLoad) -> Result<Report> {
    on_this_thread(async {
        let events = Topic::of(node, namespace, load, "events")?;
        let far = Topic::of(node, namespace, load, "far")?;
        let seen = Seen::by(load.subscribers);
        events.listen(&seen).await?;
        let begun = Instant::now();
        let mut told = 0;
        while told != END {
            seen.moved().await;
            let slowest = seen.slowest();
            if slowest == END || slowest >= told + TOLD_EVERY {
                told = slowest;
                let mut data = event(slowest, 24);
                data[16..24].copy_from_slice(&u64::from(load.listener).to_be_bytes());
                far.send(data)?;
            }
        }
        Ok(seen.report(begun.elapsed().as_secs_f64()))
    })
}

fn word_of_listener(data: &[u8]) -> usize {
    usize::try_from(word(data, 16)).unwrap_or(usize::MAX)
}
