//! Last values of topics that keep one.
//!
//! The node of the publisher keeps it, and so does each node that wants the topic. A node that
//! begins to want it is told by one of them ([`answers`]): the publisher's, or, when that is gone,
//! the first of the others. Of two values the later counts, by the publishers' clocks; equal clocks
//! by node and number, so that all nodes keep the same one. Absent: durability. A value is gone
//! with the last node that keeps it.

use std::collections::BTreeMap;

use ghostlight_protocol::ids::NodeId;
use ghostlight_protocol::time::WallTime;

use super::TopicKey;

/// Topics whose last value one node keeps.
pub const LATCHED_TOPICS_MAX: usize = 4_096;
/// Bytes of those values.
pub const LATCHED_BYTES_MAX: usize = 64 << 20;

/// Which of two values is the later one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Stamp {
    /// When it was published.
    pub published: WallTime,
    /// On which node.
    pub origin: NodeId,
    /// Which of that node's events.
    pub number: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Latch<T> {
    values: BTreeMap<TopicKey, Held<T>>,
    bytes: usize,
}

/// A value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Held<T> {
    /// Which.
    pub stamp: Stamp,
    /// It.
    pub value: T,
    bytes: usize,
}

/// What became of a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Offered {
    /// It is the last one now.
    Kept,
    /// It is the one that is kept already, or an older one.
    Older,
    /// There is no room; what was there before stays, unless it was of the same topic.
    Full,
}

impl<T> Default for Latch<T> {
    fn default() -> Self {
        Self {
            values: BTreeMap::new(),
            bytes: 0,
        }
    }
}

impl<T> Latch<T> {
    /// Offers a value of so many bytes.
    pub fn offer(&mut self, topic: &TopicKey, stamp: Stamp, bytes: usize, value: T) -> Offered {
        if self
            .values
            .get(topic)
            .is_some_and(|held| held.stamp >= stamp)
        {
            return Offered::Older;
        }
        self.forget(topic);
        if self.values.len() >= LATCHED_TOPICS_MAX || self.bytes + bytes > LATCHED_BYTES_MAX {
            return Offered::Full;
        }
        self.bytes += bytes;
        let held = Held {
            stamp,
            value,
            bytes,
        };
        self.values.insert(topic.clone(), held);
        Offered::Kept
    }

    /// Whether a value of so many bytes would be kept.
    #[must_use]
    pub fn has_room(&self, topic: &TopicKey, bytes: usize) -> bool {
        let (topics, there) = match self.values.get(topic) {
            Some(held) => (self.values.len() - 1, held.bytes),
            None => (self.values.len(), 0),
        };
        topics < LATCHED_TOPICS_MAX && self.bytes - there + bytes <= LATCHED_BYTES_MAX
    }

    /// The last value of a topic.
    #[must_use]
    pub fn last(&self, topic: &TopicKey) -> Option<&Held<T>> {
        self.values.get(topic)
    }

    /// This node does not keep the topic's value any more.
    pub fn forget(&mut self, topic: &TopicKey) {
        if let Some(held) = self.values.remove(topic) {
            self.bytes -= held.bytes;
        }
    }

    /// Forgets the values that are of no use any more.
    pub fn retain(&mut self, of_use: impl Fn(&T) -> bool) {
        self.values.retain(|_, held| of_use(&held.value));
        self.bytes = self.values.values().map(|held| held.bytes).sum();
    }

    /// Topics that have one.
    pub fn topics(&self) -> impl Iterator<Item = &TopicKey> {
        self.values.keys()
    }
}

/// Whether `me`, which keeps a value that `origin` published, tells it to a node that begins to
/// want the topic. `reached` are the other nodes that want it and can be reached from here, the
/// newcomer left out.
#[must_use]
pub fn answers(
    me: NodeId,
    origin: NodeId,
    origin_is_reached: Reached,
    reached: impl IntoIterator<Item = NodeId>,
) -> bool {
    if origin == me {
        return true;
    }
    match origin_is_reached {
        Reached::Yes => false,
        Reached::No => reached.into_iter().all(|other| me < other),
    }
}

/// Whether a node can be reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reached {
    /// It can.
    Yes,
    /// It cannot.
    No,
}

#[cfg(test)]
mod tests {
    use super::super::key;
    use super::*;

    fn stamp(published: u64, origin: u128, number: u64) -> Stamp {
        Stamp {
            published: WallTime(published),
            origin: NodeId(origin),
            number,
        }
    }

    #[test]
    fn the_later_value_counts_in_whatever_order_they_come() {
        let stamps = [
            stamp(5, 1, 9),
            stamp(7, 1, 10),
            stamp(7, 2, 1),
            stamp(6, 3, 1),
        ];
        // Every order of four.
        for order in 0..24_usize {
            let mut rest: Vec<usize> = (0..4).collect();
            let mut latch = Latch::default();
            let mut code = order;
            for left in (1..=4).rev() {
                let at = rest.remove(code % left);
                code /= left;
                latch.offer(&key("t"), stamps[at], 10, at);
            }
            assert_eq!(latch.last(&key("t")).unwrap().value, 2, "order {order}");
            assert_eq!(latch.bytes, 10);
        }
    }

    #[test]
    fn the_same_value_twice_is_one() {
        let mut latch = Latch::default();
        assert_eq!(latch.offer(&key("t"), stamp(1, 1, 1), 1, ()), Offered::Kept);
        assert_eq!(
            latch.offer(&key("t"), stamp(1, 1, 1), 1, ()),
            Offered::Older
        );
    }

    #[test]
    fn room_is_bounded_by_topics_and_bytes() {
        let mut latch = Latch::default();
        let most = LATCHED_BYTES_MAX;
        assert_eq!(
            latch.offer(&key("t"), stamp(1, 1, 1), most, ()),
            Offered::Kept
        );
        assert!(latch.has_room(&key("t"), most) && !latch.has_room(&key("u"), 1));
        assert_eq!(latch.offer(&key("u"), stamp(1, 1, 1), 1, ()), Offered::Full);
        latch.forget(&key("t"));
        for topic in 0..LATCHED_TOPICS_MAX {
            let topic = key(&topic.to_string());
            assert_eq!(latch.offer(&topic, stamp(1, 1, 1), 0, ()), Offered::Kept);
        }
        assert_eq!(latch.offer(&key("t"), stamp(1, 1, 1), 0, ()), Offered::Full);
        assert_eq!(latch.offer(&key("7"), stamp(2, 1, 1), 0, ()), Offered::Kept);
    }

    #[test]
    fn one_node_tells_a_newcomer() {
        let others = |ids: &[u128]| ids.iter().map(|id| NodeId(*id)).collect::<Vec<_>>();
        for (me, origin, reached, rest, wanted) in [
            (1, 1, Reached::No, &[2, 3][..], true),
            (2, 1, Reached::Yes, &[3], false),
            (2, 1, Reached::No, &[3, 4], true),
            (3, 1, Reached::No, &[2, 4], false),
            (3, 1, Reached::No, &[], true),
        ] {
            let (me, origin) = (NodeId(me), NodeId(origin));
            assert_eq!(
                answers(me, origin, reached, others(rest)),
                wanted,
                "{me} {origin} {rest:?}"
            );
        }
    }
}
