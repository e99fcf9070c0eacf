//! A publish: to the subscribers here, and one copy to each node that wants it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use ghostlight_core::ephemeral::TopicKey;
use ghostlight_core::ephemeral::gaps::Place;
use ghostlight_core::ephemeral::latch::Offered;
use ghostlight_core::ephemeral::plan::{Hop, plan};
use ghostlight_protocol::code::Code;
use ghostlight_protocol::ids::NodeId;
use ghostlight_protocol::limits::{EVENT_HEADER_BYTES_MAX, REQUEST_BODY_BYTES_MAX};
use ghostlight_protocol::outcome::NotRun;
use ghostlight_protocol::topic::{TopicEvent, TopicName};
use ghostlight_protocol::wire::ephemeral::{EphemeralEvent, Latch};
use ghostlight_protocol::wire::frame::Frame;
use ghostlight_protocol::wire::{encode_frame, frame_bytes};
use prost::Message;

use super::hub::{Hub, Me, Stage, State, not_begun};
use super::{Keep, Sample};
use crate::clock::wall_now;
use crate::topics::{Event, ended};
use crate::transport::SendError;

/// Topics whose plan, and whose count of events, are remembered.
const TOPICS_REMEMBERED_MAX: usize = 16_384;
/// Counts begin anew this often in one run, at most.
pub(super) const EPOCHS_PER_RUN: u64 = 1 << 20;

/// What became of a publish.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Sent {
    /// Its place among this node's events of the topic.
    pub number: u64,
    /// Other nodes that want it, and can be reached.
    pub nodes: usize,
    /// Subscribers on those and here, as far as is known.
    pub subscribers: u64,
}

/// What is worked out once for many events of a topic.
#[derive(Debug, Default)]
pub(super) struct Plans {
    plans: HashMap<TopicKey, Arc<Plan>>,
    keys: HashMap<TopicName, TopicKey>,
    numbers: HashMap<TopicKey, u64>,
    /// How often `numbers` was forgotten.
    forgotten: u64,
}

#[derive(Debug)]
struct Plan {
    hops: Vec<Hop>,
    nodes: usize,
    /// Nodes that want it and cannot be reached.
    unreachable: u64,
    subscribers: u64,
}

impl Plans {
    /// Other nodes can be reached than before.
    pub(super) fn clear(&mut self) {
        self.plans.clear();
    }

    /// Others want the topic than before.
    pub(super) fn forget(&mut self, topic: &TopicKey) {
        self.plans.remove(topic);
    }

    fn key(&mut self, name: &TopicName) -> TopicKey {
        if let Some(key) = self.keys.get(name) {
            return key.clone();
        }
        if self.keys.len() >= TOPICS_REMEMBERED_MAX {
            self.keys.clear();
        }
        let key = TopicKey::of(name);
        self.keys.insert(name.clone(), key.clone());
        key
    }

    fn next_place(&mut self, topic: &TopicKey, me: &Me) -> Place {
        if self.numbers.len() >= TOPICS_REMEMBERED_MAX && !self.numbers.contains_key(topic) {
            self.numbers.clear();
            self.forgotten += 1;
        }
        let number = self.numbers.entry(topic.clone()).or_default();
        *number += 1;
        Place {
            epoch: me.run.saturating_mul(EPOCHS_PER_RUN) + self.forgotten.min(EPOCHS_PER_RUN - 1),
            number: *number,
        }
    }
}

/// A frame with its length, as lanes carry it.
pub(super) fn encoded(event: EphemeralEvent) -> Bytes {
    let frame = Frame::Ephemeral(event);
    let bytes = frame_bytes(&frame);
    let mut out = Vec::new();
    encode_frame(&frame, bytes, &mut out);
    out.into()
}

impl Hub {
    /// Publishes an event: it is on its way to all that want it, or lost to those that are behind.
    /// Never waits.
    ///
    /// # Errors
    /// Nobody got it: it is too large, its value cannot be kept, or the node does not run.
    pub(crate) fn publish(
        &self,
        name: &TopicName,
        event: Event,
        stored: &TopicEvent,
        keep: Keep,
    ) -> Result<Sent, NotRun> {
        let encoded = checked(stored)?;
        let mut state = self.lock();
        let me = match &state.stage {
            Stage::Runs(me) => me.clone(),
            Stage::Before => return Err(not_begun()),
            Stage::Over => return Err(NotRun::new(Code::ShuttingDown, ended().detail)),
        };
        let topic = state.plans.key(name);
        if keep == Keep::LastValue && !state.makes_room(&topic, encoded.len()) {
            return Err(NotRun::new(Code::TopicBusy, NO_ROOM));
        }
        // The event as it was given is another copy of its data.
        let held = state.room.hold(encoded.len() + event.data.len());
        let sample = Arc::new(Sample {
            held,
            topic: name.clone(),
            event,
            published: ghostlight_protocol::time::WallTime(stored.published_ms),
            expires_ms: stored.expires_ms,
            origin: me.node,
            place: state.plans.next_place(&topic, &me),
            encoded,
        });
        state.counts.published += 1;
        let mut sent = Sent {
            number: sample.place.number,
            ..Sent::default()
        };
        if let Some(at) = state.topics.get_mut(&topic) {
            let (queued, dropped) = at.deliver(&sample, 0);
            state.counts.queued += queued;
            state.counts.ring_full += dropped;
            sent.subscribers += queued;
        }
        let latch = match keep {
            Keep::Nothing => Latch::Passing,
            Keep::LastValue => Latch::LastValue,
        };
        state.fan_out(&me, &topic, &sample, latch, &mut sent);
        if keep == Keep::LastValue {
            state.keep(&topic, &sample);
        }
        state.relieve();
        Ok(sent)
    }
}

const NO_ROOM: &str = "this node keeps as many last values as it may. Publish from another node, publish values with a ttl, \
                       or do not let the topic keep its last value";

/// The event's bytes.
fn checked(event: &TopicEvent) -> Result<Bytes, NotRun> {
    let (data, all) = (event.data.len(), event.encoded_len());
    if data > REQUEST_BODY_BYTES_MAX {
        let detail = format!(
            "the event's data has {data} bytes, at most {REQUEST_BODY_BYTES_MAX} are allowed"
        );
        return Err(NotRun::new(Code::BodyTooLarge, detail));
    }
    let header = all - data;
    if header > EVENT_HEADER_BYTES_MAX + 64 {
        let detail = format!(
            "key, attributes and the like of an event have {header} bytes, at most {EVENT_HEADER_BYTES_MAX} are \
             allowed; put more into its data"
        );
        return Err(NotRun::new(Code::InvalidArgument, detail));
    }
    Ok(event.encode_to_vec().into())
}

impl State {
    /// Whether a last value would be kept; those whose time is over give way.
    fn makes_room(&mut self, topic: &TopicKey, bytes: usize) -> bool {
        if !self.latch.has_room(topic, bytes) {
            let now = wall_now();
            self.latch.retain(|held| !held.is_expired(now));
        }
        self.latch.has_room(topic, bytes)
    }

    /// Whoever keeps a value keeps the latest.
    pub(super) fn keep(&mut self, topic: &TopicKey, sample: &Arc<Sample>) -> Offered {
        self.makes_room(topic, sample.bytes());
        let value = Arc::clone(sample);
        let offered = self
            .latch
            .offer(topic, sample.stamp(), sample.bytes(), value);
        if offered == Offered::Full {
            self.counts.not_kept += 1;
        }
        offered
    }

    fn fan_out(
        &mut self,
        me: &Me,
        topic: &TopicKey,
        sample: &Sample,
        latch: Latch,
        sent: &mut Sent,
    ) {
        let plan = self.plan(me, topic);
        sent.nodes = plan.nodes;
        sent.subscribers += plan.subscribers;
        self.counts.unreachable += plan.unreachable;
        let mut straight = None;
        for hop in &plan.hops {
            if hop.pass_to.is_empty() {
                let bytes = straight
                    .get_or_insert_with(|| encoded(sample.to_frame(topic, latch, &[])))
                    .clone();
                self.send_to(hop.to, &bytes);
            } else {
                let bytes = encoded(sample.to_frame(topic, latch, &hop.pass_to));
                self.send_to(hop.to, &bytes);
            }
        }
        self.flush_to(plan.hops.first().map(|hop| hop.to));
    }

    fn plan(&mut self, me: &Me, topic: &TopicKey) -> Arc<Plan> {
        if let Some(plan) = self.plans.plans.get(topic) {
            return Arc::clone(plan);
        }
        let mut targets = BTreeMap::new();
        let (mut unreachable, mut subscribers) = (0, 0);
        for (node, wants) in self.interest.wanting(topic) {
            match self.peers.get(&node) {
                Some(peer) if peer.bulk.is_some() => {
                    targets.insert(node, peer.zone.as_str());
                    subscribers += u64::from(wants.subscribers);
                }
                Some(_) | None => unreachable += 1,
            }
        }
        let plan = Arc::new(Plan {
            hops: plan(topic, &me.zone, &targets),
            nodes: targets.len(),
            unreachable,
            subscribers,
        });
        if self.plans.plans.len() >= TOPICS_REMEMBERED_MAX {
            self.plans.plans.clear();
        }
        self.plans.plans.insert(topic.clone(), Arc::clone(&plan));
        plan
    }

    /// Puts a copy into a node's lane.
    pub(super) fn send_to(&mut self, node: NodeId, encoded: &Bytes) {
        let bulk = self.peers.get(&node).and_then(|peer| peer.bulk.as_ref());
        let result = bulk.map_or(Err(SendError::NotConnected), |link| {
            link.send_ephemeral(encoded)
        });
        match result {
            Ok(()) => self.counts.sent += 1,
            Err(SendError::Full) => self.counts.lane_full += 1,
            Err(SendError::NotConnected) => self.counts.unreachable += 1,
        }
    }

    /// Lets what was put into lanes leave: one wake-up for all of them.
    pub(super) fn flush_to(&self, node: Option<NodeId>) {
        let peer = node.and_then(|node| self.peers.get(&node));
        if let Some(link) = peer.and_then(|peer| peer.bulk.as_ref()) {
            link.flush();
        }
    }
}
