//! How a call ends: honestly.
//!
//! `Reply` and `App` mean that the turn ran and that its effects and this answer are one committed
//! fact. `NotRun` means that it certainly did not run. `Unknown` means that it may have run: ask
//! again with the same request id.

use std::time::Duration;

use bytes::Bytes;
use prost::{Message, Oneof};

use crate::call::AppReply;
use crate::code::Code;
use crate::text;

/// The application refused: its turn ran, and rolled back.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct AppError {
    /// Stable name of the error for programs, such as `Short`.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The text for people.
    #[prost(string, tag = "2")]
    pub message: String,
    /// The typed error as the actor encoded it (JSON for our SDK); may be empty.
    #[prost(bytes = "bytes", tag = "3")]
    pub payload: Bytes,
}

impl AppError {
    /// The same with its name and text cut to their bound; the payload is a value, and stays whole.
    #[must_use]
    pub fn bounded(self) -> Self {
        Self {
            name: text::cut(self.name),
            message: text::cut(self.message),
            payload: self.payload,
        }
    }
}

/// The call certainly did not run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NotRun {
    /// Which case.
    pub code: Code,
    /// What failed, why, and what to do.
    pub detail: String,
    /// When to try again, if trying again can help.
    pub retry_after: Option<Duration>,
}

impl NotRun {
    /// A refusal that trying again does not change. A detail over its bound is cut.
    #[must_use]
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: text::cut(detail.into()),
            retry_after: None,
        }
    }

    /// A refusal that may be over after `pause`. A detail over its bound is cut.
    #[must_use]
    pub fn retry(code: Code, detail: impl Into<String>, pause: Duration) -> Self {
        Self {
            code,
            detail: text::cut(detail.into()),
            retry_after: Some(pause),
        }
    }

    /// The same with its detail cut to its bound: for one that was not made by `new` or `retry`.
    #[must_use]
    pub fn bounded(self) -> Self {
        Self {
            detail: text::cut(self.detail),
            ..self
        }
    }
}

/// How a call ends, for the caller.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CallOutcome {
    /// The turn committed; this is its reply.
    Reply(Bytes),
    /// The turn of an application's actor committed; this is its answer.
    AppReply(AppReply),
    /// The turn ran and refused. Of a native actor nothing but this answer was kept; of an
    /// application's actor also what it had written.
    App(AppError),
    /// The turn certainly did not run.
    NotRun(NotRun),
    /// The turn may have run.
    Unknown {
        /// `OutcomeUnknown`, `Interrupted` or `SessionClosed`; or `ReplyNotKept`: it ran, and what
        /// it answered is gone.
        code: Code,
        /// What failed, why, and what to do.
        detail: String,
    },
}

/// What a turn answered, as it is recorded and replicated.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct TurnAnswer {
    /// One of the two; absent in a record that was cut to a digest.
    #[prost(oneof = "Answer", tags = "1, 2, 3, 4")]
    pub answer: Option<Answer>,
}

/// The variants of [`TurnAnswer`].
#[derive(Clone, PartialEq, Eq, Oneof)]
pub enum Answer {
    /// The turn succeeded.
    #[prost(bytes = "bytes", tag = "1")]
    Reply(Bytes),
    /// The turn refused and rolled back.
    #[prost(message, tag = "2")]
    App(AppError),
    /// The turn was cut after a partial commit; it is never run again.
    #[prost(message, tag = "3")]
    Interrupted(Interrupted),
    /// An application's turn succeeded.
    #[prost(message, tag = "4")]
    AppReply(AppReply),
}

/// Marks an interrupted turn.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Interrupted {}

impl TurnAnswer {
    /// A success.
    #[must_use]
    pub fn reply(body: Bytes) -> Self {
        Self {
            answer: Some(Answer::Reply(body)),
        }
    }

    /// A success of an application's actor.
    #[must_use]
    pub fn app_reply(reply: AppReply) -> Self {
        Self {
            answer: Some(Answer::AppReply(reply)),
        }
    }

    /// What is recorded with a part of a turn.
    #[must_use]
    pub fn interrupted() -> Self {
        Self {
            answer: Some(Answer::Interrupted(Interrupted {})),
        }
    }

    /// A refusal by the application.
    #[must_use]
    pub fn app(error: AppError) -> Self {
        Self {
            answer: Some(Answer::App(error)),
        }
    }

    /// What the caller hears; a record whose reply was too large to keep says so.
    #[must_use]
    pub fn into_outcome(self) -> CallOutcome {
        match self.answer {
            Some(Answer::Reply(body)) => CallOutcome::Reply(body),
            Some(Answer::AppReply(reply)) => CallOutcome::AppReply(reply),
            Some(Answer::App(error)) => CallOutcome::App(error),
            Some(Answer::Interrupted(_)) => CallOutcome::Unknown {
                code: Code::Interrupted,
                detail:
                    "the turn was cut after it had committed a part; it is not run again. Read the \
                         actor's state to see what it did"
                        .to_owned(),
            },
            None => CallOutcome::Unknown {
                code: Code::ReplyNotKept,
                detail:
                    "the request ran and committed, but its reply was too large to be kept. Read \
                         the actor's state instead"
                        .to_owned(),
            },
        }
    }
}
