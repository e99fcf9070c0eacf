//! Runs turns on the caller's thread, for the simulator and for tests.
//!
//! Performs the core's runner effects one by one and hands back inputs; a turn goes on only inside
//! `perform`, so that the same effects give the same inputs in the same order.
//!
//! Absent: time. What a turn can see of it is the `now` of the latest effect.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures::FutureExt;
use futures::channel::oneshot;
use futures::future::BoxFuture;
use ghostlight_protocol::time::Instant;

use crate::sdk::activation::{Activation, Finished};
use crate::sdk::registry::ActorRegistry;
use crate::sdk::stage::TurnCell;
use crate::sdk::turn::TurnPort;
use crate::turn_io::{
    ActivationId, RunnerEffect, RunnerInput, TurnAsk, TurnEnd, TurnId, TurnStart, TurnTold,
};

/// The activations of one node.
#[derive(Debug)]
pub struct LocalRunner {
    registry: ActorRegistry,
    activations: BTreeMap<ActivationId, Slot>,
}

#[derive(Debug)]
enum Slot {
    /// Nothing in memory: the next turn reads the actor's state.
    Empty,
    Idle(Box<dyn Activation>),
    Running(Running),
}

struct Running {
    turn: TurnId,
    future: BoxFuture<'static, Finished>,
    link: Arc<Link>,
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Running({:?})", self.turn)
    }
}

impl LocalRunner {
    /// No activations yet.
    #[must_use]
    pub fn new(registry: ActorRegistry) -> Self {
        Self {
            registry,
            activations: BTreeMap::new(),
        }
    }

    /// The types that it runs.
    #[must_use]
    pub fn registry(&self) -> &ActorRegistry {
        &self.registry
    }

    /// Activations in memory.
    #[must_use]
    pub fn len(&self) -> usize {
        self.activations.len()
    }

    /// Whether there is no activation.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.activations.is_empty()
    }

    /// Performs one effect; what turns ask and how they end is pushed to `out`.
    ///
    /// # Panics
    /// When the core begins a turn of an activation, or resets it, before its running turn ended.
    pub fn perform(&mut self, now: Instant, effect: RunnerEffect, out: &mut Vec<RunnerInput>) {
        match effect {
            RunnerEffect::Run(start) => self.run(now, start, out),
            // Only applications' turns are entered.
            RunnerEffect::Enter(_) => {}
            RunnerEffect::Tell { turn, ask, told } => self.tell(now, turn, ask, told, out),
            RunnerEffect::Reset(activation) => {
                if let Some(slot) = self.activations.get_mut(&activation) {
                    assert!(!matches!(slot, Slot::Running(_)), "reset while {slot:?}");
                    *slot = Slot::Empty;
                }
            }
            RunnerEffect::Drop(activation) | RunnerEffect::Depose(activation) => {
                self.activations.remove(&activation);
            }
        }
    }

    fn run(&mut self, now: Instant, start: TurnStart, out: &mut Vec<RunnerInput>) {
        let turn = start.turn;
        let slot = self
            .activations
            .entry(turn.activation)
            .or_insert(Slot::Empty);
        let object = match std::mem::replace(slot, Slot::Empty) {
            Slot::Idle(object) => object,
            Slot::Empty => match self.registry.activate(start.actor.actor_type()) {
                Ok(object) => object,
                Err(refusal) => {
                    let end = TurnEnd::Refused(refusal);
                    return out.push(RunnerInput::Ended { turn, end });
                }
            },
            Slot::Running(earlier) => panic!("{turn:?} begins while {earlier:?}"),
        };
        let link = Arc::new(Link::default());
        link.0.with(|inner| inner.now = now);
        let port: Arc<dyn TurnPort> = Arc::clone(&link) as _;
        *slot = Slot::Running(Running {
            turn,
            future: object.run(start, port),
            link,
        });
        Self::advance(slot, out);
    }

    fn tell(
        &mut self,
        now: Instant,
        turn: TurnId,
        ask: u32,
        told: TurnTold,
        out: &mut Vec<RunnerInput>,
    ) {
        let Some(slot) = self.activations.get_mut(&turn.activation) else {
            return;
        };
        let Slot::Running(running) = &*slot else {
            return;
        };
        if running.turn != turn {
            return;
        }
        let waiting = running.link.0.with(|inner| {
            inner.now = now;
            inner.waiting.remove(&ask)
        });
        if let Some(waiting) = waiting {
            // Nobody listens if the turn gave the operation up.
            let _gave_up = waiting.send(told);
            Self::advance(slot, out);
        }
    }

    /// Polls a running turn until it waits or ends.
    fn advance(slot: &mut Slot, out: &mut Vec<RunnerInput>) {
        let Slot::Running(running) = slot else { return };
        let turn = running.turn;
        let woken = Arc::new(Woken(AtomicBool::new(true)));
        let waker = Waker::from(Arc::clone(&woken));
        let mut finished = None;
        while finished.is_none() && woken.0.swap(false, Ordering::Relaxed) {
            if let Poll::Ready(done) = running.future.poll_unpin(&mut Context::from_waker(&waker)) {
                finished = Some(done);
            }
        }
        let asked = running
            .link
            .0
            .with(|inner| std::mem::take(&mut inner.asked));
        let asked = asked.into_iter();
        out.extend(asked.map(|(ask, what)| RunnerInput::Asked { turn, ask, what }));
        if let Some((end, object)) = finished {
            *slot = Slot::Idle(object);
            out.push(RunnerInput::Ended { turn, end });
        }
    }
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The port of one turn.
#[derive(Default)]
struct Link(TurnCell<Asks>);

#[derive(Default)]
struct Asks {
    now: Instant,
    last: u32,
    asked: Vec<(u32, TurnAsk)>,
    waiting: BTreeMap<u32, oneshot::Sender<TurnTold>>,
}

impl TurnPort for Link {
    fn ask(&self, what: TurnAsk) -> BoxFuture<'static, TurnTold> {
        let (answer, answered) = oneshot::channel();
        self.0.with(|inner| {
            inner.last += 1;
            inner.asked.push((inner.last, what));
            inner.waiting.insert(inner.last, answer);
        });
        async move { answered.await.unwrap_or(TurnTold::Deposed) }.boxed()
    }

    fn now(&self) -> Instant {
        self.0.with(|inner| inner.now)
    }
}

#[cfg(test)]
mod tests;
