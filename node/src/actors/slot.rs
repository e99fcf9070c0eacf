//! Where an activation is between turns, and how its running turn is found.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use futures::FutureExt;
use futures::future::BoxFuture;
use ghostlight_core::sdk::{Activation, ActorRegistry, Finished};
use ghostlight_core::turn_io::{TurnEnd, TurnId, TurnStart, TurnTold};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use crate::actors::link::Link;
use crate::actors::workers::Job;
use crate::actors::{RunnerSink, ended};

/// One activation. Shared by the core thread and, while a turn runs, its task.
#[derive(Debug, Default)]
pub(crate) struct Slot(Mutex<State>);

#[derive(Debug, Default)]
enum State {
    /// Nothing in memory: the next turn reads the actor's state.
    #[default]
    Empty,
    Idle(Box<dyn Activation>),
    Running {
        turn: TurnId,
        link: Arc<Link>,
        /// `None` while it waits for a worker, or is at its first poll.
        task: Option<AbortHandle>,
    },
    /// The activation is over; whatever its last turn still does goes nowhere.
    Closed,
}

/// A turn that waits for a worker.
pub(crate) struct Beginning {
    slot: Arc<Slot>,
    object: Box<dyn Activation>,
    start: TurnStart,
    link: Arc<Link>,
    sink: Arc<dyn RunnerSink>,
}

impl Job for Beginning {
    fn run(self, workers: &Handle) {
        let Self {
            slot,
            object,
            start,
            link,
            sink,
        } = self;
        let turn = start.turn;
        if !slot.runs(turn) {
            // Abandoned before it began: the object ends here.
            return;
        }
        // The SDK catches what methods do; this is for destructors of an actor's state.
        let mut running = AssertUnwindSafe(object.run(start, link)).catch_unwind();
        // A turn that waits is polled again by its own task at once, so that no wake is missed.
        match running.poll_unpin(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(done) => {
                if let Some(wait) = slot.end(turn, done, &sink) {
                    workers.spawn(wait);
                }
            }
            Poll::Pending => slot.go_on(turn, running, sink, workers),
        }
    }
}

/// What a guarded turn comes to.
type Done = Result<Finished, Box<dyn Any + Send>>;

impl Slot {
    /// Takes the object out for a turn.
    pub(crate) fn begin(
        self: &Arc<Self>,
        registry: &ActorRegistry,
        sink: &Arc<dyn RunnerSink>,
        start: TurnStart,
        link: Arc<Link>,
    ) -> Beginning {
        let turn = start.turn;
        let mut state = self.state();
        let object = match std::mem::take(&mut *state) {
            State::Idle(object) => object,
            State::Empty => registry
                .activate(start.actor.actor_type())
                .expect("the executor makes slots for known types only"),
            State::Running { turn: earlier, .. } => {
                panic!("{turn:?} begins while {earlier:?} runs")
            }
            State::Closed => panic!("{turn:?} begins after its activation ended"),
        };
        *state = State::Running {
            turn,
            link: Arc::clone(&link),
            task: None,
        };
        Beginning {
            slot: Arc::clone(self),
            object,
            start,
            link,
            sink: Arc::clone(sink),
        }
    }

    /// A turn that did not end at once goes on as a task of its own, unless it was abandoned.
    fn go_on(
        self: Arc<Self>,
        turn: TurnId,
        running: impl Future<Output = Done> + Send + 'static,
        sink: Arc<dyn RunnerSink>,
        workers: &Handle,
    ) {
        let slot = Arc::clone(&self);
        // Held until the task is noted: a turn that ends at once waits here.
        let mut state = self.state();
        let State::Running {
            turn: noted, task, ..
        } = &mut *state
        else {
            drop(state);
            return drop(running);
        };
        assert_eq!(*noted, turn, "an activation has one turn at a time");
        let spawned = workers.spawn(async move {
            let done = running.await;
            if let Some(wait) = slot.end(turn, done, &sink) {
                wait.await;
            }
        });
        *task = Some(spawned.abort_handle());
    }

    /// Takes the object back and tells the core; a future to be awaited when its queue is full.
    fn end(
        &self,
        turn: TurnId,
        done: Done,
        sink: &Arc<dyn RunnerSink>,
    ) -> Option<BoxFuture<'static, ()>> {
        let (end, object) = match done {
            Ok((end, object)) => (end, Some(object)),
            Err(_) => {
                let message = "a destructor of the actor's state panicked".to_owned();
                (TurnEnd::Panicked { message }, None)
            }
        };
        match self.finish(turn, object) {
            true => sink.put(ended(turn, end)),
            false => None,
        }
    }

    fn runs(&self, turn: TurnId) -> bool {
        matches!(&*self.state(), State::Running { turn: running, .. } if *running == turn)
    }

    /// Takes the object back; `false`: the turn was abandoned meanwhile.
    fn finish(&self, turn: TurnId, object: Option<Box<dyn Activation>>) -> bool {
        let mut state = self.state();
        match &*state {
            State::Running { turn: running, .. } if *running == turn => {
                *state = object.map_or(State::Empty, State::Idle);
                true
            }
            State::Running { .. } | State::Empty | State::Idle(_) | State::Closed => false,
        }
    }

    /// Answers an ask of the running turn; answers for other turns are late and dropped.
    pub(crate) fn tell(&self, turn: TurnId, ask: u32, told: TurnTold) {
        let link = match &*self.state() {
            State::Running {
                turn: running,
                link,
                ..
            } if *running == turn => Arc::clone(link),
            State::Running { .. } | State::Empty | State::Idle(_) | State::Closed => return,
        };
        link.tell(ask, told);
    }

    /// Forgets the object.
    pub(crate) fn reset(&self, workers: &Handle) {
        let before = std::mem::take(&mut *self.state());
        match before {
            State::Idle(object) => dispose(workers, object),
            State::Empty => {}
            State::Running { turn, .. } => panic!("reset while {turn:?} runs"),
            State::Closed => panic!("reset after the activation ended"),
        }
    }

    /// Ends the activation and abandons its running turn.
    pub(crate) fn close(&self, workers: &Handle) {
        let before = std::mem::replace(&mut *self.state(), State::Closed);
        match before {
            State::Idle(object) => dispose(workers, object),
            // The runtime drops the turn, and the object with it, on one of its own threads; one
            // that has no task yet is dropped by the worker that polls it.
            State::Running { task, .. } => {
                if let Some(task) = task {
                    task.abort();
                }
            }
            State::Empty | State::Closed => {}
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Drops an object where actors' code runs: its destructor is such code, and may take its time, or
/// panic.
fn dispose(workers: &Handle, object: Box<dyn Activation>) {
    workers.spawn(async move { drop(object) });
}
