//! Ephemeral topics: events that are stored nowhere, for whoever listens, at most once.
//!
//! `interest.rs` knows which nodes want which topic: each node tells every other, over their
//! control connections; Raft has no part in it. `plan.rs` says to whom a publisher sends, and who
//! passes on. `gaps.rs` finds out what was lost on its way, `ring.rs` is what waits for one
//! subscriber, `latch.rs` the last value of a topic that keeps one. Each is a value that its owner
//! feeds; none knows the others. Absent: bytes on their way, subscribers themselves, waiting: the
//! shell has them, beside the node's core, because no event of these topics may cost a heartbeat.

pub mod gaps;
pub mod interest;
pub mod latch;
pub mod plan;
pub mod ring;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::topic::{TopicName, TopicPartition};

/// A topic's name as it travels: the canonical key of its first topic partition.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TopicKey(Bytes);

impl TopicKey {
    /// The key of a name.
    #[must_use]
    pub fn of(name: &TopicName) -> Self {
        Self(name.partition(0).key().to_bytes())
    }

    /// A key that came from a peer; `None`: it names no topic.
    #[must_use]
    pub fn parse(bytes: Bytes) -> Option<(Self, TopicName)> {
        let key = ActorKey::parse(bytes).ok()?;
        let found = TopicPartition::of_key(&key).filter(|found| found.number == 0)?;
        Some((Self(key.to_bytes()), found.name))
    }

    /// The bytes of the wire.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        self.0.clone()
    }
}

/// A key is looked up by the bytes of a frame.
impl std::borrow::Borrow<[u8]> for TopicKey {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
fn key(topic: &str) -> TopicKey {
    TopicKey::of(&TopicName::new("default", "pubsub", topic).unwrap())
}

#[cfg(test)]
mod key_tests {
    use super::*;

    #[test]
    fn a_key_is_its_name_and_nothing_else() {
        for topic in ["orders", "a/b", "äöü: %", "x\u{0}y"] {
            let name = TopicName::new("default", "pubsub", topic).unwrap();
            let key = TopicKey::of(&name);
            assert_eq!(TopicKey::parse(key.to_bytes()), Some((key, name)));
        }
        let name = TopicName::new("default", "pubsub", "orders").unwrap();
        let actor = ActorKey::new("default", "counter", "orders").unwrap();
        for bytes in [
            name.partition(1).key().to_bytes(),
            actor.to_bytes(),
            Bytes::from_static(b"orders"),
        ] {
            assert_eq!(TopicKey::parse(bytes), None);
        }
    }
}
