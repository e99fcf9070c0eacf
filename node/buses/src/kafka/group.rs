//! One subscription: a member of its group, and the desk where verdicts are told.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use ghostlight_protocol::topic::Order;
use tokio::sync::oneshot;

use super::Kafka;
use super::ledger::{Handle, Ledger, Line};
use super::reader::{Member, Shelf};
use crate::bus::SubscribeError;
use crate::external::{External, not_there};
use crate::pump::{Again, Bounds, Desk, Out, Over, begin, joined};
use crate::subscription::{Content, GiveUp, Subscribe, Subscription};

/// How long the group may take to know a member.
const JOIN_TIME_MAX: Duration = Duration::from_secs(30);
/// Most events that one subscription holds; those of resting partitions wait beside it.
const HELD_MAX: u32 = 1_024;

/// Pause before an event comes again that its component would pass over.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// See the module.
pub(super) async fn subscribe(
    bus: &External<Kafka>,
    subscribe: Subscribe,
) -> Result<Subscription, SubscribeError> {
    let options = &bus.options;
    let named = options.group.clone();
    let group = named.unwrap_or_else(|| subscribe.group.name_on(&options.instance));
    let (line, out) = match subscribe.order {
        // Kafka orders by partition, which is the stricter one.
        Order::Partition | Order::Key => (Line::OneByOne, HELD_MAX),
        Order::None => (
            Line::SideBySide,
            subscribe.credits.events.clamp(1, HELD_MAX),
        ),
    };
    let bounds = Bounds {
        // Its ledger keeps the order.
        out: Out::SideBySide(out),
        // The places of what is settled are free only when that was told: others are ready
        // meanwhile.
        held: out.saturating_mul(2),
        renewal: None,
        deliver: subscribe.max_deliver,
    };
    let shelf = Arc::new(Shelf::new(Ledger::new(line)));
    let member = Member {
        shelf: Arc::clone(&shelf),
        client: options.consumer(&group),
        topic: subscribe.topic,
        begin: options.begin,
        headers: options.headers,
    };
    let (join, outcome) = oneshot::channel();
    let place = Place {
        shelf: Arc::clone(&shelf),
        retry: match subscribe.give_up {
            GiveUp::Bus => options.retry,
            GiveUp::Subscriber => Some(options.retry.unwrap_or(RETRY_PAUSE)),
        },
    };
    let subscription = begin(place, bounds, |room, taken| async move {
        shelf.open(room, taken);
        // The member's thread reads; it ends with the desk, which hears the last verdicts.
        std::future::pending().await
    });
    let reader = thread::Builder::new().name("kafka".to_owned());
    let reader = reader.spawn(move || member.run(join));
    reader.map_err(|error| not_there(format!("there is no thread for a subscription: {error}")))?;
    let known = joined(outcome, JOIN_TIME_MAX).await;
    known.map_err(|why| not_there(format!("Kafka does not know the subscription: {why}")))?;
    Ok(subscription)
}

struct Place {
    shelf: Arc<Shelf>,
    /// Pause before an event that failed comes again; `None`: it is passed over.
    retry: Option<Duration>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shelf.close();
    }
}

impl Desk for Place {
    type Handle = Handle;

    async fn settle(&mut self, over: Vec<Over<Handle>>) -> usize {
        let mut ledger = self.shelf.ledger();
        for Over { handle, .. } in &over {
            ledger.over(handle);
        }
        drop(ledger);
        self.shelf.hand_out();
        over.len()
    }

    fn rest(&self, _attempt: u32) -> Duration {
        self.retry.unwrap_or_default()
    }

    async fn again(&mut self, handle: Handle, attempt: u32) -> Again<Handle> {
        if !self.shelf.ledger().has(&handle) {
            // Its partition is another member's, or will be.
            self.shelf.ledger().let_go(&handle);
            return Again::GivenBack;
        }
        if self.retry.is_none() {
            tracing::warn!(
                topic = %handle.content.topic,
                offset = handle.offset,
                "an event whose handler failed is passed over, as its component says"
            );
            self.shelf.ledger().over(&handle);
            self.shelf.hand_out();
            return Again::GivenBack;
        }
        let content = Content {
            attempt: attempt + 1,
            ..(*handle.content).clone()
        };
        Again::Deliver(handle, Box::new(content))
    }

    /// A member keeps its partitions while its process lives.
    async fn renew(&mut self, _held: Vec<Handle>) {}

    /// What was not committed is whose the partition is next.
    async fn release(&mut self, held: Vec<Handle>) {
        let mut ledger = self.shelf.ledger();
        for handle in &held {
            ledger.let_go(handle);
        }
    }
}
