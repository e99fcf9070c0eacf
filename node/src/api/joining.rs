//! Calls and publishes that join the turn of an application, by the token that its callback
//! brought.
//!
//! In: what a request wants, and its token. Out: outcomes as of any other call, or publish. Both
//! transports come through here. What joins a turn is not repeated by policies: it is a part of the
//! turn, which is repeated as a whole. Absent: what becomes of it in the turn
//! (`ghostlight_core::hosts`).

use ghostlight_core::hosts::words::{AppCall, AppOutcome, Joining};
use ghostlight_core::turn_io::OutMessage;
use ghostlight_protocol::code::Code;
use ghostlight_protocol::outcome::{CallOutcome, NotRun};
use hyper::HeaderMap;
use hyper::header::HeaderValue;

use super::Context;
use super::app_calls::Calls;
use super::error_map::Answer;
use super::error_map::app::no_placement;
use super::resilience::Transport;
use crate::handle::Invoke;
use crate::pubsub::publish::{BusError, PublishError};
use crate::topics::TurnMessage;

/// The token of a turn, as callbacks bring it and requests send it back.
pub const TURN_HEADER: &str = "ghostlight-turn";

/// The token of a request. What joins a turn has no other id beside it: `named` says whether the
/// request brings one.
///
/// # Errors
/// It does.
pub(crate) fn token<T>(headers: &HeaderMap, named: Option<&T>) -> Result<Option<String>, Answer> {
    let token = headers.get(TURN_HEADER).map(HeaderValue::as_bytes);
    let token = token.map(|token| String::from_utf8_lossy(token).into_owned());
    if token.is_some() && named.is_some() {
        return Err(Answer::of(
            Code::InvalidRequestId,
            "what joins a turn has an id that follows from the turn. Send Ghostlight-Turn, or a request id of your \
             own, but not both",
        ));
    }
    Ok(token)
}

impl Context {
    /// Calls an actor: as a part of a turn, or on its own under the policies of its type.
    ///
    /// # Errors
    /// A circuit breaker is open, or actors are switched off; nobody was called.
    pub(crate) async fn invoke(
        &self,
        call: Invoke,
        turn: Option<String>,
        over: Transport,
    ) -> Result<CallOutcome, Answer> {
        if self.calls.calls() == Calls::NoPlacement {
            return Err(no_placement());
        }
        let Some(token) = turn else {
            return self.resilience.invoke(&self.handle, call, over).await;
        };
        let what = Joining::Call {
            method: call.method,
            body: call.body,
            metadata: call.metadata,
            timeout: call.timeout,
        };
        let call_of_app = AppCall::Join { token, what };
        Ok(match self.handle.app_call(call.actor, call_of_app).await {
            AppOutcome::Called(outcome) => *outcome,
            AppOutcome::Refused(refusal) => CallOutcome::NotRun(refusal),
            other => CallOutcome::Unknown {
                code: Code::OutcomeUnknown,
                detail: told(other),
            },
        })
    }

    /// Lets messages leave with what a turn commits. Done means that they are staged.
    ///
    /// # Errors
    /// The turn does not run here, or they are too many.
    pub(crate) async fn send_with(
        &self,
        token: String,
        messages: Vec<TurnMessage>,
    ) -> Result<(), PublishError> {
        let messages = messages.into_iter().map(|message| OutMessage {
            actor: message.to,
            method: message.method,
            body: message.body,
        });
        let messages: Vec<OutMessage> = messages.collect();
        let Some(about) = messages.first().map(|message| message.actor.clone()) else {
            return Ok(());
        };
        let what = Joining::Send(messages);
        let call = AppCall::Join { token, what };
        let not_run = |refusal: NotRun| Err(PublishError::Bus(BusError::NotRun(refusal)));
        match self.handle.app_call(about, call).await {
            AppOutcome::Done => Ok(()),
            AppOutcome::Refused(refusal) => not_run(refusal),
            other => Err(PublishError::Bus(BusError::Unknown {
                code: Code::OutcomeUnknown,
                detail: told(other),
            })),
        }
    }
}

fn told(outcome: AppOutcome) -> String {
    match outcome {
        AppOutcome::Unknown(detail) => detail,
        // Nothing that joins is answered so.
        _ => "the node answered something else than it was asked".to_owned(),
    }
}
