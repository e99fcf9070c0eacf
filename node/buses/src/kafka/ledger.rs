//! What one member of a group holds of each of its partitions: what waits, what is handed out, how
//! far it may commit.
//!
//! Pure. A commit says that everything below an offset is over, so it stands before the oldest
//! event that is not. Absent: the client, and who handles events.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

use crate::subscription::Content;

/// Events of one partition that wait here before its reading rests, and by when it goes on.
const WAITING: (usize, usize) = (512, 128);
/// The same in bytes.
const WAITING_BYTES: (usize, usize) = (8 << 20, 2 << 20);
/// Events of one partition that were read and stand behind one that is not over.
const READ: (usize, usize) = (65_536, 32_768);

/// An event that was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Handle {
    pub(super) partition: i32,
    pub(super) offset: i64,
    /// Which time this member has the partition.
    epoch: u64,
    pub(super) content: Arc<Content>,
}

/// Which events of a partition may be handed out at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Line {
    /// The next one when the one before it is over.
    OneByOne,
    /// All.
    SideBySide,
}

/// What the reader has to do with a partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Flow {
    Rest,
    GoOn,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Standing {
    Open,
    Over,
}

#[derive(Debug)]
struct Partition {
    epoch: u64,
    waiting: VecDeque<Handle>,
    waiting_bytes: usize,
    /// Events that were read and are not below the commit.
    read: BTreeMap<i64, Standing>,
    /// How many of them are handed out and open.
    out: usize,
    /// Where the next event is looked for.
    next: i64,
    committed: i64,
    rests: bool,
    tenure: Tenure,
}

/// Whether events of a partition are handed out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Tenure {
    Ours,
    /// Others get it as soon as nothing of it is handed out any more.
    Leaving,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Ledger {
    line: Line,
    epoch: u64,
    partitions: BTreeMap<i32, Partition>,
    /// The last one that was taken from.
    last: i32,
}

impl Ledger {
    pub(super) fn new(line: Line) -> Self {
        Self {
            line,
            epoch: 0,
            partitions: BTreeMap::new(),
            last: -1,
        }
    }

    /// This member has the partition from now on, and reads from here.
    pub(super) fn assign(&mut self, partition: i32, from: i64) {
        self.epoch += 1;
        let fresh = Partition {
            epoch: self.epoch,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            read: BTreeMap::new(),
            out: 0,
            next: from,
            committed: from,
            rests: false,
            tenure: Tenure::Ours,
        };
        self.partitions.insert(partition, fresh);
    }

    /// Others want the partition: nothing more of it is handed out.
    pub(super) fn leave(&mut self, partition: i32) {
        if let Some(of) = self.partitions.get_mut(&partition) {
            of.tenure = Tenure::Leaving;
        }
    }

    /// Whether something of the partition is handed out.
    pub(super) fn is_at_work(&self, partition: i32) -> bool {
        self.partitions.get(&partition).is_some_and(|of| of.out > 0)
    }

    /// Nobody works on an event that was handed out: it may come again, here or elsewhere.
    pub(super) fn let_go(&mut self, handle: &Handle) {
        let of = self.partitions.get_mut(&handle.partition);
        let Some(of) = of.filter(|of| of.epoch == handle.epoch) else {
            return;
        };
        if of.read.get(&handle.offset) == Some(&Standing::Open) {
            assert!(of.out > 0, "an event is let go that was handed to nobody");
            of.out -= 1;
        }
    }

    /// Others may have the partition from now on.
    pub(super) fn revoke(&mut self, partition: i32) {
        self.partitions.remove(&partition);
    }

    /// An event was read.
    pub(super) fn read(&mut self, partition: i32, offset: i64, content: Content) {
        let Some(of) = self.partitions.get_mut(&partition) else {
            return;
        };
        if offset < of.next {
            // The log was cut, or made anew, and the client went back in it: what is here is of the
            // log before.
            let (rests, tenure) = (of.rests, of.tenure);
            self.assign(partition, offset);
            let Some(of) = self.partitions.get_mut(&partition) else {
                return;
            };
            (of.rests, of.tenure) = (rests, tenure);
        }
        let Some(of) = self.partitions.get_mut(&partition) else {
            return;
        };
        of.next = offset + 1;
        of.read.insert(offset, Standing::Open);
        of.waiting_bytes += content.event.data.len();
        of.waiting.push_back(Handle {
            partition,
            offset,
            epoch: of.epoch,
            content: Arc::new(content),
        });
    }

    /// Partitions of which something can be handed out.
    pub(super) fn ready(&self) -> Vec<i32> {
        // Those behind the last one that was taken from come first.
        let behind = self.partitions.range((Excluded(self.last), Unbounded));
        let all = behind.chain(self.partitions.range(..=self.last));
        let ready = all.filter(|(_, of)| of.is_ready(self.line));
        ready.map(|(number, _)| *number).collect()
    }

    /// The next event of a partition.
    pub(super) fn take(&mut self, partition: i32) -> Option<Handle> {
        let of = self.partitions.get_mut(&partition)?;
        if !of.is_ready(self.line) {
            return None;
        }
        let handle = of.waiting.pop_front()?;
        of.waiting_bytes -= handle.content.event.data.len();
        of.out += 1;
        self.last = partition;
        Some(handle)
    }

    /// Whether the event is this member's still, and stays so.
    pub(super) fn has(&self, handle: &Handle) -> bool {
        let of = self.partitions.get(&handle.partition);
        of.is_some_and(|of| of.epoch == handle.epoch && of.tenure == Tenure::Ours)
    }

    /// An event that was handed out is over.
    pub(super) fn over(&mut self, handle: &Handle) {
        let of = self.partitions.get_mut(&handle.partition);
        let Some(of) = of.filter(|of| of.epoch == handle.epoch) else {
            return;
        };
        if let Some(standing @ Standing::Open) = of.read.get_mut(&handle.offset) {
            *standing = Standing::Over;
            assert!(of.out > 0, "an event is over that was handed to nobody");
            of.out -= 1;
        }
    }

    /// How far each partition can be committed, where that is further than it is.
    pub(super) fn due(&self) -> Vec<(i32, i64)> {
        let due = self
            .partitions
            .iter()
            .map(|(number, of)| (*number, of.floor(), of.committed));
        let due = due.filter(|(_, floor, committed)| floor > committed);
        due.map(|(number, floor, _)| (number, floor)).collect()
    }

    /// Kafka knows that everything below is over.
    pub(super) fn committed(&mut self, partition: i32, offset: i64) {
        // What was told of the partition's time with another member says less than its begin here.
        if let Some(of) = self.partitions.get_mut(&partition)
            && of.committed < offset
            && offset <= of.floor()
        {
            of.committed = offset;
            of.read = of.read.split_off(&offset);
        }
    }

    /// Partitions whose reading is to rest or to go on; each is told once.
    pub(super) fn flow(&mut self) -> Vec<(i32, Flow)> {
        let mut changes = Vec::new();
        for (number, of) in &mut self.partitions {
            let held = [of.waiting.len(), of.waiting_bytes, of.read.len()];
            let bounds = [WAITING, WAITING_BYTES, READ];
            let mut each = held.iter().zip(bounds);
            if !of.rests && each.any(|(held, bound)| *held >= bound.0) {
                of.rests = true;
                changes.push((*number, Flow::Rest));
            } else if of.rests
                && held
                    .iter()
                    .zip(bounds)
                    .all(|(held, bound)| *held <= bound.1)
            {
                of.rests = false;
                changes.push((*number, Flow::GoOn));
            }
        }
        changes
    }

    /// Whether the reading of any partition rests.
    pub(super) fn rests(&self) -> bool {
        self.partitions.values().any(|of| of.rests)
    }
}

impl Partition {
    fn is_ready(&self, line: Line) -> bool {
        let ours = self.tenure == Tenure::Ours && !self.waiting.is_empty();
        ours && (line == Line::SideBySide || self.out == 0)
    }

    /// Everything below is over.
    fn floor(&self) -> i64 {
        let mut open = self
            .read
            .iter()
            .filter(|(_, standing)| **standing == Standing::Open);
        open.next().map_or(self.next, |(offset, _)| *offset)
    }
}

#[cfg(test)]
mod tests {
    use ghostlight_protocol::time::WallTime;
    use ghostlight_protocol::topic::TopicName;

    use super::*;
    use crate::event::Event;

    fn content(bytes: usize) -> Content {
        Content {
            topic: TopicName::new("default", "bus", "orders").unwrap(),
            partition: 0,
            offset: 0,
            attempt: 1,
            published: WallTime(0),
            event: Event {
                data: vec![0; bytes].into(),
                ..Event::default()
            },
        }
    }

    fn filled(line: Line, offsets: &[i64]) -> Ledger {
        let mut ledger = Ledger::new(line);
        ledger.assign(0, offsets[0]);
        for offset in offsets {
            ledger.read(0, *offset, content(1));
        }
        ledger
    }

    #[test]
    fn a_commit_stands_before_what_is_open() {
        // Offsets have gaps where records were compacted.
        let mut ledger = filled(Line::SideBySide, &[5, 6, 9, 10]);
        let all: Vec<_> = std::iter::from_fn(|| ledger.take(0)).collect();
        assert_eq!(ledger.due(), []);
        for (over, due) in [(2, 5), (0, 6), (1, 10), (3, 11)] {
            ledger.over(&all[over]);
            ledger.over(&all[over]);
            let wanted = Vec::from_iter((due > 5).then_some((0, due)));
            assert_eq!(ledger.due(), wanted, "after {over}");
        }
        ledger.committed(0, 10);
        assert_eq!(ledger.due(), [(0, 11)]);
        ledger.committed(0, 11);
        assert_eq!(ledger.due(), []);
    }

    #[test]
    fn one_by_one_means_after_the_one_before() {
        let mut ledger = filled(Line::OneByOne, &[0, 1]);
        ledger.assign(7, 0);
        ledger.read(7, 0, content(1));
        assert_eq!(ledger.ready(), [0, 7]);
        let first = ledger.take(0).unwrap();
        assert_eq!(ledger.take(0), None);
        assert_eq!(ledger.ready(), [7]);
        ledger.over(&first);
        assert_eq!(ledger.take(0).map(|handle| handle.offset), Some(1));
    }

    /// What was handed out before the partition went to somebody else commits nothing, even if it
    /// came back.
    #[test]
    fn what_is_of_another_time_is_nobodys() {
        let mut ledger = filled(Line::OneByOne, &[0, 1]);
        let old = ledger.take(0).unwrap();
        ledger.revoke(0);
        assert!(!ledger.has(&old));
        ledger.over(&old);
        assert_eq!(ledger.due(), []);
        ledger.assign(0, 0);
        ledger.read(0, 0, content(1));
        assert!(!ledger.has(&old));
        ledger.over(&old);
        ledger.committed(0, 2);
        assert_eq!(ledger.due(), []);
        let again = ledger.take(0).unwrap();
        assert!(ledger.has(&again));
        ledger.over(&again);
        assert_eq!(ledger.due(), [(0, 1)]);
    }

    /// An unclean election, or a topic that was made anew: the client begins at the oldest event
    /// that is left.
    #[test]
    fn a_log_that_was_cut_is_read_from_where_the_client_is() {
        let mut ledger = filled(Line::OneByOne, &[100, 101]);
        let old = ledger.take(0).unwrap();
        ledger.read(0, 3, content(1));
        ledger.over(&old);
        assert_eq!(ledger.due(), []);
        let new = ledger.take(0).unwrap();
        assert_eq!(new.offset, 3);
        ledger.over(&new);
        assert_eq!(ledger.due(), [(0, 4)]);
    }

    #[test]
    fn every_partition_has_its_turn_and_an_event_that_never_ends_bounds_what_is_read() {
        let mut ledger = Ledger::new(Line::SideBySide);
        for partition in 0..3 {
            ledger.assign(partition, 0);
            ledger.read(partition, 0, content(1));
        }
        ledger.read(0, 1, content(1));
        let mut order = Vec::new();
        while let Some(partition) = ledger.ready().first().copied() {
            order.push(ledger.take(partition).unwrap().partition);
        }
        assert_eq!(order, [0, 1, 2, 0]);
        let mut offset = 2;
        while ledger.flow().is_empty() {
            ledger.read(1, offset, content(1));
            let handle = ledger.take(1).unwrap();
            ledger.over(&handle);
            offset += 1;
            assert!(offset < 2 * READ.0 as i64, "it never rests");
        }
    }

    /// Another member joins while an event is handled: what is handled ends here, and nothing new
    /// begins.
    #[test]
    fn a_partition_goes_when_nothing_of_it_is_handled() {
        let mut ledger = filled(Line::SideBySide, &[0, 1, 2]);
        let (done, failed) = (ledger.take(0).unwrap(), ledger.take(0).unwrap());
        ledger.leave(0);
        assert_eq!((ledger.ready(), ledger.take(0)), (Vec::new(), None));
        assert!(ledger.is_at_work(0));
        ledger.over(&done);
        assert!(ledger.is_at_work(0));
        // It would come again after a pause: elsewhere.
        assert!(!ledger.has(&failed));
        ledger.let_go(&failed);
        assert!(!ledger.is_at_work(0));
        assert_eq!(ledger.due(), [(0, 1)]);
    }

    #[test]
    fn reading_rests_while_too_much_waits() {
        for bytes in [1, WAITING_BYTES.0 / 8] {
            let mut ledger = filled(Line::SideBySide, &[0]);
            let mut offset = 0;
            let mut changes = ledger.flow();
            while changes.is_empty() {
                offset += 1;
                ledger.read(0, offset, content(bytes));
                changes = ledger.flow();
            }
            assert_eq!(changes, [(0, Flow::Rest)]);
            assert!(ledger.rests());
            let waited = offset + 1;
            let mut taken = 0;
            while ledger.flow().is_empty() {
                assert!(ledger.take(0).is_some(), "it never goes on");
                taken += 1;
            }
            assert!(!ledger.rests());
            taken += std::iter::from_fn(|| ledger.take(0)).count() as i64;
            assert_eq!(taken, waited);
        }
    }
}
