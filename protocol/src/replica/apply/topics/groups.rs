//! Groups: made, changed, moved, deleted, and what they have settled.

use bytes::Bytes;
use prost::Message;

use super::{At, GroupChanged, TopicOutcome, TopicRefusal};
use crate::canary::{self, Canary};
use crate::family::{self, DueKind, Family};
use crate::limits::{BATCH_BYTES_MAX, DEAD_LETTER_AGE_MAX, GROUPS_PER_TOPIC_MAX};
use crate::replica::rows::Rows;
use crate::topic::{
    DeadEvent, DeadTopicLetter, GroupLetters, GroupPut, GroupRow, IdleGroup, Redrive, RedriveTo,
    Seek, Settle, StartFrom, TopicEvent, TopicRow,
};

/// Of an idle time, the part after which its use is written down anew.
const USED_SHARE: u64 = 4;

impl<R: Rows> At<'_, R> {
    pub(super) fn put_group(&mut self, put: GroupPut) -> Result<TopicOutcome, R::Error> {
        let start_offset = put.start_offset;
        let Some(put) = put.put.filter(|put| !put.group.is_empty()) else {
            return Ok(TopicOutcome::Refused(TopicRefusal::Malformed));
        };
        let settings = put.settings.unwrap_or_default();
        let mut topic = self.topic_row()?;
        let before = self.group_row(&put.group)?;
        let mut row = match &before {
            Some(row) => row.clone(),
            None if topic.groups >= GROUPS_PER_TOPIC_MAX as u64 => {
                return Ok(TopicOutcome::Refused(TopicRefusal::GroupsFull));
            }
            None => {
                let changed = TopicRow {
                    groups: topic.groups.saturating_add(1),
                    gone: 0,
                    ..topic.clone()
                };
                self.put_topic(&topic, &changed)?;
                topic = changed;
                GroupRow {
                    floor: match settings.start() {
                        StartFrom::First => topic.first,
                        StartFrom::Last => topic.next,
                        StartFrom::Time => start_offset.clamp(topic.first, topic.next),
                    },
                    epoch: self.partition.applied_index,
                    ..GroupRow::default()
                }
            }
        };
        row.settings = Some(settings);
        self.put_used(&put.group, before.as_ref(), &mut row);
        Ok(TopicOutcome::Group(changed(put.group, Some(row), topic)))
    }

    pub(super) fn seek(&mut self, seek: Seek) -> Result<TopicOutcome, R::Error> {
        let Some(before) = self.group_row(&seek.group)? else {
            return Ok(TopicOutcome::Refused(TopicRefusal::UnknownGroup));
        };
        let topic = self.topic_row()?;
        let (first, next) = (topic.first, topic.next);
        let floor = match (seek.offset, seek.to()) {
            (Some(offset), _) => offset,
            (None, StartFrom::First) => first,
            (None, StartFrom::Last) => next,
            // The leader says which offset a time stands for.
            (None, StartFrom::Time) => return Ok(TopicOutcome::Refused(TopicRefusal::Malformed)),
        };
        if floor < first || floor > next {
            let refusal = TopicRefusal::OutOfRange { first, next };
            return Ok(TopicOutcome::Refused(refusal));
        }
        let (floor, settled) = match canary::sings(Canary::SeekKeepsSettled) {
            true => (before.floor.max(floor), before.settled.clone()),
            false => (floor, Vec::new()),
        };
        let row = GroupRow {
            floor,
            settled,
            attempts: Vec::new(),
            epoch: self.partition.applied_index,
            ..before
        };
        self.put_row(&seek.group, &row);
        Ok(TopicOutcome::Group(changed(seek.group, Some(row), topic)))
    }

    pub(super) fn set_paused(
        &mut self,
        group: String,
        paused: u32,
    ) -> Result<TopicOutcome, R::Error> {
        let Some(before) = self.group_row(&group)? else {
            return Ok(TopicOutcome::Refused(TopicRefusal::UnknownGroup));
        };
        let topic = self.topic_row()?;
        let row = GroupRow { paused, ..before };
        self.put_row(&group, &row);
        Ok(TopicOutcome::Group(changed(group, Some(row), topic)))
    }

    /// Deletes the named letters, and the group if they were its last.
    pub(super) fn delete_group(&mut self, letters: GroupLetters) -> Result<TopicOutcome, R::Error> {
        let group = letters.group;
        let Some(mut row) = self.group_row(&group)? else {
            return Ok(TopicOutcome::Refused(TopicRefusal::UnknownGroup));
        };
        for offset in letters.offsets {
            self.take_letter(&group, offset, &mut row)?;
        }
        if row.letters > 0 {
            let topic = self.topic_row()?;
            self.put_row(&group, &row);
            return Ok(TopicOutcome::Group(changed(group, Some(row), topic)));
        }
        let topic = self.drop_group(&group, &row)?;
        Ok(TopicOutcome::Group(changed(group, None, topic)))
    }

    /// A group that says itself for how long it outlives its subscribers.
    pub(super) fn idle(&mut self, idle: IdleGroup) -> Result<TopicOutcome, R::Error> {
        let group = idle.group;
        let Some(row) = self.group_row(&group)? else {
            return Ok(TopicOutcome::Refused(TopicRefusal::UnknownGroup));
        };
        let idle_ms = idle_ms(&row);
        let since = self.partition.age_ms.saturating_sub(row.used_age_ms);
        let since = since.min(idle.watched_ms);
        if idle_ms == 0 || since < idle_ms || row.letters > 0 {
            return self.touch(group);
        }
        let topic = self.drop_group(&group, &row)?;
        Ok(TopicOutcome::Group(changed(group, None, topic)))
    }

    pub(super) fn touch(&mut self, group: String) -> Result<TopicOutcome, R::Error> {
        let Some(before) = self.group_row(&group)? else {
            return Ok(TopicOutcome::Refused(TopicRefusal::UnknownGroup));
        };
        let topic = self.topic_row()?;
        let mut row = before.clone();
        self.put_used(&group, Some(&before), &mut row);
        Ok(TopicOutcome::Group(changed(group, Some(row), topic)))
    }

    pub(super) fn settle(&mut self, settle: Settle) -> Result<TopicOutcome, R::Error> {
        let Some(before) = self.group_row(&settle.group)? else {
            return Ok(TopicOutcome::Refused(TopicRefusal::UnknownGroup));
        };
        if before.epoch != settle.epoch && !canary::sings(Canary::OldVerdictCounts) {
            return Ok(TopicOutcome::Refused(TopicRefusal::Overtaken));
        }
        let topic = self.topic_row()?;
        let mut row = before.clone();
        let mut acks = row.acks();
        let mut done = changed(settle.group, None, topic);
        for dead in settle.dead {
            if acks.contains(dead.offset) || dead.offset >= done.topic.next {
                continue;
            }
            acks.add(dead.offset, dead.offset + 1);
            self.bury(dead, &mut row, &mut done)?;
        }
        for forward in settle.forwards {
            if acks.contains(forward.offset) || forward.offset >= done.topic.next {
                continue;
            }
            acks.add(forward.offset, forward.offset + 1);
            if let Some(send) = &forward.send {
                self.send(send, &mut done)?;
            }
        }
        for range in settle.done {
            acks.add(range.first, range.end.min(done.topic.next));
        }
        for offset in settle.failed {
            if !acks.contains(offset) && offset < done.topic.next {
                row.count_attempt(offset);
            }
        }
        // What is no longer kept can be delivered to nobody.
        acks.raise(done.topic.first);
        row.set_acks(&acks);
        if !canary::sings(Canary::CursorForgotten) {
            self.put_used(&done.group, Some(&before), &mut row);
        }
        // A dead letter may have gone to this very topic partition.
        done.topic = self.topic_row()?;
        done.row = Some(row);
        Ok(TopicOutcome::Settled(done))
    }

    fn bury(
        &mut self,
        dead: DeadEvent,
        row: &mut GroupRow,
        done: &mut GroupChanged,
    ) -> Result<(), R::Error> {
        row.dead = row.dead.saturating_add(1);
        if let Some(send) = &dead.send {
            return self.send(send, done);
        }
        let Some(event) = dead.park else {
            return Ok(());
        };
        let letter = DeadTopicLetter {
            event: Some(event),
            offset: dead.offset,
            attempts: dead.attempts,
            reason: dead.reason,
            dead_ms: self.partition.wall_ms,
            topic: self.topic.to_bytes(),
            group: done.group.clone(),
            dead_age_ms: self.partition.age_ms,
        };
        // It may have died before, and been sought back to.
        self.take_letter(&done.group, dead.offset, row)?;
        let key = family::letter_key(&self.topic, &done.group, dead.offset);
        row.letters = row.letters.saturating_add(1);
        let due = letter_due(&letter, &key);
        self.rows.put(Family::Due, due, Bytes::new());
        let value = letter.encode_to_vec().into();
        self.rows.put(Family::TopicLetter, key, value);
        Ok(())
    }

    /// As many letters as one batch holds; it says how many those were.
    pub(super) fn redrive(&mut self, redrive: Redrive) -> Result<TopicOutcome, R::Error> {
        let group = redrive.group.clone();
        let Some(mut row) = self.group_row(&group)? else {
            return Ok(TopicOutcome::Refused(TopicRefusal::UnknownGroup));
        };
        let mut events: Vec<TopicEvent> = Vec::new();
        let (mut bytes, mut taken) = (0, 0);
        for &offset in &redrive.offsets {
            if bytes >= BATCH_BYTES_MAX {
                break;
            }
            let Some(letter) = self.take_letter(&group, offset, &mut row)? else {
                continue;
            };
            taken += 1;
            if let (RedriveTo::Group, Some(event)) = (redrive.to(), letter.event) {
                bytes += event.encoded_len();
                events.push(TopicEvent {
                    only_group: group.clone(),
                    expires_ms: 0,
                    ..event
                });
            }
        }
        self.put_row(&group, &row);
        let appended = self.append(events)?;
        let mut done = changed(group, Some(row), self.topic_row()?);
        done.appended.extend(appended);
        done.taken = taken;
        Ok(TopicOutcome::Group(done))
    }

    pub(super) fn letters_over(&mut self, letters: GroupLetters) -> Result<TopicOutcome, R::Error> {
        let group = letters.group;
        let Some(mut row) = self.group_row(&group)? else {
            return Ok(TopicOutcome::Refused(TopicRefusal::UnknownGroup));
        };
        for offset in letters.offsets {
            let key = family::letter_key(&self.topic, &group, offset);
            let letter = self.rows.get(Family::TopicLetter, &key)?;
            let died = letter.map(|bytes| DeadTopicLetter::decode(bytes).unwrap_or_default());
            if died.is_some_and(|died| over_age_ms(&died) <= self.partition.age_ms) {
                self.take_letter(&group, offset, &mut row)?;
            }
        }
        self.put_row(&group, &row);
        Ok(TopicOutcome::Trimmed(self.topic_row()?))
    }

    /// Deletes a letter, and what says when it is due.
    fn take_letter(
        &mut self,
        group: &str,
        offset: u64,
        row: &mut GroupRow,
    ) -> Result<Option<DeadTopicLetter>, R::Error> {
        let key = family::letter_key(&self.topic, group, offset);
        let Some(bytes) = self.rows.get(Family::TopicLetter, &key)? else {
            return Ok(None);
        };
        let letter = DeadTopicLetter::decode(bytes).unwrap_or_default();
        row.letters = row.letters.saturating_sub(1);
        let due = letter_due(&letter, &key);
        self.rows.delete(Family::Due, due);
        self.rows.delete(Family::TopicLetter, key);
        Ok(Some(letter))
    }

    fn drop_group(&mut self, group: &str, row: &GroupRow) -> Result<TopicRow, R::Error> {
        let before = self.topic_row()?;
        let topic = TopicRow {
            groups: before.groups.saturating_sub(1),
            ..before.clone()
        };
        self.put_topic(&before, &topic)?;
        let key = family::group_key(&self.topic, group);
        if let Some(due) = group_due(row, &key) {
            self.rows.delete(Family::Due, due);
        }
        self.rows.delete(Family::Group, key);
        Ok(topic)
    }

    fn put_row(&mut self, group: &str, row: &GroupRow) {
        let key = family::group_key(&self.topic, group);
        self.rows
            .put(Family::Group, key, row.encode_to_vec().into());
    }

    /// Writes the row of a group that is in use, and when it would be idle for too long. Not with
    /// every entry: a quarter of its time is near enough.
    fn put_used(&mut self, group: &str, before: Option<&GroupRow>, row: &mut GroupRow) {
        let key = family::group_key(&self.topic, group);
        let age = self.partition.age_ms;
        let since = age.saturating_sub(row.used_age_ms);
        let same = before.is_some_and(|before| idle_ms(before) == idle_ms(row));
        if !same || since >= idle_ms(row) / USED_SHARE {
            if let Some(due) = before.and_then(|before| group_due(before, &key)) {
                self.rows.delete(Family::Due, due);
            }
            row.used_age_ms = age;
            if let Some(due) = group_due(row, &key) {
                self.rows.put(Family::Due, due, Bytes::new());
            }
        }
        self.put_row(group, row);
    }
}

fn changed(group: String, row: Option<GroupRow>, topic: TopicRow) -> GroupChanged {
    GroupChanged {
        group,
        row,
        topic,
        taken: 0,
        outbox: Vec::new(),
        appended: Vec::new(),
    }
}

fn idle_ms(row: &GroupRow) -> u64 {
    row.settings.as_ref().map_or(0, |settings| settings.idle_ms)
}

/// In log age.
fn group_due(row: &GroupRow, key: &[u8]) -> Option<Bytes> {
    let idle_ms = idle_ms(row);
    let due = row.used_age_ms.saturating_add(idle_ms);
    (idle_ms > 0).then(|| family::due_row_key(DueKind::Group, due, key))
}

/// Log age when a letter goes.
fn over_age_ms(letter: &DeadTopicLetter) -> u64 {
    let limit = DEAD_LETTER_AGE_MAX.as_millis() as u64;
    letter.dead_age_ms.saturating_add(limit)
}

fn letter_due(letter: &DeadTopicLetter, key: &[u8]) -> Bytes {
    family::due_row_key(DueKind::Letter, over_age_ms(letter), key)
}
