//! The traits under the macro. `#[actor]` implements both; a library may do so by hand.

use std::future::Future;

use bytes::Bytes;
use ghostlight_protocol::code::Code;
use ghostlight_protocol::outcome::{AppError, NotRun};

use crate::sdk::call::{Outlet, Target};
use crate::sdk::events::EventHandler;
use crate::sdk::state::StateError;
use crate::sdk::turn::Turn;

/// A type of actor: how its state is restored, its methods, and how it is stored.
pub trait Actor: Sized + Send + Sync + 'static {
    /// Name of the type, as callers and storage know it. Never change it once actors exist.
    const TYPE: &'static str;
    /// Every method.
    const METHODS: &'static [Method];
    /// Topics that its actors are subscribed to.
    const EVENTS: &'static [EventHandler] = &[];

    /// The actor from its stored row; `None`: it was never written.
    ///
    /// # Errors
    /// The row cannot be read by this code. The turn is refused, nothing is lost.
    fn restore(stored: Option<&[u8]>) -> Result<Self, StateError>;

    /// The row to store. Written only when it differs from what was restored or stored last.
    ///
    /// # Errors
    /// The state has a shape that cannot be stored. The turn is rolled back.
    fn encode(&self) -> Result<Bytes, StateError>;

    /// Runs one method; `method` is one of `METHODS`.
    ///
    /// `Err` rolls back: for a writing method the object is dropped and restored before the next
    /// turn.
    fn dispatch(
        &mut self,
        cx: &Turn,
        method: &str,
        body: Bytes,
    ) -> impl Future<Output = Result<Bytes, TurnFailure>> + Send;
}

/// An actor type with a typed reference.
pub trait Typed: Actor {
    /// The reference: one method for each of the actor's.
    type Ref<O: Outlet>;

    /// Makes a reference that delivers through `outlet`.
    fn bind<O: Outlet>(outlet: O, target: Target) -> Self::Ref<O>;
}

/// A method as callers see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Method {
    /// Its name on the wire.
    pub name: &'static str,
    /// Whether it can change anything.
    pub kind: MethodKind,
    /// Its arguments as written, such as `by: i64`; empty: none.
    pub arguments: &'static str,
}

/// See [`Method::kind`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MethodKind {
    /// Changes nothing: no write, no send.
    Read,
    /// May change the actor and send messages.
    Write,
}

/// Why a method did not succeed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TurnFailure {
    /// The method returned `Err`.
    App(AppError),
    /// The method did nothing: its argument cannot be read. After a call to another actor this is
    /// told as an error of the actor, because what was called stays.
    Refused(NotRun),
    /// The method did what it must not, or its reply cannot be encoded: a bug of the actor.
    Broken(String),
}

/// The refusal of a method that the type does not have; it lists those it has.
#[must_use]
pub fn unknown_method<A: Actor>(method: &str) -> NotRun {
    let known: Vec<&str> = A::METHODS.iter().map(|m| m.name).collect();
    NotRun::new(
        Code::UnknownMethod,
        format!(
            "actor type `{}` has no method `{method}`. It has: {}",
            A::TYPE,
            known.join(", ")
        ),
    )
}
