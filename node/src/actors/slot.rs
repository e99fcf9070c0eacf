//! Where an activation is between turns, and how its running turn is found.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::FutureExt;
use ghostlight_core::sdk::{Activation, ActorRegistry};
use ghostlight_core::turn_io::{TurnEnd, TurnId, TurnStart, TurnTold};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use crate::actors::link::Link;
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
        task: AbortHandle,
    },
    /// The activation is over; whatever its last turn still does goes nowhere.
    Closed,
}

impl Slot {
    /// Begins a turn as a task of its own.
    pub(crate) fn begin(
        self: &Arc<Self>,
        registry: &ActorRegistry,
        workers: &Handle,
        sink: &Arc<dyn RunnerSink>,
        start: TurnStart,
        link: Arc<Link>,
    ) {
        let turn = start.turn;
        // Held until the state says `Running`: a turn that ends at once waits here.
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
        let slot = Arc::clone(self);
        let sink = Arc::clone(sink);
        let running = object.run(start, Arc::clone(&link) as _);
        let task = workers.spawn(async move {
            // The SDK catches what methods do; this is for destructors of an actor's state.
            let (end, object) = match AssertUnwindSafe(running).catch_unwind().await {
                Ok((end, object)) => (end, Some(object)),
                Err(_) => {
                    let message = "a destructor of the actor's state panicked".to_owned();
                    (TurnEnd::Panicked { message }, None)
                }
            };
            if slot.finish(turn, object)
                && let Some(wait) = sink.put(ended(turn, end))
            {
                wait.await;
            }
        });
        *state = State::Running {
            turn,
            link,
            task: task.abort_handle(),
        };
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
    pub(crate) fn reset(&self) {
        let mut state = self.state();
        match &*state {
            State::Idle(_) | State::Empty => *state = State::Empty,
            State::Running { turn, .. } => panic!("reset while {turn:?} runs"),
            State::Closed => panic!("reset after the activation ended"),
        }
    }

    /// Ends the activation and abandons its running turn.
    pub(crate) fn close(&self) {
        let before = std::mem::replace(&mut *self.state(), State::Closed);
        if let State::Running { task, .. } = before {
            task.abort();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
