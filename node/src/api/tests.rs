//! Both APIs over a real socket, against a task that plays the node's core.

use std::time::Duration;

use ghostlight_core::admin::{
    ActorView, AdminAnswer, AdminRequest, DrainChange, Health, MemberView, NodeRef, StatusView,
    TypeView, WhereView,
};
use ghostlight_protocol::call::{AppReply, Metadata};
use ghostlight_protocol::code::Code;
use ghostlight_protocol::outcome::{AppError, CallOutcome, NotRun};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};

use super::*;
use crate::config::{AddrOrigin, ListenAddr};
use crate::handle::{Invoke, Request};
use crate::resources::Resources;
use ghostlight_core::hosts::words::{AppCall, AppOutcome, Joining};
use serve::Api;

pub(crate) mod app;
pub(crate) mod fake;
mod joining;
mod publish;
mod rules;

const TEST_PORT: serve::Purpose = serve::Purpose {
    what: "a test",
    flag: "--test-port",
};

const NODE: &str = "n00000000000000000000000000000001";

/// A node that answers by the name of the called actor.
async fn core(mut requests: mpsc::Receiver<Request>) {
    while let Some(request) = requests.recv().await {
        match request {
            Request::Invoke { call, answer, .. } => drop(answer.send(outcome(&call))),
            Request::App {
                call,
                actor,
                answer,
            } => drop(answer.send(app_outcome(&actor, call))),
            Request::Subscribe(_) | Request::Settled { .. } | Request::Unsubscribed(_) => {}
            Request::Admin { request, answer } => drop(answer.send(view(request))),
            Request::Shutdown { .. } => return,
        }
    }
}

/// Only what joins a turn is known here; the turn `over` is over.
fn app_outcome(actor: &ActorKey, call: AppCall) -> AppOutcome {
    match call {
        AppCall::Join { token, .. } if token == "over" => {
            AppOutcome::Refused(NotRun::new(Code::TurnOver, "it is over"))
        }
        AppCall::Join {
            token,
            what: Joining::Call { method, body, .. },
        } => {
            let seen = format!("{token}: {actor} {method} {}", body.len());
            AppOutcome::Called(Box::new(CallOutcome::Reply(seen.into())))
        }
        AppCall::Join {
            what: Joining::Send(messages),
            ..
        } if messages.iter().all(|message| message.method == "publish") => AppOutcome::Done,
        _ => AppOutcome::NotHosted,
    }
}

fn outcome(call: &Invoke) -> CallOutcome {
    let name = call.actor.actor_id();
    let seen = format!(
        "{:?} {} {:?} {:?} {}",
        call.actor,
        call.method,
        call.request_id.as_deref().map(String::from_utf8_lossy),
        call.timeout,
        call.body.len()
    );
    match name {
        "short" => CallOutcome::App(AppError {
            name: "Short".into(),
            message: "3 missing".into(),
            payload: Bytes::from_static(b"{\"missing\":3}"),
        }),
        "full" => CallOutcome::NotRun(NotRun::retry(
            Code::MailboxFull,
            "full",
            Duration::from_millis(40),
        )),
        "leaderless" => CallOutcome::NotRun(NotRun::new(Code::NoLeader, "nobody leads p1")),
        "lost" => CallOutcome::Unknown {
            code: Code::OutcomeUnknown,
            detail: "lost".into(),
        },
        "closing" => CallOutcome::NotRun(NotRun::new(Code::ShuttingDown, "")),
        "deep" => CallOutcome::NotRun(NotRun::new(Code::ChainTooDeep, "")),
        "nobody" => CallOutcome::NotRun(NotRun::new(Code::UnknownActorType, "")),
        "nomethod" => CallOutcome::NotRun(NotRun::new(Code::UnknownMethod, "")),
        "heard" => CallOutcome::Reply(Bytes::from(beside(&call.metadata))),
        "told" => CallOutcome::AppReply(told()),
        _ => CallOutcome::Reply(Bytes::from(seen)),
    }
}

/// What came beside the body of a call, a line for each.
fn beside(metadata: &[Metadata]) -> String {
    let lines = metadata
        .iter()
        .map(|m| format!("{}: {}\n", m.name, m.value));
    lines.collect()
}

/// An application's answer, with what concerns its own connection and what does not.
fn told() -> AppReply {
    let metadata = [
        ("content-type", "application/octet-stream"),
        ("x-daprerrorresponseheader", "<ActorResponseHeader/>"),
        ("x-twice", "1"),
        ("x-twice", "2"),
        ("keep-alive", "timeout=5"),
        ("content-length", "999"),
        ("transfer-encoding", "chunked"),
    ];
    AppReply {
        metadata: metadata
            .map(|(name, value)| Metadata {
                name: name.to_owned(),
                value: value.to_owned(),
            })
            .to_vec(),
        body: Bytes::from_static(b"<fault/>"),
    }
}

fn view(request: AdminRequest) -> AdminAnswer {
    let node = NodeRef {
        id: NODE.into(),
        name: "n1".into(),
    };
    match request {
        AdminRequest::Status => AdminAnswer::Status(status()),
        AdminRequest::Partitions => AdminAnswer::Partitions(Vec::new()),
        AdminRequest::Actors => AdminAnswer::Actors(vec![ActorView {
            actor: "counter/alice".into(),
            namespace: "default".into(),
            partition: 7,
            node,
            mailbox: 0,
            state: "idle".into(),
            turns: 1,
            version: 1,
        }]),
        AdminRequest::Types => AdminAnswer::Types(vec![TypeView {
            actor_type: "counter".into(),
            native: vec![node],
            applications: Vec::new(),
        }]),
        AdminRequest::Hosted => AdminAnswer::Hosted(vec![("bank".into(), 0)]),
        AdminRequest::Where(key) => AdminAnswer::Where(WhereView {
            actor: key.to_string(),
            partition: 7,
            leader: Some(node.clone()),
            replicas: vec![node],
        }),
        AdminRequest::Drain { node, change } => {
            AdminAnswer::Done(format!("{node:?} {:?}", change == DrainChange::Undo))
        }
        AdminRequest::Leave { .. } => AdminAnswer::Refused {
            code: Code::LeaveBelowFactor,
            detail: "two copies would be left. Use drain".into(),
        },
        AdminRequest::Remove(node) => AdminAnswer::Done(node),
    }
}

fn status() -> StatusView {
    let member = MemberView {
        id: NODE.into(),
        name: "n1".into(),
        state: "alive".into(),
        duty: "serving".into(),
        generation: 1,
        address: "127.0.0.1:7400".into(),
        http: "127.0.0.1:3500".into(),
        admin: "127.0.0.1:7480".into(),
        zone: String::new(),
        weight: 1,
        leaders: 256,
        replicas: 256,
        pid: 1,
        version: "0.1.0".into(),
    };
    StatusView {
        health: Health::Healthy,
        reasons: vec!["one copy of everything".into()],
        cluster: "c1".into(),
        node: NODE.into(),
        partitions: 256,
        factor: 3,
        partitions_led: 256,
        copies_min: 1,
        moves: 0,
        weakened: Vec::new(),
        applications: Vec::new(),
        members: vec![member],
    }
}

/// A listener of one API; it ends with the returned sender.
async fn listen(api: Api, tokens: &[&str]) -> (SocketAddr, watch::Sender<bool>) {
    listen_within(serve::Limits::default(), api, tokens).await
}

async fn listen_within(
    limits: serve::Limits,
    api: Api,
    tokens: &[&str],
) -> (SocketAddr, watch::Sender<bool>) {
    let context = context(tokens, Arc::new(app_calls::NoApplication));
    listen_with(limits, api, context).await
}

/// What a listener needs, around a task that plays the core.
pub(crate) fn context(tokens: &[&str], calls: Arc<dyn AppCalls>) -> Context {
    let (handle, requests) = NodeHandle::new();
    drop(tokio::spawn(core(requests)));
    Context {
        handle: handle.clone(),
        name: "n1".into(),
        namespace: "default".into(),
        tokens: tokens.iter().map(|token| Secret::new(*token)).collect(),
        operator_tokens: tokens.iter().map(|token| Secret::new(*token)).collect(),
        weakened: vec!["http listens on 0.0.0.0:3500".into()],
        doors: Vec::new(),
        actor_types: vec!["counter".into(), "log".into()],
        metrics: metrics::Renderer::none(),
        extended: extended::Extended::default(),
        calls,
        app: None,
        hosts: Arc::default(),
        sidecar: Sidecar::default(),
        pubsub: {
            let ours = crate::pubsub::registry::own_topics(&handle);
            let owner = crate::pubsub::tests::owner();
            Arc::new(PubSub::new(owner, &Resources::default(), &ours).unwrap())
        },
        resilience: Resilience::default(),
        access: Access::default(),
        key_file: None,
        body_max: ghostlight_protocol::limits::REQUEST_BODY_BYTES_MAX,
        h2c: H2c::default(),
        drain_timeout: Duration::from_secs(30),
        readers: Arc::default(),
        forced: Arc::default(),
    }
}

pub(crate) async fn listen_with(
    limits: serve::Limits,
    api: Api,
    context: Context,
) -> (SocketAddr, watch::Sender<bool>) {
    let context = Arc::new(context);
    let any = ListenAddr {
        addr: "127.0.0.1:0".parse().unwrap(),
        origin: AddrOrigin::Explicit,
    };
    let listener = serve::bind(TEST_PORT, any, None).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (end, ended) = watch::channel(false);
    let serving = serve::serve_within(limits, api, listener, context, ended);
    drop(tokio::spawn(serving));
    (addr, end)
}

/// Sends raw HTTP and returns the whole answer, head and body.
pub(crate) async fn raw(addr: SocketAddr, head: &str, body: &[u8]) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let request = format!(
        "{head}\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    // The server may refuse a large body before it has read all of it.
    drop(stream.write_all(body).await);
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer).await);
    String::from_utf8_lossy(&answer).into_owned()
}

#[track_caller]
pub(crate) fn has(answer: &str, parts: &[&str]) {
    for part in parts {
        assert!(
            answer.to_lowercase().contains(&part.to_lowercase()),
            "{part:?} is not in {answer}"
        );
    }
}

#[tokio::test]
async fn health_and_metadata_are_public() {
    let (addr, _end) = listen(Api::Public, &["secret"]).await;
    for (head, wanted) in [
        ("GET /v1.0/healthz HTTP/1.1", "204 No Content"),
        ("GET /v1.0/healthz/outbound HTTP/1.1", "204 No Content"),
        ("GET /v1.0/metadata HTTP/1.1", "\"id\":\"n1\""),
        ("PUT /v1.0/metadata/k HTTP/1.1", "204 No Content"),
        ("POST /v1.0/actors/c/i/method/m HTTP/1.1", "404 Not Found"),
        ("POST /v1.0/shutdown HTTP/1.1", "404 Not Found"),
        ("GET /v1.0/healthz/more HTTP/1.1", "404 Not Found"),
    ] {
        has(&raw(addr, head, b"").await, &[wanted]);
    }
}

#[tokio::test]
async fn metrics_alone_are_for_anybody() {
    let (addr, _end) = listen(Api::Metrics, &["secret"]).await;
    for (head, wanted) in [
        ("GET /metrics HTTP/1.1", "200 OK"),
        ("GET / HTTP/1.1", "200 OK"),
        ("GET /ghostlight/v1/status HTTP/1.1", "404 Not Found"),
        ("POST /ghostlight/v1/leave HTTP/1.1", "404 Not Found"),
        ("GET /v1.0/metadata HTTP/1.1", "404 Not Found"),
        ("POST /metrics HTTP/1.1", "404 Not Found"),
    ] {
        has(&raw(addr, head, b"").await, &[wanted]);
    }
}

#[tokio::test]
async fn what_a_configuration_leaves_out() {
    let allowed = |name: &str| crate::resources::ApiRule {
        name: name.into(),
        version: "v1".into(),
        protocol: "http".into(),
    };
    let configuration = crate::resources::Configuration {
        allowed: vec![allowed("actors"), allowed("metadata")],
        denied: vec![allowed("metadata")],
        ..Default::default()
    };
    let context = Context {
        access: Access::new(&configuration),
        ..context(&["secret"], Arc::new(app_calls::NoApplication))
    };
    let (addr, _end) = listen_with(serve::Limits::default(), Api::Dapr, context).await;
    const TOKEN: &str = "\r\ndapr-api-token: secret";
    for (head, token, wanted) in [
        ("POST /v1.0/actors/c/i/method/m", TOKEN, "200 OK"),
        ("POST /v1.0/publish/pubsub/t", TOKEN, "publish v1 out"),
        ("GET /v1.0/metadata", TOKEN, "404 Not Found"),
        ("POST /v1.0/shutdown", TOKEN, "404 Not Found"),
        // Whoever may not ask at all is not told what there is.
        ("GET /v1.0/metadata", "", "401 Unauthorized"),
        ("GET /v1.0/healthz", "", "204 No Content"),
        ("GET /v1.0/healthz/outbound", "", "204 No Content"),
    ] {
        let answer = raw(addr, &format!("{head} HTTP/1.1{token}"), b"").await;
        has(&answer, &[wanted]);
    }
}

/// Request line and headers, and what the answer has.
type Row = (&'static str, &'static [&'static str]);

const CALLS: &[Row] = &[
    (
        "POST /v1.0/actors/counter/alice/method/add",
        &["200 OK", "default:counter/alice add None None 2"],
    ),
    (
        "GET //v1.0/actors/counter/a%2Fb/method/x/y/",
        &["200 OK", "counter/a/b x/y"],
    ),
    (
        "DELETE /v1.0/actors/c/i/method/..%2F..%2Fsecret",
        &["200 OK", "c/i secret"],
    ),
    (
        "PUT /v1.0/actors/c/i/method/m\r\nGhostlight-Request-Id: r1\r\nGhostlight-Deadline-Ms: 250",
        &["200 OK", "Some(\"r1\") Some(250ms)"],
    ),
    (
        "POST /v1.0/actors/c/i/method/m\r\nIdempotency-Key: r2",
        &["Some(\"r2\")"],
    ),
    ("GET /v1.0/healthz", &["204 No Content"]),
    ("GET /v1.0/healthz/outbound", &["204 No Content"]),
    ("GET /v1.0/healthz?appid=n1", &["204 No Content"]),
    (
        "GET /v1.0/metadata",
        &[
            "\"id\":\"n1\"",
            "{\"count\":1,\"type\":\"counter\"},{\"type\":\"log\"}",
            "\"RUNNING\"",
        ],
    ),
];

const OUTCOMES: &[Row] = &[
    (
        "POST /v1.0/actors/c/short/method/m",
        &[
            "500 Internal",
            "ghostlight-app-error: Short",
            "ERR_ACTOR_INVOKE_METHOD",
            "error invoke actor method: error from actor service: (500) Short: 3 missing",
            "\"missing\":3",
        ],
    ),
    (
        "POST /v1.0/actors/c/full/method/m",
        &[
            "429",
            "retry-after: 1",
            "retry-after-ms: 40",
            "ERR_GHOSTLIGHT_MAILBOX_FULL",
            "E0108",
        ],
    ),
    (
        "POST /v1.0/actors/c/leaderless/method/m",
        &[
            "503",
            "retry-after: 1",
            "ghostlight-error: E0201",
            "nobody leads p1 [E0201]",
        ],
    ),
    (
        "POST /v1.0/actors/c/lost/method/m",
        &["500", "ERR_GHOSTLIGHT_OUTCOME_UNKNOWN", "E0112"],
    ),
    (
        "POST /v1.0/actors/c/closing/method/m",
        &[
            "503",
            "ERR_ACTOR_RUNTIME_CLOSED",
            "\"actor runtime is closed",
        ],
    ),
    (
        "POST /v1.0/actors/c/deep/method/m",
        &[
            "500",
            "ERR_ACTOR_STACK_DEPTH",
            "\"maximum stack depth exceeded",
        ],
    ),
    (
        "POST /v1.0/x/../actors/./c/nobody/method/m",
        &["404", "did not find address for actor 'c||nobody'"],
    ),
    (
        "POST /v1.0/actors/c/nobody/method/m",
        &[
            "404",
            "ERR_ACTOR_NO_ADDRESS",
            "did not find address for actor 'c||nobody'",
        ],
    ),
    (
        "POST /v1.0/actors/c/nomethod/method/m",
        &[
            "500",
            "ERR_ACTOR_INVOKE_METHOD",
            "actor method not found: actors/c/nomethod/method/m",
        ],
    ),
];

const REFUSALS: &[Row] = &[
    (
        "POST /v1.0/actors/c/a%23b/method/m",
        &["400", "ERR_BAD_REQUEST", "invalid actorId:", "E0102"],
    ),
    (
        "POST /v1.0/actors/c/%2e%2e/method/m",
        &["400", "invalid actorId:"],
    ),
    (
        "POST /v1.0/actors/c/i/method/%00",
        &["400", "invalid method:"],
    ),
    ("POST /v1.0/actors/c/%ff/method/m", &["400", "UTF-8"]),
    (
        "PATCH /v1.0/actors/c/i/method/m",
        &["405", "allow: GET, POST, PUT, DELETE"],
    ),
    (
        "POST /v1.0/actors/c/i/method/m\r\nGhostlight-Deadline-Ms: soon",
        &["400", "E0122"],
    ),
    (
        "POST /v1.0/actors/c/i/method/m\r\nGhostlight-Deadline-Ms: 0",
        &["504", "E0105"],
    ),
    (
        "POST /v1.0/actors/c/i/method/m\r\nIdempotency-Key: a\r\nGhostlight-Request-Id: b",
        &["400", "E0115"],
    ),
    ("POST /v1.0/actors/c/i", &["404", "no such path"]),
    (
        "GET /v1.0/healthz?appid=other",
        &["500", "ERR_HEALTH_APPID_NOT_MATCH"],
    ),
    ("POST /v1.0/metadata", &["405", "allow: GET"]),
];

#[tokio::test]
async fn dapr_calls() {
    let (addr, _end) = listen(Api::Dapr, &[]).await;
    for (head, parts) in [CALLS, OUTCOMES, REFUSALS].concat() {
        has(&raw(addr, &versioned(head), b"42").await, parts);
    }
}

/// Puts the version at the end of the request line.
pub(crate) fn versioned(head: &str) -> String {
    match head.split_once("\r\n") {
        Some((line, headers)) => format!("{line} HTTP/1.1\r\n{headers}"),
        None => format!("{head} HTTP/1.1"),
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused() {
    use ghostlight_protocol::limits::REQUEST_BODY_BYTES_MAX;
    let (addr, _end) = listen(Api::Dapr, &[]).await;
    let head = "POST /v1.0/actors/c/i/method/m HTTP/1.1";
    let exact = vec![b'x'; REQUEST_BODY_BYTES_MAX];
    has(
        &raw(addr, head, &exact).await,
        &["200 OK", "None None 4194304"],
    );
    // A declared length is enough: the refusal comes before the body.
    let declared = format!("{head}\r\nExpect: 100-continue");
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let over = REQUEST_BODY_BYTES_MAX + 1;
    let request = format!("{declared}\r\nHost: x\r\nContent-Length: {over}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = vec![0; 1_024];
    let length = stream.read(&mut answer).await.unwrap();
    has(
        &String::from_utf8_lossy(&answer[..length]),
        &["413", "ERR_BODY_READ", "E0104"],
    );
    // Who sends everything before it reads gets the answer, too.
    let much = vec![b'x'; 3 * REQUEST_BODY_BYTES_MAX];
    has(
        &raw(addr, head, &much).await,
        &["413", "ERR_BODY_READ", "E0104"],
    );
}

/// The operators' API is the node's, whatever tokens its first application asks its own clients
/// for.
#[tokio::test]
async fn operators_have_tokens_of_their_own() {
    for (api, path, good, bad) in [
        (Api::Admin, "/ghostlight/v1/status", "ops", "shop"),
        (Api::Dapr, "/v1.0/metadata", "shop", "ops"),
    ] {
        let mut context = context(&["shop"], Arc::new(app_calls::NoApplication));
        context.operator_tokens = vec![Secret::new("ops")];
        let (addr, _end) = listen_with(serve::Limits::default(), api, context).await;
        for (token, status) in [(good, "HTTP/1.1 200"), (bad, "HTTP/1.1 401")] {
            let head = format!("GET {path} HTTP/1.1\r\ndapr-api-token: {token}");
            has(&raw(addr, &head, b"").await, &[status]);
        }
    }
}

#[tokio::test]
async fn tokens_guard_everything_but_health_and_metrics() {
    let (dapr, _end) = listen(Api::Dapr, &["secret"]).await;
    let (admin, _end) = listen(Api::Admin, &["secret"]).await;
    let call = "GET /v1.0/actors/c/i/method/m HTTP/1.1";
    has(&raw(dapr, call, b"").await, &["401", "invalid api token"]);
    let with = |token| format!("{call}\r\ndapr-api-token: {token}");
    has(&raw(dapr, &with("wrong"), b"").await, &["401"]);
    has(&raw(dapr, &with("secret"), b"").await, &["200 OK"]);
    has(
        &raw(dapr, "GET /v1.0/metadata HTTP/1.1", b"").await,
        &["401"],
    );
    has(
        &raw(dapr, "GET /v1.0/healthz HTTP/1.1", b"").await,
        &["204"],
    );
    has(
        &raw(admin, "GET /ghostlight/v1/status HTTP/1.1", b"").await,
        &["401"],
    );
    has(&raw(admin, "GET /metrics HTTP/1.1", b"").await, &["200 OK"]);
}

const LISTS: &[Row] = &[
    (
        "GET /ghostlight/v1/status",
        &[
            "200 OK",
            "\"health\":\"healthy\"",
            "\"weakened\":[\"http listens on 0.0.0.0:3500\"]",
        ],
    ),
    (
        "GET /ghostlight/v1/members",
        &["[{\"id\":", "\"name\":\"n1\""],
    ),
    ("GET /ghostlight/v1/members/n1", &["{\"id\":", "\"pid\":1"]),
    ("GET /ghostlight/v1/members/n9", &["404", "E0213"]),
    ("GET /ghostlight/v1/partitions", &["200 OK", "[]"]),
    ("GET /ghostlight/v1/partitions/9", &["400", "E0118"]),
    ("GET /ghostlight/v1/actors/counter/alice", &["\"turns\":1"]),
    ("GET /ghostlight/v1/actors/counter/bob", &["200 OK", "null"]),
    (
        "GET /ghostlight/v1/where/counter/alice",
        &[
            "{\"actor\":\"counter/alice\",\"partition\":7,\"leader\":{\"id\":\"n0",
            "\"replicas\":[{",
        ],
    ),
    ("GET /ghostlight/v1/where/counter/a%23", &["400", "E0102"]),
    ("GET /v1.0/metadata", &["404"]),
    ("DELETE /ghostlight/v1/status", &["405"]),
];

/// Path, body, and what the answer has.
const VERBS: &[(&str, &str, &[&str])] = &[
    (
        "drain",
        "{\"node\":\"n2\",\"change\":\"undo\"}",
        &["200 OK", "n2", "true"],
    ),
    ("drain", "", &["200 OK", "None false"]),
    ("drain", "{\"nod\":1}", &["400", "E0118"]),
    ("leave", "{}", &["409", "E0210", "Use drain"]),
    ("remove", "{}", &["400", "remove needs the node"]),
    ("remove", "{\"node\":\"n2\"}", &["200 OK", "n2"]),
    (
        "nothing",
        "{}",
        &["404", "verbs are drain, leave and remove"],
    ),
];

#[tokio::test]
async fn admin_lists_and_verbs() {
    let (addr, _end) = listen(Api::Admin, &[]).await;
    for (head, parts) in LISTS {
        has(&raw(addr, &versioned(head), b"").await, parts);
    }
    for (verb, body, parts) in VERBS {
        let head = format!("POST /ghostlight/v1/{verb} HTTP/1.1\r\nContent-Type: application/json");
        has(&raw(addr, &head, body.as_bytes()).await, parts);
    }
    // What a web page could send from an operator's browser without asking first.
    let plain = "POST /ghostlight/v1/drain HTTP/1.1\r\nContent-Type: text/plain";
    has(&raw(addr, plain, b"{}").await, &["415", "application/json"]);
}

#[tokio::test]
async fn a_listener_ends_with_its_requests_answered() {
    let (addr, end) = listen(Api::Dapr, &[]).await;
    has(
        &raw(addr, "GET /v1.0/healthz HTTP/1.1", b"").await,
        &["204"],
    );
    end.send_replace(true);
    // The port is free again as soon as the listener has ended.
    let again = ListenAddr {
        addr,
        origin: AddrOrigin::Explicit,
    };
    let freed = async {
        while serve::bind(TEST_PORT, again, None).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), freed)
        .await
        .expect("the listener ends");
}

#[tokio::test]
async fn ports_move_only_when_nobody_chose_them() {
    let any = ListenAddr {
        addr: "127.0.0.1:0".parse().unwrap(),
        origin: AddrOrigin::Explicit,
    };
    let taken = serve::bind(TEST_PORT, any, None).await.unwrap();
    let addr = taken.local_addr().unwrap();
    let explicit = serve::bind(TEST_PORT, ListenAddr { addr, ..any }, None).await;
    let error = explicit.expect_err("the port is taken");
    assert_eq!(error.code(), Code::PortInUse);
    has(
        &error.to_string(),
        &["a test", "another one with --test-port"],
    );
    let default = ListenAddr {
        addr,
        origin: AddrOrigin::Default,
    };
    let moved = serve::bind(TEST_PORT, default, None).await.unwrap();
    assert_ne!(moved.local_addr().unwrap().port(), addr.port());
}

#[test]
fn a_kept_port_is_tried_first() {
    let candidates: Vec<u16> = serve::candidates(3500, Some(3502)).take(4).collect();
    assert_eq!(candidates, [3502, 3500, 3501, 3503]);
    assert_eq!(serve::candidates(65_535, None).count(), 1);
}

#[tokio::test]
async fn health_gets_through_while_all_connections_are_held() {
    let limits = serve::Limits {
        connections: 3,
        ..serve::Limits::default()
    };
    let (addr, _end) = listen_within(limits, Api::Dapr, &[]).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        let drip =
            "POST /v1.0/actors/c/i/method/m HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n1";
        stream.write_all(drip.as_bytes()).await.unwrap();
        held.push(stream);
    }
    has(
        &raw(addr, "GET /v1.0/healthz HTTP/1.1", b"").await,
        &["204"],
    );
    let call = "POST /v1.0/actors/c/i/method/m HTTP/1.1";
    has(
        &raw(addr, call, b"1").await,
        &["429", "E0117", "retry-after"],
    );
    // What they sent is complete now: they are served, and their places are free again.
    for mut stream in held {
        stream.write_all(b"23456789").await.unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
    }
}

#[tokio::test]
async fn a_connection_that_rests_is_closed_and_one_with_a_request_is_not() {
    let limits = serve::Limits {
        rest: Duration::from_millis(300),
        ..serve::Limits::default()
    };
    let (addr, _end) = listen_within(limits, Api::Dapr, &[]).await;
    // HTTP/2 with prior knowledge: preface, empty SETTINGS, then nothing.
    let mut resting = TcpStream::connect(addr).await.unwrap();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";
    resting.write_all(preface).await.unwrap();
    let mut busy = TcpStream::connect(addr).await.unwrap();
    let drip = "POST /v1.0/actors/c/i/method/m HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n1";
    busy.write_all(drip.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let closed = resting.read_to_end(&mut answer);
    let closed = tokio::time::timeout(Duration::from_secs(10), closed).await;
    assert!(closed.is_ok(), "it rests for ever");
    busy.write_all(b"2").await.unwrap();
    let mut answer = [0; 12];
    busy.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
}

#[tokio::test]
async fn metadata_keeps_what_is_put() {
    let (addr, _end) = listen(Api::Dapr, &[]).await;
    let put = "PUT /v1.0/metadata/cliPID HTTP/1.1";
    has(&raw(addr, put, b"4711").await, &["204"]);
    let read = raw(addr, "GET /v1.0/metadata HTTP/1.1", b"").await;
    has(&read, &["\"cliPID\":\"4711\"", "\"daprRuntimeVersion\""]);
    has(
        &raw(addr, "POST /v1.0/metadata/x HTTP/1.1", b"").await,
        &["405", "allow: PUT"],
    );
}
