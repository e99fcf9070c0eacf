//! A connection to an application on gRPC, as generated clients want one, that tells when it has
//! ended.
//!
//! One connection and no other: a client that connected again by itself would speak to a new
//! process as if it were the old one.

use std::task::{Context, Poll};

use futures::future::BoxFuture;
use hyper::body::Incoming;
use hyper::{Request, Response, Uri};
use tokio::sync::watch;
use tonic::body::Body;
use tower_service::Service;

use super::connection::{self, GrpcSender};
use super::settings::{AppAddress, AppSettings};

/// Closed when the connection has ended.
pub(crate) type End = watch::Receiver<()>;

/// The connection. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Channel {
    sender: GrpcSender,
    /// What requests are addressed to.
    pub(crate) origin: Uri,
}

/// Connects, and speaks HTTP/2.
pub(crate) async fn open(
    app: &AppSettings,
    address: &AppAddress,
) -> Result<(Channel, End), String> {
    let text = |error: connection::OpenError| error.text().to_owned();
    let scheme = if app.protocol.is_encrypted() {
        "https"
    } else {
        "http"
    };
    let origin = format!("{scheme}://{address}")
        .parse()
        .map_err(|error| format!("{address} is no address of a request: {error}"))?;
    let socket = connection::open(address).await.map_err(text)?;
    let (sender, end) = socket.grpc(app.protocol, address).await.map_err(text)?;
    Ok((Channel { sender, origin }, end))
}

impl Service<Request<Body>> for Channel {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.sender.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.sender.send_request(request))
    }
}
