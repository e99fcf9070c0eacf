//! What a partition's leader lets go of topics: old batches, too many batches, old letters, idle
//! groups, old names of events.
//!
//! What is due stands in rows of its own, in the order in which it is due: a sweep reads their
//! front, once a minute, and in a partition without topics not even that. At most one of its
//! entries is in the log.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::family::{self, DueKind, Family};
use ghostlight_protocol::ids::PartitionId;
use ghostlight_protocol::limits::TRIM_BATCHES_MAX;
use ghostlight_protocol::time::Instant;
use ghostlight_protocol::topic::{
    GroupLetters, GroupName, IdleGroup, Nothing, TopicAct, TopicBatch, TopicRow, Trim,
};
use prost::Message;

use super::TopicsEffect;
use super::leader::{Live, ReadFor, Topics};
use super::load::GroupId;
use super::proposals::{Wanted, Who, act_bytes};
use crate::io::Rest;
use crate::turns::RowsWanted;

/// Pause between two sweeps of a partition.
const PAUSE: Duration = Duration::from_secs(60);
/// Pause before a refused entry is tried again.
const REFUSED_PAUSE: Duration = Duration::from_secs(1);
/// Rows of what is due that are looked at with one read.
const DUE_PAGE: usize = 256;
/// The same of topic partitions whose names are due: an entry forgets many of each.
const NAMES_DUE_PAGE: usize = 8;

/// See the module.
#[derive(Debug)]
pub(super) struct Sweep {
    opened: Instant,
    until: Instant,
    /// Topic partitions that there are.
    topics: u64,
    stage: Stage,
    /// Topic partitions whose front is to be looked at.
    fronts: BTreeSet<ActorKey>,
}

#[derive(Debug)]
enum Stage {
    Resting,
    /// The front of what is due of this kind is read.
    Due(DueKind),
    /// The row of a topic partition is read.
    Row(ActorKey),
    /// Its oldest batches are read.
    Batches(ActorKey, TopicRow),
    /// An entry is in the log; then goes on with this.
    Proposed(Next),
}

#[derive(Clone, Copy, Debug)]
enum Next {
    Due(DueKind),
    Fronts,
}

impl Sweep {
    /// Partitions begin at different times, so that no moment pays for all.
    pub(super) fn new(now: Instant, partition: PartitionId) -> Self {
        let share = u64::from(partition.0) % PAUSE.as_secs();
        Self {
            opened: now,
            until: now + Duration::from_secs(share),
            topics: 0,
            stage: Stage::Resting,
            fronts: BTreeSet::new(),
        }
    }

    pub(super) fn note(&mut self, topics: u64) {
        self.topics = topics;
    }

    /// A topic partition may have become too large.
    pub(super) fn appended(&mut self, topic: &ActorKey, row: &TopicRow) {
        if row.bytes > row.bytes_max() {
            self.fronts.insert(topic.clone());
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        match self.stage {
            Stage::Resting if self.topics > 0 => {
                let now = !self.fronts.is_empty();
                Some(if now { Instant::default() } else { self.until })
            }
            _ => None,
        }
    }

    pub(super) fn refused(&mut self, now: Instant) {
        self.stage = Stage::Resting;
        self.fronts.clear();
        self.until = now + REFUSED_PAUSE;
    }
}

impl Topics {
    pub(super) fn tick_sweep(&mut self, now: Instant, out: &mut Vec<TopicsEffect>) {
        if !matches!(self.sweep.stage, Stage::Resting) || self.sweep.topics == 0 {
            return;
        }
        if self.sweep.until <= now {
            self.sweep.until = now + PAUSE;
            self.read_due(DueKind::Retention, out);
        } else if !self.sweep.fronts.is_empty() {
            self.next_front(out);
        }
    }

    fn read_due(&mut self, kind: DueKind, out: &mut Vec<TopicsEffect>) {
        self.sweep.stage = Stage::Due(kind);
        let rows = RowsWanted::Scan {
            family: Family::Due,
            prefix: family::due_row_prefix(kind),
            after: None,
            limit: match kind {
                DueKind::EventNames => NAMES_DUE_PAGE,
                DueKind::Reminder
                | DueKind::Timer
                | DueKind::Value
                | DueKind::Retention
                | DueKind::Letter
                | DueKind::Group => DUE_PAGE,
            },
        };
        self.read(ReadFor::Sweep, rows, out);
    }

    fn next_front(&mut self, out: &mut Vec<TopicsEffect>) {
        let Some(topic) = self.sweep.fronts.pop_first() else {
            self.sweep.stage = Stage::Resting;
            return;
        };
        let rows = RowsWanted::Keys(vec![(Family::Topic, topic.to_bytes())]);
        self.sweep.stage = Stage::Row(topic);
        self.read(ReadFor::Sweep, rows, out);
    }

    pub(super) fn sweep_rows(
        &mut self,
        now: Instant,
        rows: Vec<(Bytes, Option<Bytes>)>,
        rest: Rest,
        out: &mut Vec<TopicsEffect>,
    ) {
        match std::mem::replace(&mut self.sweep.stage, Stage::Resting) {
            Stage::Due(kind) => self.due_read(now, kind, &rows, rest, out),
            Stage::Row(topic) => {
                let value = rows.into_iter().find_map(|(_, value)| value);
                let row = value.map(|value| TopicRow::decode(value).unwrap_or_default());
                let Some(row) = row else {
                    return self.next_front(out);
                };
                let rows = RowsWanted::Scan {
                    family: Family::TopicBatch,
                    prefix: topic.to_bytes(),
                    after: None,
                    limit: TRIM_BATCHES_MAX + 1,
                };
                self.sweep.stage = Stage::Batches(topic, row);
                self.read(ReadFor::Sweep, rows, out);
            }
            Stage::Batches(topic, row) => self.batches_read(&topic, row, rows, rest, out),
            stage @ (Stage::Resting | Stage::Proposed(_)) => {
                self.sweep.stage = stage;
            }
        }
    }

    /// What of one kind is due, from the front.
    fn due_read(
        &mut self,
        now: Instant,
        kind: DueKind,
        rows: &[(Bytes, Option<Bytes>)],
        rest: Rest,
        out: &mut Vec<TopicsEffect>,
    ) {
        // All by log age: no clock that is set makes anything old.
        let now_ms = match kind {
            DueKind::Group | DueKind::Retention | DueKind::Letter | DueKind::EventNames => {
                self.age.0
            }
            DueKind::Reminder | DueKind::Timer | DueKind::Value => 0,
        };
        let due = rows
            .iter()
            .filter_map(|(key, _)| family::parse_due_row_key(key));
        let due: Vec<Bytes> = due
            .take_while(|(ms, _)| *ms <= now_ms)
            .map(|(_, about)| about)
            .collect();
        let all = due.len() == rows.len() && rest == Rest::More;
        match kind {
            DueKind::Retention => {
                let topics = due.into_iter().filter_map(|key| ActorKey::parse(key).ok());
                self.sweep.fronts.extend(topics);
                self.read_due(DueKind::Letter, out);
            }
            DueKind::Letter => {
                let next = if all { DueKind::Letter } else { DueKind::Group };
                self.letters_due(due, Next::Due(next), out);
            }
            DueKind::Group => {
                let next = if all {
                    DueKind::Group
                } else {
                    DueKind::EventNames
                };
                self.groups_due(now, due, Next::Due(next), out);
            }
            DueKind::EventNames => {
                // Of each only so many have gone: it says itself when it is due again.
                let next = if due.is_empty() {
                    Next::Fronts
                } else {
                    Next::Due(DueKind::EventNames)
                };
                let topics = due.into_iter().filter_map(|key| ActorKey::parse(key).ok());
                let acts = topics.map(|topic| (topic, TopicAct::NamesOver(Nothing {})));
                self.sweep_away(acts.collect(), next, out);
            }
            DueKind::Reminder | DueKind::Timer | DueKind::Value => {}
        }
    }

    fn letters_due(&mut self, due: Vec<Bytes>, next: Next, out: &mut Vec<TopicsEffect>) {
        let mut letters: BTreeMap<GroupId, Vec<u64>> = BTreeMap::new();
        for key in due {
            if let Some((topic, group, offset)) = family::parse_letter_key(&key) {
                let id = GroupId { topic, group };
                letters.entry(id).or_default().push(offset);
            }
        }
        let acts = letters
            .into_iter()
            .map(|(GroupId { topic, group }, offsets)| {
                let act = TopicAct::LettersOver(GroupLetters { group, offsets });
                (topic, act)
            });
        self.sweep_away(acts.collect(), next, out);
    }

    fn groups_due(
        &mut self,
        now: Instant,
        due: Vec<Bytes>,
        next: Next,
        out: &mut Vec<TopicsEffect>,
    ) {
        let mut acts = Vec::new();
        for (topic, group) in due.iter().filter_map(family::parse_group_key) {
            let used = match self.groups.get(&GroupId::new(&topic, &group)) {
                Some(Live::Ready(serving)) => serving.group.subscribers().next().is_some(),
                Some(Live::Loading(_)) => true,
                None => false,
            };
            let act = if used {
                TopicAct::Touch(GroupName { group })
            } else {
                let watched_ms = now.since(self.sweep.opened).as_millis() as u64;
                TopicAct::Idle(IdleGroup { group, watched_ms })
            };
            acts.push((topic, act));
        }
        self.sweep_away(acts, next, out);
    }

    fn batches_read(
        &mut self,
        topic: &ActorKey,
        row: TopicRow,
        rows: Vec<(Bytes, Option<Bytes>)>,
        rest: Rest,
        out: &mut Vec<TopicsEffect>,
    ) {
        let mut trim = Trim::default();
        let mut bytes = row.bytes;
        for (key, value) in rows {
            let Some(value) = value else { continue };
            let stored = (key.len() + value.len()) as u64;
            let batch = TopicBatch::decode(value).unwrap_or_default();
            let last = (batch.base + batch.events.len() as u64).saturating_sub(1);
            let old = row.outlives(&batch, self.age.0);
            if (old || bytes > row.bytes_max()) && trim.last.len() < TRIM_BATCHES_MAX {
                trim.last.push(last);
                bytes = bytes.saturating_sub(stored);
            } else {
                trim.next_last = Some(last);
                break;
            }
        }
        // A page is bounded in bytes too: there is more that may be over.
        let all = !trim.last.is_empty() && trim.next_last.is_none() && rest == Rest::More;
        if all || trim.last.len() == TRIM_BATCHES_MAX {
            self.sweep.fronts.insert(topic.clone());
        }
        if trim.last.is_empty() {
            return self.next_front(out);
        }
        let acts = vec![(topic.clone(), TopicAct::Trim(trim))];
        self.sweep_away(acts, Next::Fronts, out);
    }

    fn sweep_away(
        &mut self,
        acts: Vec<(ActorKey, TopicAct)>,
        next: Next,
        out: &mut Vec<TopicsEffect>,
    ) {
        if acts.is_empty() {
            return self.sweep_on(next, out);
        }
        self.sweep.stage = Stage::Proposed(next);
        let last = acts.len() - 1;
        for (at, (topic, act)) in acts.into_iter().enumerate() {
            let bytes = act_bytes(&topic, &act);
            // All of them are in one entry, or in entries in their order: the last one says that
            // all are.
            let who = if at == last { Who::Sweep } else { Who::Barrier };
            self.proposals.push(Wanted {
                who,
                topic,
                request: None,
                act: Some(act),
                bytes,
            });
        }
    }

    fn sweep_on(&mut self, next: Next, out: &mut Vec<TopicsEffect>) {
        match next {
            Next::Due(kind) => self.read_due(kind, out),
            Next::Fronts => self.next_front(out),
        }
    }

    /// An entry of the sweep was applied.
    pub(super) fn swept(&mut self, out: &mut Vec<TopicsEffect>) {
        if let Stage::Proposed(next) = self.sweep.stage {
            self.sweep_on(next, out);
        }
    }
}
