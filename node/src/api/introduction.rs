//! Introductions: a sidecar asks at the port of Dapr's placement service, and is told whom to join.
//!
//! One path, answered to everybody who reaches the port (on loopback unless it was named): it tells
//! addresses, and whoever wants to use them needs the cluster key. It tells where that is kept,
//! too, and the file's rights say who may read it. It speaks HTTP/1.1; a real placement service
//! speaks gRPC alone, so neither takes the other for itself.

use std::path::PathBuf;

use axum::extract::Request;
use axum::response::Response;
use ghostlight_core::admin::{AdminAnswer, AdminRequest};
use hyper::{Method, StatusCode};
use serde::{Deserialize, Serialize};

use super::error_map::Answer;
use super::{Context, empty, json};

/// The path that is asked.
pub const PATH: &str = "/ghostlight/v1/introduction";
/// Health of a process that stands for a placement service.
const HEALTH_PATH: &str = "/healthz";
/// Members that are named in one answer.
const PEERS_MAX: usize = 16;

/// Whom to join.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Introduction {
    /// Cluster id; empty: the node that answers is in none yet.
    pub cluster: String,
    /// Peer addresses of members that hold data, the one that answers first.
    pub peers: Vec<String>,
    /// The file that this node has its cluster key from: a sidecar of the same user takes the key
    /// from there, so that it can join a cluster whose key is not the user's own, a demo's above
    /// all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
}

/// Answers one request.
pub(super) async fn answer(context: &Context, request: Request) -> Response {
    let path = request.uri().path();
    if *request.method() != Method::GET || ![PATH, HEALTH_PATH].contains(&path) {
        return Answer::no_route(
            StatusCode::NOT_FOUND,
            format!("this port introduces sidecars to a cluster of Ghostlight: GET {PATH}"),
        )
        .into_response();
    }
    let AdminAnswer::Status(status) = context.handle.admin(AdminRequest::Status).await else {
        return empty(StatusCode::SERVICE_UNAVAILABLE);
    };
    if path == HEALTH_PATH {
        return empty(match status.cluster.is_empty() {
            true => StatusCode::SERVICE_UNAVAILABLE,
            false => StatusCode::OK,
        });
    }
    let usable = status
        .members
        .iter()
        .filter(|member| member.weight > 0 && member.state == "alive" && member.duty == "serving");
    let (me, others): (Vec<_>, Vec<_>) = usable.partition(|member| member.id == status.node);
    let peers = me.into_iter().chain(others).take(PEERS_MAX);
    let introduction = Introduction {
        peers: peers.map(|member| member.address.clone()).collect(),
        cluster: status.cluster,
        key_file: context.key_file.clone(),
    };
    json(StatusCode::OK, &introduction)
}
