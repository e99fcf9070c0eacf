//! Dapr's contract, a node and an application played by the test: what its statuses mean, what it
//! may ask, what it hosts.

use std::time::Duration;

use ghostlight_chaos::app::{App, NEVER_MADE, TYPE};
use ghostlight_chaos::cluster::Cluster;
use ghostlight_chaos::http::{Ask, Connection, Reply};
use ghostlight_chaos::played::{Heard, Played, Said};
use ghostlight_chaos::wait::until;

use super::{CALL_TIME_MAX, PARTITIONS, port};

/// A node with an application that hosts [`TYPE`].
pub(super) struct Bed {
    pub(super) cluster: Cluster,
    pub(super) app: Played,
    pub(super) address: String,
}

impl Bed {
    pub(super) fn new(answer: impl Fn(&Heard) -> Said + Send + Sync + 'static) -> Self {
        let app = Played::start(answer);
        let mut cluster = Cluster::plan(PARTITIONS);
        let node = cluster.found_with(&["--app", &format!("shop={}", app.port())]);
        cluster.wait_healthy();
        let address = cluster.http()[node].clone();
        let bed = Self {
            cluster,
            app,
            address,
        };
        // The last that it is asked before it hosts.
        drop(bed.app.until_heard("/dapr/subscribe", 1));
        until("its actors are hosted", CALL_TIME_MAX, || {
            let said = bed.ask("GET", "/v1.0/metadata", "").body;
            said.contains(r#""hostReady":true"#).then_some(())
        });
        bed
    }

    pub(super) fn ask(&self, method: &'static str, path: &str, body: &str) -> Reply {
        let ask = Ask {
            method,
            path: path.to_owned(),
            headers: Vec::new(),
            body: body.to_owned(),
            time_max: CALL_TIME_MAX,
        };
        let reply = Connection::to(&self.address).send(&ask);
        reply.unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    /// What counts the errors of the node's APIs.
    fn metrics(&self) -> String {
        let admin = self.cluster.admin_url(0);
        let ask = Ask {
            method: "GET",
            path: "/metrics".to_owned(),
            headers: Vec::new(),
            body: String::new(),
            time_max: CALL_TIME_MAX,
        };
        let address = admin.trim_start_matches("http://");
        Connection::to(address).send(&ask).expect("metrics").body
    }
}

fn config(types: &str) -> Said {
    Said::new(200, format!(r#"{{"entities":[{types}]}}"#))
}

/// Answers with the status that the method names, and an answer to it; `huge` with more than a node
/// takes.
fn by_status(heard: &Heard) -> Said {
    if heard.line == "GET /dapr/config" {
        return config(&format!("\"{TYPE}\""));
    }
    let Some((_, method)) = heard.line.split_once("/method/") else {
        // Everything else about actors is fine, and nothing else is there.
        let status = if heard.line.contains("/actors/") {
            200
        } else {
            404
        };
        return Said::new(status, "");
    };
    match method.parse() {
        Ok(status) => Said::new(status, "an answer").with("Content-Type", "text/x-odd"),
        Err(_) if method == "huge" => Said::new(200, "x".repeat(5 << 20)),
        Err(_) => Said::new(200, "fine"),
    }
}

#[track_caller]
pub(super) fn is(reply: &Reply, status: u16, body: &str) {
    assert_eq!((reply.status, reply.body.as_str()), (status, body));
}

/// An error in Dapr's form, compared as a whole: that is what clients get to read.
#[track_caller]
fn refused(reply: &Reply, status: u16, error_code: &str, message: &str) {
    let message = serde_json::Value::from(message);
    let body = format!(r#"{{"errorCode":"{error_code}","message":{message}}}"#);
    is(reply, status, &body);
    assert_eq!(reply.header("content-type"), Some("application/json"));
}

/// Only 200 is a success, and no other status is repeated by the node.
#[test]
fn what_an_applications_status_means() {
    let bed = Bed::new(by_status);
    for status in [201, 204, 302, 400, 403, 404, 409, 429, 500, 503] {
        let path = format!("/v1.0/actors/{TYPE}/s{status}/method/{status}");
        let reply = bed.ask("POST", &path, "{}");
        let answer = if status == 204 { "" } else { "an answer" };
        let said = match status {
            404 => format!("actor method not found: actors/{TYPE}/s404/method/404"),
            _ => format!("error from actor service: ({status}) {answer}"),
        };
        let message = format!("error invoke actor method: {said}");
        refused(&reply, 500, "ERR_ACTOR_INVOKE_METHOD", &message);
        let heard = bed.app.heard(&format!("/s{status}"));
        assert_eq!(heard.len(), 1, "{heard:?}");
    }
    let reply = bed.ask("GET", &format!("/v1.0/actors/{TYPE}/fine/method/200"), "");
    is(&reply, 200, "an answer");
    assert_eq!(reply.header("content-type"), Some("text/x-odd"));
}

/// What is longer than a node takes is no answer: it ran, nobody knows what came of it, and its
/// object goes.
#[test]
fn a_huge_answer_is_none() {
    let bed = Bed::new(by_status);
    let call = |method| {
        bed.ask(
            "POST",
            &format!("/v1.0/actors/{TYPE}/a/method/{method}"),
            "{}",
        )
    };
    is(&call("first"), 200, "fine");
    let reply = call("huge");
    assert_eq!(reply.status, 500, "{}", reply.body);
    assert_eq!(reply.header("ghostlight-error"), Some("E0112"));
    for words in [
        "ERR_GHOSTLIGHT_OUTCOME_UNKNOWN",
        "longer than 4194304 bytes",
    ] {
        assert!(
            reply.body.contains(words),
            "{words} is not in {}",
            reply.body
        );
    }
    is(&call("after"), 200, "fine");
    let lines: Vec<String> = bed
        .app
        .heard("/actors/")
        .into_iter()
        .map(|h| h.line)
        .collect();
    let object = format!("/actors/{TYPE}/a");
    let expected = [
        format!("PUT {object}/method/first"),
        format!("PUT {object}/method/huge"),
        format!("DELETE {object}"),
        format!("PUT {object}/method/after"),
    ];
    assert_eq!(lines, expected);
}

const UPSERT: &str = r#"[{"operation":"upsert","request":{"key":"k","value":{"n" : 1}}}]"#;
const HOSTED_ONLY: &str = "operations on actor reminders are only possible on hosted actor types";

/// State is written only by the object that is here, and has what is stored.
#[test]
fn state_of_an_actor_that_is_not_here() {
    let bed = Bed::new(by_status);
    let state = |id: &str| format!("/v1.0/actors/{TYPE}/{id}/state");
    let missing = |reply: &Reply| {
        let message = "actor instance is missing";
        refused(reply, 400, "ERR_ACTOR_INSTANCE_MISSING", message);
    };
    missing(&bed.ask("POST", &state("a"), UPSERT));
    // Reading asks for no object, as in Dapr since 1.15.
    is(&bed.ask("GET", &format!("{}/k", state("a")), ""), 204, "");
    let call = format!("/v1.0/actors/{TYPE}/a/method/first");
    is(&bed.ask("POST", &call, ""), 200, "fine");
    is(&bed.ask("PUT", &state("a"), UPSERT), 204, "");
    let reply = bed.ask("GET", &format!("{}/k", state("a")), "");
    is(&reply, 200, r#"{"n" : 1}"#);
    assert_eq!(reply.header("content-type"), Some("application/json"));
    // All of a transaction, or nothing of it.
    let half = r#"[{"operation":"delete","request":{"key":"k"}},{"operation":"upsert","request":{"key":""}}]"#;
    let reply = bed.ask("POST", &state("a"), half);
    let message = "error saving actor transaction state: missing key";
    refused(&reply, 500, "ERR_ACTOR_STATE_TRANSACTION_SAVE", message);
    is(
        &bed.ask("GET", &format!("{}/k", state("a")), ""),
        200,
        r#"{"n" : 1}"#,
    );
    // Its last turn failed: what the object believes may be wrong.
    let call = format!("/v1.0/actors/{TYPE}/a/method/500");
    assert_eq!(bed.ask("POST", &call, "").status, 500);
    missing(&bed.ask("POST", &state("a"), UPSERT));
    let metrics = bed.metrics();
    let counted =
        "dapr_error_code_total{category=\"actor\",error_code=\"ERR_ACTOR_INSTANCE_MISSING\"} 2";
    assert!(metrics.contains(counted), "{metrics}");
}

/// Reminders belong to types that are hosted here; timers are ended wherever they are.
#[test]
fn reminders_and_timers_of_types_that_are_not_hosted() {
    let bed = Bed::new(by_status);
    let of = |actor_type: &str, what: &str| format!("/v1.0/actors/{actor_type}/a/{what}");
    for (method, body) in [("POST", "{}"), ("PUT", "{}"), ("GET", ""), ("DELETE", "")] {
        let reply = bed.ask(method, &of("Other", "reminders/r"), body);
        refused(&reply, 403, "ERR_ACTOR_REMINDER_NON_HOSTED", HOSTED_ONLY);
    }
    let reply = bed.ask("POST", &of("Other", "timers/t"), "{}");
    let message = "error creating actor timer: can't create timer for actor Other||a: actor type not registered";
    refused(&reply, 500, "ERR_ACTOR_TIMER_CREATE", message);
    is(&bed.ask("DELETE", &of("Other", "timers/t"), ""), 204, "");
    is(&bed.ask("GET", &of("Other", "state/k"), ""), 204, "");

    let reminder = of(TYPE, "reminders/a%7C%7Cb@c");
    let body = r#"{"dueTime":"1h","period":"R4/PT5S","data": {"x" : [1]},"overwrite":false}"#;
    is(&bed.ask("POST", &reminder, body), 204, "");
    let reply = bed.ask("PUT", &reminder, body);
    let message = "actor reminder already exists: a||b@c";
    refused(&reply, 409, "ERR_ACTOR_REMINDER_ALREADY_EXISTS", message);
    let shown = format!(
        r#"{{"actorID":"a","actorType":"{TYPE}","data":{{"x" : [1]}},"dueTime":"1h","period":"@every 5s"}}"#
    );
    is(&bed.ask("GET", &reminder, ""), 200, &shown);
    for _ in 0..2 {
        is(&bed.ask("DELETE", &reminder, ""), 204, "");
    }
    let reply = bed.ask("GET", &reminder, "");
    let message = "actor reminder not found: a||b@c";
    refused(&reply, 404, "ERR_ACTOR_REMINDER_NOT_FOUND", message);
    is(&bed.ask("DELETE", &of(TYPE, "timers/never"), ""), 204, "");
    // Nobody was called for any of this.
    let heard = bed.app.heard("/actors/");
    assert!(heard.is_empty(), "{heard:?}");
}

/// A name that is not shortened on its way, a failure policy, and the header that ends a reminder.
#[test]
fn reminders_fire_as_their_policies_say() {
    let failing = |heard: &Heard| match &heard.line {
        line if line.contains("/remind/stops") => {
            Said::new(200, "").with("X-DaprReminderCancel", "true")
        }
        line if line.contains("/remind/") => Said::new(404, ""),
        _ => by_status(heard),
    };
    let bed = Bed::new(failing);
    let reminder = |name: &str| format!("/v1.0/actors/{TYPE}/a/reminders/{name}");
    for (name, policy, fires) in [
        ("stops%7C%7Cat@once", "", 1),
        ("dropped", r#","failure_policy":{"drop":{}}"#, 1),
        (
            "twice",
            r#","failure_policy":{"constant":{"interval":{"nanos":50000000},"max_retries":1}}"#,
            2,
        ),
        // Nothing said: three more attempts, a second apart. A 404 is a failure like any other.
        ("default", "", 4),
    ] {
        let body = format!(r#"{{"dueTime":"10ms","period":"1h","data":"x"{policy}}}"#);
        is(&bed.ask("POST", &reminder(name), &body), 204, "");
        let line = format!("PUT /actors/{TYPE}/a/method/remind/{name}");
        let heard = bed.app.until_heard(&line, fires);
        assert!(heard.iter().all(|heard| heard.line == line), "{heard:?}");
        let body = r#"{"data":"x","dueTime":"","period":""}"#;
        assert!(heard.iter().all(|heard| heard.body == body), "{heard:?}");
    }
    // By now all that was dropped or ended would have come again.
    for (name, fires) in [("stops", 1), ("dropped", 1), ("twice", 2), ("default", 4)] {
        let heard = bed.app.heard(&format!("/remind/{name}"));
        assert_eq!(heard.len(), fires, "{heard:?}");
    }
    let ended = bed.ask("GET", &reminder("stops%7C%7Cat@once"), "");
    assert_eq!(ended.status, 404, "{}", ended.body);
}

/// Started again on its port it hosts another type; the one that it had has no host.
#[test]
fn other_types_after_a_restart() {
    let mut cluster = Cluster::plan(PARTITIONS);
    let port = port();
    let node = cluster.found_with(&["--app", &format!("tallies={port}")]);
    cluster.wait_healthy();
    let address = cluster.http()[node].clone();
    let log = cluster.path("app.log");
    let add = |actor_type: &str| {
        let ask = Ask {
            method: "POST",
            path: format!("/v1.0/actors/{actor_type}/a/method/add"),
            headers: Vec::new(),
            body: "{}".to_owned(),
            time_max: CALL_TIME_MAX,
        };
        Connection::to(&address).send(&ask).expect("an answer")
    };
    let mut before = None;
    for (hosted, withdrawn) in [(TYPE, "Other"), ("Other", TYPE)] {
        if let Some(app) = before.take() {
            App::kill(app);
        }
        let app = App::start_hosting(hosted, port, &log);
        let pid = app.pid();
        let reply = until("the new type is served", CALL_TIME_MAX, || {
            Some(add(hosted)).filter(|reply| reply.status == 200)
        });
        // Its first call in this process: nothing is left of what an earlier one had.
        is(&reply, 200, &format!(r#"{{"pid":{pid},"count":1}}"#));
        let reply = add(withdrawn);
        assert_eq!(reply.status, 404, "{}", reply.body);
        let words = format!("did not find address for actor '{withdrawn}||a'");
        assert!(
            reply.body.contains("ERR_ACTOR_NO_ADDRESS"),
            "{}",
            reply.body
        );
        assert!(reply.body.contains(&words), "{}", reply.body);
        before = Some(app);
    }
    let app = before.expect("it runs");
    assert!(!app.said().contains(NEVER_MADE), "{}", app.said());
    app.kill();
}

/// An application that comes late: what is called before it has said what it hosts waits, and is
/// answered.
#[test]
fn a_call_waits_for_an_application_that_is_starting() {
    let slow = |heard: &Heard| {
        if heard.line == "GET /dapr/config" {
            std::thread::sleep(Duration::from_secs(2));
        }
        by_status(heard)
    };
    let app = Played::start(slow);
    let mut cluster = Cluster::plan(PARTITIONS);
    let node = cluster.found_with(&["--app", &format!("shop={}", app.port())]);
    drop(app.until_heard("/dapr/config", 1));
    cluster.wait_healthy();
    let ask = |path: &str| {
        let ask = Ask {
            method: "GET",
            path: path.to_owned(),
            headers: Vec::new(),
            body: String::new(),
            time_max: CALL_TIME_MAX,
        };
        Connection::to(&cluster.http()[node])
            .send(&ask)
            .expect("an answer")
    };
    // SDKs wait for this before their application listens.
    is(&ask("/v1.0/healthz/outbound"), 204, "");
    is(
        &ask(&format!("/v1.0/actors/{TYPE}/a/method/first")),
        200,
        "fine",
    );
    is(&ask("/v1.0/healthz"), 204, "");
}
