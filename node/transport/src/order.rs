//! The order of one lane whose large frames travel beside it.
//!
//! A frame that is detached leaves a marker in its place. Until it has come, frames about the same
//! partition wait behind the marker; all others pass. Frames about no single partition (answers,
//! say) are detached without a marker and pass freely.
//!
//! What the core relies on: nothing, for safety. Raft accepts any order, but a follower that is
//! offered an append with a gap refuses it, and the leader then sends everything again: hence the
//! markers. Calls of one gateway to one actor reach its mailbox as they were sent, and a hang-up
//! does not overtake its call. Outbox pushes and snapshot chunks are one at a time for each
//! destination, and numbered.

use std::collections::{BTreeMap, VecDeque};

use ghostlight_protocol::ids::PartitionId;
use ghostlight_protocol::wire::frame::{Frame, RaftMessages};
use ghostlight_protocol::wire::{Detached, LaneItem};

/// Frames that may go on to the core, and what is given back when it has them.
#[derive(Debug)]
pub(super) struct Released<P> {
    pub(super) frames: Vec<Frame>,
    pub(super) permits: Vec<P>,
}

impl<P> Default for Released<P> {
    fn default() -> Self {
        Self {
            frames: Vec::new(),
            permits: Vec::new(),
        }
    }
}

/// What waits in one lane; `P` is held for each detached frame until it is released.
#[derive(Debug)]
pub(super) struct LaneOrder<P> {
    /// Each queue begins with a place whose frame has not come.
    waiting: BTreeMap<PartitionId, VecDeque<Waiting>>,
    /// Detached frames that came before their turn.
    early: BTreeMap<u64, (Option<Frame>, P)>,
    held_bytes: usize,
}

#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are frames, and few wait: a box for each would be dearer"
)]
enum Waiting {
    Place(u64),
    Frame(Frame, usize),
}

impl<P> Default for LaneOrder<P> {
    fn default() -> Self {
        Self {
            waiting: BTreeMap::new(),
            early: BTreeMap::new(),
            held_bytes: 0,
        }
    }
}

impl<P> LaneOrder<P> {
    /// Bytes of frames that wait, detached ones not counted.
    pub(super) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Takes what stands next in the lane.
    pub(super) fn in_line(&mut self, item: LaneItem, out: &mut Released<P>) {
        match item {
            LaneItem::Frame(frame, _) if self.waiting.is_empty() => out.frames.push(frame),
            LaneItem::Frame(Frame::Raft(raft), _) => self.raft(raft, out),
            LaneItem::Frame(frame, bytes) => {
                let queue = frame.partition().and_then(|p| self.waiting.get_mut(&p));
                match queue {
                    Some(queue) => {
                        self.held_bytes += bytes;
                        queue.push_back(Waiting::Frame(frame, bytes));
                    }
                    None => out.frames.push(frame),
                }
            }
            LaneItem::Detached(place) => {
                let queue = self.waiting.entry(place.partition).or_default();
                queue.push_back(Waiting::Place(place.number));
                self.release(place.partition, out);
            }
        }
    }

    /// Takes a detached frame, with its place if it has one. `None`: a frame unknown to this build,
    /// whose place is free all the same.
    pub(super) fn detached(
        &mut self,
        place: Option<Detached>,
        frame: Option<Frame>,
        permit: P,
        out: &mut Released<P>,
    ) {
        match place {
            Some(place) => {
                self.early.insert(place.number, (frame, permit));
                self.release(place.partition, out);
            }
            None => {
                out.frames.extend(frame);
                out.permits.push(permit);
            }
        }
    }

    /// The messages of a gathered frame wait apart.
    fn raft(&mut self, raft: RaftMessages, out: &mut Released<P>) {
        let (mark, nonce) = (raft.mark, raft.nonce);
        let mut messages = Vec::with_capacity(raft.messages.len());
        for message in raft.messages {
            let partition = u16::try_from(message.partition).map(PartitionId);
            let queue = partition.ok().and_then(|p| self.waiting.get_mut(&p));
            match queue {
                Some(queue) => {
                    let bytes = message.message.len();
                    self.held_bytes += bytes;
                    let messages = vec![message];
                    queue.push_back(Waiting::Frame(
                        Frame::Raft(RaftMessages {
                            messages,
                            mark,
                            nonce,
                        }),
                        bytes,
                    ));
                }
                None => messages.push(message),
            }
        }
        if !messages.is_empty() {
            out.frames.push(Frame::Raft(RaftMessages {
                messages,
                mark,
                nonce,
            }));
        }
    }

    /// Releases what waited for nothing else.
    fn release(&mut self, partition: PartitionId, out: &mut Released<P>) {
        let Some(queue) = self.waiting.get_mut(&partition) else {
            return;
        };
        while let Some(first) = queue.pop_front() {
            match first {
                Waiting::Place(number) => match self.early.remove(&number) {
                    Some((frame, permit)) => {
                        out.frames.extend(frame);
                        out.permits.push(permit);
                    }
                    None => {
                        queue.push_front(first);
                        return;
                    }
                },
                Waiting::Frame(frame, bytes) => {
                    self.held_bytes -= bytes;
                    out.frames.push(frame);
                }
            }
        }
        self.waiting.remove(&partition);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use ghostlight_protocol::wire::frame::{AskReplica, RaftMessage};
    use rand::rngs::StdRng;
    use rand::seq::SliceRandom;
    use rand::{Rng, SeedableRng};

    fn raft(messages: &[(u32, u64)]) -> Frame {
        let messages = messages.iter().map(|(partition, number)| RaftMessage {
            partition: *partition,
            message: Bytes::copy_from_slice(&number.to_be_bytes()),
        });
        Frame::Raft(RaftMessages {
            messages: messages.collect(),
            mark: 0,
            nonce: 0,
        })
    }

    fn numbers(frames: &[Frame]) -> Vec<(u32, u64)> {
        let mut numbers = Vec::new();
        for frame in frames {
            match frame {
                Frame::AskReplica(ask) => numbers.push((ask.partition, ask.peer)),
                Frame::Raft(raft) => {
                    for message in &raft.messages {
                        let number = message.message.as_ref().try_into().unwrap();
                        numbers.push((message.partition, u64::from_be_bytes(number)));
                    }
                }
                other => panic!("{other:?}"),
            }
        }
        numbers
    }

    #[test]
    fn only_the_same_partition_waits() {
        let (mut order, mut out) = (LaneOrder::default(), Released::default());
        let place = Detached {
            number: 1,
            partition: PartitionId(3),
        };
        order.in_line(LaneItem::Frame(raft(&[(3, 1)]), 8), &mut out);
        order.in_line(LaneItem::Detached(place), &mut out);
        order.in_line(LaneItem::Frame(raft(&[(3, 3), (4, 1)]), 16), &mut out);
        let hint = Frame::AskReplica(AskReplica {
            partition: 3,
            peer: 4,
        });
        order.in_line(LaneItem::Frame(hint, 8), &mut out);
        assert_eq!(numbers(&out.frames), [(3, 1), (4, 1)]);
        assert_eq!(order.held_bytes(), 16);
        order.detached(Some(place), Some(raft(&[(3, 2)])), (), &mut out);
        let all = [(3, 1), (4, 1), (3, 2), (3, 3), (3, 4)];
        assert_eq!(numbers(&out.frames), all);
        assert_eq!((order.held_bytes(), out.permits.len()), (0, 1));
    }

    #[test]
    fn a_frame_unknown_to_this_build_frees_its_place() {
        let (mut order, mut out) = (LaneOrder::default(), Released::default());
        let place = Detached {
            number: 1,
            partition: PartitionId(3),
        };
        order.in_line(LaneItem::Detached(place), &mut out);
        order.in_line(LaneItem::Frame(raft(&[(3, 2)]), 8), &mut out);
        assert_eq!(numbers(&out.frames), []);
        order.detached(Some(place), None, (), &mut out);
        assert_eq!(numbers(&out.frames), [(3, 2)]);
    }

    /// Any interleaving of a lane and its detached frames: nothing is lost, each partition stays in
    /// order, and in the end nothing waits.
    #[test]
    fn every_partition_stays_in_order() {
        for seed in 0..500 {
            let mut rng = StdRng::seed_from_u64(seed);
            let mut lane = VecDeque::new();
            let mut beside = Vec::new();
            let mut sent: BTreeMap<u32, u64> = BTreeMap::new();
            for _ in 0..rng.random_range(1..60) {
                let partition = rng.random_range(0..4);
                let count = sent.entry(partition).or_default();
                *count += 1;
                let frame = raft(&[(partition, *count)]);
                if rng.random_bool(0.3) {
                    let number = beside.len() as u64 + 1;
                    let partition = PartitionId(partition as u16);
                    let place = Detached { number, partition };
                    lane.push_back(LaneItem::Detached(place));
                    beside.push((place, frame));
                } else {
                    lane.push_back(LaneItem::Frame(frame, 8));
                }
            }
            beside.shuffle(&mut rng);
            let large = beside.len();
            let (mut order, mut out) = (LaneOrder::default(), Released::default());
            while !(lane.is_empty() && beside.is_empty()) {
                if rng.random_bool(0.5) {
                    if let Some(item) = lane.pop_front() {
                        order.in_line(item, &mut out);
                    }
                } else if let Some((place, frame)) = beside.pop() {
                    order.detached(Some(place), Some(frame), (), &mut out);
                }
            }
            let mut seen: BTreeMap<u32, u64> = BTreeMap::new();
            for (partition, number) in numbers(&out.frames) {
                let count = seen.entry(partition).or_default();
                *count += 1;
                assert_eq!(number, *count, "seed {seed}, partition {partition}");
            }
            assert_eq!(seen, sent, "seed {seed}");
            let rest = (order.held_bytes(), order.waiting.len(), order.early.len());
            assert_eq!((rest, out.permits.len()), ((0, 0, 0), large), "seed {seed}");
        }
    }
}
