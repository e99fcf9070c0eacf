//! Lists of a type, however the store cuts its pages; what an actor is doing; deletion.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::call::{
    AnswerKind, Ask as Operate, Delete, Operation, OperationReply, Page, SchedulePage,
};
use ghostlight_protocol::command::{ScheduleKind, ScheduleRow};
use ghostlight_protocol::family::{self, Family};
use prost::Message;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::harness::*;

const SEEDS: u64 = 300;

fn operate(bench: &mut Bench, n: u64, actor: &str, ask: Operate) -> OperationReply {
    let mut request = Ask::first(n, actor).request();
    request.operation = Some(Operation { ask: Some(ask) });
    let from = caller(n);
    bench.feed(crate::turns::TurnsInput::Call { from, request });
    bench.settle();
    match bench.answer(from) {
        AnswerKind::Reply(body) => OperationReply::decode(body).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn key_of(actor_type: &str, id: &str) -> ActorKey {
    ActorKey::new("default", actor_type, id).unwrap()
}

/// What a random partition has of the type `counter`, beside rows of its neighbours in the order of
/// keys.
fn random(rng: &mut ChaCha8Rng, bench: &mut Bench) -> (BTreeSet<Bytes>, BTreeMap<Bytes, Bytes>) {
    let (mut actors, mut reminders) = (BTreeSet::new(), BTreeMap::new());
    for neighbour in ["countee", "countes"] {
        let key = key_of(neighbour, "a");
        let version = (Family::Version, key.to_bytes());
        bench.rows.0.insert(version, Bytes::from(vec![0; 8]));
    }
    for n in 0..rng.random_range(0..30) {
        let id = format!("{}{n}", "x".repeat(rng.random_range(0..3)));
        let key = key_of("counter", &id);
        let (written, deleted) = (rng.random_bool(0.6), rng.random_bool(0.3));
        if written {
            let mut row = vec![0; 8];
            if deleted {
                row.push(b'd');
            } else {
                actors.insert(key.to_bytes());
            }
            let version = (Family::Version, key.to_bytes());
            bench.rows.0.insert(version, row.into());
        }
        for n in 0..rng.random_range(0..4) {
            let kind = match rng.random_bool(0.7) {
                true => ScheduleKind::Reminder,
                false => ScheduleKind::Timer,
            };
            let row_key = family::schedule_key(&key, kind, &format!("r{n}"));
            let row = ScheduleRow::default().encode_to_vec();
            bench
                .rows
                .0
                .insert((Family::Schedule, row_key.clone()), row.into());
            actors.insert(key.to_bytes());
            if kind == ScheduleKind::Reminder {
                reminders.insert(row_key, key.to_bytes());
            }
        }
    }
    (actors, reminders)
}

#[test]
fn pages_of_a_type_have_each_of_its_actors_once() {
    for seed in 0..SEEDS {
        let here = format!("SEED={seed}");
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut bench = Bench::new();
        bench.page_bytes = rng.random_range(1..200);
        let (actors, reminders) = random(&mut rng, &mut bench);
        let limit = rng.random_range(1..8);
        let (mut n, mut after, mut seen) = (0, Bytes::new(), Vec::new());
        loop {
            n += 1;
            assert!(n < 500, "{here}: it comes to an end");
            let page = Page { after, limit };
            let reply = operate(&mut bench, n, "a", Operate::ActorsOfType(page));
            assert!(reply.actors.len() <= limit as usize, "{here}");
            seen.extend(reply.actors);
            after = reply.next;
            if after.is_empty() {
                break;
            }
        }
        assert_eq!(seen, actors.into_iter().collect::<Vec<_>>(), "{here}");
        let (mut after, mut found) = (Bytes::new(), BTreeMap::new());
        loop {
            n += 1;
            assert!(n < 1_000, "{here}: it comes to an end");
            let page = SchedulePage {
                kind: ScheduleKind::Reminder as i32,
                after,
                limit,
            };
            let reply = operate(&mut bench, n, "a", Operate::SchedulesOfType(page));
            for owned in reply.owned {
                let actor = ActorKey::parse(owned.actor.clone()).unwrap();
                let kind = owned.schedule.kind();
                let key = family::schedule_key(&actor, kind, &owned.schedule.name);
                assert_eq!(found.insert(key, owned.actor), None, "{here}: listed twice");
            }
            after = reply.next;
            if after.is_empty() {
                break;
            }
        }
        assert_eq!(found, reminders, "{here}");
    }
}

#[test]
fn a_place_of_another_type_is_the_beginning() {
    let mut bench = Bench::new();
    let key = key_of("counter", "a");
    let version = (Family::Version, key.to_bytes());
    bench.rows.0.insert(version, Bytes::from(vec![0; 8]));
    for (n, after) in [(1, key_of("aaaaaaa", "x")), (2, key_of("zzzzzzz", "x"))] {
        let page = Page {
            after: after.to_bytes(),
            limit: 10,
        };
        let reply = operate(&mut bench, n, "a", Operate::ActorsOfType(page));
        assert_eq!(reply.actors, [key.to_bytes()], "{after}");
    }
}

#[test]
fn a_deleted_actor_is_in_no_list() {
    let mut bench = Bench::new();
    bench.call(Ask::first(1, "a"));
    let turn = bench.turn().turn;
    bench.end(turn, wrote("r", "k", "v"));
    bench.settle();
    let list = |bench: &mut Bench, n| {
        let page = Page {
            after: Bytes::new(),
            limit: 10,
        };
        operate(bench, n, "z", Operate::ActorsOfType(page)).actors
    };
    assert_eq!(list(&mut bench, 2), [actor_key("a").to_bytes()]);
    operate(&mut bench, 3, "a", Operate::Delete(Delete {}));
    assert_eq!(list(&mut bench, 4), Vec::<Bytes>::new());
    assert_eq!(bench.state(&actor_key("a"), b"k"), None);
}

#[test]
fn who_has_the_turn_and_who_waits() {
    let mut bench = Bench::new();
    assert_eq!(bench.engine.standing(bench.now, &actor_key("a")), None);
    bench.call(Ask::first(1, "a"));
    bench.now = bench.now + std::time::Duration::from_millis(30);
    bench.call(Ask {
        chain: vec![actor_key("b")],
        ..Ask::first(2, "a")
    });
    bench.now = bench.now + std::time::Duration::from_millis(20);
    let standing = bench.engine.standing(bench.now, &actor_key("a")).unwrap();
    let turn = standing.turn.unwrap();
    assert_eq!((turn.what.as_str(), turn.for_ms), ("m", 50));
    assert_eq!(standing.stage, "in a turn");
    assert_eq!(standing.waiting_count, 1);
    let waiting = &standing.waiting[0];
    assert_eq!((waiting.kind.as_str(), waiting.for_ms), ("call", 20));
    assert_eq!(waiting.chain, ["counter/b"]);
    let first = bench.turn().turn;
    bench.end(first, read("r"));
    let second = bench.turn().turn;
    bench.end(second, read("r"));
    bench.settle();
    let standing = bench.engine.standing(bench.now, &actor_key("a")).unwrap();
    assert_eq!((standing.stage.as_str(), standing.turn), ("idle", None));
    assert_eq!((standing.turns, standing.waiting_count), (2, 0));
}
