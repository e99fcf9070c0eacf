//! The port of one running turn: numbers its asks, and finds who waits for an answer.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::BoxFuture;
use ghostlight_core::sdk::TurnPort;
use ghostlight_core::turn_io::{RunnerInput, TurnAsk, TurnId, TurnTold};
use ghostlight_protocol::time::Instant;
use tokio::sync::{Semaphore, oneshot};

use crate::actors::{Clock, RunnerSink, TURN_ASKS_MAX};

/// See the module.
pub(crate) struct Link {
    inner: Arc<Inner>,
    clock: Clock,
}

struct Inner {
    turn: TurnId,
    sink: Arc<dyn RunnerSink>,
    /// One permit per ask without an answer. Also an ask whose turn no longer waits for it keeps
    /// its permit until it is answered.
    permits: Semaphore,
    asks: Mutex<Asks>,
}

#[derive(Default)]
struct Asks {
    last: u32,
    waiting: Vec<(u32, oneshot::Sender<TurnTold>)>,
}

impl Link {
    pub(crate) fn new(turn: TurnId, sink: Arc<dyn RunnerSink>, clock: Clock) -> Self {
        let inner = Inner {
            turn,
            sink,
            permits: Semaphore::new(TURN_ASKS_MAX),
            asks: Mutex::default(),
        };
        Self {
            inner: Arc::new(inner),
            clock,
        }
    }

    /// Hands an answer to whoever waits for it.
    pub(crate) fn tell(&self, ask: u32, told: TurnTold) {
        let answer = self.inner.with(|asks| {
            let place = asks.waiting.iter().position(|(number, _)| *number == ask)?;
            Some(asks.waiting.swap_remove(place).1)
        });
        if let Some(answer) = answer {
            // The turn may have given the operation up.
            drop(answer.send(told));
            self.inner.permits.add_permits(1);
        }
    }
}

impl Inner {
    fn with<R>(&self, change: impl FnOnce(&mut Asks) -> R) -> R {
        change(&mut self.asks.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn ask(self: Arc<Self>, what: TurnAsk) -> TurnTold {
        let permit = self.permits.acquire().await;
        permit.expect("the semaphore is never closed").forget();
        let (answer, answered) = oneshot::channel();
        let ask = self.with(|asks| {
            asks.last += 1;
            asks.waiting.push((asks.last, answer));
            asks.last
        });
        let turn = self.turn;
        if let Some(wait) = self.sink.put(RunnerInput::Asked { turn, ask, what }) {
            wait.await;
        }
        // Nobody is left to answer: the node ends, and the turn with it.
        answered.await.unwrap_or(TurnTold::Deposed)
    }
}

impl TurnPort for Link {
    fn ask(&self, what: TurnAsk) -> BoxFuture<'static, TurnTold> {
        Box::pin(Arc::clone(&self.inner).ask(what))
    }

    fn now(&self) -> Instant {
        (self.clock)()
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Link({:?})", self.inner.turn)
    }
}
