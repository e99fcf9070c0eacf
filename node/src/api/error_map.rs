//! How outcomes become HTTP answers: the only place that knows statuses and `errorCode`s of the
//! wire.
//!
//! Rules: 503 and 429 only when the call certainly did not run, because SDKs repeat those on their
//! own; an unknown outcome is 500. Dapr's own cases keep Dapr's `errorCode`, ours are
//! `ERR_GHOSTLIGHT_<NAME>`. Our number stands in the header `Ghostlight-Error` and at the end of
//! the message. `grpc` is the second column of the same table, `app` the rows of state, reminders
//! and timers, `pubsub` those of publishing.

pub mod app;
pub mod grpc;
pub mod pubsub;

use std::collections::BTreeMap;
use std::time::Duration;

use axum::response::Response;
use ghostlight_core::hosts::objects::APP_STATUS;
use ghostlight_protocol::code::{Class, Code};
use ghostlight_protocol::outcome::{AppError, NotRun};
use hyper::StatusCode;
use hyper::header::{HeaderValue, RETRY_AFTER};
use serde::Serialize;

use super::resilience::Transport;
use crate::resources::FailedWith;

/// Our number of an error, such as `E0107`.
pub const ERROR_HEADER: &str = "ghostlight-error";
/// Name of an application's error: the turn ran and refused.
pub const APP_ERROR_HEADER: &str = "ghostlight-app-error";
/// `Retry-After` with its milliseconds.
pub const RETRY_AFTER_MS_HEADER: &str = "ghostlight-retry-after-ms";
/// Dapr's text for a missing or wrong token.
pub const TOKEN_REFUSED: &str = "invalid api token";

/// Dapr's code of a turn that failed in the actor.
pub const ERR_ACTOR_INVOKE_METHOD: &str = "ERR_ACTOR_INVOKE_METHOD";
const ERR_BAD_REQUEST: &str = "ERR_BAD_REQUEST";
const ERR_BODY_READ: &str = "ERR_BODY_READ";

/// An error on its way to an HTTP client.
#[derive(Clone, PartialEq, Debug)]
pub struct Answer {
    status: StatusCode,
    error_code: &'static str,
    message: String,
    code: Option<Code>,
    retry_after: Option<Duration>,
    app: Option<Box<AppError>>,
    details: Vec<Detail>,
}

/// One of Dapr's details of an error (`google.rpc`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Detail {
    /// `ErrorInfo`.
    Reason {
        /// Such as `DAPR_PUBSUB_NOT_FOUND`.
        reason: &'static str,
        /// What belongs to it.
        metadata: BTreeMap<&'static str, String>,
    },
    /// `ResourceInfo`.
    Resource {
        /// Such as `pubsub`.
        kind: &'static str,
        /// Its name.
        name: String,
        /// The message.
        description: String,
    },
}

/// Domain of Dapr's reasons.
pub(crate) const DETAIL_DOMAIN: &str = "dapr.io";

#[derive(Serialize)]
struct ErrorBody<'a> {
    #[serde(rename = "errorCode")]
    error_code: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    details: Vec<DetailBody<'a>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum DetailBody<'a> {
    App(AppDetail<'a>),
    Reason {
        #[serde(rename = "@type")]
        kind: &'static str,
        domain: &'static str,
        reason: &'static str,
        metadata: &'a BTreeMap<&'static str, String>,
    },
    Resource {
        #[serde(rename = "@type")]
        kind: &'static str,
        resource_type: &'static str,
        resource_name: &'a str,
        owner: &'static str,
        description: &'a str,
    },
}

/// The typed error of an actor, in Dapr's `details`.
#[derive(Serialize)]
struct AppDetail<'a> {
    #[serde(rename = "@type")]
    kind: &'static str,
    name: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<serde_json::Value>,
}

/// Status and `errorCode` of each code.
#[must_use]
#[expect(clippy::too_many_lines, reason = "one row for each code")]
pub fn mapping(code: Code) -> (StatusCode, &'static str) {
    use Code as C;
    let ours = code.error_code();
    match code {
        C::InvalidActorType | C::InvalidActorId | C::InvalidMethod => {
            (StatusCode::BAD_REQUEST, ERR_BAD_REQUEST)
        }
        C::BodyTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, ERR_BODY_READ),
        C::DeadlineExpired => (StatusCode::GATEWAY_TIMEOUT, ours),
        C::UnknownActorType => (StatusCode::NOT_FOUND, "ERR_ACTOR_NO_ADDRESS"),
        C::ActorTypeReserved => (StatusCode::FORBIDDEN, "ERR_ACTOR_TYPE_RESERVED"),
        // Dapr answers an application's 404 for a method with this 500.
        C::UnknownMethod | C::TurnPanicked => {
            (StatusCode::INTERNAL_SERVER_ERROR, ERR_ACTOR_INVOKE_METHOD)
        }
        C::MailboxFull
        | C::DedupFull
        | C::GatewayFull
        | C::TopicBusy
        | C::MessagesFull
        | C::NodeBusy => (StatusCode::TOO_MANY_REQUESTS, ours),
        C::RequestIdReused
        | C::TurnOver
        | C::Cycle
        | C::LeaveBelowFactor
        | C::RemoveLiveNode
        | C::AmbiguousNode => (StatusCode::CONFLICT, ours),
        C::ChainTooDeep => (StatusCode::INTERNAL_SERVER_ERROR, "ERR_ACTOR_STACK_DEPTH"),
        C::OutcomeUnknown
        | C::Interrupted
        | C::SessionClosed
        | C::ReplyNotKept
        | C::OrderUnconfirmed => (StatusCode::INTERNAL_SERVER_ERROR, ours),
        C::InvalidRequestId
        | C::InvalidArgument
        | C::TurnTooLarge
        | C::InvalidDeadline
        | C::EdgeCannotFound
        | C::ConfigUnknownKey
        | C::ConfigInvalid
        | C::PartitionsInvalid
        | C::InvalidTopic
        | C::EphemeralTopic
        | C::CursorOutOfRange => (StatusCode::BAD_REQUEST, ours),
        C::ShuttingDown => (StatusCode::SERVICE_UNAVAILABLE, "ERR_ACTOR_RUNTIME_CLOSED"),
        C::NoLeader
        | C::MinCopies
        | C::NotJoined
        | C::LeaderMoved
        | C::NoHost
        | C::SeedsSilent
        | C::ClockOff
        | C::DiskSlow
        | C::DiskRoomShort
        | C::BusUnavailable
        | C::NodeStarved
        | C::NodeUnreachable => (StatusCode::SERVICE_UNAVAILABLE, ours),
        C::ClusterKeyRejected
        | C::ClusterIdMismatch
        | C::ShapeMismatch
        | C::StaleGeneration
        | C::Decommissioned
        | C::ProtocolMismatch
        | C::HashRulesMismatch => (StatusCode::FORBIDDEN, ours),
        C::TokenRefused => (StatusCode::UNAUTHORIZED, ours),
        C::UnknownNode | C::UnknownGroup | C::UnknownTopic => (StatusCode::NOT_FOUND, ours),
        C::Yielded
        | C::DataDirLocked
        | C::DataDirReadOnly
        | C::DataDirFull
        | C::DataDirNewer
        | C::DataDirForeign
        | C::DataDirCorrupt
        | C::StorageFailed
        | C::ReplicaCondemned
        | C::DataDirUnusable
        | C::StatesDiffer
        | C::PromisesLost
        | C::PortInUse
        | C::KeyFileUnusable
        | C::ProfileRefuses
        | C::DemoFailed
        | C::BenchFailed
        | C::BusNotServed
        | C::Internal => (StatusCode::INTERNAL_SERVER_ERROR, ours),
    }
}

impl Answer {
    /// An answer with a code's own status.
    #[must_use]
    pub fn of(code: Code, message: impl Into<String>) -> Self {
        let (status, error_code) = mapping(code);
        Self {
            status,
            error_code,
            message: message.into(),
            code: Some(code),
            retry_after: None,
            app: None,
            details: Vec::new(),
        }
    }

    /// A path or verb that this API does not have.
    #[must_use]
    pub fn no_route(status: StatusCode, message: impl Into<String>) -> Self {
        Self::dapr(status, ERR_BAD_REQUEST, message)
    }

    /// One of Dapr's cases that has no number of ours.
    #[must_use]
    pub fn dapr(status: StatusCode, error_code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            error_code,
            message: message.into(),
            code: None,
            retry_after: None,
            app: None,
            details: Vec::new(),
        }
    }

    /// One of Dapr's health answers.
    #[must_use]
    pub fn health(error_code: &'static str, message: impl Into<String>) -> Self {
        Self {
            error_code,
            ..Self::no_route(StatusCode::INTERNAL_SERVER_ERROR, message)
        }
    }

    /// The status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// What retry policies match it with.
    #[must_use]
    pub fn failed_with(&self, over: Transport) -> FailedWith {
        match over {
            Transport::Http => FailedWith::Http(self.status.as_u16()),
            Transport::Grpc => {
                let code = i32::from(self.grpc_code());
                FailedWith::Grpc(u16::try_from(code).unwrap_or_default())
            }
        }
    }

    /// For the metric of refused requests: a class, never a text of the request.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self.status {
            StatusCode::INTERNAL_SERVER_ERROR => "failed",
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => "not_run",
            _ => "invalid",
        }
    }

    /// The same with Dapr's details.
    #[must_use]
    pub fn with_details(mut self, details: Vec<Detail>) -> Self {
        self.details = details;
        self
    }

    fn detail_bodies(&self) -> Vec<DetailBody<'_>> {
        let app = self.app.iter().map(|error| app_detail(error));
        let rest = self.details.iter().map(|detail| match detail {
            Detail::Reason { reason, metadata } => DetailBody::Reason {
                kind: "type.googleapis.com/google.rpc.ErrorInfo",
                domain: DETAIL_DOMAIN,
                reason,
                metadata,
            },
            Detail::Resource {
                kind,
                name,
                description,
            } => DetailBody::Resource {
                kind: "type.googleapis.com/google.rpc.ResourceInfo",
                resource_type: kind,
                resource_name: name,
                owner: "",
                description,
            },
        });
        app.map(DetailBody::App).chain(rest).collect()
    }

    /// The message with our number at its end.
    fn whole_message(&self) -> String {
        match self.code {
            Some(code) => format!("{} [{code}]", self.message),
            None => self.message.clone(),
        }
    }

    /// Dapr's category of its `errorCode`.
    fn category(&self) -> &'static str {
        let begins = |prefixes: &[&str]| prefixes.iter().any(|p| self.error_code.starts_with(p));
        if begins(&["ERR_ACTOR_"]) {
            "actor"
        } else if begins(&["ERR_PUBSUB_", "ERR_TOPIC_", "ERR_PUBLISH_"]) {
            "pubsub"
        } else if begins(&["ERR_HEALTH_", "ERR_OUTBOUND_HEALTH_"]) {
            "health"
        } else if begins(&["ERR_GHOSTLIGHT_"]) {
            "ghostlight"
        } else {
            "common"
        }
    }

    /// It leaves, over either transport.
    fn count(&self) {
        super::metrics::error_code(self.category(), self.error_code);
    }

    /// The response.
    #[must_use]
    pub fn into_response(self) -> Response {
        self.count();
        let message = self.whole_message();
        let body = ErrorBody {
            error_code: self.error_code,
            message: &message,
            details: self.detail_bodies(),
        };
        let mut response = super::json(self.status, &body);
        let headers = response.headers_mut();
        if let Some(code) = self.code {
            headers.insert(ERROR_HEADER, header_text(&code.to_string()));
        }
        if let Some(app) = &self.app {
            headers.insert(APP_ERROR_HEADER, header_text(&app.name));
        }
        if let Some(pause) = self.retry_after {
            // Whole seconds, rounded up: 0 would invite an immediate retry.
            let seconds = pause.as_millis().div_ceil(1_000).max(1);
            headers.insert(RETRY_AFTER, header_text(&seconds.to_string()));
            headers.insert(
                RETRY_AFTER_MS_HEADER,
                header_text(&pause.as_millis().to_string()),
            );
        }
        response
    }
}

/// A header value: what cannot stand in one becomes `?`.
fn header_text(text: &str) -> HeaderValue {
    let safe: String = text
        .chars()
        .map(|c| {
            if c.is_ascii_graphic() || c == ' ' {
                c
            } else {
                '?'
            }
        })
        .collect();
    HeaderValue::from_str(&safe).expect("only printable ASCII is left")
}

fn app_detail(error: &AppError) -> AppDetail<'_> {
    AppDetail {
        kind: "ghostlight/AppError",
        name: &error.name,
        message: &error.message,
        error: serde_json::from_slice(&error.payload).ok(),
    }
}

/// The call certainly did not run.
#[must_use]
pub fn not_run(refusal: NotRun) -> Answer {
    let mut answer = Answer::of(refusal.code, refusal.detail);
    match refusal.code {
        // A node that stopped serving has refused the call: another one may take it.
        Code::Yielded | Code::ReplicaCondemned | Code::StorageFailed | Code::DataDirFull => {
            answer.status = StatusCode::SERVICE_UNAVAILABLE;
        }
        Code::UnknownMethod => {
            answer.message = format!("error invoke actor method: {}", answer.message);
        }
        _ => {}
    }
    let retryable = matches!(
        answer.status,
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS
    );
    answer.retry_after = match refusal.retry_after {
        None if retryable => Some(RETRY_PAUSE),
        pause => pause,
    };
    answer
}

/// The call may have run: never a status that clients repeat on their own.
#[must_use]
pub fn unknown(code: Code, detail: String) -> Answer {
    let mut answer = Answer::of(code, detail);
    answer.status = StatusCode::INTERNAL_SERVER_ERROR;
    answer
}

/// The turn ran and refused. Dapr's text for an application's status 500, the typed error of a
/// native actor beside it.
#[must_use]
pub fn app_error(error: AppError) -> Answer {
    // An application's status: the text is Dapr's own, and Dapr's clients compare the whole body.
    let (said, app) = if error.name == APP_STATUS {
        (error.message, None)
    } else {
        let (name, message) = (&error.name, &error.message);
        let said = format!("error from actor service: (500) {name}: {message}");
        (said, Some(Box::new(error)))
    };
    Answer {
        status: StatusCode::INTERNAL_SERVER_ERROR,
        error_code: ERR_ACTOR_INVOKE_METHOD,
        message: format!("error invoke actor method: {said}"),
        code: None,
        retry_after: None,
        app,
        details: Vec::new(),
    }
}

/// An operator's request was refused.
#[must_use]
pub fn admin_refused(code: Code, detail: String) -> Answer {
    let mut answer = Answer::of(code, detail);
    if matches!(code.class(), Class::Retry | Class::Overloaded) {
        answer.retry_after = Some(RETRY_PAUSE);
    }
    answer
}

/// The request says something that it may not.
#[must_use]
pub fn bad_request(message: impl Into<String>) -> Answer {
    Answer::no_route(StatusCode::BAD_REQUEST, message)
}

/// The request body is over the limit.
#[must_use]
pub fn body_too_large(max: usize) -> Answer {
    Answer::of(
        Code::BodyTooLarge,
        format!(
            "the request body is over {max} bytes, the limit of one request. Send less, or in parts"
        ),
    )
}

/// The request body ended early.
#[must_use]
pub fn body_unreadable(why: &str) -> Answer {
    Answer {
        error_code: ERR_BODY_READ,
        ..Answer::no_route(
            StatusCode::BAD_REQUEST,
            format!("failed to read the request body: {why}"),
        )
    }
}

/// The request body did not arrive in time.
#[must_use]
pub fn body_too_slow(max: Duration) -> Answer {
    Answer {
        error_code: ERR_BODY_READ,
        ..Answer::no_route(
            StatusCode::REQUEST_TIMEOUT,
            format!(
                "failed to read the request body: it did not arrive within {} s",
                max.as_secs()
            ),
        )
    }
}

/// All connections of a listener are taken; this one is of its reserve.
#[must_use]
pub fn listener_full(max: usize) -> Answer {
    let refusal = NotRun::retry(
        Code::GatewayFull,
        format!("{max} connections are open here, and this one serves health alone. Use fewer"),
        RETRY_PAUSE,
    );
    not_run(refusal)
}

/// Pause of a refusal that names none.
const RETRY_PAUSE: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests;
