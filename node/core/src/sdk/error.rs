//! Errors on both sides: what an actor's method returns, and what its caller gets.

use std::convert::Infallible;
use std::fmt::Display;
use std::time::Duration;

use bytes::Bytes;
use ghostlight_protocol::code::Code;
use ghostlight_protocol::outcome::{AppError, CallOutcome, NotRun};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::sdk::body::Body;
use crate::sdk::error_name::error_name;

/// What a method may return as an error: it travels typed, and with a text for people.
pub trait ActorError: Serialize + DeserializeOwned + Display {}

impl<E: Serialize + DeserializeOwned + Display> ActorError for E {}

/// The error of a method that has none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Never(Infallible);

impl Display for Never {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {}
    }
}

impl std::error::Error for Never {}

impl Serialize for Never {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        match self.0 {}
    }
}

impl<'de> Deserialize<'de> for Never {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom(
            "this method has no error of its own",
        ))
    }
}

/// Why a call did not succeed. Each variant says whether the turn ran.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CallError<E> {
    /// It ran, refused, and rolled back.
    #[error("{0}")]
    App(E),
    /// It certainly did not run.
    #[error("not run: {} ({})", .0.detail, .0.code)]
    NotRun(NotRun),
    /// It may have run: ask again with the same request id.
    #[error("outcome unknown: {detail} ({code})")]
    Unknown {
        /// Which case.
        code: Code,
        /// What failed, why, and what to do.
        detail: String,
        /// The id to ask again with, if the caller gave one.
        request_id: Option<Bytes>,
    },
    /// It ran, but its answer is not what the caller's types say: the two sides were built from
    /// different versions, or the runtime itself rolled the turn back.
    #[error("{0}")]
    Contract(String),
}

impl<E> CallError<E> {
    /// The code, of errors that have one.
    #[must_use]
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::NotRun(refusal) => Some(refusal.code),
            Self::Unknown { code, .. } => Some(*code),
            Self::App(_) | Self::Contract(_) => None,
        }
    }

    /// When trying again can help.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::NotRun(refusal) => refusal.retry_after,
            Self::App(_) | Self::Unknown { .. } | Self::Contract(_) => None,
        }
    }
}

/// An actor's error as it travels: name, text, and the error as JSON.
///
/// The name is that of the enum's variant or of the struct, such as `Short`.
///
/// # Errors
/// A text: the error cannot be encoded, a bug of the actor.
pub fn app_error<E: ActorError>(error: &E) -> Result<AppError, String> {
    let payload = serde_json::to_vec(error)
        .map_err(|why| format!("its error `{error}` cannot be encoded: {why}"))?;
    Ok(AppError {
        name: error_name(error).unwrap_or("Error").to_owned(),
        message: error.to_string(),
        payload: payload.into(),
    })
}

/// What a typed caller gets for an outcome.
pub(crate) fn typed_outcome<R: Body, E: ActorError>(
    outcome: CallOutcome,
    method: &str,
    request_id: Option<Bytes>,
) -> Result<R, CallError<E>> {
    match outcome {
        CallOutcome::Reply(body) => R::from_body(&body).map_err(|why| {
            let text = format!("the reply of `{method}` is not of the expected type: {why}");
            CallError::Contract(text)
        }),
        CallOutcome::AppReply(reply) => R::from_body(&reply.body).map_err(|why| {
            let text = format!("the reply of `{method}` is not of the expected type: {why}");
            CallError::Contract(text)
        }),
        CallOutcome::App(error) => Err(match serde_json::from_slice(&error.payload) {
            Ok(typed) => CallError::App(typed),
            Err(_) => CallError::Contract(format!("{}: {}", error.name, error.message)),
        }),
        CallOutcome::NotRun(refusal) => Err(CallError::NotRun(refusal)),
        CallOutcome::Unknown { code, detail } => Err(CallError::Unknown {
            code,
            detail,
            request_id,
        }),
    }
}
