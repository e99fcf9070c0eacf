//! Topics over whole nodes: publishers, groups, verdicts, and leaders and subscribers that die in
//! between.

mod actors;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use ghostlight_protocol::call::Stamp;
use ghostlight_protocol::command::IfThere;
use ghostlight_protocol::hash::partition_of;
use ghostlight_protocol::ids::NodeId;
use ghostlight_protocol::outcome::CallOutcome;
use ghostlight_protocol::topic::{
    DescribeReply, GroupSettings, Nothing, Order, PublishBody, Reply, Request, StartFrom,
    TopicEvent, TopicName, TopicReply, TopicRequest, event_name,
};
use ghostlight_protocol::wire::hello::ConnectionKind;
use prost::Message;

use super::bench::{Bench, node_id};
use crate::gateway::{CallTicket, ClientCall};
use crate::io::Input;
use crate::topics::subscribers::{
    Said, SharedWith, SubscribersInput, Subscribing, SubscriptionId, Told, ToldEvent,
};

const NODES: u64 = 3;
const PARTITIONS: u16 = 4;

fn topic() -> TopicName {
    TopicName::new("default", "pubsub", "orders").unwrap()
}

/// What a test does and has seen.
struct Shop {
    bench: Bench,
    tickets: u64,
    /// Published: key and number, by the ticket of its call.
    asked: BTreeMap<u64, (String, u64)>,
    /// Acknowledged ones.
    acked: BTreeSet<(String, u64)>,
    replies: BTreeMap<u64, CallOutcome>,
    dead: BTreeSet<u64>,
    seen: BTreeMap<(u64, SubscriptionId), Vec<ToldEvent>>,
    ready: BTreeSet<SubscriptionId>,
    over: Vec<Told>,
}

impl Shop {
    fn open() -> Self {
        let (bench, _) = Bench::led(NODES, PARTITIONS);
        Self {
            bench,
            tickets: 0,
            asked: BTreeMap::new(),
            acked: BTreeSet::new(),
            replies: BTreeMap::new(),
            dead: BTreeSet::new(),
            seen: BTreeMap::new(),
            ready: BTreeSet::new(),
            over: Vec::new(),
        }
    }

    fn call(
        &mut self,
        at: u64,
        key: ghostlight_protocol::actor::ActorKey,
        request: Request,
    ) -> u64 {
        self.tickets += 1;
        let ticket = self.tickets;
        let body = TopicRequest {
            request: Some(request),
        };
        let call = ClientCall {
            actor: key,
            method: "topic".to_owned(),
            body: body.encode_to_vec().into(),
            request_id: None,
            deadline: None,
            stamp: Stamp::default(),
            metadata: Vec::new(),
        };
        let ticket = CallTicket(ticket);
        self.bench.feed(at, Input::Call { ticket, call });
        self.tickets
    }

    fn publish(&mut self, at: u64, key: &str, number: u64) {
        let name = topic();
        let place = name.partition_for(key.as_bytes());
        let event = TopicEvent {
            key: Some(Bytes::copy_from_slice(key.as_bytes())),
            data: Bytes::from(number.to_string()),
            source: "shop".to_owned(),
            ..TopicEvent::default()
        };
        let body = PublishBody {
            events: vec![event],
            ..PublishBody::default()
        };
        let ticket = self.call(at, place.key(), Request::Publish(body));
        self.asked.insert(ticket, (key.to_owned(), number));
    }

    fn subscribe(&mut self, at: u64, id: u64, group: &str, settings: GroupSettings) {
        let wants = Subscribing {
            topic: topic(),
            group: SharedWith::Cluster(group.to_owned()),
            settings,
            if_there: IfThere::Replace,
            credit_events: 64,
            credit_bytes: 1 << 20,
        };
        let id = SubscriptionId(id);
        let input = SubscribersInput::Subscribe { id, wants };
        self.bench.feed(at, Input::Subscriber(input));
    }

    fn say(&mut self, at: u64, id: SubscriptionId, token: u64, said: Said) {
        let input = SubscribersInput::Verdict { id, token, said };
        self.bench.feed(at, Input::Subscriber(input));
    }

    /// Takes in what nodes have answered and told.
    fn look(&mut self) {
        for number in 1..=NODES {
            if self.dead.contains(&number) {
                continue;
            }
            let member = self.bench.at(number);
            let replies = std::mem::take(&mut member.replies);
            let told = std::mem::take(&mut member.told);
            for (CallTicket(ticket), outcome) in replies {
                if let (Some(asked), CallOutcome::Reply(_)) = (self.asked.get(&ticket), &outcome) {
                    self.acked.insert(asked.clone());
                }
                self.replies.insert(ticket, outcome);
            }
            for (id, told) in told {
                match told {
                    Told::Ready => {
                        self.ready.insert(id);
                    }
                    Told::Event(event) => {
                        self.seen.entry((number, id)).or_default().push(*event);
                    }
                    over @ (Told::Over { .. } | Told::Ending) => self.over.push(over),
                }
            }
        }
    }

    /// Acknowledges everything that has come, in the order in which it came.
    fn ack_all(
        &mut self,
        taken: &mut BTreeMap<(u64, SubscriptionId), usize>,
    ) -> Vec<(u64, ToldEvent)> {
        self.look();
        let mut new = Vec::new();
        for ((at, id), events) in self.seen.clone() {
            let from = taken.entry((at, id)).or_default();
            for event in &events[*from..] {
                new.push((id.0, event.clone()));
                if !self.dead.contains(&at) {
                    self.say(at, id, event.token, Said::Ack);
                }
            }
            *from = events.len();
        }
        new
    }

    fn wait_ready(&mut self, ids: &[u64]) {
        for _ in 0..500 {
            self.look();
            if ids
                .iter()
                .all(|id| self.ready.contains(&SubscriptionId(*id)))
            {
                return;
            }
            self.bench.pass(10);
        }
        panic!("not ready: {ids:?}, {:?}", self.over);
    }

    fn reply(&mut self, ticket: u64) -> Reply {
        for _ in 0..500 {
            self.look();
            if let Some(outcome) = self.replies.get(&ticket) {
                let CallOutcome::Reply(body) = outcome else {
                    panic!("{outcome:?}");
                };
                let reply = TopicReply::decode(body.clone()).unwrap();
                return reply.reply.unwrap();
            }
            self.bench.pass(10);
        }
        panic!("no answer");
    }

    fn describe(&mut self, number: u16) -> DescribeReply {
        let key = topic().partition(number).key();
        let ticket = self.call(1, key, Request::Describe(Nothing {}));
        match self.reply(ticket) {
            Reply::Described(reply) => reply,
            other => panic!("{other:?}"),
        }
    }

    /// The node is gone, with everything that it knew.
    fn kill(&mut self, number: u64) {
        self.dead.insert(number);
        let gone = node_id(number);
        self.bench.gone.insert(gone);
        for at in (1..=NODES).filter(|at| *at != number) {
            for kind in [ConnectionKind::Control, ConnectionKind::Bulk] {
                let _: NodeId = gone;
                self.bench
                    .feed(at, Input::Disconnected { node: gone, kind });
            }
        }
    }
}

fn settings(order: Order) -> GroupSettings {
    GroupSettings {
        order: order as i32,
        ..GroupSettings::default()
    }
}

/// Numbers of each key, in the order of their first deliveries.
fn firsts(events: &[(u64, ToldEvent)], group: u64) -> BTreeMap<String, Vec<u64>> {
    let mut found: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for (_, event) in events.iter().filter(|(id, _)| id / 10 == group) {
        let key = String::from_utf8(event.event.key.clone().unwrap().to_vec()).unwrap();
        let number = std::str::from_utf8(&event.event.data)
            .unwrap()
            .parse()
            .unwrap();
        let numbers = found.entry(key).or_default();
        if !numbers.contains(&number) {
            numbers.push(number);
        }
    }
    found
}

#[test]
fn every_group_gets_every_event_in_the_order_of_its_key() {
    let mut shop = Shop::open();
    shop.publish(1, "early", 0);
    for (at, id, group) in [(1, 10, "a"), (2, 11, "a"), (3, 20, "b")] {
        shop.subscribe(at, id, group, settings(Order::Key));
    }
    shop.wait_ready(&[10, 11, 20]);
    let keys = ["x", "y", "z", "w"];
    let mut taken = BTreeMap::new();
    let mut events = Vec::new();
    for number in 0..20 {
        for (at, key) in (1..).zip(keys) {
            shop.publish(at % NODES + 1, key, number);
        }
        shop.bench.pass(10);
        events.extend(shop.ack_all(&mut taken));
    }
    for _ in 0..50 {
        shop.bench.pass(20);
        events.extend(shop.ack_all(&mut taken));
    }
    assert_eq!(shop.acked.len(), 81);
    for group in [1, 2] {
        let found = firsts(&events, group);
        for key in keys {
            assert_eq!(found[key], (0..20).collect::<Vec<u64>>(), "{group} {key}");
        }
        let count = events.iter().filter(|(id, _)| id / 10 == group).count();
        assert_eq!(count, 81, "nothing comes twice");
    }
    // The cursors say so, after their pause.
    for number in 0..8 {
        let key = topic().partition(number).key();
        let ticket = shop.call(2, key, Request::Describe(Nothing {}));
        for _ in 0..20 {
            shop.bench.pass(10);
            shop.look();
        }
        let Some(CallOutcome::Reply(body)) = shop.replies.get(&ticket) else {
            panic!("{:?}", shop.replies.get(&ticket));
        };
        let Some(Reply::Described(described)) = TopicReply::decode(body.clone()).unwrap().reply
        else {
            panic!("described");
        };
        assert_eq!(described.groups.len(), 2);
        for group in described.groups {
            assert_eq!((group.lag, group.in_flight), (0, 0), "{group:?}");
        }
    }
}

#[test]
fn a_failed_delivery_is_counted_repeated_and_buried() {
    let mut shop = Shop::open();
    let settings = GroupSettings {
        max_deliver: 3,
        ..settings(Order::Key)
    };
    shop.subscribe(2, 10, "a", settings);
    shop.wait_ready(&[10]);
    shop.publish(1, "bad", 1);
    shop.publish(1, "bad", 2);
    let id = SubscriptionId(10);
    for attempt in 1..=3 {
        for _ in 0..100 {
            shop.bench.pass(10);
            shop.look();
            let seen = shop.seen.get(&(2, id)).map_or(0, Vec::len);
            if seen >= attempt {
                break;
            }
        }
        let event = shop.seen[&(2, id)][attempt - 1].clone();
        assert_eq!(
            (event.attempt as usize, &event.event.data[..]),
            (attempt, &b"1"[..])
        );
        shop.say(2, id, event.token, Said::Retry("no".to_owned()));
    }
    // The one behind it comes now, and the letter is parked.
    for _ in 0..50 {
        shop.bench.pass(10);
    }
    shop.look();
    let last = shop.seen[&(2, id)].last().unwrap().clone();
    assert_eq!(&last.event.data[..], b"2");
    shop.say(2, id, last.token, Said::Ack);
    shop.bench.pass(200);
    let place = topic().partition_for(b"bad");
    let described = shop.describe(place.number);
    let row = described.groups[0].row.clone().unwrap();
    assert_eq!((row.letters, row.dead, row.floor), (1, 1, 2));
    // Driven again, it is delivered to its group.
    let redrive = ghostlight_protocol::topic::Redrive {
        group: "a".to_owned(),
        offsets: vec![0],
        to: 0,
    };
    let ticket = shop.call(3, place.key(), Request::Redrive(redrive));
    shop.reply(ticket);
    shop.bench.pass(100);
    shop.look();
    let again = shop.seen[&(2, id)].last().unwrap();
    assert_eq!((again.offset, &again.event.data[..]), (2, &b"1"[..]));
}

#[test]
fn a_subscriber_that_dies_leaves_its_events_to_others() {
    for order in [Order::Key, Order::None, Order::Partition] {
        let mut shop = Shop::open();
        let leader = shop
            .bench
            .server(partition_of(&topic().partition_for(b"x").key(), PARTITIONS));
        let leader = leader.unwrap();
        let others: Vec<u64> = (1..=NODES).filter(|n| *n != leader).collect();
        shop.subscribe(others[0], 10, "a", settings(order));
        shop.wait_ready(&[10]);
        for number in 0..5 {
            shop.publish(leader, "x", number);
        }
        shop.bench.pass(50);
        shop.look();
        let held = shop.seen[&(others[0], SubscriptionId(10))].len();
        assert!(held >= 1, "{order:?}");
        shop.subscribe(others[1], 11, "a", settings(order));
        shop.wait_ready(&[11]);
        shop.kill(others[0]);
        let mut taken = BTreeMap::from([((others[0], SubscriptionId(10)), held)]);
        let mut events = Vec::new();
        let mut first = None;
        for step in 0..300 {
            shop.bench.pass(10);
            events.extend(shop.ack_all(&mut taken));
            if first.is_none() && !events.is_empty() {
                first = Some(step * 10);
            }
        }
        assert!(first.is_some_and(|ms| ms < 1_000), "{order:?}: {first:?}");
        let found = firsts(&events, 1);
        let mut numbers = found["x"].clone();
        if order == Order::None {
            numbers.sort_unstable();
        }
        assert_eq!(numbers, (0..5).collect::<Vec<u64>>(), "{order:?}");
    }
}

/// With a single delivery allowed, whatever counted as one would be a dead letter.
#[test]
fn a_node_that_ends_gives_back_what_was_not_begun() {
    let mut shop = Shop::open();
    let only_one = || GroupSettings {
        max_deliver: 1,
        ..settings(Order::None)
    };
    let place = topic().partition_for(b"x");
    let leader = shop.bench.server(partition_of(&place.key(), PARTITIONS));
    let leader = leader.unwrap();
    let others: Vec<u64> = (1..=NODES).filter(|n| *n != leader).collect();
    // Node 1 is asked in the end.
    let (staying, ending) = (others[0], others[1]);
    let id = SubscriptionId(10);
    shop.subscribe(ending, 10, "a", only_one());
    shop.wait_ready(&[10]);
    for number in 0..8 {
        shop.publish(leader, "x", number);
    }
    shop.bench.pass(100);
    shop.look();
    let held = shop.seen[&(ending, id)].clone();
    assert!(held.len() >= 3, "{held:?}");
    let deadline = shop.bench.now.instant + std::time::Duration::from_secs(30);
    shop.bench.feed(ending, Input::Shutdown { deadline });
    // Published while it ends, and perhaps on its way there.
    shop.publish(leader, "x", 8);
    shop.subscribe(staying, 11, "a", only_one());
    shop.look();
    assert_eq!(shop.over, [Told::Ending]);
    // The first is under way, and ends well later; the others were not begun.
    for event in &held[1..] {
        let token = event.token;
        let back = SubscribersInput::GiveBack { id, token };
        shop.bench.feed(ending, Input::Subscriber(back));
    }
    let mut taken = BTreeMap::from([((ending, id), held.len())]);
    let mut events = Vec::new();
    for _ in 0..100 {
        shop.bench.pass(10);
        events.extend(shop.ack_all(&mut taken));
    }
    let ended = node_id(ending);
    assert!(
        !shop.bench.ended.contains(&ended),
        "a delivery is under way"
    );
    shop.say(ending, id, held[0].token, Said::Ack);
    let gone = SubscribersInput::Unsubscribe(id);
    shop.bench.feed(ending, Input::Subscriber(gone));
    for _ in 0..200 {
        shop.bench.pass(10);
        events.extend(shop.ack_all(&mut taken));
    }
    assert!(shop.bench.ended.contains(&ended), "everything is settled");
    let attempts: Vec<u32> = events.iter().map(|(_, event)| event.attempt).collect();
    assert_eq!(attempts, [1; 8], "nothing counts as failed");
    let numbers = firsts(&events, 1)["x"].len();
    assert_eq!(numbers, 8, "everything but the one that was under way");
    let row = shop.describe(place.number).groups[0].row.clone().unwrap();
    assert_eq!((row.letters, row.floor), (0, 9));
}

#[test]
fn a_leader_that_dies_costs_no_event_and_repeats_none() {
    let mut shop = Shop::open();
    let partition = partition_of(&topic().partition_for(b"x").key(), PARTITIONS);
    let leader = shop.bench.server(partition).unwrap();
    let others: Vec<u64> = (1..=NODES).filter(|n| *n != leader).collect();
    shop.subscribe(others[0], 10, "a", settings(Order::Key));
    shop.subscribe(others[1], 20, "b", settings(Order::Key));
    shop.wait_ready(&[10, 20]);
    let mut taken = BTreeMap::new();
    let mut events = Vec::new();
    for number in 0..30 {
        for key in ["x", "y", "z"] {
            shop.publish(others[0], key, number);
        }
        shop.bench.pass(10);
        if number == 10 {
            shop.kill(leader);
        }
        events.extend(shop.ack_all(&mut taken));
    }
    for _ in 0..300 {
        shop.bench.pass(10);
        events.extend(shop.ack_all(&mut taken));
    }
    assert_eq!(shop.acked.len(), 90, "publishes are sent again");
    for group in [1, 2] {
        let found = firsts(&events, group);
        for key in ["x", "y", "z"] {
            assert_eq!(found[key], (0..30).collect::<Vec<u64>>(), "{group} {key}");
        }
        let count = events.iter().filter(|(id, _)| id / 10 == group).count();
        assert_eq!(count, 90, "subscribers that live get nothing twice");
    }
}

/// A program acknowledges and goes while there is no leader: what it had done comes to nobody else.
#[test]
fn what_was_acknowledged_while_nobody_led_outlives_its_subscriber() {
    let mut shop = Shop::open();
    let partition = partition_of(&topic().partition_for(b"x").key(), PARTITIONS);
    let leader = shop.bench.server(partition).unwrap();
    let others: Vec<u64> = (1..=NODES).filter(|n| *n != leader).collect();
    shop.subscribe(others[0], 10, "a", settings(Order::None));
    shop.wait_ready(&[10]);
    for number in 0..8 {
        shop.publish(others[0], "x", number);
    }
    shop.bench.pass(100);
    shop.kill(leader);
    let mut taken = BTreeMap::new();
    let events = shop.ack_all(&mut taken);
    assert_eq!(events.len(), 8);
    let gone = SubscribersInput::Unsubscribe(SubscriptionId(10));
    shop.bench.feed(others[0], Input::Subscriber(gone));
    shop.subscribe(others[1], 11, "a", settings(Order::None));
    shop.wait_ready(&[11]);
    let mut again = Vec::new();
    for _ in 0..300 {
        shop.bench.pass(10);
        again.extend(shop.ack_all(&mut taken));
    }
    assert!(again.is_empty(), "{again:?}");
    assert_eq!(shop.bench.at(others[0]).core.subscriptions(), 0);
}

/// What an application does that did not hear of its publish: it publishes the event again, at
/// another node, after the leader has died, in a call of its own.
#[test]
fn an_event_is_appended_once_under_its_name_whoever_leads() {
    let mut shop = Shop::open();
    let place = topic().partition_for(b"x");
    let partition = partition_of(&place.key(), PARTITIONS);
    let publish = |shop: &mut Shop, at: u64, ids: &[&str]| -> Vec<u64> {
        let event = |id: &&str| TopicEvent {
            data: Bytes::copy_from_slice(id.as_bytes()),
            ..TopicEvent::default()
        };
        let body = PublishBody {
            events: ids.iter().map(event).collect(),
            names: ids.iter().map(|id| event_name("shop", id)).collect(),
            ..PublishBody::default()
        };
        let ticket = shop.call(at, place.key(), Request::Publish(body));
        match shop.reply(ticket) {
            Reply::Published(reply) => (0..ids.len()).map(|at| reply.offset(at)).collect(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(publish(&mut shop, 1, &["a", "b"]), [0, 1]);
    assert_eq!(publish(&mut shop, 2, &["b", "c", "a"]), [1, 2, 0]);
    let leader = shop.bench.server(partition).unwrap();
    shop.kill(leader);
    let at = (1..=NODES).find(|at| *at != leader).unwrap();
    assert_eq!(publish(&mut shop, at, &["c", "a", "d"]), [2, 0, 3]);
    let ticket = shop.call(at, place.key(), Request::Describe(Nothing {}));
    let Reply::Described(described) = shop.reply(ticket) else {
        panic!("it was asked how it stands");
    };
    assert_eq!(described.row.unwrap().next, 4, "each event once");
}

#[test]
fn a_group_begins_and_is_moved_where_it_is_told() {
    let mut shop = Shop::open();
    for number in 0..4 {
        shop.publish(1, "x", number);
        shop.bench.pass(100);
    }
    let place = topic().partition_for(b"x");
    let last = GroupSettings {
        start: StartFrom::Last as i32,
        ..settings(Order::Key)
    };
    shop.subscribe(1, 10, "late", last);
    let wall = shop.bench.now.wall.0;
    let at_time = GroupSettings {
        start: StartFrom::Time as i32,
        start_ms: wall - 150,
        ..settings(Order::Key)
    };
    shop.subscribe(2, 20, "timed", at_time);
    shop.wait_ready(&[10, 20]);
    let mut taken = BTreeMap::new();
    let mut events = Vec::new();
    for _ in 0..60 {
        shop.bench.pass(10);
        events.extend(shop.ack_all(&mut taken));
    }
    assert!(firsts(&events, 1).is_empty());
    let timed = firsts(&events, 2);
    assert!(
        timed["x"].ends_with(&[3]) && timed["x"].len() < 4,
        "{timed:?}"
    );
    let seek = ghostlight_protocol::topic::Seek {
        group: "late".to_owned(),
        offset: Some(1),
        ..ghostlight_protocol::topic::Seek::default()
    };
    let ticket = shop.call(3, place.key(), Request::Seek(seek));
    shop.reply(ticket);
    for _ in 0..60 {
        shop.bench.pass(10);
        events.extend(shop.ack_all(&mut taken));
    }
    assert_eq!(firsts(&events, 1)["x"], [1, 2, 3]);
    let pause = ghostlight_protocol::topic::GroupName {
        group: "late".to_owned(),
    };
    let ticket = shop.call(3, place.key(), Request::Pause(pause.clone()));
    shop.reply(ticket);
    shop.publish(1, "x", 4);
    shop.bench.pass(500);
    events.extend(shop.ack_all(&mut taken));
    assert_eq!(firsts(&events, 1)["x"], [1, 2, 3], "paused");
    let ticket = shop.call(3, place.key(), Request::Resume(pause));
    shop.reply(ticket);
    shop.bench.pass(500);
    events.extend(shop.ack_all(&mut taken));
    assert_eq!(firsts(&events, 1)["x"], [1, 2, 3, 4]);
}

#[test]
fn what_needs_no_order_stays_on_the_leaders_node_while_it_has_credit() {
    let mut shop = Shop::open();
    let place = topic().partition_for(b"shop");
    let leader = shop
        .bench
        .server(partition_of(&place.key(), PARTITIONS))
        .unwrap();
    for at in 1..=NODES {
        shop.subscribe(at, at, "a", settings(Order::Key));
    }
    shop.wait_ready(&[1, 2, 3]);
    // Credit of one subscriber in one log.
    let credit = 64 / u64::from(ghostlight_protocol::limits::TOPIC_PARTITIONS);
    for _ in 0..credit + 2 {
        let event = TopicEvent {
            source: "shop".to_owned(),
            ..TopicEvent::default()
        };
        let body = PublishBody {
            events: vec![event],
            ..PublishBody::default()
        };
        shop.call(1, place.key(), Request::Publish(body));
    }
    shop.bench.pass(100);
    shop.look();
    let seen = |at: u64| shop.seen.get(&(at, SubscriptionId(at))).map_or(0, Vec::len) as u64;
    assert_eq!(seen(leader), credit);
    let others: u64 = (1..=NODES).filter(|at| *at != leader).map(seen).sum();
    assert_eq!(others, 2, "what is beyond it goes to others");
}
