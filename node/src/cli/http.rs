//! A small HTTP/1.1 client for nodes: plain TCP, one kept-alive connection, every request with a
//! time limit.
//!
//! Absent on purpose: TLS, redirects, proxies, cookies, pools. A failure tells whether the request
//! can have reached the node, because that decides whether it may be repeated without an id.

use std::time::Duration;

use axum::body::Bytes;
use bytes::BytesMut;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderValue};
use hyper::{Method, Request, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long a connection may take to open.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(2);

/// An answer, whatever its status.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Reply {
    /// A header as text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// Why there is no answer.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum Broken {
    /// Nothing was sent.
    #[error("{0}")]
    NotSent(String),
    /// It was sent, and may have been received.
    #[error("{0}")]
    Sent(String),
}

/// A request.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Bytes,
    pub(super) time_max: Duration,
}

impl Ask {
    /// A list.
    pub(super) fn get(path: impl Into<String>) -> Self {
        Self {
            method: Method::GET,
            path: path.into(),
            headers: Vec::new(),
            body: Bytes::new(),
            time_max: Duration::from_secs(10),
        }
    }

    /// A verb or a call.
    pub(super) fn post(path: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self {
            method: Method::POST,
            body: body.into(),
            ..Self::get(path)
        }
    }

    /// Something is to go.
    pub(super) fn delete(path: impl Into<String>) -> Self {
        Self {
            method: Method::DELETE,
            ..Self::get(path)
        }
    }

    pub(super) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(super) fn within(mut self, time_max: Duration) -> Self {
        self.time_max = time_max;
        self
    }
}

/// A connection to one address, opened when it is needed.
pub(super) struct Connection {
    authority: String,
    open: Option<SendRequest<Full<Bytes>>>,
}

impl Connection {
    /// To `host:port`.
    pub(super) fn to(authority: impl Into<String>) -> Self {
        Self {
            authority: authority.into(),
            open: None,
        }
    }

    /// Sends a request and waits for the whole answer.
    pub(super) async fn send(&mut self, ask: &Ask) -> Result<Reply, Broken> {
        let request = self.request(ask)?;
        let mut sender = self.ready().await?;
        let answer = async {
            let response = sender
                .send_request(request)
                .await
                .map_err(|e| Broken::Sent(chain(&e)))?;
            let (head, body) = response.into_parts();
            let body = body
                .collect()
                .await
                .map_err(|e| Broken::Sent(chain(&e)))?
                .to_bytes();
            Ok(Reply {
                status: head.status.as_u16(),
                headers: head.headers,
                body,
            })
        };
        match timeout(ask.time_max, answer).await {
            // Kept only after a whole answer; anything else closes the connection by dropping it.
            Ok(Ok(reply)) => {
                self.open = Some(sender);
                Ok(reply)
            }
            Ok(Err(broken)) => Err(broken),
            Err(_) => Err(Broken::Sent(format!("no answer within {:?}", ask.time_max))),
        }
    }

    /// Sends a request whose answer comes line by line. An answer with a bad status is given back
    /// whole.
    pub(super) async fn lines(&mut self, ask: &Ask) -> Result<Result<Lines, Reply>, Broken> {
        let request = self.request(ask)?;
        let mut sender = self.ready().await?;
        let late = |_| Broken::Sent(format!("no answer within {:?}", ask.time_max));
        let sent = timeout(ask.time_max, sender.send_request(request)).await;
        let sent = sent.map_err(late)?;
        let (head, body) = sent.map_err(|e| Broken::Sent(chain(&e)))?.into_parts();
        if !head.status.is_success() {
            let body = timeout(ask.time_max, body.collect()).await.map_err(late)?;
            let body = body.map_err(|e| Broken::Sent(chain(&e)))?;
            return Ok(Err(Reply {
                status: head.status.as_u16(),
                headers: head.headers,
                body: body.to_bytes(),
            }));
        }
        Ok(Ok(Lines {
            headers: head.headers,
            body,
            rest: BytesMut::new(),
            _sender: sender,
        }))
    }

    async fn ready(&mut self) -> Result<SendRequest<Full<Bytes>>, Broken> {
        if let Some(mut sender) = self.open.take() {
            // A connection that the node closed meanwhile is not ready: open a new one.
            if sender.ready().await.is_ok() && !sender.is_closed() {
                return Ok(sender);
            }
        }
        let stream = match timeout(CONNECT_TIME_MAX, TcpStream::connect(&self.authority)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(Broken::NotSent(error.to_string())),
            Err(_) => return Err(Broken::NotSent("no connection within 2 s".to_owned())),
        };
        // Costs only latency if it fails.
        drop(stream.set_nodelay(true));
        let (sender, connection) = handshake(TokioIo::new(stream))
            .await
            .map_err(|e| Broken::NotSent(chain(&e)))?;
        // It ends when the sender is dropped; its errors reach the one who waits for the answer.
        drop(tokio::spawn(async move { drop(connection.await) }));
        Ok(sender)
    }

    fn request(&self, ask: &Ask) -> Result<Request<Full<Bytes>>, Broken> {
        let mut request = Request::builder()
            .method(ask.method.clone())
            .uri(&ask.path)
            .header(HOST, &self.authority);
        if ask.method != Method::GET {
            request = request.header(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        for (name, value) in &ask.headers {
            request = request.header(*name, value);
        }
        request
            .body(Full::new(ask.body.clone()))
            .map_err(|error| Broken::NotSent(format!("cannot be written as HTTP: {error}")))
    }
}

/// An answer that comes line by line.
pub(super) struct Lines {
    headers: HeaderMap,
    body: Incoming,
    rest: BytesMut,
    /// The connection ends with it.
    _sender: SendRequest<Full<Bytes>>,
}

impl Lines {
    /// A header as text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Whether another whole line is here already.
    pub(super) fn has_more(&self) -> bool {
        self.rest.contains(&b'\n')
    }

    /// The next line without its end; `None`: the node has ended the answer. Silence for so long
    /// breaks it.
    pub(super) async fn next(&mut self, silence_max: Duration) -> Result<Option<Bytes>, Broken> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line = self.rest.split_to(end + 1).freeze();
                return Ok(Some(line.slice(..end)));
            }
            let frame = timeout(silence_max, self.body.frame()).await.map_err(|_| {
                Broken::Sent(format!("nothing was heard of the node for {silence_max:?}"))
            })?;
            let Some(frame) = frame else {
                return Ok(None);
            };
            let frame = frame.map_err(|e| Broken::Sent(chain(&e)))?;
            self.rest
                .extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
        }
    }
}

/// `host:port` of a node's URL.
pub(super) fn authority(url: &str) -> Result<String, String> {
    let with_scheme = if url.contains("://") {
        url.to_owned()
    } else {
        format!("http://{url}")
    };
    let uri: Uri = with_scheme
        .parse()
        .map_err(|_| format!("{url:?} is not a URL"))?;
    if uri.scheme_str() != Some("http") {
        return Err(format!("{url:?} is not an http:// URL"));
    }
    let host = uri
        .host()
        .filter(|host| !host.is_empty())
        .ok_or(format!("{url:?} names no host"))?;
    Ok(format!(
        "{host}:{}",
        uri.port_u16().unwrap_or(crate::config::ADMIN_PORT)
    ))
}

/// An error with what caused it.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        for (url, wanted) in [
            ("http://127.0.0.1:7480", "127.0.0.1:7480"),
            ("127.0.0.1:7481", "127.0.0.1:7481"),
            ("http://example.org/", "example.org:7480"),
            ("http://[::1]:9", "[::1]:9"),
            ("localhost", "localhost:7480"),
        ] {
            assert_eq!(authority(url).as_deref(), Ok(wanted));
        }
        for wrong in ["https://a", "http://", "http://a b", "ftp://x"] {
            assert!(authority(wrong).is_err(), "{wrong}");
        }
    }
}
