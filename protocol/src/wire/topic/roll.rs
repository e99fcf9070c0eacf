//! Who is attached, in two numbers that a subscriber's node and a leader compute alike: equal ones
//! are of equal sets.
//!
//! Marks of members are added up, so that the order in which either side goes through them does not
//! matter.

use prost::Message;

use crate::hash::{domain, hash64, hash128};

/// Subscribers of one node in one partition.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Roll {
    /// How many.
    #[prost(uint64, tag = "1")]
    pub count: u64,
    /// Which; an id, compared and not counted on.
    #[prost(fixed64, tag = "2")]
    pub digest: u64,
}

impl Roll {
    /// One more, attached under this epoch of its group.
    pub fn add(&mut self, mark: Mark, epoch: u64) {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&mark.0.to_be_bytes());
        bytes[8..].copy_from_slice(&epoch.to_be_bytes());
        self.count += 1;
        let one = hash64(domain::SUBSCRIBER, &bytes);
        self.digest = self.digest.wrapping_add(one);
    }
}

/// A subscriber in one topic partition, for as long as it lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mark(u64);

impl Mark {
    /// `topic` is the canonical key of the topic partition.
    #[must_use]
    pub fn of(topic: &[u8], group: &str, subscriber: u64) -> Self {
        let number = subscriber.to_be_bytes();
        let parts: [&[u8]; 3] = [topic, group.as_bytes(), &number];
        Self(hash128(domain::SUBSCRIBER, &parts) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roll(members: &[(&str, &str, u64, u64)]) -> Roll {
        let mut roll = Roll::default();
        for (topic, group, subscriber, epoch) in members {
            roll.add(Mark::of(topic.as_bytes(), group, *subscriber), *epoch);
        }
        roll
    }

    #[test]
    fn equal_sets_have_equal_rolls_in_any_order_and_others_do_not() {
        let (a, b) = (("t", "g", 1, 9), ("t", "g", 2, 9));
        assert_eq!(roll(&[a, b]), roll(&[b, a]));
        let others = [
            vec![],
            vec![a],
            vec![a, a],
            vec![a, b, b],
            vec![a, ("t", "g", 2, 10)],
            vec![a, ("t", "g", 3, 9)],
            vec![a, ("t", "h", 2, 9)],
            vec![a, ("u", "g", 2, 9)],
            vec![a, ("tg", "", 2, 9)],
        ];
        for other in others {
            assert_ne!(roll(&[a, b]), roll(&other), "{other:?}");
        }
    }

    /// Nodes of other builds compute it alike.
    #[test]
    fn a_roll_is_the_same_in_all_builds() {
        let golden = roll(&[("topic", "group", 1 << 32 | 7, 3)]);
        assert_eq!(
            (golden.count, golden.digest),
            (1, 14_189_897_084_194_387_327)
        );
    }
}
