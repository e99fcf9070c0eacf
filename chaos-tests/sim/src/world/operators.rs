//! Operators of topics, who are clients like others: they move groups, pause and resume them, and drive their letters
//! again. And what actors got of a topic.

use std::collections::BTreeMap;

use bytes::Bytes;
use ghostlight_protocol::code::Code;
use ghostlight_protocol::limits::TOPIC_PARTITIONS;
use ghostlight_protocol::outcome::CallOutcome;
use ghostlight_protocol::topic::Reply;

use super::World;
use crate::clients::{End, Op, Steering};
use crate::dice::MS;
use crate::subscribers::{FOR_ACTORS, SPARE};

/// Letters that are driven again at once.
const REDRIVEN_MAX: usize = 8;

/// What calendar clocks show at the beginning.
const WALL_AT_START_MS: u64 = 1_700_000_000_000;
/// Times that are sought: from so long after now to so long before that.
const SOON_MS: u64 = 5_000;
const LONG_AGO_MS: u64 = 60_000;

/// An act on the group that nobody serves.
fn spare(number: u16, how: Steering) -> Op {
    Op::Steer {
        group: SPARE.to_owned(),
        number,
        how,
    }
}

impl World {
    /// An operator's act. Groups whose events become messages are left alone: what is moved back is told again.
    pub(super) fn steering(&mut self) -> Op {
        let groups = self.subscribers.group_names();
        let dice = &mut self.dice.topics;
        let group = dice.pick(&groups).clone();
        let number = dice.index(usize::from(TOPIC_PARTITIONS)) as u16;
        let wall_ms = WALL_AT_START_MS + self.now / MS;
        let how = match dice.index(12) {
            0 => Steering::ToFirst,
            1 => Steering::ToLast,
            2 => Steering::To(dice.between(0, 40)),
            3 => Steering::Pause,
            4 | 5 => Steering::Resume,
            8 => Steering::ToTime(wall_ms + SOON_MS - dice.between(0, LONG_AGO_MS)),
            9 => return spare(number, Steering::Make),
            10 => return spare(number, Steering::Delete),
            // Refused, unless none of its programs is attached.
            11 => Steering::Delete,
            _ => {
                let mut offsets = self.checks.topics.ending(number, b"7");
                let surplus = offsets.len().saturating_sub(REDRIVEN_MAX);
                offsets.drain(..surplus);
                Steering::Redrive(offsets)
            }
        };
        Op::Steer { group, number, how }
    }

    /// An operator was obeyed.
    pub(super) fn steered(&mut self, client: usize) {
        if let Some(Op::Steer { how, .. }) = self.clients.op_of(client) {
            self.sometimes.hit(match how {
                Steering::ToFirst | Steering::ToLast | Steering::To(_) => "group moved",
                Steering::ToTime(_) => "group moved to a time",
                Steering::Make => "group made by an operator",
                Steering::Delete => "group deleted",
                Steering::Pause => "group paused",
                Steering::Resume => "group resumed",
                Steering::Redrive(_) => "letters driven again",
            });
        }
        self.ended(client, End::Reply(serde_json::Value::Null));
    }

    /// What was paused goes on: all faults have ended.
    pub(super) fn resume_all(&mut self) -> Result<(), String> {
        if self.params.topics.operators == 0.0 {
            return Ok(());
        }
        for group in self.subscribers.group_names() {
            for number in 0..TOPIC_PARTITIONS {
                let (group, how) = (group.clone(), Steering::Resume);
                self.ask_topic(&Op::Steer { group, number, how })?;
            }
        }
        self.delete_spare()
    }

    /// The group that nobody serves goes; what is left of it would be waited for.
    fn delete_spare(&mut self) -> Result<(), String> {
        for number in 0..TOPIC_PARTITIONS {
            let place = *self.ours().first().ok_or("no node is there")?;
            match self.ask(place, &spare(number, Steering::Delete)) {
                Some(CallOutcome::Reply(_)) => self.sometimes.hit("group deleted"),
                // It was not there, or an attempt had an answer that was lost: what is there now is looked at.
                Some(CallOutcome::NotRun(refusal)) if refusal.code == Code::UnknownGroup => {}
                Some(CallOutcome::Unknown { .. }) => {}
                other => return Err(format!("{SPARE} cannot be deleted: {other:?}")),
            }
            let Reply::Described(reply) = self.ask_topic(&Op::Describe { number })? else {
                return Err("a topic partition is not described".to_owned());
            };
            if reply.groups.iter().any(|group| group.group == SPARE) {
                return Err(format!("a deleted group is gone: {SPARE} is in {reply:?}"));
            }
        }
        Ok(())
    }

    /// Compares what the actors that subscribe have with what was published: each event of their key once, in the order
    /// of its offsets. What is not there is a dead letter, or was over its time.
    ///
    /// # Errors
    /// The promise that was broken.
    pub(super) fn compare_actors(&mut self) -> Result<(), String> {
        if !self.subscribers.has_actors() {
            return Ok(());
        }
        let mut letters = BTreeMap::new();
        for number in 0..TOPIC_PARTITIONS {
            letters.extend(self.letters(FOR_ACTORS, number)?);
        }
        for key in 0..self.params.topics.keys {
            let got = self.got(key)?;
            let mut last = None;
            for line in &got {
                let data = Bytes::from(line.clone().into_bytes());
                let at = self.checks.topics.place_of(&data);
                if at.is_some() && at <= last {
                    return Err(format!(
                        "an actor has each event once, in their order: of key {key} it got {line} at {at:?} after {last:?}: \
                         {got:?}"
                    ));
                }
                last = at.or(last);
            }
            self.compare_actor(key, &got, |at| {
                letters.contains_key(&(FOR_ACTORS.to_owned(), at))
            })?;
            if !got.is_empty() {
                self.sometimes.hit("actor has events");
            }
        }
        Ok(())
    }

    fn compare_actor(
        &self,
        key: usize,
        got: &[String],
        is_letter: impl Fn((u16, u64)) -> bool,
    ) -> Result<(), String> {
        for record in &self.clients.history {
            let (
                Op::Publish {
                    key: of, number, ..
                },
                End::Reply(_),
            ) = (&record.op, &record.end)
            else {
                continue;
            };
            let data = record.op.event().data;
            let Some(at) = self.checks.topics.place_of(&data).filter(|_| *of == key) else {
                continue;
            };
            let is_there = got.contains(&number.to_string());
            if !is_there && !is_letter(at) && !self.checks.topics.is_trimmed(at) {
                return Err(format!(
                    "an acknowledged publish reaches its actor: {number} of key {key} at {at:?} is not in {got:?}"
                ));
            }
        }
        Ok(())
    }

    /// What the actor of a key has.
    fn got(&mut self, key: usize) -> Result<Vec<String>, String> {
        let place = self.ours().first().copied();
        let place = place.ok_or("no node is there")?;
        let op = Op::Got { key };
        match self.ask(place, &op) {
            Some(CallOutcome::Reply(body)) => {
                serde_json::from_slice(&body).map_err(|error| format!("{op:?}: {error}"))
            }
            other => Err(format!("{op:?} of a healed cluster: {other:?}")),
        }
    }
}
