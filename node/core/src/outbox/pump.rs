//! The pump of one led partition, from opening until the leadership ends.
//!
//! At opening it scans all rows once, page by page, skipping what finds no room; later it reads
//! only the lanes that have run dry. At most one read is under way, and at most one proposal leaves
//! with each input, so that `Dropped` has one meaning.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use ghostlight_protocol::command::{Envelope, Kind, TrimOutbox};
use ghostlight_protocol::family::{outbox_key, parse_outbox_key};
use ghostlight_protocol::ids::{PartitionId, RecoveryEpoch};
use ghostlight_protocol::replica::EntryOutcome;
use ghostlight_protocol::time::Instant;
use ghostlight_protocol::wire::frame::{OutboxMark, OutboxPush};
use prost::Message;

use super::destination::Destination;
use super::source::{AfterMark, Again, Lane};
use super::{OutboxEffect, OutboxInput};

/// A lane whose rows were not found where they should be is read again after this.
const READ_AGAIN: Duration = Duration::from_millis(500);

/// Bounds of an outbox pump.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutboxSettings {
    /// Rows in memory for one destination.
    pub lane_rows: usize,
    /// Bytes in memory for one destination, beyond which no further row is taken.
    pub lane_bytes: usize,
    /// Bytes in memory for all destinations, beyond which each may hold one row.
    pub memory_bytes: usize,
    /// Rows of one page.
    pub page_rows: usize,
    /// A run without a mark is pushed again after this, then after twice as long, up to 5 s.
    pub push_again: Duration,
}

impl Default for OutboxSettings {
    fn default() -> Self {
        Self {
            lane_rows: 1_024,
            lane_bytes: 4 << 20,
            memory_bytes: 32 << 20,
            page_rows: 128,
            push_again: Duration::from_millis(500),
        }
    }
}

/// What a pump has counted since it was opened.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct OutboxCounters {
    /// Runs pushed.
    pub pushes: u64,
    /// Of these, pushed again because of silence or a new leader.
    pub pushed_again: u64,
    /// Messages accepted from other partitions.
    pub accepted: u64,
    /// Proposals that Raft refused.
    pub dropped: u64,
}

/// The outbox and inbox pump of one led partition.
#[derive(Debug)]
pub struct Outbox {
    partition: PartitionId,
    epoch: RecoveryEpoch,
    settings: OutboxSettings,
    now: Instant,
    /// Destinations with rows to push or to trim.
    lanes: BTreeMap<PartitionId, (Lane, Option<Instant>)>,
    held_bytes: usize,
    timers: BTreeSet<(Instant, PartitionId)>,
    opening: Opening,
    reading: Reading,
    /// Lanes that have rows on disk and room for them.
    dry: BTreeSet<PartitionId>,
    read_again_at: Option<Instant>,
    destination: Destination,
    wanted: VecDeque<Wanted>,
    /// What the latest `Propose` was, until the next input.
    proposed: Option<Subject>,
    counters: OutboxCounters,
}

#[derive(Debug)]
enum Opening {
    /// First and last row committed meanwhile for destinations that the scan has not met.
    Scanning(BTreeMap<PartitionId, (u64, u64)>),
    Done,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Reading {
    Nothing,
    Scan,
    Lane(PartitionId),
}

/// A proposal that waits for its turn.
#[derive(Debug)]
enum Wanted {
    Accept(PartitionId, Kind),
    Trim(PartitionId),
}

/// What a proposal was about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Subject {
    Accept(PartitionId),
    Trim(PartitionId),
}

impl Outbox {
    /// Destinations for which rows are in memory: a new leader of one of them is worth a word.
    pub fn destinations(&self) -> impl Iterator<Item = PartitionId> {
        self.lanes.keys().copied()
    }

    /// Begins a leadership of `partition`, all of whose earlier entries are applied: asks for its
    /// rows.
    #[must_use]
    pub fn open(
        partition: PartitionId,
        epoch: RecoveryEpoch,
        now: Instant,
        settings: OutboxSettings,
        out: &mut Vec<OutboxEffect>,
    ) -> Self {
        out.push(OutboxEffect::ReadOutbox {
            after: None,
            limit: settings.page_rows,
        });
        Self {
            partition,
            epoch,
            settings,
            now,
            lanes: BTreeMap::new(),
            held_bytes: 0,
            timers: BTreeSet::new(),
            opening: Opening::Scanning(BTreeMap::new()),
            reading: Reading::Scan,
            dry: BTreeSet::new(),
            read_again_at: None,
            destination: Destination::new(partition),
            wanted: VecDeque::new(),
            proposed: None,
            counters: OutboxCounters::default(),
        }
    }

    /// Feeds one input; wanted effects are pushed to `out`, in the order they must happen.
    pub fn handle(&mut self, now: Instant, input: OutboxInput, out: &mut Vec<OutboxEffect>) {
        self.now = now;
        let proposed = self.proposed.take();
        match input {
            OutboxInput::Rows(rows) => self.rows(rows, out),
            OutboxInput::Committed(rows) => self.committed(rows, out),
            OutboxInput::Push { from, push } => {
                let source = PartitionId(push.source as u16);
                let kind = self.destination.push(from, push, out);
                self.want_accept(source, kind);
            }
            OutboxInput::Mark(mark) => self.mark(&mark, out),
            OutboxInput::Applied(outcome) => self.applied(outcome, out),
            OutboxInput::Dropped => self.dropped(proposed),
            OutboxInput::LeaderChanged(destination) => {
                self.push_again(destination, Again::Leader, out);
            }
            OutboxInput::Tick => {}
        }
        self.run_timers(out);
        self.propose_one(out);
        self.read_one(out);
    }

    /// When to call `handle` with `Tick`, if nothing else arrives first.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        if !self.wanted.is_empty() {
            return Some(self.now);
        }
        let timer = self.timers.first().map(|(at, _)| *at);
        [timer, self.read_again_at].into_iter().flatten().min()
    }

    /// Whether every row known here was accepted and trimmed, and nothing is under way.
    #[must_use]
    pub fn settled(&self) -> bool {
        matches!(self.opening, Opening::Done)
            && self.reading == Reading::Nothing
            && self.lanes.is_empty()
            && self.wanted.is_empty()
            && self.destination.settled()
    }

    /// Bytes of rows in memory.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// What was counted so far.
    #[must_use]
    pub fn counters(&self) -> OutboxCounters {
        self.counters
    }

    fn rows(&mut self, rows: Vec<(Bytes, Bytes)>, out: &mut Vec<OutboxEffect>) {
        // The log's checksum was verified, so what does not parse cannot be; it would be skipped.
        let rows = rows.into_iter().filter_map(|(key, value)| {
            let (destination, sequence) = parse_outbox_key(&key)?;
            let message = Envelope::decode(value).unwrap_or_default();
            Some((destination, sequence, message))
        });
        match std::mem::replace(&mut self.reading, Reading::Nothing) {
            Reading::Nothing => {}
            Reading::Scan => self.scanned(rows.collect(), out),
            Reading::Lane(destination) => self.refilled(destination, rows.collect(), out),
        }
    }

    fn scanned(&mut self, rows: Vec<(PartitionId, u64, Envelope)>, out: &mut Vec<OutboxEffect>) {
        let Some((last, sequence, _)) = rows.last() else {
            return self.opened(out);
        };
        let (last, sequence) = (*last, *sequence);
        let mut met = BTreeSet::new();
        for (destination, sequence, message) in rows {
            let (lane, _) = self
                .lanes
                .entry(destination)
                .or_insert_with(|| (Lane::new(sequence), None));
            self.held_bytes += lane.offer(sequence, message, &self.settings, self.held_bytes);
            met.insert(destination);
        }
        let (lane, _) = self.lanes.get_mut(&last).expect("just offered a row");
        let after = if lane.tail() < sequence {
            // No room: the rest of this lane is read when it is wanted.
            lane.skip_rest();
            outbox_key(last, u64::MAX)
        } else {
            outbox_key(last, sequence)
        };
        self.reading = Reading::Scan;
        out.push(OutboxEffect::ReadOutbox {
            after: Some(after),
            limit: self.settings.page_rows,
        });
        for destination in met {
            self.push(destination, out);
        }
    }

    /// The scan is over: what was committed meanwhile is now known to follow it.
    fn opened(&mut self, out: &mut Vec<OutboxEffect>) {
        let Opening::Scanning(late) = std::mem::replace(&mut self.opening, Opening::Done) else {
            return;
        };
        for (destination, (first, last)) in late {
            let (lane, _) = self
                .lanes
                .entry(destination)
                .or_insert_with(|| (Lane::new(first), None));
            lane.exists_up_to(last);
        }
        for destination in self.lanes.keys().copied().collect::<Vec<_>>() {
            self.push(destination, out);
        }
    }

    fn refilled(
        &mut self,
        destination: PartitionId,
        rows: Vec<(PartitionId, u64, Envelope)>,
        out: &mut Vec<OutboxEffect>,
    ) {
        let Some((lane, _)) = self.lanes.get_mut(&destination) else {
            return;
        };
        let before = lane.tail();
        let mut end = rows.is_empty();
        for (of, sequence, message) in rows {
            if of != destination {
                end = true;
                break;
            }
            self.held_bytes += lane.offer(sequence, message, &self.settings, self.held_bytes);
        }
        if end {
            lane.read_to_end();
        }
        if lane.tail() == before && lane.wants_rows(&self.settings, self.held_bytes) {
            self.read_again_at = Some(self.now + READ_AGAIN);
        }
        self.push(destination, out);
    }

    fn committed(&mut self, rows: Vec<(PartitionId, u64, Envelope)>, out: &mut Vec<OutboxEffect>) {
        let mut touched = BTreeSet::new();
        for (destination, sequence, message) in rows {
            if let Opening::Scanning(late) = &mut self.opening
                && !self.lanes.contains_key(&destination)
            {
                let known = late.entry(destination).or_insert((sequence, sequence));
                known.1 = sequence;
                continue;
            }
            let (lane, _) = self
                .lanes
                .entry(destination)
                .or_insert_with(|| (Lane::new(sequence), None));
            self.held_bytes += lane.offer(sequence, message, &self.settings, self.held_bytes);
            touched.insert(destination);
        }
        for destination in touched {
            self.push(destination, out);
        }
    }

    fn mark(&mut self, mark: &OutboxMark, out: &mut Vec<OutboxEffect>) {
        let (Ok(destination), true) = (
            u16::try_from(mark.destination).map(PartitionId),
            mark.source == u32::from(self.partition.0) && mark.source_epoch == self.epoch.0,
        ) else {
            return;
        };
        let Some((lane, _)) = self.lanes.get_mut(&destination) else {
            return;
        };
        let Some(through) = mark.through else {
            lane.not_leader(self.now);
            return self.touch(destination);
        };
        let opened = matches!(self.opening, Opening::Done);
        if opened && lane.end().is_some_and(|end| through > end) {
            // There are no such rows: to believe it would trim those that are still to be accepted.
            return;
        }
        let (after, freed) = lane.mark(self.now, through);
        self.held_bytes -= freed;
        match after {
            AfterMark::Push => self.push(destination, out),
            AfterMark::Wait => self.touch(destination),
        }
    }

    fn applied(&mut self, outcome: EntryOutcome, out: &mut Vec<OutboxEffect>) {
        match outcome {
            EntryOutcome::Accepted {
                source,
                through,
                messages,
                appended: _,
            } => {
                self.counters.accepted += messages.len() as u64;
                let next = self.destination.accepted(source, through, messages, out);
                self.want_accept(source, next);
            }
            EntryOutcome::OutboxTrimmed {
                destination,
                through,
            } => {
                if let Some((lane, _)) = self.lanes.get_mut(&destination) {
                    lane.trimmed(self.now, through);
                    self.touch(destination);
                }
            }
            EntryOutcome::Nothing
            | EntryOutcome::Turns(_)
            | EntryOutcome::InboxFailed { .. }
            | EntryOutcome::Expired
            | EntryOutcome::FactsWritten
            | EntryOutcome::Topics(_) => {}
        }
    }

    fn dropped(&mut self, proposed: Option<Subject>) {
        self.counters.dropped += 1;
        match proposed {
            None => {}
            Some(Subject::Accept(source)) => self.destination.dropped(source),
            Some(Subject::Trim(destination)) => {
                if let Some((lane, _)) = self.lanes.get_mut(&destination) {
                    lane.trim_dropped(self.now);
                    self.touch(destination);
                }
            }
        }
    }

    fn push(&mut self, destination: PartitionId, out: &mut Vec<OutboxEffect>) {
        if let Some((lane, _)) = self.lanes.get_mut(&destination) {
            let run = lane.next_push(self.now, &self.settings);
            self.send(destination, run, out);
            self.touch(destination);
        }
    }

    fn push_again(&mut self, destination: PartitionId, why: Again, out: &mut Vec<OutboxEffect>) {
        if let Some((lane, _)) = self.lanes.get_mut(&destination) {
            let run = lane.push_again(self.now, why, &self.settings);
            self.counters.pushed_again += u64::from(run.is_some());
            self.send(destination, run, out);
            self.touch(destination);
        }
    }

    fn send(
        &mut self,
        destination: PartitionId,
        run: Option<(u64, Vec<Envelope>)>,
        out: &mut Vec<OutboxEffect>,
    ) {
        if let Some((first, messages)) = run {
            self.counters.pushes += 1;
            out.push(OutboxEffect::Push(OutboxPush {
                source: u32::from(self.partition.0),
                source_epoch: self.epoch.0,
                destination: u32::from(destination.0),
                first,
                messages,
            }));
        }
    }

    fn want_accept(&mut self, source: PartitionId, kind: Option<Kind>) {
        if let Some(kind) = kind {
            self.wanted.push_back(Wanted::Accept(source, kind));
        }
    }

    fn propose_one(&mut self, out: &mut Vec<OutboxEffect>) {
        let (subject, kind) = match self.wanted.pop_front() {
            None => return,
            Some(Wanted::Accept(source, kind)) => (Subject::Accept(source), kind),
            Some(Wanted::Trim(destination)) => {
                let (lane, _) = &self.lanes[&destination];
                let trim = TrimOutbox {
                    destination: u32::from(destination.0),
                    through: lane.accepted(),
                };
                (Subject::Trim(destination), Kind::TrimOutbox(trim))
            }
        };
        self.proposed = Some(subject);
        out.push(OutboxEffect::Propose(kind));
    }

    fn read_one(&mut self, out: &mut Vec<OutboxEffect>) {
        if self.reading != Reading::Nothing || self.read_again_at.is_some_and(|at| at > self.now) {
            return;
        }
        self.read_again_at = None;
        while let Some(destination) = self.dry.pop_first() {
            let Some((lane, _)) = self.lanes.get(&destination) else {
                continue;
            };
            if !lane.wants_rows(&self.settings, self.held_bytes) {
                continue;
            }
            self.reading = Reading::Lane(destination);
            out.push(OutboxEffect::ReadOutbox {
                after: Some(outbox_key(destination, lane.tail())),
                limit: self.settings.page_rows,
            });
            return;
        }
    }

    fn run_timers(&mut self, out: &mut Vec<OutboxEffect>) {
        while let Some((at, destination)) = self.timers.first().copied() {
            if at > self.now {
                break;
            }
            let (lane, _) = self
                .lanes
                .get_mut(&destination)
                .expect("timers are of lanes");
            if lane.take_trim(self.now) {
                self.wanted.push_back(Wanted::Trim(destination));
            }
            self.push_again(destination, Again::Silence, out);
        }
    }

    /// Books what a changed lane needs next; a lane that needs nothing goes.
    fn touch(&mut self, destination: PartitionId) {
        let Some((lane, timer)) = self.lanes.get_mut(&destination) else {
            return;
        };
        let due = lane.due();
        if *timer != due {
            if let Some(at) = *timer {
                self.timers.remove(&(at, destination));
            }
            if let Some(at) = due {
                self.timers.insert((at, destination));
            }
            *timer = due;
        }
        let opened = matches!(self.opening, Opening::Done);
        if lane.wants_rows(&self.settings, self.held_bytes) && opened {
            self.dry.insert(destination);
        }
        if lane.is_done() && opened && self.reading != Reading::Lane(destination) {
            self.lanes.remove(&destination);
        }
    }
}
