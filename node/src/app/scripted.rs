//! An application for tests, whose answers a test scripts: late, hanging, dying, huge, or anything
//! else.
//!
//! It speaks HTTP/1.1 and h2c on one port, or TLS, and writes down what it was asked. It lives in
//! the test's own process (then it is the same process for the node, however often it is stopped
//! and started), or in a child process that can be killed and started again on its port (`Child`).

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio_rustls::TlsAcceptor;

/// How long a test waits for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// One request as the application saw it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Seen {
    /// Such as `PUT /actors/T/a/method/m?q=1`.
    pub(crate) line: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
    /// Counts up with each connection.
    pub(crate) connection: usize,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(have, _)| have == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// What the application does with a request.
#[derive(Clone)]
pub(crate) enum Act {
    /// Answers.
    Say(u16, Vec<(&'static str, String)>, Bytes),
    /// Answers so many bytes, without saying how many.
    Endless(usize),
    /// Acts when the gate opens.
    When(Arc<Notify>, Box<Act>),
    /// Never answers.
    Hang,
    /// Closes the connection without an answer.
    Die,
    /// Whatever else.
    Run(Arc<dyn Fn(Seen) -> Later + Send + Sync>),
}

/// What a closure decides.
pub(crate) type Later = Pin<Box<dyn Future<Output = Act> + Send>>;

/// A 200 with a body.
pub(crate) fn ok(body: impl Into<Bytes>) -> Act {
    Act::Say(200, vec![], body.into())
}

/// A status without a body.
pub(crate) fn status(status: u16) -> Act {
    Act::Say(status, vec![], Bytes::new())
}

/// An answer to `GET /dapr/config`.
pub(crate) fn hosts(types: &[&str]) -> Act {
    ok(serde_json::json!({ "entities": types }).to_string())
}

type Body = BoxBody<Bytes, Infallible>;

struct Script {
    rules: HashMap<String, VecDeque<Act>>,
    seen: Vec<Seen>,
    connections: usize,
}

struct Inner {
    script: Mutex<Script>,
    changed: watch::Sender<()>,
    tls: Option<TlsAcceptor>,
    /// Closes a connection that has rested for so long.
    rest: Option<Duration>,
}

/// The application.
pub(crate) struct ScriptedApp {
    pub(crate) port: u16,
    inner: Arc<Inner>,
    running: Option<tokio::task::JoinSet<()>>,
}

impl ScriptedApp {
    /// Listens on a free port; hosts `T`.
    pub(crate) async fn start() -> Self {
        Self::with(None, None).await
    }

    /// The same on this port.
    pub(crate) async fn on_port(port: u16) -> Self {
        let mut app = Self::new(None, None);
        app.port = port;
        app.up().await;
        app
    }

    /// The same with a queue of so many connections before they are accepted.
    pub(crate) fn with_queue(length: i32) -> Self {
        let mut app = Self::new(None, None);
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket
            .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
            .unwrap();
        socket.listen(length).unwrap();
        app.serve_on(TcpListener::from_std(socket.into()).unwrap());
        app
    }

    /// The same, closing connections that have rested for so long, or speaking TLS.
    pub(crate) async fn with(rest: Option<Duration>, tls: Option<TlsAcceptor>) -> Self {
        let mut app = Self::new(rest, tls);
        app.up().await;
        app
    }

    fn new(rest: Option<Duration>, tls: Option<TlsAcceptor>) -> Self {
        let inner = Inner {
            script: Mutex::new(Script {
                rules: HashMap::new(),
                seen: Vec::new(),
                connections: 0,
            }),
            changed: watch::Sender::new(()),
            tls,
            rest,
        };
        let app = Self {
            port: 0,
            inner: Arc::new(inner),
            running: None,
        };
        app.on("GET /dapr/config", [hosts(&["T"])]);
        app
    }

    /// Listens again, on the same port, in the same process.
    pub(crate) async fn up(&mut self) {
        let address = SocketAddr::from(([127, 0, 0, 1], self.port));
        self.serve_on(TcpListener::bind(address).await.unwrap());
    }

    fn serve_on(&mut self, listener: TcpListener) {
        self.port = listener.local_addr().unwrap().port();
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(accept(Arc::clone(&self.inner), listener));
        self.running = Some(tasks);
    }

    /// Stops listening and cuts every connection, as if the process had ended.
    pub(crate) async fn down(&mut self) {
        if let Some(mut tasks) = self.running.take() {
            tasks.shutdown().await;
        }
    }

    /// What to do with requests that begin so: one after the other, the last one for ever.
    pub(crate) fn on(&self, line: &str, acts: impl IntoIterator<Item = Act>) {
        let acts = acts.into_iter().collect();
        self.script().rules.insert(line.to_owned(), acts);
    }

    /// Everything it was asked about actors.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen_of("/actors/")
    }

    /// Everything whose line has this part.
    pub(crate) fn seen_of(&self, part: &str) -> Vec<Seen> {
        let script = self.script();
        let seen = script.seen.iter().filter(|seen| seen.line.contains(part));
        seen.cloned().collect()
    }

    /// Waits until so many requests with this part in their line were seen.
    pub(crate) async fn until_seen(&self, part: &str, count: usize) -> Vec<Seen> {
        let mut changed = self.inner.changed.subscribe();
        let wait = async {
            while self.seen_of(part).len() < count {
                changed.changed().await.unwrap();
            }
        };
        let waited = tokio::time::timeout(PATIENCE, wait).await;
        assert!(waited.is_ok(), "{count} of {part}: {:?}", self.seen_of(""));
        self.seen_of(part)
    }

    fn script(&self) -> std::sync::MutexGuard<'_, Script> {
        let script = &self.inner.script;
        script.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn accept(inner: Arc<Inner>, listener: TcpListener) {
    // Dropped with this task, and all connections with it.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let number = {
            let mut script = inner.script.lock().unwrap();
            script.connections += 1;
            script.connections
        };
        connections.spawn(connection(Arc::clone(&inner), stream, number));
    }
}

async fn connection(inner: Arc<Inner>, stream: TcpStream, number: usize) {
    stream.set_nodelay(true).unwrap();
    let rest = inner.rest;
    let used = Arc::new(Notify::new());
    let service = {
        let (inner, used) = (Arc::clone(&inner), Arc::clone(&used));
        service_fn(move |request| {
            let (inner, used) = (Arc::clone(&inner), Arc::clone(&used));
            async move {
                let answer = serve(inner, request, number).await;
                used.notify_one();
                answer
            }
        })
    };
    let builder = Builder::new(TokioExecutor::new());
    let rested = async {
        let Some(rest) = rest else {
            return std::future::pending().await;
        };
        used.notified().await;
        while tokio::time::timeout(rest, used.notified()).await.is_ok() {}
    };
    // Errors are what tests are about.
    if let Some(tls) = inner.tls.clone() {
        let stream = tls.accept(stream).await.unwrap();
        let served = builder.serve_connection(TokioIo::new(stream), service);
        tokio::select! { _ = served => {}, () = rested => {} }
    } else {
        let served = builder.serve_connection(TokioIo::new(stream), service);
        tokio::select! { _ = served => {}, () = rested => {} }
    }
}

async fn serve(
    inner: Arc<Inner>,
    request: Request<Incoming>,
    connection: usize,
) -> Result<Response<Body>, io::Error> {
    let (head, body) = request.into_parts();
    let path = head.uri.path_and_query().unwrap();
    let line = format!("{} {path}", head.method);
    let headers = head.headers.iter();
    let headers = headers.map(|(name, value)| {
        let value = String::from_utf8_lossy(value.as_bytes());
        (name.as_str().to_owned(), value.into_owned())
    });
    let headers = headers.collect();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let seen = Seen {
        line,
        headers,
        body: String::from_utf8_lossy(&body).into_owned(),
        connection,
    };
    let mut act = {
        let mut script = inner.script.lock().unwrap();
        script.seen.push(seen.clone());
        script.next(&seen.line)
    };
    inner.changed.send_replace(());
    loop {
        act = match act {
            Act::Say(status, headers, body) => return Ok(said(status, headers, body)),
            Act::Endless(bytes) => return Ok(endless(bytes)),
            Act::Hang => std::future::pending().await,
            Act::Die => return Err(io::Error::other("scripted")),
            Act::When(gate, then) => {
                gate.notified().await;
                *then
            }
            Act::Run(decide) => decide(seen.clone()).await,
        }
    }
}

impl Script {
    /// The rule with the longest beginning decides; without one actors answer 200, and all else is
    /// not there.
    fn next(&mut self, line: &str) -> Act {
        let rules = self.rules.iter_mut();
        let fitting = rules.filter(|(begin, _)| line.starts_with(begin.as_str()));
        match fitting.max_by_key(|(begin, _)| begin.len()) {
            Some((_, acts)) if acts.len() > 1 => acts.pop_front().unwrap(),
            Some((_, acts)) => acts.front().cloned().unwrap(),
            None if line.contains(" /actors/") => ok("{}"),
            None => status(404),
        }
    }
}

fn said(status: u16, headers: Vec<(&'static str, String)>, body: Bytes) -> Response<Body> {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(name, value);
    }
    response.body(Full::new(body).boxed()).unwrap()
}

fn endless(bytes: usize) -> Response<Body> {
    let chunk = Bytes::from(vec![b'x'; 64 << 10]);
    let chunks = bytes / chunk.len();
    let frames = (0..chunks).map(move |_| Ok::<_, Infallible>(Frame::data(chunk.clone())));
    let body = StreamBody::new(stream::iter(frames));
    Response::new(BodyExt::boxed(body))
}

/// TLS with a certificate that nobody has signed.
pub(crate) fn own_tls(alpn: &[&[u8]]) -> TlsAcceptor {
    let made = rcgen::generate_simple_self_signed(vec!["elsewhere".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .unwrap();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    TlsAcceptor::from(Arc::new(config))
}

/// Environment of a child: its port.
const CHILD_PORT: &str = "GHOSTLIGHT_TEST_APP_PORT";
/// The test that is the child's program.
const CHILD_TEST: &str = "app::scripted::child_process";

/// The application in a process of its own; killed when dropped. It answers every actor call with
/// its process id and a number that it chose when it began, hosts `T`, hangs on the method `hang`,
/// counts those calls on `hung`, and replaces its own program on `exec`.
pub(crate) struct Child {
    process: std::process::Child,
}

impl Child {
    /// Starts one; several may share a port.
    pub(crate) fn start(port: u16) -> Self {
        let process = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", CHILD_TEST, "--nocapture", "--test-threads=1"])
            .env(CHILD_PORT, port.to_string())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        Self { process }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        // It may have ended.
        drop(self.process.kill());
        self.process.wait().unwrap();
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port that is free now.
pub(crate) fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// The program of [`Child`]; as a test it does nothing.
#[tokio::test]
async fn child_process() {
    let Ok(port) = std::env::var(CHILD_PORT) else {
        return;
    };
    let began = format!("{:?}", std::time::Instant::now());
    let me = format!("{} {began}", std::process::id());
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_port(true).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.set_nonblocking(true).unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], port.parse().unwrap()));
    socket.bind(&address.into()).unwrap();
    socket.listen(1_024).unwrap();
    let listener = TcpListener::from_std(socket.into()).unwrap();
    let app = ScriptedApp::start().await;
    app.on("PUT /actors/", [ok(me)]);
    app.on("PUT /actors/T/a/method/hang", [Act::Hang]);
    let inner = Arc::clone(&app.inner);
    let hung = Act::Run(Arc::new(move |_| {
        let script = inner.script.lock().unwrap();
        let hung = script
            .seen
            .iter()
            .filter(|seen| seen.line.ends_with("/hang"));
        let count = hung.count().to_string();
        Box::pin(async move { ok(count) })
    }));
    app.on("PUT /actors/T/a/method/hung", [hung]);
    let exec = Act::Run(Arc::new(|_| {
        use std::os::unix::process::CommandExt;
        let again = std::env::current_exe().unwrap();
        let error = std::process::Command::new(again)
            .args(["--exact", CHILD_TEST, "--nocapture", "--test-threads=1"])
            .exec();
        panic!("{error}")
    }));
    app.on("PUT /actors/T/a/method/exec", [exec]);
    accept(Arc::clone(&app.inner), listener).await;
}
