use std::collections::BTreeMap;
use std::future::IntoFuture;

use ghostlight_protocol::code::Code;
use ghostlight_protocol::outcome::CallOutcome;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha12Rng;

use super::*;
use crate::sdk::testkit::{World, run};
use crate::sdk::{CallError, Cluster, Topic};

fn shown(outcome: &CallOutcome) -> String {
    match outcome {
        CallOutcome::Reply(body) => String::from_utf8_lossy(body).into_owned(),
        CallOutcome::AppReply(_) => unreachable!("samples are native"),
        CallOutcome::App(e) => {
            let payload = String::from_utf8_lossy(&e.payload);
            format!("{}: {} {payload}", e.name, e.message)
        }
        CallOutcome::NotRun(refusal) => format!("{} {}", refusal.code, refusal.detail),
        CallOutcome::Unknown { code, .. } => code.to_string(),
    }
}

/// Runs `type/id method body` lines and compares each answer's beginning.
#[track_caller]
fn check(world: &World, rows: &[(&'static str, &'static str)]) {
    for (line, expected) in rows {
        let mut words = line.splitn(3, ' ');
        let (actor_type, id) = words.next().unwrap().split_once('/').unwrap();
        let method = words.next().unwrap();
        let body = words.next().unwrap_or("").as_bytes();
        let found = shown(&world.call((actor_type, id), method, body));
        assert!(found.starts_with(expected), "{line}: {found}");
    }
}

#[test]
fn register_by_its_bodies() {
    let world = World::new(registry());
    check(
        &world,
        &[
            ("register/r read", "null"),
            (r#"register/r exchange {"from":1,"to":2}"#, "false"),
            ("register/r write 1", ""),
            (r#"register/r exchange {"from":1,"to":2}"#, "true"),
            (r#"register/r exchange {"from":1,"to":3}"#, "false"),
            ("register/r read", "2"),
        ],
    );
}

#[test]
fn counter_by_its_bodies() {
    let world = World::new(registry());
    check(
        &world,
        &[
            ("counter/home get", "0"),
            ("counter/home add 1", "1"),
            ("counter/home add 41", "42"),
            ("counter/home add -2 ", "40"),
            ("counter/away get null", "0"),
            (
                "counter/home add 9223372036854775807",
                "Overflow: 40 + 9223372036854775807 does not",
            ),
            ("counter/home get", "40"),
            (
                "counter/home add",
                "E0118 method `add` expects `by: i64` as JSON: the body is empty",
            ),
            (
                "counter/home add \"x\"",
                "E0118 method `add` expects `by: i64` as JSON: invalid type",
            ),
            (
                "counter/home add 1 2",
                "E0118 method `add` expects `by: i64` as JSON: trailing",
            ),
            (
                "counter/home get 7",
                "E0118 method `get` expects no argument",
            ),
            (
                "counter/home sub 1",
                "E0107 actor type `counter` has no method `sub`. It has: add, get",
            ),
            (
                "ghost/home get",
                "E0106 no actor type `ghost` here. Known: account, counter, echo, log",
            ),
        ],
    );
    world.fail_over();
    check(&world, &[("counter/home get", "40")]);
}

#[test]
fn reads_and_changeless_writes_write_nothing() {
    let world = World::new(registry());
    check(
        &world,
        &[
            ("counter/home get", "0"),
            ("counter/home add 0", "0"),
            ("echo/a echo x", "x"),
        ],
    );
    assert_eq!(world.rows(("counter", "home")), []);
    check(&world, &[("counter/home add 1", "1")]);
    let rows = world.rows(("counter", "home"));
    assert_eq!(rows.len(), 1);
    assert_eq!(
        (&rows[0].0[..], &rows[0].1[..]),
        (&b"self"[..], &[1, 1, 2][..])
    );
}

#[test]
fn log_keeps_order_over_pages_and_failures() {
    let world = World::new(registry());
    check(
        &world,
        &[
            ("log/events read", "[]"),
            ("log/events append \"a\\nb\"", "1"),
        ],
    );
    for n in 2..=600 {
        let body = format!("\"line {n}\"");
        assert_eq!(
            shown(&world.call(("log", "events"), "append", body)),
            n.to_string()
        );
    }
    world.fail_over();
    let CallOutcome::Reply(body) = world.call(("log", "events"), "read", "") else {
        panic!("reading succeeds");
    };
    let lines: Vec<String> = serde_json::from_slice(&body).unwrap();
    assert_eq!(lines.len(), 600);
    assert_eq!(lines[0], "a\nb");
    assert!((2..=600).all(|n| lines[n - 1] == format!("line {n}")));
    check(
        &world,
        &[(
            "log/events append 7",
            "E0118 method `append` expects `line: String`",
        )],
    );
    assert_eq!(world.rows(("log", "events")).len(), 601);
}

#[test]
fn echo_returns_any_bytes() {
    let world = World::new(registry());
    for body in [&b""[..], b"\xff\0 not json", b"null", b"{\"a\":1}"] {
        let outcome = world.call(("echo", "e"), "echo", body);
        assert_eq!(outcome, CallOutcome::Reply(bytes::Bytes::from_static(body)));
    }
    assert_eq!(world.rows(("echo", "e")), []);
}

#[test]
fn account_by_its_bodies() {
    let world = World::new(registry());
    check(
        &world,
        &[
            ("account/alice deposit 10", "10"),
            ("account/alice withdraw 3", "7"),
            (
                "account/alice withdraw 8",
                "Short: the balance is 7, 8 were wanted {\"Short\":{\"balance\":7,\"wanted\":8}}",
            ),
            (
                "account/alice deposit 0",
                "NotPositive: an amount is at least 1 \"NotPositive\"",
            ),
            (
                "account/alice deposit -1",
                "E0118 method `deposit` expects `amount: u64` as JSON",
            ),
            ("account/alice transfer {\"to\":\"bob\",\"amount\":5}", "2"),
            (
                "account/alice transfer {\"to\":\"bob\",\"amount\":5}",
                "Short",
            ),
            ("account/alice transfer [\"bob\",1]", "1"),
            (
                "account/alice transfer {\"to\":\"bob\"}",
                "E0118 method `transfer` expects a JSON object with `to: String, amount: u64`: \
                 missing field `amount`",
            ),
            (
                "account/alice transfer {\"to\":\"a#b\",\"amount\":1}",
                "InvalidSend: cannot send `deposit`: invalid actorId: character '#' is not allowed",
            ),
            ("account/alice balance", "1"),
            ("account/bob balance", "0"),
        ],
    );
    let delivered: Vec<String> = std::iter::from_fn(|| world.deliver())
        .map(|(_, outcome)| shown(&outcome))
        .collect();
    assert_eq!(delivered, ["5", "6"]);
    check(&world, &[("account/bob balance", "6")]);
}

#[test]
fn money_is_conserved() {
    for seed in 0..10 {
        println!("seed {seed}: cargo test -p ghostlight-core money_is_conserved");
        shuffle_money(seed);
    }
}

fn shuffle_money(seed: u64) {
    let mut rng = ChaCha12Rng::seed_from_u64(seed);
    let world = World::new(registry());
    let names = ["a", "b", "c", "d"];
    for name in names {
        world.call(("account", name), "deposit", "100");
    }
    for _ in 0..500 {
        match rng.random_range(0..10) {
            0 => world.fail_over(),
            1..5 => drop(world.deliver()),
            _ => {
                let (from, to) = (names[rng.random_range(0..4)], names[rng.random_range(0..4)]);
                let amount: u64 = rng.random_range(0..60);
                let body = format!("{{\"to\":\"{to}\",\"amount\":{amount}}}");
                world.call(("account", from), "transfer", body);
            }
        }
    }
    while world.deliver().is_some() {}
    let balances: BTreeMap<&str, u128> = names
        .iter()
        .map(|name| (*name, run(balance(&world.cluster(), name)).unwrap()))
        .collect();
    assert_eq!(
        balances.values().sum::<u128>(),
        400,
        "seed {seed}: {balances:?}"
    );
}

async fn balance(cluster: &Cluster, id: &str) -> Result<u128, CallError<crate::sdk::Never>> {
    cluster.actor::<Account>(id).balance().await
}

#[test]
fn typed_references() {
    let world = World::new(registry());
    let cluster = world.cluster();
    let home = cluster.actor::<Counter>("home");
    assert_eq!(run(home.add(2).into_future()), Ok(2));
    assert_eq!(run(home.add(i64::MAX).request_id("once").into_future()), {
        Err(CallError::App(Overflow {
            total: 2,
            by: i64::MAX,
        }))
    });
    let short = run(cluster.actor::<Account>("x").withdraw(1).into_future());
    assert_eq!(
        short,
        Err(CallError::App(AccountError::Short {
            balance: 0,
            wanted: 1
        }))
    );
    let bad = run(cluster.actor::<Counter>("a#b").get().into_future()).unwrap_err();
    assert_eq!(bad.code(), Some(Code::InvalidActorId));
    let bad = run(home.get().request_id("").into_future()).unwrap_err();
    assert_eq!(bad.code(), Some(Code::InvalidRequestId));
    let lines = cluster.actor::<Log>("l");
    assert_eq!(run(lines.append("x".to_owned()).into_future()), Ok(1));
    assert_eq!(run(lines.read().into_future()), Ok(vec!["x".to_owned()]));
    let big = crate::sdk::Raw(vec![0; (4 << 20) + 1].into());
    let refused = run(cluster.actor::<Echo>("e").echo(big).into_future()).unwrap_err();
    assert_eq!(refused.code(), Some(Code::BodyTooLarge));
}

#[test]
fn a_tally_counts_events_and_publishes_every_tenth() {
    let world = World::new(registry());
    let event = || Topic::new("tallies").of("samples");
    for amount in 1..=20 {
        let data = format!(r#"{{"of":"apples","amount":{amount}}}"#);
        let outcomes = world.publish(event(), data);
        assert_eq!(outcomes, [CallOutcome::Reply("".into())]);
    }
    check(
        &world,
        &[("tally/apples get", r#"{"events":20,"total":210}"#)],
    );
    let published = world.published();
    let data: Vec<_> = published.iter().map(|event| event.data()).collect();
    assert_eq!(
        data,
        [
            &br#"{"events":10,"total":55}"#[..],
            br#"{"events":20,"total":210}"#
        ]
    );
    let event = &published[0];
    assert_eq!(event.topic.name.to_string(), "samples/tens");
    assert_eq!(event.event.source, "tally/apples");
    // Dapr's subscribers find their envelope.
    let envelope: serde_json::Value = serde_json::from_slice(&event.event.data).unwrap();
    for (name, value) in [
        ("specversion", "1.0"),
        ("type", "com.dapr.event.sent"),
        ("source", "tally/apples"),
        ("pubsubname", "samples"),
        ("topic", "tens"),
        ("datacontenttype", "application/json"),
        ("time", "1970-01-01T00:00:00Z"),
    ] {
        assert_eq!(envelope[name], value, "{name}");
    }
    assert_ne!(published[0].event.data, published[1].event.data);
}
