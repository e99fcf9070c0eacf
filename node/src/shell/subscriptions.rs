//! Subscriptions of this process: events on their way to the programs that subscribe, verdicts on
//! their way back to the core.
//!
//! What the core delivers beyond what a program may hold waits here; the leaders' credits bound it.

use std::collections::{BTreeSet, HashMap, VecDeque};

use ghostlight_core::topics::subscribers::{Said, SubscribersInput, SubscriptionId, Told};
use ghostlight_protocol::time::WallTime;
use ghostlight_protocol::topic::TopicName;
use tokio::sync::oneshot;

use crate::handle::Subscribing;
use crate::topics::{Content, Settlement, SubscribeError, SubscriptionFeed, Verdict, given};

/// Ticks between two looks at every program: there may be thousands of them.
const LOOK_TICKS: u32 = 10;

/// Everything about subscriptions that the core's thread owns.
#[derive(Default)]
pub(super) struct Subscriptions {
    ports: HashMap<SubscriptionId, Port>,
    /// Those with events that wait here.
    waiting: BTreeSet<SubscriptionId>,
    ticks: u32,
}

struct Port {
    topic: TopicName,
    feed: SubscriptionFeed,
    ready: Option<oneshot::Sender<Result<SubscriptionId, SubscribeError>>>,
    queue: VecDeque<(u64, Content)>,
    /// Deliveries without a verdict, and how many there may be.
    out: usize,
    most: usize,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Serving,
    /// Nothing is handed out any more: the node ends.
    Ending,
    /// Nobody is there, nor brings its verdicts; what is on its way to the core comes first.
    Abandoned,
}

impl Subscriptions {
    /// A program subscribes.
    pub(super) fn begin(&mut self, id: SubscriptionId, asked: Subscribing) -> SubscribersInput {
        let wants = asked.wants;
        self.ports.insert(
            id,
            Port {
                topic: wants.topic.clone(),
                feed: asked.feed,
                ready: Some(asked.ready),
                queue: VecDeque::new(),
                out: 0,
                most: wants.credit_events as usize,
                stage: Stage::Serving,
            },
        );
        SubscribersInput::Subscribe { id, wants }
    }

    /// The core speaks to a program; gives what is to be said to the core.
    pub(super) fn tell(&mut self, id: SubscriptionId, told: Told) -> Vec<SubscribersInput> {
        let Some(port) = self.ports.get_mut(&id) else {
            return Vec::new();
        };
        match told {
            Told::Ready => {
                let waits = port.ready.take().map(|ready| ready.send(Ok(id)));
                if matches!(waits, Some(Err(_))) {
                    return self.end(id).into_iter().collect();
                }
            }
            Told::Ending => {
                port.stage = Stage::Ending;
                port.feed.end();
                let waiting = std::mem::take(&mut port.queue).into_iter();
                self.waiting.remove(&id);
                let back = waiting.map(|(token, _)| SubscribersInput::GiveBack { id, token });
                return back.collect();
            }
            Told::Over { code, detail } => {
                if let Some(ready) = port.ready.take() {
                    // Who asked may have gone meanwhile.
                    drop(ready.send(Err(SubscribeError { code, detail })));
                }
                self.ports.remove(&id);
                self.waiting.remove(&id);
            }
            Told::Event(event) => {
                let content = Content {
                    topic: port.topic.clone(),
                    partition: event.number,
                    offset: event.offset,
                    attempt: event.attempt,
                    published: WallTime(event.event.published_ms),
                    event: given(event.event),
                };
                port.queue.push_back((event.token, content));
                self.pump(id);
            }
        }
        Vec::new()
    }

    /// Verdicts of a program.
    pub(super) fn settled(
        &mut self,
        id: SubscriptionId,
        settlements: Vec<Settlement>,
    ) -> Vec<SubscribersInput> {
        if let Some(port) = self.ports.get_mut(&id) {
            port.out = port.out.saturating_sub(settlements.len());
            self.pump(id);
        }
        let said = settlements.into_iter().map(|settlement| {
            let token = settlement.token;
            let said = match settlement.verdict {
                Verdict::Ack => Said::Ack,
                Verdict::Retry(reason) => Said::Retry(reason),
                Verdict::Drop(reason) => Said::Drop(reason),
                Verdict::Forward(to) => Said::Forward(to),
                Verdict::GiveBack => return SubscribersInput::GiveBack { id, token },
            };
            SubscribersInput::Verdict { id, token, said }
        });
        said.collect()
    }

    /// Programs that take events again after a pause; and those whose runtime has gone, so that
    /// nobody says that they have.
    pub(super) fn tick(&mut self) -> Vec<SubscribersInput> {
        for id in std::mem::take(&mut self.waiting) {
            self.pump(id);
        }
        self.ticks = self.ticks.wrapping_add(1);
        if !self.ticks.is_multiple_of(LOOK_TICKS) {
            return Vec::new();
        }
        let mut gone = Vec::new();
        for (id, port) in &mut self.ports {
            match port.stage {
                _ if !port.feed.is_abandoned() => {}
                Stage::Abandoned => gone.push(*id),
                Stage::Serving | Stage::Ending => port.stage = Stage::Abandoned,
            }
        }
        gone.into_iter().filter_map(|id| self.end(id)).collect()
    }

    /// A program has gone.
    pub(super) fn end(&mut self, id: SubscriptionId) -> Option<SubscribersInput> {
        self.waiting.remove(&id);
        self.ports.remove(&id)?;
        Some(SubscribersInput::Unsubscribe(id))
    }

    fn pump(&mut self, id: SubscriptionId) {
        let Some(port) = self.ports.get_mut(&id) else {
            return;
        };
        while port.stage == Stage::Serving && port.out < port.most && !port.feed.is_paused() {
            let Some((token, content)) = port.queue.pop_front() else {
                break;
            };
            if let Err(content) = port.feed.deliver(token, content) {
                port.queue.push_front((token, content));
                break;
            }
            port.out += 1;
        }
        if port.queue.is_empty() {
            self.waiting.remove(&id);
        } else {
            self.waiting.insert(id);
        }
    }
}
