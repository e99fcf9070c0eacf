//! Between one subscriber and its bus: hands out what was taken from the bus, keeps leases alive,
//! tells verdicts.
//!
//! In: what a bus's reader took, verdicts, time. Out: deliveries, and words to the bus through its
//! [`Desk`]. A slow handler keeps its lease as long as its process lives: what is held here, handed
//! out or not, is renewed. Absent: where events come from, and what a bus makes of a verdict.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use crate::subscription::{Content, Settlement, Subscription, SubscriptionFeed, Verdict};

/// Verdicts that are told to a bus at once.
const VERDICTS_MAX: usize = 256;
/// How often verdicts that could not be told are tried again, and a pause is noticed.
const LOOK_PERIOD: Duration = Duration::from_millis(250);

/// Where verdicts are told.
pub(crate) trait Desk: Send + 'static {
    /// What the bus calls an event that it lent.
    type Handle: Clone + Send + Sync + 'static;

    /// These are over. Comes back: how many of the first ones the bus knows of now; the others are
    /// told later.
    fn settle(&mut self, over: Vec<Over<Self::Handle>>) -> impl Future<Output = usize> + Send;

    /// A handler failed for the `attempt`th time: how long before [`Desk::again`].
    fn rest(&self, attempt: u32) -> Duration;

    /// The rest is over.
    fn again(
        &mut self,
        handle: Self::Handle,
        attempt: u32,
    ) -> impl Future<Output = Again<Self::Handle>> + Send;

    /// Whether it is this subscription's still: an event that the bus has taken back comes again by
    /// itself, and is no longer handed out from here.
    fn is_lent(&self, _handle: &Self::Handle) -> bool {
        true
    }

    /// These are still held here.
    fn renew(&mut self, held: Vec<Self::Handle>) -> impl Future<Output = ()> + Send;

    /// The subscriber has gone: these are for others.
    fn release(&mut self, held: Vec<Self::Handle>) -> impl Future<Output = ()> + Send;
}

/// An event that is over.
pub(crate) struct Over<H> {
    pub(crate) handle: H,
    pub(crate) end: End,
}

/// How an event ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// Its handler was content with it, or wants it never again.
    Done,
    /// No handler could do anything with it, as often as it was delivered.
    GivenUp,
}

/// What becomes of an event after its rest.
pub(crate) enum Again<H> {
    /// It is delivered once more, from here.
    Deliver(H, Box<Content>),
    /// The bus has it again, or nobody: nothing is held.
    GivenBack,
    /// The bus cannot be asked now.
    Later(H),
}

/// An event that the bus lent, with its place among those that may be held.
pub(crate) struct Taken<H> {
    pub(crate) handle: H,
    pub(crate) content: Content,
    pub(crate) place: OwnedSemaphorePermit,
}

/// What one subscription may hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Bounds {
    /// Deliveries without a verdict.
    pub(crate) out: Out,
    /// Events that the bus has lent, those handed out among them.
    pub(crate) held: u32,
    /// How often leases are renewed; `None`: the bus has none.
    pub(crate) renewal: Option<Duration>,
    /// Deliveries of one event before it is given up; `None`: for ever.
    pub(crate) deliver: Option<u32>,
}

/// How many events are handed out at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Out {
    /// One, and the next one when it is over: what is to come again comes before all behind it.
    OneByOne,
    /// So many; what is to come again holds nobody up.
    SideBySide(u32),
}

impl Out {
    pub(crate) fn most(self) -> u32 {
        match self {
            Self::OneByOne => 1,
            Self::SideBySide(most) => most,
        }
    }
}

struct Held<H> {
    handle: H,
    attempt: u32,
    place: OwnedSemaphorePermit,
}

/// Places for what is held.
pub(crate) type Room = Arc<Semaphore>;

/// A task that ends with its handle.
pub(crate) struct Running(pub(crate) JoinHandle<()>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Begins a subscription: `reader` takes events from the bus into places of the room. It and the
/// pump end with the subscriber.
pub(crate) fn begin<D: Desk, R>(
    desk: D,
    bounds: Bounds,
    reader: impl FnOnce(Room, mpsc::Sender<Taken<D::Handle>>) -> R,
) -> Subscription
where
    R: Future<Output = ()> + Send + 'static,
{
    let (feed, subscription, settlements) = Subscription::channel(bounds.out.most());
    let room: Room = Arc::new(Semaphore::new(bounds.held as usize));
    let (sender, taken) = mpsc::channel(bounds.held as usize);
    let reader = Running(tokio::spawn(reader(room, sender)));
    drop(tokio::spawn(Pump::new(desk, bounds, feed).run(
        settlements,
        taken,
        reader,
    )));
    subscription
}

/// Waits until a reader says that the bus knows its subscription.
///
/// # Errors
/// It does not, or not in this time: half a sentence.
pub(crate) async fn joined(
    outcome: oneshot::Receiver<Result<(), String>>,
    time_max: Duration,
) -> Result<(), String> {
    match tokio::time::timeout(time_max, outcome).await {
        Ok(Ok(joined)) => joined,
        Ok(Err(_)) => Err("its reader ended".to_owned()),
        Err(_) => Err(format!("no answer within {time_max:?}")),
    }
}

/// See the module.
pub(crate) struct Pump<D: Desk> {
    desk: D,
    bounds: Bounds,
    feed: SubscriptionFeed,
    next_token: u64,
    ready: VecDeque<(Held<D::Handle>, Content)>,
    out: BTreeMap<u64, Held<D::Handle>>,
    resting: BTreeMap<(Instant, u64), Held<D::Handle>>,
    /// Given back by a subscriber that leaves.
    returned: Vec<Held<D::Handle>>,
    /// Over, and not told yet.
    untold: Vec<(Held<D::Handle>, End)>,
}

impl<D: Desk> Pump<D> {
    pub(crate) fn new(desk: D, bounds: Bounds, feed: SubscriptionFeed) -> Self {
        Self {
            desk,
            bounds,
            feed,
            next_token: 0,
            ready: VecDeque::new(),
            out: BTreeMap::new(),
            resting: BTreeMap::new(),
            returned: Vec::new(),
            untold: Vec::new(),
        }
    }

    /// Works until the subscriber has gone, or nothing more comes. `reader` fills `taken`, and ends
    /// with this.
    pub(crate) async fn run(
        mut self,
        mut settlements: mpsc::Receiver<Settlement>,
        mut taken: mpsc::Receiver<Taken<D::Handle>>,
        reader: Running,
    ) {
        let mut looks = interval(LOOK_PERIOD);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut renewals = interval(self.bounds.renewal.unwrap_or(Duration::MAX / 4));
        renewals.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut said = Vec::new();
        loop {
            self.hand_out();
            let rest = self.resting.keys().next().map(|(end, _)| *end);
            tokio::select! {
                () = self.feed.closed() => break,
                count = settlements.recv_many(&mut said, VERDICTS_MAX) => match count {
                    0 => break,
                    _ => self.hear(std::mem::take(&mut said)).await,
                },
                one = taken.recv() => match one {
                    Some(one) => self.take(one.handle, one.content, one.place),
                    None => break,
                },
                () = rested(rest) => self.wake().await,
                _ = renewals.tick(), if self.bounds.renewal.is_some() => {
                    let held = self.held();
                    if !held.is_empty() {
                        self.desk.renew(held).await;
                    }
                }
                _ = looks.tick(), if !self.untold.is_empty() || self.feed.is_paused() => self.tell().await,
            }
        }
        drop(reader);
        // Verdicts that were given count, those given right now among them.
        while let Ok(one) = settlements.try_recv() {
            said.push(one);
        }
        self.hear(said).await;
        while let Ok(one) = taken.try_recv() {
            self.take(one.handle, one.content, one.place);
        }
        let held = self.held();
        if !held.is_empty() {
            self.desk.release(held).await;
        }
    }

    fn take(&mut self, handle: D::Handle, content: Content, place: OwnedSemaphorePermit) {
        let attempt = content.attempt;
        let held = Held {
            handle,
            attempt,
            place,
        };
        self.ready.push_back((held, content));
    }

    fn take_again(&mut self, held: Held<D::Handle>, content: Content) {
        match self.bounds.out {
            Out::OneByOne => self.ready.push_front((held, content)),
            Out::SideBySide(_) => self.ready.push_back((held, content)),
        }
    }

    /// Whether one more may be handed out.
    fn has_turn(&self) -> bool {
        match self.bounds.out {
            Out::OneByOne => self.out.is_empty() && self.resting.is_empty(),
            Out::SideBySide(most) => self.out.len() < most as usize,
        }
    }

    fn hand_out(&mut self) {
        while self.has_turn() && !self.feed.is_paused() {
            let Some((held, content)) = self.ready.pop_front() else {
                return;
            };
            if !self.desk.is_lent(&held.handle) {
                continue;
            }
            let token = self.next_token;
            match self.feed.deliver(token, content) {
                Ok(()) => {
                    self.next_token += 1;
                    self.out.insert(token, held);
                }
                Err(content) => {
                    self.ready.push_front((held, content));
                    return;
                }
            }
        }
    }

    async fn hear(&mut self, settlements: Vec<Settlement>) {
        for Settlement { token, verdict } in settlements {
            let Some(held) = self.out.remove(&token) else {
                continue;
            };
            match verdict {
                Verdict::Ack | Verdict::Drop(_) => self.untold.push((held, End::Done)),
                Verdict::Retry(why) => self.failed(held, &why),
                // Its subscription ends: the bus gives it to others.
                Verdict::GiveBack => self.returned.push(held),
                // Nobody subscribes so: `Subscribe::handled_here` has refused it.
                Verdict::Forward(_) => self.failed(held, "this bus has no messages to actors"),
            }
        }
        self.tell().await;
    }

    fn failed(&mut self, held: Held<D::Handle>, why: &str) {
        if self.bounds.deliver.is_some_and(|most| held.attempt >= most) {
            tracing::warn!(
                attempts = held.attempt,
                why,
                "an event is given up after its last delivery"
            );
            self.untold.push((held, End::GivenUp));
            return;
        }
        let end = Instant::now() + self.desk.rest(held.attempt);
        self.next_token += 1;
        self.resting.insert((end, self.next_token), held);
    }

    async fn tell(&mut self) {
        if self.untold.is_empty() {
            return;
        }
        let over = self.untold.iter().map(|(held, end)| Over {
            handle: held.handle.clone(),
            end: *end,
        });
        let told = self.desk.settle(over.collect()).await;
        self.untold.drain(..told);
    }

    async fn wake(&mut self) {
        let now = Instant::now();
        while let Some(entry) = self.resting.first_entry()
            && entry.key().0 <= now
        {
            let Held {
                handle,
                attempt,
                place,
            } = entry.remove();
            match self.desk.again(handle, attempt).await {
                Again::Deliver(handle, content) => {
                    let held = Held {
                        handle,
                        attempt: content.attempt,
                        place,
                    };
                    self.take_again(held, *content);
                }
                Again::GivenBack => {}
                Again::Later(handle) => {
                    let held = Held {
                        handle,
                        attempt,
                        place,
                    };
                    self.next_token += 1;
                    let end = Instant::now() + LOOK_PERIOD;
                    self.resting.insert((end, self.next_token), held);
                }
            }
        }
    }

    /// Everything that others must not get yet. What is over is not among it: its verdict is on its
    /// way.
    fn held(&self) -> Vec<D::Handle> {
        let ready = self.ready.iter().map(|(held, _)| held);
        let all = ready.chain(self.out.values()).chain(self.resting.values());
        let all = all.chain(&self.returned);
        all.map(|held| held.handle.clone()).collect()
    }
}

/// At least one place, and all that are free.
pub(crate) async fn places(room: &Room) -> Vec<OwnedSemaphorePermit> {
    let mut places = Vec::new();
    // Never closed.
    if let Ok(first) = Arc::clone(room).acquire_owned().await {
        places.push(first);
    }
    while let Ok(more) = Arc::clone(room).try_acquire_owned() {
        places.push(more);
    }
    places
}

/// The next pause of a handler that fails: from `least`, doubling, at most `most`.
pub(crate) fn doubling(least: Duration, most: Duration, attempt: u32) -> Duration {
    let factor = 2_u32.saturating_pow(attempt.saturating_sub(1).min(30));
    least.saturating_mul(factor).min(most)
}

async fn rested(end: Option<Instant>) {
    match end {
        Some(end) => sleep_until(end).await,
        None => std::future::pending().await,
    }
}
