//! Listening: binding by the rules of ports, and serving HTTP/1.1 and cleartext HTTP/2 on one port.
//!
//! Every connection has a bound on its headers, on the time they may take, and on its streams; a
//! listener has a bound on its connections. Ends gracefully: no new requests, those in flight are answered.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use ghostlight_protocol::code::Code;
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::{Shared, admin, dapr};
use crate::config::{AddrOrigin, ListenAddr};

/// Open connections of one listener; more wait in the kernel.
pub const CONNECTIONS_MAX: usize = 4_096;
/// Time for the headers of one request. The timer also runs while a kept-alive connection rests, so it is
/// long: closing a resting connection early makes clients fail that just reuse it.
pub const HEADER_TIME_MAX: Duration = Duration::from_secs(75);
/// Headers of one request, in bytes.
pub const HEADER_BYTES_MAX: usize = 16 << 10;
/// Streams of one HTTP/2 connection: a client may send all its traffic over one.
pub const STREAMS_MAX: u32 = 16_384;
/// Resets an HTTP/2 client may have pending.
pub const PENDING_RESETS_MAX: usize = 128;
/// How far a taken default port moves.
pub const PORT_MOVES_MAX: u16 = 200;
/// How long requests in flight may take after the end was asked for.
pub const END_WAIT_MAX: Duration = Duration::from_secs(5);

/// Which API a listener serves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Api {
    /// Dapr's.
    Dapr,
    /// The operator's.
    Admin,
}

/// A port that could not be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {addr} for {what} ({why}). {advice}")]
pub struct BindError {
    /// The address.
    pub addr: SocketAddr,
    /// What for.
    pub what: &'static str,
    why: String,
    advice: &'static str,
}

impl BindError {
    /// The page that explains it.
    #[must_use]
    pub fn code(&self) -> Code {
        Code::PortInUse
    }
}

/// Binds a TCP port. A default port on loopback that is taken moves to the next free one; `kept` is the
/// port that this data directory had the last time, tried first. An explicit port is never moved.
///
/// # Errors
/// When no allowed port is free.
pub async fn bind(
    what: &'static str,
    listen: ListenAddr,
    kept: Option<u16>,
) -> Result<TcpListener, BindError> {
    let refused = |addr, error: &io::Error, advice| BindError {
        addr,
        what,
        why: error.to_string(),
        advice,
    };
    let movable = listen.origin == AddrOrigin::Default && listen.addr.ip().is_loopback();
    if !movable {
        return TcpListener::bind(listen.addr).await.map_err(|error| {
            refused(
                listen.addr,
                &error,
                "Stop what uses the port, or choose another one",
            )
        });
    }
    let mut last = None;
    for port in candidates(listen.addr.port(), kept) {
        match TcpListener::bind(SocketAddr::new(listen.addr.ip(), port)).await {
            Ok(listener) => return Ok(listener),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => last = Some(error),
            Err(error) => return Err(refused(listen.addr, &error, "Choose another address")),
        }
    }
    let error = last.unwrap_or_else(|| io::Error::from(io::ErrorKind::AddrInUse));
    Err(refused(
        listen.addr,
        &error,
        "This port and the 200 after it are taken: choose one by its flag",
    ))
}

/// Ports to try, best first: the kept one, then the default and those after it.
pub fn candidates(default: u16, kept: Option<u16>) -> impl Iterator<Item = u16> {
    let moved = (0..=PORT_MOVES_MAX).filter_map(move |step| default.checked_add(step));
    kept.into_iter()
        .chain(moved.filter(move |port| Some(*port) != kept))
}

/// Serves until `end` becomes true, then lets requests in flight finish, at most [`END_WAIT_MAX`].
pub async fn serve(
    api: Api,
    listener: TcpListener,
    context: Shared,
    mut end: watch::Receiver<bool>,
) {
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let permit = tokio::select! {
            permit = Arc::clone(&connections).acquire_owned() => permit.expect("never closed"),
            () = ended(&mut end) => break,
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = ended(&mut end) => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let task = connection(api, stream, Arc::clone(&context), end.clone(), permit);
                drop(tokio::spawn(task));
            }
            Err(error) => {
                // Usually out of file descriptors: give those in use time to close.
                tracing::warn!(%error, ?api, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    drop(listener);
    let all = u32::try_from(CONNECTIONS_MAX).expect("a small constant");
    let drained = connections.acquire_many(all);
    if tokio::time::timeout(END_WAIT_MAX, drained).await.is_err() {
        tracing::warn!(
            ?api,
            "connections were cut while they had requests in flight"
        );
    }
}

async fn ended(end: &mut watch::Receiver<bool>) {
    // A dropped sender means that the node is gone: that is an end, too.
    drop(end.wait_for(|ended| *ended).await);
}

async fn connection(
    api: Api,
    stream: TcpStream,
    context: Shared,
    mut end: watch::Receiver<bool>,
    _permit: OwnedSemaphorePermit,
) {
    // Small answers must not wait for more to send; a failure costs only latency.
    drop(stream.set_nodelay(true));
    let service = service_fn(move |request: Request<Incoming>| {
        let context = Arc::clone(&context);
        async move { Ok::<_, std::convert::Infallible>(answer(api, context, request).await) }
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME_MAX)
        .max_buf_size(HEADER_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(HEADER_BYTES_MAX as u32)
        .max_concurrent_streams(STREAMS_MAX)
        .max_pending_accept_reset_streams(PENDING_RESETS_MAX);
    let served = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(served);
    let result = tokio::select! {
        result = served.as_mut() => result,
        () = ended(&mut end) => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, ?api, "connection ended with an error");
    }
}

fn answer(
    api: Api,
    context: Shared,
    request: Request<Incoming>,
) -> impl Future<Output = Response> + Send {
    let request = request.map(Body::new);
    async move {
        match api {
            Api::Dapr => dapr::answer(context, request).await,
            Api::Admin => admin::answer(context, request).await,
        }
    }
}
