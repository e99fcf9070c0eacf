//! Health, metadata and shutdown over HTTP.

use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::extract::Request;
use axum::response::Response;
use ghostlight_core::admin::{AdminAnswer, AdminRequest};
use hyper::http::request::Parts;
use hyper::{Method, StatusCode};
use serde_json::{Map, Value, json};

use super::not_allowed;
use crate::api::app_calls::{HostState, PlacementState, RuntimeStatus};
use crate::api::error_map::Answer;
use crate::api::extended::{EXTENDED_BYTES_MAX, EXTENDED_KEYS_MAX, Full};
use crate::api::sidecar::{
    self, AppConnection, DAPR_VERSION, SubscriptionOrigin, SubscriptionView,
};
use crate::api::{Context, collect, empty, json as json_response, path};
use crate::handle::NodeHandle;

/// How long a health question waits for the node.
const HEALTH_WAIT_MAX: Duration = Duration::from_secs(1);
/// End the process with status 1, without a drain.
const FORCE_SHUTDOWN_HEADER: &str = "dapr-force-shutdown";

/// Which of the two health questions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Health {
    /// Everything is ready, the application included.
    Whole,
    /// Calls may leave through this node. SDKs ask while their application starts: it is never a
    /// condition.
    Outbound,
}

pub(super) async fn health(context: &Context, head: &Parts, health: Health) -> Response {
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
    let mut unready = Vec::from_iter(node_unready(context).await);
    match health {
        Health::Whole => {
            unready.extend(context.calls.hosting().unready);
            if unready.is_empty() {
                return empty(StatusCode::NO_CONTENT);
            }
            let text = format!("dapr is not ready: [{}]", unready.join(" "));
            Answer::health("ERR_HEALTH_NOT_READY", text).into_response()
        }
        Health::Outbound if unready.is_empty() => empty(StatusCode::NO_CONTENT),
        Health::Outbound => {
            let text = format!("dapr outbound is not ready: [{}]", unready.join(" "));
            Answer::health("ERR_OUTBOUND_HEALTH_NOT_READY", text).into_response()
        }
    }
}

/// Ready means: the core answers, and the node belongs to a cluster. A sidecar is ready before, as
/// in Dapr: applications wait for it inside of their own start, and have other things to do than to
/// call actors.
async fn node_unready(context: &Context) -> Option<&'static str> {
    let status = context.handle.admin(AdminRequest::Status);
    let before = context.calls.hosting().placement != PlacementState::Connected;
    match tokio::time::timeout(HEALTH_WAIT_MAX, status).await {
        Ok(AdminAnswer::Status(view)) if before || !view.cluster.is_empty() => None,
        Ok(AdminAnswer::Refused { .. }) => Some("node ending"),
        Ok(_) => Some("cluster not joined"),
        Err(_) => Some("node not answering"),
    }
}

pub(super) async fn metadata(context: &Context, method: &Method) -> Response {
    if method != Method::GET {
        return not_allowed("GET");
    }
    let all = sidecar::gather(context).await;
    let actors: Vec<Value> = all
        .actors
        .iter()
        // Dapr leaves a zero count out.
        .map(|(name, count)| match count {
            0 => json!({"type": name}),
            _ => json!({"type": name, "count": count}),
        })
        .collect();
    let known = &context.sidecar;
    let components: Vec<Value> = known
        .components
        .all()
        .iter()
        .map(|c| {
            json!({
                "name": c.name, "type": c.kind, "version": c.version, "capabilities": c.capabilities,
            })
        })
        .collect();
    let endpoints: Vec<Value> = known
        .http_endpoints
        .iter()
        .map(|name| json!({"name": name}))
        .collect();
    let subscriptions: Vec<Value> = all.subscriptions.iter().map(subscription).collect();
    let mut body = json!({
        "id": all.id,
        "runtimeVersion": DAPR_VERSION,
        "enabledFeatures": known.enabled_features,
        "actors": actors,
        "components": components,
        "extended": all.extended,
        "subscriptions": subscriptions,
        "httpEndpoints": endpoints,
        "actorRuntime": {
            "runtimeStatus": runtime_status(all.hosting.status),
            "activeActors": actors,
            "hostReady": all.hosting.host == HostState::Ready,
            "placement": placement(all.hosting.placement),
        },
        "scheduler": {"connected_addresses": []},
        "workflows": {},
    });
    if let (Some(app), Some(fields)) = (&known.app, body.as_object_mut()) {
        fields.insert("appConnectionProperties".to_owned(), connection(app));
    }
    json_response(StatusCode::OK, &body)
}

fn runtime_status(status: RuntimeStatus) -> &'static str {
    match status {
        RuntimeStatus::Initializing => "INITIALIZING",
        RuntimeStatus::Disabled => "DISABLED",
        RuntimeStatus::Running => "RUNNING",
    }
}

/// Dapr's sentence about its placement.
pub(crate) fn placement(state: PlacementState) -> &'static str {
    match state {
        PlacementState::Unknown => "",
        PlacementState::Connected => "placement: connected",
        PlacementState::Disconnected => "placement: disconnected",
    }
}

fn connection(app: &AppConnection) -> Value {
    let mut fields = Map::new();
    fields.insert("port".to_owned(), app.port.into());
    fields.insert("protocol".to_owned(), app.protocol.into());
    let host = app.channel_address.as_str();
    fields.insert("channelAddress".to_owned(), host.into());
    if let Some(max) = app.max_concurrency {
        fields.insert("maxConcurrency".to_owned(), max.into());
    }
    if let Some(health) = &app.health {
        let mut probes = json!({
            "healthProbeInterval": go(health.interval),
            "healthProbeTimeout": go(health.timeout),
            "healthThreshold": health.threshold,
        });
        if !health.path.is_empty() {
            probes["healthCheckPath"] = health.path.as_str().into();
        }
        fields.insert("health".to_owned(), probes);
    }
    Value::Object(fields)
}

/// A duration as Go prints it.
pub(crate) fn go(duration: Duration) -> String {
    ghostlight_protocol::schedule::Span::exact(duration).to_string()
}

fn subscription(of: &SubscriptionView) -> Value {
    let rules: Vec<Value> = of
        .rules
        .iter()
        .map(|(expression, path)| json!({"match": expression, "path": path}))
        .collect();
    let mut fields = json!({
        "pubsubname": of.pubsub,
        "topic": of.topic,
        "rules": rules,
        "type": match of.origin {
            SubscriptionOrigin::Declarative => "DECLARATIVE",
            SubscriptionOrigin::Programmatic => "PROGRAMMATIC",
            SubscriptionOrigin::Streaming => "STREAMING",
        },
    });
    if !of.metadata.is_empty() {
        fields["metadata"] = json!(of.metadata);
    }
    if !of.dead_letter_topic.is_empty() {
        fields["deadLetterTopic"] = of.dead_letter_topic.as_str().into();
    }
    fields
}

/// `PUT /v1.0/metadata/{key}`: the body is the value.
pub(super) async fn set_metadata(context: &Context, key: &str, request: Request) -> Response {
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
        Err(Full) => extended_full().into_response(),
    }
}

/// Nothing more is taken.
pub(crate) fn extended_full() -> Answer {
    Answer::no_route(
        StatusCode::BAD_REQUEST,
        format!(
            "metadata takes {EXTENDED_KEYS_MAX} keys, and {EXTENDED_BYTES_MAX} bytes for a key with its value"
        ),
    )
}

/// `POST /v1.0/shutdown`: answered at once, then the node drains and ends.
pub(super) fn shutdown(context: &Context, request: &Request) -> Response {
    if request.method() != Method::POST {
        return not_allowed("POST");
    }
    let forced = request
        .headers()
        .get(FORCE_SHUTDOWN_HEADER)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true"));
    let grace = if forced {
        context.forced.store(true, Ordering::SeqCst);
        Duration::ZERO
    } else {
        context.drain_timeout
    };
    end_soon(context.handle.clone(), grace);
    empty(StatusCode::NO_CONTENT)
}

/// The answer must leave before the listener ends with the node, so nobody waits for it here.
pub(crate) fn end_soon(handle: NodeHandle, grace: Duration) {
    drop(tokio::spawn(async move { handle.shutdown(grace).await }));
}
