//! The life of an application's objects, end to end: what a turn leaves behind that fails or has no
//! answer, calls of one chain, and idle objects.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ghostlight_chaos::http::{Ask, Connection, Reply};
use ghostlight_chaos::played::{Heard, Said};
use ghostlight_chaos::wait::until;
use rustix::process::Signal;

use super::CALL_TIME_MAX;
use super::contract::{Bed, is};

/// `Chain` is re-entrant, two calls deep; objects of `Brief` are idle after a second; `Plain` has
/// the defaults.
const CONFIG: &str = concat!(
    r#"{"entities":["Plain","Chain","Brief"],"actorIdleTimeout":"1h0m0s0ms","#,
    r#""entitiesConfig":[{"entities":["Chain"],"reentrancy":{"enabled":true,"maxStackDepth":2}},"#,
    r#"{"entities":["Brief"],"actorIdleTimeout":"0h0m1s0ms"}]}"#,
);
const UPSERT: &str = r#"[{"operation":"upsert","request":{"key":"k","value":"saved"}}]"#;
/// How long a call into its own actor waits.
const OWN_CALL_TIME: Duration = Duration::from_millis(300);

/// The application's side: it knows its node.
struct Host(Arc<OnceLock<String>>);

impl Host {
    fn ask(&self, method: &'static str, path: String, headers: &[(&'static str, &str)]) -> Reply {
        let headers = headers.iter();
        let ask = Ask {
            method,
            path,
            headers: headers
                .map(|(name, value)| (*name, (*value).to_owned()))
                .collect(),
            body: UPSERT.to_owned(),
            time_max: CALL_TIME_MAX,
        };
        let node = self.0.get().expect("the node runs");
        Connection::to(node).send(&ask).expect("an answer")
    }

    fn answer(&self, heard: &Heard) -> Said {
        if heard.line == "GET /dapr/config" {
            return Said::new(200, CONFIG);
        }
        let Some((actor, method)) = heard.line.split_once("/method/") else {
            return match heard.line.starts_with("DELETE ") {
                // It counts as gone, whatever it says.
                true => Said::new(500, "no"),
                false => Said::new(404, ""),
            };
        };
        let actor = actor.trim_start_matches("PUT ");
        let own = |method: &str| format!("/v1.0{actor}/{method}");
        let chain = heard.header("dapr-reentrancy-id").unwrap_or_default();
        match method {
            "save" | "save-and-fail" | "save-and-die" => {
                let saved = self.ask("POST", own("state"), &[]);
                assert_eq!(saved.status, 204, "{}", saved.body);
                // It sees what it has staged.
                let read = self.ask("GET", own("state/k"), &[]);
                assert_eq!(read.body, "\"saved\"");
                match method {
                    "save" => Said::new(200, "saved"),
                    "save-and-fail" => Said::new(500, "failed"),
                    _ => Said::nothing(),
                }
            }
            "outer" => {
                let chain = [("Dapr-Reentrancy-Id", chain)];
                let inner = self.ask("POST", own("method/inner"), &chain);
                Said::new(inner.status, inner.body)
            }
            "deeper" => {
                let chain = [("Dapr-Reentrancy-Id", chain)];
                let inner = self.ask("POST", own("method/deeper"), &chain);
                Said::new(200, format!("{} {}", inner.status, inner.body))
            }
            "stuck" => {
                let time = OWN_CALL_TIME.as_millis().to_string();
                let deadline = [("Ghostlight-Deadline-Ms", time.as_str())];
                let inner = self.ask("POST", own("method/inner"), &deadline);
                let code = inner.header("ghostlight-error").unwrap_or_default();
                Said::new(200, format!("{} {code}", inner.status))
            }
            "fail" => Said::new(500, "no"),
            _ => Said::new(200, "fine"),
        }
    }
}

fn bed() -> Bed {
    let node = Arc::new(OnceLock::new());
    let host = Host(Arc::clone(&node));
    let bed = Bed::new(move |heard| host.answer(heard));
    node.set(bed.address.clone()).expect("told once");
    bed
}

fn call(bed: &Bed, actor: &str, method: &str) -> Reply {
    bed.ask(
        "POST",
        &format!("/v1.0/actors/{actor}/method/{method}"),
        "{}",
    )
}

fn state(bed: &Bed, actor: &str) -> Reply {
    bed.ask("GET", &format!("/v1.0/actors/{actor}/state/k"), "")
}

/// What it was asked about an actor.
fn lines(bed: &Bed, actor: &str) -> Vec<String> {
    let heard = bed.app.heard(&format!("/actors/{actor}"));
    let lines = heard.into_iter().map(|heard| heard.line);
    lines
        .map(|line| line.replace(&format!("/actors/{actor}"), ""))
        .collect()
}

/// What an answered turn has saved counts, also when its status is no success; its object is told
/// to go before its next turn.
#[test]
fn what_a_failed_turn_has_saved_counts() {
    let bed = bed();
    let actor = "Plain/failing";
    assert_eq!(call(&bed, actor, "save-and-fail").status, 500);
    is(&state(&bed, actor), 200, "\"saved\"");
    is(&call(&bed, actor, "next"), 200, "fine");
    is(&call(&bed, actor, "next"), 200, "fine");
    let expected = [
        "PUT /method/save-and-fail",
        "DELETE ",
        "PUT /method/next",
        "PUT /method/next",
    ];
    assert_eq!(lines(&bed, actor), expected);
}

/// A turn without an answer is not run again, and nothing that it has saved counts.
#[test]
fn what_a_turn_without_an_answer_has_saved_is_gone() {
    let bed = bed();
    let actor = "Plain/dying";
    let reply = call(&bed, actor, "save-and-die");
    assert_eq!(reply.status, 500, "{}", reply.body);
    assert_eq!(reply.header("ghostlight-error"), Some("E0112"));
    is(&state(&bed, actor), 204, "");
    is(&call(&bed, actor, "save"), 200, "saved");
    is(&state(&bed, actor), 200, "\"saved\"");
    let expected = ["PUT /method/save-and-die", "DELETE ", "PUT /method/save"];
    assert_eq!(lines(&bed, actor), expected);
}

/// A call of the chain that has the turn enters it, as deep as the type says; without re-entrancy
/// it waits.
#[test]
fn calls_into_an_actor_that_waits_for_them() {
    let bed = bed();
    is(&call(&bed, "Chain/a", "outer"), 200, "fine");
    let heard = bed.app.heard("/actors/Chain/a/method/");
    let chains: Vec<&str> = heard
        .iter()
        .map(|heard| heard.header("dapr-reentrancy-id").expect("a chain"))
        .collect();
    // The caller named none: it is a UUID, and both calls have it.
    assert_eq!(chains.len(), 2);
    assert_eq!(chains[0], chains[1]);
    assert_eq!((chains[0].len(), chains[0].split('-').count()), (36, 5));

    let reply = call(&bed, "Chain/b", "deeper");
    let words = r#"200 200 500 {"errorCode":"ERR_ACTOR_STACK_DEPTH","message":"maximum stack depth exceeded"#;
    assert_eq!(reply.status, 200, "{}", reply.body);
    assert!(
        format!("200 {}", reply.body).starts_with(words),
        "{}",
        reply.body
    );
    assert_eq!(lines(&bed, "Chain/b").len(), 2);

    // It waits until its caller gives it up: nobody knows what came of it, says its answer. Then it
    // never runs.
    is(&call(&bed, "Plain/c", "stuck"), 200, "500 E0112");
    is(&call(&bed, "Plain/c", "next"), 200, "fine");
    let expected = ["PUT /method/stuck", "PUT /method/next"];
    assert_eq!(lines(&bed, "Plain/c"), expected);
    let heard = &bed.app.heard("/actors/Plain/c/method/stuck")[0];
    assert_eq!(heard.header("dapr-reentrancy-id"), None);
}

/// An object without work goes after its own type's time, and by no other time: once, without a
/// body. Its answer does not matter.
#[test]
fn idle_objects_are_told_to_go() {
    let bed = bed();
    for actor in ["Brief/a", "Plain/a"] {
        is(&call(&bed, actor, "save"), 200, "saved");
    }
    let gone = &bed.app.until_heard("DELETE /actors/Brief/a", 1)[0];
    assert_eq!(gone.header("content-type"), Some("application/x-protobuf"));
    assert_eq!(gone.body, "");
    // It comes back with what it had, and goes again.
    is(&state(&bed, "Brief/a"), 200, "\"saved\"");
    is(&call(&bed, "Brief/a", "next"), 200, "fine");
    drop(bed.app.until_heard("DELETE /actors/Brief/a", 2));
    let expected = ["PUT /method/save", "DELETE ", "PUT /method/next", "DELETE "];
    assert_eq!(lines(&bed, "Brief/a"), expected);
    assert_eq!(lines(&bed, "Plain/a"), ["PUT /method/save"]);
}

/// A node that is told to end tells the objects that its application has made, and no others, as
/// Dapr's sidecar does; an application that answers no such word does not keep it from ending.
#[test]
fn objects_are_told_to_go_when_their_node_ends() {
    let mut bed = bed();
    for actor in ["Plain/a", "Plain/b", "Chain/a"] {
        is(&call(&bed, actor, "save"), 200, "saved");
    }
    assert_eq!(call(&bed, "Plain/failed", "fail").status, 500);
    bed.cluster.signal(0, Signal::TERM);
    let gone = bed.app.until_heard("DELETE /actors/", 3);
    until("the node has ended", CALL_TIME_MAX, || {
        (!bed.cluster.ended().is_empty()).then_some(())
    });
    let mut gone: Vec<String> = gone.into_iter().map(|heard| heard.line).collect();
    gone.sort();
    let expected = ["Chain/a", "Plain/a", "Plain/b"].map(|actor| format!("DELETE /actors/{actor}"));
    assert_eq!(gone, expected);
    assert_eq!(lines(&bed, "Plain/a"), ["PUT /method/save", "DELETE "]);
}
