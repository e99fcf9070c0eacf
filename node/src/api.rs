//! The APIs of a node: Dapr's over HTTP and gRPC, and ours for operators on the admin port.
//!
//! They are thin: they parse names, put a request through the [`NodeHandle`], and turn the outcome
//! into an answer. The only place that knows statuses and error codes of the wire is `error_map`.
//! Absent here: any decision about the cluster, any state beyond what a request carries.

pub mod access;
pub mod admin;
pub mod app_calls;
pub mod app_metadata;
mod app_requests;
pub mod breaker;
pub mod core_calls;
pub mod dapr;
pub mod error_map;
pub mod extended;
pub mod grpc;
pub mod introduction;
pub mod inventory;
pub mod joining;
pub mod metrics;
pub mod path;
pub mod resilience;
pub mod serve;
pub mod sidecar;
mod streams;
pub mod token;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::response::Response;
use ghostlight_core::admin::ApplicationView;
use ghostlight_protocol::actor::ActorKey;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::header::{CONTENT_TYPE, EXPECT, HeaderValue};
use hyper::{HeaderMap, StatusCode};

use crate::app::AppId;
use crate::config::Secret;
use crate::handle::NodeHandle;
use crate::pubsub::PubSub;
use access::Access;
use app_calls::{AppCall, AppCallOutcome, AppCalls};
use error_map::{Answer, TOKEN_REFUSED};
use resilience::Resilience;
use sidecar::Sidecar;
use token::Verdict;

/// Whether a listener of the HTTP API speaks HTTP/2 without TLS.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum H2c {
    /// Beside HTTP/1.1, on one port.
    #[default]
    Spoken,
    /// HTTP/1.1 alone (`DAPR_HTTP_DISABLE_H2C`).
    Off,
}

/// What every request handler needs to know.
#[derive(Debug)]
pub struct Context {
    /// The way into the node.
    pub handle: NodeHandle,
    /// Dapr's `id`: the name of the application that this listener belongs to, or the node's.
    pub name: String,
    /// Namespace of the actors reached through this API.
    pub namespace: String,
    /// Accepted tokens; empty: none is asked for.
    pub tokens: Vec<Secret>,
    /// Accepted by the operators' API: those of the node, whatever its applications have. Empty:
    /// none is asked for.
    pub operator_tokens: Vec<Secret>,
    /// Settings of this node that weaken a guarantee.
    pub weakened: Vec<String>,
    /// Actor types hosted in this process, in order.
    pub actor_types: Vec<String>,
    /// Renders the metrics of this process.
    pub metrics: metrics::Renderer,
    /// What applications wrote down about this process.
    pub extended: extended::Extended,
    /// The way to the actors of the application that this listener belongs to.
    pub calls: Arc<dyn AppCalls>,
    /// The application that this listener belongs to; `None`: there is none.
    pub app: Option<AppId>,
    /// The way by which applications come to the node; empty where there are none.
    pub hosts: core_calls::Hosts,
    /// What metadata says.
    pub sidecar: Sidecar,
    /// Publishing and subscribing.
    pub pubsub: Arc<PubSub>,
    /// Policies of calls.
    pub resilience: Resilience,
    /// Which groups of the API are let through.
    pub access: Access,
    /// The file that has the cluster key, if one has.
    pub key_file: Option<PathBuf>,
    /// Largest body of a request, in bytes; at most `REQUEST_BODY_BYTES_MAX`.
    pub body_max: usize,
    /// Whether HTTP/2 is spoken without TLS, beside HTTP/1.1.
    pub h2c: H2c,
    /// Longest drain of a shutdown that is asked for through the API.
    pub drain_timeout: Duration,
    /// Who reads events over the admin port.
    pub readers: Arc<admin::readers::Readers>,
    /// Of the node's own API: every application of the node, and its API. Of others: nothing.
    pub doors: Vec<Door>,
    /// Set when an end without a drain was asked for: the process should end with status 1.
    pub forced: Arc<AtomicBool>,
}

/// An application of a node, and the listeners that are its own.
#[derive(Clone, Debug)]
pub struct Door {
    /// The application.
    pub app: AppId,
    /// Its Dapr HTTP API.
    pub http: SocketAddr,
    /// Its Dapr gRPC API.
    pub grpc: SocketAddr,
    /// Its publishing and subscribing.
    pub pubsub: Arc<PubSub>,
}

impl Door {
    /// As operators see it.
    #[must_use]
    pub fn view(&self) -> ApplicationView {
        ApplicationView {
            app: self.app.as_str().to_owned(),
            http: self.http.to_string(),
            grpc: self.grpc.to_string(),
        }
    }
}

impl Context {
    /// The publishing and subscribing of every application of this node, that of this listener
    /// first.
    fn pubsubs(&self) -> impl Iterator<Item = &Arc<PubSub>> {
        let doors = self.doors.iter().map(|door| &door.pubsub);
        let others = doors.filter(|other| !Arc::ptr_eq(other, &self.pubsub));
        std::iter::once(&self.pubsub).chain(others)
    }

    /// Asks or tells something about an actor of the application, under the policies for that.
    async fn app_call(&self, actor: ActorKey, call: AppCall) -> AppCallOutcome {
        let ask = || self.calls.app_call(actor.clone(), call.clone());
        match &call {
            AppCall::ReminderRegister { .. } => self.resilience.register(ask).await,
            _ => self.calls.app_call(actor, call).await,
        }
    }
}

/// Bytes of a body over the limit that are read and dropped before the connection is cut.
const DISCARDED_BYTES_MAX: usize = 64 << 20;
/// How long that may take.
const DISCARD_TIME_MAX: Duration = Duration::from_secs(5);

/// Shared by every connection.
pub type Shared = Arc<Context>;

/// Dapr's header of the API token.
pub const TOKEN_HEADER: &str = "dapr-api-token";

/// Time for the body of one request: 4 MiB over a slow line, and an end to bodies that never end.
pub const BODY_TIME_MAX: Duration = Duration::from_secs(60);

/// The answer to a request without an accepted token; `None` to any other.
fn refused(tokens: &[Secret], headers: &HeaderMap) -> Option<Response> {
    let given = headers.get(TOKEN_HEADER).map(HeaderValue::as_bytes);
    match token::check(tokens, given) {
        Verdict::Admitted => None,
        Verdict::Refused => Some(text(StatusCode::UNAUTHORIZED, TOKEN_REFUSED)),
    }
}

/// Collects a body of at most `max` bytes.
async fn collect(headers: &HeaderMap, mut body: Body, max: usize) -> Result<Bytes, Answer> {
    let declared = hyper::body::Body::size_hint(&body).lower();
    let collected = if declared > max as u64 {
        Err(error_map::body_too_large(max))
    } else {
        let collected = Limited::new(&mut body, max).collect();
        match tokio::time::timeout(BODY_TIME_MAX, collected).await {
            Ok(Ok(collected)) => Ok(collected.to_bytes()),
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(error_map::body_too_large(max)),
            Ok(Err(error)) => return Err(error_map::body_unreadable(&error.to_string())),
            Err(_) => return Err(error_map::body_too_slow(BODY_TIME_MAX)),
        }
    };
    // Who asks before sending is told at once, and sends nothing.
    if collected.is_err() && !headers.contains_key(EXPECT) {
        discard(body).await;
    }
    collected
}

/// Reads on where a body is over the limit: many clients send everything before they read, and
/// would see a broken connection instead of the answer.
async fn discard(mut body: Body) {
    let mut left = DISCARDED_BYTES_MAX;
    let rest = async {
        while let Some(Ok(frame)) = body.frame().await {
            let length = frame.data_ref().map_or(0, Bytes::len);
            match left.checked_sub(length) {
                Some(less) => left = less,
                None => return,
            }
        }
    };
    // In vain or not, the answer is the same.
    drop(tokio::time::timeout(DISCARD_TIME_MAX, rest).await);
}

fn text(status: StatusCode, body: &'static str) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}

fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

fn json_bytes(status: StatusCode, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn json<T: serde::Serialize>(status: StatusCode, value: &T) -> Response {
    let body = serde_json::to_vec(value).expect("views have string keys and finite numbers");
    json_bytes(status, body)
}

#[cfg(test)]
pub(crate) mod tests;
