//! Dapr's HTTP API of a node: actor invocation, health, metadata (what is set lives as long as the process).
//!
//! Paths are matched by hand, because Dapr decodes each segment once and tolerates doubled and trailing
//! slashes, and a method may contain slashes. Absent until applications have their own channel: state,
//! reminders, timers, publish.

use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::response::Response;
use ghostlight_core::admin::{AdminAnswer, AdminRequest};
use ghostlight_protocol::actor::{ActorKey, clean_method};
use ghostlight_protocol::code::Code;
use ghostlight_protocol::limits::REQUEST_BODY_BYTES_MAX;
use ghostlight_protocol::outcome::{CallOutcome, NotRun};
use ghostlight_protocol::request::RequestId;
use hyper::header::{ALLOW, HeaderValue};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, StatusCode};
use serde_json::{Map, Value, json};

use super::app_metadata;
use super::error_map::{self, Answer};
use super::extended::{EXTENDED_BYTES_MAX, EXTENDED_KEYS_MAX, Full};
use super::{
    Context, Shared, collect, empty, json as json_response, json_bytes, metrics, path, refused,
};
use crate::handle::Invoke;

/// A repeated id gets the recorded reply.
pub const REQUEST_ID_HEADER: &str = "ghostlight-request-id";
/// The common name of the same header.
pub const IDEMPOTENCY_KEY_HEADER: &str = "idempotency-key";
/// How long the client waits, in milliseconds.
pub const DEADLINE_HEADER: &str = "ghostlight-deadline-ms";
/// Longest deadline of a call.
pub const DEADLINE_MAX: Duration = Duration::from_secs(24 * 3_600);
/// Prefix of actor types that Dapr keeps to itself.
const RESERVED_TYPE_PREFIX: &str = "dapr.internal.";
/// How long a health question waits for the node.
const HEALTH_WAIT_MAX: Duration = Duration::from_secs(1);

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
            return health(&context, &request.into_parts().0, "ERR_HEALTH_NOT_READY").await;
        }
        ["v1.0", "healthz", "outbound"] => {
            return health(
                &context,
                &request.into_parts().0,
                "ERR_OUTBOUND_HEALTH_NOT_READY",
            )
            .await;
        }
        _ => {}
    }
    if let Some(refusal) = refused(&context, request.headers()) {
        metrics::refused("token");
        return refusal;
    }
    match parts.as_slice() {
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
            invoke(&context, names, request).await
        }
        ["v1.0", "metadata"] => metadata(&context, request.method()).await,
        ["v1.0", "metadata", key] => set_metadata(&context, key, request).await,
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
    let call = match parse(context, &names, &head, body).await {
        Ok(call) => call,
        Err(refusal) => {
            metrics::refused("invalid");
            return refusal.into_response();
        }
    };
    let cleaned = call.method.clone();
    let outcome = context.handle.invoke(call).await;
    metrics::answered(outcome_label(&outcome), began.elapsed());
    match outcome {
        // Replies of our SDK and of the samples are JSON; Dapr's clients look at the bytes.
        CallOutcome::Reply(reply) => json_bytes(StatusCode::OK, reply),
        CallOutcome::AppReply(reply) => app_metadata::response(reply),
        CallOutcome::App(error) => error_map::app_error(error).into_response(),
        CallOutcome::NotRun(refusal) => {
            error_map::not_run(in_daprs_words(refusal, &names, &cleaned)).into_response()
        }
        CallOutcome::Unknown { code, detail } => error_map::unknown(code, detail).into_response(),
    }
}

async fn parse(
    context: &Context,
    names: &Names<'_>,
    head: &Parts,
    body: Body,
) -> Result<Invoke, Answer> {
    let headers = &head.headers;
    let named = |error: ghostlight_protocol::actor::NameError| {
        let detail = error.to_string();
        Answer::of(error.code, detail)
    };
    let actor =
        ActorKey::new(&context.namespace, names.actor_type, names.actor_id).map_err(named)?;
    if names.actor_type.starts_with(RESERVED_TYPE_PREFIX) {
        return Err(Answer::of(
            Code::ActorTypeReserved,
            format!(
                "actor type {:?} is reserved for the Dapr workflow runtime; use another name",
                names.actor_type
            ),
        ));
    }
    let method = clean_method(names.method).map_err(named)?;
    let request_id = request_id(headers)?;
    let timeout = deadline(headers)?;
    let body = collect(headers, body, REQUEST_BODY_BYTES_MAX).await?;
    Ok(Invoke {
        actor,
        method,
        body,
        request_id,
        timeout,
        metadata: app_metadata::of_request(head),
    })
}

fn request_id(headers: &HeaderMap) -> Result<Option<Bytes>, Answer> {
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

fn deadline(headers: &HeaderMap) -> Result<Option<Duration>, Answer> {
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
fn in_daprs_words(mut refusal: NotRun, names: &Names<'_>, method: &str) -> NotRun {
    let Names {
        actor_type,
        actor_id,
        method: _,
    } = names;
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

fn outcome_label(outcome: &CallOutcome) -> &'static str {
    match outcome {
        CallOutcome::Reply(_) | CallOutcome::AppReply(_) => "reply",
        CallOutcome::App(_) => "app_error",
        CallOutcome::NotRun(_) => "not_run",
        CallOutcome::Unknown { .. } => "unknown",
    }
}

/// Ready means: the core answers, and the node belongs to a cluster.
async fn health(context: &Context, head: &Parts, error_code: &'static str) -> Response {
    if head.method != Method::GET && head.method != Method::HEAD {
        return not_allowed("GET, HEAD");
    }
    let asked = head.uri.query().and_then(|query| {
        query
            .split('&')
            .find_map(|pair| pair.strip_prefix("appid="))
            .and_then(path::decode)
    });
    if asked.is_some_and(|id| id != context.name) {
        return Answer::health("ERR_HEALTH_APPID_NOT_MATCH", "dapr app-id does not match")
            .into_response();
    }
    let status = context.handle.admin(AdminRequest::Status);
    let why = match tokio::time::timeout(HEALTH_WAIT_MAX, status).await {
        Ok(AdminAnswer::Status(view)) if !view.cluster.is_empty() => {
            return empty(StatusCode::NO_CONTENT);
        }
        Ok(AdminAnswer::Refused { .. }) => "node ending",
        Ok(_) => "cluster not joined",
        Err(_) => "node not answering",
    };
    Answer::health(error_code, format!("dapr is not ready: [{why}]")).into_response()
}

async fn metadata(context: &Context, method: &Method) -> Response {
    if method != Method::GET {
        return not_allowed("GET");
    }
    let mut counts: Map<String, Value> = context
        .actor_types
        .iter()
        .map(|name| (name.clone(), Value::from(0_u64)))
        .collect();
    if let AdminAnswer::Actors(actors) = context.handle.admin(AdminRequest::Actors).await {
        for actor in actors {
            let actor_type = actor.actor.split('/').next().unwrap_or_default();
            let count = counts
                .entry(actor_type)
                .or_insert_with(|| Value::from(0_u64));
            *count = Value::from(count.as_u64().unwrap_or(0) + 1);
        }
    }
    let active: Vec<Value> = counts
        .into_iter()
        // Dapr leaves a zero count out.
        .map(|(name, count)| match count.as_u64() {
            Some(0) => json!({"type": name}),
            _ => json!({"type": name, "count": count}),
        })
        .collect();
    let version = env!("CARGO_PKG_VERSION");
    let mut extended = context.extended.all();
    for ours in ["daprRuntimeVersion", "ghostlightVersion"] {
        extended.insert(ours.to_owned(), version.to_owned());
    }
    json_response(
        StatusCode::OK,
        &json!({
            "id": context.name,
            "runtimeVersion": version,
            "enabledFeatures": [],
            "actors": active,
            "components": [],
            "extended": extended,
            "subscriptions": [],
            "httpEndpoints": [],
            "actorRuntime": {
                "runtimeStatus": "RUNNING",
                "activeActors": active,
                "hostReady": true,
                "placement": "placement: connected",
            },
        }),
    )
}

/// `PUT /v1.0/metadata/{key}`: the body is the value.
async fn set_metadata(context: &Context, key: &str, request: Request) -> Response {
    if request.method() != Method::PUT {
        return not_allowed("PUT");
    }
    let (head, body) = request.into_parts();
    let value = match collect(&head.headers, body, EXTENDED_BYTES_MAX).await {
        Ok(value) => String::from_utf8_lossy(&value).into_owned(),
        Err(refusal) => return refusal.into_response(),
    };
    match context.extended.set(key, value) {
        Ok(()) => empty(StatusCode::NO_CONTENT),
        Err(Full) => Answer::no_route(
            StatusCode::BAD_REQUEST,
            format!(
                "metadata takes {EXTENDED_KEYS_MAX} keys, and {EXTENDED_BYTES_MAX} bytes for a key with \
                 its value"
            ),
        )
        .into_response(),
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
