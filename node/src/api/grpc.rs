//! Dapr's gRPC API of a node: the same calls as over HTTP, by the same checks and the same table of
//! errors.
//!
//! [`Server`] answers one request of a listener of `serve`: token, then the method, or what is said
//! about one that is not here. Reflection tells exactly the methods that are here, because .NET
//! asks it. The wire is written in `node/proto`; Dapr's field numbers are kept.

mod host;
mod invoke;
mod publish;
mod service;
mod topic_stream;
mod wire;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::response::Response;
use http_body_util::BodyExt;
use hyper::body::Frame;
use hyper::header::HeaderValue;
use tonic::Status;
use tonic::service::Routes;
use tower_service::Service;

use super::dapr::SUPPORTED;
use super::error_map::Answer;
use super::error_map::grpc::{TOKEN_MISMATCH, TOKEN_MISSING, larger_than_max};
use super::token::{self, Verdict};
use super::{Context, Shared, TOKEN_HEADER, metrics};
use dapr::proto::runtime::v1::dapr_server::DaprServer;

/// The generated messages and services, in the packages that they have on the wire.
/// `node/proto/generate` writes them; they are kept here so that nobody needs its tools to build a
/// node.
#[expect(
    missing_docs,
    unused_qualifications,
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::too_many_lines,
    reason = "generated from node/proto"
)]
pub mod dapr {
    /// Dapr's packages.
    pub mod proto {
        /// What services have in common.
        pub mod common {
            /// Version 1.
            pub mod v1 {
                include!("grpc/generated/common.v1.inc");
            }
        }
        /// The sidecar and its callbacks.
        pub mod runtime {
            /// Version 1.
            pub mod v1 {
                include!("grpc/generated/runtime.v1.inc");
            }
        }
    }
}

/// The descriptors of everything above, for reflection.
const DESCRIPTORS: &[u8] = include_bytes!("grpc/generated/dapr.bin");
/// Path of Dapr's service, and of any service of its packages.
const DAPR_PATH: &str = "/dapr.proto.runtime.v1.Dapr/";
/// Paths of reflection.
const REFLECTION_PATHS: [&str; 2] = [
    "/grpc.reflection.v1.ServerReflection/",
    "/grpc.reflection.v1alpha.ServerReflection/",
];
/// The methods that are here; a test compares them with the descriptors.
pub(super) const METHODS: [&str; 18] = [
    "BulkPublishEvent",
    "BulkPublishEventAlpha1",
    "ExecuteActorStateTransaction",
    "GetActorReminder",
    "GetActorState",
    "GetMetadata",
    "InvokeActor",
    "ListActorReminders",
    "PublishEvent",
    "RegisterActorReminder",
    "RegisterActorTimer",
    "SetMetadata",
    "Shutdown",
    "SubscribeActorEventsAlpha1",
    "SubscribeTopicEventsAlpha1",
    "UnregisterActorReminder",
    "UnregisterActorRemindersByType",
    "UnregisterActorTimer",
];

/// Answers the requests of a connection. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Server {
    context: Shared,
    routes: Routes,
}

impl Server {
    /// A server of this context.
    ///
    /// # Panics
    /// When the descriptors that were compiled in are none, which a test would show.
    #[must_use]
    pub fn new(context: Shared) -> Self {
        let service = DaprServer::new(service::Dapr::new(context.clone()))
            .max_decoding_message_size(context.body_max)
            .max_encoding_message_size(context.body_max);
        let reflection = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(DESCRIPTORS)
                .with_service_name("dapr.proto.runtime.v1.Dapr")
        };
        let v1 = reflection().build_v1().expect("compiled in");
        let v1alpha = reflection().build_v1alpha().expect("compiled in");
        let routes = Routes::new(service).add_service(v1).add_service(v1alpha);
        Self { context, routes }
    }

    /// Answers one request.
    pub async fn answer(mut self, request: Request) -> Response {
        if let Some(status) = refused(&self.context, request.headers().get(TOKEN_HEADER)) {
            metrics::refused("token");
            return status.into_http();
        }
        let path = request.uri().path();
        if let Some(refusal) = self.not_let_through(path) {
            metrics::refused("invalid");
            return refusal.into_status().into_http();
        }
        if let Some(status) = absent(path) {
            metrics::refused("invalid");
            return status.into_http();
        }
        let response = match self.routes.call(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        // A status without a message before it stands in the headers.
        let refusal = Status::from_header_map(response.headers());
        match refusal.as_ref().and_then(larger_than_max) {
            Some(status) => {
                metrics::refused("invalid");
                status.into_http()
            }
            None => response.map(|body| Body::new(body.map_frame(in_words_of_go))),
        }
    }
}

/// A message of ours over the limit shows when it is encoded: its status comes behind, not before
/// it.
fn in_words_of_go(frame: Frame<Bytes>) -> Frame<Bytes> {
    let mut trailers = match frame.into_trailers() {
        Ok(trailers) => trailers,
        Err(frame) => return frame,
    };
    let refusal = Status::from_header_map(&trailers);
    if let Some(status) = refusal.as_ref().and_then(larger_than_max) {
        // Its words are numbers and letters, which every header takes.
        drop(status.add_header(&mut trailers));
    }
    Frame::trailers(trailers)
}

impl Server {
    /// What the Configuration leaves out.
    fn not_let_through(&self, path: &str) -> Option<Answer> {
        let method = path.strip_prefix(DAPR_PATH)?;
        self.context.access.refuses_method(method)
    }
}

fn refused(context: &Context, given: Option<&HeaderValue>) -> Option<Status> {
    match token::check(&context.tokens, given.map(HeaderValue::as_bytes)) {
        Verdict::Admitted => None,
        Verdict::Refused if given.is_none() => Some(Status::unauthenticated(TOKEN_MISSING)),
        Verdict::Refused => Some(Status::unauthenticated(TOKEN_MISMATCH)),
    }
}

/// What is said about a method that is not here.
fn absent(path: &str) -> Option<Status> {
    let known = match path.strip_prefix(DAPR_PATH) {
        Some(method) => METHODS.contains(&method),
        None => REFLECTION_PATHS
            .iter()
            .any(|prefix| path.starts_with(prefix)),
    };
    if known {
        return None;
    }
    let method = path.trim_start_matches('/');
    Some(Status::unimplemented(format!(
        "{method} is not supported. {SUPPORTED}"
    )))
}

#[cfg(test)]
mod tests;
