//! The durable mark of a node: a number that grows with every batch of promises it has synced.
//!
//! Peers remember the highest mark that a node has told them, so that a disk which went back in
//! time can be recognized. What follows from it is decided in the node core.

use std::collections::BTreeMap;
use std::fmt;

use prost::Message;

use crate::ids::NodeId;

/// How many batches of promises (log entries, votes, commit indexes) a node has synced. Never goes
/// back as long as its disk keeps what was synced.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Mark(pub u64);

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "m{}", self.0)
    }
}

/// The highest mark that a node has told.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub struct Told {
    /// The mark.
    pub mark: Mark,
    /// Which of its processes told it: the nonce of its record.
    pub nonce: u64,
}

/// What a disk says of marks.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Marks {
    /// The node's own one.
    pub own: Mark,
    /// What others have told it.
    pub others: BTreeMap<NodeId, Told>,
}

/// The stored and the sent form of [`Told`].
#[derive(Clone, PartialEq, Eq, Message)]
pub struct MarkWord {
    /// Whose mark it is, 16 bytes; empty: the receiver's.
    #[prost(bytes = "vec", tag = "1")]
    pub node: Vec<u8>,
    /// The mark; 0: none is known.
    #[prost(uint64, tag = "2")]
    pub mark: u64,
    /// Which process told it.
    #[prost(uint64, tag = "3")]
    pub nonce: u64,
}

/// The stored form of what others have told.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct MarkList {
    /// One for each node.
    #[prost(message, repeated, tag = "1")]
    pub marks: Vec<MarkWord>,
}

impl MarkWord {
    /// What was told.
    #[must_use]
    pub fn told(&self) -> Told {
        Told {
            mark: Mark(self.mark),
            nonce: self.nonce,
        }
    }

    /// The word about the node that hears it.
    #[must_use]
    pub fn yours(told: Told) -> Self {
        Self {
            node: Vec::new(),
            mark: told.mark.0,
            nonce: told.nonce,
        }
    }
}

impl MarkList {
    /// Of what others have told.
    #[must_use]
    pub fn of(others: &BTreeMap<NodeId, Told>) -> Self {
        let marks = others.iter().map(|(node, told)| MarkWord {
            node: node.to_bytes().to_vec(),
            ..MarkWord::yours(*told)
        });
        Self {
            marks: marks.collect(),
        }
    }

    /// What others have told; `None` if a node id is malformed.
    #[must_use]
    pub fn others(&self) -> Option<BTreeMap<NodeId, Told>> {
        let marks = self.marks.iter();
        marks
            .map(|word| Some((NodeId::from_slice(&word.node)?, word.told())))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_marks_is_read_back_and_a_malformed_one_is_not() {
        let told = |mark, nonce| Told {
            mark: Mark(mark),
            nonce,
        };
        let others = BTreeMap::from([(NodeId(1), told(7, 3)), (NodeId(2), told(0, 9))]);
        let mut list = MarkList::of(&others);
        assert_eq!(list.others(), Some(others));
        list.marks[0].node.pop();
        assert_eq!(list.others(), None);
    }
}
