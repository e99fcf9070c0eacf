//! Rules that hold for every endpoint of actors: names, tokens, bodies, what travels beside them,
//! both versions of HTTP.

use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::*;
use fake::FakeApp;

/// Everything that can be asked below an actor, with a body that is fine.
const ENDPOINTS: [(&str, &str, &str); 13] = [
    ("GET", "method/m", ""),
    ("POST", "method/m", "1"),
    ("PUT", "method/m", "1"),
    ("DELETE", "method/m", ""),
    ("POST", "state", "[]"),
    ("PUT", "state", "[]"),
    ("GET", "state/k", ""),
    ("POST", "reminders/r", "{}"),
    ("PUT", "reminders/r", "{}"),
    ("GET", "reminders/r", ""),
    ("DELETE", "reminders/r", ""),
    ("POST", "timers/t", "{}"),
    ("DELETE", "timers/t", ""),
];

async fn applications_api(tokens: &[&str]) -> (SocketAddr, watch::Sender<bool>) {
    let context = context(tokens, FakeApp::new());
    listen_with(serve::Limits::default(), Api::Dapr, context).await
}

async fn ask(addr: SocketAddr, verb: &str, path: &str, body: &str) -> String {
    let head = format!("{verb} /v1.0/actors/{path} HTTP/1.1");
    raw(addr, &head, body.as_bytes()).await
}

#[tokio::test]
async fn no_endpoint_takes_a_name_that_is_none() {
    let (addr, _end) = applications_api(&[]).await;
    for (verb, path, body) in ENDPOINTS {
        for wrong in ["a%23b", "a%3Fb", "a%00b", "a%5Cb", "a%0Ab", "%2e", "%2E%2e"] {
            for (actor, what) in [
                (format!("bank/{wrong}"), "\"invalid actorId:"),
                (format!("{wrong}/a"), "\"invalid actorType:"),
            ] {
                let answer = ask(addr, verb, &format!("{actor}/{path}"), body).await;
                has(&answer, &["HTTP/1.1 400", "\"ERR_BAD_REQUEST\"", what]);
            }
        }
    }
}

#[tokio::test]
async fn no_endpoint_takes_a_type_that_dapr_keeps_to_itself() {
    let (addr, _end) = applications_api(&[]).await;
    for (verb, path, body) in ENDPOINTS {
        let path = format!("dapr.internal.default.shop.workflow/a/{path}");
        let words = r#""actor type \"dapr.internal.default.shop.workflow\" is reserved for the Dapr workflow runtime; direct actor API access is not permitted"#;
        has(
            &ask(addr, verb, &path, body).await,
            &["HTTP/1.1 403", "\"ERR_ACTOR_TYPE_RESERVED\"", words],
        );
    }
}

/// A method is cleaned like a path, and can never leave its actor; Dapr's own rows.
#[tokio::test]
async fn methods() {
    let (addr, _end) = applications_api(&[]).await;
    for (method, found) in [
        ("mymethod", "mymethod"),
        ("admin%2F..%2Flegit", "legit"),
        ("admin/../legit", "legit"),
        ("..%2F..%2Fsecret", "secret"),
        ("a%2F.%2F%2Fb", "a/b"),
        // The query is none of its business.
        ("legit?redirect=attacker.com", "legit"),
    ] {
        let answer = ask(addr, "POST", &format!("c/i/method/{method}"), "").await;
        has(
            &answer,
            &["200 OK", &format!("\r\n\r\ndefault:c/i {found} None")],
        );
    }
    for wrong in [
        "legit%3Fredirect=attacker.com",
        "legit%23fragment",
        "legit%00evil",
        "legit%0Devil",
        "legit%0Aevil",
        "legit%09evil",
        "%2e%2e",
    ] {
        let answer = ask(addr, "POST", &format!("c/i/method/{wrong}"), "").await;
        has(
            &answer,
            &["HTTP/1.1 400", "\"ERR_BAD_REQUEST\"", "\"invalid method:"],
        );
    }
}

#[tokio::test]
async fn names_of_reminders_and_timers() {
    let (addr, _end) = applications_api(&[]).await;
    let long = "a".repeat(600);
    for kind in ["reminders", "timers"] {
        for (wrong, why) in [
            ("bad%2Fname", "name contains forbidden character"),
            ("bad%5Cname", "name contains forbidden character"),
            ("bad%23name", "name contains forbidden character"),
            ("bad%3Fname", "name contains forbidden character"),
            ("bad%00name", "name contains forbidden character"),
            (
                "..%2F..%2Fmethod%2Fevil",
                "name contains forbidden character",
            ),
            (
                "bad%0Aname",
                "name contains control character at position 3",
            ),
            (
                "bad%0Dname",
                "name contains control character at position 3",
            ),
            ("%2e", "name is a path traversal sequence"),
            ("%2e%2e", "name is a path traversal sequence"),
            (&long, "name has 600 bytes"),
        ] {
            let answer = ask(addr, "POST", &format!("bank/a/{kind}/{wrong}"), "{}").await;
            let words = format!("\"invalid request: {why}");
            has(&answer, &["HTTP/1.1 400", "\"ERR_BAD_REQUEST\"", &words]);
        }
        for fine in ["my-name", "a%7C%7Cb", "a@b", "%C3%BC", "..."] {
            let answer = ask(addr, "PUT", &format!("bank/a/{kind}/{fine}"), "{}").await;
            has(&answer, &["HTTP/1.1 204"]);
        }
    }
}

#[tokio::test]
async fn bodies_that_are_no_json_of_their_kind() {
    let (addr, _end) = applications_api(&[]).await;
    let nothing: &[&str] = &["", " \r\n", "{", "nope", "7", "\"text\""];
    let schedules: &[&str] = &[
        "[]",
        "[\"1s\"]",
        r#"{"dueTime":1}"#,
        r#"{"period":{}}"#,
        r#"{"ttl":5}"#,
        r#"{"data":}"#,
    ];
    let reminders: &[&str] = &[
        r#"{"overwrite":"yes"}"#,
        r#"{"failure_policy":{"constant":{"interval":"soon"}}}"#,
        r#"{"failure_policy":{"constant":{"interval":{"seconds":-1}}}}"#,
        r#"{"failure_policy":{"constant":{"interval":{"nanos":1000000000}}}}"#,
        r#"{"failure_policy":{"constant":{"max_retries":-1}}}"#,
    ];
    for (path, bodies) in [
        ("bank/a/state", [nothing, &["{}", "[1]"]].concat()),
        (
            "bank/a/reminders/r",
            [nothing, schedules, reminders].concat(),
        ),
        ("bank/a/timers/t", [nothing, schedules].concat()),
    ] {
        for body in bodies {
            let answer = ask(addr, "POST", path, body).await;
            let words = "\"failed deserializing HTTP body: ";
            assert!(answer.contains(words), "{path} {body}: {answer}");
            has(&answer, &["HTTP/1.1 400", "\"ERR_MALFORMED_REQUEST\""]);
        }
    }
}

/// A body that breaks off, and one whose length nobody declared.
#[tokio::test]
async fn bodies_that_cannot_be_read() {
    let context = Context {
        body_max: 64,
        ..context(&[], FakeApp::new())
    };
    let (addr, _end) = listen_with(serve::Limits::default(), Api::Dapr, context).await;
    for path in ["method/m", "state", "reminders/r", "timers/t"] {
        for (chunks, status) in [
            ("2\r\n[]\r\nnot a length\r\n", "HTTP/1.1 400"),
            (
                &*format!("41\r\n{}\r\n0\r\n\r\n", "x".repeat(65)),
                "HTTP/1.1 413",
            ),
        ] {
            let mut stream = TcpStream::connect(addr).await.unwrap();
            let request = format!(
                "POST /v1.0/actors/bank/a/{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
                 Transfer-Encoding: chunked\r\n\r\n{chunks}"
            );
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            drop(stream.read_to_end(&mut answer).await);
            let answer = String::from_utf8_lossy(&answer).into_owned();
            has(&answer, &[status, "\"ERR_BODY_READ\""]);
        }
    }
}

#[tokio::test]
async fn every_endpoint_asks_for_the_token() {
    let (addr, _end) = applications_api(&["secret"]).await;
    for (verb, path, body) in ENDPOINTS {
        for token in [
            "",
            "\r\ndapr-api-token: wrong",
            "\r\nAuthorization: Bearer secret",
        ] {
            let head = format!("{verb} /v1.0/actors/bank/a/{path} HTTP/1.1{token}");
            let answer = raw(addr, &head, body.as_bytes()).await;
            has(&answer, &["HTTP/1.1 401"]);
            assert!(
                answer.ends_with("\r\n\r\ninvalid api token"),
                "{path}: {answer}"
            );
        }
        let head = format!("{verb} /v1.0/actors/bank/a/{path} HTTP/1.1\r\nDapr-Api-Token: secret");
        let answer = raw(addr, &head, body.as_bytes()).await;
        assert!(!answer.contains(" 401 "), "{path}: {answer}");
    }
    for path in ["/v1.0/healthz", "/v1.0/healthz/outbound", "//v1.0/healthz/"] {
        has(
            &raw(addr, &format!("GET {path} HTTP/1.1"), b"").await,
            &["204"],
        );
    }
    for (verb, path) in [
        ("GET", "/v1.0/metadata"),
        ("PUT", "/v1.0/metadata/k"),
        ("POST", "/v1.0/shutdown"),
        ("GET", "/v1.0/state/s/k"),
    ] {
        let answer = raw(addr, &format!("{verb} {path} HTTP/1.1"), b"").await;
        has(&answer, &["HTTP/1.1 401", "invalid api token"]);
    }
}

/// Headers and query of a caller reach the application, and those of its answer the caller; what
/// concerns a connection, or this API alone, does not.
#[tokio::test]
async fn what_travels_beside_a_body() {
    let (addr, _end) = applications_api(&["secret"]).await;
    let head = "PUT /v1.0/actors/c/heard/method/m?by=name&x=%20 HTTP/1.1\r\n\
                X-DaprRequestHeader: <ActorHeader xmlns=\"urn:actors\"/>\r\n\
                Content-Type: application/octet-stream; charset=utf-8\r\n\
                Dapr-Reentrancy-Id: r-1\r\n\
                traceparent: 00-1-2-01\r\n\
                Ghostlight-Deadline-Ms: 5000\r\n\
                Idempotency-Key: k\r\n\
                Expect: 100-continue\r\n\
                dapr-api-token: secret";
    let answer = raw(addr, head, b"1").await;
    let (_, heard) = answer
        .strip_prefix("HTTP/1.1 100 Continue\r\n\r\n")
        .unwrap_or(&answer)
        .split_once("\r\n\r\n")
        .unwrap();
    let mut heard: Vec<&str> = heard.lines().collect();
    heard.sort_unstable();
    assert_eq!(
        heard,
        [
            ":query: by=name&x=%20",
            "content-type: application/octet-stream; charset=utf-8",
            "dapr-reentrancy-id: r-1",
            "traceparent: 00-1-2-01",
            "x-daprrequestheader: <ActorHeader xmlns=\"urn:actors\"/>",
        ]
    );
    let head = "GET /v1.0/actors/c/told/method/m HTTP/1.1\r\ndapr-api-token: secret";
    let answer = raw(addr, head, b"").await;
    has(
        &answer,
        &[
            "HTTP/1.1 200 OK",
            "\r\ncontent-type: application/octet-stream\r\n",
            "\r\nx-daprerrorresponseheader: <ActorResponseHeader/>\r\n",
            "\r\nx-twice: 1\r\nx-twice: 2\r\n",
            "\r\ncontent-length: 8\r\n",
            "\r\n\r\n<fault/>",
        ],
    );
    assert!(!answer.to_lowercase().contains("keep-alive"), "{answer}");
    assert!(!answer.contains("999"), "{answer}");
}

/// .NET remoting puts a whole message header into one of HTTP's.
#[tokio::test]
async fn a_large_header_is_taken() {
    let (addr, _end) = applications_api(&[]).await;
    let header = "x".repeat(12 << 10);
    let head =
        format!("PUT /v1.0/actors/c/heard/method/m HTTP/1.1\r\nX-DaprRequestHeader: {header}");
    let answer = raw(addr, &head, b"1").await;
    has(&answer, &["HTTP/1.1 200"]);
    assert!(answer.contains(&header), "it is not whole");
}

/// As after `DAPR_HTTP_DISABLE_H2C`: HTTP/1.1 is spoken as ever.
#[tokio::test]
async fn http2_is_not_spoken_where_it_is_switched_off() {
    let context = Context {
        h2c: H2c::Off,
        ..context(&[], FakeApp::new())
    };
    let (addr, _end) = listen_with(serve::Limits::default(), Api::Dapr, context).await;
    let answer = raw(addr, "GET /v1.0/healthz HTTP/1.1", b"").await;
    has(&answer, &["HTTP/1.1 "]);
    let stream = TcpStream::connect(addr).await.unwrap();
    let opened =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (mut sender, connection) = opened.unwrap();
    drop(tokio::spawn(connection));
    let request = hyper::Request::builder()
        .uri(format!("http://{addr}/v1.0/healthz"))
        .body(Full::new(Bytes::new()));
    let response = sender.send_request(request.unwrap()).await;
    response.expect_err("nobody there speaks HTTP/2");
}

/// Cleartext HTTP/2 with prior knowledge, on the port of HTTP/1.1.
#[tokio::test]
async fn http2_is_spoken_on_the_same_port() {
    let (addr, _end) = applications_api(&["secret"]).await;
    let stream = TcpStream::connect(addr).await.unwrap();
    let opened =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (mut sender, connection) = opened.unwrap();
    drop(tokio::spawn(connection));
    for (token, path, status, words) in [
        ("secret", "c/i/method/m", 200, "default:c/i m None None 2"),
        ("wrong", "c/i/method/m", 401, "invalid api token"),
        ("secret", "bank/a/state/k", 200, "raw"),
        (
            "secret",
            "bank/missing/state/k",
            400,
            "\"ERR_ACTOR_INSTANCE_MISSING\"",
        ),
    ] {
        let verb = if path.contains("state") {
            "GET"
        } else {
            "POST"
        };
        let request = hyper::Request::builder()
            .method(verb)
            .uri(format!("http://{addr}/v1.0/actors/{path}"))
            .header("dapr-api-token", token)
            .body(Full::new(Bytes::from_static(b"42")));
        let response = sender.send_request(request.unwrap()).await.unwrap();
        assert_eq!(response.status(), status, "{path}");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let body = String::from_utf8_lossy(&body).into_owned();
        assert!(body.contains(words), "{words} is not in {body}");
    }
}
