//! Actors that take events, and publish: exactly once and in order, while leaders and subscribers
//! die.

use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::topic::{ForActor, Purpose};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::samples::{Tallied, Tally};
use crate::sdk::PublishedEvent;

const SEEDS: u64 = 12;
const TALLIES: [&str; 3] = ["apples", "pears", "plums"];
const LOGS: [&str; 3] = ["x", "y", "z"];
/// Events for each tally and each log.
const EVENTS: u64 = 24;

fn actor(actor_type: &str, id: &str) -> ActorKey {
    ActorKey::new("default", actor_type, id).unwrap()
}

fn for_actors() -> GroupSettings {
    GroupSettings {
        purpose: Purpose::Forward as i32,
        ..settings(Order::Partition)
    }
}

/// What a subscriber makes of an event: a line of the log of its key, or a count of the tally it
/// names.
fn message(event: &ToldEvent) -> Result<ForActor, String> {
    let body = event.event.data.clone();
    match serde_json::from_slice::<Tallied>(&body) {
        Ok(tallied) => Ok(ForActor {
            actor: actor("tally", &tallied.of),
            method: "count".to_owned(),
            body,
        }),
        Err(error) if body.starts_with(b"{") => Err(error.to_string()),
        Err(_) => Ok(ForActor {
            actor: actor(
                "log",
                std::str::from_utf8(event.event.key.as_ref().unwrap()).unwrap(),
            ),
            method: "append".to_owned(),
            body: Bytes::from(format!("\"{}\"", String::from_utf8_lossy(&body))),
        }),
    }
}

impl Shop {
    fn subscribe_to(
        &mut self,
        at: u64,
        id: u64,
        topic: TopicName,
        group: &str,
        how: GroupSettings,
    ) {
        let wants = Subscribing {
            topic,
            group: SharedWith::Cluster(group.to_owned()),
            settings: how,
            if_there: IfThere::Replace,
            credit_events: 64,
            credit_bytes: 1 << 20,
        };
        let id = SubscriptionId(id);
        let input = SubscribersInput::Subscribe { id, wants };
        self.bench.feed(at, Input::Subscriber(input));
    }

    /// Says of everything new which actor it is for.
    fn forward_all(
        &mut self,
        ids: std::ops::Range<u64>,
        taken: &mut BTreeMap<(u64, SubscriptionId), usize>,
    ) {
        self.look();
        for ((at, id), events) in self.seen.clone() {
            let from = taken.entry((at, id)).or_default();
            let new = events[*from..].to_vec();
            *from = events.len();
            if self.dead.contains(&at) || !ids.contains(&id.0) {
                continue;
            }
            for event in new {
                let said = match message(&event) {
                    Ok(to) => Said::Forward(Box::new(to)),
                    Err(why) => Said::Drop(why),
                };
                self.say(at, id, event.token, said);
            }
        }
    }

    fn publish_text(&mut self, at: u64, key: &str, text: String, number: u64) {
        let event = TopicEvent {
            key: Some(Bytes::copy_from_slice(key.as_bytes())),
            data: Bytes::from(text),
            source: "shop".to_owned(),
            ..TopicEvent::default()
        };
        let body = PublishBody {
            events: vec![event],
            ..PublishBody::default()
        };
        let place = topic().partition_for(key.as_bytes());
        let ticket = self.call(at, place.key(), Request::Publish(body));
        self.asked.insert(ticket, (key.to_owned(), number));
    }

    /// Asks an actor; `None`: it has no answer yet.
    fn read<T: serde::de::DeserializeOwned>(
        &mut self,
        at: u64,
        key: ActorKey,
        method: &str,
    ) -> Option<T> {
        self.tickets += 1;
        let ticket = CallTicket(self.tickets);
        let call = ClientCall {
            actor: key,
            method: method.to_owned(),
            body: Bytes::new(),
            request_id: None,
            deadline: None,
            stamp: Stamp::default(),
            metadata: Vec::new(),
        };
        self.bench.feed(at, Input::Call { ticket, call });
        self.bench.pass(100);
        self.look();
        match self.replies.get(&ticket.0)? {
            CallOutcome::Reply(body) => Some(serde_json::from_slice(body).unwrap()),
            other => panic!("{other:?}"),
        }
    }
}

/// Publishes, kills one node somewhere in the middle, and looks at the actors.
fn run(seed: u64) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut shop = Shop::open();
    let tens = TopicName::new("default", "samples", "tens").unwrap();
    for at in 1..=NODES {
        shop.subscribe_to(at, at, topic(), "actors/any/count", for_actors());
    }
    let reader = rng.random_range(1..=NODES);
    shop.subscribe_to(reader, 100, tens, "tens", settings(Order::Key));
    shop.wait_ready(&[1, 2, 3, 100]);
    let victim = (1..=NODES).filter(|at| *at != reader);
    let victim: Vec<u64> = victim.collect();
    let victim = victim[rng.random_range(0..victim.len())];
    let when = rng.random_range(1..EVENTS);
    let mut taken = BTreeMap::new();
    for number in 0..EVENTS {
        for of in TALLIES {
            // Keys of their own: events of one tally come from several logs.
            let key = format!("{of}{}", rng.random_range(0..4));
            let tallied = Tallied {
                of: of.to_owned(),
                amount: number,
            };
            let text = serde_json::to_string(&tallied).unwrap();
            shop.publish_text(reader, &key, text, number);
        }
        for key in LOGS {
            shop.publish_text(reader, key, number.to_string(), number);
        }
        if rng.random_bool(0.7) {
            shop.bench.pass(10);
        }
        if number == when {
            shop.kill(victim);
        }
        if rng.random_bool(0.7) {
            shop.forward_all(1..4, &mut taken);
        }
    }
    for _ in 0..400 {
        shop.bench.pass(10);
        shop.forward_all(1..4, &mut taken);
    }
    check(&mut shop, reader, seed);
}

/// Every event has changed its actor once and in order, and what turns published is there once.
fn check(shop: &mut Shop, reader: u64, seed: u64) {
    for of in TALLIES {
        let tally: Tally = shop
            .read(reader, actor("tally", of), "get")
            .expect("it answers");
        let wanted = Tally {
            events: EVENTS,
            total: (0..EVENTS).sum(),
        };
        assert_eq!(tally, wanted, "seed {seed}: {of}");
    }
    for key in LOGS {
        let lines: Vec<String> = shop
            .read(reader, actor("log", key), "read")
            .expect("it answers");
        let wanted: Vec<String> = (0..EVENTS).map(|number| number.to_string()).collect();
        assert_eq!(lines, wanted, "seed {seed}: {key}");
    }
    // What their turns published, each exactly once.
    shop.look();
    let mut found: Vec<(String, Tally)> = shop.seen[&(reader, SubscriptionId(100))]
        .iter()
        .map(|told| {
            let event = told.event.clone();
            let source = event.source.clone();
            let published = PublishedEvent {
                topic: topic().partition(0),
                event,
            };
            (source, serde_json::from_slice(&published.data()).unwrap())
        })
        .collect();
    found.sort_by_key(|(source, tally)| (source.clone(), tally.events));
    let found: Vec<(String, u64)> = found
        .into_iter()
        .map(|(of, tally)| (of, tally.events))
        .collect();
    let wanted: Vec<(String, u64)> = TALLIES
        .iter()
        .flat_map(|of| [10, 20].map(|events| (format!("tally/{of}"), events)))
        .collect();
    assert_eq!(found, wanted, "seed {seed}");
}

#[test]
fn actors_take_and_publish_events_exactly_once() {
    for seed in 0..SEEDS {
        println!("reproduce: run({seed}) in node/tests/topics/actors.rs");
        run(seed);
    }
}

#[test]
fn an_event_for_no_actor_is_a_letter_and_holds_nobody_up() {
    let mut shop = Shop::open();
    shop.subscribe_to(2, 1, topic(), "actors/any/count", for_actors());
    shop.wait_ready(&[1]);
    shop.publish_text(1, "x", "{\"nothing\":1}".to_owned(), 0);
    shop.publish_text(1, "x", "7".to_owned(), 1);
    let mut taken = BTreeMap::new();
    for _ in 0..50 {
        shop.bench.pass(10);
        shop.forward_all(1..2, &mut taken);
    }
    let lines: Vec<String> = shop.read(3, actor("log", "x"), "read").expect("it answers");
    assert_eq!(lines, ["7"]);
    let described = shop.describe(topic().partition_for(b"x").number);
    let row = described.groups[0].row.clone().unwrap();
    assert_eq!((row.letters, row.dead, row.floor), (1, 1, 2));
}
