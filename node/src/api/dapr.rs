//! Dapr's HTTP API of a node: actors are called here; their state, reminders and timers in
//! `actor_calls`; health, metadata (what is set lives as long as the process) and shutdown in
//! `metadata`.
//!
//! Paths are matched by hand, because Dapr decodes each segment once and tolerates doubled and
//! trailing slashes, and a method may contain slashes. Building blocks of Dapr that are absent are
//! answered 501.

mod actor_calls;
pub(crate) mod metadata;
mod publish;

use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::response::Response;
use ghostlight_protocol::actor::clean_method;
use ghostlight_protocol::code::Code;
use ghostlight_protocol::outcome::{CallOutcome, NotRun};
use ghostlight_protocol::request::RequestId;
use hyper::header::{ALLOW, HeaderValue};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, StatusCode};

use super::app_metadata;
use super::error_map::{self, Answer};
use super::resilience::Transport;
use super::{
    Context, Shared, app_requests, collect, inventory, joining, json_bytes, metrics, path, refused,
};
use crate::handle::Invoke;
use metadata::Health;
use publish::Count;

/// A repeated id gets the recorded reply.
pub const REQUEST_ID_HEADER: &str = "ghostlight-request-id";
/// The common name of the same header.
pub const IDEMPOTENCY_KEY_HEADER: &str = "idempotency-key";
/// How long the client waits, in milliseconds.
pub const DEADLINE_HEADER: &str = "ghostlight-deadline-ms";
/// Longest deadline of a call.
pub const DEADLINE_MAX: Duration = Duration::from_secs(24 * 3_600);
/// What is supported, for the answer to everything else of Dapr.
pub const SUPPORTED: &str = "Ghostlight has Dapr's actors (invocation, state, reminders, timers), pub/sub, health, \
                             metadata and shutdown";
/// First segments below a version that are Dapr's building blocks and not here.
const ABSENT_BLOCKS: [&str; 13] = [
    "bindings",
    "configuration",
    "conversation",
    "crypto",
    "invoke",
    "jobs",
    "lock",
    "query",
    "secrets",
    "state",
    "unlock",
    "unsubscribe",
    "workflows",
];

/// Whether a path is one of health.
#[must_use]
pub fn is_health(raw_path: &str) -> bool {
    let segments = path::segments(raw_path).unwrap_or_default();
    let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
    matches!(
        parts.as_slice(),
        ["v1.0", "healthz"] | ["v1.0", "healthz", "outbound"]
    )
}

/// Answers one request of the public port: health and metadata, without a token, as in Dapr.
pub async fn answer_public(context: Shared, request: Request) -> Response {
    let segments = path::segments(request.uri().path()).unwrap_or_default();
    let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
    if let Some(refusal) = context.access.refuses_path(&parts) {
        metrics::refused("invalid");
        return refusal.into_response();
    }
    match parts.as_slice() {
        ["v1.0", "healthz", rest @ ..] if is_health(request.uri().path()) => {
            let health = match rest {
                [] => Health::Whole,
                _ => Health::Outbound,
            };
            metadata::health(&context, &request.into_parts().0, health).await
        }
        ["v1.0", "metadata"] => metadata::metadata(&context, request.method()).await,
        ["v1.0", "metadata", key] => metadata::set_metadata(&context, key, request).await,
        _ => Answer::no_route(
            StatusCode::NOT_FOUND,
            "no such path. Health and metadata are public, everything else has a port of its own",
        )
        .into_response(),
    }
}

/// Answers one request.
pub async fn answer(context: Shared, request: Request) -> Response {
    let Some(segments) = path::segments(request.uri().path()) else {
        metrics::refused("malformed_path");
        return Answer::no_route(
            StatusCode::BAD_REQUEST,
            "the path has a broken % escape, or is not UTF-8",
        )
        .into_response();
    };
    let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
    // Health is exempt from the token, so that probes need no secret.
    match parts.as_slice() {
        ["v1.0", "healthz"] => {
            return metadata::health(&context, &request.into_parts().0, Health::Whole).await;
        }
        ["v1.0", "healthz", "outbound"] => {
            return metadata::health(&context, &request.into_parts().0, Health::Outbound).await;
        }
        _ => {}
    }
    if let Some(refusal) = refused(&context.tokens, request.headers()) {
        metrics::refused("token");
        return refusal;
    }
    if let Some(refusal) = context.access.refuses_path(&parts) {
        metrics::refused("invalid");
        return refusal.into_response();
    }
    routed(&context, &parts, request).await
}

async fn routed(context: &Context, parts: &[&str], request: Request) -> Response {
    match parts {
        [
            "v1.0",
            "actors",
            actor_type,
            actor_id,
            "method",
            method @ ..,
        ] if !method.is_empty() => {
            let names = Names {
                actor_type,
                actor_id,
                method: &method.join("/"),
            };
            invoke(context, names, request).await
        }
        ["v1.0", "actors", actor_type, actor_id, rest @ ..] => {
            let path = actor_calls::Path {
                actor_type,
                actor_id,
                rest,
            };
            let answered = actor_calls::answer(context, path, request).await;
            answered.unwrap_or_else(|| no_such_path(parts))
        }
        ["v1.0-alpha1", "publish", "bulk", rest @ ..] => {
            publish::answer(context, Count::Several, rest, request).await
        }
        ["v1.0", "publish", "bulk", rest @ ..] if rest.len() > 1 => {
            publish::answer(context, Count::Several, rest, request).await
        }
        ["v1.0", "publish", rest @ ..] => publish::answer(context, Count::One, rest, request).await,
        ["ghostlight", "v1", rest @ ..] => {
            let (method, uri) = (request.method(), request.uri());
            let answered = inventory::routes::answer(context, method, uri, rest).await;
            answered.unwrap_or_else(|| no_such_path(parts))
        }
        ["v1.0", "metadata"] => metadata::metadata(context, request.method()).await,
        ["v1.0", "metadata", key] => metadata::set_metadata(context, key, request).await,
        ["v1.0", "shutdown"] => metadata::shutdown(context, &request),
        _ => no_such_path(parts),
    }
}

fn no_such_path(parts: &[&str]) -> Response {
    match parts {
        ["v1.0" | "v1.0-alpha1" | "v1.0-beta1", block, ..] if ABSENT_BLOCKS.contains(block) => {
            Answer::no_route(
                StatusCode::NOT_IMPLEMENTED,
                format!("{block} is not supported. {SUPPORTED}"),
            )
            .into_response()
        }
        _ => Answer::no_route(
            StatusCode::NOT_FOUND,
            "no such path. Actors are called at /v1.0/actors/{type}/{id}/method/{method}",
        )
        .into_response(),
    }
}

/// Names as they came, decoded but not checked.
struct Names<'a> {
    actor_type: &'a str,
    actor_id: &'a str,
    method: &'a str,
}

async fn invoke(context: &Context, names: Names<'_>, request: Request) -> Response {
    const VERBS: [Method; 4] = [Method::GET, Method::POST, Method::PUT, Method::DELETE];
    if !VERBS.contains(request.method()) {
        return not_allowed("GET, POST, PUT, DELETE");
    }
    let began = Instant::now();
    let (head, body) = request.into_parts();
    let (call, turn) = match parse(context, &names, &head, body).await {
        Ok(parsed) => parsed,
        Err(refusal) => {
            metrics::refused("invalid");
            return refusal.into_response();
        }
    };
    let cleaned = call.method.clone();
    let outcome = match context.invoke(call, turn, Transport::Http).await {
        Ok(outcome) => outcome,
        Err(refusal) => return refusal.into_response(),
    };
    metrics::answered(outcome_label(&outcome), began.elapsed());
    match outcome {
        // Replies of our SDK and of the samples are JSON; Dapr's clients look at the bytes.
        CallOutcome::Reply(reply) => json_bytes(StatusCode::OK, reply),
        CallOutcome::AppReply(reply) => app_metadata::response(reply),
        CallOutcome::App(error) => error_map::app_error(error).into_response(),
        CallOutcome::NotRun(refusal) => {
            let words = in_daprs_words(refusal, names.actor_type, names.actor_id, &cleaned);
            error_map::not_run(words).into_response()
        }
        CallOutcome::Unknown { code, detail } => error_map::unknown(code, detail).into_response(),
    }
}

async fn parse(
    context: &Context,
    names: &Names<'_>,
    head: &Parts,
    body: Body,
) -> Result<(Invoke, Option<String>), Answer> {
    let headers = &head.headers;
    let actor = app_requests::actor(&context.namespace, names.actor_type, names.actor_id)?;
    let method =
        clean_method(names.method).map_err(|error| Answer::of(error.code, error.to_string()))?;
    let request_id = request_id(headers)?;
    let turn = joining::token(headers, request_id.as_ref())?;
    let timeout = deadline(headers)?;
    let body = collect(headers, body, context.body_max).await?;
    let call = Invoke {
        actor,
        method,
        body,
        request_id,
        timeout,
        metadata: app_metadata::of_request(head),
    };
    Ok((call, turn))
}

/// A request id from outside, by either of its headers.
pub(crate) fn request_id(headers: &HeaderMap) -> Result<Option<Bytes>, Answer> {
    let refused = |why: &str| {
        let advice = format!("{why}. Send one id of 1 to 256 bytes in Ghostlight-Request-Id");
        Answer::of(Code::InvalidRequestId, advice)
    };
    let mut given = [REQUEST_ID_HEADER, IDEMPOTENCY_KEY_HEADER]
        .iter()
        .flat_map(|name| headers.get_all(*name));
    let Some(first) = given.next() else {
        return Ok(None);
    };
    if given.any(|other| other != first) {
        return Err(refused("the request has two different request ids"));
    }
    RequestId::outside(first.as_bytes()).map_err(|why| refused(&why))?;
    Ok(Some(Bytes::copy_from_slice(first.as_bytes())))
}

/// How long the client waits.
pub(crate) fn deadline(headers: &HeaderMap) -> Result<Option<Duration>, Answer> {
    let Some(given) = headers.get(DEADLINE_HEADER) else {
        return Ok(None);
    };
    let millis = given
        .to_str()
        .ok()
        .and_then(|text| text.trim().parse::<u64>().ok());
    match millis.map(Duration::from_millis) {
        Some(Duration::ZERO) => Err(Answer::of(
            Code::DeadlineExpired,
            "the deadline had passed when the call arrived; it did not run. Allow more time",
        )),
        Some(timeout) if timeout <= DEADLINE_MAX => Ok(Some(timeout)),
        _ => Err(Answer::of(
            Code::InvalidDeadline,
            format!(
                "Ghostlight-Deadline-Ms is {given:?}. Send whole milliseconds from 1 to {}",
                DEADLINE_MAX.as_millis()
            ),
        )),
    }
}

/// Dapr's SDKs match these texts. `method` is the one that was called: cleaned.
pub(crate) fn in_daprs_words(
    mut refusal: NotRun,
    actor_type: &str,
    actor_id: &str,
    method: &str,
) -> NotRun {
    let words = match refusal.code {
        Code::UnknownActorType => {
            format!("did not find address for actor '{actor_type}||{actor_id}'")
        }
        Code::UnknownMethod => {
            format!("actor method not found: actors/{actor_type}/{actor_id}/method/{method}")
        }
        Code::ShuttingDown => "actor runtime is closed".to_owned(),
        Code::ChainTooDeep => "maximum stack depth exceeded".to_owned(),
        _ => return refusal,
    };
    refusal.detail = if refusal.detail.is_empty() {
        words
    } else {
        format!("{words}: {}", refusal.detail)
    };
    refusal
}

/// The outcome as a label of metrics.
pub(crate) fn outcome_label(outcome: &CallOutcome) -> &'static str {
    match outcome {
        CallOutcome::Reply(_) | CallOutcome::AppReply(_) => "reply",
        CallOutcome::App(_) => "app_error",
        CallOutcome::NotRun(_) => "not_run",
        CallOutcome::Unknown { .. } => "unknown",
    }
}

fn not_allowed(allowed: &'static str) -> Response {
    let message = format!("this path takes {allowed}");
    let mut response = Answer::no_route(StatusCode::METHOD_NOT_ALLOWED, message).into_response();
    response
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static(allowed));
    response
}
