//! What entries do to a topic: seen when they are applied for the first time anywhere, and known by a place from when
//! its core was told.

use bytes::Bytes;
use ghostlight_core::io::Applied;
use ghostlight_protocol::ids::{LogIndex, PartitionId};
use ghostlight_protocol::limits::RETENTION_AGE_DEFAULT;
use ghostlight_protocol::replica::{EntryOutcome, GroupChanged, TopicOutcome};
use ghostlight_protocol::topic::{
    AckSet, GroupRow, RedriveTo, Seek, StartFrom, TopicAct, TopicOps, TopicRow,
};

use super::{Topics, number_of};
use crate::net::Place;

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
    /// Anything else.
    Other,
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
            let EntryOutcome::Topics(outcomes) = outcome else {
                continue;
            };
            let asked = self.asked.get(&(applied.partition, at.index));
            let acts = asked.into_iter().flatten().zip(outcomes);
            let acts: Vec<(u16, Act, &TopicOutcome)> = acts
                .filter_map(|(asked, outcome)| {
                    Some((number_of(&asked.topic)?, asked.act.clone(), outcome))
                })
                .collect();
            for (number, act, outcome) in acts {
                match (outcome, act) {
                    (TopicOutcome::Group(changed), Act::Seek(seek)) => {
                        self.moved(number, &seek, changed);
                    }
                    (TopicOutcome::Group(changed), Act::Redrive(offsets)) => {
                        self.redriven(number, &offsets, changed);
                    }
                    (TopicOutcome::Trimmed(row), _) => self.trimmed(now, number, row)?,
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// A group begins at another place: all from there on it gets once more.
    fn moved(&mut self, number: u16, seek: &Seek, changed: &GroupChanged) {
        let group = &changed.group;
        let to = match (seek.offset, seek.to()) {
            (Some(offset), _) => offset,
            (None, StartFrom::First) => changed.topic.first,
            (None, StartFrom::Last | StartFrom::Time) => changed.topic.next,
        };
        self.moved.insert((group.clone(), number), to);
        self.done
            .retain(|(name, at)| name != group || at.0 != number || at.1 < to);
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

    /// The core of a place is told what was applied there: what it sends in this turn, it may send before or after.
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
