//! Bad input at the actor API of the built binary: every refusal with its whole answer, at each of
//! three nodes, so that it is the same wherever the actor lives.

use std::time::{Duration, Instant};

use ghostlight_chaos::bad_input::{Refused, check_pages, check_pause};
use ghostlight_chaos::client::Client;
use ghostlight_chaos::cluster::Cluster;
use ghostlight_chaos::flood::Flood;
use ghostlight_chaos::http::{Ask, Connection, Reply};
use ghostlight_chaos::scenario::{FEW_PARTITIONS, SERVED_TIME_MAX, turn};
use ghostlight_chaos::wait::until;

/// Largest body of one request.
const BODY_BYTES_MAX: usize = 4 << 20;
/// A deadline that a call without a leader has.
const DEADLINE: Duration = Duration::from_millis(1_500);
/// How much longer than the deadline an answer may take on a busy machine.
const DEADLINE_SLACK: Duration = Duration::from_secs(1);

const BAD_REQUEST: (u16, &str) = (400, "ERR_BAD_REQUEST");

fn names() -> Vec<Refused> {
    let mut cases = Vec::new();
    let mut case = |path: &str, code: &'static str, message: &str| {
        let (status, error_code) = BAD_REQUEST;
        let path = format!("/v1.0/actors/{path}");
        cases.push(Refused::post(&path, (status, error_code, code), message));
    };
    for (escaped, why) in [
        ("a%23b", "character '#' is not allowed"),
        ("a%3Fb", "character '?' is not allowed"),
        ("a%5Cb", "character '\\\\' is not allowed"),
        ("a%00b", "character '\\0' is not allowed"),
        ("a%0Ab", "character '\\n' is not allowed"),
        ("%7F", "character '\\u{7f}' is not allowed"),
        // Written out, dots are part of the path, which is cleaned before anything is called.
        ("%2E", "\".\" is not a name"),
        ("%2E%2E", "\"..\" is not a name"),
    ] {
        let in_type = format!("invalid actorType: {why}");
        case(&format!("{escaped}/a/method/get"), "E0101", &in_type);
        let in_id = format!("invalid actorId: {why}");
        case(&format!("counter/{escaped}/method/get"), "E0102", &in_id);
    }
    let long = "x".repeat(1_025);
    let why = "1025 bytes, at most 1024 are allowed";
    case(
        &format!("{long}/a/method/get"),
        "E0101",
        &format!("invalid actorType: {why}"),
    );
    case(
        &format!("counter/{long}/method/get"),
        "E0102",
        &format!("invalid actorId: {why}"),
    );
    case(
        &format!("counter/a/method/{long}"),
        "E0103",
        &format!("invalid method: {why}"),
    );
    for (escaped, why) in [
        ("a%23b", "character '#' is not allowed"),
        ("a%3Fb", "character '?' is not allowed"),
        ("a%00b", "character '\\0' is not allowed"),
        ("a%1Bb", "character '\\u{1b}' is not allowed"),
        ("%2E%2E", "it is empty"),
        ("a%2F..", "it is empty"),
    ] {
        let message = format!("invalid method: {why}");
        case(&format!("counter/a/method/{escaped}"), "E0103", &message);
    }
    cases
}

fn unknown_things() -> Vec<Refused> {
    let unknown_method = |path: &str, method: &str| {
        let message = format!(
            "error invoke actor method: actor method not found: actors/counter/a/method/{method}: \
             actor type `counter` has no method `{method}`. It has: add, get"
        );
        let path = format!("/v1.0/actors/counter/a/method/{path}");
        Refused::post(&path, (500, "ERR_ACTOR_INVOKE_METHOD", "E0107"), &message)
    };
    vec![
        Refused::post(
            "/v1.0/actors/ghost/a/method/get",
            (404, "ERR_ACTOR_NO_ADDRESS", "E0106"),
            "did not find address for actor 'ghost||a': no node hosts actor type `ghost`. \
             Known: account, counter, echo, log, register, tally",
        ),
        Refused::post(
            "/v1.0/actors/dapr.internal.default.app.workflow/a/method/get",
            (403, "ERR_ACTOR_TYPE_RESERVED", "E0123"),
            "actor type \"dapr.internal.default.app.workflow\" is reserved for the Dapr workflow \
             runtime; direct actor API access is not permitted",
        ),
        unknown_method("sub", "sub"),
        // Cleaned as a path: it never climbs out of its actor.
        unknown_method("admin/../legit", "legit"),
        unknown_method("..%2F..%2Fsecret", "secret"),
        unknown_method("a//b/", "a/b"),
    ]
}

fn wrong_requests() -> Vec<Refused> {
    let add = "/v1.0/actors/counter/a/method/add";
    let invalid_argument = (400, "ERR_GHOSTLIGHT_INVALID_ARGUMENT", "E0118");
    let invalid_id = (400, "ERR_GHOSTLIGHT_INVALID_REQUEST_ID", "E0115");
    let invalid_deadline = (400, "ERR_GHOSTLIGHT_INVALID_DEADLINE", "E0122");
    let one_id = "Send one id of 1 to 256 bytes in Ghostlight-Request-Id";
    let deadline = "Send whole milliseconds from 1 to 86400000";
    vec![
        Refused::post(
            add,
            invalid_argument,
            "method `add` expects `by: i64` as JSON: the body is empty",
        ),
        Refused::post(
            "/v1.0/actors/counter/a/method/get",
            invalid_argument,
            "method `get` expects no argument: the body is not empty",
        )
        .body("7"),
        Refused::post(
            add,
            (413, "ERR_BODY_READ", "E0104"),
            "the request body is over 4194304 bytes, the limit of one request. Send less, or in parts",
        )
        .body("1".repeat(BODY_BYTES_MAX + 1)),
        Refused::post(
            add,
            (504, "ERR_GHOSTLIGHT_DEADLINE_EXPIRED", "E0105"),
            "the deadline had passed when the call arrived; it did not run. Allow more time",
        )
        .header("Ghostlight-Deadline-Ms", "0")
        .body("1"),
        Refused::post(
            add,
            invalid_deadline,
            &format!("Ghostlight-Deadline-Ms is \"soon\". {deadline}"),
        )
        .header("Ghostlight-Deadline-Ms", "soon")
        .body("1"),
        Refused::post(
            add,
            invalid_deadline,
            &format!("Ghostlight-Deadline-Ms is \"86400001\". {deadline}"),
        )
        .header("Ghostlight-Deadline-Ms", "86400001")
        .body("1"),
        Refused::post(
            add,
            invalid_id,
            &format!("the request has two different request ids. {one_id}"),
        )
        .header("Ghostlight-Request-Id", "a")
        .header("Idempotency-Key", "b")
        .body("1"),
        Refused::post(
            add,
            invalid_id,
            &format!("the request id has 257 bytes, at most 256 are allowed. {one_id}"),
        )
        .header("Ghostlight-Request-Id", "i".repeat(257))
        .body("1"),
    ]
}

/// Dapr's own cases: no code of ours.
fn paths() -> Vec<Refused> {
    let without_code = |ask: (&'static str, &str), status, message: &str| Refused {
        ask: (ask.0, ask.1.to_owned()),
        code: None,
        ..Refused::post("", (status, "ERR_BAD_REQUEST", ""), message)
    };
    vec![
        without_code(
            ("POST", "/v1.0/actors/counter/a"),
            404,
            "no such path. Actors are called at /v1.0/actors/{type}/{id}/method/{method}",
        ),
        without_code(
            ("POST", "/v1.0/actors/counter/%ff/method/get"),
            400,
            "the path has a broken % escape, or is not UTF-8",
        ),
        without_code(
            ("POST", "/v1.0/actors/counter/a%2/method/get"),
            400,
            "the path has a broken % escape, or is not UTF-8",
        ),
        without_code(
            ("PATCH", "/v1.0/actors/counter/a/method/get"),
            405,
            "this path takes GET, POST, PUT, DELETE",
        ),
    ]
}

#[test]
fn every_refusal_has_its_whole_answer_at_every_node() {
    let _turn = turn();
    let cluster = Cluster::form(3, FEW_PARTITIONS);
    let cases = [names(), unknown_things(), wrong_requests(), paths()].concat();
    let mut codes = Vec::new();
    for case in &cases {
        for address in cluster.http() {
            case.check(&case.send(&address));
        }
        codes.extend(case.code);
    }
    check_pages(codes);
    // Nothing of all that ran, and every node still serves.
    for address in cluster.http() {
        let total = Client::new(&[address], 0).good("counter/a/method/get", "total", "");
        assert_eq!(total, Ok("0".to_owned()));
    }
    println!("bad input: {} refusals at three nodes", cases.len());
    a_repeated_id_with_other_content(&cluster);
    typed_errors_of_actors(&cluster);
}

fn a_repeated_id_with_other_content(cluster: &Cluster) {
    let mut client = Client::new(&cluster.http(), 0);
    let path = "counter/repeated/method/add";
    assert_eq!(client.good(path, "order-17", "5"), Ok("5".to_owned()));
    for (method, body) in [("add", "6"), ("add", ""), ("get", "5")] {
        let case = Refused::post(
            &format!("/v1.0/actors/counter/repeated/method/{method}"),
            (409, "ERR_GHOSTLIGHT_REQUEST_ID_REUSED", "E0109"),
            "request id order-17 was used for another request before; use a new id for new content",
        )
        .header("Idempotency-Key", "order-17")
        .body(body);
        for address in cluster.http() {
            case.check(&case.send(&address));
        }
    }
    assert_eq!(client.good(path, "order-17", "5"), Ok("5".to_owned()));
    check_pages(["E0109"]);
}

fn typed_errors_of_actors(cluster: &Cluster) {
    for address in cluster.http() {
        let case = Refused::post(
            "/v1.0/actors/account/poor/method/withdraw",
            (500, "", ""),
            "",
        );
        let reply = case.body("8").send(&address);
        let body: serde_json::Value = serde_json::from_str(&reply.body).expect("JSON");
        let expected = serde_json::json!({
            "errorCode": "ERR_ACTOR_INVOKE_METHOD",
            "message": "error invoke actor method: error from actor service: (500) Short: \
                        the balance is 0, 8 were wanted",
            "details": [{
                "@type": "ghostlight/AppError",
                "name": "Short",
                "message": "the balance is 0, 8 were wanted",
                "error": {"Short": {"balance": 0, "wanted": 8}},
            }],
        });
        assert_eq!((reply.status, body), (500, expected));
        assert_eq!(reply.header("ghostlight-app-error"), Some("Short"));
        assert_eq!(reply.header("ghostlight-error"), None);
        check_pause(&reply);
    }
}

#[test]
fn a_full_mailbox_refuses_and_recovers() {
    let _turn = turn();
    let cluster = Cluster::form(3, FEW_PARTITIONS);
    // A log that is slow to read: turns of one actor run one at a time, so reads pile up in its
    // mailbox.
    let mut client = Client::new(&cluster.http(), 0);
    let line = format!("\"{}\"", "x".repeat(2 << 20));
    for number in 1..=2_u32 {
        let length = client.good("log/slow/method/append", &format!("line-{number}"), &line);
        assert_eq!(length, Ok(number.to_string()));
    }
    let flood = Flood::until_refused(&cluster.http(), "/v1.0/actors/log/slow/method/read");
    println!("mailbox full: refused after {} calls", flood.sent());
    let case = Refused::post(
        "/v1.0/actors/log/slow/method/read",
        (429, "ERR_GHOSTLIGHT_MAILBOX_FULL", "E0108"),
        "4096 calls wait for log/slow already; call it less often, or wait",
    );
    case.check(flood.refusal());
    check_pages(["E0108"]);
    // The other actors are served, and this one again when its callers have gone.
    let reply = client.good("counter/other/method/add", "other", "1");
    assert_eq!(reply, Ok("1".to_owned()));
    drop(flood);
    until("the actor serves again", SERVED_TIME_MAX, || {
        let reply = case.send(&cluster.http()[0]);
        (reply.status == 200).then_some(())
    });
}

/// An answer, and how long it took.
fn timed(address: &str, headers: Vec<(&'static str, String)>) -> (Reply, Duration) {
    let began = Instant::now();
    let ask = Ask {
        method: "POST",
        path: "/v1.0/actors/counter/a/method/add".to_owned(),
        headers,
        body: "1".to_owned(),
        time_max: Duration::from_secs(20),
    };
    let reply = Connection::to(address).send(&ask).expect("an answer");
    (reply, began.elapsed())
}

#[test]
fn without_a_quorum_calls_end_within_their_deadline() {
    let _turn = turn();
    let mut cluster = Cluster::form(3, FEW_PARTITIONS);
    let mut client = Client::new(&cluster.http(), 0);
    assert_eq!(
        client.good("counter/a/method/add", "first", "1"),
        Ok("1".to_owned())
    );
    let survivor = 0;
    cluster.kill(1);
    cluster.kill(2);
    let address = cluster.http()[survivor].clone();
    let deadline = || vec![("Ghostlight-Deadline-Ms", DEADLINE.as_millis().to_string())];
    // At once the node may still believe that it leads: then the outcome is unknown, and it says
    // so.
    let (reply, took) = timed(&address, deadline());
    assert!([500, 503].contains(&reply.status), "{reply:?}");
    assert!(took <= DEADLINE + DEADLINE_SLACK, "{took:?} {reply:?}");
    check_pause(&reply);
    if reply.status == 500 {
        assert_eq!(reply.header("ghostlight-error"), Some("E0112"), "{reply:?}");
    }
    until("the survivor calls it unhealthy", SERVED_TIME_MAX, || {
        let status = cluster.admin(survivor, "status")?;
        (status["health"] == "unhealthy" && status["partitions_led"] == 0).then_some(())
    });
    let (reply, took) = timed(&address, deadline());
    println!(
        "no quorum: {} after {:.2} s: {}",
        reply.status,
        took.as_secs_f64(),
        reply.body
    );
    assert!(took <= DEADLINE + DEADLINE_SLACK, "{took:?}");
    assert_eq!(reply.status, 503, "{reply:?}");
    assert_eq!(reply.header("ghostlight-error"), Some("E0201"), "{reply:?}");
    assert!(
        reply.body.contains("\"ERR_GHOSTLIGHT_NO_LEADER\""),
        "{reply:?}"
    );
    check_pause(&reply);
    // Without a deadline of its own a call waits 15 s for a leader, not for ever.
    let (reply, took) = timed(&address, Vec::new());
    assert_eq!(reply.status, 503, "{reply:?}");
    assert!(
        took >= Duration::from_secs(14) && took <= Duration::from_secs(18),
        "{took:?}"
    );
    check_pages(["E0112", "E0201"]);
    // One node more is a majority, and nothing that was refused has run.
    cluster.start(1);
    assert_eq!(
        client
            .good("counter/a/method/get", "then", "")
            .map(|total| total.len()),
        Ok(1)
    );
    let total = client
        .good("counter/a/method/get", "again", "")
        .expect("a total");
    assert!(
        ["1", "2"].contains(&&*total),
        "only the first call may have run: {total}"
    );
}

#[test]
fn too_few_copies_refuse_writes() {
    let _turn = turn();
    let mut cluster = Cluster::plan(FEW_PARTITIONS);
    cluster.found_with(&["--min-copies", "2"]);
    cluster.wait_healthy();
    let (reply, took) = timed(
        &cluster.http()[0],
        vec![("Ghostlight-Deadline-Ms", DEADLINE.as_millis().to_string())],
    );
    assert_eq!(reply.status, 503, "{reply:?}");
    assert_eq!(reply.header("ghostlight-error"), Some("E0202"), "{reply:?}");
    assert!(took <= DEADLINE + DEADLINE_SLACK, "{took:?}");
    check_pause(&reply);
    check_pages(["E0202"]);
}
