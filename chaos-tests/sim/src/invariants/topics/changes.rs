//! What entries do to a topic: seen when they are applied for the first time anywhere, and known by
//! a place from when its core was told.

use std::sync::Arc;

use bytes::Bytes;
use ghostlight_core::io::Applied;
use ghostlight_protocol::ids::{LogIndex, PartitionId};
use ghostlight_protocol::limits::RETENTION_AGE_DEFAULT;
use ghostlight_protocol::replica::{
    Appended, EntryOutcome, GroupChanged, TopicOutcome, TopicRefusal,
};
use ghostlight_protocol::topic::{
    AckSet, GroupRow, RedriveTo, Seek, Settle, StartFrom, TopicAct, TopicOps, TopicRow,
};

use super::{Topics, number_of};
use crate::net::Place;
use crate::subscribers::FOR_ACTORS;

/// What one operation of an entry is about.
#[derive(Debug)]
pub(super) struct Asked {
    topic: Bytes,
    act: Act,
}

/// What it does, as far as it matters here.
#[derive(Clone, Debug)]
enum Act {
    /// A group is moved.
    Seek(Seek),
    /// Letters of these offsets are driven again.
    Redrive(Vec<u64>),
    /// A group is made or changed.
    Put,
    /// What became of deliveries.
    Settle(Arc<Settle>),
    /// Anything else.
    Other,
}

/// A group that was not there begins with the oldest event that is kept, and knows nothing.
fn is_made_anew(number: u16, changed: &GroupChanged, row: &GroupRow) -> Result<(), String> {
    let nothing = row.settled.is_empty() && row.attempts.is_empty() && row.letters == 0;
    let start = row.settings.clone().unwrap_or_default().start();
    if nothing && (start != StartFrom::First || row.floor == changed.topic.first) {
        return Ok(());
    }
    Err(format!(
        "a group that is made has nothing of one before it: {} of topic partition {number} begins as {row:?}, and {} \
         is kept",
        changed.group, changed.topic.first
    ))
}

/// What a place knows of a group.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) settled: AckSet,
    pub(super) is_paused: bool,
}

impl Topics {
    pub(in super::super) fn asked(&mut self, partition: PartitionId, at: LogIndex, ops: TopicOps) {
        let asked = ops.ops.into_iter().map(|op| Asked {
            topic: op.topic,
            act: match op.act {
                Some(TopicAct::Seek(seek)) => Act::Seek(seek),
                Some(TopicAct::Redrive(redrive)) if redrive.to() == RedriveTo::Group => {
                    Act::Redrive(redrive.offsets)
                }
                Some(TopicAct::Put(_)) => Act::Put,
                Some(TopicAct::Settle(settle)) => Act::Settle(Arc::new(settle)),
                _ => Act::Other,
            },
        });
        self.asked.insert((partition, at), asked.collect());
    }

    /// Entries were applied at some place.
    ///
    /// # Errors
    /// An event went before its time.
    pub(in super::super) fn applied(&mut self, now: u64, applied: &Applied) -> Result<(), String> {
        for (at, outcome) in &applied.outcomes {
            let latest = self.latest.entry(applied.partition).or_default();
            if at.index <= *latest {
                continue;
            }
            *latest = at.index;
            self.entry(now, applied.partition, at.index, outcome)?;
        }
        Ok(())
    }

    fn entry(
        &mut self,
        now: u64,
        partition: PartitionId,
        at: LogIndex,
        outcome: &EntryOutcome,
    ) -> Result<(), String> {
        let outcomes = match outcome {
            EntryOutcome::Topics(outcomes) => outcomes,
            EntryOutcome::Turns(turns) => return self.turns_applied(partition, at, turns),
            EntryOutcome::Accepted {
                source, appended, ..
            } => return self.messages_applied(partition, *source, appended),
            _ => return Ok(()),
        };
        let asked = self.asked.get(&(partition, at));
        let acts = asked.into_iter().flatten().zip(outcomes);
        let acts: Vec<(u16, Act, &TopicOutcome)> = acts
            .filter_map(|(asked, outcome)| {
                Some((number_of(&asked.topic)?, asked.act.clone(), outcome))
            })
            .collect();
        for (number, act, outcome) in acts {
            self.took(now, partition, number, act, outcome)?;
        }
        Ok(())
    }

    fn took(
        &mut self,
        now: u64,
        partition: PartitionId,
        number: u16,
        act: Act,
        outcome: &TopicOutcome,
    ) -> Result<(), String> {
        match outcome {
            TopicOutcome::Appended { appended, .. } => {
                self.of_no_turn(number, appended.as_ref())?;
                self.appended(number, appended.iter());
            }
            TopicOutcome::Trimmed(row) => self.trimmed(now, number, row)?,
            TopicOutcome::Settled(changed) => {
                self.appended(number, changed.appended.iter());
                if let Act::Settle(settle) = &act {
                    self.settled(partition, number, settle, changed)?;
                }
            }
            TopicOutcome::Group(changed) => {
                self.appended(number, changed.appended.iter());
                let there = (changed.group.clone(), number);
                match (&changed.row, act) {
                    (None, _) => self.deleted(number, changed),
                    (Some(row), Act::Put) if self.groups.insert(there) => {
                        is_made_anew(number, changed, row)?;
                    }
                    (Some(_), Act::Seek(seek)) => self.moved(number, &seek, changed)?,
                    (Some(_), Act::Redrive(offsets)) => self.redriven(number, &offsets, changed),
                    (Some(_), Act::Put | Act::Settle(_) | Act::Other) => {}
                }
                self.stands_now(number, changed);
            }
            TopicOutcome::Refused(TopicRefusal::Overtaken) => {
                if let Act::Settle(settle) = &act {
                    self.overtaken(settle);
                }
            }
            TopicOutcome::Skipped(_) | TopicOutcome::Refused(_) => {}
        }
        Ok(())
    }

    pub(super) fn appended<'a>(
        &mut self,
        number: u16,
        batches: impl Iterator<Item = &'a Appended>,
    ) {
        for appended in batches {
            let batch = &appended.batch;
            let offsets = batch.base..batch.base + batch.events.len() as u64;
            let places = offsets.map(|offset| ((number, offset), batch.appended_ms));
            self.appended.extend(places);
        }
    }

    /// A group is gone. One that is made under its name begins with what is kept, and gets all of
    /// it.
    fn deleted(&mut self, number: u16, changed: &GroupChanged) {
        self.groups.remove(&(changed.group.clone(), number));
        self.begins_at(&changed.group, number, changed.topic.first);
    }

    fn begins_at(&mut self, group: &str, number: u16, to: u64) {
        self.moved.insert((group.to_owned(), number), to);
        self.done
            .retain(|(name, at)| name != group || at.0 != number || at.1 < to);
    }

    /// Where a group begins that was moved to a time: with the first event that was appended then
    /// or later. One that is appended while it is sought may be older, if the time is to come.
    fn is_of_time(&self, number: u16, seek: &Seek, changed: &GroupChanged) -> Result<(), String> {
        let (Some(to), Some(row)) = (seek.offset, &changed.row) else {
            return Ok(());
        };
        let (first, next) = (changed.topic.first, changed.topic.next);
        let kept = self.appended.range((number, first)..(number, next));
        let mut later = kept.filter(|(_, appended_ms)| **appended_ms >= seek.time_ms);
        let expected = later.next().map_or(next, |((_, offset), _)| *offset);
        if row.floor != to || to > expected || (to < expected && expected != next && to != first) {
            return Err(format!(
                "a time means the first event from it on: {} of topic partition {number} was moved to {}, and begins \
                 at {}, not at {expected}, of {first}..{next}",
                changed.group, seek.time_ms, row.floor
            ));
        }
        Ok(())
    }

    /// A group begins at another place: all from there on it gets once more.
    fn moved(&mut self, number: u16, seek: &Seek, changed: &GroupChanged) -> Result<(), String> {
        if seek.time_ms > 0 {
            self.is_of_time(number, seek, changed)?;
        }
        let to = match (seek.offset, seek.to()) {
            (Some(offset), _) => offset,
            (None, StartFrom::First) => changed.topic.first,
            (None, StartFrom::Last | StartFrom::Time) => changed.topic.next,
        };
        if changed.group == FOR_ACTORS {
            self.reached.push("group of actors moved");
            if self.floor_of(FOR_ACTORS, number) > Some(to) {
                self.reached.push("group of actors moved back");
            }
        }
        self.begins_at(&changed.group, number, to);
        Ok(())
    }

    /// Letters are events again, for their group alone.
    fn redriven(&mut self, number: u16, offsets: &[u64], changed: &GroupChanged) {
        if changed.taken == 0 {
            return;
        }
        let group = &changed.group;
        let taken = offsets.iter().map(|at| (group.clone(), (number, *at)));
        self.redriven.extend(taken);
        for appended in &changed.appended {
            let batch = &appended.batch;
            for (offset, event) in (batch.base..).zip(&batch.events) {
                let copy = (group.clone(), event.data.clone());
                self.copies.insert((number, offset), copy);
            }
        }
    }

    /// The oldest events have gone: each is as old as the topic keeps its events.
    fn trimmed(&mut self, now: u64, number: u16, row: &TopicRow) -> Result<(), String> {
        let before = self.first.insert(number, row.first).unwrap_or(0);
        if row.retention_bytes > 0 || row.first <= before {
            return Ok(());
        }
        let age_max_ms = match row.retention_ms {
            0 => RETENTION_AGE_DEFAULT.as_millis() as u64,
            ms => ms,
        };
        // As clocks tell that may be too fast.
        let age_max_ms = age_max_ms * 1_000_000 / (1_000_000 + self.pace_max);
        let gone = self.events.range((number, before)..(number, row.first));
        for (at, data) in gone {
            let born = self.born.get(data).copied().unwrap_or(0);
            let age_ms = now.saturating_sub(born) / 1_000_000;
            if age_ms < age_max_ms {
                return Err(format!(
                    "nothing is deleted before its time: {at:?} is gone after {age_ms} ms of {age_max_ms}"
                ));
            }
        }
        Ok(())
    }

    /// The core of a place is told what was applied there: what it sends in this turn, it may send
    /// before or after.
    pub(crate) fn is_told(&mut self, place: Place, applied: &Applied) {
        self.learns(place, applied, |_| None);
    }

    /// It was told.
    pub(crate) fn knows(&mut self, place: Place, applied: &Applied) {
        self.learns(place, applied, |row| {
            Some(Known {
                settled: row.acks(),
                is_paused: row.paused != 0,
            })
        });
    }

    fn learns(
        &mut self,
        place: Place,
        applied: &Applied,
        known: impl Fn(&GroupRow) -> Option<Known>,
    ) {
        for (at, outcome) in &applied.outcomes {
            let EntryOutcome::Topics(outcomes) = outcome else {
                continue;
            };
            let asked = self.asked.get(&(applied.partition, at.index));
            for (asked, outcome) in asked.into_iter().flatten().zip(outcomes) {
                let (TopicOutcome::Settled(changed) | TopicOutcome::Group(changed)) = outcome
                else {
                    continue;
                };
                let Some(number) = number_of(&asked.topic) else {
                    continue;
                };
                let key = (place, number, changed.group.clone());
                match changed.row.as_ref().and_then(&known) {
                    Some(known) => drop(self.known.insert(key, known)),
                    None => drop(self.known.remove(&key)),
                }
            }
        }
    }

    /// What a place knew goes with its process: its disk may have less.
    pub(in super::super) fn stopped(&mut self, place: Place) {
        self.known.retain(|(at, ..), _| *at != place);
    }
}
