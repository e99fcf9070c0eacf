//! Native actors that set reminders for themselves: with the turn or not at all, and once for each
//! tick, also when their leader dies.

use super::*;
use crate::gateway::{CallTicket, ClientCall};
use crate::io::Input;
use crate::sdk::prelude::*;

/// Rings when it was told to.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Alarm {
    rung: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Broken;

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("broken")
    }
}

#[actor(name = "alarm")]
impl Alarm {
    fn set(&mut self, cx: &Turn, after_ms: u64, what: String) {
        let when = Reminder::after(std::time::Duration::from_millis(after_ms));
        let again = std::time::Duration::from_millis(200);
        cx.remind("ring", when.every(again).times(3).with(&what));
    }

    fn set_in_vain(&mut self, cx: &Turn) -> Result<(), Broken> {
        cx.remind("ring", std::time::Duration::ZERO);
        Err(Broken)
    }

    fn ring(&mut self, cx: &Turn, what: String) {
        if what == "once" {
            cx.unremind("ring");
        }
        self.rung.push(what);
    }

    #[read]
    fn rung(&self) -> Vec<String> {
        self.rung.clone()
    }
}

fn call(bench: &mut Bench, at: u64, ticket: u64, method: &str, body: &str) -> String {
    let call = ClientCall {
        metadata: Vec::new(),
        actor: ActorKey::new("default", "alarm", "a").unwrap(),
        method: method.to_owned(),
        body: Bytes::copy_from_slice(body.as_bytes()),
        request_id: None,
        deadline: None,
        stamp: Stamp {
            wall_ms: bench.now.wall.0,
            seed: ticket,
        },
    };
    let ticket = CallTicket(ticket);
    bench.feed(at, Input::Call { ticket, call });
    bench.until("an answer", |bench| {
        let replies = &bench.members[at as usize - 1].replies;
        replies.iter().any(|(of, _)| *of == ticket)
    });
    let replies = &bench.at(at).replies;
    let (_, outcome) = replies.iter().find(|(of, _)| *of == ticket).unwrap();
    match outcome {
        CallOutcome::Reply(body) => String::from_utf8_lossy(body).into_owned(),
        other => format!("{other:?}"),
    }
}

#[test]
fn a_reminder_rings_as_often_as_it_was_told_to() {
    let (mut bench, leader) = Bench::led(3, 1);
    let asked = leader % 3 + 1;
    let failed = call(&mut bench, asked, 1, "set_in_vain", "");
    assert!(failed.contains("broken"), "{failed}");
    call(
        &mut bench,
        asked,
        2,
        "set",
        r#"{"after_ms":500,"what":"x"}"#,
    );
    bench.pass(400);
    assert_eq!(call(&mut bench, asked, 3, "rung", ""), "[]");
    bench.pass(200);
    assert_eq!(call(&mut bench, asked, 4, "rung", ""), r#"["x"]"#);
    // Its leader dies between two ticks.
    bench.gone.insert(node_id(leader));
    bench.until("another one leads", |bench| {
        bench.server(P).is_some_and(|server| server != leader)
    });
    bench.pass(3_000);
    let rung = call(&mut bench, asked, 5, "rung", "");
    let rung: Vec<String> = serde_json::from_str(&rung).unwrap();
    // Ticks that passed without a leader fire once; none fires twice.
    assert!((2..=3).contains(&rung.len()), "{rung:?}");
}

#[test]
fn a_reminder_may_end_itself() {
    let (mut bench, leader) = Bench::led(1, 1);
    let set = r#"{"after_ms":100,"what":"once"}"#;
    call(&mut bench, leader, 1, "set", set);
    bench.pass(3_000);
    assert_eq!(call(&mut bench, leader, 2, "rung", ""), r#"["once"]"#);
    // What was set anew is what counts.
    call(
        &mut bench,
        leader,
        3,
        "set",
        r#"{"after_ms":100000,"what":"late"}"#,
    );
    call(
        &mut bench,
        leader,
        4,
        "set",
        r#"{"after_ms":100,"what":"once"}"#,
    );
    bench.pass(1_000);
    assert_eq!(
        call(&mut bench, leader, 5, "rung", ""),
        r#"["once","once"]"#
    );
}
