//! Operators of topics, who are clients like others: they move groups, pause and resume them, and
//! drive their letters again. And what actors got of a topic.

use ghostlight_protocol::code::Code;
use ghostlight_protocol::limits::TOPIC_PARTITIONS;
use ghostlight_protocol::outcome::CallOutcome;
use ghostlight_protocol::topic::Reply;

use super::World;
use crate::clients::{End, Op, Steering};
use crate::dice::{MS, SEC};
use crate::heralds::{self, speaker};
use crate::invariants::{Told, compare_lines};
use crate::subscribers::{FOR_ACTORS, SPARE};

/// Letters that are driven again at once.
const REDRIVEN_MAX: usize = 8;

/// How long it may take until a group is there again that was deleted, and has programs.
const MADE_ANEW_MAX: u64 = 30 * SEC;

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
    /// An operator's act.
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
            3 | 7 => Steering::Pause,
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
        if let Some(Op::Steer { how, group, .. }) = self.clients.op_of(client) {
            if group == FOR_ACTORS && how == Steering::Pause {
                self.sometimes.hit("group of actors paused");
            }
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
                self.resume(&group, number)?;
            }
        }
        self.delete_spare()
    }

    /// One that was deleted while its program was on its way is made anew when that arrives.
    fn resume(&mut self, group: &str, number: u16) -> Result<(), String> {
        let op = Op::Steer {
            group: group.to_owned(),
            number,
            how: Steering::Resume,
        };
        let end = self.now + MADE_ANEW_MAX;
        loop {
            let place = *self.ours().first().ok_or("no node is there")?;
            match self.ask(place, &op) {
                Some(CallOutcome::Reply(_)) => return Ok(()),
                Some(CallOutcome::NotRun(refusal))
                    if refusal.code == Code::UnknownGroup && self.now < end =>
                {
                    self.sometimes.hit("group that was deleted is not back yet");
                    let next = self.now + 200 * MS;
                    self.run_until(next);
                }
                other => return Err(format!("{op:?} of a healed cluster: {other:?}")),
            }
        }
    }

    /// The group that nobody serves goes; what is left of it would be waited for.
    fn delete_spare(&mut self) -> Result<(), String> {
        for number in 0..TOPIC_PARTITIONS {
            let place = *self.ours().first().ok_or("no node is there")?;
            match self.ask(place, &spare(number, Steering::Delete)) {
                Some(CallOutcome::Reply(_)) => self.sometimes.hit("group deleted"),
                // It was not there, or an attempt had an answer that was lost: what is there now is
                // looked at.
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

    /// Compares what actors have with what they were told, and with what they have published. Each
    /// has run the messages that its events became, each once, in the order in which they became
    /// messages, however often its group was moved.
    ///
    /// # Errors
    /// The promise that was broken.
    pub(super) fn compare_actors(&mut self) -> Result<(), String> {
        let messages = self.checks.topics.messages();
        let messages: Vec<(String, Told)> = messages
            .map(|(actor, told)| (actor.actor_id().to_owned(), told.clone()))
            .collect();
        let mut published = Vec::new();
        for (actor, told) in messages {
            let herald = actor.clone();
            let got = self.lines_of(&Op::Got { herald })?;
            compare_lines(&got, &told).map_err(|what| {
                format!(
                    "an actor runs each message of its events once, in their order: {actor}: {what}"
                )
            })?;
            self.sometimes.hit("actor has events");
            if told
                .values()
                .flatten()
                .any(|line| heralds::is_refused(line))
            {
                self.sometimes.hit("actor refused an event");
            }
            published.extend(heralds::published(&actor, &got));
        }
        for herald in 0..self.params.work.actors {
            let lines = self.lines_of(&Op::Said { herald })?;
            published.extend(heralds::published(&speaker(herald), &lines));
        }
        self.checks.topics.check_turns(&published)
    }

    /// What a herald has.
    fn lines_of(&mut self, op: &Op) -> Result<Vec<String>, String> {
        let place = self.ours().first().copied();
        let place = place.ok_or("no node is there")?;
        match self.ask(place, op) {
            Some(CallOutcome::Reply(body)) => {
                serde_json::from_slice(&body).map_err(|error| format!("{op:?}: {error}"))
            }
            other => Err(format!("{op:?} of a healed cluster: {other:?}")),
        }
    }
}
