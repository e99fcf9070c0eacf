//! One connection to an application: opened, identified, and used for one request at a time or for
//! many.
//!
//! HTTP/1.1 carries one request at a time, HTTP/2 up to [`STREAMS_MAX`]. A request that was never
//! written comes back to its sender, who may use another connection; any other failure leaves open
//! whether it ran.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::header::{CONNECTION, HeaderMap};
use hyper::{Request, Response, Version};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::owner::Pair;
use super::settings::{AppAddress, Protocol};

/// Time for a TCP connection, and for the TLS handshake after it.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);
/// Requests at a time over one HTTP/2 connection; servers allow at least as many (RFC 9113, 6.5.2).
pub(super) const STREAMS_MAX: usize = 100;
/// How long a connection may rest and still be used. Servers close resting connections after five
/// seconds (Node, uvicorn) or later: we close first, so that no request meets a connection that is
/// just being closed.
const REST_MAX: Duration = Duration::from_secs(4);
/// How long a connection may take to be done with its last request. A server that answers before it
/// has read everything takes longer: then another connection is quicker.
const READY_TIME_MAX: Duration = Duration::from_millis(5);
/// Headers of an answer, in bytes; .NET remoting puts whole errors into one.
const HEADER_BYTES_MAX: usize = 256 << 10;
/// Number of headers of an answer.
const HEADERS_MAX: usize = 256;
/// HTTP/2: a connection that is silent for this long is asked whether it lives, and given as long
/// to answer.
const PING_INTERVAL: Duration = Duration::from_secs(10);

/// A request as it goes out.
pub(super) type Outgoing = Request<Full<Bytes>>;

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum OpenError {
    /// Nobody listens.
    Refused(String),
    /// Anything else.
    Failed(String),
}

impl OpenError {
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Refused(why) | Self::Failed(why) => why,
        }
    }
}

/// An open TCP connection before anything was said over it.
pub(super) struct Socket {
    stream: TcpStream,
    pub(super) pair: Pair,
}

/// A connection that can carry requests.
pub(super) struct Line {
    sender: Sender,
    /// Requests under way.
    busy: Arc<AtomicUsize>,
    rested_since: Instant,
    rest_max: Duration,
    /// Its sender is dropped when the connection ends.
    life: watch::Receiver<()>,
}

/// How many requests a connection carries at a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Carries {
    /// HTTP/1.1.
    One,
    /// HTTP/2.
    Many,
}

enum Sender {
    One(http1::SendRequest<Full<Bytes>>),
    Many(http2::SendRequest<Full<Bytes>>),
}

/// How an exchange failed.
#[derive(Debug)]
pub(super) enum ExchangeError {
    /// Not one byte was written; here it is again.
    NotSent(Box<Outgoing>, String),
    /// The connection broke, or what came is no HTTP.
    Broken(String),
    /// The answer is longer than allowed.
    TooLong(usize),
}

/// An answer, wholly here.
#[derive(Debug)]
pub(super) struct Exchanged {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// Whether the server said that it closes the connection now.
    pub(super) closing: Closing,
}

/// What a server said about its connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Closing {
    /// It goes on.
    No,
    /// It ends with this answer.
    Announced,
}

/// Connects. Returns before the application has accepted.
pub(super) async fn open(address: &AppAddress) -> Result<Socket, OpenError> {
    let failed = |error: io::Error| {
        let why = format!("cannot connect to the application on {address}: {error}");
        if error.kind() == io::ErrorKind::ConnectionRefused {
            OpenError::Refused(why)
        } else {
            OpenError::Failed(why)
        }
    };
    let connecting = TcpStream::connect((address.host.as_str(), address.port));
    let stream = tokio::time::timeout(CONNECT_TIME_MAX, connecting)
        .await
        .map_err(|_| failed(io::ErrorKind::TimedOut.into()))?
        .map_err(failed)?;
    // Small requests must not wait for more to send; a failure costs only latency.
    drop(stream.set_nodelay(true));
    keep_alive(&stream);
    let pair = Pair {
        near: stream.local_addr().map_err(failed)?,
        far: stream.peer_addr().map_err(failed)?,
    };
    if pair.near == pair.far {
        // A port that nobody listens on can be connected with itself, when it is taken for our own
        // end.
        let itself = io::Error::new(
            io::ErrorKind::ConnectionRefused,
            "nobody listens; the connection met itself",
        );
        return Err(failed(itself));
    }
    Ok(Socket { stream, pair })
}

/// An application on another machine that vanishes without a word is noticed within half a minute.
fn keep_alive(stream: &TcpStream) {
    let probes = socket2::TcpKeepalive::new()
        .with_time(Duration::from_secs(15))
        .with_interval(Duration::from_secs(5));
    drop(socket2::SockRef::from(stream).set_tcp_keepalive(&probes));
}

impl Socket {
    /// Speaks the application's protocol over it.
    pub(super) async fn line(
        self,
        protocol: Protocol,
        address: &AppAddress,
    ) -> Result<Line, OpenError> {
        let failed = |why: &dyn std::fmt::Display| mute(protocol, address, why);
        if !protocol.is_encrypted() {
            let carries = if protocol == Protocol::Http {
                Carries::One
            } else {
                Carries::Many
            };
            let line = handshake(self.stream, carries).await;
            return line.map_err(|error| failed(&error));
        }
        let stream = self.encrypted(protocol, address).await?;
        let carries = match stream.get_ref().1.alpn_protocol() {
            Some(b"h2") => Carries::Many,
            Some(_) | None => Carries::One,
        };
        handshake(stream, carries)
            .await
            .map_err(|error| failed(&error))
    }

    /// Speaks gRPC over it.
    pub(super) async fn grpc(
        self,
        protocol: Protocol,
        address: &AppAddress,
    ) -> Result<(GrpcSender, watch::Receiver<()>), OpenError> {
        let opened = if protocol.is_encrypted() {
            grpc_handshake(self.encrypted(protocol, address).await?).await
        } else {
            grpc_handshake(self.stream).await
        };
        opened.map_err(|error| mute(protocol, address, &error))
    }

    async fn encrypted(
        self,
        protocol: Protocol,
        address: &AppAddress,
    ) -> Result<TlsStream<TcpStream>, OpenError> {
        let failed = |why: &dyn std::fmt::Display| mute(protocol, address, why);
        let alpn: &[&[u8]] = match protocol {
            Protocol::Grpcs => &[b"h2"],
            Protocol::Https | Protocol::Http | Protocol::H2c | Protocol::Grpc => {
                &[b"h2", b"http/1.1"]
            }
        };
        let config = super::tls::client(alpn).map_err(|error| failed(&error))?;
        let name = server_name(&address.host, self.pair.far);
        let connecting = TlsConnector::from(Arc::new(config)).connect(name, self.stream);
        tokio::time::timeout(CONNECT_TIME_MAX, connecting)
            .await
            .map_err(|_| failed(&"no TLS within five seconds"))?
            .map_err(|error| failed(&error))
    }
}

/// The application does not speak its protocol.
fn mute(protocol: Protocol, address: &AppAddress, why: &dyn std::fmt::Display) -> OpenError {
    OpenError::Failed(format!(
        "the application on {address} does not speak {}: {why}",
        protocol.as_str()
    ))
}

/// Sends the requests of a generated client.
pub(super) type GrpcSender = http2::SendRequest<tonic::body::Body>;

/// The receiver is closed when the connection ends.
async fn grpc_handshake<S>(stream: S) -> Result<(GrpcSender, watch::Receiver<()>), hyper::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (alive, life) = watch::channel(());
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_INTERVAL)
        .keep_alive_while_idle(true)
        .max_header_list_size(HEADER_BYTES_MAX as u32)
        .handshake(TokioIo::new(stream))
        .await?;
    drop(tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to an application ended with an error");
        }
        drop(alive);
    }));
    Ok((sender, life))
}

fn server_name(host: &str, far: SocketAddr) -> ServerName<'static> {
    ServerName::try_from(host.to_owned()).unwrap_or_else(|_| ServerName::IpAddress(far.ip().into()))
}

async fn handshake<S>(stream: S, carries: Carries) -> Result<Line, hyper::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let io = TokioIo::new(stream);
    let (alive, life) = watch::channel(());
    let sender = if carries == Carries::Many {
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_INTERVAL)
            .keep_alive_while_idle(true)
            .max_header_list_size(HEADER_BYTES_MAX as u32)
            .handshake(io)
            .await?;
        drop(tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to an application ended with an error");
            }
            drop(alive);
        }));
        Sender::Many(sender)
    } else {
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(HEADER_BYTES_MAX)
            .max_headers(HEADERS_MAX)
            .handshake(io)
            .await?;
        drop(tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to an application ended with an error");
            }
            drop(alive);
        }));
        Sender::One(sender)
    };
    Ok(Line {
        sender,
        busy: Arc::default(),
        rested_since: Instant::now(),
        rest_max: REST_MAX,
        life,
    })
}

impl Line {
    /// How many requests it carries at a time.
    pub(super) fn carries(&self) -> Carries {
        match self.sender {
            Sender::One(_) => Carries::One,
            Sender::Many(_) => Carries::Many,
        }
    }

    /// Whether it has ended.
    pub(super) fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::One(sender) => sender.is_closed(),
            Sender::Many(sender) => sender.is_closed(),
        }
    }

    /// Closed when the connection has ended.
    pub(super) fn life(&self) -> watch::Receiver<()> {
        self.life.clone()
    }

    /// Returns when the connection has ended.
    pub(super) async fn ended(&self) {
        let mut life = self.life.clone();
        // Nothing is ever sent: only the end wakes.
        while life.changed().await.is_ok() {}
    }

    /// Whether one more request may be given to it.
    pub(super) fn is_free(&self) -> bool {
        match &self.sender {
            Sender::One(_) => true,
            Sender::Many(_) => self.busy.load(Ordering::Relaxed) < STREAMS_MAX,
        }
    }

    /// Waits until the last answer is behind it, which is usually so already; `false`: it is of no
    /// use any more.
    pub(super) async fn is_ready(&mut self) -> bool {
        let ready = async {
            match &mut self.sender {
                Sender::One(sender) => sender.ready().await,
                Sender::Many(sender) => sender.ready().await,
            }
        };
        matches!(
            tokio::time::timeout(READY_TIME_MAX, ready).await,
            Ok(Ok(()))
        )
    }

    /// Whether it has rested for so long that the server may be closing it.
    pub(super) fn is_stale(&self) -> bool {
        match &self.sender {
            Sender::One(_) => self.rested_since.elapsed() >= self.rest_max,
            Sender::Many(_) => false,
        }
    }

    /// Another handle to an HTTP/2 connection; an HTTP/1.1 connection has one alone.
    pub(super) fn another(&self) -> Option<Self> {
        match &self.sender {
            Sender::One(_) => None,
            Sender::Many(sender) => Some(Self {
                sender: Sender::Many(sender.clone()),
                busy: Arc::clone(&self.busy),
                rested_since: self.rested_since,
                rest_max: self.rest_max,
                life: self.life.clone(),
            }),
        }
    }

    /// Sends a request and reads the whole answer, at most `body_max` bytes of it.
    pub(super) async fn exchange(
        &mut self,
        request: Outgoing,
        body_max: usize,
    ) -> Result<Exchanged, ExchangeError> {
        self.busy.fetch_add(1, Ordering::Relaxed);
        let busy = Busy(Arc::clone(&self.busy));
        let sent = match &mut self.sender {
            Sender::One(sender) => sender.try_send_request(request).await,
            Sender::Many(sender) => sender.try_send_request(request).await,
        };
        let response = sent.map_err(|mut error| {
            let why = said(error.error());
            match error.take_message() {
                Some(request) => ExchangeError::NotSent(Box::new(request), why),
                None => ExchangeError::Broken(why),
            }
        })?;
        let read = read(response, body_max).await;
        drop(busy);
        self.rested_since = Instant::now();
        if let Ok(exchanged) = &read {
            self.rest_max = REST_MAX.min(rest_allowed(&exchanged.headers));
        }
        read
    }
}

/// A request under way.
struct Busy(Arc<AtomicUsize>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn read(response: Response<Incoming>, body_max: usize) -> Result<Exchanged, ExchangeError> {
    let (head, body) = response.into_parts();
    let declared = hyper::body::Body::size_hint(&body).lower();
    if declared > body_max as u64 {
        return Err(ExchangeError::TooLong(body_max));
    }
    let collected = match Limited::new(body, body_max).collect().await {
        Ok(collected) => collected,
        Err(error) => {
            return Err(match error.downcast::<hyper::Error>() {
                Ok(error) => ExchangeError::Broken(said(&error)),
                Err(_) => ExchangeError::TooLong(body_max),
            });
        }
    };
    let closing = closing(head.version, &head.headers);
    Ok(Exchanged {
        status: head.status.as_u16(),
        headers: head.headers,
        body: collected.to_bytes(),
        closing,
    })
}

fn closing(version: Version, headers: &HeaderMap) -> Closing {
    let mut words = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|word| word.trim().to_ascii_lowercase());
    let announced = match version {
        Version::HTTP_09 | Version::HTTP_10 => !words.any(|word| word == "keep-alive"),
        Version::HTTP_11 => words.any(|word| word == "close"),
        _ => false,
    };
    if announced {
        Closing::Announced
    } else {
        Closing::No
    }
}

/// What the server allows (`Keep-Alive: timeout=5`), less a second for what is on its way.
fn rest_allowed(headers: &HeaderMap) -> Duration {
    let allowed = headers.get("keep-alive").and_then(|value| {
        let seconds = value.to_str().ok()?.split(',').find_map(|part| {
            let seconds = part.trim().strip_prefix("timeout=")?;
            seconds.parse::<u64>().ok()
        })?;
        Some(Duration::from_secs(seconds.saturating_sub(1)))
    });
    allowed.unwrap_or(REST_MAX)
}

/// An error with what is behind it: hyper's own text is often only half of it.
fn said(error: &hyper::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_say_when_they_close() {
        for (version, header, wanted) in [
            (Version::HTTP_11, None, Closing::No),
            (Version::HTTP_11, Some("keep-alive"), Closing::No),
            (Version::HTTP_11, Some("Upgrade, Close"), Closing::Announced),
            (Version::HTTP_10, None, Closing::Announced),
            (Version::HTTP_10, Some("Keep-Alive"), Closing::No),
            (Version::HTTP_2, None, Closing::No),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(value) = header {
                headers.insert(CONNECTION, value.parse().unwrap());
            }
            assert_eq!(closing(version, &headers), wanted, "{version:?} {header:?}");
        }
    }

    #[test]
    fn servers_say_how_long_a_connection_may_rest() {
        for (header, seconds) in [
            (None, 4),
            (Some("timeout=5"), 4),
            (Some("max=100, timeout=2"), 1),
            (Some("timeout=0"), 0),
            (Some("timeout=soon"), 4),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(value) = header {
                headers.insert("keep-alive", value.parse().unwrap());
            }
            let allowed = rest_allowed(&headers);
            assert_eq!(allowed, Duration::from_secs(seconds), "{header:?}");
        }
    }
}
