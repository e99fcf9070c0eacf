//! What travels beside the body of a call to an application's actor: headers, content type, query.
//!
//! What concerns one connection, or the token of this API, stays here. The application gets the
//! rest as the caller sent it, and the caller what the application answered.

use axum::body::Body;
use axum::response::Response;
use ghostlight_protocol::call::{AppReply, Metadata};
use hyper::header::{HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{HeaderMap, StatusCode};

/// Name under which the query travels; no header can have it.
pub const QUERY: &str = ":query";

/// Headers that concern a connection, or that are for this API alone.
const KEPT_BACK: [&str; 15] = [
    "connection",
    "content-length",
    "dapr-api-token",
    "expect",
    "ghostlight-deadline-ms",
    "ghostlight-request-id",
    "ghostlight-turn",
    "host",
    "idempotency-key",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// What of a request an application is to see.
#[must_use]
pub fn of_request(head: &Parts) -> Vec<Metadata> {
    let headers = kept(&head.headers);
    let query = head.uri.query().filter(|query| !query.is_empty());
    let query = query.map(|query| Metadata {
        name: QUERY.to_owned(),
        value: query.to_owned(),
    });
    headers.chain(query).collect()
}

/// What of a gRPC call's metadata an application is to see. Its content type and its deadline are
/// gRPC's own.
#[must_use]
pub fn of_headers(headers: &HeaderMap) -> Vec<Metadata> {
    let grpcs = |name: &str| name.starts_with("grpc-") || name == "content-type";
    kept(headers)
        .filter(|metadata| !grpcs(&metadata.name))
        .collect()
}

fn kept(headers: &HeaderMap) -> impl Iterator<Item = Metadata> + '_ {
    headers.iter().filter_map(|(name, value)| {
        let kept_back = KEPT_BACK.contains(&name.as_str());
        let value = value.to_str().ok().filter(|_| !kept_back)?;
        Some(Metadata {
            name: name.as_str().to_owned(),
            value: value.to_owned(),
        })
    })
}

/// An application's answer, for the caller.
#[must_use]
pub fn response(reply: AppReply) -> Response {
    let mut response = Response::new(Body::from(reply.body));
    *response.status_mut() = StatusCode::OK;
    for Metadata { name, value } in reply.metadata {
        if KEPT_BACK.contains(&name.as_str()) {
            continue;
        }
        let name = HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(&value)) {
            response.headers_mut().append(name, value);
        }
    }
    response
}
