//! Runs native actors: performs the core's runner effects on worker threads.
//!
//! The core thread owns the [`Executor`] and never waits in it: no code of an actor runs there, its
//! destructor included. A turn is begun by one of the workers; between turns an activation is an
//! object in its slot and no task at all. What turns ask and how they end goes through a bounded
//! [`RunnerSink`] back to the core thread; when that is full, turns wait, the core does not.
//!
//! **Invariant:** the object is back in its slot before the core hears that its turn ended, so that
//! the next `Run` finds it. **Absent:** what a turn may do and when it counts; the core decides
//! that.

mod client;
pub(crate) mod events;
mod link;
mod slot;
mod workers;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use futures::future::BoxFuture;
use ghostlight_core::sdk::ActorRegistry;
use ghostlight_core::turn_io::{
    ActivationId, RunnerEffect, RunnerInput, TurnEnd, TurnId, TurnStart,
};
use ghostlight_protocol::time::Instant;
use tokio::sync::mpsc;

use crate::actors::link::Link;
use crate::actors::slot::{Beginning, Slot};
use crate::actors::workers::Workers;

/// Asks of one turn that wait for an answer; more wait their turn.
pub const TURN_ASKS_MAX: usize = 64;

/// The node's monotonic clock, as the core sees it.
pub type Clock = Arc<dyn Fn() -> Instant + Send + Sync>;

/// The way back to the core thread: a bounded queue.
pub trait RunnerSink: Send + Sync + 'static {
    /// Queues an input. `None`: it is queued. Else the queue is full, and the future queues it; an
    /// input for a core that has ended is dropped.
    fn put(&self, input: RunnerInput) -> Option<BoxFuture<'static, ()>>;
}

impl RunnerSink for mpsc::Sender<RunnerInput> {
    fn put(&self, input: RunnerInput) -> Option<BoxFuture<'static, ()>> {
        match self.try_send(input) {
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => None,
            Err(mpsc::error::TrySendError::Full(input)) => {
                let queue = self.clone();
                // A closed queue: the core has ended, and nobody waits for this.
                Some(Box::pin(async move { drop(queue.send(input).await) }))
            }
        }
    }
}

/// The activations of this node's native actors. Owned by the core thread.
pub struct Executor {
    registry: ActorRegistry,
    workers: Workers<Beginning>,
    sink: Arc<dyn RunnerSink>,
    clock: Clock,
    slots: HashMap<ActivationId, Arc<Slot>>,
}

impl Executor {
    /// An executor without activations, with threads of its own.
    ///
    /// # Errors
    /// When the system gives no threads.
    pub fn start(
        registry: ActorRegistry,
        sink: Arc<dyn RunnerSink>,
        clock: Clock,
    ) -> std::io::Result<Self> {
        Ok(Self::on(Workers::start()?, registry, sink, clock))
    }

    fn on(
        workers: Workers<Beginning>,
        registry: ActorRegistry,
        sink: Arc<dyn RunnerSink>,
        clock: Clock,
    ) -> Self {
        Self {
            registry,
            workers,
            sink,
            clock,
            slots: HashMap::new(),
        }
    }

    /// Begins the turns of the effects performed since the last time.
    pub fn begin(&mut self) {
        self.workers.begin();
    }

    /// The types that this node runs itself.
    #[must_use]
    pub fn registry(&self) -> &ActorRegistry {
        &self.registry
    }

    /// Activations in memory.
    #[must_use]
    pub fn activations(&self) -> usize {
        self.slots.len()
    }

    /// Performs one effect. Returns at once.
    ///
    /// # Panics
    /// When the core begins a turn of an activation, or resets it, before its running turn ended.
    pub fn perform(&mut self, effect: RunnerEffect) {
        match effect {
            RunnerEffect::Run(start) => self.run(start),
            // Only applications' turns are entered.
            RunnerEffect::Enter(_) => {}
            RunnerEffect::Tell { turn, ask, told } => {
                // A turn that is over needs no answer any more.
                if let Some(slot) = self.slots.get(&turn.activation) {
                    slot.tell(turn, ask, told);
                }
            }
            RunnerEffect::Reset(activation) => {
                if let Some(slot) = self.slots.get(&activation) {
                    slot.reset(self.workers.handle());
                }
            }
            RunnerEffect::Drop(activation) | RunnerEffect::Depose(activation) => {
                if let Some(slot) = self.slots.remove(&activation) {
                    slot.close(self.workers.handle());
                }
            }
        }
    }

    fn run(&mut self, start: TurnStart) {
        let turn = start.turn;
        let slot = match self.slots.get(&turn.activation) {
            Some(slot) => Arc::clone(slot),
            None if self.registry.contains(start.actor.actor_type()) => {
                let slot = Arc::new(Slot::default());
                self.slots.insert(turn.activation, Arc::clone(&slot));
                slot
            }
            None => return self.refuse(&start),
        };
        let link = Arc::new(Link::new(
            turn,
            Arc::clone(&self.sink),
            Arc::clone(&self.clock),
        ));
        let beginning = slot.begin(&self.registry, &self.sink, start, link);
        self.workers.gather(beginning);
    }

    /// Nothing is kept of a type that is not known here.
    fn refuse(&self, start: &TurnStart) {
        let Err(refusal) = self.registry.activate(start.actor.actor_type()) else {
            unreachable!("only an unknown type is refused");
        };
        if let Some(wait) = self.sink.put(ended(start.turn, TurnEnd::Refused(refusal))) {
            self.workers.handle().spawn(wait);
        }
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        for slot in self.slots.values() {
            slot.close(self.workers.handle());
        }
    }
}

impl fmt::Debug for Executor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Executor({} activations)", self.slots.len())
    }
}

fn ended(turn: TurnId, end: TurnEnd) -> RunnerInput {
    RunnerInput::Ended { turn, end }
}

#[cfg(test)]
mod tests;
