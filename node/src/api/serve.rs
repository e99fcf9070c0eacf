//! Listening: binding by the rules of ports, and serving HTTP/1.1 and cleartext HTTP/2 on one port.
//!
//! Every connection has a bound on its headers, on the time they may take, on its rest, and on its
//! streams; a listener has a bound on its connections, and a few more for health. Ends gracefully:
//! no new requests, those in flight are answered.

use std::future::Future;
use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{self, Poll};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::response::Response;
use ghostlight_protocol::code::Code;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper::{Request, Version};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use super::streams::{CONNECTION_STREAMS_MAX, Share, Streams};
use super::{H2c, Shared, admin, dapr, error_map, grpc, introduction};
use crate::app::stream::StreamPeer;
use crate::config::{AddrOrigin, ListenAddr};

/// Open connections of one listener; more wait in the kernel.
pub const CONNECTIONS_MAX: usize = 4_096;
/// Connections of one listener beyond these. They answer health, and the operator's API, briefly: a
/// probe must get through while somebody holds all others.
pub const RESERVE_MAX: usize = 64;
/// Whole life of a connection of the reserve.
pub const RESERVE_TIME_MAX: Duration = Duration::from_secs(5);
/// Time for the headers of one request, and for a connection without a request. It is long: closing
/// a resting connection early makes clients fail that just reuse it.
pub const HEADER_TIME_MAX: Duration = Duration::from_secs(75);
/// Headers of one request, in bytes.
pub const HEADER_BYTES_MAX: usize = 16 << 10;
/// Streams of one HTTP/2 connection over gRPC: a client may send all its traffic over one.
pub const GRPC_STREAMS_MAX: u32 = 16_384;
/// Resets an HTTP/2 client may have pending: one that gives up all its calls at once is not cut off
/// for it, one that does so again and again is.
pub const PENDING_RESETS_MAX: usize = 1_024;
const _: () = assert!(PENDING_RESETS_MAX > CONNECTION_STREAMS_MAX as usize);
/// How far a taken default port moves.
pub const PORT_MOVES_MAX: u16 = 200;
/// How long requests in flight may take after the end was asked for.
pub const END_WAIT_MAX: Duration = Duration::from_secs(5);

/// Which API a listener serves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Api {
    /// Dapr's.
    Dapr,
    /// Dapr's, over gRPC.
    Grpc,
    /// Health and metadata of Dapr's alone, for anybody.
    Public,
    /// Metrics alone, for anybody.
    Metrics,
    /// The operator's.
    Admin,
    /// Of the port where sidecars ask whom to join.
    Introduction,
}

/// What a listener allows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Open connections.
    pub connections: usize,
    /// How long a connection may rest.
    pub rest: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: CONNECTIONS_MAX,
            rest: HEADER_TIME_MAX,
        }
    }
}

/// Whether a connection is one of those that everybody may hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Ordinary,
    /// Of the reserve.
    Brief,
}

/// Requests of one connection under way, and since when there are none.
struct Activity {
    state: Mutex<(usize, Instant)>,
}

impl Activity {
    fn new() -> Self {
        Self {
            state: Mutex::new((0, Instant::now())),
        }
    }

    fn begin(self: &Arc<Self>) -> UnderWay {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).0 += 1;
        UnderWay(Arc::clone(self))
    }

    /// How long the connection has rested; `None` while requests are under way.
    fn resting(&self) -> Option<Duration> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        (state.0 == 0).then(|| state.1.elapsed())
    }

    /// Returns when it has rested for `rest`.
    async fn rested(&self, rest: Duration) {
        loop {
            let left = match self.resting() {
                Some(rested) if rested >= rest => return,
                Some(rested) => rest - rested,
                None => rest,
            };
            tokio::time::sleep(left).await;
        }
    }
}

/// A request under way, also one whose client has hung up.
struct UnderWay(Arc<Activity>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        let state = &self.0.state;
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        *state = (state.0 - 1, Instant::now());
    }
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
    advice: String,
}

/// What a port is for, and the flag that chooses it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Purpose {
    /// In a sentence: "listen for ...".
    pub what: &'static str,
    /// The flag.
    pub flag: &'static str,
}

const TAKEN: &str = "Stop what uses the port, or choose another one";
/// Connections that wait in the kernel until they are accepted.
const BACKLOG: i32 = 1_024;

impl Purpose {
    fn refused(self, addr: SocketAddr, error: &io::Error, advice: &str) -> BindError {
        BindError {
            addr,
            what: self.what,
            why: error.to_string(),
            advice: format!("{advice} with {}", self.flag),
        }
    }
}

impl BindError {
    /// The page that explains it.
    #[must_use]
    pub fn code(&self) -> Code {
        Code::PortInUse
    }
}

/// Binds a TCP port. A default port on loopback that is taken moves to the next free one; `kept` is
/// the port that this data directory had the last time, tried first. An explicit port is never
/// moved.
///
/// # Errors
/// When no allowed port is free.
pub async fn bind(
    purpose: Purpose,
    listen: ListenAddr,
    kept: Option<u16>,
) -> Result<TcpListener, BindError> {
    let refused = |addr, error: &io::Error, advice| purpose.refused(addr, error, advice);
    let movable = listen.origin == AddrOrigin::Default && listen.addr.ip().is_loopback();
    if !movable {
        let bound = TcpListener::bind(listen.addr).await;
        return bound.map_err(|error| refused(listen.addr, &error, TAKEN));
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
        "This port and the 200 after it are taken: choose another one",
    ))
}

/// Binds a TCP port on all addresses of the newer version of IP, and on none of the older one.
/// `None`: this machine has no such addresses.
///
/// # Errors
/// Somebody else has the port there.
pub fn bind_newer_alone(purpose: Purpose, port: u16) -> Result<Option<TcpListener>, BindError> {
    use socket2::{Domain, Socket, Type};
    let addr = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port);
    let bound = || -> io::Result<TcpListener> {
        let socket = Socket::new(Domain::IPV6, Type::STREAM, None)?;
        socket.set_only_v6(true)?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&addr.into())?;
        socket.listen(BACKLOG)?;
        TcpListener::from_std(socket.into())
    };
    match bound() {
        Ok(listener) => Ok(Some(listener)),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            Err(purpose.refused(addr, &error, TAKEN))
        }
        Err(error) => {
            tracing::debug!(%error, %addr, "not listened on");
            Ok(None)
        }
    }
}

/// Ports to try, best first: the kept one, then the default and those after it.
pub fn candidates(default: u16, kept: Option<u16>) -> impl Iterator<Item = u16> {
    let moved = (0..=PORT_MOVES_MAX).filter_map(move |step| default.checked_add(step));
    kept.into_iter()
        .chain(moved.filter(move |port| Some(*port) != kept))
}

/// Serves until `end` becomes true, then lets requests in flight finish, at most [`END_WAIT_MAX`].
pub async fn serve(api: Api, listener: TcpListener, context: Shared, end: watch::Receiver<bool>) {
    serve_within(Limits::default(), api, listener, context, end).await;
}

/// The same with other limits.
pub async fn serve_within(
    limits: Limits,
    api: Api,
    listener: TcpListener,
    context: Shared,
    mut end: watch::Receiver<bool>,
) {
    let connections = Arc::new(Semaphore::new(limits.connections));
    let reserve = Arc::new(Semaphore::new(RESERVE_MAX));
    let streams = Streams::of_machine();
    loop {
        let (kind, permit) = tokio::select! {
            biased;
            permit = Arc::clone(&connections).acquire_owned() => (Kind::Ordinary, permit),
            permit = Arc::clone(&reserve).acquire_owned() => (Kind::Brief, permit),
            () = ended(&mut end) => break,
        };
        let permit = permit.expect("never closed");
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = ended(&mut end) => break,
        };
        match accepted {
            Ok((stream, _)) => {
                // A place may have become free while this one was waited for.
                let (kind, permit) = match Arc::clone(&connections).try_acquire_owned() {
                    Ok(free) if kind == Kind::Brief => (Kind::Ordinary, free),
                    Ok(_) | Err(_) => (kind, permit),
                };
                let share = streams.share();
                let context = Arc::clone(&context);
                let task = connection((api, kind), stream, share, context, end.clone(), limits);
                drop(tokio::spawn(async move {
                    match kind {
                        Kind::Ordinary => task.await,
                        // Cut at its time, whatever it does.
                        Kind::Brief => drop(tokio::time::timeout(RESERVE_TIME_MAX, task).await),
                    }
                    drop(permit);
                }));
            }
            Err(error) => {
                // Usually out of file descriptors: give those in use time to close.
                tracing::warn!(%error, ?api, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    drop(listener);
    let all = u32::try_from(limits.connections).expect("a small number");
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
    (api, kind): (Api, Kind),
    stream: TcpStream,
    share: Share,
    context: Shared,
    mut end: watch::Receiver<bool>,
    limits: Limits,
) {
    // Small answers must not wait for more to send; a failure costs only latency.
    drop(stream.set_nodelay(true));
    let peer = match (stream.local_addr(), stream.peer_addr()) {
        (Ok(near), Ok(far)) => Some(StreamPeer {
            near: plain(near),
            far: plain(far),
        }),
        _ => None,
    };
    let streams = match api {
        Api::Grpc => GRPC_STREAMS_MAX,
        Api::Dapr | Api::Public | Api::Metrics | Api::Admin | Api::Introduction => share.streams(),
    };
    let activity = Arc::new(Activity::new());
    let counted = Arc::clone(&activity);
    let h2c = context.h2c;
    let grpc = (api == Api::Grpc).then(|| grpc::Server::new(Arc::clone(&context)));
    let service = service_fn(move |mut request: Request<Incoming>| {
        if request.version() < Version::HTTP_2 {
            share.is_single();
        }
        if let Some(peer) = peer {
            request.extensions_mut().insert(peer);
        }
        let (context, grpc) = (Arc::clone(&context), grpc.clone());
        let under_way = counted.begin();
        async move {
            let answer = answer(api, kind, context, grpc, request).await;
            // A stream is under way until its last frame has left.
            let answer = answer.map(|body| {
                let _under_way = under_way;
                Body::new(Counted { body, _under_way })
            });
            Ok::<_, std::convert::Infallible>(answer)
        }
    });
    let mut builder = Builder::new(TokioExecutor::new());
    if api == Api::Dapr && h2c == H2c::Off {
        builder = builder.http1_only();
    }
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.rest)
        .max_buf_size(HEADER_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(HEADER_BYTES_MAX as u32)
        .max_concurrent_streams(streams)
        .max_pending_accept_reset_streams(PENDING_RESETS_MAX);
    let served = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(served);
    let result = tokio::select! {
        result = served.as_mut() => result,
        () = ended(&mut end) => {
            served.as_mut().graceful_shutdown();
            served.await
        }
        // HTTP/2 has no time limit of its own: a client could rest for ever, or send a byte now and
        // then.
        () = activity.rested(limits.rest) => {
            served.as_mut().graceful_shutdown();
            match tokio::time::timeout(END_WAIT_MAX, served).await {
                Ok(result) => result,
                Err(_) => Ok(()),
            }
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, ?api, "connection ended with an error");
    }
}

/// An address of the older version of IP as itself, also where one listener hears both versions.
fn plain(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

/// A body that keeps its request under way.
struct Counted {
    body: Body,
    _under_way: UnderWay,
}

impl hyper::body::Body for Counted {
    type Data = axum::body::Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn answer(
    api: Api,
    kind: Kind,
    context: Shared,
    grpc: Option<grpc::Server>,
    request: Request<Incoming>,
) -> impl Future<Output = Response> + Send {
    let request = request.map(Body::new);
    async move {
        match (api, kind, grpc) {
            (Api::Grpc, Kind::Ordinary, Some(server)) => server.answer(request).await,
            (Api::Grpc, ..) => error_map::listener_full(CONNECTIONS_MAX)
                .into_status()
                .into_http(),
            (Api::Dapr, Kind::Brief, _) if !dapr::is_health(request.uri().path()) => {
                error_map::listener_full(CONNECTIONS_MAX).into_response()
            }
            (Api::Dapr, ..) => dapr::answer(context, request).await,
            (Api::Public, ..) => dapr::answer_public(context, request).await,
            (Api::Metrics, ..) => admin::answer_metrics(&context, &request),
            (Api::Introduction, ..) => introduction::answer(&context, request).await,
            (Api::Admin, ..) => admin::answer(context, request).await,
        }
    }
}
