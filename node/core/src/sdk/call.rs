//! Typed references: where a call goes, and how it is delivered.
//!
//! The macro writes one reference type per actor, generic over its [`Outlet`]: the same `add(1)` is
//! a call from outside, a call inside a turn, or a message that leaves with the turn's commit.

use std::future::IntoFuture;
use std::marker::PhantomData;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use ghostlight_protocol::actor::{ActorKey, NameError};
use ghostlight_protocol::code::Code;
use ghostlight_protocol::outcome::NotRun;

use crate::sdk::body::Body;
use crate::sdk::error::{ActorError, CallError, typed_outcome};
use crate::sdk::turn::{ReadTurn, Turn};
use crate::turn_io::OutMessage;

/// The actor a reference points to; a forbidden name shows when it is used.
#[derive(Clone, Debug)]
pub struct Target(Result<ActorKey, NameError>);

impl Target {
    /// An actor by its names.
    #[must_use]
    pub fn new(namespace: &str, actor_type: &str, actor_id: &str) -> Self {
        Self(ActorKey::new(namespace, actor_type, actor_id))
    }

    pub(crate) fn in_namespace_of(other: &ActorKey, actor_type: &str, actor_id: &str) -> Self {
        Self::new(other.namespace(), actor_type, actor_id)
    }

    /// The checked key.
    ///
    /// # Errors
    /// The name that breaks a rule, as a refusal.
    pub fn key(&self) -> Result<ActorKey, NotRun> {
        self.0
            .clone()
            .map_err(|e| NotRun::new(e.code, e.to_string()))
    }
}

/// One use of a reference: method and arguments, not yet delivered.
#[derive(Clone, Debug)]
pub struct Outgoing {
    target: Target,
    method: &'static str,
    body: Result<Bytes, String>,
}

impl Outgoing {
    pub(crate) fn method(&self) -> &'static str {
        self.method
    }

    pub(crate) fn checked(self) -> Result<(ActorKey, &'static str, Bytes), NotRun> {
        let actor = self.target.key()?;
        let body = self.body.map_err(|why| {
            let text = format!(
                "the arguments of `{}` cannot be encoded: {why}",
                self.method
            );
            NotRun::new(Code::InvalidArgument, text)
        })?;
        Ok((actor, self.method, body))
    }
}

/// How uses of a reference are delivered.
pub trait Outlet: Clone {
    /// What a method of the reference returns.
    type Done<R: Body, E: ActorError>;

    /// Delivers, or prepares to.
    fn deliver<R: Body, E: ActorError>(&self, call: Outgoing) -> Self::Done<R, E>;

    /// Delivers a method with its one argument, or `()`.
    fn invoke<A: Body, R: Body, E: ActorError>(
        &self,
        target: &Target,
        method: &'static str,
        argument: &A,
    ) -> Self::Done<R, E> {
        self.deliver(Outgoing {
            target: target.clone(),
            method,
            body: argument.to_body(),
        })
    }
}

/// Calls inside a turn.
#[derive(Clone, Copy, Debug)]
pub struct Calling<'t>(pub(crate) &'t ReadTurn);

impl<'t> Outlet for Calling<'t> {
    type Done<R: Body, E: ActorError> = TurnCall<'t, R, E>;

    fn deliver<R: Body, E: ActorError>(&self, call: Outgoing) -> TurnCall<'t, R, E> {
        TurnCall {
            cx: self.0,
            call,
            timeout: None,
            answer: PhantomData,
        }
    }
}

/// A call inside a turn; `.await` makes it.
#[derive(Debug)]
#[must_use = "a call is made when it is awaited"]
pub struct TurnCall<'t, R, E> {
    cx: &'t ReadTurn,
    call: Outgoing,
    timeout: Option<Duration>,
    answer: PhantomData<fn() -> Result<R, E>>,
}

impl<R, E> TurnCall<'_, R, E> {
    /// Waits no longer than this; the outcome is then unknown.
    pub fn deadline(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }
}

impl<'t, R: Body + 't, E: ActorError + 't> IntoFuture for TurnCall<'t, R, E> {
    type Output = Result<R, CallError<E>>;
    type IntoFuture = BoxFuture<'t, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        let Self {
            cx, call, timeout, ..
        } = self;
        Box::pin(call_in_turn(cx, call, timeout))
    }
}

async fn call_in_turn<R: Body, E: ActorError>(
    cx: &ReadTurn,
    call: Outgoing,
    timeout: Option<Duration>,
) -> Result<R, CallError<E>> {
    let (actor, method, body) = call.checked().map_err(CallError::NotRun)?;
    let outcome = cx
        .call_within(actor, method.to_owned(), body, timeout)
        .await;
    typed_outcome(outcome, method, None)
}

/// Messages that leave with a turn's commit.
#[derive(Clone, Copy, Debug)]
pub struct Sending<'t>(pub(crate) &'t Turn);

impl Outlet for Sending<'_> {
    type Done<R: Body, E: ActorError> = ();

    fn deliver<R: Body, E: ActorError>(&self, call: Outgoing) {
        let method = call.method();
        self.0.stage(|stage| match call.checked() {
            Ok((actor, method, body)) => stage.send(OutMessage {
                actor,
                method: method.to_owned(),
                body,
            }),
            Err(refusal) => {
                let text = format!("cannot send `{method}`: {}", refusal.detail);
                stage.fail("InvalidSend", text);
            }
        });
    }
}
