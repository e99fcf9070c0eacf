//! One activation: runs turns on an actor's object, one after the other.
//!
//! The future of a turn owns the object, and gives it back with the turn's end: dropping the future
//! is all it takes to abandon a turn. A panic, an error of a writing method, or a turn cut short
//! drops the object's state; the next turn restores it.

use std::any::Any;
use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use ghostlight_protocol::code::Code;
use ghostlight_protocol::command::StateWrite;
use ghostlight_protocol::outcome::NotRun;

use crate::sdk::actor::{Actor, Method, MethodKind, TurnFailure, unknown_method};
use crate::sdk::stage::Abort;
use crate::sdk::state::{SELF_KEY, StateError};
use crate::sdk::turn::{Turn, TurnPort};
use crate::turn_io::{Staged, TurnEnd, TurnStart};

/// A turn's end, and the activation for the next turn.
pub type Finished = (TurnEnd, Box<dyn Activation>);

/// An activation of any type.
pub trait Activation: Send + fmt::Debug {
    /// Runs one turn. Never panics, also if the actor's code does.
    fn run(
        self: Box<Self>,
        start: TurnStart,
        port: Arc<dyn TurnPort>,
    ) -> BoxFuture<'static, Finished>;
}

/// The activation of an [`Actor`].
pub(crate) struct Active<A> {
    live: Option<Live<A>>,
}

/// The object, and its row as of its last turn.
struct Live<A> {
    actor: A,
    saved: Bytes,
}

impl<A> Default for Active<A> {
    fn default() -> Self {
        Self { live: None }
    }
}

impl<A: Actor> fmt::Debug for Active<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let loaded = if self.live.is_some() {
            "loaded"
        } else {
            "empty"
        };
        write!(f, "Activation({}, {loaded})", A::TYPE)
    }
}

impl<A: Actor> Activation for Active<A> {
    fn run(
        mut self: Box<Self>,
        start: TurnStart,
        port: Arc<dyn TurnPort>,
    ) -> BoxFuture<'static, Finished> {
        Box::pin(async move {
            let end = self.turn(start, port).await;
            (end, self as Box<dyn Activation>)
        })
    }
}

/// What the guarded part of a turn comes to.
enum Ran<A> {
    /// The stored row cannot be read: no code of the actor ran.
    NotLoaded(StateError),
    /// The method did not succeed.
    Failed(Live<A>, TurnFailure),
    /// It did; for a writing method with the new row.
    Succeeded(Live<A>, Bytes, Option<Result<Bytes, StateError>>),
}

impl<A: Actor> Active<A> {
    async fn turn(&mut self, start: TurnStart, port: Arc<dyn TurnPort>) -> TurnEnd {
        let Some(method) = A::METHODS.iter().find(|m| m.name == start.method) else {
            return TurnEnd::Refused(unknown_method::<A>(&start.method));
        };
        let body = start.body.clone();
        let turn = Turn::new(start, port);
        // Out of `self` while it runs: whatever goes wrong, the next turn restores it.
        let live = self.live.take();
        match guarded(&turn, run_method(&turn, method, body, live)).await {
            Guarded::Done(ran) => self.settle(&turn, method, ran),
            Guarded::Aborted(Abort::Deposed) => TurnEnd::Refused(NotRun::retry(
                Code::LeaderMoved,
                "the leadership ended during the turn; nothing of it counts",
                Duration::ZERO,
            )),
            Guarded::Aborted(Abort::Unreadable(message)) | Guarded::Panicked(message) => {
                TurnEnd::Panicked { message }
            }
        }
    }

    fn settle(&mut self, turn: &Turn, method: &Method, ran: Ran<A>) -> TurnEnd {
        let broken = |message: String| TurnEnd::Panicked {
            message: format!("{}.{}: {message}", A::TYPE, method.name),
        };
        match ran {
            Ran::NotLoaded(error) => TurnEnd::Refused(NotRun::new(
                Code::Internal,
                format!("the state of {} cannot be read: {error}", turn.actor()),
            )),
            Ran::Failed(live, TurnFailure::Refused(refusal)) => {
                self.keep_unchanged(method, live);
                TurnEnd::Refused(refusal)
            }
            Ran::Failed(live, TurnFailure::App(error)) => {
                self.keep_unchanged(method, live);
                TurnEnd::App(error)
            }
            Ran::Failed(_, TurnFailure::Broken(message)) => broken(message),
            Ran::Succeeded(live, reply, encoded) => {
                if let Some(fault) = turn.stage(|s| s.fault()) {
                    return TurnEnd::App(fault);
                }
                match encoded.transpose() {
                    Ok(row) => self.commit(turn, live, reply, row),
                    Err(error) => broken(error.to_string()),
                }
            }
        }
    }

    /// Keeps the object after a method that did not succeed, if it cannot have changed it. A
    /// writing one may have, also if it says that it refused: what is written by hand need not be
    /// as careful as the macro.
    fn keep_unchanged(&mut self, method: &Method, live: Live<A>) {
        if method.kind == MethodKind::Read {
            self.live = Some(live);
        }
    }

    fn commit(
        &mut self,
        turn: &Turn,
        mut live: Live<A>,
        reply: Bytes,
        row: Option<Bytes>,
    ) -> TurnEnd {
        if row.is_none() && !turn.stage(|s| s.is_empty()) {
            let message = format!("a read method of {} staged writes or messages", A::TYPE);
            return TurnEnd::Panicked { message };
        }
        let Staged {
            mut writes,
            sends,
            schedule,
        } = turn.stage(|s| s.take());
        if let Some(row) = row.filter(|row| *row != live.saved) {
            live.saved = row.clone();
            writes.push(StateWrite {
                key: Bytes::from_static(SELF_KEY),
                value: Some(row),
                ..StateWrite::default()
            });
        }
        self.live = Some(live);
        TurnEnd::Ok {
            reply,
            writes,
            sends,
            schedule,
        }
    }
}

async fn run_method<A: Actor>(
    turn: &Turn,
    method: &Method,
    body: Bytes,
    live: Option<Live<A>>,
) -> Ran<A> {
    let mut live = match live {
        Some(live) => live,
        None => match load::<A>(turn).await {
            Ok(live) => live,
            Err(error) => return Ran::NotLoaded(error),
        },
    };
    match live.actor.dispatch(turn, method.name, body).await {
        Ok(reply) => {
            let row = (method.kind == MethodKind::Write).then(|| live.actor.encode());
            Ran::Succeeded(live, reply, row)
        }
        Err(failure) => Ran::Failed(live, failure),
    }
}

async fn load<A: Actor>(turn: &Turn) -> Result<Live<A>, StateError> {
    // A type without fields has no state to read.
    let stored = if size_of::<A>() == 0 {
        None
    } else {
        turn.row(Bytes::from_static(SELF_KEY)).await
    };
    let actor = A::restore(stored.as_deref())?;
    // An actor never written counts as written with its first state: reading it writes nothing. A
    // row of an older version stays until the actor changes.
    let saved = actor.encode()?;
    Ok(Live { actor, saved })
}

/// How a guarded future went.
enum Guarded<T> {
    Done(T),
    Aborted(Abort),
    Panicked(String),
}

/// Runs `work` until it is done, panics, or asks through `turn` to be ended.
async fn guarded<T>(turn: &Turn, work: impl Future<Output = T> + Send) -> Guarded<T> {
    let watched = async move {
        let mut work = pin!(work);
        poll_fn(|task| match work.as_mut().poll(task) {
            Poll::Ready(done) => Poll::Ready(Guarded::Done(done)),
            // Looked at within the same poll that noted it: nobody need wake us.
            Poll::Pending => match turn.stage(|s| s.aborted()) {
                Some(why) => Poll::Ready(Guarded::Aborted(why)),
                None => Poll::Pending,
            },
        })
        .await
    };
    // Unwind safe: after a panic nothing the future touched is used again.
    match AssertUnwindSafe(watched).catch_unwind().await {
        Ok(guarded) => guarded,
        Err(payload) => Guarded::Panicked(panic_message(&*payload)),
    }
}

fn panic_message(payload: &(dyn Any + Send)) -> String {
    payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a text".to_owned())
}
