//! Topics at work: publishers are clients like others; programs subscribe, say what became of
//! events, and go to another node when theirs dies.

use std::collections::BTreeMap;

use bytes::Bytes;
use ghostlight_core::io::Input;
use ghostlight_core::topics::subscribers::{
    Said, SharedWith, SubscribersInput, Subscribing, SubscriptionId, Told, ToldEvent,
};
use ghostlight_protocol::command::IfThere;
use ghostlight_protocol::limits::TOPIC_PARTITIONS;
use ghostlight_protocol::outcome::CallOutcome;
use ghostlight_protocol::topic::{GroupSettings, Order, Purpose, Reply, TopicEvent, TopicReply};
use ghostlight_protocol::wire::frame::Frame;
use ghostlight_protocol::wire::topic::TopicSaid;
use prost::Message as _;

use super::{Event, World};
use crate::clients::{End, Op};
use crate::dice::{MS, SEC};
use crate::invariants::At;
use crate::net::Place;
use crate::subscribers::{Stage, Subscribed, for_actor, topic, verdict};

/// How often a program looks whether its node is still there.
const LOOK: u64 = 500 * MS;
/// How long an event is worked on at most.
const WORK_MAX: u64 = 50 * MS;
/// Deliveries of an event before it is a dead letter.
const DELIVERIES: u32 = 6;
/// Events that a program takes at a time.
const CREDIT: u32 = 16;
/// How long groups may take to come to the end of a topic to which nobody publishes.
const DRAIN_MAX: u64 = 120 * SEC;

impl World {
    /// Programs begin to look for nodes.
    pub(crate) fn begin_topics(&mut self) {
        for subscriber in 0..self.subscribers.all.len() {
            self.after(0, Event::Subscriber(subscriber));
        }
    }

    /// A program sees whether it is still subscribed, and subscribes if it is not.
    pub(crate) fn subscriber_looks(&mut self, subscriber: usize) {
        self.after(LOOK, Event::Subscriber(subscriber));
        let at = self.subscribers.all[subscriber].at;
        let lives = |at: Subscribed| {
            let node = &self.nodes[at.place];
            node.run == at.run && node.process.is_some() && !self.foreign.contains(&at.place)
        };
        if at.is_some_and(lives) {
            return;
        }
        self.subscribers.all[subscriber].at = None;
        let places = self.open_places(subscriber);
        if places.is_empty() {
            return;
        }
        if at.is_some() {
            self.sometimes.hit("subscriber goes to another process");
        }
        let place = *self.dice.topics.pick(&places);
        let id = self.subscribers.fresh();
        let run = self.nodes[place].run;
        let one = &mut self.subscribers.all[subscriber];
        one.at = Some(Subscribed { place, run, id });
        one.stage = Stage::Asked;
        let wants = Subscribing {
            topic: topic(),
            group: SharedWith::Cluster(one.group.clone()),
            settings: GroupSettings {
                order: Order::Key as i32,
                max_deliver: DELIVERIES,
                retry_pause_ms: 50,
                retry_pause_max_ms: 500,
                purpose: one.purpose as i32,
                ..GroupSettings::default()
            },
            if_there: IfThere::Replace,
            credit_events: CREDIT,
            credit_bytes: 1 << 20,
        };
        self.subscribers.groups.insert((place, run, id), subscriber);
        let input = SubscribersInput::Subscribe { id, wants };
        self.arrive(place, Input::Subscriber(input));
    }

    /// A node tells a program something.
    pub(crate) fn subscriber_told(&mut self, place: Place, id: SubscriptionId, told: Told) {
        let run = self.nodes[place].run;
        self.trace
            .mix(self.now, b'S', place, format!("{id:?} {told:?}").as_bytes());
        let Some(subscriber) = self.subscribers.groups.get(&(place, run, id)).copied() else {
            return self.violate(format!("node {place} has no subscriber {id:?}: {told:?}"));
        };
        let at = Subscribed { place, run, id };
        if self.subscribers.all[subscriber].at != Some(at) {
            return;
        }
        match told {
            Told::Ready => {
                self.sometimes.hit("subscription ready");
                self.subscribers.all[subscriber].stage = Stage::Ready;
            }
            // What it holds gets its verdicts still; then it is over.
            Told::Ending => {}
            Told::Over { .. } => {
                self.sometimes.hit("subscription over");
                self.subscribers.all[subscriber].at = None;
            }
            Told::Event(event) => self.event_told(subscriber, at, &event),
        }
    }

    fn event_told(&mut self, subscriber: usize, at: Subscribed, event: &ToldEvent) {
        let group = self.subscribers.all[subscriber].group.clone();
        self.sometimes.hit("event delivered");
        if event.attempt > 1 {
            self.sometimes.hit("event delivered again");
        }
        if let Err(what) = self.checks.topics.given(&group, event) {
            return self.violate(what);
        }
        // All faults have ended: what is left is to come to an end.
        let purpose = self.subscribers.all[subscriber].purpose;
        let mut params = self.params.topics.clone();
        if self.phase == super::Phase::Quiet {
            params.retry = 0.0;
        }
        let said = match (self.phase, purpose) {
            (_, Purpose::Forward) => for_actor(&params, &event.event, &mut self.dice.topics),
            (super::Phase::Quiet, Purpose::Handle) => Said::Ack,
            (super::Phase::Faults, Purpose::Handle) => verdict(
                &self.params.topics,
                &event.event.data,
                &mut self.dice.topics,
            ),
        };
        let pause = self.dice.topics.between(0, WORK_MAX);
        let place = (event.number, event.offset);
        let verdict = Event::Verdict {
            at,
            token: event.token,
            said,
            subscriber,
            event: place,
        };
        self.after(pause, verdict);
    }

    /// A program says what became of an event.
    pub(crate) fn subscriber_says(
        &mut self,
        subscriber: usize,
        at: Subscribed,
        token: u64,
        said: Said,
        event: At,
    ) {
        if self.subscribers.all[subscriber].at != Some(at) || self.nodes[at.place].run != at.run {
            return;
        }
        let group = self.subscribers.all[subscriber].group.clone();
        match &said {
            Said::Ack => self.checks.topics.done(&group, event),
            Said::Retry(_) => self.sometimes.hit("event refused for now"),
            // Nobody wants it any more: without a topic for dead letters it goes.
            Said::Drop(_) => {
                self.sometimes.hit("event refused for good");
                self.checks.topics.done(&group, event);
            }
            // Done when it is a message.
            Said::Forward(_) => self.sometimes.hit("event for an actor"),
        }
        let id = at.id;
        let input = SubscribersInput::Verdict { id, token, said };
        self.arrive(at.place, Input::Subscriber(input));
    }

    /// What leaves a leader is compared with what it knows.
    pub(crate) fn check_topic_frame(&mut self, from: Place, to: Place, frame: &Frame) {
        let Frame::Topic(topic) = frame else { return };
        if let Some(TopicSaid::Attach(attach)) = &topic.said {
            let numbers = &mut self.nodes[from].subscriptions;
            numbers.insert(topic.subscriber, attach.group.clone());
        }
        let group_of = |number: u64| {
            let numbers = &self.nodes[to].subscriptions;
            numbers.get(&number).cloned()
        };
        if let Err(what) = self.checks.topics.sent(from, topic, group_of) {
            self.violate(what);
        }
    }

    /// What a client that publishes is answered.
    pub(crate) fn published(&mut self, client: usize, body: &Bytes) {
        let Ok(TopicReply {
            reply: Some(Reply::Published(reply)),
        }) = TopicReply::decode(body.clone())
        else {
            return self.violate(format!("a publish is answered {body:?}"));
        };
        let at = (reply.number as u16, reply.first);
        let Some(op) = self.clients.op_of(client) else {
            return;
        };
        if let Op::Publish { .. } = op
            && let Err(what) = self.checks.topics.stands(at, &op.event().data)
        {
            return self.violate(what);
        }
        self.sometimes.hit("publish acknowledged");
        self.ended(client, End::Reply(serde_json::json!([at.0, at.1])));
    }

    /// Waits until every group has come to the end of the topic, and compares.
    ///
    /// # Errors
    /// The promise that was broken.
    pub(crate) fn drain_topics(&mut self) -> Result<(), String> {
        if self.subscribers.all.is_empty() {
            return Ok(());
        }
        let is_ready = |world: &Self| {
            let mut all = world.subscribers.all.iter();
            all.all(|one| one.at.is_some() && one.stage == Stage::Ready)
        };
        if !self.run_while(DRAIN_MAX, 100 * MS, |world| !is_ready(world)) {
            return Err(format!(
                "not every program is subscribed in a healed cluster: {:?}",
                self.subscribers.all
            ));
        }
        self.resume_all()?;
        let end = self.now + DRAIN_MAX;
        for number in 0..TOPIC_PARTITIONS {
            while self.lag(number)? > 0 {
                if self.now > end {
                    return Err(format!(
                        "groups do not come to the end of topic partition {number}: {} events are left",
                        self.lag(number)?
                    ));
                }
                let next = self.now + 200 * MS;
                self.run_until(next);
                self.verdict().map_err(|failure| failure.what)?;
            }
        }
        if !self.run_while(DRAIN_MAX, 100 * MS, |world| world.waiting_messages() > 0) {
            return Err(format!(
                "{} events do not reach their actors",
                self.waiting_messages()
            ));
        }
        self.compare_topics()?;
        self.compare_actors()
    }

    fn compare_topics(&mut self) -> Result<(), String> {
        let mut letters = BTreeMap::new();
        let groups = self.subscribers.group_names();
        for group in &groups {
            for number in 0..TOPIC_PARTITIONS {
                letters.extend(self.letters(group, number)?);
            }
        }
        if !letters.is_empty() {
            self.sometimes.hit("dead letters at the end");
        }
        let acknowledged = self.clients.history.iter().filter_map(|record| {
            let (Op::Publish { .. }, End::Reply(at)) = (&record.op, &record.end) else {
                return None;
            };
            let at = (at[0].as_u64()? as u16, at[1].as_u64()?);
            Some((at, record.op.event().data))
        });
        let mut acknowledged: Vec<(At, Bytes)> = acknowledged.collect();
        acknowledged.extend(self.checks.topics.of_turns());
        self.checks.topics.check(&acknowledged, &groups, &letters)
    }

    /// Events of a topic partition that some group has not settled.
    fn lag(&mut self, number: u16) -> Result<u64, String> {
        match self.ask_topic(&Op::Describe { number })? {
            Reply::Described(reply) => Ok(reply.groups.iter().map(|group| group.lag).sum()),
            other => Err(format!("a topic partition is described as {other:?}")),
        }
    }

    pub(super) fn letters(
        &mut self,
        group: &str,
        number: u16,
    ) -> Result<BTreeMap<(String, At), TopicEvent>, String> {
        let mut found = BTreeMap::new();
        let mut from = 0;
        loop {
            let group = group.to_owned();
            let op = Op::Letters {
                group: group.clone(),
                number,
                from,
            };
            let Reply::Letters(page) = self.ask_topic(&op)? else {
                return Err(format!("{op:?} has another answer"));
            };
            for letter in page.letters {
                from = letter.offset + 1;
                let event = letter.event.unwrap_or_default();
                let at = (number, letter.offset);
                self.checks.topics.stands_for(&group, at, &event)?;
                found.insert((group.clone(), at), event);
            }
            if page.more == 0 {
                return Ok(found);
            }
        }
    }

    pub(super) fn ask_topic(&mut self, op: &Op) -> Result<Reply, String> {
        let place = self.ours().first().copied();
        let place = place.ok_or("no node is there")?;
        match self.ask(place, op) {
            Some(CallOutcome::Reply(body)) => {
                let reply = TopicReply::decode(body).map_err(|error| format!("{op:?}: {error}"))?;
                reply
                    .reply
                    .ok_or_else(|| format!("{op:?}: an empty answer"))
            }
            other => Err(format!("{op:?} of a healed cluster: {other:?}")),
        }
    }
}
