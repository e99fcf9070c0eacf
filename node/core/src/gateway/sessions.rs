//! Numbers the requests of clients that gave no id, and says which numbers are closed.
//!
//! Each partition has its own sequence. `closed_below` travels with every request: the partition drops the
//! records below it and refuses such a sequence for ever. A sequence may be closed once this gateway
//! will never send it again: a frame of it that is still under way then meets the floor.
//!
//! A call that was given up may still run at its leader. Closing it at once would make apply skip that
//! turn, and whether it counts would hang on other traffic; so it lingers, bounded in time and number.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use ghostlight_protocol::ids::{Generation, NodeId, PartitionId};
use ghostlight_protocol::request::{RequestId, Session};
use ghostlight_protocol::time::Instant;

/// How long a sequence that was given up stays open, so that its running turn can still commit.
const LINGER: Duration = Duration::from_secs(10);
/// A sequence that was given up is closed when so many later ones were begun.
const LINGER_SEQUENCES_MAX: u64 = 1_024;

/// All numberings of one run of a gateway.
#[derive(Debug)]
pub(super) struct Sessions {
    session: Session,
    partitions: Vec<Numbering>,
}

#[derive(Debug)]
struct Numbering {
    next: u64,
    open: BTreeSet<u64>,
    /// Sequences in `open` that nobody waits for, in the order of their times.
    lingering: VecDeque<(Instant, u64)>,
}

impl Sessions {
    pub(super) fn new(gateway: NodeId, generation: Generation, partitions: u16) -> Self {
        let numbering = || Numbering {
            next: 1,
            open: BTreeSet::new(),
            lingering: VecDeque::new(),
        };
        Self {
            session: Session {
                gateway,
                generation,
            },
            partitions: (0..partitions).map(|_| numbering()).collect(),
        }
    }

    /// Opens the next sequence of a partition.
    pub(super) fn begin(&mut self, partition: PartitionId) -> RequestId {
        let numbering = &mut self.partitions[usize::from(partition.0)];
        let sequence = numbering.next;
        numbering.next += 1;
        numbering.open.insert(sequence);
        RequestId::Session {
            session: self.session,
            sequence,
        }
    }

    /// The request has its answer, or certainly ran nowhere. Ids that are not ours are ignored.
    pub(super) fn answered(&mut self, partition: PartitionId, id: &RequestId) {
        if let Some(sequence) = self.own(id) {
            let numbering = &mut self.partitions[usize::from(partition.0)];
            numbering.open.remove(&sequence);
        }
    }

    /// Nobody waits any more, and the request may have run or be running.
    pub(super) fn given_up(&mut self, partition: PartitionId, id: &RequestId, now: Instant) {
        if let Some(sequence) = self.own(id) {
            let numbering = &mut self.partitions[usize::from(partition.0)];
            numbering.lingering.push_back((now + LINGER, sequence));
        }
    }

    /// The lowest open sequence of a partition, or the next one if none is open.
    pub(super) fn closed_below(&mut self, partition: PartitionId, now: Instant) -> u64 {
        let numbering = &mut self.partitions[usize::from(partition.0)];
        while let Some((until, sequence)) = numbering.lingering.front().copied() {
            if until > now && numbering.next - sequence <= LINGER_SEQUENCES_MAX {
                break;
            }
            numbering.lingering.pop_front();
            numbering.open.remove(&sequence);
        }
        numbering.open.first().copied().unwrap_or(numbering.next)
    }

    /// Only ids with our session were numbered here; a nested call may carry another's.
    fn own(&self, id: &RequestId) -> Option<u64> {
        match id {
            RequestId::Session { session, sequence } if *session == self.session => Some(*sequence),
            RequestId::Session { .. } | RequestId::Outside(_) | RequestId::Derived(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: PartitionId = PartitionId(1);

    fn second(n: u64) -> Instant {
        Instant(n * 1_000_000_000)
    }

    fn sequence_of(id: &RequestId) -> u64 {
        match id {
            RequestId::Session { sequence, .. } => *sequence,
            other => panic!("{other:?} is not of a session"),
        }
    }

    #[test]
    fn the_floor_is_the_lowest_open_sequence() {
        let mut sessions = Sessions::new(NodeId(1), Generation(2), 2);
        assert_eq!(sessions.closed_below(HERE, second(0)), 1);
        let ids: Vec<_> = (0..4).map(|_| sessions.begin(HERE)).collect();
        assert_eq!(
            ids.iter().map(sequence_of).collect::<Vec<_>>(),
            [1, 2, 3, 4]
        );
        assert_eq!(sequence_of(&sessions.begin(PartitionId(0))), 1);
        // (answered, floor after it)
        for (position, floor) in [(1, 1), (0, 3), (3, 3), (2, 5)] {
            sessions.answered(HERE, &ids[position]);
            assert_eq!(sessions.closed_below(HERE, second(0)), floor);
        }
    }

    #[test]
    fn what_was_given_up_lingers_for_a_while() {
        let mut sessions = Sessions::new(NodeId(1), Generation(2), 2);
        let first = sessions.begin(HERE);
        let second_id = sessions.begin(HERE);
        sessions.given_up(HERE, &first, second(1));
        sessions.answered(HERE, &second_id);
        assert_eq!(sessions.closed_below(HERE, second(10)), 1);
        assert_eq!(sessions.closed_below(HERE, second(11)), 3);
    }

    #[test]
    fn what_was_given_up_does_not_hold_back_many() {
        let mut sessions = Sessions::new(NodeId(1), Generation(2), 2);
        let first = sessions.begin(HERE);
        sessions.given_up(HERE, &first, second(1));
        for _ in 1..LINGER_SEQUENCES_MAX {
            let id = sessions.begin(HERE);
            sessions.answered(HERE, &id);
        }
        assert_eq!(sessions.closed_below(HERE, second(1)), 1);
        let id = sessions.begin(HERE);
        sessions.answered(HERE, &id);
        assert_eq!(
            sessions.closed_below(HERE, second(1)),
            LINGER_SEQUENCES_MAX + 2
        );
    }
}
