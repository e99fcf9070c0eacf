//! The second column of the table: gRPC statuses.
//!
//! UNAVAILABLE and RESOURCE_EXHAUSTED only when the call certainly did not run, like 503 and 429;
//! the stack depth is Dapr's exception. Our number travels in the same metadata as over HTTP.

use hyper::StatusCode;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};
use tonic_types::{ErrorDetail, ErrorInfo, ResourceInfo, StatusExt};

use super::{Answer, DETAIL_DOMAIN, Detail, ERROR_HEADER, RETRY_AFTER_MS_HEADER};

/// Dapr's text when a token is asked for and none was given.
pub const TOKEN_MISSING: &str = "missing api token in request metadata";
/// Dapr's text for a wrong token.
pub const TOKEN_MISMATCH: &str = "authentication error: api token mismatch";

impl Answer {
    /// The gRPC code.
    #[must_use]
    pub fn grpc_code(&self) -> Code {
        match self.error_code {
            "ERR_ACTOR_NO_ADDRESS" => return Code::FailedPrecondition,
            "ERR_ACTOR_STACK_DEPTH" => return Code::ResourceExhausted,
            "ERR_ACTOR_INSTANCE_MISSING" => return Code::Internal,
            "ERR_ACTOR_NO_APP_CHANNEL" | "ERR_ACTOR_NO_PLACEMENT" => return Code::Unavailable,
            "ERR_ACTOR_REMINDER_ALREADY_EXISTS" => return Code::AlreadyExists,
            "ERR_PUBSUB_NOT_CONFIGURED" => return Code::FailedPrecondition,
            "ERR_PUBSUB_NOT_FOUND"
            | "ERR_PUBSUB_EMPTY"
            | "ERR_TOPIC_NAME_EMPTY"
            | "ERR_PUBSUB_CLOUD_EVENTS_SER" => return Code::InvalidArgument,
            _ => {}
        }
        match self.status {
            StatusCode::BAD_REQUEST => Code::InvalidArgument,
            StatusCode::UNAUTHORIZED => Code::Unauthenticated,
            StatusCode::FORBIDDEN => Code::PermissionDenied,
            StatusCode::NOT_FOUND => Code::NotFound,
            StatusCode::CONFLICT => Code::FailedPrecondition,
            StatusCode::PAYLOAD_TOO_LARGE | StatusCode::TOO_MANY_REQUESTS => {
                Code::ResourceExhausted
            }
            StatusCode::NOT_IMPLEMENTED => Code::Unimplemented,
            StatusCode::SERVICE_UNAVAILABLE => Code::Unavailable,
            StatusCode::REQUEST_TIMEOUT | StatusCode::GATEWAY_TIMEOUT => Code::DeadlineExceeded,
            _ => Code::Internal,
        }
    }

    /// The status, with our number and the pause in its metadata.
    #[must_use]
    pub fn into_status(self) -> Status {
        self.count();
        let code = self.grpc_code();
        let mut metadata = MetadataMap::new();
        let mut put = |name: &'static str, text: String| {
            if let Ok(value) = MetadataValue::try_from(text) {
                metadata.insert(name, value);
            }
        };
        if let Some(ours) = self.code {
            put(ERROR_HEADER, ours.to_string());
        }
        if let Some(pause) = self.retry_after {
            put(RETRY_AFTER_MS_HEADER, pause.as_millis().to_string());
        }
        let message = self.whole_message();
        if self.details.is_empty() {
            return Status::with_metadata(code, message, metadata);
        }
        let details = self.details.into_iter().map(wire_detail);
        Status::with_error_details_vec_and_metadata(code, message, details, metadata)
    }
}

/// A message over the limit of its size, in the words of gRPC for Go, in which Dapr is written;
/// `None`: it is another status. A request was not read, so that nobody was asked, and Go's code
/// says so. An answer was not sent, and what it answers has happened: SDKs must not repeat it,
/// which they do under Go's code.
#[must_use]
pub fn larger_than_max(status: &Status) -> Option<Status> {
    let said = status.message();
    if status.code() != Code::OutOfRange {
        return None;
    }
    let numbers = said.split(|c: char| !c.is_ascii_digit());
    let mut numbers = numbers.filter(|part| !part.is_empty());
    let (found, max) = (numbers.next()?, numbers.next()?);
    if said.contains("decoded message length too large") {
        let words = format!("grpc: received message larger than max ({found} vs. {max})");
        return Some(Status::resource_exhausted(words));
    }
    let is_answer = said.contains("encoded message length too large");
    is_answer.then(|| {
        let words = format!("trying to send message larger than max ({found} vs. {max})");
        Status::internal(words)
    })
}

fn wire_detail(detail: Detail) -> ErrorDetail {
    match detail {
        Detail::Reason { reason, metadata } => {
            let metadata = metadata
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value));
            let metadata: std::collections::HashMap<_, _> = metadata.collect();
            ErrorInfo::new(reason, DETAIL_DOMAIN, metadata).into()
        }
        Detail::Resource {
            kind,
            name,
            description,
        } => ResourceInfo::new(kind, name, "", description).into(),
    }
}
