//! The whole SDK through the macro: context, maps, nested calls, errors, versions.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use ghostlight_protocol::call::Stamp;
use ghostlight_protocol::code::Code;
use ghostlight_protocol::outcome::{AppError, CallOutcome, NotRun};
use rand::RngCore;

use super::prelude::*;
use super::testkit::{FakeTurn, World, run};
use super::{Activation, Method, MethodKind, TurnFailure};
use crate::samples::{Account, AccountError, Counter, Log};
use crate::turn_io::OutMessage;

#[derive(Debug, Default, Serialize, Deserialize)]
struct Probe {
    seen: u32,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct Refusal(String);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[actor(name = "probe", version = 2, upgrade = Probe::older)]
impl Probe {
    const MAP: StateMap<(String, i32), u64> = StateMap::new("map");

    async fn edit(&mut self, cx: &Turn, put: Vec<i32>, remove: Vec<i32>) -> Vec<i32> {
        for key in put {
            Self::MAP.put(cx, &("k".to_owned(), key), &7);
        }
        for key in remove {
            Self::MAP.remove(cx, &("k".to_owned(), key));
        }
        keys(Self::MAP.entries(cx).await)
    }

    #[read]
    async fn keys_after(&self, cx: &ReadTurn, key: i32) -> Vec<i32> {
        let mut pages = Self::MAP.pages_after(cx, &("k".to_owned(), key));
        let mut found = Vec::new();
        while let Some(page) = pages.next().await {
            found.extend(keys(page));
        }
        found
    }

    #[read]
    async fn value(&self, cx: &ReadTurn, key: i32) -> Option<u64> {
        let key = ("k".to_owned(), key);
        assert_eq!(
            Self::MAP.contains(cx, &key).await,
            Self::MAP.get(cx, &key).await.is_some()
        );
        Self::MAP.get(cx, &key).await
    }

    fn long_key(&mut self, cx: &Turn) {
        Self::MAP.put(cx, &("x".repeat(5_000), 0), &1);
    }

    fn fail(&mut self, cx: &Turn, why: String) -> Result<(), Refusal> {
        self.seen += 1;
        Self::MAP.put(cx, &("k".to_owned(), 1), &1);
        cx.send::<Counter>("c").add(1);
        Err(Refusal(why))
    }

    async fn forward(&mut self, cx: &Turn, to: String) -> Result<i64, Refusal> {
        let counter = cx.call::<Counter>(&to);
        let answer = counter.add(5).deadline(Duration::from_secs(1)).await;
        answer.map_err(|e| Refusal(e.to_string()))
    }

    async fn around(&mut self, cx: &Turn) -> Result<u32, Refusal> {
        let answer = cx.call::<Self>(cx.id()).bump().await;
        answer.map_err(|e| Refusal(format!("{:?}", e.code())))
    }

    fn publish(&mut self, cx: &Turn, topic: String, bytes: usize) {
        self.seen += 1;
        cx.publish(Topic::new(topic).key("k").kind("t"), &"x".repeat(bytes));
    }

    fn bump(&mut self) -> u32 {
        self.seen += 1;
        self.seen
    }

    fn flood(&mut self, cx: &Turn, messages: u32) {
        for n in 0..messages {
            cx.send::<Counter>("c").add(i64::from(n));
        }
    }

    #[read]
    fn draw(&self, cx: &ReadTurn) -> (u64, u64, u64) {
        (cx.now().0, cx.rng().next_u64(), cx.rng().random())
    }

    #[read]
    fn seen(&self) -> u32 {
        self.seen
    }

    fn nothing(&mut self) -> Option<u8> {
        None
    }
}

impl Probe {
    fn older(from: u32, value: &[u8]) -> Result<Self, String> {
        match (from, value) {
            (1, [seen]) => Ok(Self {
                seen: u32::from(*seen) + 100,
            }),
            _ => Err(format!("unexpected {value:?}")),
        }
    }
}

fn keys(entries: Vec<((String, i32), u64)>) -> Vec<i32> {
    entries.into_iter().map(|((_, key), _)| key).collect()
}

fn world() -> World {
    World::new(crate::samples::registry().with::<Probe>())
}

fn probe(world: &World, method: &str, body: &str) -> String {
    match world.call(("probe", "p"), method, body.to_owned()) {
        CallOutcome::Reply(body) => String::from_utf8(body.to_vec()).unwrap(),
        CallOutcome::AppReply(_) => unreachable!("no application here"),
        CallOutcome::App(error) => format!("{}: {}", error.name, error.message),
        CallOutcome::NotRun(refusal) => format!("{}: {}", refusal.code, refusal.detail),
        CallOutcome::Unknown { detail, .. } => detail,
    }
}

#[test]
fn maps_show_staged_entries_in_order() {
    let world = world();
    assert_eq!(
        probe(&world, "edit", r#"{"put":[3,-1,2],"remove":[2,9]}"#),
        "[-1,3]"
    );
    assert_eq!(
        probe(&world, "edit", r#"{"put":[0,5],"remove":[3]}"#),
        "[-1,0,5]"
    );
    assert_eq!(probe(&world, "keys_after", "-1"), "[0,5]");
    assert_eq!(probe(&world, "value", "5"), "7");
    assert_eq!(probe(&world, "value", "3"), "null");
    // Only touched entries have rows, and the unchanged struct has none.
    assert_eq!(world.rows(("probe", "p")).len(), 3);
    // Pages that are removed altogether do not end the walk.
    let all: Vec<i32> = (10..1_000).collect();
    probe(&world, "edit", &format!(r#"{{"put":{all:?},"remove":[]}}"#));
    assert_eq!(
        probe(&world, "edit", &format!(r#"[[2000],{all:?}]"#)),
        "[-1,0,5,2000]"
    );
    assert_eq!(probe(&world, "keys_after", "0"), "[5,2000]");
}

#[test]
fn an_error_rolls_everything_back() {
    let world = world();
    assert_eq!(probe(&world, "bump", ""), "1");
    assert_eq!(probe(&world, "fail", "\"no\""), "Refusal: no");
    assert_eq!(probe(&world, "seen", ""), "1");
    assert_eq!(probe(&world, "value", "1"), "null");
    assert!(world.deliver().is_none());
    assert!(probe(&world, "long_key", "").starts_with("InvalidKey: a state key has 5010 bytes"));
    assert!(probe(&world, "flood", "1025").starts_with("TooManySends"));
    assert!(world.deliver().is_none());
    assert_eq!(probe(&world, "flood", "1024"), "");
    assert_eq!(std::iter::from_fn(|| world.deliver()).count(), 1_024);
    assert_eq!(probe(&world, "nothing", ""), "null");
}

#[test]
fn calls_inside_turns() {
    let world = world();
    assert_eq!(probe(&world, "forward", "\"x\""), "5");
    assert_eq!(probe(&world, "forward", "\"x\""), "10");
    let bad = probe(&world, "forward", "\"a?b\"");
    assert_eq!(
        bad,
        "Refusal: not run: invalid actorId: character '?' is not allowed (E0102)"
    );
    assert_eq!(probe(&world, "around", ""), "Refusal: Some(Cycle)");
}

#[test]
fn typed_outcomes() {
    let app = |name: &str, payload: &'static str| {
        CallOutcome::App(AppError {
            name: name.to_owned(),
            message: "text".to_owned(),
            payload: Bytes::from_static(payload.as_bytes()),
        })
    };
    let unknown = CallOutcome::Unknown {
        code: Code::OutcomeUnknown,
        detail: "lost".to_owned(),
    };
    for (outcome, expected) in [
        (CallOutcome::Reply(Bytes::from_static(b"6")), "6"),
        (
            CallOutcome::Reply(Bytes::from_static(b"\"x\"")),
            "the reply of `add` is not of the expected",
        ),
        (
            app("Overflow", r#"{"total":1,"by":2}"#),
            "1 + 2 does not fit",
        ),
        (app("InvalidSend", ""), "InvalidSend: text"),
        (
            CallOutcome::NotRun(NotRun::new(Code::NoLeader, "nobody")),
            "not run: nobody (E0201)",
        ),
        (unknown, "outcome unknown: lost (E0112)"),
    ] {
        let fake = FakeTurn::new::<Probe>("p").answering(outcome);
        let answer = run(async { fake.cx().call::<Counter>("c").add(1).await });
        let shown = answer.map_or_else(|e| e.to_string(), |total| total.to_string());
        assert!(shown.starts_with(expected), "{shown}");
        assert_eq!(fake.calls().len(), 1);
    }
}

#[test]
fn time_and_randomness_come_with_the_request() {
    let draw = |seed| {
        let fake = FakeTurn::with_stamp::<Probe>("p", Stamp { wall_ms: 77, seed });
        Probe::default().draw(fake.cx())
    };
    let (now, first, second) = draw(1);
    assert_eq!(now, 77);
    assert_ne!(first, second);
    assert_eq!(draw(1), (now, first, second));
    assert_ne!(draw(2).1, first);
}

#[test]
fn methods_can_be_called_directly() {
    let fake = FakeTurn::new::<Account>("alice");
    let mut log = Log::default();
    assert_eq!(log_append(&mut log, &fake), 1);
    let staged = fake.commit();
    assert_eq!(staged.writes.len(), 1);
    assert!(staged.writes[0].key.starts_with(b"lines/"));
    fake.cx().send::<Account>("bob").deposit(5);
    let key = fake.cx().key("echo", "e").unwrap();
    fake.cx().send_raw(&key, "echo", Bytes::from_static(b"raw"));
    let staged = fake.commit();
    let bob = fake.cx().key("account", "bob").unwrap();
    let first = OutMessage {
        actor: bob,
        method: "deposit".to_owned(),
        body: "5".into(),
    };
    assert_eq!(
        (staged.sends.len(), &staged.sends[0], staged.fault),
        (2, &first, None)
    );
    fake.cx().send::<Account>("").deposit(5);
    assert_eq!(fake.commit().fault.unwrap().name, "InvalidSend");
    let _typed: Result<u128, CallError<AccountError>> = Err(CallError::Contract(String::new()));
}

fn log_append(log: &mut Log, fake: &FakeTurn) -> u64 {
    let body = Bytes::from_static(b"\"x\"");
    let reply = run(log.dispatch(fake.cx(), "append", body)).unwrap();
    serde_json::from_slice(&reply).unwrap()
}

#[test]
fn older_versions_are_upgraded() {
    assert_eq!(Probe::restore(Some(&[1, 1, 5])).unwrap().seen, 105);
    assert_eq!(Probe::restore(Some(&[1, 2, 5])).unwrap().seen, 5);
    assert_eq!(Probe::restore(None).unwrap().seen, 0);
    for (row, wanted) in [
        (&[1, 3, 5][..], "it has version 3, this program has 2"),
        (
            &[1, 1, 5, 5],
            "the upgrade from version 1 failed: unexpected [5, 5]",
        ),
    ] {
        let error = Probe::restore(Some(row)).unwrap_err().to_string();
        assert!(error.starts_with(wanted), "{error}");
    }
}

/// An actor without the macro, whose read misbehaves.
#[derive(Debug)]
struct Liar;

impl Actor for Liar {
    const TYPE: &'static str = "liar";
    const METHODS: &'static [Method] = &[
        Method {
            name: "read",
            kind: MethodKind::Read,
            arguments: "",
        },
        Method {
            name: "panic",
            kind: MethodKind::Write,
            arguments: "",
        },
    ];

    fn restore(_: Option<&[u8]>) -> Result<Self, super::state::StateError> {
        Ok(Self)
    }

    fn encode(&self) -> Result<Bytes, super::state::StateError> {
        Ok(Bytes::new())
    }

    async fn dispatch(&mut self, cx: &Turn, method: &str, _: Bytes) -> Result<Bytes, TurnFailure> {
        assert_ne!(method, "panic", "on purpose");
        cx.send_raw(cx.actor(), "read", Bytes::new());
        Ok(Bytes::new())
    }
}

#[test]
fn bugs_of_an_actor_end_its_turn_alone() {
    let world = World::new(ActorRegistry::new().with::<Liar>());
    for (method, wanted) in [
        ("read", "staged writes or messages"),
        ("panic", "on purpose"),
    ] {
        let CallOutcome::NotRun(refusal) = world.call(("liar", "l"), method, "") else {
            panic!("{method} is broken");
        };
        assert_eq!(refusal.code, Code::TurnPanicked);
        assert!(refusal.detail.contains(wanted), "{}", refusal.detail);
    }
    assert!(world.deliver().is_none());
}

/// An actor without the macro that changes itself before it looks at its argument.
#[derive(Debug)]
struct Hasty(u8);

impl Actor for Hasty {
    const TYPE: &'static str = "hasty";
    const METHODS: &'static [Method] = &[Method {
        name: "add",
        kind: MethodKind::Write,
        arguments: "by: u8",
    }];

    fn restore(stored: Option<&[u8]>) -> Result<Self, super::state::StateError> {
        Ok(Self(stored.map_or(0, |row| row[0])))
    }

    fn encode(&self) -> Result<Bytes, super::state::StateError> {
        Ok(vec![self.0].into())
    }

    async fn dispatch(&mut self, _: &Turn, _: &str, body: Bytes) -> Result<Bytes, TurnFailure> {
        self.0 += 1;
        if body != "1" {
            return Err(super::body::refuse_argument("add", "1", "it is not"));
        }
        Ok(vec![b'0' + self.0].into())
    }
}

#[test]
fn what_a_refused_turn_changed_is_gone() {
    let world = World::new(ActorRegistry::new().with::<Hasty>());
    for (body, reply) in [("1", Some("1")), ("x", None), ("y", None), ("1", Some("2"))] {
        match (world.call(("hasty", "h"), "add", body), reply) {
            (CallOutcome::Reply(found), Some(reply)) => assert_eq!(found, reply),
            (CallOutcome::NotRun(refusal), None) => {
                assert_eq!(refusal.code, Code::InvalidArgument);
            }
            (other, _) => panic!("{body}: {other:?}"),
        }
    }
}

#[test]
#[should_panic(expected = "registered twice")]
fn two_types_of_one_name_are_refused() {
    let _registry = ActorRegistry::new().with::<Counter>().with::<Counter>();
}

#[test]
fn an_idle_activation_is_small() {
    assert!(size_of::<super::activation::Active<Counter>>() <= 64);
    assert!(size_of::<Box<dyn Activation>>() <= 16);
}

#[test]
fn what_cannot_be_published_rolls_the_turn_back() {
    let world = world();
    for (topic, bytes, wanted) in [
        ("", 1, Some("cannot publish")),
        ("orders", 8 << 20, Some("at most")),
        ("orders", 1, None),
    ] {
        let body = format!(r#"{{"topic":"{topic}","bytes":{bytes}}}"#);
        match (world.call(("probe", "p"), "publish", body), wanted) {
            (CallOutcome::App(error), Some(words)) => {
                assert!(error.message.contains(words), "{error:?}");
                assert!(world.published().is_empty());
            }
            (CallOutcome::Reply(_), None) => {
                let event = world.published().pop().expect("it is there");
                assert_eq!(event.event.key.as_deref(), Some(&b"k"[..]));
                assert_eq!(event.data(), "\"x\"");
            }
            (found, _) => panic!("{topic}: {found:?}"),
        }
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Sleeper {
    woken: u32,
}

#[actor(name = "sleeper")]
impl Sleeper {
    fn sleep(&mut self, cx: &Turn, seconds: u64) {
        cx.remind("snore", Duration::from_secs(1));
        let wake = Reminder::after(Duration::from_secs(seconds));
        cx.remind("wake", wake.with(&seconds));
        cx.unremind("snore");
    }

    fn wake(&mut self, cx: &Turn, seconds: u64) {
        self.woken += 1;
        cx.unremind("wake");
        assert!(seconds > 0);
    }

    fn never(&mut self, cx: &Turn) {
        cx.remind("no/method", Duration::ZERO);
    }
}

#[test]
fn reminders_commit_with_their_turn() {
    let world = World::new(ActorRegistry::new().with::<Sleeper>());
    world.set_wall_ms(1_000);
    let sleeper = ("sleeper", "s");
    let call = |method, body: &'static str| world.call(sleeper, method, body.as_bytes());
    assert!(matches!(call("sleep", "60"), CallOutcome::Reply(_)));
    let reminders = world.reminders(sleeper);
    let due: Vec<_> = reminders
        .iter()
        .map(|(name, at)| (name.as_str(), at.0))
        .collect();
    assert_eq!(due, [("wake", 61_000)], "the last word on each counts");
    let CallOutcome::App(error) = call("never", "") else {
        panic!("it is rolled back")
    };
    assert_eq!(error.name, "InvalidReminder");
    assert_eq!(world.reminders(sleeper).len(), 1);
    assert!(matches!(call("wake", "60"), CallOutcome::Reply(_)));
    assert_eq!(world.reminders(sleeper), []);
    let fake = FakeTurn::new::<Sleeper>("s");
    Sleeper::default().sleep(fake.cx(), 3);
    let staged = fake.commit().reminders;
    let names: Vec<_> = staged
        .iter()
        .map(|(name, row)| (name.as_str(), row.is_some()))
        .collect();
    assert_eq!(names, [("snore", false), ("wake", true)]);
}
