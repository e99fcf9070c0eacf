//! Numbers the requests of clients that gave no id, and says which numbers are closed.
//!
//! Each partition has its own sequence. What is closed travels with every request: the partition
//! drops the records of it and refuses such a sequence for ever. A sequence may be closed once this
//! gateway will never send it again: a frame of it that is still under way then finds it closed.
//!
//! A floor says most of it. Above it, what lies between calls that run for long is told by ranges,
//! so that one such call does not hold the records of all later ones. Short ranges are not worth
//! telling: the calls around them are as young as they are, and the floor will pass them.
//!
//! A call that was given up may still run at its leader. Closing it at once would make apply skip
//! that turn, and whether it counts would hang on other traffic; so it lingers until its leader
//! says that the turn is over. Few may do so for long: a leader that died says nothing.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use ghostlight_protocol::closed::{Closed, ClosedRange};
use ghostlight_protocol::ids::{Generation, NodeId, PartitionId};
use ghostlight_protocol::limits::CLOSED_RANGES_TOLD_MAX;
use ghostlight_protocol::request::{RequestId, Session};
use ghostlight_protocol::time::Instant;

/// How long any sequence that was given up stays open, so that its running turn can still commit.
const LINGER: Duration = Duration::from_secs(10);
/// The same, in sequences that were begun after it.
const LINGER_SEQUENCES: u64 = 1_024;
/// Sequences of a partition that stay open for longer than either; the oldest gives way. Fewer than
/// ranges that are told, which step around them.
const LINGERING_LONG_MAX: usize = CLOSED_RANGES_TOLD_MAX / 2;
/// How long those stay open.
const LINGER_LONG: Duration = Duration::from_secs(3_600);

/// Shortest range of closed sequences that is told; shorter ones wait for their neighbours.
const RANGE_SEQUENCES_MIN: u64 = 32;
/// Open sequences of a partition, from the lowest, between which ranges are looked for.
const OPEN_LOOKED_AT_MAX: usize = 256;

/// All numberings of one run of a gateway.
#[derive(Debug)]
pub(super) struct Sessions {
    session: Session,
    partitions: Vec<Numbering>,
    /// Calls that linger, by the gateway's keys.
    given_up: BTreeMap<u64, GivenUp>,
}

#[derive(Debug)]
struct Numbering {
    next: u64,
    open: BTreeSet<u64>,
    /// Sequences in `open` that nobody waits for, in the order of their times.
    lingering: VecDeque<Lingering>,
}

#[derive(Debug)]
struct GivenUp {
    partition: PartitionId,
    sequence: u64,
    /// Attempts that have no answer, and who was asked.
    open: Vec<(u64, NodeId)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Lingering {
    since: Instant,
    sequence: u64,
    key: u64,
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
            given_up: BTreeMap::new(),
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

    /// Nobody waits any more for the call `key`, and these attempts of it may run. Without any it
    /// is over.
    pub(super) fn given_up(
        &mut self,
        partition: PartitionId,
        id: &RequestId,
        key: u64,
        open: Vec<(u64, NodeId)>,
        now: Instant,
    ) {
        let Some(sequence) = self.own(id) else {
            return;
        };
        let numbering = &mut self.partitions[usize::from(partition.0)];
        if open.is_empty() {
            numbering.open.remove(&sequence);
            return;
        }
        numbering.lingering.push_back(Lingering {
            since: now,
            sequence,
            key,
        });
        let given_up = GivenUp {
            partition,
            sequence,
            open,
        };
        self.given_up.insert(key, given_up);
    }

    /// A node says that an attempt of a call that was given up is over there; others are ignored.
    /// When none is left that may run, the call is over.
    pub(super) fn over(&mut self, key: u64, attempt: u64, from: NodeId) {
        let Some(one) = self.given_up.get_mut(&key) else {
            return;
        };
        one.open.retain(|open| *open != (attempt, from));
        if !one.open.is_empty() {
            return;
        }
        let numbering = &mut self.partitions[usize::from(one.partition.0)];
        numbering.open.remove(&one.sequence);
        numbering.lingering.retain(|one| one.key != key);
        self.given_up.remove(&key);
    }

    /// What is closed of a partition: everything below the lowest open sequence, and between
    /// others.
    pub(super) fn closed(&mut self, partition: PartitionId, now: Instant) -> Closed {
        let numbering = &mut self.partitions[usize::from(partition.0)];
        while let Some(gone) = numbering.lingers_too_long(now) {
            self.given_up.remove(&gone.key);
            numbering.open.remove(&gone.sequence);
        }
        numbering.closed()
    }

    /// Only ids with our session were numbered here; a nested call may carry another's.
    fn own(&self, id: &RequestId) -> Option<u64> {
        match id {
            RequestId::Session { session, sequence } if *session == self.session => Some(*sequence),
            RequestId::Session { .. } | RequestId::Outside(_) | RequestId::Derived(_) => None,
        }
    }
}

impl Numbering {
    /// Takes out the oldest one that lingers, if it has done so for long enough.
    fn lingers_too_long(&mut self, now: Instant) -> Option<Lingering> {
        let next = self.next;
        let is_long = |one: &Lingering| {
            now.since(one.since) >= LINGER || next - one.sequence > LINGER_SEQUENCES
        };
        let first = self.lingering.front()?;
        let others = || self.lingering.iter().take_while(|one| is_long(one)).count();
        if now.since(first.since) >= LINGER_LONG || others() > LINGERING_LONG_MAX {
            return self.lingering.pop_front();
        }
        None
    }

    fn closed(&self) -> Closed {
        let mut open = self.open.iter().copied();
        let Some(below) = open.next() else {
            return Closed::new(self.next, &[]);
        };
        let mut ranges = Vec::new();
        let mut before = below;
        for sequence in open.take(OPEN_LOOKED_AT_MAX).chain([self.next]) {
            let range = ClosedRange {
                first: before + 1,
                end: sequence,
            };
            // With more open than were looked at, the last of these ranges is not closed.
            let looked_at = sequence != self.next || self.open.len() <= OPEN_LOOKED_AT_MAX;
            if looked_at && range.end.saturating_sub(range.first) >= RANGE_SEQUENCES_MIN {
                ranges.push(range);
                if ranges.len() == CLOSED_RANGES_TOLD_MAX {
                    break;
                }
            }
            before = sequence;
        }
        Closed::new(below, &ranges)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: PartitionId = PartitionId(1);

    fn second(n: u64) -> Instant {
        Instant(n * 1_000_000_000)
    }

    fn floor(sessions: &mut Sessions, now: Instant) -> u64 {
        sessions.closed(HERE, now).below()
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
        assert_eq!(floor(&mut sessions, second(0)), 1);
        let ids: Vec<_> = (0..4).map(|_| sessions.begin(HERE)).collect();
        assert_eq!(
            ids.iter().map(sequence_of).collect::<Vec<_>>(),
            [1, 2, 3, 4]
        );
        assert_eq!(sequence_of(&sessions.begin(PartitionId(0))), 1);
        // (answered, floor after it)
        for (position, expected) in [(1, 1), (0, 3), (3, 3), (2, 5)] {
            sessions.answered(HERE, &ids[position]);
            assert_eq!(floor(&mut sessions, second(0)), expected);
        }
    }

    #[test]
    fn what_was_given_up_lingers_until_its_leader_says_that_it_is_over() {
        let mut sessions = Sessions::new(NodeId(1), Generation(2), 2);
        let first = sessions.begin(HERE);
        let second_id = sessions.begin(HERE);
        let asked = vec![(770, NodeId(1)), (771, NodeId(2))];
        sessions.given_up(HERE, &first, 77, asked, second(1));
        sessions.answered(HERE, &second_id);
        assert_eq!(floor(&mut sessions, second(600)), 1);
        // Another call, another node, one of two that may run it.
        for (key, attempt, from) in [(78, 770, 1), (77, 770, 2), (77, 770, 1)] {
            sessions.over(key, attempt, NodeId(from));
            assert_eq!(floor(&mut sessions, second(600)), 1);
        }
        sessions.over(77, 771, NodeId(2));
        assert_eq!(floor(&mut sessions, second(600)), 3);
        assert!(sessions.given_up.is_empty() && sessions.partitions[1].lingering.is_empty());
    }

    /// Leaders that died say nothing.
    #[test]
    fn few_linger_for_long_and_none_for_ever() {
        let long = LINGERING_LONG_MAX as u64;
        for (given_up, at, expected) in [
            (3 * long, 10, 1),
            (3 * long, 11, 2 * long + 1),
            (long, 3_600, 1),
            (long, 3_601, long + 1),
        ] {
            let mut sessions = Sessions::new(NodeId(1), Generation(2), 2);
            for key in 0..given_up {
                let id = sessions.begin(HERE);
                sessions.given_up(HERE, &id, key, vec![(key, NodeId(1))], second(1));
            }
            assert_eq!(
                floor(&mut sessions, second(at)),
                expected,
                "{given_up} {at}"
            );
            assert_eq!(sessions.given_up.len() as u64, given_up + 1 - expected);
        }
    }

    #[test]
    fn what_was_given_up_does_not_hold_back_many() {
        let long = LINGERING_LONG_MAX as u64;
        let mut sessions = Sessions::new(NodeId(1), Generation(2), 2);
        for key in 0..=long {
            let id = sessions.begin(HERE);
            sessions.given_up(HERE, &id, key, vec![(key, NodeId(1))], second(1));
        }
        for _ in 0..LINGER_SEQUENCES - 1 {
            let id = sessions.begin(HERE);
            sessions.answered(HERE, &id);
        }
        assert_eq!(floor(&mut sessions, second(1)), 1);
        let id = sessions.begin(HERE);
        sessions.answered(HERE, &id);
        assert_eq!(floor(&mut sessions, second(1)), 2);
    }

    fn ranges(sessions: &mut Sessions) -> Vec<(u64, u64)> {
        let closed = sessions.closed(HERE, second(0));
        closed.ranges().iter().map(|r| (r.first, r.end)).collect()
    }

    #[test]
    fn ranges_step_around_calls_that_run_for_long() {
        let mut sessions = Sessions::new(NodeId(1), Generation(2), 2);
        let ids: Vec<_> = (0..200).map(|_| sessions.begin(HERE)).collect();
        let open = [1, 50, 60, 120];
        for id in ids.iter().filter(|id| !open.contains(&sequence_of(id))) {
            sessions.answered(HERE, id);
        }
        // 51 to 59 are few, and wait.
        assert_eq!(ranges(&mut sessions), [(2, 50), (61, 120), (121, 201)]);
        sessions.answered(HERE, &ids[59]);
        assert_eq!(ranges(&mut sessions), [(2, 50), (51, 120), (121, 201)]);
        sessions.answered(HERE, &ids[0]);
        assert_eq!(floor(&mut sessions, second(0)), 50);
        assert_eq!(ranges(&mut sessions), [(51, 120), (121, 201)]);
    }

    #[test]
    fn ranges_are_bounded_and_never_hold_an_open_sequence() {
        // (calls that run for long, sequences between two of them)
        for (long, between) in [(100, 40), (1_000, 33), (2_000, 0)] {
            let mut sessions = Sessions::new(NodeId(1), Generation(2), 2);
            let total = long * (between + 1) + 500;
            let ids: Vec<_> = (0..total).map(|_| sessions.begin(HERE)).collect();
            let is_open = |id: &RequestId| {
                let sequence = sequence_of(id);
                sequence <= long * (between + 1) && sequence.is_multiple_of(between + 1)
            };
            for id in ids.iter().filter(|id| !is_open(id)) {
                sessions.answered(HERE, id);
            }
            let closed = sessions.closed(HERE, second(0));
            let count = if between == 0 {
                0
            } else {
                CLOSED_RANGES_TOLD_MAX
            };
            assert_eq!(closed.ranges().len(), count);
            assert!(
                ids.iter()
                    .filter(|id| is_open(id))
                    .all(|id| !closed.contains(sequence_of(id)))
            );
        }
    }
}
