//! Ephemeral topics of this process: at most once, from any node to whoever listens on any node.
//!
//! [`Hub`] owns the pure parts (`ghostlight_core::ephemeral`) and moves bytes between them: a
//! publish is encoded once and put into the lane of each node that wants it; what arrives is put
//! into the ring of each subscriber here. All of it happens on the thread of whoever publishes, or
//! has read from the lane, under one lock and without waiting for subscribers. The core's thread is
//! told nothing of events, and never takes that lock: what it knows of connections it puts down for
//! a thread of the hub's own (`mail.rs`). Absent: the decision what a component's topics are
//! (`topics::classes`), and envelopes.

mod arrive;
mod bus;
mod counts;
mod fanout;
mod hub;
mod mail;
mod room;
mod subscriber;
#[cfg(test)]
mod tests;
mod view;

pub use bus::{Ephemeral, Keep};
pub use counts::Counts;
pub use fanout::Sent;
pub use hub::Hub;
pub use view::EphemeralView;

use bytes::Bytes;
use ghostlight_core::ephemeral::TopicKey;
use ghostlight_core::ephemeral::gaps::Place;
use ghostlight_core::ephemeral::latch::Stamp;
use ghostlight_protocol::ids::NodeId;
use ghostlight_protocol::time::WallTime;
use ghostlight_protocol::topic::TopicName;
use ghostlight_protocol::wire::ephemeral::{EphemeralEvent, Latch};

use crate::topics::Event;
use room::Held;

/// An event as subscribers share it.
#[derive(Debug)]
pub(crate) struct Sample {
    pub(crate) topic: TopicName,
    pub(crate) event: Event,
    pub(crate) published: WallTime,
    /// From when on it is not delivered any more; 0: never.
    pub(crate) expires_ms: u64,
    pub(crate) origin: NodeId,
    pub(crate) place: Place,
    /// The encoded `TopicEvent`, for other nodes.
    pub(crate) encoded: Bytes,
    /// What it takes of the process's room, until its last ring lets it go.
    #[expect(dead_code, reason = "dropped, it gives the room back")]
    pub(crate) held: Held,
}

impl Sample {
    pub(crate) fn bytes(&self) -> usize {
        self.encoded.len()
    }

    pub(crate) fn is_expired(&self, now: WallTime) -> bool {
        self.expires_ms != 0 && self.expires_ms <= now.0
    }

    pub(crate) fn stamp(&self) -> Stamp {
        Stamp {
            published: self.published,
            origin: self.origin,
            number: self.place.number,
        }
    }

    /// As a frame says it.
    pub(crate) fn to_frame(
        &self,
        topic: &TopicKey,
        latch: Latch,
        pass_to: &[NodeId],
    ) -> EphemeralEvent {
        let id = |node: &NodeId| Bytes::copy_from_slice(&node.to_bytes());
        EphemeralEvent {
            topic: topic.to_bytes(),
            event: self.encoded.clone(),
            origin: id(&self.origin),
            number: self.place.number,
            epoch: self.place.epoch,
            latch: latch as i32,
            pass_to: pass_to.iter().map(id).collect(),
        }
    }
}
