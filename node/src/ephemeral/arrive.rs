//! Events from other nodes: passed on where they are asked to be, then put into the rings here.

use std::sync::Arc;

use ghostlight_core::ephemeral::TopicKey;
use ghostlight_core::ephemeral::gaps::{Heard, Place};
use ghostlight_core::ephemeral::latch::Offered;
use ghostlight_protocol::ids::NodeId;
use ghostlight_protocol::time::WallTime;
use ghostlight_protocol::topic::{TopicEvent, TopicName};
use ghostlight_protocol::wire::ephemeral::{EphemeralEvent, Latch};
use prost::Message;

use super::Sample;
use super::fanout::encoded;
use super::hub::{Hub, State};
use super::room::Room;
use crate::topics::given;
use crate::transport::EphemeralSink;

impl EphemeralSink for Hub {
    fn arrived(&self, _from: NodeId, events: Vec<EphemeralEvent>) {
        let mut state = self.lock();
        if state.me().is_none() {
            return;
        }
        for event in events {
            state.counts.received += 1;
            let event = state.pass_on(event);
            state.take(event);
        }
        state.relieve();
    }
}

impl State {
    /// A relay's part: the same event, to those that its publisher named.
    fn pass_on(&mut self, mut event: EphemeralEvent) -> EphemeralEvent {
        let pass_to = std::mem::take(&mut event.pass_to);
        if pass_to.is_empty() {
            return event;
        }
        let bytes = encoded(event.clone());
        let mut last = None;
        for node in pass_to.iter().filter_map(|id| NodeId::from_slice(id)) {
            let before = self.counts.sent;
            self.send_to(node, &bytes);
            self.counts.passed_on += self.counts.sent - before;
            last = Some(node);
        }
        self.flush_to(last);
        event
    }

    fn take(&mut self, event: EphemeralEvent) {
        let Some((topic, at)) = self.topics.get_key_value(&event.topic[..]) else {
            // Its last subscriber here has just gone.
            return;
        };
        let (topic, name) = (topic.clone(), at.name.clone());
        let latch = Latch::try_from(event.latch).unwrap_or(Latch::Passing);
        let origin = NodeId::from_slice(&event.origin);
        let (Some(origin), Some(sample)) = (origin, sample(name, event, &self.room)) else {
            self.counts.unreadable += 1;
            return;
        };
        let sample = Arc::new(sample);
        let missed = match latch {
            Latch::Replay => match self.keep(&topic, &sample) {
                // Live, it may still be on another way here: it comes once.
                Offered::Kept | Offered::Full => match self.heard(&topic, origin, sample.place) {
                    Some(_) => 0,
                    None => return,
                },
                Offered::Older => return,
            },
            Latch::Passing | Latch::LastValue => match self.heard(&topic, origin, sample.place) {
                Some(missed) => missed,
                None => return,
            },
        };
        if latch == Latch::LastValue {
            self.keep(&topic, &sample);
        }
        if let Some(at) = self.topics.get_mut(&topic) {
            let (queued, dropped) = at.deliver(&sample, missed);
            self.counts.queued += queued;
            self.counts.ring_full += dropped;
        }
    }

    /// How many were lost before it; `None`: it is late.
    fn heard(&mut self, topic: &TopicKey, origin: NodeId, place: Place) -> Option<u64> {
        let at = self.topics.get_mut(topic)?;
        match at.gaps.heard(origin, place) {
            Heard::Next { missed } => Some(missed),
            Heard::Late => {
                self.counts.late += 1;
                None
            }
        }
    }
}

fn sample(topic: TopicName, event: EphemeralEvent, room: &Arc<Room>) -> Option<Sample> {
    let origin = NodeId::from_slice(&event.origin)?;
    let said = TopicEvent::decode(event.event.clone()).ok()?;
    Some(Sample {
        held: room.hold(event.event.len()),
        topic,
        published: WallTime(said.published_ms),
        expires_ms: said.expires_ms,
        event: given(said),
        origin,
        place: Place {
            epoch: event.epoch,
            number: event.number,
        },
        encoded: event.event,
    })
}
