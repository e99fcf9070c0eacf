//! The contract of state, reminders, timers, health, metadata and shutdown over HTTP.

use std::sync::atomic::Ordering;

use super::*;
use crate::api::app_calls::{HostState, PlacementState, RuntimeStatus};
use crate::api::sidecar::{AppConnection, AppHealth, ComponentView, SubscriptionOrigin};
use crate::pubsub::wanted::Wanted;
use fake::FakeApp;

/// Request line, body, what the answer has, and what the application's side was asked; empty:
/// nothing.
type Row = (
    &'static str,
    &'static str,
    &'static [&'static str],
    &'static [&'static str],
);

const STATE: &[Row] = &[
    (
        "POST /v1.0/actors/bank/a/state",
        r#"[{"operation":"upsert","request":{"key":"k","value": {"n" : 1.50},"etag":"7","metadata":{"ttlInSeconds":"60"}}},
            {"operation":"delete","request":{"key":"old"}}]"#,
        &["204"],
        &[
            "default:bank/a StateTransaction",
            r#"key: "k", value: b"{\"n\" : 1.50}", ttl: Some(60s)"#,
            r#"Delete { key: "old" }"#,
        ],
    ),
    (
        // Names in whatever case, as Go reads them; those of metadata are the user's.
        "POST /v1.0/actors/bank/a/state",
        r#"[{"Operation":"upsert","REQUEST":{"Key":"k","Value": {"N" : 1},"Metadata":{"ttlInSeconds":"60"}}}]"#,
        &["204"],
        &[r#"key: "k", value: b"{\"N\" : 1}", ttl: Some(60s)"#],
    ),
    (
        // .NET says text/plain.
        "PUT /v1.0/actors/bank/a/state\r\nContent-Type: text/plain",
        r#"[{"operation":"upsert","request":{"key":"k","value":"text"}}] and more"#,
        &["204"],
        &[r#"value: b"\"text\"", ttl: None"#],
    ),
    (
        "PUT //v1.0/actors/bank/a%2Fb/state/",
        r#"[{"operation":"upsert","request":{"key":"k","value":null,"metadata":{"ttlInSeconds":"-1"}}}]"#,
        &["204"],
        &["bank/a/b", r#"value: b"null", ttl: None"#],
    ),
    (
        "POST /v1.0/actors/bank/a/state",
        "[]",
        &["204"],
        &["StateTransaction([])"],
    ),
    (
        "POST /v1.0/actors/bank/a/state",
        "null",
        &["204"],
        &["StateTransaction([])"],
    ),
    (
        "POST /v1.0/actors/bank/a/state",
        "",
        &[
            "400",
            "ERR_MALFORMED_REQUEST",
            "failed deserializing HTTP body: EOF",
        ],
        &["StateRefused"],
    ),
    (
        "POST /v1.0/actors/bank/a/state",
        "{",
        &[
            "400",
            "ERR_MALFORMED_REQUEST",
            "failed deserializing HTTP body: ",
        ],
        &["StateRefused"],
    ),
    (
        "POST /v1.0/actors/bank/a/state",
        r#"{"operation":1}"#,
        &["400", "ERR_MALFORMED_REQUEST"],
        &["StateRefused"],
    ),
    (
        "POST /v1.0/actors/bank/a/state",
        r#"[{"operation":"upsert","request":{"value":1}}]"#,
        &[
            "500",
            "ERR_ACTOR_STATE_TRANSACTION_SAVE",
            "error saving actor transaction state: missing key",
        ],
        &["StateRefused"],
    ),
    (
        "POST /v1.0/actors/bank/a/state",
        r#"[{"operation":"replace","request":{"key":"k"}}]"#,
        &[
            "500",
            "error saving actor transaction state: operation type replace not supported",
        ],
        &["StateRefused"],
    ),
    (
        "POST /v1.0/actors/bank/a/state",
        r#"[{"request":{"key":"k"}}]"#,
        &["500", "operation is empty"],
        &["StateRefused"],
    ),
    (
        "POST /v1.0/actors/bank/a/state",
        r#"[{"operation":"upsert"}]"#,
        &["500", "request data is empty"],
        &["StateRefused"],
    ),
    (
        "POST /v1.0/actors/bank/a/state",
        r#"[{"operation":"upsert","request":{"key":"k","metadata":{"ttlInSeconds":"soon"}}}]"#,
        &["500", "ERR_ACTOR_STATE_TRANSACTION_SAVE", "ttlInSeconds"],
        &["StateRefused"],
    ),
    (
        "GET /v1.0/actors/bank/a/state/k",
        "",
        &[
            "200 OK",
            "content-type: application/json",
            "\"raw \u{fffd}\"",
        ],
        &[r#"StateGet { key: "k" }"#],
    ),
    (
        "GET /v1.0/actors/bank/a/state/brief",
        "",
        &["200 OK", "metadata.ttlexpiretime: 2026-03-01T12:00:00Z"],
        &["brief"],
    ),
    (
        "GET /v1.0/actors/bank/a/state/a%2Fb%7C",
        "",
        &["200 OK"],
        &[r#"key: "a/b|""#],
    ),
    (
        "GET /v1.0/actors/bank/a/state/absent",
        "",
        &["204"],
        &["absent"],
    ),
    (
        // What gRPC wrote without a byte is no JSON.
        "GET /v1.0/actors/bank/a/state/empty",
        "",
        &["204 No Content"],
        &["empty"],
    ),
    (
        "GET /v1.0/actors/bank/a/state",
        "",
        &["405", "allow: POST, PUT"],
        &[],
    ),
    (
        "POST /v1.0/actors/bank/a/state/k",
        "",
        &["405", "allow: GET"],
        &[],
    ),
    (
        "GET /v1.0/actors/dapr.internal.x/a/state/k",
        "",
        &[
            "403",
            "ERR_ACTOR_TYPE_RESERVED",
            "is reserved for the Dapr workflow runtime",
        ],
        &[],
    ),
    (
        "GET /v1.0/actors/bank/a%23/state/k",
        "",
        &["400", "ERR_BAD_REQUEST", "invalid actorId:"],
        &[],
    ),
];

const SCHEDULES: &[Row] = &[
    (
        "POST /v1.0/actors/bank/a/reminders/r",
        r#"{"DueTime":"1s","PERIOD":"2s","Data":{"A":1},"Overwrite":false,"Failure_Policy":{"Drop":{}}}"#,
        &["204"],
        &[
            r#"due_time: "1s", period: "2s", ttl:"#,
            r#"data: Some(b"{\"A\":1}")"#,
            "overwrite: Refuse, failure_policy: Some(Drop)",
        ],
    ),
    (
        "POST /v1.0/actors/bank/a/timers/t",
        r#"{"duetime":"1s","CallBack":"tick"}"#,
        &["204"],
        &["TimerRegister", r#"due_time: "1s""#, r#"callback: "tick""#],
    ),
    (
        "POST /v1.0/actors/bank/a/reminders/r",
        "{}",
        &["204"],
        &[
            "ReminderRegister",
            r#"name: "r", when: When { due_time: "", period: "", ttl: "" }, data: None"#,
            "overwrite: Replace, failure_policy: None",
        ],
    ),
    (
        "PUT /v1.0/actors/bank/a/reminders/a%7C%7Cb@c",
        "{\"dueTime\":\"0h0m2s0ms0\u{3bc}s\",\"period\":\"R4/PT5S\",\"ttl\":\"1h\",\"data\": {\"x\" : [1]},\
         \"overwrite\":false,\"failure_policy\":{\"constant\":{\"interval\":{\"seconds\":2},\"max_retries\":5}}}",
        &["204"],
        &[
            r#"name: "a||b@c""#,
            "due_time: \"0h0m2s0ms0\u{3bc}s\", period: \"R4/PT5S\", ttl: \"1h\"",
            r#"data: Some(b"{\"x\" : [1]}")"#,
            "overwrite: Refuse",
            "Constant { interval: 2s, max_retries: Some(5) }",
        ],
    ),
    (
        "POST /v1.0/actors/bank/a/reminders/r",
        r#"{"data":null,"overwrite":true,"failure_policy":{"drop":{}},"ttl":null,"unknown":1}"#,
        &["204"],
        &[
            r#"data: Some(b"null")"#,
            "Replace",
            "failure_policy: Some(Drop)",
        ],
    ),
    (
        "POST /v1.0/actors/bank/a/reminders/r",
        "",
        &["400", "ERR_MALFORMED_REQUEST", "EOF"],
        &[],
    ),
    (
        "POST /v1.0/actors/bank/a/reminders/r",
        r#"{"dueTime":5}"#,
        &["400", "ERR_MALFORMED_REQUEST"],
        &[],
    ),
    (
        "POST /v1.0/actors/bank/a/reminders/r",
        r#"{"dueTime":"soon"}"#,
        &[
            "500",
            "ERR_ACTOR_REMINDER_CREATE",
            "error creating actor reminder: error parsing reminder due time: unsupported time/duration format: soon",
        ],
        &[],
    ),
    (
        "POST /v1.0/actors/bank/a/reminders/r",
        r#"{"period":"R0/PT1S"}"#,
        &["500", "invalid reminder period: has zero repetitions"],
        &[],
    ),
    (
        "POST /v1.0/actors/bank/a/reminders/r",
        r#"{"ttl":"2020-01-01T00:00:00Z"}"#,
        &["500", "reminder bank||a||r has already expired"],
        &[],
    ),
    (
        "POST /v1.0/actors/bank/a/reminders/bad%2Fname",
        "{}",
        &[
            "400",
            "ERR_BAD_REQUEST",
            "name contains forbidden character",
        ],
        &[],
    ),
    (
        "POST /v1.0/actors/bank/a/reminders/a%0Ab",
        "{}",
        &["400", "control character at position 1"],
        &[],
    ),
    (
        "POST /v1.0/actors/bank/a/reminders/%2e%2e",
        "{}",
        &["400", "path traversal"],
        &[],
    ),
    (
        "POST /v1.0/actors/bank/a%2Fb/reminders/r",
        "{}",
        &["400", "ERR_BAD_REQUEST"],
        &[],
    ),
    (
        "GET /v1.0/actors/bank/a/reminders/r",
        "",
        &[
            "200 OK",
            "application/json",
            r#"{"actorID":"a","actorType":"bank","data":{"a": 1},"dueTime":"1s","period":"@every 1s","ttl":"2026-03-01T12:00:00.5Z"}"#,
        ],
        &[r#"ReminderGet { name: "r" }"#],
    ),
    (
        "GET /v1.0/actors/bank/a/reminders/bare",
        "",
        &[
            "200 OK",
            "\r\n\r\n{\"actorID\":\"a\",\"actorType\":\"bank\"}",
        ],
        &["bare"],
    ),
    (
        "GET /v1.0/actors/bank/a/reminders/absent",
        "",
        &[
            "404",
            "ERR_ACTOR_REMINDER_NOT_FOUND",
            "actor reminder not found: absent",
        ],
        &["absent"],
    ),
    (
        "DELETE /v1.0/actors/bank/a/reminders/r",
        "",
        &["204"],
        &[r#"ReminderUnregister { name: "r" }"#],
    ),
    (
        "PATCH /v1.0/actors/bank/a/reminders/r",
        "",
        &["405", "allow: GET, POST, PUT, DELETE"],
        &[],
    ),
    (
        "POST /v1.0/actors/bank/a/timers/t",
        r#"{"dueTime":"2s","period":"1m","callback":"ring","data":"x"}"#,
        &["204"],
        &[
            "TimerRegister",
            r#"due_time: "2s", period: "1m", ttl: "" }, data: Some(b"\"x\"")"#,
            r#"callback: "ring""#,
        ],
    ),
    (
        "POST /v1.0/actors/bank/a/timers/t",
        r#"{"period":"often"}"#,
        &[
            "500",
            "ERR_ACTOR_TIMER_CREATE",
            "error creating actor timer: invalid timer period: parse error: unsupported duration format: often",
        ],
        &[],
    ),
    (
        "POST /v1.0/actors/bank/a/timers/t",
        "",
        &["400", "ERR_MALFORMED_REQUEST"],
        &[],
    ),
    (
        "DELETE /v1.0/actors/bank/a/timers/t",
        "",
        &["204"],
        &[r#"TimerUnregister { name: "t" }"#],
    ),
    (
        "GET /v1.0/actors/bank/a/timers/t",
        "",
        &["405", "allow: POST, PUT, DELETE"],
        &[],
    ),
    (
        "POST /v1.0/actors/bank/a/nothing/t",
        "",
        &["404", "no such path"],
        &[],
    ),
];

const ABSENT: &[Row] = &[
    (
        "GET /v1.0/state/s/k",
        "",
        &["501", "state is not supported", "actors", "pub/sub"],
        &[],
    ),
    ("GET /v1.0/secrets/s/k", "", &["501"], &[]),
    ("POST /v1.0-beta1/workflows/d/n/start", "", &["501"], &[]),
    ("GET /v1.0/unheard", "", &["404"], &[]),
];

#[tokio::test]
async fn without_a_placement_address_nobody_is_invoked() {
    let app = FakeApp::new();
    app.set_hosting(|hosting| hosting.status = RuntimeStatus::Disabled);
    let limits = serve::Limits::default();
    let (addr, _end) = listen_with(limits, Api::Dapr, context(&[], app)).await;
    let head = "POST /v1.0/actors/c/alice/method/m HTTP/1.1";
    let parts = [
        "400",
        "ERR_ACTOR_NO_PLACEMENT",
        "placement service is not configured",
    ];
    has(&raw(addr, head, b"").await, &parts);
}

#[tokio::test]
async fn every_endpoint_of_an_application() {
    let app = FakeApp::new();
    let context = context(&[], app.clone());
    let (addr, _end) = listen_with(serve::Limits::default(), Api::Dapr, context).await;
    for (head, body, parts, asked) in [STATE, SCHEDULES, ABSENT].concat() {
        let before = app.asked();
        let answer = raw(addr, &versioned(head), body.as_bytes()).await;
        has(&answer, parts);
        let times = usize::from(!asked.is_empty());
        assert_eq!(app.asked() - before, times, "{head} {body}: {answer}");
        for part in asked {
            assert!(app.last().contains(part), "{part} is not in {}", app.last());
        }
    }
}

/// Id of the actor, then the answer to each of: transaction, get, register, delete, timer.
const REFUSALS: &[(&str, [&str; 5])] = &[
    (
        "missing",
        ["400 ERR_ACTOR_INSTANCE_MISSING \"actor instance is missing\""; 5],
    ),
    (
        "foreign",
        [
            "403 ERR_ACTOR_REMINDER_NON_HOSTED",
            "403 ERR_ACTOR_REMINDER_NON_HOSTED",
            "403 ERR_ACTOR_REMINDER_NON_HOSTED \"operations on actor reminders are only possible on hosted actor types\"",
            "403 ERR_ACTOR_REMINDER_NON_HOSTED",
            "500 ERR_ACTOR_TIMER_CREATE actor type not registered",
        ],
    ),
    (
        "twice",
        ["409 ERR_ACTOR_REMINDER_ALREADY_EXISTS \"actor reminder already exists: "; 5],
    ),
    (
        "storeless",
        ["500 ERR_ACTOR_RUNTIME_NOT_FOUND \"the state store is not configured to use the actor runtime.";
            5],
    ),
    (
        "appless",
        ["400 ERR_ACTOR_NO_APP_CHANNEL \"app channel is not initialized\""; 5],
    ),
    (
        "placeless",
        ["400 ERR_ACTOR_NO_PLACEMENT \"placement service is not configured\""; 5],
    ),
    (
        "nobody",
        ["404 ERR_ACTOR_NO_ADDRESS \"did not find address for actor 'bank||nobody'\""; 5],
    ),
    (
        "deep",
        ["500 ERR_ACTOR_STACK_DEPTH \"maximum stack depth exceeded\""; 5],
    ),
    (
        "closed",
        ["503 ERR_ACTOR_RUNTIME_CLOSED \"actor runtime is closed\""; 5],
    ),
    (
        "broken",
        [
            "500 ERR_ACTOR_STATE_TRANSACTION_SAVE \"error saving actor transaction state: it broke\"",
            "500 ERR_ACTOR_STATE_GET \"error getting actor state: it broke\"",
            "500 ERR_ACTOR_REMINDER_CREATE \"error creating actor reminder: it broke\"",
            "500 ERR_ACTOR_REMINDER_DELETE \"error deleting actor reminder: it broke\"",
            "500 ERR_ACTOR_TIMER_CREATE \"error creating actor timer: it broke\"",
        ],
    ),
    (
        "moving",
        ["503 ERR_GHOSTLIGHT_LEADER_MOVED it moved [E0216]"; 5],
    ),
    (
        "lost",
        ["500 ERR_GHOSTLIGHT_OUTCOME_UNKNOWN nobody knows [E0112]"; 5],
    ),
];

#[tokio::test]
async fn every_refusal_has_its_row() {
    let context = context(&[], FakeApp::new());
    let (addr, _end) = listen_with(serve::Limits::default(), Api::Dapr, context).await;
    let calls = [
        ("POST", "state", "[]"),
        ("GET", "state/k", ""),
        ("POST", "reminders/r", "{}"),
        ("DELETE", "reminders/r", ""),
        ("POST", "timers/t", "{}"),
    ];
    for (actor_id, expected) in REFUSALS {
        for ((verb, path, body), expected) in calls.iter().zip(expected) {
            let head = format!("{verb} /v1.0/actors/bank/{actor_id}/{path} HTTP/1.1");
            let answer = raw(addr, &head, body.as_bytes()).await;
            let mut words = expected.splitn(3, ' ');
            let status = format!("HTTP/1.1 {} ", words.next().unwrap());
            let error_code = format!("\"errorCode\":\"{}\"", words.next().unwrap());
            has(
                &answer,
                &[&status, &error_code, words.next().unwrap_or_default()],
            );
        }
    }
    let reminder = "GET /v1.0/actors/bank/broken/reminders/r HTTP/1.1";
    has(
        &raw(addr, reminder, b"").await,
        &[
            "500",
            "ERR_ACTOR_REMINDER_GET",
            "error getting actor reminder: it broke",
        ],
    );
}

#[tokio::test]
async fn without_an_application_nothing_is_hosted() {
    let (addr, _end) = listen(Api::Dapr, &[]).await;
    for (head, body, parts) in [
        (
            "POST /v1.0/actors/c/i/state",
            "[]",
            ["400", "ERR_ACTOR_INSTANCE_MISSING"],
        ),
        (
            "GET /v1.0/actors/c/i/state/k",
            "",
            ["400", "ERR_ACTOR_NO_APP_CHANNEL"],
        ),
        (
            "POST /v1.0/actors/c/i/reminders/r",
            "{}",
            ["403", "ERR_ACTOR_REMINDER_NON_HOSTED"],
        ),
        (
            "POST /v1.0/actors/c/i/timers/t",
            "{}",
            ["500", "actor type not registered"],
        ),
        ("DELETE /v1.0/actors/c/i/timers/t", "", ["204", ""]),
    ] {
        has(&raw(addr, &versioned(head), body.as_bytes()).await, &parts);
    }
}

#[tokio::test]
async fn health_waits_for_the_application_and_outbound_does_not() {
    let app = FakeApp::new();
    let context = context(&[], app.clone());
    let (addr, _end) = listen_with(serve::Limits::default(), Api::Dapr, context).await;
    app.set_hosting(|hosting| hosting.unready = vec!["app", "actors"]);
    has(
        &raw(addr, "GET /v1.0/healthz HTTP/1.1", b"").await,
        &[
            "500",
            "ERR_HEALTH_NOT_READY",
            "dapr is not ready: [app actors]",
        ],
    );
    has(
        &raw(addr, "GET /v1.0/healthz/outbound HTTP/1.1", b"").await,
        &["204"],
    );
    app.set_hosting(|hosting| hosting.unready.clear());
    has(
        &raw(addr, "GET /v1.0/healthz HTTP/1.1", b"").await,
        &["204"],
    );
}

/// Not while the node is there and belongs to a cluster, or has yet to find one.
#[tokio::test]
async fn outbound_waits_for_the_node() {
    let mut context = context(&[], FakeApp::new());
    // Its core is gone.
    context.handle = NodeHandle::new().0;
    let (addr, _end) = listen_with(serve::Limits::default(), Api::Dapr, context).await;
    let answer = raw(addr, "GET /v1.0/healthz/outbound HTTP/1.1", b"").await;
    let parts = [
        "500",
        "\"errorCode\":\"ERR_OUTBOUND_HEALTH_NOT_READY\"",
        "dapr outbound is not ready: [node ending]",
    ];
    has(&answer, &parts);
}

/// What metadata has in all its fields.
pub(crate) fn full_sidecar() -> Sidecar {
    Sidecar {
        enabled_features: vec!["ActorStateTTL".into()],
        components: vec![ComponentView {
            name: "store".into(),
            kind: "state.redis".into(),
            version: "v1".into(),
            capabilities: vec!["ETAG", "ACTOR"],
        }]
        .into(),
        http_endpoints: vec!["outside".into()],
        app: Some(AppConnection {
            port: 6_001,
            protocol: "http",
            channel_address: "127.0.0.1".into(),
            max_concurrency: Some(4),
            health: Some(AppHealth {
                path: "/healthz".into(),
                interval: Duration::from_secs(5),
                timeout: Duration::from_millis(500),
                threshold: 3,
            }),
        }),
    }
}

/// A subscription with everything.
pub(crate) fn wanted() -> Wanted {
    Wanted {
        pubsub: "bus".into(),
        topic: "orders".into(),
        metadata: [("k".to_owned(), "v".to_owned())].into(),
        rules: vec![("event.type == 'x'".into(), "/x".into())],
        default_path: Some("/".into()),
        dead_letter_topic: Some("dead".into()),
        bulk: None,
        origin: SubscriptionOrigin::Programmatic,
        place: "x".into(),
    }
}

#[tokio::test]
async fn metadata_has_all_its_fields() {
    let app = FakeApp::new();
    let context = Context {
        sidecar: full_sidecar(),
        ..context(&[], app.clone())
    };
    context.pubsub.declare("shop", vec![wanted()]);
    let (addr, _end) = listen_with(serve::Limits::default(), Api::Dapr, context).await;
    let read = raw(addr, "GET /v1.0/metadata HTTP/1.1", b"").await;
    let body = read.split_once("\r\n\r\n").unwrap().1;
    let all: serde_json::Value = serde_json::from_str(body).unwrap();
    let actors = serde_json::json!([
        {"type": "bank", "count": 3}, {"type": "counter", "count": 1}, {"type": "idle"}, {"type": "log"},
    ]);
    for (field, expected) in [
        ("id", serde_json::json!("n1")),
        ("runtimeVersion", serde_json::json!("1.18.3")),
        ("enabledFeatures", serde_json::json!(["ActorStateTTL"])),
        ("actors", actors.clone()),
        (
            "components",
            serde_json::json!([{
                "name": "store", "type": "state.redis", "version": "v1", "capabilities": ["ETAG", "ACTOR"],
            }]),
        ),
        ("httpEndpoints", serde_json::json!([{"name": "outside"}])),
        (
            "appConnectionProperties",
            serde_json::json!({
                "port": 6001, "protocol": "http", "channelAddress": "127.0.0.1", "maxConcurrency": 4,
                "health": {
                    "healthCheckPath": "/healthz", "healthProbeInterval": "5s", "healthProbeTimeout": "500ms",
                    "healthThreshold": 3,
                },
            }),
        ),
        (
            "subscriptions",
            serde_json::json!([{
                "pubsubname": "bus", "topic": "orders", "metadata": {"k": "v"}, "deadLetterTopic": "dead",
                "type": "PROGRAMMATIC",
                "rules": [{"match": "event.type == 'x'", "path": "/x"}, {"match": "", "path": "/"}],
            }]),
        ),
        (
            "actorRuntime",
            serde_json::json!({
                "runtimeStatus": "RUNNING", "hostReady": true, "placement": "placement: connected",
                "activeActors": actors,
            }),
        ),
    ] {
        assert_eq!(all[field], expected, "{field} of {body}");
    }
    assert_eq!(all["extended"]["daprRuntimeVersion"], "1.18.3");
    app.set_hosting(|hosting| {
        hosting.status = RuntimeStatus::Initializing;
        hosting.host = HostState::NotReady;
        hosting.placement = PlacementState::Unknown;
    });
    let read = raw(addr, "GET /v1.0/metadata HTTP/1.1", b"").await;
    has(
        &read,
        &[
            "\"INITIALIZING\"",
            "\"hostReady\":false",
            "\"placement\":\"\"",
        ],
    );
}

#[tokio::test]
async fn shutdown_is_answered_and_then_ends_the_node() {
    let app = FakeApp::new();
    for (header, forced) in [("", false), ("\r\ndapr-force-shutdown: true", true)] {
        let context = context(&[], app.clone());
        let (flag, handle) = (Arc::clone(&context.forced), context.handle.clone());
        let (addr, _end) = listen_with(serve::Limits::default(), Api::Dapr, context).await;
        has(
            &raw(addr, "GET /v1.0/shutdown HTTP/1.1", b"").await,
            &["405", "allow: POST"],
        );
        let head = format!("POST /v1.0/shutdown HTTP/1.1{header}");
        has(&raw(addr, &head, b"").await, &["204"]);
        assert_eq!(flag.load(Ordering::SeqCst), forced);
        // The task that plays the core ends with the order: then everything is refused.
        let ended = async {
            while !matches!(
                handle.admin(AdminRequest::Status).await,
                AdminAnswer::Refused {
                    code: Code::ShuttingDown,
                    ..
                }
            ) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), ended)
            .await
            .expect("the order arrives");
    }
}

#[tokio::test]
async fn a_body_over_the_sidecars_own_limit_is_refused() {
    let context = Context {
        body_max: 64,
        ..context(&[], FakeApp::new())
    };
    let (addr, _end) = listen_with(serve::Limits::default(), Api::Dapr, context).await;
    let body = format!("{{\"data\":\"{}\"}}", "x".repeat(64));
    let head = "POST /v1.0/actors/bank/a/reminders/r HTTP/1.1";
    has(
        &raw(addr, head, body.as_bytes()).await,
        &["413", "ERR_BODY_READ"],
    );
}
