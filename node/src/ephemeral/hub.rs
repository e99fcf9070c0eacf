//! What the node's ephemeral topics are at the moment, under one lock. The core's thread does not
//! take it (`mail.rs`).

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ghostlight_core::ephemeral::TopicKey;
use ghostlight_core::ephemeral::gaps::Gaps;
use ghostlight_core::ephemeral::interest::{Input, Interest, Output, Wants};
use ghostlight_core::ephemeral::latch::{Latch, Reached, answers};
use ghostlight_core::io::Lane;
use ghostlight_protocol::code::Code;
use ghostlight_protocol::ids::NodeId;
use ghostlight_protocol::outcome::NotRun;
use ghostlight_protocol::time::Instant;
use ghostlight_protocol::topic::TopicName;
use ghostlight_protocol::wire::ephemeral as wire;
use ghostlight_protocol::wire::frame::Frame;
use ghostlight_protocol::wire::hello::NodeRecord;
use tokio::sync::watch;

use super::fanout::{EPOCHS_PER_RUN, Plans};
use super::mail::Mail;
use super::room::Room;
use super::subscriber::Subscriber;
use super::{Counts, Sample};
use crate::clock::wall_now;
use crate::topics::{Credits, Ending, SubscribeError, Subscription, ended};
use crate::transport::LinkHandle;

/// Subscribers of one process; more are refused.
const SUBSCRIBERS_MAX: usize = 65_536;
/// How long a subscriber waits until every connected node knows of it.
const KNOWN_WAIT_MAX: Duration = Duration::from_millis(250);

/// See the module.
#[derive(Debug)]
pub struct Hub {
    state: Mutex<State>,
    pub(super) mail: Arc<Mail>,
    /// Raised when a peer says what it knows, or goes.
    pub(super) heard: watch::Sender<u64>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) stage: Stage,
    pub(super) interest: Interest,
    pub(super) now: Instant,
    pub(super) peers: BTreeMap<NodeId, Peer>,
    /// Topics that somebody here subscribes to.
    pub(super) topics: HashMap<TopicKey, Topic>,
    pub(super) plans: Plans,
    pub(super) latch: Latch<Arc<Sample>>,
    pub(super) counts: Counts,
    pub(super) room: Arc<Room>,
    last_subscriber: u64,
    outputs: Vec<Output>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    /// The node has not begun.
    Before,
    /// It runs.
    Runs(Me),
    /// It has ended.
    Over,
}

/// Who this node is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Me {
    pub(super) node: NodeId,
    pub(super) run: u64,
    pub(super) zone: String,
}

#[derive(Debug, Default)]
pub(super) struct Peer {
    pub(super) zone: String,
    /// Its run: an earlier one's values are not its own.
    pub(super) run: u64,
    pub(super) control: Option<LinkHandle>,
    pub(super) bulk: Option<LinkHandle>,
}

/// A topic that is wanted here.
#[derive(Debug)]
pub(super) struct Topic {
    pub(super) name: TopicName,
    pub(super) subscribers: Vec<(Arc<Subscriber>, Ending)>,
    pub(super) gaps: Gaps,
    /// Events that rings of its subscribers have let go, and how many others were told of.
    pub(super) dropped: u64,
    pub(super) told: u64,
}

impl Topic {
    fn new(name: TopicName) -> Self {
        Self {
            name,
            subscribers: Vec::new(),
            gaps: Gaps::default(),
            dropped: 0,
            told: 0,
        }
    }

    pub(super) fn wants(&self) -> Wants {
        Wants {
            subscribers: u32::try_from(self.subscribers.len()).unwrap_or(u32::MAX),
            dropped: self.dropped,
        }
    }

    /// Puts an event into every ring; how many were put and how many had to go.
    pub(super) fn deliver(&mut self, sample: &Arc<Sample>, missed: u64) -> (u64, u64) {
        let mut dropped = 0;
        for (subscriber, _) in &self.subscribers {
            dropped += subscriber.push(sample, missed);
        }
        self.dropped += dropped;
        (self.subscribers.len() as u64, dropped)
    }
}

impl Default for Hub {
    fn default() -> Self {
        let state = State {
            stage: Stage::Before,
            interest: Interest::new(0),
            now: Instant::default(),
            peers: BTreeMap::new(),
            topics: HashMap::new(),
            plans: Plans::default(),
            latch: Latch::default(),
            counts: Counts::default(),
            room: Arc::default(),
            last_subscriber: 0,
            outputs: Vec::new(),
        };
        Self {
            state: Mutex::new(state),
            mail: Arc::default(),
            heard: watch::channel(0).0,
        }
    }
}

impl Hub {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The node begins.
    pub(crate) fn begin(&self, record: &NodeRecord) {
        let Some(node) = record.id() else {
            return;
        };
        let mut state = self.lock();
        state.interest.begin(record.generation);
        state.stage = Stage::Runs(Me {
            node,
            run: record.generation,
            zone: record.zone.clone(),
        });
    }

    /// The node has ended, and every subscription with it.
    pub(crate) fn end(&self) {
        self.mail.close();
        let mut state = self.lock();
        state.stage = Stage::Over;
        state.peers.clear();
        state.plans.clear();
        for topic in state.topics.values() {
            for (_, ending) in &topic.subscribers {
                ending.end();
            }
        }
    }

    /// What was counted so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.lock().counts
    }

    /// Subscribes. Resolves when every connected node knows of it, at the latest after 250 ms: what
    /// they publish after that comes, as long as the subscriber keeps up.
    ///
    /// # Errors
    /// The node has not begun, or has ended, or has too many subscribers or topics.
    pub(super) async fn subscribe(
        self: &Arc<Self>,
        name: &TopicName,
        credits: Credits,
    ) -> Result<Subscription, SubscribeError> {
        let mut heard = self.heard.subscribe();
        let (subscription, version) = self.begin_subscription(name, credits)?;
        let known = async {
            while !self.lock().interest.is_known(version) {
                // The sender lives as long as this.
                drop(heard.changed().await);
            }
        };
        if tokio::time::timeout(KNOWN_WAIT_MAX, known).await.is_err() {
            tracing::debug!(topic = %name, "not every node has said that it knows of a subscriber");
        }
        Ok(subscription)
    }

    fn begin_subscription(
        self: &Arc<Self>,
        name: &TopicName,
        credits: Credits,
    ) -> Result<(Subscription, u64), SubscribeError> {
        let topic = TopicKey::of(name);
        let mut state = self.lock();
        match state.stage {
            Stage::Before => return Err(refused(not_begun())),
            Stage::Runs(_) => {}
            Stage::Over => return Err(ended()),
        }
        let room = state.counts.subscribers < SUBSCRIBERS_MAX as u64;
        if !room || !state.interest.has_room(&topic) {
            let detail = format!(
                "this node has {} subscribers of {} ephemeral topics, and may have {SUBSCRIBERS_MAX} of {}. End some, or \
                 subscribe at another node",
                state.counts.subscribers,
                state.topics.len(),
                ghostlight_core::ephemeral::interest::WANTED_TOPICS_MAX,
            );
            return Err(refused(NotRun::new(Code::TopicBusy, detail)));
        }
        state.last_subscriber += 1;
        state.counts.subscribers += 1;
        let number = state.last_subscriber;
        let hub = Arc::clone(self);
        let subscriber = Arc::new(Subscriber::new(number, topic.clone(), hub, credits.events));
        let (ending, subscription) = Subscription::of_source(Arc::clone(&subscriber) as Arc<_>);
        let last = state.latch.last(&topic).map(|held| Arc::clone(&held.value));
        if let Some(last) = last.filter(|last| !last.is_expired(wall_now())) {
            subscriber.push(&last, 0);
        }
        let at = state.topics.entry(topic.clone());
        let at = at.or_insert_with(|| Topic::new(name.clone()));
        at.subscribers.push((subscriber, ending));
        let wants = at.wants();
        state.feed(Input::Wanted { topic, wants });
        Ok((subscription, state.interest.version()))
    }

    pub(super) fn unsubscribe(&self, topic: &TopicKey, number: u64) {
        let mut state = self.lock();
        let Some(at) = state.topics.get_mut(topic) else {
            return;
        };
        let before = at.subscribers.len();
        at.subscribers.retain(|(one, _)| one.number != number);
        let (left, wants) = (before - at.subscribers.len(), at.wants());
        state.counts.subscribers -= left as u64;
        if wants.subscribers == 0 {
            state.topics.remove(topic);
            state.keep_own_value(topic);
        }
        let topic = topic.clone();
        state.feed(Input::Wanted { topic, wants });
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.mail.close();
    }
}

impl State {
    pub(super) fn me(&self) -> Option<&Me> {
        match &self.stage {
            Stage::Runs(me) => Some(me),
            Stage::Before | Stage::Over => None,
        }
    }

    /// Feeds the interest, and does what it says.
    pub(super) fn feed(&mut self, input: Input) {
        let mut outputs = std::mem::take(&mut self.outputs);
        self.interest.handle(self.now, input, &mut outputs);
        let mut spoken = None;
        for output in outputs.drain(..) {
            match output {
                Output::Send { to, frame } => {
                    let control = self.peers.get(&to).and_then(|peer| peer.control.as_ref());
                    if let Some(link) = control {
                        // What is lost is missed by its receiver, and said again.
                        let _lost = link.send(Lane::Control, Frame::Interest(frame));
                        spoken = Some(link.clone());
                    }
                }
                Output::Changed(topic) => self.plans.forget(&topic),
                Output::Newcomer { node, topic } => self.tell_last_value(node, &topic),
            }
        }
        self.outputs = outputs;
        if let Some(link) = spoken {
            link.flush();
        }
    }

    /// A node that nobody here subscribes at keeps what it has published itself.
    fn keep_own_value(&mut self, topic: &TopicKey) {
        let origin = self.latch.last(topic).map(|held| held.stamp.origin);
        if origin.is_some() && origin != self.me().map(|me| me.node) {
            self.latch.forget(topic);
        }
    }

    /// A node can be reached again: it may have missed values.
    pub(super) fn tell_last_values(&mut self, node: NodeId) {
        let held: Vec<TopicKey> = self.latch.topics().cloned().collect();
        for topic in held {
            if self
                .interest
                .wanting(&topic)
                .any(|(other, _)| other == node)
            {
                self.tell_last_value(node, &topic);
            }
        }
    }

    /// A node has gone that may have owed last values to others: whoever is next tells them. Who
    /// has them knows that.
    pub(super) fn answer_instead(&mut self) {
        let reached = |node| {
            self.peers
                .get(&node)
                .is_some_and(|peer| peer.bulk.is_some())
        };
        let me = self.me().map(|me| me.node);
        let orphaned = self.latch.topics().filter(|topic| {
            let origin = self.latch.last(topic).map(|held| held.stamp.origin);
            origin != me && !origin.is_some_and(reached)
        });
        let orphaned: Vec<TopicKey> = orphaned.cloned().collect();
        for topic in orphaned {
            let wanting: Vec<NodeId> = self.interest.wanting(&topic).map(|(n, _)| n).collect();
            for node in wanting {
                self.tell_last_value(node, &topic);
            }
        }
    }

    fn tell_last_value(&mut self, node: NodeId, topic: &TopicKey) {
        let Some(me) = self.me().map(|me| me.node) else {
            return;
        };
        let Some(held) = self.latch.last(topic) else {
            return;
        };
        let reached = |node: NodeId| match self.peers.get(&node) {
            Some(peer) if peer.bulk.is_some() => Reached::Yes,
            Some(_) | None => Reached::No,
        };
        let others = self.interest.wanting(topic).map(|(other, _)| other);
        let others = others.filter(|other| *other != node && reached(*other) == Reached::Yes);
        let origin = held.stamp.origin;
        let run = held.value.place.epoch / EPOCHS_PER_RUN;
        let has_it = |origin| self.peers.get(&origin).is_some_and(|peer| peer.run == run);
        let origin_reached = match reached(origin) {
            Reached::Yes if origin != node && has_it(origin) => Reached::Yes,
            Reached::Yes | Reached::No => Reached::No,
        };
        let answers = answers(me, origin, origin_reached, others);
        if !answers || held.value.is_expired(wall_now()) || reached(node) == Reached::No {
            return;
        }
        let frame = held.value.to_frame(topic, wire::Latch::Replay, &[]);
        self.send_to(node, &super::fanout::encoded(frame));
        if let Some(link) = self.peers.get(&node).and_then(|peer| peer.bulk.as_ref()) {
            link.flush();
        }
    }
}

/// The refusal of a node that does not know its cluster yet.
pub(super) fn not_begun() -> NotRun {
    let why = "this node has not found its cluster yet. Try again, or ask another node";
    NotRun::retry(Code::NotJoined, why, Duration::from_secs(1))
}

fn refused(refusal: NotRun) -> SubscribeError {
    SubscribeError {
        code: refusal.code,
        detail: refusal.detail,
    }
}
